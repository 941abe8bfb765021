//! Directories: `getdents64(2)`, `getcwd(2)`, `chdir(2)`, `mkdir(2)`, `rmdir(2)`, `chroot(2)`.

use super::path::PathAt;
use super::{DirFd, Fd, UserStr};
use crate::{Ctx, fs};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr};
use vfs::{Create, Dentry, DirectoryEntry, FileType, Last, Name, WalkFlags};

/// Entries that are asked of a file system at once.
const BATCH: usize = 128;

/// Positions of a directory: 0 before `.`, 1 before `..`, then the cursor of the file system plus this.
const FIRST_CURSOR: u64 = 2;

/// How an entry is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`: the type is before the name.
    New,
}

/// `getdents(2)`.
pub(super) fn getdents(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, count: u32) -> Result<usize> {
    list(ctx, fd, into, count, Format::Old)
}

/// `getdents64(2)`.
pub(super) fn getdents64(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, count: u32) -> Result<usize> {
    list(ctx, fd, into, count, Format::New)
}

fn list(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, count: u32, format: Format) -> Result<usize> {
    let open = ctx.files.get_file(fd)?;
    open.directory()?;
    let dentry = open.dentry().ok_or(Error::new(Errno::ENOTDIR, "the directory has no place"))?;
    if dentry.is_deleted() {
        kbase::bail!(ENOENT, "the directory was removed");
    }
    let room = usize::try_from(count).unwrap_or_default();
    let position = open.take_position(ctx.platform());
    let mut records = Vec::new();
    let mut at = position.get();
    'full: loop {
        let entries = entries_from(ctx, dentry, at)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            if records.len() + record_len(entry.name.len()) > room {
                if records.is_empty() {
                    kbase::bail!(EINVAL, "the buffer is too small for one entry");
                }
                break 'full;
            }
            at = entry.next;
            write_record(&mut records, &entry, format);
        }
        // Do not ask for another batch that will hardly fit.
        if records.len() + 64 > room {
            break;
        }
    }
    ctx.user().store(into, &records)?;
    position.set(at);
    Ok(records.len())
}

/// The entries at a position, `.` and `..` first; `next` is the position after each.
fn entries_from(ctx: &Ctx<'_>, dentry: &Arc<Dentry>, position: u64) -> Result<Vec<DirectoryEntry>> {
    let ino = |dentry: &Dentry| dentry.node().inode().metadata().map(|m| m.ino);
    let kind = FileType::Directory;
    match position {
        0 => Ok(alloc::vec![DirectoryEntry { name: b".".to_vec(), ino: ino(dentry)?, kind, next: 1 }]),
        1 => {
            let root = ctx.fs.places().root;
            let parent = dentry.parent().filter(|_| !Arc::ptr_eq(dentry, &root));
            let ino = ino(parent.as_ref().unwrap_or(dentry))?;
            Ok(alloc::vec![DirectoryEntry { name: b"..".to_vec(), ino, kind, next: FIRST_CURSOR }])
        }
        cursor => {
            let namespace = ctx.kernel.mounts.namespace();
            let mut entries = namespace.entries(dentry, cursor - FIRST_CURSOR, BATCH)?;
            for entry in &mut entries {
                entry.next = entry.next.saturating_add(FIRST_CURSOR);
            }
            Ok(entries)
        }
    }
}

/// Bytes of a record: two numbers, a length, the type and the name with its NUL, in whole words.
const fn record_len(name: usize) -> usize {
    (8 + 8 + 2 + 1 + name + 1).next_multiple_of(8)
}

fn write_record(into: &mut Vec<u8>, entry: &DirectoryEntry, format: Format) {
    let start = into.len();
    let len = record_len(entry.name.len());
    into.extend_from_slice(&entry.ino.to_le_bytes());
    into.extend_from_slice(&entry.next.to_le_bytes());
    into.extend_from_slice(&u16::try_from(len).unwrap_or_default().to_le_bytes());
    if format == Format::New {
        into.push(entry.kind.d_type());
    }
    into.extend_from_slice(&entry.name);
    into.resize(start + len, 0);
    if format == Format::Old
        && let Some(last) = into.last_mut()
    {
        *last = entry.kind.d_type();
    }
}

