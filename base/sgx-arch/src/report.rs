//! REPORT and TARGETINFO: one enclave proves to another on the same machine what it is.

use crate::{Attributes, Miscselect};
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What EREPORT authenticates; also the enclave identity inside a quote (SDM "REPORT (REPORT)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReportBody {
    /// Security version of the processor.
    pub cpusvn: [u8; 16],
    /// SECS.MISCSELECT.
    pub miscselect: Miscselect,
    /// SECS.CET_ATTRIBUTES.
    pub cet_attributes: u8,
    /// Zero.
    pub reserved1: [u8; 11],
    /// Extended product (KSS). SDM: ISVEXTNPRODID.
    pub isvextprodid: [u8; 16],
    /// SECS.ATTRIBUTES.
    pub attributes: Attributes,
    /// Measurement of the enclave.
    pub mrenclave: [u8; 32],
    /// Zero.
    pub reserved2: [u8; 32],
    /// Its author.
    pub mrsigner: [u8; 32],
    /// Zero.
    pub reserved3: [u8; 32],
    /// Configuration (KSS).
    pub configid: [u8; 64],
    /// Product.
    pub isvprodid: u16,
    /// Security version.
    pub isvsvn: u16,
    /// Security version of the configuration (KSS).
    pub configsvn: u16,
    /// Zero.
    pub reserved4: [u8; 42],
    /// Product family (KSS).
    pub isvfamilyid: [u8; 16],
    /// What the enclave wants to say.
    pub reportdata: [u8; 64],
}

/// What EREPORT writes (SDM "REPORT (REPORT)"). The instruction wants it 512-byte aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Report {
    /// What is authenticated.
    pub body: ReportBody,
    /// Wear-out protection of the key.
    pub keyid: [u8; 32],
    /// AES-128-CMAC of the body with the target's report key.
    pub mac: [u8; 16],
}

/// For whom EREPORT makes a report (SDM "REPORT TARGET INFO (TARGETINFO)").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(512))]
pub struct Targetinfo {
    /// MRENCLAVE of the target.
    pub measurement: [u8; 32],
    /// ATTRIBUTES of the target.
    pub attributes: Attributes,
    /// CET_ATTRIBUTES of the target.
    pub cet_attributes: u8,
    /// Zero.
    pub reserved1: u8,
    /// CONFIGSVN of the target.
    pub configsvn: u16,
    /// MISCSELECT of the target.
    pub miscselect: Miscselect,
    /// Zero.
    pub reserved2: [u8; 8],
    /// CONFIGID of the target.
    pub configid: [u8; 64],
    /// Zero.
    pub reserved3: [u8; 384],
}

impl From<&ReportBody> for Targetinfo {
    /// The enclave that made the report, as a target.
    fn from(body: &ReportBody) -> Self {
        Self {
            measurement: body.mrenclave,
            attributes: body.attributes,
            cet_attributes: body.cet_attributes,
            configsvn: body.configsvn,
            miscselect: body.miscselect,
            configid: body.configid,
            ..Self::default()
        }
    }
}

impl Default for ReportBody {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl Default for Report {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl Default for Targetinfo {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

const _: () = {
    assert!(size_of::<ReportBody>() == 384);
    assert!(offset_of!(ReportBody, miscselect) == 16);
    assert!(offset_of!(ReportBody, cet_attributes) == 20);
    assert!(offset_of!(ReportBody, isvextprodid) == 32);
    assert!(offset_of!(ReportBody, attributes) == 48);
    assert!(offset_of!(ReportBody, mrenclave) == 64);
    assert!(offset_of!(ReportBody, mrsigner) == 128);
    assert!(offset_of!(ReportBody, configid) == 192);
    assert!(offset_of!(ReportBody, isvprodid) == 256);
    assert!(offset_of!(ReportBody, isvsvn) == 258);
    assert!(offset_of!(ReportBody, configsvn) == 260);
    assert!(offset_of!(ReportBody, isvfamilyid) == 304);
    assert!(offset_of!(ReportBody, reportdata) == 320);
    assert!(size_of::<Report>() == 432);
    assert!(offset_of!(Report, keyid) == 384);
    assert!(offset_of!(Report, mac) == 416);
    assert!(size_of::<Targetinfo>() == 512);
    assert!(offset_of!(Targetinfo, attributes) == 32);
    assert!(offset_of!(Targetinfo, cet_attributes) == 48);
    assert!(offset_of!(Targetinfo, configsvn) == 50);
    assert!(offset_of!(Targetinfo, miscselect) == 52);
    assert!(offset_of!(Targetinfo, configid) == 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_maker_as_target_with_all_kss_fields() {
        let body = ReportBody {
            mrenclave: [1; 32],
            configid: [2; 64],
            configsvn: 3,
            cet_attributes: 4,
            miscselect: Miscselect::EXINFO,
            attributes: Attributes { xfrm: 7, ..Attributes::default() },
            ..ReportBody::default()
        };
        let target = Targetinfo::from(&body);
        assert_eq!(target.measurement, body.mrenclave);
        assert_eq!(target.configid, body.configid);
        assert_eq!(target.configsvn, 3);
        assert_eq!(target.cet_attributes, 4);
        assert_eq!(target.miscselect, Miscselect::EXINFO);
        assert_eq!(target.attributes.xfrm, 7);
    }
}
