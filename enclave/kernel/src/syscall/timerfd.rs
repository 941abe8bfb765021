//! `timerfd_create(2)`, `timerfd_settime(2)`, `timerfd_gettime(2)`.

use super::poll::nanoseconds;
use super::{Fd, pipe};
use crate::Ctx;
use crate::fs::{self, TimerFd};
use kbase::{Result, UserPtr};
use linux_abi::fs::OpenFlags;
use linux_abi::time::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, Timespec};

/// `timerfd_create(2)`.
pub(super) fn timerfd_create(ctx: &Ctx<'_>, clock: i32, flags: u32) -> Result<Fd> {
    let is_realtime = match clock {
        CLOCK_REALTIME => true,
        CLOCK_MONOTONIC | CLOCK_BOOTTIME => false,
        _ => kbase::bail!(EINVAL, "no timers on this clock"),
    };
    let flags = pipe::flags_of(flags, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)?;
    let open = fs::timerfd(ctx.kernel.mounts.shared(), is_realtime, flags);
    ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC))
}

/// `struct itimerspec`: interval, then value.
type Setting = [Timespec; 2];

fn setting((left, interval): (u64, u64)) -> Setting {
    [interval, left].map(Timespec::from_ns)
}

/// `timerfd_settime(2)`. TFD_TIMER_CANCEL_ON_SET is accepted: nobody sets the clock.
pub(super) fn timerfd_settime(
    ctx: &Ctx<'_>,
    fd: Fd,
    flags: u32,
    new: UserPtr<Setting>,
    old: UserPtr<Setting>,
) -> Result<()> {
    const ABSTIME: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    let [interval, value] = new.read(ctx.user())?;
    if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    let (interval, value) = (nanoseconds(interval)?, nanoseconds(value)?);
    let open = ctx.files.get_file(fd)?;
    let was = TimerFd::of(&open)?.set(flags & ABSTIME != 0, value, interval);
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &setting(was)),
        None => Ok(()),
    }
}

/// `timerfd_gettime(2)`.
pub(super) fn timerfd_gettime(ctx: &Ctx<'_>, fd: Fd, into: UserPtr<Setting>) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    into.write(ctx.user(), &setting(TimerFd::of(&open)?.get()))
}
