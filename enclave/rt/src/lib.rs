//! Trusted runtime: enclave entry and exit, exceptions, user switch, OCALLs, heap.
//!
//! This is the crate where the enclave's `unsafe` lives. It owns the border in both directions and gives the
//! kernel, which has no `unsafe`, the [`platform::Platform`] to stand on.
//!
//! * [`area`]: the per-thread state behind GS and its offsets.
//! * [`entry`]: assembly of EENTER, EEXIT, OCALL and the exception entry.
//! * [`exception`]: what an AEX means: user code trapped, a user-memory copy faulted, or the LibOS is broken.
//! * [`user`], [`xstate`]: switching to user code and back, and its extended state.
//! * [`copy`]: user memory, with a fix-up instead of a crash.
//! * [`outside`]: host memory: ranges checked to lie outside ELRANGE, copied and never referenced.
//! * [`sgx`]: the ENCLU leaves.
//! * [`ocall`], [`host`], [`net`], [`readiness`], [`uring`], [`pages`], [`slots`], [`clock`], [`random`], [`heap`]: the services built on them.
//!
//! # Invariants
//!
//! * Kernel code runs at CSSA = 0 on the kernel stack of its thread and may OCALL; the exception handler runs at
//!   CSSA = 1 on the exception stack, takes no lock, allocates nothing and never OCALLs.
//! * Kernel code uses no vector register beyond xmm. The upper halves still belong to the user program until
//!   `ensure_xstate_saved` stores them, which every OCALL does first; registers are scrubbed at every EEXIT.
//! * While user code runs, `MODE` is 1 and `REGISTERS` points to the registers to store into.
#![cfg_attr(not(any(test, fuzzing)), no_std)]

extern crate alloc;

pub mod area;
pub mod clock;
pub mod copy;
pub mod entry;
pub mod exception;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod heap;
pub mod host;
mod net;
pub mod ocall;
pub mod outside;
pub mod pages;
pub mod panic;
pub mod random;
mod readiness;
#[cfg(any(test, fuzzing))]
pub mod ring_memory;
pub mod runtime;
pub mod sgx;
mod slots;
mod uring;
pub mod user;
mod xstate;

pub use runtime::{Ecalls, Runtime, Start};
