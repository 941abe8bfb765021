//! The hash tree: dm-verity's layout, version 1, SHA-256, 4 KiB data and hash blocks, salt before the block.
//!
//! Level 0 holds the hashes of the data blocks, level 1 the hashes of level 0's blocks, and so on up to a level
//! of one block, whose hash is the root hash. In the file the top level comes first, as dm-verity has it, so
//! that `veritysetup verify --no-superblock` checks the same bytes.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::{BLOCK, FormatError};

/// Bytes in a hash.
pub const HASH_LEN: usize = 32;
/// Hashes in a hash block.
pub const HASHES_PER_BLOCK: u64 = (BLOCK / HASH_LEN) as u64;
/// A SHA-256 hash.
pub type Digest = [u8; HASH_LEN];
/// What is hashed in front of each block.
pub type Salt = [u8; 32];

/// Levels that suffice for 2^32 data blocks.
const MAX_LEVELS: usize = 5;

/// The hash of one data or hash block.
#[must_use]
pub fn hash_block(salt: &Salt, block: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(block);
    hasher.finalize().into()
}

/// Where everything is, as a function of the number of data blocks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: u64,
    levels: usize,
    /// First block in the file of each level, and its number of blocks.
    level: [(u64, u64); MAX_LEVELS],
    end: u64,
}

impl Geometry {
    /// The tree over `data_blocks` blocks.
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] unless there are between 1 and 2^32 - 1 data blocks.
    pub fn new(data_blocks: u64) -> Result<Self, FormatError> {
        if data_blocks == 0 || data_blocks > u64::from(u32::MAX) {
            return Err(FormatError::Corrupt("number of data blocks"));
        }
        let mut level = [(0, 0); MAX_LEVELS];
        let mut levels = 0;
        let mut hashed = data_blocks;
        for place in &mut level {
            if hashed == 1 {
                break;
            }
            hashed = hashed.div_ceil(HASHES_PER_BLOCK);
            place.1 = hashed;
            levels += 1;
        }
        let mut end = data_blocks;
        for place in level.iter_mut().take(levels).rev() {
            place.0 = end;
            end += place.1;
        }
        Ok(Self { data_blocks, levels, level, end })
    }

    /// Number of data blocks.
    #[must_use]
    pub const fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Number of levels of hash blocks; 0 only for a single data block, whose hash is the root hash.
    #[must_use]
    pub const fn levels(&self) -> usize {
        self.levels
    }

    /// Number of hash blocks.
    #[must_use]
    pub const fn tree_blocks(&self) -> u64 {
        self.end - self.data_blocks
    }

    /// The block behind the tree, where the footer is.
    #[must_use]
    pub const fn footer_block(&self) -> u64 {
        self.end
    }

    /// The hash block of `level` that holds hash number `index` of that level, and the hash's place in it in
    /// bytes. `None` if the tree has no such hash. Level 0 has the hashes of data blocks, level n + 1 those of
    /// level n's blocks.
    #[must_use]
    pub fn hash_position(&self, level: usize, index: u64) -> Option<(u64, usize)> {
        let (start, blocks) = *self.level.get(..self.levels)?.get(level)?;
        let block = index / HASHES_PER_BLOCK;
        let slot = usize::try_from(index % HASHES_PER_BLOCK).ok()?;
        (block < blocks).then_some((start + block, slot * HASH_LEN))
    }

    /// What block number `block` of the file is: level and index of a hash block, or `None` for others.
    #[must_use]
    pub fn hash_block_index(&self, block: u64) -> Option<(usize, u64)> {
        self.level.iter().take(self.levels).enumerate().find_map(|(level, (start, blocks))| {
            let index = block.checked_sub(*start)?;
            (index < *blocks).then_some((level, index))
        })
    }
}

/// Collects the hashes of data blocks and makes the tree.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    leaves: Vec<Digest>,
}

impl TreeBuilder {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { leaves: Vec::new() }
    }

    /// Adds the hash of the next data block.
    pub fn push(&mut self, hash: Digest) {
        self.leaves.push(hash);
    }

    /// Replaces the hash of a data block that was rewritten; does nothing if there is none at `index`.
    pub fn replace(&mut self, index: usize, hash: Digest) {
        if let Some(leaf) = self.leaves.get_mut(index) {
            *leaf = hash;
        }
    }

    /// The hash blocks in file order, and the root hash.
    ///
    /// # Errors
    /// As [`Geometry::new`] for the number of hashes that were pushed.
    pub fn finish(self, salt: &Salt) -> Result<(Vec<u8>, Digest), FormatError> {
        let geometry = Geometry::new(self.leaves.len() as u64)?;
        let mut levels = Vec::new();
        let mut hashes = self.leaves;
        for _ in 0..geometry.levels() {
            let mut bytes = hashes.concat();
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            hashes = bytes.chunks(BLOCK).map(|block| hash_block(salt, block)).collect();
            levels.push(bytes);
        }
        levels.reverse();
        match hashes.as_slice() {
            [root] => Ok((levels.concat(), *root)),
            _ => Err(FormatError::Corrupt("number of data blocks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(blocks: u64) -> (Vec<u8>, Digest) {
        let mut builder = TreeBuilder::new();
        for block in 0..blocks {
            builder.push(hash_block(&[0; 32], &block.to_le_bytes()));
        }
        builder.finish(&[0; 32]).unwrap()
    }

    #[test]
    fn the_layout_is_that_of_dm_verity() {
        let geometry = Geometry::new(128 * 128 + 1).unwrap();
        assert_eq!(geometry.levels(), 3);
        assert_eq!(geometry.tree_blocks(), 129 + 2 + 1);
        assert_eq!(geometry.hash_position(2, 0), Some((16385, 0)), "top level first");
        assert_eq!(geometry.hash_position(1, 128), Some((16387, 0)));
        assert_eq!(geometry.hash_position(0, 129), Some((16389, 32)));
        assert_eq!(geometry.hash_position(0, 129 * 128), None);
        assert_eq!(geometry.hash_position(3, 0), None);
        assert_eq!(geometry.hash_block_index(16389), Some((0, 1)));
        assert_eq!(geometry.hash_block_index(16384), None);
    }

    #[test]
    fn every_leaf_leads_to_the_root() {
        for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
            let (tree, root) = build(blocks);
            let geometry = Geometry::new(blocks).unwrap();
            assert_eq!(tree.len() as u64, geometry.tree_blocks() * 4096);
            for block in [0, blocks / 2, blocks - 1] {
                let mut hash = hash_block(&[0; 32], &block.to_le_bytes());
                let mut index = block;
                for level in 0..geometry.levels() {
                    let (at, place) = geometry.hash_position(level, index).unwrap();
                    let start = usize::try_from(at - blocks).unwrap() * BLOCK;
                    let node = &tree[start..start + BLOCK];
                    assert_eq!(node[place..place + 32], hash);
                    hash = hash_block(&[0; 32], node);
                    index /= HASHES_PER_BLOCK;
                }
                assert_eq!(hash, root);
            }
        }
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(Geometry::new(0).is_err());
        assert!(Geometry::new(1 << 32).is_err());
        assert_eq!(Geometry::new((1 << 32) - 1).unwrap().levels(), 5);
    }
}
