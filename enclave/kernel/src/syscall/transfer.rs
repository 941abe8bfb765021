//! Bytes from descriptor to descriptor: `sendfile(2)`, `copy_file_range(2)`, `splice(2)`, `tee(2)`, `vmsplice(2)`.

use super::{Fd, rw};
use crate::Ctx;
use crate::fs::{self, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Result, SliceSink, SliceSource, UserAddr, UserPtr, UserSink, UserSource};
use linux_abi::fs::{Iovec, OpenFlags};
use vfs::Readiness;

/// `splice(2)`: do not wait for a pipe.
const SPLICE_F_NONBLOCK: u32 = 2;

/// Bytes moved at once.
const CHUNK: usize = 64 * 1024;
const PAGE: u64 = 4096;

/// An offset in user memory, if there is one.
fn offset(ctx: &Ctx<'_>, at: UserPtr<i64>) -> Result<Option<i64>> {
    at.non_null().map(|at| at.read(ctx.user())).transpose()
}

/// Refuses a negative offset.
fn check_offset(offset: Option<i64>) -> Result<()> {
    if offset.is_some_and(|offset| offset < 0) {
        kbase::bail!(EINVAL, "the offset is negative");
    }
    Ok(())
}

/// `sendfile(2)`.
pub(super) fn sendfile(ctx: &Ctx<'_>, to: Fd, from: Fd, at: UserPtr<i64>, count: usize) -> Result<usize> {
    let place = offset(ctx, at)?;
    let from = ctx.files.get_file(from)?;
    from.want_read()?;
    if place.is_some() && from.file().node().is_none() {
        kbase::bail!(ESPIPE, "the source has no position");
    }
    check_offset(place)?;
    let to = ctx.files.get_file(to)?;
    to.want_write()?;
    let is_to_pipe = fs::is_pipe(&to);
    if to.flags().contains(OpenFlags::APPEND) && !is_to_pipe {
        kbase::bail!(EINVAL, "the target is in append mode");
    }
    let start = place.map_or_else(|| from.tell(), i64::cast_unsigned);
    let count = if is_to_pipe { fits(ctx, &to, count, start, !to.is_nonblocking())? } else { count };
    if count == 0 {
        return Ok(0);
    }
    if from.regular().is_none() {
        kbase::bail!(EINVAL, "sendfile reads from regular files");
    }
    if let Some(sent) = fs::send_in_host(ctx, (&from, start), &to, count.min(rw::MAX_COUNT)) {
        let sent = rw::pipe_signal(ctx, &to, sent)?;
        let end = start.saturating_add(sent as u64);
        match at.non_null() {
            Some(at) => at.write(ctx.user(), &end.cast_signed())?,
            None => from.take_position(ctx.platform()).set(end),
        }
        return Ok(sent);
    }
    transfer(ctx, (&from, at), (&to, UserPtr::new(UserAddr(0))), count)
}

