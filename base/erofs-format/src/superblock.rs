//! The superblock: where the metadata area starts and which inode is the root.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{BLOCK, BLOCK_BITS, BLOCK_U64, FormatError, SLOT, crc32c};

const MAGIC: u32 = 0xe0f5_e1e2;
const OFFSET: usize = 1024;
const COMPAT_CHECKSUM: u32 = 1;

/// The superblock as it is stored, 1024 bytes into block 0 (`struct erofs_super_block`).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperblockRecord {
    magic: U32,
    checksum: U32,
    feature_compat: U32,
    block_bits: u8,
    extension_slots: u8,
    root_nid: U16,
    inodes: U64,
    build_time: U64,
    build_time_nsec: U32,
    blocks: U32,
    meta_blkaddr: U32,
    xattr_blkaddr: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
    feature_incompat: U32,
    compression: U16,
    extra_devices: U16,
    device_table: U16,
    directory_block_bits: u8,
    xattr_prefixes: u8,
    xattr_prefix_start: U32,
    packed_nid: U64,
    reserved: [u8; 24],
}

const _: () = assert!(size_of::<SuperblockRecord>() == 128);

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The root directory's node.
    pub root_nid: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Time of modification, in seconds since 1970, of every compact inode.
    pub build_time: u64,
    /// Nanoseconds that belong to `build_time`.
    pub build_time_nsec: u32,
    /// Blocks in the file system.
    pub blocks: u32,
    /// First block of the metadata area.
    pub meta_blkaddr: u32,
    /// Identifies the volume.
    pub uuid: [u8; 16],
}

impl Superblock {
    /// Reads the superblock out of block 0, which must be whole.
    ///
    /// # Errors
    /// [`FormatError`] if it is not an EROFS superblock, its checksum is wrong, it needs a feature that the
    /// project does not use, or the metadata area is not inside the file system.
    pub fn decode(block: &[u8]) -> Result<Self, FormatError> {
        let bytes = block.get(OFFSET..BLOCK).ok_or(FormatError::Truncated)?;
        let (record, _) = SuperblockRecord::ref_from_prefix(bytes).map_err(|_| FormatError::Truncated)?;
        if record.magic.get() != MAGIC {
            return Err(FormatError::BadMagic);
        }
        if record.block_bits != BLOCK_BITS || record.directory_block_bits != 0 {
            return Err(FormatError::Unsupported("block size"));
        }
        if record.feature_incompat.get() != 0 || record.extra_devices.get() != 0 {
            return Err(FormatError::Unsupported("incompatible feature"));
        }
        if record.feature_compat.get() & COMPAT_CHECKSUM != 0 && record.checksum.get() != checksum(bytes) {
            return Err(FormatError::Corrupt("superblock checksum"));
        }
        let superblock = Self {
            root_nid: record.root_nid.get(),
            inodes: record.inodes.get(),
            build_time: record.build_time.get(),
            build_time_nsec: record.build_time_nsec.get(),
            blocks: record.blocks.get(),
            meta_blkaddr: record.meta_blkaddr.get(),
            uuid: record.uuid,
        };
        if superblock.meta_blkaddr >= superblock.blocks {
            return Err(FormatError::Corrupt("metadata area outside the file system"));
        }
        if superblock.build_time_nsec >= 1_000_000_000 {
            return Err(FormatError::Corrupt("build time"));
        }
        Ok(superblock)
    }

    /// Block 0 with this superblock in it.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut record = SuperblockRecord {
            magic: MAGIC.into(),
            checksum: 0.into(),
            feature_compat: COMPAT_CHECKSUM.into(),
            block_bits: BLOCK_BITS,
            extension_slots: 0,
            root_nid: self.root_nid.into(),
            inodes: self.inodes.into(),
            build_time: self.build_time.into(),
            build_time_nsec: self.build_time_nsec.into(),
            blocks: self.blocks.into(),
            meta_blkaddr: self.meta_blkaddr.into(),
            xattr_blkaddr: 0.into(),
            uuid: self.uuid,
            volume_name: [0; 16],
            feature_incompat: 0.into(),
            compression: 0.into(),
            extra_devices: 0.into(),
            device_table: 0.into(),
            directory_block_bits: 0,
            xattr_prefixes: 0,
            xattr_prefix_start: 0.into(),
            packed_nid: 0.into(),
            reserved: [0; 24],
        };
        let mut block = [0u8; BLOCK];
        write_record(&mut block, &record);
        record.checksum = checksum(block.get(OFFSET..).unwrap_or_default()).into();
        write_record(&mut block, &record);
        block
    }

    /// Byte offset of node `nid` in the image, or `None` where there can be no inode.
    #[must_use]
    pub fn node_offset(&self, nid: u64) -> Option<u64> {
        let offset = nid.checked_mul(SLOT as u64)?.checked_add(u64::from(self.meta_blkaddr) * BLOCK_U64)?;
        (offset < u64::from(self.blocks) * BLOCK_U64).then_some(offset)
    }
}

fn write_record(block: &mut [u8; BLOCK], record: &SuperblockRecord) {
    if let Some(place) = block.get_mut(OFFSET..OFFSET + size_of::<SuperblockRecord>()) {
        place.copy_from_slice(record.as_bytes());
    }
}

/// CRC-32C of the rest of block 0, the checksum field itself counting as zero.
fn checksum(from_record: &[u8]) -> u32 {
    let magic = from_record.get(..4).unwrap_or_default();
    let after = from_record.get(8..).unwrap_or_default();
    crc32c(crc32c(crc32c(!0, magic), &[0; 4]), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            root_nid: 2,
            inodes: 7,
            build_time: 1_700_000_000,
            build_time_nsec: 5,
            blocks: 100,
            meta_blkaddr: 90,
            uuid: [9; 16],
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        assert_eq!(Superblock::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_checked_part_is_noticed() {
        let block = sample().encode();
        for byte in OFFSET..BLOCK {
            let mut bad = block;
            bad[byte] ^= 0x40;
            // Only the bit that says whether there is a checksum at all could hide the change, and 0x40 is not it.
            assert!(Superblock::decode(&bad).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn node_offsets_stay_inside_the_file_system() {
        let superblock = sample();
        assert_eq!(superblock.node_offset(2), Some(90 * 4096 + 64));
        assert_eq!(superblock.node_offset(10 * 128 - 1), Some(100 * 4096 - 32));
        assert_eq!(superblock.node_offset(10 * 128), None);
        assert_eq!(superblock.node_offset(u64::MAX), None);
    }
}
