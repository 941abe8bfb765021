//! One thread that sleeps, and what wakes it.
//!
//! A word says what the thread does: it is awake, it was woken while it was, or it sleeps. Only who finds it asleep has to
//! leave the enclave to wake it, so handing work to a thread that is awake, or spins, costs no exit.

use crate::sync::atomic::{AtomicU32, Ordering};
use alloc::sync::{Arc, Weak};

use super::{Event, Observer};

/// Neither asleep nor woken.
const AWAKE: u32 = 0;
/// Woken since the last [`Waiter::rest`] ended: the next one ends at once.
const WOKEN: u32 = 1;
/// Asleep, or about to be.
const ASLEEP: u32 = 2;

/// Ends the sleep of one host thread.
pub trait Unpark: Send + Sync {
    /// Ends the present sleep, or lets the next one end at once. Called at most once per sleep.
    fn unpark(&self);
}

struct Inner {
    state: AtomicU32,
    sleeper: Arc<dyn Unpark>,
}

/// Wakes one thread. Cheap to clone.
#[derive(Clone)]
pub struct Waker(Arc<Inner>);

impl Waker {
    /// Ends the thread's present rest, or lets its next one end at once. Returns whether it was asleep.
    pub fn wake(&self) -> bool {
        self.0.wake()
    }

    /// Whether both wake the same thread.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The waker as somebody who can be told of events.
    #[must_use]
    pub fn observer<E: Event>(&self) -> Weak<dyn Observer<E>> {
        let inner: Arc<dyn Observer<E>> = self.0.clone();
        Arc::downgrade(&inner)
    }
}

impl Inner {
    fn wake(&self) -> bool {
        let was_asleep = self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP;
        if was_asleep {
            self.sleeper.unpark();
        }
        was_asleep
    }
}

impl<E: Event> Observer<E> for Inner {
    fn on_event(&self, _event: &E) {
        self.wake();
    }
}

/// How a [`Waiter::rest`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest<T> {
    /// Woken before it slept.
    NotSlept,
    /// Slept until a waker ended it.
    Woken(T),
    /// Slept until something else ended it (a deadline, the host).
    Ended(T),
}

/// Puts a thread to sleep. Belongs to that thread.
pub struct Waiter {
    waker: Waker,
}

impl Waiter {
    /// The waiter of the thread that `sleeper` unparks.
    #[must_use]
    pub fn new(sleeper: Arc<dyn Unpark>) -> Self {
        Self { waker: Waker(Arc::new(Inner { state: AtomicU32::new(AWAKE), sleeper })) }
    }

    /// What wakes it.
    #[must_use]
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits for a wake that came since the last rest ended, or comes now: looks for it as long as `spin` says, then sleeps in
    /// `block`, which [`Unpark::unpark`] ends. To be called by the thread that it belongs to.
    pub fn rest<T>(&self, mut spin: impl FnMut() -> bool, block: impl FnOnce() -> T) -> Rest<T> {
        let state = &self.waker.0.state;
        loop {
            if state.load(Ordering::Acquire) == WOKEN {
                // An exchange, not a store: what the waker did before it woke has happened for us.
                state.swap(AWAKE, Ordering::SeqCst);
                return Rest::NotSlept;
            }
            if !spin() {
                break;
            }
            crate::sync::spin_loop();
        }
        if state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            state.swap(AWAKE, Ordering::SeqCst);
            return Rest::NotSlept;
        }
        let value = block();
        match state.swap(AWAKE, Ordering::SeqCst) {
            WOKEN => Rest::Woken(value),
            _ => Rest::Ended(value),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Unpark for Counter {
        fn unpark(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_before_the_rest_ends_it_without_a_sleep_or_an_unpark() {
        let unparks = Arc::new(Counter::default());
        let waiter = Waiter::new(unparks.clone());
        assert!(!waiter.waker().wake());
        assert_eq!(waiter.rest(|| false, || panic!("it was woken")), Rest::NotSlept);
        assert_eq!(unparks.0.load(Ordering::Relaxed), 0);
        assert_eq!(waiter.rest(|| false, || 7), Rest::Ended(7), "one wake ends one rest");
    }

    #[test]
    fn a_wake_during_the_spin_ends_it_without_a_sleep() {
        let waiter = Waiter::new(Arc::new(Counter::default()));
        let waker = waiter.waker().clone();
        let spin = || {
            waker.wake();
            true
        };
        assert_eq!(waiter.rest(spin, || panic!("it was woken")), Rest::NotSlept);
    }

    #[test]
    fn a_sleeper_is_unparked_once() {
        let unparks = Arc::new(Counter::default());
        let waiter = Waiter::new(unparks.clone());
        let waker = waiter.waker().clone();
        let slept = waiter.rest(|| false, || [waker.wake(), waker.wake()]);
        assert_eq!(slept, Rest::Woken([true, false]));
        assert_eq!(unparks.0.load(Ordering::Relaxed), 1);
    }
}
