//! Prints what transitions of the software machine cost, in nanoseconds: the median of nine samples, and how many system calls
//! of the host that is.
//!
//! `cargo run --release -p occlum-sgx-machine --example transitions`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program to look at numbers with")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Enclave, FREE, Function, PAGE};
use sgx_arch::{PageType, Secinfo, SecinfoFlags};
use sgx_device::Exit;
use std::sync::OnceLock;
use std::time::Instant;

/// What a system call of the host costs in this run, in nanoseconds.
static HOST_CALL: OnceLock<f64> = OnceLock::new();

/// Prints nanoseconds per round of `work`, which does `rounds` of them. The first that is measured is the system call that the
/// others are compared with.
fn measure(name: &str, rounds: u32, mut work: impl FnMut()) {
    let mut samples: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    let host = HOST_CALL.get_or_init(|| samples[4]);
    println!("{name:<44} {:>9.1} ns {:>8.2} x", samples[4], samples[4] / host);
}

fn main() {
    let bytes = 64_usize << 20;
    let page_count = u32::try_from(bytes / 4096).unwrap();
    let source: Vec<u8> = (0..bytes).map(|index| index.to_le_bytes()[1]).collect();
    for measured in [false, true] {
        let mut enclave = Enclave::loaded(&common::machine(), &common::Options::default());
        let start = Instant::now();
        enclave.device.add_pages(&source, FREE, &Secinfo::reg(SecinfoFlags::RW), measured).unwrap();
        let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(page_count);
        println!("EADD of a page, measured: {measured:<18} {each:>9.1} ns");
        enclave.options.salt = 1;
    }
    common::key();
    let start = Instant::now();
    let enclave = Enclave::loaded(&common::machine(), &common::Options::default());
    println!("ECREATE and EADD of a small enclave {:>18.0} us", start.elapsed().as_secs_f64() * 1e6);
    let sigstruct = common::sign(enclave.unsigned());
    let start = Instant::now();
    enclave.device.init(&sigstruct).unwrap();
    println!("EINIT {:>48.0} us", start.elapsed().as_secs_f64() * 1e6);
    enclave.device.prepare_thread().unwrap();
    // SAFETY: takes nothing, cannot fail.
    measure("getppid of the host", 100_000, || {
        (0..100_000).for_each(|_| {
            // SAFETY: takes nothing, cannot fail.
            let _ = unsafe { libc::getppid() };
        });
    });
    measure("EENTER + EEXIT", 100_000, || {
        (0..100_000).for_each(|_| {
            let mut run = common::run(0, Function::Add.offset(), [1, 2, 3, 4]);
            assert_eq!(enclave.device.enter(&mut run), Exit::Eexit);
        });
    });
    measure("AEX + handler + ERESUME, #BP", 2000, || {
        enclave.call(Function::Patterns, [2000, 1, 0, 0]);
    });
    enclave.skip(2);
    measure("trapped syscall + handler + ERESUME", 2000, || {
        (0..2000).for_each(|_| {
            enclave.call(Function::Syscall, [0; 4]);
        });
    });
    enclave.change_thread(0, |thread| thread.secinfo = common::pending_rw());
    let mut next = FREE;
    measure("EACCEPT at a patched site, with EENTER", 1000, || {
        (0..1000).for_each(|_| {
            let outcome = enclave.call(Function::Eaccept, [0, enclave.secinfo_address(), next, 0]);
            assert_eq!((outcome.value, outcome.exits.len()), (0, 0));
            next += PAGE;
        });
    });
    let mut next = FREE;
    measure("first touch of an accepted page, with EENTER", 1000, || {
        (0..1000).for_each(|_| {
            enclave.call(Function::Write, [next, 1, 0, 0]);
            next += PAGE;
        });
    });
    let trimmed = common::secinfo(PageType::Trim, SecinfoFlags::MODIFIED);
    enclave.change_thread(0, |thread| thread.secinfo = trimmed);
    let mut first = FREE;
    let mut steps = [0.0; 3];
    for _ in 0..9 {
        let mut clock = Instant::now();
        let mut lap = |step: usize| {
            steps[step] += clock.elapsed().as_secs_f64() * 1e9 / (9.0 * 1000.0);
            clock = Instant::now();
        };
        enclave.device.modify_types(first, 1000 * PAGE, PageType::Trim as u8).unwrap();
        lap(0);
        for page in 0..1000 {
            let arguments = [0, enclave.secinfo_address(), first + page * PAGE, 0];
            assert!(enclave.call(Function::Eaccept, arguments).exits.is_empty());
        }
        lap(1);
        enclave.device.remove_pages(first, 1000 * PAGE).unwrap();
        lap(2);
        first += 1000 * PAGE;
    }
    println!(
        "EMODT, EACCEPT with EENTER, EREMOVE of a page {:>7.1} {:.1} {:.1} ns",
        steps[0], steps[1], steps[2]
    );
    enclave.change_thread(0, |thread| thread.secinfo = common::pending_rw());
    let mut next = FREE + (48 << 20);
    measure("EACCEPT by trap, with EENTER", 100, || {
        (0..100).for_each(|_| {
            assert_eq!(enclave.enclu(5, enclave.secinfo_address(), next, 0).value, 0);
            next += PAGE;
        });
    });
}