/// `getcwd(2)`: the length with the NUL.
pub(super) fn getcwd(ctx: &Ctx<'_>, into: UserAddr, size: usize) -> Result<usize> {
    let places = ctx.fs.places();
    let name = places.directory.path_from(&places.root);
    if name.is_deleted {
        kbase::bail!(ENOENT, "the working directory was removed");
    }
    let mut path = if name.is_unreachable { b"(unreachable)".to_vec() } else { Vec::new() };
    path.extend_from_slice(&name.path);
    path.push(0);
    if path.len() > size {
        kbase::bail!(ERANGE, "the buffer is too small for the path");
    }
    ctx.user().store(into, &path)?;
    Ok(path.len())
}

/// `chdir(2)`.
pub(super) fn chdir(ctx: &Ctx<'_>, path: UserStr) -> Result<()> {
    let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    ctx.fs.set_directory(PathAt::new(ctx, DirFd::Cwd, path)?.resolve(ctx, flags)?);
    Ok(())
}

/// `fchdir(2)`.
pub(super) fn fchdir(ctx: &Ctx<'_>, fd: Fd) -> Result<()> {
    let open = ctx.files.get(fd)?;
    open.directory()?;
    let dentry = open.dentry().ok_or(Error::new(Errno::ENOTDIR, "the directory has no place"))?;
    ctx.fs.set_directory(Arc::clone(dentry));
    Ok(())
}

/// `chroot(2)`.
pub(super) fn chroot(ctx: &Ctx<'_>, path: UserStr) -> Result<()> {
    let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    ctx.fs.set_root(PathAt::new(ctx, DirFd::Cwd, path)?.resolve(ctx, flags)?);
    Ok(())
}

/// `mount(2)`, `umount2(2)`, `pivot_root(2)`: what is mounted is measured and stays.
pub(super) fn mount(_ctx: &Ctx<'_>) -> Result<()> {
    Err(Error::new(Errno::EPERM, "the mounts are fixed when the enclave is built"))
}

/// `umask(2)`.
pub(super) fn umask(ctx: &Ctx<'_>, mask: u32) -> Result<u32> {
    Ok(ctx.fs.set_umask(mask))
}

/// `mkdir(2)`.
pub(super) fn mkdir(ctx: &Ctx<'_>, path: UserStr, mode: u32) -> Result<()> {
    mkdirat(ctx, DirFd::Cwd, path, mode)
}

/// `mkdirat(2)`.
pub(super) fn mkdirat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32) -> Result<()> {
    let (parent, name) = PathAt::new(ctx, from, path)?.for_new(ctx, true)?;
    let mode = mode & 0o1777 & !ctx.fs.umask();
    let now = ctx.platform().realtime_ns().cast_signed();
    let namespace = ctx.kernel.mounts.namespace();
    let made = namespace.create(&parent, Name::new(&name)?, Create::Directory, mode, now)?;
    fs::give_owner(ctx, &made)
}

/// `rmdir(2)`.
pub(super) fn rmdir(ctx: &Ctx<'_>, path: UserStr) -> Result<()> {
    remove_directory(ctx, DirFd::Cwd, path)
}

/// `rmdir(2)` and `unlinkat(2)` with AT_REMOVEDIR.
pub(super) fn remove_directory(ctx: &Ctx<'_>, from: DirFd, path: UserStr) -> Result<()> {
    match PathAt::new(ctx, from, path)?.parent(ctx)? {
        (parent, Last::Name { name, .. }) => {
            ctx.kernel.mounts.namespace().unlink(&parent, Name::new(&name)?, true)
        }
        (_, Last::Dot) => Err(Error::new(Errno::EINVAL, "the path ends in a dot")),
        (_, Last::DotDot) => Err(Error::new(Errno::ENOTEMPTY, "a parent is not empty")),
        (_, Last::Root) => Err(Error::new(Errno::EBUSY, "the root cannot be removed")),
    }
}
