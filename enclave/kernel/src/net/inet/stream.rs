//! TCP between programs of one enclave.
//!
//! Connecting makes the other side's socket, which waits at the listener to be accepted; where too many wait, the one that
//! connects waits in a second queue, as its SYN would. No segment is lost, so there is nothing to retransmit. How connections
//! end is [`end`]; what goes over them, [`transfer`].
//!
//! Lock order: [`Stream::listener`], then [`Stream::progress`] of those that connect. No notifier is told under either.

mod end;
mod look;
mod transfer;
mod urgent;

use super::listing::state;
use super::ports::Claim;
use super::{InetSocket, endpoint};
use crate::Ctx;
use crate::fs::wait;
use crate::net::local::{self, Backlog};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use kbase::sync::{Mutex, Once};
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::{family, kind, shut};
use urgent::{Urgent, UrgentInbox};
use vfs::Readiness;

type Channel = local::Channel<Urgent, ()>;

/// Bits of [`Stream::shut`].
const RECEIVING: u32 = 1;
const SENDING: u32 = 2;

/// States of [`Link::void`]: the peer is there; something was sent to a peer that had closed; the error of that was told.
const THERE: u32 = 0;
const SENT_TO_NOBODY: u32 = 1;
const TOLD: u32 = 2;

/// Of so many connections that are accepted, one is asked of the host first.
const HOST_TURN: usize = 8;

/// A connection, seen from one side.
pub(super) struct Link {
    incoming: Arc<Channel>,
    outgoing: Arc<Channel>,
    peer_urgent: Arc<UrgentInbox>,
    /// What the peer has shut down.
    peer_shut: Arc<AtomicU32>,
    peer: SocketAddr,
    void: AtomicU32,
    /// Whether this side ended sending before the other one did.
    ended_first: AtomicBool,
}

/// How far connecting is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Idle,
    /// Too many wait at the listener.
    Waiting,
    /// There is a link, and the program was not told.
    Made,
    /// It failed, and the program was not told.
    Failed(Errno),
    /// It failed, and the program heard of it as the error of the socket.
    Dead,
    /// There was a connection, or an attempt, which the program dissolved; that is the error of the socket until it is told.
    Dissolved(Errno),
}

/// What a socket that listens has.
struct Listener {
    backlog: Backlog<Arc<InetSocket>>,
    /// Who connects while too many wait, and at which of its attempts.
    connecting: VecDeque<(Weak<InetSocket>, u64)>,
    /// Whether the host's socket listens too.
    is_on_host: bool,
}

/// The part of a socket that is TCP in the enclave.
#[derive(Default)]
pub(super) struct Stream {
    listener: Mutex<Option<Listener>>,
    progress: Mutex<Progress>,
    /// Where it connects to while it waits.
    target: Mutex<Option<SocketAddr>>,
    attempt: AtomicU64,
    link: Mutex<Option<Arc<Link>>>,
    /// What it keeps of its listener's port, as an accepted socket.
    accepted: Once<Claim>,
    urgent: Arc<UrgentInbox>,
    /// Nobody accepted it yet.
    is_embryo: AtomicBool,
    shut: Arc<AtomicU32>,
    turn: AtomicUsize,
}

impl Stream {
    /// The connection.
    fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().clone()
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.link.lock().as_ref().map(|link| link.peer)
    }
}

impl InetSocket {
    pub(super) fn has_link(&self) -> bool {
        self.stream.link.lock().is_some()
    }

    pub(super) fn listens(&self) -> bool {
        self.stream.listener.lock().is_some()
    }

    fn is_shut(&self, bit: u32) -> bool {
        self.stream.shut.load(Ordering::SeqCst) & bit != 0
    }

    fn progress(&self) -> Progress {
        *self.stream.progress.lock()
    }

    /// Connecting ends one way or the other.
    fn finish(&self, progress: Progress) {
        {
            let mut now = self.stream.progress.lock();
            if *now != Progress::Waiting {
                return;
            }
            *now = progress;
        }
        self.notifier.broadcast(&Readiness::all());
    }

