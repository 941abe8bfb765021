//! A connected stream of the host whose data go through the ring of operations ([`platform::HostRing`]), without calls.
//!
//! Receiving: one operation at most is outstanding, posted as long as little waits to be read; what it brought is queued here. So
//! how much is under way is TCP's to say. Sending: what a program sends is queued here, as far as there is room, and goes out in
//! operations of which one is outstanding; so it keeps its order. An error comes with the next call.
//!
//! What such a socket is ready for is known from its two queues, and the host is not asked. A socket that is closed with data that
//! are not sent stays in [`super::readiness::HostSockets`] until they are, or cannot be.
//!
//! Who finds nothing in a queue looks at the ring first. Nothing here waits.
//!
//! Lock order: [`RingStream::state`]; then the leaves: a queue's, and the platform's for posting.

mod end;

use super::readiness::HostSockets;
use crate::fs::ring::{ATOMIC, Ring};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, SliceSink};
use linux_abi::net::shut;
use platform::{HostFd, HostResult, Platform, RingEvent};
use vfs::{Readiness, ReadinessNotifier};

/// More is received while no more than this waits to be read.
const ENOUGH: usize = 32 * 1024;
/// Bytes that may wait to be sent, beside those of one operation.
const SENDABLE: usize = 64 * 1024;
/// Bytes of one operation at most.
const PART: usize = 64 * 1024;
/// A buffer of more bytes is not kept.
const KEPT: usize = 16 * 1024;

/// What is outstanding to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// Nothing.
    Idle,
    /// Somebody looks for what there is to send, or an operation sends it, or waits for room.
    Busy,
    /// Somebody makes a call of the host, for which the descriptor has to stay.
    Calling,
}

/// What a stream does.
struct State {
    /// Whether a receiving operation is outstanding.
    is_receiving: bool,
    sending: Sending,
    /// What is being sent, from `sent` on.
    part: Vec<u8>,
    sent: usize,
    /// What the next call fails with.
    error: Option<Errno>,
    /// MSG_MORE of what was sent last.
    more: bool,
    /// The host is to be told that nothing more comes, when all is sent.
    shuts: bool,
    /// Nothing comes any more: the peer said so, or the connection broke.
    is_at_end: bool,
    /// The program has no such socket any more.
    is_closed: bool,
    /// The host's socket is closed, or is going to be, or has left the ring: nothing is posted any more.
    is_gone: bool,
}

/// A stream.
pub(crate) struct RingStream {
    me: Weak<Self>,
    platform: Arc<dyn Platform>,
    sockets: Arc<HostSockets>,
    fd: HostFd,
    token: u64,
    notifier: Arc<ReadinessNotifier>,
    inbox: Ring,
    outbox: Ring,
    state: Mutex<State>,
    /// Whether it is among those for which something could not be posted. It is there once.
    is_to_retry: AtomicBool,
    /// Who waits until all is sent: as long as somebody does, there is no room for more.
    awaiting_dry: AtomicU32,
    /// SO_LINGER: closing takes as long as the host takes.
    lingers: AtomicBool,
    /// SO_LINGER with no time: closing is a reset.
    aborts: AtomicBool,
}

