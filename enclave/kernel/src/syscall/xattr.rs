//! Extended attributes: those that a file system has can be read.

use super::path::{PathAt, follow_unless};
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr};
use vfs::Inode;

/// `getxattr(2)`.
pub(super) fn getxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    into: UserAddr,
    size: usize,
) -> Result<usize> {
    by_path(ctx, path, false, |inode| get(ctx, inode, name, into, size))
}

/// `lgetxattr(2)`.
pub(super) fn lgetxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    into: UserAddr,
    size: usize,
) -> Result<usize> {
    by_path(ctx, path, true, |inode| get(ctx, inode, name, into, size))
}

/// `fgetxattr(2)`.
pub(super) fn fgetxattr(ctx: &Ctx<'_>, fd: Fd, name: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    by_fd(ctx, fd, |inode| get(ctx, inode, name, into, size))
}

/// `listxattr(2)`.
pub(super) fn listxattr(ctx: &Ctx<'_>, path: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    by_path(ctx, path, false, |inode| list(ctx, inode, into, size))
}

/// `llistxattr(2)`.
pub(super) fn llistxattr(ctx: &Ctx<'_>, path: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    by_path(ctx, path, true, |inode| list(ctx, inode, into, size))
}

/// `flistxattr(2)`.
pub(super) fn flistxattr(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, size: usize) -> Result<usize> {
    by_fd(ctx, fd, |inode| list(ctx, inode, into, size))
}

/// `setxattr(2)`: nothing here takes any.
pub(super) fn setxattr(ctx: &Ctx<'_>, path: UserStr, name: UserStr) -> Result<()> {
    by_path(ctx, path, false, |_| refuse(ctx, name))
}

/// `lsetxattr(2)`.
pub(super) fn lsetxattr(ctx: &Ctx<'_>, path: UserStr, name: UserStr) -> Result<()> {
    by_path(ctx, path, true, |_| refuse(ctx, name))
}

/// `fsetxattr(2)`.
pub(super) fn fsetxattr(ctx: &Ctx<'_>, fd: Fd, name: UserStr) -> Result<()> {
    by_fd(ctx, fd, |_| refuse(ctx, name))
}

fn refuse(ctx: &Ctx<'_>, name: UserStr) -> Result<()> {
    name_of(ctx, name)?;
    Err(Error::new(Errno::EOPNOTSUPP, "the file system takes no extended attributes"))
}

fn by_path<T>(
    ctx: &Ctx<'_>,
    path: UserStr,
    no_follow: bool,
    then: impl FnOnce(&dyn Inode) -> Result<T>,
) -> Result<T> {
    let at = PathAt::new(ctx, DirFd::Cwd, path)?;
    then(at.resolve(ctx, follow_unless(no_follow))?.node().inode())
}

fn by_fd<T>(ctx: &Ctx<'_>, fd: Fd, then: impl FnOnce(&dyn Inode) -> Result<T>) -> Result<T> {
    let open = ctx.files.get_file(fd)?;
    match open.file().node() {
        Some(node) => then(node.inode()),
        None => Err(Error::new(Errno::EOPNOTSUPP, "the file has no extended attributes")),
    }
}

fn name_of(ctx: &Ctx<'_>, name: UserStr) -> Result<Vec<u8>> {
    let range = |_| Error::new(Errno::ERANGE, "the name is too long");
    let name = ctx
        .user()
        .load_c_string(name.0, 255)
        .map_err(|error| if error.errno() == Errno::ENAMETOOLONG { range(error) } else { error })?;
    if name.is_empty() {
        kbase::bail!(ERANGE, "the name is empty");
    }
    Ok(name)
}

fn get(ctx: &Ctx<'_>, inode: &dyn Inode, name: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    give(ctx, &inode.xattr(&name_of(ctx, name)?)?, into, size)
}

fn list(ctx: &Ctx<'_>, inode: &dyn Inode, into: UserAddr, size: usize) -> Result<usize> {
    let mut names = Vec::new();
    for name in inode.xattrs()? {
        names.extend_from_slice(&name);
        names.push(0);
    }
    give(ctx, &names, into, size)
}

/// Copies a value out, or only says its size where the program asks with no room.
fn give(ctx: &Ctx<'_>, value: &[u8], into: UserAddr, size: usize) -> Result<usize> {
    if size != 0 {
        if value.len() > size {
            kbase::bail!(ERANGE, "the buffer is too small for the value");
        }
        ctx.user().store(into, value)?;
    }
    Ok(value.len())
}
