//! Threads.

use crate::Process;
use alloc::sync::{Arc, Weak};

/// A thread of a program.
pub struct Thread {
    /// Its number.
    pub(crate) tid: u32,
    /// Its process.
    pub(crate) process: Weak<Process>,
}

impl Thread {
    /// Its process, unless that has ended.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.process.upgrade()
    }
}
