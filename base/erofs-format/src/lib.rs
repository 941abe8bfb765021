//! EROFS on-disk structures and the Merkle tree that verifies them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
