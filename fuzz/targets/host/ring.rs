//! The host's side of the ring of operations: it does some of what it is asked to, and tells of more.

use crate::Input;
use edge_abi::ring::{
    CQ_ENTRIES, RECEIVE_BUFFERS, RECEIVE_LEN, SEND_BUFFERS, SEND_LEN, SQ_ENTRIES, WireBuffer, WireCqe,
    WireRing, WireSqe,
};
use rt::outside::Outside;
use std::sync::atomic::{AtomicU64, Ordering};

const SQ_HEAD: u32 = 0;
const SQ_TAIL: u32 = 64;
const CQ_HEAD: u32 = 128;
const CQ_TAIL: u32 = 192;
const SQ_FLAGS: u32 = 256;
const CQ_FLAGS: u32 = 260;
const COMPLETIONS: u32 = 320;
/// Results that a Linux may give, and some that it may not.
const RESULTS: [i32; 12] = [0, 1, 100, 5000, 65_536, 65_537, i32::MAX, -11, -104, -32, -105, -4000];

type Memory = &'static [AtomicU64];

fn memory(bytes: usize) -> Memory {
    Box::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect())
}

/// The memory, which outlives the runtime's knowledge of it.
#[derive(Clone, Copy)]
struct Parts {
    rings: Memory,
    submissions: Memory,
    provided: Memory,
    receive: Memory,
    send: Memory,
}

thread_local! {
    static PARTS: Parts = Parts {
        rings: memory(COMPLETIONS as usize + CQ_ENTRIES as usize * size_of::<WireCqe>()),
        submissions: memory(SQ_ENTRIES as usize * size_of::<WireSqe>()),
        provided: memory(usize::from(RECEIVE_BUFFERS) * size_of::<WireBuffer>()),
        receive: memory(usize::from(RECEIVE_BUFFERS) * RECEIVE_LEN as usize),
        send: memory(usize::from(SEND_BUFFERS) * SEND_LEN as usize),
    };
}

/// The ring.
pub struct Ring {
    parts: Parts,
    taken: u32,
    /// User data of what was submitted lately.
    known: Vec<u64>,
}

impl Ring {
    pub fn new() -> Self {
        let parts = PARTS.with(|parts| *parts);
        parts.rings.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        Self { parts, taken: 0, known: Vec::new() }
    }

    /// Says where it is, or something else. An address where nothing is would end the enclave, which a host may.
    pub fn open(&self, input: &Input, buffer: Outside) {
        let at = |memory: Memory| memory.as_ptr().expose_provenance() as u64;
        let mut wire = WireRing {
            rings: at(self.parts.rings),
            rings_len: self.parts.rings.len() as u64 * 8,
            submissions: at(self.parts.submissions),
            provided: at(self.parts.provided),
            receive: at(self.parts.receive),
            send: at(self.parts.send),
            sq_head: SQ_HEAD,
            sq_tail: SQ_TAIL,
            sq_flags: SQ_FLAGS,
            cq_head: CQ_HEAD,
            cq_tail: CQ_TAIL,
            cq_flags: CQ_FLAGS,
            completions: COMPLETIONS,
            event_fd: input.back().into(),
        };
        let any = || u32::from_le_bytes([input.back(), input.back(), input.back(), input.back()]);
        match input.back() {
            0..200 => {}
            200..210 => wire.rings &= 0xf_ffff_ffff,
            210..220 => wire.send = u64::from(any()),
            220..230 => wire.rings_len = u64::from(any()) % wire.rings_len,
            230..240 => wire.completions = any(),
            240..245 => wire.cq_tail = any(),
            245..250 => wire.sq_flags = any() % COMPLETIONS,
            _ => wire = WireRing::default(),
        }
        assert!(buffer.write(0, &wire));
    }

    fn half(&self, at: u32) -> u32 {
        let word = self.parts.rings[at as usize / 8].load(Ordering::Relaxed);
        (word >> (at % 8 * 8)) as u32
    }

    fn set_half(&self, at: u32, value: u32) {
        let word = &self.parts.rings[at as usize / 8];
        let shift = at % 8 * 8;
        let kept = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
    }

    /// Takes what was submitted, and completes some of it, with more and less truth.
    pub fn work(&mut self, input: &Input) {
        let tail = self.half(SQ_TAIL);
        for _ in 0..tail.wrapping_sub(self.taken).min(64) {
            let at = (self.taken % SQ_ENTRIES) as usize * size_of::<WireSqe>() / 8;
            self.known.push(self.parts.submissions[at + 4].load(Ordering::Relaxed));
            self.taken = self.taken.wrapping_add(1);
        }
        self.set_half(SQ_HEAD, self.taken);
        for _ in 0..input.back() % 4 {
            let choice = usize::from(input.back());
            let user_data = match choice {
                0..240 if !self.known.is_empty() => self.known[choice % self.known.len()],
                _ => u64::from(input.back()) << 32 | u64::from(input.back()),
            };
            let res = RESULTS[usize::from(input.back()) % RESULTS.len()];
            let buffer = u64::from(input.back());
            let flags = if buffer < 200 { 1 | buffer % 160 << 16 } else { buffer };
            let completed = self.half(CQ_TAIL);
            let at = (COMPLETIONS as usize + (completed % CQ_ENTRIES) as usize * size_of::<WireCqe>()) / 8;
            self.parts.rings[at].store(user_data, Ordering::Relaxed);
            let result = u64::from(res.cast_unsigned()) | flags << 32;
            self.parts.rings[at + 1].store(result, Ordering::Relaxed);
            self.set_half(CQ_TAIL, completed.wrapping_add(1));
        }
        match input.back() {
            250..252 => self.set_half(CQ_TAIL, u32::from(input.back()) << 24),
            252..254 => self.set_half(SQ_HEAD, u32::from(input.back()) << 24),
            254.. => self.set_half(SQ_FLAGS, 1),
            _ => {}
        }
        let surplus = self.known.len().saturating_sub(256);
        self.known.drain(..surplus);
    }
}
