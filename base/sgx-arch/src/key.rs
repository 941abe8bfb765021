//! KEYREQUEST: which key an enclave asks EGETKEY for.

use crate::{Attributes, Miscselect};
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// KEYREQUEST.KEYNAME (SDM "KEYREQUEST KeyNames").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum KeyName {
    /// EINITTOKEN_KEY.
    Einittoken = 0,
    /// PROVISION_KEY.
    Provision = 1,
    /// PROVISION_SEAL_KEY.
    ProvisionSeal = 2,
    /// REPORT_KEY.
    Report = 3,
    /// SEAL_KEY.
    Seal = 4,
}

impl KeyName {
    /// The name of a number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Einittoken),
            1 => Some(Self::Provision),
            2 => Some(Self::ProvisionSeal),
            3 => Some(Self::Report),
            4 => Some(Self::Seal),
            _ => None,
        }
    }
}

/// KEYREQUEST.KEYPOLICY: what the key depends on (SDM "KEYPOLICY").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Keypolicy(u16);

bitflags::bitflags! {
    impl Keypolicy: u16 {
        /// On the measurement.
        const MRENCLAVE = 1 << 0;
        /// On the author.
        const MRSIGNER = 1 << 1;
        /// Not on ISVPRODID (KSS).
        const NOISVPRODID = 1 << 2;
        /// On CONFIGID and CONFIGSVN (KSS).
        const CONFIGID = 1 << 3;
        /// On ISVFAMILYID (KSS).
        const ISVFAMILYID = 1 << 4;
        /// On ISVEXTPRODID (KSS).
        const ISVEXTPRODID = 1 << 5;
        /// The bits that #GP without ATTRIBUTES.KSS.
        const KSS = 0x3c;
    }
}

/// Key request (SDM "KEY REQUEST (KEYREQUEST)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(512))]
pub struct Keyrequest {
    /// A [`KeyName`].
    pub keyname: u16,
    /// What the key depends on.
    pub keypolicy: Keypolicy,
    /// Security version of the enclave, at most its own.
    pub isvsvn: u16,
    /// Zero.
    pub reserved1: u16,
    /// Security version of the processor, at most its own.
    pub cpusvn: [u8; 16],
    /// Which bits of SECS.ATTRIBUTES the key depends on.
    pub attributemask: Attributes,
    /// Wear-out protection.
    pub keyid: [u8; 32],
    /// Which bits of SECS.MISCSELECT the key depends on.
    pub miscmask: Miscselect,
    /// Security version of the configuration, at most its own.
    pub configsvn: u16,
    /// Zero.
    pub reserved2: [u8; 434],
}

impl Default for Keyrequest {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<Keyrequest>() == 512);
    assert!(offset_of!(Keyrequest, keypolicy) == 2);
    assert!(offset_of!(Keyrequest, isvsvn) == 4);
    assert!(offset_of!(Keyrequest, cpusvn) == 8);
    assert!(offset_of!(Keyrequest, attributemask) == 24);
    assert!(offset_of!(Keyrequest, keyid) == 40);
    assert!(offset_of!(Keyrequest, miscmask) == 72);
    assert!(offset_of!(Keyrequest, configsvn) == 76);
    assert!(offset_of!(Keyrequest, reserved2) == 78);
};
