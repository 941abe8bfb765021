//! Security information of a page: rights, state and type.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SECINFO.FLAGS (SDM "SECINFO.FLAGS"). Bits 15:8 are the [`PageType`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct SecinfoFlags(u64);

bitflags::bitflags! {
    impl SecinfoFlags: u64 {
        /// The enclave may read the page.
        const R = 1 << 0;
        /// The enclave may write the page.
        const W = 1 << 1;
        /// The enclave may execute the page.
        const X = 1 << 2;
        /// EAUG added the page and EACCEPT has yet to come.
        const PENDING = 1 << 3;
        /// EMODT changed the page's type and EACCEPT has yet to come.
        const MODIFIED = 1 << 4;
        /// EMODPR restricted the page and EACCEPT has yet to come.
        const PR = 1 << 5;
        /// The page type's bits.
        const PAGE_TYPE = 0xff00;
    }
}

impl SecinfoFlags {
    /// R, W and X.
    pub const RWX: Self = Self(7);
    /// R and W.
    pub const RW: Self = Self(3);
    /// R and X.
    pub const RX: Self = Self(5);

    /// Only a page type.
    #[must_use]
    pub const fn of_type(page_type: PageType) -> Self {
        Self((page_type as u64) << 8)
    }

    /// The page type; `None` when the encoding is reserved.
    #[must_use]
    pub const fn page_type(self) -> Option<PageType> {
        PageType::from_number(self.0.to_le_bytes()[1])
    }

    /// Only R, W and X.
    #[must_use]
    pub const fn permissions(self) -> Self {
        Self(self.0 & Self::RWX.0)
    }
}

/// SECINFO.FLAGS.PT and EPCM.PT (SDM "PAGE_TYPE Field Definition").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageType {
    /// PT_SECS: a SECS.
    Secs = 0,
    /// PT_TCS: a TCS.
    Tcs = 1,
    /// PT_REG: code and data.
    Reg = 2,
    /// PT_VA: a version array.
    Va = 3,
    /// PT_TRIM: on its way out of the enclave.
    Trim = 4,
    /// PT_SS_FIRST: first page of a shadow stack.
    SsFirst = 5,
    /// PT_SS_REST: another page of a shadow stack.
    SsRest = 6,
}

impl PageType {
    /// The type of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Secs),
            1 => Some(Self::Tcs),
            2 => Some(Self::Reg),
            3 => Some(Self::Va),
            4 => Some(Self::Trim),
            5 => Some(Self::SsFirst),
            6 => Some(Self::SsRest),
            _ => None,
        }
    }
}

/// Security information of a page (SDM "Security Information (SECINFO)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub struct Secinfo {
    /// Rights, state and type.
    pub flags: SecinfoFlags,
    /// Zero.
    pub reserved: [u8; 56],
}

impl Secinfo {
    /// A page of a type with some rights.
    #[must_use]
    pub const fn new(page_type: PageType, permissions: SecinfoFlags) -> Self {
        Self { flags: SecinfoFlags(permissions.0 | SecinfoFlags::of_type(page_type).0), reserved: [0; 56] }
    }

    /// A PT_REG page with some rights.
    #[must_use]
    pub const fn reg(permissions: SecinfoFlags) -> Self {
        Self::new(PageType::Reg, permissions)
    }

    /// A PT_TCS page. EADD takes it without R, W and X.
    #[must_use]
    pub const fn tcs() -> Self {
        Self::new(PageType::Tcs, SecinfoFlags(0))
    }
}

impl Default for Secinfo {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<Secinfo>() == 64);
    assert!(offset_of!(Secinfo, reserved) == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_type_and_permissions_share_one_word() {
        let info = Secinfo::reg(SecinfoFlags::RX);
        assert_eq!(info.flags.bits(), 0x205);
        assert_eq!(info.flags.page_type(), Some(PageType::Reg));
        assert_eq!(info.flags.permissions(), SecinfoFlags::RX);
        assert_eq!(Secinfo::tcs().flags.bits(), 0x100);
        assert_eq!(SecinfoFlags::from_bits_retain(0x900).page_type(), None);
        for number in 0..=255 {
            assert!(PageType::from_number(number).is_none_or(|kind| kind as u8 == number));
        }
    }
}
