//! System V shared memory: `shmget(2)`, `shmat(2)`, `shmdt(2)`, `shmctl(2)`.

use super::sysv::read_if;
use crate::Ctx;
use crate::ipc::now_s;
use crate::ipc::segment::{self, MAX_SEGMENTS, Segment};
use crate::vm::Place;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::ipc::{SHM_EXEC, SHM_HUGETLB, SHM_RDONLY, SHM_REMAP, SHM_RND, ShmidDs, Shminfo, command};
use linux_abi::mm::PAGE_SIZE;
use platform::Protection;

/// Largest segment (SHMMAX), and all together in pages (SHMALL), as Linux has them by default.
const MAX_SIZE: u64 = u64::MAX - (1 << 24);
/// Largest segment that can be had: all addresses of programs.
const MOST: u64 = 64 << 30;
/// Mode bit: the segment is locked into memory.
const SHM_LOCKED: u32 = 0o2000;

/// `shmget(2)`.
pub(super) fn shmget(ctx: &Ctx<'_>, key: i32, size: usize, flags: u32) -> Result<i32> {
    segment::sweep(ctx.kernel);
    let size = size as u64;
    let check = |segment: &Segment| {
        if segment.size() < size {
            kbase::bail!(EINVAL, "the segment is smaller");
        }
        Ok(())
    };
    let make = || {
        if size == 0 || size > MAX_SIZE {
            kbase::bail!(EINVAL, "no such size of a segment");
        }
        if flags & SHM_HUGETLB != 0 || size > MOST {
            kbase::bail!(ENOMEM, "there are no huge pages, or not so many addresses");
        }
        Segment::new(ctx, key, size)
    };
    ctx.kernel.ipc.segments.get(ctx, key, flags, check, make)
}

/// `shmat(2)`.
pub(super) fn shmat(ctx: &Ctx<'_>, id: i32, address: u64, flags: u32) -> Result<u64> {
    if id < 0 {
        kbase::bail!(EINVAL, "a negative identifier");
    }
    let rest = address % PAGE_SIZE;
    if rest != 0 && flags & SHM_RND == 0 {
        kbase::bail!(EINVAL, "the address is not page-aligned");
    }
    let place = match address - rest {
        0 if flags & SHM_REMAP != 0 => kbase::bail!(EINVAL, "SHM_REMAP wants an address"),
        0 => Place::Any,
        at if flags & SHM_REMAP != 0 => Place::Fixed(at),
        at => Place::FixedNoReplace(at),
    };
    let segment = ctx.kernel.ipc.segments.find(id)?;
    let mut protection = Protection::READ;
    let mut mode = 0o444;
    if flags & SHM_RDONLY == 0 {
        protection |= Protection::WRITE;
        mode |= 0o222;
    }
    if flags & SHM_EXEC != 0 {
        protection |= Protection::EXEC;
        mode |= 0o111;
    }
    segment.check_access(ctx, mode)?;
    segment::attach(ctx, &segment, place, protection).map_err(|error| match error.errno() {
        Errno::EEXIST => Error::new(Errno::EINVAL, "something is mapped there"),
        _ => error,
    })
}

/// `shmdt(2)`.
pub(super) fn shmdt(ctx: &Ctx<'_>, address: u64) -> Result<()> {
    if !address.is_multiple_of(PAGE_SIZE) {
        kbase::bail!(EINVAL, "the address is not page-aligned");
    }
    segment::detach(ctx, address)
}

/// `shmctl(2)`.
pub(super) fn shmctl(ctx: &Ctx<'_>, id: i32, cmd: u32, argument: UserAddr) -> Result<u64> {
    if id < 0 {
        kbase::bail!(EINVAL, "a negative identifier");
    }
    segment::sweep(ctx.kernel);
    let segments = &ctx.kernel.ipc.segments;
    match cmd {
        command::IPC_INFO => {
            let info = Shminfo {
                shmmax: MAX_SIZE,
                shmmin: 1,
                shmmni: MAX_SEGMENTS as u64,
                shmseg: MAX_SEGMENTS as u64,
                shmall: MAX_SIZE,
                ..Shminfo::default()
            };
            UserPtr::new(argument).write(ctx.user(), &info)?;
            return Ok(segments.highest_index());
        }
        command::SHM_INFO => {
            let list = segments.list();
            let pages = list.iter().map(|segment| segment.value.size().div_ceil(PAGE_SIZE)).sum();
            // used_ids and padding, shm_tot, shm_rss, shm_swp, and two counts of swapping.
            UserPtr::new(argument).write(ctx.user(), &[list.len() as u64, pages, pages, 0, 0, 0])?;
            return Ok(segments.highest_index());
        }
        command::SHM_STAT | command::SHM_STAT_ANY => {
            let segment = segments.at(id)?;
            if cmd == command::SHM_STAT {
                segment.check_access(ctx, 0o444)?;
            }
            UserPtr::new(argument).write(ctx.user(), &segment::describe(ctx.kernel, &segment))?;
            return Ok(segment.id.unsigned_abs().into());
        }
        _ => {}
    }
    let change = read_if::<ShmidDs>(ctx, cmd == command::IPC_SET, argument)?;
    let segment = segments.find(id)?;
    match cmd {
        command::IPC_STAT => {
            segment.check_access(ctx, 0o444)?;
            UserPtr::new(argument).write(ctx.user(), &segment::describe(ctx.kernel, &segment))?;
        }
        command::IPC_SET => {
            segment.check_owner(ctx)?;
            segment.set_permission(&change.unwrap_or_default().shm_perm)?;
            segment.value.touch(now_s(ctx.kernel));
        }
        command::IPC_RMID => {
            segment.check_owner(ctx)?;
            segment.mark_removed();
            segment::sweep(ctx.kernel);
        }
        // Memory of an enclave is never swapped by the LibOS.
        command::SHM_LOCK => segment.set_mode_bits(SHM_LOCKED, 0),
        command::SHM_UNLOCK => segment.set_mode_bits(0, SHM_LOCKED),
        _ => kbase::bail!(EINVAL, "unknown command"),
    }
    Ok(0)
}
