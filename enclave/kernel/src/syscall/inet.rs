//! Calls on sockets of the internet families and of netlink; the rest goes to [`super::socket`].

use super::socket as unix;
use super::{Fd, rw};
use crate::Ctx;
use crate::fs::{OpenFile, wait};
use crate::net::inet::io::Received;
use crate::net::inet::netlink::RouteSocket;
use crate::net::inet::{HostSocket, no_wait};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSink, UserSource, bail};
use linux_abi::fs::{Iovec, OpenFlags};
use linux_abi::net::netlink::NETLINK_ROUTE;
use linux_abi::net::{MESSAGES_MAX, MessageFlags, Mmsghdr, Msghdr, SOCKADDR_MAX, family, kind};
use linux_abi::time::Timespec;
use vfs::{File, Readiness};
use zerocopy::IntoBytes;

/// Bytes of control messages that are copied in at most (net.core.optmem_max).
const CONTROL_MAX: u64 = 20480;

/// A socket of one of the families here.
enum Socket {
    Host(Arc<dyn File>),
    Route(Arc<dyn File>),
}

impl Socket {
    /// The socket that a file is; `None`: one of the Unix domain.
    ///
    /// # Errors
    /// ENOTSOCK.
    fn of(open: &OpenFile) -> Option<Self> {
        let file = open.file();
        if file.as_any().is::<HostSocket>() {
            return Some(Self::Host(Arc::clone(file)));
        }
        file.as_any().is::<RouteSocket>().then(|| Self::Route(Arc::clone(file)))
    }

    fn host(&self) -> Option<&HostSocket> {
        match self {
            Self::Host(file) => file.as_any().downcast_ref(),
            Self::Route(_) => None,
        }
    }

    fn route(&self) -> Result<&RouteSocket> {
        let route = match self {
            Self::Host(_) => None,
            Self::Route(file) => file.as_any().downcast_ref(),
        };
        route.ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))
    }
}

/// The wait of a call.
fn wait_of<'c>(ctx: &'c Ctx<'c>, is_blocking: bool) -> impl FnMut(&HostSocket, Readiness) -> Result<()> + 'c {
    move |socket, events| {
        if is_blocking { wait::wait_for(ctx, socket, events) } else { no_wait(socket, events) }
    }
}

fn is_blocking(open: &OpenFile, flags: MessageFlags) -> bool {
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
    ctx.user().store(into, address.get(..shown).unwrap_or_default())?;
    Ok(u32::try_from(address.len()).unwrap_or_default())
}

/// Copies an address out to where a program wants it.
fn tell_address(ctx: &Ctx<'_>, address: &[u8], into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    if into.is_null() {
        return Ok(());
    }
    let room = len.read(ctx.user())?;
    if room > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    let len_found = store_address(ctx, address, into, room)?;
    len.write(ctx.user(), &len_found)
}

/// `socket(2)`.
pub(super) fn socket(ctx: &Ctx<'_>, domain: u32, of_kind: u32, protocol: u32) -> Result<Fd> {
    if of_kind & !(kind::MASK | kind::NONBLOCK | kind::CLOEXEC) != 0 {
        bail!(EINVAL, "unknown flag");
    }
    let shared = ctx.kernel.mounts.shared();
    let real_kind = of_kind & kind::MASK;
    let file: Arc<dyn File> = match u16::try_from(domain) {
        Ok(of_family @ (family::INET | family::INET6)) => {
            HostSocket::create(shared, &ctx.kernel.host_sockets, of_family, real_kind, protocol)?
        }
        Ok(family::NETLINK) if protocol == NETLINK_ROUTE && matches!(real_kind, kind::RAW | kind::DGRAM) => {
            RouteSocket::new(shared)
        }
        Ok(family::NETLINK) => bail!(EPROTONOSUPPORT, "no such netlink family"),
        _ => bail!(EAFNOSUPPORT, "no such address family"),
    };
    install(ctx, file, of_kind)
}

