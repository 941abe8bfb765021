//! What the program does.

use crate::Input;
use fake_platform::FakePlatform;
use platform::{Trap, UserMemory, UserRegisters};
use std::sync::Arc;

/// Where the program's memory is, and how much there is.
const MEMORY: u64 = 0x20_0000;
const LEN: u64 = 0x2_0000;
/// The unit in which arguments point into it.
const SLOT: u64 = 64;
/// Slots for data, from which on nothing has a meaning.
const DATA: u64 = MEMORY + 0x4000;
const LENGTHS: [u64; 16] =
    [0, 1, 2, 4, 8, 16, 28, 56, 64, 100, 4096, 5000, 70_000, 0x1_c000, 1 << 20, u64::MAX >> 1];
const PATHS: [&[u8]; 4] = [b"/mnt/a\0", b"/mnt\0", b"/mnt/a/b\0", b"/mnt/program\0"];

/// Where the addresses of two of the host's socket files are.
const NAMED: u64 = MEMORY + 220 * SLOT;

/// Slots of the timer that ends the program: what it does, where its number goes, when.
const EVENT: u64 = 210;
const TIMER: u64 = 211;
const TIME: u64 = 212;

/// A kind of argument.
#[derive(Clone, Copy)]
enum Kind {
    /// A descriptor.
    Fd,
    /// A pointer.
    At,
    /// A pointer to bytes.
    Bytes,
    /// A pointer to a path.
    Path,
    /// A number of bytes.
    Length,
    /// A small number.
    Small,
    /// Four bytes of the input.
    Any,
    /// One of some numbers.
    Of(&'static [u64]),
}
use Kind::{Any, At, Bytes, Fd, Length, Of, Path, Small};

const FLAGS: Kind =
    Of(&[0, 0, 0x40, 0x40, 2, 0x20, 0x100, 0x142, 0x4000, 0x2000, 1, 0x40000000, 0x10000, 0x8000]);
// A file that is copied behind itself grows by a byte at a time: more takes too long.
const SOME: Kind = Of(&[0, 1, 100, 70_000, 150_000]);
const LEVEL: Kind = Of(&[1, 0, 41, 6, 17]);
const POINTERS: [u64; 4] = [0, 0x1000, u64::MAX - 7, MEMORY + LEN - 4];

/// The calls, with what they take.
const CALLS: &[(u64, &[Kind])] = &[
    (41, &[Of(&[2, 10, 16]), Of(&[1, 2, 0x801, 0x802, 3]), Of(&[0, 0, 6, 17])]),
    (41, &[Of(&[2, 10]), Of(&[1, 2, 0x801, 0x802]), Of(&[0])]),
    (42, &[Fd, At, Of(&[16, 28, 2, 128])]),
    (43, &[Fd, At, At]),
    (288, &[Fd, At, At, Of(&[0, 0x800])]),
    (44, &[Fd, Bytes, Length, FLAGS, At, Of(&[16, 28, 0])]),
    (45, &[Fd, Bytes, Length, FLAGS, At, At]),
    (46, &[Fd, At, FLAGS]),
    (47, &[Fd, At, FLAGS]),
    (48, &[Fd, Small]),
    (49, &[Fd, At, Of(&[16, 28])]),
    (50, &[Fd, Small]),
    (51, &[Fd, At, At]),
    (52, &[Fd, At, At]),
    (54, &[Fd, LEVEL, Small, At, Length]),
    (55, &[Fd, LEVEL, Small, At, At]),
    (307, &[Fd, At, Small, FLAGS]),
    (299, &[Fd, At, Small, FLAGS, At]),
    (0, &[Fd, Bytes, Length]),
    (1, &[Fd, Bytes, Length]),
    (19, &[Fd, At, Small]),
    (20, &[Fd, At, Small]),
    (3, &[Fd]),
    (7, &[At, Small, Of(&[0, 10, 0xffff_ffff])]),
    (271, &[At, Small, At, At, Of(&[8])]),
    (23, &[Small, At, At, At, At]),
    (291, &[Small]),
    (233, &[Fd, Of(&[1, 2, 3]), Fd, At]),
    (232, &[Fd, At, Small, Of(&[0, 10, 0xffff_ffff])]),
    (72, &[Fd, Of(&[3, 4]), Of(&[0, 0x800])]),
    (
        16,
        &[
            Fd,
            Of(&[
                0x541b, 0x5411, 0x8905, 0x8912, 0x8910, 0x8913, 0x8915, 0x8919, 0x891b, 0x8921, 0x8927,
                0x8933,
            ]),
            At,
        ],
    ),
    (16, &[Fd, Any, At]),
    // Between files without the host, no time passes.
    (40, &[Fd, Fd, At, SOME]),
    (40, &[Fd, Fd, Of(&[0]), SOME]),
    (275, &[Fd, Of(&[0]), Fd, Of(&[0]), SOME, Small]),
    (293, &[At, Of(&[0, 0x800])]),
    (32, &[Fd]),
    (33, &[Fd, Fd]),
    // Files of the host.
    (2, &[Path, Of(&[0, 1, 2, 0x42, 0x242, 0x442, 0x10000]), Of(&[0o644])]),
    (4, &[Path, At]),
    (5, &[Fd, At]),
    (8, &[Fd, Any, Small]),
    (17, &[Fd, Bytes, Length, Any]),
    (18, &[Fd, Bytes, Length, Any]),
    (74, &[Fd]),
    (76, &[Path, Length]),
    (77, &[Fd, Any]),
    (82, &[Path, Path]),
    (83, &[Path, Of(&[0o755])]),
    (84, &[Path]),
    (86, &[Path, Path]),
    (87, &[Path]),
    (88, &[Path, Path]),
    (89, &[Path, Bytes, Length]),
    (90, &[Path, Small]),
    (137, &[Path, At]),
    (217, &[Fd, Bytes, Length]),
    (285, &[Fd, Small, Any, Length]),
    (9, &[Of(&[0]), Length, Of(&[1, 3]), Of(&[1, 2]), Fd, Of(&[0, 4096])]),
    (26, &[Any, Length, Small]),
    // Sockets of the Unix domain, which connect to the host's.
    (41, &[Of(&[1]), Of(&[1, 2, 5, 0x801, 0x802, 0x805]), Of(&[0])]),
    (42, &[Fd, Of(&[NAMED, NAMED + SLOT]), Of(&[9, 16])]),
    (44, &[Fd, Bytes, Length, FLAGS, Of(&[NAMED]), Of(&[9, 0])]),
    (53, &[Of(&[1]), Of(&[1, 2, 5, 0x801]), Of(&[0]), At]),
];

/// Bytes of a program that is never looked at: an ELF header and a segment.
pub fn file() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0x40_0078u64, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0u64, 0x40_0000, 0x40_0000, 128, 128, 4096] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(128, 0x90);
    file
}

