//! Model checking: the event primitives under every interleaving of a few threads.

use crate::workspace;
use anyhow::{Context, Result, ensure};

/// Runs the tests that `cfg(loom)` turns into models, in a target folder of their own: everything is built differently there.
///
/// # Errors
///
/// When a model finds a lost wake-up, a deadlock or a panic, or when none is run.
pub(crate) fn run() -> Result<()> {
    let folder = workspace::root().join("target/loom");
    let output = workspace::cargo()
        .args(["test", "--release", "--package", "occlum-kbase", "--lib", "models"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", folder)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    ensure!(output.status.success(), "a model fails");
    ensure!(text.contains("models::") && !text.contains("running 0 tests"), "there are no models");
    Ok(())
}
