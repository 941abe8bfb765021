//! The memory of a ring on the side of a host that is in the same process: of tests and of the hostile host.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use edge_abi::ring::{
    CQ_ENTRIES, RECEIVE_BUFFERS, RECEIVE_LEN, SEND_BUFFERS, SEND_LEN, SQ_ENTRIES, WireBuffer, WireCqe,
    WireRing, WireSqe,
};
use zerocopy::{FromBytes, IntoBytes};

/// Offsets that a Linux may choose.
pub const SQ_HEAD: u32 = 0;
/// The tail of the submissions.
pub const SQ_TAIL: u32 = 64;
/// The head of the completions.
pub const CQ_HEAD: u32 = 128;
/// The tail of the completions.
pub const CQ_TAIL: u32 = 192;
/// The flags of the submission queue.
pub const SQ_FLAGS: u32 = 256;
/// The flags of the completion queue.
pub const CQ_FLAGS: u32 = 260;
/// The completions.
pub const COMPLETIONS: u32 = 320;

/// Memory that both sides see.
pub struct Part(Box<[AtomicU64]>);

impl Part {
    fn new(bytes: usize) -> Self {
        Self((0..bytes / 8).map(|_| AtomicU64::new(0)).collect())
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64 * 8
    }

    /// Fills it with zeros.
    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Copies a value of whole words.
    #[must_use]
    pub fn load<T: FromBytes + IntoBytes>(&self, at: usize) -> T {
        let mut value = T::new_zeroed();
        for (bytes, word) in value.as_mut_bytes().chunks_mut(8).zip(&self.0[at / 8..]) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        value
    }

    /// Stores a value of whole words.
    pub fn store(&self, at: usize, value: &(impl IntoBytes + zerocopy::Immutable)) {
        for (bytes, word) in value.as_bytes().as_chunks().0.iter().zip(&self.0[at / 8..]) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// An aligned value of 32 bits.
    #[must_use]
    pub fn half(&self, at: u32) -> u32 {
        (self.0[at as usize / 8].load(Ordering::Relaxed) >> (at % 8 * 8)) as u32
    }

    /// Stores one.
    pub fn set_half(&self, at: u32, value: u32) {
        let word = &self.0[at as usize / 8];
        let shift = at % 8 * 8;
        let kept = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
    }
}

/// All of it.
pub struct Memory {
    /// Heads, tails, flags, completions.
    pub rings: Part,
    /// The submissions.
    pub submissions: Part,
    /// The receive buffers that the enclave gave.
    pub provided: Part,
    /// These buffers.
    pub receive: Part,
    /// The send buffers.
    pub send: Part,
}

impl Default for Memory {
    /// Zeros.
    fn default() -> Self {
        Self {
            rings: Part::new(COMPLETIONS as usize + CQ_ENTRIES as usize * size_of::<WireCqe>()),
            submissions: Part::new(SQ_ENTRIES as usize * size_of::<WireSqe>()),
            provided: Part::new(usize::from(RECEIVE_BUFFERS) * size_of::<WireBuffer>()),
            receive: Part::new(usize::from(RECEIVE_BUFFERS) * RECEIVE_LEN as usize),
            send: Part::new(usize::from(SEND_BUFFERS) * SEND_LEN as usize),
        }
    }
}

impl Memory {
    /// Where it is.
    #[must_use]
    pub fn wire(&self, event_fd: u32) -> WireRing {
        WireRing {
            rings: self.rings.address(),
            rings_len: self.rings.bytes(),
            submissions: self.submissions.address(),
            provided: self.provided.address(),
            receive: self.receive.address(),
            send: self.send.address(),
            sq_head: SQ_HEAD,
            sq_tail: SQ_TAIL,
            sq_flags: SQ_FLAGS,
            cq_head: CQ_HEAD,
            cq_tail: CQ_TAIL,
            cq_flags: CQ_FLAGS,
            completions: COMPLETIONS,
            event_fd,
        }
    }

    /// The submission of a number.
    #[must_use]
    pub fn submission(&self, number: u32) -> WireSqe {
        self.submissions.load((number % SQ_ENTRIES) as usize * size_of::<WireSqe>())
    }

    /// Completes, with any values.
    pub fn complete(&self, completion: &WireCqe) {
        let tail = self.rings.half(CQ_TAIL);
        let at = COMPLETIONS as usize + (tail % CQ_ENTRIES) as usize * size_of::<WireCqe>();
        self.rings.store(at, completion);
        self.rings.set_half(CQ_TAIL, tail.wrapping_add(1));
    }
}
