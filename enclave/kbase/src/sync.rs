//! Locks.
//!
//! Critical sections are short and never span an access to user memory or a blocking host call, so a lock
//! spins. Who waits longer than a descheduled holder would explain still makes progress when the holder runs.
//!
//! Lock order, outermost first: process table, process, address space, file table, file, directory, inode,
//! page cache, wait queue. Two locks of one rank: the lower address (or identifier) first.

pub use spin::mutex::SpinMutexGuard as MutexGuard;
pub use spin::rwlock::{RwLockReadGuard, RwLockWriteGuard};

/// A mutual exclusion lock.
pub type Mutex<T> = spin::mutex::SpinMutex<T>;
/// A lock with many readers or one writer.
pub type RwLock<T> = spin::rwlock::RwLock<T>;
/// A value that is set once.
pub type Once<T> = spin::Once<T>;
