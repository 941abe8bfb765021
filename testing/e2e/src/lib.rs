//! End-to-end tests: real programs through the `occlum` command, compared with native.
//!
//! A [`Case`] is a command line with its surroundings. It runs natively and in an enclave, and the two runs must print the
//! same and end the same. The tests need no set-up: the command is built when the first test asks for it, and a program that
//! is not installed is a visible skip, or a failure where `CI` is set.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

mod compile;
mod run;
mod server;
pub mod web;

pub use compile::{Linked, Toolchain, cplusplus, go, rust};
pub use run::{Case, Run, occlum_command, occlum_in, run_to_end, watch};
pub use server::{PATIENCE, Server, client, free_port, noise};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The `occlum` command: `$OCCLUM`, or a release build of this checkout.
pub fn occlum() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let binary = std::env::var_os("OCCLUM").map_or_else(build, PathBuf::from);
        // The first enclave of a user gets a signing key, and a line on standard error says so.
        let mut first = Command::new(&binary);
        first.args(["try", "/bin/true"]).env("XDG_CACHE_HOME", cache()).env("XDG_CONFIG_HOME", cache());
        first.output().expect("the command can be started");
        binary
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(checkout())
        .args(["build", "--release", "--package", "occlum", "--message-format", "json-render-diagnostics"])
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "the command builds: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "occlum")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the command")
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("this crate is in testing/e2e")
}

/// The cache folder of the tests, which they share: a second `try` of a program is fast.
fn cache() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/e2e-cache");
        let folder = std::env::var_os("CARGO_TARGET_DIR")
            .map_or(folder, |target| Path::new(&target).join("e2e-cache"));
        std::fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap()
    })
}

/// The text of a program of `testing/programs`, for an interpreter that takes it as an argument.
pub fn source(name: &str) -> String {
    std::fs::read_to_string(checkout().join("testing/programs").join(name)).unwrap()
}

/// A new folder, removed when dropped. It is not under /tmp, where the enclave has a file system of its own.
pub fn folder() -> TempDir {
    TempDir::with_prefix_in("occlum-e2e-", "/var/tmp").unwrap()
}

/// Whether `program` is there. If not: a skip that says which Debian package has it, or a failure where `CI` is set.
pub fn installed(program: &str, package: &str) -> bool {
    let is_there = Path::new(program).exists();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "`{program}` is missing: apt-get install {package}");
        eprintln!("SKIPPED: `{program}` is missing: apt-get install {package}");
    }
    is_there
}

/// The version of the Linux that runs the tests: calls that it lacks cannot be compared.
#[must_use]
pub fn linux_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the host's tmpfs keeps extended attributes, of which this user may set all: Linux 6.6 and CAP_SYS_ADMIN. If not: a skip
/// that says so.
pub fn tmpfs_has_attributes() -> bool {
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let has_them = linux_version() >= (6, 6) && capabilities >> SYS_ADMIN & 1 == 1;
    if !has_them {
        eprintln!("SKIPPED: to compare extended attributes of tmpfs takes Linux 6.6 and CAP_SYS_ADMIN");
    }
    has_them
}