/// The program.
pub struct Program {
    input: Arc<Input>,
    steps: u32,
}

impl Program {
    pub fn new(input: Arc<Input>) -> Self {
        Self { input, steps: 0 }
    }

    /// Goes on to the next system call.
    pub fn step(&mut self, fake: &FakePlatform, registers: &mut UserRegisters) -> Trap {
        self.steps += 1;
        let (number, arguments) = match self.steps {
            // Memory that is there at once.
            1 => (9, [MEMORY, LEN, 3, 0x8032, u64::MAX, 0]),
            // A timer whose signal no mask holds back: the first one, whose number is 0.
            2 => {
                furnish(fake);
                (222, [1, MEMORY + EVENT * SLOT, MEMORY + TIMER * SLOT, 0, 0, 0])
            }
            3 => (223, [0, 0, MEMORY + TIME * SLOT, 0, 0, 0]),
            _ if self.input.is_over() => (231, [0; 6]),
            _ => self.call(fake),
        };
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        Trap::Syscall
    }

    fn call(&self, fake: &FakePlatform) -> (u64, [u64; 6]) {
        let mut choice = self.input.front();
        // Bytes for later.
        while choice >= 240 {
            let at = MEMORY + u64::from(self.input.front()) * SLOT + u64::from(self.input.front() % 64);
            let len = choice - 239;
            let bytes: Vec<u8> = (0..len).map(|_| self.input.front()).collect();
            let _ = fake.user_store(at, &bytes);
            choice = self.input.front();
        }
        let (number, kinds) = CALLS[usize::from(choice) % CALLS.len()];
        let mut arguments = [0; 6];
        for (argument, &kind) in arguments.iter_mut().zip(kinds) {
            *argument = self.argument(kind);
        }
        (number, arguments)
    }

