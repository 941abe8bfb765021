//! What `/proc/net` tells of a TCP or UDP socket.

use super::{InetSocket, endpoint};
use core::net::SocketAddr;
use linux_abi::net::option::tcp;
use linux_abi::net::{family, ioctl, protocol};

/// States of TCP, as `/proc/net/tcp` and `struct tcp_info` have them; UDP has the first and the third.
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const FIN_WAIT2: u8 = 5;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const CLOSE_WAIT: u8 = 8;
    pub(crate) const LISTEN: u8 = 10;
}

/// A socket.
pub(crate) struct Row {
    pub(crate) is_v6: bool,
    pub(crate) is_stream: bool,
    pub(crate) local: SocketAddr,
    pub(crate) peer: Option<SocketAddr>,
    /// One of [`state`].
    pub(crate) state: u8,
    /// Bytes that wait to be received.
    pub(crate) waiting: u32,
    pub(crate) ino: u64,
}

impl InetSocket {
    /// What is listed; `None`: Linux does not list such a socket. Of a socket of the host it is what the host says.
    pub(crate) fn row(&self) -> Option<Row> {
        if !matches!(self.protocol, protocol::TCP | protocol::UDP) {
            return None;
        }
        let name = |of_peer| {
            let name = self.name_of(of_peer).ok()?;
            endpoint::parse(self.family, name.as_bytes()).ok()
        };
        let (local, peer) = (name(false)?, name(true));
        let state = match (self.is_stream(), self.host()) {
            (true, Some(host)) if self.is_hosts() => {
                let mut info = [state::CLOSE];
                host.get_option(protocol::TCP, tcp::INFO, &mut info).ok()?;
                info[0]
            }
            (true, _) => self.tcp_state(),
            (false, _) if peer.is_some() => state::ESTABLISHED,
            (false, _) => state::CLOSE,
        };
        // Who is neither bound nor connected has no place in the tables of Linux.
        let is_listed = if self.is_stream() { state != state::CLOSE } else { local.port() != 0 };
        let waiting = match self.is_stream() {
            true if state == state::ESTABLISHED && !self.is_hosts() => self.number(ioctl::SIOCINQ),
            false if !self.is_hosts() => self.datagram_number(ioctl::SIOCINQ),
            _ => Ok(0),
        };
        is_listed.then(|| Row {
            is_v6: self.family == family::INET6,
            is_stream: self.is_stream(),
            local,
            peer,
            state,
            waiting: waiting.unwrap_or(0),
            ino: self.ino,
        })
    }
}
