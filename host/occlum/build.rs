//! Builds the enclave image (`enclave/libos`) and leaves it where `src/embedded.rs` includes it.
//!
//! The image must be the same bytes from any checkout and whatever the outer build is (debug, release, clippy, coverage), so
//! the nested cargo runs with an environment of its own, a target folder of its own and fixed flags.
//!
//! Cargo hashes the folder of a crate into `-C metadata`, and so into symbol names, after which the linker orders functions. The
//! nested cargo therefore calls rustc through this program ([`compile`]), which puts the name of the crate there.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Instructions that the image may use everywhere: nothing that touches registers beyond xmm, and nothing that is missing
/// on a processor with SGX2.
const TARGET_FEATURES: &str = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+sha,+rdrand,+xsave";

/// Set for the nested cargo: this program is its rustc.
const AS_RUSTC: &str = "OCCLUM_BUILD_AS_RUSTC";

fn main() -> Result<(), Box<dyn Error>> {
    if env::var_os(AS_RUSTC).is_some() {
        return compile();
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The image of a debug build is compiled faster and runs slower; it has another measurement.
    let profile = if env::var("PROFILE")? == "release" { "release" } else { "quick" };

    for part in ["base", "enclave"] {
        println!("cargo:rerun-if-changed={}", root.join(part).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let target = out.join("image-target");
    let mut cargo = Command::new(env::var("CARGO")?);
    scrub(&mut cargo);
    let status = cargo
        .current_dir(root.join("enclave/libos"))
        .args(["build", "--locked", "--profile", profile, "--target", "x86_64-unknown-linux-gnu"])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&root))
        .env("RUSTC_WRAPPER", env::current_exe()?)
        .env(AS_RUSTC, "1")
        .status()?;
    if !status.success() {
        return Err("the enclave image does not build (the errors are above)".into());
    }
    let image = target.join("x86_64-unknown-linux-gnu").join(profile).join("libos");
    std::fs::copy(&image, out.join("libos.elf"))?;
    Ok(())
}

/// Runs rustc as the arguments say, with a crate of this project told apart by its name alone.
fn compile() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    // Crates of a registry are told apart by name and version already.
    let is_ours =
        arguments.iter().any(|argument| argument.ends_with(".rs") && !argument.contains("/registry/"));
    let name = arguments.iter().position(|argument| argument == "--crate-name");
    let name = name.and_then(|at| arguments.get(at + 1)).cloned();
    if let Some(name) = name.filter(|_| is_ours) {
        for argument in arguments.iter_mut().filter(|argument| argument.starts_with("metadata=")) {
            *argument = format!("metadata=occlum-{name}");
        }
    }
    let (rustc, arguments) = arguments.split_first().ok_or("no compiler was named")?;
    let status = Command::new(rustc).args(arguments).env_remove(AS_RUSTC).status()?;
    std::process::exit(status.code().unwrap_or(1));
}

/// Removes what would leak from the outer build into the image.
fn scrub(cargo: &mut Command) {
    const KEPT: [&str; 3] = ["CARGO", "CARGO_HOME", "CARGO_NET_OFFLINE"];
    const LEAKING: [&str; 12] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "LLVM_PROFILE_FILE",
        "__CARGO_DEFAULT_LIB_METADATA",
        "RUSTFLAGS",
    ];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let leaks = name.starts_with("CARGO_") || name.starts_with("RUSTC") || name.starts_with("RUSTDOC");
        if (leaks || LEAKING.contains(&name)) && !KEPT.contains(&name) {
            cargo.env_remove(name);
        }
    }
}

/// Panic locations name files: the prefixes of this machine are replaced.
fn flags(root: &Path) -> String {
    let cargo_home = env::var("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|_| PathBuf::from(env::var("HOME").unwrap_or_default()).join(".cargo"));
    [
        "-C".to_owned(),
        format!("target-feature={TARGET_FEATURES}"),
        format!("--remap-path-prefix={}=/occlum", root.display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
    ]
    .join("\x1f")
}
