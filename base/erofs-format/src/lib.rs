//! What the image file holds, byte for byte: both the host that writes it and the enclave that reads it
//! compile against this crate.
//!
//! ```text
//! block 0                 EROFS superblock (at byte 1024)
//! 1 .. meta_blkaddr       whole blocks of file data, in tree order; the site tables are the last file
//! meta_blkaddr ..         inodes, extended attributes and the tails of files and directories
//! data_blocks ..          hash tree in the layout of dm-verity version 1, top level first
//! the last block          footer: the tree's root hash, its salt and the number of data blocks
//! ```
//!
//! The part before the hash tree is a plain uncompressed EROFS image, which `mount -t erofs` and `fsck.erofs`
//! accept. The enclave trusts one 32-byte value, the [`ImageRoot::commitment`], which is measured.
//!
//! Nothing here does I/O, allocates for a length it has not checked, or panics on any input.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod crc32c;
mod dirent;
mod footer;
mod inode;
mod sites;
mod superblock;
mod verity;
mod xattr;

pub use crc32c::crc32c;
pub use dirent::{DirBlock, DirEntry, DirentHeader, MAX_NAME};
pub use footer::{Footer, ImageRoot};
pub use inode::{
    CompactInode, DataLayout, ExtendedInode, FileType, Inode, Mapping, decode_device, encode_device,
};
pub use sites::{SITES_DIRECTORY, SITES_FILE, Site, SiteIndex, SiteKind, SiteTable, Tactic, encode_index};
pub use superblock::{Superblock, SuperblockRecord};
pub use verity::{Digest, Geometry, HASH_LEN, HASHES_PER_BLOCK, Salt, TreeBuilder, hash_block};
pub use xattr::{XattrEntry, XattrPrefix, encode_xattrs, parse_xattrs};

/// Bytes in a block, of data and of the hash tree alike.
pub const BLOCK: usize = 4096;
/// Base-2 logarithm of [`BLOCK`].
pub const BLOCK_BITS: u8 = 12;
/// [`BLOCK`] as a file offset.
pub const BLOCK_U64: u64 = 1 << BLOCK_BITS;
/// Bytes in an inode slot: node `nid` starts `nid * SLOT` bytes into the metadata area.
pub const SLOT: usize = 32;

/// Why bytes could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The structure ends before its declared or necessary length.
    Truncated,
    /// Not this kind of structure at all.
    BadMagic,
    /// A field has a value that no correct writer produces.
    Corrupt(&'static str),
    /// Well-formed, but of a variant that the project does not use.
    Unsupported(&'static str),
}

impl core::fmt::Display for FormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("ends early"),
            Self::BadMagic => f.write_str("bad magic number"),
            Self::Corrupt(what) => write!(f, "corrupt: {what}"),
            Self::Unsupported(what) => write!(f, "unsupported: {what}"),
        }
    }
}

impl core::error::Error for FormatError {}
