//! hostfs: host folders, untrusted.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use kbase::{Errno, Error, Result};
use platform::Platform;
use vfs::{Directory, FileSystem, StatFs};

/// A host folder.
pub struct HostFs {}

impl HostFs {
    /// Mounts the folder at an absolute host path.
    ///
    /// # Errors
    /// What opening it says.
    pub fn open(
        _platform: &Arc<dyn Platform>,
        _path: &[u8],
        _read_only: bool,
        _dev: u64,
    ) -> Result<Arc<Self>> {
        Err(Error::new(Errno::ENOSYS, "host folders come later"))
    }
}

impl FileSystem for HostFs {
    fn type_name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Directory> {
        unreachable!("a host folder is never mounted")
    }

    fn statfs(&self) -> Result<StatFs> {
        Err(Error::new(Errno::ENOSYS, "host folders come later"))
    }
}
