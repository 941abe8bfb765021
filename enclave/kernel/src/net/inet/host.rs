//! One non-blocking socket of the host.
//!
//! Its calls never wait: who may wait passes a function that does ([`Wait`]). Time limits are the [`super::InetSocket`]'s.

use super::bounce::Bounce;
use super::join::Joining;
use super::readiness::{HostSockets, Pollee};
use crate::fs::SignalDriven;
use crate::fs::wait::ALWAYS;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::net::{SOCKADDR_MAX, SockaddrIn, SockaddrIn6, SockaddrUn, family, kind, shut};
use platform::{HostAddress, HostError, HostFd, HostPoll, Platform, ThreadHandle};
use vfs::{Readiness, ReadinessNotifier};

/// Waits until a socket may be ready, or fails: EAGAIN who does not want to wait, or whose time is over; ERESTARTSYS or EINTR
/// a signal came.
pub(crate) type Wait<'a> = &'a mut dyn FnMut(Readiness) -> Result<()>;

/// The [`Wait`] of who does not.
pub(crate) fn no_wait(_events: Readiness) -> Result<()> {
    Err(Error::new(Errno::EAGAIN, "the socket is not ready"))
}

/// Nobody has waited for the socket yet.
const UNWATCHED: u64 = 0;
/// The host could not watch it.
const UNWATCHABLE: u64 = u64::MAX;
/// Several threads wait for it, or did.
const ANY: u32 = 0;
/// Nobody waits for it yet, or a thread has just begun to.
const UNKNOWN: u32 = u32::MAX;

/// Whom a socket signals.
#[derive(Default)]
struct Signalling {
    /// Who hears of urgent data.
    owner: Mutex<Weak<SignalDriven>>,
    /// Whether the host tells of edges at once.
    is_on: AtomicBool,
    /// Whether the owner has heard of urgent data since something was received. It may be the same that is there still.
    has_told_urgent: AtomicBool,
}

/// A socket of the host.
pub(crate) struct HostSocket {
    me: Weak<Self>,
    pub(super) platform: Arc<dyn Platform>,
    pub(super) sockets: Arc<HostSockets>,
    pub(super) fd: HostFd,
    pub(super) family: u16,
    kind: u32,
    /// Who is told of edges.
    notifier: Arc<ReadinessNotifier>,
    /// The token under which the host watches it, [`UNWATCHED`] or [`UNWATCHABLE`].
    token: AtomicU64,
    /// 1 + the thread that waits for it, or [`ANY`].
    waiter: AtomicU32,
    pub(super) pollee: Pollee,
    signalling: Signalling,
    is_connecting: AtomicBool,
    pub(super) joining: Joining,
}

impl HostSocket {
    /// `socket(2)`, for who has this notifier.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM of the host.
    pub(super) fn create(
        platform: &Arc<dyn Platform>,
        sockets: &Arc<HostSockets>,
        notifier: &Arc<ReadinessNotifier>,
        (of_family, of_kind, of_protocol): (u16, u32, u32),
    ) -> Result<Arc<Self>> {
        let fd = platform.host_socket(of_family, of_kind, of_protocol)?;
        Ok(Self::new(platform, sockets, notifier, fd, (of_family, of_kind)))
    }

