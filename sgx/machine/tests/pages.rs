//! EACCEPT, EACCEPTCOPY, EMODPE, EMODPR, EMODT, EREMOVE, EAUG on demand, and what accesses then do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{CODE, ELRANGE, Enclave, FREE, Function, Options, PAGE, pending_rw, read, secinfo, write};
use sgx_arch::{ErrorCode, PageType, Secinfo, SecinfoFlags, Tcs};
use sgx_device::Exit;
use std::io::ErrorKind;
use zerocopy::IntoBytes;

const FAILED: u64 = ErrorCode::PageAttributesMismatch as u64;

fn trim() -> Secinfo {
    secinfo(PageType::Trim, SecinfoFlags::MODIFIED)
}

fn accepted(enclave: &Enclave, page: u64) {
    let outcome = enclave.eaccept(pending_rw(), page);
    assert_eq!((outcome.value, outcome.r8), (0, 0), "{outcome:?}");
}

/// What an access does: nothing, or the error code of a page fault.
fn access(enclave: &Enclave, function: Function, address: u64) -> Result<(), u64> {
    enclave.skip(if matches!(function, Function::Read | Function::Write) { 3 } else { 0 });
    let outcome = enclave.call(function, [address, 0x77, 0, 0]);
    match outcome.exits[..] {
        [] => Ok(()),
        [Exit::Exception { vector: 14, .. }] => {
            assert_eq!(enclave.thread(0).maddr, address);
            Err(enclave.thread(0).errcd)
        }
        _ => panic!("{outcome:?}"),
    }
}

/// A fault of a leaf: vector, error code, and the address of a page fault.
fn fault(enclave: &Enclave, leaf: u64, rbx: u64, rcx: u64, rdx: u64) -> (u8, u64, u64) {
    enclave.skip(3);
    let outcome = enclave.enclu(leaf, rbx, rcx, rdx);
    let thread = enclave.thread(0);
    (outcome.vector(), thread.errcd, if outcome.vector() == 14 { thread.maddr } else { 0 })
}

#[test]
fn a_page_is_usable_after_eaccept_and_zero() {
    let enclave = Enclave::start();
    assert_eq!(access(&enclave, Function::Read, FREE + 8), Err(0x8005));
    accepted(&enclave, FREE);
    assert_eq!(enclave.call(Function::Read, [FREE + 8, 0, 0, 0]).value, 0);
    assert_eq!(access(&enclave, Function::Write, FREE + 8), Ok(()));
    assert_eq!(enclave.call(Function::Read, [FREE + 8, 0, 0, 0]).value, 0x77);
    // Not executable yet.
    let outcome = eaccept_twice(&enclave);
    assert_eq!((outcome.value, outcome.r8), (FAILED, 1));
}

fn eaccept_twice(enclave: &Enclave) -> common::Outcome {
    enclave.eaccept(pending_rw(), FREE)
}

#[test]
fn the_handler_of_the_enclave_accepts_pages_on_demand() {
    let enclave = Enclave::start();
    enclave.accept_on_fault();
    for page in [3, 1, 2, 700, 5000] {
        let outcome = enclave.call(Function::Write, [FREE + page * PAGE, page, 0, 0]);
        assert_eq!(outcome.value, 42);
        assert_eq!(outcome.vector(), 14);
        assert_eq!(enclave.thread(0).status, 0);
        assert_eq!(enclave.call(Function::Read, [FREE + page * PAGE, 0, 0, 0]).value, page);
    }
}

#[test]
fn opening_many_accepted_pages_is_no_exit() {
    let enclave = Enclave::start();
    for page in 0..2000 {
        accepted(&enclave, FREE + page * PAGE);
    }
    for page in (0..2000).rev() {
        let outcome = enclave.call(Function::Write, [FREE + page * PAGE, page, 0, 0]);
        assert!(outcome.exits.is_empty());
    }
    for page in 0..2000 {
        assert_eq!(enclave.call(Function::Read, [FREE + page * PAGE, 0, 0, 0]).value, page);
    }
}

