//! Names: `link(2)`, `symlink(2)`, `readlink(2)`, `rename(2)`, `unlink(2)`, `mknod(2)`.

use super::path::{PathAt, Subject, at_flags};
use super::{DirFd, UserStr, dir};
use crate::{Ctx, fs};
use kbase::{Errno, Error, Result, UserAddr};
use linux_abi::fs::AtFlags;
use vfs::{Create, FileType, Last, Name, Node, WalkFlags};

/// `unlink(2)`.
pub(super) fn unlink(ctx: &Ctx<'_>, path: UserStr) -> Result<()> {
    unlinkat(ctx, DirFd::Cwd, path, 0)
}

/// `unlinkat(2)`.
pub(super) fn unlinkat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, flags: u32) -> Result<()> {
    if at_flags(flags, AtFlags::REMOVEDIR)?.contains(AtFlags::REMOVEDIR) {
        return dir::remove_directory(ctx, from, path);
    }
    let namespace = ctx.kernel.mounts.namespace();
    match PathAt::new(ctx, from, path)?.parent(ctx)? {
        (parent, Last::Name { name, is_directory }) => {
            let name = Name::new(&name)?;
            if is_directory {
                // A slash after the name: it can be no file.
                let child = namespace.child(&parent, name)?;
                child.node().as_directory()?;
                kbase::bail!(EISDIR, "the name is a directory");
            }
            namespace.unlink(&parent, name, false)
        }
        _ => Err(Error::new(Errno::EISDIR, "the path is a directory")),
    }
}

/// `rename(2)`.
pub(super) fn rename(ctx: &Ctx<'_>, from: UserStr, to: UserStr) -> Result<()> {
    renameat2(ctx, DirFd::Cwd, from, DirFd::Cwd, to, 0)
}

/// `renameat(2)`.
pub(super) fn renameat(
    ctx: &Ctx<'_>,
    from_dir: DirFd,
    from: UserStr,
    to_dir: DirFd,
    to: UserStr,
) -> Result<()> {
    renameat2(ctx, from_dir, from, to_dir, to, 0)
}

/// `renameat2(2)` without RENAME_EXCHANGE and RENAME_WHITEOUT.
pub(super) fn renameat2(
    ctx: &Ctx<'_>,
    from_dir: DirFd,
    from: UserStr,
    to_dir: DirFd,
    to: UserStr,
    flags: u32,
) -> Result<()> {
    const NOREPLACE: u32 = 1;
    if flags & !NOREPLACE != 0 {
        kbase::bail!(EINVAL, "this file system does not exchange");
    }
    let namespace = ctx.kernel.mounts.namespace();
    let from = PathAt::new(ctx, from_dir, from)?.parent(ctx)?;
    let to = PathAt::new(ctx, to_dir, to)?.parent(ctx)?;
    if !vfs::same_mount(&from.0, &to.0) {
        kbase::bail!(EXDEV, "a rename cannot cross mounts");
    }
    let (
        (from_parent, Last::Name { name: from_name, is_directory: from_slash }),
        (to_parent, Last::Name { name: to_name, is_directory: to_slash }),
    ) = (from, to)
    else {
        kbase::bail!(EBUSY, "a path ends in a dot or is the root");
    };
    let from_name = Name::new(&from_name)?;
    let source = namespace.child(&from_parent, from_name)?;
    let to_name = Name::new(&to_name)?;
    if from_slash || to_slash {
        source.node().as_directory()?;
    }
    namespace.rename(&from_parent, from_name, &to_parent, to_name, flags & NOREPLACE != 0)
}

/// `link(2)`.
pub(super) fn link(ctx: &Ctx<'_>, from: UserStr, to: UserStr) -> Result<()> {
    linkat(ctx, DirFd::Cwd, from, DirFd::Cwd, to, 0)
}

/// `linkat(2)`.
pub(super) fn linkat(
    ctx: &Ctx<'_>,
    from_dir: DirFd,
    from: UserStr,
    to_dir: DirFd,
    to: UserStr,
    flags: u32,
) -> Result<()> {
    let mut flags = at_flags(flags, AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH)?;
    flags.set(AtFlags::SYMLINK_NOFOLLOW, !flags.contains(AtFlags::SYMLINK_FOLLOW));
    let subject = Subject::new(ctx, from_dir, from, flags)?;
    let target = subject.dentry().map_err(|_| Error::new(Errno::EXDEV, "the file has no place"))?;
    let (parent, name) = PathAt::new(ctx, to_dir, to)?.for_new(ctx, false)?;
    ctx.kernel.mounts.namespace().link(target, &parent, Name::new(&name)?)
}

