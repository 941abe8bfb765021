//! The host's side of the ring of operations: it does some of what it is asked to, and tells of more.

use crate::Input;
use edge_abi::ring::{WireCqe, WireRing};
use rt::ring_memory::{COMPLETIONS, CQ_TAIL, Memory, SQ_FLAGS, SQ_HEAD, SQ_TAIL};
use rt::outside::Outside;

/// Results that a Linux may give, and some that it may not.
const RESULTS: [i32; 12] = [0, 1, 100, 5000, 65_536, 65_537, i32::MAX, -11, -104, -32, -105, -4000];

thread_local! {
    /// It outlives the runtime's knowledge of it.
    static MEMORY: &'static Memory = Box::leak(Box::new(Memory::default()));
}

/// The ring.
pub struct Ring {
    memory: &'static Memory,
    taken: u32,
    /// User data of what was submitted lately.
    known: Vec<u64>,
}

impl Ring {
    pub fn new() -> Self {
        let memory = MEMORY.with(|memory| *memory);
        memory.rings.clear();
        Self { memory, taken: 0, known: Vec::new() }
    }

    /// Says where it is, or something else. An address where nothing is would end the enclave, which a host may.
    pub fn open(&self, input: &Input, buffer: Outside) {
        let mut wire = self.memory.wire(input.back().into());
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

    /// Takes what was submitted, and completes some of it, with more and less truth.
    pub fn work(&mut self, input: &Input) {
        let rings = &self.memory.rings;
        let tail = rings.half(SQ_TAIL);
        for _ in 0..tail.wrapping_sub(self.taken).min(64) {
            self.known.push(self.memory.submission(self.taken).user_data);
            self.taken = self.taken.wrapping_add(1);
        }
        rings.set_half(SQ_HEAD, self.taken);
        for _ in 0..input.back() % 4 {
            let choice = usize::from(input.back());
            let user_data = match choice {
                0..240 if !self.known.is_empty() => self.known[choice % self.known.len()],
                _ => u64::from(input.back()) << 32 | u64::from(input.back()),
            };
            let res = RESULTS[usize::from(input.back()) % RESULTS.len()];
            let buffer = u32::from(input.back());
            let flags = if buffer < 200 { 1 | buffer % 160 << 16 } else { buffer };
            self.memory.complete(&WireCqe { user_data, res, flags });
        }
        match input.back() {
            250..252 => rings.set_half(CQ_TAIL, u32::from(input.back()) << 24),
            252..254 => rings.set_half(SQ_HEAD, u32::from(input.back()) << 24),
            254.. => rings.set_half(SQ_FLAGS, 1),
            _ => {}
        }
        let surplus = self.known.len().saturating_sub(256);
        self.known.drain(..surplus);
    }
}
