//! Clocks, sleeping, CPU times.

use crate::Ctx;
use crate::time::{Clock, deadline_after, deadline_at, sleep};
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, bail};
use linux_abi::process::Rusage;
use linux_abi::time::{
    CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID, CLOCKS_PER_SEC, NSEC_PER_SEC, TIMER_ABSTIME, Timespec, Timeval, Timezone, Tms,
};

/// Largest absolute value of an offset of `adjtimex(2)` that says "not synchronised", microseconds.
const MAX_ERROR: u64 = 16_000_000;
/// STA_UNSYNC.
const STA_UNSYNC: u32 = 0x40;
/// TIME_ERROR.
const TIME_ERROR: u32 = 5;
/// RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD.
const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

/// `clock_gettime(2)`.
pub(super) fn clock_gettime(ctx: &Ctx<'_>, clock: i32, into: UserPtr<Timespec>) -> Result<()> {
    let now = Clock::of(ctx, clock)?.now(ctx)?;
    into.write(ctx.user(), &Timespec::from_ns(now))
}

/// `clock_getres(2)`.
pub(super) fn clock_getres(ctx: &Ctx<'_>, clock: i32, into: UserPtr<Timespec>) -> Result<()> {
    Clock::of(ctx, clock)?;
    match into.non_null() {
        Some(into) => into.write(ctx.user(), &Timespec::from_ns(Clock::resolution_ns(clock))),
        None => Ok(()),
    }
}

/// `clock_settime(2)`: nobody in the enclave sets the clock.
pub(super) fn clock_settime(ctx: &Ctx<'_>, clock: i32, time: UserPtr<Timespec>) -> Result<()> {
    if clock != CLOCK_REALTIME {
        bail!(EINVAL, "the clock cannot be set");
    }
    if time.read(ctx.user())?.to_ns().is_none() {
        bail!(EINVAL, "not a time");
    }
    bail!(EPERM, "the time is the host's")
}

/// `settimeofday(2)`.
pub(super) fn settimeofday(_ctx: &Ctx<'_>, _time: UserPtr<Timeval>, _zone: UserPtr<Timezone>) -> Result<()> {
    bail!(EPERM, "the time is the host's")
}

/// `gettimeofday(2)`.
pub(super) fn gettimeofday(ctx: &Ctx<'_>, time: UserPtr<Timeval>, zone: UserPtr<Timezone>) -> Result<()> {
    if let Some(time) = time.non_null() {
        time.write(ctx.user(), &Timeval::from_ns(ctx.platform().realtime_ns()))?;
    }
    match zone.non_null() {
        Some(zone) => zone.write(ctx.user(), &Timezone::default()),
        None => Ok(()),
    }
}

/// `time(2)`.
pub(super) fn time(ctx: &Ctx<'_>, into: UserPtr<u64>) -> Result<u64> {
    let now = ctx.platform().realtime_ns() / NSEC_PER_SEC;
    if let Some(into) = into.non_null() {
        into.write(ctx.user(), &now)?;
    }
    Ok(now)
}

/// `nanosleep(2)`.
pub(super) fn nanosleep(ctx: &Ctx<'_>, time: UserPtr<Timespec>, remaining: UserAddr) -> Result<()> {
    let deadline = deadline_after(ctx, time.read(ctx.user())?)?;
    sleep(ctx, deadline, remaining)
}

/// `clock_nanosleep(2)`.
pub(super) fn clock_nanosleep(
    ctx: &Ctx<'_>,
    id: i32,
    flags: u32,
    time: UserPtr<Timespec>,
    remaining: UserAddr,
) -> Result<()> {
    let clock = Clock::of(ctx, id)?;
    if matches!(
        id,
        CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_REALTIME_COARSE | CLOCK_THREAD_CPUTIME_ID
    ) {
        bail!(EOPNOTSUPP, "nobody sleeps on this clock");
    }
    let time = time.read(ctx.user())?;
    match clock {
        Clock::ThreadCpu(_) => bail!(EINVAL, "a thread that sleeps uses no CPU time"),
        Clock::ProcessCpu(pid) => {
            return sleep_for_cpu(ctx, pid, flags & TIMER_ABSTIME != 0, time, remaining);
        }
        Clock::Realtime | Clock::Monotonic => {}
    }
    if flags & TIMER_ABSTIME == 0 {
        return sleep(ctx, deadline_after(ctx, time)?, remaining);
    }
    let deadline = deadline_at(ctx, clock, time)?;
    ctx.sleep_until(Some(deadline)).map_err(|_| Error::new(Errno::ERESTARTNOHAND, "a signal came"))
}

