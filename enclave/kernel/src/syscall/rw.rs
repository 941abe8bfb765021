//! `read(2)`, `write(2)`, `pread(2)`, `readv(2)`, `lseek(2)` and their relatives.

use super::Fd;
use crate::Ctx;
use crate::fs::{self, OpenFile};
use crate::net::{self, Socket};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, UserSink, UserSource, bail};
use linux_abi::fs::{IOV_MAX, Iovec, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};
use vfs::Node;

/// Most bytes that one call moves (MAX_RW_COUNT).
pub(super) const MAX_COUNT: usize = 0x7fff_f000;
/// First address that no program has (TASK_SIZE).
const USER_END: u64 = 0x7fff_ffff_f000;

/// `read(2)`.
pub(super) fn read(ctx: &Ctx<'_>, fd: Fd, buffer: UserAddr, count: usize) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    open.want_read()?;
    if !open.file().can_transfer().read {
        bail!(EINVAL, "this kind of file cannot be read");
    }
    let count = check_buffer(buffer, count)?;
    if count == 0 && net::of(&open).is_ok() {
        return Ok(0);
    }
    fs::read(ctx, &open, &mut UserSink::new(ctx.user(), buffer, count))
}

/// `write(2)`.
pub(super) fn write(ctx: &Ctx<'_>, fd: Fd, buffer: UserAddr, count: usize) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    open.want_write()?;
    if !open.file().can_transfer().write {
        bail!(EINVAL, "this kind of file cannot be written");
    }
    let count = check_buffer(buffer, count)?;
    pipe_signal(ctx, &open, fs::write(ctx, &open, &mut UserSource::new(ctx.user(), buffer, count)))
}

/// `pread64(2)`.
pub(super) fn pread64(ctx: &Ctx<'_>, fd: Fd, buffer: UserAddr, count: usize, offset: i64) -> Result<usize> {
    let open = at_offset(ctx, fd, offset)?;
    open.want_read()?;
    let count = check_buffer(buffer, count)?;
    fs::read_at(&open, offset, &mut UserSink::new(ctx.user(), buffer, count))
}

/// `pwrite64(2)`.
pub(super) fn pwrite64(ctx: &Ctx<'_>, fd: Fd, buffer: UserAddr, count: usize, offset: i64) -> Result<usize> {
    let open = at_offset(ctx, fd, offset)?;
    open.want_write()?;
    let count = check_buffer(buffer, count)?;
    fs::write_at(ctx, &open, offset, &mut UserSource::new(ctx.user(), buffer, count))
}

/// Whether there is nothing to transfer, which no file is asked about.
fn is_empty(buffers: &[(UserAddr, usize)]) -> bool {
    buffers.iter().all(|&(_, len)| len == 0)
}

/// `readv(2)`.
pub(super) fn readv(ctx: &Ctx<'_>, fd: Fd, vector: UserPtr<Iovec>, len: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    open.want_read()?;
    let buffers = buffers(ctx, vector, len)?;
    if is_empty(&buffers) {
        return Ok(0);
    }
    fs::read(ctx, &open, &mut UserSink::vectored(ctx.user(), buffers))
}

/// `writev(2)`.
pub(super) fn writev(ctx: &Ctx<'_>, fd: Fd, vector: UserPtr<Iovec>, len: u32) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    open.want_write()?;
    let buffers = buffers(ctx, vector, len)?;
    if is_empty(&buffers) {
        return Ok(0);
    }
    pipe_signal(ctx, &open, fs::write(ctx, &open, &mut UserSource::vectored(ctx.user(), buffers)))
}

/// `preadv(2)`.
pub(super) fn preadv(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Iovec>,
    len: u32,
    offset: i64,
    _high: u64,
) -> Result<usize> {
    let open = at_offset(ctx, fd, offset)?;
    open.want_read()?;
    let buffers = buffers(ctx, vector, len)?;
    fs::read_at(&open, offset, &mut UserSink::vectored(ctx.user(), buffers))
}

/// `pwritev(2)`.
pub(super) fn pwritev(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Iovec>,
    len: u32,
    offset: i64,
    _high: u64,
) -> Result<usize> {
    let open = at_offset(ctx, fd, offset)?;
    open.want_write()?;
    let buffers = buffers(ctx, vector, len)?;
    fs::write_at(ctx, &open, offset, &mut UserSource::vectored(ctx.user(), buffers))
}

/// `preadv2(2)`; offset -1 means the position.
pub(super) fn preadv2(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Iovec>,
    len: u32,
    offset: i64,
    high: u64,
    flags: u32,
) -> Result<usize> {
    check_rw_flags(flags)?;
    if offset == -1 { readv(ctx, fd, vector, len) } else { preadv(ctx, fd, vector, len, offset, high) }
}

