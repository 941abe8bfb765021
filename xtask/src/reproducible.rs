//! The enclave image is the same bytes wherever the checkout lies: whoever builds it can compare measurements.
//!
//! The build script of `host/occlum` runs a second time on a copy of the sources in a folder of another depth, and with a
//! target folder of its own. Panic locations, symbol hashes and the order of functions have all told the two apart before.

use crate::image;
use crate::workspace::root;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the image is made of.
const SOURCES: [&str; 5] = ["Cargo.toml", "rust-toolchain.toml", "base", "enclave", "host/occlum"];

/// Builds the image from a copy and compares.
///
/// # Errors
///
/// The two images differ, or one does not build.
pub(crate) fn run(build: &image::Build) -> Result<()> {
    let folder = root().join("target/reproducible");
    let copy = folder.join("another/path/of/the same sources");
    mirror(&copy)?;
    let out = folder.join("out");
    fs::create_dir_all(&out)?;
    let output = Command::new(&build.script)
        .current_dir(copy.join("host/occlum"))
        .env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .env("CARGO_MANIFEST_DIR", copy.join("host/occlum"))
        .env("OUT_DIR", &out)
        .env("PROFILE", "release")
        .output()
        .context("cannot run the build script")?;
    ensure!(output.status.success(), "the copy does not build: {}", String::from_utf8_lossy(&output.stderr));
    compare(&fs::read(&build.image)?, &fs::read(out.join("libos.elf"))?)?;
    println!("reproducible: the same image from {} and {}", root().display(), copy.display());
    Ok(())
}

fn compare(here: &[u8], there: &[u8]) -> Result<()> {
    let first = here.iter().zip(there).position(|(a, b)| a != b);
    let same = first.is_none() && here.len() == there.len();
    ensure!(
        same,
        "the image depends on the path: {} and {} bytes, first difference at {:#x}",
        here.len(),
        there.len(),
        first.unwrap_or(here.len().min(there.len()))
    );
    Ok(())
}

/// Makes `copy` hold the sources and nothing else. What did not change is not touched, so that cargo need not build again.
fn mirror(copy: &Path) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for source in SOURCES {
        files(root(), Path::new(source), &mut wanted)?;
    }
    let mut present = BTreeSet::new();
    for source in SOURCES.iter().filter(|source| copy.join(source).exists()) {
        files(copy, Path::new(source), &mut present)?;
    }
    for stale in present.difference(&wanted) {
        fs::remove_file(copy.join(stale))?;
    }
    for file in &wanted {
        let (from, to) = (root().join(file), copy.join(file));
        let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
        if !fs::read(&to).is_ok_and(|there| there == bytes) {
            fs::create_dir_all(to.parent().unwrap_or(copy))?;
            fs::write(&to, bytes)?;
        }
    }
    Ok(())
}

/// Adds the files at and under `base`/`path`, relative to `base`.
fn files(base: &Path, path: &Path, into: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !base.join(path).is_dir() {
        into.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(base.join(path))? {
        let name = entry?.file_name();
        if name != "target" {
            files(base, &path.join(name), into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_its_place() {
        assert!(compare(b"same", b"same").is_ok());
        assert!(compare(b"same", b"sane").unwrap_err().to_string().contains("0x2"));
        assert!(compare(b"same", b"same and more").unwrap_err().to_string().contains("0x4"));
    }
}
