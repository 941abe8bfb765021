//! From a configuration and an image to a signed enclave.

use crate::cache::Hash;
use crate::config::{Config, MountKind};
use crate::embedded::LIBOS_ELF;
use crate::error::{Context, Error, Result};
use boot_config::{BootConfig, Environment, Limits, Mount, MountSource};
use edge_abi::layout;
use sgx_image::{BuildOptions, EnclaveImage, Kss};
use std::os::unix::fs::MetadataExt;

/// Thread slots that are measured and there from the start; more come on demand.
const INITIAL_THREADS: u64 = 8;
/// SIGSTRUCT.DATE where SOURCE_DATE_EPOCH gives no other: the same input makes the same file on any day.
const DATE: u32 = 0x2026_0101;

/// The configuration that is measured.
pub(crate) fn boot_config(config: &Config, image: Hash, hostname: &str) -> BootConfig {
    let mount = |target: &str, source, read_only| Mount { target: target.to_owned(), source, read_only };
    let mut mounts = Vec::new();
    for entry in &config.mounts {
        mounts.push(match &entry.kind {
            MountKind::Root { .. } => mount(&entry.target, MountSource::ImageWithTmpfs, false),
            MountKind::Ram => {
                let mode = if entry.target == "/tmp" { 0o1777 } else { 0o755 };
                mount(&entry.target, MountSource::Tmpfs { max_size: None, mode }, false)
            }
            MountKind::Host { source, is_writable, sockets } => {
                let source = MountSource::HostFs { path: source.clone(), sockets: *sockets };
                mount(&entry.target, source, !is_writable)
            }
            MountKind::Proc => mount(&entry.target, MountSource::Proc, false),
            MountKind::Dev => mount(&entry.target, MountSource::Dev, false),
        });
    }
    // These are there whether or not anybody asks for them.
    for (target, source) in
        [("/proc", MountSource::Proc), ("/dev", MountSource::Dev), ("/sys", MountSource::Sys)]
    {
        if !mounts.iter().any(|m| m.target == target) {
            mounts.push(mount(target, source, false));
        }
    }
    // A mount hides what was mounted below it before.
    mounts.sort_by_key(|m| m.target.trim_end_matches('/').matches('/').count());
    BootConfig {
        image_digest: image,
        mounts,
        entry_points: config.entry_points.clone(),
        environment: Environment {
            default: config.env.default.clone(),
            untrusted: config.env.untrusted.clone(),
        },
        limits: Limits {
            user_space_max: config.limits.user_space,
            kernel_heap_max: config.limits.kernel_heap,
            default_stack_size: config.process.stack,
            default_heap_size: config.process.heap,
            max_threads: config.limits.threads,
        },
        debuggable: config.metadata.debuggable,
        allow_host_mounts: false,
        hostname: hostname.to_owned(),
        network: config.network.clone(),
        io_uring: config.io_uring,
    }
}

/// Encodes `boot` for [`build`].
pub(crate) fn encode(boot: &BootConfig) -> Result<Vec<u8>> {
    boot.encode().ok_or_else(|| Error::user("the configuration is too large"))
}

/// Lays out and measures the enclave.
pub(crate) fn build(config: &Config, boot: &[u8]) -> Result<EnclaveImage<'static>> {
    const PAGE: u64 = 4096;
    let max_threads = u64::from(config.limits.threads) + layout::SPARE_THREADS;
    let mut options = BuildOptions::new(boot, date());
    options.initial_threads = INITIAL_THREADS.min(max_threads);
    options.max_threads = max_threads;
    options.user_limit = config.limits.user_space / PAGE * PAGE;
    options.heap_limit = config.limits.kernel_heap / PAGE * PAGE;
    options.debuggable = config.metadata.debuggable;
    options.isvprodid = config.metadata.product_id;
    options.isvsvn = config.metadata.version_number;
    options.kss = config
        .metadata
        .kss
        .then_some(Kss { isvextprodid: config.metadata.ext_prod_id, isvfamilyid: config.metadata.family_id });
    sgx_image::build(LIBOS_ELF, &options).machine(|| "cannot lay out the enclave")
}

/// SIGSTRUCT.DATE, in binary-coded decimal.
fn date() -> u32 {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    epoch.map_or(DATE, bcd_date)
}

/// The civil date (UTC) of `seconds` since 1970, as 0xYYYYMMDD. The calculation counts days from 1 March of
/// year 0, so that leap days come last.
fn bcd_date(seconds: u64) -> u32 {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = (year_of_era + era * 400 + u64::from(month <= 2)) % 10_000;
    let decimal = year * 10_000 + month * 100 + day;
    (0..8).fold(0, |bcd, digit| bcd | ((decimal / 10u64.pow(digit) % 10) as u32) << (4 * digit))
}

/// Tells this program from others: what it builds depends on it.
pub(crate) fn tool_stamp() -> Vec<u8> {
    let mut stamp = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    if let Ok(metadata) = std::fs::metadata("/proc/self/exe") {
        for number in [metadata.len(), metadata.ino(), metadata.mtime() as u64, metadata.mtime_nsec() as u64]
        {
            stamp.extend_from_slice(&number.to_le_bytes());
        }
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn dates_are_civil_dates_in_decimal_digits() {
        assert_eq!(bcd_date(0), 0x1970_0101);
        assert_eq!(bcd_date(951_782_400), 0x2000_0229);
        assert_eq!(bcd_date(1_767_225_599), 0x2025_1231);
        assert_eq!(bcd_date(1_767_225_600), 0x2026_0101);
    }

    #[test]
    fn proc_dev_and_sys_are_mounted_after_the_root_and_only_once() {
        let text = r#"{"mount": [
            {"target": "/a/b", "type": "ramfs"}, {"target": "/proc", "type": "procfs"},
            {"target": "/", "type": "unionfs", "options": {"layers": [{"source": "./image"}, {"source": "./run"}]}}
        ]}"#;
        let config = config::parse("Occlum.json", text).unwrap();
        let boot = boot_config(&config, [1; 32], "x");
        let targets: Vec<&str> = boot.mounts.iter().map(|m| m.target.as_str()).collect();
        assert_eq!(targets, ["/", "/proc", "/dev", "/sys", "/a/b"]);
    }
}
