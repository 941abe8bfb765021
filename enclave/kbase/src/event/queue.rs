//! Threads that wait for one thing.

use super::Waker;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use alloc::collections::VecDeque;

/// Wakers of threads that wait for one thing, first come first.
///
/// A wake takes those that it wakes out of the queue; they enqueue again if they find that they must go on waiting.
#[derive(Default)]
pub struct WaiterQueue {
    /// How many wait, so that waking nobody costs one load.
    len: AtomicUsize,
    wakers: Mutex<VecDeque<Waker>>,
}

impl WaiterQueue {
    /// An empty queue.
    #[cfg(not(all(test, loom)))]
    #[must_use]
    pub const fn new() -> Self {
        Self { len: AtomicUsize::new(0), wakers: Mutex::new(VecDeque::new()) }
    }

    /// Adds a waiter at the end, unless it is there.
    pub fn enqueue(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock();
        if !wakers.iter().any(|there| there.is_same(waker)) {
            wakers.push_back(waker.clone());
            self.len.store(wakers.len(), Ordering::SeqCst);
        }
        drop(wakers);
        // Orders the addition before the waiter's look at its condition; pairs with the fence of `wake`.
        fence(Ordering::SeqCst);
    }

    /// Takes a waiter out. Returns whether it was there; if not, [`WaiterQueue::wake_one`] may have chosen it, and a waiter
    /// that gives up passes that on by waking another.
    pub fn dequeue(&self, waker: &Waker) -> bool {
        let mut wakers = self.wakers.lock();
        let Some(index) = wakers.iter().position(|there| there.is_same(waker)) else { return false };
        let removed = wakers.remove(index);
        self.len.store(wakers.len(), Ordering::SeqCst);
        drop(wakers);
        drop(removed);
        true
    }

    /// Wakes the first. Returns whether there was one.
    pub fn wake_one(&self) -> bool {
        self.wake_n(1) == 1
    }

    /// Wakes the first `most`. Returns how many there were.
    pub fn wake_n(&self, most: usize) -> usize {
        fence(Ordering::SeqCst);
        let mut woken = 0;
        // Those who come while it wakes the others come too late.
        let mut left = self.len.load(Ordering::SeqCst).min(most);
        while left > 0 {
            let first = {
                let mut wakers = self.wakers.lock();
                let first = wakers.pop_front();
                self.len.store(wakers.len(), Ordering::SeqCst);
                first
            };
            let Some(first) = first else { break };
            first.wake();
            woken += 1;
            left -= 1;
        }
        woken
    }

    /// Wakes all. Returns how many there were.
    pub fn wake_all(&self) -> usize {
        self.wake_n(usize::MAX)
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Rest, Unpark, Waiter};
    use super::*;
    use alloc::sync::Arc;

    struct Nobody;

    impl Unpark for Nobody {
        fn unpark(&self) {}
    }

    fn waiter() -> Waiter {
        Waiter::new(Arc::new(Nobody))
    }

    fn is_woken(waiter: &Waiter) -> bool {
        waiter.rest(|| false, || ()) == Rest::NotSlept
    }

    #[test]
    fn the_first_to_come_is_the_first_to_be_woken() {
        let queue = WaiterQueue::new();
        let waiters = [waiter(), waiter(), waiter()];
        waiters.iter().for_each(|waiter| queue.enqueue(waiter.waker()));
        assert!(queue.wake_one());
        assert_eq!(waiters.each_ref().map(is_woken), [true, false, false]);
        assert_eq!(queue.wake_n(5), 2);
        assert_eq!(waiters.each_ref().map(is_woken), [false, true, true]);
        assert!(queue.is_empty() && !queue.wake_one());
    }

    #[test]
    fn a_waiter_is_there_once_and_goes_when_it_is_dequeued_or_woken() {
        let queue = WaiterQueue::new();
        let waiter = waiter();
        queue.enqueue(waiter.waker());
        queue.enqueue(waiter.waker());
        assert!(queue.dequeue(waiter.waker()));
        assert_eq!(queue.wake_all(), 0);
        queue.enqueue(waiter.waker());
        assert_eq!(queue.wake_all(), 1);
        assert!(!queue.dequeue(waiter.waker()), "who was chosen is told so");
    }

    #[test]
    fn thousands_of_waiters_get_one_item_each() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::thread;

        struct Parked(thread::Thread);

        impl Unpark for Parked {
            fn unpark(&self) {
                self.0.unpark();
            }
        }

        const WAITERS: usize = 2_000;
        let queue = WaiterQueue::new();
        let items = AtomicUsize::new(0);
        let take = || items.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        thread::scope(|scope| {
            for _ in 0..WAITERS {
                thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn_scoped(scope, || {
                        let waiter = Waiter::new(Arc::new(Parked(thread::current())));
                        loop {
                            queue.enqueue(waiter.waker());
                            if take() {
                                if !queue.dequeue(waiter.waker()) {
                                    queue.wake_one();
                                }
                                break;
                            }
                            waiter.rest(|| false, thread::park);
                        }
                    })
                    .unwrap();
            }
            for _ in 0..WAITERS {
                items.fetch_add(1, Ordering::SeqCst);
                queue.wake_one();
            }
        });
        assert_eq!(items.load(Ordering::SeqCst), 0);
        assert!(queue.is_empty());
    }
}
