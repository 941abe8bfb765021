//! The enclave boundary: ECALLs, OCALLs and their layouts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
