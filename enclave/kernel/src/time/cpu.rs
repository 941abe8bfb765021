//! CPU time. The host says how much its threads used, so it is for people, not for decisions.
//!
//! A thread can ask only about itself, so each stores what it knows of itself when it asks, is interrupted or ends; others see
//! that. User and system time are not told apart: all of it is user time.

use crate::thread::WORK_BARRIER;
use crate::{Ctx, Process};
use core::sync::atomic::{AtomicU64, Ordering};

/// CPU time of a thread.
pub(crate) struct ThreadTimes {
    /// What its host thread had used when it started.
    base: AtomicU64,
    /// What it had used when it last looked.
    used: AtomicU64,
}

impl ThreadTimes {
    pub(crate) const fn new() -> Self {
        Self { base: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// The thread starts on a host thread that has used so much.
    pub(crate) fn start(&self, host_ns: u64) {
        self.base.store(host_ns, Ordering::Relaxed);
    }

    /// The host thread has used so much now.
    fn update(&self, host_ns: u64) -> u64 {
        let used = host_ns.saturating_sub(self.base.load(Ordering::Relaxed));
        self.used.fetch_max(used, Ordering::Relaxed).max(used)
    }

    /// What it had used when it last looked, in nanoseconds.
    pub(crate) fn used_ns(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// CPU time of a process.
pub(crate) struct ProcessTimes {
    /// What threads used that have ended.
    ended: AtomicU64,
    /// What children used that were waited for, and theirs.
    children: AtomicU64,
}

impl ProcessTimes {
    pub(crate) const fn new() -> Self {
        Self { ended: AtomicU64::new(0), children: AtomicU64::new(0) }
    }

    /// What children used that were waited for, in nanoseconds.
    pub(crate) fn children_ns(&self) -> u64 {
        self.children.load(Ordering::Relaxed)
    }

    /// Adds a child that was waited for.
    pub(crate) fn add_child(&self, child: &Process) {
        let used = child.cpu_ns().saturating_add(child.times.children_ns());
        self.children.fetch_add(used, Ordering::Relaxed);
    }

    /// Adds a thread that ends.
    pub(super) fn add_ended(&self, used_ns: u64) {
        self.ended.fetch_add(used_ns, Ordering::Relaxed);
    }
}

impl Process {
    /// Makes its threads, but for one, note how much CPU time they have used.
    pub(crate) fn ask_for_cpu_times(&self, except: u32) {
        for thread in self.threads() {
            // One that sleeps has noted it before.
            if thread.tid() != except && thread.handle().is_some() && !thread.has_work(WORK_BARRIER) {
                thread.request(WORK_BARRIER);
            }
        }
    }

    /// CPU time of its threads, as far as they know, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let running: u64 = self.state.lock().threads.iter().map(|thread| thread.times.used_ns()).sum();
        running.saturating_add(self.times.ended.load(Ordering::Relaxed))
    }
}

impl Ctx<'_> {
    /// CPU time of the calling thread, in nanoseconds.
    pub(crate) fn thread_cpu_ns(&self) -> u64 {
        self.thread.times.update(self.platform().thread_cpu_ns())
    }

    /// CPU time of the calling process, in nanoseconds.
    pub(crate) fn process_cpu_ns(&self) -> u64 {
        self.thread_cpu_ns();
        self.process.cpu_ns()
    }
}
