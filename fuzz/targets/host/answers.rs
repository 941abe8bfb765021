//! What the host says.

use crate::Input;
use crate::ring::Ring;
use edge_abi::net::{CONTROL_AT, DATA_AT, WireMessage, WireRow};
use edge_abi::ocall::Ocall;
use edge_abi::readiness::{HEAD_AT, RECORDS, RECORDS_AT, RING_LEN};
use fake_platform::FakePlatform;
use linux_abi::Errno;
use rt::outside::Outside;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a call takes.
const CALL_NS: u64 = 1_000_000;
/// The most calls of one program: it should have been killed long ago.
const MOST_CALLS: u32 = 200_000;
/// Errnos that a socket may give, and some that it may not.
const ERRNOS: [u64; 16] = [11, 4, 115, 114, 104, 32, 107, 111, 90, 105, 9, 22, 12, 5, 20, 4000];

thread_local! {
    /// The ring, which outlives the runtime's knowledge of it.
    static RING: &'static [AtomicU64] = Box::leak((0..RING_LEN / 8).map(|_| AtomicU64::new(0)).collect());
}

/// The host.
pub struct Answers {
    input: Arc<Input>,
    fake: Arc<FakePlatform>,
    next_fd: u64,
    tokens: Vec<u64>,
    calls: u32,
    operations: Ring,
}

impl Answers {
    pub fn new(input: Arc<Input>, fake: Arc<FakePlatform>) -> Self {
        RING.with(|ring| ring.iter().for_each(|word| word.store(0, Ordering::Relaxed)));
        Self { input, fake, next_fd: 100, tokens: Vec::new(), calls: 0, operations: Ring::new() }
    }

    fn byte(&self) -> u64 {
        self.input.back().into()
    }

