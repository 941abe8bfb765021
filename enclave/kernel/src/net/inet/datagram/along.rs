//! What goes along with a datagram in the enclave: the control messages that are sent with it and those that are received.

use super::super::InetSocket;
use super::super::io::{check_message, is_known, messages};
use crate::net::local::Chain;
use alloc::vec::Vec;
use core::net::IpAddr;
use kbase::{Result, bail};
use linux_abi::net::option::{SOL_SOCKET, ip, ipv6, socket, udp};
use linux_abi::net::{MessageFlags, family, protocol};
use linux_abi::time::{Timespec, Timeval};
use zerocopy::IntoBytes;

/// Index of the loopback interface.
const LOOPBACK_INDEX: u32 = 1;

/// What goes along with a datagram.
#[derive(Clone, Copy)]
pub(super) struct Along {
    /// Where it was sent to.
    pub(super) to: IpAddr,
    /// CLOCK_REALTIME when it was sent, if the receiver wants to know.
    pub(super) sent_ns: u64,
    pub(super) hops: u32,
    pub(super) class: u32,
    /// Datagrams that the receiver had lost before.
    pub(super) dropped: u32,
}

/// What a program says of a datagram in control messages.
#[derive(Default)]
pub(in crate::net::inet) struct Wishes {
    pub(super) source: Option<IpAddr>,
    pub(super) hops: Option<u32>,
    pub(super) class: Option<u32>,
    pub(super) segment: usize,
}

impl Wishes {
    /// Reads a chain.
    ///
    /// # Errors
    /// EINVAL it is broken, or has what cannot be sent.
    pub(super) fn read(chain: &[u8]) -> Result<Self> {
        let mut wishes = Self::default();
        for message in messages(chain) {
            let message = message?;
            if !is_known(&message) {
                continue;
            }
            check_message(&message)?;
            let number = match *message.data {
                [byte] => byte.into(),
                [low, high] => u16::from_le_bytes([low, high]).into(),
                [a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
                _ => 0,
            };
            match (message.level, message.kind) {
                (protocol::IP, ip::PKTINFO) => {
                    let address = message.data.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                    wishes.source = address.map(IpAddr::from).filter(|ip| !ip.is_unspecified());
                }
                (protocol::IPV6, ipv6::PKTINFO) => {
                    let address = message.data.get(..16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                    let ip = address.map(|address| IpAddr::from(address).to_canonical());
                    wishes.source = ip.filter(|ip| !ip.is_unspecified());
                }
                (protocol::IP, ip::TTL) => wishes.hops = within(number, 1)?,
                (protocol::IP, ip::TOS) => wishes.class = within(number, 0)?,
                // -1: as it is without.
                (protocol::IPV6, ipv6::HOPLIMIT | ipv6::TCLASS) if number == u32::MAX => {}
                (protocol::IPV6, ipv6::HOPLIMIT) => wishes.hops = within(number, 0)?,
                (protocol::IPV6, ipv6::TCLASS) => wishes.class = within(number, 0)?,
                (protocol::UDP, udp::SEGMENT) => wishes.segment = usize::try_from(number).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(wishes)
    }
}

/// A number that fits into a byte, and is at least `least`.
fn within(number: u32, least: u32) -> Result<Option<u32>> {
    if !(least..=255).contains(&number) {
        bail!(EINVAL, "no such value");
    }
    Ok(Some(number))
}

impl InetSocket {
    /// The control messages that a program asked for, in the order of Linux.
    pub(super) fn control_of(&self, along: &Along, room: usize) -> (Vec<u8>, MessageFlags) {
        let mut chain = Chain::new(room);
        let options = &self.options;
        if options.is_on(SOL_SOCKET, socket::TIMESTAMP) {
            chain.add(SOL_SOCKET, socket::TIMESTAMP, Timeval::from_ns(along.sent_ns).as_bytes());
        } else if options.is_on(SOL_SOCKET, socket::TIMESTAMPNS) {
            let time = Timespec::from_ns(along.sent_ns);
            chain.add(SOL_SOCKET, socket::TIMESTAMPNS, time.as_bytes());
        }
        if along.dropped != 0 && options.is_on(SOL_SOCKET, socket::RXQ_OVFL) {
            chain.add(SOL_SOCKET, socket::RXQ_OVFL, along.dropped.as_bytes());
        }
        if self.family == family::INET {
            if let IpAddr::V4(to) = along.to
                && options.is_on(protocol::IP, ip::PKTINFO)
            {
                let mut info = [0; 12];
                let parts = [LOOPBACK_INDEX.to_le_bytes(), to.octets(), to.octets()];
                info.as_chunks_mut::<4>().0.iter_mut().zip(parts).for_each(|(room, part)| *room = part);
                chain.add(protocol::IP, ip::PKTINFO, &info);
            }
            if options.is_on(protocol::IP, ip::RECVTTL) {
                chain.add(protocol::IP, ip::TTL, &along.hops.to_le_bytes());
            }
            if options.is_on(protocol::IP, ip::RECVTOS) {
                chain.add(protocol::IP, ip::TOS, &along.class.to_le_bytes()[..1]);
            }
            return chain.finish();
        }
        if options.is_on(protocol::IPV6, ipv6::RECVPKTINFO) {
            let to = match along.to {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let mut info = to.octets().to_vec();
            info.extend_from_slice(&LOOPBACK_INDEX.to_le_bytes());
            chain.add(protocol::IPV6, ipv6::PKTINFO, &info);
        }
        if options.is_on(protocol::IPV6, ipv6::RECVHOPLIMIT) && along.to.is_ipv6() {
            chain.add(protocol::IPV6, ipv6::HOPLIMIT, &along.hops.to_le_bytes());
        }
        if options.is_on(protocol::IPV6, ipv6::RECVTCLASS) && along.to.is_ipv6() {
            chain.add(protocol::IPV6, ipv6::TCLASS, &along.class.to_le_bytes());
        }
        chain.finish()
    }
}
