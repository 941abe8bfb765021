//! Interval timers and POSIX timers.

use crate::Ctx;
use crate::time::{Clock, Notify, Setting, TimerClock};
use kbase::{Result, UserPtr, bail};
use linux_abi::process::resource;
use linux_abi::signal::{SigInfo, Signal, si};
use linux_abi::time::{
    CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, ITIMER_REAL, Itimerval, NSEC_PER_SEC,
    TIMER_ABSTIME, Timespec, Timeval,
};

/// SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID.
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
const SIGEV_THREAD_ID: u32 = 4;

/// Words of `struct sigevent`: value, signo and notify, thread, rest.
type SigEvent = [u64; 8];
/// `struct itimerspec`: interval, value.
type Itimerspec = [Timespec; 2];

fn to_itimerval(setting: Setting) -> Itimerval {
    Itimerval {
        it_interval: Timeval::from_ns(setting.interval),
        // What is left of an armed timer is never shown as nothing.
        it_value: setting.next.map_or(Timeval::default(), |left| Timeval::from_ns(left.max(1000))),
    }
}

fn from_itimerval(value: &Itimerval) -> Result<Setting> {
    match (value.it_interval.to_ns(), value.it_value.to_ns()) {
        (Some(interval), Some(after)) => Ok(Setting { next: (after != 0).then_some(after), interval }),
        _ => bail!(EINVAL, "not a time"),
    }
}

/// `getitimer(2)`.
pub(super) fn getitimer(ctx: &Ctx<'_>, which: i32, into: UserPtr<Itimerval>) -> Result<()> {
    let setting = ctx.process.signals.timers.interval(ctx, which)?;
    into.write(ctx.user(), &to_itimerval(setting))
}

/// `setitimer(2)`.
pub(super) fn setitimer(
    ctx: &Ctx<'_>,
    which: i32,
    new: UserPtr<Itimerval>,
    old: UserPtr<Itimerval>,
) -> Result<()> {
    // Linux takes a null pointer for zeros.
    let new = match new.non_null() {
        Some(new) => new.read(ctx.user())?,
        None => Itimerval::default(),
    };
    let was = ctx.process.signals.timers.set_interval(ctx, which, from_itimerval(&new)?)?;
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &to_itimerval(was)),
        None => Ok(()),
    }
}

/// `alarm(2)`.
pub(super) fn alarm(ctx: &Ctx<'_>, seconds: u32) -> Result<u64> {
    let after = u64::from(seconds) * NSEC_PER_SEC;
    let setting = Setting { next: (after != 0).then_some(after), interval: 0 };
    let was = ctx.process.signals.timers.set_interval(ctx, ITIMER_REAL, setting)?;
    // Rounded to the nearest second, but never to 0, which says that there was none.
    Ok(was
        .next
        .map_or(0, |left| left.saturating_add(NSEC_PER_SEC / 2) / NSEC_PER_SEC)
        .max(was.next.map_or(0, |_| 1)))
}

