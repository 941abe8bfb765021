//! System V shared memory (`shmat(2)`).
//!
//! A segment is a file in memory without a name; who has it attached is found in the maps of the processes.

use super::Object;
use crate::vm::{AddressSpace, Attached, MappedFile, Place};
use crate::{Ctx, Kernel};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::Result;
use kbase::sync::Mutex;
use linux_abi::ipc::{SHM_DEST, ShmidDs};
use platform::{Level, Protection};

/// Most segments (SHMMNI).
pub(crate) const MAX_SEGMENTS: usize = 4096;

/// A segment.
pub(crate) struct Segment {
    size: u64,
    file: Arc<MappedFile>,
    /// What tells its mappings from those of others.
    share: u64,
    about: Mutex<About>,
}

/// What changes.
struct About {
    creator: u32,
    last: u32,
    attached_s: i64,
    detached_s: i64,
    changed_s: i64,
}

impl Segment {
    /// A segment of zeros.
    ///
    /// # Errors
    /// ENOSPC, EFBIG there is no room.
    pub(crate) fn new(ctx: &Ctx<'_>, key: i32, size: u64) -> Result<Self> {
        let file = ctx.kernel.mounts.unnamed().unnamed_file(0o600);
        file.truncate(size)?;
        let path = alloc::format!("/SYSV{key:08x} (deleted)").into_bytes();
        Ok(Self {
            size,
            file: Arc::new(MappedFile { file, path }),
            share: ctx.kernel.memory.next_share(),
            about: Mutex::new(About {
                creator: ctx.process.pid,
                last: 0,
                attached_s: 0,
                detached_s: 0,
                changed_s: super::now_s(ctx.kernel),
            }),
        })
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn touch(&self, now_s: i64) {
        self.about.lock().changed_s = now_s;
    }

    fn note_detached(&self, pid: u32, now_s: i64) {
        let mut about = self.about.lock();
        (about.last, about.detached_s) = (pid, now_s);
    }

    /// The spaces that have it, with where.
    fn attachments(&self, spaces: &[Arc<AddressSpace>]) -> Vec<(Arc<AddressSpace>, Attached)> {
        let at = |space: &Arc<AddressSpace>| space.attached_at(self.share).map(|at| (Arc::clone(space), at));
        spaces.iter().filter_map(at).collect()
    }
}

/// The memory of all processes, each once.
fn spaces(kernel: &Kernel) -> Vec<Arc<AddressSpace>> {
    let mut all: Vec<Arc<AddressSpace>> =
        kernel.processes.all().iter().map(|process| process.world().0).collect();
    all.sort_unstable_by_key(|space| space.id());
    all.dedup_by_key(|space| space.id());
    all
}

/// What `shmctl(2)` tells.
pub(crate) fn describe(kernel: &Kernel, segment: &Object<Segment>) -> ShmidDs {
    let attachments = segment.value.attachments(&spaces(kernel));
    let attached: u64 = attachments.iter().map(|(_, attached)| u64::from(attached.times)).sum();
    let mut shm_perm = segment.permission();
    if segment.is_removed() {
        shm_perm.mode |= SHM_DEST;
    }
    let about = segment.value.about.lock();
    ShmidDs {
        shm_perm,
        shm_segsz: segment.value.size,
        shm_atime: about.attached_s,
        shm_dtime: about.detached_s,
        shm_ctime: about.changed_s,
        shm_cpid: about.creator,
        shm_lpid: about.last,
        shm_nattch: attached,
        ..ShmidDs::default()
    }
}

/// Forgets segments that were removed and that nobody has any more.
pub(crate) fn sweep(kernel: &Kernel) {
    let mut removed = kernel.ipc.segments.list();
    removed.retain(|segment| segment.is_removed());
    if removed.is_empty() {
        return;
    }
    let spaces = spaces(kernel);
    for segment in removed {
        if segment.value.attachments(&spaces).is_empty() {
            kernel.ipc.segments.remove(&segment);
        }
    }
}

/// `shmat(2)`.
///
/// # Errors
/// EINVAL the place is not possible; ENOMEM there is no room, or a process that is no relative has the segment at an address
/// that it chose.
pub(crate) fn attach(
    ctx: &Ctx<'_>,
    segment: &Object<Segment>,
    place: Place,
    protection: Protection,
) -> Result<u64> {
    let warn = |text: &str| {
        ctx.kernel.log(Level::Warn, format_args!("shmat: {text}; a page of an enclave is at one address"));
    };
    let value = &segment.value;
    let others = value.attachments(&spaces(ctx.kernel));
    let mut place = place;
    let first = others.first().map(|(_, attached)| *attached);
    let is_for_window = match first {
        None => place == Place::Any,
        Some(first) => {
            let fits = match place {
                Place::Fixed(wanted) | Place::FixedNoReplace(wanted) => wanted == first.at,
                _ => true,
            };
            if first.is_in_window && !fits {
                warn("the segment is at another address elsewhere");
                kbase::bail!(EINVAL, "the segment is at another address");
            }
            first.is_in_window
        }
    };
    if is_for_window
        && let Some(at) = ctx.space.attach_window(value.share, &value.file, value.size, protection)?
    {
        note_attached(ctx, value);
        return Ok(at);
    }
    if let Some(at) = first.map(|first| first.at) {
        if others.iter().any(|(space, _)| space.id() == ctx.space.id()) {
            warn("the process has the segment already");
            kbase::bail!(EINVAL, "a segment is attached once");
        }
        if others.iter().any(|(space, _)| space.owner() != ctx.space.owner()) {
            warn("a process that is not forked from the same has the segment");
            kbase::bail!(ENOMEM, "the segment cannot be at its address here");
        }
        place = match place {
            Place::Fixed(wanted) if wanted == at => place,
            Place::Any => Place::FixedNoReplace(at),
            Place::FixedNoReplace(wanted) if wanted == at => place,
            _ => {
                warn("the segment is at another address elsewhere");
                kbase::bail!(EINVAL, "the segment is at another address");
            }
        };
    }
    for (space, _) in &others {
        space.put_back(value.share, &*value.file.file);
    }
    let at = ctx.space.attach(value.share, &value.file, value.size, place, protection)?;
    note_attached(ctx, value);
    Ok(at)
}

fn note_attached(ctx: &Ctx<'_>, segment: &Segment) {
    let mut about = segment.about.lock();
    about.last = ctx.process.pid;
    about.attached_s = super::now_s(ctx.kernel);
}

/// `fork(2)`: the copy of the memory has the same segments.
pub(crate) fn forked(ctx: &Ctx<'_>) {
    for segment in attached(ctx.kernel, ctx.space) {
        note_attached(ctx, &segment.value);
    }
}

/// The last process that has some memory gives it up, and what is attached with it.
pub(crate) fn memory_ends(kernel: &Kernel, space: &AddressSpace, pid: u32) {
    for segment in attached(kernel, space) {
        segment.value.note_detached(pid, super::now_s(kernel));
    }
}

/// The segments that a space has.
fn attached(kernel: &Kernel, space: &AddressSpace) -> Vec<Arc<Object<Segment>>> {
    let mut segments = kernel.ipc.segments.list();
    segments.retain(|segment| space.attached_at(segment.value.share).is_some());
    segments
}

/// `shmdt(2)`.
///
/// # Errors
/// EINVAL no segment begins there.
pub(crate) fn detach(ctx: &Ctx<'_>, address: u64) -> Result<()> {
    let segments = ctx.kernel.ipc.segments.list();
    let find = |share: u64| segments.iter().find(|segment| segment.value.share == share);
    let mut found = None;
    let is_detached = ctx.space.detach(address, |share| {
        found = find(share).cloned();
        find(share).map(|segment| segment.value.size.next_multiple_of(linux_abi::mm::PAGE_SIZE))
    })?;
    if !is_detached {
        kbase::bail!(EINVAL, "no segment begins there");
    }
    if let Some(segment) = found {
        segment.value.note_detached(ctx.process.pid, super::now_s(ctx.kernel));
    }
    sweep(ctx.kernel);
    Ok(())
}
