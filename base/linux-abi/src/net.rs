//! Sockets: families, options, message flags and wire structures of `socket(7)`, `ip(7)`, `ipv6(7)`, `tcp(7)`, `udp(7)`.
//!
//! * [`option`]: numbers of socket options by level.
//! * [`control`]: control messages (`cmsg(3)`), read and written without trust.
//! * [`netlink`]: the part of `rtnetlink(7)` that tells of interfaces and addresses.

pub mod control;
pub mod netlink;
pub mod option;

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Address families.
#[allow(missing_docs, reason = "each is the family of its name")]
pub mod family {
    pub const UNSPEC: u16 = 0;
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
    pub const NETLINK: u16 = 16;
    pub const PACKET: u16 = 17;
    pub const VSOCK: u16 = 40;
    /// One more than the highest family that there is (AF_MAX).
    pub const MAX: u16 = 46;
}

/// Socket types, and the flags that come with them in `socket(2)`, `socketpair(2)` and `accept4(2)`.
#[allow(missing_docs, reason = "each is the type of its name")]
pub mod kind {
    pub const STREAM: u32 = 1;
    pub const DGRAM: u32 = 2;
    pub const RAW: u32 = 3;
    pub const SEQPACKET: u32 = 5;
    /// One more than the highest type that there is (SOCK_MAX).
    pub const MAX: u32 = 11;
    /// The bits that are the type.
    pub const MASK: u32 = 0xf;
    pub const NONBLOCK: u32 = 0o4000;
    pub const CLOEXEC: u32 = 0o2_000_000;
}

/// Protocols of [`family::INET`] and [`family::INET6`]; each is also a level of options.
#[allow(missing_docs, reason = "each is the protocol of its name")]
pub mod protocol {
    pub const IP: u32 = 0;
    pub const ICMP: u32 = 1;
    pub const TCP: u32 = 6;
    pub const UDP: u32 = 17;
    pub const IPV6: u32 = 41;
    pub const ICMPV6: u32 = 58;
    /// One more than the highest that there is (IPPROTO_MAX).
    pub const MAX: u32 = 263;
}

/// `how` of `shutdown(2)`.
#[allow(missing_docs, reason = "each is the value of its name")]
pub mod shut {
    pub const RD: u32 = 0;
    pub const WR: u32 = 1;
    pub const RDWR: u32 = 2;
}

/// SOMAXCONN: the longest backlog unless the administrator says otherwise.
pub const SOMAXCONN: u32 = 4096;
/// Bytes of `struct sockaddr_storage`: no address is longer.
pub const SOCKADDR_MAX: usize = 128;
/// UIO_MAXIOV: most messages of `sendmmsg(2)` and `recvmmsg(2)`.
pub const MESSAGES_MAX: u32 = 1024;

bitflags! {
    /// Flags of `send(2)` and `recv(2)`, and of `struct msghdr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MessageFlags: u32 {
        /// MSG_OOB.
        const OOB = 0x1;
        /// MSG_PEEK.
        const PEEK = 0x2;
        /// MSG_DONTROUTE.
        const DONTROUTE = 0x4;
        /// MSG_CTRUNC: control messages were cut.
        const CTRUNC = 0x8;
        /// MSG_TRUNC: the datagram was cut; as an argument: tell its real length.
        const TRUNC = 0x20;
        /// MSG_DONTWAIT.
        const DONTWAIT = 0x40;
        /// MSG_EOR.
        const EOR = 0x80;
        /// MSG_WAITALL.
        const WAITALL = 0x100;
        /// MSG_CONFIRM.
        const CONFIRM = 0x800;
        /// MSG_ERRQUEUE.
        const ERRQUEUE = 0x2000;
        /// MSG_NOSIGNAL.
        const NOSIGNAL = 0x4000;
        /// MSG_MORE.
        const MORE = 0x8000;
        /// MSG_WAITFORONE of `recvmmsg(2)`.
        const WAITFORONE = 0x1_0000;
        /// MSG_ZEROCOPY.
        const ZEROCOPY = 0x400_0000;
        /// MSG_FASTOPEN.
        const FASTOPEN = 0x2000_0000;
        /// MSG_CMSG_CLOEXEC.
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

/// `struct sockaddr_in`. Port and address are in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SockaddrIn {
    /// [`family::INET`].
    pub family: u16,
    /// Port.
    pub port: [u8; 2],
    /// Address.
    pub address: [u8; 4],
    /// Unused.
    pub zero: [u8; 8],
}

/// `struct sockaddr_in6`. Port, flow and address are in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SockaddrIn6 {
    /// [`family::INET6`].
    pub family: u16,
    /// Port.
    pub port: [u8; 2],
    /// Flow information.
    pub flow: [u8; 4],
    /// Address.
    pub address: [u8; 16],
    /// Interface of a link-local address.
    pub scope: u32,
}

