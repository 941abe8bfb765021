//! Reading and writing through an open file description.

use super::{OpenFile, limit, tty, wait};
use crate::{Ctx, net};
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use linux_abi::inotify::mask;
use vfs::{File, Node, Readiness};

/// `read(2)`: from the position, which moves.
///
/// # Errors
/// EBADF not open for reading; EISDIR; EAGAIN; ERESTARTSYS; and what the file says.
pub(crate) fn read(ctx: &Ctx<'_>, open: &OpenFile, into: &mut dyn ByteSink) -> Result<usize> {
    open.want_read()?;
    if let Some(file) = open.regular() {
        let position = open.take_position(ctx.platform());
        let read = open.read_regular(&**file, position.get(), into)?;
        position.advance(read);
        open.tell_transfer(read, mask::ACCESS);
        return Ok(read);
    }
    if let Some(Node::Directory(_)) = open.file().node() {
        kbase::bail!(EISDIR, "a directory is read with getdents64");
    }
    read_stream(ctx, open, into, !open.is_nonblocking())
}

/// Reads from a file without a position.
///
/// # Errors
/// EAGAIN; ERESTARTSYS; and what the file says.
fn read_stream(ctx: &Ctx<'_>, open: &OpenFile, into: &mut dyn ByteSink, is_blocking: bool) -> Result<usize> {
    let file = &**open.file();
    if let Some(slave) = tty::slave_of(open) {
        return told(open, mask::ACCESS, tty::read(ctx, slave, into, is_blocking));
    }
    if is_blocking && file.host_fd().is_some() && into.remaining() > 0 {
        // Waits here, where a signal can end it, and not in the host.
        let result = wait::wait_ready(ctx, file, Readiness::IN);
        let result = result.and_then(|()| in_host(ctx, || file.read(into, false)));
        return told(open, mask::ACCESS, result);
    }
    read_with(ctx, open, into, is_blocking, |into| file.read(into, !is_blocking))
}

/// Reads by `read`, which does not wait.
///
/// # Errors
/// EAGAIN; ERESTARTSYS; and what `read` says.
pub(super) fn read_with(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    into: &mut dyn ByteSink,
    is_blocking: bool,
    mut read: impl FnMut(&mut dyn ByteSink) -> Result<usize>,
) -> Result<usize> {
    let result = if is_blocking {
        wait::persist(ctx, &**open.file(), Readiness::IN, || read(into))
    } else {
        read(into)
    };
    told(open, mask::ACCESS, result)
}

/// A transfer came to this: whoever watches the file is told.
pub(super) fn told(open: &OpenFile, event: u32, result: Result<usize>) -> Result<usize> {
    open.note_transfer();
    if let Ok(count) = result {
        open.tell_transfer(count, event);
    }
    result
}

/// `write(2)`: at the position, which moves, or at the end with O_APPEND.
///
/// # Errors
/// EBADF not open for writing; EAGAIN; EPIPE; ERESTARTSYS; and what the file says.
pub(crate) fn write(ctx: &Ctx<'_>, open: &OpenFile, from: &mut dyn ByteSource) -> Result<usize> {
    open.want_write()?;
    if let Some(file) = open.regular() {
        let position = open.take_position(ctx.platform());
        if from.remaining() == 0 {
            return Ok(0);
        }
        let (offset, written) = limit::write_regular(ctx, (open, &**file), position.get(), from)?;
        position.set(offset.saturating_add(written as u64));
        open.tell_transfer(written, mask::MODIFY);
        return Ok(written);
    }
    write_stream(ctx, open, from, !open.is_nonblocking())
}

/// Writes to a file without a position.
///
/// # Errors
/// EAGAIN; EPIPE; ERESTARTSYS; and what the file says.
fn write_stream(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    from: &mut dyn ByteSource,
    is_blocking: bool,
) -> Result<usize> {
    if let Some(slave) = tty::slave_of(open) {
        tty::before_write(ctx, slave)?;
    }
    let file = &**open.file();
    if file.notifier().is_none() {
        let waits_in_host = is_blocking && file.host_fd().is_some();
        let result =
            if waits_in_host { write_in_host(ctx, file, from) } else { file.write(from, !is_blocking) };
        return told(open, mask::MODIFY, result);
    }
    write_with(ctx, open, from, is_blocking, |from| file.write(from, true))
}

