//! The read-only image file system, verified block by block.
//!
//! The image file lies with the host. Every block is copied into the enclave, hashed, compared with the hash
//! tree, which leads to the measured commitment, and only then looked at; verified blocks are cached. A block
//! that does not match is EIO and a line in the log, never data. What is verified is still parsed as if it
//! were hostile: the worst a wrong image can do is to be an error.
//!
//! Layers, each knowing only those before it: [`BlockSource`] (bytes of the host), `verified` (blocks that are
//! right), `volume` (inodes and their pages), `node` (what the kernel sees).
//!
//! Lock order: a shard of a cache is a leaf; no lock is held while a block is read, hashed or copied to a
//! [`kbase::ByteSink`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod cache;
mod directory;
mod node;
mod source;
mod verified;
mod volume;

use alloc::sync::Arc;

use erofs_format::{BLOCK_U64, FileType};
use kbase::{Errno, Error, Result};
use vfs::{Directory, FileSystem, StatFs};

use crate::node::ImageDirectory;
use crate::volume::Volume;

pub use cache::CacheStats;
pub use source::{BlockSource, PlatformSource};

/// EROFS_SUPER_MAGIC_V1 of `statfs(2)`.
const EROFS_MAGIC: u64 = 0xe0f5_e1e2;

/// How much of the image stays in the enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Blocks of data and metadata, at least 1.
    pub data_blocks: usize,
    /// Blocks of the hash tree, at least 1; one covers 512 KiB of data.
    pub tree_blocks: usize,
}

impl Default for CacheSize {
    /// 64 MiB of data, and the tree of 512 MiB.
    fn default() -> Self {
        Self { data_blocks: 16_384, tree_blocks: 1024 }
    }
}

/// What the caches did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageStats {
    /// Of data and metadata.
    pub data: CacheStats,
    /// Of the hash tree.
    pub tree: CacheStats,
}

/// A mounted image.
pub struct ImageFs {
    volume: Arc<Volume>,
    root: Arc<ImageDirectory>,
}

impl ImageFs {
    /// Mounts the image in `source` if its footer has the measured `commitment`. `dev` is the device number that
    /// `stat(2)` shows.
    ///
    /// # Errors
    /// EIO the source cannot be read, is not an image, or does not match the commitment.
    pub fn open(
        source: Arc<dyn BlockSource>,
        commitment: &[u8; 32],
        cache: CacheSize,
        dev: u64,
    ) -> Result<Arc<Self>> {
        let volume = Arc::new(Volume::open(source, commitment, cache, dev)?);
        let root = volume.inode(volume.root_nid())?;
        if root.inode.file_type() != Some(FileType::Directory) {
            return Err(Error::new(Errno::EIO, "the image's root is not a directory"));
        }
        let root = ImageDirectory::new(&volume, root);
        Ok(Arc::new(Self { volume, root }))
    }

    /// What the caches did so far.
    #[must_use]
    pub fn stats(&self) -> ImageStats {
        self.volume.stats()
    }

    /// Forgets all cached blocks. Pages that somebody holds stay with them.
    pub fn drop_caches(&self) {
        self.volume.drop_caches();
    }
}

impl FileSystem for ImageFs {
    fn type_name(&self) -> &'static str {
        "erofs"
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.root) as Arc<dyn Directory>
    }

    fn statfs(&self) -> Result<StatFs> {
        let superblock = self.volume.superblock();
        Ok(StatFs {
            magic: EROFS_MAGIC,
            block_size: BLOCK_U64,
            blocks: superblock.blocks.into(),
            free: 0,
            files: superblock.inodes,
            files_free: 0,
            read_only: true,
        })
    }
}

#[cfg(test)]
mod tests;
