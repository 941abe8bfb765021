//! What is sent and received: to and from inboxes, and by the host.

use super::along::{Along, Wishes};
use super::{InetSocket, RECEIVING, Report, Road, SENDING, longest};
use crate::Ctx;
use crate::fs::wait;
use crate::net::inet::cork::Part;
use crate::net::inet::endpoint;
use crate::net::inet::host::{self, HostSocket, no_wait};
use crate::net::local::{self, Chain, Limit};
use crate::net::{Incoming, Outgoing, Received};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::option::{SOL_SOCKET, ip, ipv6, socket, udp};
use linux_abi::net::{MessageFlags, family, protocol};
use vfs::Readiness;

/// Most parts that UDP_SEGMENT makes of one message (UDP_MAX_SEGMENTS).
const SEGMENTS: usize = 64;
/// Reports that wait at most.
const REPORTS: usize = 64;
/// Of so many datagrams that are received, one is asked of the host first.
const HOST_TURN: usize = 8;

impl InetSocket {
    /// `send(2)` on a datagram socket.
    pub(in crate::net::inet) fn send_datagram(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        let mut wait = |events| {
            if message.is_blocking { wait::wait_for(ctx, self, events) } else { no_wait(events) }
        };
        self.send_one(message.data, (message.to, message.control), message.flags, &mut wait)
    }

    /// Sends a datagram inside or through the host.
    pub(in crate::net::inet) fn send_one(
        &self,
        data: &mut dyn ByteSource,
        (bytes, control): (&[u8], &[u8]),
        flags: MessageFlags,
        wait: host::Wait<'_>,
    ) -> Result<usize> {
        if flags.contains(MessageFlags::OOB) && self.family == family::INET {
            bail!(EOPNOTSUPP, "datagrams are not urgent");
        }
        let is_corked = self.is_corked(flags);
        if self.has_part()
            && let Some(taken) = self.gather(None, data, is_corked)?
        {
            return Ok(taken);
        }
        let at_host = &self.datagram.has_part_at_host;
        if at_host.load(Ordering::Relaxed)
            && let Some(host) = self.host()
        {
            // Where it goes is known there.
            let sent = host.send_message(data, bytes, control, flags, wait);
            at_host.store(is_corked && sent.is_ok(), Ordering::Relaxed);
            return sent;
        }
        let to = self.destination(bytes)?;
        let road = self.road(to, control)?;
        if data.remaining() > longest(to.target) {
            bail!(EMSGSIZE, "the datagram is too long");
        }
        self.tell_error()?;
        if self.datagram.is_shut(SENDING) {
            bail!(EPIPE, "the socket was shut down");
        }
        let (receiver, source, wishes) = match road {
            Road::Inside { receiver, source, wishes } => (receiver, source, wishes),
            Road::Host => {
                // Who names the peer hears of what goes wrong, too.
                let peer = self.datagram.peer().filter(|&peer| to.is_peer || peer == to.target);
                let host = self.host_towards(peer)?;
                let to = if to.is_peer { &[] } else { bytes };
                let sent = host.send_message(data, to, control, flags, wait);
                at_host.store(is_corked && sent.is_ok(), Ordering::Relaxed);
                return sent;
            }
        };
        if is_corked {
            let taken = self.gather(Some(Part::new(to, source, wishes)), data, true)?;
            return Ok(taken.unwrap_or_default());
        }
        let target = to.target;
        self.segment(data.remaining(), &wishes)?;
        let mut bytes = alloc::vec![0; data.remaining()];
        let taken = if bytes.is_empty() { 0 } else { data.take(&mut bytes)? };
        bytes.truncate(taken);
        match receiver {
            Some(receiver) => self.deliver(&receiver, (source, target), bytes, &wishes)?,
            None => self.lose(target, bytes),
        }
        Ok(taken)
    }

    /// The bytes of a part of a datagram (UDP_SEGMENT); 0: it is not parted.
    fn segment(&self, len: usize, wishes: &Wishes) -> Result<usize> {
        let segment = match wishes.segment {
            0 => usize::try_from(self.options.number(protocol::UDP, udp::SEGMENT, 0)).unwrap_or_default(),
            segment => segment,
        };
        if segment > 0 && len.div_ceil(segment) > SEGMENTS {
            bail!(EINVAL, "too many segments");
        }
        Ok(segment)
    }