fn install(ctx: &Ctx<'_>, file: Arc<dyn File>, flags: u32) -> Result<Fd> {
    let status = if flags & kind::NONBLOCK == 0 { OpenFlags::empty() } else { OpenFlags::NONBLOCK };
    let open = OpenFile::new(ctx.kernel.mounts.shared(), file, None, status | OpenFlags::RDWR);
    ctx.files.insert(open, flags & kind::CLOEXEC != 0)
}

/// `bind(2)`.
pub(super) fn bind(ctx: &Ctx<'_>, fd: Fd, address: UserAddr, len: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))?;
    let address = load_address(ctx, address, len)?;
    match socket.host() {
        Some(host) => host.bind(&address),
        None => socket.route()?.bind(&address, ctx.process.pid),
    }
}

/// `listen(2)`.
pub(super) fn listen(ctx: &Ctx<'_>, fd: Fd, backlog: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))?;
    socket.host().ok_or(Error::new(Errno::EOPNOTSUPP, "the socket does not listen"))?.listen(backlog)
}

/// `accept(2)`.
pub(super) fn accept(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<Fd> {
    accept4(ctx, fd, into, len, 0)
}

/// `accept4(2)`.
pub(super) fn accept4(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>, flags: u32) -> Result<Fd> {
    if flags & !(kind::NONBLOCK | kind::CLOEXEC) != 0 {
        bail!(EINVAL, "unknown flag");
    }
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))?;
    let host = socket.host().ok_or(Error::new(Errno::EOPNOTSUPP, "the socket does not listen"))?;
    let wait = &mut wait_of(ctx, is_blocking(&open, MessageFlags::empty()));
    // A connection is not taken from the host to be dropped.
    ctx.files.want_room()?;
    let (new, peer) = host.accept(ctx.kernel.mounts.shared(), wait)?;
    tell_address(ctx, peer.as_bytes(), into, len)?;
    install(ctx, new, flags)
}

/// `connect(2)`.
pub(super) fn connect(ctx: &Ctx<'_>, fd: Fd, address: UserAddr, len: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))?;
    let address = load_address(ctx, address, len)?;
    match socket.host() {
        Some(host) => host.connect(&address, &mut wait_of(ctx, is_blocking(&open, MessageFlags::empty()))),
        // There is nobody to connect to but the kernel.
        None => Ok(()),
    }
}

fn send(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    socket: &Socket,
    from: &mut dyn ByteSource,
    (to, control): (&[u8], &[u8]),
    flags: MessageFlags,
) -> Result<usize> {
    let sent = match socket.host() {
        Some(host) => {
            let wait = &mut wait_of(ctx, is_blocking(open, flags));
            host.send_message(from, to, control, flags, wait)
        }
        None => socket.route()?.send(from, ctx.process.pid),
    };
    if flags.contains(MessageFlags::NOSIGNAL) { sent } else { rw::pipe_signal(ctx, sent) }
}

fn receive(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    socket: &Socket,
    into: &mut dyn ByteSink,
    room: Option<usize>,
    flags: MessageFlags,
) -> Result<Received> {
    let is_blocking = is_blocking(open, flags);
    if let Some(host) = socket.host() {
        let wait = &mut wait_of(ctx, is_blocking);
        return match room {
            Some(room) => host.receive_message(into, room, flags, wait),
            None => Ok(Received { len: host.receive_plain(into, flags, wait)?, ..Received::default() }),
        };
    }
    let route = socket.route()?;
    loop {
        match route.receive(into, flags) {
            Err(error) if is_blocking && error.errno() == Errno::EAGAIN => {
                wait::wait_for(ctx, route, Readiness::IN)?;
            }
            result => {
                let (len, is_cut) = result?;
                let from = platform::HostAddress::new(route.name(true).as_bytes()).unwrap_or_default();
                let flags = if is_cut { MessageFlags::TRUNC } else { MessageFlags::empty() };
                return Ok(Received { len, from, flags, ..Received::default() });
            }
        }
    }
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
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else { return unix::sendto(ctx, fd, buffer, count, flags, to) };
    let count = rw::check_buffer(buffer, count)?;
    let to = if to.is_null() { Vec::new() } else { load_address(ctx, to, to_len)? };
    let source = &mut UserSource::new(ctx.user(), buffer, count);
    send(ctx, &open, &socket, source, (&to, &[]), MessageFlags::from_bits_retain(flags))
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
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else {
        return unix::recvfrom(ctx, fd, buffer, count, flags, from, from_len);
    };
    let count = rw::check_buffer(buffer, count)?;
    let sink = &mut UserSink::new(ctx.user(), buffer, count);
    let room = if from.is_null() { None } else { Some(0) };
    let received = receive(ctx, &open, &socket, sink, room, MessageFlags::from_bits_retain(flags))?;
    tell_address(ctx, received.from.as_bytes(), from, from_len)?;
    Ok(received.len)
}

