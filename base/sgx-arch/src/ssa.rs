//! State Save Area frame: what an AEX leaves for the exception handler and ERESUME.
//!
//! A frame of `SSAFRAMESIZE` pages holds, from its start, the XSAVE area (as XFRM selects, in the standard
//! format), and, from its end downwards, [`Gprsgx`] and the MISC region, of which [`Exinfo`] comes first.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Gprsgx`] starts this many bytes below the end of a frame.
pub const GPRSGX_FROM_END: u64 = 184;
/// [`Exinfo`] starts this many bytes below the end of a frame (SDM "EXINFO Structure": base of GPRSGX - 16).
pub const EXINFO_FROM_END: u64 = GPRSGX_FROM_END + 16;
/// Bytes of the XSAVE area's legacy region (x87, SSE) and header, without extended components.
pub const XSAVE_LEGACY: u64 = 576;

/// What the exit type of [`ExitInfo`] says (SDM "EXITINFO").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitType {
    /// The processor detected it.
    HardwareException = 3,
    /// `int3` or `into` asked for it.
    SoftwareException = 6,
}

/// GPRSGX.EXITINFO: the exception that caused the AEX, if it is one an enclave may see (SDM "EXITINFO").
///
/// Bits 7:0 are the vector, 10:8 the type, 31 says that both are valid. Interrupts leave all of it zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct ExitInfo(pub u32);

impl ExitInfo {
    const VALID: u32 = 1 << 31;

    /// A valid record.
    #[must_use]
    pub const fn new(vector: u8, exit_type: ExitType) -> Self {
        Self(vector as u32 | (exit_type as u32) << 8 | Self::VALID)
    }

    /// Whether [`ExitInfo::vector`] and [`ExitInfo::exit_type`] mean anything.
    #[must_use]
    pub const fn valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Exception vector (SDM vol. 3A "Exception and Interrupt Vectors").
    #[must_use]
    pub const fn vector(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Who raised it; `None` when the encoding is reserved.
    #[must_use]
    pub const fn exit_type(self) -> Option<ExitType> {
        match self.0 >> 8 & 7 {
            3 => Some(ExitType::HardwareException),
            6 => Some(ExitType::SoftwareException),
            _ => None,
        }
    }
}

/// General registers of the interrupted code (SDM "GPRSGX Region").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Gprsgx {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RBX.
    pub rbx: u64,
    /// RSP.
    pub rsp: u64,
    /// RBP.
    pub rbp: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
    /// R10.
    pub r10: u64,
    /// R11.
    pub r11: u64,
    /// R12.
    pub r12: u64,
    /// R13.
    pub r13: u64,
    /// R14.
    pub r14: u64,
    /// R15.
    pub r15: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    /// RSP outside the enclave, which AEX and EEXIT restore.
    pub ursp: u64,
    /// RBP outside the enclave, which AEX and EEXIT restore.
    pub urbp: u64,
    /// Why the AEX happened.
    pub exitinfo: ExitInfo,
    /// Zero.
    pub reserved: [u8; 3],
    /// Bit 0: notify the enclave at ERESUME (AEX-Notify).
    pub aexnotify: u8,
    /// FS base.
    pub fsbase: u64,
    /// GS base.
    pub gsbase: u64,
}

/// MISC region of a frame when MISCSELECT.EXINFO is set (SDM "EXINFO Structure"). Written on #PF and #GP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exinfo {
    /// #PF: the linear address that faulted. #GP: zero.
    pub maddr: u64,
    /// Error code of the exception.
    pub errcd: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Gprsgx>() == 184);
    assert!(offset_of!(Gprsgx, rdi) == 56);
    assert!(offset_of!(Gprsgx, r15) == 120);
    assert!(offset_of!(Gprsgx, rflags) == 128);
    assert!(offset_of!(Gprsgx, rip) == 136);
    assert!(offset_of!(Gprsgx, ursp) == 144);
    assert!(offset_of!(Gprsgx, urbp) == 152);
    assert!(offset_of!(Gprsgx, exitinfo) == 160);
    assert!(offset_of!(Gprsgx, aexnotify) == 167);
    assert!(offset_of!(Gprsgx, fsbase) == 168);
    assert!(offset_of!(Gprsgx, gsbase) == 176);
    assert!(size_of::<Exinfo>() == 16);
    assert!(offset_of!(Exinfo, errcd) == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_info_round_trips_vector_and_type() {
        let page_fault = ExitInfo::new(14, ExitType::HardwareException);
        assert_eq!(page_fault.0, 0x8000_030e);
        assert!(page_fault.valid());
        assert_eq!(page_fault.vector(), 14);
        assert_eq!(page_fault.exit_type(), Some(ExitType::HardwareException));
        assert_eq!(ExitInfo::new(3, ExitType::SoftwareException).0, 0x8000_0603);
        assert!(!ExitInfo::default().valid());
        assert_eq!(ExitInfo(0x8000_0100).exit_type(), None);
    }
}