    /// The socket that the host made for who has this notifier.
    pub(crate) fn new(
        platform: &Arc<dyn Platform>,
        sockets: &Arc<HostSockets>,
        notifier: &Arc<ReadinessNotifier>,
        fd: HostFd,
        (of_family, of_kind): (u16, u32),
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            platform: Arc::clone(platform),
            sockets: Arc::clone(sockets),
            fd,
            family: of_family,
            kind: of_kind,
            notifier: Arc::clone(notifier),
            token: AtomicU64::new(UNWATCHED),
            waiter: AtomicU32::new(UNKNOWN),
            pollee: Pollee::new(),
            signalling: Signalling::default(),
            is_connecting: AtomicBool::new(false),
            joining: Joining::default(),
        })
    }

    pub(super) const fn notifier(&self) -> &Arc<ReadinessNotifier> {
        &self.notifier
    }

    /// A buffer for data.
    pub(super) fn bounce(&self) -> Bounce<'_> {
        self.sockets.bounces().take()
    }

    pub(super) fn is_stream(&self) -> bool {
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
    /// EAGAIN nobody connects; EINVAL it does not listen; ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM.
    pub(super) fn accept(&self) -> Result<(Arc<Self>, HostAddress)> {
        let before = self.pollee.before();
        match self.platform.host_accept(self.fd) {
            Ok((fd, peer)) => {
                self.pollee.is_unsure(before);
                // Made first, so that it is closed if the address is refused.
                let its = (self.family, self.kind);
                let new = Self::new(&self.platform, &self.sockets, &Arc::default(), fd, its);
                let peer = self.address_of_host(peer)?;
                new.joining.inherit(&self.joining);
                new.join();
                Ok((new, peer))
            }
            Err(error) => {
                if error.0 == Errno::EAGAIN {
                    self.pollee.is_not(before, Readiness::IN);
                }
                Err(error.into())
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
        if address.as_bytes().starts_with(&family::UNSPEC.to_le_bytes()) {
            // It dissolves the connection.
            self.leave();
        }
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
                result?;
                self.join();
                return Ok(());
            }
            if !was_begun {
                // It was ready for everything, as an unconnected socket is.
                self.pollee.is_not(before, Readiness::all());
            }
            if let Err(error) = wait(Readiness::OUT) {
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
        if let Some(stream) = self.stream() {
            return stream.shutdown(how);
        }
        let before = self.pollee.before();
        self.platform.host_shutdown(self.fd, how)?;
        self.pollee.is_unsure(before);
        self.notifier.broadcast(&Readiness::all());
        Ok(())
    }

    /// An address from a program, for the host.
    pub(super) fn address_of_program(&self, address: &[u8]) -> Result<HostAddress> {
        if address.len() > SOCKADDR_MAX {
            bail!(EINVAL, "the address is too long");
        }
        HostAddress::new(address).ok_or(Error::new(Errno::EINVAL, "the address is too long"))
    }

    /// An address from the host, for a program: of the socket's family and of the right length, or none.
    pub(super) fn address_of_host(&self, address: HostAddress) -> Result<HostAddress> {
        let bytes = address.as_bytes();
        let lengths = match self.family {
            family::INET => size_of::<SockaddrIn>()..=size_of::<SockaddrIn>(),
            family::INET6 => size_of::<SockaddrIn6>()..=size_of::<SockaddrIn6>(),
            // A path, with a zero behind it that is not counted among its bytes, or nothing.
            _ => size_of::<u16>()..=size_of::<SockaddrUn>().saturating_add(1),
        };
        let is_right = bytes.is_empty()
            || (lengths.contains(&bytes.len()) && bytes.starts_with(&self.family.to_le_bytes()));
        if !is_right {
            bail!(EIO, "the host gave an address of another family");
        }
        Ok(address)
    }

    /// The host told of an edge.
    pub(super) fn on_edge(&self, ready: Readiness) {
        let is_news = self.pollee.edge(ready);
        if ready.contains(Readiness::PRI) && !self.signalling.has_told_urgent.swap(true, Ordering::SeqCst) {
            let owner = self.signalling.owner.lock().clone();
            if let Some(owner) = owner.upgrade() {
                owner.send_urgent();
            }
        }
        if is_news {
            self.notifier.broadcast(&ready);
        }
    }

    /// Something is about to be received: urgent data that is there afterwards is news.
    pub(super) fn note_receive(&self) {
        if self.signalling.has_told_urgent.load(Ordering::Relaxed) {
            self.signalling.has_told_urgent.store(false, Ordering::SeqCst);
        }
    }

    /// Signals the owner of the file from now on, also while all threads run their programs. False if the host cannot watch it.
    pub(crate) fn signal(&self, owner: Weak<SignalDriven>) -> bool {
        *self.signalling.owner.lock() = owner;
        if !self.leave() {
            // Its notifier tells of what the ring brings.
            return true;
        }
        if self.signalling.is_on.swap(true, Ordering::SeqCst) {
            return true;
        }
        let Some(token) = self.begin_token().or_else(|| self.watched_token()) else { return false };
        self.waiter.store(ANY, Ordering::SeqCst);
        // This stands for edges that nobody has fetched, which do not come any more. The owner does not hear of it.
        self.on_edge(self.ask_host());
        self.pollee.renew();
        if self.platform.watch_at_once(self.fd, token).is_ok() {
            return true;
        }
        self.signalling.is_on.store(false, Ordering::SeqCst);
        self.give_up(token)
    }

    /// Has the host watch the socket from now on, for the calling thread if for no other. False if it cannot.
    pub(crate) fn watch(&self) -> bool {
        self.watch_for(Some(self.platform.current()))
    }

    /// Has the host watch the socket from now on, for a thread or for any. False if it cannot.
    pub(crate) fn watch_for(&self, waiter: Option<ThreadHandle>) -> bool {
        if self.stream().is_some() {
            return true;
        }
        let Some(token) = self.begin_token() else { return self.watched_token().is_some() };
        self.waiter.store(number_of(waiter), Ordering::SeqCst);
        self.tell_host(token, waiter)
    }

    /// A token for a socket that is not watched yet; `None`: another thread was first, or it cannot be watched.
    fn begin_token(&self) -> Option<u64> {
        if self.token.load(Ordering::SeqCst) != UNWATCHED {
            return None;
        }
        let token = self.sockets.add(&self.me);
        let before = self.token.compare_exchange(UNWATCHED, token, Ordering::SeqCst, Ordering::SeqCst);
        if before.is_err() {
            self.sockets.remove(token);
        }
        before.is_ok().then_some(token)
    }

    /// The token of a socket that is watched.
    fn watched_token(&self) -> Option<u64> {
        let token = self.token.load(Ordering::SeqCst);
        (!matches!(token, UNWATCHED | UNWATCHABLE)).then_some(token)
    }

    /// The host cannot watch it.
    fn give_up(&self, token: u64) -> bool {
        self.token.store(UNWATCHABLE, Ordering::SeqCst);
        self.sockets.remove(token);
        false
    }

    fn tell_host(&self, token: u64, waiter: Option<ThreadHandle>) -> bool {
        let before = self.pollee.before();
        match self.platform.watch(self.fd, token, waiter) {
            Ok(ready) => {
                self.pollee.is(before, Readiness::from_bits_truncate(ready));
                true
            }
            Err(_) => self.give_up(token),
        }
    }

    /// A thread, or any, waits for it from now on. Where that is another than before, the host is to tell all.
    pub(crate) fn is_awaited_by(&self, thread: Option<ThreadHandle>) {
        if self.stream().is_some() {
            return;
        }
        if !self.is_watched() {
            self.watch_for(thread);
            return;
        }
        let waiter = self.waiter.load(Ordering::SeqCst);
        if waiter == ANY || waiter == number_of(thread) {
            return;
        }
        self.waiter.store(ANY, Ordering::SeqCst);
        let token = self.token.load(Ordering::SeqCst);
        match self.platform.watch(self.fd, token, None) {
            // Edges that the other thread has not fetched do not come any more: this stands for them.
            Ok(ready) => self.on_edge(Readiness::from_bits_truncate(ready)),
            Err(_) => {
                self.give_up(token);
            }
        }
    }

    /// The calling thread looks at what is known of it, and may wait for more.
    fn look(&self) {
        if self.waiter.load(Ordering::SeqCst) != ANY {
            self.is_awaited_by(Some(self.platform.current()));
        }
    }

    fn is_watched(&self) -> bool {
        self.watched_token().is_some()
    }

    /// Nobody is told of edges any more.
    pub(super) fn ends_watch(&self) {
        if let Some(token) = self.watched_token() {
            self.token.store(UNWATCHED, Ordering::SeqCst);
            self.sockets.remove(token);
            self.platform.unwatch(self.fd);
        }
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

fn number_of(thread: Option<ThreadHandle>) -> u32 {
    thread.map_or(ANY, |thread| thread.0.saturating_add(1))
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        if let Some(token) = self.watched_token() {
            self.sockets.remove(token);
        }
        match self.stream() {
            Some(stream) => stream.close(),
            None => self.platform.host_close_socket(self.fd),
        }
    }
}

impl HostSocket {
    /// What could be done without blocking.
    pub(crate) fn ready(&self) -> Readiness {
        if let Some(stream) = self.stream() {
            return stream.ready();
        }
        if self.left_behind().is_some() {
            return Readiness::IN | self.ready_at_host();
        }
        self.ready_at_host()
    }

    fn ready_at_host(&self) -> Readiness {
        if !self.is_watched() {
            return self.ask_host();
        }
        self.look();
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

    /// Whether it may be ready for one of `events`, as far as is known.
    pub(super) fn may_be(&self, events: Readiness) -> bool {
        if let Some(stream) = self.stream() {
            return stream.ready().intersects(events | ALWAYS);
        }
        if !self.is_watched() {
            return true;
        }
        self.look();
        self.pollee.ready().is_none_or(|ready| ready.intersects(events | ALWAYS))
    }

    /// The descriptor to poll, of a socket that the host could not watch.
    pub(crate) fn unwatchable(&self) -> Option<HostFd> {
        (self.stream().is_none() && self.token.load(Ordering::SeqCst) == UNWATCHABLE).then_some(self.fd)
    }

    /// `ioctl(2)` that answers with a number.
    ///
    /// # Errors
    /// What the host reports.
    pub(crate) fn number(&self, request: u32) -> Result<u32> {
        self.number_with_stream(request, |request| {
            let mut value = [0; 4];
            self.platform.host_ioctl(self.fd, request, &mut value)?;
            Ok(u32::from_le_bytes(value))
        })
    }

    /// `getsockopt(2)`: fills `value` and returns the length of what there is.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; EINVAL the value is too short.
    pub(crate) fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        if let Some(len) = self.error_of_stream(level, option, value) {
            return Ok(len);
        }
        let before = self.pollee.before();
        let len = self.platform.host_get_option(self.fd, level, option, value)?;
        if (level, option) == (SOL_SOCKET, socket::ERROR) {
            // It is cleared, and so may be what the socket was ready for.
            self.pollee.is_unsure(before);
        }
        Ok(len)
    }

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; and what the host reports.
    pub(super) fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        self.platform.host_set_option(self.fd, level, option, value)?;
        self.note_option(level, option, value);
        Ok(())
    }
}
