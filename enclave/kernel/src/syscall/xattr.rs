//! Extended attributes (`xattr(7)`): who may use which of them is decided here; the file system keeps them.

use super::open::check_zero_tail;
use super::path::{Subject, at_flags, fd_of, is_descriptor_itself};
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use crate::process::capability;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, bail};
use linux_abi::fs::AtFlags;
use vfs::{FileType, Inode, Node, XattrFlags, XattrSpace};

/// Bytes of a name (XATTR_NAME_MAX).
const NAME_MAX: usize = 255;
/// Bytes of a value (XATTR_SIZE_MAX), and of a list of names (XATTR_LIST_MAX).
const SIZE_MAX: usize = 65536;
/// The attribute that gives a program capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// What a call is about.
#[derive(Clone, Copy)]
enum Of {
    Path(UserStr),
    /// The symbolic link itself.
    Link(UserStr),
    Fd(Fd),
    At(DirFd, UserStr, AtFlags),
}

impl Of {
    fn find(self, ctx: &Ctx<'_>) -> Result<Subject> {
        match self {
            Self::Path(path) => Subject::new(ctx, DirFd::Cwd, path, AtFlags::empty()),
            Self::Link(path) => Subject::new(ctx, DirFd::Cwd, path, AtFlags::SYMLINK_NOFOLLOW),
            Self::Fd(fd) => Subject::of_fd(ctx, fd),
            // Unlike with other calls, one that is only a place (O_PATH) will not do.
            Self::At(DirFd::Fd(fd), path, flags) if is_descriptor_itself(ctx, path, flags)? => {
                Subject::of_fd(ctx, fd_of(fd)?)
            }
            Self::At(from, path, flags) => Subject::new(ctx, from, path, flags),
        }
    }
}

impl Of {
    /// The working directory without a path (AT_FDCWD, AT_EMPTY_PATH) is no descriptor to those that list or remove, on Linux.
    ///
    /// # Errors
    /// EBADF; EFAULT.
    fn check_descriptor(self, ctx: &Ctx<'_>) -> Result<()> {
        match self {
            Self::At(DirFd::Cwd, path, flags) if is_descriptor_itself(ctx, path, flags)? => {
                Err(Error::new(Errno::EBADF, "not a descriptor"))
            }
            _ => Ok(()),
        }
    }
}

/// `getxattr(2)`.
pub(super) fn getxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    into: UserAddr,
    size: usize,
) -> Result<usize> {
    get(ctx, Of::Path(path), name, into, size)
}

/// `lgetxattr(2)`.
pub(super) fn lgetxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    into: UserAddr,
    size: usize,
) -> Result<usize> {
    get(ctx, Of::Link(path), name, into, size)
}

/// `fgetxattr(2)`.
pub(super) fn fgetxattr(ctx: &Ctx<'_>, fd: Fd, name: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    get(ctx, Of::Fd(fd), name, into, size)
}

/// `listxattr(2)`.
pub(super) fn listxattr(ctx: &Ctx<'_>, path: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    list(ctx, Of::Path(path), into, size)
}

/// `llistxattr(2)`.
pub(super) fn llistxattr(ctx: &Ctx<'_>, path: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    list(ctx, Of::Link(path), into, size)
}

/// `flistxattr(2)`.
pub(super) fn flistxattr(ctx: &Ctx<'_>, fd: Fd, into: UserAddr, size: usize) -> Result<usize> {
    list(ctx, Of::Fd(fd), into, size)
}

/// `setxattr(2)`.
pub(super) fn setxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    value: UserAddr,
    size: usize,
    flags: u32,
) -> Result<()> {
    set(ctx, Of::Path(path), name, value, size, flags)
}

/// `lsetxattr(2)`.
pub(super) fn lsetxattr(
    ctx: &Ctx<'_>,
    path: UserStr,
    name: UserStr,
    value: UserAddr,
    size: usize,
    flags: u32,
) -> Result<()> {
    set(ctx, Of::Link(path), name, value, size, flags)
}

/// `fsetxattr(2)`.
pub(super) fn fsetxattr(
    ctx: &Ctx<'_>,
    fd: Fd,
    name: UserStr,
    value: UserAddr,
    size: usize,
    flags: u32,
) -> Result<()> {
    set(ctx, Of::Fd(fd), name, value, size, flags)
}

