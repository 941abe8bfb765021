//! tmpfs: files in enclave memory.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
