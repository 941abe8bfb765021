//! `dup(2)`, `fcntl(2)`, `flock(2)`, `ioctl(2)`.

use super::Fd;
use crate::Ctx;
use crate::fs::{self, Lock, LockOwner, OpenFile, SignalOwner};
use crate::vm::{Backing, Vma};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::fs::{Flock, OpenFlags, fcntl as command, ioctl as request, seal};
use linux_abi::signal::Signal;
use vfs::FileType;

/// `dup(2)`.
pub(super) fn dup(ctx: &Ctx<'_>, fd: Fd) -> Result<Fd> {
    ctx.files.insert(ctx.files.get(fd)?, false)
}

/// `dup2(2)`: the same number twice is no error.
pub(super) fn dup2(ctx: &Ctx<'_>, from: Fd, to: Fd) -> Result<Fd> {
    let open = ctx.files.get(from)?;
    if from != to {
        ctx.files.replace(to, open, false)?;
    }
    Ok(to)
}

/// `dup3(2)`: the same number twice is EINVAL.
pub(super) fn dup3(ctx: &Ctx<'_>, from: Fd, to: Fd, flags: u32) -> Result<Fd> {
    if from == to || flags & !OpenFlags::CLOEXEC.bits() != 0 {
        kbase::bail!(EINVAL, "the numbers are the same, or an unknown flag");
    }
    ctx.files.replace(to, ctx.files.get(from)?, flags != 0)?;
    Ok(to)
}

