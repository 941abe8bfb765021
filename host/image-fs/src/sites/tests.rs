//! The analysis on made-up functions, where the right answer is known, and on the libraries of this machine,
//! where every answer is checked against the bytes.

use std::collections::BTreeMap;
use std::time::Instant;

use erofs_format::{Site, SiteKind, Tactic};

use super::*;

const BASE: u64 = 0x1000;
const TEXT_OFFSET: usize = 0x200;

/// An ELF library with these bytes as its text, and the rest of the file behind them.
fn library(text: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0u8; TEXT_OFFSET];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &3u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(24, &BASE.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &0x80u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(58, &64u16.to_le_bytes());
    put(60, &2u16.to_le_bytes());
    // One segment for all, readable and executable.
    let size = (text.len() + data.len()) as u64;
    put(64, &1u32.to_le_bytes());
    put(68, &5u32.to_le_bytes());
    for (at, value) in [(72, TEXT_OFFSET as u64), (80, BASE), (96, size), (104, size)] {
        put(at, &value.to_le_bytes());
    }
    // The section of text; section 0 is empty.
    let section = 0x80 + 64;
    put(section + 4, &1u32.to_le_bytes());
    for (at, value) in [(8, 6), (16, BASE), (24, TEXT_OFFSET as u64), (32, text.len() as u64)] {
        put(section + at, &value.to_le_bytes());
    }
    file.extend_from_slice(text);
    file.extend_from_slice(data);
    file
}

/// The tactic of the only site, and its offset in the text.
fn only(text: &[u8], data: &[u8]) -> (u64, Tactic) {
    let table = analyse(&library(text, data));
    assert_eq!(table.sites().len(), 1, "{:?}", table.sites());
    let site = table.sites()[0];
    (site.offset - TEXT_OFFSET as u64, site.tactic)
}

/// `ud2` around a body, so that nothing falls in or out.
const UD2: [u8; 2] = [0x0f, 0x0b];

#[test]
fn a_number_loaded_just_before_is_the_first_choice() {
    assert_eq!(only(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3], &[]), (5, Tactic::MovImm32 { back: 5, imm: 39 }));
    assert_eq!(
        only(&[0x48, 0xc7, 0xc0, 60, 0, 0, 0, 0x0f, 0x05, 0xc3], &[]),
        (7, Tactic::MovImm32 { back: 7, imm: 60 })
    );
    assert_eq!(only(&[0xb8, 7, 0, 0, 0, 0x0f, 0xa2, 0xc3], &[]), (5, Tactic::MovImm32 { back: 5, imm: 7 }));
}

#[test]
fn a_restorer_stays_as_it_is() {
    for padding in [&[][..], &[0x90; 16]] {
        let short = [&[0xb8, 15, 0, 0, 0, 0x0f, 0x05, 0xc3], padding].concat();
        assert_eq!(only(&short, &[]), (5, Tactic::Trap));
        let long = [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05, 0xc3], padding].concat();
        assert_eq!(only(&long, &[]), (7, Tactic::Trap));
    }
}

#[test]
fn padding_in_reach_is_used_once() {
    // Two syscalls with their numbers in other registers, and seven bytes of padding: room for one jump.
    let text = [&[0x89, 0xf8, 0x0f, 0x05, 0xc3][..], &[0x90; 7], &[0x89, 0xf8, 0x0f, 0x05, 0xc3]].concat();
    let table = analyse(&library(&text, &[]));
    let tactics: Vec<Tactic> = table.sites().iter().map(|site| site.tactic).collect();
    assert_eq!(tactics, [Tactic::Cave { hole: 3 }, Tactic::Trap]);
}

