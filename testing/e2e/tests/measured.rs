//! What was measured decides: the programs, also where the host shows a folder of its own, and whether there is a log.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Toolchain, folder, occlum_command, occlum_in, run_to_end};
use std::fs;

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

#[test]
fn a_release_enclave_logs_nothing_whatever_the_host_says() {
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("missing", Linked::Static, folder.path()) else { return };
    let path = folder.path().join("instance");
    assert_eq!(occlum_in(folder.path(), &["new", "instance"]).status, 0);
    fs::create_dir_all(path.join("image/bin")).unwrap();
    fs::copy(program, path.join("image/bin/missing")).unwrap();
    for (debuggable, logs) in [("true", true), ("false", false)] {
        let config = fs::read_to_string(path.join("Occlum.json")).unwrap();
        let (before, after) = config.split_once("\"debuggable\": ").unwrap();
        let after = after.trim_start_matches(char::is_alphabetic);
        fs::write(path.join("Occlum.json"), format!("{before}\"debuggable\": {debuggable}{after}")).unwrap();
        assert_eq!(occlum_in(&path, &["build"]).status, 0);
        let mut command = occlum_command();
        command.args(["run", "--strace", "--stats", "/bin/missing"]).current_dir(&path);
        let run = run_to_end(command.env("OCCLUM_LOG_LEVEL", "trace").env("SGX_MODE", "SIM"));
        assert_eq!(run.text(), "system call 9999: ENOSYS\n");
        let errors = run.errors();
        assert_eq!(errors.contains("9999"), logs, "debuggable {debuggable}: {errors}");
        // It is said once that nothing is protected, where the user may think otherwise.
        let warnings =
            errors.lines().filter(|line| line.contains("software SGX machine: it protects nothing"));
        assert_eq!(warnings.count(), usize::from(!logs), "{errors}");
        if !logs {
            // The other line is the command's own.
            assert!(errors.ends_with("note: a release enclave tells no counts\n"), "{errors}");
            assert_eq!(errors.lines().count(), 2, "{errors}");
        }
    }
}
