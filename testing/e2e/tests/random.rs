//! Random sequences of system calls, natively and in an enclave: the same results, errors and signals.
//!
//! The sequences are those of fixed seeds, so a failure repeats. `OCCLUM_SEEDS=FIRST-LAST` tries others.
#![forbid(unsafe_code)]

use e2e::{Case, Linked, Toolchain, folder};
use std::ops::RangeInclusive;

/// Calls of a sequence.
const STEPS: &str = "200";
/// Sequences of one run of a program.
const AT_ONCE: usize = 8;

fn seeds() -> RangeInclusive<u32> {
    let given = std::env::var("OCCLUM_SEEDS").ok();
    let parse = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    given.map_or(1..=16, |text| parse(&text).unwrap_or_else(|| panic!("OCCLUM_SEEDS={text} is no range")))
}

fn same(program: &str) {
    let folder = folder();
    let Some(binary) = Toolchain::Glibc.compile(program, Linked::Dynamic, folder.path()) else { return };
    let seeds: Vec<String> = seeds().map(|seed| seed.to_string()).collect();
    for some in seeds.chunks(AT_ONCE) {
        let run = Case::new(&binary).args([STEPS]).args(some).succeeds();
        let ends = run.text().lines().filter(|line| line.contains(": the end ")).count();
        assert_eq!(ends, some.len(), "{program}: every sequence ends");
    }
}

#[test]
fn random_signals_do_the_same() {
    same("random_signals");
}

#[test]
fn random_processes_do_the_same() {
    same("random_processes");
}

#[test]
fn random_futexes_do_the_same() {
    same("random_futexes");
}

#[test]
fn random_times_do_the_same() {
    same("random_time");
}

#[test]
fn random_files_do_the_same() {
    same("random_files");
}

#[test]
fn random_ipc_does_the_same() {
    same("random_ipc");
}

#[test]
fn random_pipes_do_the_same() {
    same("random_pipes");
}

#[test]
fn what_is_ready_is_random_and_the_same() {
    same("random_ready");
}

#[test]
fn random_memory_does_the_same() {
    same("random_memory");
}