    /// `listen(2)`.
    pub(super) fn start_listening(&self, backlog: u32) -> Result<()> {
        if !self.is_stream() {
            bail!(EOPNOTSUPP, "a datagram socket does not listen");
        }
        if self.is_hosts() {
            return self.attach()?.listen(backlog);
        }
        if self.has_link() || !matches!(self.progress(), Progress::Idle | Progress::Dissolved(_)) {
            bail!(EINVAL, "the socket is connected, or was to be");
        }
        if self.local().is_none() {
            self.bind_here(SocketAddr::new(endpoint::any(self.family), 0))?;
        }
        let Some(local) = self.local() else { bail!(EINVAL, "the socket has no address") };
        let port = local.address.port();
        let set = |listens| {
            self.inet.ports.change(self.protocol(), port, &self.me, |binding| binding.listens = listens)
        };
        set(true)?;
        if local.is_on_host {
            let host = self.attach()?;
            if let Err(error) = host.listen(backlog) {
                if !self.listens() {
                    set(false)?;
                }
                return Err(error);
            }
            host.watch();
        }
        {
            let mut listener = self.stream.listener.lock();
            let is_on_host = local.is_on_host;
            match &mut *listener {
                Some(listener) => listener.backlog.set_limit(backlog),
                None => {
                    let (backlog, connecting) = (Backlog::new(backlog), VecDeque::new());
                    *listener = Some(Listener { backlog, connecting, is_on_host });
                }
            }
        }
        self.admit();
        self.notifier.broadcast(&Readiness::all());
        Ok(())
    }

    /// `accept(2)`.
    pub(super) fn accept_next(&self, ctx: &Ctx<'_>, is_blocking: bool) -> Result<(Arc<Self>, SocketAddr)> {
        loop {
            let turn = self.stream.turn.fetch_add(1, Ordering::Relaxed);
            let is_hosts_turn = turn % HOST_TURN == HOST_TURN - 1;
            let (next, asks_host) = match &mut *self.stream.listener.lock() {
                None => bail!(EINVAL, "the socket does not listen"),
                Some(listener) if is_hosts_turn && listener.is_on_host => (None, true),
                Some(listener) => (listener.backlog.pop(), listener.is_on_host),
            };
            if let Some(new) = next {
                new.stream.is_embryo.store(false, Ordering::SeqCst);
                self.admit();
                let peer = new.stream.peer().ok_or(Error::new(Errno::ECONNABORTED, "it has no peer"))?;
                return Ok((new, peer));
            }
            if let Some(host) = self.host()
                && asks_host
                && (!is_blocking || host.may_be(Readiness::IN))
            {
                // A connection is not taken from the host to be dropped.
                ctx.files.want_room()?;
                match host.accept() {
                    Ok((new, peer)) => {
                        let peer = endpoint::parse(self.family, peer.as_bytes())?;
                        return Ok((self.of_host(new), peer));
                    }
                    Err(error) if error.errno() == Errno::EAGAIN => {}
                    Err(error) => return Err(error),
                }
            }
            if is_hosts_turn {
                continue;
            }
            if !is_blocking {
                bail!(EAGAIN, "nobody connects");
            }
            wait::wait_for(ctx, self, Readiness::IN)?;
        }
    }

    /// Has those connect for whom there is room now.
    fn admit(&self) {
        // None is dropped under the lock.
        let (mut made, mut stale) = (Vec::new(), Vec::new());
        {
            let mut listener = self.stream.listener.lock();
            let Some(listener) = &mut *listener else { return };
            while !listener.backlog.is_full()
                && let Some(client) = listener.connecting.pop_front()
            {
                let (client, attempt) = client;
                let Some(client) = client.upgrade() else { continue };
                let is_same = client.stream.attempt.load(Ordering::SeqCst) == attempt;
                match (client.progress(), client.local(), client.target()) {
                    (Progress::Waiting, Some(local), Some(target)) if is_same => {
                        client.join(self, listener, (local.address, target));
                        made.push(client);
                    }
                    _ => stale.push(client),
                }
            }
        }
        for client in &made {
            client.finish(Progress::Made);
        }
        if !made.is_empty() {
            self.notifier.broadcast(&Readiness::IN);
        }
    }

