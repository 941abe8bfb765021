//! Pipes and FIFOs: a [`Ring`] of slots, with ends.
//!
//! Who waits for an edge is told as by Linux: readers of every write, even of one that fails for want of room; writers when
//! there is room again, and of pages that are moved out by `splice(2)` and its relatives; and both when one side is the only one
//! that is left.

use super::io::{read_with, told, write_with};
use super::ring::{ATOMIC, Fill, Marks, Ring, SEGMENT};
use super::wait::{self, Source};
use super::{FsShared, OpenFile};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hashbrown::HashMap;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Part, Result, SliceSource, UserAddr, UserPtr, UserSpace};
use linux_abi::fs::{O_ACCMODE, OpenFlags, ioctl, make_dev};
use linux_abi::inotify::mask;
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Capacity of a new pipe.
const CAPACITY: usize = SEGMENT;
/// Largest capacity (`/proc/sys/fs/pipe-max-size`).
const MAX_CAPACITY: usize = 1024 * 1024;

/// What both ends share.
struct Pipe {
    ino: u64,
    created_ns: i64,
    /// What is marked is a packet.
    ring: Ring,
    /// Whether writes are packets (O_DIRECT).
    has_packets: AtomicBool,
    changed: Arc<ReadinessNotifier>,
    /// Openings so far of each end, for `open(2)` of a FIFO.
    reader_openings: AtomicU64,
    writer_openings: AtomicU64,
}

impl Pipe {
    fn new(shared: &FsShared) -> Arc<Self> {
        let changed: Arc<ReadinessNotifier> = Arc::default();
        Arc::new(Self {
            ino: shared.next_id(),
            created_ns: shared.platform().realtime_ns().cast_signed(),
            ring: Ring::of_slots(CAPACITY, Arc::clone(&changed), Arc::clone(&changed)),
            has_packets: AtomicBool::new(false),
            changed,
            reader_openings: AtomicU64::new(0),
            writer_openings: AtomicU64::new(0),
        })
    }
}

/// What an end that reads can be ready for, and what tells all of those, whatever they wait for.
const OF_READERS: Readiness = Readiness::IN.union(Readiness::HUP);
/// The same of ends that write.
const OF_WRITERS: Readiness = Readiness::OUT.union(Readiness::ERR);

