//! UDP between programs of one enclave.
//!
//! A datagram for a loopback address goes into the inbox of who has the port there; if nobody has, the policy says whether it
//! goes to the host's loopback or nowhere. All other datagrams go through the socket of the host, if it has one, which is
//! looked at when the inbox is empty. As on Linux, what does not fit into an inbox is lost, and who sends to nobody over a
//! connected socket hears of it with the next call.
//!
//! Lock order: each lock is a leaf.

mod along;
mod transfer;

use super::cork::Part;
use super::host::{HostSocket, no_wait};
use super::{InetSocket, Local, endpoint};
use crate::net::local;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use along::Along;
pub(super) use along::Wishes;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::{family, ioctl, shut};
use vfs::{Readiness, ReadinessNotifier};

/// Bytes of a datagram at most: what an IP packet carries, without its headers.
const LONGEST_4: usize = 65_507;
const LONGEST_6: usize = 65_527;

/// Bytes of a datagram to an address at most.
pub(super) const fn longest(to: SocketAddr) -> usize {
    if to.is_ipv4() { LONGEST_4 } else { LONGEST_6 }
}

type Inbox = local::Packets<Along, SocketAddr>;

/// A datagram that nobody got: what `MSG_ERRQUEUE` tells.
struct Report {
    data: Vec<u8>,
    to: SocketAddr,
}

/// The part of a socket that is UDP in the enclave.
pub(super) struct Datagram {
    inbox: Inbox,
    peer: Mutex<Option<SocketAddr>>,
    /// Whom the socket of the host is connected to.
    host_peer: Mutex<Option<SocketAddr>>,
    /// What went wrong, to be told once.
    error: Mutex<Option<Errno>>,
    reports: Mutex<VecDeque<Report>>,
    /// A datagram that is not whole.
    pub(super) part: Mutex<Option<Part>>,
    /// The host has one that is not whole.
    pub(super) has_part_at_host: AtomicBool,
    /// Directions that were shut down.
    shut: AtomicU32,
    turn: AtomicUsize,
}

const RECEIVING: u32 = 1;
const SENDING: u32 = 2;

impl Datagram {
    pub(super) fn new(notifier: &Arc<ReadinessNotifier>) -> Self {
        Self {
            inbox: Inbox::new(Arc::clone(notifier)),
            peer: Mutex::new(None),
            host_peer: Mutex::new(None),
            error: Mutex::new(None),
            reports: Mutex::new(VecDeque::new()),
            part: Mutex::new(None),
            has_part_at_host: AtomicBool::new(false),
            shut: AtomicU32::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        *self.peer.lock()
    }

    /// Whether its name is what the host says.
    pub(super) fn is_connected_at_host(&self) -> bool {
        self.host_peer.lock().is_some()
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        self.error.lock().take()
    }

    fn is_shut(&self, bit: u32) -> bool {
        self.shut.load(Ordering::SeqCst) & bit != 0
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy)]
pub(super) struct Destination {
    pub(super) target: SocketAddr,
    /// A program named no address.
    pub(super) is_peer: bool,
}

/// Which way.
pub(super) enum Road {
    /// Through the socket of the host.
    Host,
    /// To the socket that has the port, from an address; `None`: to nobody.
    Inside { receiver: Option<Arc<InetSocket>>, source: SocketAddr, wishes: Wishes },
}

impl InetSocket {
    /// Its address, for who sends to `target`.
    fn source(&self, target: IpAddr) -> Result<SocketAddr> {
        let local = match self.local() {
            Some(local) => local.address,
            None => self.bind_datagram()?,
        };
        let ip = if local.ip().is_unspecified() { endpoint::source_for(target) } else { local.ip() };
        if ip.is_ipv4() && target.is_ipv6() {
            bail!(EAFNOSUPPORT, "the socket is bound to an address of version 4");
        }
        if ip.is_ipv4() != target.is_ipv4() {
            bail!(EINVAL, "the socket is bound to an address of version 6");
        }
        Ok(SocketAddr::new(ip, local.port()))
    }

