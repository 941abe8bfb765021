//! Each leaf of ENCLU with each operand wrong in each way that the SDM documents, and the frames that EENTER and ERESUME need.
//!
//! Successes, and what a leaf then changes, are in `pages.rs`, `keys.rs` and `entry.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{CODE, ELRANGE, Enclave, FREE, Function, Options, PAGE, pending_rw, run, secinfo, sign};
use sgx_arch::{KeyName, Keypolicy, Keyrequest, PageType, Secinfo, SecinfoFlags, Tcs};
use sgx_device::{Exit, Leaf};
use sgx_model::keys::CPUSVN;
use std::io::ErrorKind;
use zerocopy::IntoBytes;

const EREPORT: u64 = 0;
const EGETKEY: u64 = 1;
const EEXIT: u64 = 4;
const EACCEPT: u64 = 5;
const EMODPE: u64 = 6;
const EACCEPTCOPY: u64 = 7;

/// Readable and writable.
const GOOD: u64 = FREE;
/// Only readable.
const READ_ONLY: u64 = FREE + PAGE;
/// Another that is readable and writable.
const OTHER: u64 = FREE + 2 * PAGE;
/// In the mapping, and not there: a leaf that touches it gets a page that waits for EACCEPT.
const MISSING: u64 = FREE + 64 * PAGE;
/// In ELRANGE, and in no mapping.
const UNMAPPED: u64 = FREE - PAGE;
/// A page that no software accesses.
const TCS: u64 = Enclave::slot(1);

const RIGHTS_OF_A_READ: u64 = 0x8005;
const RIGHTS_OF_A_WRITE: u64 = 0x8007;

/// What a leaf raises.
#[derive(Debug, PartialEq, Eq)]
enum Raised {
    /// #GP(0).
    Protection,
    /// #PF, with address and error code.
    Page(u64, u64),
}

fn raised(enclave: &Enclave, leaf: u64, rbx: u64, rcx: u64, rdx: u64) -> Raised {
    enclave.skip(3);
    let outcome = enclave.enclu(leaf, rbx, rcx, rdx);
    match outcome.vector() {
        13 => Raised::Protection,
        14 => Raised::Page(enclave.thread(0).maddr, enclave.thread(0).errcd),
        other => panic!("leaf {leaf} raises {other}"),
    }
}

fn set_secinfo(enclave: &Enclave, info: Secinfo) {
    enclave.change_thread(0, |thread| thread.secinfo = info);
}

/// An enclave with the pages that the constants name.
fn enclave() -> Enclave {
    let enclave = Enclave::start();
    for page in [GOOD, READ_ONLY, OTHER] {
        assert_eq!(enclave.eaccept(pending_rw(), page).value, 0);
        assert_eq!(enclave.call(Function::Write, [page, 0, 0, 0]).value, 42);
    }
    enclave.device.restrict_permissions(READ_ONLY, PAGE, SecinfoFlags::R.bits()).unwrap();
    enclave
}

/// Operands of a leaf that succeeds, and what is asked of each of them.
struct Operands {
    leaf: u64,
    /// RBX, RCX, RDX.
    good: [u64; 3],
    /// How each must be aligned; 0: it is not an address.
    align: [u64; 3],
    /// Which are written to; the others are read, or are pages that the leaf changes.
    writes: [bool; 3],
    /// Which are accessed as data.
    accesses: [bool; 3],
}

fn all_operands(info: u64) -> [Operands; 5] {
    let reads = [false; 3];
    [
        Operands {
            leaf: EREPORT,
            good: [GOOD, OTHER, OTHER + 512],
            align: [512, 128, 512],
            writes: [false, false, true],
            accesses: [true; 3],
        },
        Operands {
            leaf: EGETKEY,
            good: [GOOD, OTHER, 0],
            align: [512, 16, 0],
            writes: [false, true, false],
            accesses: [true, true, false],
        },
        Operands {
            leaf: EACCEPT,
            good: [info, GOOD, 0],
            align: [64, PAGE, 0],
            writes: reads,
            accesses: [true, false, false],
        },
        Operands {
            leaf: EMODPE,
            good: [info, GOOD, 0],
            align: [64, PAGE, 0],
            writes: reads,
            accesses: [true, false, false],
        },
        Operands {
            leaf: EACCEPTCOPY,
            good: [info, MISSING + PAGE, GOOD],
            align: [64, PAGE, PAGE],
            writes: reads,
            accesses: [true, false, true],
        },
    ]
}

