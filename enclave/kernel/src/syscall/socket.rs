//! Sockets of all families: [`crate::net`] has what is behind.

use super::{Fd, pipe, rw};
use crate::Ctx;
use crate::fs::OpenFile;
use crate::net::inet::InetSocket;
use crate::net::inet::netlink::RouteSocket;
use crate::net::unix::UnixSocket;
use crate::net::{self, Incoming, Outgoing, Received};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSink, UserSource, bail};
use linux_abi::fs::{Iovec, OpenFlags};
use linux_abi::net::netlink::NETLINK_ROUTE;
use linux_abi::net::option::{SOL_SOCKET, socket as so};
use linux_abi::net::{MessageFlags, Msghdr, SOCKADDR_MAX, family, kind};
use vfs::File;

/// Bytes of control messages that are copied in at most (net.core.optmem_max).
pub(super) const CONTROL_MAX: u64 = 20480;
/// Bytes of an option's value at most.
const VALUE_MAX: u32 = 1024;

pub(super) fn is_blocking(open: &OpenFile, flags: MessageFlags) -> bool {
    !open.is_nonblocking() && !flags.contains(MessageFlags::DONTWAIT)
}

/// Copies an address in.
fn load_address(ctx: &Ctx<'_>, at: UserAddr, len: u32) -> Result<Vec<u8>> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > SOCKADDR_MAX {
        bail!(EINVAL, "the address is too long");
    }
    let mut address = alloc::vec![0; len];
    if !address.is_empty() {
        ctx.user().load(at, &mut address)?;
    }
    Ok(address)
}

/// Copies an address out, as much as there is room for, and returns its length.
fn store_address(ctx: &Ctx<'_>, address: &[u8], into: UserAddr, room: u32) -> Result<u32> {
    let shown = address.len().min(usize::try_from(room).unwrap_or(usize::MAX));
    if shown > 0 {
        ctx.user().store(into, address.get(..shown).unwrap_or_default())?;
    }
    Ok(u32::try_from(address.len()).unwrap_or_default())
}

/// Copies an address out, if a program wants it.
fn tell_address(ctx: &Ctx<'_>, address: &[u8], into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    if into.is_null() { Ok(()) } else { put_address(ctx, address, into, len) }
}

/// Copies an address out.
fn put_address(ctx: &Ctx<'_>, address: &[u8], into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    let room = len.read(ctx.user())?;
    if room > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    let len_found = store_address(ctx, address, into, room)?;
    len.write(ctx.user(), &len_found)
}

/// The type and the flags that come with it.
fn split_kind(with_flags: u32) -> Result<(u32, u32)> {
    if with_flags & !(kind::MASK | kind::NONBLOCK | kind::CLOEXEC) != 0 {
        bail!(EINVAL, "unknown flag");
    }
    Ok((with_flags & kind::MASK, with_flags & !kind::MASK))
}

/// `socket(2)`.
pub(super) fn socket(ctx: &Ctx<'_>, domain: u32, of_kind: u32, protocol: u32) -> Result<Fd> {
    let (real_kind, flags) = split_kind(of_kind)?;
    let file = create(ctx, domain, real_kind, protocol)?;
    ctx.files.insert(open(ctx, file, flags), flags & kind::CLOEXEC != 0)
}

/// Refuses types that no family has.
fn check_kind(domain: u32, real_kind: u32) -> Result<()> {
    if domain < u32::from(family::MAX) && real_kind >= kind::MAX {
        bail!(EINVAL, "no such type");
    }
    Ok(())
}

/// A new socket, or why there is none of the kind.
fn create(ctx: &Ctx<'_>, domain: u32, real_kind: u32, protocol: u32) -> Result<Arc<dyn File>> {
    let shared = ctx.kernel.mounts.shared();
    check_kind(domain, real_kind)?;
    Ok(match u16::try_from(domain) {
        Ok(family::UNIX) => UnixSocket::create(ctx, real_kind, protocol)?,
        Ok(of_family @ (family::INET | family::INET6)) => {
            InetSocket::create(&ctx.kernel.inet, of_family, real_kind, protocol)?
        }
        Ok(family::NETLINK) if protocol == NETLINK_ROUTE && matches!(real_kind, kind::RAW | kind::DGRAM) => {
            RouteSocket::new(shared)
        }
        Ok(family::NETLINK) => bail!(EPROTONOSUPPORT, "no such netlink family"),
        _ => bail!(EAFNOSUPPORT, "no such address family"),
    })
}

fn open(ctx: &Ctx<'_>, file: Arc<dyn File>, flags: u32) -> Arc<OpenFile> {
    let status = if flags & kind::NONBLOCK == 0 { OpenFlags::empty() } else { OpenFlags::NONBLOCK };
    OpenFile::new(ctx.kernel.mounts.shared(), file, None, status | OpenFlags::RDWR)
}

