//! Sizes and durability: `truncate(2)`, `fallocate(2)`, `fsync(2)`, `statfs(2)`, advice.

use super::path::PathAt;
use super::{DirFd, Fd, UserStr};
use crate::{Ctx, fs};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result, UserPtr};
use linux_abi::fs::Statfs;
use linux_abi::inotify::mask;
use vfs::{Mount, Node, Regular, WalkFlags};

/// `truncate(2)`.
pub(super) fn truncate(ctx: &Ctx<'_>, path: UserStr, size: i64) -> Result<()> {
    let size = size_of(size)?;
    let dentry = PathAt::new(ctx, DirFd::Cwd, path)?.resolve(ctx, WalkFlags::FOLLOW)?;
    match dentry.node() {
        Node::Regular(file) => {
            dentry.want_write()?;
            set_size(ctx, &**file, size)?;
            ctx.kernel.mounts.shared().watches.tell_entry(&dentry, mask::MODIFY);
            Ok(())
        }
        Node::Directory(_) => Err(Error::new(Errno::EISDIR, "a directory has no size to set")),
        _ => Err(Error::new(Errno::EINVAL, "only regular files have a size to set")),
    }
}

/// `ftruncate(2)`.
pub(super) fn ftruncate(ctx: &Ctx<'_>, fd: Fd, size: i64) -> Result<()> {
    let size = size_of(size)?;
    let open = ctx.files.get_file(fd)?;
    match open.regular() {
        Some(file) if open.is_writable() => {
            set_size(ctx, &**file, size)?;
            open.tell_watchers(mask::MODIFY);
            Ok(())
        }
        _ => Err(Error::new(Errno::EINVAL, "not a regular file open for writing")),
    }
}

/// Sets the size; where the file is mapped, what is behind its end goes.
fn set_size(ctx: &Ctx<'_>, file: &dyn Regular, size: u64) -> Result<()> {
    fs::check_size(ctx, file, size)?;
    let windows = &ctx.kernel.memory.windows;
    windows.before_access(file, &(size..u64::MAX));
    file.truncate(size)?;
    windows.after_change(file, &(size..u64::MAX));
    Ok(())
}

fn size_of(size: i64) -> Result<u64> {
    u64::try_from(size).map_err(|_| Error::new(Errno::EINVAL, "the size is negative"))
}

/// `fallocate(2)`: reserving, punching holes and zeroing.
pub(super) fn fallocate(ctx: &Ctx<'_>, fd: Fd, mode: u32, offset: i64, len: i64) -> Result<()> {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const ZERO_RANGE: u32 = 16;
    let open = ctx.files.get_file(fd)?;
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        kbase::bail!(EINVAL, "the range is negative");
    };
    if len == 0 {
        kbase::bail!(EINVAL, "the range is empty");
    }
    open.want_write()?;
    let Some(file) = open.regular() else {
        return Err(match open.file().node() {
            Some(Node::Directory(_)) => Error::new(Errno::EISDIR, "a directory has no space to reserve"),
            Some(_) => Error::new(Errno::ENODEV, "not a regular file"),
            None => Error::new(Errno::ESPIPE, "not a regular file"),
        });
    };
    let keep_size = mode & KEEP_SIZE != 0;
    if !keep_size {
        fs::check_size(ctx, &**file, offset.saturating_add(len))?;
    }
    let windows = &ctx.kernel.memory.windows;
    let range = offset..offset.saturating_add(len);
    windows.before_access(&**file, &range);
    match mode & !KEEP_SIZE {
        0 => file.allocate(offset, len, keep_size),
        PUNCH_HOLE if keep_size => file.deallocate(offset, len),
        ZERO_RANGE => {
            file.deallocate(offset, len)?;
            file.allocate(offset, len, keep_size)
        }
        _ => Err(Error::new(Errno::EOPNOTSUPP, "unknown mode")),
    }?;
    windows.after_change(&**file, &range);
    Ok(())
}

/// `fsync(2)`.
pub(super) fn fsync(ctx: &Ctx<'_>, fd: Fd) -> Result<()> {
    sync_file(ctx, fd, false)
}

/// `fdatasync(2)`.
pub(super) fn fdatasync(ctx: &Ctx<'_>, fd: Fd) -> Result<()> {
    sync_file(ctx, fd, true)
}

fn sync_file(ctx: &Ctx<'_>, fd: Fd, data_only: bool) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    match open.file().node() {
        Some(Node::Regular(file)) => file.sync(data_only),
        Some(Node::Directory(directory)) => directory.sync(),
        _ => Err(Error::new(Errno::EINVAL, "the file cannot be made durable")),
    }
}

/// `sync(2)`, which cannot fail.
pub(super) fn sync(ctx: &Ctx<'_>) -> Result<()> {
    let _ = ctx.kernel.mounts.namespace().sync();
    Ok(())
}

/// `syncfs(2)`.
pub(super) fn syncfs(ctx: &Ctx<'_>, fd: Fd) -> Result<()> {
    match mount_of(ctx, fd)? {
        Some(mount) => mount.fs().sync(),
        None => Ok(()),
    }
}

