//! MSG_OOB of stream sockets, as Linux has it since 5.15: a byte that can be had before the others, its mark, and SIGURG.
//!
//! Urgent bytes are not in the queue of their direction but beside it, each with its place among the bytes there. One is *the* urgent
//! byte, the last that was sent. At its place a receive stops; the next one passes over it, or takes it with SO_OOBINLINE.
//! One that was taken with MSG_OOB leaves its place. One that was still there when another was sent is a byte like all.
//!
//! Lock order: each lock is a leaf.

use super::ancillary::Ancillary;
use super::{Link, UnixSocket};
use crate::Ctx;
use crate::fs::SignalDriven;
use crate::fs::ring::{Marks, Ring};
use crate::net::inet::host::HostSocket;
use crate::net::local::Queue;
use crate::net::{Outgoing, Received};
use alloc::collections::VecDeque;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, Result, SliceSource, bail};
use linux_abi::net::{MessageFlags, kind};

/// Urgent bytes that may wait.
const MOST: usize = 256;
/// Bytes of a message with an urgent one.
const MESSAGE: usize = 64 * 1024;

/// Urgent bytes that come to a socket.
#[derive(Default)]
pub(super) struct UrgentInbox {
    /// Whether there are any, so that who has none pays a load.
    is_used: AtomicBool,
    state: Mutex<State>,
    /// Who is told, with SIGURG.
    owner: Mutex<Weak<SignalDriven>>,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<Byte>,
    /// Whether the last of them is *the* urgent byte.
    is_urgent: bool,
}

#[derive(Clone, Copy)]
struct Byte {
    /// How many bytes of the queue come before it.
    place: u64,
    byte: u8,
    is_taken: bool,
}

/// What a receive does next.
enum Step {
    /// It takes so many bytes of the queue, if they are there.
    Queue(usize),
    Byte(Byte),
    Stop,
}

/// A part of the room that there is.
struct Part<'a> {
    of: &'a mut dyn ByteSink,
    len: usize,
}

impl ByteSink for Part<'_> {
    fn remaining(&self) -> usize {
        self.len.min(self.of.remaining())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let put = self.of.put(bytes.get(..self.len).unwrap_or(bytes))?;
        self.len = self.len.saturating_sub(put);
        Ok(put)
    }
}

impl State {
    /// The first byte, if all before it was received, and whether it is the urgent one.
    fn at_mark(&self, received: u64) -> Option<(Byte, bool)> {
        let first = *self.bytes.front()?;
        let is_urgent = self.is_urgent && self.bytes.len() == 1;
        (first.place <= received).then_some((first, is_urgent))
    }

    /// Takes the first byte away.
    fn pass(&mut self) {
        self.bytes.pop_front();
        self.is_urgent &= !self.bytes.is_empty();
    }

    fn step(&mut self, received: u64, is_first: bool, is_peek: bool, is_inline: bool) -> Step {
        loop {
            let Some((first, is_urgent)) = self.at_mark(received) else {
                let before = self.bytes.front().map(|first| first.place.saturating_sub(received));
                return Step::Queue(before.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX));
            };
            let is_mark = is_urgent || (first.is_taken && !self.is_urgent);
            if is_mark && !is_first {
                return Step::Stop;
            }
            let is_delivered = !first.is_taken && (!is_urgent || is_inline);
            if is_peek {
                return if is_delivered { Step::Byte(first) } else { Step::Queue(usize::MAX) };
            }
            self.pass();
            if is_delivered {
                return Step::Byte(first);
            }
        }
    }
}

