//! `stat(2)`, `statx(2)` and their relatives.

use super::path::{Subject, at_flags};
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use kbase::{Result, UserPtr};
use linux_abi::fs::{AtFlags, STATX_BASIC_STATS, STATX_MNT_ID, Stat, Statx, StatxTimestamp, major_minor};
use vfs::Metadata;

const NS: i64 = 1_000_000_000;

/// `stat(2)`.
pub(super) fn stat(ctx: &Ctx<'_>, path: UserStr, into: UserPtr<Stat>) -> Result<()> {
    newfstatat(ctx, DirFd::Cwd, path, into, 0)
}

/// `lstat(2)`.
pub(super) fn lstat(ctx: &Ctx<'_>, path: UserStr, into: UserPtr<Stat>) -> Result<()> {
    newfstatat(ctx, DirFd::Cwd, path, into, AtFlags::SYMLINK_NOFOLLOW.bits())
}

/// `fstat(2)`.
pub(super) fn fstat(ctx: &Ctx<'_>, fd: Fd, into: UserPtr<Stat>) -> Result<()> {
    let metadata = ctx.files.get(fd)?.file().metadata()?;
    into.write(ctx.user(), &wire(&metadata))
}

/// `fstatat(2)`.
pub(super) fn newfstatat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    into: UserPtr<Stat>,
    flags: u32,
) -> Result<()> {
    let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let flags = at_flags(flags, known)?;
    let metadata = Subject::to_stat(ctx, from, path, flags)?.metadata()?;
    into.write(ctx.user(), &wire(&metadata))
}

/// `statx(2)`.
pub(super) fn statx(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    flags: u32,
    mask: u32,
    into: UserPtr<Statx>,
) -> Result<()> {
    let sync = AtFlags::STATX_FORCE_SYNC | AtFlags::STATX_DONT_SYNC;
    let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH | sync;
    let flags = at_flags(flags, known)?;
    if flags.contains(sync) || mask & 0x8000_0000 != 0 {
        kbase::bail!(EINVAL, "contradicting flags, or the reserved bit of the mask");
    }
    let subject = Subject::to_stat(ctx, from, path, flags)?;
    let metadata = subject.metadata()?;
    let mount = match &subject {
        Subject::Dentry(dentry) => dentry.mount().map(|mount| mount.id()),
        Subject::Open(_) => None,
    };
    into.write(ctx.user(), &extended(&metadata, mount))
}

/// `struct stat` of attributes.
fn wire(metadata: &Metadata) -> Stat {
    Stat {
        st_dev: metadata.dev,
        st_ino: metadata.ino,
        st_nlink: metadata.nlink,
        st_mode: metadata.kind.mode_bits() | metadata.mode,
        st_uid: metadata.uid,
        st_gid: metadata.gid,
        st_rdev: metadata.rdev,
        st_size: metadata.size.cast_signed(),
        st_blksize: metadata.blksize.into(),
        st_blocks: metadata.blocks.cast_signed(),
        st_atime: metadata.atime_ns.div_euclid(NS),
        st_atime_nsec: metadata.atime_ns.rem_euclid(NS).unsigned_abs(),
        st_mtime: metadata.mtime_ns.div_euclid(NS),
        st_mtime_nsec: metadata.mtime_ns.rem_euclid(NS).unsigned_abs(),
        st_ctime: metadata.ctime_ns.div_euclid(NS),
        st_ctime_nsec: metadata.ctime_ns.rem_euclid(NS).unsigned_abs(),
        ..Stat::default()
    }
}

fn timestamp(ns: i64) -> StatxTimestamp {
    let nanoseconds = u32::try_from(ns.rem_euclid(NS)).unwrap_or_default();
    StatxTimestamp { tv_sec: ns.div_euclid(NS), tv_nsec: nanoseconds, _reserved: 0 }
}

/// `struct statx` of attributes.
fn extended(metadata: &Metadata, mount: Option<u64>) -> Statx {
    let mode = metadata.kind.mode_bits() | metadata.mode;
    let (rdev_major, rdev_minor) = major_minor(metadata.rdev);
    let (dev_major, dev_minor) = major_minor(metadata.dev);
    Statx {
        stx_mask: STATX_BASIC_STATS | if mount.is_some() { STATX_MNT_ID } else { 0 },
        stx_blksize: metadata.blksize,
        stx_nlink: u32::try_from(metadata.nlink).unwrap_or(u32::MAX),
        stx_uid: metadata.uid,
        stx_gid: metadata.gid,
        stx_mode: u16::try_from(mode & 0xffff).unwrap_or_default(),
        stx_ino: metadata.ino,
        stx_size: metadata.size,
        stx_blocks: metadata.blocks,
        stx_atime: timestamp(metadata.atime_ns),
        stx_ctime: timestamp(metadata.ctime_ns),
        stx_mtime: timestamp(metadata.mtime_ns),
        stx_rdev_major: rdev_major,
        stx_rdev_minor: rdev_minor,
        stx_dev_major: dev_major,
        stx_dev_minor: dev_minor,
        stx_mnt_id: mount.unwrap_or_default(),
        ..Statx::default()
    }
}
