//! EENTER, EEXIT, exceptions, ERESUME, interrupts.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{CODE, Enclave, FREE, Function, PAGE, host, run};
use sgx_arch::{ExitInfo, ExitType};
use sgx_device::{Exit, Leaf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn eenter_passes_registers_in_and_eexit_out() {
    let enclave = Enclave::start();
    for round in 0..1000 {
        let outcome = enclave.call(Function::Add, [round, 10, 100, 1000]);
        assert_eq!(outcome.value, 1110 + round);
        assert_eq!((outcome.r8, outcome.r9), (100, 1000));
        assert!(outcome.exits.is_empty());
    }
}

#[test]
fn the_host_keeps_its_flags_and_its_thread_local_storage() {
    let enclave = Enclave::start();
    thread_local!(static HERE: AtomicU64 = const { AtomicU64::new(7) });
    enclave.call(Function::Int3, [0; 4]);
    HERE.with(|here| assert_eq!(here.fetch_add(1, Ordering::Relaxed), 7));
    // This leaves DF set in the enclave. In the host it would make copies go backwards.
    enclave.call(Function::Fs, [0; 4]);
    let flags: u64;
    // SAFETY: only reads.
    unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    assert_eq!(flags & 0x400, 0);
    let text = vec![1_u8; 4096];
    assert_eq!(text.clone(), text);
}

#[test]
fn fs_is_the_offset_that_the_tcs_says() {
    let enclave = Enclave::start();
    assert_eq!(enclave.call(Function::Fs, [0; 4]).value, 0);
}

#[test]
fn each_exception_says_its_vector_and_type_and_the_instruction() {
    use ExitType::{HardwareException, SoftwareException};
    let enclave = Enclave::start();
    for (function, vector, exit_type, at, skip) in [
        // #BP is a trap: RIP is behind it.
        (Function::Int3, 3, SoftwareException, 1, 0),
        (Function::Ud2, 6, HardwareException, 0, 2),
        (Function::Divide, 0, HardwareException, 4, 2),
        (Function::Gp, 13, HardwareException, 10, 3),
    ] {
        enclave.skip(skip);
        let outcome = enclave.call(function, [0; 4]);
        assert_eq!(outcome.value, 42, "{function:?}");
        assert_eq!(outcome.vector(), vector);
        let thread = enclave.thread(0);
        assert_eq!(thread.exitinfo, u64::from(ExitInfo::new(vector, exit_type).0), "{function:?}");
        assert_eq!(thread.rip, CODE + function.offset() + at, "{function:?}");
        assert_eq!(thread.cssa, 1);
    }
}

#[test]
fn a_stack_fault_is_told_as_general_protection() {
    let enclave = Enclave::start();
    enclave.skip(1);
    let outcome = enclave.call(Function::Stack, [0; 4]);
    assert_eq!(outcome.value, 42);
    assert_eq!(enclave.thread(0).exitinfo, u64::from(ExitInfo::new(13, ExitType::HardwareException).0));
}

#[test]
fn a_page_fault_says_address_and_error_code() {
    let enclave = Enclave::start();
    let missing = FREE + 5 * PAGE + 0x123;
    enclave.skip(3);
    let outcome = enclave.call(Function::Read, [missing, 0, 0, 0]);
    assert_eq!(
        outcome.exits,
        [Exit::Exception { vector: 14, error_code: 0x8005, address: missing & !0xfff }]
    );
    let thread = enclave.thread(0);
    assert_eq!(thread.exitinfo, u64::from(ExitInfo::new(14, ExitType::HardwareException).0));
    assert_eq!((thread.maddr, thread.errcd), (missing, 0x8005));
    enclave.call(Function::Write, [missing, 0, 0, 0]);
    assert_eq!(enclave.thread(0).errcd, 0x8007);
    // Outside the mapping of the enclave it is a matter of page tables.
    enclave.call(Function::Read, [FREE - PAGE, 0, 0, 0]);
    assert_eq!(enclave.thread(0).errcd, 0x0004);
    // Outside ELRANGE, it is the host's.
    enclave.call(Function::Read, [1 << 46, 0, 0, 0]);
    assert_eq!((enclave.thread(0).maddr, enclave.thread(0).errcd), (1 << 46, 0x0004));
}

#[test]
fn a_system_call_in_the_enclave_is_an_undefined_instruction() {
    let enclave = Enclave::start();
    enclave.skip(2);
    for function in [Function::Syscall, Function::Int80] {
        let outcome = enclave.call(function, [0; 4]);
        assert_eq!(outcome.vector(), 6);
        let thread = enclave.thread(0);
        assert_eq!(thread.rip, CODE + function.offset() + 5);
        // RAX is what the program put there.
        assert!(matches!(outcome.value, 39 | 20));
    }
}

#[test]
fn every_register_survives_an_exception() {
    let enclave = Enclave::start();
    let avx = u64::from(enclave.secs.attributes.xfrm & 4 != 0);
    let outcome = enclave.call(Function::Patterns, [1000, 1, avx, 0]);
    assert_eq!(outcome.exits.len(), 1000);
    assert_eq!(outcome.value, 0);
}

#[test]
fn a_tcs_in_use_or_without_frames_or_unknown_cannot_be_entered() {
    let enclave = Enclave::start();
    let mut wrong = run(7, 0, [0; 4]);
    assert_eq!(enclave.enter(&mut wrong, Leaf::Eenter), Exit::Failed);
    // Not a TCS but a page.
    wrong.tcs = CODE;
    assert_eq!(enclave.enter(&mut wrong, Leaf::Eenter), Exit::Failed);
    // Nothing to resume.
    let mut fresh = run(0, 0, [0; 4]);
    assert_eq!(enclave.enter(&mut fresh, Leaf::Eresume), Exit::Failed);

    // A jump of the handler into nowhere takes one frame after the other: NSSA = 3.
    let mut run = run(0, Function::Int3.offset(), [0; 4]);
    assert!(matches!(enclave.enter(&mut run, Leaf::Eenter), Exit::Exception { vector: 3, .. }));
    enclave.change_thread(0, |thread| thread.ssa = u64::MAX >> 1);
    for _ in 1..3 {
        assert!(matches!(enclave.enter(&mut run, Leaf::Eenter), Exit::Exception { .. }));
    }
    assert_eq!(enclave.enter(&mut run, Leaf::Eenter), Exit::Failed);

    // A thread inside keeps the others out.
    let release = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enclave.device.prepare_thread().unwrap();
            assert_eq!(enclave.call_on(1, Function::Spin, [host(&release), 0, 0, 0]).value, 1);
        });
        let mut other = common::run(1, Function::Add.offset(), [0; 4]);
        let mut refused = false;
        for _ in 0..10_000 {
            refused |= enclave.enter(&mut other, Leaf::Eenter) == Exit::Failed;
            std::thread::yield_now();
            if refused {
                break;
            }
            other = common::run(1, Function::Add.offset(), [0; 4]);
        }
        release.store(1, Ordering::Relaxed);
        assert!(refused);
    });
}

