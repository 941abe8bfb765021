//! The layouts agree, byte for byte, with those of `sgx-isa`.
//!
//! Each structure is filled with bytes that all differ in a window, is decoded by both crates, and each field
//! that both know must come out the same.

use sgx_arch::{
    Attributes, Keyrequest, Miscselect, Report, Secinfo, SecinfoFlags, Secs, Sigstruct, Targetinfo, Tcs,
};
use zerocopy::{FromBytes, IntoBytes};

fn pattern<const N: usize>() -> [u8; N] {
    core::array::from_fn(|index| (index * 7 + index / 256).to_le_bytes()[0])
}

fn attributes(ours: Attributes, theirs: sgx_isa::Attributes) {
    // Their flags drop what they do not know only when asked to; the copy keeps raw bits.
    assert_eq!(ours.flags.bits(), theirs.flags.bits());
    assert_eq!(ours.xfrm, theirs.xfrm);
}

fn misc(ours: Miscselect, theirs: sgx_isa::Miscselect) {
    assert_eq!(ours.bits(), theirs.bits());
}

#[test]
fn secs() {
    let bytes = pattern::<{ sgx_isa::Secs::UNPADDED_SIZE }>();
    let ours = Secs::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Secs::try_copy_from(&bytes).unwrap();
    assert_eq!(
        (ours.size, ours.baseaddr, ours.ssaframesize),
        (theirs.size, theirs.baseaddr, theirs.ssaframesize)
    );
    misc(ours.miscselect, theirs.miscselect);
    attributes(ours.attributes, theirs.attributes);
    assert_eq!((ours.mrenclave, ours.mrsigner), (theirs.mrenclave, theirs.mrsigner));
    assert_eq!((ours.isvprodid, ours.isvsvn), (theirs.isvprodid, theirs.isvsvn));
    assert_eq!(ours.as_bytes(), bytes);
}

#[test]
fn tcs() {
    let bytes = pattern::<{ sgx_isa::Tcs::UNPADDED_SIZE }>();
    let ours = Tcs::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Tcs::try_copy_from(&bytes).unwrap();
    assert_eq!(ours.flags.bits(), theirs.flags.bits());
    assert_eq!((ours.ossa, ours.cssa, ours.nssa), (theirs.ossa, theirs.cssa, theirs.nssa));
    assert_eq!(ours.oentry, theirs.oentry);
    assert_eq!((ours.ofsbase, ours.ogsbase), (theirs.ofsbasgx, theirs.ogsbasgx));
    assert_eq!((ours.fslimit, ours.gslimit), (theirs.fslimit, theirs.gslimit));
    assert_eq!(ours.as_bytes(), bytes);
}

#[test]
fn secinfo() {
    for (kind, number) in
        [(sgx_isa::PageType::Tcs, 1), (sgx_isa::PageType::Reg, 2), (sgx_isa::PageType::Trim, 4)]
    {
        let theirs = sgx_isa::Secinfo {
            flags: sgx_isa::SecinfoFlags::from(kind) | sgx_isa::SecinfoFlags::R | sgx_isa::SecinfoFlags::X,
            ..Default::default()
        };
        let ours = Secinfo::new(sgx_arch::PageType::from_number(number).unwrap(), SecinfoFlags::RX);
        assert_eq!(ours.as_bytes(), AsRef::<[u8]>::as_ref(&theirs));
    }
}

