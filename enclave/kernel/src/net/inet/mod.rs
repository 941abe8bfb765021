//! TCP and UDP. What programs of one enclave send each other over 127.0.0.0/8 and ::1 stays inside; everything else goes through
//! sockets of the host.
//!
//! An [`InetSocket`] gets a [`HostSocket`] when it needs one: to bind to what is not loopback, or to a loopback port that is
//! published; to connect or send where nobody inside is; for an option that only the host has. From when its connection is
//! the host's, all of it is ([`InetSocket::is_hosts`]). A connection to a program inside is a [`stream::Link`], with which the
//! host has nothing to do. What is bound to all addresses has both: accepting and waiting look at the enclave's queue
//! first, then at the host's.
//!
//! Which loopback ports are published, and which of the host's are reachable, the measured configuration says
//! ([`boot_config::network`]). `docs/sockets.md` has the rules for people.
//!
//! What is sent through the host leaves the enclave in clear and what is received is the host's: who has secrets uses TLS.
//!
//! * [`endpoint`] reads and writes addresses.
//! * [`ports`]: who has which port.
//! * [`stream`], [`datagram`], [`cork`]: TCP and UDP inside the enclave; datagrams that are put together.
//! * [`host`], [`io`], [`batch`]: a socket of the host; sending and receiving on it; several datagrams at once.
//! * [`bounce`]: buffers for that.
//! * [`option`]: options, here and of the host.
//! * [`socket`]: the calls of `socket(2)`.
//! * [`readiness`]: what a host's socket is ready for, and who is told.
//! * [`ringed`], [`streams`], [`join`]: streams of the host whose data go through the ring of operations; all of them; who is one.
//! * [`listing`]: what `/proc/net` tells.
//! * [`interfaces`], [`netlink`]: what the host says of its network.
//!
//! Lock order: a listener; then the leaves: how far a connection is, a name, the options, a table of ports, a queue.

mod batch;
mod bounce;
mod cork;
mod datagram;
mod endpoint;
pub(crate) mod host;
pub(crate) mod interfaces;
pub(crate) mod io;
mod join;
pub(crate) mod listing;
pub(crate) mod netlink;
mod option;
mod ports;
pub(crate) mod readiness;
mod ringed;
mod socket;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use crate::fs::{FsShared, anonymous_metadata};
use crate::net::Address;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use boot_config::network::{Network, Protocol};
use core::any::Any;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use datagram::Datagram;
use host::{HostSocket, no_wait};
use kbase::sync::{Mutex, Once};
use kbase::{ByteSink, ByteSource, Result, UserAddr, UserPtr, UserSpace, bail};
use linux_abi::net::option::{SOL_SOCKET, ipv6, socket as so};
use linux_abi::net::{MessageFlags, family, ioctl, kind, protocol};
use option::Options;
use platform::{HostFd, Platform, ThreadHandle};
use ports::{Binding, Claim, Ports};
use readiness::HostSockets;
use stream::Stream;
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier};

/// What the internet domain has once.
pub(crate) struct Inet {
    platform: Arc<dyn Platform>,
    shared: Arc<FsShared>,
    sockets: Arc<HostSockets>,
    ports: Ports,
    policy: Network,
}

impl Inet {
    pub(crate) fn new(shared: &Arc<FsShared>, sockets: &Arc<HostSockets>, policy: &Network) -> Self {
        Self {
            platform: Arc::clone(shared.platform()),
            shared: Arc::clone(shared),
            sockets: Arc::clone(sockets),
            ports: Ports::default(),
            policy: policy.clone(),
        }
    }
}

/// The address of a socket.
#[derive(Clone, Copy)]
struct Local {
    address: SocketAddr,
    /// Whether [`Inet::ports`] has it.
    is_in_table: bool,
    /// What a program asked for, if one did.
    given: Option<IpAddr>,
    /// Whether the host's socket is bound to it, too.
    is_on_host: bool,
}