#[test]
fn a_thread_that_was_not_prepared_cannot_enter() {
    let enclave = Enclave::start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut run = run(0, Function::Add.offset(), [0; 4]);
            assert_eq!(enclave.enter(&mut run, Leaf::Eenter), Exit::Failed);
        });
    });
}

#[test]
fn eresume_of_a_broken_frame_fails_and_keeps_it() {
    let enclave = Enclave::start();
    let mut run = run(0, Function::Int3.offset(), [0; 4]);
    assert!(matches!(enclave.enter(&mut run, Leaf::Eenter), Exit::Exception { vector: 3, .. }));
    // XCOMP_BV must be zero.
    let xcomp_bv = Enclave::slot(0) + PAGE + 520;
    common::write(xcomp_bv, 1_u64);
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Failed);
    common::write(xcomp_bv, 0_u64);
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Eexit);
    assert_eq!(run.rdi, 42);
}

/// Ends the other thread of a scope, also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn kick(thread: libc::pthread_t) {
    // SAFETY: the callers pass threads that live.
    assert_eq!(unsafe { libc::pthread_kill(thread, 64) }, 0);
}

fn myself() -> libc::pthread_t {
    // SAFETY: always possible.
    unsafe { libc::pthread_self() }
}

#[test]
fn an_interrupt_in_the_enclave_is_an_exit_without_a_vector() {
    let enclave = Enclave::start();
    let release = AtomicU64::new(0);
    let main = myself() as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            kick(main as libc::pthread_t);
            std::thread::sleep(std::time::Duration::from_millis(20));
            release.store(5, Ordering::Relaxed);
        });
        let outcome = enclave.call(Function::Spin, [host(&release), 0, 0, 0]);
        assert_eq!(outcome.value, 5);
        assert_eq!(outcome.exits, [Exit::Interrupt]);
        assert_eq!(enclave.thread(0).exitinfo, 0);
    });
}