/// A SECINFO that the leaf takes.
fn secinfo_of(leaf: u64) -> Secinfo {
    if leaf == EACCEPT { pending_rw() } else { Secinfo::reg(SecinfoFlags::RW) }
}

#[test]
fn an_operand_out_of_line_or_out_of_the_enclave_is_a_protection_fault() {
    let enclave = enclave();
    for leaf in all_operands(enclave.secinfo_address()) {
        set_secinfo(&enclave, secinfo_of(leaf.leaf));
        for (index, &align) in leaf.align.iter().enumerate().filter(|&(_, &align)| align != 0) {
            let good = leaf.good[index];
            for bad in [good + 1, good + align / 2, ELRANGE, ELRANGE + PAGE, 1 << 46, !0xfff] {
                let mut operands = leaf.good;
                operands[index] = bad;
                let [rbx, rcx, rdx] = operands;
                let got = raised(&enclave, leaf.leaf, rbx, rcx, rdx);
                assert_eq!(got, Raised::Protection, "leaf {}, operand {index}: {bad:#x}", leaf.leaf);
            }
        }
    }
}

#[test]
fn an_operand_that_is_not_accessible_is_a_page_fault_that_says_where() {
    let enclave = enclave();
    common::write(GOOD, [0_u8; 512]);
    for leaf in all_operands(enclave.secinfo_address()) {
        set_secinfo(&enclave, secinfo_of(leaf.leaf));
        for index in (0..3).filter(|&index| leaf.accesses[index]) {
            let rights = if leaf.writes[index] { RIGHTS_OF_A_WRITE } else { RIGHTS_OF_A_READ };
            let unwritable = leaf.writes[index].then_some(READ_ONLY);
            for bad in [MISSING, UNMAPPED, TCS].into_iter().chain(unwritable) {
                let mut operands = leaf.good;
                operands[index] = bad;
                let [rbx, rcx, rdx] = operands;
                let got = raised(&enclave, leaf.leaf, rbx, rcx, rdx);
                assert_eq!(got, Raised::Page(bad, rights), "leaf {}, operand {index}", leaf.leaf);
            }
        }
    }
}

#[test]
fn a_page_that_cannot_be_changed_is_a_page_fault_or_a_mismatch() {
    let enclave = enclave();
    let info = enclave.secinfo_address();
    // Where there is no page, and none is added.
    for leaf in [EACCEPT, EMODPE] {
        set_secinfo(&enclave, secinfo_of(leaf));
        assert_eq!(raised(&enclave, leaf, info, UNMAPPED, 0), Raised::Page(UNMAPPED, RIGHTS_OF_A_WRITE));
    }
    // A TCS is not a regular page.
    assert_eq!(raised(&enclave, EMODPE, info, TCS, 0), Raised::Page(TCS, RIGHTS_OF_A_WRITE));
    let mismatch = |outcome: common::Outcome| {
        assert!(outcome.exits.is_empty(), "{outcome:?}");
        assert_eq!((outcome.value, outcome.r8), (sgx_arch::ErrorCode::PageAttributesMismatch as u64, 1));
    };
    mismatch(enclave.eaccept(pending_rw(), TCS));
    mismatch(enclave.eaccept(pending_rw(), GOOD));
    mismatch(enclave.eaccept(secinfo(PageType::Trim, SecinfoFlags::MODIFIED), GOOD));
    set_secinfo(&enclave, Secinfo::reg(SecinfoFlags::RW));
    for target in [GOOD, TCS, UNMAPPED] {
        mismatch(enclave.enclu(EACCEPTCOPY, info, target, OTHER));
    }
}