/// An end of a pipe; one that reads and writes where a FIFO is opened so.
pub(crate) struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// Attributes of the FIFO it was opened from.
    fifo: Option<Metadata>,
    /// Openings of the other end before this one; `None`: it was open.
    met: Option<u64>,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool, fifo: Option<Metadata>) -> Arc<Self> {
        let (end, is_first) = {
            let mut state = pipe.ring.state();
            let mut end = Self { pipe: Arc::clone(pipe), reads, writes, fifo, met: None };
            // Once somebody is told, the other end may be opened and closed before this thread goes on.
            let has_peer = if reads { state.writers > 0 } else { state.readers > 0 };
            end.met = (!has_peer).then(|| end.openings_of_peer());
            let is_first = (reads && state.readers == 0) || (writes && state.writers == 0);
            state.readers = state.readers.saturating_add(reads.into());
            state.writers = state.writers.saturating_add(writes.into());
            if reads {
                pipe.reader_openings.fetch_add(1, Ordering::SeqCst);
            }
            if writes {
                pipe.writer_openings.fetch_add(1, Ordering::SeqCst);
            }
            (end, is_first)
        };
        if is_first {
            pipe.changed.broadcast(&OF_READERS);
        }
        Arc::new(end)
    }

    /// Openings so far of the other end: what `open(2)` of a FIFO waits to see grow.
    fn openings_of_peer(&self) -> u64 {
        let openings = if self.reads { &self.pipe.writer_openings } else { &self.pipe.reader_openings };
        openings.load(Ordering::SeqCst)
    }

    /// Writes packets. What exceeds whole pages may be added to what is there and is no packet, as on Linux.
    fn write_packets(&self, from: &mut dyn ByteSource) -> Result<usize> {
        let rest = from.remaining() % ATOMIC;
        let mut done = match self.pipe.ring.write_as(&mut Part::new(from, rest), &mut None, Fill::Rest) {
            Err(error) if error.errno() != Errno::EAGAIN => return Err(error),
            added => added.unwrap_or(0),
        };
        while from.remaining() > 0 {
            let len = from.remaining().min(ATOMIC);
            match self.pipe.ring.write_as(&mut Part::new(from, len), &mut Some(()), Fill::PACKET) {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn has_peer(&self) -> bool {
        let state = self.pipe.ring.state();
        if self.reads { state.writers > 0 } else { state.readers > 0 }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let is_one_sided = {
            let mut state = self.pipe.ring.state();
            state.readers = state.readers.saturating_sub(self.reads.into());
            state.writers = state.writers.saturating_sub(self.writes.into());
            (state.readers == 0) != (state.writers == 0)
        };
        if is_one_sided {
            self.pipe.changed.broadcast(&OF_READERS.union(OF_WRITERS));
        }
    }
}

impl File for PipeEnd {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        self.pipe.ring.read_with(into, Marks::Packets).map(|(read, _)| read)
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        let result = if self.pipe.has_packets.load(Ordering::Relaxed) {
            self.write_packets(from)
        } else {
            self.pipe.ring.write(from, &mut None)
        };
        if result.is_err() {
            self.pipe.changed.broadcast(&Readiness::IN);
        }
        result
    }

    fn metadata(&self) -> Result<Metadata> {
        if let Some(metadata) = self.fifo {
            return Ok(metadata);
        }
        Ok(anonymous_metadata(self.pipe.ino, FileType::Fifo, self.pipe.created_ns))
    }

    fn ready(&self) -> Readiness {
        let state = self.pipe.ring.state();
        let mut ready = Readiness::empty();
        if self.reads {
            ready.set(Readiness::IN, state.readable() > 0);
            // A FIFO has not been hung up that no writer opened since this end was.
            let has_met = self.met.is_none_or(|before| self.openings_of_peer() != before);
            ready.set(Readiness::HUP, state.writers == 0 && has_met);
        }
        if self.writes {
            ready.set(Readiness::OUT, state.room() >= ATOMIC);
            ready.set(Readiness::ERR, state.readers == 0);
        }
        ready
    }

    fn possible(&self) -> Readiness {
        let mut possible = Readiness::empty();
        possible.set(OF_READERS, self.reads);
        possible.set(OF_WRITERS, self.writes);
        possible
    }

    fn signals_events(&self) -> bool {
        true
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.pipe.changed)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if request != ioctl::FIONREAD {
            kbase::bail!(ENOTTY, "no such ioctl for a pipe");
        }
        let len = i32::try_from(self.pipe.ring.state().readable()).unwrap_or(i32::MAX);
        UserPtr::<i32>::new(argument).write(space, &len)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        self.fifo.is_none().then(|| alloc::format!("pipe:[{}]", self.pipe.ino))
    }
}

/// What writes to a pipe are from now on: packets, or not (O_DIRECT). Nothing happens to other files.
pub(crate) fn set_packets(open: &OpenFile, on: bool) {
    if let Some(end) = open.file().as_any().downcast_ref::<PipeEnd>()
        && end.writes
    {
        end.pipe.has_packets.store(on, Ordering::Relaxed);
    }
}

/// The end of a pipe that an open file is.
fn end_of(open: &OpenFile) -> Option<&PipeEnd> {
    open.file().as_any().downcast_ref()
}

/// Two different pipes.
///
/// # Errors
/// EINVAL they are no pipes, or one.
fn two(from: &OpenFile, to: &OpenFile) -> Result<(Arc<Pipe>, Arc<Pipe>)> {
    let (Some(from), Some(to)) = (end_of(from), end_of(to)) else {
        kbase::bail!(EINVAL, "not a pipe");
    };
    if Arc::ptr_eq(&from.pipe, &to.pipe) {
        kbase::bail!(EINVAL, "the two ends are of one pipe");
    }
    Ok((Arc::clone(&from.pipe), Arc::clone(&to.pipe)))
}

/// Whether two open files are different pipes.
///
/// # Errors
/// EINVAL they are no pipes, or one.
pub(crate) fn check_two(from: &OpenFile, to: &OpenFile) -> Result<()> {
    two(from, to).map(drop)
}