/// `sync_file_range(2)`: writing back is the file system's own business, so it makes all data durable.
pub(super) fn sync_file_range(ctx: &Ctx<'_>, fd: Fd, offset: i64, len: i64, flags: u32) -> Result<()> {
    if offset < 0 || len < 0 || flags & !7 != 0 {
        kbase::bail!(EINVAL, "a negative range, or an unknown flag");
    }
    let open = ctx.files.get_file(fd)?;
    match open.file().node() {
        Some(Node::Regular(file)) => file.sync(true),
        Some(Node::Directory(_)) => Ok(()),
        _ => Err(Error::new(Errno::ESPIPE, "the file has no range")),
    }
}

/// `cachestat(2)`: pages of a file in memory (tmpfs, memfd) that are there. None of them waits to be written anywhere. Of another file
/// it is not known here who keeps which pages.
pub(super) fn cachestat(
    ctx: &Ctx<'_>,
    fd: Fd,
    range: UserPtr<[u64; 2]>,
    into: UserPtr<[u64; 5]>,
    flags: u32,
) -> Result<()> {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let open = ctx.files.get_file(fd)?;
    let [start, len] = range.read(ctx.user())?;
    if flags != 0 {
        kbase::bail!(EINVAL, "no flags are known");
    }
    let pages = match open.regular() {
        None => 0,
        Some(file) => {
            let mount = open.dentry().and_then(|dentry| dentry.mount());
            if mount.is_some_and(|mount| mount.statfs().map_or(true, |statfs| statfs.magic != TMPFS_MAGIC)) {
                kbase::bail!(EOPNOTSUPP, "not a file in memory");
            }
            let end = if len == 0 { u64::MAX } else { start.saturating_add(len) };
            pages_within(&**file, start, end)?
        }
    };
    into.write(ctx.user(), &[pages, 0, 0, 0, 0])
}

/// Pages with data that a range of a file touches.
fn pages_within(file: &dyn Regular, start: u64, end: u64) -> Result<u64> {
    const PAGE: u64 = 4096;
    let (mut at, end) = (start - start % PAGE, end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX));
    let mut pages = 0u64;
    while at < end {
        let data = match file.seek_data(at) {
            Ok(data) if data < end => data,
            Err(error) if error.errno() != Errno::ENXIO => return Err(error),
            _ => break,
        };
        let hole = file.seek_hole(data)?.min(end);
        pages = pages.saturating_add(hole.div_ceil(PAGE).saturating_sub(data / PAGE));
        at = hole.max(data.saturating_add(1));
    }
    Ok(pages)
}

fn mount_of(ctx: &Ctx<'_>, fd: Fd) -> Result<Option<Arc<Mount>>> {
    Ok(ctx.files.get(fd)?.dentry().and_then(|dentry| dentry.mount().cloned()))
}

/// `statfs(2)`.
pub(super) fn statfs(ctx: &Ctx<'_>, path: UserStr, into: UserPtr<Statfs>) -> Result<()> {
    let dentry = PathAt::new(ctx, DirFd::Cwd, path)?.resolve(ctx, WalkFlags::FOLLOW)?;
    into.write(ctx.user(), &wire(dentry.mount())?)
}

/// `fstatfs(2)`.
pub(super) fn fstatfs(ctx: &Ctx<'_>, fd: Fd, into: UserPtr<Statfs>) -> Result<()> {
    let mount = mount_of(ctx, fd)?;
    into.write(ctx.user(), &wire(mount.as_ref())?)
}

fn wire(mount: Option<&Arc<Mount>>) -> Result<Statfs> {
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    const ST_RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let Some(mount) = mount else {
        return Ok(Statfs {
            f_type: PIPEFS_MAGIC,
            f_bsize: 4096,
            f_frsize: 4096,
            f_namelen: 255,
            ..Statfs::default()
        });
    };
    let statfs = mount.statfs()?;
    Ok(Statfs {
        f_type: statfs.magic,
        f_bsize: statfs.block_size,
        f_blocks: statfs.blocks,
        f_bfree: statfs.free,
        f_bavail: statfs.free,
        f_files: statfs.files,
        f_ffree: statfs.files_free,
        f_fsid: [u32::try_from(mount.id()).unwrap_or_default(), 0],
        f_namelen: 255,
        f_frsize: statfs.block_size,
        f_flags: ST_VALID | if statfs.read_only { ST_RDONLY } else { 0 },
        ..Statfs::default()
    })
}

/// `fadvise64(2)`: checked, and otherwise only advice.
pub(super) fn fadvise64(ctx: &Ctx<'_>, fd: Fd, _offset: i64, len: i64, advice: u32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    if open.file().node().is_none() {
        kbase::bail!(ESPIPE, "the file cannot seek");
    }
    if len < 0 || advice > 5 {
        kbase::bail!(EINVAL, "unknown advice, or a negative length");
    }
    Ok(())
}

/// `readahead(2)`: only advice.
pub(super) fn readahead(ctx: &Ctx<'_>, fd: Fd, _offset: i64, _count: usize) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    open.want_read()?;
    if open.regular().is_none() {
        kbase::bail!(EINVAL, "not a regular file");
    }
    Ok(())
}
