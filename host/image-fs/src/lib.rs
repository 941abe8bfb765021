//! Writes the read-only image file system: EROFS, Merkle tree, rewriting site tables.
#![forbid(unsafe_code)]
