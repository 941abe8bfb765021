//! TCP and UDP through sockets of the host.
//!
//! A [`HostSocket`] stands for one non-blocking socket of the host. Its calls never wait: who may wait passes a function that
//! does ([`Wait`]). Time limits (SO_RCVTIMEO, SO_SNDTIMEO) and what does not wait for the host are the kernel's;
//! `docs/sockets.md` lists what passes to the host, what is kept here, and what is refused.
//!
//! What is sent leaves the enclave in clear and what is received is the host's: who has secrets uses TLS.
//!
//! * [`io`]: sending and receiving.
//! * [`option`]: options, here and of the host.
//! * [`socket`]: the calls of `socket(2)` on them.
//! * [`readiness`]: what a socket is ready for, and who is told.
//! * [`interfaces`], [`netlink`]: what the host says of its network.
//!
//! Lock order: each lock is a leaf.

pub(crate) mod interfaces;
pub(crate) mod io;
pub(crate) mod netlink;
mod option;
pub(crate) mod readiness;
mod socket;
#[cfg(test)]
mod tests;

use crate::fs::{FsShared, anonymous_metadata};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSpace, bail};
use linux_abi::net::{SOCKADDR_MAX, SockaddrIn, SockaddrIn6, family, ioctl, kind, protocol, shut};
use platform::{HostAddress, HostError, HostFd, HostPoll, Platform};
use readiness::{HostSockets, Pollee};
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Waits until a socket may be ready, or fails: EAGAIN who does not want to wait, or whose time is over; ERESTARTSYS or EINTR
/// a signal came.
pub(crate) type Wait<'a> = &'a mut dyn FnMut(&HostSocket, Readiness) -> Result<()>;

/// The [`Wait`] of who does not.
pub(crate) fn no_wait(_socket: &HostSocket, _events: Readiness) -> Result<()> {
    Err(Error::new(Errno::EAGAIN, "the socket is not ready"))
}

/// Nobody has waited for the socket yet.
const UNWATCHED: u64 = 0;
/// The host could not watch it.
const UNWATCHABLE: u64 = u64::MAX;

/// A TCP or UDP socket.
pub(crate) struct HostSocket {
    me: Weak<Self>,
    platform: Arc<dyn Platform>,
    sockets: Arc<HostSockets>,
    fd: HostFd,
    family: u16,
    kind: u32,
    protocol: u32,
    ino: u64,
    created_ns: i64,
    notifier: ReadinessNotifier,
    /// The token under which the host watches it, [`UNWATCHED`] or [`UNWATCHABLE`].
    token: AtomicU64,
    pollee: Pollee,
    is_connecting: AtomicBool,
    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0: no limit.
    receive_limit_ns: AtomicU64,
    send_limit_ns: AtomicU64,
}

