//! Host sockets: TCP and UDP over the host's network, and the Unix domain where a program connects to a socket file of the host.
//!
//! A host socket never blocks: what would wait fails with EAGAIN or EINPROGRESS. Everything that comes from one is untrusted;
//! the runtime has checked what can be checked: a descriptor is not one that the host gave before, an address is of a
//! bounded length, data is no longer than was asked for, and control messages are of kinds and lengths that a socket may get.

use crate::{HostFd, HostResult, Park, PollEvents, ThreadHandle};
use alloc::vec::Vec;
use core::fmt;
use linux_abi::Errno;
use linux_abi::net::SOCKADDR_MAX;

/// A socket address of at most [`SOCKADDR_MAX`] bytes, whose family nobody has looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    len: u8,
    bytes: [u8; SOCKADDR_MAX],
}

impl HostAddress {
    /// No address.
    pub const NONE: Self = Self { len: 0, bytes: [0; SOCKADDR_MAX] };

    /// The address of these bytes; `None` when they are too many.
    #[must_use]
    pub fn new(address: &[u8]) -> Option<Self> {
        let mut bytes = [0; SOCKADDR_MAX];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        Some(Self { len: u8::try_from(address.len()).ok()?, bytes })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.len == 0
    }
}

impl Default for HostAddress {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostAddress").field(&self.as_bytes()).finish()
    }
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct HostMessage<'a> {
    /// Where to; [`HostAddress::NONE`]: to the peer.
    pub to: HostAddress,
    /// Control messages, as `cmsg(3)` lays them out.
    pub control: &'a [u8],
    /// Data.
    pub data: &'a [u8],
    /// MSG_* flags.
    pub flags: u32,
}

/// A message that was received.
#[derive(Clone, Debug, Default)]
pub struct HostReceived {
    /// Where from.
    pub from: HostAddress,
    /// Control messages: a chain that is whole, of kinds and lengths that `linux_abi::net::control` lists.
    pub control: Vec<u8>,
    /// Data, no more than was wanted.
    pub data: Vec<u8>,
    /// Bytes that the call returns: more than there is data only with MSG_TRUNC among the flags asked for.
    pub len: usize,
    /// MSG_* flags.
    pub flags: u32,
}

/// How much of a message is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostWanted {
    /// Bytes of data at most.
    pub data: usize,
    /// Bytes of control messages at most.
    pub control: usize,
}

/// How far sending of several messages got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSent {
    /// How many were sent: one at least.
    pub count: usize,
    /// Why the next one was not; `None`: there is none, or the channel to the host takes no more at once.
    pub error: Option<Errno>,
}

/// Several messages that were received.
#[derive(Clone, Debug, Default)]
pub struct HostBatch {
    /// How many the host was asked for: not all that were wanted where the channel to it takes no more at once.
    pub asked: usize,
    /// One at least, and no more than that.
    pub messages: Vec<HostReceived>,
}

/// An interface of the host, or an address of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// Name; NUL-terminated.
    pub name: [u8; 16],
    /// AF_INET or AF_INET6 of an address; 0: the interface itself.
    pub family: u16,
    /// The address; of an interface: its hardware address.
    pub address: [u8; 16],
    /// The broadcast address of the same kind; zero: none.
    pub broadcast: [u8; 16],
    /// Index.
    pub index: u32,
    /// IFF_*.
    pub flags: u32,
    /// Bits of the network; of an interface: ARPHRD_*.
    pub prefix: u32,
    /// Bytes of a packet at most.
    pub mtu: u32,
}

/// Calls on host sockets. Each can fail with what the Linux call of the same name can, and with EIO when the host
/// answers what it may not.
#[allow(clippy::missing_errors_doc, reason = "the errors are those of the Linux call, stated once above")]
pub trait HostNet {
    /// `socket(2)`.
    fn host_socket(&self, family: u16, kind: u32, protocol: u32) -> HostResult<HostFd>;

    /// `bind(2)`.
    fn host_bind(&self, fd: HostFd, address: &HostAddress) -> HostResult<()>;

    /// `listen(2)`.
    fn host_listen(&self, fd: HostFd, backlog: u32) -> HostResult<()>;

    /// `accept(2)`.
    fn host_accept(&self, fd: HostFd) -> HostResult<(HostFd, HostAddress)>;

    /// `connect(2)`; EINPROGRESS when it takes time.
    fn host_connect(&self, fd: HostFd, address: &HostAddress) -> HostResult<()>;

