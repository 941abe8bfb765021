//! Sockets of the Unix domain (`unix(7)`): in the enclave, but for those that a program connects to a socket of the host
//! ([`outside`]). While its peer runs, a call on one leaves it never.
//!
//! A stream or sequenced-packet socket is new, listens, or has a [`Link`]: two [`Channel`]s, one each way. Connecting makes the
//! other side's socket, which waits at the listener to be accepted. A datagram socket has an inbox and perhaps a peer.
//! Each socket has a notifier of its own, which hears only of what concerns it.
//!
//! * [`name`]: paths, abstract names, autobind.
//! * [`ancillary`]: descriptors and credentials along with data.
//! * [`connect`]: listening, connecting, accepting.
//! * [`transfer`]: sending and receiving.
//! * [`urgent`]: what is sent with MSG_OOB.
//! * [`look`]: what a socket is ready for.
//! * [`outside`]: connected to a socket of the host.
//! * [`option`]: options, all of them kept here.
//!
//! Permissions of paths are not looked at: the enclave is the boundary, and files inside have no guards. Files in flight in a
//! circle are lost (see [`ancillary`]).
//!
//! Lock order: a listener; then the leaves: the names, a socket's name or peer, a queue.

mod ancillary;
mod connect;
mod look;
mod name;
mod option;
mod outside;
#[cfg(test)]
mod tests;
mod transfer;
mod urgent;

use crate::Ctx;
use crate::fs::anonymous_metadata;
use crate::net::inet::host::{HostSocket, no_wait};
use crate::net::local::{self, Limit};
use crate::net::{Address, Incoming, Outgoing, Received, Socket};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use ancillary::{Ancillary, InFlight};
use connect::Listener;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kbase::sync::{Mutex, Once};
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSpace, bail};
use linux_abi::net::option::SOL_SOCKET;
use linux_abi::net::{MessageFlags, Ucred, family, ioctl, kind, shut};
use name::{Name, Names};
use option::Options;
use platform::{HostFd, Platform, ThreadHandle};
use urgent::UrgentInbox;
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Permission bits of a socket.
const MODE: u32 = 0o777;
/// Messages that wait at a socket whose sender is not its only peer (net.unix.max_dgram_qlen, and one).
const MESSAGES: usize = 11;

/// What the Unix domain has once.
pub(crate) struct UnixDomain {
    platform: Arc<dyn Platform>,
    names: Names,
    in_flight: Arc<InFlight>,
}

impl UnixDomain {
    pub(crate) fn new(platform: &Arc<dyn Platform>) -> Self {
        Self { platform: Arc::clone(platform), names: Names::default(), in_flight: Arc::default() }
    }
}

/// A name that two sockets share: a listener's, with those that it accepts.
type NameCell = Arc<Mutex<Option<Arc<Name>>>>;

type Channel = local::Channel<Ancillary, NameCell>;
type Packets = local::Packets<Ancillary, NameCell>;
type Packet = local::Packet<Ancillary, NameCell>;

/// A connection, seen from one side.
struct Link {
    incoming: Arc<Channel>,
    outgoing: Arc<Channel>,
    peer_urgent: Arc<UrgentInbox>,
    /// Whether this side, and the other one, want to know who sends (SO_PASSCRED).
    wants_credentials: Arc<AtomicBool>,
    peer_wants_credentials: Arc<AtomicBool>,
    peer_name: NameCell,
    peer_credentials: Ucred,
}

/// Whom a datagram socket is connected to.
struct Peer {
    socket: Weak<UnixSocket>,
    name: NameCell,
}

impl Peer {
    fn new(socket: &UnixSocket) -> Self {
        Self { socket: Weak::clone(&socket.me), name: Arc::clone(&socket.name) }
    }

    fn is(&self, socket: &Weak<UnixSocket>) -> bool {
        self.socket.ptr_eq(socket)
    }
}

/// A socket.
pub(crate) struct UnixSocket {
    me: Weak<Self>,
    domain: Arc<UnixDomain>,
    kind: u32,
    ino: u64,
    created_ns: i64,
    notifier: Arc<ReadinessNotifier>,
    options: Options,
    name: NameCell,
    /// Whether it gave itself the name, which then goes with it.
    owns_name: AtomicBool,
    /// Nobody accepted it yet.
    is_embryo: AtomicBool,
    /// Of a stream or sequenced-packet socket that listens.
    listener: Mutex<Option<Listener>>,
    /// Who waits to connect to it.
    connectors: Arc<ReadinessNotifier>,
    /// Of a stream or sequenced-packet socket that is connected.
    link: Once<Link>,
    urgent: Arc<UrgentInbox>,
    /// Of a socket that is connected to one of the host.
    outside: Once<Arc<HostSocket>>,
    /// Of a datagram socket.
    inbox: Arc<Packets>,
    peer: Mutex<Option<Peer>>,
    /// Whether its peer went to another while messages of this socket's waited: ECONNRESET, once.
    is_left: AtomicBool,
    /// What SO_PEERCRED tells without a connection: who listens, or made a pair.
    credentials: Mutex<Option<Ucred>>,
    /// Directions of a socket without link that were shut down: 1 receiving, 2 sending.
    shut: AtomicU32,
}

