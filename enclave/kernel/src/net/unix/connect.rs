//! Names, listening, connecting, accepting.

use super::name::{self, Found, Name};
use super::{Names, Peer, RECEIVING, UnixSocket, credentials_of};
use crate::Ctx;
use crate::fs::wait::{self, Source};
use crate::net::local::Backlog;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::{Ucred, family};
use vfs::{File, Readiness};

/// What a socket that listens has.
pub(super) struct Listener {
    pub(super) backlog: Backlog<Arc<UnixSocket>>,
    /// Who called `listen(2)`.
    credentials: Ucred,
}

/// What the look at a listener found.
enum Attempt {
    Done,
    Full,
}

impl UnixSocket {
    fn names(&self) -> &Names {
        &self.domain.names
    }

    pub(super) fn bind(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        if self.name.lock().is_some() {
            return Names::bind_again(ctx, address);
        }
        self.take_name(self.names().bind(ctx, (&self.me, self.kind), address)?)
    }

    /// Who signs what it sends has a name, that others may answer to.
    pub(super) fn bind_who_signs(&self) -> Result<()> {
        if !self.options.passes_credentials() || self.name.lock().is_some() {
            return Ok(());
        }
        // Another thread may be first.
        let _ = self.take_name(self.names().bind_any((&self.me, self.kind))?);
        Ok(())
    }

    fn take_name(&self, name: Arc<Name>) -> Result<()> {
        let old = self.name.lock().replace(Arc::clone(&name));
        self.owns_name.store(true, Ordering::SeqCst);
        if let Some(old) = old {
            // Another thread was first.
            *self.name.lock() = Some(old);
            self.names().release(&name, &self.me);
            bail!(EINVAL, "the socket has a name");
        }
        Ok(())
    }

    pub(super) fn listen(&self, ctx: &Ctx<'_>, backlog: u32) -> Result<()> {
        if self.is_datagram() {
            bail!(EOPNOTSUPP, "a datagram socket does not listen");
        }
        if self.name.lock().is_none() || self.link.get().is_some() || self.outside.get().is_some() {
            bail!(EINVAL, "the socket has no name, or is connected");
        }
        let credentials = credentials_of(ctx);
        {
            let mut listener = self.listener.lock();
            match &mut *listener {
                Some(listener) => {
                    listener.backlog.set_limit(backlog);
                    listener.credentials = credentials;
                }
                None => *listener = Some(Listener { backlog: Backlog::new(backlog), credentials }),
            }
        }
        // It is not hung up any more, and a longer backlog has room.
        *self.credentials.lock() = Some(credentials);
        self.notifier.broadcast(&Readiness::all());
        self.connectors.broadcast(&Readiness::OUT);
        Ok(())
    }

    pub(super) fn accept(&self, ctx: &Ctx<'_>, is_blocking: bool) -> Result<Arc<Self>> {
        loop {
            let next = match &mut *self.listener.lock() {
                None if self.is_datagram() => bail!(EOPNOTSUPP, "a datagram socket does not listen"),
                None => bail!(EINVAL, "the socket does not listen"),
                Some(listener) => listener.backlog.pop(),
            };
            if let Some(socket) = next {
                socket.is_embryo.store(false, Ordering::SeqCst);
                self.connectors.broadcast(&Readiness::OUT);
                return Ok(socket);
            }
            if !is_blocking {
                bail!(EAGAIN, "nobody connects");
            }
            if self.is_shut(RECEIVING) {
                bail!(EINVAL, "the socket was shut down");
            }
            wait::wait_for(ctx, self, Readiness::IN)?;
        }
    }

