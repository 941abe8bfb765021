//! The last block of the file: what the tree above it must hash to.

use sha2::{Digest as _, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{BLOCK, Digest, FormatError, Geometry, Salt};

const MAGIC: [u8; 16] = *b"occlum image fs\0";
const VERSION: u32 = 1;
const HASH_SHA256: u32 = 1;

/// What decides the whole content of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRoot {
    /// Hash of the tree's top block.
    pub root_hash: Digest,
    /// What is hashed in front of each block.
    pub salt: Salt,
    /// Number of 4 KiB blocks that the tree covers, superblock included.
    pub data_blocks: u64,
}

impl ImageRoot {
    /// The one value to measure: SHA-256 of the footer's record as it is stored. It covers the magic number,
    /// the version, the algorithm and the sizes, so no other reading of the same file has the same commitment.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Sha256::digest(Footer::new(self).record().as_bytes()).into()
    }
}

/// The footer's record as it is stored, little-endian; the block's other bytes are zero.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FooterRecord {
    magic: [u8; 16],
    version: U32,
    hash_algorithm: U32,
    block_size: U32,
    reserved: U32,
    data_blocks: U64,
    tree_blocks: U64,
    salt: Salt,
    root_hash: Digest,
    reserved2: [u8; 16],
}

const _: () = assert!(size_of::<FooterRecord>() == 128);

/// The footer of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    root: ImageRoot,
}

impl Footer {
    /// The footer for `root`.
    #[must_use]
    pub const fn new(root: &ImageRoot) -> Self {
        Self { root: *root }
    }

    fn record(&self) -> FooterRecord {
        let tree_blocks = Geometry::new(self.root.data_blocks).map_or(0, |geometry| geometry.tree_blocks());
        FooterRecord {
            magic: MAGIC,
            version: VERSION.into(),
            hash_algorithm: HASH_SHA256.into(),
            block_size: 4096.into(),
            reserved: 0.into(),
            data_blocks: self.root.data_blocks.into(),
            tree_blocks: tree_blocks.into(),
            salt: self.root.salt,
            root_hash: self.root.root_hash,
            reserved2: [0; 16],
        }
    }

    /// The last block of the file.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        if let Some(place) = block.first_chunk_mut::<{ size_of::<FooterRecord>() }>() {
            place.copy_from_slice(self.record().as_bytes());
        }
        block
    }

    /// Reads the footer out of the last block of a file of `file_len` bytes.
    ///
    /// It proves nothing by itself: compare [`ImageRoot::commitment`] with the measured value.
    ///
    /// # Errors
    /// [`FormatError`] unless each byte of the block is what [`Footer::encode`] writes for some root, and the
    /// file is as long as that root says.
    pub fn decode(block: &[u8], file_len: u64) -> Result<(ImageRoot, Geometry), FormatError> {
        let block = block.first_chunk::<BLOCK>().ok_or(FormatError::Truncated)?;
        let (record, _) = FooterRecord::ref_from_prefix(block).map_err(|_| FormatError::Truncated)?;
        if record.magic != MAGIC {
            return Err(FormatError::BadMagic);
        }
        if record.version.get() != VERSION {
            return Err(FormatError::Unsupported("image version"));
        }
        let root = ImageRoot {
            root_hash: record.root_hash,
            salt: record.salt,
            data_blocks: record.data_blocks.get(),
        };
        let geometry = Geometry::new(root.data_blocks)?;
        if Self::new(&root).encode() != *block {
            return Err(FormatError::Corrupt("footer"));
        }
        if geometry.footer_block().checked_add(1).and_then(|blocks| blocks.checked_mul(BLOCK as u64))
            != Some(file_len)
        {
            return Err(FormatError::Corrupt("length of the image file"));
        }
        Ok((root, geometry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: ImageRoot = ImageRoot { root_hash: [1; 32], salt: [2; 32], data_blocks: 200 };
    const FILE_LEN: u64 = (200 + 2 + 1 + 1) * 4096;

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let (root, geometry) = Footer::decode(&Footer::new(&ROOT).encode(), FILE_LEN).unwrap();
        assert_eq!(root, ROOT);
        assert_eq!(geometry.footer_block(), 203);
    }

    #[test]
    fn any_flipped_bit_is_an_error_or_another_commitment() {
        let good = Footer::new(&ROOT).encode();
        for bit in 0..BLOCK * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok((root, _)) = Footer::decode(&bad, FILE_LEN) {
                assert_ne!(root.commitment(), ROOT.commitment(), "bit {bit}");
            }
        }
    }

    #[test]
    fn the_commitment_covers_every_field() {
        let base = ROOT.commitment();
        assert_ne!(ImageRoot { data_blocks: 201, ..ROOT }.commitment(), base);
        assert_ne!(ImageRoot { salt: [3; 32], ..ROOT }.commitment(), base);
        assert_ne!(ImageRoot { root_hash: [3; 32], ..ROOT }.commitment(), base);
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let block = Footer::new(&ROOT).encode();
        assert!(Footer::decode(&block, FILE_LEN + 4096).is_err());
        assert!(Footer::decode(&block, FILE_LEN - 1).is_err());
        assert!(Footer::decode(&block[..4095], FILE_LEN).is_err());
    }
}
