//! Directory blocks: entries sorted by name, then the names.
//!
//! Every block stands alone: its first entry's name offset tells the number of entries. Names are sorted
//! bytewise within a block and from block to block, so a name is found in O(log n) blocks.

use core::cmp::Ordering;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{FileType, FormatError};

/// Bytes in a name, at most (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// An entry as it is stored (`struct erofs_dirent`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DirentHeader {
    /// The node.
    pub nid: U64,
    /// Where its name starts in the block.
    pub name_offset: U16,
    /// [`FileType`].
    pub file_type: u8,
    /// Zero.
    pub reserved: u8,
}

impl DirentHeader {
    /// Bytes in an entry.
    pub const LEN: usize = size_of::<Self>();
}

const _: () = assert!(DirentHeader::LEN == 12);

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The node.
    pub nid: u64,
    /// Its type.
    pub file_type: FileType,
    /// Its name: 1 to 255 bytes without `/` and NUL.
    pub name: &'a [u8],
}

/// A directory block, or the shorter tail of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirBlock<'a> {
    bytes: &'a [u8],
    headers: &'a [DirentHeader],
}

impl<'a> DirBlock<'a> {
    /// Takes the used bytes of one block.
    ///
    /// # Errors
    /// [`FormatError`] if the number of entries cannot be right.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (first, _) = DirentHeader::ref_from_prefix(bytes).map_err(|_| FormatError::Truncated)?;
        let names = usize::from(first.name_offset.get());
        if names == 0 || names % DirentHeader::LEN != 0 {
            return Err(FormatError::Corrupt("first name offset"));
        }
        let table = bytes.get(..names).ok_or(FormatError::Truncated)?;
        let headers = <[DirentHeader]>::ref_from_bytes(table).map_err(|_| FormatError::Truncated)?;
        Ok(Self { bytes, headers })
    }

    /// Number of entries, at least 1.
    #[must_use]
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Never: a block has at least one entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Entry `index`.
    ///
    /// # Errors
    /// [`FormatError`] if there is none, or its name or type is not possible.
    pub fn entry(&self, index: usize) -> Result<DirEntry<'a>, FormatError> {
        let header = self.headers.get(index).ok_or(FormatError::Truncated)?;
        let start = usize::from(header.name_offset.get());
        let name = match index.checked_add(1).and_then(|next| self.headers.get(next)) {
            Some(next) => self.bytes.get(start..usize::from(next.name_offset.get())),
            // Only the block's last name may be followed by padding.
            None => self.bytes.get(start..).and_then(|rest| rest.split(|byte| *byte == 0).next()),
        };
        let name = name.ok_or(FormatError::Corrupt("name offset"))?;
        if name.is_empty() || name.len() > MAX_NAME || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(FormatError::Corrupt("name"));
        }
        let file_type = FileType::from_dirent(header.file_type).ok_or(FormatError::Corrupt("entry type"))?;
        Ok(DirEntry { nid: header.nid.get(), file_type, name })
    }

    /// Where `name` sorts relative to this block: before it, at or after its first name.
    ///
    /// # Errors
    /// As [`DirBlock::entry`].
    pub fn precedes(&self, name: &[u8]) -> Result<bool, FormatError> {
        Ok(self.entry(0)?.name <= name)
    }

    /// Finds `name` by bisection.
    ///
    /// # Errors
    /// As [`DirBlock::entry`].
    pub fn find(&self, name: &[u8]) -> Result<Option<DirEntry<'a>>, FormatError> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            match entry.name.cmp(name) {
                Ordering::Equal => return Ok(Some(entry)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(names: &[&str]) -> Vec<u8> {
        let mut headers = Vec::new();
        let mut tail = Vec::new();
        for (nid, name) in names.iter().enumerate() {
            let header = DirentHeader {
                nid: (nid as u64 + 10).into(),
                name_offset: u16::try_from(names.len() * DirentHeader::LEN + tail.len()).unwrap().into(),
                file_type: 1,
                reserved: 0,
            };
            headers.extend_from_slice(header.as_bytes());
            tail.extend_from_slice(name.as_bytes());
        }
        headers.extend(tail);
        headers
    }

    #[test]
    fn every_name_is_found_and_no_other() {
        let names = [".", "..", "Zebra", "a", "ab", "b"];
        let mut bytes = block(&names);
        bytes.resize(4096, 0);
        let block = DirBlock::new(&bytes).unwrap();
        assert_eq!(block.len(), names.len());
        for (index, name) in names.iter().enumerate() {
            assert_eq!(block.find(name.as_bytes()).unwrap().unwrap().nid, index as u64 + 10);
        }
        for absent in ["", "A", "aa", "abc", "c"] {
            assert_eq!(block.find(absent.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn impossible_blocks_are_errors() {
        assert!(DirBlock::new(&[]).is_err());
        assert!(DirBlock::new(&[0; 12]).is_err());
        let mut bytes = block(&["a", "b"]);
        bytes[8] = 13;
        assert!(DirBlock::new(&bytes).is_err());
        let mut bytes = block(&["a", "b"]);
        bytes[20] = 0xff;
        assert!(DirBlock::new(&bytes).unwrap().entry(0).is_err());
        assert!(DirBlock::new(&block(&["a/b"])).unwrap().entry(0).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let good = block(&[".", "..", "bin", "etc", "lib"]);
        let mut state = 7u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = good.clone();
            let at = usize::try_from(state >> 33).unwrap() % bytes.len();
            bytes[at] = state.to_be_bytes()[3];
            bytes.truncate(usize::try_from(state >> 20).unwrap() % (good.len() + 1));
            if let Ok(block) = DirBlock::new(&bytes) {
                for index in 0..=block.len() {
                    let _ = block.entry(index);
                }
                let _ = block.find(b"etc");
            }
        }
    }
}
