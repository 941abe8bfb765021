//! What rewriting makes of sites, and that it runs as the program was written.

use super::*;
use crate::testing::{World, elf, interpret};
use alloc::sync::Arc;
use fs_mem::MemFs;
use kbase::SliceSource;

const ENTRIES: Entries = Entries { syscall: 0xE_0000_1000, cpuid: 0xE_0000_2000 };

fn file(content: &[u8]) -> Arc<dyn Regular> {
    let file = MemFs::new(9, 1 << 20, 0o755, Arc::new(|| 0)).unnamed_file(0o755);
    file.write_at(0, &mut SliceSource::new(content)).unwrap();
    file
}

fn rewritten(sites: Vec<Site>, content: &[u8], address: u64, base: u64) -> Text {
    let range = 0..8192;
    let sites = Sites::new(SiteTable::new(sites), &*file(content), &range).unwrap();
    Text::new(&sites, range, address, base, ENTRIES)
}

fn syscall(offset: u64, tactic: Tactic) -> Site {
    Site { offset, kind: SiteKind::Syscall, tactic }
}

#[test]
fn a_scan_finds_numbers_before_calls_and_nothing_else() {
    let mut content = vec![0x90; 70_000];
    let mut put = |at: usize, bytes: &[u8]| content[at..at + bytes.len()].copy_from_slice(bytes);
    put(10, b"\xb8\x01\0\0\0\x0f\x05");
    put(30, b"\xb8\x0f\0\0\0\x0f\x05"); // rt_sigreturn
    put(50, b"\x41\xb8\x01\0\0\0\x0f\x05"); // mov r8d
    put(70, b"\xb8\0\x04\0\0\x0f\x05"); // no such number
    put(80, b"\x48\xb8\xb8\x27\0\0\0\x0f\x05\xc3"); // a program that makes code
    put(90, b"\x48\xc7\xc0\x27\0\0\0\x0f\x05");
    put(65_530, b"\xb8\x02\0\0\0\x0f\x05"); // across two reads
    put(69_993, b"\xb8\x03\0\0\0\x0f\x05"); // the last bytes
    let table = scan(&*file(&content), &(0..70_000)).unwrap();
    let found: Vec<(u64, Tactic)> = table.sites().iter().map(|site| (site.offset, site.tactic)).collect();
    assert_eq!(
        found,
        [
            (15, Tactic::MovImm32 { back: 5, imm: 1 }),
            (97, Tactic::MovImm32 { back: 7, imm: 0x27 }),
            (65_535, Tactic::MovImm32 { back: 5, imm: 2 }),
            (69_998, Tactic::MovImm32 { back: 5, imm: 3 }),
        ]
    );
}

#[test]
fn a_patch_across_two_pages_is_in_both() {
    let mut content = vec![0x90; 8192];
    content[4094..4101].copy_from_slice(b"\xb8\x27\0\0\0\x0f\x05");
    let text =
        rewritten(vec![syscall(4099, Tactic::MovImm32 { back: 5, imm: 39 })], &content, 0x40_0000, 0x30_0000);
    for page in [0, 4096] {
        assert!(text.touches(page));
        let part = &mut content[page as usize..page as usize + 4096];
        text.apply(page, part);
    }
    assert_eq!(content[4094], 0xe9);
    let distance = i32::from_le_bytes(content[4095..4099].try_into().unwrap());
    assert_eq!(0x40_0000 + 4099 + i64::from(distance), 0x30_0000 + 32);
    assert_eq!(&content[4099..4101], b"\x0f\x05");
}

#[test]
fn addresses_in_stubs_stand_for_addresses_in_the_program() {
    let text = rewritten(
        vec![
            syscall(0x105, Tactic::MovImm32 { back: 5, imm: 39 }),
            syscall(0x200, Tactic::Displace { before: 0, len: 8 }),
        ],
        &[0x90; 8192],
        0x40_0000,
        0x30_0000,
    );
    let first = 0x30_0000 + SLOTS;
    assert_eq!(text.original(first), Some(0x40_0100));
    assert_eq!(text.original(first + 5), Some(0x40_0105));
    assert_eq!(text.original(first + 12), Some(0x40_0105));
    let second = first + 32;
    assert_eq!(text.original(second), Some(0x40_0200));
    assert_eq!(text.original(second + 13), Some(0x40_0202));
    assert_eq!(text.relocated(0x40_0202), Some(second + 13));
    assert_eq!(text.relocated(0x40_0200), Some(second));
    assert_eq!(text.relocated(0x40_0105), None);
    assert_eq!(text.original(0x30_0000), None);
}

