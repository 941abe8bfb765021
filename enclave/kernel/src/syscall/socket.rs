//! Sockets: so far `socketpair(2)` of the Unix domain, and the calls that move bytes through one.

use super::{Fd, pipe, rw};
use crate::Ctx;
use crate::fs::{self, OpenFile, StreamSocket};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, UserSink, UserSource};
use linux_abi::fs::{Iovec, OpenFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const AF_UNIX: u16 = 1;
const SOCK_STREAM: u32 = 1;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

/// `struct msghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct MessageHeader {
    name: u64,
    name_len: u32,
    _pad: u32,
    buffers: UserIovecs,
    control: u64,
    control_len: u64,
    flags: u32,
    _pad_end: u32,
}

/// An array of buffers.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct UserIovecs {
    at: u64,
    count: u64,
}

impl UserIovecs {
    fn load(self, ctx: &Ctx<'_>) -> Result<Vec<(UserAddr, usize)>> {
        let too_many = |_| Error::new(Errno::EMSGSIZE, "too many buffers");
        let count = u32::try_from(self.count).map_err(too_many)?;
        rw::buffers(ctx, UserPtr::<Iovec>::new(UserAddr(self.at)), count)
    }
}

/// `socketpair(2)`.
pub(super) fn socketpair(
    ctx: &Ctx<'_>,
    domain: u32,
    kind: u32,
    protocol: u32,
    into: UserPtr<[u32; 2]>,
) -> Result<()> {
    if domain != AF_UNIX.into() {
        kbase::bail!(EAFNOSUPPORT, "pairs are of the Unix domain");
    }
    if protocol > 1 {
        kbase::bail!(EPROTONOSUPPORT, "unknown protocol");
    }
    if kind & 0xf != SOCK_STREAM {
        kbase::bail!(ESOCKTNOSUPPORT, "pairs are of stream sockets");
    }
    let flags = pipe::flags_of(kind & !0xf, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)?;
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    let status = flags.difference(OpenFlags::CLOEXEC);
    pipe::insert_pair(ctx, fs::socketpair(ctx.kernel.mounts.shared(), status), close_on_exec, into)
}

fn socket(ctx: &Ctx<'_>, fd: Fd) -> Result<Arc<OpenFile>> {
    let open = ctx.files.get_file(fd)?;
    StreamSocket::of(&open)?;
    Ok(open)
}

fn send(ctx: &Ctx<'_>, open: &OpenFile, buffers: Vec<(UserAddr, usize)>, flags: u32) -> Result<usize> {
    if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL) != 0 {
        kbase::bail!(EOPNOTSUPP, "unknown flag");
    }
    let is_blocking = flags & MSG_DONTWAIT == 0 && !open.is_nonblocking();
    let sent = fs::write_stream(ctx, open, &mut UserSource::vectored(ctx.user(), buffers), is_blocking);
    if flags & MSG_NOSIGNAL != 0 { sent } else { rw::pipe_signal(ctx, sent) }
}

fn receive(ctx: &Ctx<'_>, open: &OpenFile, buffers: Vec<(UserAddr, usize)>, flags: u32) -> Result<usize> {
    if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL | MSG_CMSG_CLOEXEC) != 0 {
        kbase::bail!(EOPNOTSUPP, "unknown flag");
    }
    let is_blocking = flags & MSG_DONTWAIT == 0 && !open.is_nonblocking();
    fs::read_stream(ctx, open, &mut UserSink::vectored(ctx.user(), buffers), is_blocking)
}

/// `sendto(2)`, without an address: the socket is connected.
pub(super) fn sendto(
    ctx: &Ctx<'_>,
    fd: Fd,
    buffer: UserAddr,
    count: usize,
    flags: u32,
    to: UserAddr,
) -> Result<usize> {
    let open = socket(ctx, fd)?;
    if !to.is_null() {
        kbase::bail!(EISCONN, "the socket is connected");
    }
    send(ctx, &open, alloc::vec![(buffer, rw::check_buffer(buffer, count)?)], flags)
}

