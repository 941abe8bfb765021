//! Pipes and FIFOs.
//!
//! Bytes travel in segments. A writer copies from user memory into a segment of its own and then queues it, a reader
//! takes a segment out of the queue and then copies from it: one copy each way for large transfers, and no
//! lock over user memory. Small writes are gathered in the last segment.

use super::wait::Source;
use super::{FsShared, OpenFile};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use hashbrown::HashMap;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSpace};
use linux_abi::fs::{O_ACCMODE, OpenFlags, ioctl, make_dev};
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Writes up to this size are not interleaved with others (PIPE_BUF).
const ATOMIC: usize = 4096;
/// Capacity of a new pipe.
const CAPACITY: usize = 64 * 1024;
/// Largest capacity (`/proc/sys/fs/pipe-max-size`).
const MAX_CAPACITY: usize = 1024 * 1024;
/// Buffers that are kept for reuse.
const SPARES: usize = 2;

/// What both ends share.
struct Pipe {
    ino: u64,
    created_ns: i64,
    state: Mutex<PipeState>,
    changed: Arc<ReadinessNotifier>,
}

struct PipeState {
    segments: VecDeque<Segment>,
    /// Buffers of [`CAPACITY`] bytes.
    spares: Vec<Box<[u8]>>,
    /// Bytes queued, in the hands of a reader, or promised to a writer.
    len: usize,
    /// Of those, bytes promised to writers.
    promised: usize,
    capacity: usize,
    readers: u32,
    writers: u32,
    /// Openings so far of each end, for `open(2)` of a FIFO.
    reader_openings: u64,
    writer_openings: u64,
}

/// Bytes `start..end` of a buffer.
struct Segment {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Appends if it fits.
    fn append(&mut self, bytes: &[u8]) -> bool {
        match self.buffer.get_mut(self.end..self.end.saturating_add(bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.end += bytes.len();
                true
            }
            None => false,
        }
    }
}

impl PipeState {
    const fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len)
    }

    /// Bytes that can be read or will be.
    const fn readable(&self) -> usize {
        self.len - self.promised
    }

    fn recycle(&mut self, buffer: Box<[u8]>) {
        if buffer.len() == CAPACITY && self.spares.len() < SPARES {
            self.spares.push(buffer);
        }
    }
}

impl Pipe {
    fn new(shared: &FsShared, changed: Arc<ReadinessNotifier>) -> Arc<Self> {
        Arc::new(Self {
            ino: shared.next_id(),
            created_ns: shared.platform().realtime_ns().cast_signed(),
            state: Mutex::new(PipeState {
                segments: VecDeque::new(),
                spares: Vec::new(),
                len: 0,
                promised: 0,
                capacity: CAPACITY,
                readers: 0,
                writers: 0,
                reader_openings: 0,
                writer_openings: 0,
            }),
            changed,
        })
    }

