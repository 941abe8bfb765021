//! Untrusted runtime: loads an enclave, runs its threads, serves its OCALLs.
//!
//! Nothing here is trusted by the enclave: whatever this crate gets wrong, or does wrong on purpose, costs
//! service, never secrets.
//!
//! * [`Enclave::load`] builds a signed enclave on an [`sgx_device::SgxDevice`] and starts its LibOS.
//! * [`Enclave::run`] creates a process and runs it to its end on the calling thread.
//! * [`slot`]: one per TCS: the frame and buffer through which a thread talks, and how it sleeps.
//! * [`ocalls`], [`files`], [`sockets`], [`readiness`], [`uring`], [`alerts`], [`epoll`], [`park`]: what the enclave may ask for.
//! * [`signals`]: SIGINT and its kind are passed to the program; SIGPIPE is ignored.
//!
//! * [`pool`]: host threads, kept for the next LibOS thread.
//!
//! Lock order: each module has one lock, and none is taken under another. No lock is held over an entry of the enclave.

mod alerts;
mod cpuid;
mod enclave;
mod epoll;
mod error;
mod files;
mod ocalls;
mod park;
mod pool;
mod readiness;
mod schedule;
mod signals;
mod slot;
mod sockets;
mod sweep;
mod threads;
mod timer;
mod uring;

pub use enclave::{Enclave, LoadOptions, LogSink, ProcessOptions, WaitStatus};
pub use error::PalError;