fn iovecs(ctx: &Ctx<'_>, message: &Msghdr) -> Result<Vec<(UserAddr, usize)>> {
    let count =
        u32::try_from(message.iov_len).map_err(|_| Error::new(Errno::EMSGSIZE, "too many buffers"))?;
    rw::buffers(ctx, UserPtr::<Iovec>::new(UserAddr(message.iov)), count)
}

fn send_one(ctx: &Ctx<'_>, open: &OpenFile, socket: &Socket, message: &Msghdr, flags: u32) -> Result<usize> {
    let to = if message.name == 0 {
        Vec::new()
    } else {
        load_address(ctx, UserAddr(message.name), message.name_len)?
    };
    if message.control_len > CONTROL_MAX {
        bail!(ENOBUFS, "too many control messages");
    }
    let mut control = alloc::vec![0; usize::try_from(message.control_len).unwrap_or_default()];
    if !control.is_empty() {
        ctx.user().load(UserAddr(message.control), &mut control)?;
    }
    let source = &mut UserSource::vectored(ctx.user(), iovecs(ctx, message)?);
    send(ctx, open, socket, source, (&to, &control), MessageFlags::from_bits_retain(flags))
}

fn receive_one(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    socket: &Socket,
    message: &mut Msghdr,
    flags: MessageFlags,
) -> Result<usize> {
    let sink = &mut UserSink::vectored(ctx.user(), iovecs(ctx, message)?);
    let room = usize::try_from(message.control_len.min(CONTROL_MAX)).unwrap_or_default();
    let received = receive(ctx, open, socket, sink, Some(room), flags)?;
    if message.name != 0 {
        let room = message.name_len;
        message.name_len = store_address(ctx, received.from.as_bytes(), UserAddr(message.name), room)?;
    }
    if !received.control.is_empty() {
        ctx.user().store(UserAddr(message.control), &received.control)?;
    }
    message.control_len = received.control.len() as u64;
    message.flags = (received.flags | (flags & MessageFlags::CMSG_CLOEXEC)).bits();
    Ok(received.len)
}

/// `sendmsg(2)`.
pub(super) fn sendmsg(ctx: &Ctx<'_>, fd: Fd, message: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else {
        return unix::sendmsg(ctx, fd, UserPtr::new(message.address()), flags);
    };
    send_one(ctx, &open, &socket, &message.read(ctx.user())?, flags)
}

/// `recvmsg(2)`.
pub(super) fn recvmsg(ctx: &Ctx<'_>, fd: Fd, at: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else {
        return unix::recvmsg(ctx, fd, UserPtr::new(at.address()), flags);
    };
    let mut message = at.read(ctx.user())?;
    let len = receive_one(ctx, &open, &socket, &mut message, MessageFlags::from_bits_retain(flags))?;
    at.write(ctx.user(), &message)?;
    Ok(len)
}

