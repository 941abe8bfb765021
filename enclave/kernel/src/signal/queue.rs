//! Pending signals, with what is said about each.

use crate::Process;
use crate::process::{Account, SignalSlot};
use crate::time::TimerSetting;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use linux_abi::process::resource;
use linux_abi::signal::{SigInfo, Signal, SignalSet, si};

/// How many signals may be pending, of all processes of a user (RLIMIT_SIGPENDING).
pub(super) struct Quota {
    account: Arc<Account>,
    limit: u64,
}

impl Quota {
    /// That of who gets the signal.
    pub(super) fn of(process: &Process) -> Self {
        Self { account: process.credentials.account(), limit: process.limit(resource::SIGPENDING) }
    }

    /// That of a user without signals.
    #[cfg(test)]
    pub(super) fn for_tests(limit: u64) -> Self {
        Self { account: Arc::default(), limit }
    }
}

/// The pending signals of a process or a thread.
///
/// Invariant: every entry's signal is in `set`. A classic signal has at most one entry beside those of timers; it has none if
/// there was no room for it, and is then delivered without details. A real-time signal has one entry per instance, and a timer
/// one at most.
#[derive(Default)]
pub(super) struct Queue {
    set: SignalSet,
    entries: Vec<Entry>,
}

/// What is said about a signal.
struct Entry {
    info: SigInfo,
    /// The timer that sent it.
    timer: Option<TimerSetting>,
    /// Counts it; a timer is counted as long as it is there.
    _slot: Option<SignalSlot>,
}

impl Entry {
    fn signal(&self) -> Option<Signal> {
        u64::try_from(self.info.signo).ok().and_then(Signal::new)
    }

    fn is_of(&self, signal: Signal) -> bool {
        self.info.signo == i32::from(signal.number())
    }
}

