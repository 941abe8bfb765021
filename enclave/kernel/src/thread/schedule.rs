//! What a thread asks of the scheduler. The host schedules, and is not told: the settings are remembered and reported.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Words of a [`CpuSet`].
const WORDS: usize = 16;

/// A set of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// Bytes of it.
    pub(crate) const LEN: usize = WORDS * 8;

    /// The processors below a number.
    pub(crate) fn first(cpus: u32) -> Self {
        let mut words = [0u64; WORDS];
        for (word, start) in words.iter_mut().zip((0u32..).step_by(64)) {
            *word = match cpus.saturating_sub(start) {
                0 => 0,
                64.. => u64::MAX,
                some => (1 << some) - 1,
            };
        }
        Self(words)
    }

    /// The set that bytes from a program stand for; processors beyond the largest set are left out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = [0u64; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            for (to, &from) in whole.iter_mut().zip(chunk) {
                *to = from;
            }
            *word = u64::from_le_bytes(whole);
        }
        Self(words)
    }

    /// The first `len` bytes, a multiple of eight.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    /// What both have.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

/// Scheduler settings of a thread.
pub(crate) struct Schedule {
    nice: AtomicI32,
    policy: AtomicU32,
    priority: AtomicI32,
    /// The processors that it asked for; all zero: it did not ask.
    affinity: [AtomicU64; WORDS],
}

impl Schedule {
    pub(crate) const fn new() -> Self {
        Self {
            nice: AtomicI32::new(0),
            policy: AtomicU32::new(0),
            priority: AtomicI32::new(0),
            affinity: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// The settings that a new thread or process has from this one.
    pub(crate) fn inherit(&self) -> Self {
        let copy = Self::new();
        copy.set_nice(self.nice());
        let (policy, priority) = self.policy();
        copy.set_policy(policy, priority);
        for (to, from) in copy.affinity.iter().zip(&self.affinity) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        copy
    }

    /// -20 to 19.
    pub(crate) fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nice(&self, nice: i32) {
        self.nice.store(nice.clamp(-20, 19), Ordering::Relaxed);
    }

    /// SCHED_* and the real-time priority.
    pub(crate) fn policy(&self) -> (u32, i32) {
        (self.policy.load(Ordering::Relaxed), self.priority.load(Ordering::Relaxed))
    }

    pub(crate) fn set_policy(&self, policy: u32, priority: i32) {
        self.policy.store(policy, Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// The processors that it may run on, of `online`.
    pub(crate) fn affinity(&self, online: &CpuSet) -> CpuSet {
        let mut words = [0; WORDS];
        for (to, from) in words.iter_mut().zip(&self.affinity) {
            *to = from.load(Ordering::Relaxed);
        }
        let asked = CpuSet(words).and(online);
        if asked.is_empty() { *online } else { asked }
    }

    pub(crate) fn set_affinity(&self, set: &CpuSet) {
        for (to, from) in self.affinity.iter().zip(set.0) {
            to.store(from, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_the_first_processors_has_as_many() {
        for cpus in [1, 63, 64, 65, 200] {
            let count: u32 = CpuSet::first(cpus).0.iter().map(|word| word.count_ones()).sum();
            assert_eq!(count, cpus);
        }
        assert_eq!(CpuSet::first(3).bytes().next(), Some(7));
    }

    #[test]
    fn bytes_become_the_set_that_they_came_from() {
        let set = CpuSet::first(77);
        assert_eq!(CpuSet::from_bytes(&set.bytes().collect::<Vec<_>>()), set);
        assert_eq!(CpuSet::from_bytes(&[5]).0[0], 5);
        assert_eq!(CpuSet::from_bytes(&[0xff; 1000]).0, [u64::MAX; WORDS]);
    }

    #[test]
    fn a_thread_runs_everywhere_until_it_asks_for_less() {
        let schedule = Schedule::new();
        let online = CpuSet::first(4);
        assert_eq!(schedule.affinity(&online), online);
        schedule.set_affinity(&CpuSet::first(2));
        assert_eq!(schedule.affinity(&online), CpuSet::first(2));
        assert_eq!(schedule.inherit().affinity(&online), CpuSet::first(2));
    }
}
