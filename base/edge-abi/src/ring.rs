//! The ring of operations on sockets that the enclave and the host's Linux share: an instance of `io_uring(7)`.
//!
//! [`crate::ocall::Ocall::RingOpen`] has the host make one and tells where it is ([`WireRing`]). From then on the enclave writes
//! submissions and reads completions in host memory, and a thread of the host's kernel (IORING_SETUP_SQPOLL) does what they
//! say. [`crate::ocall::Ocall::RingWake`] wakes that thread when it has gone to sleep.
//!
//! | memory | |
//! |---|---|
//! | rings | heads, tails, flags and completions, at offsets that the host's Linux chose |
//! | submissions | [`SQ_ENTRIES`] × [`WireSqe`] |
//! | provided | [`RECEIVE_BUFFERS`] × [`WireBuffer`]: the ring in which the enclave gives receive buffers to Linux |
//! | receive | [`RECEIVE_BUFFERS`] buffers of [`RECEIVE_LEN`] bytes |
//! | send | [`SEND_BUFFERS`] buffers of [`SEND_LEN`] bytes |
//!
//! Names and numbers are those of `linux/io_uring.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of the submission queue.
pub const SQ_ENTRIES: u32 = 4096;
/// Entries of the completion queue. As many operations are outstanding at most, so that none is ever lost.
pub const CQ_ENTRIES: u32 = 16384;
/// Buffers into which Linux receives; a power of two.
pub const RECEIVE_BUFFERS: u16 = 128;
/// Bytes of each.
pub const RECEIVE_LEN: u32 = 64 * 1024;
/// Buffers from which Linux sends.
pub const SEND_BUFFERS: u16 = 64;
/// Bytes of each.
pub const SEND_LEN: u32 = 64 * 1024;
/// The group of the receive buffers.
pub const BUFFER_GROUP: u16 = 0;
/// Where the tail of the provided buffers is.
pub const PROVIDED_TAIL_AT: u64 = 14;
/// Bytes of a [`WireBuffer`] that are the buffer's; the others may be the tail.
pub const PROVIDED_LEN: usize = 14;

/// The token of edges that say that there are completions ([`crate::readiness`]).
pub const TOKEN: u64 = u64::MAX;

/// Answer of [`crate::ocall::Ocall::RingOpen`]. Offsets are from the start of the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireRing {
    /// Address of the rings.
    pub rings: u64,
    /// Their bytes.
    pub rings_len: u64,
    /// Address of the submissions.
    pub submissions: u64,
    /// Address of the ring of provided buffers.
    pub provided: u64,
    /// Address of the receive buffers.
    pub receive: u64,
    /// Address of the send buffers.
    pub send: u64,
    /// Offset of the head of the submission queue.
    pub sq_head: u32,
    /// Offset of its tail.
    pub sq_tail: u32,
    /// Offset of its flags.
    pub sq_flags: u32,
    /// Offset of the head of the completion queue.
    pub cq_head: u32,
    /// Offset of its tail.
    pub cq_tail: u32,
    /// Offset of its flags.
    pub cq_flags: u32,
    /// Offset of the completions.
    pub completions: u32,
    /// The eventfd that tells of completions.
    pub event_fd: u32,
}

/// `struct io_uring_sqe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireSqe {
    /// IORING_OP_*.
    pub opcode: u8,
    /// IOSQE_*.
    pub flags: u8,
    /// Flags of some operations.
    pub ioprio: u16,
    /// Descriptor.
    pub fd: i32,
    /// Offset.
    pub off: u64,
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Flags of the operation.
    pub op_flags: u32,
    /// Comes back in the completion.
    pub user_data: u64,
    /// The group of buffers.
    pub buf_group: u16,
    /// Zero.
    pub personality: u16,
    /// Zero.
    pub splice_fd: i32,
    /// Zero.
    pub pad: [u64; 2],
}

/// `struct io_uring_cqe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireCqe {
    /// Of the submission.
    pub user_data: u64,
    /// Result or negated errno.
    pub res: i32,
    /// IORING_CQE_F_*.
    pub flags: u32,
}

/// `struct io_uring_buf`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireBuffer {
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Number.
    pub bid: u16,
    /// Zero; in the first: the tail.
    pub resv: u16,
}

/// IORING_OP_*.
pub mod op {
    /// Waits once for events of `poll(2)`.
    pub const POLL_ADD: u8 = 6;
    /// Cancels other operations.
    pub const ASYNC_CANCEL: u8 = 14;
    /// `close(2)`.
    pub const CLOSE: u8 = 19;
    /// `send(2)`.
    pub const SEND: u8 = 26;
    /// `recv(2)`.
    pub const RECV: u8 = 27;
}

/// IOSQE_BUFFER_SELECT: Linux takes one of the provided buffers.
pub const SQE_BUFFER_SELECT: u8 = 1 << 5;
/// IORING_ASYNC_CANCEL_ALL.
pub const CANCEL_ALL: u32 = 1 << 0;
/// IORING_ASYNC_CANCEL_FD: those of a descriptor.
pub const CANCEL_FD: u32 = 1 << 1;
/// IORING_CQE_F_BUFFER: the upper half of the flags is the number of a buffer.
pub const CQE_BUFFER: u32 = 1 << 0;
/// IORING_SQ_NEED_WAKEUP: the host's thread sleeps.
pub const SQ_NEED_WAKEUP: u32 = 1 << 0;
/// IORING_CQ_EVENTFD_DISABLED: nobody wants to hear of completions.
pub const CQ_EVENTFD_DISABLED: u32 = 1 << 0;

const _: () =
    assert!(size_of::<WireSqe>() == 64 && size_of::<WireCqe>() == 16 && size_of::<WireBuffer>() == 16);
const _: () = assert!(SQ_ENTRIES.is_power_of_two() && CQ_ENTRIES.is_power_of_two());
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two());
