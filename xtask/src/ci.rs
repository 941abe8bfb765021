//! Everything that must hold before a change goes in, in the order in which it fails fastest.

use crate::{image, layers, licences, models, reproducible, sleeps, unsafety, workspace};
use anyhow::{Context, Result, ensure};
use std::time::Instant;

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Full,
    /// No whole programs, no models, no second build of the image: what a change needs before it is committed.
    Fast,
}

/// Runs all checks.
///
/// # Errors
///
/// The first check that fails.
pub(crate) fn run(extent: Extent) -> Result<()> {
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    step("layers", layers::run)?;
    step("unsafe code", unsafety::run)?;
    step("sleeps", sleeps::run)?;
    step("licences", licences::run)?;
    step("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    let build = step("enclave image", || {
        let build = image::build()?;
        image::run(&build.image).map(|()| build)
    })?;
    if extent == Extent::Full {
        step("reproducible", || reproducible::run(&build))?;
        step("models", models::run)?;
        step("fuzz targets", fuzz_targets)?;
    }
    step("tests", || match extent {
        Extent::Full => cargo(&["test", "--workspace", "--no-fail-fast"]),
        Extent::Fast => cargo(&["test", "--workspace", "--no-fail-fast", "--exclude", "occlum-e2e"]),
    })
}

fn step<T>(name: &str, check: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {name}");
    let start = Instant::now();
    let result = check().with_context(|| format!("{name} failed"))?;
    eprintln!("== {name}: {} s", start.elapsed().as_secs());
    Ok(result)
}

/// They are a workspace of their own, which nothing else builds: at least they compile.
fn fuzz_targets() -> Result<()> {
    let status = workspace::cargo()
        .args(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"])
        // As `fuzz/run` has it; all else there is instrumentation.
        .env("RUSTFLAGS", "--cfg fuzzing --deny warnings")
        .env("CARGO_TARGET_DIR", workspace::root().join("target/fuzz"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "a fuzz target does not compile");
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = workspace::cargo().args(arguments).status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}