    /// Gives it a port: that of the host's socket, if that has one.
    fn bind_datagram(&self) -> Result<SocketAddr> {
        let any = endpoint::any(self.family);
        let at_host = match self.host() {
            Some(host) => endpoint::parse(self.family, host.name(false)?.as_bytes())?.port(),
            None => 0,
        };
        let ports = &self.inet.ports;
        let given = match self.take_port(any, at_host) {
            Err(_) if at_host != 0 => self.take_port(any, 0)?,
            result => result?,
        };
        let address = SocketAddr::new(any, given);
        let is_on_host = at_host == given;
        let old = {
            let mut local = self.local.lock();
            let new = Local { address, is_in_table: true, given: None, is_on_host };
            let old = *local;
            local.get_or_insert(new);
            old
        };
        if let Some(old) = old {
            // Another thread was first. Its binding in the table has the same socket, so only another port can go.
            if old.address.port() != given {
                ports.release(self.protocol(), given, &self.me);
            }
            return Ok(old.address);
        }
        Ok(address)
    }

    /// The socket of the host, with the same port if that is possible.
    fn host_of_datagrams(&self) -> Result<&Arc<HostSocket>> {
        let host = self.attach()?;
        let Some(local) = self.local().filter(|local| !local.is_on_host) else { return Ok(host) };
        let bound = host.bind(endpoint::show(self.family, local.address).as_bytes());
        if local.given.is_some() {
            bound?;
        }
        if let Some(local) = &mut *self.local.lock() {
            local.is_on_host = true;
        }
        Ok(host)
    }

    /// `connect(2)` of a datagram socket.
    pub(super) fn connect_datagram(&self, bytes: &[u8]) -> Result<()> {
        if self.is_hosts() {
            return self.attach()?.connect(bytes, &mut no_wait);
        }
        if endpoint::family_of(bytes)? == family::UNSPEC {
            return self.disconnect_datagram();
        }
        let target = endpoint::meant(endpoint::parse_destination(self.family, bytes)?);
        if target.is_ipv4() && self.is_v6only() {
            bail!(ENETUNREACH, "the socket has no part in version 4");
        }
        let own = if endpoint::is_loopback(target.ip()) {
            self.leave_host_peer()?;
            let source = self.source(target.ip())?;
            if let Some(local) = &mut *self.local.lock() {
                local.address = source;
            }
            Some(source.ip())
        } else {
            self.host_of_datagrams()?.connect(bytes, &mut no_wait)?;
            *self.datagram.host_peer.lock() = Some(target);
            None
        };
        *self.datagram.peer.lock() = Some(target);
        self.tell_table(Some(target), own)
    }

    /// Tells the table of ports whom it hears.
    fn tell_table(&self, peer: Option<SocketAddr>, own: Option<IpAddr>) -> Result<()> {
        let Some(local) = self.local() else { return Ok(()) };
        self.inet.ports.change(self.protocol(), local.address.port(), &self.me, |binding| {
            binding.peer = peer;
            if let Some(ip) = own {
                binding.claim.ip = ip;
            }
        })
    }

    fn leave_host_peer(&self) -> Result<()> {
        let was = self.datagram.host_peer.lock().take();
        if was.is_some()
            && let Some(host) = self.host()
        {
            host.connect(&[0; 16], &mut no_wait)?;
        }
        Ok(())
    }

    fn disconnect_datagram(&self) -> Result<()> {
        self.leave_host_peer()?;
        *self.datagram.peer.lock() = None;
        let Some(local) = self.local() else { return Ok(()) };
        if local.given.is_some() || local.is_on_host {
            let ip = local.given.unwrap_or(endpoint::any(self.family));
            if let Some(local) = &mut *self.local.lock() {
                local.address.set_ip(ip);
            }
            return self.tell_table(None, Some(ip));
        }
        // It gave itself the address, which goes again.
        self.inet.ports.release(self.protocol(), local.address.port(), &self.me);
        *self.local.lock() = None;
        Ok(())
    }

