//! Inodes: 32 bytes where owner, size and time allow it, 64 otherwise.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::superblock::Superblock;
use crate::{BLOCK, BLOCK_U64, FormatError};

/// The short inode (`struct erofs_inode_compact`): its time is the superblock's.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CompactInode {
    format: U16,
    xattr_count: U16,
    mode: U16,
    nlink: U16,
    size: U32,
    reserved: U32,
    address: U32,
    ino: U32,
    uid: U16,
    gid: U16,
    reserved2: U32,
}

/// The long inode (`struct erofs_inode_extended`).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtendedInode {
    format: U16,
    xattr_count: U16,
    mode: U16,
    reserved: U16,
    size: U64,
    address: U32,
    ino: U32,
    uid: U32,
    gid: U32,
    mtime: U64,
    mtime_nsec: U32,
    nlink: U32,
    reserved2: [u8; 16],
}

const _: () = assert!(size_of::<CompactInode>() == 32);
const _: () = assert!(size_of::<ExtendedInode>() == 64);

const FORMAT_EXTENDED: u16 = 1;

/// How a node's data are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataLayout {
    /// Whole blocks only.
    Plain,
    /// Whole blocks, and the rest right behind the inode.
    Inline,
}

/// File types, with the values of EROFS directory entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A FIFO.
    Fifo = 5,
    /// A Unix socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

impl FileType {
    /// The type bits of a mode (`S_IFMT`, inode(7)).
    #[must_use]
    pub const fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o120_000 => Self::Symlink,
            _ => return None,
        })
    }

    /// The type bits for a mode.
    #[must_use]
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// The type byte of a directory entry.
    #[must_use]
    pub const fn from_dirent(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return None,
        })
    }
}

/// Where a page of a file's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The whole page is this block of the image.
    Block(u64),
    /// The page's first `len` bytes are at byte `offset` of the image, inside one block; the rest is zero.
    Tail {
        /// Byte offset in the image.
        offset: u64,
        /// Bytes, below [`BLOCK`].
        len: usize,
    },
}

/// What an inode says, of either size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Type and permissions, as `st_mode`.
    pub mode: u16,
    /// Number of names.
    pub nlink: u32,
    /// Bytes of data.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification, seconds since 1970.
    pub mtime: u64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    /// A 32-bit number for old programs; nodes are known by their nid.
    pub ino: u32,
    /// How the data are stored.
    pub layout: DataLayout,
    /// First data block, or the encoded device number of a device node.
    pub address: u32,
    /// Bytes of extended attributes behind the inode, 0 or at least 12.
    pub xattr_len: usize,
    /// 64 bytes, or 32.
    pub extended: bool,
}

impl Inode {
    /// Bytes that suffice to decode an inode, if the image has as many left.
    pub const MAX_LEN: usize = size_of::<ExtendedInode>();

    /// Reads the inode at the start of `bytes`.
    ///
    /// # Errors
    /// [`FormatError`] if `bytes` is too short, the type bits are unknown, or the layout is not one of
    /// [`DataLayout`].
    pub fn decode(bytes: &[u8], superblock: &Superblock) -> Result<Self, FormatError> {
        let format =
            bytes.first_chunk::<2>().map(|b| u16::from_le_bytes(*b)).ok_or(FormatError::Truncated)?;
        let layout = match format >> 1 {
            0 => DataLayout::Plain,
            2 => DataLayout::Inline,
            _ => return Err(FormatError::Unsupported("data layout")),
        };
        let inode = if format & FORMAT_EXTENDED != 0 {
            let (raw, _) = ExtendedInode::ref_from_prefix(bytes).map_err(|_| FormatError::Truncated)?;
            Self {
                mode: raw.mode.get(),
                nlink: raw.nlink.get(),
                size: raw.size.get(),
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                mtime: raw.mtime.get(),
                mtime_nsec: raw.mtime_nsec.get(),
                ino: raw.ino.get(),
                layout,
                address: raw.address.get(),
                xattr_len: xattr_len(raw.xattr_count.get()),
                extended: true,
            }
        } else {
            let (raw, _) = CompactInode::ref_from_prefix(bytes).map_err(|_| FormatError::Truncated)?;
            Self {
                mode: raw.mode.get(),
                nlink: raw.nlink.get().into(),
                size: raw.size.get().into(),
                uid: raw.uid.get().into(),
                gid: raw.gid.get().into(),
                mtime: superblock.build_time,
                mtime_nsec: superblock.build_time_nsec,
                ino: raw.ino.get(),
                layout,
                address: raw.address.get(),
                xattr_len: xattr_len(raw.xattr_count.get()),
                extended: false,
            }
        };
        if FileType::from_mode(inode.mode).is_none() {
            return Err(FormatError::Corrupt("file type"));
        }
        if inode.mtime_nsec >= 1_000_000_000 {
            return Err(FormatError::Corrupt("time of modification"));
        }
        Ok(inode)
    }