/// `timer_create(2)`.
pub(super) fn timer_create(
    ctx: &Ctx<'_>,
    clock: i32,
    event: UserPtr<SigEvent>,
    into: UserPtr<i32>,
) -> Result<()> {
    let event = match event.non_null() {
        Some(event) => Some(event.read(ctx.user())?),
        None => None,
    };
    let id = clock;
    let clock = Clock::of(ctx, id)?;
    if matches!(id, CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_REALTIME_COARSE) {
        bail!(EOPNOTSUPP, "no timers on this clock");
    }
    let clock = match clock {
        Clock::Realtime => TimerClock::Realtime,
        Clock::Monotonic => TimerClock::Wall,
        Clock::ProcessCpu(pid) if pid == ctx.process.pid => TimerClock::Cpu,
        Clock::ThreadCpu(tid) if tid == ctx.thread.tid() => TimerClock::Cpu,
        Clock::ProcessCpu(_) | Clock::ThreadCpu(_) => bail!(EINVAL, "another's CPU time"),
    };
    // Linux finds the place for its signal before it looks at what the signal is.
    let limit = ctx.process.limit(resource::SIGPENDING);
    let Some(slot) = ctx.process.credentials.account().take_slot(limit) else {
        bail!(EAGAIN, "too many signals may be queued");
    };
    let [value, kind, target, ..] = event.unwrap_or_default();
    let (number, notify) = (kind & 0xffff_ffff, u32::try_from(kind >> 32).unwrap_or(0));
    let tid = u32::try_from(target & 0xffff_ffff).unwrap_or(0);
    let signal = match event {
        None => Signal::SIGALRM,
        Some(_) if notify == SIGEV_NONE => Signal::SIGALRM,
        Some(_) => match Signal::new(number) {
            Some(signal) => signal,
            None => bail!(EINVAL, "no such signal"),
        },
    };
    // The C library makes a thread of SIGEV_THREAD; to the kernel it is a signal.
    let is_own = |tid: u32| ctx.process.threads().iter().any(|thread| thread.tid() == tid);
    if !matches!(notify, SIGEV_SIGNAL | SIGEV_NONE | SIGEV_THREAD | SIGEV_THREAD_ID)
        || notify == SIGEV_THREAD_ID && !is_own(tid)
    {
        bail!(EINVAL, "sigev_notify");
    }
    let id = ctx.process.signals.timers.create(clock, slot, |id| {
        let mut info = SigInfo::new(signal, si::TIMER);
        let [timer, data, ..] = &mut info.fields;
        *timer = u64::from(id.cast_unsigned());
        *data = if event.is_some() { value } else { u64::from(id.cast_unsigned()) };
        match notify {
            SIGEV_NONE => Notify::None,
            SIGEV_THREAD_ID => Notify::Thread(tid, signal, info),
            _ => Notify::Process(signal, info),
        }
    })?;
    into.write(ctx.user(), &id).inspect_err(|_| {
        // Nobody learns of it.
        let _ = ctx.process.signals.timers.delete(id);
    })
}

fn to_itimerspec(setting: Setting) -> Itimerspec {
    [Timespec::from_ns(setting.interval), Timespec::from_ns(setting.next.unwrap_or(0))]
}

/// `timer_settime(2)`.
pub(super) fn timer_settime(
    ctx: &Ctx<'_>,
    id: i32,
    flags: u32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<()> {
    let [interval, value] = new.read(ctx.user())?;
    let (Some(interval), Some(value)) = (interval.to_ns(), value.to_ns()) else {
        bail!(EINVAL, "not a time")
    };
    let realtime_offset = ctx.platform().realtime_ns().saturating_sub(ctx.platform().monotonic_ns());
    let was = ctx.process.signals.timers.set(ctx, id, interval, |clock, now| {
        if value == 0 {
            None
        } else if flags & TIMER_ABSTIME == 0 {
            Some(now.saturating_add(value))
        } else if clock == TimerClock::Realtime {
            Some(value.saturating_sub(realtime_offset))
        } else {
            Some(value)
        }
    })?;
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &to_itimerspec(was)),
        None => Ok(()),
    }
}

/// `timer_gettime(2)`.
pub(super) fn timer_gettime(ctx: &Ctx<'_>, id: i32, into: UserPtr<Itimerspec>) -> Result<()> {
    let setting = ctx.process.signals.timers.get(ctx, id)?;
    into.write(ctx.user(), &to_itimerspec(setting))
}

/// `timer_getoverrun(2)`.
pub(super) fn timer_getoverrun(ctx: &Ctx<'_>, id: i32) -> Result<u32> {
    ctx.process.signals.timers.overrun(id)
}

/// `timer_delete(2)`.
pub(super) fn timer_delete(ctx: &Ctx<'_>, id: i32) -> Result<()> {
    ctx.process.signals.timers.delete(id)
}
