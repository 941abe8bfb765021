//! hostfs: host folders, untrusted.
//!
//! Everything read here is the host's word: content, names, sizes and times. What is checked is what would harm the
//! kernel: names are names, types are types, lengths are bounded. A path is walked component by component, without
//! following symbolic links on the host, so a link leads where it points *in the enclave*.
//!
//! * [`location`]: where a node is, kept right over renames that go through the enclave.
//! * [`handle`]: host descriptors, a bounded number of which stay open.
//! * [`dirent`]: the parser of directory records.
//!
//! Lock order: the places of a location (parent before child), then the cache of handles. No lock is held over a
//! host call but `Location::handle`'s own, whose call is an open.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod dirent;
mod handle;
mod location;
mod node;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use handle::{Handle, OpenHandles};
use kbase::{Result, bail};
use linux_abi::fs::OpenFlags;
use location::Location;
use node::HostDirectory;
use platform::Platform;
use vfs::{Directory, FileSystem, StatFs};

/// V9FS_MAGIC of `statfs(2)`: files of another system.
const MAGIC: u64 = 0x0102_1997;

/// A host folder.
pub struct HostFs {
    shared: Arc<Shared>,
    root: Arc<Location>,
}

/// What the nodes of a mount share.
pub(crate) struct Shared {
    platform: Arc<dyn Platform>,
    dev: u64,
    read_only: bool,
    open: OpenHandles,
}

impl Shared {
    fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// Fails on a read-only mount.
    ///
    /// # Errors
    /// EROFS.
    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            bail!(EROFS, "the host folder is mounted read-only");
        }
        Ok(())
    }
}

impl HostFs {
    /// Mounts the folder at an absolute host path.
    ///
    /// # Errors
    /// What opening it says.
    pub fn open(platform: &Arc<dyn Platform>, path: &[u8], read_only: bool, dev: u64) -> Result<Arc<Self>> {
        let flags = OpenFlags::DIRECTORY.bits();
        let fd = platform.host_open_path(path, flags, 0)?;
        let handle = Arc::new(Handle::new(Arc::clone(platform), fd));
        let shared =
            Arc::new(Shared { platform: Arc::clone(platform), dev, read_only, open: OpenHandles::default() });
        Ok(Arc::new(Self { shared, root: Location::root(handle) }))
    }
}

impl FileSystem for HostFs {
    fn type_name(&self) -> &'static str {
        "hostfs"
    }

    fn is_cached(&self) -> bool {
        // The host changes its folders behind our back.
        false
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::new(HostDirectory::new(&self.shared, Arc::clone(&self.root)))
    }

    fn statfs(&self) -> Result<StatFs> {
        let handle = self.root.handle(&self.shared)?;
        let host = self.shared.platform.host_statfs(handle.fd())?;
        Ok(StatFs {
            magic: MAGIC,
            block_size: host.block_size,
            blocks: host.blocks,
            free: host.free,
            files: host.files,
            files_free: host.files_free,
            read_only: self.shared.read_only,
        })
    }
}
