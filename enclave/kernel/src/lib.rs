//! The LibOS: processes, memory, files, signals, system calls.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
