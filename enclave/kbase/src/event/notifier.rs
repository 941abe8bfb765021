//! Telling whoever wants to know.

use super::WaiterQueue;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Something that happens: a plain value.
pub trait Event: Copy + Send + Sync + 'static {}

impl Event for () {}

/// Which events an observer wants to hear of.
pub trait EventFilter<E: Event>: Send + Sync {
    /// Whether this is one.
    fn accepts(&self, event: &E) -> bool;
}

/// The filter that lets everything through.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllEvents;

impl<E: Event> EventFilter<E> for AllEvents {
    fn accepts(&self, _event: &E) -> bool {
        true
    }
}

/// Somebody who hears of events.
pub trait Observer<E: Event>: Send + Sync {
    /// Hears of one. Does not block; may be called once more after it was unregistered.
    fn on_event(&self, event: &E);
}

/// An observer and what it wants to hear of.
type Registration<E, F> = (Weak<dyn Observer<E>>, F);

/// Tells observers, which it holds weakly, of events.
pub struct Notifier<E: Event, F: EventFilter<E> = AllEvents> {
    /// How many are registered, so that telling nobody costs one load.
    len: AtomicUsize,
    observers: Mutex<Vec<Registration<E, F>>>,
}

impl<E: Event, F: EventFilter<E>> Default for Notifier<E, F> {
    fn default() -> Self {
        Self { len: AtomicUsize::new(0), observers: Mutex::new(Vec::new()) }
    }
}

/// Observers that are told without an allocation.
const FEW: usize = 4;

impl<E: Event, F: EventFilter<E>> Notifier<E, F> {
    /// Nobody to tell yet.
    #[cfg(not(all(test, loom)))]
    #[must_use]
    pub const fn new() -> Self {
        Self { len: AtomicUsize::new(0), observers: Mutex::new(Vec::new()) }
    }

    /// Adds an observer. One that is registered twice has to be unregistered twice.
    pub fn register(&self, observer: Weak<dyn Observer<E>>, filter: F) {
        let mut observers = self.observers.lock();
        observers.push((observer, filter));
        self.len.store(observers.len(), Ordering::SeqCst);
        drop(observers);
        // Orders the registration before the observer's look at its condition; pairs with the fence of `broadcast`.
        fence(Ordering::SeqCst);
    }

    /// Removes an observer that was registered.
    pub fn unregister(&self, observer: &Weak<dyn Observer<E>>) {
        let removed = {
            let mut observers = self.observers.lock();
            let index = observers.iter().position(|(there, _)| there.ptr_eq(observer));
            let removed = index.map(|index| observers.swap_remove(index));
            self.len.store(observers.len(), Ordering::SeqCst);
            removed
        };
        drop(removed);
    }

    /// Tells every observer whose filter accepts the event.
    pub fn broadcast(&self, event: &E) {
        fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return;
        }
        // What an observer does when it hears, or when the last reference to it goes, may come back here.
        let mut few: [Option<Arc<dyn Observer<E>>>; FEW] = [const { None }; FEW];
        let mut more = Vec::new();
        {
            let observers = self.observers.lock();
            let accepting = observers.iter().filter(|(_, filter)| filter.accepts(event));
            let mut room = few.iter_mut();
            for observer in accepting.filter_map(|(observer, _)| observer.upgrade()) {
                match room.next() {
                    Some(place) => *place = Some(observer),
                    None => more.push(observer),
                }
            }
        }
        for observer in few.into_iter().flatten().chain(more) {
            observer.on_event(event);
        }
    }

    /// Whether nobody is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }
}

/// Wakes the waiters of a queue at every event that it hears of.
#[derive(Default)]
pub struct WaiterQueueObserver {
    queue: WaiterQueue,
}

impl WaiterQueueObserver {
    /// The queue.
    #[must_use]
    pub const fn queue(&self) -> &WaiterQueue {
        &self.queue
    }
}

impl<E: Event> Observer<E> for WaiterQueueObserver {
    fn on_event(&self, _event: &E) {
        self.queue.wake_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    impl Event for u32 {}

    struct Even;

    impl EventFilter<u32> for Even {
        fn accepts(&self, event: &u32) -> bool {
            event.is_multiple_of(2)
        }
    }

    #[derive(Default)]
    struct Sum(AtomicUsize);

    impl Observer<u32> for Sum {
        fn on_event(&self, event: &u32) {
            self.0.fetch_add(*event as usize, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_observer_hears_what_its_filter_lets_through_until_it_is_unregistered() {
        let notifier: Notifier<u32, Even> = Notifier::new();
        let sums: Vec<Arc<Sum>> = (0..7).map(|_| Arc::new(Sum::default())).collect();
        let observers: Vec<Weak<dyn Observer<u32>>> = sums
            .iter()
            .map(|sum| {
                let sum: Arc<dyn Observer<u32>> = sum.clone();
                Arc::downgrade(&sum)
            })
            .collect();
        observers.iter().for_each(|observer| notifier.register(observer.clone(), Even));
        notifier.broadcast(&2);
        notifier.broadcast(&3);
        observers.iter().for_each(|observer| notifier.unregister(observer));
        notifier.broadcast(&4);
        assert!(notifier.is_empty());
        assert!(sums.iter().all(|sum| sum.0.load(Ordering::Relaxed) == 2));
    }

    #[test]
    fn an_observer_that_is_gone_is_not_told() {
        let notifier: Notifier<u32> = Notifier::new();
        let observer: Arc<dyn Observer<u32>> = Arc::new(Sum::default());
        notifier.register(Arc::downgrade(&observer), AllEvents);
        drop(observer);
        notifier.broadcast(&1);
    }

    /// Unregisters itself when it is dropped, as what watches a file does.
    struct Guest {
        of: Arc<Notifier<u32>>,
        me: Weak<Self>,
    }

    impl Observer<u32> for Guest {
        fn on_event(&self, _event: &u32) {
            let me: Weak<dyn Observer<u32>> = self.me.clone();
            self.of.unregister(&me);
        }
    }

    #[test]
    fn an_observer_may_unregister_while_it_is_told() {
        let notifier = Arc::new(Notifier::new());
        let guest = Arc::new_cyclic(|me| Guest { of: Arc::clone(&notifier), me: me.clone() });
        let me: Weak<dyn Observer<u32>> = Arc::downgrade(&guest) as Weak<dyn Observer<u32>>;
        notifier.register(me, AllEvents);
        notifier.broadcast(&1);
        assert!(notifier.is_empty());
    }
}