/// `recvfrom(2)`. A stream socket of a pair has no address to tell.
pub(super) fn recvfrom(
    ctx: &Ctx<'_>,
    fd: Fd,
    buffer: UserAddr,
    count: usize,
    flags: u32,
    from: UserAddr,
    from_len: UserPtr<u32>,
) -> Result<usize> {
    let open = socket(ctx, fd)?;
    let received = receive(ctx, &open, alloc::vec![(buffer, rw::check_buffer(buffer, count)?)], flags)?;
    if !from.is_null() {
        from_len.write(ctx.user(), &0)?;
    }
    Ok(received)
}

/// `sendmsg(2)`, without control messages.
pub(super) fn sendmsg(ctx: &Ctx<'_>, fd: Fd, message: UserPtr<MessageHeader>, flags: u32) -> Result<usize> {
    let open = socket(ctx, fd)?;
    let message = message.read(ctx.user())?;
    if message.control_len != 0 {
        kbase::bail!(EOPNOTSUPP, "no control messages can be sent");
    }
    if message.name_len != 0 {
        kbase::bail!(EISCONN, "the socket is connected");
    }
    send(ctx, &open, message.buffers.load(ctx)?, flags)
}

/// `recvmsg(2)`.
pub(super) fn recvmsg(ctx: &Ctx<'_>, fd: Fd, at: UserPtr<MessageHeader>, flags: u32) -> Result<usize> {
    let open = socket(ctx, fd)?;
    let mut message = at.read(ctx.user())?;
    let received = receive(ctx, &open, message.buffers.load(ctx)?, flags)?;
    (message.name_len, message.control_len, message.flags) = (0, 0, 0);
    at.write(ctx.user(), &message)?;
    Ok(received)
}

/// `shutdown(2)`.
pub(super) fn shutdown(ctx: &Ctx<'_>, fd: Fd, how: u32) -> Result<()> {
    let open = socket(ctx, fd)?;
    let (reading, writing) = match how {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(Error::new(Errno::EINVAL, "unknown direction")),
    };
    StreamSocket::of(&open)?.shut_down(reading, writing);
    Ok(())
}

/// `getsockname(2)` and `getpeername(2)`: an address of the Unix domain without a name.
pub(super) fn name(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    socket(ctx, fd)?;
    let room = usize::try_from(len.read(ctx.user())?).unwrap_or_default();
    let family = AF_UNIX.to_le_bytes();
    ctx.user().store(into, family.get(..room.min(2)).unwrap_or_default())?;
    len.write(ctx.user(), &2)
}

/// `getsockopt(2)` of what a pair has.
pub(super) fn getsockopt(
    ctx: &Ctx<'_>,
    fd: Fd,
    level: u32,
    option: u32,
    into: UserAddr,
    len: UserPtr<u32>,
) -> Result<()> {
    const SOL_SOCKET: u32 = 1;
    socket(ctx, fd)?;
    let value: u32 = match (level, option) {
        // SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN
        (SOL_SOCKET, 3) => SOCK_STREAM,
        (SOL_SOCKET, 4 | 30 | 38) => 0,
        (SOL_SOCKET, 7 | 8) => 212_992,
        (SOL_SOCKET, 39) => AF_UNIX.into(),
        _ => return Err(Error::new(Errno::ENOPROTOOPT, "unknown option")),
    };
    let room = len.read(ctx.user())?.min(4);
    let bytes = value.to_le_bytes();
    let shown = bytes.get(..usize::try_from(room).unwrap_or_default()).unwrap_or_default();
    ctx.user().store(into, shown)?;
    len.write(ctx.user(), &room)
}

/// `setsockopt(2)`: buffer sizes are accepted, since they are only advice.
pub(super) fn setsockopt(ctx: &Ctx<'_>, fd: Fd, level: u32, option: u32) -> Result<()> {
    socket(ctx, fd)?;
    match (level, option) {
        (1, 7 | 8) => Ok(()),
        _ => Err(Error::new(Errno::ENOPROTOOPT, "unknown option")),
    }
}
