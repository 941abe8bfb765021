//! Symbolic links, devices, FIFOs and sockets.

use crate::Shared;
use crate::inode::Common;
use crate::xattr::inode_xattrs;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::Result;
use vfs::{FileType, Inode, Metadata, SetAttributes, Special, Symlink};

/// A symbolic link.
pub(crate) struct MemSymlink {
    pub(crate) common: Common,
    target: Vec<u8>,
    below: Option<Arc<dyn Symlink>>,
}

impl MemSymlink {
    pub(crate) fn new(shared: &Arc<Shared>, target: &[u8]) -> Arc<Self> {
        Arc::new(Self { common: Common::new(shared, 0o777, 1), target: target.to_vec(), below: None })
    }

    /// The link of the lower file system.
    pub(crate) fn over(common: Common, below: &Arc<dyn Symlink>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { common, target: below.target()?, below: Some(Arc::clone(below)) }))
    }

    fn inode_below(&self) -> Option<&dyn Inode> {
        self.below.as_deref().map(|below| below as &dyn Inode)
    }
}

impl Inode for MemSymlink {
    fn metadata(&self) -> Result<Metadata> {
        Ok(self.common.metadata(FileType::Symlink, 0, self.target.len() as u64, 0))
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        // Linux has no permission bits on symbolic links.
        self.common.set(&SetAttributes { mode: None, ..*change });
        Ok(())
    }

    inode_xattrs!();

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Symlink for MemSymlink {
    fn target(&self) -> Result<Vec<u8>> {
        Ok(self.target.clone())
    }
}

/// A device, FIFO or socket; what opening it means is the kernel's.
pub(crate) struct MemSpecial {
    pub(crate) common: Common,
    kind: FileType,
    rdev: u64,
    below: Option<Arc<dyn Special>>,
}

impl MemSpecial {
    pub(crate) fn new(shared: &Arc<Shared>, kind: FileType, rdev: u64, mode: u32) -> Arc<Self> {
        Arc::new(Self { common: Common::new(shared, mode, 1), kind, rdev, below: None })
    }

    /// The special file of the lower file system.
    pub(crate) fn over(common: Common, kind: FileType, rdev: u64, below: &Arc<dyn Special>) -> Arc<Self> {
        Arc::new(Self { common, kind, rdev, below: Some(Arc::clone(below)) })
    }

    fn inode_below(&self) -> Option<&dyn Inode> {
        self.below.as_deref().map(|below| below as &dyn Inode)
    }
}

impl Inode for MemSpecial {
    fn metadata(&self) -> Result<Metadata> {
        Ok(self.common.metadata(self.kind, self.rdev, 0, 0))
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.common.set(change);
        Ok(())
    }

    inode_xattrs!();

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Special for MemSpecial {}