    /// Where a program sends: to an address, or to the peer.
    pub(super) fn destination(&self, to: &[u8]) -> Result<Destination> {
        // Linux takes no family for nowhere, in version 6.
        let is_peer =
            to.is_empty() || (self.family == family::INET6 && endpoint::family_of(to)? == family::UNSPEC);
        let target = if is_peer {
            self.datagram.peer().ok_or(Error::new(Errno::EDESTADDRREQ, "the socket has no peer"))?
        } else {
            endpoint::meant(endpoint::parse_destination(self.family, to)?)
        };
        if target.port() == 0 {
            bail!(EINVAL, "no port");
        }
        if target.is_ipv4() && self.is_v6only() {
            bail!(ENETUNREACH, "the socket has no part in version 4");
        }
        Ok(Destination { target, is_peer })
    }

    /// Which way a datagram goes.
    pub(super) fn road(&self, to: Destination, control: &[u8]) -> Result<Road> {
        let target = to.target;
        let wishes = Wishes::read(control)?;
        if !endpoint::is_loopback(target.ip()) {
            return Ok(Road::Host);
        }
        let mut source = self.source(target.ip())?;
        if let Some(ip) = wishes.source.filter(|ip| ip.is_loopback() && ip.is_ipv4() == target.is_ipv4()) {
            source.set_ip(ip);
        }
        let receiver = self.inet.ports.receiver(target, source);
        let is_hosts = self.inet.policy.host_loopback.contains(self.protocol(), target.port());
        Ok(if receiver.is_none() && is_hosts {
            Road::Host
        } else {
            Road::Inside { receiver, source, wishes }
        })
    }

    /// The socket of the host, connected to the peer if one is given.
    pub(super) fn host_towards(&self, peer: Option<SocketAddr>) -> Result<&Arc<HostSocket>> {
        let host = self.host_of_datagrams()?;
        if let Some(target) = peer
            && *self.datagram.host_peer.lock() != peer
        {
            host.connect(endpoint::show(self.family, target).as_bytes(), &mut no_wait)?;
            *self.datagram.host_peer.lock() = peer;
        }
        Ok(host)
    }

    /// Tells what went wrong with an earlier datagram, once.
    pub(super) fn tell_error(&self) -> Result<()> {
        match self.datagram.take_error() {
            Some(errno) => Err(Error::new(errno, "an earlier datagram was lost")),
            None => Ok(()),
        }
    }

    /// `shutdown(2)`: also of a socket without peer, which only fails.
    pub(super) fn shut_datagram(&self, how: u32) -> Result<()> {
        let bits = match how {
            shut::RD => RECEIVING,
            shut::WR => SENDING,
            _ => RECEIVING | SENDING,
        };
        self.datagram.shut.fetch_or(bits, Ordering::SeqCst);
        let at_host = self.host().map(|host| host.shutdown(how));
        self.notifier.broadcast(&Readiness::all());
        match (self.datagram.peer(), at_host) {
            (None, Some(result)) => result,
            (None, None) => bail!(ENOTCONN, "the socket is not connected"),
            (Some(_), _) => Ok(()),
        }
    }

    pub(super) fn ready_datagram(&self) -> Readiness {
        let datagram = &self.datagram;
        let is_over = datagram.is_shut(RECEIVING);
        let mut ready = Readiness::OUT;
        let has_error = datagram.error.lock().is_some() || !datagram.reports.lock().is_empty();
        ready.set(Readiness::ERR, has_error);
        ready.set(Readiness::HUP, is_over && datagram.is_shut(SENDING));
        ready.set(Readiness::RDHUP, is_over);
        ready.set(Readiness::IN, is_over || datagram.inbox.has_messages());
        match self.host_that_receives() {
            Some(host) => ready | host.ready(),
            None => ready,
        }
    }

    /// What SIOCINQ and SIOCOUTQ tell.
    pub(super) fn datagram_number(&self, request: u32) -> Result<u32> {
        let first = self.datagram.inbox.lengths().1;
        match (request, self.host()) {
            (ioctl::SIOCINQ, _) if self.datagram.inbox.has_messages() => {
                Ok(u32::try_from(first).unwrap_or(u32::MAX))
            }
            (ioctl::SIOCATMARK, _) => bail!(ENOTTY, "datagrams are not urgent"),
            (_, Some(host)) => host.number(request),
            _ => Ok(0),
        }
    }
}