    /// Puts a datagram, or what UDP_SEGMENT makes of it, into an inbox.
    pub(in crate::net::inet) fn deliver(
        &self,
        receiver: &Self,
        (source, target): (SocketAddr, SocketAddr),
        bytes: Vec<u8>,
        wishes: &Wishes,
    ) -> Result<()> {
        let options = &receiver.options;
        let wants_time =
            [socket::TIMESTAMP, socket::TIMESTAMPNS].iter().any(|&o| options.is_on(SOL_SOCKET, o));
        let (level, hops, class) = if target.is_ipv4() {
            (protocol::IP, ip::TTL, ip::TOS)
        } else {
            (protocol::IPV6, ipv6::UNICAST_HOPS, ipv6::TCLASS)
        };
        let along = Along {
            to: target.ip(),
            sent_ns: if wants_time { self.inet.platform.realtime_ns() } else { 0 },
            hops: wishes.hops.unwrap_or_else(|| self.options.number(level, hops, 64)),
            class: wishes.class.unwrap_or_else(|| self.options.number(level, class, 0)),
            dropped: 0,
        };
        let limit = Limit { bytes: options.receive_buffer(), messages: usize::MAX };
        let push = |data: Vec<u8>| {
            let packet = local::Packet { data: Arc::new(data), from: Some(source), ancillary: along };
            let learn = |along: &mut Along, dropped| along.dropped = dropped;
            receiver.datagram.inbox.push_or_drop(packet, limit, learn);
        };
        let segment = self.segment(bytes.len(), wishes)?;
        if segment == 0 || bytes.len() <= segment {
            push(bytes);
            return Ok(());
        }
        bytes.chunks(segment).for_each(|part| push(part.to_vec()));
        Ok(())
    }

    /// Nobody is where a datagram goes.
    pub(in crate::net::inet) fn lose(&self, target: SocketAddr, data: Vec<u8>) {
        let level =
            if target.is_ipv4() { (protocol::IP, ip::RECVERR) } else { (protocol::IPV6, ipv6::RECVERR) };
        let wants_report = self.options.is_on(level.0, level.1);
        if wants_report {
            let mut reports = self.datagram.reports.lock();
            if reports.len() < REPORTS {
                reports.push_back(Report { data, to: target });
            }
        }
        if wants_report || self.datagram.peer() == Some(target) {
            *self.datagram.error.lock() = Some(Errno::ECONNREFUSED);
            self.notifier.broadcast(&(Readiness::ERR | Readiness::IN | Readiness::OUT));
        }
    }