    fn word(&self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | self.byte())
    }

    /// Bytes of any content at some place in the buffer.
    fn scribble(&self, buffer: Outside, at: usize) {
        let len = self.byte() as usize % 64;
        let bytes: Vec<u8> = (0..len).map(|_| self.input.back()).collect();
        assert!(buffer.store(at as u64, &bytes));
    }

    /// A length below a bound, more often a small or the largest one.
    fn length(&self, most: u64) -> u64 {
        match self.byte() {
            byte @ 0..128 => byte.min(most),
            128..192 => most,
            _ => self.word() % most.saturating_add(1),
        }
    }

    /// Answers a call.
    pub fn answer(&mut self, number: u64, args: [u64; 6], buffer: Outside) -> u64 {
        self.calls += 1;
        assert!(self.calls < MOST_CALLS, "the program has been told to end long ago");
        self.fake.advance(CALL_NS);
        let call = Ocall::from_number(number).expect("a call that there is");
        self.operations.work(&self.input);
        if call == Ocall::RingOpen {
            self.operations.open(&self.input, buffer);
            return if self.byte() < 240 { 0 } else { 38u64.wrapping_neg() };
        }
        match self.byte() {
            0..160 => self.plausible(call, args, buffer),
            160..200 => {
                let errno = ERRNOS[self.byte() as usize % ERRNOS.len()];
                // Half of them with something in the buffer, which nobody may look at.
                if errno % 2 == 0 {
                    self.scribble(buffer, 0);
                }
                errno.wrapping_neg()
            }
            200..230 => {
                for at in [0, CONTROL_AT, DATA_AT] {
                    self.scribble(buffer, at);
                }
                self.plausible(call, args, buffer)
            }
            _ => {
                self.scribble(buffer, 0);
                match self.byte() % 8 {
                    0 => u64::MAX >> 1,
                    1 => u64::MAX,
                    2 => i32::MAX as u64,
                    3 => args[1].wrapping_add(1),
                    4 => 2,
                    5 => 4096u64.wrapping_neg(),
                    6 => self.byte(),
                    _ => self.sane_address(call, self.word()),
                }
            }
        }
    }

    /// An address where nothing is would end the enclave, which a host may.
    fn sane_address(&self, call: Ocall, value: u64) -> u64 {
        if call == Ocall::ReadinessRing { value & 0xf_ffff_ffff } else { value }
    }

    fn plausible(&mut self, call: Ocall, args: [u64; 6], buffer: Outside) -> u64 {
        match call {
            Ocall::Socket | Ocall::Accept | Ocall::ConnectAt | Ocall::Open | Ocall::OpenAt => {
                if call == Ocall::Accept {
                    self.name(buffer, 0);
                }
                self.next_fd += 1;
                self.next_fd
            }
            Ocall::SocketName => {
                self.name(buffer, 0);
                0
            }
            Ocall::Send | Ocall::SendMessage | Ocall::Write | Ocall::Pwrite => self.length(args[1]),
            Ocall::SendFile => self.length(args[3]),
            Ocall::Receive | Ocall::Read | Ocall::Pread | Ocall::ReadLinkAt => {
                self.scribble(buffer, 0);
                self.length(if call == Ocall::ReadLinkAt { args[2] } else { args[1] })
            }
            Ocall::ReadDirectory => {
                // inode, next, length of the record, type, name
                let mut record = [0; 32];
                record[0] = 1;
                record[8] = self.input.back();
                record[16] = if self.byte() < 200 { 32 } else { self.input.back() };
                record[18] = 8;
                record[19..22].fill_with(|| self.input.back());
                assert!(buffer.store(0, &record));
                self.length(args[1].min(64))
            }
            Ocall::ReceiveMessage => {
                let control = self.length(args[2].min(80));
                let mut head = [0; 8];
                head[..4].copy_from_slice(&(self.byte() as u32 & 0x2028).to_le_bytes());
                head[4..].copy_from_slice(&(control as u32).to_le_bytes());
                assert!(buffer.store(0, &head));
                self.name(buffer, 8);
                if control >= 16 {
                    let mut header = [0; 16];
                    header[0] = if self.byte() < 200 { control as u8 } else { self.input.back() };
                    header[8] = self.input.back() % 64;
                    header[12] = self.input.back() % 80;
                    assert!(buffer.store(CONTROL_AT as u64, &header));
                }
                self.scribble(buffer, DATA_AT);
                self.length(args[1])
            }
            Ocall::SendMessages => {
                let sent = self.length(args[1]);
                let at = sent * size_of::<WireRow>() as u64 + offset_of!(WireRow, error) as u64;
                let _ = buffer.store(at, &[self.input.back()]);
                sent
            }
            Ocall::ReceiveMessages => {
                for row in 0..args[1].min(4) {
                    let at = row * size_of::<WireRow>() as u64;
                    self.name(buffer, at + offset_of!(WireMessage, name) as u64);
                    // Lengths of control messages and of data.
                    assert!(buffer.store(at + 4, &[self.input.back() % 80]));
                    assert!(buffer.store(at + offset_of!(WireRow, data_len) as u64, &[self.input.back()]));
                }
                self.length(args[1])
            }
            Ocall::GetOption | Ocall::Ioctl => {
                self.scribble(buffer, 0);
                if call == Ocall::Ioctl { 0 } else { self.length(args[3]) }
            }
            Ocall::Interfaces => {
                let count = self.byte() % 4;
                for row in 0..count {
                    let mut wire = [0u8; 72];
                    wire[..4].copy_from_slice(b"eth0");
                    wire[56] = [0, 2, 10, 3][self.byte() as usize % 4];
                    wire[60] = self.input.back();
                    assert!(buffer.store(row * 72, &wire));
                }
                count
            }
            Ocall::Watch => {
                self.tokens.push(args[1]);
                self.byte()
            }
            Ocall::ReadinessRing => RING.with(|ring| ring.as_ptr().expose_provenance() as u64),
            Ocall::ParkReady | Ocall::Park => {
                self.park(args[0]);
                0
            }
            Ocall::Poll => {
                let rows = args[0].min(16);
                for row in 0..rows {
                    assert!(buffer.store(row * 8 + 6, &[self.input.back(), self.input.back()]));
                }
                self.length(rows)
            }
            Ocall::Fstat | Ocall::LookUp => {
                let mut stat = [0; 88];
                stat[0] = 1;
                stat[8] = self.input.back() % 4;
                stat[16] = 1;
                stat[32..40].copy_from_slice(&self.length(1 << 20).to_le_bytes());
                let mode =
                    [0o100_755u32, 0o040_755, 0o120_777, 0o140_777, 0o020_666][self.byte() as usize % 5];
                stat[72..76].copy_from_slice(&mode.to_le_bytes());
                assert!(buffer.store(0, &stat));
                if call == Ocall::LookUp && self.byte() % 2 == 0 {
                    self.next_fd += 1;
                    self.next_fd + 1
                } else {
                    0
                }
            }
            Ocall::Statfs => {
                self.scribble(buffer, 0);
                0
            }
            Ocall::StatusFlags | Ocall::Seek => self.byte(),
            _ => 0,
        }
    }

    /// Time passes, and edges come.
    fn park(&self, deadline: u64) {
        let now = platform::Clocks::monotonic_ns(&*self.fake);
        self.fake.advance(deadline.saturating_sub(now).min(50_000_000));
        RING.with(|ring| {
            let word = |at: u64| &ring[at as usize / 8];
            for _ in 0..self.byte() % 4 {
                let head = word(HEAD_AT).load(Ordering::Relaxed);
                let token = match self.byte() {
                    byte @ 0..200 => self.tokens.get(byte as usize % 8).copied().unwrap_or(0),
                    _ => self.word(),
                };
                let events = self.byte() | (self.byte() << 8);
                let at = RECORDS_AT + head % RECORDS * 16;
                word(at).store(token, Ordering::Relaxed);
                word(at + 8).store(events, Ordering::Relaxed);
                word(HEAD_AT).store(head.wrapping_add(1), Ordering::Relaxed);
            }
            if self.byte() >= 250 {
                word(HEAD_AT).store(self.word(), Ordering::Relaxed);
            }
        });
    }

    /// A socket address.
    fn name(&self, buffer: Outside, at: u64) {
        let mut name = [0u8; 24];
        let (len, family) = match self.byte() {
            0..100 => (16, 2),
            100..180 => (28, 10),
            180..190 => (0, 0),
            190..200 => (16, 1),
            200..220 => (129, 2),
            _ => (self.input.back(), self.input.back()),
        };
        (name[0], name[8]) = (len, family);
        name[12..16].copy_from_slice(&[10, 0, 0, 1]);
        if self.byte() >= 250 {
            name[..8].copy_from_slice(&self.word().to_le_bytes());
        }
        assert!(buffer.store(at, &name));
    }
}

const _: () = assert!(Errno::EAGAIN.number() == 11);
