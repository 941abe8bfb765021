//! Compiling the programs of `testing/programs`.

use crate::checkout;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler with its C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// gcc and glibc.
    Glibc,
    /// musl-gcc.
    Musl,
}

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// Against shared libraries, at any address.
    Dynamic,
    /// Against shared libraries, at a fixed address.
    DynamicFixed,
    /// With everything in it, at a fixed address.
    Static,
    /// With everything in it, at any address.
    StaticPie,
}

impl Toolchain {
    /// Compiles the C program `name` into `folder`; `None` if the compiler is not installed.
    ///
    /// # Panics
    ///
    /// When the program does not compile.
    pub fn compile(self, name: &str, linked: Linked, folder: &Path) -> Option<PathBuf> {
        let (compiler, package) = match self {
            Self::Glibc => ("/usr/bin/gcc", "gcc"),
            Self::Musl => ("/usr/bin/musl-gcc", "musl-tools"),
        };
        crate::installed(compiler, package).then(|| {
            let flags: &[&str] = match linked {
                Linked::Dynamic => &["-pie", "-fPIE"],
                Linked::DynamicFixed => &["-no-pie", "-fno-pie"],
                Linked::Static => &["-static", "-no-pie", "-fno-pie"],
                Linked::StaticPie => &["-static-pie", "-fPIE"],
            };
            let output = folder.join(name);
            let mut command = Command::new(compiler);
            command.args(["-O1", "-w"]).args(flags).arg("-o").arg(&output).arg(source(&format!("{name}.c")));
            built(command, output)
        })
    }
}

/// Compiles the C++ program `name`.
///
/// # Panics
///
/// When the program does not compile.
pub fn cplusplus(name: &str, folder: &Path) -> Option<PathBuf> {
    crate::installed("/usr/bin/g++", "g++").then(|| {
        let output = folder.join(name);
        let mut command = Command::new("/usr/bin/g++");
        command.args(["-O1", "-std=c++17", "-o"]).arg(&output).arg(source(&format!("{name}.cc")));
        built(command, output)
    })
}

/// Compiles the Rust program `name` with everything in it, at any address.
///
/// # Panics
///
/// When the program does not compile.
pub fn rust(name: &str, folder: &Path) -> PathBuf {
    let output = folder.join(name);
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=pie",
            "-o",
        ])
        .arg(&output)
        .arg(source(&format!("{name}.rs")));
    built(command, output)
}

/// Compiles the Go program `name`, at any address or at a fixed one.
///
/// # Panics
///
/// When the program does not compile.
pub fn go(name: &str, is_pie: bool, folder: &Path) -> Option<PathBuf> {
    crate::installed("/usr/bin/go", "golang-go").then(|| {
        let output = folder.join(name);
        let mut command = Command::new("/usr/bin/go");
        let mode = if is_pie { "-buildmode=pie" } else { "-buildmode=exe" };
        command
            .args(["build", mode, "-o"])
            .arg(&output)
            .arg(source(&format!("{name}.go")))
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-mod=mod")
            .env("GOCACHE", crate::cache().join("go"));
        built(command, output)
    })
}

fn source(name: &str) -> PathBuf {
    checkout().join("testing/programs").join(name)
}

fn built(mut command: Command, output: PathBuf) -> PathBuf {
    let made = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    output
}
