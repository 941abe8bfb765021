//! Paths of system calls.

use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use crate::fs::Places;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use linux_abi::fs::AtFlags;
use vfs::{Dentry, Last, Name, WalkFlags};

/// Bytes of a path without its NUL.
const PATH_MAX: usize = 4095;

/// A path, copied in once, and where it starts.
pub(super) struct PathAt {
    pub(super) path: Vec<u8>,
    pub(super) places: Places,
}

impl PathAt {
    /// Copies a path in.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG; EBADF the path is relative and there is no such descriptor; ENOTDIR the path is relative and
    /// the descriptor is not of a directory.
    pub(super) fn new(ctx: &Ctx<'_>, from: DirFd, path: UserStr) -> Result<Self> {
        let path = ctx.user().load_c_string(path.0, PATH_MAX)?;
        let mut places = ctx.fs.places();
        if let DirFd::Fd(fd) = from
            && !path.is_empty()
            && path.first() != Some(&b'/')
        {
            places.directory = directory_of(ctx, fd)?;
        }
        Ok(Self { path, places })
    }

    /// What the path leads to.
    ///
    /// # Errors
    /// As [`vfs::Namespace::resolve`].
    pub(super) fn resolve(&self, ctx: &Ctx<'_>, flags: WalkFlags) -> Result<Arc<Dentry>> {
        ctx.kernel.mounts.namespace().resolve(self.places.start(), &self.path, flags)
    }

    /// The directory that holds, or would hold, the last component.
    ///
    /// # Errors
    /// As [`vfs::Namespace::resolve_parent`].
    pub(super) fn parent(&self, ctx: &Ctx<'_>) -> Result<(Arc<Dentry>, Last)> {
        ctx.kernel.mounts.namespace().resolve_parent(self.places.start(), &self.path)
    }

    /// The directory and the name for something new. `for_directory`: a trailing slash is allowed.
    ///
    /// # Errors
    /// EEXIST the path ends in `.`, `..` or is the root; ENOENT it ends in a slash and only directories may.
    pub(super) fn for_new(&self, ctx: &Ctx<'_>, for_directory: bool) -> Result<(Arc<Dentry>, Vec<u8>)> {
        match self.parent(ctx)? {
            (parent, Last::Name { name, is_directory }) => {
                if is_directory && !for_directory {
                    let child = ctx.kernel.mounts.namespace().child(&parent, Name::new(&name)?);
                    if child.is_ok() {
                        kbase::bail!(EEXIST, "the name exists");
                    }
                    kbase::bail!(ENOENT, "only a directory can end in a slash");
                }
                Ok((parent, name))
            }
            _ => Err(Error::new(Errno::EEXIST, "the path is a directory")),
        }
    }
}

/// The directory that a descriptor stands for.
fn directory_of(ctx: &Ctx<'_>, fd: i32) -> Result<Arc<Dentry>> {
    let open = ctx.files.get(fd_of(fd)?)?;
    match open.dentry() {
        Some(dentry) if dentry.node().as_directory().is_ok() => Ok(Arc::clone(dentry)),
        _ => Err(Error::new(Errno::ENOTDIR, "the descriptor is not of a directory")),
    }
}

/// A descriptor of a `dirfd` argument.
pub(super) fn fd_of(fd: i32) -> Result<Fd> {
    u32::try_from(fd).map(Fd).map_err(|_| Error::new(Errno::EBADF, "the descriptor is negative"))
}

/// What a `*at` call acts on: the end of a path, or with AT_EMPTY_PATH the descriptor itself.
pub(super) enum Subject {
    /// A place.
    Dentry(Arc<Dentry>),
    /// A file without a place (a pipe, a host stream).
    Open(Arc<crate::fs::OpenFile>),
}

impl Subject {
    /// Walks, or takes the descriptor.
    ///
    /// # Errors
    /// As [`PathAt::new`] and [`PathAt::resolve`].
    pub(super) fn new(ctx: &Ctx<'_>, from: DirFd, path: UserStr, flags: AtFlags) -> Result<Self> {
        Self::walk(ctx, from, path, flags, WalkFlags::empty())
    }

    /// The same, for who asks for its attributes, once.
    ///
    /// # Errors
    /// As that.
    pub(super) fn to_stat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, flags: AtFlags) -> Result<Self> {
        Self::walk(ctx, from, path, flags, WalkFlags::TO_STAT)
    }

    fn walk(ctx: &Ctx<'_>, from: DirFd, path: UserStr, flags: AtFlags, more: WalkFlags) -> Result<Self> {
        if is_descriptor_itself(ctx, path, flags)? {
            return match from {
                DirFd::Cwd => Ok(Self::Dentry(ctx.fs.places().directory)),
                DirFd::Fd(fd) => {
                    let open = ctx.files.get(fd_of(fd)?)?;
                    match open.dentry() {
                        Some(dentry) => Ok(Self::Dentry(Arc::clone(dentry))),
                        None => Ok(Self::Open(open)),
                    }
                }
            };
        }
        let walk = follow_unless(flags.contains(AtFlags::SYMLINK_NOFOLLOW)) | more;
        Ok(Self::Dentry(PathAt::new(ctx, from, path)?.resolve(ctx, walk)?))
    }

    /// What a descriptor that is more than a place (O_PATH) stands for.
    ///
    /// # Errors
    /// EBADF.
    pub(super) fn of_fd(ctx: &Ctx<'_>, fd: Fd) -> Result<Self> {
        let open = ctx.files.get_file(fd)?;
        Ok(match open.dentry() {
            Some(dentry) => Self::Dentry(Arc::clone(dentry)),
            None => Self::Open(open),
        })
    }

    /// The place, for changes that only files with one take.
    ///
    /// # Errors
    /// EROFS a file without a place cannot be changed.
    pub(super) fn dentry(&self) -> Result<&Arc<Dentry>> {
        match self {
            Self::Dentry(dentry) => Ok(dentry),
            Self::Open(open) => {
                open.dentry().ok_or(Error::new(Errno::EPERM, "the file has no place in a file system"))
            }
        }
    }

    /// The attributes.
    ///
    /// # Errors
    /// EIO.
    pub(super) fn metadata(&self) -> Result<vfs::Metadata> {
        match self {
            Self::Dentry(dentry) => dentry.node().inode().metadata(),
            Self::Open(open) => open.file().metadata(),
        }
    }
}

/// Whether a path is empty and may be so (AT_EMPTY_PATH).
///
/// # Errors
/// EFAULT.
pub(super) fn is_descriptor_itself(ctx: &Ctx<'_>, path: UserStr, flags: AtFlags) -> Result<bool> {
    // Linux 6.11 takes a null pointer for an empty path.
    Ok(flags.contains(AtFlags::EMPTY_PATH) && (path.0.is_null() || is_empty(ctx, path)?))
}

fn is_empty(ctx: &Ctx<'_>, path: UserStr) -> Result<bool> {
    let mut first = [0];
    ctx.user().load(path.0, &mut first)?;
    Ok(first == [0])
}

/// Whether to follow a symbolic link at the end.
pub(super) const fn follow_unless(no_follow: bool) -> WalkFlags {
    if no_follow { WalkFlags::empty() } else { WalkFlags::FOLLOW }
}

/// The `*at` flags of a call, of which it knows `known`.
///
/// # Errors
/// EINVAL.
pub(super) fn at_flags(raw: u32, known: AtFlags) -> Result<AtFlags> {
    match AtFlags::from_bits(raw) {
        Some(flags) if known.contains(flags) => Ok(flags),
        _ => Err(Error::new(Errno::EINVAL, "unknown flag")),
    }
}
