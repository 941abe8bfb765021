//! Thread Control Structure: one logical processor's way into an enclave.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// TCS.FLAGS (SDM "TCS.FLAGS").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct TcsFlags(u64);

bitflags::bitflags! {
    impl TcsFlags: u64 {
        /// Debug traps and breakpoints work on this thread. Only EDBGWR may set it.
        const DBGOPTIN = 1 << 0;
        /// The thread may receive AEX notifications.
        const AEXNOTIFY = 1 << 1;
    }
}

/// Thread Control Structure (SDM "Thread Control Structure (TCS)"). Offsets are from the base of ELRANGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Tcs {
    /// Whether the TCS is in use; the processor's own, zero for EADD.
    pub state: u64,
    /// Execution flags.
    pub flags: TcsFlags,
    /// Offset of the first SSA frame; page-aligned.
    pub ossa: u64,
    /// Current slot of the SSA; zero for EADD.
    pub cssa: u32,
    /// Number of SSA frames.
    pub nssa: u32,
    /// Offset of the entry point.
    pub oentry: u64,
    /// Address outside the enclave where an AEX ends; the processor's own, zero for EADD.
    pub aep: u64,
    /// Offset that becomes FS base; page-aligned.
    pub ofsbase: u64,
    /// Offset that becomes GS base; page-aligned.
    pub ogsbase: u64,
    /// FS limit in 32-bit mode; its low 12 bits are set.
    pub fslimit: u32,
    /// GS limit in 32-bit mode; its low 12 bits are set.
    pub gslimit: u32,
    /// Offset of the CET state save area.
    pub ocetssa: u64,
    /// Previous shadow stack pointer; the processor's own.
    pub prevssp: u64,
    /// Zero.
    pub reserved: [u8; 4008],
}

impl Default for Tcs {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<Tcs>() == 4096);
    assert!(offset_of!(Tcs, flags) == 8);
    assert!(offset_of!(Tcs, ossa) == 16);
    assert!(offset_of!(Tcs, cssa) == 24);
    assert!(offset_of!(Tcs, nssa) == 28);
    assert!(offset_of!(Tcs, oentry) == 32);
    assert!(offset_of!(Tcs, aep) == 40);
    assert!(offset_of!(Tcs, ofsbase) == 48);
    assert!(offset_of!(Tcs, ogsbase) == 56);
    assert!(offset_of!(Tcs, fslimit) == 64);
    assert!(offset_of!(Tcs, gslimit) == 68);
    assert!(offset_of!(Tcs, ocetssa) == 72);
    assert!(offset_of!(Tcs, prevssp) == 80);
    assert!(offset_of!(Tcs, reserved) == 88);
};
