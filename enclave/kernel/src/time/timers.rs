//! Timers of a process that send signals: `setitimer(2)`, `alarm(2)`, `timer_create(2)`.
//!
//! Nobody watches the clock. The process keeps the earliest time at which one of its timers may be due, and asks the platform to
//! interrupt one of its threads then, again and again until the process asks for another time. Threads look whenever they are
//! interrupted or wake. A host that does not interrupt only makes timers late.
//!
//! To ask the platform is to leave the enclave. A process asks for an earlier time at once, and for a later one, or none, only when
//! the time has come that it asked for before: a timer that is set again and again before it expires costs nothing.
//!
//! A timer of `timer_create(2)` has one signal pending at most. What expires until that is delivered are its overruns.

use super::CpuTimes;
use crate::process::SignalSlot;
use crate::{Ctx, Thread, signal};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kbase::sync::{Mutex, MutexGuard};
use kbase::{Result, bail};
use linux_abi::signal::{SigInfo, Signal, si};
use platform::ThreadHandle;

/// No timer is armed.
const NEVER: u64 = u64::MAX;
/// Stands for the number of a timer that was not created.
const INTERVAL: i32 = -1;
/// No thread is to be interrupted.
const NOBODY: u32 = u32::MAX;
/// A timer of CPU time is looked at no more often than this.
pub(crate) const CPU_TICK_NS: u64 = 1_000_000;
/// From one interrupt to the next at least so long: a timer with a shorter interval would leave the program no time to run. Its
/// expirations are counted all the same.
const LEAST_GAP_NS: u64 = 50_000;
/// An interrupt that comes before its time by less than this came because the clock of the host runs ahead of ours.
const CLOCK_LAG_NS: u64 = 1_000_000;
/// Most timers that a process creates, whatever RLIMIT_SIGPENDING allows.
const MAX_CREATED: usize = 65_536;

/// What a timer runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerClock {
    /// CLOCK_MONOTONIC.
    Wall,
    /// CLOCK_REALTIME. Since nobody sets that clock, its times are converted to those of CLOCK_MONOTONIC when the timer is
    /// set.
    Realtime,
    /// CPU time of the process.
    Cpu,
    /// The part of it that is user time (ITIMER_VIRTUAL).
    User,
}

impl TimerClock {
    const fn is_cpu(self) -> bool {
        matches!(self, Self::Cpu | Self::User)
    }
}

/// What happens when a timer expires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notify {
    /// Nothing: somebody looks at it.
    None,
    /// The process gets a signal.
    Process(Signal, SigInfo),
    /// A thread gets a signal.
    Thread(u32, Signal, SigInfo),
}

/// When a timer expires, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The next time, or `None`: it is disarmed.
    pub(crate) next: Option<u64>,
    /// From one time to the next; 0: once.
    pub(crate) interval: u64,
}

/// A setting of a created timer, of which signals that are pending tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerSetting {
    /// The timer.
    pub(crate) id: i32,
    /// The number of the setting, which no other of the process has.
    pub(crate) number: u64,
}

/// A timer.
struct Timer {
    clock: TimerClock,
    notify: Notify,
    setting: Setting,
    /// The number of the setting.
    number: u64,
    /// Expirations since a signal was delivered.
    expired: u64,
    /// Those that the last signal that was delivered did not stand for.
    overrun: u32,
    /// Counts the signal that it may send.
    _slot: Option<SignalSlot>,
}

impl Timer {
    const fn interval(clock: TimerClock, signal: Signal) -> Self {
        let info = SigInfo::new(signal, si::KERNEL);
        let setting = Setting { next: None, interval: 0 };
        let notify = Notify::Process(signal, info);
        Self { clock, notify, setting, number: 0, expired: 0, overrun: 0, _slot: None }
    }

    /// If it is due, advances it and says what is to be done.
    fn expire(&mut self, now: u64) -> Option<Notify> {
        let next = self.setting.next.filter(|&next| next <= now)?;
        let missed = (now - next).checked_div(self.setting.interval);
        self.setting.next = missed
            .and_then(|missed| next.checked_add(self.setting.interval.checked_mul(missed.checked_add(1)?)?));
        self.expired = self.expired.saturating_add(missed.unwrap_or(0)).saturating_add(1);
        Some(self.notify)
    }