/// Sleeps until a process has used so much CPU time.
fn sleep_for_cpu(
    ctx: &Ctx<'_>,
    pid: u32,
    is_absolute: bool,
    time: Timespec,
    remaining: UserAddr,
) -> Result<()> {
    let Some(ns) = time.to_ns() else { bail!(EINVAL, "not a time") };
    let clock = Clock::ProcessCpu(pid);
    let until = if is_absolute { ns } else { clock.now(ctx)?.saturating_add(ns) };
    let Err(error) = crate::time::sleep_for_cpu(ctx, clock, until) else { return Ok(()) };
    if !error.errno().is_restart() {
        return Err(error);
    }
    if is_absolute {
        bail!(ERESTARTNOHAND, "a signal came");
    }
    if let Some(remaining) = UserPtr::<Timespec>::new(remaining).non_null() {
        let left = until.saturating_sub(clock.now(ctx)?);
        remaining.write(ctx.user(), &Timespec::from_ns(left))?;
    }
    bail!(EINTR, "a signal came")
}

/// Ticks of CLOCKS_PER_SEC.
const fn ticks(ns: u64) -> u64 {
    ns / (NSEC_PER_SEC / CLOCKS_PER_SEC)
}

/// `times(2)`.
pub(super) fn times(ctx: &Ctx<'_>, into: UserPtr<Tms>) -> Result<u64> {
    if let Some(into) = into.non_null() {
        let (own, children) = (ctx.process_cpu_times(), ctx.process.times.children());
        let times = Tms {
            tms_utime: ticks(own.user).cast_signed(),
            tms_stime: ticks(own.system).cast_signed(),
            tms_cutime: ticks(children.user).cast_signed(),
            tms_cstime: ticks(children.system).cast_signed(),
        };
        into.write(ctx.user(), &times)?;
    }
    Ok(ticks(ctx.platform().monotonic_ns()))
}

/// `getrusage(2)`.
pub(super) fn getrusage(ctx: &Ctx<'_>, who: i32, into: UserPtr<Rusage>) -> Result<()> {
    let cpu = match who {
        RUSAGE_SELF => ctx.process_cpu_times(),
        RUSAGE_CHILDREN => ctx.process.times.children(),
        RUSAGE_THREAD => ctx.thread_cpu_times(),
        _ => bail!(EINVAL, "who"),
    };
    let peak_kib = if who == RUSAGE_CHILDREN { 0 } else { ctx.space.resident().1.saturating_mul(4) };
    let usage = Rusage {
        ru_utime: Timeval::from_ns(cpu.user),
        ru_stime: Timeval::from_ns(cpu.system),
        ru_maxrss: i64::try_from(peak_kib).unwrap_or(i64::MAX),
        ..Rusage::default()
    };
    into.write(ctx.user(), &usage)
}

/// `struct timex`, by 8-byte words: modes 0, offset 1, freq 2, maxerror 3, esterror 4, status 5, constant 6, precision 7,
/// tolerance 8, time 9 and 10, tick 11.
type Timex = [u64; 26];

/// `adjtimex(2)`: reads, and refuses to set.
pub(super) fn adjtimex(ctx: &Ctx<'_>, timex: UserPtr<Timex>) -> Result<u32> {
    let mut words = timex.read(ctx.user())?;
    let [modes, _, _, max_error, estimated, status, constant, precision, tolerance, sec, usec, tick, ..] =
        &mut words;
    if *modes & 0xffff_ffff != 0 {
        bail!(EPERM, "the time is the host's");
    }
    let now = Timeval::from_ns(ctx.platform().realtime_ns());
    (*max_error, *estimated) = (MAX_ERROR, MAX_ERROR);
    (*status, *constant, *precision, *tolerance) = (STA_UNSYNC.into(), 2, 1, 32_768_000);
    (*sec, *usec, *tick) = (now.tv_sec.cast_unsigned(), now.tv_usec.cast_unsigned(), 10_000);
    timex.write(ctx.user(), &words)?;
    Ok(TIME_ERROR)
}

/// `clock_adjtime(2)`.
pub(super) fn clock_adjtime(ctx: &Ctx<'_>, clock: i32, timex: UserPtr<Timex>) -> Result<u32> {
    if clock != CLOCK_REALTIME && clock != CLOCK_TAI {
        bail!(EOPNOTSUPP, "only CLOCK_REALTIME is adjusted");
    }
    adjtimex(ctx, timex)
}

/// `personality(2)`.
pub(super) fn personality(ctx: &Ctx<'_>, persona: u32) -> Result<u32> {
    let place = &ctx.process.attributes.personality;
    if persona == u32::MAX {
        Ok(place.load(Ordering::Relaxed))
    } else {
        Ok(place.swap(persona, Ordering::Relaxed))
    }
}
