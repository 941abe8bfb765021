//! The clocks of `clock_gettime(2)`.

use crate::Ctx;
use kbase::{Result, bail};
use linux_abi::time::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, Timespec,
};

/// CLOCK_REALTIME_ALARM.
const CLOCK_REALTIME_ALARM: i32 = 8;
/// CLOCK_BOOTTIME_ALARM.
const CLOCK_BOOTTIME_ALARM: i32 = 9;
/// In the number of a CPU clock: it is that of a thread.
const CPUCLOCK_PER_THREAD: i32 = 4;
/// In the number of a CPU clock: what is measured.
const CPUCLOCK_MASK: i32 = 3;
/// Resolution of the coarse clocks: a tick at 250 Hz.
const COARSE_NS: u64 = 4_000_000;

/// A clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Time since the epoch.
    Realtime,
    /// Time since some point in the past.
    Monotonic,
    /// CPU time of a process.
    ProcessCpu(u32),
    /// CPU time of a thread.
    ThreadCpu(u32),
}

impl Clock {
    /// The clock of a `clockid_t`.
    ///
    /// # Errors
    /// EINVAL there is none of that number.
    pub(crate) fn of(ctx: &Ctx<'_>, id: i32) -> Result<Self> {
        Ok(match id {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => Self::Realtime,
            CLOCK_MONOTONIC
            | CLOCK_MONOTONIC_RAW
            | CLOCK_MONOTONIC_COARSE
            | CLOCK_BOOTTIME
            | CLOCK_BOOTTIME_ALARM => Self::Monotonic,
            CLOCK_PROCESS_CPUTIME_ID => Self::ProcessCpu(ctx.process.pid),
            CLOCK_THREAD_CPUTIME_ID => Self::ThreadCpu(ctx.thread.tid()),
            // clock_getcpuclockid(3) and pthread_getcpuclockid(3): the inverted number above three bits.
            ..0 if id & CPUCLOCK_MASK != CPUCLOCK_MASK => {
                let number = (!(id >> 3)).unsigned_abs();
                if id & CPUCLOCK_PER_THREAD == 0 {
                    Self::ProcessCpu(if number == 0 { ctx.process.pid } else { number })
                } else {
                    Self::ThreadCpu(if number == 0 { ctx.thread.tid() } else { number })
                }
            }
            _ => bail!(EINVAL, "no such clock"),
        })
    }

    /// Its time in nanoseconds.
    ///
    /// # Errors
    /// EINVAL the process or thread is gone.
    pub(crate) fn now(self, ctx: &Ctx<'_>) -> Result<u64> {
        Ok(match self {
            Self::Realtime => ctx.platform().realtime_ns(),
            Self::Monotonic => ctx.platform().monotonic_ns(),
            Self::ProcessCpu(pid) if pid == ctx.process.pid => {
                ctx.process.ask_for_cpu_times(ctx.thread.tid());
                ctx.process_cpu_ns()
            }
            Self::ThreadCpu(tid) if tid == ctx.thread.tid() => ctx.thread_cpu_ns(),
            Self::ProcessCpu(pid) => match ctx.kernel.processes.process(pid) {
                Some(process) => {
                    process.ask_for_cpu_times(ctx.thread.tid());
                    process.cpu_ns()
                }
                None => bail!(EINVAL, "no such process"),
            },
            Self::ThreadCpu(tid) => match ctx.kernel.processes.thread(tid) {
                Some(thread) => thread.times.used_ns(),
                None => bail!(EINVAL, "no such thread"),
            },
        })
    }

    /// The resolution of the clock of a `clockid_t`, in nanoseconds.
    pub(crate) const fn resolution_ns(id: i32) -> u64 {
        match id {
            CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => COARSE_NS,
            _ => 1,
        }
    }
}

/// The deadline `timeout` from now.
///
/// # Errors
/// EINVAL it is negative or its nanoseconds are out of range.
pub(crate) fn deadline_after(ctx: &Ctx<'_>, timeout: Timespec) -> Result<u64> {
    match timeout.to_ns() {
        Some(ns) => Ok(ctx.platform().monotonic_ns().saturating_add(ns)),
        None => bail!(EINVAL, "not a time"),
    }
}

/// The deadline of a time of a clock.
///
/// # Errors
/// EINVAL it is negative or its nanoseconds are out of range, or the clock is one of CPU time.
pub(crate) fn deadline_at(ctx: &Ctx<'_>, clock: Clock, time: Timespec) -> Result<u64> {
    let Some(ns) = time.to_ns() else { bail!(EINVAL, "not a time") };
    match clock {
        Clock::Monotonic => Ok(ns),
        Clock::Realtime => {
            let ahead = ns.saturating_sub(ctx.platform().realtime_ns());
            Ok(ctx.platform().monotonic_ns().saturating_add(ahead))
        }
        Clock::ProcessCpu(_) | Clock::ThreadCpu(_) => bail!(EINVAL, "a clock of CPU time"),
    }
}
