//! EREPORT and EGETKEY in the enclave.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Enclave, FREE, Function, Options, PAGE, machine, read, write};
use sgx_arch::{AttributesFlags, ErrorCode, KeyName, Keypolicy, Keyrequest, Report, ReportBody, Targetinfo};
use sgx_machine::SoftwareSgx;
use sgx_model::keys::{CPUSVN, Key, cmac};
use zerocopy::IntoBytes;

/// Where the operands are in the enclave: one page each.
const INPUT: u64 = FREE;
const DATA: u64 = FREE + PAGE;
const OUTPUT: u64 = FREE + 2 * PAGE;

fn open(enclave: &Enclave) {
    for page in [INPUT, DATA, OUTPUT] {
        assert_eq!(enclave.eaccept(common::pending_rw(), page).value, 0);
        // Opens it for the test, too.
        assert_eq!(enclave.call(Function::Write, [page, 0, 0, 0]).value, 42);
    }
}

fn report(enclave: &Enclave, target: Targetinfo, data: [u8; 64]) -> Report {
    write(INPUT, target);
    write(DATA, data);
    enclave.call(Function::Ereport, [INPUT, DATA, OUTPUT, 0]);
    read(OUTPUT)
}

fn key(enclave: &Enclave, request: Keyrequest) -> Result<Key, u64> {
    write(INPUT, request);
    write(OUTPUT, [0xee_u8; 16]);
    let outcome = enclave.call(Function::Egetkey, [INPUT, OUTPUT, 0, 0]);
    assert!(outcome.exits.is_empty());
    let key = read(OUTPUT);
    if outcome.value == 0 {
        Ok(key)
    } else {
        assert_eq!(key, [0xee; 16], "no key where there is an error");
        Err(outcome.value)
    }
}

fn seal(keypolicy: Keypolicy) -> Keyrequest {
    Keyrequest { keyname: KeyName::Seal as u16, keypolicy, cpusvn: CPUSVN, ..Keyrequest::default() }
}

fn started(machine: &SoftwareSgx, options: &Options) -> Enclave {
    let enclave = Enclave::started(machine, options);
    open(&enclave);
    enclave
}

#[test]
fn a_report_says_what_the_enclave_is() {
    let options = Options { isvprodid: 12, isvsvn: 34, ..Options::default() };
    let enclave = started(&machine(), &options);
    let body = report(&enclave, Targetinfo::default(), [9; 64]).body;
    assert_eq!(body.mrenclave, enclave.secs.mrenclave);
    assert_eq!(body.mrsigner, common::key().public_key().mrsigner());
    assert_eq!((body.isvprodid, body.isvsvn), (12, 34));
    assert_eq!(body.attributes.flags, AttributesFlags::MODE64BIT | AttributesFlags::INIT);
    assert_eq!(body.attributes.xfrm, enclave.secs.attributes.xfrm);
    assert_eq!(body.miscselect, enclave.secs.miscselect);
    assert_eq!(body.reportdata, [9; 64]);
    assert_eq!(body.cpusvn, CPUSVN);
}

#[test]
fn one_enclave_verifies_the_report_of_another() {
    let target = {
        let verifier = started(&machine(), &Options { salt: 1, ..Options::default() });
        Targetinfo::from(&report(&verifier, Targetinfo::default(), [0; 64]).body)
    };
    let made = {
        let prover = started(&machine(), &Options::default());
        report(&prover, target, [5; 64])
    };
    let request = Keyrequest { keyname: KeyName::Report as u16, keyid: made.keyid, ..Keyrequest::default() };
    let verifies = |enclave: &Enclave, report: &Report| {
        cmac(&key(enclave, request).unwrap(), report.body.as_bytes()) == report.mac
    };
    let verifier = started(&machine(), &Options { salt: 1, ..Options::default() });
    assert!(verifies(&verifier, &made));
    assert!(!verifies(&verifier, &Report { body: ReportBody { isvsvn: 1, ..made.body }, ..made }));
    drop(verifier);
    let stranger = started(&machine(), &Options { salt: 2, ..Options::default() });
    assert!(!verifies(&stranger, &made));
    drop(stranger);
    let elsewhere = SoftwareSgx::with_secret(&[8; 32]).unwrap();
    let elsewhere = started(&elsewhere, &Options { salt: 1, ..Options::default() });
    assert!(!verifies(&elsewhere, &made));
}

