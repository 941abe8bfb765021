//! Sending and receiving.

use super::ancillary::{Ancillary, NOBODY};
use super::name::Name;
use super::{Link, Packet, Packets, RECEIVING, SENDING, UnixSocket};
use crate::Ctx;
use crate::fs::wait::{self, Source};
use crate::net::local::{Limit, Queue};
use crate::net::{Address, Incoming, Outgoing, Received};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::{MessageFlags, kind};
use vfs::{File, Readiness};

/// Flags of sending.
const SENDABLE: MessageFlags = MessageFlags::DONTWAIT
    .union(MessageFlags::NOSIGNAL)
    .union(MessageFlags::EOR)
    .union(MessageFlags::MORE)
    .union(MessageFlags::DONTROUTE)
    .union(MessageFlags::CONFIRM)
    .union(MessageFlags::PEEK)
    .union(MessageFlags::TRUNC)
    .union(MessageFlags::WAITALL)
    .union(MessageFlags::CMSG_CLOEXEC);
/// Flags of receiving.
const RECEIVABLE: MessageFlags = SENDABLE.union(MessageFlags::WAITFORONE);

/// What was taken from a queue.
pub(super) struct Taken {
    /// Bytes that were copied; of a message with MSG_TRUNC, its length.
    pub(super) len: usize,
    ancillary: Ancillary,
    from: Option<Arc<Name>>,
    is_cut: bool,
}