/// Bytes of `struct sockaddr_in6` without its scope, which Linux takes too (SIN6_LEN_RFC2133).
pub const SOCKADDR_IN6_SHORT: usize = 24;

/// `struct sockaddr_un`. The length that goes with it says how much of the path counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SockaddrUn {
    /// [`family::UNIX`].
    pub family: u16,
    /// A path, or a zero byte and an abstract name.
    pub path: [u8; 108],
}

/// `struct sockaddr_nl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SockaddrNl {
    /// [`family::NETLINK`].
    pub family: u16,
    /// Zero.
    pub pad: u16,
    /// Port: 0 is the kernel.
    pub port: u32,
    /// Multicast groups.
    pub groups: u32,
}

/// `struct msghdr` as the kernel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Msghdr {
    /// Address of the socket address.
    pub name: u64,
    /// Its room in bytes; then its length.
    pub name_len: u32,
    /// Padding.
    pub pad: u32,
    /// Address of the array of [`crate::fs::Iovec`].
    pub iov: u64,
    /// Entries of it.
    pub iov_len: u64,
    /// Address of the control messages.
    pub control: u64,
    /// Bytes of them.
    pub control_len: u64,
    /// [`MessageFlags`], when a message was received.
    pub flags: u32,
    /// Padding.
    pub pad_end: u32,
}

/// `struct mmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Mmsghdr {
    /// The message.
    pub header: Msghdr,
    /// Bytes sent or received.
    pub len: u32,
    /// Padding.
    pub pad: u32,
}

/// `struct cmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Cmsghdr {
    /// Bytes of header and data, without the padding behind.
    pub len: u64,
    /// Level.
    pub level: u32,
    /// Type.
    pub kind: u32,
}

/// `struct linger`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Linger {
    /// Whether to linger.
    pub on: i32,
    /// Seconds.
    pub seconds: i32,
}

/// `struct ucred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ucred {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Requests of `ioctl(2)` on sockets (`netdevice(7)`).
#[allow(missing_docs, reason = "each is the request of its name")]
pub mod ioctl {
    pub const SIOCINQ: u32 = 0x541b;
    pub const SIOCOUTQ: u32 = 0x5411;
    pub const SIOCATMARK: u32 = 0x8905;
    pub const SIOCGSTAMP: u32 = 0x8906;
    pub const SIOCGIFNAME: u32 = 0x8910;
    pub const SIOCGIFCONF: u32 = 0x8912;
    pub const SIOCGIFFLAGS: u32 = 0x8913;
    pub const SIOCGIFADDR: u32 = 0x8915;
    pub const SIOCGIFDSTADDR: u32 = 0x8917;
    pub const SIOCGIFBRDADDR: u32 = 0x8919;
    pub const SIOCGIFNETMASK: u32 = 0x891b;
    pub const SIOCGIFMETRIC: u32 = 0x891d;
    pub const SIOCGIFMTU: u32 = 0x8921;
    pub const SIOCGIFHWADDR: u32 = 0x8927;
    pub const SIOCGIFINDEX: u32 = 0x8933;
    pub const SIOCGIFPFLAGS: u32 = 0x8935;
    pub const SIOCGIFTXQLEN: u32 = 0x8942;
    pub const SIOCGIFMAP: u32 = 0x8970;
}

/// Bytes of an interface name, its NUL included (IFNAMSIZ).
pub const IFNAMSIZ: usize = 16;

/// `struct ifreq`: a name and a value that the request gives meaning to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ifreq {
    /// Name of the interface, NUL-terminated.
    pub name: [u8; IFNAMSIZ],
    /// An address, an index, flags, a number.
    pub value: [u8; 24],
}

/// `struct ifconf`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ifconf {
    /// Bytes of the array.
    pub len: u32,
    /// Padding.
    pub pad: u32,
    /// Address of the array of [`Ifreq`], or 0: tell the length.
    pub array: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_x86_64() {
        assert_eq!(size_of::<SockaddrIn>(), 16);
        assert_eq!(size_of::<SockaddrIn6>(), 28);
        assert_eq!(size_of::<SockaddrUn>(), 110);
        assert_eq!(size_of::<SockaddrNl>(), 12);
        assert_eq!(size_of::<Msghdr>(), 56);
        assert_eq!(size_of::<Mmsghdr>(), 64);
        assert_eq!(size_of::<Cmsghdr>(), 16);
        assert_eq!(size_of::<Ifreq>(), 40);
        assert_eq!(size_of::<Ifconf>(), 16);
    }
}
