//! The 64-byte records that MRENCLAVE hashes (SDM "Operation" of ECREATE, EADD and EEXTEND).
//!
//! MRENCLAVE is the SHA-256 of one [`ecreate`] record, then for each page in the order of EADD an [`eadd`]
//! record, and for each 256 bytes measured an [`eextend`] record followed by those bytes.

use crate::Secinfo;
use zerocopy::IntoBytes;

/// Bytes in a record.
pub const RECORD: usize = 64;
/// Bytes that one EEXTEND measures.
pub const EEXTEND_BYTES: usize = 256;

/// Record of ECREATE: `size` is SECS.SIZE in bytes, `ssaframesize` SECS.SSAFRAMESIZE in pages.
#[must_use]
pub fn ecreate(ssaframesize: u32, size: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(b"ECREATE\0");
    record[8..12].copy_from_slice(&ssaframesize.to_le_bytes());
    record[12..20].copy_from_slice(&size.to_le_bytes());
    record
}

/// Record of EADD: `offset` is the page's distance from the base of ELRANGE.
#[must_use]
pub fn eadd(offset: u64, secinfo: &Secinfo) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(b"EADD\0\0\0\0");
    record[8..16].copy_from_slice(&offset.to_le_bytes());
    record[16..].copy_from_slice(&secinfo.as_bytes()[..48]);
    record
}

/// Record of EEXTEND: `offset` is the distance of the 256 bytes from the base of ELRANGE.
#[must_use]
pub fn eextend(offset: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(b"EEXTEND\0");
    record[8..16].copy_from_slice(&offset.to_le_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_start_with_the_constants_of_the_sdm() {
        let word = |record: [u8; RECORD]| u64::from_le_bytes(record[..8].try_into().unwrap());
        assert_eq!(word(ecreate(1, 4096)), 0x0045_5441_4552_4345);
        assert_eq!(word(eadd(0, &Secinfo::tcs())), 0x0000_0000_4444_4145);
        assert_eq!(word(eextend(0)), 0x0044_4e45_5458_4545);
    }
}
