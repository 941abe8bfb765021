//! Waiting: everything that blocks in the kernel blocks here.

use crate::thread::{WORK_EXIT, WORK_YIELD};
use crate::vm::{AddressSpace, Entry, SLICE_NS};
use crate::{Ctx, Kernel, Thread, signal};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result, WaitQueue};
use platform::Park;

impl Kernel {
    /// Gets a thread inside a space: waits until its pages are in place.
    pub(crate) fn enter(&self, space: &Arc<AddressSpace>, thread: &Thread) {
        if matches!(space.try_enter(), Entry::Inside) {
            return;
        }
        let waker = thread.waker();
        space.with_left_queue(|queue| queue.inspect(|queue| queue.add(&waker)).is_some());
        while let Entry::Taken(resident) = space.try_enter() {
            let until = self.platform().monotonic_ns().saturating_add(SLICE_NS);
            if self.platform().park(Some(until)) == Park::TimedOut {
                self.ask_to_leave(resident);
            }
        }
        space.with_left_queue(|queue| queue.inspect(|queue| queue.remove(&waker)).is_some());
    }

    /// Asks the threads of a space to make room.
    fn ask_to_leave(&self, resident: u64) {
        for process in self.processes.all() {
            if process.world().0.id == resident {
                for thread in process.threads() {
                    thread.request(WORK_YIELD);
                }
            }
        }
    }
}

impl Ctx<'_> {
    /// Does something that may sleep and does not touch user memory, while others may have the addresses.
    pub(crate) fn outside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.space.leave();
        let value = act();
        self.kernel.enter(self.space, self.thread);
        value
    }

    /// Whether the thread must stop waiting: a signal is deliverable, or the process ends.
    pub(crate) fn is_interrupted(&self) -> bool {
        if self.thread.has_work(WORK_EXIT) {
            return true;
        }
        signal::is_deliverable(self)
    }

    /// Sleeps until the thread is woken, which may happen for nothing, or a time of CLOCK_MONOTONIC in nanoseconds.
    ///
    /// # Errors
    /// ERESTARTSYS a signal is to be delivered first.
    pub(crate) fn park(&self, deadline_ns: Option<u64>) -> Result<Park> {
        if self.is_interrupted() {
            return Err(Error::new(Errno::ERESTARTSYS, "a signal came"));
        }
        let deadline_ns = crate::time::park_deadline(self, deadline_ns);
        let park = self.outside(|| self.platform().park(deadline_ns));
        if self.is_interrupted() {
            return Err(Error::new(Errno::ERESTARTSYS, "a signal came"));
        }
        Ok(park)
    }

    /// Waits until `ready` gives a value. Whoever changes what `ready` looks at wakes `queue` afterwards.
    ///
    /// # Errors
    /// ETIMEDOUT the deadline (CLOCK_MONOTONIC, ns) passed; ERESTARTSYS a signal came.
    pub(crate) fn wait_until<T>(
        &self,
        queue: &WaitQueue,
        deadline_ns: Option<u64>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        if let Some(value) = ready() {
            return Ok(value);
        }
        let waker = self.thread.waker();
        queue.add(&waker);
        let result = loop {
            if let Some(value) = ready() {
                break Ok(value);
            }
            if deadline_ns.is_some_and(|deadline| self.platform().monotonic_ns() >= deadline) {
                break Err(Error::new(Errno::ETIMEDOUT, "the time is over"));
            }
            if let Err(error) = self.park(deadline_ns) {
                // What the signal announces (SIGCHLD) goes before the signal.
                break ready().ok_or(error);
            }
        };
        queue.remove(&waker);
        result
    }

    /// Sleeps until a time of CLOCK_MONOTONIC in nanoseconds; `None`: until a signal comes.
    ///
    /// # Errors
    /// ERESTARTSYS a signal came first.
    pub(crate) fn sleep_until(&self, deadline_ns: Option<u64>) -> Result<()> {
        while deadline_ns.is_none_or(|deadline| self.platform().monotonic_ns() < deadline) {
            self.park(deadline_ns)?;
        }
        Ok(())
    }
}