impl HostSocket {
    /// `socket(2)`.
    ///
    /// # Errors
    /// EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT as on Linux; EPERM a raw socket; EMFILE, ENFILE, ENOBUFS, ENOMEM of the
    /// host.
    pub(crate) fn create(
        shared: &Arc<FsShared>,
        sockets: &Arc<HostSockets>,
        of_family: u16,
        of_kind: u32,
        of_protocol: u32,
    ) -> Result<Arc<Self>> {
        if !matches!(of_family, family::INET | family::INET6) {
            bail!(EAFNOSUPPORT, "not an internet family");
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
        let fd = shared.platform().host_socket(of_family, of_kind, real_protocol)?;
        Ok(Self::new(shared, sockets, fd, of_family, of_kind, real_protocol))
    }

    fn new(
        shared: &Arc<FsShared>,
        sockets: &Arc<HostSockets>,
        fd: HostFd,
        of_family: u16,
        of_kind: u32,
        of_protocol: u32,
    ) -> Arc<Self> {
        let platform = Arc::clone(shared.platform());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            sockets: Arc::clone(sockets),
            fd,
            family: of_family,
            kind: of_kind,
            protocol: of_protocol,
            ino: shared.next_id(),
            created_ns: platform.realtime_ns().cast_signed(),
            platform,
            notifier: ReadinessNotifier::new(),
            token: AtomicU64::new(UNWATCHED),
            pollee: Pollee::new(),
            is_connecting: AtomicBool::new(false),
            receive_limit_ns: AtomicU64::new(0),
            send_limit_ns: AtomicU64::new(0),
        })
    }

    fn is_stream(&self) -> bool {
        self.kind == kind::STREAM
    }

    /// `bind(2)`.
    ///
    /// # Errors
    /// EINVAL the address is too short, or it is bound; EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, EACCES.
    pub(crate) fn bind(&self, address: &[u8]) -> Result<()> {
        let address = self.address_of_program(address)?;
        Ok(self.platform.host_bind(self.fd, &address)?)
    }

    /// `listen(2)`.
    ///
    /// # Errors
    /// EOPNOTSUPP no stream; EINVAL connected; EADDRINUSE.
    pub(crate) fn listen(&self, backlog: u32) -> Result<()> {
        let before = self.pollee.before();
        self.platform.host_listen(self.fd, backlog)?;
        self.pollee.is_unsure(before);
        Ok(())
    }

    /// `accept(2)`: the new socket and the address of its peer.
    ///
    /// # Errors
    /// What `wait` says; EINVAL it does not listen; ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM.
    pub(crate) fn accept(&self, shared: &Arc<FsShared>, wait: Wait<'_>) -> Result<(Arc<Self>, HostAddress)> {
        loop {
            let before = self.pollee.before();
            match self.platform.host_accept(self.fd) {
                Ok((fd, peer)) => {
                    self.pollee.is_unsure(before);
                    // Made first, so that it is closed if the address is refused.
                    let new = Self::new(shared, &self.sockets, fd, self.family, self.kind, self.protocol);
                    let peer = self.address_of_host(peer)?;
                    return Ok((new, peer));
                }
                Err(error) if error.0 == Errno::EAGAIN => {
                    self.pollee.is_not(before, Readiness::IN);
                    wait(self, Readiness::IN)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// `connect(2)`.
    ///
    /// # Errors
    /// EINPROGRESS it takes time and `wait` says EAGAIN; EALREADY it was begun before; EISCONN; ECONNREFUSED, ENETUNREACH,
    /// EHOSTUNREACH, ETIMEDOUT, ECONNRESET; EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EPERM; EINTR or ERESTARTSYS a signal came.
    pub(crate) fn connect(&self, address: &[u8], wait: Wait<'_>) -> Result<()> {
        let address = self.address_of_program(address)?;
        let mut was_begun = self.is_connecting.load(Ordering::Relaxed);
        loop {
            let before = self.pollee.before();
            let result = self.platform.host_connect(self.fd, &address);
            let is_under_way = matches!(result, Err(HostError(Errno::EINPROGRESS)))
                || (was_begun && matches!(result, Err(HostError(Errno::EALREADY))));
            self.is_connecting.store(is_under_way, Ordering::Relaxed);
            if !is_under_way {
                // The call that finds it done, or failed, also brings the host's socket into that state.
                self.pollee.is_unsure(before);
                return Ok(result?);
            }
            if !was_begun {
                // It was ready for everything, as an unconnected socket is.
                self.pollee.is_not(before, Readiness::all());
            }
            if let Err(error) = wait(self, Readiness::OUT) {
                if error.errno() == Errno::EAGAIN {
                    let busy = if was_begun { Errno::EALREADY } else { Errno::EINPROGRESS };
                    return Err(Error::new(busy, "the connection is not made yet"));
                }
                return Err(error);
            }
            was_begun = true;
        }
    }

    /// `getsockname(2)`, or `getpeername(2)`.
    ///
    /// # Errors
    /// ENOTCONN it has no peer.
    pub(crate) fn name(&self, of_peer: bool) -> Result<HostAddress> {
        let name = self.platform.host_socket_name(self.fd, of_peer)?;
        self.address_of_host(name)
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// EINVAL no such direction; ENOTCONN.
    pub(crate) fn shutdown(&self, how: u32) -> Result<()> {
        if how > shut::RDWR {
            bail!(EINVAL, "no such direction");
        }
        let before = self.pollee.before();
        self.platform.host_shutdown(self.fd, how)?;
        self.pollee.is_unsure(before);
        self.notifier.broadcast(&Readiness::all());
        Ok(())
    }

    /// An address from a program, for the host.
    fn address_of_program(&self, address: &[u8]) -> Result<HostAddress> {
        if address.len() > SOCKADDR_MAX {
            bail!(EINVAL, "the address is too long");
        }
        HostAddress::new(address).ok_or(Error::new(Errno::EINVAL, "the address is too long"))
    }

    /// An address from the host, for a program: of the socket's family and of the right length, or none.
    fn address_of_host(&self, address: HostAddress) -> Result<HostAddress> {
        let bytes = address.as_bytes();
        let len =
            if self.family == family::INET { size_of::<SockaddrIn>() } else { size_of::<SockaddrIn6>() };
        let is_right =
            bytes.is_empty() || (bytes.len() == len && bytes.starts_with(&self.family.to_le_bytes()));
        if !is_right {
            bail!(EIO, "the host gave an address of another family");
        }
        Ok(address)
    }

    /// The host told of an edge.
    fn on_edge(&self, ready: Readiness) {
        if self.pollee.edge(ready) {
            self.notifier.broadcast(&ready);
        }
    }

    /// Has the host watch the socket from now on. False if it cannot.
    fn watch(&self) -> bool {
        match self.token.load(Ordering::SeqCst) {
            UNWATCHED => {}
            token => return token != UNWATCHABLE,
        }
        let token = self.sockets.add(&self.me);
        if self.token.compare_exchange(UNWATCHED, token, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            // Another thread was first, and is about to tell the host.
            self.sockets.remove(token);
            return true;
        }
        let is_watched = self.platform.watch(self.fd, token).is_ok();
        if !is_watched {
            self.token.store(UNWATCHABLE, Ordering::SeqCst);
            self.sockets.remove(token);
        }
        is_watched
    }

    fn is_watched(&self) -> bool {
        !matches!(self.token.load(Ordering::SeqCst), UNWATCHED | UNWATCHABLE)
    }

    /// What the host says that the socket is ready for.
    fn ask_host(&self) -> Readiness {
        let events = Readiness::IN | Readiness::OUT | Readiness::PRI | Readiness::RDHUP;
        let mut rows = [HostPoll { fd: self.fd, events: events.bits(), revents: 0 }];
        match self.platform.host_poll(&mut rows, Some(0)) {
            Ok(_) => Readiness::from_bits_truncate(rows[0].revents),
            // Not to know is no error of the socket: the call that tries finds out.
            Err(_) => Readiness::empty(),
        }
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        if self.is_watched() {
            self.sockets.remove(self.token.load(Ordering::SeqCst));
        }
        self.platform.host_close_socket(self.fd);
    }
}

impl File for HostSocket {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        self.receive_plain(into, linux_abi::net::MessageFlags::empty(), &mut no_wait)
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        self.send_plain(from, linux_abi::net::MessageFlags::empty(), &mut no_wait)
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = anonymous_metadata(self.ino, FileType::Socket, self.created_ns);
        Ok(Metadata { mode: 0o777, ..metadata })
    }

    fn ready(&self) -> Readiness {
        if !self.is_watched() {
            return self.ask_host();
        }
        loop {
            if let Some(ready) = self.pollee.ready() {
                return ready;
            }
            let before = self.pollee.before();
            let ready = self.ask_host();
            self.pollee.is(before, ready);
            // Others call at the same time: what the host said just now is as good.
            if self.pollee.ready().is_none() {
                return ready;
            }
        }
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        self.watch().then_some(&self.notifier)
    }

    fn wait_limit_ns(&self, events: Readiness) -> Option<u64> {
        let limit = if events.contains(Readiness::IN) { &self.receive_limit_ns } else { &self.send_limit_ns };
        Some(limit.load(Ordering::Relaxed)).filter(|&limit| limit != 0)
    }

    fn host_fd(&self) -> Option<HostFd> {
        // Only what cannot be watched is polled.
        (self.token.load(Ordering::SeqCst) == UNWATCHABLE).then_some(self.fd)
    }

    fn changes_unannounced(&self) -> bool {
        !self.watch()
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        match request {
            ioctl::SIOCINQ | ioctl::SIOCOUTQ | ioctl::SIOCATMARK => {
                let mut value = [0; 4];
                self.platform.host_ioctl(self.fd, request, &mut value)?;
                UserPtr::<u32>::new(argument).write(space, &u32::from_le_bytes(value))?;
                Ok(0)
            }
            _ => interfaces::ioctl(&*self.platform, request, argument, space),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.ino))
    }
}
