//! Control messages: a chain of [`Cmsghdr`] and data, each padded to eight bytes.

use super::Cmsghdr;
use super::option::{SOL_SOCKET, ip, ipv6, socket, udp};
use super::protocol;
use zerocopy::FromBytes;

/// SCM_RIGHTS of [`SOL_SOCKET`]: descriptors.
pub const SCM_RIGHTS: u32 = 1;
/// SCM_CREDENTIALS of [`SOL_SOCKET`]: a [`super::Ucred`].
pub const SCM_CREDENTIALS: u32 = 2;
/// Most descriptors in one SCM_RIGHTS message (SCM_MAX_FD).
pub const SCM_MAX_FD: usize = 253;
/// Bytes of a header.
pub const HEADER: usize = size_of::<Cmsghdr>();

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMessage<'a> {
    /// Level.
    pub level: u32,
    /// Type.
    pub kind: u32,
    /// Content.
    pub data: &'a [u8],
}

/// The chain is broken: a length that is shorter than a header or longer than what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenChain;

/// Walks a chain as `CMSG_NXTHDR` does; less than a header at the end is ignored.
pub fn messages(chain: &[u8]) -> impl Iterator<Item = Result<ControlMessage<'_>, BrokenChain>> {
    let mut rest = chain;
    core::iter::from_fn(move || {
        let (header, _) = Cmsghdr::read_from_prefix(rest).ok()?;
        let whole = usize::try_from(header.len).ok().filter(|&len| len >= HEADER);
        let Some(data) = whole.and_then(|len| rest.get(HEADER..len)) else {
            rest = &[];
            return Some(Err(BrokenChain));
        };
        rest = padded(data.len()).and_then(|padded| rest.get(HEADER + padded..)).unwrap_or_default();
        Some(Ok(ControlMessage { level: header.level, kind: header.kind, data }))
    })
}

/// Bytes that data of a length takes with its padding.
#[must_use]
pub const fn padded(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(8)
}

/// Bytes of a message with its header and padding (`CMSG_SPACE`).
#[must_use]
pub const fn space(len: usize) -> Option<usize> {
    match padded(len) {
        Some(padded) => padded.checked_add(HEADER),
        None => None,
    }
}

/// The header for data of a length.
#[must_use]
pub const fn header(level: u32, kind: u32, len: usize) -> Cmsghdr {
    Cmsghdr { len: (HEADER + len) as u64, level, kind }
}

/// Lengths that the content of a message from a host's internet socket may have; `None`: a host has no business
/// sending such a message (descriptors above all).
#[must_use]
pub const fn host_lengths(level: u32, kind: u32) -> Option<(usize, usize)> {
    Some(match (level, kind) {
        (
            SOL_SOCKET,
            socket::TIMESTAMP | socket::TIMESTAMPNS | socket::TIMESTAMP_NEW | socket::TIMESTAMPNS_NEW,
        ) => (16, 16),
        (SOL_SOCKET, socket::TIMESTAMPING) => (48, 48),
        (SOL_SOCKET, socket::RXQ_OVFL) => (4, 4),
        (protocol::IP, ip::PKTINFO) => (12, 12),
        (protocol::IP, ip::TTL) => (4, 4),
        (protocol::IP, ip::TOS) => (1, 4),
        // An extended error, and the address of who sent it.
        (protocol::IP, ip::RECVERR) => (16, 32),
        (protocol::IP, ip::RECVORIGDSTADDR) => (16, 16),
        (protocol::IPV6, ipv6::PKTINFO) => (20, 20),
        (protocol::IPV6, ipv6::HOPLIMIT | ipv6::TCLASS) => (4, 4),
        (protocol::IPV6, ipv6::RECVERR) => (16, 44),
        (protocol::IPV6, ipv6::RECVORIGDSTADDR) => (28, 28),
        (protocol::UDP, udp::GRO) => (2, 4),
        _ => return None,
    })
}

/// Lengths that the content of a message to a host's internet socket may have; `None`: it is refused.
#[must_use]
pub const fn sendable_lengths(level: u32, kind: u32) -> Option<(usize, usize)> {
    Some(match (level, kind) {
        (protocol::IP, ip::PKTINFO) => (12, 12),
        (protocol::IP, ip::TTL) => (4, 4),
        (protocol::IP, ip::TOS) => (1, 4),
        (protocol::IPV6, ipv6::PKTINFO) => (20, 20),
        (protocol::IPV6, ipv6::HOPLIMIT | ipv6::TCLASS | ipv6::DONTFRAG) => (4, 4),
        (protocol::UDP, udp::SEGMENT) => (2, 2),
        (SOL_SOCKET, socket::MARK) => (4, 4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn chain(parts: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut chain = Vec::new();
        for &(level, kind, data) in parts {
            chain.extend_from_slice(header(level, kind, data.len()).as_bytes());
            chain.extend_from_slice(data);
            chain.resize(chain.len().next_multiple_of(8), 0);
        }
        chain
    }

    #[test]
    fn a_chain_is_walked_to_its_end() {
        let bytes = chain(&[(1, 29, &[1; 16]), (0, 2, &[2; 4]), (41, 50, &[3; 20])]);
        let found: Vec<_> =
            messages(&bytes).map(|message| message.map(|m| (m.level, m.kind, m.data.len()))).collect();
        assert_eq!(found, [Ok((1, 29, 16)), Ok((0, 2, 4)), Ok((41, 50, 20))]);
    }

    #[test]
    fn a_length_that_lies_ends_the_chain() {
        for len in [0, 15, 33, u64::MAX] {
            let mut bytes = chain(&[(1, 29, &[0; 16])]);
            bytes[..8].copy_from_slice(&len.to_le_bytes());
            assert_eq!(messages(&bytes).collect::<Vec<_>>(), [Err(BrokenChain)], "{len}");
        }
        assert_eq!(messages(&[0; 15]).count(), 0);
    }

    #[test]
    fn whatever_the_bytes_are_a_walk_ends_and_stays_inside() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 97)
                .map(|index| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    // Lengths are small often enough to be believed.
                    if index % 8 == 0 { (state % 64) as u8 } else { ((state >> 8) % 5 / 4) as u8 }
                })
                .collect();
            let mut walked = 0;
            for message in messages(&bytes) {
                walked += HEADER + message.map_or(0, |message| message.data.len());
                assert!(walked <= bytes.len() + HEADER, "{bytes:?}");
            }
        }
    }

    #[test]
    fn the_last_message_needs_no_padding() {
        let mut bytes = chain(&[(0, 2, &[7; 4])]);
        bytes.truncate(HEADER + 4);
        assert_eq!(messages(&bytes).count(), 1);
    }

    #[test]
    fn a_host_cannot_send_descriptors() {
        assert_eq!(host_lengths(SOL_SOCKET, SCM_RIGHTS), None);
        assert_eq!(host_lengths(SOL_SOCKET, SCM_CREDENTIALS), None);
    }
}
