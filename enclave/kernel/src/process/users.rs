//! How many have what they may share.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The processes that have an address space (CLONE_VM), or the threads that have a table of descriptors (CLONE_FILES). References
/// do not tell: whoever looks at a process has some for a moment.
pub(crate) struct Users(AtomicUsize);

impl Users {
    /// Who it was made for.
    pub(crate) const fn one() -> Self {
        Self(AtomicUsize::new(1))
    }

    /// One more has it.
    pub(crate) fn join(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// One gives it up; true: it was the last.
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Whether the caller is the only one. No other can come, as long as it does not clone itself.
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 1
    }
}