#[test]
fn a_secinfo_that_makes_no_sense_is_a_protection_fault() {
    use SecinfoFlags as F;
    let enclave = enclave();
    let mut reserved = secinfo(PageType::Reg, F::RW | F::PENDING);
    reserved.reserved[55] = 1;
    let unknown_flag = secinfo(PageType::Reg, F::RW | F::PENDING | F::from_bits_retain(1 << 7));
    let cases: [(u64, &[Secinfo]); 3] = [
        (
            EACCEPT,
            &[
                reserved,
                unknown_flag,
                Secinfo::reg(F::RW),
                secinfo(PageType::Reg, F::RW | F::PENDING | F::MODIFIED),
                secinfo(PageType::Trim, F::empty()),
                secinfo(PageType::Trim, F::MODIFIED | F::PENDING),
                secinfo(PageType::Tcs, F::MODIFIED | F::PR),
                secinfo(PageType::Secs, F::MODIFIED),
                secinfo(PageType::Va, F::PENDING),
            ],
        ),
        (EMODPE, &[reserved, unknown_flag]),
        (EACCEPTCOPY, &[reserved, unknown_flag, Secinfo::reg(F::W), Secinfo::tcs()]),
    ];
    for (leaf, infos) in cases {
        for (index, info) in infos.iter().enumerate() {
            set_secinfo(&enclave, *info);
            let target = if leaf == EACCEPTCOPY { MISSING } else { GOOD };
            let got = raised(&enclave, leaf, enclave.secinfo_address(), target, OTHER);
            assert_eq!(got, Raised::Protection, "leaf {leaf}, case {index}");
        }
    }
    // EMODPE never makes a page writable that is not readable.
    enclave.device.restrict_permissions(OTHER, PAGE, 0).unwrap();
    set_secinfo(&enclave, Secinfo::reg(F::W));
    assert_eq!(raised(&enclave, EMODPE, enclave.secinfo_address(), OTHER, 0), Raised::Protection);
}

#[test]
fn a_key_request_with_reserved_bits_or_the_policies_of_kss_is_a_protection_fault() {
    let enclave = enclave();
    let good = Keyrequest {
        keyname: KeyName::Seal as u16,
        keypolicy: Keypolicy::MRSIGNER,
        cpusvn: CPUSVN,
        ..Keyrequest::default()
    };
    let mut reserved = good;
    reserved.reserved2[433] = 1;
    for (index, bad) in [
        reserved,
        Keyrequest { reserved1: 1, ..good },
        Keyrequest { keypolicy: Keypolicy::from_bits_retain(1 << 6), ..good },
        Keyrequest { keypolicy: Keypolicy::CONFIGID, ..good },
        Keyrequest { configsvn: 1, ..good },
    ]
    .into_iter()
    .enumerate()
    {
        common::write(GOOD, bad);
        assert_eq!(raised(&enclave, EGETKEY, GOOD, OTHER, 0), Raised::Protection, "case {index}");
    }
    common::write(GOOD, good);
    assert_eq!(enclave.enclu(EGETKEY, GOOD, OTHER, 0).value, 0);
}

#[test]
fn eexit_to_an_address_that_is_not_canonical_is_a_protection_fault() {
    let enclave = enclave();
    for target in [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff] {
        assert_eq!(raised(&enclave, EEXIT, target, 0, 0), Raised::Protection, "{target:#x}");
    }
}

#[test]
fn a_missing_page_is_added_only_in_a_mapping_for_reading_and_writing() {
    let enclave = enclave();
    let touch = |address| {
        enclave.skip(3);
        enclave.call(Function::Read, [address, 0, 0, 0]).vector();
        enclave.thread(0).errcd
    };
    // The page is there now, and waits: the fault is one of rights in the EPCM.
    assert_eq!(touch(MISSING), RIGHTS_OF_A_READ);
    assert_eq!(enclave.eaccept(pending_rw(), MISSING).value, 0);
    for rights in [SecinfoFlags::empty(), SecinfoFlags::R, SecinfoFlags::RX] {
        let page = MISSING + (2 + rights.bits()) * PAGE;
        enclave.map(page, PAGE, rights);
        touch(page);
        enclave.map(page, PAGE, SecinfoFlags::RW);
        // Were it there, this would say that it waits for EACCEPT.
        let kind = enclave.device.restrict_permissions(page, PAGE, 1).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::InvalidInput, "{rights:?}");
    }
}

