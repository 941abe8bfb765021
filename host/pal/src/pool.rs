//! Host threads for LibOS threads, kept for the next one when theirs ends.
//!
//! A worker holds its slot for as long as it lives, so starting a LibOS thread costs waking a parked worker and
//! neither makes a host thread nor looks for a TCS.
//!
//! Lock order: `idle` alone; it is not held while a worker is woken.

use crate::enclave::Shared;
use crate::error::PalError;
use crate::schedule;
use crate::threads::{current_tid, spawn_enclave_thread};
use edge_abi::ecall::LogLevel;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// The parked workers.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Arc<Worker>>>,
}

impl Pool {
    /// Runs LibOS thread `tid` on a parked worker, or on a new one.
    ///
    /// # Errors
    /// EAGAIN the host makes no more threads.
    pub(crate) fn start(&self, shared: &Arc<Shared>, tid: u64) -> io::Result<()> {
        let parked = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(worker) = parked {
            worker.tid.store(tid, Ordering::Release);
            worker.thread.unpark();
            return Ok(());
        }
        let shared = Arc::clone(shared);
        spawn_enclave_thread(&format!("occlum-{tid}"), move || {
            if let Err(reason) = work(&shared, tid) {
                (shared.log)(LogLevel::Error as u64, &format!("a host thread ends: {reason}"));
            }
        })
    }

    /// Parks a worker until there is work; `None` when enough others wait.
    fn wait(&self, worker: &Arc<Worker>) -> Option<u64> {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() >= MOST_IDLE {
                return None;
            }
            idle.push(Arc::clone(worker));
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
    let result = shared.with_slot(|slot| {
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
