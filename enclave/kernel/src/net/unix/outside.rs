//! Sockets that are connected to one of the host: to a socket file in a host folder whose mount says that programs may.
//!
//! What is sent leaves the enclave in clear, and what is received, and who is there, is what the host says. Descriptors and
//! credentials do not cross the border. Such a socket stays connected to whom it connected first.

use super::UnixSocket;
use crate::Ctx;
use crate::fs::wait;
use crate::net::inet::host::HostSocket;
use crate::net::{Incoming, Outgoing, Received};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::family;
use vfs::{Dentry, File, Readiness};

/// How long who connects waits before it asks again whether there is room at the host's listener, which does not tell.
const AGAIN_NS: u64 = 2_000_000;

impl UnixSocket {
    pub(super) fn outside(&self) -> Option<&HostSocket> {
        self.outside.get().map(|socket| &**socket)
    }

    /// Connects to the host's socket that is at a place.
    pub(super) fn connect_outside(&self, ctx: &Ctx<'_>, place: &Dentry, is_blocking: bool) -> Result<()> {
        if self.listener.lock().is_some() {
            bail!(EINVAL, "the socket listens");
        }
        let connected = Error::new(Errno::EISCONN, "the socket is connected");
        if self.outside.get().is_some() || self.link.get().is_some() {
            return Err(connected);
        }
        let now = || ctx.platform().monotonic_ns();
        let deadline = self.wait_limit_ns(Readiness::OUT).map(|limit| now().saturating_add(limit));
        let fd = loop {
            match fs_host::connect(place.node().inode(), self.kind) {
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    if deadline.is_some_and(|deadline| now() >= deadline) {
                        return Err(error);
                    }
                    let again = wait::earlier(deadline, Some(now().saturating_add(AGAIN_NS)));
                    wait::wait_until(ctx, &[], &mut [], again, || None, |_| None::<()>)?;
                }
                result => break result?,
            }
        };
        let platform = &self.domain.platform;
        let sockets = &ctx.kernel.host_sockets;
        let socket = HostSocket::new(platform, sockets, &self.notifier, fd, (family::UNIX, self.kind));
        if !Arc::ptr_eq(self.outside.call_once(|| Arc::clone(&socket)), &socket) {
            return Err(connected);
        }
        // Who waits for the socket already has nobody who tells of the host's.
        self.signal_from(&socket);
        socket.watch_for(None);
        self.notifier.broadcast(&Readiness::OUT);
        Ok(())
    }

    /// `sendmsg(2)` to the host.
    pub(super) fn send_outside(
        &self,
        ctx: &Ctx<'_>,
        host: &HostSocket,
        message: Outgoing<'_>,
    ) -> Result<usize> {
        if !message.control.is_empty() {
            bail!(EOPNOTSUPP, "descriptors and credentials do not leave the enclave");
        }
        host.send_plain(message.data, message.flags, &mut self.wait_outside(ctx, message.is_blocking))
    }

    /// `recvmsg(2)` from the host.
    pub(super) fn receive_outside(
        &self,
        ctx: &Ctx<'_>,
        host: &HostSocket,
        wanted: Incoming<'_>,
    ) -> Result<Received> {
        let wait = &mut self.wait_outside(ctx, wanted.is_blocking);
        if wanted.control_room.is_none() {
            let len = host.receive_plain(wanted.data, wanted.flags, wait)?;
            return Ok(Received { len, ..Received::default() });
        }
        // With no room for control messages, descriptors that are sent along are closed and not left open at the host.
        host.receive_message(wanted.data, 0, wanted.flags, wait)
    }

    fn wait_outside<'c>(
        &'c self,
        ctx: &'c Ctx<'c>,
        is_blocking: bool,
    ) -> impl FnMut(Readiness) -> Result<()> + 'c {
        move |events| {
            if is_blocking {
                wait::wait_for(ctx, self, events)
            } else {
                crate::net::inet::host::no_wait(events)
            }
        }
    }
}
