//! What a socket is ready for, as long as its peer is not the host's.

use super::{Link, RECEIVING, SENDING, UnixSocket};
use core::sync::atomic::Ordering;
use vfs::Readiness;

impl UnixSocket {
    pub(super) fn ready_here(&self) -> Readiness {
        if self.is_datagram() {
            return self.ready_datagram();
        }
        if let Some(link) = self.link.get() {
            return self.ready_link(link);
        }
        let mut ready = self.ready_shut();
        match &*self.listener.lock() {
            Some(listener) => {
                ready.set(Readiness::IN, ready.contains(Readiness::IN) || listener.backlog.has_waiting())
            }
            None => ready |= Readiness::OUT | Readiness::HUP,
        }
        ready
    }

    /// What it is ready for because it was shut down.
    fn ready_shut(&self) -> Readiness {
        let is_over = self.is_shut(RECEIVING);
        let mut ready = Readiness::empty();
        ready.set(Readiness::HUP, is_over && self.is_shut(SENDING));
        ready.set(Readiness::RDHUP | Readiness::IN, is_over);
        ready
    }

    fn ready_link(&self, link: &Link) -> Readiness {
        // It may have been shut down before it was connected.
        let is_over = link.incoming.is_over() || self.is_shut(RECEIVING);
        let is_deaf = link.outgoing.is_over() || self.is_shut(SENDING);
        let mut ready = Readiness::empty();
        ready.set(Readiness::ERR, link.outgoing.is_reset());
        ready.set(Readiness::HUP, is_over && is_deaf);
        ready.set(Readiness::RDHUP, is_over);
        ready.set(Readiness::IN, is_over || link.incoming.is_readable() || self.urgent.has_any());
        ready.set(Readiness::PRI, self.urgent.has_urgent());
        ready.set(Readiness::OUT, is_deaf || link.outgoing.has_room(self.link_limit(), &self.notifier));
        ready
    }

    fn ready_datagram(&self) -> Readiness {
        let mut ready = self.ready_shut();
        ready.set(Readiness::ERR, self.is_left.load(Ordering::SeqCst));
        if self.inbox.has_messages() {
            ready |= Readiness::IN;
        }
        let has_room =
            self.peer().is_none_or(|peer| peer.inbox.has_room(self.limit_to(&peer), &self.notifier));
        ready.set(Readiness::OUT, has_room);
        ready
    }
}
