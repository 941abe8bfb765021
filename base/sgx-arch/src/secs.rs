//! SGX Enclave Control Structure: what ECREATE is given and what the enclave then is.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// ATTRIBUTES bits 63:0 (SDM "ATTRIBUTES").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct AttributesFlags(u64);

bitflags::bitflags! {
    impl AttributesFlags: u64 {
        /// EINIT has succeeded. ECREATE and SIGSTRUCT must have it clear.
        const INIT = 1 << 0;
        /// A debugger may read and write the enclave with EDBGRD and EDBGWR.
        const DEBUG = 1 << 1;
        /// The enclave runs in 64-bit mode.
        const MODE64BIT = 1 << 2;
        /// EGETKEY gives the provisioning keys.
        const PROVISIONKEY = 1 << 4;
        /// EGETKEY gives the EINITTOKEN key.
        const EINITTOKEN_KEY = 1 << 5;
        /// Control-flow enforcement is on.
        const CET = 1 << 6;
        /// Key separation and sharing: CONFIGID, CONFIGSVN, ISVEXTPRODID and ISVFAMILYID count.
        const KSS = 1 << 7;
        /// The enclave may ask to be told of asynchronous exits.
        const AEXNOTIFY = 1 << 10;
    }
}

/// SECS.ATTRIBUTES: 128 bits, of which XFRM is the upper half (SDM "ATTRIBUTES").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Attributes {
    /// What the enclave is allowed to.
    pub flags: AttributesFlags,
    /// XSAVE-feature request mask: the XCR0 the enclave runs with. Bits 0 and 1 (x87, SSE) must be set.
    pub xfrm: u64,
}

/// MISCSELECT: what an AEX writes to the MISC region of the SSA frame (SDM "SECS.MISCSELECT Field").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Miscselect(u32);

bitflags::bitflags! {
    impl Miscselect: u32 {
        /// Page faults and general protection faults are reported, with [`crate::Exinfo`].
        const EXINFO = 1 << 0;
        /// Control protection exceptions are reported.
        const CPINFO = 1 << 1;
    }
}

/// SGX Enclave Control Structure (SDM "SGX Enclave Control Structure (SECS)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Secs {
    /// Bytes of ELRANGE; a power of two.
    pub size: u64,
    /// Base of ELRANGE; a multiple of `size`.
    pub baseaddr: u64,
    /// Pages of one SSA frame.
    pub ssaframesize: u32,
    /// What an AEX reports.
    pub miscselect: Miscselect,
    /// Page offset of the CET legacy bitmap from `baseaddr`.
    pub cet_leg_bitmap_offset: u64,
    /// CET feature bits.
    pub cet_attributes: u8,
    /// Zero.
    pub reserved1: [u8; 15],
    /// Attributes.
    pub attributes: Attributes,
    /// Measurement. Built by the instructions, not given to ECREATE.
    pub mrenclave: [u8; 32],
    /// Zero.
    pub reserved2: [u8; 32],
    /// SHA-256 of the author's public key. Written by EINIT.
    pub mrsigner: [u8; 32],
    /// Zero.
    pub reserved3: [u8; 32],
    /// Identity of the enclave's configuration (KSS); given by whoever loads it, not measured.
    pub configid: [u8; 64],
    /// Product. Written by EINIT.
    pub isvprodid: u16,
    /// Security version. Written by EINIT.
    pub isvsvn: u16,
    /// Security version of the configuration (KSS).
    pub configsvn: u16,
    /// Zero for software; the processor keeps EID, ISVEXTPRODID and ISVFAMILYID in it.
    pub reserved4: [u8; 3834],
}

impl Default for Secs {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<Attributes>() == 16);
    assert!(size_of::<Secs>() == 4096);
    assert!(offset_of!(Secs, ssaframesize) == 16);
    assert!(offset_of!(Secs, miscselect) == 20);
    assert!(offset_of!(Secs, cet_attributes) == 32);
    assert!(offset_of!(Secs, attributes) == 48);
    assert!(offset_of!(Secs, mrenclave) == 64);
    assert!(offset_of!(Secs, mrsigner) == 128);
    assert!(offset_of!(Secs, configid) == 192);
    assert!(offset_of!(Secs, isvprodid) == 256);
    assert!(offset_of!(Secs, isvsvn) == 258);
    assert!(offset_of!(Secs, configsvn) == 260);
};