    fn read(&self, into: &mut dyn ByteSink) -> Result<usize> {
        let mut done = 0usize;
        while into.remaining() > 0 {
            let Some(mut segment) = self.state.lock().segments.pop_front() else { break };
            // A fault puts the segment back: nothing is lost.
            let result = into.put(segment.bytes());
            let taken = *result.as_ref().unwrap_or(&0);
            segment.start += taken;
            let was_full = {
                let mut state = self.state.lock();
                let was_full = state.room() < ATOMIC;
                state.len = state.len.saturating_sub(taken);
                if segment.start < segment.end {
                    state.segments.push_front(segment);
                } else {
                    state.recycle(segment.buffer);
                }
                was_full
            };
            if was_full {
                self.changed.broadcast(&Readiness::OUT);
            }
            match result {
                Ok(0) => break,
                Ok(taken) => done += taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if done > 0 || into.remaining() == 0 {
            // Who was not served by the wake of a writer is now.
            if self.state.lock().readable() > 0 {
                self.changed.broadcast(&Readiness::IN);
            }
            return Ok(done);
        }
        let state = self.state.lock();
        if state.readable() == 0 && state.writers == 0 {
            return Ok(0);
        }
        Err(Error::new(Errno::EAGAIN, "the pipe is empty"))
    }

    fn write(&self, from: &mut dyn ByteSource) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let (promised, spare) = match self.reserve(from.remaining()) {
                Ok(reserved) => reserved,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let result = if promised <= ATOMIC {
                self.write_small(from, promised)
            } else {
                self.write_large(from, promised, spare)
            };
            self.changed.broadcast(&Readiness::IN);
            match result {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Promises room to a writer of `wanted` bytes: all of it if the write is atomic.
    fn reserve(&self, wanted: usize) -> Result<(usize, Option<Box<[u8]>>)> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            kbase::bail!(EPIPE, "nobody reads any more");
        }
        let room = state.room();
        if room == 0 || (wanted <= ATOMIC && room < wanted) {
            kbase::bail!(EAGAIN, "the pipe is full");
        }
        let promised = wanted.min(room).min(CAPACITY);
        state.len += promised;
        state.promised += promised;
        let spare = if promised > ATOMIC { state.spares.pop() } else { None };
        Ok((promised, spare))
    }

    fn write_small(&self, from: &mut dyn ByteSource, promised: usize) -> Result<usize> {
        let mut bounce = [0u8; ATOMIC];
        let result = from.take(bounce.get_mut(..promised).unwrap_or_default());
        let bytes = bounce.get(..*result.as_ref().unwrap_or(&0)).unwrap_or_default();
        let mut state = self.state.lock();
        self.keep_promise(&mut state, promised, bytes.len());
        if !bytes.is_empty() && !state.segments.back_mut().is_some_and(|last| last.append(bytes)) {
            let mut segment = Segment { buffer: alloc::vec![0; ATOMIC].into_boxed_slice(), start: 0, end: 0 };
            segment.append(bytes);
            state.segments.push_back(segment);
        }
        result
    }

    fn write_large(
        &self,
        from: &mut dyn ByteSource,
        promised: usize,
        spare: Option<Box<[u8]>>,
    ) -> Result<usize> {
        let mut buffer = spare.unwrap_or_else(|| alloc::vec![0; CAPACITY].into_boxed_slice());
        let result = from.take(buffer.get_mut(..promised).unwrap_or_default());
        let taken = *result.as_ref().unwrap_or(&0);
        let mut state = self.state.lock();
        self.keep_promise(&mut state, promised, taken);
        if taken > 0 {
            state.segments.push_back(Segment { buffer, start: 0, end: taken });
        } else {
            state.recycle(buffer);
        }
        result
    }

    /// Turns promised bytes into queued ones; those that did not come are free again.
    fn keep_promise(&self, state: &mut PipeState, promised: usize, came: usize) {
        state.promised = state.promised.saturating_sub(promised);
        state.len = state.len.saturating_sub(promised.saturating_sub(came));
    }
}

/// An end of a pipe; one that reads and writes where a FIFO is opened so.
pub(crate) struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// Attributes of the FIFO it was opened from.
    fifo: Option<Metadata>,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool, fifo: Option<Metadata>) -> Arc<Self> {
        {
            let mut state = pipe.state.lock();
            if reads {
                state.readers += 1;
                state.reader_openings += 1;
            }
            if writes {
                state.writers += 1;
                state.writer_openings += 1;
            }
        }
        pipe.changed.broadcast(&Readiness::all());
        Arc::new(Self { pipe: Arc::clone(pipe), reads, writes, fifo })
    }

    /// An end to read and an end to write of a new pipe whose changes are told to `changed`.
    pub(super) fn pair(shared: &FsShared, changed: &Arc<ReadinessNotifier>) -> (Arc<Self>, Arc<Self>) {
        let pipe = Pipe::new(shared, Arc::clone(changed));
        (Self::new(&pipe, true, false, None), Self::new(&pipe, false, true, None))
    }

    /// Bytes that can be read or will be.
    pub(super) fn readable(&self) -> usize {
        self.pipe.state.lock().readable()
    }

    /// Openings so far of the other end: what `open(2)` of a FIFO waits to see grow.
    fn openings_of_peer(&self) -> u64 {
        let state = self.pipe.state.lock();
        if self.reads { state.writer_openings } else { state.reader_openings }
    }

