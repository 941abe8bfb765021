//! Faults that leaves and accesses raise, and what an AEX tells the enclave about exceptions.

use crate::epcm::Access;
use sgx_arch::{ExitInfo, ExitType, Miscselect};

/// Error code of a page fault (SDM vol. 3A "Page-Fault Exceptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFaultCode(u32);

impl PageFaultCode {
    /// The page is present.
    pub const P: u32 = 1 << 0;
    /// A store.
    pub const W: u32 = 1 << 1;
    /// From user mode.
    pub const U: u32 = 1 << 2;
    /// A reserved bit in the page tables.
    pub const RSVD: u32 = 1 << 3;
    /// An instruction fetch.
    pub const I: u32 = 1 << 4;
    /// A protection key.
    pub const PK: u32 = 1 << 5;
    /// The EPCM, not the page tables, said no.
    pub const SGX: u32 = 1 << 15;

    /// The code of an access that the EPCM refuses.
    #[must_use]
    pub const fn epcm(access: Access) -> Self {
        Self(Self::access(access) | Self::P | Self::SGX)
    }

    /// The code of an access that the page tables refuse.
    #[must_use]
    pub const fn paging(access: Access) -> Self {
        Self(Self::access(access) | Self::P)
    }

    const fn access(access: Access) -> u32 {
        match access {
            Access::Read => Self::U,
            Access::Write => Self::U | Self::W,
            Access::Execute => Self::U | Self::I,
        }
    }

    /// The code as the processor gives it.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What the access was that made this error code.
    #[must_use]
    pub const fn access_of(code: u32) -> Access {
        if code & Self::I != 0 {
            Access::Execute
        } else if code & Self::W != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }
}

/// A fault that a leaf or an access raises in the enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #GP(0).
    GeneralProtection,
    /// #PF.
    Page {
        /// Linear address.
        address: u64,
        /// Error code.
        code: PageFaultCode,
    },
}

impl Fault {
    /// #PF at an address.
    #[must_use]
    pub const fn page(address: u64, code: PageFaultCode) -> Self {
        Self::Page { address, code }
    }
}

/// Exception vectors (SDM vol. 3A "Exception and Interrupt Vectors").
pub mod vector {
    /// #DE.
    pub const DIVIDE: u8 = 0;
    /// #DB.
    pub const DEBUG: u8 = 1;
    /// #BP.
    pub const BREAKPOINT: u8 = 3;
    /// #OF.
    pub const OVERFLOW: u8 = 4;
    /// #BR.
    pub const BOUND: u8 = 5;
    /// #UD.
    pub const INVALID_OPCODE: u8 = 6;
    /// #SS.
    pub const STACK: u8 = 12;
    /// #GP.
    pub const GENERAL_PROTECTION: u8 = 13;
    /// #PF.
    pub const PAGE_FAULT: u8 = 14;
    /// #MF.
    pub const X87: u8 = 16;
    /// #AC.
    pub const ALIGNMENT: u8 = 17;
    /// #XM.
    pub const SIMD: u8 = 19;
}

/// GPRSGX.EXITINFO for an exception (SDM "EXITINFO": which vectors an enclave may see).
///
/// One liberty: #SS, which the processor hides from the enclave, is reported as #GP(0) where EXINFO is selected.
/// A program with a non-canonical stack pointer would otherwise fault, be resumed, and fault again for ever.
#[must_use]
pub fn exitinfo(number: u8, miscselect: Miscselect) -> ExitInfo {
    use vector as v;
    match number {
        v::DIVIDE | v::DEBUG | v::BOUND | v::INVALID_OPCODE | v::X87 | v::ALIGNMENT | v::SIMD => {
            ExitInfo::new(number, ExitType::HardwareException)
        }
        v::BREAKPOINT => ExitInfo::new(number, ExitType::SoftwareException),
        v::PAGE_FAULT | v::GENERAL_PROTECTION if miscselect.contains(Miscselect::EXINFO) => {
            ExitInfo::new(number, ExitType::HardwareException)
        }
        v::STACK if miscselect.contains(Miscselect::EXINFO) => {
            ExitInfo::new(v::GENERAL_PROTECTION, ExitType::HardwareException)
        }
        _ => ExitInfo::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_protection_faults_are_told_only_with_exinfo() {
        for number in [13, 14] {
            assert!(!exitinfo(number, Miscselect::empty()).valid());
            assert_eq!(exitinfo(number, Miscselect::EXINFO).vector(), number);
        }
    }

    #[test]
    fn breakpoints_are_software_exceptions_and_the_rest_hardware_ones() {
        assert_eq!(exitinfo(3, Miscselect::empty()).0, 0x8000_0603);
        for number in [0, 1, 5, 6, 16, 17, 19] {
            assert_eq!(exitinfo(number, Miscselect::empty()).0, 0x8000_0300 | u32::from(number));
        }
    }

    #[test]
    fn other_vectors_stay_with_the_host() {
        for number in [2, 4, 7, 8, 10, 11, 15, 18, 20, 32, 255] {
            assert!(!exitinfo(number, Miscselect::EXINFO).valid());
        }
    }
}
