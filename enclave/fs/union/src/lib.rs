//! A writable file system (the upper one) over one that never changes (the lower one), as overlayfs of Linux.
//!
//! A name is looked up in the upper directory first; what is not there is the lower's. Directories of both merge.
//! Whatever is changed is copied up before, its directories first, and everything that has to be remembered is an
//! ordinary node of the upper file system:
//!
//! * A *whiteout*, a character device 0:0, hides the lower's entry of its name. Programs can neither see nor make
//!   such a device here (`mknod(2)`: EPERM).
//! * An *opaque* directory hides all of the lower's entries. It holds a whiteout named `.wh..opq`.
//! * `.wh..new` and `.wh..old` are names for the time of one change; what an interruption left there is removed
//!   when the next change in that directory needs the name.
//!
//! Those three names do not exist for programs: looking one up is ENOENT, making one is EINVAL.
//!
//! The upper file system needs unnamed files that can be linked (`O_TMPFILE`), and links and renames that are
//! atomic. A regular file is copied up into an unnamed file, without any lock, since the lower's cannot change; giving
//! it its name and making it the file for everybody who has it open is one step under the lock of its directory. A copy
//! that fails has no name and is gone.
//!
//! What differs from one file system: a directory that the lower has cannot be renamed (EXDEV, `mv` then
//! copies); names that are hard links of each other in the lower are separate files once one is copied up;
//! extended attributes are not copied up.
//!
//! Inode numbers: what came from the lower has the lower's number, also as a copy, unless it had several names
//! there. What is the upper's has the upper's plus 2^40. That a copy came from the lower is known as long as the
//! file system is mounted.
//!
//! Lock order: `Shared::tree` (removal and renaming of directories), then `children` of directories, of several only
//! under `tree`, then `Shared::origins` and the upper file system. Under `children` the upper file system is
//! called, never the lower one, which may have to wait for the host. Only names are changed there, never content; an
//! upper file system that waits for the host to do so lets others who want the same directory spin.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod change;
mod children;
mod copy;
mod directory;
mod leaf;
mod list;
mod marks;
mod rename;

use alloc::sync::Arc;
use directory::UnionDirectory;
use hashbrown::HashMap;
use kbase::Result;
use kbase::sync::Mutex;
use vfs::{Directory, FileSystem, StatFs};

/// OVERLAYFS_SUPER_MAGIC of `statfs(2)`.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// Added to inode numbers of the upper file system.
const UPPER_INO: u64 = 1 << 40;

/// A union of two file systems.
pub struct UnionFs {
    shared: Arc<Shared>,
    root: Arc<UnionDirectory>,
}

impl UnionFs {
    /// Shows `upper` over `lower` with device number `dev`. Nobody else may change either of them from now on. When
    /// `upper` is empty its root takes over the attributes of the root of `lower`.
    ///
    /// # Errors
    /// EIO one of the roots cannot be read; what changing attributes in `upper` says.
    pub fn new(lower: &Arc<dyn FileSystem>, upper: &Arc<dyn FileSystem>, dev: u64) -> Result<Arc<Self>> {
        let (lower_root, upper_root) = (lower.root(), upper.root());
        if upper_root.entries(0, 1)?.is_empty() {
            upper_root.set_attributes(&copy::attributes(&lower_root.metadata()?))?;
        }
        let shared = Arc::new(Shared {
            dev,
            upper: Arc::clone(upper),
            upper_root: Arc::clone(&upper_root),
            tree: Mutex::default(),
            origins: Mutex::default(),
        });
        let root = UnionDirectory::of_upper(&shared, upper_root, Some(lower_root))?;
        Ok(Arc::new(Self { shared, root }))
    }
}

impl FileSystem for UnionFs {
    fn type_name(&self) -> &'static str {
        "overlay"
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.root) as Arc<dyn Directory>
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: OVERLAYFS_MAGIC, ..self.shared.upper.statfs()? })
    }

    fn sync(&self) -> Result<()> {
        self.shared.upper.sync()
    }
}

/// What all nodes of one union share.
pub(crate) struct Shared {
    dev: u64,
    upper: Arc<dyn FileSystem>,
    upper_root: Arc<dyn Directory>,
    /// Held by whoever holds the `children` of more than one directory.
    tree: Mutex<()>,
    /// The number to show for files of the upper that were copied up, by the number that the upper has for them.
    origins: Mutex<HashMap<u64, u64>>,
}

impl Shared {
    /// The inode number to show for a node of the upper file system.
    fn ino_of_upper(&self, ino: u64) -> u64 {
        self.origins.lock().get(&ino).copied().unwrap_or(ino.wrapping_add(UPPER_INO))
    }
}

#[cfg(test)]
mod tests;
