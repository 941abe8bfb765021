//! Waiting for something to become true.
//!
//! A [`WaitQueue`] owns no condition. Who waits adds a [`Wake`] *before* it looks at the condition, so a wake
//! between the look and the sleep is kept; who changes the condition calls [`WaitQueue::wake_all`] afterwards.
//! Waking never blocks and takes no lock but the queue's own, so it may be called under other locks.

use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Somebody who can be woken: a thread, an epoll instance. Waking for nothing is allowed.
pub trait Wake: Send + Sync {
    /// Says that something may have changed.
    fn wake(&self);
}

/// Those who want to know when something changes.
#[derive(Default)]
pub struct WaitQueue {
    /// How many wait, so that waking nobody costs one load.
    len: AtomicUsize,
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: AtomicUsize::new(0), waiters: Mutex::new(Vec::new()) }
    }

    /// Adds a waiter.
    pub fn add(&self, waiter: &Arc<dyn Wake>) {
        let mut waiters = self.waiters.lock();
        waiters.push(Arc::clone(waiter));
        self.len.store(waiters.len(), Ordering::SeqCst);
        // Orders the addition before the waiter's look at its condition; pairs with the fence of `wake_all`.
        core::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Removes a waiter that was added once.
    pub fn remove(&self, waiter: &Arc<dyn Wake>) {
        let mut waiters = self.waiters.lock();
        if let Some(index) = waiters.iter().position(|there| Arc::ptr_eq(there, waiter)) {
            let removed = waiters.swap_remove(index);
            self.len.store(waiters.len(), Ordering::SeqCst);
            drop(waiters);
            drop(removed);
        }
    }

    /// Wakes all waiters; they stay in the queue.
    pub fn wake_all(&self) {
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiters.lock().iter() {
            waiter.wake();
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waiter_is_woken_until_it_is_removed() {
        let queue = WaitQueue::new();
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waiter: Arc<dyn Wake> = counter.clone();
        queue.wake_all();
        queue.add(&waiter);
        queue.wake_all();
        queue.wake_all();
        queue.remove(&waiter);
        queue.wake_all();
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
        assert!(queue.is_empty());
    }
}
