//! The read-only image file system, verified block by block.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
