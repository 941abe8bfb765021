//! Time: clocks, CPU times, timers, sleeping.
//!
//! The clocks are the platform's. Deadlines inside the kernel are times of CLOCK_MONOTONIC in nanoseconds.

mod clock;
mod cpu;
mod timers;

pub(crate) use clock::{Clock, deadline_after, deadline_at};
pub(crate) use cpu::{CpuTimes, ProcessTimes, Sampler, ThreadTimes};
pub(crate) use timers::{
    CPU_TICK_NS, Notify, Setting, TimerClock, TimerSetting, Timers, expire_timers, hand_over_timers,
    on_interrupt, park_deadline,
};

use crate::Ctx;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::time::Timespec;

/// Who sleeps for CPU time looks at it at least so often.
const MOST_CPU_WAIT_NS: u64 = 50_000_000;

/// What `restart_syscall(2)` goes on with: calls with a relative timeout, which may not begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// `nanosleep(2)`, `clock_nanosleep(2)`.
    Sleep {
        /// When it ends.
        deadline_ns: u64,
        /// Where the time that is left goes when it is interrupted, or null.
        remaining: UserAddr,
    },
    /// `futex(2)` FUTEX_WAIT.
    Futex(crate::futex::Wait),
}

/// Goes on with an interrupted call.
///
/// # Errors
/// EINTR there is none; those of the call.
pub(crate) fn restart(ctx: &Ctx<'_>) -> Result<u64> {
    match ctx.thread.signals.take_restart() {
        Some(Restart::Sleep { deadline_ns, remaining }) => sleep(ctx, deadline_ns, remaining).map(|()| 0),
        Some(Restart::Futex(wait)) => crate::futex::wait(ctx, wait).map(|()| 0),
        None => Err(Error::new(Errno::EINTR, "nothing to go on with")),
    }
}

/// Sleeps until a time of CLOCK_MONOTONIC. When a signal comes, the time that is left is stored.
///
/// # Errors
/// ERESTART_RESTARTBLOCK a signal came; EFAULT `remaining`.
pub(crate) fn sleep(ctx: &Ctx<'_>, deadline_ns: u64, remaining: UserAddr) -> Result<()> {
    if ctx.sleep_until(Some(deadline_ns)).is_ok() {
        return Ok(());
    }
    if let Some(remaining) = UserPtr::<Timespec>::new(remaining).non_null() {
        let left = deadline_ns.saturating_sub(ctx.platform().monotonic_ns());
        remaining.write(ctx.user(), &Timespec::from_ns(left))?;
    }
    ctx.thread.signals.set_restart(Restart::Sleep { deadline_ns, remaining });
    Err(Error::new(Errno::ERESTART_RESTARTBLOCK, "a signal came"))
}

/// Sleeps until a clock of CPU time shows `until`. Those who use the time are asked now and then how much it was.
///
/// # Errors
/// ERESTARTSYS a signal came; EINVAL the process is gone.
pub(crate) fn sleep_for_cpu(ctx: &Ctx<'_>, clock: Clock, until: u64) -> Result<()> {
    loop {
        let now = clock.now(ctx)?;
        if now >= until {
            return Ok(());
        }
        let left = until.saturating_sub(now);
        let cpus = u64::from(ctx.platform().host_facts().cpus.max(1));
        let wait = (left / cpus).clamp(CPU_TICK_NS, MOST_CPU_WAIT_NS);
        ctx.sleep_until(Some(ctx.platform().monotonic_ns().saturating_add(wait)))?;
    }
}
