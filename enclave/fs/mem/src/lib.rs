//! tmpfs: files in enclave memory.
//!
//! Content is pages that are shared until somebody writes: a reader takes a reference to a page under the lock and
//! copies after it, a writer changes a page in place only when nobody else has a reference. So no lock is held
//! over user memory, and a private mapping costs no copy.
//!
//! A file system can lie over another, read-only one ([`MemFs::over`]): that is the volatile layer of an image.
//!
//! Lock order: `Shared::renames`, then directories (two: lower address first), then the attributes of a node, then the
//! content of a file. Extended attributes are a leaf. The table of lower nodes is a leaf, and the lower file system is called under no lock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod content;
mod directory;
mod file;
mod inode;
mod lower;
mod space;
mod special;
mod xattr;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use directory::MemDirectory;
use inode::Common;
use kbase::Result;
use kbase::sync::Mutex;
use lower::{FIRST_OWN_INO, Lower};
use vfs::{Directory, FileSystem, PAGE_SIZE, Page, Regular, StatFs};

pub use file::MemFile;
pub use space::Space;

/// TMPFS_MAGIC of `statfs(2)`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Tells the time: nanoseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A file system in memory.
pub struct MemFs {
    shared: Arc<Shared>,
    root: Arc<MemDirectory>,
    type_name: &'static str,
}

impl MemFs {
    /// An empty file system with device number `dev` that holds at most `limit_bytes` of content.
    #[must_use]
    pub fn new(dev: u64, limit_bytes: u64, mode: u32, clock: Clock) -> Arc<Self> {
        Self::with_type("tmpfs", dev, Space::new(limit_bytes), mode, clock)
    }

    /// The same under another name for `/proc/mounts`, such as `devtmpfs`.
    #[must_use]
    pub fn with_type(
        type_name: &'static str,
        dev: u64,
        space: Arc<Space>,
        mode: u32,
        clock: Clock,
    ) -> Arc<Self> {
        Self::build(type_name, dev, space, mode, clock, None)
    }

    /// A file system that shows another, read-only one, and takes all changes to it into memory, as far as
    /// `space` goes.
    #[must_use]
    pub fn over(lower: Arc<dyn FileSystem>, dev: u64, space: Arc<Space>, clock: Clock) -> Arc<Self> {
        Self::build("overlay", dev, space, 0o755, clock, Some(Lower::new(lower)))
    }

    fn build(
        type_name: &'static str,
        dev: u64,
        space: Arc<Space>,
        mode: u32,
        clock: Clock,
        lower: Option<Lower>,
    ) -> Arc<Self> {
        let below = lower.as_ref().map(|lower| lower.fs.root());
        let shared = Arc::new(Shared {
            dev,
            clock,
            next_ino: AtomicU64::new(if lower.is_some() { FIRST_OWN_INO } else { 1 }),
            lower,
            space,
            nodes: AtomicU64::new(0),
            zeros: Arc::new([0; PAGE_SIZE]),
            renames: Mutex::default(),
        });
        let root = match below {
            Some(below) => {
                let metadata = below.metadata().ok();
                let common = match &metadata {
                    Some(metadata) => Common::of_lower(&shared, metadata),
                    None => Common::new(&shared, mode, 2),
                };
                MemDirectory::over(common, &below, None)
            }
            None => MemDirectory::new(&shared, mode, None),
        };
        Arc::new(Self { shared, root, type_name })
    }

    /// A regular file without a name (`memfd_create(2)`).
    #[must_use]
    pub fn unnamed_file(&self, mode: u32) -> Arc<dyn Regular> {
        MemFile::new(&self.shared, mode, 0)
    }
}

impl FileSystem for MemFs {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.root) as Arc<dyn Directory>
    }

    fn statfs(&self) -> Result<StatFs> {
        let limit = self.shared.space.limit();
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks: limit,
            free: self.shared.space.free(),
            files: limit,
            files_free: limit.saturating_sub(self.shared.nodes.load(Ordering::Relaxed)),
            read_only: false,
        })
    }
}

/// What all nodes of one file system share.
pub(crate) struct Shared {
    dev: u64,
    clock: Clock,
    next_ino: AtomicU64,
    space: Arc<Space>,
    nodes: AtomicU64,
    zeros: Arc<Page>,
    /// What shows through, if anything.
    lower: Option<Lower>,
    renames: Mutex<()>,
}

impl Shared {
    fn now(&self) -> i64 {
        (self.clock)()
    }

    fn zeros(&self) -> &Arc<Page> {
        &self.zeros
    }
}

#[cfg(test)]
mod lower_tests;
#[cfg(test)]
mod tests;
