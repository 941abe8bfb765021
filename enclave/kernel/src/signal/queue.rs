//! Pending signals, with what is said about each.

use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use linux_abi::signal::{SigInfo, Signal, SignalSet, si};

/// The pending signals of a process or a thread.
///
/// Invariant: every entry's signal is in `set`. A classic signal has at most one entry; it has none if there was no
/// room for it, and is then delivered without details. A real-time signal has one entry per instance.
#[derive(Default)]
pub(super) struct Queue {
    set: SignalSet,
    entries: Vec<SigInfo>,
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
    /// EAGAIN a real-time signal with a value, and `limit` entries (RLIMIT_SIGPENDING) are there or the kernel heap is
    /// full.
    pub(super) fn push(&mut self, signal: Signal, info: SigInfo, limit: u64) -> Result<()> {
        if !signal.is_realtime() && self.set.has(signal) {
            return Ok(());
        }
        // SIGKILL and what the kernel says itself are never refused for want of room.
        let has_room = (self.entries.len() as u64) < limit || info.code >= si::USER;
        if has_room && self.entries.try_reserve(1).is_ok() {
            self.entries.push(info);
        } else if signal.is_realtime() && info.code != si::USER {
            return Err(Error::new(Errno::EAGAIN, "too many signals are queued"));
        }
        self.set = self.set.with(signal);
        Ok(())
    }

    /// Takes the next instance of one of `wanted`: SIGKILL, then what an instruction caused, then the lowest number;
    /// instances of one signal in the order in which they came.
    pub(super) fn take(&mut self, wanted: SignalSet) -> Option<(Signal, SigInfo)> {
        let candidates = self.set.and(wanted);
        let signal = if candidates.has(Signal::SIGKILL) {
            Signal::SIGKILL
        } else {
            candidates.and(SignalSet::SYNCHRONOUS).first().or(candidates.first())?
        };
        let is_it = |entry: &SigInfo| entry.signo == i32::from(signal.number());
        let info = match self.entries.iter().position(is_it) {
            Some(index) => self.entries.remove(index),
            None => SigInfo::new(signal, si::USER),
        };
        if !self.entries.iter().any(is_it) {
            self.set = self.set.minus(SignalSet::of(signal));
        }
        Some((signal, info))
    }

    /// Forgets all instances of `signals`.
    pub(super) fn discard(&mut self, signals: SignalSet) {
        if self.set.and(signals).is_empty() {
            return;
        }
        self.set = self.set.minus(signals);
        let set = self.set;
        self.entries.retain(|entry| {
            u64::try_from(entry.signo).ok().and_then(Signal::new).is_some_and(|signal| set.has(signal))
        });
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
        queue.push(Signal::SIGUSR1, queued(Signal::SIGUSR1, 1), 9).unwrap();
        queue.push(Signal::SIGUSR1, queued(Signal::SIGUSR1, 2), 9).unwrap();
        assert_eq!(queue.take(ALL).unwrap().1.fields[1], 1);
        assert!(queue.take(ALL).is_none());
    }

    #[test]
    fn real_time_signals_queue_in_order_and_the_lowest_number_goes_first() {
        let mut queue = Queue::new();
        let higher = Signal::new(41).unwrap();
        queue.push(higher, queued(higher, 0), 9).unwrap();
        queue.push(RT, queued(RT, 1), 9).unwrap();
        queue.push(RT, queued(RT, 2), 9).unwrap();
        let order: Vec<_> = core::iter::from_fn(|| queue.take(ALL))
            .map(|(signal, info)| (signal.number(), info.fields[1]))
            .collect();
        assert_eq!(order, [(40, 1), (40, 2), (41, 0)]);
    }

    #[test]
    fn faults_go_before_lower_numbers_and_kill_before_all() {
        let mut queue = Queue::new();
        for signal in [Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGKILL] {
            queue.push(signal, SigInfo::new(signal, si::KERNEL), 9).unwrap();
        }
        let order: Vec<_> = core::iter::from_fn(|| queue.take(ALL)).map(|(signal, _)| signal).collect();
        assert_eq!(order, [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGHUP]);
    }

    #[test]
    fn a_full_queue_refuses_values_but_keeps_the_bit_of_classic_signals() {
        let mut queue = Queue::new();
        queue.push(RT, queued(RT, 1), 1).unwrap();
        assert_eq!(queue.push(RT, queued(RT, 2), 1).unwrap_err().errno(), Errno::EAGAIN);
        queue.push(Signal::SIGUSR2, queued(Signal::SIGUSR2, 7), 1).unwrap();
        let (signal, info) = queue.take(ALL).unwrap();
        assert_eq!((signal, info.fields[1]), (Signal::SIGUSR2, 0));
    }

    #[test]
    fn discarded_signals_are_gone_with_their_entries() {
        let mut queue = Queue::new();
        queue.push(RT, queued(RT, 1), 9).unwrap();
        queue.push(Signal::SIGTSTP, queued(Signal::SIGTSTP, 1), 9).unwrap();
        queue.discard(SignalSet::STOPS);
        assert_eq!(queue.set(), SignalSet::of(RT));
        assert_eq!(queue.entries.len(), 1);
    }
}
