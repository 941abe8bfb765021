//! Rewriting site tables: where a program's text has instructions that cannot run in an enclave as they are,
//! and how each may be replaced by a jump.
//!
//! The host finds the sites when it writes the image, with a disassembler; the enclave only follows the tables,
//! which the hash tree covers. They are one ordinary file of the image, [`SITES_DIRECTORY`]/[`SITES_FILE`]:
//! a header, an index sorted by nid, then 16-byte records sorted by file offset.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;

/// Directory, in the root, of what the image says about itself.
pub const SITES_DIRECTORY: &str = ".occlum";
/// The file of site tables in it.
pub const SITES_FILE: &str = "sites";

const MAGIC: [u8; 8] = *b"OCSITES\x01";

/// The instruction at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SiteKind {
    /// `syscall`, 0f 05.
    Syscall = 1,
    /// `cpuid`, 0f a2.
    Cpuid = 2,
    /// `rdtsc`, 0f 31.
    Rdtsc = 3,
    /// `rdtscp`, 0f 01 f9.
    Rdtscp = 4,
}

impl SiteKind {
    /// Bytes of the instruction.
    #[must_use]
    pub const fn len(self) -> u8 {
        match self {
            Self::Syscall | Self::Cpuid | Self::Rdtsc => 2,
            Self::Rdtscp => 3,
        }
    }

    /// Never: an instruction has bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The bytes of the instruction.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Syscall => &[0x0f, 0x05],
            Self::Cpuid => &[0x0f, 0xa2],
            Self::Rdtsc => &[0x0f, 0x31],
            Self::Rdtscp => &[0x0f, 0x01, 0xf9],
        }
    }
}

/// How a site may be replaced, safest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tactic {
    /// A `mov eax, imm` lies directly before the instruction: overwrite the first five bytes of the mov with
    /// `jmp rel32` to a stub that behaves as the mov and the instruction together. The instruction itself
    /// stays, so jumps to it and threads between the two keep working. Always safe.
    MovImm32 {
        /// Bytes from the start of the mov to the instruction: 5 (`b8 imm32`) or 7 (`48 c7 c0 imm32`).
        back: u8,
        /// What the mov loads; below 2^31 where `back` is 7.
        imm: u32,
    },
    /// Overwrite two bytes of the instruction with `jmp rel8` to five bytes of padding, which nothing executes
    /// and no other site uses, and the padding with `jmp rel32` to a stub. Write the padding first.
    Cave {
        /// File offset of the padding less the site's: within a rel8 of the instruction's second byte.
        hole: i32,
    },
    /// Move all instructions of a window, which has no jump target strictly inside, into a stub, byte for byte
    /// but for the site's own instruction, and overwrite its first five bytes with `jmp rel32`. Only while no
    /// other thread can be in the window.
    Displace {
        /// Bytes from the start of the window to the site.
        before: u8,
        /// Bytes in the window, at least 5.
        len: u8,
    },
    /// Leave it to trap.
    Trap,
}

/// One site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// File offset of the instruction itself.
    pub offset: u64,
    /// Which instruction it is.
    pub kind: SiteKind,
    /// How it may be replaced.
    pub tactic: Tactic,
}

impl Site {
    /// File offsets of the bytes around the instruction that replacing it may change, or relies upon: the mov
    /// and the instruction, the instruction, or the window. Tables hold sites whose extents do not overlap.
    #[must_use]
    pub fn extent(&self) -> Range<u64> {
        let end = self.offset.saturating_add(self.kind.len().into());
        match self.tactic {
            Tactic::MovImm32 { back, .. } => self.offset.saturating_sub(back.into())..end,
            Tactic::Cave { .. } | Tactic::Trap => self.offset..end,
            Tactic::Displace { before, len } => {
                let start = self.offset.saturating_sub(before.into());
                start..start.saturating_add(len.into())
            }
        }
    }

    /// File offsets of the five bytes of padding, for [`Tactic::Cave`].
    #[must_use]
    pub fn hole(&self) -> Option<Range<u64>> {
        let Tactic::Cave { hole } = self.tactic else { return None };
        let start = self.offset.checked_add_signed(hole.into())?;
        Some(start..start.checked_add(5)?)
    }

