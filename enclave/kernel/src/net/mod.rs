//! Sockets of all families.
//!
//! A [`Socket`] is a file with the calls of `socket(2)`; `syscall::socket` decodes them once for all families. A call that may
//! wait is given the [`Ctx`] to wait with. An address is bytes here: each family reads and writes its own.
//!
//! * [`inet`]: TCP and UDP, inside the enclave and over the host; netlink.
//! * [`unix`]: sockets of the Unix domain, which never leave the enclave.
//! * [`local`]: what both are made of where they stay in the enclave.

pub(crate) mod inet;
pub(crate) mod local;
pub(crate) mod unix;

use crate::Ctx;
use crate::fs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use inet::InetSocket;
use inet::netlink::RouteSocket;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::MessageFlags;
use linux_abi::time::{NSEC_PER_SEC, Timeval};
use platform::{HostFd, HostWanted};
use unix::UnixSocket;
use vfs::File;
use zerocopy::FromBytes;

/// An address of any family, as programs see it.
pub(crate) use platform::HostAddress as Address;

/// A message that is sent.
pub(crate) struct Outgoing<'a> {
    /// The data. What was not sent is back in it.
    pub(crate) data: &'a mut dyn ByteSource,
    /// Where to; empty: to the peer.
    pub(crate) to: &'a [u8],
    /// Control messages.
    pub(crate) control: &'a [u8],
    /// MSG_* flags.
    pub(crate) flags: MessageFlags,
    /// Whether the call may wait.
    pub(crate) is_blocking: bool,
}

/// What is wanted when a message is received.
pub(crate) struct Incoming<'a> {
    /// Where the data goes.
    pub(crate) data: &'a mut dyn ByteSink,
    /// Room for control messages; `None`: neither they nor the address are wanted.
    pub(crate) control_room: Option<usize>,
    /// MSG_* flags.
    pub(crate) flags: MessageFlags,
    /// Whether the call may wait.
    pub(crate) is_blocking: bool,
}

/// What was received, beside the data.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// What the call returns: more than came only with MSG_TRUNC.
    pub(crate) len: usize,
    /// Where from.
    pub(crate) from: Address,
    /// Control messages.
    pub(crate) control: Vec<u8>,
    /// MSG_* flags.
    pub(crate) flags: MessageFlags,
}

/// A file that is a socket. Each method is the call of its name in section 2; errors are those of the manual pages unless it
/// says more. What a kind of socket does not have answers EOPNOTSUPP.
pub(crate) trait Socket: File {
    fn bind(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<()>;

    fn listen(&self, _ctx: &Ctx<'_>, _backlog: u32) -> Result<()> {
        bail!(EOPNOTSUPP, "the socket does not listen")
    }

    /// The new socket and the address of its peer.
    fn accept(&self, _ctx: &Ctx<'_>, _is_blocking: bool) -> Result<(Arc<dyn File>, Address)> {
        bail!(EOPNOTSUPP, "the socket does not listen")
    }

    fn connect(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()>;

    /// The caller turns EPIPE into SIGPIPE, too, if [`Socket::raises_sigpipe`].
    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize>;

    /// Sends bytes of a file of the host, from an offset on, that need not be carried through the enclave. `None`: they must.
    fn send_file(
        &self,
        _ctx: &Ctx<'_>,
        _from: (HostFd, u64),
        _len: usize,
        _is_blocking: bool,
    ) -> Option<Result<usize>> {
        None
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received>;

    /// `getsockname(2)`, or `getpeername(2)`.
    fn name(&self, of_peer: bool) -> Result<Address>;

    fn shutdown(&self, _how: u32) -> Result<()> {
        bail!(EOPNOTSUPP, "the socket has no connection")
    }

    /// Refuses options of a level that such a socket does not have, before anybody looks at a value.
    fn check_level(&self, _level: u32, _is_set: bool) -> Result<()> {
        Ok(())
    }

    /// Fills `value` and returns the length of what there is.
    fn get_option(&self, _level: u32, _option: u32, _value: &mut [u8]) -> Result<usize> {
        bail!(ENOPROTOOPT, "no such option")
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()>;

    /// What SO_ERROR would tell, once, unless it is the host's to tell.
    fn take_pending(&self) -> Option<Errno> {
        None
    }

    /// Whether sending to where nobody receives is a signal.
    fn raises_sigpipe(&self) -> bool {
        true
    }

    /// The socket, if several messages at once cost less than one after the other.
    fn batches(&self) -> Option<&dyn Batches> {
        None
    }
}

/// A message of several that are sent.
pub(crate) struct Parcel {
    /// Where to; empty: to the peer.
    pub(crate) to: Vec<u8>,
    /// Control messages.
    pub(crate) control: Vec<u8>,
    /// The data.
    pub(crate) data: Vec<u8>,
}

/// A socket that sends and receives several messages at once.
pub(crate) trait Batches {
    /// Sends one message after the other, and returns how many went before one did not.
    ///
    /// # Errors
    /// Of the first: as [`Socket::send`].
    fn send_several(
        &self,
        ctx: &Ctx<'_>,
        parcels: &[Parcel],
        flags: MessageFlags,
        is_blocking: bool,
    ) -> Result<usize>;

    /// Receives the messages that are there, with their data. If it may wait, it waits for one, not for all. None: the next is
    /// to be received alone.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    fn receive_several(
        &self,
        ctx: &Ctx<'_>,
        wanted: &[HostWanted],
        flags: MessageFlags,
        is_blocking: bool,
    ) -> Result<Vec<(Received, Vec<u8>)>>;
}

/// The socket that an open file is.
///
/// # Errors
/// ENOTSOCK it is none.
pub(crate) fn of(open: &OpenFile) -> Result<&dyn Socket> {
    let file = open.file().as_any();
    if let Some(socket) = file.downcast_ref::<UnixSocket>() {
        return Ok(socket);
    }
    if let Some(socket) = file.downcast_ref::<InetSocket>() {
        return Ok(socket);
    }
    match file.downcast_ref::<RouteSocket>() {
        Some(socket) => Ok(socket),
        None => Err(Error::new(Errno::ENOTSOCK, "not a socket")),
    }
}

/// The value of SO_RCVTIMEO or SO_SNDTIMEO in nanoseconds; 0: no limit.
///
/// # Errors
/// EINVAL the value is too short; EDOM it makes no sense.
pub(crate) fn time_limit(value: &[u8]) -> Result<u64> {
    let Ok((time, _)) = Timeval::read_from_prefix(value) else {
        bail!(EINVAL, "the value is shorter than a time");
    };
    if !(0..1_000_000).contains(&time.tv_usec) {
        bail!(EDOM, "more microseconds than a second has");
    }
    if time.tv_sec < 0 {
        // Linux: do not wait.
        return Ok(1);
    }
    let limit = time.to_ns().ok_or(Error::new(Errno::EDOM, "a time that makes no sense"))?;
    // More than a century is for ever.
    Ok(if limit > NSEC_PER_SEC.saturating_mul(3_200_000_000) { 0 } else { limit })
}

/// Copies the value of an option, as much as there is room for.
pub(crate) fn put_option(into: &mut [u8], value: &[u8]) -> usize {
    for (to, from) in into.iter_mut().zip(value) {
        *to = *from;
    }
    into.len().min(value.len())
}
