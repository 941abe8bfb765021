//! What may be in a build: crates of crates.io under the licences of `deny.toml`, in every workspace of the checkout.
//!
//! cargo-deny is the judge where it is installed. Building it takes as long as everything else CI does, and what it says
//! changes with `Cargo.lock` only, so nobody has to have it: then the two lists of `deny.toml` that matter most are
//! compared here with what `cargo metadata` knows.

use crate::workspace::{self, cargo, list, root, text};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::process::Command;

/// The fuzz targets are in no product, and most checkouts never fetch what they need: they are for cargo-deny.
const SHIPPED: [&str; 2] = ["Cargo.toml", "enclave/libos/Cargo.toml"];
const ALL: [&str; 3] = ["Cargo.toml", "enclave/libos/Cargo.toml", "fuzz/Cargo.toml"];

/// Checks the licences and the sources of all dependencies, tests included.
///
/// # Errors
///
/// A crate that `deny.toml` does not allow.
pub(crate) fn run() -> Result<()> {
    if Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return ALL.iter().try_for_each(|manifest| deny(manifest));
    }
    eprintln!(
        "SKIPPED: cargo-deny is not installed (`cargo install --locked cargo-deny`); looking at licences and sources only"
    );
    let config = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let rules = Rules::parse(&config)?;
    let mut offenders = Vec::new();
    for manifest in SHIPPED {
        let metadata = workspace::metadata(
            manifest,
            &["--all-features", "--filter-platform", "x86_64-unknown-linux-gnu"],
        )?;
        offenders.extend(list(&metadata["packages"]).iter().filter_map(|package| rules.offence(package)));
    }
    offenders.dedup();
    workspace::verdict("licences", &offenders)
}

fn deny(manifest: &str) -> Result<()> {
    let status = cargo()
        .args(["deny", "--manifest-path", manifest, "--config", "deny.toml", "--log-level", "error"])
        .args(["check", "bans", "licenses", "sources"])
        .status()
        .context("cannot run cargo-deny")?;
    ensure!(status.success(), "cargo-deny does not like `{manifest}`");
    Ok(())
}

/// What `deny.toml` allows.
struct Rules {
    allowed: Vec<String>,
    /// A crate and what is allowed for it alone.
    exceptions: Vec<(String, String)>,
}

impl Rules {
    /// Reads the two lists out of `deny.toml`: the first `allow = [...]`, and each line that names a crate.
    fn parse(config: &str) -> Result<Self> {
        let (_, after) = config.split_once("\nallow = [").context("deny.toml has no `allow`")?;
        let (allowed, after) = after.split_once(']').context("deny.toml: `allow` has no end")?;
        let exceptions = after.lines().filter(|line| line.contains("crate = \"")).filter_map(|line| {
            let [licence, name] = quoted(line).try_into().ok()?;
            Some((name, licence))
        });
        Ok(Self { allowed: quoted(allowed), exceptions: exceptions.collect() })
    }

    /// Why a package must not be there.
    fn offence(&self, package: &Value) -> Option<String> {
        let name = text(&package["name"]);
        match text(&package["source"]) {
            // A crate of ours.
            "" => return None,
            "registry+https://github.com/rust-lang/crates.io-index" => {}
            source => return Some(format!("`{name}` comes from `{source}`")),
        }
        let licence = text(&package["license"]);
        let allows = |id: &str| {
            let is_exception = |(of, allowed): &(String, String)| of == name && allowed == id;
            self.allowed.iter().any(|allowed| allowed == id) || self.exceptions.iter().any(is_exception)
        };
        match is_satisfied(licence, &allows) {
            Ok(true) => None,
            Ok(false) => Some(format!("`{name}` is under `{licence}`")),
            Err(error) => Some(format!("`{name}`: {error}")),
        }
    }
}

/// The strings in double quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether licences that are allowed are enough for an SPDX expression. `/` is an old way to write OR.
fn is_satisfied(expression: &str, allows: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any(&mut words, allows)?;
    ensure!(words.next().is_none(), "`{expression}` is not an SPDX expression");
    Ok(result)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut result = all(words, allows)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all(words, allows)?;
    }
    Ok(result)
}

fn all(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut result = one(words, allows)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allows)?;
    }
    Ok(result)
}

fn one(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> Result<bool> {
    match words.next() {
        Some("(") => {
            let result = any(words, allows)?;
            ensure!(words.next() == Some(")"), "a parenthesis is not closed");
            Ok(result)
        }
        None | Some("OR" | "AND" | "WITH" | ")") => bail!("no licence where one should be"),
        Some(id) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => Ok(allows(&format!("{id} WITH {exception}"))),
            None => Ok(allows(id)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONFIG: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0",
    "Unicode-3.0"]
exceptions = [
    { allow = ["MPL-2.0"], crate = "oracle" },
]
"#;
    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn offence(name: &str, source: &str, license: &str) -> Option<String> {
        let package = json!({ "name": name, "source": source, "license": license });
        Rules::parse(CONFIG).unwrap().offence(&package)
    }

    #[test]
    fn one_of_the_choices_must_be_allowed_and_all_of_what_is_joined() {
        for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Unicode-3.0"] {
            assert_eq!(offence("a", CRATES_IO, good), None, "{good}");
        }
        for bad in [
            "GPL-3.0",
            "",
            "MIT AND GPL-3.0",
            "(MIT OR X) AND Y",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(offence("a", CRATES_IO, bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn an_exception_is_for_one_crate() {
        assert_eq!(offence("oracle", CRATES_IO, "MPL-2.0"), None);
        assert!(offence("another", CRATES_IO, "MPL-2.0").is_some());
    }

    #[test]
    fn a_crate_comes_from_crates_io_or_from_here() {
        assert_eq!(offence("ours", "", ""), None);
        assert!(offence("a", "git+https://example.com/a", "MIT").is_some());
    }
}
