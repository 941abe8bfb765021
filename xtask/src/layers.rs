//! Who may import whom.
//!
//! The table lists every arrow of the project; an arrow that is not in it fails. Arrows of tests (dev-dependencies) are
//! free: they are in no product. A new arrow is a line here, and so a question to the reviewer.

use crate::workspace::{self, Crate};
use anyhow::Result;

/// A crate and what it may import of ours (`occlum-` left out).
const ARROWS: &[(&str, &[&str])] = &[
    ("boot-config", &[]),
    ("edge-abi", &["linux-abi"]),
    ("erofs-format", &[]),
    ("linux-abi", &[]),
    ("sgx-arch", &[]),
    ("sgx-device", &["sgx-arch"]),
    ("sgx-image", &["sgx-arch", "sgx-model", "edge-abi"]),
    ("sgx-machine", &["sgx-device", "sgx-model", "sgx-arch"]),
    ("sgx-model", &["sgx-arch"]),
    ("image-fs", &["erofs-format"]),
    ("pal", &["sgx-device", "sgx-image", "sgx-arch", "edge-abi", "linux-abi"]),
    (
        "occlum",
        &[
            "pal",
            "sgx-machine",
            "sgx-device",
            "sgx-image",
            "sgx-arch",
            "image-fs",
            "boot-config",
            "edge-abi",
            "erofs-format",
            "linux-abi",
        ],
    ),
    ("platform", &["linux-abi"]),
    ("kbase", &["platform", "linux-abi"]),
    ("vfs", &["kbase", "platform", "linux-abi"]),
    ("fs-mem", &["vfs", "kbase", "linux-abi", "platform"]),
    ("fs-image", &["vfs", "kbase", "platform", "erofs-format", "linux-abi"]),
    ("fs-host", &["vfs", "kbase", "platform", "linux-abi"]),
    ("fs-union", &["vfs", "kbase", "platform", "linux-abi"]),
    (
        "kernel",
        &[
            "fs-mem",
            "fs-image",
            "fs-host",
            "vfs",
            "kbase",
            "platform",
            "linux-abi",
            "boot-config",
            "erofs-format",
        ],
    ),
    ("rt", &["platform", "edge-abi", "linux-abi", "sgx-arch"]),
    ("libos", &["kernel", "rt", "kbase", "platform", "boot-config", "linux-abi"]),
    ("fake-platform", &["platform", "kbase", "linux-abi"]),
    ("e2e", &[]),
    ("bench", &[]),
    ("xtask", &[]),
];

/// Runs the check.
///
/// # Errors
///
/// When a crate imports what the table does not list.
pub(crate) fn run() -> Result<()> {
    let crates = workspace::crates()?;
    let offenders: Vec<String> = crates.iter().flat_map(forbidden).collect();
    workspace::verdict("layers", &offenders)?;
    let arrows: usize = crates.iter().map(|member| member.imports.len()).sum();
    println!("layers: {} crates, {arrows} arrows, all allowed", crates.len());
    Ok(())
}

fn forbidden(member: &Crate) -> Vec<String> {
    let Some(allowed) = allowed(&member.name) else {
        return vec![format!("`{}` is not in the table of xtask/src/layers.rs", member.name)];
    };
    member
        .imports
        .iter()
        .filter(|import| !allowed.contains(&short(import)))
        .map(|import| format!("`{}` must not import `{import}`", member.name))
        .collect()
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(from, _)| *from == short(name)).map(|(_, to)| *to)
}

fn short(name: &str) -> &str {
    name.strip_prefix("occlum-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, imports: &[&str]) -> Crate {
        Crate {
            name: name.into(),
            folder: "".into(),
            imports: imports.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn the_table_itself_keeps_the_border() {
        let crates = workspace::crates().unwrap();
        let level = |name: &str| {
            let found = crates.iter().find(|member| short(&member.name) == name)?;
            Some(found.folder.iter().next()?.to_str()?.to_owned())
        };
        for (from, imports) in ARROWS {
            let Some(from_level) = level(from) else { continue };
            for to in *imports {
                let to_level = level(to).unwrap();
                let is_kept = match from_level.as_str() {
                    "base" => to_level == "base",
                    "sgx" => matches!(to_level.as_str(), "base" | "sgx"),
                    "host" => matches!(to_level.as_str(), "base" | "sgx" | "host"),
                    "enclave" => matches!(to_level.as_str(), "base" | "enclave"),
                    _ => true,
                };
                assert!(is_kept, "{from} ({from_level}) -> {to} ({to_level})");
            }
        }
    }

    #[test]
    fn an_arrow_over_the_border_is_caught() {
        assert_eq!(forbidden(&member("occlum-kernel", &["occlum-pal"])).len(), 1);
        assert_eq!(forbidden(&member("occlum-sgx-model", &["occlum-sgx-machine"])).len(), 1);
        assert_eq!(forbidden(&member("occlum-kernel", &["occlum-vfs"])), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_crate_is_caught() {
        assert_eq!(forbidden(&member("occlum-surprise", &[])).len(), 1);
    }
}
