//! What goes over a connection inside.

use super::urgent::Urgent;
use super::{Link, Progress, RECEIVING, SENDING, SENT_TO_NOBODY, THERE, TOLD};
use crate::fs::ring::{Marks, Ring};
use crate::net::inet::InetSocket;
use crate::net::local::Queue;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, SliceSink, bail};
use linux_abi::net::MessageFlags;
use vfs::Readiness;

impl InetSocket {
    /// The connection inside.
    pub(super) fn link(&self) -> Result<Arc<Link>> {
        if let Some(link) = self.stream.link() {
            return Ok(link);
        }
        match (self.progress(), self.take_progress_error()) {
            (Progress::Waiting, _) => bail!(EAGAIN, "the connection is not made yet"),
            (_, Some(errno)) => Err(Error::new(errno, "the connection failed, or was dissolved")),
            _ => bail!(ENOTCONN, "the socket is not connected"),
        }
    }

    /// Takes what is there.
    pub(in crate::net::inet) fn try_receive(
        &self,
        into: &mut dyn ByteSink,
        flags: MessageFlags,
    ) -> Result<usize> {
        if flags.contains(MessageFlags::OOB) && !self.listens() {
            return self.receive_urgent(into, flags);
        }
        let link = match self.link() {
            // A connection that failed has ended.
            Err(error)
                if error.errno() == Errno::ENOTCONN
                    && !self.listens()
                    && (self.is_shut(RECEIVING) || self.progress() == Progress::Dead) =>
            {
                return Ok(0);
            }
            result => result?,
        };
        let Queue::Bytes(ring) = &link.incoming.queue else { return Ok(0) };
        let is_peek = flags.contains(MessageFlags::PEEK);
        let skips = self.is_at_mark(ring) && !self.is_urgent_inline();
        if skips && !is_peek {
            // It is received with MSG_OOB or never.
            let (_, mark) = ring.read(&mut SliceSink::new(&mut [0]))?;
            self.stream.urgent.pass(mark);
        }
        if into.remaining() == 0 && self.readable(&link) == 0 && !self.is_over(&link) {
            bail!(EAGAIN, "nothing is there, not even for who wants nothing");
        }
        let result = if is_peek {
            ring.peek_behind(into, Marks::Apart, skips.into()).map(|(len, _)| len)
        } else {
            self.read_up_to_mark(ring, into)
        };
        let is_nothing = match &result {
            Ok(len) => *len == 0 && self.readable(&link) == 0,
            Err(error) => error.errno() == Errno::EAGAIN,
        };
        if is_nothing {
            if link.outgoing.take_reset() {
                bail!(ECONNRESET, "the peer closed with data that it had not received");
            }
            if self.is_shut(RECEIVING) {
                return Ok(0);
            }
        }
        result
    }

    /// Reads up to the urgent byte. Marks of earlier ones mean nothing any more.
    fn read_up_to_mark(&self, ring: &Ring<Urgent>, into: &mut dyn ByteSink) -> Result<usize> {
        let mut done = 0usize;
        loop {
            match ring.read(into) {
                Ok((len, mark)) => {
                    self.stream.urgent.pass(mark);
                    done = done.saturating_add(len);
                    let is_all = len == 0 || into.remaining() == 0 || !self.stream.urgent.is_used();
                    if is_all || self.is_at_mark(ring) {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if ring.state().readable() == 0 {
                return Ok(done);
            }
        }
    }

    /// Whether the next byte is the urgent one.
    pub(super) fn is_at_mark(&self, ring: &Ring<Urgent>) -> bool {
        self.stream.urgent.is_used() && ring.front_mark().is_some_and(|mark| self.stream.urgent.is_last(mark))
    }

    /// Sends what there is room for.
    pub(in crate::net::inet) fn try_send(&self, from: &mut dyn ByteSource) -> Result<usize> {
        let link = self.link_to_send()?;
        if self.is_shut(SENDING) || (from.remaining() == 0 && self.is_gone(&link)) {
            link.void.compare_exchange(SENT_TO_NOBODY, TOLD, Ordering::SeqCst, Ordering::SeqCst).ok();
            bail!(EPIPE, "nothing can be sent any more, not even nothing");
        }
        let Queue::Bytes(ring) = &link.outgoing.queue else { return Ok(0) };
        if from.remaining() > 0 && link.peer_shut.load(Ordering::SeqCst) == RECEIVING | SENDING {
            // Who neither receives nor sends answers with a reset, which is news to both.
            link.reset_by_peer();
        }
        match ring.write(from, &mut None) {
            Err(error) if error.errno() == Errno::EPIPE => self.send_to_nobody(&link, from, error),
            result => result,
        }
    }

    /// The connection inside, for who sends.
    pub(super) fn link_to_send(&self) -> Result<Arc<Link>> {
        let link = match self.link() {
            Err(error) if error.errno() == Errno::ENOTCONN => bail!(EPIPE, "the socket is not connected"),
            result => result?,
        };
        if link.outgoing.take_reset() {
            bail!(ECONNRESET, "the peer closed with data that it had not received");
        }
        Ok(link)
    }

    /// Whether the peer receives nothing any more.
    pub(in crate::net::inet) fn has_no_receiver(&self) -> bool {
        self.stream.link().is_some_and(|link| {
            !link.outgoing.ends().0 || link.peer_shut.load(Ordering::SeqCst) == RECEIVING | SENDING
        })
    }

    /// The first thing that is sent to a peer that closed is sent: it is answered by a reset.
    pub(super) fn send_to_nobody(
        &self,
        link: &Link,
        from: &mut dyn ByteSource,
        error: Error,
    ) -> Result<usize> {
        let is_first = !self.is_shut(SENDING)
            && !link.outgoing.was_reset()
            && link.void.compare_exchange(THERE, SENT_TO_NOBODY, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !is_first {
            link.void.compare_exchange(SENT_TO_NOBODY, TOLD, Ordering::SeqCst, Ordering::SeqCst).ok();
            return Err(error);
        }
        let (mut done, mut bounce) = (0usize, [0; 512]);
        while from.remaining() > 0 {
            match from.take(&mut bounce) {
                Ok(0) => break,
                Ok(taken) => done = done.saturating_add(taken),
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.notifier.broadcast(&Readiness::all());
        Ok(done)
    }
}