    /// Whether a compact inode can hold this one.
    #[must_use]
    pub fn fits_compact(&self, superblock: &Superblock) -> bool {
        u16::try_from(self.uid).is_ok()
            && u16::try_from(self.gid).is_ok()
            && u16::try_from(self.nlink).is_ok()
            && u32::try_from(self.size).is_ok()
            && self.mtime == superblock.build_time
            && self.mtime_nsec == superblock.build_time_nsec
    }

    /// Writes the inode to the start of `place`, in the size that `extended` says.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] if `place` is too short, [`FormatError::Corrupt`] if a value does not fit.
    pub fn encode(&self, place: &mut [u8]) -> Result<(), FormatError> {
        let misfit = || FormatError::Corrupt("does not fit a compact inode");
        let layout: u16 = match self.layout {
            DataLayout::Plain => 0,
            DataLayout::Inline => 2,
        };
        let xattr_count = match self.xattr_len {
            0 => 0,
            len => len
                .checked_sub(8)
                .map(|rest| rest / 4)
                .and_then(|count| u16::try_from(count).ok())
                .ok_or(FormatError::Corrupt("length of extended attributes"))?,
        };
        let mut put = |bytes: &[u8]| {
            place.get_mut(..bytes.len()).ok_or(FormatError::Truncated)?.copy_from_slice(bytes);
            Ok(())
        };
        if self.extended {
            let raw = ExtendedInode {
                format: (FORMAT_EXTENDED | layout << 1).into(),
                xattr_count: xattr_count.into(),
                mode: self.mode.into(),
                reserved: 0.into(),
                size: self.size.into(),
                address: self.address.into(),
                ino: self.ino.into(),
                uid: self.uid.into(),
                gid: self.gid.into(),
                mtime: self.mtime.into(),
                mtime_nsec: self.mtime_nsec.into(),
                nlink: self.nlink.into(),
                reserved2: [0; 16],
            };
            put(raw.as_bytes())
        } else {
            let raw = CompactInode {
                format: (layout << 1).into(),
                xattr_count: xattr_count.into(),
                mode: self.mode.into(),
                nlink: u16::try_from(self.nlink).map_err(|_| misfit())?.into(),
                size: u32::try_from(self.size).map_err(|_| misfit())?.into(),
                reserved: 0.into(),
                address: self.address.into(),
                ino: self.ino.into(),
                uid: u16::try_from(self.uid).map_err(|_| misfit())?.into(),
                gid: u16::try_from(self.gid).map_err(|_| misfit())?.into(),
                reserved2: 0.into(),
            };
            put(raw.as_bytes())
        }
    }

    /// Type of the node. [`Inode::decode`] lets no unknown one through.
    #[must_use]
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode)
    }

    /// Bytes of the inode itself.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        if self.extended { size_of::<ExtendedInode>() } else { size_of::<CompactInode>() }
    }

    /// Pages of data, the last one perhaps partial.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.size.div_ceil(BLOCK_U64)
    }

    /// Finds page `index` of the data of this inode, which starts at byte `node_offset` of the image.
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] if the page is past the end, outside the file system of `superblock`, or a tail
    /// that crosses a block boundary.
    pub fn map_page(
        &self,
        node_offset: u64,
        index: u64,
        superblock: &Superblock,
    ) -> Result<Mapping, FormatError> {
        if index >= self.pages() {
            return Err(FormatError::Corrupt("page past the end"));
        }
        let whole = self.size / BLOCK_U64;
        let tail = usize::try_from(self.size % BLOCK_U64).map_err(|_| FormatError::Corrupt("size"))?;
        if self.layout == DataLayout::Inline && index == whole {
            let ahead = self.header_len().saturating_add(self.xattr_len);
            let offset = node_offset.checked_add(ahead as u64).ok_or(FormatError::Corrupt("tail offset"))?;
            let end = offset.checked_add(tail as u64).ok_or(FormatError::Corrupt("tail offset"))?;
            if end > u64::from(superblock.blocks) * BLOCK_U64 {
                return Err(FormatError::Corrupt("tail outside the file system"));
            }
            if offset % BLOCK_U64 + tail as u64 > BLOCK_U64 {
                return Err(FormatError::Corrupt("tail across blocks"));
            }
            return Ok(Mapping::Tail { offset, len: tail });
        }
        match u64::from(self.address).checked_add(index) {
            Some(block) if block < u64::from(superblock.blocks) => Ok(Mapping::Block(block)),
            _ => Err(FormatError::Corrupt("block outside the file system")),
        }
    }

    /// Whether a tail of `tail` bytes may be stored behind an inode of this size.
    #[must_use]
    pub fn holds_tail(&self, tail: usize) -> bool {
        tail != 0 && self.header_len().saturating_add(self.xattr_len).saturating_add(tail) <= BLOCK
    }
}

