//! The traits that the kernel stands on.
//!
//! Everything the kernel needs from below is here, as object-safe traits: numbers and bytes go in and out,
//! never pointers. The trusted runtime implements them in an enclave, `fake-platform` in a test. The
//! runtime has checked every answer of the host before it comes through here: lengths are at most what was
//! asked for, errors are errnos that exist, time does not run backwards. What it cannot check stays
//! untrusted, and the documentation of the method says so.
//!
//! [`sync`] has the locks of all that runs in the enclave: what they do when they have to wait is the platform's, too.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod host;
mod memory;
mod net;
mod ring;
pub mod sync;
mod thread;
mod user;

pub use host::{
    DirectoryRead, HostError, HostFd, HostFiles, HostPoll, HostResult, HostStat, HostStatFs, PollEvents,
    TimeSetting,
};
pub use memory::{OutOfMemory, PAGE_SIZE, PageRange, Protection, UserFault, UserMemory, UserPages};
pub use net::{
    HostAddress, HostBatch, HostInterface, HostMessage, HostNet, HostReadiness, HostReceived, HostSent,
    HostWanted,
};
pub use ring::{HostRing, RingEvent};
pub use thread::{Park, Scheduling, ThreadHandle, Threads};
pub use user::{CpuidResult, Trap, UserCpu, UserRegisters, VdsoFunctions};

use core::fmt;

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// A milestone.
    Info = 3,
    /// What the LibOS decides.
    Debug = 4,
    /// Every system call.
    Trace = 5,
}

/// Lines for the operator. In a release enclave nothing passes.
pub trait Log {
    /// The most detailed level that is wanted; `None` when nothing is.
    fn level(&self) -> Option<Level>;

    /// Writes one line. Call it only for a level that [`Log::level`] allows; the text leaves the enclave.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);

    /// Whether decoded system calls are wanted (`--strace`); they go through [`Log::trace_line`].
    fn wants_strace(&self) -> bool {
        false
    }

    /// Writes a line of `--strace` output.
    fn trace_line(&self, _line: fmt::Arguments<'_>) {}
}

/// Clocks. Built on what the host says, so untrusted, but never running backwards.
pub trait Clocks {
    /// Nanoseconds of CLOCK_MONOTONIC.
    fn monotonic_ns(&self) -> u64;

    /// Nanoseconds of CLOCK_REALTIME since the epoch.
    fn realtime_ns(&self) -> u64;

    /// CPU time in nanoseconds used by the calling thread's host thread, as the host says.
    fn thread_cpu_ns(&self) -> u64;
}

/// Random bytes from the processor (RDRAND), fit for keys.
pub trait Entropy {
    /// Fills `into`.
    fn fill_random(&self, into: &mut [u8]);
}

/// The image file, which lies in host memory: read without leaving the enclave, and not to be believed until
/// verified.
pub trait ImageFile {
    /// Bytes of the image file.
    fn image_len(&self) -> u64;

    /// Copies bytes out of it.
    ///
    /// # Errors
    /// EIO the range is not wholly inside the file, or the host took the memory away.
    fn image_read(&self, offset: u64, into: &mut [u8]) -> HostResult<()>;
}

/// Facts that the host gave at start, untrusted.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFacts {
    /// Online CPUs, at least 1.
    pub cpus: u32,
    /// Bytes of physical memory.
    pub memory: u64,
}

/// Everything below the kernel.
pub trait Platform:
    UserCpu
    + UserMemory
    + UserPages
    + HostFiles
    + HostNet
    + HostReadiness
    + HostRing
    + ImageFile
    + Clocks
    + Entropy
    + Threads
    + Log
    + Send
    + Sync
{
    /// What the host said of itself.
    fn host_facts(&self) -> HostFacts;

    /// Makes uncommitted pages from `address` on accessible and gives them their content. Threads that run in the same address
    /// space meanwhile may see a page without it.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then no page of the range is committed.
    fn commit_copy(
        &self,
        address: u64,
        pages: &[&[u8; 4096]],
        protection: Protection,
    ) -> Result<(), OutOfMemory> {
        let len = (pages.len() as u64).checked_mul(PAGE_SIZE).ok_or(OutOfMemory)?;
        let end = address.checked_add(len).ok_or(OutOfMemory)?;
        let range = PageRange::new(address, end).ok_or(OutOfMemory)?;
        let filling = Protection::READ | Protection::WRITE;
        self.commit(range, filling)?;
        for (at, page) in (address..).step_by(4096).zip(pages) {
            if self.user_store(at, *page).is_err() {
                self.decommit(range);
                return Err(OutOfMemory);
            }
        }
        if protection != filling {
            self.protect(range, filling, protection);
        }
        Ok(())
    }

    /// As [`Platform::commit_copy`], but no thread ever sees a page without its content (EACCEPTCOPY). Dearer. The default is for
    /// platforms where user code does not run meanwhile.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then no page of the range is committed.
    fn commit_copy_at_once(
        &self,
        address: u64,
        pages: &[&[u8; 4096]],
        protection: Protection,
    ) -> Result<(), OutOfMemory> {
        self.commit_copy(address, pages, protection)
    }
}
