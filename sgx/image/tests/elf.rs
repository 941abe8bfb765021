//! Loading and relocating the LibOS.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Elf, PT_DYNAMIC, PT_NOTE, R, RELATIVE, RW, RX};
use edge_abi::layout::IMAGE_BASE;
use sgx_arch::SecinfoFlags;
use sgx_image::{Error, Image};

/// What is done to the sample, and a word of the answer.
type Damage = (fn(&mut Elf), &'static str);

fn refusal(elf: &Elf) -> String {
    Image::parse(&elf.bytes()).unwrap_err().to_string()
}

#[test]
fn segments_become_runs_of_pages_with_their_permissions() {
    let image = Image::parse(&Elf::sample().bytes()).unwrap();
    let runs: Vec<_> = image.runs().map(|run| (run.offset, run.permissions, run.bytes.len())).collect();
    assert_eq!(
        runs,
        [
            (0, SecinfoFlags::R, 0x1000),
            (0x1000, SecinfoFlags::RX, 0x2000),
            (0x3000, SecinfoFlags::R, 0x1000), // RELRO
            (0x4000, SecinfoFlags::RW, 0x4000),
        ]
    );
    assert_eq!(image.entry(), 0x1010);
    assert_eq!(image.span(), 0x8000);
}

#[test]
fn relative_relocations_get_the_image_base() {
    let image = Image::parse(&Elf::sample().bytes()).unwrap();
    let runs: Vec<_> = image.runs().collect();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(runs[3].bytes, 0x10), IMAGE_BASE + 0x1000);
    assert_eq!(word(runs[2].bytes, 0x400), IMAGE_BASE + 0x4800);
    assert_eq!(runs[3].bytes[0x18..0x40], [0xaa; 0x28]);
    assert!(runs[3].bytes[0x800..].iter().all(|&byte| byte == 0), ".bss is zero");
}

#[test]
fn gaps_between_segments_are_not_pages() {
    let mut elf = Elf::sample();
    elf.loads.push((R, 0xa000, vec![1], 1));
    let image = Image::parse(&elf.bytes()).unwrap();
    assert_eq!(image.runs().map(|run| run.offset).collect::<Vec<_>>(), [0, 0x1000, 0x3000, 0x4000, 0xa000]);
}

#[test]
fn sections_and_notes_do_not_count() {
    let mut elf = Elf::sample();
    elf.loads[0].2.clear();
    // The first segment maps the ELF header itself.
    let mut file = elf.bytes();
    let len = 64 + 56 * 5u64;
    file[64 + 32..64 + 48].copy_from_slice(&[len.to_le_bytes(), len.to_le_bytes()].concat());
    file[64 + 8..64 + 16].fill(0);
    let image = Image::parse(&file).unwrap();
    let first = image.runs().next().unwrap().bytes.to_vec();
    assert_eq!(first[..4], *b"\x7fELF");
    file[0x28] = 99;
    file[0x3c] = 98;
    assert_eq!(Image::parse(&file).unwrap().runs().next().unwrap().bytes, first);

    let mut noted = Elf::sample();
    noted.others.push((PT_NOTE, 0x20, 0x30));
    let image = Image::parse(&noted.bytes()).unwrap();
    let first = image.runs().next().unwrap().bytes;
    assert!(first[0x20..0x50].iter().all(|&byte| byte == 0) && first[0x50] == 0x11);
}

#[test]
fn what_needs_a_dynamic_linker_is_refused_by_name() {
    for (kind, name) in
        [(6, "GLOB_DAT"), (7, "JUMP_SLOT"), (1, "R_X86_64_64"), (37, "IRELATIVE"), (99, "type 99")]
    {
        let mut elf = Elf::sample();
        let info = 0x200 + 8;
        elf.loads[2].2[info..info + 8].copy_from_slice(&u64::to_le_bytes(5 << 32 | kind));
        assert!(refusal(&elf).contains(name));
        assert!(matches!(
            Image::parse(&elf.bytes()),
            Err(Error::Relocation { address: 0x4010, kind: found }) if u64::from(found) == kind
        ));
    }
    let tags = [
        (1, "DT_NEEDED"),
        (2, "DT_JMPREL"),
        (12, "DT_INIT"),
        (18, "DT_RELA"),
        (22, "DT_TEXTREL"),
        (27, "DT_INIT_ARRAY"),
        (35, "DT_RELA"),
    ];
    for (tag, name) in tags {
        assert!(refusal(&Elf::with_dynamic(&[(tag, 8), (0, 0)])).contains(name), "{name}");
    }
    for (kind, name) in [(3, "PT_INTERP"), (7, "PT_TLS")] {
        let mut elf = Elf::sample();
        elf.others.push((kind, 0, 8));
        assert!(refusal(&elf).contains(name));
    }
}