    /// `recv(2)` on a datagram socket.
    pub(in crate::net::inet) fn receive_datagram(
        &self,
        ctx: &Ctx<'_>,
        wanted: Incoming<'_>,
    ) -> Result<Received> {
        let Incoming { data, control_room, flags, is_blocking } = wanted;
        if flags.contains(MessageFlags::ERRQUEUE) {
            return self.receive_report(data, control_room);
        }
        loop {
            match self.try_receive_datagram(data, control_room, flags, !is_blocking) {
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    if self.datagram.is_shut(RECEIVING) {
                        return Ok(Received::default());
                    }
                    wait::wait_for(ctx, self, Readiness::IN)?;
                }
                result => return result,
            }
        }
    }

    /// `read(2)`, which does not wait. Who would wait hears of an end, which who would not is not told of: datagrams have none, but a
    /// socket can be shut down.
    pub(in crate::net::inet) fn read_datagram(
        &self,
        into: &mut dyn ByteSink,
        nonblocking: bool,
    ) -> Result<usize> {
        match self.try_receive_datagram(into, None, MessageFlags::empty(), true) {
            Err(error)
                if !nonblocking && error.errno() == Errno::EAGAIN && self.datagram.is_shut(RECEIVING) =>
            {
                Ok(0)
            }
            result => result.map(|received| received.len),
        }
    }

    /// Whether there is something to receive, or to be told, that is not the host's.
    pub(in crate::net::inet) fn has_own_to_tell(&self) -> bool {
        let datagram = &self.datagram;
        datagram.inbox.has_messages() || datagram.is_shut(RECEIVING) || datagram.error.lock().is_some()
    }

    /// The socket of the host, unless all that it has is from others than the peer.
    pub(in crate::net::inet) fn host_that_receives(&self) -> Option<&Arc<HostSocket>> {
        let peer = self.datagram.peer();
        let is_of_peer = peer.is_none() || peer == *self.datagram.host_peer.lock();
        self.host().filter(|_| is_of_peer)
    }

    /// Takes what is there; `asks_host`: also where the host is not known to have something.
    pub(in crate::net::inet) fn try_receive_datagram(
        &self,
        data: &mut dyn ByteSink,
        control_room: Option<usize>,
        flags: MessageFlags,
        asks_host: bool,
    ) -> Result<Received> {
        self.tell_error()?;
        let is_hosts_turn = self.datagram.turn.fetch_add(1, Ordering::Relaxed) % HOST_TURN == HOST_TURN - 1;
        let host = self.host_that_receives().filter(|host| asks_host || host.may_be(Readiness::IN));
        let from_host = |data: &mut dyn ByteSink| match host {
            None => Err(Error::new(Errno::EAGAIN, "no datagram is there")),
            Some(host) => match control_room {
                Some(room) => host.receive_message(data, room, flags, &mut no_wait),
                None => {
                    let len = host.receive_plain(data, flags, &mut no_wait)?;
                    Ok(Received { len, ..Received::default() })
                }
            },
        };
        if is_hosts_turn {
            match from_host(data) {
                Err(error) if error.errno() == Errno::EAGAIN => {}
                result => return result,
            }
        }
        let packet = match self.datagram.inbox.pop(flags.contains(MessageFlags::PEEK)) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Received::default()),
            Err(_) if !is_hosts_turn => return from_host(data),
            Err(error) => return Err(error),
        };
        let put = packet.put(data)?;
        let whole = packet.data.len();
        let (control, mut out) = self.control_of(&packet.ancillary, control_room.unwrap_or(0));
        out.set(MessageFlags::TRUNC, put < whole);
        Ok(Received {
            len: if flags.contains(MessageFlags::TRUNC) { whole } else { put },
            from: packet.from.map(|from| endpoint::show(self.family, from)).unwrap_or_default(),
            control,
            flags: out,
        })
    }

    /// MSG_ERRQUEUE: a datagram that was lost, and why.
    fn receive_report(&self, data: &mut dyn ByteSink, control_room: Option<usize>) -> Result<Received> {
        let (report, is_last) = {
            let mut reports = self.datagram.reports.lock();
            (reports.pop_front(), reports.is_empty())
        };
        let Some(report) = report else {
            return match self.host() {
                Some(host) => host.receive_message(
                    data,
                    control_room.unwrap_or(0),
                    MessageFlags::ERRQUEUE,
                    &mut no_wait,
                ),
                None => bail!(EAGAIN, "the queue of errors is empty"),
            };
        };
        if is_last {
            *self.datagram.error.lock() = None;
        }
        let put = if report.data.is_empty() { 0 } else { data.put(&report.data)? };
        // struct sock_extended_err, and who reports: the host of the closed port, which is this one.
        let number = u32::from(Errno::ECONNREFUSED.number()).to_le_bytes();
        let mut error = number.to_vec();
        let is_4 = report.to.is_ipv4();
        error.extend_from_slice(if is_4 { &[2, 3, 3, 0] } else { &[3, 1, 4, 0] });
        error.extend_from_slice(&[0; 8]);
        error.extend_from_slice(endpoint::show(self.family, SocketAddr::new(report.to.ip(), 0)).as_bytes());
        let (level, kind) = if is_4 && self.family == family::INET {
            (protocol::IP, ip::RECVERR)
        } else {
            (protocol::IPV6, ipv6::RECVERR)
        };
        let mut chain = Chain::new(control_room.unwrap_or(0));
        chain.add(level, kind, &error);
        let (control, mut flags) = chain.finish();
        flags |= MessageFlags::ERRQUEUE;
        flags.set(MessageFlags::TRUNC, put < report.data.len());
        Ok(Received { len: put, from: endpoint::show(self.family, report.to), control, flags })
    }
}
