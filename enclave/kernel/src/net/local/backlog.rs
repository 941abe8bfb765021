//! Connections that nobody accepted yet.

use alloc::collections::VecDeque;
use linux_abi::net::SOMAXCONN;

/// The queue of a socket that listens.
pub(crate) struct Backlog<T> {
    waiting: VecDeque<T>,
    limit: usize,
}

impl<T> Backlog<T> {
    /// The queue of `listen(2)`.
    pub(crate) fn new(limit: u32) -> Self {
        let mut backlog = Self { waiting: VecDeque::new(), limit: 0 };
        backlog.set_limit(limit);
        backlog
    }

    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = usize::try_from(limit.min(SOMAXCONN)).unwrap_or_default();
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// As Linux counts, one more than the backlog may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() > self.limit
    }

    pub(crate) fn push(&mut self, connection: T) {
        self.waiting.push_back(connection);
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }
}
