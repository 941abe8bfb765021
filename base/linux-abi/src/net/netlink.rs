//! The part of `netlink(7)` and `rtnetlink(7)` that lists interfaces and addresses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// NETLINK_ROUTE.
pub const NETLINK_ROUTE: u32 = 0;

/// Message types.
#[allow(missing_docs, reason = "each is the type of its name")]
pub mod message {
    pub const NOOP: u16 = 1;
    pub const ERROR: u16 = 2;
    pub const DONE: u16 = 3;
    pub const NEWLINK: u16 = 16;
    pub const GETLINK: u16 = 18;
    pub const NEWADDR: u16 = 20;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const GETROUTE: u16 = 26;
}

/// Flags of a message.
#[allow(missing_docs, reason = "each is the flag of its name")]
pub mod flag {
    pub const REQUEST: u16 = 1;
    pub const MULTI: u16 = 2;
    pub const ACK: u16 = 4;
    pub const DUMP: u16 = 0x300;
}

/// Attributes of a link (`IFLA_*`) and of an address (`IFA_*`).
#[allow(missing_docs, reason = "each is the attribute of its name")]
pub mod attribute {
    pub const LINK_ADDRESS: u16 = 1;
    pub const LINK_BROADCAST: u16 = 2;
    pub const LINK_NAME: u16 = 3;
    pub const LINK_MTU: u16 = 4;
    pub const LINK_TXQLEN: u16 = 13;
    pub const ADDR_ADDRESS: u16 = 1;
    pub const ADDR_LOCAL: u16 = 2;
    pub const ADDR_LABEL: u16 = 3;
    pub const ADDR_BROADCAST: u16 = 4;
    pub const ADDR_FLAGS: u16 = 8;
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Nlmsghdr {
    /// Bytes of the message, this header included.
    pub len: u32,
    /// One of [`message`].
    pub kind: u16,
    /// [`flag`].
    pub flags: u16,
    /// Number that an answer repeats.
    pub sequence: u32,
    /// Port of the sender.
    pub port: u32,
}

/// `struct ifinfomsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ifinfomsg {
    /// AF_UNSPEC.
    pub family: u8,
    /// Padding.
    pub pad: u8,
    /// ARPHRD_*.
    pub kind: u16,
    /// Interface index.
    pub index: u32,
    /// IFF_*.
    pub flags: u32,
    /// Which flags change; 0.
    pub change: u32,
}

/// `struct ifaddrmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ifaddrmsg {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Bits of the network.
    pub prefix: u8,
    /// IFA_F_*.
    pub flags: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// Interface index.
    pub index: u32,
}

/// `struct rtattr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rtattr {
    /// Bytes of header and value, without padding.
    pub len: u16,
    /// One of [`attribute`].
    pub kind: u16,
}