#[test]
fn seal_keys_follow_the_policy_over_restarts_and_versions() {
    let keys = |options: &Options, isvsvn| {
        let enclave = started(&machine(), options);
        let by = |policy| key(&enclave, Keyrequest { isvsvn, ..seal(policy) });
        (by(Keypolicy::MRENCLAVE), by(Keypolicy::MRSIGNER))
    };
    let old = Options { isvsvn: 1, ..Options::default() };
    let new = Options { salt: 1, isvsvn: 2, ..Options::default() };
    let (old_enclave, old_signer) = keys(&old, 1);
    assert_eq!(keys(&old, 1), (old_enclave, old_signer), "a restart changes nothing");
    let (new_enclave, new_signer) = keys(&new, 1);
    assert_ne!(new_enclave, old_enclave);
    assert_eq!(new_signer, old_signer, "the new version reads what the old one sealed");
    assert_ne!(keys(&new, 2).1, old_signer);
    let too_new = Err(ErrorCode::InvalidIsvsvn as u64);
    assert_eq!(keys(&old, 2), (too_new, too_new), "the old version does not read what the new one sealed");
    let other_product = Options { isvprodid: 1, ..old };
    assert_ne!(keys(&other_product, 1).1, old_signer);
}

#[test]
fn egetkey_answers_codes_and_faults() {
    let enclave = started(&machine(), &Options::default());
    let code = |request| key(&enclave, request).unwrap_err();
    assert_eq!(code(Keyrequest { keyname: 9, ..Keyrequest::default() }), ErrorCode::InvalidKeyname as u64);
    let provision = Keyrequest { keyname: KeyName::Provision as u16, ..Keyrequest::default() };
    assert_eq!(code(provision), ErrorCode::InvalidAttribute as u64);
    let future = Keyrequest { cpusvn: [0xff; 16], ..seal(Keypolicy::MRSIGNER) };
    assert_eq!(code(future), ErrorCode::InvalidCpusvn as u64);

    enclave.skip(3);
    let vector = |function, arguments| enclave.call(function, arguments).vector();
    write(INPUT, Keyrequest { reserved1: 1, ..seal(Keypolicy::MRSIGNER) });
    assert_eq!(vector(Function::Egetkey, [INPUT, OUTPUT, 0, 0]), 13);
    write(INPUT, seal(Keypolicy::MRSIGNER));
    assert_eq!(vector(Function::Egetkey, [INPUT + 64, OUTPUT, 0, 0]), 13);
    assert_eq!(vector(Function::Egetkey, [INPUT, OUTPUT + 8, 0, 0]), 13);
    assert_eq!(vector(Function::Egetkey, [INPUT, 1 << 40, 0, 0]), 13);
    assert_eq!(vector(Function::Egetkey, [INPUT, FREE + 9 * PAGE, 0, 0]), 14);
    assert_eq!(vector(Function::Egetkey, [INPUT, common::CODE, 0, 0]), 14, "the output must be writable");
    assert_eq!(vector(Function::Ereport, [INPUT + 8, DATA, OUTPUT, 0]), 13);
    assert_eq!(vector(Function::Ereport, [INPUT, DATA + 64, OUTPUT, 0]), 13);
    assert_eq!(vector(Function::Ereport, [INPUT, DATA, OUTPUT + 256, 0]), 13);
    assert_eq!(vector(Function::Ereport, [INPUT, DATA, common::CODE, 0]), 14);
}
