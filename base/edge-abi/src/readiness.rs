//! How the host tells which sockets became ready.
//!
//! The host keeps edge-triggered epoll instances for the enclave. [`crate::ocall::Ocall::Watch`] puts a descriptor in, with
//! a token of the enclave's choice, and says which thread waits for it. Edges become records in a ring in host memory, which enclave threads empty without leaving.
//! `pal::readiness` has the protocol of who waits in which instance; this is the ring alone.
//!
//! | bytes | |
//! |---|---|
//! | [`HEAD_AT`] | u64: records ever written; the host's |
//! | [`TAIL_AT`] | u64: records ever read; the enclave's, which trusts only its own copy |
//! | [`RECORDS_AT`] | [`RECORDS`] × [`WireReady`]; record `n` is at `n % RECORDS` |
//!
//! The host writes a record before it moves the head, and never moves the head more than [`RECORDS`] beyond the tail. What it
//! says may be wrong: a token that leads nowhere is dropped, and an event that is not so makes somebody look in vain.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Who waits for a descriptor ([`crate::ocall::Ocall::Watch`]): nobody need, the host makes [`crate::ecall::Ecall::Ready`].
pub const AT_ONCE: u64 = u32::MAX as u64;

/// Place of the head.
pub const HEAD_AT: u64 = 0;
/// Place of the tail.
pub const TAIL_AT: u64 = 64;
/// Place of the first record.
pub const RECORDS_AT: u64 = 128;
/// Records of the ring.
pub const RECORDS: u64 = 1024;
/// Bytes of the ring.
pub const RING_LEN: u64 = RECORDS_AT + RECORDS * size_of::<WireReady>() as u64;

/// An edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireReady {
    /// The token of the descriptor.
    pub token: u64,
    /// POLL* bits that hold now.
    pub events: u32,
    /// Zero.
    pub pad: u32,
}