#[test]
fn padding_that_is_executed_is_not_used() {
    // After a call, which may return.
    let call = [&[0x0f, 0x05, 0xe8, 0, 0, 0, 0][..], &[0x90; 8], &UD2].concat();
    assert_ne!(only(&call, &[]).1, Tactic::Cave { hole: 7 });
    // After a jump, but something jumps to its second byte.
    let jumped = [&[0x0f, 0x05, 0x74, 0x02, 0xc3][..], &[0x90; 7], &[0xc3]].concat();
    assert_eq!(only(&jumped, &[]).1, Tactic::Trap);
    // The same without that jump.
    let dead = [&[0x0f, 0x05, 0x74, 0x00, 0xc3][..], &[0x90; 7], &[0xc3]].concat();
    assert_eq!(only(&dead, &[]).1, Tactic::Cave { hole: 5 });
}

#[test]
fn padding_out_of_reach_is_not_used() {
    for (filler, reached) in [(124, true), (125, false)] {
        let mut text = vec![0x0f, 0x05, 0x74, 0x00];
        text.extend(std::iter::repeat_n(0xf8, filler));
        text.push(0xc3);
        text.extend([0xcc; 8]);
        let is_cave = matches!(only(&text, &[]).1, Tactic::Cave { .. });
        assert_eq!(is_cave, reached, "{filler}");
    }
}

/// mov r8,rdx; cpuid; mov [rdi],eax; ret
const NEIGHBOURS: [u8; 8] = [0x49, 0x89, 0xd0, 0x0f, 0xa2, 0x89, 0x07, 0xc3];

#[test]
fn neighbours_are_moved_when_nothing_jumps_between_them() {
    assert_eq!(only(&NEIGHBOURS, &[]), (3, Tactic::Displace { before: 3, len: 5 }));
}

#[test]
fn a_jump_between_the_neighbours_forbids_to_move_them() {
    // `je` to the cpuid: then what is in front of it has to stay, and behind it there are only two bytes.
    let text = [&[0x74, 0x03][..], &NEIGHBOURS].concat();
    assert_eq!(only(&text, &[]), (5, Tactic::Trap));
    // The same address as a word of data: a pointer, perhaps.
    let pointer = (BASE + 3).to_le_bytes();
    assert_eq!(only(&NEIGHBOURS, &pointer), (3, Tactic::Trap));
    let harmless = (BASE + 100).to_le_bytes();
    assert!(matches!(only(&NEIGHBOURS, &harmless).1, Tactic::Displace { .. }));
}

#[test]
fn a_jump_table_that_code_refers_to_forbids_to_move_its_targets() {
    // lea rax,[rip+1] (the data, behind seven bytes of lea, one of nop and the neighbours); nop; ...
    let text = [&[0x48, 0x8d, 0x05, 9, 0, 0, 0, 0x90][..], &NEIGHBOURS].concat();
    let table_at = BASE + text.len() as u64;
    let entry =
        |target: u64| i32::try_from(target.cast_signed() - table_at.cast_signed()).unwrap().to_le_bytes();
    let inside = entry(BASE + 11);
    assert_eq!(only(&text, &inside), (11, Tactic::Trap));
    let outside = entry(BASE + 8);
    assert!(matches!(only(&text, &outside).1, Tactic::Displace { .. }));
}

#[test]
fn what_depends_on_its_place_is_not_moved() {
    // mov eax,[rip+0]; cpuid; call: neither neighbour can go.
    let text = [&[0x8b, 0x05, 0, 0, 0, 0, 0x0f, 0xa2, 0xe8, 0, 0, 0, 0][..], &UD2].concat();
    assert_eq!(only(&text, &[]), (6, Tactic::Trap));
}

#[test]
fn windows_of_neighbouring_sites_do_not_overlap() {
    // cpuid; mov eax,ebx; nop; cpuid; ret: three bytes between, which only one of them can have.
    let table = analyse(&library(&[0x0f, 0xa2, 0x89, 0xd8, 0x90, 0x0f, 0xa2, 0xc3], &[]));
    let tactics: Vec<Tactic> = table.sites().iter().map(|site| site.tactic).collect();
    assert_eq!(tactics, [Tactic::Displace { before: 0, len: 5 }, Tactic::Trap]);
}