#[test]
fn eaccept_faults_as_documented() {
    let enclave = Enclave::start();
    let info = enclave.secinfo_address();
    let set = |flags| enclave.change_thread(0, |thread| thread.secinfo = flags);
    set(pending_rw());
    // #GP: alignment, range, reserved bits, an illegal combination.
    assert_eq!(fault(&enclave, 5, info + 8, FREE, 0).0, 13);
    assert_eq!(fault(&enclave, 5, info, FREE + 8, 0).0, 13);
    assert_eq!(fault(&enclave, 5, ELRANGE, FREE, 0).0, 13);
    assert_eq!(fault(&enclave, 5, info, ELRANGE, 0).0, 13);
    set(Secinfo::reg(SecinfoFlags::RW));
    assert_eq!(fault(&enclave, 5, info, FREE, 0).0, 13);
    let mut reserved = pending_rw();
    reserved.reserved[3] = 1;
    set(reserved);
    assert_eq!(fault(&enclave, 5, info, FREE, 0).0, 13);
    // #PF: the SECINFO is not there; the page is in no mapping.
    set(pending_rw());
    assert_eq!(fault(&enclave, 5, FREE + 64, FREE, 0), (14, 0x8005, FREE + 64));
    assert_eq!(fault(&enclave, 5, info, FREE - PAGE, 0), (14, 0x8007, FREE - PAGE));
}

#[test]
fn patched_sites_do_as_trapped_ones() {
    let enclave = Enclave::start();
    let info = enclave.secinfo_address();
    let set = |flags| enclave.change_thread(0, |thread| thread.secinfo = flags);
    for (patched, leaf) in [(Function::Eaccept, 5), (Function::Emodpe, 6)] {
        for flags in [pending_rw(), Secinfo::reg(SecinfoFlags::RWX), secinfo(PageType::Reg, SecinfoFlags::W)]
        {
            set(flags);
            // Two fresh pages for each case; the second time they are accepted.
            let (one, other) = (FREE + 16 * PAGE * leaf, FREE + 16 * PAGE * leaf + PAGE);
            for _ in 0..2 {
                enclave.skip(3);
                let trapped = enclave.enclu(leaf, info, one, 0);
                let trapped_errcd = enclave.thread(0).errcd;
                // enclu and its padding.
                enclave.skip(14);
                let fast = enclave.call(patched, [0, info, other, 0]);
                assert_eq!(fast.exits.len(), trapped.exits.len(), "{fast:?} {trapped:?}");
                if trapped.exits.is_empty() {
                    assert_eq!((fast.value, fast.r8), (trapped.value, trapped.r8));
                } else {
                    assert_eq!(fast.vector(), trapped.vector());
                    assert_eq!(enclave.thread(0).errcd, trapped_errcd);
                }
                assert_eq!(fast.r9, 1, "registers and red zone survive");
            }
        }
    }
}

#[test]
fn sites_with_room_are_jumps_and_others_are_left() {
    let enclave = Enclave::start();
    let code: Vec<u8> = (0..4096).map(|offset| read(CODE + offset)).collect();
    let sites = |pattern: &[u8]| code.windows(pattern.len()).filter(|window| *window == pattern).count();
    assert_eq!(sites(&[0xb8, 4, 0, 0, 0, 0xff, 0xe3, 0x90]), 2, "EEXIT");
    assert_eq!(sites(&[0xb8, 5, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0]), 2, "EACCEPT");
    assert_eq!(sites(&[0xb8, 6, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0]), 1, "EMODPE");
    assert_eq!(sites(&[0x0f, 0x01, 0xd7]), 3, "image_enclu, EREPORT and EGETKEY have no room");
    drop(enclave);
}

