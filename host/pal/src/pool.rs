//! Host threads for LibOS threads, kept for the next one when theirs ends.
//!
//! A worker holds its slot for as long as it lives, so starting a LibOS thread costs waking a parked worker and
//! neither makes a host thread nor looks for a TCS.
//!
//! The enclave may start a thread on the slot of one that has just ended, and whose worker has not come back yet. Then no slot is
//! free, and the thread waits for the next worker or slot that is.
//!
//! Lock order: `state` alone; it is not held while a worker is woken.

use crate::enclave::Shared;
use crate::error::PalError;
use crate::schedule;
use crate::threads::{current_tid, spawn_enclave_thread};
use edge_abi::ecall::LogLevel;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// Most workers that wait for work; more end when their LibOS thread does.
const MOST_IDLE: usize = 64;
/// "No work yet" in [`Worker::tid`].
const NONE: u64 = u64::MAX;

/// A parked host thread.
struct Worker {
    tid: AtomicU64,
    thread: Thread,
}

impl Worker {
    fn run(&self, tid: u64) {
        self.tid.store(tid, Ordering::Release);
        self.thread.unpark();
    }
}

/// The parked workers, or the threads that wait for one.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Arc<Worker>>,
    /// LibOS threads that found no slot free.
    due: VecDeque<u64>,
}

impl Pool {
    /// Runs LibOS thread `tid` on a parked worker, or on a new one.
    ///
    /// # Errors
    /// EAGAIN the host makes no more threads.
    pub(crate) fn start(&self, shared: &Arc<Shared>, tid: u64) -> io::Result<()> {
        let parked = self.state().idle.pop();
        if let Some(worker) = parked {
            worker.run(tid);
            return Ok(());
        }
        let shared = Arc::clone(shared);
        spawn_enclave_thread(&format!("occlum-{tid}"), move || {
            if let Err(reason) = work(&shared, tid) {
                (shared.log)(LogLevel::Error as u64, &format!("a host thread ends: {reason}"));
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No slot is free for a thread: the next worker that is has it.
    fn postpone(&self, tid: u64) {
        let parked = {
            let mut state = self.state();
            let parked = state.idle.pop();
            if parked.is_none() {
                state.due.push_back(tid);
            }
            parked
        };
        if let Some(worker) = parked {
            worker.run(tid);
        }
    }

    /// A slot is free: starts a thread that waits for one.
    pub(crate) fn start_due(&self, shared: &Arc<Shared>) {
        let due = self.state().due.pop_front();
        if let Some(tid) = due
            && let Err(error) = self.start(shared, tid)
        {
            (shared.log)(LogLevel::Error as u64, &format!("a thread does not start: {error}"));
        }
    }

    /// Whether a thread waits for a slot.
    #[cfg(test)]
    pub(crate) fn has_due(&self) -> bool {
        !self.state().due.is_empty()
    }

    /// Parks a worker until there is work; `None` when enough others wait.
    fn wait(&self, worker: &Arc<Worker>) -> Option<u64> {
        {
            let mut state = self.state();
            if let Some(tid) = state.due.pop_front() {
                return Some(tid);
            }
            if state.idle.len() >= MOST_IDLE {
                return None;
            }
            state.idle.push(Arc::clone(worker));
        }
        loop {
            let tid = worker.tid.swap(NONE, Ordering::Acquire);
            if tid != NONE {
                return Some(tid);
            }
            std::thread::park();
        }
    }
}

/// A worker's life: its first LibOS thread, and those that come after it.
fn work(shared: &Arc<Shared>, first: u64) -> Result<(), String> {
    shared.enclave.prepare_thread().map_err(|error| error.to_string())?;
    let worker = Arc::new(Worker { tid: AtomicU64::new(NONE), thread: std::thread::current() });
    let Some(slot) = shared.slots.take() else {
        shared.pool.postpone(first);
        // One may have become free before it was postponed.
        if shared.slots.has_free() {
            shared.pool.start_due(shared);
        }
        return Ok(());
    };
    let result = shared.on_slot(slot, |slot| {
        let mut next = Some(first);
        while let Some(tid) = next {
            shared.run_thread(slot, tid)?;
            // Where the host does not let it become better again, a new one takes its place.
            if slot.is_scheduled.swap(false, Ordering::AcqRel) && schedule::reset(current_tid()).is_err() {
                break;
            }
            next = shared.pool.wait(&worker);
        }
        Ok(())
    });
    match result {
        // Whoever runs the first program hears the same, and tells the user.
        Err(PalError::Lost(_)) => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}