#[test]
fn where_decoding_loses_its_way_only_certain_patterns_are_used() {
    // 06 is no instruction in 64-bit code.
    let text = [&[0x06][..], &NEIGHBOURS, &[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3], &[0xcc; 8]].concat();
    let table = analyse(&library(&text, &[]));
    let tactics: Vec<Tactic> = table.sites().iter().map(|site| site.tactic).collect();
    assert_eq!(tactics, [Tactic::Trap, Tactic::MovImm32 { back: 5, imm: 1 }]);
}

#[test]
fn time_stamps_are_noted_and_patched_only_on_demand() {
    let text = [&[0x0f, 0x31, 0x0f, 0x01, 0xf9, 0x0f, 0xa2, 0xc3][..], &[0xcc; 16]].concat();
    let file = library(&text, &[]);
    let tactic = |options| -> BTreeMap<SiteKind, Tactic> {
        analyse_with(&file, options).sites().iter().map(|site| (site.kind, site.tactic)).collect()
    };
    let plain = tactic(AnalyseOptions::default());
    assert_eq!((plain[&SiteKind::Rdtsc], plain[&SiteKind::Rdtscp]), (Tactic::Trap, Tactic::Trap));
    assert_eq!(plain[&SiteKind::Cpuid], Tactic::Cave { hole: 3 });
    let patched = tactic(AnalyseOptions { patch_tsc: true });
    assert_eq!(patched[&SiteKind::Cpuid], Tactic::Cave { hole: 3 });
    assert_eq!(patched[&SiteKind::Rdtsc], Tactic::Cave { hole: 13 });
    assert_eq!(patched[&SiteKind::Rdtscp], Tactic::Cave { hole: 16 });
}

#[test]
fn bytes_of_a_syscall_inside_another_instruction_are_no_site() {
    // mov eax,0x050f0000
    assert!(analyse(&library(&[0xb8, 0, 0, 0x0f, 0x05, 0xc3], &[])).is_empty());
}

#[test]
fn text_that_is_spread_over_the_address_space_takes_no_memory() {
    let mut file = library(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3], &[]);
    file[60..62].copy_from_slice(&0u16.to_le_bytes());
    assert_eq!(analyse(&file).sites().len(), 1);
    // A second executable segment with the same content, exabytes away.
    file[56..58].copy_from_slice(&2u16.to_le_bytes());
    let mut second = file[64..120].to_vec();
    second[16..24].copy_from_slice(&(1u64 << 62).to_le_bytes());
    file[120..176].copy_from_slice(&second);
    assert!(analyse(&file).is_empty());
}

#[test]
fn what_is_no_program_has_no_sites() {
    assert!(analyse(b"").is_empty());
    assert!(analyse(b"#!/bin/sh\n\x0f\x05").is_empty());
    let good = library(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3], &[]);
    for len in 0..good.len() {
        check(&good[..len], analyse(&good[..len]).sites());
    }
}

#[test]
fn damaged_files_are_analysed_without_panic() {
    let files = [library(&NEIGHBOURS, &[0; 64]), std::fs::read("/bin/true").unwrap_or_default()];
    let mut state = 99u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    for file in files.iter().filter(|file| !file.is_empty()) {
        for _ in 0..300 {
            let mut bad = file.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % if random() % 2 == 0 { 0x200.min(bad.len()) } else { bad.len() };
                bad[at] = random().to_le_bytes()[0];
            }
            check(&bad, analyse(&bad).sites());
        }
    }
}

