//! Linux x86-64 errno values, system call numbers, flags and wire structures.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