#[test]
fn a_fault_at_a_patched_site_points_to_the_site() {
    let enclave = Enclave::start();
    enclave.change_thread(0, |thread| thread.secinfo = pending_rw());
    enclave.skip(14);
    let outcome = enclave.call(Function::Eaccept, [0, enclave.secinfo_address(), FREE + 1, 0]);
    assert_eq!(outcome.vector(), 13);
    let rip = enclave.thread(0).rip;
    let site = CODE + Function::Eaccept.offset();
    assert!((site..site + 128).contains(&rip));
    // `mov eax, 5` is right before it.
    assert_eq!(read::<[u8; 5]>(rip - 5), [0xb8, 5, 0, 0, 0]);
}

#[test]
fn emodpe_gives_rights_and_the_access_just_works() {
    let enclave = Enclave::start();
    accepted(&enclave, FREE);
    // xor eax, eax; ret
    assert_eq!(enclave.call(Function::Write, [FREE, 0xc3_c031, 0, 0]).value, 42);
    enclave.accept_on_fault();
    let outcome = enclave.emodpe(Secinfo::reg(SecinfoFlags::X), FREE);
    assert!(outcome.exits.is_empty());
    assert_eq!(outcome.value, 6, "EMODPE leaves RAX alone");
    let outcome = enclave.call(Function::Call, [FREE, 0, 0, 0]);
    assert_eq!(outcome.value, 0);
    assert!(outcome.exits.is_empty());
    assert_eq!(access(&enclave, Function::Write, FREE), Ok(()));
    // Of a page that is not there.
    enclave.change_thread(0, |thread| thread.secinfo = Secinfo::reg(SecinfoFlags::X));
    let (vector, code, address) = fault(&enclave, 6, enclave.secinfo_address(), FREE + 9 * PAGE, 0);
    assert_eq!((vector, code, address), (14, 0x8007, FREE + 9 * PAGE));
}

