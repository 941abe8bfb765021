//! Waiting: everything that blocks in the kernel blocks here.
//!
//! Before a thread leaves the enclave to sleep it looks for a while whether it is woken, where another thread is at work that
//! could do that: waking who looks costs nothing, waking a processor that idles costs tens of microseconds. The time is
//! bounded, and a thread for which it does not pay looks ever more rarely.

use super::{ThreadWaker, WORK_EXIT, WORK_YIELD};
use crate::stats::count;
use crate::vm::AddressSpace;
use crate::{Ctx, Kernel, Thread, signal};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::event::{Rest, Unpark, WaiterQueue};
use kbase::turns::{SLICE_NS, Stay};
use kbase::{Errno, Error, Result};
use platform::Park;

/// How long a thread looks at most, in nanoseconds.
const SPIN_NS: u64 = 40_000;
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;
/// Most looks, whatever the clock says.
const MOST_LOOKS: u32 = 8192;
/// A thread for which looking has not paid lately does it once in at most this many sleeps.
const RAREST: u32 = 64;

/// Threads that are at work: neither asleep nor looking whether they are woken.
#[derive(Default)]
pub(crate) struct Workers(AtomicU32);

impl Workers {
    pub(super) fn come(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn go(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether anybody is.
    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Unpark for ThreadWaker {
    fn unpark(&self) {
        // It counts as working from now on, not from when the host gets to run it: who waits for it may look that long.
        self.workers.come();
        if let Some(handle) = self.handle() {
            self.platform.unpark(handle);
        }
    }
}

/// Whether looking pays for one thread.
pub(super) struct SpinHabit {
    /// It looks once in this many sleeps.
    period: AtomicU32,
    /// Sleeps until it looks again.
    left: AtomicU32,
}

impl SpinHabit {
    pub(super) const fn new() -> Self {
        Self { period: AtomicU32::new(1), left: AtomicU32::new(0) }
    }

    /// Whether to look this time. Only the thread itself asks.
    fn is_due(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    fn note(&self, paid: bool) {
        let period = if paid { 1 } else { (self.period.load(Ordering::Relaxed) * 2).min(RAREST) };
        self.period.store(period, Ordering::Relaxed);
        self.left.store(period - 1, Ordering::Relaxed);
    }
}

impl Kernel {
    /// Sleeps in `block` until the thread, which is the calling one, is woken or `block` ends by itself; `None`: it was woken
    /// before it slept. A wake that came since the last rest counts.
    pub(crate) fn rest<T>(&self, thread: &Thread, block: impl FnOnce() -> T) -> Option<T> {
        let platform = &**self.platform();
        let habit = &thread.spin;
        let workers = &self.processes.workers;
        workers.go();
        let spins = platform.host_facts().cpus > 1 && workers.is_any() && habit.is_due();
        let until = if spins { platform.monotonic_ns().saturating_add(SPIN_NS) } else { 0 };
        let mut looks = 0u32;
        let spin = || {
            looks += 1;
            let is_time = looks.is_multiple_of(LOOKS);
            spins && looks < MOST_LOOKS && (!is_time || (workers.is_any() && platform.monotonic_ns() < until))
        };
        let rest = thread.waiter.rest(spin, || thread.times.sleep(platform, block));
        if spins {
            count(&self.statistics.spins);
            habit.note(matches!(rest, Rest::NotSlept));
        }
        match rest {
            Rest::NotSlept => {
                workers.come();
                None
            }
            // Whoever woke it has counted it.
            Rest::Woken(value) => {
                count(&self.statistics.sleeps);
                Some(value)
            }
            Rest::Ended(value) => {
                count(&self.statistics.sleeps);
                workers.come();
                Some(value)
            }
        }
    }

    /// Sleeps until woken or a time of CLOCK_MONOTONIC in nanoseconds.
    pub(crate) fn park(&self, thread: &Thread, deadline_ns: Option<u64>) -> Park {
        let block = || self.host_sockets.block(&**self.platform(), deadline_ns);
        self.rest(thread, block).unwrap_or(Park::Woken)
    }

    /// Gets a thread inside a space: waits until its pages are in place.
    pub(crate) fn enter(&self, space: &Arc<AddressSpace>, thread: &Thread) {
        space.enter(thread.waker(), |stay| {
            // Who is not the next is woken when it is.
            let deadline = stay.map(|Stay { resident, until_ns }| {
                let now = self.platform().monotonic_ns();
                if now < until_ns {
                    return until_ns;
                }
                if resident != space.id() {
                    self.ask_to_leave(resident, thread);
                }
                now.saturating_add(SLICE_NS)
            });
            self.park(thread, deadline);
        });
    }

    /// Asks the threads of a space to make room, on behalf of `asker`. Its process may have that space, too, until its `execve` is
    /// done: to ask itself would end its sleep before it begins.
    ///
    /// Who has been asked and has not got round to it yet is not asked again: a thread that is interrupted faster than it can answer
    /// does nothing else any more.
    fn ask_to_leave(&self, resident: u64, asker: &Thread) {
        for process in self.processes.all() {
            if process.world().0.id() == resident {
                let threads = process.threads();
                let others = threads.iter().filter(|thread| !core::ptr::eq(&***thread, asker));
                others
                    .filter(|thread| !thread.has_work(WORK_YIELD))
                    .for_each(|thread| thread.request(WORK_YIELD));
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

    /// Sleeps in `block`, outside, as [`Kernel::rest`].
    pub(crate) fn rest<T>(&self, block: impl FnOnce() -> T) -> Option<T> {
        self.outside(|| self.kernel.rest(self.thread, block))
    }

    /// Sleeps until woken, which may happen for nothing, or a time of CLOCK_MONOTONIC in nanoseconds, whatever signals come.
    pub(crate) fn sleep(&self, deadline_ns: Option<u64>) -> Park {
        self.outside(|| self.kernel.park(self.thread, deadline_ns))
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
        let park = self.sleep(crate::time::park_deadline(self, deadline_ns));
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
        queue: &WaiterQueue,
        deadline_ns: Option<u64>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        if let Some(value) = ready() {
            return Ok(value);
        }
        let waker = self.thread.waker();
        let result = loop {
            queue.enqueue(waker);
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
        let was_chosen = !queue.dequeue(waker);
        if was_chosen && result.is_err() {
            queue.wake_one();
        }
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
