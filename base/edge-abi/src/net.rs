//! Sockets at the border: what the buffer holds, and which options cross it.
//!
//! In the buffer of a message, the [`WireMessage`] comes first, control messages at [`CONTROL_AT`], data at [`DATA_AT`]. In that of
//! several, [`WireRow`]s come first, and [`Places`] says where the rest of each is.

use linux_abi::net::SOCKADDR_MAX;
use linux_abi::net::option::{SOL_SOCKET, ip, ipv6, socket, tcp, udp};
use linux_abi::net::protocol;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where control messages are.
pub const CONTROL_AT: usize = 256;
/// Bytes of control messages at most.
pub const CONTROL_MAX: usize = DATA_AT - CONTROL_AT;
/// Where data is.
pub const DATA_AT: usize = 4096;
/// Bytes of data of one message at most.
pub const DATA_MAX: usize = crate::ocall::BUFFER_LEN - DATA_AT;
/// Most rows of [`crate::ocall::Ocall::Interfaces`].
pub const INTERFACES_MAX: usize = 512;

/// A socket address.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireName {
    /// Bytes that count.
    pub len: u32,
    /// Zero.
    pub pad: u32,
    /// A `struct sockaddr` of some family.
    pub bytes: [u8; SOCKADDR_MAX],
}

/// What goes with the data of a message.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireMessage {
    /// MSG_* flags.
    pub flags: u32,
    /// Bytes of control messages.
    pub control_len: u32,
    /// Where to, or where from; no bytes: nowhere in particular.
    pub name: WireName,
}

const _: () = assert!(size_of::<WireMessage>() <= CONTROL_AT);

/// Most messages of one [`crate::ocall::Ocall::SendMessages`] or [`crate::ocall::Ocall::ReceiveMessages`].
pub const MESSAGES_MAX: usize = 64;

/// What goes with the data of one of several messages.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireRow {
    /// Flags, length of control messages, address. What is wanted before a message is received, what came after.
    pub message: WireMessage,
    /// Bytes of data, likewise.
    pub data_len: u32,
    /// The errno for which this message was not sent, after those before it were.
    pub error: u32,
}

/// Gives out the places of control messages and data in the buffer of several messages, in their order. Both sides ask here.
#[derive(Debug)]
pub struct Places(usize);

impl Places {
    /// Behind the rows.
    #[must_use]
    pub const fn new() -> Self {
        Self(MESSAGES_MAX * size_of::<WireRow>())
    }

    /// Where control messages and data of the next message are; `None`: there is no room for them.
    pub fn next(&mut self, control: usize, data: usize) -> Option<(usize, usize)> {
        let control_at = self.0;
        let data_at = control_at.checked_add(control)?.checked_next_multiple_of(8)?;
        let end = data_at.checked_add(data)?.checked_next_multiple_of(8)?;
        if end > crate::ocall::BUFFER_LEN {
            return None;
        }
        self.0 = end;
        Some((control_at, data_at))
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

/// An interface (family 0) or an address of one.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireInterface {
    /// Name, NUL-terminated.
    pub name: [u8; 16],
    /// An IPv4 or IPv6 address, or the hardware address of a link.
    pub address: [u8; 16],
    /// Broadcast address of the same kind; zero: none.
    pub broadcast: [u8; 16],
    /// Index.
    pub index: u32,
    /// IFF_*.
    pub flags: u32,
    /// AF_INET, AF_INET6, or 0.
    pub family: u32,
    /// Bits of the network; of a link: ARPHRD_*.
    pub prefix: u32,
    /// Bytes of a packet at most.
    pub mtu: u32,
    /// Zero.
    pub pad: u32,
}

/// What may be done with an option of a host socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// Bytes of the value at most.
    pub len: usize,
    /// `getsockopt(2)`.
    pub get: bool,
    /// `setsockopt(2)`.
    pub set: bool,
}

