//! Sending and receiving.

use super::ancillary::{Ancillary, NOBODY, Wanted};
use super::name::{self, Name};
use super::{Link, NameCell, Packet, Packets, RECEIVING, SENDING, UnixSocket};
use crate::Ctx;
use crate::fs::ring::Marks;
use crate::fs::wait::{self, Source};
use crate::net::local::{Limit, Queue};
use crate::net::{Address, Incoming, Outgoing, Received};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::{MessageFlags, Ucred, kind};
use vfs::{File, Readiness};

/// What was taken from a queue.
pub(super) struct Taken {
    /// Bytes that were copied; of a message with MSG_TRUNC, its length.
    pub(super) len: usize,
    ancillary: Ancillary,
    /// The name of who sent it, which it may have got since.
    from: Option<NameCell>,
    is_cut: bool,
    /// Nothing comes any more.
    is_end: bool,
}

impl UnixSocket {
    /// Whether who waits to receive hears of an end, which who does not wait is not told of: datagrams have none, but such a socket can
    /// be shut down.
    pub(super) fn ends_waits(&self) -> bool {
        self.is_datagram() && self.is_shut(RECEIVING)
    }

    /// Takes what is there.
    pub(super) fn try_receive(&self, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<Taken> {
        let is_peek = flags.contains(MessageFlags::PEEK);
        if self.is_datagram() {
            self.tell_reset()?;
            let taken = take_packet(&self.inbox, into, flags)?;
            if taken.is_end {
                // See [`Self::ends_waits`].
                bail!(EAGAIN, "the socket was shut down");
            }
            return Ok(taken);
        }
        let link = match self.link.get() {
            Some(link) => link,
            None if self.kind == kind::STREAM => bail!(EINVAL, "the socket is not connected"),
            None => bail!(ENOTCONN, "the socket is not connected"),
        };
        if matches!(link.incoming.queue, Queue::Messages(_)) {
            self.tell_reset()?;
        }
        let wants_none = into.remaining() == 0;
        let is_empty = wants_none && !link.incoming.is_readable();
        let result = match &link.incoming.queue {
            Queue::Bytes(_) if is_empty && !link.incoming.is_over() => {
                Err(Error::new(Errno::EAGAIN, "nothing is there, not even for who wants nothing"))
            }
            Queue::Bytes(ring) => {
                // What different senders signed does not come together.
                let is_signed = self.options.passes_credentials();
                let marks = if is_signed { Marks::Apart } else { Marks::Behind };
                let result = self.urgent.read(ring, into, marks, is_peek, self.options.is_inline());
                result.map(|(len, mark)| Taken {
                    len,
                    ancillary: mark.unwrap_or_default(),
                    from: None,
                    is_cut: false,
                    is_end: len == 0 && (is_empty || !wants_none),
                })
            }
            Queue::Messages(packets) => take_packet(packets, into, flags),
        };
        let is_nothing = match &result {
            Ok(taken) => taken.is_end,
            Err(error) => error.errno() == Errno::EAGAIN,
        };
        if is_nothing && link.outgoing.take_reset() {
            bail!(ECONNRESET, "the peer closed with data that it had not received");
        }
        result
    }

    /// `recvmsg(2)`.
    pub(super) fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        if let Some(host) = self.outside() {
            return self.receive_outside(ctx, host, wanted);
        }
        let Incoming { data, control_room, flags, is_blocking } = wanted;
        if self.kind == kind::SEQPACKET {
            self.link()?;
        }
        if flags.contains(MessageFlags::OOB) {
            return self.receive_urgent(data, flags);
        }
        let is_stream = self.kind == kind::STREAM;
        let wants_all =
            is_stream && flags.contains(MessageFlags::WAITALL) && !flags.contains(MessageFlags::PEEK);
        let mut done = 0usize;
        let mut ancillary = Ancillary::default();
        let (mut from, mut is_cut, mut is_end) = (None, false, false);
        loop {
            match self.try_receive(data, flags) {
                Ok(taken) => {
                    done = done.saturating_add(taken.len);
                    let is_marked = !taken.ancillary.is_empty();
                    is_end = taken.is_end && done == 0;
                    (ancillary, from, is_cut) = (taken.ancillary, taken.from, taken.is_cut);
                    if !wants_all || taken.len == 0 || is_marked || data.remaining() == 0 {
                        break;
                    }
                }
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    if self.ends_waits() {
                        is_end = true;
                        break;
                    }
                    match wait::wait_for(ctx, self, Readiness::IN) {
                        Err(_) if done > 0 => break,
                        result => result?,
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        // `write(2)` does not sign: the peer sent it, as far as is known.
        let unsigned = self.link.get().map_or(NOBODY, |link| link.peer_credentials);
        // At the end of a stream it is nobody, and of messages nothing is said.
        let sender = match (is_end, is_stream) {
            (false, _) => Some(unsigned),
            (true, true) => Some(Ucred { pid: 0, uid: 0, gid: 0 }),
            (true, false) => None,
        };
        let wanted = Wanted {
            credentials: sender.filter(|_| self.options.passes_credentials()),
            time: self.options.wanted_time().filter(|_| !is_stream && !is_end),
        };
        let (control, control_flags) = ancillary.deliver(ctx, &wanted, control_room, flags);
        let cut = if is_cut { MessageFlags::TRUNC } else { MessageFlags::empty() };
        let from = if is_end { Address::NONE } else { self.address_of_sender(from) };
        Ok(Received { len: done, from, control, flags: cut | control_flags })
    }

    /// What `recvfrom(2)` tells of a sender: nothing of one without a name.
    fn address_of_sender(&self, from: Option<NameCell>) -> Address {
        let name = match self.link.get() {
            Some(link) => link.peer_name.lock().clone(),
            None => from.and_then(|name| name.lock().clone()),
        };
        name.map_or(Address::NONE, |name| Name::address(Some(&name)))
    }

    /// `write(2)`: what there is room for.
    pub(super) fn try_write(&self, from: &mut dyn ByteSource) -> Result<usize> {
        if self.is_datagram() {
            let packet = self.datagram(from, Ancillary::default())?;
            let receiver = self.connected_receiver()?;
            let limit = self.limit_to(&receiver);
            return self.try_push(&receiver.inbox, packet, limit, from);
        }
        let link = self.link()?;
        self.check_open(link)?;
        match &link.outgoing.queue {
            Queue::Bytes(ring) => ring.write(from, &mut None),
            Queue::Messages(packets) => {
                let packet = self.packet(from, Ancillary::default())?;
                self.try_push(packets, packet, self.link_limit(), from)
            }
        }
    }

    fn tell_reset(&self) -> Result<()> {
        if self.take_reset() {
            bail!(ECONNRESET, "the peer is gone, and what it had not received");
        }
        Ok(())
    }

    /// Refuses to send where nobody receives, whatever is to be sent.
    fn check_open(&self, link: &Link) -> Result<()> {
        // A stream hears of a reset as EPIPE when it sends.
        if self.kind != kind::STREAM {
            self.tell_reset()?;
        }
        if self.is_shut(SENDING) || link.outgoing.is_over() {
            bail!(EPIPE, "nobody receives any more");
        }
        Ok(())
    }

    fn try_push(
        &self,
        packets: &Packets,
        packet: Packet,
        limit: Limit,
        from: &mut dyn ByteSource,
    ) -> Result<usize> {
        let len = packet.data.len();
        match packets.push(packet, limit, &self.notifier) {
            Ok(()) => Ok(len),
            Err((error, _)) => {
                from.give_back(len);
                Err(error)
            }
        }
    }

    fn check_length(&self, from: &dyn ByteSource) -> Result<()> {
        if from.remaining() > self.options.send_buffer().saturating_sub(32) {
            bail!(EMSGSIZE, "the message is longer than the buffer");
        }
        Ok(())
    }

    /// The message of all that a program sends.
    fn packet(&self, from: &mut dyn ByteSource, ancillary: Ancillary) -> Result<Packet> {
        self.check_length(from)?;
        let mut data = alloc::vec![0; from.remaining()];
        let taken = if data.is_empty() { 0 } else { from.take(&mut data)? };
        data.truncate(taken);
        Ok(Packet { data: Arc::new(data), from: Some(Arc::clone(&self.name)), ancillary })
    }

    /// The message that a datagram socket sends, whoever is to receive it.
    fn datagram(&self, from: &mut dyn ByteSource, ancillary: Ancillary) -> Result<Packet> {
        self.bind_who_signs()?;
        self.check_length(from)?;
        self.tell_reset()?;
        if self.is_shut(SENDING) {
            bail!(EPIPE, "the socket was shut down");
        }
        self.packet(from, ancillary)
    }

    /// The peer of a datagram socket. One that is closed is the peer no more for who hears of it.
    fn connected_receiver(&self) -> Result<Arc<Self>> {
        let mut peer = self.peer.lock();
        let receiver = match &*peer {
            None => bail!(ENOTCONN, "the socket has no peer"),
            Some(peer) => peer.socket.upgrade(),
        };
        if receiver.is_none() {
            *peer = None;
            drop(peer);
            self.leave(None);
        }
        receiver.ok_or(Error::new(Errno::ECONNREFUSED, "the peer is closed"))
    }

    /// `sendmsg(2)`.
    pub(super) fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        if let Some(host) = self.outside()
            && message.to.is_empty()
        {
            return self.send_outside(ctx, host, message);
        }
        if self.kind == kind::SEQPACKET {
            self.tell_reset()?;
            self.link()?;
        }
        let Outgoing { data, to, control, flags, is_blocking } = message;
        let mut ancillary = Ancillary::of_program(ctx, &self.domain.in_flight, control)?;
        let is_urgent = flags.contains(MessageFlags::OOB);
        if is_urgent && (self.kind != kind::STREAM || data.remaining() == 0) {
            bail!(EOPNOTSUPP, "no urgent data of messages, nor none of it");
        }
        if self.is_datagram() {
            if !to.is_empty() {
                name::check(to)?;
            }
            return self.send_datagram(ctx, (data, to), ancillary, is_blocking);
        }
        if self.kind == kind::STREAM && !to.is_empty() {
            if self.link.get().is_some() || self.outside().is_some() {
                bail!(EISCONN, "the socket is connected");
            }
            bail!(EOPNOTSUPP, "a stream has one peer");
        }
        let link = self.link()?;
        self.check_open(link)?;
        if is_urgent {
            let control = if ancillary.is_empty() { &[] } else { control };
            return self.send_urgent(ctx, Outgoing { data, to, control, flags, is_blocking });
        }
        if self.kind == kind::SEQPACKET {
            self.bind_who_signs()?;
        }
        let wants_credentials = link.peer_wants_credentials.load(Ordering::SeqCst);
        ancillary.sign(ctx, wants_credentials || self.options.passes_credentials());
        match &link.outgoing.queue {
            Queue::Bytes(ring) => {
                let mark = &mut Some(ancillary).filter(|ancillary| !ancillary.is_empty());
                let mut done = 0usize;
                loop {
                    match ring.write(data, mark) {
                        Ok(sent) => {
                            done = done.saturating_add(sent);
                            if data.remaining() == 0 || sent == 0 {
                                return Ok(done);
                            }
                        }
                        Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                            match wait::wait_for(ctx, self, Readiness::OUT) {
                                Err(_) if done > 0 => return Ok(done),
                                result => result?,
                            }
                        }
                        Err(_) if done > 0 => return Ok(done),
                        Err(error) => return Err(error),
                    }
                }
            }
            Queue::Messages(packets) => {
                let packet = self.packet(data, ancillary)?;
                self.push(ctx, packets, packet, self.link_limit(), is_blocking)
            }
        }
    }

    fn send_datagram(
        &self,
        ctx: &Ctx<'_>,
        (data, to): (&mut dyn ByteSource, &[u8]),
        ancillary: Ancillary,
        is_blocking: bool,
    ) -> Result<usize> {
        let mut packet = self.datagram(data, ancillary)?;
        let receiver = if to.is_empty() { self.connected_receiver()? } else { self.find_receiver(ctx, to)? };
        let is_signed = receiver.options.passes_credentials() || self.options.passes_credentials();
        packet.ancillary.sign(ctx, is_signed);
        packet.ancillary.sent_ns = receiver.options.wanted_time().map(|_| ctx.platform().realtime_ns());
        let limit = self.limit_to(&receiver);
        // Who waits does not keep the receiver from closing.
        let (inbox, weak) = (Arc::clone(&receiver.inbox), Arc::downgrade(&receiver));
        drop(receiver);
        self.push(ctx, &inbox, packet, limit, is_blocking).map_err(|error| {
            let is_there = weak.upgrade().is_some_and(|receiver| receiver.is_shut(RECEIVING));
            if error.errno() == Errno::EPIPE && !is_there {
                return Error::new(Errno::ECONNREFUSED, "the peer is closed");
            }
            error
        })
    }

    /// Adds a message to a queue, and waits for room if it may.
    fn push(
        &self,
        ctx: &Ctx<'_>,
        packets: &Packets,
        mut packet: Packet,
        limit: Limit,
        is_blocking: bool,
    ) -> Result<usize> {
        let len = packet.data.len();
        let wait_limit = self.wait_limit_ns(Readiness::OUT);
        let deadline = wait_limit.map(|limit| ctx.platform().monotonic_ns().saturating_add(limit));
        loop {
            match packets.push(packet, limit, &self.notifier) {
                Ok(()) => return Ok(len),
                Err((error, back)) if is_blocking && error.errno() == Errno::EAGAIN => {
                    packet = back;
                    let source = Source { notifier: &self.notifier, events: Readiness::OUT };
                    let look = |_: &[_]| packets.has_room(limit, &self.notifier).then_some(());
                    match wait::wait_until(ctx, &[source], &mut [], deadline, || None, look)? {
                        Some(()) => {}
                        None => return Err(error),
                    }
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

fn take_packet(packets: &Packets, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<Taken> {
    let Some(packet) = packets.pop(flags.contains(MessageFlags::PEEK))? else {
        return Ok(Taken {
            len: 0,
            ancillary: Ancillary::default(),
            from: None,
            is_cut: false,
            is_end: true,
        });
    };
    let put = packet.put(into)?;
    let whole = packet.data.len();
    Ok(Taken {
        len: if flags.contains(MessageFlags::TRUNC) { whole } else { put },
        ancillary: packet.ancillary,
        from: packet.from,
        is_cut: put < whole,
        is_end: false,
    })
}