    /// Its signal is delivered: the expirations that it did not stand for.
    fn deliver(&mut self) -> u32 {
        let missed = core::mem::take(&mut self.expired).saturating_sub(1);
        self.overrun = u32::try_from(missed).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
        self.overrun
    }
}

/// The timers of a process.
pub(crate) struct Timers {
    /// The earliest time of CLOCK_MONOTONIC at which one may be due.
    next_ns: AtomicU64,
    /// The time that the platform was asked for, which is no later than that.
    asked_ns: AtomicU64,
    /// The thread slot that the platform was asked to interrupt.
    interrupted: AtomicU32,
    state: Mutex<State>,
}

/// The clocks of [`Timer`].
#[derive(Clone, Copy)]
struct Now {
    wall: u64,
    cpu: CpuTimes,
}

impl Now {
    const fn of(self, clock: TimerClock) -> u64 {
        match clock {
            TimerClock::Wall | TimerClock::Realtime => self.wall,
            TimerClock::Cpu => self.cpu.sum(),
            TimerClock::User => self.cpu.user,
        }
    }
}

struct State {
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    interval: [Timer; 3],
    /// Those of `timer_create(2)`.
    created: BTreeMap<i32, Timer>,
    next_id: i32,
    next_number: u64,
}

impl State {
    /// All timers, those that were created with their numbers.
    fn all(&mut self) -> impl Iterator<Item = (i32, &mut Timer)> {
        let interval = self.interval.iter_mut().map(|timer| (INTERVAL, timer));
        interval.chain(self.created.iter_mut().map(|(&id, timer)| (id, timer)))
    }

    /// The interval timer of a number.
    fn interval_of(&self, which: i32) -> Option<&Timer> {
        usize::try_from(which).ok().and_then(|which| self.interval.get(which))
    }

    fn uses_cpu(&self) -> bool {
        let is_armed = |timer: &Timer| timer.clock.is_cpu() && timer.setting.next.is_some();
        self.interval.iter().chain(self.created.values()).any(is_armed)
    }

