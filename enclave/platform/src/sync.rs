//! Locks for short critical sections.
//!
//! Who finds a lock taken spins, since its holder is done sooner than any exit would take. But host threads hold them, and the
//! host may take the CPU from a holder at any time: a thousand that spin would then burn a time slice each before it gets
//! that back. So who has spun for longer than a critical section takes offers its CPU to others between further tries.
//!
//! Whoever runs the enclave says how, once, with [`on_contention`]. Until then a lock only spins.

use core::hint::spin_loop;
use spin::{Once, mutex, rwlock};

pub use mutex::SpinMutexGuard as MutexGuard;
pub use rwlock::{RwLockReadGuard, RwLockWriteGuard};

/// Tries before the CPU is offered to others: a microsecond or two.
const TRIES: u32 = 100;

static OFFER_CPU: Once<fn()> = Once::new();

/// Sets how a thread that waits for a lock offers its CPU to others. It may hold other locks then. The first call counts.
pub fn on_contention(offer_cpu: fn()) {
    OFFER_CPU.call_once(|| offer_cpu);
}

/// Tries until it works.
pub fn persist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..TRIES {
            if let Some(value) = attempt() {
                return value;
            }
            spin_loop();
        }
        if let Some(offer_cpu) = OFFER_CPU.get() {
            offer_cpu();
        }
    }
}

/// A mutual exclusion lock.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(mutex::SpinMutex<T>);

impl<T> Mutex<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(mutex::SpinMutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is free, and takes it.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.try_lock().unwrap_or_else(|| self.lock_later())
    }

    #[cold]
    fn lock_later(&self) -> MutexGuard<'_, T> {
        persist(|| if self.0.is_locked() { None } else { self.0.try_lock() })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A lock with many readers or one writer.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized>(rwlock::RwLock<T>);

impl<T> RwLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(rwlock::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and reads.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.try_read().unwrap_or_else(|| persist(|| self.0.try_read()))
    }

    /// Waits until nobody else reads or writes.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.try_write().unwrap_or_else(|| persist(|| self.0.try_write()))
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    static OFFERED: AtomicBool = AtomicBool::new(false);

    #[test]
    fn who_waits_for_long_offers_the_cpu() {
        on_contention(|| {
            OFFERED.store(true, Ordering::SeqCst);
            thread::yield_now();
        });
        let mutex = Mutex::new(0);
        let lock = RwLock::new(0);
        let wait = |held: &mut i32| {
            OFFERED.store(false, Ordering::SeqCst);
            while !OFFERED.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            *held += 1;
        };
        thread::scope(|scope| {
            let mut held = mutex.lock();
            scope.spawn(|| *mutex.lock() += 1);
            wait(&mut held);
        });
        thread::scope(|scope| {
            let mut held = lock.write();
            scope.spawn(|| assert_eq!(*lock.read(), 1));
            scope.spawn(|| assert_eq!(*lock.read(), 1));
            wait(&mut held);
        });
        thread::scope(|scope| {
            let held = lock.read();
            scope.spawn(|| *lock.write() += 1);
            wait(&mut 0);
            drop(held);
        });
        assert_eq!((*mutex.lock(), *lock.read()), (2, 2));
    }

    #[test]
    fn writers_exclude_each_other() {
        let sums = (Mutex::new(0), RwLock::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        *sums.0.lock() += 1;
                        *sums.1.write() += 1;
                    }
                });
            }
        });
        assert_eq!((*sums.0.lock(), *sums.1.read()), (40_000, 40_000));
    }
}