#[test]
fn a_rewriting_is_made_once_for_each_place_and_kept_while_it_is_used() {
    let site = syscall(0x105, Tactic::MovImm32 { back: 5, imm: 39 });
    let sites = Sites::new(SiteTable::new(vec![site]), &*file(&[0x90; 8192]), &(0..8192)).unwrap();
    let text = |address, base| sites.text(0..8192, address, base, ENTRIES);
    let first = text(0x40_0000, 0x30_0000);
    assert!(Arc::ptr_eq(&first, &text(0x40_0000, 0x30_0000)));
    for (address, base) in [(0x50_0000, 0x30_0000), (0x40_0000, 0x20_0000)] {
        let other = text(address, base);
        assert!(!Arc::ptr_eq(&first, &other) && !first.is_same(&other));
    }
    drop(first);
    let many: Vec<_> = (0..20).map(|index| text(0x40_0000, 0x1000 * index)).collect();
    assert!(Arc::ptr_eq(&many[19], &text(0x40_0000, 0x1000 * 19)));
    assert_eq!(sites.texts.lock().len(), KNOWN_TEXTS);
}

#[test]
fn sites_out_of_reach_or_range_stay() {
    let site = syscall(0x105, Tactic::MovImm32 { back: 5, imm: 39 });
    assert_eq!(rewritten(vec![site], &[0x90; 8192], 0x40_0000, 0x1_4000_0000).rewritten, 0);
    let site = syscall(2, Tactic::Displace { before: 0, len: 8 });
    let sites = Sites::new(SiteTable::new(vec![site]), &*file(&[0x90; 64]), &(0..4096)).unwrap();
    assert_eq!(Text::new(&sites, 4..4096, 0x40_0000, 0x30_0000, ENTRIES).rewritten, 0);
}

/// Sites as if the image had a table, by a file that says so.
struct WithTable {
    file: Arc<dyn Regular>,
    table: Vec<u8>,
}

impl vfs::Inode for WithTable {
    fn metadata(&self) -> Result<vfs::Metadata> {
        self.file.metadata()
    }
    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}

impl Regular for WithTable {
    fn read_at(&self, offset: u64, into: &mut dyn kbase::ByteSink) -> Result<usize> {
        self.file.read_at(offset, into)
    }
    fn mapped_pages(&self) -> Option<&dyn vfs::MappedPages> {
        Some(self)
    }
}

impl vfs::MappedPages for WithTable {
    fn rewrite_sites(&self) -> Result<Option<Arc<[u8]>>> {
        Ok(Some(Arc::from(self.table.clone())))
    }
}

#[test]
fn caves_and_displaced_windows_run_as_the_program_was_written() {
    // 0: mov eax, 39; nop; syscall; jmp +5; five bytes of padding
    // 15: mov edi, eax; nop; mov eax, 231; syscall (displaced with the mov before it)
    let code = b"\xb8\x27\0\0\0\x90\x0f\x05\xeb\x05\xcc\xcc\xcc\xcc\xcc\x89\xc7\x90\xb8\xe7\0\0\0\x0f\x05";
    let start = 120;
    let sites = vec![
        syscall(start + 6, Tactic::Cave { hole: 4 }),
        syscall(start + 23, Tactic::Displace { before: 5, len: 7 }),
    ];
    let world = World::new();
    let program = WithTable { file: file(&elf(0, code, true)), table: SiteTable::new(sites).to_bytes() };
    let namespace = world.kernel.mounts.namespace();
    namespace.attach(b"/prog", vfs::Node::Regular(Arc::new(program))).unwrap();
    let pid = world.start("/prog", &["prog"]).unwrap();
    world.platform.run(interpret);
    assert_eq!(world.kernel.run_thread(pid).unwrap(), i32::try_from(pid).unwrap() << 8);
    let statistics = world.kernel.statistics();
    assert!(statistics.contains("rewritten_sites 2\n"), "{statistics}");
    assert!(!statistics.contains("trapped_syscalls"), "{statistics}");
}