    fn record(&self) -> SiteRecord {
        let (tactic, a, b, word) = match self.tactic {
            Tactic::MovImm32 { back, imm } => (1, back, 0, imm.cast_signed()),
            Tactic::Cave { hole } => (2, 0, 0, hole),
            Tactic::Displace { before, len } => (3, before, len, 0),
            Tactic::Trap => (0, 0, 0, 0),
        };
        SiteRecord { offset: self.offset.into(), kind: self.kind as u8, tactic, a, b, word: word.into() }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SiteRecord {
    offset: U64,
    kind: u8,
    tactic: u8,
    a: u8,
    b: u8,
    word: I32,
}

const _: () = assert!(size_of::<SiteRecord>() == 16);

impl SiteRecord {
    fn decode(&self) -> Option<Site> {
        let kind = match self.kind {
            1 => SiteKind::Syscall,
            2 => SiteKind::Cpuid,
            3 => SiteKind::Rdtsc,
            4 => SiteKind::Rdtscp,
            _ => return None,
        };
        let word = self.word.get();
        let end = u32::from(self.a) + u32::from(kind.len());
        let tactic = match self.tactic {
            0 => Tactic::Trap,
            1 if self.a == 5 || self.a == 7 && word >= 0 => {
                Tactic::MovImm32 { back: self.a, imm: word.cast_unsigned() }
            }
            2 if (-126..=129).contains(&word) => Tactic::Cave { hole: word },
            3 if self.b >= 5 && end <= u32::from(self.b) => Tactic::Displace { before: self.a, len: self.b },
            _ => return None,
        };
        let site = Site { offset: self.offset.get(), kind, tactic };
        // Nothing that is derived from the offset may wrap.
        let hole = if let Tactic::Cave { hole } = tactic { hole } else { 0 };
        let backwards = u64::from(self.a).max(hole.min(0).unsigned_abs().into());
        (site.offset <= i64::MAX.cast_unsigned() && site.offset >= backwards).then_some(site)
    }
}

/// The sites of one file, sorted by offset; their extents do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteTable {
    sites: Vec<Site>,
}

impl SiteTable {
    /// A table of these sites, sorted; of sites that overlap the first stays.
    #[must_use]
    pub fn new(mut sites: Vec<Site>) -> Self {
        sites.sort_by_key(|site| site.offset);
        let mut end = 0;
        sites.retain(|site| {
            let extent = site.extent();
            let keep = extent.start >= end;
            if keep {
                end = extent.end;
            }
            keep
        });
        Self { sites }
    }

    /// All sites, by file offset.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The sites whose instruction starts in `range`.
    #[must_use]
    pub fn in_range(&self, range: Range<u64>) -> &[Site] {
        let start = self.sites.partition_point(|site| site.offset < range.start);
        let end = self.sites.partition_point(|site| site.offset < range.end);
        self.sites.get(start..end).unwrap_or_default()
    }

    /// Whether there is nothing to rewrite.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// The records of this table, without header; [`SiteTable::from_bytes`] reads them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.sites.len().saturating_mul(size_of::<SiteRecord>()));
        for site in &self.sites {
            bytes.extend_from_slice(site.record().as_bytes());
        }
        bytes
    }

