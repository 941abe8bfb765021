//! Attributes: `access(2)`, `chmod(2)`, `chown(2)`, `utimensat(2)` and their relatives.

use super::path::{Subject, at_flags};
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use kbase::{Errno, Error, Result, UserPtr};
use linux_abi::fs::AtFlags;
use linux_abi::time::{Timespec, Timeval};
use vfs::{FileType, SetAttributes, TimeChange};

const NS: i64 = 1_000_000_000;

/// `access(2)`.
pub(super) fn access(ctx: &Ctx<'_>, path: UserStr, mode: u32) -> Result<()> {
    faccessat2(ctx, DirFd::Cwd, path, mode, 0)
}

/// `faccessat(2)` of the kernel, which has no flags.
pub(super) fn faccessat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32) -> Result<()> {
    faccessat2(ctx, from, path, mode, 0)
}

/// `faccessat2(2)`. A process may read and write everything, as root may, and execute what has an execute bit.
pub(super) fn faccessat2(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32, flags: u32) -> Result<()> {
    const EXECUTE: u32 = 1;
    const WRITE: u32 = 2;
    if mode & !7 != 0 {
        kbase::bail!(EINVAL, "unknown mode");
    }
    // AT_EACCESS has the bit of AT_REMOVEDIR.
    let known = AtFlags::REMOVEDIR | AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let subject = Subject::new(ctx, from, path, at_flags(flags, known)?)?;
    let metadata = subject.metadata()?;
    let is_special = !matches!(metadata.kind, FileType::Regular | FileType::Directory | FileType::Symlink);
    if mode & WRITE != 0
        && !is_special
        && let Subject::Dentry(dentry) = &subject
    {
        dentry.want_write()?;
    }
    if mode & EXECUTE != 0 && metadata.kind != FileType::Directory && metadata.mode & 0o111 == 0 {
        kbase::bail!(EACCES, "the file has no execute permission");
    }
    Ok(())
}

/// Changes attributes of what a call names.
fn change(ctx: &Ctx<'_>, subject: &Subject, change: SetAttributes) -> Result<()> {
    let now = ctx.platform().realtime_ns().cast_signed();
    ctx.kernel.mounts.namespace().set_attributes(subject.dentry()?, change, now)
}

/// `chmod(2)`.
pub(super) fn chmod(ctx: &Ctx<'_>, path: UserStr, mode: u32) -> Result<()> {
    fchmodat2(ctx, DirFd::Cwd, path, mode, 0)
}

/// `fchmod(2)`.
pub(super) fn fchmod(ctx: &Ctx<'_>, fd: Fd, mode: u32) -> Result<()> {
    change(
        ctx,
        &Subject::of_fd(ctx, fd)?,
        SetAttributes { mode: Some(mode & 0o7777), ..SetAttributes::default() },
    )
}

/// `fchmodat(2)` of the kernel, which has no flags.
pub(super) fn fchmodat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32) -> Result<()> {
    fchmodat2(ctx, from, path, mode, 0)
}

/// `fchmodat2(2)`.
pub(super) fn fchmodat2(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32, flags: u32) -> Result<()> {
    let flags = at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let subject = Subject::new(ctx, from, path, flags)?;
    if subject.metadata()?.kind == FileType::Symlink {
        kbase::bail!(EOPNOTSUPP, "symbolic links have no permissions");
    }
    change(ctx, &subject, SetAttributes { mode: Some(mode & 0o7777), ..SetAttributes::default() })
}

/// The change of owners; -1 leaves one. A file that is not a directory loses its set-id bits.
fn owners(subject: &Subject, uid: u32, gid: u32) -> Result<SetAttributes> {
    let keep = |id: u32| (id != u32::MAX).then_some(id);
    let metadata = subject.metadata()?;
    let set_ids = if metadata.mode & 0o010 != 0 { 0o6000 } else { 0o4000 };
    let clears = metadata.kind != FileType::Directory && metadata.mode & set_ids != 0;
    let mode = clears.then_some(metadata.mode & !set_ids);
    Ok(SetAttributes { uid: keep(uid), gid: keep(gid), mode, ..SetAttributes::default() })
}

/// `chown(2)`.
pub(super) fn chown(ctx: &Ctx<'_>, path: UserStr, uid: u32, gid: u32) -> Result<()> {
    fchownat(ctx, DirFd::Cwd, path, uid, gid, 0)
}

