//! A queue of messages: what datagram and sequenced-packet sockets are made of. Each comes with `A`, what goes along with its data,
//! and `N`, who sent it.
//!
//! Lock order: the state is a leaf; no notifier is told under it.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use kbase::sync::Mutex;
use kbase::{ByteSink, Errno, Error, Result, bail};
use vfs::{Readiness, ReadinessNotifier};

/// What the queue pays for a message beside its bytes (what Linux pays, about).
const OVERHEAD: usize = 768;

/// A message.
#[derive(Clone)]
pub(crate) struct Packet<A, N> {
    pub(crate) data: Arc<Vec<u8>>,
    pub(crate) from: Option<N>,
    pub(crate) ancillary: A,
}

impl<A, N> Packet<A, N> {
    fn cost(&self) -> usize {
        self.data.len().saturating_add(OVERHEAD)
    }

    /// Copies it out and returns how much fit.
    pub(crate) fn put(&self, into: &mut dyn ByteSink) -> Result<usize> {
        let fits = self.data.len().min(into.remaining());
        put_whole(into, self.data.get(..fits).unwrap_or_default()).map(|()| fits)
    }
}

/// Copies out what there is room for: a message comes whole or not at all.
///
/// # Errors
/// EFAULT.
pub(crate) fn put_whole(into: &mut dyn ByteSink, data: &[u8]) -> Result<()> {
    if !data.is_empty() && into.put(data)? < data.len() {
        bail!(EFAULT, "a part of the message could not be copied");
    }
    Ok(())
}

/// How much may wait: bytes with what each message costs, and messages.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

pub(crate) struct Packets<A, N> {
    state: Mutex<State<A, N>>,
    receiver: Arc<ReadinessNotifier>,
}

struct State<A, N> {
    queue: VecDeque<Packet<A, N>>,
    bytes: usize,
    has_reader: bool,
    has_writer: bool,
    /// Messages that were dropped.
    dropped: u32,
    /// Who found it full and wants to hear of room.
    starved: Vec<Weak<ReadinessNotifier>>,
}

impl<A, N> State<A, N> {
    fn is_full(&self, limit: Limit) -> bool {
        self.queue.len() >= limit.messages || self.bytes >= limit.bytes
    }
}

impl<A: Clone, N: Clone> Packets<A, N> {
    /// An empty queue whose receiver has a notifier.
    pub(crate) const fn new(receiver: Arc<ReadinessNotifier>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            has_reader: true,
            has_writer: true,
            dropped: 0,
            starved: Vec::new(),
        };
        Self { state: Mutex::new(state), receiver }
    }

    /// Adds a message. If it is full, `sender` is told when there is room.
    ///
    /// # Errors
    /// EAGAIN it is full; EPIPE nobody receives.
    pub(crate) fn push(
        &self,
        packet: Packet<A, N>,
        limit: Limit,
        sender: &Arc<ReadinessNotifier>,
    ) -> core::result::Result<(), (Error, Packet<A, N>)> {
        {
            let mut state = self.state.lock();
            if !state.has_reader || !state.has_writer {
                return Err((Error::new(Errno::EPIPE, "nobody receives any more"), packet));
            }
            if state.is_full(limit) {
                starve(&mut state.starved, sender);
                return Err((Error::new(Errno::EAGAIN, "the queue is full"), packet));
            }
            state.bytes = state.bytes.saturating_add(packet.cost());
            state.queue.push_back(packet);
        }
        self.receiver.broadcast(&Readiness::IN);
        Ok(())
    }

    /// Adds a message, or drops it where it does not fit or nobody receives. One that is added learns how many were dropped.
    pub(crate) fn push_or_drop(
        &self,
        mut packet: Packet<A, N>,
        limit: Limit,
        learn: impl FnOnce(&mut A, u32),
    ) {
        {
            let mut state = self.state.lock();
            if !state.has_reader || state.is_full(limit) {
                state.dropped = state.dropped.wrapping_add(1);
                return;
            }
            learn(&mut packet.ancillary, state.dropped);
            state.bytes = state.bytes.saturating_add(packet.cost());
            state.queue.push_back(packet);
        }
        self.receiver.broadcast(&Readiness::IN);
    }

    /// Whether a message would be taken, or refused at once. If not, `sender` is told when.
    pub(crate) fn has_room(&self, limit: Limit, sender: &Arc<ReadinessNotifier>) -> bool {
        let mut state = self.state.lock();
        let has_room = !state.is_full(limit) || !state.has_reader;
        if !has_room {
            starve(&mut state.starved, sender);
        }
        has_room
    }

    /// Takes the first message, or looks at it; `None`: the end.
    ///
    /// # Errors
    /// EAGAIN there is none.
    pub(crate) fn pop(&self, is_peek: bool) -> Result<Option<Packet<A, N>>> {
        let (packet, starved) = {
            let mut state = self.state.lock();
            let packet = if is_peek { state.queue.front().cloned() } else { state.queue.pop_front() };
            match &packet {
                None if !state.has_writer || !state.has_reader => return Ok(None),
                None => return Err(Error::new(Errno::EAGAIN, "no message is there")),
                Some(_) if is_peek => {}
                Some(packet) => state.bytes = state.bytes.saturating_sub(packet.cost()),
            }
            (packet, if is_peek { Vec::new() } else { core::mem::take(&mut state.starved) })
        };
        tell(&starved);
        Ok(packet)
    }

    /// Bytes of all messages, and of the first.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let state = self.state.lock();
        let all = state.queue.iter().map(|packet| packet.data.len()).sum();
        (all, state.queue.front().map_or(0, |packet| packet.data.len()))
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// Whether there is somebody who receives, and somebody who sends.
    pub(crate) fn ends(&self) -> (bool, bool) {
        let state = self.state.lock();
        (state.has_reader, state.has_writer)
    }

    /// The receiver, or the sender, will not any more.
    pub(crate) fn close(&self, reader: bool, writer: bool) {
        let starved = {
            let mut state = self.state.lock();
            state.has_reader &= !reader;
            state.has_writer &= !writer;
            core::mem::take(&mut state.starved)
        };
        tell(&starved);
        self.receiver.broadcast(&Readiness::all());
    }

    /// Drops what waits.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.bytes = 0;
            core::mem::take(&mut state.queue)
        };
        drop(dropped);
    }
}

fn starve(starved: &mut Vec<Weak<ReadinessNotifier>>, sender: &Arc<ReadinessNotifier>) {
    starved.retain(|there| there.strong_count() > 0);
    let sender = Arc::downgrade(sender);
    if !starved.iter().any(|there| there.ptr_eq(&sender)) {
        starved.push(sender);
    }
}

fn tell(starved: &[Weak<ReadinessNotifier>]) {
    for sender in starved.iter().filter_map(Weak::upgrade) {
        sender.broadcast(&Readiness::OUT);
    }
}
