//! The measured configuration of an enclave.
//!
//! The builder writes one blob into the enclave image, so that MRENCLAVE commits to everything that decides
//! what the enclave trusts: the image file system by its digest, the mounts, the entry points, the rules for the
//! environment, the ceilings. The blob is a header (magic, version, length, little-endian) and the postcard
//! form of [`BootConfig`]; bytes after it (the rest of the last page) are ignored. The encoding of a
//! given value never varies.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod network;

use alloc::string::String;
use alloc::vec::Vec;
use network::Network;
use serde::{Deserialize, Serialize};

/// Version of the blob; a decoder accepts exactly its own.
pub const VERSION: u32 = 3;

/// First bytes of the blob.
pub const MAGIC: [u8; 8] = *b"OCCLMCFG";

/// Bytes before the postcard form: magic, version, length of what follows.
const HEADER: usize = 16;

/// Everything that is decided when the enclave is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// Digest that commits to the image file (its superblock and Merkle root).
    pub image_digest: [u8; 32],
    /// File systems, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Absolute paths; only programs at or below one of them may be started from outside. Empty: none.
    pub entry_points: Vec<String>,
    /// The environment of programs started from outside.
    pub environment: Environment,
    /// Ceilings.
    pub limits: Limits,
    /// Whether the enclave may be debugged (and so whether it logs).
    pub debuggable: bool,
    /// Whether the host may add mounts of its folders at start (`occlum try`). They are untrusted.
    pub allow_host_mounts: bool,
    /// What `uname -n` says.
    pub hostname: String,
    /// Which loopback ports are shared with the host.
    pub network: Network,
    /// Whether data of the host's streams go through a ring of operations that is shared with the host's Linux, where that has one.
    pub io_uring: bool,
}

/// A file system and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the enclave.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// The image file.
    Image,
    /// Files in enclave memory, gone when the enclave ends.
    Tmpfs {
        /// Most bytes, or `None`: only the kernel heap bounds it.
        max_size: Option<u64>,
        /// Permission bits of the root.
        mode: u32,
    },
    /// A folder of the host, untrusted.
    HostFs {
        /// Absolute path on the host.
        path: String,
        /// Whether programs may connect to the host's sockets that are files in it.
        sockets: bool,
    },
    /// The image with a volatile layer above it that takes all changes.
    ImageWithTmpfs,
    /// `/proc`.
    Proc,
    /// `/dev`.
    Dev,
    /// `/sys`.
    Sys,
}

/// Rules for environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// `NAME=VALUE` lines that programs get unless an allowed one replaces them.
    pub default: Vec<String>,
    /// Names whose values the host may give; a name that ends with `*` stands for all that begin so.
    pub untrusted: Vec<String>,
}

/// Ceilings. A program that hits one gets an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most bytes of committed user memory (`resource_limits.user_space_max_size`).
    pub user_space_max: u64,
    /// Most bytes of kernel heap (`resource_limits.kernel_space_heap_max_size`).
    pub kernel_heap_max: u64,
    /// Bytes of address space for the stack of a program's first thread (RLIMIT_STACK).
    pub default_stack_size: u64,
    /// Bytes of address space for `brk` (RLIMIT_DATA), or `u64::MAX`.
    pub default_heap_size: u64,
    /// Most threads at once.
    pub max_threads: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            user_space_max: 4 << 30,
            kernel_heap_max: 512 << 20,
            default_stack_size: 8 << 20,
            default_heap_size: u64::MAX,
            max_threads: 64,
        }
    }
}

/// Why a blob is not a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It does not begin with [`MAGIC`], or is cut.
    NotAConfig,
    /// It is of another version, given here.
    Version(u32),
    /// The content is malformed.
    Malformed,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotAConfig => f.write_str("not an enclave configuration"),
            Self::Version(version) => write!(f, "configuration version {version}, not {VERSION}"),
            Self::Malformed => f.write_str("malformed configuration"),
        }
    }
}

impl BootConfig {
    /// The blob.
    ///
    /// # Errors
    /// `None` when a value is too large to encode (a list of more than 4 GiB).
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let body = postcard::to_allocvec(self).ok()?;
        let mut blob = Vec::with_capacity(HEADER + body.len());
        blob.extend_from_slice(&MAGIC);
        blob.extend_from_slice(&VERSION.to_le_bytes());
        blob.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
        blob.extend_from_slice(&body);
        Some(blob)
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(blob: &[u8]) -> Result<Self, DecodeError> {
        let rest = blob.strip_prefix(&MAGIC).ok_or(DecodeError::NotAConfig)?;
        let (version, rest) = rest.split_first_chunk().ok_or(DecodeError::NotAConfig)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let (len, rest) = rest.split_first_chunk().ok_or(DecodeError::NotAConfig)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| DecodeError::NotAConfig)?;
        let body = rest.get(..len).ok_or(DecodeError::NotAConfig)?;
        let (config, rest) = postcard::take_from_bytes(body).map_err(|_| DecodeError::Malformed)?;
        if rest.is_empty() { Ok(config) } else { Err(DecodeError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use network::Ports;

    fn sample() -> BootConfig {
        BootConfig {
            image_digest: [7; 32],
            mounts: vec![
                Mount { target: "/".into(), source: MountSource::Image, read_only: true },
                Mount {
                    target: "/tmp".into(),
                    source: MountSource::Tmpfs { max_size: None, mode: 0o1777 },
                    read_only: false,
                },
            ],
            entry_points: vec!["/bin".into()],
            environment: Environment {
                default: vec!["HOME=/root".into()],
                untrusted: vec!["OCCLUM_*".into()],
            },
            hostname: "occlum".into(),
            network: Network { publish: Ports::all(), host_loopback: Ports::default() },
            io_uring: true,
            ..BootConfig::default()
        }
    }

    #[test]
    fn a_blob_with_padding_decodes_to_what_was_encoded() {
        let mut blob = sample().encode().unwrap();
        blob.resize(4096, 0);
        assert_eq!(BootConfig::decode(&blob), Ok(sample()));
    }

    #[test]
    fn every_cut_of_a_blob_is_refused() {
        let blob = sample().encode().unwrap();
        for len in 0..blob.len() {
            assert!(BootConfig::decode(&blob[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut blob = sample().encode().unwrap();
        blob[8] = 99;
        assert_eq!(BootConfig::decode(&blob), Err(DecodeError::Version(99)));
    }
}