/// A TCP or UDP socket.
pub(crate) struct InetSocket {
    me: Weak<Self>,
    inet: Arc<Inet>,
    family: u16,
    kind: u32,
    protocol: u32,
    ino: u64,
    created_ns: i64,
    notifier: Arc<ReadinessNotifier>,
    /// Somebody waits for it, or waited, so the host has to tell of edges.
    is_watched: AtomicBool,
    options: Options,
    local: Mutex<Option<Local>>,
    host: Once<Arc<HostSocket>>,
    /// Whether it does all that it does through the host.
    is_hosts: AtomicBool,
    /// Whether it is bound to an address that is the host's alone.
    is_foreign: AtomicBool,
    stream: Stream,
    datagram: Datagram,
}

impl InetSocket {
    /// `socket(2)`.
    ///
    /// # Errors
    /// EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT as on Linux; EPERM a raw socket; EMFILE, ENFILE, ENOBUFS, ENOMEM of the
    /// host.
    pub(crate) fn create(
        inet: &Arc<Inet>,
        of_family: u16,
        of_kind: u32,
        of_protocol: u32,
    ) -> Result<Arc<Self>> {
        if !matches!(of_family, family::INET | family::INET6) {
            bail!(EAFNOSUPPORT, "not an internet family");
        }
        if of_protocol >= protocol::MAX {
            bail!(EINVAL, "no protocol has such a number");
        }
        let real_protocol = match (of_kind, of_protocol) {
            (kind::STREAM, 0 | protocol::TCP) => protocol::TCP,
            (kind::DGRAM, 0 | protocol::UDP) => protocol::UDP,
            (kind::DGRAM, protocol::ICMP | protocol::ICMPV6) => of_protocol,
            (kind::STREAM | kind::DGRAM, _) => bail!(EPROTONOSUPPORT, "no such protocol for the type"),
            (kind::RAW, _) => bail!(EPERM, "raw sockets are not for an enclave"),
            (0..kind::MAX, _) => bail!(ESOCKTNOSUPPORT, "no such type for the family"),
            _ => bail!(EINVAL, "no such type"),
        };
        let socket = Self::new(inet, Arc::default(), (of_family, of_kind, real_protocol));
        if !matches!(real_protocol, protocol::TCP | protocol::UDP) {
            socket.attach()?;
            socket.is_hosts.store(true, Ordering::SeqCst);
        }
        Ok(socket)
    }

