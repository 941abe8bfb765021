//! What signals do to the host side: faults of the host stay its own, interrupts go where they should.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Enclave, Function};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Runs a test of this file again, in a process that may die.
fn child(test: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn a_fault_of_the_host_ends_the_process_as_it_always_did() {
    for (test, signal) in [
        ("dies_of_a_null_pointer", libc::SIGSEGV),
        ("dies_of_a_breakpoint", libc::SIGTRAP),
        ("dies_of_an_undefined_instruction", libc::SIGILL),
        ("dies_of_a_signal_from_outside", libc::SIGFPE),
        ("dies_in_a_thread_of_its_own", libc::SIGSEGV),
    ] {
        assert_eq!(child(test).signal(), Some(signal), "{test}");
    }
}

#[test]
#[ignore = "ends its process"]
fn dies_of_a_null_pointer() {
    let enclave = Enclave::start();
    assert_eq!(enclave.call(Function::Int3, [0; 4]).value, 42);
    let nothing = std::ptr::without_provenance::<u8>(8);
    // SAFETY: none. It is meant to fault.
    let _ = unsafe { nothing.read_volatile() };
}

#[test]
#[ignore = "ends its process"]
fn dies_of_a_breakpoint() {
    let _enclave = Enclave::start();
    // SAFETY: it is meant to trap.
    unsafe { std::arch::asm!("int3") };
}

#[test]
#[ignore = "ends its process"]
fn dies_of_an_undefined_instruction() {
    let _enclave = Enclave::start();
    // SAFETY: it is meant to trap.
    unsafe { std::arch::asm!("ud2") };
}

#[test]
#[ignore = "ends its process"]
fn dies_of_a_signal_from_outside() {
    let _enclave = Enclave::start();
    let process = libc::pid_t::try_from(std::process::id()).unwrap();
    // SAFETY: takes numbers only.
    unsafe { libc::kill(process, libc::SIGFPE) };
}

#[test]
#[ignore = "ends its process"]
fn dies_in_a_thread_of_its_own() {
    let _enclave = Enclave::start();
    let _ = std::thread::spawn(|| {
        let nothing = std::ptr::without_provenance::<u8>(8);
        // SAFETY: none. It is meant to fault.
        unsafe { nothing.read_volatile() }
    })
    .join();
}

#[test]
fn an_interrupt_of_a_thread_that_never_enters_is_ignored() {
    let _enclave = Enclave::start();
    std::thread::spawn(|| {
        for _ in 0..100 {
            // SAFETY: takes numbers only.
            assert_eq!(unsafe { libc::raise(64) }, 0);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn an_interrupt_ends_a_blocking_call_of_the_host() {
    let _enclave = Enclave::start();
    // SAFETY: always possible.
    let main = unsafe { libc::pthread_self() } as u64;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // SAFETY: the thread waits for this one.
            unsafe { libc::pthread_kill(main as libc::pthread_t, 64) };
        });
        // SAFETY: takes numbers only.
        let slept = unsafe { libc::poll(std::ptr::null_mut(), 0, 10_000) };
        assert_eq!(slept, -1);
        assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted);
    });
}

#[test]
fn a_host_thread_that_uses_gs_keeps_it() {
    let enclave = Enclave::start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mine = 1_u64 << 40;
            // SAFETY: nothing in this thread uses GS.
            unsafe { std::arch::asm!("wrgsbase {}", in(reg) mine) };
            enclave.device.prepare_thread().unwrap();
            for function in [Function::Add, Function::Int3] {
                enclave.call(function, [0; 4]);
                let now: u64;
                // SAFETY: only reads.
                unsafe { std::arch::asm!("rdgsbase {}", out(reg) now) };
                assert_eq!(now, mine);
            }
        });
    });
}

#[test]
fn threads_come_and_go() {
    let enclave = Enclave::start();
    for round in 0..200 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enclave.device.prepare_thread().unwrap();
                assert_eq!(enclave.call(Function::Add, [round, 0, 0, 0]).value, round);
                assert_eq!(enclave.call(Function::Int3, [0; 4]).value, 42);
            });
        });
    }
}

/// Makes `prctl(PR_SET_SYSCALL_USER_DISPATCH)` unknown, as before Linux 5.11.
fn forget_user_dispatch() {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let unless = |k, jf| libc::sock_filter { code: 0x15, jt: 0, jf, k };
    let mut program = [
        statement(0x20, 0),
        unless(u32::try_from(libc::SYS_prctl).unwrap(), 3),
        statement(0x20, 16),
        unless(59, 1),
        statement(0x06, libc::SECCOMP_RET_ERRNO | 22),
        statement(0x06, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: `filter` describes `program`.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(done, 0);
}

#[test]
fn seccomp_takes_over_where_there_is_no_user_dispatch() {
    // A thread of its own: filters stay.
    std::thread::spawn(|| {
        forget_user_dispatch();
        let enclave = Enclave::start();
        enclave.skip(2);
        for _ in 0..10 {
            let outcome = enclave.call(Function::Syscall, [0; 4]);
            assert_eq!(outcome.vector(), 6);
            assert_eq!(outcome.value, 39);
        }
        // SAFETY: takes nothing, cannot fail.
        assert!(unsafe { libc::getppid() } >= 0, "the host still has its system calls");
    })
    .join()
    .unwrap();
}