/// Bytes that an attribute count stands for: a 12-byte header, then words.
fn xattr_len(count: u16) -> usize {
    match count {
        0 => 0,
        count => 8 + 4 * usize::from(count),
    }
}

/// The 32-bit form of a device number.
#[must_use]
pub const fn encode_device(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// Major and minor number of an encoded device.
#[must_use]
pub const fn decode_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & !0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERBLOCK: Superblock = Superblock {
        root_nid: 2,
        inodes: 1,
        build_time: 1000,
        build_time_nsec: 0,
        blocks: 50,
        meta_blkaddr: 40,
        uuid: [0; 16],
    };

    fn sample() -> Inode {
        Inode {
            mode: 0o100_755,
            nlink: 1,
            size: 10_000,
            uid: 1000,
            gid: 1000,
            mtime: 1000,
            mtime_nsec: 0,
            ino: 3,
            layout: DataLayout::Inline,
            address: 7,
            xattr_len: 0,
            extended: false,
        }
    }

    #[test]
    fn both_sizes_decode_to_what_was_encoded() {
        for (extended, uid, mtime, xattr_len) in [(false, 65_535, 1000, 0), (true, 100_000, 5, 24)] {
            let inode = Inode { uid, mtime, extended, xattr_len, ..sample() };
            let mut bytes = [0; Inode::MAX_LEN];
            inode.encode(&mut bytes).unwrap();
            assert_eq!(Inode::decode(&bytes, &SUPERBLOCK), Ok(inode));
            assert_eq!(inode.fits_compact(&SUPERBLOCK), !extended);
        }
    }

    #[test]
    fn a_value_too_large_for_a_compact_inode_is_refused() {
        let mut bytes = [0; Inode::MAX_LEN];
        assert!(Inode { uid: 65_536, ..sample() }.encode(&mut bytes).is_err());
        assert!(Inode { size: 1 << 32, ..sample() }.encode(&mut bytes).is_err());
    }

    #[test]
    fn pages_map_to_blocks_and_the_rest_to_the_tail() {
        let inode = sample();
        let at = 40 * 4096 + 64;
        assert_eq!(inode.map_page(at, 0, &SUPERBLOCK), Ok(Mapping::Block(7)));
        assert_eq!(inode.map_page(at, 1, &SUPERBLOCK), Ok(Mapping::Block(8)));
        assert_eq!(inode.map_page(at, 2, &SUPERBLOCK), Ok(Mapping::Tail { offset: at + 32, len: 1808 }));
        assert!(inode.map_page(at, 3, &SUPERBLOCK).is_err());
        assert!(inode.map_page(40 * 4096 + 3000, 2, &SUPERBLOCK).is_err(), "across blocks");
        assert!(Inode { address: 49, ..inode }.map_page(at, 1, &SUPERBLOCK).is_err(), "outside");
        assert!(inode.map_page(u64::MAX - 8, 2, &SUPERBLOCK).is_err(), "overflow");
    }

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(1, 3), (4, 64), (259, 70_000), (4095, 0xf_ffff)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
        assert_eq!(encode_device(1, 3), 0x103);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut state = 1u64;
        let mut bytes = [0u8; 70];
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
            bytes[0] &= 5;
            bytes[1] = 0;
            for len in [0, 1, 31, 32, 63, 64, 70] {
                if let Ok(inode) = Inode::decode(&bytes[..len], &SUPERBLOCK) {
                    for index in [0, 1, inode.size / 4096, u64::MAX] {
                        let _ = inode.map_page(state, index, &SUPERBLOCK);
                    }
                }
            }
        }
    }
}
