//! Enclave Signature Structure: who answers for an enclave, and what it may be.

use crate::{Attributes, Miscselect};
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SIGSTRUCT.HEADER (`06000000E10000000000010000000000H`).
pub const SIGSTRUCT_HEADER: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
/// SIGSTRUCT.HEADER2 (`01010000600000006000000001000000H`).
pub const SIGSTRUCT_HEADER2: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];
/// Bytes of each of the two parts that are signed.
pub const SIGNED_PART: usize = 128;

/// Enclave Signature Structure (SDM "Enclave Signature Structure (SIGSTRUCT)").
///
/// The signature covers the fields before `modulus` and those from `miscselect` up to `isvsvn`. Big numbers
/// are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sigstruct {
    /// [`SIGSTRUCT_HEADER`].
    pub header: [u8; 16],
    /// 0x8086 for Intel's own enclaves, else 0.
    pub vendor: u32,
    /// Build date as `yyyymmdd` in BCD.
    pub date: u32,
    /// [`SIGSTRUCT_HEADER2`].
    pub header2: [u8; 16],
    /// Free for software.
    pub swdefined: u32,
    /// Zero.
    pub reserved1: [u8; 84],
    /// Modulus of the author's RSA-3072 key.
    pub modulus: [u8; 384],
    /// Its public exponent: 3.
    pub exponent: u32,
    /// PKCS#1 v1.5 signature with SHA-256.
    pub signature: [u8; 384],
    /// What SECS.MISCSELECT must be, where `miscmask` says so.
    pub miscselect: Miscselect,
    /// Which bits of SECS.MISCSELECT count.
    pub miscmask: Miscselect,
    /// What SECS.CET_ATTRIBUTES must be, where `cet_attributes_mask` says so.
    pub cet_attributes: u8,
    /// Which bits of SECS.CET_ATTRIBUTES count.
    pub cet_attributes_mask: u8,
    /// Zero.
    pub reserved2: [u8; 2],
    /// Product family (KSS).
    pub isvfamilyid: [u8; 16],
    /// What SECS.ATTRIBUTES must be, where `attributemask` says so.
    pub attributes: Attributes,
    /// Which bits of SECS.ATTRIBUTES count.
    pub attributemask: Attributes,
    /// MRENCLAVE that the author signs.
    pub enclavehash: [u8; 32],
    /// Zero.
    pub reserved3: [u8; 16],
    /// Extended product (KSS).
    pub isvextprodid: [u8; 16],
    /// Product.
    pub isvprodid: u16,
    /// Security version.
    pub isvsvn: u16,
    /// Zero.
    pub reserved4: [u8; 12],
    /// floor(signature² / modulus).
    pub q1: [u8; 384],
    /// floor((signature³ - q1 · signature · modulus) / modulus).
    pub q2: [u8; 384],
}

impl Sigstruct {
    /// The bytes that the author signs: both parts, one after the other.
    #[must_use]
    pub fn signing_bytes(&self) -> [u8; 2 * SIGNED_PART] {
        const SECOND: usize = offset_of!(Sigstruct, miscselect);
        let bytes = self.as_bytes();
        let mut signed = [0; 2 * SIGNED_PART];
        let (first, second) = signed.split_at_mut(SIGNED_PART);
        first.copy_from_slice(&bytes[..SIGNED_PART]);
        second.copy_from_slice(&bytes[SECOND..SECOND + SIGNED_PART]);
        signed
    }
}

impl Default for Sigstruct {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<Sigstruct>() == 1808);
    assert!(offset_of!(Sigstruct, vendor) == 16);
    assert!(offset_of!(Sigstruct, date) == 20);
    assert!(offset_of!(Sigstruct, header2) == 24);
    assert!(offset_of!(Sigstruct, swdefined) == 40);
    assert!(offset_of!(Sigstruct, modulus) == 128);
    assert!(offset_of!(Sigstruct, exponent) == 512);
    assert!(offset_of!(Sigstruct, signature) == 516);
    assert!(offset_of!(Sigstruct, miscselect) == 900);
    assert!(offset_of!(Sigstruct, miscmask) == 904);
    assert!(offset_of!(Sigstruct, cet_attributes) == 908);
    assert!(offset_of!(Sigstruct, isvfamilyid) == 912);
    assert!(offset_of!(Sigstruct, attributes) == 928);
    assert!(offset_of!(Sigstruct, attributemask) == 944);
    assert!(offset_of!(Sigstruct, enclavehash) == 960);
    assert!(offset_of!(Sigstruct, isvextprodid) == 1008);
    assert!(offset_of!(Sigstruct, isvprodid) == 1024);
    assert!(offset_of!(Sigstruct, isvsvn) == 1026);
    assert!(offset_of!(Sigstruct, reserved4) == 1028);
    assert!(offset_of!(Sigstruct, q1) == 1040);
    assert!(offset_of!(Sigstruct, q2) == 1424);
};