/// `lchown(2)`.
pub(super) fn lchown(ctx: &Ctx<'_>, path: UserStr, uid: u32, gid: u32) -> Result<()> {
    fchownat(ctx, DirFd::Cwd, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW.bits())
}

/// `fchown(2)`.
pub(super) fn fchown(ctx: &Ctx<'_>, fd: Fd, uid: u32, gid: u32) -> Result<()> {
    let subject = Subject::of_fd(ctx, fd)?;
    change(ctx, &subject, owners(&subject, uid, gid)?)
}

/// `fchownat(2)`.
pub(super) fn fchownat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<()> {
    let flags = at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let subject = Subject::new(ctx, from, path, flags)?;
    change(ctx, &subject, owners(&subject, uid, gid)?)
}

/// A time of `utimensat(2)`: UTIME_OMIT, UTIME_NOW, or the time.
fn time_of(time: Timespec, now: i64) -> Result<Option<TimeChange>> {
    const UTIME_NOW: i64 = 0x3fff_ffff;
    const UTIME_OMIT: i64 = 0x3fff_fffe;
    match time.tv_nsec {
        UTIME_OMIT => Ok(None),
        UTIME_NOW => Ok(Some(TimeChange { at_ns: now })),
        ns if (0..NS).contains(&ns) => {
            Ok(Some(TimeChange { at_ns: time.tv_sec.saturating_mul(NS).saturating_add(ns) }))
        }
        _ => Err(Error::new(Errno::EINVAL, "the nanoseconds are out of range")),
    }
}

fn times(ctx: &Ctx<'_>, pair: Option<[Timespec; 2]>) -> Result<SetAttributes> {
    let now = ctx.platform().realtime_ns().cast_signed();
    let (atime, mtime) = match pair {
        None => (Some(TimeChange { at_ns: now }), Some(TimeChange { at_ns: now })),
        Some([atime, mtime]) => (time_of(atime, now)?, time_of(mtime, now)?),
    };
    Ok(SetAttributes { atime, mtime, ..SetAttributes::default() })
}

/// `utimensat(2)`; a null path means the descriptor.
pub(super) fn utimensat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    pair: UserPtr<[Timespec; 2]>,
    flags: u32,
) -> Result<()> {
    let flags = at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let pair = pair.non_null().map(|pair| pair.read(ctx.user())).transpose()?;
    let changes = times(ctx, pair)?;
    let subject = match from {
        DirFd::Fd(fd) if path.0.is_null() => Subject::of_fd(ctx, super::path::fd_of(fd)?)?,
        _ => Subject::new(ctx, from, path, flags)?,
    };
    if changes.atime.is_none() && changes.mtime.is_none() {
        return Ok(());
    }
    change(ctx, &subject, changes)
}

/// `futimesat(2)`.
pub(super) fn futimesat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    pair: UserPtr<[Timeval; 2]>,
) -> Result<()> {
    let to_timespec = |time: Timeval| match time.tv_usec {
        us if (0..1_000_000).contains(&us) => Ok(Timespec { tv_sec: time.tv_sec, tv_nsec: us * 1000 }),
        _ => Err(Error::new(Errno::EINVAL, "the microseconds are out of range")),
    };
    let pair = match pair.non_null() {
        Some(pair) => {
            let [atime, mtime] = pair.read(ctx.user())?;
            Some([to_timespec(atime)?, to_timespec(mtime)?])
        }
        None => None,
    };
    let changes = times(ctx, pair)?;
    let subject = match from {
        DirFd::Fd(fd) if path.0.is_null() => Subject::of_fd(ctx, super::path::fd_of(fd)?)?,
        _ => Subject::new(ctx, from, path, AtFlags::empty())?,
    };
    change(ctx, &subject, changes)
}

/// `utimes(2)`.
pub(super) fn utimes(ctx: &Ctx<'_>, path: UserStr, pair: UserPtr<[Timeval; 2]>) -> Result<()> {
    futimesat(ctx, DirFd::Cwd, path, pair)
}

/// `utime(2)`, with whole seconds.
pub(super) fn utime(ctx: &Ctx<'_>, path: UserStr, pair: UserPtr<[i64; 2]>) -> Result<()> {
    let pair = pair.non_null().map(|pair| pair.read(ctx.user())).transpose()?;
    let pair = pair.map(|pair| pair.map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 }));
    let subject = Subject::new(ctx, DirFd::Cwd, path, AtFlags::empty())?;
    change(ctx, &subject, times(ctx, pair)?)
}
