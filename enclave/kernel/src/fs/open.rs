//! `open(2)`.

use super::{OpenFile, Places, device};
use crate::Ctx;
use alloc::sync::Arc;
use kbase::{Errno, Error, Result};
use linux_abi::fs::{O_ACCMODE, OpenFlags};
use linux_abi::inotify::mask;
use vfs::{Create, Dentry, File, FileType, Metadata, Name, Node, NodeFile, Opened, SetAttributes, WalkFlags};

/// How to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenHow {
    /// O_* flags.
    pub(crate) flags: OpenFlags,
    /// Permission bits of a new file, umask applied.
    pub(crate) mode: u32,
    /// RESOLVE_* flags of `openat2(2)`.
    pub(crate) resolve: WalkFlags,
}

impl OpenHow {
    fn has(&self, flag: OpenFlags) -> bool {
        self.flags.contains(flag)
    }

    fn wants_write(&self) -> bool {
        matches!(self.flags.bits() & O_ACCMODE, 1 | 2) || self.has(OpenFlags::TRUNC)
    }
}

/// Opens what is at `path`.
///
/// # Errors
/// Those of `open(2)`: EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENXIO, EROFS, EOPNOTSUPP.
pub(crate) fn open(ctx: &Ctx<'_>, places: &Places, path: &[u8], how: OpenHow) -> Result<Arc<OpenFile>> {
    let kernel = ctx.kernel;
    let mut how = how;
    if how.has(OpenFlags::PATH) {
        let kept = OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::PATH | OpenFlags::CLOEXEC;
        how.flags &= kept;
    }
    if how.has(OpenFlags::TMPFILE) {
        return open_unnamed(ctx, places, path, how);
    }
    if how.has(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        kbase::bail!(EINVAL, "O_CREAT with O_DIRECTORY");
    }
    let is_exclusive = how.has(OpenFlags::CREAT | OpenFlags::EXCL);
    let follows = !how.has(OpenFlags::NOFOLLOW) && !is_exclusive;
    let mut walk = how.resolve;
    walk.set(WalkFlags::FOLLOW, follows);
    let opens_file = !is_exclusive && !how.flags.intersects(OpenFlags::PATH | OpenFlags::DIRECTORY);
    walk.set(WalkFlags::TO_OPEN, opens_file);
    let namespace = kernel.mounts.namespace();
    if how.has(OpenFlags::CREAT) {
        return match namespace.resolve_create(places.start(), path, walk)? {
            Opened::Existing(_) if is_exclusive => Err(Error::new(Errno::EEXIST, "the file exists")),
            Opened::Existing(dentry) => open_dentry(ctx, &dentry, how),
            Opened::Missing { parent, name } => create(ctx, &parent, &name, how),
        };
    }
    open_dentry(ctx, &namespace.resolve(places.start(), path, walk)?, how)
}

/// Opens an entry that exists.
///
/// # Errors
/// As [`open`], except for those of the walk.
pub(crate) fn open_dentry(ctx: &Ctx<'_>, dentry: &Arc<Dentry>, how: OpenHow) -> Result<Arc<OpenFile>> {
    let node = dentry.node();
    let shared = ctx.kernel.mounts.shared();
    if how.has(OpenFlags::DIRECTORY) {
        node.as_directory()?;
    }
    if how.has(OpenFlags::PATH) {
        let file = NodeFile::new(node.clone());
        return Ok(OpenFile::new(shared, file, Some(Arc::clone(dentry)), how.flags));
    }
    let file: Arc<dyn File> = match node {
        Node::Symlink(_) => kbase::bail!(ELOOP, "a symbolic link may not be followed here"),
        Node::Directory(_) => {
            if how.wants_write() || how.has(OpenFlags::CREAT) {
                kbase::bail!(EISDIR, "a directory cannot be opened for writing");
            }
            NodeFile::new(node.clone())
        }
        Node::Regular(regular) => {
            if how.wants_write() {
                dentry.want_write()?;
            }
            if let Some(opened) = regular.open(how.wants_write())? {
                return open_dentry(ctx, &dentry.opened(Node::Regular(opened)), how);
            }
            if how.has(OpenFlags::TRUNC) {
                regular.truncate(0)?;
                shared.windows.after_change(&**regular, &(0..u64::MAX));
            }
            NodeFile::new(node.clone())
        }
        Node::Special(special) => match special.open()? {
            Some(file) => file,
            None => {
                let is_fifo = special.metadata()?.kind == FileType::Fifo;
                if !is_fifo && dentry.mount().is_some_and(|mount| mount.options().no_dev) {
                    kbase::bail!(EACCES, "the mount has nodev");
                }
                open_special(ctx, &special.metadata()?, how.flags)?
            }
        },
    };
    shared.watches.tell_entry(dentry, mask::OPEN);
    if how.has(OpenFlags::TRUNC) && matches!(node, Node::Regular(_)) {
        shared.watches.tell_entry(dentry, mask::MODIFY);
    }
    Ok(OpenFile::new(shared, file, Some(Arc::clone(dentry)), how.flags))
}