impl UrgentInbox {
    fn state(&self) -> Option<kbase::sync::MutexGuard<'_, State>> {
        self.is_used.load(Ordering::SeqCst).then(|| self.state.lock())
    }

    /// Whether the urgent byte waits.
    pub(super) fn has_urgent(&self) -> bool {
        self.state().is_some_and(|state| state.is_urgent)
    }

    /// Whether a receive has something to do about one.
    pub(super) fn has_any(&self) -> bool {
        self.state().is_some_and(|state| !state.bytes.is_empty())
    }

    /// Bytes that nobody took.
    pub(super) fn len(&self) -> usize {
        self.state().map_or(0, |state| state.bytes.iter().filter(|byte| !byte.is_taken).count())
    }

    /// Has SIGURG sent to the owner of the file that the socket is.
    pub(super) fn set_owner(&self, owner: Weak<SignalDriven>) {
        *self.owner.lock() = owner;
    }

    fn add(&self, place: u64, byte: u8) -> Result<()> {
        let mut state = self.state.lock();
        if state.bytes.len() >= MOST {
            bail!(ENOBUFS, "too many urgent bytes wait");
        }
        state.bytes.push_back(Byte { place, byte, is_taken: false });
        state.is_urgent = true;
        self.is_used.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// As [`Ring::read`] or [`Ring::peek`], with the urgent bytes at their places.
    pub(super) fn read(
        &self,
        ring: &Ring<Ancillary>,
        into: &mut dyn ByteSink,
        marks: Marks,
        is_peek: bool,
        is_inline: bool,
    ) -> Result<(usize, Option<Ancillary>)> {
        let mut done = 0usize;
        while into.remaining() > 0 {
            let received = ring.state().received();
            let step = self.state().map(|mut state| state.step(received, done == 0, is_peek, is_inline));
            let len = match step.unwrap_or(Step::Queue(usize::MAX)) {
                Step::Stop => break,
                Step::Queue(len) => len,
                Step::Byte(first) => {
                    if let Err(error) = into.put(&[first.byte]) {
                        if !is_peek {
                            self.state.lock().bytes.push_front(first);
                        }
                        return if done > 0 { Ok((done, None)) } else { Err(error) };
                    }
                    done = done.saturating_add(1);
                    if is_peek {
                        break;
                    }
                    continue;
                }
            };
            let part = &mut Part { of: into, len };
            match if is_peek { ring.peek_behind(part, marks, 0) } else { ring.read_with(part, marks) } {
                Ok((0, _)) if done > 0 => break,
                Ok((taken, mark)) => {
                    done = done.saturating_add(taken);
                    if taken == 0 || is_peek || mark.is_some() || len == usize::MAX {
                        return Ok((done, mark));
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok((done, None))
    }
}

impl UnixSocket {
    /// Has SIGURG sent to the owner of the file that the socket is.
    pub(crate) fn tell_of_urgent(&self, owner: Weak<SignalDriven>) {
        self.urgent.set_owner(owner);
        if let Some(host) = self.outside() {
            self.signal_from(host);
        }
    }

    /// Has the host's socket signal the owner of the file, if there is one.
    pub(super) fn signal_from(&self, host: &HostSocket) {
        let owner = self.urgent.owner.lock().clone();
        if owner.strong_count() > 0 {
            host.signal(owner);
        }
    }

    /// Whether the next byte is the urgent one, or it was (SIOCATMARK).
    pub(super) fn is_at_mark(&self, link: &Link) -> bool {
        let Queue::Bytes(ring) = &link.incoming.queue else { return false };
        let received = ring.state().received();
        let Some(state) = self.urgent.state() else { return false };
        let is_second = state.is_urgent && state.bytes.len() == 2;
        let second_is_next = is_second && state.bytes.back().is_some_and(|last| last.place <= received);
        state.at_mark(received).is_some_and(|(first, is_urgent)| {
            is_urgent || (first.is_taken && (!state.is_urgent || second_is_next))
        })
    }

    /// MSG_OOB of `recv(2)`.
    pub(super) fn receive_urgent(&self, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<Received> {
        if self.kind != kind::STREAM {
            bail!(EOPNOTSUPP, "no urgent data of messages");
        }
        let byte = {
            let state = self.urgent.state().filter(|state| state.is_urgent && !self.options.is_inline());
            let Some(mut state) = state else { bail!(EINVAL, "no urgent data is there") };
            let is_peek = flags.contains(MessageFlags::PEEK);
            state.is_urgent = is_peek;
            let Some(last) = state.bytes.back_mut() else { bail!(EINVAL, "no urgent data is there") };
            last.is_taken = !is_peek;
            last.byte
        };
        let len = into.put(&[byte])?;
        Ok(Received { len, flags: MessageFlags::OOB, ..Received::default() })
    }

    /// MSG_OOB of `send(2)`: the last byte is urgent.
    pub(super) fn send_urgent(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        let Outgoing { data, to, control, flags, is_blocking } = message;
        let mut all = alloc::vec![0; data.remaining().min(MESSAGE)];
        let taken = data.take(&mut all)?;
        all.truncate(taken);
        let Some((&urgent, before)) = all.split_last() else { return Ok(0) };
        if before.is_empty() && !control.is_empty() {
            bail!(EOPNOTSUPP, "nothing goes along with an urgent byte alone");
        }
        let flags = flags.difference(MessageFlags::OOB);
        let mut sent = 0;
        if !before.is_empty() {
            let data = &mut SliceSource::new(before);
            sent = self.send(ctx, Outgoing { data, to, control, flags, is_blocking })?;
            if sent < before.len() {
                return Ok(sent);
            }
        }
        let link = self.link()?;
        let Queue::Bytes(ring) = &link.outgoing.queue else { return Ok(sent) };
        let place = {
            let state = ring.state();
            if state.readers == 0 || state.writers == 0 {
                bail!(EPIPE, "nobody receives any more");
            }
            state.received().saturating_add(state.readable() as u64)
        };
        link.peer_urgent.add(place, urgent)?;
        let owner = link.peer_urgent.owner.lock().clone();
        if let Some(owner) = owner.upgrade() {
            owner.send_urgent();
        }
        ring.tell_reader();
        Ok(sent.saturating_add(1))
    }
}