    fn new(
        inet: &Arc<Inet>,
        notifier: Arc<ReadinessNotifier>,
        (of_family, of_kind, of_protocol): (u16, u32, u32),
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            inet: Arc::clone(inet),
            family: of_family,
            kind: of_kind,
            protocol: of_protocol,
            ino: inet.shared.next_id(),
            created_ns: inet.platform.realtime_ns().cast_signed(),
            datagram: Datagram::new(&notifier),
            notifier,
            is_watched: AtomicBool::new(false),
            options: Options::new(),
            local: Mutex::new(None),
            host: Once::new(),
            is_hosts: AtomicBool::new(false),
            is_foreign: AtomicBool::new(false),
            stream: Stream::default(),
        })
    }

    /// The socket that the host accepted for this one.
    fn of_host(&self, host: Arc<HostSocket>) -> Arc<Self> {
        let its = (self.family, self.kind, self.protocol);
        let new = Self::new(&self.inet, Arc::clone(host.notifier()), its);
        new.options.inherit(&self.options);
        new.is_hosts.store(true, Ordering::SeqCst);
        new.host.call_once(|| host);
        new
    }

    const fn is_stream(&self) -> bool {
        self.kind == kind::STREAM
    }

    const fn protocol(&self) -> Protocol {
        if self.is_stream() { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Whether it does all that it does through the host.
    fn is_hosts(&self) -> bool {
        self.is_hosts.load(Ordering::SeqCst)
    }

    /// The host's socket, if it has one.
    fn host(&self) -> Option<&Arc<HostSocket>> {
        self.host.get()
    }

    /// The host's socket; it is made if there is none yet.
    fn attach(&self) -> Result<&Arc<HostSocket>> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let its = (self.family, self.kind, self.protocol);
        let new = HostSocket::create(&self.inet.platform, &self.inet.sockets, &self.notifier, its)?;
        self.options.replay(&new, (self.family, self.kind));
        let host = self.host.call_once(|| new);
        self.signal_from(host);
        if self.is_watched.load(Ordering::SeqCst) {
            // Who that is nobody knows.
            host.watch_for(None);
        }
        Ok(host)
    }

    /// From now on all goes through the host.
    fn go_to_host(&self) -> Result<&Arc<HostSocket>> {
        let host = self.attach()?;
        if let Some(local) = self.local()
            && !local.is_on_host
        {
            host.bind(endpoint::show(self.family, local.address).as_bytes())?;
            if let Some(local) = &mut *self.local.lock() {
                local.is_on_host = true;
            }
        }
        self.is_hosts.store(true, Ordering::SeqCst);
        Ok(host)
    }

    /// Its address, if it is bound here.
    fn local(&self) -> Option<Local> {
        *self.local.lock()
    }

    /// Whether it takes no part in version 4.
    fn is_v6only(&self) -> bool {
        self.family == family::INET6 && self.options.is_on(protocol::IPV6, ipv6::V6ONLY)
    }

    fn claim(&self, ip: IpAddr) -> Claim {
        Claim {
            ip,
            is_v6only: self.is_v6only(),
            reuses_address: self.options.is_on(SOL_SOCKET, so::REUSEADDR),
            reuses_port: self.options.is_on(SOL_SOCKET, so::REUSEPORT),
        }
    }

    fn binding(&self, ip: IpAddr) -> Binding {
        Binding { socket: self.me.clone(), claim: self.claim(ip), listens: false, peer: None }
    }

    /// Takes a port at an address; 0: one that is free. Returns the port.
    fn take_port(&self, ip: IpAddr, port: u16) -> Result<u16> {
        let now_ns = self.inet.platform.monotonic_ns();
        self.inet.ports.bind(self.protocol(), port, self.binding(ip), now_ns)
    }

    /// `bind(2)`.
    fn bind_to(&self, bytes: &[u8]) -> Result<()> {
        if self.is_hosts() {
            return self.attach()?.bind(bytes);
        }
        let address = endpoint::parse(self.family, bytes)?;
        if self.local().is_some() || self.has_link() {
            bail!(EINVAL, "the socket is bound");
        }
        let ip = address.ip();
        if !ip.is_unspecified() && !endpoint::is_loopback(ip) {
            let host = self.attach()?;
            host.bind(bytes)?;
            self.is_foreign.store(true, Ordering::Relaxed);
            self.is_hosts.store(true, Ordering::SeqCst);
            return Ok(());
        }
        if ip.is_ipv4() && self.is_v6only() {
            bail!(EINVAL, "the socket has no part in version 4");
        }
        self.bind_here(address)?;
        if ip.is_ipv6() && !ip.is_unspecified() {
            self.options.leave_version_4();
        }
        Ok(())
    }

    /// Binds to a loopback address or to all; at the host too, if that is to reach it.
    fn bind_here(&self, address: SocketAddr) -> Result<()> {
        let (ip, protocol) = (address.ip(), self.protocol());
        let is_shared = ip.is_unspecified() || self.inet.policy.publish.contains(protocol, address.port());
        let mut port = address.port();
        if !is_shared || port != 0 {
            port = self.take_port(ip, port)?;
        }
        let local = |port| Local {
            address: SocketAddr::new(ip, port),
            is_in_table: true,
            given: Some(ip),
            is_on_host: is_shared,
        };
        if is_shared {
            let at_host = || {
                let host = self.attach()?;
                host.bind(endpoint::show(self.family, address).as_bytes())?;
                if address.port() != 0 {
                    return Ok(port);
                }
                let given = endpoint::parse(self.family, host.name(false)?.as_bytes())?.port();
                self.take_port(ip, given)
            };
            match at_host() {
                Ok(given) => port = given,
                Err(error) => {
                    if port != 0 {
                        self.inet.ports.release(protocol, port, &self.me);
                    }
                    return Err(error);
                }
            }
        }
        *self.local.lock() = Some(local(port));
        Ok(())
    }

    /// Its address, which it gets now if it has none.
    fn bind_itself(&self, source: IpAddr) -> Result<SocketAddr> {
        let mut local = self.local.lock();
        if let Some(local) = &mut *local {
            if local.address.ip().is_unspecified() {
                local.address.set_ip(source);
            }
            return Ok(local.address);
        }
        let port = self.take_port(source, 0)?;
        let address = SocketAddr::new(source, port);
        *local = Some(Local { address, is_in_table: true, given: None, is_on_host: false });
        Ok(address)
    }

    /// `getsockname(2)` or `getpeername(2)`.
    fn name_of(&self, of_peer: bool) -> Result<Address> {
        let name = match (of_peer, self.is_stream()) {
            (true, true) => self.peer_of_stream(),
            (true, false) => self.datagram.peer(),
            (false, false) if self.datagram.is_connected_at_host() => None,
            (false, _) => self.local().map(|local| local.address),
        };
        if let Some(name) = name {
            return Ok(endpoint::show(self.family, name));
        }
        if self.is_hosts() {
            return self.attach()?.name(of_peer);
        }
        if let Some(host) = self.host()
            && !self.is_stream()
            && !of_peer
        {
            return host.name(false);
        }
        if of_peer {
            bail!(ENOTCONN, "the socket has no peer");
        }
        Ok(endpoint::show(self.family, SocketAddr::new(endpoint::any(self.family), 0)))
    }
}