/// `sendmmsg(2)`.
pub(super) fn sendmmsg(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
) -> Result<u32> {
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::EOPNOTSUPP, "not for this socket"))?;
    for done in 0..count.min(MESSAGES_MAX) {
        let step = || -> Result<()> {
            let at = vector.index(done.into())?;
            let mut message = at.read(ctx.user())?;
            let sent = send_one(ctx, &open, &socket, &message.header, flags)?;
            message.len = u32::try_from(sent).unwrap_or(u32::MAX);
            at.write(ctx.user(), &message)
        };
        match step() {
            Err(_) if done > 0 => return Ok(done),
            result => result?,
        }
    }
    Ok(count.min(MESSAGES_MAX))
}

/// `recvmmsg(2)`. As on Linux, the time limit is looked at after each message only.
pub(super) fn recvmmsg(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
) -> Result<u32> {
    let open = ctx.files.get_file(fd)?;
    let socket = Socket::of(&open).ok_or(Error::new(Errno::EOPNOTSUPP, "not for this socket"))?;
    let now = || ctx.platform().monotonic_ns();
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let time = timeout.read(ctx.user())?;
            let limit = time.to_ns().ok_or(Error::new(Errno::EINVAL, "a time that makes no sense"))?;
            Some(now().saturating_add(limit))
        }
    };
    let mut flags = MessageFlags::from_bits_retain(flags);
    let count = count.min(MESSAGES_MAX);
    for done in 0..count {
        let step = || -> Result<()> {
            let at = vector.index(done.into())?;
            let mut message = at.read(ctx.user())?;
            let len = receive_one(ctx, &open, &socket, &mut message.header, flags)?;
            message.len = u32::try_from(len).unwrap_or(u32::MAX);
            at.write(ctx.user(), &message)
        };
        match step() {
            Err(_) if done > 0 => return Ok(done),
            result => result?,
        }
        if flags.contains(MessageFlags::WAITFORONE) {
            flags |= MessageFlags::DONTWAIT;
        }
        if deadline.is_some_and(|deadline| now() >= deadline) {
            return Ok(done + 1);
        }
    }
    Ok(count)
}

/// `shutdown(2)`.
pub(super) fn shutdown(ctx: &Ctx<'_>, fd: Fd, how: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else { return unix::shutdown(ctx, fd, how) };
    socket.host().ok_or(Error::new(Errno::EOPNOTSUPP, "not for this socket"))?.shutdown(how)
}

fn name(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>, of_peer: bool) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let Some(socket) = Socket::of(&open) else { return unix::name(ctx, fd, into, len) };
    match socket.host() {
        Some(host) => tell_address(ctx, host.name(of_peer)?.as_bytes(), into, len),
        None => tell_address(ctx, socket.route()?.name(of_peer).as_bytes(), into, len),
    }
}

/// `getsockname(2)`.
pub(super) fn getsockname(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    name(ctx, fd, into, len, false)
}

/// `getpeername(2)`.
pub(super) fn getpeername(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, len: UserPtr<u32>) -> Result<()> {
    name(ctx, fd, into, len, true)
}

/// Bytes of an option's value at most.
const VALUE_MAX: u32 = 1024;

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
    let Some(socket) = Socket::of(&open) else { return unix::getsockopt(ctx, fd, level, option, into, len) };
    let room = len.read(ctx.user())?;
    if room > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    let mut value = alloc::vec![0; usize::try_from(room.min(VALUE_MAX)).unwrap_or_default()];
    let found = match socket.host() {
        Some(host) => host.get_option(level, option, &mut value)?,
        None => bail!(ENOPROTOOPT, "no such option"),
    };
    ctx.user().store(into, value.get(..found).unwrap_or_default())?;
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
    let Some(socket) = Socket::of(&open) else { return unix::setsockopt(ctx, fd, level, option) };
    if len > i32::MAX.cast_unsigned() {
        bail!(EINVAL, "a negative length");
    }
    let mut value = alloc::vec![0; usize::try_from(len.min(VALUE_MAX)).unwrap_or_default()];
    ctx.user().load(from, &mut value)?;
    match socket.host() {
        Some(host) => host.set_option(level, option, &value),
        // Buffer sizes, and what reports that never come are to say.
        None => Ok(()),
    }
}
