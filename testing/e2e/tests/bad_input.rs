//! Bad input gets a clear error, and nothing is lost.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{Case, Linked, Run, Toolchain, folder, installed, occlum_in};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn executable(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The run failed by an error of the command that says all of `words`, and nothing crashed.
fn complains(run: &Run, words: &[&str]) {
    let errors = run.errors();
    assert!(run.status == 1 || run.status == 2, "status {}: {errors}", run.status);
    assert!(errors.contains("error: "), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    for word in words {
        assert!(errors.contains(word), "no `{word}` in: {errors}");
    }
    assert!(run.stdout.is_empty(), "{}", run.text());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    complains(&Case::new("/usr/bin/no-such-program").enclave(), &["no-such-program"]);
    complains(&Case::new("no-such-program").enclave(), &["no-such-program"]);
}

#[test]
fn a_folder_and_a_file_without_permission_are_not_run() {
    let folder = folder();
    complains(&Case::new(folder.path()).enclave(), &[folder.path().to_str().unwrap()]);
    let path = executable(folder.path(), "plain", &fs::read("/bin/true").unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    complains(&Case::new(&path).enclave(), &["plain"]);
}

#[test]
fn an_elf_file_cut_anywhere_is_an_error() {
    let folder = folder();
    let whole = fs::read("/bin/true").unwrap();
    for length in [0, 1, 4, 16, 63, 64, 100, 400, 900, 5000, whole.len() / 2] {
        let path = executable(folder.path(), &format!("cut-{length}"), &whole[..length.min(whole.len())]);
        complains(&Case::new(&path).enclave(), &[&format!("cut-{length}")]);
    }
}

#[test]
fn an_elf_file_for_another_processor_says_so() {
    let folder = folder();
    let mut program = fs::read("/bin/true").unwrap();
    program[18] = 183; // EM_AARCH64
    let path = executable(folder.path(), "foreign", &program);
    complains(&Case::new(&path).enclave(), &["foreign"]);
    program[18] = 62;
    program[4] = 1; // ELFCLASS32
    let path = executable(folder.path(), "narrow", &program);
    complains(&Case::new(&path).enclave(), &["narrow"]);
}

#[test]
fn a_program_with_a_segment_that_is_writable_and_executable_is_refused() {
    let folder = folder();
    let mut program = fs::read("/bin/true").unwrap();
    let word = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let text = (0..usize::from(word(&program, 56)))
        .map(|index| 64 + 56 * index)
        .find(|&at| program[at] == 1 && program[at + 4] == 5)
        .unwrap();
    program[text + 4] |= 2; // PF_W
    let path = executable(folder.path(), "changing", &program);
    let run = Case::new(&path).enclave();
    complains(&run, &["changing", "writable and executable", "hint: link it without"]);
    assert_eq!(run.status, 1);
}

#[test]
fn a_missing_interpreter_is_named() {
    let folder = folder();
    let mut program = fs::read("/bin/true").unwrap();
    let name = b"/lib64/ld-linux-x86-64.so.2";
    let at = program.windows(name.len()).position(|window| window == name).unwrap();
    program[at..at + name.len()].copy_from_slice(b"/lib64/ld-no-such-loader.so");
    let path = executable(folder.path(), "orphan", &program);
    complains(&Case::new(&path).enclave(), &["/lib64/ld-no-such-loader.so"]);
    let script = executable(folder.path(), "script", b"#!/usr/bin/no-interpreter -x\n");
    complains(&Case::new(&script).enclave(), &["/usr/bin/no-interpreter"]);
}

#[test]
fn a_missing_library_is_named() {
    let folder = folder();
    let mut program = fs::read("/bin/true").unwrap();
    let name = b"libc.so.6\0";
    let at = program.windows(name.len()).position(|window| window == name).unwrap();
    program[at..at + name.len()].copy_from_slice(b"libq.so.6\0");
    let path = executable(folder.path(), "lonely", &program);
    let run = Case::new(&path).enclave();
    assert_ne!(run.status, 0);
    assert!(run.errors().contains("libq.so.6"), "{}", run.errors());
}

#[test]
fn headers_with_any_byte_changed_never_crash_the_enclave() {
    let folder = folder();
    let Some(program) = Toolchain::Musl.compile("hello", Linked::Static, folder.path()) else { return };
    let whole = fs::read(&program).unwrap();
    for at in (4..64 + 56 * 4).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        let path = executable(folder.path(), &format!("changed-{at}"), &changed);
        let run = Case::new(&path).enclave();
        let errors = run.errors();
        assert!(
            !errors.contains("panicked") && !errors.contains("the enclave is lost"),
            "byte {at}: {errors}"
        );
        // An error of the command, the status of the program, or a signal that the program got.
        assert!(matches!(run.status, 1 | 2 | 42 | 126..160), "byte {at}: {} {errors}", run.status);
    }
}

#[test]
fn a_program_bigger_than_memory_says_what_to_raise() {
    let folder = folder();
    let source = folder.path().join("big.c");
    fs::write(&source, "static char big[200 << 20]; int main(void) { big[1] = 1; return 0; }").unwrap();
    if !installed("/usr/bin/gcc", "gcc") {
        return;
    }
    let program = folder.path().join("big");
    let made =
        std::process::Command::new("/usr/bin/gcc").arg("-o").arg(&program).arg(&source).status().unwrap();
    assert!(made.success());
    let small = Case::new(&program).flags(["--memory", "64MB"]).enclave();
    complains(&small, &["big", "--memory", "resource_limits.user_space_max_size"]);
    assert_eq!(Case::new(&program).same().status, 0);

    let path = folder.path().join("instance");
    assert_eq!(occlum_in(folder.path(), &["new", "instance"]).status, 0);
    for file in [program.to_str().unwrap(), "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"]
    {
        let there = path.join("image").join(file.trim_start_matches('/'));
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(file, there).unwrap();
    }
    let config = |size: &str| format!(r#"{{ "resource_limits": {{ "user_space_max_size": "{size}" }} }}"#);
    let run = || occlum_in(&path, &["run", program.to_str().unwrap()]);
    fs::write(path.join("Occlum.json"), config("64MB")).unwrap();
    assert_eq!(occlum_in(&path, &["build"]).status, 0);
    complains(&run(), &["big", "Occlum.json", "resource_limits.user_space_max_size"]);
    fs::write(path.join("Occlum.json"), config("512MB")).unwrap();
    assert_eq!(occlum_in(&path, &["build"]).status, 0);
    assert_eq!(run().status, 0, "{}", run().errors());
}

/// An instance with busybox in it, built.
fn instance(folder: &Path) {
    let run = |arguments: &[&str]| {
        let run = occlum_in(folder, arguments);
        assert_eq!(run.status, 0, "{arguments:?}: {}", run.errors());
    };
    run(&["init"]);
    fs::create_dir_all(folder.join("image/bin")).unwrap();
    fs::copy("/bin/busybox", folder.join("image/bin/busybox")).unwrap();
    fs::write(folder.join("image/text"), "the right text\n".repeat(2000)).unwrap();
    run(&["build"]);
}

/// What `occlum build` leaves in an instance.
const IMAGE: &str = "build/mount/__ROOT";
const ENCLAVE: &str = "build/lib/libocclum-libos.signed.so";

#[test]
fn an_image_with_any_bit_flipped_is_an_error_and_never_wrong_data() {
    if !installed("/bin/busybox", "busybox-static") {
        return;
    }
    let folder = folder();
    instance(folder.path());
    let arguments = ["run", "/bin/busybox", "cat", "/text"];
    let right = occlum_in(folder.path(), &arguments);
    assert_eq!(right.text(), "the right text\n".repeat(2000), "{}", right.errors());

    let image = folder.path().join(IMAGE);
    let whole = fs::read(&image).unwrap();
    let mut refused = 0;
    for step in 0..24 {
        let at = whole.len() / 24 * step + 40 + step;
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (step % 8);
        fs::write(&image, &flipped).unwrap();
        let run = occlum_in(folder.path(), &arguments);
        if run.status == 0 {
            // The block was not needed: then all of it must be right.
            assert_eq!(run.text(), right.text(), "byte {at}");
        } else {
            refused += 1;
            assert!(right.text().starts_with(&run.text()), "byte {at}: wrong data came out");
            assert!(!run.errors().contains("panicked"), "{}", run.errors());
        }
    }
    assert!(refused > 3, "{refused} of 24 flips were noticed");
    // In the middle of the text: what comes before it is right, and then there is EIO.
    let text = whole.windows(11).position(|window| window == b"right text\n").unwrap();
    let mut flipped = whole.clone();
    flipped[text + 5 * 4096] ^= 0x20;
    fs::write(&image, &flipped).unwrap();
    let run = occlum_in(folder.path(), &arguments);
    assert_eq!(run.status, 1);
    assert!(run.errors().contains("Input/output error"), "{}", run.errors());
    assert!(right.text().starts_with(&run.text()) && run.stdout.len() <= 5 * 4096 + 4096);
    fs::write(&image, &whole[..whole.len() - 5000]).unwrap();
    complains(&occlum_in(folder.path(), &arguments), &[]);
    fs::write(&image, &whole).unwrap();
    assert_eq!(occlum_in(folder.path(), &arguments).text(), right.text());
}

#[test]
fn an_enclave_file_with_any_byte_changed_does_not_start() {
    if !installed("/bin/busybox", "busybox-static") {
        return;
    }
    let folder = folder();
    instance(folder.path());
    let arguments = ["run", "/bin/busybox", "true"];
    assert_eq!(occlum_in(folder.path(), &arguments).status, 0);
    let file = folder.path().join(ENCLAVE);
    let whole = fs::read(&file).unwrap();
    for step in 0..24 {
        let at = whole.len() / 24 * step + 8;
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        let run = occlum_in(folder.path(), &arguments);
        complains(&run, &[]);
    }
}

#[test]
fn a_mistake_in_the_configuration_is_shown_where_it_is() {
    let folder = folder();
    assert_eq!(occlum_in(folder.path(), &["init"]).status, 0);
    let path = folder.path().join("Occlum.json");
    let good = fs::read_to_string(&path).unwrap();

    fs::write(&path, good.replacen(':', "", 1)).unwrap();
    complains(&occlum_in(folder.path(), &["build"]), &["Occlum.json:", "^"]);

    fs::write(&path, good.replacen("resource_limits", "resource_limit", 1)).unwrap();
    complains(&occlum_in(folder.path(), &["build"]), &["resource_limit", "did you mean", "resource_limits"]);

    let at = good.find("MB\"").or_else(|| good.find("GB\"")).unwrap();
    let mut wrong = good.clone();
    wrong.replace_range(at..at + 2, "QB");
    fs::write(&path, wrong).unwrap();
    complains(&occlum_in(folder.path(), &["build"]), &["Occlum.json:", "QB"]);
}