    fn argument(&self, kind: Kind) -> u64 {
        let byte = u64::from(self.input.front());
        match kind {
            Fd => byte % 16,
            At if byte >= 252 => POINTERS[byte as usize - 252],
            At => MEMORY + byte * SLOT,
            Bytes if byte >= 252 => POINTERS[byte as usize - 252],
            Bytes => DATA + byte * SLOT,
            Path => MEMORY + (byte % 4 + 200) * SLOT,
            Length => LENGTHS[byte as usize % LENGTHS.len()],
            Small => byte % 80,
            Any => (0..4).fold(0, |word, _| word << 8 | u64::from(self.input.front())),
            Of(numbers) => numbers[byte as usize % numbers.len()],
        }
    }
}

/// Puts what calls point to into the first slots: addresses, messages, vectors, times, descriptors to poll, paths.
fn furnish(fake: &FakePlatform) {
    let put = |slot: u64, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        fake.user_store(MEMORY + slot * SLOT, &bytes).expect("the memory is there");
    };
    // 10.0.0.1:80, [2001:db8::1]:80, 127.0.0.1:81, no time, a millisecond, four lengths.
    put(0, &[0x0100_000a_5000_0002, 0]);
    put(1, &[0x5000_000a, 0xb80d_0120, 0, 0x100_0000]);
    put(2, &[0x0100_007f_5100_0002, 0]);
    put(3, &[0, 0]);
    put(4, &[0, 1_000_000]);
    put(5, &[128, 4, 16, 1]);
    for message in 0..8 {
        let at = |slot: u64| MEMORY + slot * SLOT;
        let control = [0, 0, 64, 256][message as usize % 4];
        put(10 + message, &[at(message % 3), 128, at(40), 1 + message % 3, at(60 + message), control, 0, 0]);
    }
    put(40, &[DATA, 100, DATA + 0x1000, 70_000, DATA + 0x800, 0]);
    let poll: Vec<u64> = (0..8).map(|fd| fd | 7 << 32).collect();
    put(50, &poll);
    put(51, &[0xff, 0]);
    put(52, &[0x2005 | 7 << 32, 0]);
    // IP_TTL, IP_PKTINFO
    put(60, &[20, 0x2_0000_0000, 64]);
    put(61, &[28, 0x8_0000_0000, 0, 0]);
    // SCM_RIGHTS
    put(62, &[20, 0x1_0000_0001, 3]);
    for (at, path) in (NAMED..).step_by(SLOT as usize).zip([b"\x01\0/mnt/a\0", b"\x01\0/mnt/b\0"]) {
        fake.user_store(at, path).expect("the memory is there");
    }
    // SIGEV_SIGNAL with SIGKILL, after three seconds
    put(EVENT, &[0, 9]);
    put(TIME, &[0, 0, 3, 0]);
    for (slot, path) in (200..).zip(PATHS) {
        fake.user_store(MEMORY + slot * SLOT, path).expect("the memory is there");
    }
}