#[test]
fn emodpr_takes_rights_at_once_and_waits_for_eaccept() {
    let enclave = Enclave::start();
    accepted(&enclave, FREE);
    accepted(&enclave, FREE + PAGE);
    assert_eq!(access(&enclave, Function::Write, FREE), Ok(()));
    enclave.device.restrict_permissions(FREE, 2 * PAGE, 1).unwrap();
    assert_eq!(access(&enclave, Function::Write, FREE), Err(0x8007));
    assert_eq!(access(&enclave, Function::Read, FREE), Ok(()));
    let restricted = secinfo(PageType::Reg, SecinfoFlags::R | SecinfoFlags::PR);
    assert_eq!(enclave.eaccept(restricted, FREE).value, 0);
    let too_much = secinfo(PageType::Reg, SecinfoFlags::RW | SecinfoFlags::PR);
    assert_eq!(enclave.eaccept(too_much, FREE + PAGE).value, FAILED);
    assert_eq!(access(&enclave, Function::Read, FREE + PAGE), Ok(()));
    // Giving W back is the enclave's to do.
    enclave.emodpe(Secinfo::reg(SecinfoFlags::W), FREE);
    assert_eq!(access(&enclave, Function::Write, FREE), Ok(()));

    let restrict = |offset, length| enclave.device.restrict_permissions(offset, length, 1);
    assert_eq!(restrict(FREE + 9 * PAGE, PAGE).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(restrict(ELRANGE, PAGE).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(restrict(FREE + 1, PAGE).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        enclave.device.restrict_permissions(FREE, PAGE, 8).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    // A page that waits for EACCEPT.
    let _ = access(&enclave, Function::Read, FREE + 7 * PAGE);
    assert_eq!(restrict(FREE + 7 * PAGE, PAGE).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn trimmed_pages_go_and_come_back_zero() {
    let enclave = Enclave::start();
    let pages = 600;
    for page in 0..pages {
        accepted(&enclave, FREE + page * PAGE);
        enclave.call(Function::Write, [FREE + page * PAGE, 99, 0, 0]);
    }
    let remove = || enclave.device.remove_pages(FREE, pages * PAGE);
    assert_eq!(remove().unwrap_err().kind(), ErrorKind::PermissionDenied);
    enclave.device.modify_types(FREE, pages * PAGE, PageType::Trim as u8).unwrap();
    assert_eq!(access(&enclave, Function::Read, FREE), Err(0x8005));
    assert_eq!(remove().unwrap_err().kind(), ErrorKind::PermissionDenied);
    for page in 0..pages {
        assert_eq!(enclave.eaccept(trim(), FREE + page * PAGE).value, 0);
    }
    remove().unwrap();
    assert_eq!(remove().unwrap_err().kind(), ErrorKind::PermissionDenied);
    accepted(&enclave, FREE);
    assert_eq!(enclave.call(Function::Read, [FREE, 0, 0, 0]).value, 0);
}

#[test]
fn a_regular_page_becomes_a_tcs_that_can_be_entered() {
    let enclave = Enclave::with(&Options { threads: 1, ..Options::default() });
    // Thread slot 1 does not exist: make its pages, then its TCS.
    let slot = Enclave::slot(1);
    enclave.map(slot, 0x8_0000, SecinfoFlags::RWX);
    let area = Enclave::area(1);
    for page in (slot..area + 8 * PAGE).step_by(4096) {
        accepted(&enclave, page);
        assert_eq!(access(&enclave, Function::Write, page), Ok(()));
    }
    let mut thread = enclave.thread(0);
    (thread.this, thread.ssa, thread.stack) = (area, slot + PAGE, area + 8 * PAGE);
    write(area, thread);
    write(slot, Tcs { nssa: 3, cssa: 1, ..Enclave::tcs_content(1) });
    let becomes = secinfo(PageType::Tcs, SecinfoFlags::MODIFIED);
    let into_tcs = || enclave.device.modify_types(slot, PAGE, PageType::Tcs as u8);
    into_tcs().unwrap();
    assert_eq!(into_tcs().unwrap_err().kind(), ErrorKind::InvalidInput);
    // CSSA must be zero: #GP at EACCEPT.
    enclave.change_thread(0, |thread| thread.secinfo = becomes);
    assert_eq!(fault(&enclave, 5, enclave.secinfo_address(), slot, 0).0, 13);

    // The next one is clean.
    let slot = slot + 0x7_0000;
    accepted(&enclave, slot);
    assert_eq!(access(&enclave, Function::Write, slot), Ok(()));
    write(slot, Enclave::tcs_content(1));
    enclave.device.modify_types(slot, PAGE, PageType::Tcs as u8).unwrap();
    assert_eq!(enclave.eaccept(becomes, slot).value, 0);
    assert_eq!(access(&enclave, Function::Read, slot), Err(0x8005));
    let mut run = common::run(1, Function::Add.offset(), [1, 2, 3, 4]);
    run.tcs = slot;
    assert_eq!(enclave.device.enter(&mut run), Exit::Eexit);
    assert_eq!(run.rdi, 10);
    // And it goes as any page.
    enclave.device.modify_types(slot, PAGE, PageType::Trim as u8).unwrap();
    assert_eq!(enclave.device.enter(&mut run), Exit::Failed);
}

#[test]
fn eacceptcopy_fills_a_fresh_page() {
    let enclave = Enclave::start();
    let (source, target) = (FREE, FREE + PAGE);
    accepted(&enclave, source);
    enclave.call(Function::Write, [source + 4088, 0x1234, 0, 0]);
    let info = enclave.secinfo_address();
    enclave.change_thread(0, |thread| thread.secinfo = Secinfo::reg(SecinfoFlags::RX));
    let outcome = enclave.enclu(7, info, target, source);
    assert_eq!((outcome.value, outcome.r8), (0, 0));
    assert_eq!(enclave.call(Function::Read, [target + 4088, 0, 0, 0]).value, 0x1234);
    let outcome = enclave.enclu(7, info, target, source);
    assert_eq!((outcome.value, outcome.r8), (FAILED, 1));
    assert_eq!(fault(&enclave, 7, info, FREE + 2 * PAGE, FREE + 3 * PAGE), (14, 0x8005, FREE + 3 * PAGE));
    assert_eq!(fault(&enclave, 7, info, FREE + 2 * PAGE, source + 8).0, 13);
    enclave.change_thread(0, |thread| thread.secinfo = pending_rw());
    let pending = enclave.enclu(7, info, FREE + 2 * PAGE, source);
    assert_eq!(pending.value, 0, "PENDING in the SECINFO is not looked at");
}

#[test]
fn the_mapping_restricts_what_the_epcm_allows() {
    let enclave = Enclave::start();
    for page in 0..4 {
        accepted(&enclave, FREE + page * PAGE);
        assert_eq!(access(&enclave, Function::Write, FREE + page * PAGE), Ok(()));
    }
    enclave.map(FREE + PAGE, 2 * PAGE, SecinfoFlags::R);
    assert_eq!(access(&enclave, Function::Write, FREE), Ok(()));
    assert_eq!(access(&enclave, Function::Write, FREE + PAGE), Err(0x0007));
    assert_eq!(access(&enclave, Function::Read, FREE + 2 * PAGE), Ok(()));
    assert_eq!(access(&enclave, Function::Write, FREE + 3 * PAGE), Ok(()));
    enclave.map(FREE, 64 << 20, SecinfoFlags::empty());
    assert_eq!(access(&enclave, Function::Read, FREE + 2 * PAGE), Err(0x0005));
    enclave.map(FREE, 64 << 20, SecinfoFlags::RWX);
    assert_eq!(access(&enclave, Function::Write, FREE + PAGE), Ok(()));
    assert_eq!(enclave.call(Function::Read, [FREE + PAGE, 0, 0, 0]).value, 0x77);
}

#[test]
fn other_leaves_inside_an_enclave_fault() {
    let enclave = Enclave::start();
    assert_eq!(fault(&enclave, 2, 0, 0, 0).0, 13);
    assert_eq!(fault(&enclave, 3, 0, 0, 0).0, 13);
    assert_eq!(fault(&enclave, 9, 0, 0, 0).0, 13);
    assert_eq!(fault(&enclave, 99, 0, 0, 0).0, 13);
    assert_eq!(fault(&enclave, u64::MAX, 0, 0, 0).0, 13);
}

#[test]
fn pages_are_added_only_where_and_when_they_may() {
    let mut enclave = Enclave::loaded(&common::machine(), &Options::default());
    let page = [0; 4096];
    let reg = Secinfo::reg(SecinfoFlags::RW);
    let mut refused = |source: &[u8], offset, info: &Secinfo| {
        enclave.add(source, offset, info, false).unwrap_err().kind() == ErrorKind::InvalidInput
    };
    assert!(refused(&page, CODE, &reg), "there is one");
    assert!(refused(&page, FREE + 1, &reg));
    assert!(refused(&page[..100], FREE, &reg));
    assert!(refused(&[], FREE, &reg));
    assert!(refused(&page, ELRANGE, &reg));
    assert!(refused(&page, u64::MAX - 4095, &reg));
    assert!(refused(&page, 0, &reg), "page zero is never mapped");
    assert!(refused(&page, FREE, &pending_rw()));
    assert!(refused(&page, FREE, &Secinfo::reg(SecinfoFlags::W)));
    let tcs = Tcs { state: 1, ..Enclave::tcs_content(0) };
    assert!(refused(tcs.as_bytes(), FREE, &Secinfo::tcs()));
    assert!(enclave.add(&page, FREE, &reg, false).is_ok());

    let sigstruct = common::sign(enclave.unsigned());
    enclave.device.init(&sigstruct).unwrap();
    assert_eq!(enclave.device.init(&sigstruct).unwrap_err().kind(), ErrorKind::InvalidInput);
    let late = enclave.add(&page, FREE + PAGE, &reg, false);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::InvalidInput);
}