    /// Reads what [`SiteTable::to_bytes`] made.
    ///
    /// # Errors
    /// [`FormatError::Corrupt`] if a record is not possible, or they are not sorted or overlap.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let records = <[SiteRecord]>::ref_from_bytes(bytes)
            .map_err(|_| FormatError::Corrupt("length of site records"))?;
        let mut sites = Vec::new();
        let mut end = 0;
        for record in records {
            let site = record.decode().ok_or(FormatError::Corrupt("site record"))?;
            let extent = site.extent();
            if extent.start < end {
                return Err(FormatError::Corrupt("order of site records"));
            }
            end = extent.end;
            sites.push(site);
        }
        Ok(Self { sites })
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexHeader {
    magic: [u8; 8],
    files: U32,
    records: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexEntry {
    nid: U64,
    first: U32,
    count: U32,
}

const _: () = assert!(size_of::<IndexHeader>() == 16);
const _: () = assert!(size_of::<IndexEntry>() == 16);

/// The content of the site file. Each nid may occur once; the order does not matter.
///
/// # Errors
/// [`FormatError::Corrupt`] if there are more than 2^32 - 1 sites.
pub fn encode_index(tables: &[(u64, &SiteTable)]) -> Result<Vec<u8>, FormatError> {
    let mut tables = tables.to_vec();
    tables.sort_by_key(|(nid, _)| *nid);
    let count = |n: usize| u32::try_from(n).map_err(|_| FormatError::Corrupt("too many sites"));
    let records = tables.iter().map(|(_, table)| table.sites.len()).sum();
    let header =
        IndexHeader { magic: MAGIC, files: count(tables.len())?.into(), records: count(records)?.into() };
    let mut bytes = header.as_bytes().to_vec();
    let mut first = 0usize;
    for (nid, table) in &tables {
        let entry = IndexEntry {
            nid: (*nid).into(),
            first: count(first)?.into(),
            count: count(table.sites.len())?.into(),
        };
        bytes.extend_from_slice(entry.as_bytes());
        first = first.saturating_add(table.sites.len());
    }
    for (_, table) in &tables {
        bytes.extend(table.to_bytes());
    }
    Ok(bytes)
}

/// The index of the site file: tells which part of the file has a node's sites.
#[derive(Clone, Debug, Default)]
pub struct SiteIndex {
    entries: Vec<(u64, Range<u64>)>,
}

impl SiteIndex {
    /// Bytes in the header, with which [`SiteIndex::len`] tells how much to read.
    pub const HEADER_LEN: usize = size_of::<IndexHeader>();

    /// Bytes from the start of the file, whose first bytes are `header`, that [`SiteIndex::parse`] needs.
    ///
    /// # Errors
    /// [`FormatError`] if it is no site file, or shorter than `file_len` says.
    pub fn len(header: &[u8], file_len: u64) -> Result<usize, FormatError> {
        let (header, _) = IndexHeader::ref_from_prefix(header).map_err(|_| FormatError::Truncated)?;
        if header.magic != MAGIC {
            return Err(FormatError::BadMagic);
        }
        let index = 16 * (1 + u64::from(header.files.get()));
        if index + 16 * u64::from(header.records.get()) != file_len {
            return Err(FormatError::Corrupt("length of the site file"));
        }
        usize::try_from(index).map_err(|_| FormatError::Corrupt("length of the site file"))
    }

    /// Reads header and index from the start of a site file of `file_len` bytes.
    ///
    /// # Errors
    /// [`FormatError`] if `bytes` is not as long as [`SiteIndex::len`] says, or an entry is out of order or
    /// range.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let len = Self::len(bytes, file_len)?;
        let table = bytes.get(Self::HEADER_LEN..len).ok_or(FormatError::Truncated)?;
        let raw = <[IndexEntry]>::ref_from_bytes(table).map_err(|_| FormatError::Truncated)?;
        let mut entries: Vec<(u64, Range<u64>)> = Vec::with_capacity(raw.len());
        for entry in raw {
            let start = len as u64 + 16 * u64::from(entry.first.get());
            let end = start + 16 * u64::from(entry.count.get());
            if end > file_len || entries.last().is_some_and(|(nid, _)| *nid >= entry.nid.get()) {
                return Err(FormatError::Corrupt("index of sites"));
            }
            entries.push((entry.nid.get(), start..end));
        }
        Ok(Self { entries })
    }

    /// Where in the file the records of node `nid` are, for [`SiteTable::from_bytes`].
    #[must_use]
    pub fn find(&self, nid: u64) -> Option<Range<u64>> {
        let at = self.entries.binary_search_by_key(&nid, |(nid, _)| *nid).ok()?;
        self.entries.get(at).map(|(_, range)| range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> SiteTable {
        SiteTable::new(vec![
            Site { offset: 0x200, kind: SiteKind::Cpuid, tactic: Tactic::Displace { before: 3, len: 7 } },
            Site { offset: 0x105, kind: SiteKind::Syscall, tactic: Tactic::MovImm32 { back: 5, imm: 39 } },
            Site { offset: 0x180, kind: SiteKind::Syscall, tactic: Tactic::Cave { hole: -100 } },
            Site { offset: 0x300, kind: SiteKind::Rdtscp, tactic: Tactic::Trap },
        ])
    }

    #[test]
    fn a_table_reads_back_sorted() {
        let sorted = SiteTable::from_bytes(&table().to_bytes()).unwrap();
        assert_eq!(sorted, table());
        assert!(sorted.sites().is_sorted_by_key(|site| site.offset));
        assert_eq!(sorted.in_range(0x180..0x300).len(), 2);
        assert_eq!(sorted.sites()[1].hole(), Some(0x180 - 100..0x180 - 95));
    }

    #[test]
    fn a_mov_of_a_large_number_reads_back() {
        let tactic = Tactic::MovImm32 { back: 5, imm: 0x8000_0008 };
        let table = SiteTable::new(vec![Site { offset: 0x1000, kind: SiteKind::Cpuid, tactic }]);
        assert_eq!(SiteTable::from_bytes(&table.to_bytes()), Ok(table));
    }

    #[test]
    fn an_overlapping_site_is_left_out() {
        let site =
            |offset| Site { offset, kind: SiteKind::Syscall, tactic: Tactic::MovImm32 { back: 5, imm: 1 } };
        assert_eq!(SiteTable::new(vec![site(10), site(15), site(20)]).sites(), [site(10), site(20)]);
    }

    #[test]
    fn the_index_finds_each_table_and_no_other() {
        let (one, two) = (table(), SiteTable::new(table().sites()[..1].to_vec()));
        let bytes = encode_index(&[(90, &one), (4, &two)]).unwrap();
        let index = SiteIndex::parse(&bytes, bytes.len() as u64).unwrap();
        let read = |nid| {
            let range = index.find(nid).unwrap();
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            SiteTable::from_bytes(&bytes[range]).unwrap()
        };
        assert_eq!(read(90), one);
        assert_eq!(read(4), two);
        assert_eq!(index.find(5), None);
        assert!(SiteIndex::parse(&bytes, bytes.len() as u64 + 16).is_err());
    }

    #[test]
    fn no_bytes_make_the_parsers_panic() {
        let good = encode_index(&[(90, &table()), (4, &table())]).unwrap();
        for at in 0..good.len() {
            for value in [0, 1, 2, 3, 7, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = SiteIndex::parse(&bad, bad.len() as u64);
                let _ = SiteIndex::parse(&bad[..at], bad.len() as u64);
                if let Ok(table) = SiteTable::from_bytes(&bad[48..]) {
                    for site in table.sites() {
                        let _ = (site.extent(), site.hole());
                    }
                }
            }
        }
    }
}