/// A signal that was taken.
pub(super) struct Taken {
    pub(super) signal: Signal,
    pub(super) info: SigInfo,
    /// The timer that sent it, and which may say that it no longer counts.
    pub(super) timer: Option<TimerSetting>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { set: SignalSet::EMPTY, entries: Vec::new() }
    }

    /// The signals that are in it.
    pub(super) const fn set(&self) -> SignalSet {
        self.set
    }

    /// Adds an instance. A classic signal that is there already stays as it is.
    ///
    /// # Errors
    /// EAGAIN a real-time signal with a value, and the quota is used up or the kernel heap is full.
    pub(super) fn push(&mut self, signal: Signal, info: SigInfo, quota: &Quota) -> Result<()> {
        if !signal.is_realtime() && self.set.has(signal) {
            return Ok(());
        }
        // What `kill(2)` and the kernel say of a classic signal is kept though it is too much.
        let is_free = !signal.is_realtime() && info.code >= si::USER;
        let slot = quota.account.take_slot(if is_free { u64::MAX } else { quota.limit });
        if slot.is_some() && self.entries.try_reserve(1).is_ok() {
            self.entries.push(Entry { info, timer: None, _slot: slot });
        } else if signal.is_realtime() && info.code != si::USER {
            return Err(Error::new(Errno::EAGAIN, "too many signals are queued"));
        }
        self.set = self.set.with(signal);
        Ok(())
    }

    /// Adds the signal of a timer, which is there at most once: its overruns are counted, not queued.
    pub(super) fn push_timer(&mut self, signal: Signal, info: SigInfo, timer: TimerSetting) {
        let same = |entry: &&mut Entry| entry.timer.is_some_and(|other| other.id == timer.id);
        if let Some(entry) = self.entries.iter_mut().find(same) {
            // What it was set to before no longer counts.
            entry.timer = Some(timer);
        } else if self.entries.try_reserve(1).is_ok() {
            self.entries.push(Entry { info, timer: Some(timer), _slot: None });
            self.set = self.set.with(signal);
        }
    }

    /// Takes the next instance of one of `wanted`: SIGKILL, then what an instruction caused, then the lowest number;
    /// instances of one signal in the order in which they came.
    pub(super) fn take(&mut self, wanted: SignalSet) -> Option<Taken> {
        let candidates = self.set.and(wanted);
        let signal = if candidates.has(Signal::SIGKILL) {
            Signal::SIGKILL
        } else {
            candidates.and(SignalSet::SYNCHRONOUS).first().or(candidates.first())?
        };
        let index = self.entries.iter().position(|entry| entry.is_of(signal));
        Some(self.take_at(index, signal))
    }

    /// Takes what an instruction of this thread caused, where a signal of that kind is pending and `unblocked`: what came
    /// first, whatever its number, so that its frame shows the instruction. Others may send the same signals, but only the
    /// kernel (and a thread that sends details to itself) gives them a positive code.
    ///
    /// Linux does not ask whether the one that it finds is blocked (`dequeue_synchronous_signal`). A fault never is: it
    /// unblocks its signal. So this shows only with details that the program made.
    pub(super) fn take_fault(&mut self, unblocked: SignalSet) -> Option<Taken> {
        if self.set.and(unblocked).and(SignalSet::SYNCHRONOUS).is_empty() {
            return None;
        }
        let fault = |entry: &Entry| {
            let signal = entry.signal()?;
            (entry.info.code > si::USER && SignalSet::SYNCHRONOUS.has(signal)).then_some(signal)
        };
        let (index, signal) =
            self.entries.iter().enumerate().find_map(|(index, entry)| Some((index, fault(entry)?)))?;
        Some(self.take_at(Some(index), signal))
    }

    /// Takes an entry of `signal`, or its bit where it has none.
    fn take_at(&mut self, index: Option<usize>, signal: Signal) -> Taken {
        let (info, timer) = match index {
            Some(index) => {
                let entry = self.entries.remove(index);
                (entry.info, entry.timer)
            }
            None => (SigInfo::new(signal, si::USER), None),
        };
        if !self.entries.iter().any(|entry| entry.is_of(signal)) {
            self.set = self.set.minus(SignalSet::of(signal));
        }
        Taken { signal, info, timer }
    }

    /// Forgets all instances of `signals`.
    pub(super) fn discard(&mut self, signals: SignalSet) {
        if self.set.and(signals).is_empty() {
            return;
        }
        self.set = self.set.minus(signals);
        let set = self.set;
        self.entries.retain(|entry| entry.signal().is_some_and(|signal| set.has(signal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RT: Signal = Signal::new(40).unwrap();
    const ALL: SignalSet = SignalSet(!0);

    fn queued(signal: Signal, value: u64) -> SigInfo {
        let mut info = SigInfo::sent(signal, si::QUEUE, 1, 0);
        info.fields[1] = value;
        info
    }

    #[test]
    fn a_classic_signal_is_pending_once_with_its_first_details() {
        let mut queue = Queue::new();
        queue.push(Signal::SIGUSR1, queued(Signal::SIGUSR1, 1), &Quota::for_tests(9)).unwrap();
        queue.push(Signal::SIGUSR1, queued(Signal::SIGUSR1, 2), &Quota::for_tests(9)).unwrap();
        assert_eq!(queue.take(ALL).unwrap().info.fields[1], 1);
        assert!(queue.take(ALL).is_none());
    }

    #[test]
    fn real_time_signals_queue_in_order_and_the_lowest_number_goes_first() {
        let mut queue = Queue::new();
        let higher = Signal::new(41).unwrap();
        queue.push(higher, queued(higher, 0), &Quota::for_tests(9)).unwrap();
        queue.push(RT, queued(RT, 1), &Quota::for_tests(9)).unwrap();
        queue.push(RT, queued(RT, 2), &Quota::for_tests(9)).unwrap();
        let order: Vec<_> = core::iter::from_fn(|| queue.take(ALL))
            .map(|taken| (taken.signal.number(), taken.info.fields[1]))
            .collect();
        assert_eq!(order, [(40, 1), (40, 2), (41, 0)]);
    }

    #[test]
    fn faults_go_before_lower_numbers_and_kill_before_all() {
        let mut queue = Queue::new();
        for signal in [Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGKILL] {
            queue.push(signal, SigInfo::new(signal, si::KERNEL), &Quota::for_tests(9)).unwrap();
        }
        let order: Vec<_> = core::iter::from_fn(|| queue.take(ALL)).map(|taken| taken.signal).collect();
        assert_eq!(order, [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGHUP]);
    }

    #[test]
    fn a_fault_goes_before_what_others_sent_of_its_kind() {
        let mut queue = Queue::new();
        let quota = Quota::for_tests(9);
        queue.push(Signal::SIGILL, queued(Signal::SIGILL, 1), &quota).unwrap();
        queue.push(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, si::SEGV_MAPERR), &quota).unwrap();
        queue.push(Signal::SIGBUS, SigInfo::new(Signal::SIGBUS, si::KERNEL), &quota).unwrap();
        assert!(queue.take_fault(SignalSet::of(Signal::SIGUSR1)).is_none());
        let order: Vec<_> = core::iter::from_fn(|| queue.take_fault(ALL)).map(|taken| taken.signal).collect();
        assert_eq!(order, [Signal::SIGSEGV, Signal::SIGBUS]);
        assert_eq!(queue.take(ALL).unwrap().signal, Signal::SIGILL);
        assert!(queue.set().is_empty());
    }

    #[test]
    fn an_unblocked_signal_of_a_fault_lets_blocked_ones_through_that_say_they_are_of_the_kernel() {
        let mut queue = Queue::new();
        let quota = Quota::for_tests(9);
        queue.push(Signal::SIGFPE, queued(Signal::SIGFPE, 1), &quota).unwrap();
        queue.push(Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, si::KERNEL), &quota).unwrap();
        assert_eq!(queue.take_fault(SignalSet::of(Signal::SIGFPE)).unwrap().signal, Signal::SIGSEGV);
        assert_eq!(queue.set(), SignalSet::of(Signal::SIGFPE));
    }

    #[test]
    fn a_user_without_room_gets_no_values_but_the_bit_of_classic_signals() {
        let quota = Quota::for_tests(1);
        let (mut queue, mut other) = (Queue::new(), Queue::new());
        other.push(RT, queued(RT, 1), &quota).unwrap();
        assert_eq!(queue.push(RT, queued(RT, 2), &quota).unwrap_err().errno(), Errno::EAGAIN);
        queue.push(Signal::SIGUSR2, queued(Signal::SIGUSR2, 7), &quota).unwrap();
        let taken = queue.take(ALL).unwrap();
        assert_eq!((taken.signal, taken.info.fields[1]), (Signal::SIGUSR2, 0));
        drop(other);
        queue.push(RT, queued(RT, 3), &quota).unwrap();
        assert_eq!(quota.account.signals(), 1);
    }

    #[test]
    fn what_kill_sends_is_never_refused_and_a_classic_one_keeps_its_sender() {
        let quota = Quota::for_tests(0);
        let mut queue = Queue::new();
        queue.push(RT, SigInfo::sent(RT, si::USER, 5, 0), &quota).unwrap();
        queue.push(Signal::SIGUSR1, SigInfo::sent(Signal::SIGUSR1, si::USER, 5, 0), &quota).unwrap();
        assert_eq!(queue.take(ALL).unwrap().info.fields[0], 5);
        assert_eq!(queue.take(ALL).unwrap().info.fields[0], 0);
    }

    #[test]
    fn a_timer_has_one_entry_whatever_else_is_pending() {
        let mut queue = Queue::new();
        let timer = |id, number| TimerSetting { id, number };
        let info = SigInfo::new(Signal::SIGUSR1, si::TIMER);
        queue.push(Signal::SIGUSR1, queued(Signal::SIGUSR1, 1), &Quota::for_tests(9)).unwrap();
        queue.push_timer(Signal::SIGUSR1, info, timer(1, 1));
        queue.push_timer(Signal::SIGUSR1, info, timer(2, 2));
        queue.push_timer(Signal::SIGUSR1, info, timer(1, 3));
        let timers: Vec<_> = core::iter::from_fn(|| queue.take(ALL)).map(|taken| taken.timer).collect();
        assert_eq!(timers, [None, Some(timer(1, 3)), Some(timer(2, 2))]);
    }

    #[test]
    fn discarded_signals_are_gone_with_their_entries() {
        let mut queue = Queue::new();
        queue.push(RT, queued(RT, 1), &Quota::for_tests(9)).unwrap();
        queue.push(Signal::SIGTSTP, queued(Signal::SIGTSTP, 1), &Quota::for_tests(9)).unwrap();
        queue.discard(SignalSet::STOPS);
        assert_eq!(queue.set(), SignalSet::of(RT));
        assert_eq!(queue.entries.len(), 1);
    }
}
