//! The enclave boundary: ECALLs, OCALLs and their layouts.
//!
//! Both sides compile against this crate and meet nowhere else. It holds plain data only: numbers,
//! `#[repr(C)]` structures without padding, and the rules that each side checks.
//!
//! * [`layout`]: where things are in ELRANGE, and the per-thread area that the builder writes and the
//!   trusted runtime reads through GS.
//! * [`ecall`]: what the host may ask of the enclave, and every errno it can get.
//! * [`ocall`]: what the enclave may ask of the host, and how the answers are bounded; [`net`]: of its sockets.
//! * [`readiness`]: how the host tells which sockets became ready; [`ring`]: operations on sockets without a call.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod ecall;
pub mod layout;
pub mod net;
pub mod ocall;
pub mod readiness;
pub mod ring;

/// Version of this interface. The enclave refuses an untrusted runtime of another version (EPROTO).
pub const EDGE_VERSION: u32 = 3;