/// `socketpair(2)`.
pub(super) fn socketpair(
    ctx: &Ctx<'_>,
    domain: u32,
    of_kind: u32,
    protocol: u32,
    into: UserPtr<[u32; 2]>,
) -> Result<()> {
    let (real_kind, flags) = split_kind(of_kind)?;
    // As on Linux, the place is tried first.
    let before = into.read(ctx.user())?;
    into.write(ctx.user(), &before)?;
    if domain != u32::from(family::UNIX) {
        create(ctx, domain, real_kind, protocol)?;
        bail!(EOPNOTSUPP, "only sockets of the Unix domain come in pairs");
    }
    check_kind(domain, real_kind)?;
    let (first, second) = UnixSocket::pair(ctx, real_kind, protocol)?;
    let files = (open(ctx, first, flags), open(ctx, second, flags));
    pipe::insert_pair(ctx, files, flags & kind::CLOEXEC != 0, into)
}

/// `bind(2)`.
pub(super) fn bind(ctx: &Ctx<'_>, fd: Fd, address: UserAddr, len: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = net::of(&open)?;
    socket.bind(ctx, &load_address(ctx, address, len)?)
}

/// `listen(2)`.
pub(super) fn listen(ctx: &Ctx<'_>, fd: Fd, backlog: u32) -> Result<()> {
    net::of(&*ctx.files.get_file(fd)?)?.listen(ctx, backlog)
}

/// `accept(2)`.
pub(super) fn accept(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<Fd> {
    accept4(ctx, fd, into, len, 0)
}

/// `accept4(2)`.
pub(super) fn accept4(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>, flags: u32) -> Result<Fd> {
    let listener = ctx.files.get_file(fd)?;
    if flags & !(kind::NONBLOCK | kind::CLOEXEC) != 0 {
        bail!(EINVAL, "unknown flag");
    }
    let socket = net::of(&listener)?;
    // A connection is not taken to be dropped.
    ctx.files.want_room()?;
    let (new, peer) = socket.accept(ctx, is_blocking(&listener, MessageFlags::empty()))?;
    tell_address(ctx, peer.as_bytes(), into, len)?;
    ctx.files.insert(open(ctx, new, flags), flags & kind::CLOEXEC != 0)
}

/// `connect(2)`.
pub(super) fn connect(ctx: &Ctx<'_>, fd: Fd, address: UserAddr, len: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = net::of(&open)?;
    let address = load_address(ctx, address, len)?;
    socket.connect(ctx, &address, is_blocking(&open, MessageFlags::empty()))
}

fn send(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    data: &mut dyn ByteSource,
    (to, control): (&[u8], &[u8]),
    flags: MessageFlags,
) -> Result<usize> {
    let socket = net::of(open)?;
    let is_blocking = is_blocking(open, flags);
    let sent = socket.send(ctx, Outgoing { data, to, control, flags, is_blocking });
    if flags.contains(MessageFlags::NOSIGNAL) { sent } else { rw::pipe_signal(ctx, open, sent) }
}

/// `sendto(2)`.
pub(super) fn sendto(
    ctx: &Ctx<'_>,
    fd: Fd,
    buffer: UserAddr,
    count: usize,
    flags: u32,
    to: UserAddr,
    to_len: u32,
) -> Result<usize> {
    let count = rw::check_buffer(buffer, count)?;
    let open = ctx.files.get_file(fd)?;
    let to = if to.is_null() { Vec::new() } else { load_address(ctx, to, to_len)? };
    let data = &mut UserSource::new(ctx.user(), buffer, count);
    send(ctx, &open, data, (&to, &[]), MessageFlags::from_bits_retain(flags))
}

/// `recvfrom(2)`.
pub(super) fn recvfrom(
    ctx: &Ctx<'_>,
    fd: Fd,
    buffer: UserAddr,
    count: usize,
    flags: u32,
    from: UserAddr,
    from_len: UserPtr<u32>,
) -> Result<usize> {
    let count = rw::check_buffer(buffer, count)?;
    let open = ctx.files.get_file(fd)?;
    let flags = MessageFlags::from_bits_retain(flags);
    let wanted = Incoming {
        data: &mut UserSink::new(ctx.user(), buffer, count),
        control_room: if from.is_null() { None } else { Some(0) },
        flags,
        is_blocking: is_blocking(&open, flags),
    };
    let received = net::of(&open)?.receive(ctx, wanted)?;
    tell_address(ctx, received.from.as_bytes(), from, from_len)?;
    Ok(received.len)
}

pub(super) fn iovecs(ctx: &Ctx<'_>, message: &Msghdr) -> Result<Vec<(UserAddr, usize)>> {
    let count =
        u32::try_from(message.iov_len).map_err(|_| Error::new(Errno::EMSGSIZE, "too many buffers"))?;
    rw::buffers(ctx, UserPtr::<Iovec>::new(UserAddr(message.iov)), count)
}

/// The address and the control messages of a message to send.
pub(super) fn load_names(ctx: &Ctx<'_>, message: &Msghdr) -> Result<(Vec<u8>, Vec<u8>)> {
    let to = if message.name == 0 {
        Vec::new()
    } else {
        if message.name_len > i32::MAX.cast_unsigned() {
            bail!(EINVAL, "a negative length");
        }
        // As on Linux, what is longer than any address is cut.
        let most = u32::try_from(SOCKADDR_MAX).unwrap_or(u32::MAX);
        load_address(ctx, UserAddr(message.name), message.name_len.min(most))?
    };
    if message.control_len > CONTROL_MAX {
        bail!(ENOBUFS, "too many control messages");
    }
    let mut control = alloc::vec![0; usize::try_from(message.control_len).unwrap_or_default()];
    if !control.is_empty() {
        ctx.user().load(UserAddr(message.control), &mut control)?;
    }
    Ok((to, control))
}

pub(super) fn send_one(ctx: &Ctx<'_>, open: &OpenFile, message: &Msghdr, flags: u32) -> Result<usize> {
    let (to, control) = load_names(ctx, message)?;
    let data = &mut UserSource::vectored(ctx.user(), iovecs(ctx, message)?);
    send(ctx, open, data, (&to, &control), MessageFlags::from_bits_retain(flags))
}

/// Bytes of control messages that there is room for.
pub(super) fn control_room(message: &Msghdr) -> usize {
    usize::try_from(message.control_len.min(CONTROL_MAX)).unwrap_or_default()
}

pub(super) fn receive_one(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    message: &mut Msghdr,
    flags: MessageFlags,
) -> Result<usize> {
    let wanted = Incoming {
        data: &mut UserSink::vectored(ctx.user(), iovecs(ctx, message)?),
        control_room: Some(control_room(message)),
        flags,
        is_blocking: is_blocking(open, flags),
    };
    let received = net::of(open)?.receive(ctx, wanted)?;
    tell(ctx, message, &received, flags)?;
    Ok(received.len)
}

/// Copies out what came beside the data.
pub(super) fn tell(
    ctx: &Ctx<'_>,
    message: &mut Msghdr,
    received: &Received,
    flags: MessageFlags,
) -> Result<()> {
    if message.name != 0 {
        let room = message.name_len;
        message.name_len = store_address(ctx, received.from.as_bytes(), UserAddr(message.name), room)?;
    }
    if !received.control.is_empty() {
        ctx.user().store(UserAddr(message.control), &received.control)?;
    }
    message.control_len = received.control.len() as u64;
    message.flags = (received.flags | (flags & MessageFlags::CMSG_CLOEXEC)).bits();
    Ok(())
}

/// `sendmsg(2)`.
pub(super) fn sendmsg(ctx: &Ctx<'_>, fd: Fd, message: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    net::of(&open)?;
    send_one(ctx, &open, &message.read(ctx.user())?, flags)
}

/// `recvmsg(2)`.
pub(super) fn recvmsg(ctx: &Ctx<'_>, fd: Fd, at: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    net::of(&open)?;
    let mut message = at.read(ctx.user())?;
    let len = receive_one(ctx, &open, &mut message, MessageFlags::from_bits_retain(flags))?;
    at.write(ctx.user(), &message)?;
    Ok(len)
}

/// `shutdown(2)`.
pub(super) fn shutdown(ctx: &Ctx<'_>, fd: Fd, how: u32) -> Result<()> {
    net::of(&*ctx.files.get_file(fd)?)?.shutdown(how)
}

fn name(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>, of_peer: bool) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let name = net::of(&open)?.name(of_peer)?;
    put_address(ctx, name.as_bytes(), into, len)
}

