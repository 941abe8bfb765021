//! Counters for `--stats`.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

/// Numbers of system calls that are counted one by one.
const NUMBERS: usize = crate::syscall::NUMBERS;

/// What happened since the kernel started. Counting is relaxed: the numbers are for people.
pub(crate) struct Statistics {
    calls: [AtomicU64; NUMBERS],
    /// System calls that came as an exception because their site is not rewritten.
    pub(crate) trapped_syscalls: AtomicU64,
    /// `cpuid` instructions that came as an exception.
    pub(crate) trapped_cpuids: AtomicU64,
    /// `cpuid` instructions that were rewritten.
    pub(crate) rewritten_cpuids: AtomicU64,
    /// Sites that were rewritten.
    pub(crate) rewritten_sites: AtomicU64,
    /// Page faults of user code that were resolved.
    pub(crate) page_faults: AtomicU64,
    /// Pages committed to them.
    pub(crate) committed_pages: AtomicU64,
    /// Sleeps in the host.
    pub(crate) sleeps: AtomicU64,
    /// Times that a thread looked for a wake before it slept, or instead.
    pub(crate) spins: AtomicU64,
    /// Interrupts.
    pub(crate) interrupts: AtomicU64,
    /// Signals delivered to handlers.
    pub(crate) signals: AtomicU64,
}

impl Statistics {
    pub(crate) const fn new() -> Self {
        Self {
            calls: [const { AtomicU64::new(0) }; NUMBERS],
            trapped_syscalls: AtomicU64::new(0),
            trapped_cpuids: AtomicU64::new(0),
            rewritten_cpuids: AtomicU64::new(0),
            rewritten_sites: AtomicU64::new(0),
            page_faults: AtomicU64::new(0),
            committed_pages: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            spins: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            signals: AtomicU64::new(0),
        }
    }

    /// Counts a system call. A load and a store, not a locked instruction: a lost count is cheaper than a bus lock.
    pub(crate) fn count_call(&self, number: u64) {
        let counter = usize::try_from(number).ok().and_then(|number| self.calls.get(number));
        if let Some(counter) = counter {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Whether call `number` was made exactly once so far.
    pub(crate) fn is_first_call(&self, number: u64) -> bool {
        let counter = usize::try_from(number).ok().and_then(|number| self.calls.get(number));
        counter.is_none_or(|counter| counter.load(Ordering::Relaxed) == 1)
    }

    /// Writes the report: one `name value` line per counter that is not zero.
    pub(crate) fn report(&self, into: &mut dyn Write) -> core::fmt::Result {
        let named = [
            ("page_faults", &self.page_faults),
            ("committed_pages", &self.committed_pages),
            ("rewritten_sites", &self.rewritten_sites),
            ("trapped_syscalls", &self.trapped_syscalls),
            ("rewritten_cpuids", &self.rewritten_cpuids),
            ("trapped_cpuids", &self.trapped_cpuids),
            ("sleeps", &self.sleeps),
            ("spins", &self.spins),
            ("interrupts", &self.interrupts),
            ("signals", &self.signals),
        ];
        for (name, counter) in named {
            let value = counter.load(Ordering::Relaxed);
            if value != 0 {
                writeln!(into, "{name} {value}")?;
            }
        }
        for (number, counter) in (0u64..).zip(&self.calls) {
            let value = counter.load(Ordering::Relaxed);
            if value != 0 {
                writeln!(into, "syscall.{} {value}", crate::syscall::name(number).unwrap_or("unknown"))?;
            }
        }
        Ok(())
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
