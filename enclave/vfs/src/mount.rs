//! Mounts, and the directories that exist only to carry them.

use crate::{Directory, DirectoryEntry, FileSystem, FileType, Inode, Metadata, Name, Node, StatFs};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::{Errno, Error, Result};

/// How a file system is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// What `/proc/mounts` shows in its first column.
    pub source: String,
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// Device files are not opened.
    pub no_dev: bool,
    /// Nothing is executed.
    pub no_exec: bool,
}

/// A file system at its place in a namespace.
pub struct Mount {
    id: u64,
    fs: Arc<dyn FileSystem>,
    options: MountOptions,
    read_only: bool,
    is_cached: bool,
}

impl Mount {
    pub(crate) fn new(id: u64, fs: Arc<dyn FileSystem>, options: MountOptions) -> Arc<Self> {
        let read_only = options.read_only || fs.statfs().is_ok_and(|s| s.read_only);
        let is_cached = fs.is_cached();
        Arc::new(Self { id, fs, options, read_only, is_cached })
    }

    /// A number that no other mount of the namespace has.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The file system.
    #[must_use]
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// How it is mounted.
    #[must_use]
    pub const fn options(&self) -> &MountOptions {
        &self.options
    }

    /// Whether changes are refused, by the mount or by the file system.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether what a lookup said may be remembered.
    pub(crate) const fn is_cached(&self) -> bool {
        self.is_cached
    }

    /// Space, with the read-only state of the mount.
    ///
    /// # Errors
    /// EIO.
    pub fn statfs(&self) -> Result<StatFs> {
        let mut statfs = self.fs.statfs()?;
        statfs.read_only |= self.read_only;
        Ok(statfs)
    }

    /// Fails when nothing can be changed here.
    ///
    /// # Errors
    /// EROFS.
    pub fn want_write(&self) -> Result<()> {
        if self.read_only {
            kbase::bail!(EROFS, "the mount is read-only");
        }
        Ok(())
    }
}

/// A directory on the way to a mount point that its file system does not have: empty and unchangeable.
pub(crate) struct Phantom {
    metadata: Metadata,
}

impl Phantom {
    pub(crate) fn node(dev: u64, ino: u64) -> Node {
        Node::Directory(Arc::new(Self {
            metadata: Metadata {
                dev,
                ino,
                kind: FileType::Directory,
                mode: 0o755,
                nlink: 2,
                uid: 0,
                gid: 0,
                rdev: 0,
                size: 0,
                blocks: 0,
                blksize: 4096,
                atime_ns: 0,
                mtime_ns: 0,
                ctime_ns: 0,
            },
        }))
    }
}

impl Inode for Phantom {
    fn metadata(&self) -> Result<Metadata> {
        Ok(self.metadata)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for Phantom {
    fn lookup(&self, _name: Name<'_>) -> Result<Node> {
        Err(Error::new(Errno::ENOENT, "only mounts are here"))
    }

    fn entries(&self, _cursor: u64, _max: usize) -> Result<Vec<DirectoryEntry>> {
        Ok(Vec::new())
    }
}