/// `pwritev2(2)`; offset -1 means the position.
pub(super) fn pwritev2(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Iovec>,
    len: u32,
    offset: i64,
    high: u64,
    flags: u32,
) -> Result<usize> {
    check_rw_flags(flags)?;
    if offset == -1 { writev(ctx, fd, vector, len) } else { pwritev(ctx, fd, vector, len, offset, high) }
}

/// `lseek(2)`.
pub(super) fn lseek(ctx: &Ctx<'_>, fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    let open = ctx.files.get_file(fd)?;
    if whence > SEEK_HOLE {
        kbase::bail!(EINVAL, "unknown whence");
    }
    match open.file().node() {
        Some(Node::Regular(_) | Node::Directory(_)) => seek(ctx, &open, offset, whence),
        _ => open.file().seek(offset, whence),
    }
}

fn seek(ctx: &Ctx<'_>, open: &Arc<OpenFile>, offset: i64, whence: u32) -> Result<u64> {
    let position = open.take_position(ctx.platform());
    let start = || u64::try_from(offset).map_err(|_| Error::new(Errno::ENXIO, "the offset is negative"));
    let base = match (whence, open.regular()) {
        (SEEK_SET, _) => 0,
        (SEEK_CUR, _) => position.get(),
        (SEEK_END, Some(file)) => file.metadata()?.size,
        (SEEK_DATA, Some(file)) => return Ok(settle(&position, file.seek_data(start()?)?)),
        (SEEK_HOLE, Some(file)) => return Ok(settle(&position, file.seek_hole(start()?)?)),
        _ => return Err(Error::new(Errno::EINVAL, "a directory seeks to places it has told")),
    };
    let to = i64::try_from(base).ok().and_then(|base| base.checked_add(offset));
    let to = to.and_then(|to| u64::try_from(to).ok());
    let to = to.ok_or(Error::new(Errno::EINVAL, "the position would be negative or too large"))?;
    Ok(settle(&position, to))
}

fn settle(position: &fs::Position<'_>, to: u64) -> u64 {
    position.set(to);
    to
}

/// Checks a buffer as Linux does before it looks at the file, and bounds its length.
pub(super) fn check_buffer(buffer: UserAddr, count: usize) -> Result<usize> {
    let is_inside = buffer.0.checked_add(count as u64).is_some_and(|end| end <= USER_END);
    if !is_inside {
        kbase::bail!(EFAULT, "the buffer is outside of all programs");
    }
    Ok(count.min(MAX_COUNT))
}

/// RWF_HIPRI, RWF_DSYNC and RWF_SYNC ask for no more than is done anyway.
fn check_rw_flags(flags: u32) -> Result<()> {
    if flags & !7 != 0 {
        kbase::bail!(EOPNOTSUPP, "unknown flag");
    }
    Ok(())
}

/// The file of a call that brings its own offset. Linux looks at the two before it looks at buffers.
fn at_offset(ctx: &Ctx<'_>, fd: Fd, offset: i64) -> Result<Arc<OpenFile>> {
    if offset < 0 {
        kbase::bail!(EINVAL, "the offset is negative");
    }
    let open = ctx.files.get_file(fd)?;
    if open.regular().is_none() && open.directory().is_err() {
        kbase::bail!(ESPIPE, "the file has no positions");
    }
    Ok(open)
}

/// Copies an array of buffers in.
///
/// # Errors
/// EINVAL too many, or longer than `ssize_t` in all; EFAULT.
pub(super) fn buffers(ctx: &Ctx<'_>, vector: UserPtr<Iovec>, len: u32) -> Result<Vec<(UserAddr, usize)>> {
    if len > IOV_MAX {
        kbase::bail!(EINVAL, "too many buffers");
    }
    let mut buffers = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    let mut room = MAX_COUNT;
    for index in 0..len {
        let iovec = vector.index(index.into())?.read(ctx.user())?;
        let count =
            isize::try_from(iovec.iov_len).map_err(|_| Error::new(Errno::EINVAL, "a negative length"))?;
        let count = check_buffer(UserAddr(iovec.iov_base), count.unsigned_abs())?.min(room);
        room -= count;
        buffers.push((UserAddr(iovec.iov_base), count));
    }
    Ok(buffers)
}

/// A write to where nobody reads is also a signal, except of sockets that send messages.
pub(super) fn pipe_signal<T>(ctx: &Ctx<'_>, to: &OpenFile, result: Result<T>) -> Result<T> {
    if let Err(error) = &result
        && error.errno() == Errno::EPIPE
        && net::of(to).map_or(true, Socket::raises_sigpipe)
    {
        fs::wait::raise_sigpipe(ctx);
    }
    result
}
