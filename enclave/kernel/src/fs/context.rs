//! Working directory, root and umask.

use crate::kernel::Kernel;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::Result;
use kbase::sync::RwLock;
use vfs::{Dentry, Start, WalkFlags};

/// Working directory, root and umask of a process (shared with CLONE_FS).
pub(crate) struct FsContext {
    places: RwLock<Places>,
    umask: AtomicU32,
}

/// Where paths start.
#[derive(Clone)]
pub(crate) struct Places {
    /// What `/` means.
    pub(crate) root: Arc<Dentry>,
    /// What relative paths start from.
    pub(crate) directory: Arc<Dentry>,
}

impl Places {
    pub(crate) const fn start(&self) -> Start<'_> {
        Start { root: &self.root, directory: &self.directory }
    }
}

impl FsContext {
    /// A context with a working directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR as for `chdir(2)`.
    pub(crate) fn at(kernel: &Kernel, cwd: &[u8]) -> Result<Self> {
        let namespace = kernel.mounts.namespace();
        let root = namespace.root();
        let start = Start { root, directory: root };
        let directory = namespace.resolve(start, cwd, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
        let places = Places { root: Arc::clone(root), directory };
        Ok(Self { places: RwLock::new(places), umask: AtomicU32::new(0o022) })
    }

    /// A copy for a forked child.
    pub(crate) fn fork(&self) -> Self {
        Self { places: RwLock::new(self.places()), umask: AtomicU32::new(self.umask()) }
    }

    /// Root and working directory.
    pub(crate) fn places(&self) -> Places {
        self.places.read().clone()
    }

    /// Sets the working directory.
    pub(crate) fn set_directory(&self, directory: Arc<Dentry>) {
        let old = core::mem::replace(&mut self.places.write().directory, directory);
        drop(old);
    }

    /// Sets the root.
    pub(crate) fn set_root(&self, root: Arc<Dentry>) {
        let old = core::mem::replace(&mut self.places.write().root, root);
        drop(old);
    }

    /// The permission bits that new files do not get.
    pub(crate) fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets them and returns what they were.
    pub(crate) fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}