#[test]
fn an_interrupt_before_eresume_is_not_lost() {
    let enclave = Enclave::start();
    let mut run = run(0, Function::Int3.offset(), [0; 4]);
    assert!(matches!(enclave.enter(&mut run, Leaf::Eenter), Exit::Exception { vector: 3, .. }));
    kick(myself());
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Interrupt);
    assert_eq!(enclave.enter(&mut run, Leaf::Eresume), Exit::Eexit);
    assert_eq!(run.rdi, 42);
    // Before EENTER it is: the enclave looks at what is pending by itself.
    kick(myself());
    assert!(enclave.call(Function::Add, [0; 4]).exits.is_empty());
}

#[test]
fn a_storm_of_interrupts_corrupts_nothing() {
    let enclave = Enclave::start();
    let avx = u64::from(enclave.secs.attributes.xfrm & 4 != 0);
    let done = AtomicBool::new(false);
    let main = myself() as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Faster than an exit and the way back, and nothing would get on: as with a storm on a processor.
            let mut pause = 20_u32;
            while !done.load(Ordering::Relaxed) {
                kick(main as libc::pthread_t);
                let start = std::time::Instant::now();
                while start.elapsed().as_micros() < pause.into() {
                    std::hint::spin_loop();
                }
                pause = (pause * 7 + 3) % 101 + 15;
            }
        });
        let _stop = Stop(&done);
        let mut interrupts = 0;
        let mut exceptions = 0;
        let start = std::time::Instant::now();
        while interrupts < 500 && start.elapsed() < std::time::Duration::from_secs(10) {
            // Long stays, stays with exceptions in them, and short stays that hit the entry code.
            for (function, arguments) in
                [(Function::Patterns, [20_000, 0, avx, 0]), (Function::Patterns, [20, 1, avx, 0])]
            {
                let outcome = enclave.call(function, arguments);
                assert_eq!(outcome.value, 0);
                interrupts += outcome.exits.iter().filter(|exit| **exit == Exit::Interrupt).count();
                exceptions += outcome.exits.len();
            }
            for round in 0..200 {
                let outcome = enclave.call(Function::Add, [round, 1, 2, 3]);
                assert_eq!(outcome.value, round + 6);
                interrupts += outcome.exits.len();
            }
        }
        assert!(interrupts > 20, "{interrupts} interrupts, {exceptions} exits");
    });
}

#[test]
fn threads_run_side_by_side() {
    let enclave = Enclave::start();
    std::thread::scope(|scope| {
        for index in 0..2 {
            let enclave = &enclave;
            scope.spawn(move || {
                enclave.device.prepare_thread().unwrap();
                let outcome = enclave.call_on(index, Function::Patterns, [3000, 1, 0, 0]);
                assert_eq!(outcome.value, 0);
                assert_eq!(outcome.exits.len(), 3000);
            });
        }
    });
}

#[test]
fn enclaves_come_one_after_the_other() {
    for _ in 0..3 {
        let enclave = Enclave::start();
        assert_eq!(enclave.call(Function::Int3, [0; 4]).value, 42);
    }
}