/// Two pipes, for `tee(2)`: what is in the first is in the second, too. Returns how many bytes that are.
///
/// # Errors
/// EINVAL not two different pipes; EAGAIN the first is empty, or the second is full; EPIPE.
pub(crate) fn tee(from: &OpenFile, to: &OpenFile, count: usize) -> Result<usize> {
    let (from, to) = two(from, to)?;
    let room = {
        let state = to.ring.state();
        if state.readers == 0 { SEGMENT } else { state.room() }
    };
    let max = count.min(room);
    if max == 0 && count > 0 {
        kbase::bail!(EAGAIN, "the second pipe is full");
    }
    let copied = from.ring.copy(max)?;
    if to.ring.state().readers == 0 {
        kbase::bail!(EPIPE, "nobody reads any more");
    }
    let mut source = SliceSource::new(&copied.bytes);
    let mut done = 0;
    for (run, mut mark) in copied.runs {
        let fill = Fill::Pages { start: run.start, merges: false };
        match to.ring.write_as(&mut Part::new(&mut source, run.len), &mut mark, fill) {
            Ok(written) => done += written,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Moves bytes from a pipe to another. Packets stay packets, and so does a part of one.
///
/// # Errors
/// EINVAL not two different pipes; EAGAIN the first is empty, or the second is full; EPIPE.
pub(crate) fn relay(from: &OpenFile, to: &OpenFile, count: usize) -> Result<usize> {
    let (from, to) = two(from, to)?;
    to.ring.move_from(&from.ring, count)
}

/// Reads from a pipe as `splice(2)` does: packets are no limit, and what is left of one is one.
///
/// # Errors
/// EBADF not a pipe; EAGAIN; ERESTARTSYS; EFAULT.
pub(crate) fn take(
    ctx: &crate::Ctx<'_>,
    open: &OpenFile,
    into: &mut dyn ByteSink,
    is_blocking: bool,
) -> Result<usize> {
    let Some(end) = end_of(open) else {
        kbase::bail!(EBADF, "not a pipe");
    };
    read_with(ctx, open, into, is_blocking, |into| {
        let mut done = 0;
        while into.remaining() > 0 {
            match end.pipe.ring.read_with(into, Marks::Parts) {
                Ok((0, _)) => break,
                Ok((read, _)) => done += read,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    })
}

/// Hands at most `max` bytes of a pipe to `write`, as `splice(2)` does: what that does not take stays in the pipe. 0: its end.
///
/// # Errors
/// EBADF not a pipe; EAGAIN; ERESTARTSYS; and what `write` says.
pub(crate) fn hand_on(
    ctx: &crate::Ctx<'_>,
    open: &OpenFile,
    max: usize,
    is_blocking: bool,
    write: &mut dyn FnMut(&[u8]) -> Result<usize>,
) -> Result<usize> {
    let Some(end) = end_of(open) else {
        kbase::bail!(EBADF, "not a pipe");
    };
    let mut attempt = || end.pipe.ring.hand_on(max, write);
    let written =
        if is_blocking { wait::persist(ctx, &**open.file(), Readiness::IN, attempt) } else { attempt() };
    told(open, mask::ACCESS, written?)
}

/// Writes to a pipe as `splice(2)` does: what is written is no packet, and in pages of its own, from the place `start` of the first.
///
/// # Errors
/// EBADF not a pipe; EPIPE; EAGAIN; ERESTARTSYS; EFAULT.
pub(crate) fn give(
    ctx: &crate::Ctx<'_>,
    open: &OpenFile,
    from: &mut dyn ByteSource,
    start: u64,
    is_blocking: bool,
) -> Result<usize> {
    let Some(end) = end_of(open) else {
        kbase::bail!(EBADF, "not a pipe");
    };
    let mut fill = Fill::Pages { start: place_in_page(start), merges: false };
    write_with(ctx, open, from, is_blocking, |from| {
        let written = end.pipe.ring.write_as(from, &mut None, fill);
        if written.is_ok() {
            // A part ends where a page does.
            fill = Fill::Pages { start: 0, merges: false };
        }
        written
    })
}

fn place_in_page(offset: u64) -> usize {
    usize::try_from(offset % ATOMIC as u64).unwrap_or(0)
}

/// Attributes of a file without a place.
pub(crate) fn anonymous_metadata(ino: u64, kind: FileType, created_ns: i64) -> Metadata {
    Metadata {
        dev: make_dev(0, 0xf_ff00),
        ino,
        kind,
        mode: 0o600,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        blksize: 4096,
        atime_ns: created_ns,
        mtime_ns: created_ns,
        ctime_ns: created_ns,
    }
}

/// A new pipe: the end to read and the end to write. `flags` are O_NONBLOCK and O_DIRECT.
pub(crate) fn pipe(shared: &Arc<FsShared>, flags: OpenFlags) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::new(shared);
    pipe.has_packets.store(flags.contains(OpenFlags::DIRECT), Ordering::Relaxed);
    let reader = PipeEnd::new(&pipe, true, false, None);
    let writer = PipeEnd::new(&pipe, false, true, None);
    (
        OpenFile::new(shared, reader, None, flags - OpenFlags::DIRECT),
        OpenFile::new(shared, writer, None, flags | OpenFlags::WRONLY),
    )
}

/// The pipes behind FIFOs that are open, by device and inode number.
#[derive(Default)]
pub(crate) struct Fifos {
    open: Mutex<HashMap<(u64, u64), Weak<Pipe>>>,
}

impl Fifos {
    /// Opens an end of a FIFO.
    ///
    /// # Errors
    /// ENXIO to write, with O_NONBLOCK, and nobody reads.
    pub(crate) fn open(
        &self,
        shared: &FsShared,
        metadata: &Metadata,
        flags: OpenFlags,
    ) -> Result<Arc<dyn File>> {
        let pipe = {
            let mut open = self.open.lock();
            open.retain(|_, pipe| pipe.strong_count() > 0);
            let key = (metadata.dev, metadata.ino);
            match open.get(&key).and_then(Weak::upgrade) {
                Some(pipe) => pipe,
                None => {
                    let pipe = Pipe::new(shared);
                    open.insert(key, Arc::downgrade(&pipe));
                    pipe
                }
            }
        };
        let mode = flags.bits() & O_ACCMODE;
        let is_lonely = pipe.ring.state().readers == 0;
        if mode == OpenFlags::WRONLY.bits() && flags.contains(OpenFlags::NONBLOCK) && is_lonely {
            kbase::bail!(ENXIO, "nobody reads the FIFO");
        }
        Ok(PipeEnd::new(&pipe, mode != OpenFlags::WRONLY.bits(), mode != 0, Some(*metadata)))
    }
}

/// Waits, after `open(2)` of a FIFO, until the other end was opened too.
///
/// # Errors
/// ERESTARTSYS a signal came.
pub(crate) fn wait_for_peer(ctx: &crate::Ctx<'_>, open: &OpenFile) -> Result<()> {
    let Some(end) = open.file().as_any().downcast_ref::<PipeEnd>() else { return Ok(()) };
    if end.fifo.is_none() || (end.reads && end.writes) || open.is_nonblocking() {
        return Ok(());
    }
    let Some(before) = end.met else { return Ok(()) };
    wait::wait_until(
        ctx,
        &[Source { notifier: &end.pipe.changed, events: Readiness::all() }],
        &mut [],
        None,
        || None,
        |_| (end.openings_of_peer() != before).then_some(()),
    )?;
    Ok(())
}

/// Whether an open file is a pipe or FIFO.
pub(crate) fn is_pipe(open: &OpenFile) -> bool {
    open.file().as_any().is::<PipeEnd>()
}

/// Waits until a pipe takes bytes, and says how many of those whose pages begin at the place `start`. Another writer may be faster.
///
/// # Errors
/// EBADF not a pipe; EPIPE nobody reads; EAGAIN it takes none and `is_blocking` is false; ERESTARTSYS.
pub(crate) fn wait_for_room(
    ctx: &crate::Ctx<'_>,
    open: &OpenFile,
    start: u64,
    is_blocking: bool,
) -> Result<usize> {
    let Some(end) = open.file().as_any().downcast_ref::<PipeEnd>() else {
        kbase::bail!(EBADF, "not a pipe");
    };
    loop {
        let room = end.pipe.ring.state().room();
        if !end.has_peer() {
            kbase::bail!(EPIPE, "nobody reads any more");
        }
        if room > 0 {
            return Ok(room.saturating_sub(place_in_page(start)));
        }
        if !is_blocking {
            kbase::bail!(EAGAIN, "the pipe is full");
        }
        wait::wait_for(ctx, &**open.file(), Readiness::OUT)?;
    }
}

/// F_GETPIPE_SZ, and F_SETPIPE_SZ when `wanted` is given.
///
/// # Errors
/// EBADF not a pipe; EINVAL, EPERM the size is out of range; EBUSY more is in the pipe.
pub(crate) fn pipe_size(open: &OpenFile, wanted: Option<u32>) -> Result<u64> {
    let Some(end) = open.file().as_any().downcast_ref::<PipeEnd>() else {
        kbase::bail!(EBADF, "not a pipe");
    };
    let pipe = &end.pipe;
    let Some(wanted) = wanted else { return Ok(pipe.ring.state().capacity as u64) };
    if wanted > 1 << 31 {
        kbase::bail!(EINVAL, "larger than any pipe");
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if wanted > MAX_CAPACITY {
        kbase::bail!(EPERM, "the pipe would be too large");
    }
    let wanted = wanted.max(1).next_multiple_of(ATOMIC).next_power_of_two();
    {
        let mut state = pipe.ring.state();
        if wanted < state.used() {
            kbase::bail!(EBUSY, "more is in the pipe");
        }
        state.capacity = wanted;
    }
    pipe.changed.broadcast(&OF_WRITERS);
    Ok(wanted as u64)
}