/// `symlink(2)`.
pub(super) fn symlink(ctx: &Ctx<'_>, target: UserStr, path: UserStr) -> Result<()> {
    symlinkat(ctx, target, DirFd::Cwd, path)
}

/// `symlinkat(2)`.
pub(super) fn symlinkat(ctx: &Ctx<'_>, target: UserStr, from: DirFd, path: UserStr) -> Result<()> {
    let target = ctx.user().load_c_string(target.0, 4095)?;
    if target.is_empty() {
        kbase::bail!(ENOENT, "the target is empty");
    }
    let (parent, name) = PathAt::new(ctx, from, path)?.for_new(ctx, false)?;
    let now = ctx.platform().realtime_ns().cast_signed();
    let namespace = ctx.kernel.mounts.namespace();
    let made = namespace.create(&parent, Name::new(&name)?, Create::Symlink(&target), 0o777, now)?;
    fs::give_owner(ctx, &made)
}

/// `readlink(2)`.
pub(super) fn readlink(ctx: &Ctx<'_>, path: UserStr, into: UserAddr, size: u32) -> Result<usize> {
    readlinkat(ctx, DirFd::Cwd, path, into, size)
}

/// `readlinkat(2)`: an empty path means the descriptor, which O_PATH | O_NOFOLLOW may have opened on a link.
pub(super) fn readlinkat(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    into: UserAddr,
    size: u32,
) -> Result<usize> {
    let size = usize::try_from(size.cast_signed()).unwrap_or_default();
    if size == 0 {
        kbase::bail!(EINVAL, "the buffer has no bytes");
    }
    let at = PathAt::new(ctx, from, path)?;
    let dentry = match from {
        DirFd::Fd(_) if at.path.is_empty() => {
            let subject = Subject::new(ctx, from, path, AtFlags::EMPTY_PATH)?;
            let dentry = subject.dentry().ok().cloned();
            dentry
                .filter(|dentry| matches!(dentry.node(), Node::Symlink(_)))
                .ok_or(Error::new(Errno::ENOENT, "the descriptor is not of a symbolic link"))?
        }
        _ => at.resolve(ctx, WalkFlags::empty())?,
    };
    let Node::Symlink(link) = dentry.node() else {
        kbase::bail!(EINVAL, "not a symbolic link");
    };
    let target = link.target()?;
    let shown = target.get(..size.min(target.len())).unwrap_or_default();
    ctx.user().store(into, shown)?;
    Ok(shown.len())
}

/// `mknod(2)`.
pub(super) fn mknod(ctx: &Ctx<'_>, path: UserStr, mode: u32, dev: u32) -> Result<()> {
    mknodat(ctx, DirFd::Cwd, path, mode, dev)
}

/// `mknodat(2)`. Devices can be made, and open if the kernel has them.
pub(super) fn mknodat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, mode: u32, dev: u32) -> Result<()> {
    let kind = match mode & 0o170_000 {
        0 => FileType::Regular,
        _ => FileType::from_mode(mode).ok_or(Error::new(Errno::EINVAL, "unknown type"))?,
    };
    let what = match kind {
        FileType::Regular => Create::Regular,
        FileType::Fifo | FileType::Socket => Create::Special(kind),
        FileType::CharDevice | FileType::BlockDevice => {
            // The argument has the kernel's 32-bit encoding.
            let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00));
            Create::Device(kind, linux_abi::fs::make_dev(major, minor))
        }
        FileType::Directory => kbase::bail!(EPERM, "directories are made by mkdir"),
        FileType::Symlink | FileType::Anonymous => kbase::bail!(EINVAL, "no type that mknod makes"),
    };
    let (parent, name) = PathAt::new(ctx, from, path)?.for_new(ctx, false)?;
    let mode = mode & 0o7777 & !ctx.fs.umask();
    let now = ctx.platform().realtime_ns().cast_signed();
    let made = ctx.kernel.mounts.namespace().create(&parent, Name::new(&name)?, what, mode, now)?;
    fs::give_owner(ctx, &made)
}