/// `copy_file_range(2)`.
pub(super) fn copy_file_range(
    ctx: &Ctx<'_>,
    from: Fd,
    from_offset: UserPtr<i64>,
    to: Fd,
    to_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> Result<usize> {
    let (from, to) = (ctx.files.get_file(from)?, ctx.files.get_file(to)?);
    let offsets = [offset(ctx, from_offset)?, offset(ctx, to_offset)?];
    if flags != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    if from.directory().is_ok() || to.directory().is_ok() {
        kbase::bail!(EISDIR, "a directory cannot be copied so");
    }
    if from.regular().is_none() || to.regular().is_none() {
        kbase::bail!(EINVAL, "not a regular file");
    }
    from.want_read()?;
    to.want_write()?;
    if to.flags().contains(OpenFlags::APPEND) {
        kbase::bail!(EBADF, "the target is in append mode");
    }
    let [start, end] = offsets.map(|offset| offset.map(i64::cast_unsigned));
    let (start, end) = (start.unwrap_or_else(|| from.tell()), end.unwrap_or_else(|| to.tell()));
    if [start, end].iter().any(|place| place.checked_add(count as u64).is_none()) {
        kbase::bail!(EOVERFLOW, "the range has no end");
    }
    let count = check_overlap((&from, start), (&to, end), count)?;
    offsets.into_iter().try_for_each(check_offset)?;
    transfer(ctx, (&from, from_offset), (&to, to_offset), count)
}

/// Refuses to copy a range of a file onto itself. Returns how much of `count` there is: what a copy adds to the file is not copied.
fn check_overlap(
    (from, start): (&OpenFile, u64),
    (to, end): (&OpenFile, u64),
    count: usize,
) -> Result<usize> {
    let (source, target) = (from.file().metadata()?, to.file().metadata()?);
    let count = source.size.saturating_sub(start).min(count as u64);
    let overlaps = end.saturating_add(count) > start && end < start.saturating_add(count);
    if (source.dev, source.ino) == (target.dev, target.ino) && overlaps {
        kbase::bail!(EINVAL, "the ranges overlap");
    }
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// `splice(2)`; one side is a pipe.
pub(super) fn splice(
    ctx: &Ctx<'_>,
    from: Fd,
    from_offset: UserPtr<i64>,
    to: Fd,
    to_offset: UserPtr<i64>,
    count: usize,
    flags: u32,
) -> Result<usize> {
    if count == 0 {
        return Ok(0);
    }
    if flags & !15 != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    let (from, to) = (ctx.files.get_file(from)?, ctx.files.get_file(to)?);
    let (is_from_pipe, is_to_pipe) = (fs::is_pipe(&from), fs::is_pipe(&to));
    if (is_from_pipe && from_offset.non_null().is_some()) || (is_to_pipe && to_offset.non_null().is_some()) {
        kbase::bail!(ESPIPE, "a pipe has no offset");
    }
    let (target, source) = (offset(ctx, to_offset)?, offset(ctx, from_offset)?);
    from.want_read()?;
    to.want_write()?;
    let is_blocking = |pipe: &OpenFile| flags & SPLICE_F_NONBLOCK == 0 && !pipe.is_nonblocking();
    match (is_from_pipe, is_to_pipe) {
        (true, true) => relay(ctx, &from, &to, count, is_blocking(&from) && is_blocking(&to)),
        (true, false) => {
            if target.is_some() && to.file().node().is_none() {
                kbase::bail!(EINVAL, "the target has no position");
            }
            if to.flags().contains(OpenFlags::APPEND) {
                kbase::bail!(EINVAL, "the target is in append mode");
            }
            check_offset(target)?;
            from_pipe(ctx, &from, (&to, to_offset), count, is_blocking(&from))
        }
        (false, true) => {
            if source.is_some() && from.file().node().is_none() {
                kbase::bail!(EINVAL, "the source has no position");
            }
            check_offset(source)?;
            let start = source.map_or_else(|| from.tell(), i64::cast_unsigned);
            let count = fits(ctx, &to, count, start, is_blocking(&to))?;
            transfer(ctx, (&from, from_offset), (&to, to_offset), count)
        }
        (false, false) => kbase::bail!(EINVAL, "neither side is a pipe"),
    }
}

/// How much of `count` a pipe has room for, in pages that begin at the place `start`. What has none now is for the next call:
/// this one does not wait twice, and what it reads it can write.
fn fits(ctx: &Ctx<'_>, to: &OpenFile, count: usize, start: u64, is_blocking: bool) -> Result<usize> {
    let room = rw::pipe_signal(ctx, to, fs::wait_for_room(ctx, to, start, is_blocking))?;
    Ok(count.min(room))
}

/// From pipe to pipe.
fn relay(ctx: &Ctx<'_>, from: &OpenFile, to: &OpenFile, count: usize, is_blocking: bool) -> Result<usize> {
    fs::check_two(from, to)?;
    loop {
        if from.file().ready().is_empty() {
            if !is_blocking {
                kbase::bail!(EAGAIN, "the first pipe is empty");
            }
            fs::wait::wait_for(ctx, &**from.file(), Readiness::IN)?;
        }
        fits(ctx, to, count, 0, is_blocking)?;
        match fs::relay(from, to, count) {
            Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {}
            result => return rw::pipe_signal(ctx, to, result),
        }
    }
}

/// `tee(2)`: what is in one pipe is in another, too.
pub(super) fn tee(ctx: &Ctx<'_>, from: Fd, to: Fd, count: usize, flags: u32) -> Result<usize> {
    if flags & !15 != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    if count == 0 {
        return Ok(0);
    }
    let (from, to) = (ctx.files.get_file(from)?, ctx.files.get_file(to)?);
    from.want_read()?;
    to.want_write()?;
    let waits = |open: &OpenFile| flags & SPLICE_F_NONBLOCK == 0 && !open.is_nonblocking();
    loop {
        match fs::tee(&from, &to, count) {
            Err(error) if error.errno() == Errno::EAGAIN && waits(&from) && waits(&to) => {
                fs::wait::wait_for(ctx, &**from.file(), Readiness::IN)?;
                rw::pipe_signal(ctx, &to, fs::wait_for_room(ctx, &to, 0, true))?;
            }
            result => return rw::pipe_signal(ctx, &to, result),
        }
    }
}

/// `vmsplice(2)`: between memory and a pipe, as its end says. Pages are copied, given away or not.
pub(super) fn vmsplice(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Iovec>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !15 != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    let open = ctx.files.get_file(fd)?;
    if !fs::is_pipe(&open) {
        kbase::bail!(EBADF, "not a pipe");
    }
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let buffers = rw::buffers(ctx, vector, len)?;
    // Whether the descriptor waits does not count.
    let is_blocking = flags & SPLICE_F_NONBLOCK == 0;
    if open.is_writable() {
        return rw::pipe_signal(ctx, &open, give_pages(ctx, &open, buffers, is_blocking));
    }
    fs::take(ctx, &open, &mut UserSink::vectored(ctx.user(), buffers), is_blocking)
}

/// Gives a pipe what it has room for of the program's memory, page by page. Only for the first it waits.
fn give_pages(
    ctx: &Ctx<'_>,
    to: &OpenFile,
    buffers: Vec<(UserAddr, usize)>,
    is_blocking: bool,
) -> Result<usize> {
    let mut done = 0usize;
    for (address, len) in buffers.into_iter().filter(|&(_, len)| len > 0) {
        let given = loop {
            if done == 0 {
                fs::wait_for_room(ctx, to, 0, is_blocking)?;
            }
            let mut source = UserSource::new(ctx.user(), address, len);
            match fs::give(ctx, to, &mut source, address.0, false) {
                // Another writer was faster.
                Err(error) if done == 0 && is_blocking && error.errno() == Errno::EAGAIN => {}
                given => break given,
            }
        };
        match given {
            Ok(given) => done = done.saturating_add(given),
            Err(error) if done == 0 => return Err(error),
            Err(_) => {}
        }
        if given.map_or(true, |given| given < len) {
            break;
        }
    }
    Ok(done)
}

/// Moves bytes from a pipe to what is none, at the position or at the offset in user memory, which is moved then instead. If it `waits`
/// not, a pipe that is empty is EAGAIN. What the other does not take stays in the pipe.
fn from_pipe(
    ctx: &Ctx<'_>,
    from: &OpenFile,
    (to, to_offset): (&OpenFile, UserPtr<i64>),
    count: usize,
    waits: bool,
) -> Result<usize> {
    let place = offset(ctx, to_offset)?;
    check_offset(place)?;
    let mut write = |bytes: &[u8]| {
        let mut source = SliceSource::new(bytes);
        match place {
            Some(place) => fs::write_at(ctx, to, place, &mut source),
            None => rw::pipe_signal(ctx, to, fs::write(ctx, to, &mut source)),
        }
    };
    let moved = fs::hand_on(ctx, from, count.min(CHUNK), waits, &mut write)?;
    if let Some(place) = place {
        to_offset.write(ctx.user(), &place.saturating_add_unsigned(moved as u64))?;
    }
    Ok(moved)
}

/// Moves bytes from a file, at the positions or at the offsets in user memory, which are moved then instead.
fn transfer(
    ctx: &Ctx<'_>,
    (from, from_offset): (&Arc<OpenFile>, UserPtr<i64>),
    (to, to_offset): (&Arc<OpenFile>, UserPtr<i64>),
    count: usize,
) -> Result<usize> {
    let (mut reads, mut writes) = (offset(ctx, from_offset)?, offset(ctx, to_offset)?);
    [reads, writes].into_iter().try_for_each(check_offset)?;
    let is_to_pipe = fs::is_pipe(to);
    let mut buffer = alloc::vec![0u8; count.min(CHUNK)];
    let mut done = 0usize;
    let mut failed = None;
    while done < count {
        // Two GiB take long.
        if done > 0 && ctx.is_interrupted() {
            break;
        }
        let place = reads.map_or_else(|| from.tell(), i64::cast_unsigned);
        // A pipe gets whole pages of a file.
        let ahead = usize::try_from(place % PAGE).unwrap_or(0);
        let most = if is_to_pipe { CHUNK - ahead } else { CHUNK };
        let room = buffer.len().min(count - done).min(most);
        let part = buffer.get_mut(..room).unwrap_or_default();
        let read = match reads {
            Some(offset) => fs::read_at(from, offset, &mut SliceSink::new(part)),
            None => fs::read(ctx, from, &mut SliceSink::new(part)),
        };
        let read = match read {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let part = buffer.get(..read).unwrap_or_default();
        let written = match writes {
            Some(offset) => fs::write_at(ctx, to, offset, &mut SliceSource::new(part)),
            None if is_to_pipe => {
                let given = fs::give(ctx, to, &mut SliceSource::new(part), place, !to.is_nonblocking());
                rw::pipe_signal(ctx, to, given)
            }
            None => rw::pipe_signal(ctx, to, fs::write(ctx, to, &mut SliceSource::new(part))),
        };
        let (written, error) = match written {
            Ok(written) => (written, None),
            Err(error) => (0, Some(error)),
        };
        done += written;
        reads = reads.map(|offset| offset.saturating_add_unsigned(written as u64));
        writes = writes.map(|offset| offset.saturating_add_unsigned(written as u64));
        if written < read {
            // What was read and not written goes back, where it can.
            if reads.is_none() && from.regular().is_some() {
                let position = from.take_position(ctx.platform());
                position.set(position.get().saturating_sub((read - written) as u64));
            }
            failed = error;
            break;
        }
        if from.regular().is_none() {
            break;
        }
    }
    for (at, offset) in [(from_offset, reads), (to_offset, writes)] {
        if let Some(offset) = offset {
            at.write(ctx.user(), &offset)?;
        }
    }
    match failed {
        Some(error) if done == 0 => Err(error),
        _ => Ok(done),
    }
}