    /// `connect(2)` of a stream.
    pub(super) fn connect_stream(&self, ctx: &Ctx<'_>, bytes: &[u8], is_blocking: bool) -> Result<()> {
        if endpoint::family_of(bytes)? == family::UNSPEC {
            return self.disconnect(ctx, bytes, is_blocking);
        }
        let wait_for_host = |is_waiting: bool| {
            move |events| if is_waiting { wait::wait_for(ctx, self, events) } else { super::no_wait(events) }
        };
        if self.is_hosts() {
            return self.connect_at_host(bytes, &mut wait_for_host(is_blocking));
        }
        if self.listens() {
            bail!(EISCONN, "the socket listens");
        }
        let progress = {
            let mut now = self.stream.progress.lock();
            let before = *now;
            if before != Progress::Waiting {
                *now = Progress::Idle;
            }
            before
        };
        if matches!(progress, Progress::Failed(_) | Progress::Dead) {
            // It is as new.
            self.stream.shut.store(0, Ordering::SeqCst);
            self.notifier.broadcast(&Readiness::all());
        }
        match progress {
            Progress::Made if self.link().is_ok_and(|link| self.has_ended(&link)) => {
                let errno = self.take_error().unwrap_or(Errno::ECONNABORTED);
                self.dissolve();
                return Err(Error::new(errno, "the connection was made, and is gone"));
            }
            Progress::Made => return Ok(()),
            Progress::Failed(errno) => return Err(Error::new(errno, "the connection failed")),
            Progress::Dead => bail!(ECONNABORTED, "the connection failed, which the program knows"),
            Progress::Waiting if is_blocking => return self.wait_connected(ctx),
            Progress::Waiting => bail!(EALREADY, "the connection is not made yet"),
            Progress::Idle | Progress::Dissolved(_) => {}
        }
        if self.has_link() {
            bail!(EISCONN, "the socket is connected");
        }
        let target = endpoint::meant(endpoint::parse(self.family, bytes)?);
        if target.is_ipv4() && self.is_v6only() {
            bail!(ENETUNREACH, "the socket has no part in version 4");
        }
        if !endpoint::is_loopback(target.ip()) {
            self.go_to_host()?;
            return self.connect_at_host(bytes, &mut wait_for_host(is_blocking));
        }
        let turn = self.stream.turn.fetch_add(1, Ordering::Relaxed);
        let Some(listener) = self.inet.ports.listener(target, turn) else {
            if self.inet.policy.host_loopback.contains(self.protocol(), target.port()) {
                self.go_to_host()?;
                return self.connect_at_host(bytes, &mut wait_for_host(is_blocking));
            }
            return self.fail(Errno::ECONNREFUSED, is_blocking);
        };
        match self.try_connect(&listener, target) {
            Err(error) if error.errno() == Errno::ECONNREFUSED => {
                return self.fail(Errno::ECONNREFUSED, is_blocking);
            }
            result => result?,
        }
        drop(listener);
        if is_blocking {
            return self.wait_connected(ctx);
        }
        // As it is for who sends a SYN.
        bail!(EINPROGRESS, "the connection is being made")
    }

    fn connect_at_host(&self, bytes: &[u8], wait: super::host::Wait<'_>) -> Result<()> {
        let host = self.attach()?;
        let result = host.connect(bytes, wait);
        if let Err(error) = &result {
            let goes_on =
                [Errno::EINPROGRESS, Errno::EALREADY, Errno::EISCONN, Errno::EINTR, Errno::ERESTARTSYS];
            let is_bound_there = self.local().is_none_or(|local| local.is_on_host);
            if !goes_on.contains(&error.errno()) && is_bound_there && !self.is_foreign.load(Ordering::Relaxed)
            {
                // The next try may be for who listens inside by then.
                self.is_hosts.store(false, Ordering::SeqCst);
                self.stream.shut.store(0, Ordering::SeqCst);
            }
        }
        result
    }

    fn fail(&self, errno: Errno, is_blocking: bool) -> Result<()> {
        if is_blocking {
            return Err(Error::new(errno, "nobody listens"));
        }
        *self.stream.progress.lock() = Progress::Failed(errno);
        self.notifier.broadcast(&Readiness::all());
        bail!(EINPROGRESS, "the connection is being made")
    }

    /// Waits until the connection is made or refused.
    fn wait_connected(&self, ctx: &Ctx<'_>) -> Result<()> {
        loop {
            {
                let mut now = self.stream.progress.lock();
                match *now {
                    Progress::Made => {
                        *now = Progress::Idle;
                        return Ok(());
                    }
                    Progress::Failed(errno) => {
                        *now = Progress::Idle;
                        return Err(Error::new(errno, "the connection failed"));
                    }
                    Progress::Idle | Progress::Dead => return Ok(()),
                    Progress::Dissolved(_) => bail!(ECONNABORTED, "another thread dissolved it"),
                    Progress::Waiting => {}
                }
            }
            match wait::wait_for(ctx, self, Readiness::OUT) {
                Err(error) if error.errno() == Errno::EAGAIN => {
                    bail!(EINPROGRESS, "the time limit of the socket is over")
                }
                result => result?,
            }
        }
    }