/// The options that cross the border. Both sides look here, so that neither an enclave nor a host can be brought to use
/// one that takes a pointer, loads a program, or means more than the socket itself.
#[must_use]
pub const fn passes(level: u32, option: u32) -> Option<Passing> {
    const fn both(len: usize) -> Option<Passing> {
        Some(Passing { len, get: true, set: true })
    }
    const fn get(len: usize) -> Option<Passing> {
        Some(Passing { len, get: true, set: false })
    }
    const fn set(len: usize) -> Option<Passing> {
        Some(Passing { len, get: false, set: true })
    }
    match level {
        SOL_SOCKET => match option {
            socket::REUSEADDR | socket::REUSEPORT | socket::DONTROUTE | socket::BROADCAST => both(4),
            socket::SNDBUF | socket::RCVBUF | socket::KEEPALIVE | socket::OOBINLINE => both(4),
            socket::PRIORITY | socket::RCVLOWAT | socket::TIMESTAMP | socket::TIMESTAMPNS => both(4),
            socket::TIMESTAMPING | socket::MARK | socket::RXQ_OVFL | socket::BUSY_POLL => both(4),
            socket::INCOMING_CPU | socket::NO_CHECK => both(4),
            socket::SNDBUFFORCE | socket::RCVBUFFORCE => set(4),
            socket::LINGER | socket::MAX_PACING_RATE => both(8),
            socket::BINDTODEVICE => both(16),
            socket::ERROR | socket::ACCEPTCONN | socket::SNDLOWAT => get(4),
            socket::COOKIE => get(8),
            socket::MEMINFO => get(36),
            _ => None,
        },
        protocol::IP => match option {
            ip::TOS | ip::TTL | ip::PKTINFO | ip::MTU_DISCOVER | ip::RECVERR | ip::RECVTTL => both(4),
            ip::RECVTOS | ip::FREEBIND | ip::TRANSPARENT | ip::RECVORIGDSTADDR | ip::MINTTL => both(4),
            ip::BIND_ADDRESS_NO_PORT | ip::MULTICAST_TTL | ip::MULTICAST_LOOP => both(4),
            ip::MULTICAST_ALL | ip::UNICAST_IF | ip::LOCAL_PORT_RANGE => both(4),
            ip::MULTICAST_IF => both(12),
            ip::ADD_MEMBERSHIP | ip::DROP_MEMBERSHIP => set(12),
            ip::ADD_SOURCE_MEMBERSHIP | ip::DROP_SOURCE_MEMBERSHIP => set(12),
            ip::MTU => get(4),
            _ => None,
        },
        protocol::IPV6 => match option {
            ipv6::UNICAST_HOPS | ipv6::MULTICAST_IF | ipv6::MULTICAST_HOPS | ipv6::MULTICAST_LOOP => both(4),
            ipv6::MTU_DISCOVER | ipv6::RECVERR | ipv6::V6ONLY | ipv6::RECVPKTINFO => both(4),
            ipv6::RECVHOPLIMIT | ipv6::DONTFRAG | ipv6::RECVTCLASS | ipv6::TCLASS => both(4),
            ipv6::AUTOFLOWLABEL | ipv6::ADDR_PREFERENCES | ipv6::RECVORIGDSTADDR => both(4),
            ipv6::FREEBIND | ipv6::MULTICAST_ALL => both(4),
            ipv6::JOIN_GROUP | ipv6::LEAVE_GROUP => set(20),
            ipv6::MTU => get(4),
            _ => None,
        },
        protocol::TCP => match option {
            tcp::NODELAY | tcp::MAXSEG | tcp::CORK | tcp::KEEPIDLE | tcp::KEEPINTVL | tcp::KEEPCNT => both(4),
            tcp::SYNCNT | tcp::LINGER2 | tcp::DEFER_ACCEPT | tcp::WINDOW_CLAMP | tcp::QUICKACK => both(4),
            tcp::USER_TIMEOUT | tcp::FASTOPEN | tcp::TIMESTAMP | tcp::NOTSENT_LOWAT => both(4),
            tcp::FASTOPEN_CONNECT => both(4),
            tcp::CONGESTION => both(16),
            tcp::INFO => get(256),
            _ => None,
        },
        protocol::UDP => match option {
            udp::CORK | udp::SEGMENT | udp::GRO => both(4),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_several_messages_do_not_overlap_and_end_with_the_buffer() {
        let mut places = Places::new();
        let mut end = MESSAGES_MAX * size_of::<WireRow>();
        for (control, data) in [(0, 1), (24, 1500), (13, 0), (0, 65_507)] {
            let (control_at, data_at) = places.next(control, data).unwrap();
            assert!(control_at >= end && control_at % 8 == 0 && data_at >= control_at + control);
            end = data_at + data;
        }
        assert_eq!(places.next(0, crate::ocall::BUFFER_LEN), None);
        assert_eq!(places.next(usize::MAX, usize::MAX), None);
        assert!(places.next(0, 1000).is_some(), "what does not fit takes no room");
    }

    #[test]
    fn options_that_carry_pointers_or_programs_do_not_pass() {
        for option in [socket::ATTACH_FILTER, socket::DETACH_FILTER, socket::PASSCRED, socket::PEERPIDFD] {
            assert_eq!(passes(SOL_SOCKET, option), None);
        }
        assert_eq!(passes(protocol::IP, ip::OPTIONS), None);
        // IPT_SO_SET_REPLACE
        assert_eq!(passes(protocol::IP, 64), None);
        for option in [tcp::ZEROCOPY_RECEIVE, tcp::ULP, tcp::REPAIR] {
            assert_eq!(passes(protocol::TCP, option), None);
        }
    }
}