    pub(super) fn connect(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()> {
        let of_family = address.first_chunk().copied().map_or(family::UNSPEC, u16::from_le_bytes);
        if of_family != family::UNIX {
            bail!(EINVAL, "not an address of the Unix domain");
        }
        name::check(address)?;
        self.bind_who_signs()?;
        let limit = self.wait_limit_ns(Readiness::OUT);
        let deadline = limit.map(|limit| ctx.platform().monotonic_ns().saturating_add(limit));
        loop {
            let target = match self.names().find(ctx, self.kind, address)? {
                Found::Inside(target) => target,
                Found::Outside(place) => {
                    return self.connect_outside(ctx, &place, is_blocking);
                }
            };
            if let Attempt::Done = self.try_connect(ctx, &target)? {
                return Ok(());
            }
            let full = Error::new(Errno::EAGAIN, "too many wait to be accepted");
            if !is_blocking {
                return Err(full);
            }
            // Who waits does not keep the listener from closing.
            let (connectors, weak) = (Arc::clone(&target.connectors), Arc::downgrade(&target));
            drop(target);
            let source = Source { notifier: &connectors, events: Readiness::OUT };
            let look = |_: &[_]| {
                let is_full = weak.upgrade().is_some_and(|target| {
                    let listener = target.listener.lock();
                    !target.is_shut(RECEIVING)
                        && listener.as_ref().is_some_and(|listener| listener.backlog.is_full())
                });
                (!is_full).then_some(())
            };
            if wait::wait_until(ctx, &[source], &mut [], deadline, || None, look)?.is_none() {
                return Err(full);
            }
        }
    }

    /// Puts the other side of a connection into the queue of a listener.
    fn try_connect(&self, ctx: &Ctx<'_>, target: &Arc<Self>) -> Result<Attempt> {
        if target.kind != self.kind {
            bail!(EPROTOTYPE, "the socket is of another type");
        }
        let other = Self::new(ctx, self.kind, Arc::clone(&target.name));
        {
            // Its own is not looked at under the lock of another.
            let listens = self.listener.lock().is_some();
            let mut listener = target.listener.lock();
            let Some(listener) = listener.as_mut().filter(|_| !target.is_shut(RECEIVING)) else {
                bail!(ECONNREFUSED, "nobody listens");
            };
            if listener.backlog.is_full() {
                return Ok(Attempt::Full);
            }
            if listens {
                bail!(EINVAL, "the socket listens");
            }
            if self.link.get().is_some() || self.outside.get().is_some() {
                bail!(EISCONN, "the socket is connected");
            }
            other.options.inherit(&target.options);
            if !self.join(&other, (credentials_of(ctx), listener.credentials)) {
                bail!(EISCONN, "the socket is connected");
            }
            other.is_embryo.store(true, Ordering::SeqCst);
            listener.backlog.push(other);
        }
        target.notifier.broadcast(&Readiness::IN);
        self.notifier.broadcast(&Readiness::OUT);
        Ok(Attempt::Done)
    }

    pub(super) fn connect_datagram(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()> {
        if self.outside.get().is_some() {
            bail!(EISCONN, "the socket is connected to one of the host");
        }
        let Some(of_family) = address.first_chunk().copied().map(u16::from_le_bytes) else {
            bail!(EINVAL, "the address is too short");
        };
        let peer = if of_family == family::UNSPEC {
            None
        } else {
            name::check(address)?;
            self.bind_who_signs()?;
            match self.names().find(ctx, self.kind, address)? {
                Found::Inside(target) => Some(Peer::new(&*self.check_receiver(target)?)),
                Found::Outside(place) => {
                    return self.connect_outside(ctx, &place, is_blocking);
                }
            }
        };
        let old = core::mem::replace(&mut *self.peer.lock(), peer);
        if let Some(old) = old {
            let stays = self.peer.lock().as_ref().is_some_and(|new| new.is(&old.socket));
            if !stays {
                self.leave(old.socket.upgrade().as_deref());
            }
        }
        self.notifier.broadcast(&Readiness::OUT);
        Ok(())
    }

    /// The peer is another from now on: what waits is lost, and who may have sent it hears of that.
    pub(super) fn leave(&self, old: Option<&Self>) {
        if !self.inbox.has_messages() {
            return;
        }
        self.inbox.clear();
        if let Some(old) = old {
            let is_mutual = old.peer.lock().as_ref().is_some_and(|peer| peer.is(&self.me));
            if is_mutual {
                old.is_left.store(true, Ordering::SeqCst);
            }
            old.notifier.broadcast(&Readiness::all());
        }
    }

    /// The datagram socket of a name that takes messages from this one.
    pub(super) fn find_receiver(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<Arc<Self>> {
        match self.names().find(ctx, self.kind, address)? {
            Found::Inside(target) => self.check_receiver(target),
            Found::Outside(_) => bail!(EOPNOTSUPP, "only who is connected sends to a socket of the host"),
        }
    }

    fn check_receiver(&self, target: Arc<Self>) -> Result<Arc<Self>> {
        if target.kind != self.kind {
            bail!(EPROTOTYPE, "the socket is of another type");
        }
        let takes_mine = target.peer.lock().as_ref().is_none_or(|peer| peer.is(&self.me));
        if !takes_mine {
            bail!(EPERM, "the socket takes messages of its peer only");
        }
        Ok(target)
    }
}
