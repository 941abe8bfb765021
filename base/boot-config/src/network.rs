//! Which loopback ports an enclave shares with its host.
//!
//! 127.0.0.0/8 and ::1 are the enclave's own. What is said here opens them to the programs of the host, one way or the other.

use alloc::vec::Vec;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Ports that are the host's too when a program binds them to a loopback address (`network.publish`).
    pub publish: Ports,
    /// Ports of the host's loopback that programs reach where none inside has them (`network.host_loopback`).
    pub host_loopback: Ports,
}

/// The protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ports of both protocols. A range that has 0 has the ports that a program lets the system choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Ranges of TCP ports.
    pub tcp: Vec<RangeInclusive<u16>>,
    /// Ranges of UDP ports.
    pub udp: Vec<RangeInclusive<u16>>,
}

impl Ports {
    /// All ports.
    #[must_use]
    pub fn all() -> Self {
        Self { tcp: [0..=u16::MAX].into(), udp: [0..=u16::MAX].into() }
    }

    /// Whether a port is among them.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.of(protocol).iter().any(|range| range.contains(&port))
    }

    /// The ranges of a protocol.
    #[must_use]
    pub fn of(&self, protocol: Protocol) -> &[RangeInclusive<u16>] {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_of_one_protocol() {
        let ports = Ports { tcp: [80..=80, 8000..=8009].into(), udp: Vec::new() };
        assert!(ports.contains(Protocol::Tcp, 8009));
        assert!(!ports.contains(Protocol::Tcp, 8010));
        assert!(!ports.contains(Protocol::Udp, 80));
        assert!(Ports::all().contains(Protocol::Udp, 0));
    }
}