impl UnixSocket {
    /// `socket(2)`.
    ///
    /// # Errors
    /// EPROTONOSUPPORT, ESOCKTNOSUPPORT, EINVAL.
    pub(crate) fn create(ctx: &Ctx<'_>, of_kind: u32, protocol: u32) -> Result<Arc<Self>> {
        if protocol != 0 && protocol != u32::from(family::UNIX) {
            bail!(EPROTONOSUPPORT, "no such protocol");
        }
        let real_kind = match of_kind {
            kind::STREAM | kind::DGRAM | kind::SEQPACKET => of_kind,
            // BSD had them.
            kind::RAW => kind::DGRAM,
            0..kind::MAX => bail!(ESOCKTNOSUPPORT, "no such type"),
            _ => bail!(EINVAL, "no such type"),
        };
        Ok(Self::new(ctx, real_kind, NameCell::default()))
    }

    fn new(ctx: &Ctx<'_>, of_kind: u32, name: NameCell) -> Arc<Self> {
        let notifier: Arc<ReadinessNotifier> = Arc::default();
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            domain: Arc::clone(&ctx.kernel.unix),
            kind: of_kind,
            ino: ctx.kernel.mounts.shared().next_id(),
            created_ns: ctx.platform().realtime_ns().cast_signed(),
            options: Options::new(),
            name,
            owns_name: AtomicBool::new(false),
            is_embryo: AtomicBool::new(false),
            listener: Mutex::new(None),
            connectors: Arc::default(),
            link: Once::new(),
            urgent: Arc::default(),
            outside: Once::new(),
            inbox: Arc::new(Packets::new(Arc::clone(&notifier))),
            notifier,
            peer: Mutex::new(None),
            is_left: AtomicBool::new(false),
            credentials: Mutex::new(None),
            shut: AtomicU32::new(0),
        })
    }

    /// `socketpair(2)`.
    ///
    /// # Errors
    /// As [`UnixSocket::create`].
    pub(crate) fn pair(ctx: &Ctx<'_>, of_kind: u32, protocol: u32) -> Result<(Arc<Self>, Arc<Self>)> {
        let (a, b) = (Self::create(ctx, of_kind, protocol)?, Self::create(ctx, of_kind, protocol)?);
        let credentials = credentials_of(ctx);
        if a.kind == kind::DGRAM {
            for socket in [&a, &b] {
                *socket.credentials.lock() = Some(credentials);
            }
            *a.peer.lock() = Some(Peer::new(&b));
            *b.peer.lock() = Some(Peer::new(&a));
        } else {
            a.join(&b, (credentials, credentials));
        }
        Ok((a, b))
    }

    /// Connects two new sockets; each learns the credentials of the other. Returns whether this was done, not
    /// something else meanwhile.
    fn join(&self, other: &Self, (mine, others): (Ucred, Ucred)) -> bool {
        let there = Channel::new(self.kind, self.options.send_buffer(), &other.notifier, &self.notifier);
        let back = Channel::new(self.kind, other.options.send_buffer(), &self.notifier, &other.notifier);
        let (here_wants, there_wants): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let link = self.link.call_once(|| Link {
            incoming: Arc::clone(&back),
            outgoing: Arc::clone(&there),
            peer_urgent: Arc::clone(&other.urgent),
            wants_credentials: Arc::clone(&here_wants),
            peer_wants_credentials: Arc::clone(&there_wants),
            peer_name: Arc::clone(&other.name),
            peer_credentials: others,
        });
        if !Arc::ptr_eq(&link.incoming, &back) {
            return false;
        }
        other.link.call_once(|| Link {
            incoming: there,
            outgoing: back,
            peer_urgent: Arc::clone(&self.urgent),
            wants_credentials: there_wants,
            peer_wants_credentials: here_wants,
            peer_name: Arc::clone(&self.name),
            peer_credentials: mine,
        });
        for socket in [self, other] {
            socket.tell_passcred();
        }
        if self.is_shut(RECEIVING) {
            // It was before it was connected.
            link.incoming.close(true, false);
        }
        true
    }

    /// Has those who send to it sign what they send, if it wants that.
    fn tell_passcred(&self) {
        if let Some(link) = self.link.get() {
            link.wants_credentials.store(self.options.passes_credentials(), Ordering::SeqCst);
        }
    }

    /// What is listed.
    pub(crate) fn row(&self) -> Row {
        let is_connected = self.link.get().is_some() || self.outside.get().is_some() || self.peer().is_some();
        Row {
            kind: self.kind,
            listens: self.listener.lock().is_some(),
            is_connected,
            name: self.current_name().map(|name| name.shown().to_vec()).unwrap_or_default(),
            ino: self.ino,
        }
    }

    const fn is_datagram(&self) -> bool {
        self.kind == kind::DGRAM
    }

    /// The connection.
    fn link(&self) -> Result<&Link> {
        self.link.get().ok_or(Error::new(Errno::ENOTCONN, "the socket is not connected"))
    }

    /// The peer of a datagram socket, unless it is closed.
    fn peer(&self) -> Option<Arc<Self>> {
        self.peer.lock().as_ref().and_then(|peer| peer.socket.upgrade())
    }

    fn current_name(&self) -> Option<Arc<Name>> {
        self.name.lock().clone()
    }

    /// What may wait that this socket sends to `receiver`.
    fn limit_to(&self, receiver: &Self) -> Limit {
        let is_only_peer = receiver.peer.lock().as_ref().is_some_and(|peer| peer.is(&self.me));
        Limit {
            bytes: self.options.send_buffer(),
            messages: if is_only_peer { usize::MAX } else { MESSAGES },
        }
    }

    /// What may wait in the other side of the link.
    fn link_limit(&self) -> Limit {
        Limit { bytes: self.options.send_buffer(), messages: usize::MAX }
    }

    fn is_shut(&self, bit: u32) -> bool {
        self.shut.load(Ordering::SeqCst) & bit != 0
    }
}

