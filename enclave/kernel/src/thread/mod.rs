//! Threads.
//!
//! A thread runs on one host thread for all its life: [`crate::Kernel::run_thread`] is its body. What others may
//! want of it (a signal is pending, the process ends) they store first and then set a bit of [`Thread::work`], which
//! the thread looks at on its way back to user code and whenever it wakes.

mod barrier;
mod run;
mod trap;
mod wait;

pub(crate) use barrier::serialise;
pub(crate) use trap::ExceptionRecord;
pub(crate) use wait::Workers;

use crate::Process;
use crate::sched::SchedAgent;
use crate::signal::ThreadSignals;
use crate::time::ThreadTimes;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kbase::event::{Waiter, Waker};
use kbase::sync::Mutex;
use platform::{Platform, ThreadHandle, UserRegisters};

/// A signal may be deliverable.
pub(crate) const WORK_SIGNAL: u32 = 1;
/// The thread ends.
pub(crate) const WORK_EXIT: u32 = 2;
/// The thread got another address space or other tables.
pub(crate) const WORK_WORLD: u32 = 4;

/// Another process waits for the same addresses.
pub(crate) const WORK_YIELD: u32 = 8;

/// Somebody waits until the thread has been in the kernel, or wants to know how much CPU time it has used.
pub(crate) const WORK_BARRIER: u32 = 16;

/// No host thread runs it.
const NO_HANDLE: u32 = u32::MAX;

/// A thread of a program.
pub struct Thread {
    /// Its number, which only `execve(2)` changes, to that of the process.
    tid: AtomicU32,
    /// Its process.
    process: Weak<Process>,
    /// Things to do before user code runs again.
    work: AtomicU32,
    host: Arc<ThreadWaker>,
    waiter: Waiter,
    spin: wait::SpinHabit,
    is_running: AtomicBool,
    /// The registers and the extended state to start with; no state: that of a new program.
    start: Mutex<(UserRegisters, Option<Vec<u8>>)>,
    pub(crate) signals: ThreadSignals,
    /// Name of up to 15 bytes (`PR_SET_NAME`).
    pub(crate) name: Mutex<[u8; 16]>,
    /// Address of a word to clear and wake when it ends (`set_tid_address(2)`), or 0.
    pub(crate) clear_child_tid: AtomicU64,
    /// Address of the list of robust futexes, or 0.
    pub(crate) robust_list: AtomicU64,
    /// It ends, and has handed over the locks that others wait for.
    pub(crate) gave_up_locks: AtomicBool,
    pub(crate) times: ThreadTimes,
    pub(crate) sched: SchedAgent,
}

/// What a new thread begins with.
pub(crate) struct NewThread {
    pub(crate) registers: UserRegisters,
    /// The extended state, or `None`: that of a new program.
    pub(crate) xstate: Option<Vec<u8>>,
    pub(crate) name: [u8; 16],
    pub(crate) signals: ThreadSignals,
    pub(crate) sched: SchedAgent,
    pub(crate) clear_child_tid: u64,
}

impl NewThread {
    /// The first thread of a program that is started from outside.
    pub(crate) const fn of_program(registers: UserRegisters, name: [u8; 16]) -> Self {
        Self {
            registers,
            xstate: None,
            name,
            signals: ThreadSignals::new(),
            sched: SchedAgent::new(),
            clear_child_tid: 0,
        }
    }
}

/// The host thread that runs a thread.
struct ThreadWaker {
    platform: Arc<dyn Platform>,
    handle: AtomicU32,
    workers: Arc<Workers>,
}

impl ThreadWaker {
    fn handle(&self) -> Option<ThreadHandle> {
        let handle = self.handle.load(Ordering::SeqCst);
        (handle != NO_HANDLE).then_some(ThreadHandle(handle))
    }
}

impl Thread {
    /// A thread that has not run.
    pub(crate) fn new(
        tid: u32,
        process: &Weak<Process>,
        platform: Arc<dyn Platform>,
        workers: Arc<Workers>,
        new: NewThread,
    ) -> Arc<Self> {
        let host = Arc::new(ThreadWaker { platform, handle: AtomicU32::new(NO_HANDLE), workers });
        Arc::new(Self {
            tid: AtomicU32::new(tid),
            process: process.clone(),
            work: AtomicU32::new(0),
            waiter: Waiter::new(host.clone()),
            host,
            spin: wait::SpinHabit::new(),
            is_running: AtomicBool::new(false),
            start: Mutex::new((new.registers, new.xstate)),
            signals: new.signals,
            name: Mutex::new(new.name),
            clear_child_tid: AtomicU64::new(new.clear_child_tid),
            robust_list: AtomicU64::new(0),
            gave_up_locks: AtomicBool::new(false),
            times: ThreadTimes::new(),
            sched: new.sched,
        })
    }

    /// Its number.
    pub(crate) fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Gives it the number of its process, of which it is the last thread.
    pub(crate) fn become_first(&self, pid: u32) {
        self.tid.store(pid, Ordering::Relaxed);
    }

    /// Its process, unless that has ended.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.process.upgrade()
    }

    /// What wakes it.
    pub(crate) const fn waker(&self) -> &Waker {
        self.waiter.waker()
    }

    /// The host thread that runs it.
    pub(crate) fn handle(&self) -> Option<ThreadHandle> {
        self.host.handle()
    }

    /// Whether one of these bits is set.
    pub(crate) fn has_work(&self, bits: u32) -> bool {
        self.work.load(Ordering::SeqCst) & bits != 0
    }

    /// Sets a bit without making anybody look: for the thread itself.
    pub(crate) fn add_work(&self, bits: u32) {
        self.work.fetch_or(bits, Ordering::SeqCst);
    }

    /// Clears bits.
    pub(crate) fn clear_work(&self, bits: u32) {
        self.work.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Sets a bit and makes the thread look at it soon, wherever it is.
    pub(crate) fn request(&self, bits: u32) {
        self.add_work(bits);
        if self.waker().wake() {
            // It was asleep.
            return;
        }
        if let Some(handle) = self.handle()
            && handle != self.host.platform.current()
        {
            self.host.platform.interrupt(handle);
        }
    }

    /// Ties it to the calling host thread.
    pub(crate) fn attach(&self) {
        self.host.handle.store(self.host.platform.current().0, Ordering::SeqCst);
        self.host.workers.come();
        self.times.start(self.host.platform.thread_cpu_ns());
        self.sched.attach(&*self.host.platform, self.host.platform.current());
    }

    /// Unties it from its host thread, which goes on to something else.
    pub(crate) fn detach(&self) {
        self.host.workers.go();
        self.host.handle.store(NO_HANDLE, Ordering::SeqCst);
    }

    /// The registers that it starts with.
    #[cfg(test)]
    pub(crate) fn start_registers(&self) -> UserRegisters {
        self.start.lock().0
    }

    /// `execve`: what belonged to the old program is gone.
    pub(crate) fn reset_for_exec(&self) {
        self.clear_child_tid.store(0, Ordering::Relaxed);
        self.robust_list.store(0, Ordering::Relaxed);
        self.signals.reset_for_exec();
    }
}
