//! The measured configuration of an enclave.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
