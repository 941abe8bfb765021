//! `epoll(7)`.

use super::poll::{deadline, masked, nanoseconds};
use super::{Fd, pipe};
use crate::Ctx;
use crate::fs::{self, Epoll};
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::fs::{EpollEvent, OpenFlags};
use linux_abi::time::Timespec;
use zerocopy::IntoBytes;

/// Most events of one wait.
const MAX_EVENTS: i32 = i32::MAX / 12;

/// `epoll_create(2)`; the size only has to be positive.
pub(super) fn epoll_create(ctx: &Ctx<'_>, size: i32) -> Result<Fd> {
    if size <= 0 {
        kbase::bail!(EINVAL, "the size is not positive");
    }
    epoll_create1(ctx, 0)
}

/// `epoll_create1(2)`.
pub(super) fn epoll_create1(ctx: &Ctx<'_>, flags: u32) -> Result<Fd> {
    let flags = pipe::flags_of(flags, OpenFlags::CLOEXEC)?;
    ctx.files.insert(fs::epoll(ctx.kernel.mounts.shared()), flags.contains(OpenFlags::CLOEXEC))
}

/// EPOLLEXCLUSIVE, and what may be asked for together with it: EPOLLIN, EPOLLOUT and their bands, EPOLLERR, EPOLLHUP, EPOLLWAKEUP,
/// EPOLLET.
const EXCLUSIVE: u32 = 1 << 28;
const WITH_EXCLUSIVE: u32 = EXCLUSIVE | 1 | 4 | 8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 1 << 29 | 1 << 31;

/// `epoll_ctl(2)`.
pub(super) fn epoll_ctl(
    ctx: &Ctx<'_>,
    epoll: Fd,
    operation: u32,
    fd: Fd,
    event: UserPtr<EpollEvent>,
) -> Result<()> {
    const ADD: u32 = 1;
    const DELETE: u32 = 2;
    const MODIFY: u32 = 3;
    let event = if operation == DELETE { EpollEvent::default() } else { event.read(ctx.user())? };
    let instance = ctx.files.get_file(epoll)?;
    let open = ctx.files.get_file(fd)?;
    if open.file().node().is_some() {
        kbase::bail!(EPERM, "a file or directory is always ready");
    }
    if instance.id() == open.id() {
        kbase::bail!(EINVAL, "an instance cannot watch itself");
    }
    let instance = Epoll::of(&instance)?;
    if event.events & EXCLUSIVE != 0 {
        let is_allowed = operation == ADD && event.events & !WITH_EXCLUSIVE == 0 && Epoll::of(&open).is_err();
        if !is_allowed && matches!(operation, ADD | MODIFY) {
            kbase::bail!(EINVAL, "EPOLLEXCLUSIVE is not for this");
        }
    }
    match operation {
        ADD => instance.add(fd.0, &open, event),
        DELETE => instance.remove(fd.0, &open),
        MODIFY => instance.modify(fd.0, &open, event),
        _ => Err(Error::new(Errno::EINVAL, "unknown operation")),
    }
}

/// `epoll_wait(2)`; the time is in milliseconds.
pub(super) fn epoll_wait(
    ctx: &Ctx<'_>,
    epoll: Fd,
    into: UserPtr<EpollEvent>,
    max: i32,
    timeout_ms: i32,
) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok().map(|ms| ms.saturating_mul(1_000_000));
    wait_for(ctx, epoll, into, max, timeout)
}

/// `epoll_pwait(2)`.
pub(super) fn epoll_pwait(
    ctx: &Ctx<'_>,
    epoll: Fd,
    into: UserPtr<EpollEvent>,
    max: i32,
    timeout_ms: i32,
    mask: UserAddr,
    mask_len: usize,
) -> Result<usize> {
    masked(ctx, mask, mask_len, || epoll_wait(ctx, epoll, into, max, timeout_ms))
}

/// `epoll_pwait2(2)`.
pub(super) fn epoll_pwait2(
    ctx: &Ctx<'_>,
    epoll: Fd,
    into: UserPtr<EpollEvent>,
    max: i32,
    timeout: UserPtr<Timespec>,
    mask: UserAddr,
    mask_len: usize,
) -> Result<usize> {
    let timeout = timeout.non_null().map(|t| nanoseconds(t.read(ctx.user())?)).transpose()?;
    masked(ctx, mask, mask_len, || wait_for(ctx, epoll, into, max, timeout))
}

fn wait_for(
    ctx: &Ctx<'_>,
    epoll: Fd,
    into: UserPtr<EpollEvent>,
    max: i32,
    timeout_ns: Option<u64>,
) -> Result<usize> {
    let open = ctx.files.get_file(epoll)?;
    if max <= 0 || max > MAX_EVENTS {
        kbase::bail!(EINVAL, "the number of events is not positive");
    }
    let max = usize::try_from(max).unwrap_or_default();
    let events = Epoll::of(&open)?.wait(ctx, max, deadline(ctx, timeout_ns))?;
    if !events.is_empty() {
        ctx.user().store(into.address(), events.as_slice().as_bytes())?;
    }
    Ok(events.len())
}
