//! The enclave image, built by `build.rs`.

/// The LibOS: a static-PIE for `sgx_image::build`.
pub(crate) const LIBOS_ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libos.elf"));