    pub(super) fn has_peer(&self) -> bool {
        let state = self.pipe.state.lock();
        if self.reads { state.writers > 0 } else { state.readers > 0 }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        {
            let mut state = self.pipe.state.lock();
            state.readers = state.readers.saturating_sub(self.reads.into());
            state.writers = state.writers.saturating_sub(self.writes.into());
        }
        self.pipe.changed.broadcast(&Readiness::all());
    }
}

impl File for PipeEnd {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        self.pipe.read(into)
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        self.pipe.write(from)
    }

    fn metadata(&self) -> Result<Metadata> {
        if let Some(metadata) = self.fifo {
            return Ok(metadata);
        }
        Ok(anonymous_metadata(self.pipe.ino, FileType::Fifo, self.pipe.created_ns))
    }

    fn ready(&self) -> Readiness {
        let state = self.pipe.state.lock();
        let mut ready = Readiness::empty();
        if self.reads {
            ready.set(Readiness::IN, state.readable() > 0);
            // A FIFO that no writer ever opened has not been hung up.
            ready.set(Readiness::HUP, state.writers == 0 && state.writer_openings > 0);
        }
        if self.writes {
            ready.set(Readiness::OUT, state.room() >= ATOMIC);
            ready.set(Readiness::ERR, state.readers == 0);
        }
        ready
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.pipe.changed)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if request != ioctl::FIONREAD {
            kbase::bail!(ENOTTY, "no such ioctl for a pipe");
        }
        let len = i32::try_from(self.pipe.state.lock().readable()).unwrap_or(i32::MAX);
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
    let pipe = Pipe::new(shared, Arc::default());
    let reader = PipeEnd::new(&pipe, true, false, None);
    let writer = PipeEnd::new(&pipe, false, true, None);
    (
        OpenFile::new(shared, reader, None, flags),
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
                    let pipe = Pipe::new(shared, Arc::default());
                    open.insert(key, Arc::downgrade(&pipe));
                    pipe
                }
            }
        };
        let mode = flags.bits() & O_ACCMODE;
        let is_lonely = pipe.state.lock().readers == 0;
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
    if end.fifo.is_none() || (end.reads && end.writes) || open.is_nonblocking() || end.has_peer() {
        return Ok(());
    }
    let before = end.openings_of_peer();
    super::wait::wait_until(
        ctx,
        &[Source { notifier: &end.pipe.changed, events: Readiness::all() }],
        &mut [],
        None,
        || None,
        |_| (end.has_peer() || end.openings_of_peer() != before).then_some(()),
    )?;
    Ok(())
}

/// Whether an open file is a pipe or FIFO.
pub(crate) fn is_pipe(open: &OpenFile) -> bool {
    open.file().as_any().is::<PipeEnd>()
}

/// Waits until a pipe takes bytes, and says how many. Another writer may be faster.
///
/// # Errors
/// EBADF not a pipe; EAGAIN it takes none and `is_blocking` is false; ERESTARTSYS.
pub(crate) fn wait_for_room(ctx: &crate::Ctx<'_>, open: &OpenFile, is_blocking: bool) -> Result<usize> {
    let Some(end) = open.file().as_any().downcast_ref::<PipeEnd>() else {
        kbase::bail!(EBADF, "not a pipe");
    };
    loop {
        let room = end.pipe.state.lock().room();
        // A write to where nobody reads finds that out itself.
        if room > 0 || !end.has_peer() {
            return Ok(room.max(1));
        }
        if !is_blocking {
            kbase::bail!(EAGAIN, "the pipe is full");
        }
        super::wait::wait_for(ctx, &**open.file(), Readiness::OUT)?;
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
    let mut state = end.pipe.state.lock();
    if let Some(wanted) = wanted {
        if wanted > 1 << 31 {
            kbase::bail!(EINVAL, "larger than any pipe");
        }
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if wanted > MAX_CAPACITY {
            kbase::bail!(EPERM, "the pipe would be too large");
        }
        let wanted = wanted.max(1).next_multiple_of(ATOMIC).next_power_of_two();
        if wanted < state.len {
            kbase::bail!(EBUSY, "more is in the pipe");
        }
        state.capacity = wanted;
    }
    Ok(state.capacity as u64)
}