impl RingStream {
    /// The stream of a connected socket, whose descriptor is its from now on.
    pub(super) fn new(
        platform: &Arc<dyn Platform>,
        sockets: &Arc<HostSockets>,
        notifier: &Arc<ReadinessNotifier>,
        (fd, token): (HostFd, u64),
    ) -> Arc<Self> {
        let queue = |capacity, reader: Arc<_>, writer: Arc<_>| {
            let ring = Ring::new(capacity, reader, writer);
            {
                let mut state = ring.state();
                (state.readers, state.writers) = (1, 1);
                // There may be thousands.
                state.keep_spares([1, 0]);
            }
            ring
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            platform: Arc::clone(platform),
            sockets: Arc::clone(sockets),
            fd,
            token,
            notifier: Arc::clone(notifier),
            inbox: queue(usize::MAX, Arc::clone(notifier), Arc::default()),
            outbox: queue(SENDABLE, Arc::default(), Arc::clone(notifier)),
            state: Mutex::new(State {
                is_receiving: false,
                sending: Sending::Idle,
                part: Vec::new(),
                sent: 0,
                error: None,
                more: false,
                shuts: false,
                is_at_end: false,
                is_closed: false,
                is_gone: false,
            }),
            is_to_retry: AtomicBool::new(false),
            awaiting_dry: AtomicU32::new(0),
            lingers: AtomicBool::new(false),
            aborts: AtomicBool::new(false),
        })
    }

    pub(super) const fn token(&self) -> u64 {
        self.token
    }

    /// What SO_LINGER is.
    pub(super) fn set_linger(&self, is_on: bool, seconds: u32) {
        self.lingers.store(is_on, Ordering::SeqCst);
        self.aborts.store(is_on && seconds == 0, Ordering::SeqCst);
    }

    /// Receives what is there, without waiting; 0: the end.
    ///
    /// # Errors
    /// EAGAIN nothing is there; what became of the connection, once; EFAULT.
    pub(super) fn receive(&self, into: &mut dyn ByteSink, is_peek: bool) -> Result<usize> {
        let mut result = self.take(into, is_peek);
        if is_again(&result) && self.sockets.dispatch(&*self.platform) > 0 {
            result = self.take(into, is_peek);
        }
        // Also where data may come still: who waits would be told again and again that there is an error.
        let is_nothing = is_again(&result) || matches!(result, Ok(0));
        if is_nothing
            && into.remaining() > 0
            && let Some(errno) = self.take_error()
        {
            result = Err(Error::new(errno, "the connection broke"));
        }
        if !is_peek && result.is_ok() {
            self.want_more();
            self.platform.ring_kick();
        }
        result
    }

    /// Takes what is queued here.
    ///
    /// # Errors
    /// EAGAIN nothing is; EFAULT.
    pub(super) fn take(&self, into: &mut dyn ByteSink, is_peek: bool) -> Result<usize> {
        let taken = if is_peek { self.inbox.peek(into) } else { self.inbox.read(into) };
        taken.map(|(len, _)| len)
    }

    /// Queues what there is room for, and has it sent.
    ///
    /// # Errors
    /// EAGAIN no room; what became of the connection, once; EPIPE it is over; EFAULT.
    pub(super) fn send(&self, from: &mut dyn ByteSource, more: bool) -> Result<usize> {
        if let Some(errno) = self.take_error() {
            return Err(Error::new(errno, "the connection broke"));
        }
        self.state.lock().more = more;
        let mut result = self.outbox.write(from, &mut None);
        if is_again(&result) && self.sockets.dispatch(&*self.platform) > 0 {
            result = self.outbox.write(from, &mut None);
        }
        if result.is_ok() {
            self.pump();
            self.platform.ring_kick();
        }
        result
    }

    /// What the next call fails with, which is taken.
    pub(super) fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    /// What could be done without blocking.
    pub(super) fn ready(&self) -> Readiness {
        let mut ready = Readiness::empty();
        let (is_readable, is_over) = {
            let inbox = self.inbox.state();
            (inbox.readable() > 0, inbox.writers == 0)
        };
        let is_awaited = self.awaiting_dry.load(Ordering::SeqCst) > 0 && self.unsent() > 0;
        let (is_writable, is_shut) = {
            let outbox = self.outbox.state();
            let is_shut = outbox.readers == 0 || outbox.writers == 0;
            (is_shut || (outbox.room() >= ATOMIC && !is_awaited), is_shut)
        };
        ready.set(Readiness::IN, is_readable || is_over);
        ready.set(Readiness::RDHUP, is_over);
        ready.set(Readiness::OUT, is_writable);
        ready.set(Readiness::HUP, is_over && is_shut);
        ready.set(Readiness::ERR, self.state.lock().error.is_some());
        ready
    }

    /// Bytes that can be read; whether the host may have more.
    pub(super) fn readable(&self) -> (usize, bool) {
        let is_receiving = self.state.lock().is_receiving;
        (self.inbox.state().readable(), !is_receiving)
    }

    /// Bytes that the host does not have yet.
    pub(super) fn unsent(&self) -> usize {
        let part = {
            let state = self.state.lock();
            state.part.len().saturating_sub(state.sent)
        };
        self.outbox.state().used().saturating_add(part)
    }

    /// Whether all is sent that was to be.
    ///
    /// # Errors
    /// EPIPE nothing can be sent any more; what became of the connection, once.
    pub(super) fn is_all_sent(&self) -> Result<bool> {
        if let Some(errno) = self.take_error() {
            return Err(Error::new(errno, "the connection broke"));
        }
        let is_shut = {
            let outbox = self.outbox.state();
            outbox.readers == 0 || outbox.writers == 0
        };
        if is_shut {
            kbase::bail!(EPIPE, "nothing can be sent any more");
        }
        Ok(self.unsent() == 0)
    }

    /// From now on [`Readiness::OUT`] means that all is sent, until the result is dropped.
    pub(super) fn await_dry(&self) -> AwaitingDry<'_> {
        self.awaiting_dry.fetch_add(1, Ordering::SeqCst);
        AwaitingDry(self)
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// ENOTCONN, as the host says.
    pub(super) fn shutdown(&self, how: u32) -> Result<()> {
        if how != shut::WR {
            self.platform.host_shutdown(self.fd, shut::RD)?;
            // The operation that is outstanding finds the end.
        }
        if how != shut::RD {
            self.state.lock().shuts = true;
            self.outbox.state().writers = 0;
            self.pump();
            self.platform.ring_kick();
        }
        self.notifier.broadcast(&Readiness::all());
        Ok(())
    }

    /// Posts a receiving operation if there is none and little waits.
    pub(super) fn want_more(&self) {
        {
            let inbox = self.inbox.state();
            if inbox.readable() > ENOUGH || inbox.writers == 0 {
                return;
            }
        }
        let is_refused = {
            let mut state = self.state.lock();
            if state.is_receiving || state.is_at_end || state.is_closed || state.is_gone {
                return;
            }
            // Under the lock, as all that is posted: what closes the descriptor is posted last.
            state.is_receiving = self.platform.ring_receive(self.fd, self.token).is_ok();
            !state.is_receiving
        };
        if is_refused {
            self.retry();
        }
    }

    /// Sends what there is to send, unless something is being sent.
    pub(super) fn pump(&self) {
        loop {
            let (mut part, mut sent) = {
                let mut state = self.state.lock();
                if state.sending != Sending::Idle || state.is_gone {
                    return;
                }
                state.sending = Sending::Busy;
                (core::mem::take(&mut state.part), core::mem::take(&mut state.sent))
            };
            if sent >= part.len() {
                self.fill(&mut part);
                sent = 0;
            }
            if !part.is_empty() {
                return self.post(part, sent);
            }
            let shuts = {
                let mut state = self.state.lock();
                state.part = part;
                let shuts = self.is_dry() && !state.is_gone && core::mem::take(&mut state.shuts);
                state.sending = if shuts { Sending::Calling } else { Sending::Idle };
                shuts
            };
            if shuts {
                // The peer hears that nothing more comes. That it has gone is no news.
                let _ = self.platform.host_shutdown(self.fd, shut::WR);
                self.state.lock().sending = Sending::Idle;
            }
            if self.is_dry() {
                if self.awaiting_dry.load(Ordering::SeqCst) > 0 {
                    self.notifier.broadcast(&Readiness::OUT);
                }
                return self.finish_if_closed();
            }
        }
    }

    fn is_dry(&self) -> bool {
        self.outbox.state().readable() == 0
    }

    /// Takes out of the queue what one operation sends.
    fn fill(&self, part: &mut Vec<u8>) {
        let wanted = self.outbox.state().readable().min(PART);
        part.resize(wanted, 0);
        let taken = match self.outbox.read(&mut SliceSink::new(part)) {
            Ok((taken, _)) => taken,
            Err(_) => 0,
        };
        part.truncate(taken);
    }

    /// Posts the operation that sends a part, from `sent` on.
    fn post(&self, part: Vec<u8>, sent: usize) {
        let is_last = self.is_dry();
        let is_refused = {
            // Under the lock, so that what becomes of it finds what it was.
            let mut state = self.state.lock();
            if state.is_gone {
                return;
            }
            (state.part, state.sent) = (part, sent);
            let rest = state.part.get(sent..).unwrap_or_default();
            let posted = self.platform.ring_send(self.fd, self.token, rest, state.more && is_last);
            match posted {
                Ok(()) => self.sockets.streams.note_sending(),
                Err(_) => state.sending = Sending::Idle,
            }
            posted.is_err()
        };
        if is_refused {
            self.retry();
        }
    }

    /// Something could not be posted: it is tried again, with all that may be.
    fn retry(&self) {
        if !self.is_to_retry.swap(true, Ordering::SeqCst) {
            self.sockets.streams.retry(&self.me);
        }
    }

    /// Posts what there is to be posted, after something could not be.
    pub(super) fn try_again(&self) {
        self.is_to_retry.store(false, Ordering::SeqCst);
        self.want_more();
        self.pump();
    }

    /// Posts the operation that waits for room.
    fn await_room(&self) {
        let is_refused = {
            let mut state = self.state.lock();
            if state.is_gone {
                return;
            }
            let posted = self.platform.ring_await_room(self.fd, self.token);
            match posted {
                Ok(()) => self.sockets.streams.note_awaiting(),
                Err(_) => state.sending = Sending::Idle,
            }
            posted.is_err()
        };
        if is_refused {
            self.retry();
        }
    }

    /// Something became of an operation.
    pub(super) fn on_event(&self, event: RingEvent) {
        match event {
            RingEvent::Received(result) => self.received(result),
            RingEvent::Sent(result) => self.sent(result),
            RingEvent::HasRoom => {
                self.state.lock().sending = Sending::Idle;
                self.pump();
            }
        }
    }

    fn received(&self, result: HostResult<Vec<u8>>) {
        let mut is_at_end = false;
        match result {
            Ok(data) if data.is_empty() => is_at_end = true,
            Ok(data) => self.inbox.queue_own(data),
            Err(error) if is_passing(error.0) => {}
            Err(error) => {
                self.break_off(error.0);
                is_at_end = true;
            }
        }
        {
            let mut state = self.state.lock();
            state.is_receiving = false;
            state.is_at_end |= is_at_end;
        }
        if is_at_end {
            self.inbox.state().writers = 0;
            self.notifier.broadcast(&Readiness::all());
        }
        self.want_more();
    }

    fn sent(&self, result: HostResult<usize>) {
        let mut is_full = false;
        match result {
            Ok(len) => {
                let mut state = self.state.lock();
                state.sent = state.sent.saturating_add(len).min(state.part.len());
                is_full = state.sent < state.part.len();
                if !is_full {
                    state.sent = 0;
                    if state.part.capacity() > KEPT {
                        state.part = Vec::new();
                    }
                    state.part.clear();
                }
            }
            Err(error) if error.0 == Errno::EAGAIN => is_full = true,
            Err(error) if is_passing(error.0) => {}
            Err(error) => {
                self.break_off(error.0);
                {
                    let mut state = self.state.lock();
                    (state.part, state.sent) = (Vec::new(), 0);
                }
                self.outbox.clear();
            }
        }
        if is_full {
            return self.await_room();
        }
        self.state.lock().sending = Sending::Idle;
        self.pump();
    }

    /// Nothing can be sent any more.
    fn break_off(&self, errno: Errno) {
        // Who sends hears EPIPE in any case.
        if errno != Errno::EPIPE {
            self.state.lock().error.get_or_insert(errno);
        }
        self.outbox.state().readers = 0;
        self.notifier.broadcast(&Readiness::all());
    }
}

/// Somebody waits until all is sent.
pub(super) struct AwaitingDry<'a>(&'a RingStream);

impl Drop for AwaitingDry<'_> {
    fn drop(&mut self) {
        if self.0.awaiting_dry.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.notifier.broadcast(&Readiness::OUT);
        }
    }
}

fn is_again<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.errno() == Errno::EAGAIN)
}

/// Whether an operation that ended so is made again.
fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR | Errno::ECANCELED)
}
