//! The command as its users see it: what it prints, where, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A folder that all tests of this file share for the key and the cache: making a key takes long.
fn home() -> &'static Path {
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOME.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn occlum(cwd: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_occlum"))
        .args(arguments)
        .current_dir(cwd)
        .env_clear()
        .env("HOME", home())
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(cwd: &Path, arguments: &[&str]) -> String {
    let output = occlum(cwd, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What stderr says when the command ends with `status` and prints no data.
fn fails(cwd: &Path, arguments: &[&str], status: i32) -> String {
    let output = occlum(cwd, arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    text(&output.stderr)
}

fn instance(name: &str) -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    succeeds(parent.path(), &["new", name]);
    let path = parent.path().join(name);
    fs::write(path.join("image/bin/data"), "x").unwrap();
    (parent, path)
}

#[test]
fn the_same_files_measure_the_same_anywhere_and_other_files_differently() {
    let (_a, first) = instance("first");
    let (_b, second) = instance("second");
    let built = succeeds(&first, &["build"]);
    assert!(built.starts_with("mrenclave ") && built.contains("\nmrsigner  "), "{built}");
    assert_eq!(built, succeeds(&second, &["build"]));
    assert_eq!(built, succeeds(&first, &["build"]), "an unchanged instance");
    let mrenclave = succeeds(&first, &["print", "mrenclave"]);
    assert!(built.contains(mrenclave.trim()));
    assert_eq!(succeeds(&first, &["status"]), "built\n");

    let config = fs::read_to_string(first.join("Occlum.json")).unwrap();
    fs::write(first.join("Occlum.json"), config.replace("\"product_id\": 0", "\"product_id\": 1")).unwrap();
    assert_eq!(built, succeeds(&first, &["build"]), "the product is signed, not measured");
    fs::write(second.join("image/bin/data"), "y").unwrap();
    let changed = succeeds(&second, &["build", "--json"]);
    assert!(changed.starts_with('{') && !changed.contains(mrenclave.trim()), "{changed}");
}

#[test]
fn a_signature_that_was_made_elsewhere_completes_a_build() {
    let (_parent, path) = instance("x");
    let openssl = |arguments: &[&str]| {
        Command::new("openssl").args(arguments).current_dir(&path).output().is_ok_and(|o| o.status.success())
    };
    if !openssl(&["genrsa", "-3", "-out", "key.pem", "3072"]) {
        return;
    }
    assert!(openssl(&["rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]));
    assert!(openssl(&["genrsa", "-3", "-out", "other.pem", "3072"]));

    succeeds(&path, &["build", "--sign-out", "to-sign.bin"]);
    let e = fails(&path, &["run", "/bin/data"], 1);
    assert!(e.contains("error: this instance is not built") && e.contains("occlum sign --attach"), "{e}");

    assert!(openssl(&["dgst", "-sha256", "-sign", "other.pem", "-out", "wrong.bin", "to-sign.bin"]));
    let e = fails(&path, &["sign", "--attach", "wrong.bin", "--public-key", "public.pem"], 1);
    assert!(e.starts_with("error: the signature `wrong.bin` does not fit\n  caused by: "), "{e}");
    assert!(e.contains("it is by another key"), "{e}");
    assert!(openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "wrong.bin", "key.pem"]));
    let e = fails(&path, &["sign", "--attach", "wrong.bin", "--public-key", "public.pem"], 1);
    assert!(e.contains("it is of other data"), "{e}");
    fs::write(path.join("wrong.bin"), "short").unwrap();
    let e = fails(&path, &["sign", "--attach", "wrong.bin", "--public-key", "public.pem"], 1);
    assert!(e.contains("it is not 384 bytes"), "{e}");

    assert!(openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "sig.bin", "to-sign.bin"]));
    let detached = succeeds(&path, &["sign", "--attach", "sig.bin", "--public-key", "public.pem"]);
    let direct = succeeds(&path, &["build", "--force", "--sign-key", "key.pem"]);
    assert_eq!(detached, direct);
}

#[test]
fn mistakes_of_the_user_end_with_1_and_a_hint() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        fails(empty.path(), &["build"], 1),
        "error: `.` is not an Occlum instance\n\nhint: run `occlum init` there first\n"
    );
    let e = fails(empty.path(), &["try", "no-such-program"], 1);
    assert_eq!(
        e,
        "error: no program `no-such-program` in PATH\n\nhint: check the spelling, or give its path\n"
    );
    let e = fails(empty.path(), &["try", "--mount", "x", "true"], 1);
    assert!(e.contains("hint: write HOST:GUEST"), "{e}");
    let e = fails(empty.path(), &["biuld"], 1);
    assert!(e.contains("'build'"), "{e}");

    let (_parent, path) = instance("x");
    let e = fails(&path, &["run", "/bin/data"], 1);
    assert!(e.ends_with("hint: run `occlum build` first\n"), "{e}");
    fs::write(path.join("Occlum.json"), "{\n  \"entry_point\": []\n}").unwrap();
    let e = fails(&path, &["build"], 1);
    assert!(e.contains("--> Occlum.json:2:3") && e.contains("did you mean `entry_points`?"), "{e}");
}

#[test]
fn a_package_is_the_same_each_time_and_runs_elsewhere() {
    let (_parent, path) = instance("app");
    succeeds(&path, &["build"]);
    let e = fails(&path, &["package"], 1);
    assert!(e.contains("occlum package --debug"), "{e}");
    assert_eq!(succeeds(&path, &["package", "--debug"]), "app.tar.gz\n");
    let first = fs::read(path.join("app.tar.gz")).unwrap();
    succeeds(&path, &["package", "--debug"]);
    assert_eq!(first, fs::read(path.join("app.tar.gz")).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let archive = path.join("app.tar.gz");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(archive).current_dir(elsewhere.path()).status().unwrap();
    assert!(unpacked.success());
    let there = elsewhere.path().join("app");
    assert_eq!(succeeds(&there, &["print", "mrenclave"]), succeeds(&path, &["print", "mrenclave"]));
}

#[test]
fn commands_of_older_versions_are_told_from_typing_errors() {
    let e = fails(Path::new("/"), &["start"], 1);
    assert!(e.starts_with("error: this command of older versions is not there yet"), "{e}");
}

#[test]
fn a_key_that_is_none_is_named() {
    let (_parent, path) = instance("x");
    fs::write(path.join("key.pem"), "no key").unwrap();
    let e = fails(&path, &["build", "--sign-key", "key.pem"], 1);
    assert!(e.starts_with("error: cannot sign with `key.pem`\n  caused by: "), "{e}");
    assert!(e.contains("hint: make one with `openssl genrsa -3"), "{e}");
}

#[test]
fn help_and_version_are_data() {
    let here = Path::new("/");
    assert!(succeeds(here, &["--version"]).starts_with("occlum "));
    assert!(succeeds(here, &["--help"]).contains("Exit status:"));
    assert!(succeeds(here, &["try", "--help"]).contains("Examples:"));
}