/// `removexattr(2)`.
pub(super) fn removexattr(ctx: &Ctx<'_>, path: UserStr, name: UserStr) -> Result<()> {
    remove(ctx, Of::Path(path), name)
}

/// `lremovexattr(2)`.
pub(super) fn lremovexattr(ctx: &Ctx<'_>, path: UserStr, name: UserStr) -> Result<()> {
    remove(ctx, Of::Link(path), name)
}

/// `fremovexattr(2)`.
pub(super) fn fremovexattr(ctx: &Ctx<'_>, fd: Fd, name: UserStr) -> Result<()> {
    remove(ctx, Of::Fd(fd), name)
}

/// `struct xattr_args`: where a value is, its size and, in the upper half, flags.
pub(super) type XattrArgs = [u64; 2];

fn read_args(ctx: &Ctx<'_>, at: UserPtr<XattrArgs>, size: usize) -> Result<(UserAddr, usize, u32)> {
    check_zero_tail(ctx, at.address(), size, size_of::<XattrArgs>())?;
    let [value, rest] = at.read(ctx.user())?;
    let [size, flags] = [rest & 0xffff_ffff, rest >> 32].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    Ok((UserAddr(value), usize::try_from(size).unwrap_or(usize::MAX), flags))
}

fn place(from: DirFd, path: UserStr, flags: u32) -> Result<Of> {
    Ok(Of::At(from, path, at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?))
}

/// `setxattrat(2)`.
pub(super) fn setxattrat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    at: u32,
    name: UserStr,
    args: UserPtr<XattrArgs>,
    len: usize,
) -> Result<()> {
    let (value, size, flags) = read_args(ctx, args, len)?;
    set(ctx, place(from, path, at)?, name, value, size, flags)
}

/// `getxattrat(2)`.
pub(super) fn getxattrat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    at: u32,
    name: UserStr,
    args: UserPtr<XattrArgs>,
    len: usize,
) -> Result<usize> {
    let (into, size, flags) = read_args(ctx, args, len)?;
    if flags != 0 {
        bail!(EINVAL, "no flags of what is read");
    }
    get(ctx, place(from, path, at)?, name, into, size)
}

/// `listxattrat(2)`.
pub(super) fn listxattrat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    at: u32,
    into: UserAddr,
    size: usize,
) -> Result<usize> {
    let place = place(from, path, at)?;
    place.check_descriptor(ctx)?;
    list(ctx, place, into, size)
}

/// `removexattrat(2)`.
pub(super) fn removexattrat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, at: u32, name: UserStr) -> Result<()> {
    let place = place(from, path, at)?;
    place.check_descriptor(ctx)?;
    remove(ctx, place, name)
}

fn get(ctx: &Ctx<'_>, of: Of, name: UserStr, into: UserAddr, size: usize) -> Result<usize> {
    let name = name_of(ctx, name)?;
    let subject = of.find(ctx)?;
    check_access(ctx, &subject, &name, Access::Read)?;
    let value = inode(&subject).ok_or_else(none_here)?.xattr(&name)?;
    give(ctx, &value, into, size)
}

fn list(ctx: &Ctx<'_>, of: Of, into: UserAddr, size: usize) -> Result<usize> {
    let subject = of.find(ctx)?;
    let mut names = Vec::new();
    for name in inode(&subject).map_or_else(|| Ok(Vec::new()), |inode| inode.xattrs())? {
        let is_hidden = matches!(XattrSpace::split(&name), Some((XattrSpace::Trusted, _)))
            && !ctx.process.credentials.is_capable(capability::SYS_ADMIN);
        if !is_hidden {
            names.extend_from_slice(&name);
            names.push(0);
        }
    }
    give(ctx, &names, into, size)
}

fn set(ctx: &Ctx<'_>, of: Of, name: UserStr, value: UserAddr, size: usize, flags: u32) -> Result<()> {
    let Some(flags) = XattrFlags::from_bits(flags) else { bail!(EINVAL, "unknown flag") };
    let name = name_of(ctx, name)?;
    if size > SIZE_MAX {
        bail!(E2BIG, "the value is longer than XATTR_SIZE_MAX");
    }
    let mut bytes = alloc::vec![0; size];
    // No value is a null pointer, too.
    if size > 0 {
        ctx.user().load(value, &mut bytes)?;
    }
    change(ctx, &of.find(ctx)?, &name, Some(&bytes), flags)
}