/// What `/proc/net/unix` tells of a socket.
pub(crate) struct Row {
    pub(crate) kind: u32,
    pub(crate) listens: bool,
    pub(crate) is_connected: bool,
    /// A path and a zero, a zero and an abstract name, or nothing.
    pub(crate) name: Vec<u8>,
    pub(crate) ino: u64,
}

/// Bits of [`UnixSocket::shut`].
const RECEIVING: u32 = 1;
const SENDING: u32 = 2;

/// What SO_PEERCRED tells of a process.
fn credentials_of(ctx: &Ctx<'_>) -> Ucred {
    let credentials = &ctx.process.credentials;
    let (uid, gid) = (credentials.users.effective(), credentials.groups.effective());
    Ucred { pid: ctx.process.pid, uid, gid }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if *self.owns_name.get_mut()
            && let Some(name) = self.current_name()
        {
            self.domain.names.release(&name, &self.me);
        }
        let listener = self.listener.get_mut().take();
        drop(listener);
        self.connectors.broadcast(&Readiness::all());
        if let Some(link) = self.link.get() {
            link.incoming.abandon(*self.is_embryo.get_mut() || self.urgent.len() > 0);
            link.outgoing.close(false, true);
        }
        self.inbox.close(true, true);
        self.inbox.clear();
    }
}

impl Socket for UnixSocket {
    fn bind(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        self.bind(ctx, address)
    }

    fn listen(&self, ctx: &Ctx<'_>, backlog: u32) -> Result<()> {
        self.listen(ctx, backlog)
    }

    fn accept(&self, ctx: &Ctx<'_>, is_blocking: bool) -> Result<(Arc<dyn File>, Address)> {
        let new = self.accept(ctx, is_blocking)?;
        let peer = Socket::name(&*new, true).unwrap_or_else(|_| Name::address(None));
        Ok((new, peer))
    }

    fn connect(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()> {
        if self.is_datagram() {
            self.connect_datagram(ctx, address, is_blocking)
        } else {
            self.connect(ctx, address, is_blocking)
        }
    }

    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        self.send(ctx, message)
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        self.receive(ctx, wanted)
    }

    fn name(&self, of_peer: bool) -> Result<Address> {
        if !of_peer {
            return Ok(Name::address(self.current_name().as_deref()));
        }
        if let Some(host) = self.outside() {
            return host.name(true);
        }
        let name = if self.is_datagram() {
            // It stays the peer when it is closed.
            match &*self.peer.lock() {
                Some(peer) => peer.name.lock().clone(),
                None => bail!(ENOTCONN, "the socket has no peer"),
            }
        } else {
            self.link()?.peer_name.lock().clone()
        };
        Ok(Name::address(name.as_deref()))
    }