#[test]
fn sigstruct() {
    let bytes = pattern::<{ sgx_isa::Sigstruct::UNPADDED_SIZE }>();
    let ours = Sigstruct::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Sigstruct::try_copy_from(&bytes).unwrap();
    assert_eq!((ours.header, ours.header2), (theirs.header, theirs.header2));
    assert_eq!((ours.vendor, ours.date, ours.swdefined), (theirs.vendor, theirs.date, theirs.swdefined));
    assert_eq!(
        (ours.modulus, ours.exponent, ours.signature),
        (theirs.modulus, theirs.exponent, theirs.signature)
    );
    misc(ours.miscselect, theirs.miscselect);
    assert_eq!(ours.miscmask.bits(), theirs.miscmask);
    assert_eq!(ours.cet_attributes_mask, theirs.cet_attributes_mask);
    assert_eq!((ours.isvfamilyid, ours.isvextprodid), (theirs.isvfamilyid, theirs.isvextprodid));
    attributes(ours.attributes, theirs.attributes);
    assert_eq!([ours.attributemask.flags.bits(), ours.attributemask.xfrm], theirs.attributemask);
    assert_eq!(ours.enclavehash, theirs.enclavehash);
    assert_eq!((ours.isvprodid, ours.isvsvn), (theirs.isvprodid, theirs.isvsvn));
    assert_eq!((ours.q1, ours.q2), (theirs.q1, theirs.q2));
    let (first, second) = theirs.signature_data();
    assert_eq!(ours.signing_bytes().as_slice(), [first, second].concat());
    assert_eq!(sgx_arch::SIGSTRUCT_HEADER, sgx_isa::SIGSTRUCT_HEADER1);
    assert_eq!(sgx_arch::SIGSTRUCT_HEADER2, sgx_isa::SIGSTRUCT_HEADER2);
}

#[test]
fn report() {
    let bytes = pattern::<{ sgx_isa::Report::UNPADDED_SIZE }>();
    let ours = Report::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Report::try_copy_from(&bytes).unwrap();
    assert_eq!(ours.body.as_bytes(), theirs.mac_data());
    assert_eq!(ours.body.cpusvn, theirs.cpusvn);
    misc(ours.body.miscselect, theirs.miscselect);
    attributes(ours.body.attributes, theirs.attributes);
    assert_eq!(ours.body.isvextprodid, theirs.isvextnprodid);
    assert_eq!((ours.body.mrenclave, ours.body.mrsigner), (theirs.mrenclave, theirs.mrsigner));
    assert_eq!((ours.body.configid, ours.body.configsvn), (theirs.configid, theirs.configsvn));
    assert_eq!((ours.body.isvprodid, ours.body.isvsvn), (theirs.isvprodid, theirs.isvsvn));
    assert_eq!((ours.body.isvfamilyid, ours.body.reportdata), (theirs.isvfamilyid, theirs.reportdata));
    assert_eq!((ours.keyid, ours.mac), (theirs.keyid, theirs.mac));
}

#[test]
fn targetinfo_and_keyrequest() {
    let bytes = pattern::<{ sgx_isa::Targetinfo::UNPADDED_SIZE }>();
    let ours = Targetinfo::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Targetinfo::try_copy_from(&bytes).unwrap();
    assert_eq!(ours.measurement, theirs.measurement);
    attributes(ours.attributes, theirs.attributes);
    misc(ours.miscselect, theirs.miscselect);

    let ours = Keyrequest::read_from_bytes(&bytes).unwrap();
    let theirs = sgx_isa::Keyrequest::try_copy_from(&bytes).unwrap();
    assert_eq!((ours.keyname, ours.isvsvn, ours.cpusvn), (theirs.keyname, theirs.isvsvn, theirs.cpusvn));
    assert_eq!(ours.keypolicy.bits(), theirs.keypolicy.bits());
    assert_eq!([ours.attributemask.flags.bits(), ours.attributemask.xfrm], theirs.attributemask);
    assert_eq!((ours.keyid, ours.miscmask.bits()), (theirs.keyid, theirs.miscmask));
}

#[test]
fn numbers() {
    use sgx_arch::{Encls, Enclu, ErrorCode, measure};
    assert_eq!(Encls::Emodt as u32, sgx_isa::Encls::EModt as u32);
    assert_eq!(Encls::Eextend as u32, sgx_isa::Encls::EExtend as u32);
    assert_eq!(Enclu::Eacceptcopy as u32, sgx_isa::Enclu::EAcceptcopy as u32);
    assert_eq!(ErrorCode::PageAttributesMismatch as u32, sgx_isa::ErrorCode::PageAttributesMismatch as u32);
    assert_eq!(ErrorCode::InvalidKeyname as u32, sgx_isa::ErrorCode::InvalidKeyname as u32);
    assert_eq!(measure::eextend(0)[..8], sgx_isa::MEAS_EEXTEND.to_le_bytes());
}
