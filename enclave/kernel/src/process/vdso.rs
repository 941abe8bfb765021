//! The vDSO: a small shared object that the kernel puts into every program, so that asking for the time needs no system call
//! (`vdso(7)`).
//!
//! It is made here, byte by byte: an ELF header, one segment, a dynamic section with the symbols of version `LINUX_2.6`, and
//! code that calls the functions of [`platform::VdsoFunctions`] and makes the system call when they cannot tell.

use crate::fs::anonymous_metadata;
use crate::vm::{AddressSpace, MapRequest, MappedFile, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::{ByteSink, Result};
use linux_abi::mm::PAGE_SIZE;
use platform::{Protection, UserCpu, VdsoFunctions};
use vfs::{FileType, Inode, MappedPages, Metadata, Regular};

/// Name of the object.
const SONAME: &str = "linux-vdso.so.1";
/// Version of its symbols.
const VERSION: &str = "LINUX_2.6";
/// Number of `clock_gettime(2)`.
const CLOCK_GETTIME: u32 = 228;
/// Number of `gettimeofday(2)`.
const GETTIMEOFDAY: u32 = 96;

/// Offsets of the parts in the page.
mod at {
    pub(super) const HEADERS: usize = 64;
    pub(super) const SYMBOLS: usize = 0xc0;
    pub(super) const STRINGS: usize = 0x140;
    pub(super) const HASH: usize = 0x1c0;
    pub(super) const VERSYM: usize = 0x1e0;
    pub(super) const VERDEF: usize = 0x200;
    pub(super) const DYNAMIC: usize = 0x280;
    pub(super) const CODE: usize = 0x380;
}

/// The one vDSO, which all programs map as they map a file of the image: so the page stays for the next program.
struct Vdso(Vec<u8>);

impl Inode for Vdso {
    fn metadata(&self) -> Result<Metadata> {
        // As `/proc/PID/maps` shows it: no device, no inode.
        Ok(Metadata { dev: 0, size: PAGE_SIZE, ..anonymous_metadata(0, FileType::Regular, 0) })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for Vdso {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        into.put(self.0.get(start..).unwrap_or_default())
    }

    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        Some(self)
    }
}

impl MappedPages for Vdso {
    fn rewrite_sites(&self) -> Result<Option<Arc<[u8]>>> {
        Ok(None)
    }
}

/// The vDSO, if the platform can tell the time without the kernel.
pub(crate) fn file(cpu: &dyn UserCpu) -> Option<Arc<MappedFile>> {
    let functions = cpu.vdso()?;
    let file = Arc::new(Vdso(image(&functions, cpu.syscall_entry())));
    Some(Arc::new(MappedFile { file, path: b"[vdso]".to_vec() }))
}

/// Maps the vDSO and returns its address.
///
/// # Errors
/// ENOMEM.
pub(super) fn map(space: &AddressSpace, vdso: Arc<MappedFile>) -> Result<u64> {
    space.map(MapRequest {
        protection: Protection::READ | Protection::EXEC,
        file: Some((vdso, 0)),
        ..MapRequest::reservation(Place::Any, PAGE_SIZE)
    })
}

/// The hash of the System V ABI.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let next = (hash << 4).wrapping_add(byte.into());
        (next ^ (next & 0xf000_0000) >> 24) & !0xf000_0000
    })
}

/// A page under construction.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        let end = at + bytes.len();
        if let Some(place) = self.0.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
        end
    }

    fn half(&mut self, at: usize, value: u16) -> usize {
        self.put(at, &value.to_le_bytes())
    }

    fn word(&mut self, at: usize, value: u32) -> usize {
        self.put(at, &value.to_le_bytes())
    }

    fn long(&mut self, at: usize, value: u64) -> usize {
        self.put(at, &value.to_le_bytes())
    }
}

/// Strings of the string table: where each begins.
struct Strings {
    end: usize,
}

impl Strings {
    fn add(&mut self, image: &mut Image, text: &str) -> u32 {
        let offset = self.end - at::STRINGS;
        self.end = image.put(self.end, text.as_bytes()) + 1;
        offset as u32
    }
}

fn image(functions: &VdsoFunctions, syscall_entry: u64) -> Vec<u8> {
    let mut image = Image(alloc::vec![0; PAGE_SIZE as usize]);
    let mut strings = Strings { end: at::STRINGS + 1 };
    let soname = strings.add(&mut image, SONAME);
    let version = strings.add(&mut image, VERSION);
    let symbols = [
        ("__vdso_clock_gettime", functions.clock_gettime, CLOCK_GETTIME),
        ("__vdso_gettimeofday", functions.gettimeofday, GETTIMEOFDAY),
    ];
    let count = symbols.len() + 1;
    let mut code = at::CODE;
    for (index, (name, function, number)) in (1..).zip(symbols) {
        let name = strings.add(&mut image, name);
        let start = code;
        code = emit(&mut image, start, function, number, syscall_entry).next_multiple_of(16);
        symbol(&mut image, index, name, start, code - start);
        image.half(at::VERSYM + 2 * index, 2);
    }
    // One bucket with all symbols: bucket count, chain count, bucket, chain.
    image.word(at::HASH, 1);
    image.word(at::HASH + 4, count as u32);
    image.word(at::HASH + 8, 1);
    for index in 1..count {
        let next = if index + 1 < count { index + 1 } else { 0 };
        image.word(at::HASH + 12 + 4 * index, next as u32);
    }
    version_definition(&mut image, at::VERDEF, 1, 1, hash(SONAME), soname, true);
    version_definition(&mut image, at::VERDEF + 28, 0, 2, hash(VERSION), version, false);
    dynamic(&mut image, soname, strings.end - at::STRINGS);
    headers(&mut image);
    image.0
}