    /// A new socket of the Unix domain, connected to the socket file of a name in a folder; EAGAIN too many wait there.
    fn host_connect_at(&self, dir: HostFd, name: &[u8], kind: u32) -> HostResult<HostFd>;

    /// `getsockname(2)`, or `getpeername(2)`.
    fn host_socket_name(&self, fd: HostFd, of_peer: bool) -> HostResult<HostAddress>;

    /// `send(2)`; of a stream, as much as the channel to the host takes at most.
    fn host_send(&self, fd: HostFd, data: &[u8], flags: u32) -> HostResult<usize>;

    /// `sendfile(2)`: bytes of a file of the host, at an offset. 0: it ends there.
    fn host_send_file(&self, fd: HostFd, file: HostFd, offset: u64, len: usize) -> HostResult<usize>;

    /// `recv(2)`. Returns what that does: more than there is room for only with MSG_TRUNC.
    fn host_receive(&self, fd: HostFd, flags: u32, into: &mut [u8]) -> HostResult<usize>;

    /// `sendmsg(2)`.
    fn host_send_message(&self, fd: HostFd, message: &HostMessage<'_>) -> HostResult<usize>;

    /// `recvmsg(2)`: at most `wanted` bytes of data, and `control` bytes of control messages.
    fn host_receive_message(
        &self,
        fd: HostFd,
        wanted: usize,
        control: usize,
        flags: u32,
    ) -> HostResult<HostReceived>;

    /// `sendmsg(2)` of datagrams, one after the other until one cannot be sent, in one call of the host. The error is that of the
    /// first.
    fn host_send_messages(&self, fd: HostFd, messages: &[HostMessage<'_>]) -> HostResult<HostSent>;

    /// `recvmmsg(2)` of datagrams: as many as are there, and no more than are wanted.
    fn host_receive_messages(&self, fd: HostFd, wanted: &[HostWanted], flags: u32) -> HostResult<HostBatch>;

    /// `getsockopt(2)` of an option that `edge_abi::net::passes`; returns the bytes of the value.
    fn host_get_option(&self, fd: HostFd, level: u32, option: u32, value: &mut [u8]) -> HostResult<usize>;

    /// `setsockopt(2)` of an option that `edge_abi::net::passes`.
    fn host_set_option(&self, fd: HostFd, level: u32, option: u32, value: &[u8]) -> HostResult<()>;

    /// `shutdown(2)`.
    fn host_shutdown(&self, fd: HostFd, how: u32) -> HostResult<()>;

    /// Closes a socket.
    fn host_close_socket(&self, fd: HostFd);

    /// The interfaces of the host and their addresses, as it says.
    fn host_interfaces(&self) -> HostResult<Vec<HostInterface>>;
}

/// Which host sockets became ready: edges, told by the host without being asked.
///
/// An edge means that a socket may have become ready for the events that come with it. It is reported once. Who keeps track of
/// a socket takes what a call found out (EAGAIN: not ready) together with the edges.
pub trait HostReadiness {
    /// From now on reports edges of a socket, of all events, with this token, which is not 0. The first one says what it is ready for
    /// now, and so does the result: POLL* bits, untrusted. Ends when the socket is closed.
    ///
    /// They end the sleep of `waiter`, and no other need hear of them; `None`: of a thread that sleeps for readiness, whichever it
    /// is. A socket that is watched already is so for all from now on; the token is the same.
    ///
    /// # Errors
    /// ENOSPC, ENOMEM, EMFILE the host cannot watch more.
    fn watch(&self, fd: HostFd, token: u64, waiter: Option<ThreadHandle>) -> HostResult<PollEvents>;

    /// As [`HostReadiness::watch`], but the host also enters the enclave to have each edge taken: for who wants to hear of it while
    /// all threads run. A socket that is watched already is so at once from now on.
    ///
    /// # Errors
    /// As [`HostReadiness::watch`]; EAGAIN the host makes no more threads.
    fn watch_at_once(&self, fd: HostFd, token: u64) -> HostResult<PollEvents>;

    /// Stops reporting edges of a socket that stays open.
    fn unwatch(&self, fd: HostFd);

    /// Takes the edges that were reported, without leaving the enclave: token and POLL* bits, both untrusted. Returns how
    /// many there were.
    fn take_readiness(&self, each: &mut dyn FnMut(u64, PollEvents)) -> usize;

    /// As [`crate::Threads::park`], but edges end it too. With a deadline of 0 it only has the host report what is there.
    fn park_ready(&self, deadline_ns: Option<u64>) -> Park;
}
