//! What was packed and measured is what runs, also where the host shows a folder of its own.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Toolchain, folder};

/// A program in the current folder is a file of the host too. Only the measured one has a table of its system calls, so
/// it is told from the other by what is trapped.
#[test]
fn a_program_in_the_current_folder_runs_from_the_image() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("bench", Linked::Dynamic, folder.path()) else { return };
    let run = Case::new(program)
        .flags(["--stats"])
        .within(folder.path())
        .input("getppid (inline syscall)\t1000\n")
        .enclave();
    assert_eq!(run.status, 0, "{}", run.errors());
    assert!(run.errors().contains("trapped syscalls 0\n"), "{}", run.errors());
}
