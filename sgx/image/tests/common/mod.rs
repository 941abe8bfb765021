//! Synthetic LibOS files and the test key.
#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use sgx_image::{BuildOptions, EnclaveImage, SigningKey, build};

pub(crate) const KEY_PEM: &str = include_str!("../data/test-key.pem");

pub(crate) const R: u32 = 4;
pub(crate) const RX: u32 = 5;
pub(crate) const RW: u32 = 6;
pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const PT_RELRO: u32 = 0x6474_e552;
pub(crate) const RELATIVE: u64 = 8;

/// An ELF file under construction. Segments get file space in order; other headers only point to memory.
#[derive(Clone)]
pub(crate) struct Elf {
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) entry: u64,
    /// (flags, vaddr, content, memsz)
    pub(crate) loads: Vec<(u32, u64, Vec<u8>, u64)>,
    /// (type, vaddr, size)
    pub(crate) others: Vec<(u32, u64, u64)>,
}

impl Elf {
    /// Code at 0x1000; data at 0x3000 with two relocations, RELRO on its first page, and a .bss up to 0x8000.
    pub(crate) fn sample() -> Self {
        let mut data = vec![0; 0x1800];
        put(&mut data, 0, &dynamic(&[(7, 0x3200), (8, 48), (9, 24), (0, 0)]));
        put(&mut data, 0x200, &words(&[0x4010, RELATIVE, 0x1000, 0x3400, RELATIVE, 0x4800]));
        put(&mut data, 0x1000, &[0xaa; 64]);
        Self {
            kind: 3,
            machine: 62,
            entry: 0x1010,
            loads: vec![
                (R, 0, vec![0x11; 0x123], 0x123),
                (RX, 0x1000, vec![0xc3; 0x1001], 0x1001),
                (RW, 0x3000, data, 0x5000),
            ],
            others: vec![(PT_DYNAMIC, 0x3000, 0x100), (PT_RELRO, 0x3000, 0x1000)],
        }
    }

    /// Replaces the dynamic section of the sample.
    pub(crate) fn with_dynamic(entries: &[(u64, u64)]) -> Self {
        let mut elf = Self::sample();
        put(&mut elf.loads[2].2, 0, &dynamic(entries));
        elf
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let count = self.loads.len() + self.others.len();
        let mut file = vec![0; 64 + 56 * count];
        put(&mut file, 0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        put(&mut file, 16, &self.kind.to_le_bytes());
        put(&mut file, 18, &self.machine.to_le_bytes());
        put(&mut file, 20, &1u32.to_le_bytes());
        put(&mut file, 24, &words(&[self.entry, 64, 0x1234]));
        for (at, value) in [(52, 64u16), (54, 56), (56, count as u16), (58, 64), (60, 7), (62, 6)] {
            put(&mut file, at, &value.to_le_bytes());
        }
        let mut header = 64;
        for (flags, vaddr, content, memsz) in &self.loads {
            let offset = file.len() as u64;
            put(&mut file, header, &(u64::from(*flags) << 32 | u64::from(PT_LOAD)).to_le_bytes());
            put(
                &mut file,
                header + 8,
                &words(&[offset, *vaddr, *vaddr, content.len() as u64, *memsz, 0x1000]),
            );
            file.extend_from_slice(content);
            header += 56;
        }
        for (kind, vaddr, size) in &self.others {
            put(&mut file, header, &u64::from(*kind).to_le_bytes());
            put(&mut file, header + 8, &words(&[0, *vaddr, *vaddr, 0, *size, 8]));
            header += 56;
        }
        file
    }
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    target[at..at + bytes.len()].copy_from_slice(bytes);
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn dynamic(entries: &[(u64, u64)]) -> Vec<u8> {
    entries.iter().flat_map(|&(tag, value)| words(&[tag, value])).collect()
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_pem(KEY_PEM).unwrap()
}

pub(crate) fn options(config: &[u8]) -> BuildOptions<'_> {
    BuildOptions { initial_threads: 2, ..BuildOptions::new(config, 0x2026_0131) }
}

pub(crate) fn enclave() -> EnclaveImage<'static> {
    build(&Elf::sample().bytes(), &options(b"configuration")).unwrap()
}
