//! The event primitives under a model checker: every interleaving of a few threads, within bounds.
//!
//! `cargo xtask models` runs it.

use super::{AllEvents, Notifier, Unpark, Waiter, WaiterQueue};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

/// A host thread: a token that a park takes.
struct Host {
    token: Mutex<bool>,
    changed: Condvar,
}

impl Host {
    fn new() -> Arc<Self> {
        Arc::new(Self { token: Mutex::new(false), changed: Condvar::new() })
    }

    fn park(&self) {
        let mut token = self.token.lock().unwrap();
        while !*token {
            token = self.changed.wait(token).unwrap();
        }
        *token = false;
    }
}

impl Unpark for Host {
    fn unpark(&self) {
        *self.token.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Waits until `ready`; a lost wake is a deadlock, which the checker reports.
fn wait(queue: &WaiterQueue, ready: impl Fn() -> bool) {
    let host = Host::new();
    let waiter = Waiter::new(host.clone());
    loop {
        queue.enqueue(waiter.waker());
        if ready() {
            if !queue.dequeue(waiter.waker()) {
                queue.wake_one();
            }
            return;
        }
        waiter.rest(|| false, || host.park());
    }
}

#[test]
fn no_wake_is_lost_between_the_look_and_the_sleep() {
    loom::model(|| {
        let queue = Arc::new(WaiterQueue::default());
        let flag = Arc::new(AtomicBool::new(false));
        let waker = {
            let (queue, flag) = (queue.clone(), flag.clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                queue.wake_all();
            })
        };
        wait(&queue, || flag.load(Ordering::Relaxed));
        waker.join().unwrap();
    });
}

#[test]
fn two_waiters_get_the_two_items_that_two_wakes_announce() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let queue = Arc::new(WaiterQueue::default());
        let items = Arc::new(AtomicUsize::new(0));
        let other = {
            let (queue, items) = (queue.clone(), items.clone());
            thread::spawn(move || wait(&queue, || take(&items)))
        };
        let producer = {
            let (queue, items) = (queue.clone(), items.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    items.fetch_add(1, Ordering::Relaxed);
                    queue.wake_one();
                }
            })
        };
        wait(&queue, || take(&items));
        other.join().unwrap();
        producer.join().unwrap();
    });
}

fn take(items: &AtomicUsize) -> bool {
    items.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[test]
fn an_observer_that_registers_before_it_looks_misses_nothing() {
    loom::model(|| {
        let notifier: Arc<Notifier<()>> = Arc::new(Notifier::default());
        let flag = Arc::new(AtomicBool::new(false));
        let teller = {
            let (notifier, flag) = (notifier.clone(), flag.clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                notifier.broadcast(&());
            })
        };
        let host = Host::new();
        let waiter = Waiter::new(host.clone());
        let observer = waiter.waker().observer::<()>();
        notifier.register(observer.clone(), AllEvents);
        while !flag.load(Ordering::Relaxed) {
            waiter.rest(|| false, || host.park());
        }
        notifier.unregister(&observer);
        teller.join().unwrap();
    });
}

#[test]
fn a_wake_that_comes_during_the_spin_or_the_sleep_ends_the_rest() {
    loom::model(|| {
        let host = Host::new();
        let waiter = Waiter::new(host.clone());
        let waker = waiter.waker().clone();
        let other = thread::spawn(move || waker.wake());
        let mut spins = 1;
        let spin = || {
            spins -= 1;
            spins >= 0
        };
        waiter.rest(spin, || host.park());
        other.join().unwrap();
    });
}