/// What must hold of every table, whatever the file.
fn check(file: &[u8], sites: &[Site]) {
    let bytes = |from: u64, len: u64| {
        let from = usize::try_from(from).unwrap();
        &file[from..from + usize::try_from(len).unwrap()]
    };
    for site in sites.iter().filter(|site| site.kind == SiteKind::Syscall && site.offset >= 7) {
        let restorer = [0x48, 0xc7, 0xc0, 15, 0, 0, 0];
        let is_restorer =
            bytes(site.offset - 7, 7) == restorer || bytes(site.offset - 5, 5) == [0xb8, 15, 0, 0, 0];
        assert!(!is_restorer || site.tactic == Tactic::Trap);
    }
    let mut used = Vec::new();
    for site in sites {
        assert_eq!(bytes(site.offset, site.kind.len().into()), site.kind.bytes());
        used.push(site.extent());
        match site.tactic {
            Tactic::MovImm32 { back: 5, imm } => {
                assert_eq!(bytes(site.offset - 5, 1), [0xb8]);
                assert_eq!(bytes(site.offset - 4, 4), imm.to_le_bytes());
            }
            Tactic::MovImm32 { imm, .. } => {
                assert_eq!(bytes(site.offset - 7, 3), [0x48, 0xc7, 0xc0]);
                assert_eq!(bytes(site.offset - 4, 4), imm.to_le_bytes());
            }
            Tactic::Cave { hole } => {
                assert!((-128..=127).contains(&(hole - 2)));
                used.push(site.hole().unwrap());
            }
            Tactic::Displace { before, len } => {
                assert!(len >= 5 && before + site.kind.len() <= len);
            }
            Tactic::Trap => {}
        }
    }
    used.sort_by_key(|range| range.start);
    assert!(used.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

fn name(tactic: Tactic) -> &'static str {
    match tactic {
        Tactic::MovImm32 { .. } => "mov",
        Tactic::Cave { .. } => "cave",
        Tactic::Displace { .. } => "displace",
        Tactic::Trap => "trap",
    }
}

#[test]
fn the_libraries_of_this_machine_are_covered() {
    let files = [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/bin/busybox",
        "/lib/ld-musl-x86_64.so.1",
        "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/usr/lib/x86_64-linux-gnu/libgomp.so.1",
        "/usr/bin/python3.11",
    ];
    for path in files {
        let Ok(file) = std::fs::read(path) else {
            eprintln!("{path}: not here");
            continue;
        };
        let start = Instant::now();
        let table = analyse(&file);
        let time = start.elapsed();
        check(&file, table.sites());
        let mut counts: BTreeMap<(SiteKind, &str), usize> = BTreeMap::new();
        for site in table.sites() {
            *counts.entry((site.kind, name(site.tactic))).or_default() += 1;
        }
        println!("{path}: {} KiB in {time:.1?}: {counts:?}", file.len() / 1024);
        let of = |tactic| counts.get(&(SiteKind::Syscall, tactic)).copied().unwrap_or(0);
        let all: usize = ["mov", "cave", "displace", "trap"].into_iter().map(of).sum();
        if path.ends_with("libc.so.6") {
            assert!(all > 300, "{all}");
            assert!(of("trap") >= 1, "__restore_rt stays");
            assert!(of("mov") * 100 >= all * 80);
        }
        if all > 10 {
            assert!(of("trap") * 100 <= all * 5, "{path}");
        }
    }
}

#[test]
fn unwind_tables_tell_functions_with_landing_pads() {
    // C++ has many, C hardly any; nearly all text is covered in both.
    for (path, landing_pads) in
        [("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 10..60), ("/usr/lib/x86_64-linux-gnu/libc.so.6", 0..10)]
    {
        let Ok(file) = std::fs::read(path) else {
            eprintln!("{path}: not here");
            continue;
        };
        let elf = Elf::parse(&file).unwrap();
        assert!(elf.is_unwindable(), "{path}");
        assert!(elf.functions.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        let with = elf.functions.iter().filter(|function| function.has_landing_pads).count();
        let percent = with * 100 / elf.functions.len();
        assert!(landing_pads.contains(&percent), "{path}: {with} of {}", elf.functions.len());
    }
}
