//! Where the parts of the ring are in host memory.

use crate::outside::Outside;
use alloc::vec::Vec;
use edge_abi::ecall::HostRange;
use edge_abi::ring::{
    CQ_ENTRIES, PROVIDED_LEN, PROVIDED_TAIL_AT, RECEIVE_BUFFERS, RECEIVE_LEN, SEND_BUFFERS, SEND_LEN,
    SQ_ENTRIES, WireBuffer, WireCqe, WireRing, WireSqe,
};
use zerocopy::IntoBytes;

/// The parts. All ranges are outside of the enclave, and all offsets inside of their ranges.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    rings: Outside,
    submissions: Outside,
    provided: Outside,
    receive: Outside,
    send: Outside,
    /// Addresses of the buffers, for the host.
    receive_at: u64,
    send_at: u64,
    pub(super) sq_head: u64,
    pub(super) sq_tail: u64,
    pub(super) sq_flags: u64,
    pub(super) cq_head: u64,
    pub(super) cq_tail: u64,
    pub(super) cq_flags: u64,
    completions: u64,
    pub(super) event_fd: u64,
}

/// The host's memory of `count` things of `len` bytes.
fn range(address: u64, count: u64, len: u64) -> Option<Outside> {
    Outside::new(HostRange { address, len: count.checked_mul(len)? })
}

impl Layout {
    /// What the host says, if it makes sense.
    pub(super) fn new(wire: &WireRing) -> Option<Self> {
        let rings = range(wire.rings, wire.rings_len, 1)?;
        let completions = u64::from(wire.completions);
        let completions_len = u64::from(CQ_ENTRIES) * size_of::<WireCqe>() as u64;
        if completions.checked_add(completions_len)? > rings.len() {
            return None;
        }
        // Each can be reached.
        let field = |at: u32| rings.load_half(at.into()).map(|_| u64::from(at));
        Some(Self {
            submissions: range(wire.submissions, SQ_ENTRIES.into(), size_of::<WireSqe>() as u64)?,
            provided: range(wire.provided, RECEIVE_BUFFERS.into(), size_of::<WireBuffer>() as u64)?,
            receive: range(wire.receive, RECEIVE_BUFFERS.into(), RECEIVE_LEN.into())?,
            send: range(wire.send, SEND_BUFFERS.into(), SEND_LEN.into())?,
            receive_at: wire.receive,
            send_at: wire.send,
            sq_head: field(wire.sq_head)?,
            sq_tail: field(wire.sq_tail)?,
            sq_flags: field(wire.sq_flags)?,
            cq_head: field(wire.cq_head)?,
            cq_tail: field(wire.cq_tail)?,
            cq_flags: field(wire.cq_flags)?,
            completions,
            rings,
            event_fd: wire.event_fd.into(),
        })
    }

    /// A field of the rings.
    pub(super) fn load(&self, field: u64) -> u32 {
        // It was reached before.
        self.rings.load_half(field).unwrap_or(0)
    }

    pub(super) fn store(&self, field: u64, value: u32) {
        let _ = self.rings.store_half(field, value);
    }

    /// Writes a submission.
    pub(super) fn submit(&self, tail: u32, submission: &WireSqe) {
        let at = u64::from(tail % SQ_ENTRIES) * size_of::<WireSqe>() as u64;
        let _ = self.submissions.write(at, submission);
    }

    /// Copies a completion.
    pub(super) fn completion(&self, head: u32) -> WireCqe {
        let at = self.completions + u64::from(head % CQ_ENTRIES) * size_of::<WireCqe>() as u64;
        self.rings.read(at).unwrap_or_default()
    }

    /// Writes where a receive buffer is. The tail, which is in the first entry, is left alone.
    pub(super) fn provide(&self, tail: u16, buffer: u16) {
        let addr = self.receive_at + u64::from(buffer) * u64::from(RECEIVE_LEN);
        let entry = WireBuffer { addr, len: RECEIVE_LEN, bid: buffer, resv: 0 };
        let at = u64::from(tail % RECEIVE_BUFFERS) * size_of::<WireBuffer>() as u64;
        let _ = self.provided.store(at, entry.as_bytes().get(..PROVIDED_LEN).unwrap_or_default());
    }

    /// Stores the tail, in one access together with the number of the buffer in the first entry, which is beside it.
    pub(super) fn set_provided_tail(&self, first: u16, tail: u16) {
        let _ = self.provided.store_half(PROVIDED_TAIL_AT - 2, u32::from(first) | u32::from(tail) << 16);
    }

    /// Copies what was received into a buffer.
    pub(super) fn received(&self, buffer: u16, len: u32) -> Option<Vec<u8>> {
        let mut data = alloc::vec![0; len as usize];
        let at = u64::from(buffer) * u64::from(RECEIVE_LEN);
        self.receive.load(at, &mut data).then_some(data)
    }

    /// Copies what is to be sent into a buffer, and returns its address.
    pub(super) fn fill(&self, buffer: u16, data: &[u8]) -> u64 {
        let at = u64::from(buffer) * u64::from(SEND_LEN);
        let _ = self.send.store(at, data);
        self.send_at + at
    }
}