    /// Where it connects to while it waits.
    fn target(&self) -> Option<SocketAddr> {
        *self.stream.target.lock()
    }

    /// Connects to who listens, or waits there.
    fn try_connect(&self, to: &Arc<Self>, target: SocketAddr) -> Result<()> {
        let source = self.bind_itself(endpoint::source_for(target.ip()))?;
        if source.is_ipv4() != target.is_ipv4() {
            bail!(EINVAL, "the socket is bound to an address of the other version");
        }
        {
            let mut listener = to.stream.listener.lock();
            let Some(listener) = &mut *listener else { bail!(ECONNREFUSED, "nobody listens") };
            {
                let mut now = self.stream.progress.lock();
                if *now != Progress::Idle {
                    bail!(EALREADY, "another thread connects");
                }
                *now = Progress::Waiting;
            }
            if listener.backlog.is_full() || !listener.connecting.is_empty() {
                *self.stream.target.lock() = Some(target);
                let attempt = self.stream.attempt.fetch_add(1, Ordering::SeqCst) + 1;
                listener.connecting.push_back((self.me.clone(), attempt));
                return Ok(());
            }
            self.join(to, listener, (source, target));
        }
        self.finish(Progress::Made);
        to.notifier.broadcast(&Readiness::IN);
        Ok(())
    }

    /// Makes the other side, which waits to be accepted.
    fn join(&self, to: &Self, listener: &mut Listener, (source, target): (SocketAddr, SocketAddr)) {
        let other = Self::new(&to.inet, Arc::default(), (to.family, to.kind, to.protocol));
        other.options.inherit(&to.options);
        let channel = |from: &Self, into: &Self| {
            let capacity = from.options.capacity_to(&into.options);
            Channel::new(kind::STREAM, capacity, &into.notifier, &from.notifier)
        };
        let (there, back) = (channel(self, &other), channel(&other, self));
        *other.local.lock() =
            Some(super::Local { address: target, is_in_table: false, given: None, is_on_host: false });
        let side = |incoming: &Arc<Channel>, outgoing: &Arc<Channel>, to: &Self, peer| Link {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            peer_urgent: Arc::clone(&to.stream.urgent),
            peer_shut: Arc::clone(&to.stream.shut),
            peer,
            void: AtomicU32::new(THERE),
            ended_first: AtomicBool::new(false),
        };
        let claim = other.claim(target.ip());
        to.inet.ports.open(target.port(), *other.stream.accepted.call_once(|| claim));
        *other.stream.link.lock() = Some(Arc::new(side(&there, &back, self, source)));
        *self.stream.link.lock() = Some(Arc::new(side(&back, &there, &other, target)));
        other.stream.is_embryo.store(true, Ordering::SeqCst);
        listener.backlog.push(other);
    }

    /// `shutdown(2)` of what is not the host's.
    pub(super) fn shut_stream(&self, how: u32) -> Result<()> {
        let (receiving, sending) = match how {
            shut::RD => (true, false),
            shut::WR => (false, true),
            shut::RDWR => (true, true),
            _ => bail!(EINVAL, "no such direction"),
        };
        let bits = (u32::from(receiving) * RECEIVING) | (u32::from(sending) * SENDING);
        if let Some(link) = self.stream.link()
            && self.tcp_state() != state::CLOSE
        {
            self.stream.shut.fetch_or(bits, Ordering::SeqCst);
            if sending {
                link.end();
            }
        } else if self.listens() {
            if receiving {
                self.stop_listening()?;
                self.stream.shut.store(0, Ordering::SeqCst);
            }
        } else {
            // It only fails: a connection that is made later is shut down so.
            self.stream.shut.fetch_or(bits, Ordering::SeqCst);
            self.notifier.broadcast(&Readiness::all());
            bail!(ENOTCONN, "the socket is not connected");
        }
        self.notifier.broadcast(&Readiness::all());
        Ok(())
    }
}
