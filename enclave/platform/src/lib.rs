//! The traits that the kernel stands on.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
