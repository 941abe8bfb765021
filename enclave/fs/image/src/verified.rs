//! Blocks that are what they were when the image was measured.

use alloc::sync::Arc;

use erofs_format::{
    BLOCK, BLOCK_U64, Digest, Footer, FormatError, Geometry, HASH_LEN, HASHES_PER_BLOCK, ImageRoot,
    hash_block,
};
use kbase::{Errno, Error, Result};
use vfs::Page;

use crate::cache::Cache;
use crate::source::BlockSource;
use crate::{CacheSize, ImageStats};

/// The image file, verified on read.
pub(crate) struct VerifiedBlocks {
    source: Arc<dyn BlockSource>,
    root: ImageRoot,
    geometry: Geometry,
    data: Cache,
    tree: Cache,
}

impl VerifiedBlocks {
    /// Checks the footer against the commitment. Blocks are checked when they are read.
    pub(crate) fn open(source: Arc<dyn BlockSource>, commitment: &Digest, cache: CacheSize) -> Result<Self> {
        let len = source.len();
        let mut footer = [0; BLOCK];
        let Some(at) = len.checked_sub(BLOCK_U64) else {
            source.report(format_args!("image: the file is too short: {len} bytes"));
            kbase::bail!(EIO, "the image file is too short");
        };
        source.read_at(at, &mut footer)?;
        let (root, geometry) = Footer::decode(&footer, len).map_err(|error| {
            source.report(format_args!("image: footer: {error}"));
            Error::new(Errno::EIO, "the image file has no right footer")
        })?;
        if root.commitment() != *commitment {
            source.report(format_args!("image: this is not the image that was measured"));
            kbase::bail!(EIO, "the image is not the measured one");
        }
        Ok(Self {
            source,
            root,
            geometry,
            data: Cache::new(cache.data_blocks),
            tree: Cache::new(cache.tree_blocks),
        })
    }

    /// Number of blocks that [`VerifiedBlocks::data`] has.
    pub(crate) fn data_blocks(&self) -> u64 {
        self.geometry.data_blocks()
    }

    /// Data block `block`.
    pub(crate) fn data(&self, block: u64) -> Result<Arc<Page>> {
        if let Some(page) = self.data.get(block) {
            return Ok(page);
        }
        if block >= self.data_blocks() {
            return Err(self.corrupt("block", block, FormatError::Corrupt("no such block")));
        }
        let page = self.read(block, 0, block)?;
        Ok(self.data.insert(block, page))
    }

    /// Reports an inconsistency and makes the error for it.
    pub(crate) fn corrupt(&self, what: &str, number: u64, error: FormatError) -> Error {
        self.source.report(format_args!("image: {what} {number}: {error}"));
        Error::new(Errno::EIO, "the image is corrupt")
    }

    pub(crate) fn stats(&self) -> ImageStats {
        ImageStats { data: self.data.stats(), tree: self.tree.stats() }
    }

    pub(crate) fn drop_caches(&self) {
        self.data.clear();
        self.tree.clear();
    }

    /// Reads block `block` of the file, whose hash is number `index` of tree level `level`.
    fn read(&self, block: u64, level: usize, index: u64) -> Result<Arc<Page>> {
        let expected = self.expected(level, index)?;
        let mut page: Arc<Page> = Arc::new([0; BLOCK]);
        let Some(bytes) = Arc::get_mut(&mut page) else { kbase::bail!(EIO, "a new page is shared") };
        let offset = block.checked_mul(BLOCK_U64).ok_or(Error::new(Errno::EIO, "block number too large"))?;
        self.source.read_at(offset, bytes)?;
        if hash_block(&self.root.salt, bytes) != expected {
            self.source.report(format_args!("image: block {block} does not match its hash"));
            kbase::bail!(EIO, "a block of the image does not match its hash");
        }
        Ok(page)
    }

    /// What hash number `index` of level `level` has to be. One call per level, so at most six deep.
    fn expected(&self, level: usize, index: u64) -> Result<Digest> {
        if level >= self.geometry.levels() {
            return match index {
                0 => Ok(self.root.root_hash),
                _ => Err(Error::new(Errno::EIO, "no such hash")),
            };
        }
        let (block, place) =
            self.geometry.hash_position(level, index).ok_or(Error::new(Errno::EIO, "no such hash"))?;
        let node = match self.tree.get(block) {
            Some(node) => node,
            None => {
                let node = self.read(block, level.saturating_add(1), index / HASHES_PER_BLOCK)?;
                self.tree.insert(block, node)
            }
        };
        node.get(place..)
            .and_then(|rest| rest.first_chunk::<HASH_LEN>())
            .copied()
            .ok_or(Error::new(Errno::EIO, "no such hash"))
    }
}