#[test]
fn damaged_files_are_refused() {
    let damage: [Damage; 15] = [
        (|elf| elf.kind = 2, "ET_DYN"),
        (|elf| elf.machine = 183, "x86-64"),
        (|elf| elf.entry = 0x3000, "entry point"),
        (|elf| elf.entry = u64::MAX, "entry point"),
        (|elf| elf.loads[1].0 = 7, "writable and executable"),
        (|elf| elf.loads[1].1 = 0x2000, "share a page"),
        (|elf| elf.loads[1].3 = 0x1000, "larger in the file"),
        (|elf| elf.loads[2].3 = u64::MAX, "too large"),
        (|elf| elf.loads[2].3 = 1 << 40, "too large"),
        (|elf| elf.loads[2].1 = 1 << 40, "too large"),
        (|elf| elf.others[0].1 = 0x7ff8, "dynamic section"),
        (|elf| elf.others[0].2 = u64::MAX, "dynamic section"),
        (|elf| elf.loads[2].2[0x200..0x208].fill(0xff), "writable"),
        (|elf| elf.loads[2].2[0x200..0x208].copy_from_slice(&0x1000u64.to_le_bytes()), "writable"),
        (|elf| elf.loads[2].2[0x210..0x218].copy_from_slice(&0x9000u64.to_le_bytes()), "out of the image"),
    ];
    for (index, (damage, message)) in damage.into_iter().enumerate() {
        let mut elf = Elf::sample();
        damage(&mut elf);
        let found = refusal(&elf);
        assert!(found.contains(message), "{index}: {found}");
    }
    for table in [[(7, 0x3200), (8, u64::MAX)], [(7, u64::MAX), (8, 24)]] {
        assert!(refusal(&Elf::with_dynamic(&table)).contains("dynamic section"));
    }
    assert!(refusal(&Elf::with_dynamic(&[(9, 16), (0, 0)])).contains("dynamic section"));
    assert!(Image::parse(b"#!/bin/sh").is_err());
}

#[test]
fn the_parser_survives_any_single_byte() {
    let file = Elf::sample().bytes();
    let dynamic = file.len() - 0x1800;
    let interesting = (0..64 + 56 * 5).chain(dynamic..dynamic + 0x40).chain(dynamic + 0x200..dynamic + 0x230);
    for at in interesting {
        for value in [0, 1, 0x7f, 0x80, 0xff, file[at].wrapping_add(1), file[at] ^ 0x10] {
            let mut bad = file.clone();
            bad[at] = value;
            if let Ok(image) = Image::parse(&bad) {
                assert!(image.runs().all(|run| run.bytes.len().is_multiple_of(4096)));
            }
        }
    }
    for len in 0..0x400 {
        assert!(Image::parse(&file[..len]).is_err());
    }
}

#[test]
fn relocations_to_rx_segments_do_not_pass_as_data() {
    let elf = Elf {
        loads: vec![(RX, 0, vec![0; 0x200], 0x1000), (RW, 0x1000, vec![0; 0x100], 0x100)],
        others: vec![(PT_DYNAMIC, 0x1000, 0x40)],
        entry: 0,
        ..Elf::sample()
    };
    assert!(Image::parse(&elf.bytes()).is_ok());
    let mut bad = elf;
    let table = [7u64, 0x1040, 8, 24, 0, 0].iter().flat_map(|word| word.to_le_bytes());
    for (target, byte) in bad.loads[1].2.iter_mut().zip(table) {
        *target = byte;
    }
    bad.loads[1].2[0x48..0x50].copy_from_slice(&RELATIVE.to_le_bytes());
    assert!(refusal(&bad).contains("outside the writable segments"));
}
