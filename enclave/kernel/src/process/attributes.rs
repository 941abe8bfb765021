//! Settings of a process that have little or no effect but are remembered, since programs read them back.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Settings of `prctl(2)` and `personality(2)`.
pub(crate) struct Attributes {
    /// PR_SET_DUMPABLE.
    pub(crate) dumpable: AtomicU32,
    /// PR_SET_PDEATHSIG, or 0.
    pub(crate) parent_death_signal: AtomicU32,
    /// PR_SET_CHILD_SUBREAPER.
    pub(crate) is_subreaper: AtomicU32,
    /// PR_SET_KEEPCAPS.
    pub(crate) keeps_capabilities: AtomicU32,
    /// PR_SET_NO_NEW_PRIVS.
    pub(crate) no_new_privileges: AtomicU32,
    /// PR_SET_THP_DISABLE.
    pub(crate) no_huge_pages: AtomicU32,
    /// PR_SET_TIMERSLACK, nanoseconds.
    pub(crate) timer_slack: AtomicU64,
    /// PR_SET_SECUREBITS.
    pub(crate) secure_bits: AtomicU32,
    /// `personality(2)`.
    pub(crate) personality: AtomicU32,
    /// The commands of `membarrier(2)` that the process registered for.
    pub(crate) membarriers: AtomicU32,
}

impl Attributes {
    /// Of a program that is started from outside.
    pub(crate) const fn new() -> Self {
        Self {
            dumpable: AtomicU32::new(1),
            parent_death_signal: AtomicU32::new(0),
            is_subreaper: AtomicU32::new(0),
            keeps_capabilities: AtomicU32::new(0),
            no_new_privileges: AtomicU32::new(0),
            no_huge_pages: AtomicU32::new(0),
            timer_slack: AtomicU64::new(50_000),
            secure_bits: AtomicU32::new(0),
            personality: AtomicU32::new(0),
            membarriers: AtomicU32::new(0),
        }
    }

    /// The process got other users, groups or capabilities: what it could be spied out by, and what its parent's end
    /// sends, is gone.
    pub(crate) fn reset_for_credentials(&self) {
        self.dumpable.store(0, Ordering::Relaxed);
        self.parent_death_signal.store(0, Ordering::Relaxed);
    }

    /// Of a forked child: all but what concerns the relation to parent and children.
    pub(crate) fn fork(&self) -> Self {
        let copy = |from: &AtomicU32| AtomicU32::new(from.load(Ordering::Relaxed));
        Self {
            dumpable: copy(&self.dumpable),
            parent_death_signal: AtomicU32::new(0),
            is_subreaper: AtomicU32::new(0),
            keeps_capabilities: copy(&self.keeps_capabilities),
            no_new_privileges: copy(&self.no_new_privileges),
            no_huge_pages: copy(&self.no_huge_pages),
            timer_slack: AtomicU64::new(self.timer_slack.load(Ordering::Relaxed)),
            secure_bits: copy(&self.secure_bits),
            personality: copy(&self.personality),
            membarriers: copy(&self.membarriers),
        }
    }
}
