//! Linux x86-64 errno values, system call numbers, flags and wire structures.
//!
//! Numbers and layouts are the kernel's own (not glibc's, which differ where glibc translates).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod errno;
pub mod fs;
pub mod inotify;
pub mod ipc;
pub mod mm;
pub mod net;
pub mod process;
pub mod signal;
pub mod time;
pub mod tty;

pub use errno::Errno;
