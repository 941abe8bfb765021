//! Errors, locks and typed user memory for the kernel and its file systems.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
