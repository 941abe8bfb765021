//! What can be seen of a connection: readiness, errors, numbers, and `struct tcp_info`.

use super::super::InetSocket;
use super::super::listing::state;
use super::{Link, Progress, RECEIVING, SENDING, SENT_TO_NOBODY, THERE, TOLD};
use crate::net::local::Queue;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kbase::{Errno, Result, bail};
use linux_abi::net::ioctl;
use vfs::Readiness;

impl InetSocket {
    /// Bytes that can be received.
    pub(super) fn readable(&self, link: &Link) -> usize {
        let Queue::Bytes(ring) = &link.incoming.queue else { return 0 };
        let all = ring.state().readable();
        if all > 0 && self.is_at_mark(ring) && !self.is_urgent_inline() { all.saturating_sub(1) } else { all }
    }

    pub(in crate::net::inet) fn ready_stream(&self) -> Readiness {
        if let Some(link) = self.stream.link() {
            return self.ready_link(&link);
        }
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN | Readiness::RDHUP, self.is_shut(RECEIVING));
        match self.progress() {
            Progress::Waiting => return ready,
            Progress::Failed(_) => return Readiness::all().difference(Readiness::PRI),
            Progress::Dead => {
                return Readiness::all().difference(Readiness::PRI | Readiness::ERR);
            }
            Progress::Dissolved(_) => return ready | Readiness::OUT | Readiness::HUP | Readiness::ERR,
            Progress::Idle | Progress::Made => {}
        }
        let is_on_host = match &*self.stream.listener.lock() {
            None => return ready | Readiness::OUT | Readiness::HUP,
            Some(listener) => {
                ready = Readiness::empty();
                ready.set(Readiness::IN, listener.backlog.has_waiting());
                listener.is_on_host
            }
        };
        if ready.is_empty()
            && is_on_host
            && let Some(host) = self.host()
        {
            ready = host.ready() & Readiness::IN;
        }
        ready
    }

    /// Whether the connection was reset, or is to be: something was sent to a peer that had closed.
    pub(super) fn is_gone(&self, link: &Link) -> bool {
        link.outgoing.was_reset() || link.void.load(Ordering::SeqCst) != THERE
    }

    fn ready_link(&self, link: &Link) -> Readiness {
        let is_gone = self.is_gone(link);
        let is_over = self.is_over(link);
        let is_mute = is_gone || self.is_shut(SENDING);
        let has_error = link.outgoing.is_reset() || link.void.load(Ordering::SeqCst) == SENT_TO_NOBODY;
        let mut ready = Readiness::empty();
        ready.set(Readiness::ERR, has_error);
        ready.set(Readiness::HUP, is_over && is_mute);
        ready.set(Readiness::RDHUP, is_over);
        ready.set(Readiness::IN, is_over || self.readable(link) > 0);
        ready.set(Readiness::PRI, self.has_urgent());
        let has_room = match &link.outgoing.queue {
            Queue::Bytes(ring) => {
                let state = ring.state();
                state.room() >= crate::fs::ring::ATOMIC || state.readers == 0
            }
            Queue::Messages(_) => false,
        };
        ready.set(Readiness::OUT, is_mute || has_room);
        ready
    }

    /// Whether nothing comes any more, but what is there.
    pub(super) fn is_over(&self, link: &Link) -> bool {
        self.is_gone(link) || link.incoming.is_over() || self.is_shut(RECEIVING)
    }

    /// Whether the connection is none any more.
    pub(super) fn has_ended(&self, link: &Link) -> bool {
        self.is_gone(link) || (self.is_shut(SENDING) && link.incoming.is_over())
    }

    /// SO_ERROR: what went wrong, once.
    pub(in crate::net::inet) fn take_error(&self) -> Option<Errno> {
        if let Some(errno) = self.datagram.take_error() {
            return Some(errno);
        }
        if let Some(errno) = self.take_progress_error() {
            return Some(errno);
        }
        let link = self.stream.link()?;
        if link.outgoing.take_reset() {
            return Some(Errno::ECONNRESET);
        }
        let was_void = link.void.compare_exchange(SENT_TO_NOBODY, TOLD, Ordering::SeqCst, Ordering::SeqCst);
        was_void.is_ok().then_some(Errno::EPIPE)
    }

    /// That connecting failed, or that the connection was dissolved, once.
    pub(super) fn take_progress_error(&self) -> Option<Errno> {
        let mut progress = self.stream.progress.lock();
        let (next, errno) = match *progress {
            Progress::Failed(errno) => (Progress::Dead, errno),
            Progress::Dissolved(errno) => (Progress::Idle, errno),
            _ => return None,
        };
        *progress = next;
        Some(errno)
    }

    /// A buffer has another size now.
    pub(in crate::net::inet) fn resize(&self) {
        if let Some(link) = self.stream.link() {
            // What the peer said of its own buffer is not known any more.
            link.outgoing.set_capacity(self.options.capacity_to(&super::super::Options::new()));
        }
    }

    /// The peer of a connection that is one.
    pub(in crate::net::inet) fn peer_of_stream(&self) -> Option<SocketAddr> {
        self.stream.link().filter(|link| !self.has_ended(link)).map(|link| link.peer)
    }

    /// What SIOCINQ, SIOCOUTQ and SIOCATMARK tell.
    pub(in crate::net::inet) fn number(&self, request: u32) -> Result<u32> {
        let link = self.stream.link();
        if request != ioctl::SIOCATMARK && link.is_none() && self.listens() {
            bail!(EINVAL, "the socket listens");
        }
        let number = match (request, &link) {
            (ioctl::SIOCINQ, Some(link)) => self.readable(link),
            (ioctl::SIOCOUTQ, Some(_)) => 0,
            (ioctl::SIOCATMARK, Some(link)) => match &link.incoming.queue {
                Queue::Bytes(ring) => self.is_at_mark(ring).into(),
                Queue::Messages(_) => 0,
            },
            _ => 0,
        };
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// One of [`state`].
    pub(in crate::net::inet) fn tcp_state(&self) -> u8 {
        match self.stream.link() {
            Some(link) if self.is_gone(&link) => state::CLOSE,
            Some(link) => match (self.is_shut(SENDING), link.incoming.is_over()) {
                (false, false) => state::ESTABLISHED,
                (false, true) => state::CLOSE_WAIT,
                (true, false) => state::FIN_WAIT2,
                (true, true) => state::CLOSE,
            },
            None if self.listens() => state::LISTEN,
            None if self.progress() == Progress::Waiting => state::SYN_SENT,
            None => state::CLOSE,
        }
    }

    /// `struct tcp_info`, as far as it means something: state, window scales, and sizes of segments.
    pub(in crate::net::inet) fn tcp_info(&self) -> [u8; 104] {
        let mut info = [0; 104];
        info[0] = self.tcp_state();
        for (at, value) in [(16usize, 65_483u32), (20, 536), (68, 30), (72, 15), (80, 10)] {
            if let Some(room) = info.get_mut(at..at.saturating_add(4)) {
                room.copy_from_slice(&value.to_le_bytes());
            }
        }
        info
    }
}
