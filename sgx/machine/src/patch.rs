//! Patching of `enclu` sites, after the enclave was measured.
//!
//! An `enclu` that traps costs microseconds. Where the code has room for it, the trap is replaced by a jump:
//!
//! * `mov eax, 4; enclu` (EEXIT) becomes `mov eax, 4; jmp rbx; nop`: RBX is what EENTER passed in RCX, which is
//!   the landing pad of the thread.
//! * `mov eax, LEAF; enclu` followed by eleven one-byte `nop`s: `enclu` and the padding become
//!   `jmp [rip]; .quad stub`. The stub is the site's own; it calls [`leaf::fast`] and returns behind the padding.
//!
//! A site is recognized by these bytes alone, so code that means to be fast keeps `mov eax` right before `enclu`.
//! What looks like a site but is data in a code page would be changed too; the enclave would read other bytes
//! than were measured there.

use crate::enclave::Core;
use crate::leaf;
use crate::memory::{self, Mapping, PAGE};
use core::arch::naked_asm;
use sgx_arch::Enclu;
use std::io;
use std::ptr;

const MOV_EAX: u8 = 0xb8;
const NOP: u8 = 0x90;
/// Bytes of `mov eax, imm32`.
const MOV: usize = 5;
/// Bytes of `mov eax, imm32; enclu`.
const SITE: usize = MOV + leaf::ENCLU.len();
/// `nop`s that must follow.
const PADDING: usize = 11;
const STUB: usize = 64;
/// Offset of the trap in a stub.
const TRAP: usize = 17;
/// Offsets of the words in a stub.
mod word {
    pub(super) const SELF: usize = 24;
    pub(super) const COMMON: usize = 32;
    pub(super) const NEXT: usize = 40;
    pub(super) const CORE: usize = 48;
    pub(super) const SITE: usize = 56;
}

/// A patched site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Where `enclu` was.
    pub(crate) enclu: u64,
    /// Where its code goes on.
    pub(crate) next: u64,
}

/// The stubs of an enclave.
pub(crate) struct Stubs {
    code: Mapping,
    sites: Vec<Site>,
}