/// `sendfile(2)` of a file of the host to a socket of the host, without carrying it through the enclave. `None`: they are not such.
///
/// # Errors
/// EAGAIN; EPIPE; ERESTARTSYS; and what the host says.
pub(crate) fn send_in_host(
    ctx: &Ctx<'_>,
    (from, offset): (&OpenFile, u64),
    to: &OpenFile,
    len: usize,
) -> Option<Result<usize>> {
    let file = from.host_file(offset, len)?;
    let sent = net::of(to).ok()?.send_file(ctx, (file, offset), len, !to.is_nonblocking())?;
    if let Ok(sent) = sent {
        from.tell_transfer(sent, mask::ACCESS);
    }
    Some(told(to, mask::MODIFY, sent))
}

/// Makes a call that may block in the host, and makes it again when the host ends it for nothing: whatever a thread is
/// interrupted for ends its system calls there.
///
/// # Errors
/// ERESTARTSYS a signal is to be delivered; and what `call` says.
fn in_host<T>(ctx: &Ctx<'_>, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.errno() == Errno::EINTR => {
                if ctx.is_interrupted() {
                    return Err(Error::new(Errno::ERESTARTSYS, "a signal came while the host was busy"));
                }
            }
            result => return result,
        }
    }
}

/// Writes everything to a file of the host that may block, unless a signal or an error comes first.
///
/// # Errors
/// ERESTARTSYS; and what the file says.
fn write_in_host(ctx: &Ctx<'_>, file: &dyn File, from: &mut dyn ByteSource) -> Result<usize> {
    let mut done = 0usize;
    loop {
        match in_host(ctx, || file.write(from, false)) {
            Ok(written) => {
                done += written;
                if from.remaining() == 0 || written == 0 || ctx.is_interrupted() {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
    }
}

/// Writes by `write`, which does not wait. A blocking write to a file of the kernel takes everything, in parts if it must.
///
/// # Errors
/// EAGAIN; ERESTARTSYS; and what `write` says.
pub(super) fn write_with(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    from: &mut dyn ByteSource,
    is_blocking: bool,
    mut write: impl FnMut(&mut dyn ByteSource) -> Result<usize>,
) -> Result<usize> {
    let mut done = 0usize;
    let error = loop {
        let result = if is_blocking {
            wait::persist(ctx, &**open.file(), Readiness::OUT, || write(from))
        } else {
            write(from)
        };
        match result {
            Ok(written) => {
                done += written;
                if !is_blocking || from.remaining() == 0 || written == 0 {
                    return told(open, mask::MODIFY, Ok(done));
                }
            }
            Err(error) => break error,
        }
    };
    told(open, mask::MODIFY, if done > 0 { Ok(done) } else { Err(error) })
}

/// `pread64(2)`.
///
/// # Errors
/// ESPIPE the file cannot seek; and as [`read`].
pub(crate) fn read_at(open: &OpenFile, offset: i64, into: &mut dyn ByteSink) -> Result<usize> {
    let offset = offset_of(offset)?;
    if let Some(Node::Directory(_)) = open.file().node() {
        open.want_read()?;
        kbase::bail!(EISDIR, "a directory is read with getdents64");
    }
    let file = open.regular().ok_or_else(no_position)?;
    open.want_read()?;
    let read = open.read_regular(&**file, offset, into)?;
    open.tell_transfer(read, mask::ACCESS);
    Ok(read)
}

/// `pwrite64(2)`. With O_APPEND it appends, as Linux does against POSIX.
///
/// # Errors
/// ESPIPE the file cannot seek; and as [`write`].
pub(crate) fn write_at(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    offset: i64,
    from: &mut dyn ByteSource,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    if open.directory().is_ok() {
        open.want_write()?;
    }
    let file = open.regular().ok_or_else(no_position)?;
    open.want_write()?;
    if from.remaining() == 0 {
        return Ok(0);
    }
    let (_, written) = limit::write_regular(ctx, (open, &**file), offset, from)?;
    open.tell_transfer(written, mask::MODIFY);
    Ok(written)
}

fn offset_of(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Error::new(Errno::EINVAL, "the offset is negative"))
}

fn no_position() -> Error {
    Error::new(Errno::ESPIPE, "the file cannot seek")
}
