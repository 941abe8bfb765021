//! One direction of a connection: bytes or messages, and what goes along with them.

use super::packets::{Limit, Packets};
use crate::fs::ring::{ATOMIC, Ring};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_abi::net::kind;
use vfs::ReadinessNotifier;

pub(crate) enum Queue<A, N> {
    Bytes(Ring<A>),
    Messages(Packets<A, N>),
}

pub(crate) struct Channel<A, N> {
    pub(crate) queue: Queue<A, N>,
    /// Whether the receiver closed and lost something: ECONNRESET for the sender, once.
    is_reset: AtomicBool,
    /// Whether that was so.
    was_reset: AtomicBool,
}

impl<A: Clone, N: Clone> Channel<A, N> {
    pub(crate) fn new(
        of_kind: u32,
        capacity: usize,
        receiver: &Arc<ReadinessNotifier>,
        sender: &Arc<ReadinessNotifier>,
    ) -> Arc<Self> {
        let queue = if of_kind == kind::STREAM {
            let ring = Ring::new(capacity, Arc::clone(receiver), Arc::clone(sender));
            {
                let mut state = ring.state();
                (state.readers, state.writers) = (1, 1);
            }
            Queue::Bytes(ring)
        } else {
            Queue::Messages(Packets::new(Arc::clone(receiver)))
        };
        Arc::new(Self { queue, is_reset: AtomicBool::new(false), was_reset: AtomicBool::new(false) })
    }

    /// Whether there is somebody who receives, and somebody who sends.
    pub(crate) fn ends(&self) -> (bool, bool) {
        match &self.queue {
            Queue::Bytes(ring) => {
                let state = ring.state();
                (state.readers > 0, state.writers > 0)
            }
            Queue::Messages(packets) => packets.ends(),
        }
    }

    /// Whether nothing comes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.ends() != (true, true)
    }

    /// The receiver, or the sender, will not any more.
    pub(crate) fn close(&self, reader: bool, writer: bool) {
        match &self.queue {
            Queue::Bytes(ring) => {
                {
                    let mut state = ring.state();
                    if reader {
                        state.readers = 0;
                    }
                    if writer {
                        state.writers = 0;
                    }
                }
                ring.tell();
            }
            Queue::Messages(packets) => packets.close(reader, writer),
        }
    }

    /// The receiver goes and drops what it has not received. Returns whether the sender is to hear of a reset.
    pub(crate) fn abandon(&self, is_reset: bool) -> bool {
        let is_reset = is_reset || self.is_readable();
        if is_reset {
            self.fail();
        }
        self.refuse();
        is_reset
    }

    /// The sender is to hear of a reset; what it sent before can be received.
    pub(crate) fn fail(&self) {
        self.is_reset.store(true, Ordering::SeqCst);
        self.was_reset.store(true, Ordering::SeqCst);
    }

    /// Nothing is received any more, nor what waits.
    pub(crate) fn refuse(&self) {
        self.close(true, false);
        match &self.queue {
            Queue::Bytes(ring) => ring.clear(),
            Queue::Messages(packets) => packets.clear(),
        }
    }

    /// Whether the sender is to hear of a reset.
    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::SeqCst)
    }

    /// Whether the sender heard of a reset, or is to.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset.load(Ordering::SeqCst)
    }

    /// Takes the reset.
    pub(crate) fn take_reset(&self) -> bool {
        self.is_reset() && self.is_reset.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_readable(&self) -> bool {
        match &self.queue {
            Queue::Bytes(ring) => ring.state().readable() > 0,
            Queue::Messages(packets) => packets.has_messages(),
        }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        match &self.queue {
            Queue::Bytes(ring) => ring.state().readable(),
            Queue::Messages(packets) => packets.lengths().0,
        }
    }

    /// Whether the sender may send.
    pub(crate) fn has_room(&self, limit: Limit, sender: &Arc<ReadinessNotifier>) -> bool {
        match &self.queue {
            Queue::Bytes(ring) => {
                let state = ring.state();
                state.room() >= ATOMIC || state.readers == 0
            }
            Queue::Messages(packets) => packets.has_room(limit, sender),
        }
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        if let Queue::Bytes(ring) = &self.queue {
            ring.state().capacity = capacity;
            ring.tell();
        }
    }
}
