//! Directory records from the host: `struct linux_dirent64`, believed only where harmless.

use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use vfs::{FileType, Name};

/// Bytes before the name.
const HEADER: usize = 19;

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) ino: u64,
    /// Position after it, for `lseek`.
    pub(crate) next: u64,
    /// `None`: the host does not say.
    pub(crate) kind: Option<FileType>,
    pub(crate) name: &'a [u8],
}

fn malformed() -> Error {
    Error::new(Errno::EIO, "the host sent a malformed directory record")
}

/// The records in `bytes`, without `.` and `..`.
///
/// # Errors
/// EIO a record is cut, its name is not a name, or its position is 0 or negative.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(malformed)?;
        let [i0, i1, i2, i3, i4, i5, i6, i7, n0, n1, n2, n3, n4, n5, n6, n7, l0, l1, d_type] = *header;
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        let (record, rest) = bytes.split_at_checked(len).filter(|_| len > HEADER).ok_or_else(malformed)?;
        bytes = rest;
        let padded = record.get(HEADER..).ok_or_else(malformed)?;
        let end = padded.iter().position(|&byte| byte == 0).ok_or_else(malformed)?;
        let name = padded.get(..end).ok_or_else(malformed)?;
        if name == b"." || name == b".." {
            continue;
        }
        Name::new(name).map_err(|_| malformed())?;
        let next = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        if next == 0 || next > i64::MAX.cast_unsigned() {
            return Err(malformed());
        }
        let ino = u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
        let kind = FileType::from_mode(u32::from(d_type) << 12);
        records.push(Record { ino, next, kind, name });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], next: u64, d_type: u8) -> Vec<u8> {
        let len = (HEADER + name.len() + 1).next_multiple_of(8);
        let mut bytes = 7u64.to_le_bytes().to_vec();
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(&(len as u16).to_le_bytes());
        bytes.push(d_type);
        bytes.extend_from_slice(name);
        bytes.resize(len, 0);
        bytes
    }

    #[test]
    fn records_are_read_and_dots_are_left_out() {
        let bytes =
            [record(b".", 1, 4), record(b"..", 2, 4), record(b"file", 3, 8), record(b"odd", 4, 0)].concat();
        let records = parse(&bytes).unwrap();
        let names: Vec<_> = records.iter().map(|record| (record.name, record.kind, record.next)).collect();
        assert_eq!(names, [(&b"file"[..], Some(FileType::Regular), 3), (b"odd", None, 4)]);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let good = record(b"file", 3, 8);
        for bad in [
            good[..good.len() - 1].to_vec(),
            good[..10].to_vec(),
            record(b"a/b", 3, 8),
            record(b"", 3, 8),
            record(&[b'x'; 256], 3, 8),
            record(b"file", 0, 8),
            record(b"file", u64::MAX, 8),
            [&good[..16], &[0, 0], &good[18..]].concat(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().errno(), Errno::EIO, "{bad:?}");
        }
    }
}
