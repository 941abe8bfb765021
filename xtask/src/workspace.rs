//! What cargo says about the crates of this project.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate of the project.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) folder: PathBuf,
    /// Crates of the project that it imports, tests aside.
    pub(crate) imports: Vec<String>,
}

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A cargo command that runs at the root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// All crates: the members of the workspace, and the enclave image, which is a workspace of its own.
pub(crate) fn crates() -> Result<Vec<Crate>> {
    let mut crates = members("Cargo.toml")?;
    crates.extend(members("enclave/libos/Cargo.toml")?);
    crates.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(crates)
}

fn members(manifest: &str) -> Result<Vec<Crate>> {
    let metadata = metadata(manifest, &["--no-deps"])?;
    list(&metadata["packages"]).iter().map(parse).collect()
}

/// The answer of `cargo metadata`.
pub(crate) fn metadata(manifest: &str, flags: &[&str]) -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest])
        .args(flags)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata fails on `{manifest}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn parse(package: &Value) -> Result<Crate> {
    let manifest = text(&package["manifest_path"]);
    let folder = Path::new(manifest)
        .parent()
        .and_then(|folder| folder.strip_prefix(root()).ok())
        .with_context(|| format!("`{manifest}` is not in the checkout"))?;
    let imports = list(&package["dependencies"])
        .iter()
        .filter(|import| import["kind"] != "dev" && import["path"].is_string())
        .map(|import| text(&import["name"]).to_owned())
        .collect();
    Ok(Crate { name: text(&package["name"]).to_owned(), folder: folder.to_owned(), imports })
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// More offenders than these are not worth reading.
const SHOWN: usize = 40;

/// Prints the offenders and fails if there are any.
pub(crate) fn verdict(check: &str, offenders: &[String]) -> Result<()> {
    for offender in offenders.iter().take(SHOWN) {
        eprintln!("{check}: {offender}");
    }
    if offenders.len() > SHOWN {
        eprintln!("{check}: and so on");
    }
    match offenders.len() {
        0 => Ok(()),
        count => bail!("`xtask {check}` found {count} {}", if count == 1 { "offence" } else { "offences" }),
    }
}