impl Stubs {
    /// The site whose stub traps at `rip`.
    pub(crate) fn site_of_trap(&self, rip: u64) -> Option<Site> {
        let offset = usize::try_from(rip).ok()?.checked_sub(self.code.address())?;
        if offset % STUB == TRAP { self.sites.get(offset / STUB).copied() } else { None }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Exit,
    Leaf,
}

/// Finds the sites in `code`: the offset of each `mov eax`.
fn find(code: &[u8]) -> Vec<(usize, Kind)> {
    const BLOCK: usize = 64;
    let mut found = Vec::new();
    // The last byte of `enclu` is rare: look at whole blocks first.
    for (number, block) in code.chunks(BLOCK).enumerate() {
        if !block.iter().fold(false, |any, byte| any | (*byte == 0xd7)) {
            continue;
        }
        for (within, byte) in block.iter().enumerate() {
            let end = number * BLOCK + within + 1;
            let Some(start) = end.checked_sub(SITE) else { continue };
            let Some([MOV_EAX, number, 0, 0, 0, enclu @ ..]) = code.get(start..end) else { continue };
            if *byte != 0xd7 || enclu != leaf::ENCLU {
                continue;
            }
            let kind = match Enclu::from_number(u32::from(*number)) {
                Some(Enclu::Eexit) => Kind::Exit,
                Some(_) => Kind::Leaf,
                None => continue,
            };
            let padded = code.get(end..end + PADDING).is_some_and(|after| after == [NOP; PADDING]);
            if kind == Kind::Exit || padded {
                found.push((start, kind));
            }
        }
    }
    found
}

/// Patches every site in the executable pages of an enclave.
///
/// # Errors
/// ENOMEM.
pub(crate) fn patch(core: &Core) -> io::Result<Option<Stubs>> {
    let mut stubs = StubsUnderWay::default();
    for run in core.pages().executable_runs() {
        let base = core.pages().address(run.start);
        let len = run.len() * PAGE;
        core.pages().with_access(run, |start| {
            // SAFETY: `with_access` made the run readable and writable, no thread has entered the enclave yet, and
            // the host holds no reference to its memory.
            let code = unsafe { std::slice::from_raw_parts_mut(start, len) };
            for (offset, kind) in find(code) {
                let at = offset + MOV;
                match kind {
                    Kind::Exit => replace(code, at, &EXIT),
                    Kind::Leaf => replace(code, at, &stubs.jump_for(base + at)?),
                }
            }
            Ok::<(), io::Error>(())
        })??;
    }
    stubs.finish(core)
}

/// `jmp rbx; nop`.
const EXIT: [u8; 3] = [0xff, 0xe3, NOP];

fn replace(code: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = code.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Most sites that get a stub; what is beyond traps.
const MOST_STUBS: usize = 4096;

/// Stubs whose addresses are known before their code is written.
#[derive(Default)]
struct StubsUnderWay {
    code: Option<Mapping>,
    sites: Vec<Site>,
}

impl StubsUnderWay {
    /// The code that replaces `enclu` at an address and its padding: `jmp [rip]; .quad stub`.
    fn jump_for(&mut self, enclu: usize) -> io::Result<Vec<u8>> {
        let code = match &self.code {
            Some(code) => code,
            None => self.code.insert(Mapping::new(MOST_STUBS * STUB, libc::PROT_READ | libc::PROT_WRITE)?),
        };
        if self.sites.len() == MOST_STUBS {
            return Ok(leaf::ENCLU.to_vec());
        }
        let stub = code.address() + self.sites.len() * STUB;
        let next = enclu + leaf::ENCLU.len() + PADDING;
        self.sites.push(Site { enclu: enclu as u64, next: next as u64 });
        let mut jump = vec![0xff, 0x25, 0, 0, 0, 0];
        jump.extend_from_slice(&stub.to_le_bytes());
        Ok(jump)
    }

    fn finish(self, core: &Core) -> io::Result<Option<Stubs>> {
        let Some(code) = self.code else { return Ok(None) };
        for (number, site) in self.sites.iter().enumerate() {
            let text = stub_text((code.address() + number * STUB) as u64, site, core);
            let place = code.start().wrapping_add(number * STUB);
            // SAFETY: stub `number` is below MOST_STUBS, so it lies in the mapping, which is writable and which
            // nobody else has yet.
            unsafe { ptr::copy_nonoverlapping(text.as_ptr(), place, STUB) };
        }
        memory::protect(code.address(), code.len(), libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(Some(Stubs { code, sites: self.sites }))
    }
}

fn stub_text(stub: u64, site: &Site, core: &Core) -> [u8; STUB] {
    // Displacements are from the end of each instruction to a word of the stub.
    const TEXT: [u8; TRAP + 3] = [
        // lea rsp, [rsp - 128]: the red zone.
        0x48, 0x8d, 0x64, 0x24, 0x80, //
        // push qword [rip + SELF]
        0xff, 0x35, 13, 0, 0, 0, //
        // jmp [rip + COMMON]
        0xff, 0x25, 15, 0, 0, 0, //
        // The trap.
        0x0f, 0x01, 0xd7,
    ];
    const _: () = assert!(11 + 13 == word::SELF && 17 + 15 == word::COMMON);
    let mut text = [0xcc; STUB];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = text.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &TEXT);
    put(word::SELF, &stub.to_le_bytes());
    put(word::COMMON, &(stub_common as *const () as usize).to_le_bytes());
    put(word::NEXT, &site.next.to_le_bytes());
    put(word::CORE, &ptr::from_ref(core).expose_provenance().to_le_bytes());
    put(word::SITE, &site.enclu.to_le_bytes());
    text
}

/// Common part of all stubs: `[rsp]` is the stub, and the red zone lies above it. Preserves every register but RAX
/// and the flags (and the vector registers that the ABI does not preserve).
#[unsafe(naked)]
unsafe extern "C" fn stub_common() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbp",
        "mov rbp, rsp",
        "and rsp, -16",
        "mov rdi, [rbp + 80]", // the stub
        "mov esi, eax",
        "mov rdx, rbx",
        // RCX is the fourth argument already.
        "call {fast}",
        "mov rsp, rbp",
        "mov rcx, [rbp + 80]",
        "cmp rax, -1",
        "je 2f",
        "mov [rbp + 72], rax",
        "mov rcx, [rcx + {NEXT}]",
        "jmp 3f",
        "2:",
        "add rcx, {TRAP}",
        "3:",
        "mov [rbp + 80], rcx",
        // ZF, CF, SF and OF clear.
        "test rsp, rsp",
        "pop rbp",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret 128",
        fast = sym fast_from_stub,
        NEXT = const word::NEXT,
        TRAP = const TRAP,
    )
}

extern "C" fn fast_from_stub(stub: *const u8, leaf: u32, rbx: u64, rcx: u64) -> u64 {
    // SAFETY: the stub passes its own address, and `stub_text` wrote this word.
    let core = unsafe { stub.wrapping_byte_add(word::CORE).cast::<*const Core>().read() };
    // SAFETY: the enclave runs, so its core lives.
    let core = unsafe { &*core };
    leaf::fast(core, leaf, rbx, rcx)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(number: u8, padding: usize) -> Vec<u8> {
        let mut code = vec![MOV_EAX, number, 0, 0, 0, 0x0f, 0x01, 0xd7];
        code.extend(std::iter::repeat_n(NOP, padding));
        code
    }

    #[test]
    fn sites_are_found_wherever_they_lie_in_a_block() {
        for shift in 0..200 {
            let mut code = vec![0xd7; shift];
            code.extend(site(4, 0));
            code.push(0xc3);
            code.extend(site(5, PADDING));
            assert_eq!(find(&code), [(shift, Kind::Exit), (shift + SITE + 1, Kind::Leaf)]);
        }
    }

    #[test]
    fn a_leaf_without_its_padding_is_left_to_trap() {
        assert_eq!(find(&site(5, PADDING - 1)), []);
        assert_eq!(find(&site(5, PADDING)), [(0, Kind::Leaf)]);
        assert_eq!(find(&[0x0f, 0x01, 0xd7]), []);
        assert_eq!(find(&site(99, PADDING)), []);
    }
}
