//! ECREATE and EINIT: what they refuse, and that they say why.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{CODE, Enclave, Function, Options, PAGE, run, sign};
use sgx_arch::{AttributesFlags, Secinfo, SecinfoFlags, Secs};
use sgx_device::{Exit, SgxDevice};
use std::io::ErrorKind;

fn loaded() -> Enclave {
    Enclave::loaded(&common::machine(), &Options::default())
}

/// The message of a refusal with EPERM.
fn refusal(enclave: &Enclave, sigstruct: &sgx_arch::Sigstruct) -> String {
    let error = enclave.device.init(sigstruct).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    error.to_string()
}

#[test]
fn a_signed_enclave_starts_and_no_other_does() {
    let enclave = loaded();
    let unsigned = enclave.unsigned();
    assert!(refusal(&enclave, &unsigned).contains("SIGSTRUCT"));
    let mut tampered = sign(unsigned);
    tampered.isvsvn = 1;
    assert!(refusal(&enclave, &tampered).contains("signature"));
    let mut hash = unsigned.enclavehash;
    hash[0] ^= 1;
    let other = sign(sgx_arch::Sigstruct { enclavehash: hash, ..unsigned });
    assert!(refusal(&enclave, &other).contains("MRENCLAVE"));
    let mut debug = unsigned;
    debug.attributes.flags |= AttributesFlags::DEBUG;
    assert!(refusal(&enclave, &sign(debug)).contains("debug"));
    // A refusal leaves the enclave as it was.
    enclave.device.init(&sign(unsigned)).unwrap();
}

#[test]
fn nothing_can_be_entered_or_changed_before_einit() {
    let enclave = loaded();
    enclave.device.prepare_thread().unwrap();
    let mut run = run(0, Function::Add.offset(), [0; 4]);
    assert_eq!(enclave.device.enter(&mut run), Exit::Failed);
    assert_eq!(
        enclave.device.restrict_permissions(CODE, PAGE, 1).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(enclave.device.modify_types(CODE, PAGE, 4).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(enclave.device.remove_pages(CODE, PAGE).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_changed_page_changes_what_must_be_signed() {
    let mut enclave = loaded();
    let before = enclave.unsigned();
    enclave.add(&[0; 4096], CODE + 16 * PAGE, &Secinfo::reg(SecinfoFlags::R), false).unwrap();
    assert!(refusal(&enclave, &sign(before)).contains("MRENCLAVE"));
    enclave.device.init(&sign(enclave.unsigned())).unwrap();
}

#[test]
fn ecreate_says_what_it_does_not_like() {
    let machine = common::machine();
    let error = machine.create(&Secs::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("SECS.SIZE"));
    let enclave = loaded();
    let error = machine.create(&enclave.secs).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy, "ELRANGE is taken");
}