/// Opens a special file that its file system leaves to the kernel.
fn open_special(ctx: &Ctx<'_>, metadata: &Metadata, flags: OpenFlags) -> Result<Arc<dyn File>> {
    match metadata.kind {
        FileType::Fifo => {
            let mounts = &ctx.kernel.mounts;
            mounts.fifos().open(mounts.shared(), metadata, flags)
        }
        FileType::CharDevice | FileType::BlockDevice => device::open(ctx, metadata, flags),
        _ => Err(Error::new(Errno::ENXIO, "a socket is connected to, not opened")),
    }
}

/// Creates a regular file and opens it.
fn create(ctx: &Ctx<'_>, parent: &Arc<Dentry>, name: &[u8], how: OpenHow) -> Result<Arc<OpenFile>> {
    let kernel = ctx.kernel;
    let namespace = kernel.mounts.namespace();
    let name = Name::new(name)?;
    let now = kernel.platform().realtime_ns().cast_signed();
    match namespace.create(parent, name, Create::Regular, how.mode, now) {
        Ok(dentry) => {
            give_owner(ctx, &dentry)?;
            let file = NodeFile::new(dentry.node().clone());
            kernel.mounts.shared().watches.tell_entry(&dentry, mask::OPEN);
            Ok(OpenFile::new(kernel.mounts.shared(), file, Some(dentry), how.flags))
        }
        // Somebody was faster.
        Err(error) if error.errno() == Errno::EEXIST && !how.has(OpenFlags::EXCL) => {
            open_dentry(ctx, &namespace.child(parent, name)?, how)
        }
        Err(error) => Err(error),
    }
}

/// Makes the caller the owner of what it created: its file systems make everything root's.
///
/// # Errors
/// EIO.
pub(crate) fn give_owner(ctx: &Ctx<'_>, created: &Arc<Dentry>) -> Result<()> {
    let credentials = &ctx.process.credentials;
    let (uid, gid) = (credentials.users.effective(), credentials.groups.effective());
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let now = ctx.platform().realtime_ns().cast_signed();
    let owner = SetAttributes { uid: Some(uid), gid: Some(gid), ..SetAttributes::default() };
    ctx.kernel.mounts.namespace().set_attributes(created, owner, now)
}

/// O_TMPFILE.
fn open_unnamed(ctx: &Ctx<'_>, places: &Places, path: &[u8], how: OpenHow) -> Result<Arc<OpenFile>> {
    let kernel = ctx.kernel;
    let is_write = matches!(how.flags.bits() & O_ACCMODE, 1 | 2);
    if !how.has(OpenFlags::DIRECTORY) || how.has(OpenFlags::CREAT) || !is_write {
        kbase::bail!(EINVAL, "O_TMPFILE wants write access and no O_CREAT");
    }
    let walk = how.resolve | WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let parent = kernel.mounts.namespace().resolve(places.start(), path, walk)?;
    parent.want_write()?;
    let directory = parent.node().as_directory()?;
    let now = kernel.platform().realtime_ns().cast_signed();
    let node = directory.create_unnamed(how.mode, now)?;
    let ino = node.inode().metadata()?.ino;
    let name = alloc::format!("#{ino}");
    let dentry = Dentry::anonymous(node.clone(), parent.mount().cloned(), name.as_bytes());
    give_owner(ctx, &dentry)?;
    Ok(OpenFile::new(kernel.mounts.shared(), NodeFile::new(node), Some(dentry), how.flags))
}
