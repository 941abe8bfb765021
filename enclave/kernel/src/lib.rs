//! The LibOS: processes, threads, memory, signals, files, time, system calls.
//!
//! A [`Kernel`] is an ordinary value: it has no statics, takes everything from below through
//! [`platform::Platform`], and so a hundred of them run in one test binary. A thread of a program is a call of
//! [`Kernel::run_thread`]: a loop that lets user code run, serves what it trapped for, and delivers signals
//! on the way back.
//!
//! A system call finds what it may touch in [`Ctx`]: the kernel, its process, its thread, its memory, its files.
//!
//! Lock order: [`kbase::sync`]. No lock is held over an access to user memory or a call that may block.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod ctx;
mod fs;
mod futex;
mod ipc;
mod kernel;
mod net;
mod process;
mod sched;
mod signal;
mod stats;
mod syscall;
#[cfg(test)]
mod testing;
mod thread;
mod time;
mod vm;

/// Entry points of the fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Reads the headers of a program file.
    pub fn program(file: &dyn vfs::Regular) {
        drop(crate::process::elf::Elf::read(file));
    }
}

pub use ctx::Ctx;
pub use kernel::{BootExtra, HostFile, HostMount, Kernel};
pub use process::Process;
pub use syscall::{Support, TABLE};
pub use thread::Thread;
