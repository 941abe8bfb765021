//! A platform in memory, for tests of the kernel.
#![forbid(unsafe_code)]