#[test]
fn emodt_and_eremove_take_only_what_they_may() {
    let enclave = enclave();
    let modify = |page, kind: PageType| enclave.device.modify_types(page, PAGE, kind as u8);
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    for target in [PageType::Reg, PageType::Secs, PageType::Va] {
        assert_eq!(kind(modify(GOOD, target)), ErrorKind::InvalidInput, "{target:?}");
    }
    assert_eq!(kind(enclave.device.modify_types(GOOD, PAGE, 200)), ErrorKind::InvalidInput);
    assert_eq!(kind(modify(TCS, PageType::Tcs)), ErrorKind::InvalidInput);
    assert_eq!(kind(modify(UNMAPPED, PageType::Trim)), ErrorKind::InvalidInput);
    assert_eq!(kind(modify(ELRANGE, PageType::Trim)), ErrorKind::InvalidInput);
    assert_eq!(kind(modify(GOOD + 1, PageType::Trim)), ErrorKind::InvalidInput);
    assert_eq!(kind(enclave.device.modify_types(GOOD, 0, PageType::Trim as u8)), ErrorKind::InvalidInput);
    // One that waits for EACCEPT.
    enclave.skip(3);
    enclave.call(Function::Read, [MISSING, 0, 0, 0]);
    assert_eq!(kind(modify(MISSING, PageType::Trim)), ErrorKind::WouldBlock);
    // All of a range or nothing.
    let whole = OTHER..OTHER + 2 * PAGE;
    let both = enclave.device.modify_types(whole.start, whole.end - whole.start, PageType::Trim as u8);
    assert_eq!(kind(both), ErrorKind::InvalidInput, "the second page is missing");
    assert_eq!(enclave.call(Function::Read, [OTHER, 0, 0, 0]).exits, [], "the first is as it was");

    let remove = |page| enclave.device.remove_pages(page, PAGE);
    for page in [GOOD, TCS, MISSING, UNMAPPED] {
        assert_eq!(kind(remove(page)), ErrorKind::PermissionDenied, "{page:#x}");
    }
    assert_eq!(kind(remove(ELRANGE)), ErrorKind::InvalidInput);
    assert_eq!(kind(remove(GOOD + 8)), ErrorKind::InvalidInput);
    // What no rule allows to be restricted.
    let restrict =
        |page, rights: SecinfoFlags| enclave.device.restrict_permissions(page, PAGE, rights.bits());
    assert_eq!(kind(restrict(GOOD, SecinfoFlags::W)), ErrorKind::InvalidInput, "W without R");
    assert_eq!(kind(restrict(TCS, SecinfoFlags::R)), ErrorKind::InvalidInput, "a TCS");
}

/// An initialized enclave with one more TCS, at [`CODE`] + 32 pages, which has its frames at `ossa`.
fn with_tcs(ossa: u64, nssa: u32) -> (Enclave, u64) {
    let mut enclave = Enclave::loaded(&common::machine(), &Options::default());
    let address = CODE + 32 * PAGE;
    let tcs = Tcs { ossa, nssa, ..Enclave::tcs_content(0) };
    enclave.add(tcs.as_bytes(), address, &Secinfo::tcs(), true).unwrap();
    enclave.device.init(&sign(enclave.unsigned())).unwrap();
    enclave.device.prepare_thread().unwrap();
    (enclave, address)
}

#[test]
fn eenter_needs_a_frame_that_can_be_written() {
    // Not there, not in the mapping, not writable, not all of it there, no frame at all.
    let last_of_thread_0 = Enclave::slot(0) + PAGE + (common::SSA_FRAMES - 1) * common::FRAME;
    let frames = Enclave::slot(0) + PAGE;
    for (ossa, nssa, enters) in [
        (FREE, 3, false),
        (UNMAPPED, 3, false),
        (CODE, 3, false),
        (ELRANGE - PAGE, 3, false),
        (frames, 0, false),
        (frames, 1, true),
        (last_of_thread_0, 1, true),
    ] {
        let (enclave, tcs) = with_tcs(ossa, nssa);
        let mut run = run(0, Function::Add.offset(), [1, 2, 3, 4]);
        run.tcs = tcs;
        let exit = enclave.enter(&mut run, Leaf::Eenter);
        assert_eq!(exit == Exit::Eexit, enters, "frames at {ossa:#x}: {exit:?}");
        assert_eq!(exit == Exit::Failed, !enters);
    }
}

#[test]
fn eresume_needs_the_frame_that_the_exit_wrote() {
    let enclave = Enclave::start();
    let mut run = run(0, Function::Int3.offset(), [0; 4]);
    assert!(matches!(enclave.enter(&mut run, Leaf::Eenter), Exit::Exception { vector: 3, .. }));
    let frame = Enclave::slot(0) + PAGE;
    enclave.device.restrict_permissions(frame, PAGE, SecinfoFlags::R.bits()).unwrap();
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Failed);
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Failed, "and it stays so");
}
