//! How connections and listeners end.
//!
//! Who ends sending before the other side does keeps the port in TIME_WAIT when both are closed, as far as a program can see
//! that: nobody binds to it for a minute, unless with SO_REUSEADDR. Only the ports of listeners, and of who bound to one before
//! it connected, are kept so: nobody asks for a port that the system chose, which would run out of them.

use super::super::listing::state;
use super::super::{Binding, InetSocket, Local, no_wait};
use super::{Link, Listener, Progress, Stream, THERE};
use crate::Ctx;
use crate::fs::wait;
use core::sync::atomic::Ordering;
use kbase::{Errno, Result};
use linux_abi::net::shut;
use vfs::Readiness;

impl Link {
    /// This side sends no more.
    pub(super) fn end(&self) {
        if self.outgoing.ends().1 && self.incoming.ends().1 {
            self.ended_first.store(true, Ordering::SeqCst);
        }
        self.outgoing.close(false, true);
    }

    /// Something is about to be sent to a peer that neither receives nor sends any more, and so ends the connection. What either
    /// side has can be received.
    pub(super) fn reset_by_peer(&self) {
        if self.void.load(Ordering::SeqCst) == THERE && !self.outgoing.was_reset() {
            self.incoming.fail();
            self.outgoing.close(true, false);
        }
    }

    /// This side is closed, with a reset where data is lost. Returns whether it is in TIME_WAIT.
    fn close(&self, resets: bool) -> bool {
        let is_reset = self.incoming.abandon(resets) || self.outgoing.was_reset();
        self.end();
        let ended_first = self.ended_first.load(Ordering::SeqCst);
        ended_first && !is_reset && self.void.load(Ordering::SeqCst) == THERE
    }
}

/// Ends listening: who was not accepted is reset, and who waits to be is refused.
fn refuse(listener: Listener) {
    for (client, _) in &listener.connecting {
        if let Some(client) = client.upgrade() {
            client.finish(Progress::Failed(Errno::ECONNREFUSED));
        }
    }
    drop(listener);
}

impl Stream {
    /// The socket is closed. Returns whether its connection is in TIME_WAIT.
    pub(in crate::net::inet) fn close(&mut self, aborts: bool) -> bool {
        if let Some(listener) = self.listener.get_mut().take() {
            refuse(listener);
        }
        let resets = *self.is_embryo.get_mut() || aborts;
        self.link.get_mut().take().is_some_and(|link| link.close(resets))
    }
}

impl InetSocket {
    /// The socket is closed: what it had of its port goes, or is in TIME_WAIT.
    pub(in crate::net::inet) fn leave_port(&self, local: &Local, waits: bool) {
        let (ip, port) = (local.address.ip(), local.address.port());
        let ports = &self.inet.ports;
        let accepted = self.stream.accepted.get();
        if waits && (accepted.is_some() || local.given.is_some()) {
            ports.wait(port, self.claim(ip), self.inet.platform.monotonic_ns());
        }
        if local.is_in_table {
            ports.release(self.protocol(), port, &self.me);
        }
        if let Some(&claim) = accepted {
            ports.close(port, claim);
        }
    }

    pub(super) fn stop_listening(&self) -> Result<()> {
        let listener = self.stream.listener.lock().take();
        let Some(listener) = listener else { return Ok(()) };
        if listener.is_on_host
            && let Some(host) = self.host()
        {
            host.shutdown(shut::RD)?;
        }
        refuse(listener);
        if let Some(local) = self.local() {
            let stop = |binding: &mut Binding| binding.listens = false;
            self.inet.ports.change(self.protocol(), local.address.port(), &self.me, stop)?;
        }
        Ok(())
    }

    /// `connect(2)` to no family: the socket is as new, but for the address that a program gave it.
    pub(super) fn disconnect(&self, ctx: &Ctx<'_>, bytes: &[u8], is_blocking: bool) -> Result<()> {
        if self.is_hosts() {
            let wait = &mut |events| {
                if is_blocking { wait::wait_for(ctx, self, events) } else { no_wait(events) }
            };
            return self.attach()?.connect(bytes, wait);
        }
        self.stop_listening()?;
        let is_open = self.has_link() && self.tcp_state() != state::CLOSE;
        // What was not told stays to be told.
        let untold = self.take_error();
        {
            let mut progress = self.stream.progress.lock();
            let is_reset = is_open || *progress == Progress::Waiting;
            *progress = match untold {
                _ if is_reset => Progress::Dissolved(Errno::ECONNRESET),
                Some(errno) => Progress::Dissolved(errno),
                None => Progress::Idle,
            };
        }
        self.dissolve();
        Ok(())
    }

    /// Leaves the connection: the socket is as new.
    pub(super) fn dissolve(&self) {
        let link = self.stream.link.lock().take();
        if let Some(link) = link {
            link.close(true);
        }
        self.stream.shut.store(0, Ordering::SeqCst);
        self.stream.urgent.clear();
        self.forget_address();
        self.notifier.broadcast(&Readiness::all());
    }

    /// Takes back an address that the system gave it.
    fn forget_address(&self) {
        let gone = {
            let mut local = self.local.lock();
            match &mut *local {
                Some(Local { given: Some(ip), address, .. }) => {
                    address.set_ip(*ip);
                    return;
                }
                _ => local.take(),
            }
        };
        if let Some(gone) = gone {
            self.leave_port(&gone, false);
        }
    }
}
