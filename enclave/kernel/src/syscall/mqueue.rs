//! POSIX message queues: `mq_open(2)`, `mq_unlink(2)`, `mq_timedsend(2)`, `mq_timedreceive(2)`, `mq_notify(2)`,
//! `mq_getsetattr(2)`.

use super::{Fd, UserStr};
use crate::Ctx;
use crate::ipc::posix::{self, Notify};
use crate::net::inet::netlink::RouteSocket;
use crate::time::{Clock, deadline_at};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::fs::{O_ACCMODE, OpenFlags};
use linux_abi::ipc::MqAttr;
use linux_abi::signal::Signal;
use linux_abi::time::Timespec;

/// SIGEV_SIGNAL.
const SIGNAL: u64 = 0;
/// SIGEV_NONE.
const NONE: u64 = 1;
/// SIGEV_THREAD.
const THREAD: u64 = 2;

/// The name of a queue; the C library has taken the first slash away.
fn name(ctx: &Ctx<'_>, at: UserStr) -> Result<Vec<u8>> {
    let name = ctx.user().load_c_string(at.0, 4096)?;
    if name.is_empty() {
        kbase::bail!(ENOENT, "a queue has a name");
    }
    if name.len() > 255 {
        kbase::bail!(ENAMETOOLONG, "the name is longer than 255 bytes");
    }
    if name.contains(&b'/') || name == b"." || name == b".." {
        kbase::bail!(EACCES, "not a name of a queue");
    }
    Ok(name)
}

/// `mq_open(2)`.
pub(super) fn mq_open(
    ctx: &Ctx<'_>,
    at: UserStr,
    flags: u32,
    mode: u32,
    attributes: UserPtr<MqAttr>,
) -> Result<Fd> {
    let known = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
    let flags = OpenFlags::from_bits_retain(flags & (known.bits() | O_ACCMODE));
    let creates = flags.contains(OpenFlags::CREAT);
    let wanted = attributes.non_null().map(|attributes| attributes.read(ctx.user())).transpose()?;
    let wanted = wanted.filter(|_| creates);
    let open = posix::open(ctx, &name(ctx, at)?, flags, mode, wanted)?;
    // Descriptors of message queues are closed by execve(2), asked for or not.
    ctx.files.insert(open, true)
}

/// `mq_unlink(2)`.
pub(super) fn mq_unlink(ctx: &Ctx<'_>, at: UserStr) -> Result<()> {
    posix::unlink(ctx, &name(ctx, at)?)
}

/// The deadline of a time of CLOCK_REALTIME; none without a time.
fn deadline(ctx: &Ctx<'_>, time: UserPtr<Timespec>) -> Result<Option<u64>> {
    let Some(time) = time.non_null() else { return Ok(None) };
    deadline_at(ctx, Clock::Realtime, time.read(ctx.user())?).map(Some)
}

/// `mq_timedsend(2)`.
pub(super) fn mq_timedsend(
    ctx: &Ctx<'_>,
    fd: Fd,
    text: UserAddr,
    len: usize,
    priority: u32,
    time: UserPtr<Timespec>,
) -> Result<()> {
    let deadline_ns = deadline(ctx, time)?;
    if priority >= posix::PRIORITIES {
        kbase::bail!(EINVAL, "no such priority");
    }
    let open = ctx.files.get_file(fd)?;
    let load = || {
        let mut bytes = alloc::vec![0; len];
        if len > 0 {
            ctx.user().load(text, &mut bytes)?;
        }
        Ok(bytes)
    };
    posix::send(ctx, &open, priority, len, load, deadline_ns)
}

/// `mq_timedreceive(2)`.
pub(super) fn mq_timedreceive(
    ctx: &Ctx<'_>,
    fd: Fd,
    into: UserAddr,
    len: usize,
    priority: UserPtr<u32>,
    time: UserPtr<Timespec>,
) -> Result<usize> {
    let deadline_ns = deadline(ctx, time)?;
    let open = ctx.files.get_file(fd)?;
    let (of, text) = posix::receive(ctx, &open, len, deadline_ns)?;
    if let Some(priority) = priority.non_null() {
        priority.write(ctx.user(), &of)?;
    }
    ctx.user().store(into, &text)?;
    Ok(text.len())
}

/// `mq_notify(2)`.
pub(super) fn mq_notify(ctx: &Ctx<'_>, fd: Fd, event: UserPtr<[u64; 8]>) -> Result<()> {
    let wanted = match event.non_null() {
        None => None,
        Some(event) => {
            let [value, what, ..] = event.read(ctx.user())?;
            Some(match what >> 32 {
                SIGNAL => notify_by_signal(what & 0xffff_ffff, value)?,
                NONE => Notify::Nothing,
                THREAD => notify_by_datagram(ctx, Fd((what & 0xffff_ffff) as u32), UserAddr(value))?,
                _ => kbase::bail!(EINVAL, "no such notification"),
            })
        }
    };
    posix::ask(ctx, &*ctx.files.get_file(fd)?, wanted)
}

fn notify_by_signal(number: u64, value: u64) -> Result<Notify> {
    if number == 0 {
        // As on Linux: a notification, of nothing.
        return Ok(Notify::Nothing);
    }
    let signal = Signal::new(number).ok_or(Error::new(Errno::EINVAL, "no such signal"))?;
    Ok(Notify::Signal(signal, value))
}

/// SIGEV_THREAD: the C library has a thread that reads from a netlink socket, and calls what the cookie stands for.
fn notify_by_datagram(ctx: &Ctx<'_>, fd: Fd, cookie: UserAddr) -> Result<Notify> {
    let mut bytes = [0; posix::COOKIE_LEN];
    ctx.user().load(cookie, &mut bytes)?;
    let open = ctx.files.get_file(fd)?;
    crate::net::of(&open)?;
    let Some(socket) = open.file().as_any().downcast_ref::<RouteSocket>() else {
        kbase::bail!(EINVAL, "not a netlink socket");
    };
    if !socket.has_room() {
        kbase::bail!(EAGAIN, "nobody reads what the socket was told before");
    }
    Ok(Notify::Datagram(Arc::clone(&open), bytes))
}

/// `mq_getsetattr(2)`: of what it could set only O_NONBLOCK counts.
pub(super) fn mq_getsetattr(ctx: &Ctx<'_>, fd: Fd, new: UserPtr<MqAttr>, old: UserPtr<MqAttr>) -> Result<()> {
    let nonblock = i64::from(OpenFlags::NONBLOCK.bits());
    let new = new.non_null().map(|new| new.read(ctx.user())).transpose()?;
    if new.is_some_and(|new| new.mq_flags & !nonblock != 0) {
        kbase::bail!(EINVAL, "only O_NONBLOCK can be set");
    }
    let open = ctx.files.get_file(fd)?;
    let before = posix::attributes(&open)?;
    if let Some(new) = new {
        open.set_nonblocking(new.mq_flags != 0);
    }
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &before),
        None => Ok(()),
    }
}