/// `getsockname(2)`.
pub(super) fn getsockname(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    name(ctx, fd, into, len, false)
}

/// `getpeername(2)`.
pub(super) fn getpeername(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    name(ctx, fd, into, len, true)
}

/// `getsockopt(2)`.
pub(super) fn getsockopt(
    ctx: &Ctx<'_>,
    fd: Fd,
    level: u32,
    option: u32,
    into: UserAddr,
    len: UserPtr<u32>,
) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = net::of(&open)?;
    socket.check_level(level, false)?;
    let room = len.read(ctx.user())?;
    if room > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    let mut value = alloc::vec![0; usize::try_from(room.min(VALUE_MAX)).unwrap_or_default()];
    let found = socket.get_option(level, option, &mut value)?;
    if found > 0 {
        ctx.user().store(into, value.get(..found).unwrap_or_default())?;
    }
    len.write(ctx.user(), &u32::try_from(found).unwrap_or_default())
}

/// `setsockopt(2)`.
pub(super) fn setsockopt(
    ctx: &Ctx<'_>,
    fd: Fd,
    level: u32,
    option: u32,
    from: UserAddr,
    len: u32,
) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = net::of(&open)?;
    if len > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    socket.check_level(level, true)?;
    if level == SOL_SOCKET && option != so::BINDTODEVICE && len < 4 {
        bail!(EINVAL, "the value is shorter than a number");
    }
    let mut value = alloc::vec![0; usize::try_from(len.min(VALUE_MAX)).unwrap_or_default()];
    ctx.user().load(from, &mut value)?;
    socket.set_option(level, option, &value)
}