impl UnixSocket {
    /// Takes what is there.
    pub(super) fn try_receive(&self, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<Taken> {
        let is_peek = flags.contains(MessageFlags::PEEK);
        if self.is_datagram() {
            return take_packet(&self.inbox, into, flags);
        }
        let link = match self.link.get() {
            Some(link) => link,
            None if self.kind == kind::STREAM => bail!(EINVAL, "the socket is not connected"),
            None => bail!(ENOTCONN, "the socket is not connected"),
        };
        let result = match &link.incoming.queue {
            Queue::Bytes(ring) => {
                let result = self.urgent.read(ring, into, is_peek, self.options.is_inline());
                result.map(|(len, mark)| Taken {
                    len,
                    ancillary: mark.unwrap_or_default(),
                    from: None,
                    is_cut: false,
                })
            }
            Queue::Messages(packets) => take_packet(packets, into, flags),
        };
        let is_nothing = match &result {
            Ok(taken) => taken.len == 0,
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
        if flags.contains(MessageFlags::OOB) {
            return self.receive_urgent(data, flags);
        }
        if !RECEIVABLE.contains(flags) {
            bail!(EOPNOTSUPP, "a flag that receiving does not have here");
        }
        let is_stream = self.kind == kind::STREAM;
        let wants_all =
            is_stream && flags.contains(MessageFlags::WAITALL) && !flags.contains(MessageFlags::PEEK);
        let mut done = 0usize;
        let mut ancillary = Ancillary::default();
        let (mut from, mut is_cut) = (None, false);
        loop {
            match self.try_receive(data, flags) {
                Ok(taken) => {
                    done = done.saturating_add(taken.len);
                    let is_marked = !taken.ancillary.is_empty();
                    (ancillary, from, is_cut) = (taken.ancillary, taken.from, taken.is_cut);
                    if !wants_all || taken.len == 0 || is_marked || data.remaining() == 0 {
                        break;
                    }
                }
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
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
        let wants_credentials = self.options.passes_credentials().then_some(unsigned);
        let (control, control_flags) = ancillary.deliver(ctx, wants_credentials, control_room, flags);
        let cut = if is_cut { MessageFlags::TRUNC } else { MessageFlags::empty() };
        Ok(Received { len: done, from: self.address_of_sender(from), control, flags: cut | control_flags })
    }

    /// What `recvfrom(2)` tells of a sender: nothing of one without a name.
    fn address_of_sender(&self, from: Option<Arc<Name>>) -> Address {
        let name = match self.link.get() {
            Some(link) => link.peer_name.lock().clone(),
            None => from,
        };
        name.map_or(Address::NONE, |name| Name::address(Some(&name)))
    }

    /// `write(2)`: what there is room for.
    pub(super) fn try_write(&self, from: &mut dyn ByteSource) -> Result<usize> {
        if self.is_datagram() {
            let receiver = self.connected_receiver()?;
            let packet = self.packet(from, Ancillary::default())?;
            let limit = self.limit_to(&receiver);
            return self.try_push(&receiver.inbox, packet, limit, from);
        }
        let link = self.link()?;
        if self.has_reset(link) {
            bail!(ECONNRESET, "the peer closed with data that it had not received");
        }
        match &link.outgoing.queue {
            Queue::Bytes(ring) => ring.write(from, &mut None),
            Queue::Messages(packets) => {
                let packet = self.packet(from, Ancillary::default())?;
                self.try_push(packets, packet, self.link_limit(), from)
            }
        }
    }

    fn has_reset(&self, link: &Link) -> bool {
        // A stream hears of it as EPIPE when it sends.
        self.kind != kind::STREAM && link.outgoing.take_reset()
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

    /// The message of all that a program sends.
    fn packet(&self, from: &mut dyn ByteSource, ancillary: Ancillary) -> Result<Packet> {
        if from.remaining() > self.options.send_buffer().saturating_sub(32) {
            bail!(EMSGSIZE, "the message is longer than the buffer");
        }
        let mut data = alloc::vec![0; from.remaining()];
        let taken = if data.is_empty() { 0 } else { from.take(&mut data)? };
        data.truncate(taken);
        Ok(Packet { data: Arc::new(data), from: self.current_name(), ancillary })
    }

    fn connected_receiver(&self) -> Result<Arc<Self>> {
        let peer = match &*self.peer.lock() {
            None => bail!(ENOTCONN, "the socket has no peer"),
            Some(peer) => peer.upgrade(),
        };
        peer.ok_or(Error::new(Errno::ECONNREFUSED, "the peer is closed"))
    }

    /// `sendmsg(2)`.
    pub(super) fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        if let Some(host) = self.outside()
            && message.to.is_empty()
        {
            return self.send_outside(ctx, host, message);
        }
        if message.flags.contains(MessageFlags::OOB) {
            return self.send_urgent(ctx, message);
        }
        let Outgoing { data, to, control, flags, is_blocking } = message;
        if !SENDABLE.contains(flags) {
            bail!(EOPNOTSUPP, "a flag that sending does not have here");
        }
        let mut ancillary = Ancillary::of_program(ctx, &self.domain.in_flight, control)?;
        if self.is_datagram() {
            return self.send_datagram(ctx, (data, to), ancillary, is_blocking);
        }
        if self.kind == kind::STREAM && !to.is_empty() {
            if self.link.get().is_some() || self.outside().is_some() {
                bail!(EISCONN, "the socket is connected");
            }
            bail!(EOPNOTSUPP, "a stream has one peer");
        }
        let link = self.link()?;
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
        mut ancillary: Ancillary,
        is_blocking: bool,
    ) -> Result<usize> {
        if self.is_shut(SENDING) {
            bail!(EPIPE, "the socket was shut down");
        }
        let receiver = if to.is_empty() { self.connected_receiver()? } else { self.find_receiver(ctx, to)? };
        ancillary.sign(ctx, receiver.options.passes_credentials() || self.options.passes_credentials());
        let packet = self.packet(data, ancillary)?;
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
        return Ok(Taken { len: 0, ancillary: Ancillary::default(), from: None, is_cut: false });
    };
    let put = packet.put(into)?;
    let whole = packet.data.len();
    Ok(Taken {
        len: if flags.contains(MessageFlags::TRUNC) { whole } else { put },
        ancillary: packet.ancillary,
        from: packet.from,
        is_cut: put < whole,
    })
}