impl Drop for InetSocket {
    fn drop(&mut self) {
        let waits = self.stream.close(self.options.aborts());
        if let Some(local) = *self.local.get_mut() {
            self.leave_port(&local, waits);
        }
    }
}

impl File for InetSocket {
    fn read(&self, into: &mut dyn ByteSink, nonblocking: bool) -> Result<usize> {
        if self.is_hosts() {
            return self.attach()?.receive_plain(into, MessageFlags::empty(), &mut no_wait);
        }
        if !self.is_stream() {
            return self.read_datagram(into, nonblocking);
        }
        self.try_receive(into, MessageFlags::empty())
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        if self.is_hosts() {
            return self.attach()?.send_plain(from, MessageFlags::empty(), &mut no_wait);
        }
        if !self.is_stream() {
            return self.send_one(from, (&[], &[]), MessageFlags::empty(), &mut no_wait);
        }
        self.try_send(from)
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = anonymous_metadata(self.ino, FileType::Socket, self.created_ns);
        Ok(Metadata { mode: 0o777, ..metadata })
    }

    fn ready(&self) -> Readiness {
        match self.host() {
            Some(host) if self.is_hosts() => host.ready(),
            _ if self.is_stream() => self.ready_stream(),
            _ => self.ready_datagram(),
        }
    }

    fn bands(&self) -> Bands {
        if self.is_stream() { Bands::Normal } else { Bands::All }
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        self.is_watched.store(true, Ordering::SeqCst);
        match self.host() {
            Some(host) if !self.has_link() && !host.watch() => None,
            _ => Some(&self.notifier),
        }
    }

    fn is_awaited_by(&self, thread: Option<ThreadHandle>) {
        self.is_watched.store(true, Ordering::SeqCst);
        if let Some(host) = self.host() {
            host.is_awaited_by(thread);
        }
    }

    fn signals_events(&self) -> bool {
        self.has_link() || self.host().is_none_or(|host| host.unwatchable().is_none())
    }

    fn wait_limit_ns(&self, events: Readiness) -> Option<u64> {
        self.options.limit_ns(events)
    }

    fn host_fd(&self) -> Option<HostFd> {
        // Only what cannot be watched is polled.
        self.host().filter(|_| !self.has_link()).and_then(|host| host.unwatchable())
    }

    fn changes_unannounced(&self) -> bool {
        self.notifier().is_none()
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if !matches!(request, ioctl::SIOCINQ | ioctl::SIOCOUTQ | ioctl::SIOCATMARK) {
            return interfaces::ioctl(&*self.inet.platform, request, argument, space);
        }
        let number = match self.host() {
            Some(host) if self.is_hosts() => host.number(request)?,
            _ if self.is_stream() => self.number(request)?,
            _ => self.datagram_number(request)?,
        };
        UserPtr::<u32>::new(argument).write(space, &number)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.ino))
    }
}
