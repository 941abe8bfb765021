//! `inotify_init(2)`, `inotify_add_watch(2)`, `inotify_rm_watch(2)`.

use super::path::PathAt;
use super::pipe::flags_of;
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use crate::fs::{self, Instance};
use kbase::{Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use linux_abi::inotify::mask;
use vfs::{Node, WalkFlags};

/// `inotify_init(2)`.
pub(super) fn inotify_init(ctx: &Ctx<'_>) -> Result<Fd> {
    inotify_init1(ctx, 0)
}

/// `inotify_init1(2)`.
pub(super) fn inotify_init1(ctx: &Ctx<'_>, flags: u32) -> Result<Fd> {
    let flags = flags_of(flags, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)?;
    let open = fs::inotify(ctx.kernel.mounts.shared(), flags);
    ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC))
}

/// `inotify_add_watch(2)`.
pub(super) fn inotify_add_watch(ctx: &Ctx<'_>, fd: Fd, path: UserStr, wanted: u32) -> Result<i32> {
    if wanted & mask::ALL == 0
        || wanted & (mask::MASK_ADD | mask::MASK_CREATE) == mask::MASK_ADD | mask::MASK_CREATE
    {
        kbase::bail!(EINVAL, "no events, or flags that exclude each other");
    }
    let open = ctx.files.get_file(fd)?;
    let instance = open.file().as_any().downcast_ref::<Instance>();
    let instance = instance.ok_or(Error::new(Errno::EINVAL, "not an inotify descriptor"))?;
    let walk = if wanted & mask::DONT_FOLLOW != 0 { WalkFlags::empty() } else { WalkFlags::FOLLOW };
    let entry = PathAt::new(ctx, DirFd::Cwd, path)?.resolve(ctx, walk)?;
    if wanted & mask::ONLYDIR != 0 && !matches!(entry.node(), Node::Directory(_)) {
        kbase::bail!(ENOTDIR, "not a directory");
    }
    instance.watch(entry.node(), wanted)
}

/// `inotify_rm_watch(2)`.
pub(super) fn inotify_rm_watch(ctx: &Ctx<'_>, fd: Fd, descriptor: i32) -> Result<()> {
    let open = ctx.files.get_file(fd)?;
    let instance = open.file().as_any().downcast_ref::<Instance>();
    instance.ok_or(Error::new(Errno::EINVAL, "not an inotify descriptor"))?.unwatch(descriptor)
}