    /// The earliest time of CLOCK_MONOTONIC at which a timer may be due.
    fn next(&mut self, now: Now) -> u64 {
        let at = |(_, timer): (i32, &mut Timer)| {
            let next = timer.setting.next?;
            Some(match timer.clock {
                TimerClock::Wall | TimerClock::Realtime => next,
                // CPU time goes no faster than the wall's, unless there are several threads; a tick more does not matter.
                clock => now.wall.saturating_add(next.saturating_sub(now.of(clock)).max(CPU_TICK_NS)),
            })
        };
        self.all().filter_map(at).min().unwrap_or(NEVER)
    }
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self {
            next_ns: AtomicU64::new(NEVER),
            asked_ns: AtomicU64::new(NEVER),
            interrupted: AtomicU32::new(NOBODY),
            state: Mutex::new(State {
                interval: [
                    Timer::interval(TimerClock::Wall, Signal::SIGALRM),
                    Timer::interval(TimerClock::User, Signal::SIGVTALRM),
                    Timer::interval(TimerClock::Cpu, Signal::SIGPROF),
                ],
                created: BTreeMap::new(),
                next_id: 0,
                next_number: 0,
            }),
        }
    }

    /// Setting of an interval timer (`getitimer(2)`), with the time that is left in `next`.
    ///
    /// # Errors
    /// EINVAL `which`.
    pub(crate) fn interval(&self, ctx: &Ctx<'_>, which: i32) -> Result<Setting> {
        let (state, now) = self.lock(ctx, |state| state.interval_of(which));
        match state.interval_of(which) {
            Some(timer) => Ok(left(timer, now)),
            None => bail!(EINVAL, "no such interval timer"),
        }
    }

    /// Sets an interval timer; `after` counts from now. Returns what [`Timers::interval`] would have said.
    ///
    /// # Errors
    /// EINVAL `which`.
    pub(crate) fn set_interval(&self, ctx: &Ctx<'_>, which: i32, after: Setting) -> Result<Setting> {
        let old = {
            let (mut state, now) = self.lock(ctx, |state| state.interval_of(which));
            let Some(timer) = usize::try_from(which).ok().and_then(|which| state.interval.get_mut(which))
            else {
                bail!(EINVAL, "no such interval timer")
            };
            let old = left(timer, now);
            let next = after.next.map(|after| now.of(timer.clock).saturating_add(after));
            // ITIMER_REAL forgets its interval when it is disarmed, the others do not.
            let keeps = next.is_some() || timer.clock.is_cpu();
            timer.setting = Setting { next, interval: if keeps { after.interval } else { 0 } };
            self.note_next(&mut state, now);
            old
        };
        self.arm(ctx);
        Ok(old)
    }

    /// Creates a timer (`timer_create(2)`), whose signal `slot` counts; `notify` makes its notification from its number.
    ///
    /// # Errors
    /// EAGAIN too many.
    pub(crate) fn create(
        &self,
        clock: TimerClock,
        slot: SignalSlot,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Result<i32> {
        let mut state = self.state.lock();
        if state.created.len() >= MAX_CREATED {
            bail!(EAGAIN, "too many timers");
        }
        let id = state.next_id;
        state.next_id = id.wrapping_add(1) & i32::MAX;
        let timer = Timer {
            clock,
            notify: notify(id),
            setting: Setting::default(),
            number: 0,
            expired: 0,
            overrun: 0,
            _slot: Some(slot),
        };
        state.created.insert(id, timer);
        Ok(id)
    }

    /// Setting of a created timer, with the time that is left in `next`.
    ///
    /// # Errors
    /// EINVAL no such timer.
    pub(crate) fn get(&self, ctx: &Ctx<'_>, id: i32) -> Result<Setting> {
        expire_timers(ctx);
        let (state, now) = self.lock(ctx, |state| state.created.get(&id));
        match state.created.get(&id) {
            Some(timer) => Ok(left(timer, now)),
            None => bail!(EINVAL, "no such timer"),
        }
    }

    /// Sets a created timer. `next` gets the clock and its time now, and gives the time of the first expiry.
    ///
    /// # Errors
    /// EINVAL no such timer.
    pub(crate) fn set(
        &self,
        ctx: &Ctx<'_>,
        id: i32,
        interval: u64,
        first: impl FnOnce(TimerClock, u64) -> Option<u64>,
    ) -> Result<Setting> {
        expire_timers(ctx);
        let old = {
            let (mut state, now) = self.lock(ctx, |state| state.created.get(&id));
            state.next_number = state.next_number.wrapping_add(1);
            let number = state.next_number;
            let Some(timer) = state.created.get_mut(&id) else { bail!(EINVAL, "no such timer") };
            let old = left(timer, now);
            let next = first(timer.clock, now.of(timer.clock));
            // One that is disarmed forgets its interval.
            timer.setting = Setting { next, interval: next.map_or(0, |_| interval) };
            (timer.number, timer.expired, timer.overrun) = (number, 0, 0);
            self.note_next(&mut state, now);
            old
        };
        self.arm(ctx);
        Ok(old)
    }

    /// Expirations of a created timer that its last signal did not stand for.
    ///
    /// # Errors
    /// EINVAL no such timer.
    pub(crate) fn overrun(&self, id: i32) -> Result<u32> {
        match self.state.lock().created.get(&id) {
            Some(timer) => Ok(timer.overrun),
            None => bail!(EINVAL, "no such timer"),
        }
    }

    /// Deletes a created timer.
    ///
    /// # Errors
    /// EINVAL no such timer.
    pub(crate) fn delete(&self, id: i32) -> Result<()> {
        match self.state.lock().created.remove(&id) {
            Some(_) => Ok(()),
            None => bail!(EINVAL, "no such timer"),
        }
    }

    /// The signal of a timer is delivered: the expirations that it did not stand for. `None`: the timer is gone or was set anew.
    pub(crate) fn deliver(&self, of: TimerSetting) -> Option<u32> {
        let mut state = self.state.lock();
        let timer = state.created.get_mut(&of.id).filter(|timer| timer.number == of.number)?;
        Some(timer.deliver())
    }

    /// Deletes all created timers (`execve(2)`).
    pub(crate) fn reset_for_exec(&self) {
        self.state.lock().created.clear();
    }

    /// Locks the timers, with what their clocks show. What the CPU times are is asked of the host, if an armed timer or the one that is
    /// `meant` runs on them.
    fn lock(&self, ctx: &Ctx<'_>, meant: impl Fn(&State) -> Option<&Timer>) -> (MutexGuard<'_, State>, Now) {
        let mut cpu = None;
        loop {
            let wall = ctx.platform().monotonic_ns();
            let state = self.state.lock();
            let uses_cpu = state.uses_cpu() || meant(&state).is_some_and(|timer| timer.clock.is_cpu());
            if !uses_cpu || cpu.is_some() {
                return (state, Now { wall, cpu: cpu.unwrap_or_default() });
            }
            drop(state);
            cpu = Some(ctx.process_cpu_times());
        }
    }

    /// Stores when the next timer may be due, under the lock, so that the last change counts.
    fn note_next(&self, state: &mut State, now: Now) {
        self.next_ns.store(state.next(now), Ordering::SeqCst);
    }

    /// Asks for an interrupt of the calling thread when a timer may be due, unless there is one before.
    fn arm(&self, ctx: &Ctx<'_>) {
        if self.next_ns.load(Ordering::SeqCst) < self.asked_ns.load(Ordering::SeqCst) {
            self.ask(ctx);
        }
    }

    /// Asks for an interrupt of the calling thread when a timer may be due and at no other time.
    fn ask(&self, ctx: &Ctx<'_>) {
        let thread = ctx.platform().current();
        loop {
            let next = self.next_ns.load(Ordering::SeqCst);
            self.asked_ns.store(next, Ordering::SeqCst);
            let asked = if next == NEVER { NOBODY } else { thread.0 };
            let before = self.interrupted.swap(asked, Ordering::SeqCst);
            if before != NOBODY && before != thread.0 {
                ctx.platform().interrupt_at(ThreadHandle(before), None);
            }
            ctx.platform().interrupt_at(thread, (next != NEVER).then_some(next));
            // Another thread may have asked meanwhile for an earlier time, which this one has just replaced.
            if next <= self.next_ns.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// The setting of a timer with the time that is left; one that is due has a nanosecond.
fn left(timer: &Timer, now: Now) -> Setting {
    let left = |next: u64| next.saturating_sub(now.of(timer.clock)).max(1);
    Setting { next: timer.setting.next.map(left), ..timer.setting }
}

/// Sends the signals of the timers of the process that are due. Without a timer it is two loads.
pub(crate) fn expire_timers(ctx: &Ctx<'_>) {
    let timers = &ctx.process.signals.timers;
    let (next, asked) = (timers.next_ns.load(Ordering::SeqCst), timers.asked_ns.load(Ordering::SeqCst));
    if next == NEVER && asked == NEVER {
        return;
    }
    let now = ctx.platform().monotonic_ns();
    if now >= next {
        expire(ctx, timers);
    } else if now >= asked {
        // What the interrupt was asked for was put off or is gone.
        timers.ask(ctx);
    }
}

fn expire(ctx: &Ctx<'_>, timers: &Timers) {
    let uses_cpu = timers.state.lock().uses_cpu();
    if uses_cpu {
        ctx.process.ask_for_cpu_times(ctx.thread.tid());
    }
    let cpu = if uses_cpu { ctx.process_cpu_times() } else { CpuTimes::default() };
    let now = Now { wall: ctx.platform().monotonic_ns(), cpu };
    let due = {
        let mut state = timers.state.lock();
        let due: Vec<(Notify, TimerSetting)> = state
            .all()
            .filter_map(|(id, timer)| {
                // A timer of CPU time that was armed meanwhile waits for the next look.
                if timer.clock.is_cpu() && !uses_cpu {
                    return None;
                }
                let notify = timer.expire(now.of(timer.clock))?;
                Some((notify, TimerSetting { id, number: timer.number }))
            })
            .collect();
        timers.note_next(&mut state, now);
        timers.next_ns.fetch_max(now.wall.saturating_add(LEAST_GAP_NS), Ordering::SeqCst);
        due
    };
    timers.ask(ctx);
    for (notify, setting) in due {
        match notify {
            Notify::None => {}
            // SIGALRM and its like carry no value, so they are not refused.
            Notify::Process(signal, info) if setting.id == INTERVAL => {
                let _ = signal::send_to_process(ctx.process, signal, info);
            }
            Notify::Process(signal, info) => {
                signal::send_of_timer(ctx.process, None, signal, info, setting);
            }
            Notify::Thread(tid, signal, info) => {
                // Another process may have a thread of the number by now.
                let is_ours = |thread: &Arc<Thread>| {
                    thread.process().is_some_and(|process| Arc::ptr_eq(&process, ctx.process))
                };
                if let Some(thread) = ctx.kernel.processes.thread(tid).filter(is_ours) {
                    signal::send_of_timer(ctx.process, Some(&thread), signal, info, setting);
                }
            }
        }
    }
}

/// An interrupt came, perhaps for the timers.
pub(crate) fn on_interrupt(ctx: &Ctx<'_>) {
    let early = own_deadline(ctx).map(|next| (next, ctx.platform().monotonic_ns()));
    expire_timers(ctx);
    if let Some((next, now)) = early
        && now < next
        && next - now < CLOCK_LAG_NS
    {
        // The host's clock runs ahead of ours: the interrupt that was asked for may have come, and its repetition may be late.
        let at = next.max(now.saturating_add(LEAST_GAP_NS));
        ctx.platform().interrupt_at(ctx.platform().current(), Some(at));
    }
}

/// Until when the calling thread may sleep that wants to sleep until `deadline_ns`: the thread that is interrupted for the
/// timers looks after them itself, so that an interrupt that the host sends too early or not at all does no harm.
pub(crate) fn park_deadline(ctx: &Ctx<'_>, deadline_ns: Option<u64>) -> Option<u64> {
    match (deadline_ns, own_deadline(ctx)) {
        (Some(deadline), Some(timers)) => Some(deadline.min(timers)),
        (deadline, timers) => deadline.or(timers),
    }
}

/// When the timers may be due, if the calling thread is the one that is interrupted for them.
fn own_deadline(ctx: &Ctx<'_>) -> Option<u64> {
    let timers = &ctx.process.signals.timers;
    let next = timers.next_ns.load(Ordering::SeqCst);
    let is_mine = || timers.interrupted.load(Ordering::SeqCst) == ctx.platform().current().0;
    (next != NEVER && is_mine()).then_some(next)
}

/// The calling thread has left the process: accounts its CPU time, and lets another thread be interrupted for the timers.
pub(crate) fn hand_over_timers(ctx: &Ctx<'_>) {
    ctx.thread_cpu_ns();
    ctx.process.times.add_ended(&ctx.thread.times);
    let timers = &ctx.process.signals.timers;
    let me = ctx.platform().current();
    if timers.interrupted.load(Ordering::SeqCst) != me.0 {
        return;
    }
    ctx.platform().interrupt_at(me, None);
    let heir = ctx.process.threads().iter().find_map(|thread| thread.handle());
    timers.interrupted.store(heir.map_or(NOBODY, |heir| heir.0), Ordering::SeqCst);
    let next = timers.next_ns.load(Ordering::SeqCst);
    timers.asked_ns.store(if heir.is_some() { next } else { NEVER }, Ordering::SeqCst);
    if let Some(heir) = heir {
        ctx.platform().interrupt_at(heir, Some(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(next: u64, interval: u64) -> Timer {
        let mut timer = Timer::interval(TimerClock::Wall, Signal::SIGALRM);
        timer.setting = Setting { next: Some(next), interval };
        timer
    }

    #[test]
    fn a_timer_expires_once_unless_it_has_an_interval() {
        let mut once = timer(100, 0);
        assert!(once.expire(99).is_none());
        assert!(once.expire(100).is_some());
        assert!(once.expire(1000).is_none());
    }

    #[test]
    fn a_late_look_counts_what_was_missed_and_keeps_the_beat() {
        let mut periodic = timer(100, 10);
        assert!(periodic.expire(135).is_some());
        assert_eq!((periodic.deliver(), periodic.setting.next), (3, Some(140)));
        assert!(periodic.expire(140).is_some());
        assert!(periodic.expire(150).is_some());
        assert_eq!(periodic.overrun, 3, "the last that was delivered");
        assert_eq!((periodic.deliver(), periodic.setting.next), (1, Some(160)));
    }

    #[test]
    fn a_timer_beyond_the_end_of_time_is_disarmed() {
        let mut far = timer(u64::MAX - 1, u64::MAX);
        assert!(far.expire(u64::MAX).is_some());
        assert_eq!(far.setting.next, None);
    }
}