fn remove(ctx: &Ctx<'_>, of: Of, name: UserStr) -> Result<()> {
    let name = name_of(ctx, name)?;
    change(ctx, &of.find(ctx)?, &name, None, XattrFlags::REPLACE)
}

fn change(
    ctx: &Ctx<'_>,
    subject: &Subject,
    name: &[u8],
    value: Option<&[u8]>,
    flags: XattrFlags,
) -> Result<()> {
    if let Subject::Dentry(dentry) = subject {
        dentry.want_write()?;
    }
    if let Some(value) = value
        && name == CAPABILITY
        && !value.is_empty()
    {
        check_capabilities(value)?;
    }
    check_access(ctx, subject, name, Access::Write)?;
    match subject {
        Subject::Dentry(dentry) => ctx.kernel.mounts.namespace().set_xattr(dentry, name, value, flags),
        Subject::Open(_) => inode(subject).ok_or_else(none_here)?.set_xattr(name, value, flags),
    }
}

fn name_of(ctx: &Ctx<'_>, name: UserStr) -> Result<Vec<u8>> {
    let range = |_| Error::new(Errno::ERANGE, "the name is too long");
    let name = ctx
        .user()
        .load_c_string(name.0, NAME_MAX)
        .map_err(|error| if error.errno() == Errno::ENAMETOOLONG { range(error) } else { error })?;
    if name.is_empty() {
        bail!(ERANGE, "the name is empty");
    }
    Ok(name)
}

fn inode(subject: &Subject) -> Option<&dyn Inode> {
    match subject {
        Subject::Dentry(dentry) => Some(dentry.node().inode()),
        Subject::Open(open) => open.file().node().map(Node::inode),
    }
}

fn none_here() -> Error {
    Error::new(Errno::EOPNOTSUPP, "the file has no extended attributes")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Whether the caller may use an attribute of that name. Permissions of files are not asked, as for everything else.
///
/// # Errors
/// ENODATA (to read) or EPERM (to write) it may not.
fn check_access(ctx: &Ctx<'_>, subject: &Subject, name: &[u8], access: Access) -> Result<()> {
    let is_capable = |capability| ctx.process.credentials.is_capable(capability);
    let is_allowed = match XattrSpace::split(name) {
        // Elsewhere it would count for nobody: everyone may write to some devices and links.
        Some((XattrSpace::User, _)) => {
            matches!(subject.metadata()?.kind, FileType::Regular | FileType::Directory)
        }
        Some((XattrSpace::Trusted, _)) => is_capable(capability::SYS_ADMIN),
        Some((XattrSpace::Security, _)) if access == Access::Write => {
            is_capable(if name == CAPABILITY { capability::SETFCAP } else { capability::SYS_ADMIN })
        }
        _ => true,
    };
    match access {
        _ if is_allowed => Ok(()),
        Access::Read => Err(Error::new(Errno::ENODATA, "the attribute is not for this caller or file")),
        Access::Write => Err(Error::new(Errno::EPERM, "the attribute is not for this caller or file")),
    }
}

/// Fails unless a value is a `struct vfs_cap_data` of version 2 or 3.
fn check_capabilities(value: &[u8]) -> Result<()> {
    const FLAG_EFFECTIVE: u32 = 1;
    let version = value.first_chunk().map(|word| u32::from_le_bytes(*word) & !FLAG_EFFECTIVE);
    match (version, value.len()) {
        (Some(0x0200_0000), 20) | (Some(0x0300_0000), 24) => Ok(()),
        _ => bail!(EINVAL, "not the capabilities of a file"),
    }
}

/// Copies a value out, or only says its size where the program asks with no room.
fn give(ctx: &Ctx<'_>, value: &[u8], into: UserAddr, size: usize) -> Result<usize> {
    if size != 0 {
        if value.len() > size.min(SIZE_MAX) {
            if size >= SIZE_MAX {
                bail!(E2BIG, "more than can be told at once");
            }
            bail!(ERANGE, "the buffer is too small for the value");
        }
        ctx.user().store(into, value)?;
    }
    Ok(value.len())
}