    fn shutdown(&self, how: u32) -> Result<()> {
        let (receiving, sending) = match how {
            shut::RD => (true, false),
            shut::WR => (false, true),
            shut::RDWR => (true, true),
            _ => bail!(EINVAL, "no such direction"),
        };
        if let Some(host) = self.outside() {
            return host.shutdown(how);
        }
        if let Some(link) = self.link.get() {
            link.incoming.close(receiving, false);
            link.outgoing.close(false, sending);
        }
        if receiving {
            self.inbox.close(true, false);
            self.shut.fetch_or(RECEIVING, Ordering::SeqCst);
        }
        if sending {
            self.shut.fetch_or(SENDING, Ordering::SeqCst);
        }
        self.notifier.broadcast(&Readiness::all());
        self.connectors.broadcast(&Readiness::all());
        Ok(())
    }

    fn check_level(&self, level: u32, _is_set: bool) -> Result<()> {
        if level != SOL_SOCKET {
            bail!(EOPNOTSUPP, "sockets of the Unix domain have no such level");
        }
        Ok(())
    }

    fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        self.get_option(level, option, value)
    }

    fn set_option(&self, _level: u32, option: u32, value: &[u8]) -> Result<()> {
        self.set_option(option, value)
    }

    fn take_pending(&self) -> Option<Errno> {
        self.take_reset().then_some(Errno::ECONNRESET)
    }

    fn raises_sigpipe(&self) -> bool {
        self.kind == kind::STREAM
    }
}

impl File for UnixSocket {
    fn read(&self, into: &mut dyn ByteSink, nonblocking: bool) -> Result<usize> {
        if let Some(host) = self.outside() {
            return host.receive_plain(into, MessageFlags::empty(), &mut no_wait);
        }
        match self.try_receive(into, MessageFlags::empty()) {
            Err(error) if !nonblocking && error.errno() == Errno::EAGAIN && self.ends_waits() => Ok(0),
            result => result.map(|taken| taken.len),
        }
    }

    fn bands(&self) -> Bands {
        Bands::All
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        if let Some(host) = self.outside() {
            return host.send_plain(from, MessageFlags::empty(), &mut no_wait);
        }
        self.try_write(from)
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = anonymous_metadata(self.ino, FileType::Socket, self.created_ns);
        Ok(Metadata { mode: MODE, ..metadata })
    }

    fn ready(&self) -> Readiness {
        if let Some(host) = self.outside() {
            return host.ready();
        }
        self.ready_here()
    }

    fn signals_events(&self) -> bool {
        true
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        match self.outside() {
            Some(host) if !host.watch() => None,
            _ => Some(&self.notifier),
        }
    }

    fn is_awaited_by(&self, thread: Option<ThreadHandle>) {
        if let Some(host) = self.outside() {
            host.is_awaited_by(thread);
        }
    }

    fn host_fd(&self) -> Option<HostFd> {
        // Only what cannot be watched is polled.
        self.outside().and_then(HostSocket::unwatchable)
    }

    fn changes_unannounced(&self) -> bool {
        self.notifier().is_none()
    }

    fn wait_limit_ns(&self, events: Readiness) -> Option<u64> {
        self.options.limit_ns(events)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if let Some(host) = self.outside()
            && matches!(request, ioctl::SIOCINQ | ioctl::SIOCOUTQ)
        {
            UserPtr::<u32>::new(argument).write(space, &host.number(request)?)?;
            return Ok(0);
        }
        let len = match (request, self.link.get()) {
            (ioctl::SIOCINQ, _) if self.is_datagram() => self.inbox.lengths().1,
            (ioctl::SIOCINQ, Some(link)) => link.incoming.len().saturating_add(self.urgent.len()),
            (ioctl::SIOCATMARK, _) if self.kind != kind::STREAM => {
                bail!(EOPNOTSUPP, "only streams have urgent data")
            }
            (ioctl::SIOCATMARK, Some(link)) => self.is_at_mark(link).into(),
            (ioctl::SIOCINQ, None) if self.listener.lock().is_some() => {
                bail!(EINVAL, "the socket listens")
            }
            (ioctl::SIOCOUTQ, Some(link)) => link.outgoing.len(),
            (ioctl::SIOCINQ | ioctl::SIOCOUTQ | ioctl::SIOCATMARK, _) => 0,
            _ => {
                return crate::net::inet::interfaces::ioctl(&*self.domain.platform, request, argument, space);
            }
        };
        UserPtr::<i32>::new(argument).write(space, &i32::try_from(len).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.ino))
    }
}