/// `fcntl(2)`.
pub(super) fn fcntl(ctx: &Ctx<'_>, fd: Fd, cmd: u32, argument: u64) -> Result<u64> {
    let open = ctx.files.get(fd)?;
    let low = u32::try_from(argument & 0xffff_ffff).unwrap_or_default();
    match cmd {
        command::DUPFD | command::DUPFD_CLOEXEC => {
            let from = u32::try_from(argument)
                .map_err(|_| Error::new(Errno::EINVAL, "the number is beyond the limit"))?;
            let fd = ctx.files.insert_from(open, cmd == command::DUPFD_CLOEXEC, from)?;
            return Ok(fd.0.into());
        }
        command::GETFD => return Ok(ctx.files.is_close_on_exec(fd)?.into()),
        command::SETFD => {
            ctx.files.set_close_on_exec(fd, low & command::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        command::GETFL => return Ok(open.flags().bits().into()),
        _ => {}
    }
    if open.is_path_only() {
        kbase::bail!(EBADF, "the descriptor is only a path");
    }
    match cmd {
        command::SETFL => {
            let is_async = OpenFlags::from_bits_retain(low).contains(OpenFlags::ASYNC);
            open.set_signal_driven(ctx, fd.0, is_async)?;
            open.set_flags(low);
            fs::set_packets(&open, open.flags().contains(OpenFlags::DIRECT));
            Ok(0)
        }
        command::GETLK | command::OFD_GETLK => {
            get_lock(ctx, &open, cmd, UserPtr::new(UserAddr(argument)))?;
            Ok(0)
        }
        command::SETLK | command::SETLKW | command::OFD_SETLK | command::OFD_SETLKW => {
            set_lock(ctx, &open, cmd, UserPtr::new(UserAddr(argument)))?;
            Ok(0)
        }
        command::GETPIPE_SZ | command::SETPIPE_SZ => {
            fs::pipe_size(&open, (cmd == command::SETPIPE_SZ).then_some(low))
        }
        command::GET_SEALS => Ok(memory_file(&open)?.seals().into()),
        command::ADD_SEALS => add_seals(ctx, &open, low).map(|()| 0),
        command::GETOWN => Ok(i64::from(owner_number(&open)).cast_unsigned()),
        command::SETOWN => set_owner(ctx, &open, low.cast_signed()).map(|()| 0),
        command::GETOWN_EX => get_owner_ex(ctx, &open, UserPtr::new(UserAddr(argument))).map(|()| 0),
        command::SETOWN_EX => set_owner_ex(ctx, &open, UserPtr::new(UserAddr(argument))).map(|()| 0),
        command::GETSIG => {
            let signal = open.signals().and_then(|signals| signals.signal());
            Ok(signal.map_or(0, |signal| signal.number().into()))
        }
        command::SETSIG => {
            let signal = Signal::new(argument);
            if argument != 0 && signal.is_none() {
                kbase::bail!(EINVAL, "no such signal");
            }
            open.signal_driven(ctx.kernel).set_signal(signal);
            Ok(0)
        }
        _ => Err(Error::new(Errno::EINVAL, "unknown command")),
    }
}

/// Whom F_GETOWN names: a process, a group as a negative number, or 0.
fn owner_number(open: &OpenFile) -> i32 {
    match open.signals().and_then(|signals| signals.owner()) {
        None => 0,
        Some(SignalOwner::Thread(number) | SignalOwner::Process(number)) => number.cast_signed(),
        Some(SignalOwner::Group(number)) => -number.cast_signed(),
    }
}

/// F_SETOWN.
fn set_owner(ctx: &Ctx<'_>, open: &OpenFile, number: i32) -> Result<()> {
    let owner = match number {
        0 => None,
        i32::MIN => kbase::bail!(EINVAL, "no such group"),
        1.. => Some(SignalOwner::Process(number.unsigned_abs())),
        _ => Some(SignalOwner::Group(number.unsigned_abs())),
    };
    open.signal_driven(ctx.kernel).set_owner(ctx, owner)
}

/// F_GETOWN_EX: kind and number.
fn get_owner_ex(ctx: &Ctx<'_>, open: &OpenFile, into: UserPtr<[i32; 2]>) -> Result<()> {
    let (kind, number) = match open.signals().and_then(|signals| signals.owner()) {
        None => (command::OWNER_TID, 0),
        Some(SignalOwner::Thread(number)) => (command::OWNER_TID, number),
        Some(SignalOwner::Process(number)) => (command::OWNER_PID, number),
        Some(SignalOwner::Group(number)) => (command::OWNER_PGRP, number),
    };
    into.write(ctx.user(), &[kind, number.cast_signed()])
}

/// F_SETOWN_EX.
fn set_owner_ex(ctx: &Ctx<'_>, open: &OpenFile, from: UserPtr<[i32; 2]>) -> Result<()> {
    let [kind, number] = from.read(ctx.user())?;
    let kind: fn(u32) -> SignalOwner = match kind {
        command::OWNER_TID => SignalOwner::Thread,
        command::OWNER_PID => SignalOwner::Process,
        command::OWNER_PGRP => SignalOwner::Group,
        _ => kbase::bail!(EINVAL, "unknown kind of owner"),
    };
    let Ok(number) = u32::try_from(number) else { kbase::bail!(ESRCH, "no such process or group") };
    open.signal_driven(ctx.kernel).set_owner(ctx, (number != 0).then(|| kind(number)))
}

/// The file of `memfd_create(2)` that an open file is.
fn memory_file(open: &OpenFile) -> Result<&fs::MemoryFile> {
    let file = open.regular().and_then(|file| file.as_any().downcast_ref::<fs::MemoryFile>());
    file.ok_or(Error::new(Errno::EINVAL, "not a file that can be sealed"))
}

/// F_ADD_SEALS.
fn add_seals(ctx: &Ctx<'_>, open: &OpenFile, seals: u32) -> Result<()> {
    let file = memory_file(open)?;
    if !open.is_writable() {
        kbase::bail!(EPERM, "the descriptor is not open for writing");
    }
    if seals & seal::WRITE != 0
        && file.seals() & (seal::SEAL | seal::WRITE) == 0
        && is_mapped_to_write(ctx, file)
    {
        kbase::bail!(EBUSY, "somebody has mapped it to write");
    }
    file.add_seals(seals)
}

/// Whether a process has a shared mapping of the file that can be written to.
fn is_mapped_to_write(ctx: &Ctx<'_>, file: &fs::MemoryFile) -> bool {
    let is_it = |vma: &Vma| match &vma.backing {
        Backing::File { file: of, .. } if vma.is_shared && vma.may_write => {
            core::ptr::addr_eq(Arc::as_ptr(&of.file), Arc::as_ptr(file.content()))
        }
        _ => false,
    };
    let processes = ctx.kernel.processes.all();
    processes.iter().any(|process| process.world().0.mappings().iter().any(|(_, vma)| is_it(vma)))
}

/// The lock that a `struct flock` asks for, with its type.
fn parse_lock(ctx: &Ctx<'_>, open: &OpenFile, cmd: u32, flock: &Flock) -> Result<(Lock, bool)> {
    let is_description = matches!(cmd, command::OFD_GETLK | command::OFD_SETLK | command::OFD_SETLKW);
    if is_description && flock.l_pid != 0 {
        kbase::bail!(EINVAL, "l_pid must be 0");
    }
    let owner = if is_description {
        LockOwner::Description(open.id())
    } else {
        LockOwner::Process { table: ctx.files.id(), pid: ctx.process.pid }
    };
    let base = match flock.l_whence {
        0 => 0,
        1 => open.take_position(ctx.platform()).get(),
        2 => open.file().metadata()?.size,
        _ => return Err(Error::new(Errno::EINVAL, "unknown whence")),
    };
    let overflow = Error::new(Errno::EOVERFLOW, "the range is too large");
    let start = i64::try_from(base).ok().and_then(|base| base.checked_add(flock.l_start)).ok_or(overflow)?;
    let (start, last) = match flock.l_len {
        0 => (start, None),
        len if len > 0 => (start, Some(start.checked_add(len - 1).ok_or(overflow)?)),
        len => (start.checked_add(len).ok_or(overflow)?, Some(start.saturating_sub(1))),
    };
    let start = u64::try_from(start).map_err(|_| Error::new(Errno::EINVAL, "the range begins before 0"))?;
    let last = last.map_or(u64::MAX, i64::cast_unsigned);
    let is_unlock = match flock.l_type {
        command::RDLCK | command::WRLCK => false,
        command::UNLCK => true,
        _ => return Err(Error::new(Errno::EINVAL, "unknown lock type")),
    };
    Ok((Lock { owner, is_exclusive: flock.l_type == command::WRLCK, start, last }, is_unlock))
}

fn get_lock(ctx: &Ctx<'_>, open: &OpenFile, cmd: u32, at: UserPtr<Flock>) -> Result<()> {
    let mut flock = at.read(ctx.user())?;
    let (wanted, is_unlock) = parse_lock(ctx, open, cmd, &flock)?;
    if is_unlock {
        kbase::bail!(EINVAL, "F_UNLCK is nothing to ask for");
    }
    match ctx.kernel.mounts.shared().locks.conflict(fs::file_id(open)?, &wanted) {
        None => flock.l_type = command::UNLCK,
        Some(held) => {
            flock.l_type = if held.is_exclusive { command::WRLCK } else { command::RDLCK };
            flock.l_whence = 0;
            flock.l_start = held.start.cast_signed();
            flock.l_len = match held.last {
                u64::MAX => 0,
                last => (last - held.start).cast_signed().saturating_add(1),
            };
            flock.l_pid = match held.owner {
                LockOwner::Process { pid, .. } => pid.cast_signed(),
                _ => -1,
            };
        }
    }
    at.write(ctx.user(), &flock)
}

fn set_lock(ctx: &Ctx<'_>, open: &OpenFile, cmd: u32, at: UserPtr<Flock>) -> Result<()> {
    let flock = at.read(ctx.user())?;
    let (wanted, is_unlock) = parse_lock(ctx, open, cmd, &flock)?;
    let locks = &ctx.kernel.mounts.shared().locks;
    let file = fs::file_id(open)?;
    if is_unlock {
        locks.release(file, &wanted);
        return Ok(());
    }
    if wanted.is_exclusive {
        open.want_write()?;
    } else {
        open.want_read()?;
    }
    take_lock(ctx, open, wanted, matches!(cmd, command::SETLKW | command::OFD_SETLKW), Errno::EAGAIN)
}

fn take_lock(ctx: &Ctx<'_>, open: &OpenFile, wanted: Lock, waits: bool, busy: Errno) -> Result<()> {
    let locks = &ctx.kernel.mounts.shared().locks;
    let file = fs::file_id(open)?;
    if !matches!(wanted.owner, LockOwner::Process { .. }) {
        open.note_locks();
    }
    if !waits {
        return locks.take(file, wanted).map_err(|_| Error::new(busy, "somebody else holds a lock"));
    }
    ctx.wait_until(locks.queue(), None, || locks.take(file, wanted).ok())?;
    Ok(())
}

/// `flock(2)`.
pub(super) fn flock(ctx: &Ctx<'_>, fd: Fd, operation: u32) -> Result<()> {
    const SHARED: u32 = 1;
    const EXCLUSIVE: u32 = 2;
    const NONBLOCKING: u32 = 4;
    const UNLOCK: u32 = 8;
    let open = ctx.files.get_file(fd)?;
    let owner = LockOwner::Whole(open.id());
    let is_exclusive = match operation & !NONBLOCKING {
        SHARED => false,
        EXCLUSIVE => true,
        UNLOCK => {
            let all = Lock { owner, is_exclusive: false, start: 0, last: u64::MAX };
            ctx.kernel.mounts.shared().locks.release(fs::file_id(&open)?, &all);
            return Ok(());
        }
        _ => return Err(Error::new(Errno::EINVAL, "unknown operation")),
    };
    let wanted = Lock { owner, is_exclusive, start: 0, last: u64::MAX };
    take_lock(ctx, &open, wanted, operation & NONBLOCKING == 0, Errno::EAGAIN)
}

fn is_socket(open: &OpenFile) -> bool {
    open.file().metadata().is_ok_and(|metadata| metadata.kind == FileType::Socket)
}

/// `ioctl(2)`: what every file has, then what the file says.
pub(super) fn ioctl(ctx: &Ctx<'_>, fd: Fd, cmd: u32, argument: UserAddr) -> Result<u64> {
    let open = ctx.files.get_file(fd)?;
    match cmd {
        request::FIOCLEX => ctx.files.set_close_on_exec(fd, true).map(|()| 0),
        request::FIONCLEX => ctx.files.set_close_on_exec(fd, false).map(|()| 0),
        request::FIONBIO => {
            let on = UserPtr::<i32>::new(argument).read(ctx.user())? != 0;
            open.set_nonblocking(on);
            Ok(0)
        }
        request::FIOASYNC => {
            let on = UserPtr::<i32>::new(argument).read(ctx.user())? != 0;
            open.set_fioasync(ctx, fd.0, on).map(|()| 0)
        }
        request::FIOSETOWN | request::SIOCSPGRP if is_socket(&open) => {
            let number = UserPtr::<i32>::new(argument).read(ctx.user())?;
            set_owner(ctx, &open, number).map(|()| 0)
        }
        request::FIOGETOWN | request::SIOCGPGRP if is_socket(&open) => {
            UserPtr::<i32>::new(argument).write(ctx.user(), &owner_number(&open)).map(|()| 0)
        }
        request::FIONREAD if open.regular().is_some() => {
            let size = open.file().metadata()?.size;
            let left = size.saturating_sub(open.take_position(ctx.platform()).get());
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            UserPtr::<i32>::new(argument).write(ctx.user(), &left).map(|()| 0)
        }
        _ if let Some(result) = fs::tty::ioctl(ctx, &open, cmd, argument) => result,
        request::TIOCGPGRP if open.file().is_terminal() => {
            let own = ctx.process.group.load(Ordering::Relaxed);
            let group = match ctx.kernel.mounts.shared().foreground.load(Ordering::Relaxed) {
                0 => own,
                group => group,
            };
            UserPtr::<u32>::new(argument).write(ctx.user(), &group).map(|()| 0)
        }
        request::TIOCSPGRP if open.file().is_terminal() => {
            let group = UserPtr::<u32>::new(argument).read(ctx.user())?;
            ctx.kernel.mounts.shared().foreground.store(group, Ordering::Relaxed);
            Ok(0)
        }
        request::TIOCGSID if open.file().is_terminal() => {
            let session = ctx.process.session.load(Ordering::Relaxed);
            UserPtr::<u32>::new(argument).write(ctx.user(), &session).map(|()| 0)
        }
        request::TIOCSCTTY | request::TIOCNOTTY if open.file().is_terminal() => Ok(0),
        _ => open.file().ioctl(cmd, argument, ctx.user()),
    }
}
