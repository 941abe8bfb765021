//! Locks.
//!
//! Critical sections are short and never span an access to user memory or a blocking host call, so a lock
//! [spins](platform::sync).
//!
//! Lock order, outermost first: process table, process, address space, file table, file, directory, inode,
//! page cache, queue or notifier. Two locks of one rank: the lower address (or identifier) first.
//!
//! Under `cfg(loom)` the event primitives are built on the types of that model checker.

#[cfg(not(all(test, loom)))]
pub use platform::sync::{Mutex, MutexGuard};
pub use platform::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A value that is set once.
pub type Once<T> = spin::Once<T>;

#[cfg(not(all(test, loom)))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(all(test, loom)))]
pub(crate) use core::sync::atomic;
#[cfg(all(test, loom))]
pub(crate) use model::{Mutex, MutexGuard, atomic, spin_loop};

#[cfg(all(test, loom))]
mod model {
    pub(crate) use loom::sync::{MutexGuard, atomic};

    /// [`loom::sync::Mutex`] with the interface of the real one.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(crate) fn spin_loop() {
        loom::thread::yield_now();
    }
}