/// Code of a function: calls the LibOS's, and falls back on the system call.
fn emit(image: &mut Image, start: usize, function: u64, number: u32, syscall_entry: u64) -> usize {
    // push rdi; push rsi; sub rsp, 8; movabs rax, function
    let mut at = image.put(start, &[0x57, 0x56, 0x48, 0x83, 0xec, 0x08, 0x48, 0xb8]);
    at = image.long(at, function);
    // call rax; add rsp, 8; pop rsi; pop rdi; test eax, eax; js +1; ret; mov eax, number
    at = image.put(at, &[0xff, 0xd0, 0x48, 0x83, 0xc4, 0x08, 0x5e, 0x5f, 0x85, 0xc0, 0x78, 0x01, 0xc3, 0xb8]);
    at = image.word(at, number);
    // lea rcx, [rip + 13]; movabs r11, syscall_entry; jmp r11; ret
    at = image.put(at, &[0x48, 0x8d, 0x0d, 13, 0, 0, 0, 0x49, 0xbb]);
    at = image.long(at, syscall_entry);
    image.put(at, &[0x41, 0xff, 0xe3, 0xc3])
}

fn symbol(image: &mut Image, index: usize, name: u32, value: usize, size: usize) {
    let at = at::SYMBOLS + 24 * index;
    let at = image.word(at, name);
    // STB_GLOBAL, STT_FUNC; any section that is not SHN_UNDEF.
    let at = image.put(at, &[0x12, 0]);
    let at = image.half(at, 1);
    let at = image.long(at, value as u64);
    image.long(at, size as u64);
}

/// Elf64_Verdef and its one Elf64_Verdaux.
fn version_definition(
    image: &mut Image,
    at: usize,
    flags: u16,
    index: u16,
    hash: u32,
    name: u32,
    has_next: bool,
) {
    let at = image.half(at, 1);
    let at = image.half(at, flags);
    let at = image.half(at, index);
    let at = image.half(at, 1);
    let at = image.word(at, hash);
    let at = image.word(at, 20);
    let at = image.word(at, if has_next { 28 } else { 0 });
    let at = image.word(at, name);
    image.word(at, 0);
}

fn dynamic(image: &mut Image, soname: u32, strings_len: usize) {
    let entries: [(u64, u64); 9] = [
        (4, at::HASH as u64),
        (5, at::STRINGS as u64),
        (6, at::SYMBOLS as u64),
        (10, strings_len as u64),
        (11, 24),
        (14, soname.into()),
        (0x6fff_fff0, at::VERSYM as u64),
        (0x6fff_fffc, at::VERDEF as u64),
        (0x6fff_fffd, 2),
    ];
    let mut at = at::DYNAMIC;
    for (tag, value) in entries {
        at = image.long(at, tag);
        at = image.long(at, value);
    }
}

/// ELF header, PT_LOAD of the whole page, PT_DYNAMIC.
fn headers(image: &mut Image) {
    let at = image.put(0, b"\x7fELF\x02\x01\x01");
    debug_assert!(at == 7);
    image.half(16, 3);
    image.half(18, 62);
    image.word(20, 1);
    image.long(32, at::HEADERS as u64);
    image.half(52, 64);
    image.half(54, 56);
    image.half(56, 2);
    image.half(58, 64);
    let mut program_header = |index: usize, kind: u32, flags: u32, offset: usize, len: usize| {
        let at = at::HEADERS + 56 * index;
        let at = image.word(at, kind);
        let at = image.word(at, flags);
        let at = image.long(at, offset as u64);
        let at = image.long(at, offset as u64);
        let at = image.long(at, offset as u64);
        let at = image.long(at, len as u64);
        let at = image.long(at, len as u64);
        image.long(at, if kind == 1 { PAGE_SIZE } else { 8 });
    };
    program_header(0, 1, 5, 0, PAGE_SIZE as usize);
    program_header(1, 2, 4, at::DYNAMIC, 16 * 10);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_abi() {
        assert_eq!(hash("LINUX_2.6"), 61_765_110);
    }

    #[test]
    fn the_parts_do_not_overlap() {
        let functions = VdsoFunctions { clock_gettime: 0x1122_3344_5566_7788, gettimeofday: 1 };
        let page = image(&functions, 2);
        assert_eq!(page.len(), PAGE_SIZE as usize);
        // The string table ends before the hash table begins, and the code holds the function.
        assert_eq!(page[at::HASH - 1], 0);
        assert_eq!(&page[at::CODE + 8..at::CODE + 16], 0x1122_3344_5566_7788u64.to_le_bytes());
        assert_eq!(page[at::DYNAMIC - 1], 0);
        assert_eq!(page[at::CODE - 1], 0);
    }
}
