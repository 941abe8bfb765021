//! Finds what has to be rewritten in x86-64 programs: `syscall`, `cpuid`, `rdtsc` and `rdtscp`.
//!
//! A disassembler sweeps each function of the file and notes the sites, every address that control may come to
//! and every piece of padding. Then each site gets the safest tactic that is certain to be right; what is not
//! certain traps at run time, which is slow but never wrong. What is taken for a possible jump target is more
//! than the real ones: see `targets`.
//!
//! Cheap files are cheap: without the bytes of `syscall` or `cpuid` in its text a file is not decoded at all,
//! and where only few functions have them, only those are, unless a tactic needs to know all jump targets.

mod choose;
mod elf;
mod sweep;
mod targets;
mod unwind;

use erofs_format::SiteTable;
use memchr::memmem;

use choose::Chooser;
use elf::Elf;
use sweep::{Sweep, chunks};

/// What [`analyse_with`] may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnalyseOptions {
    /// Whether `rdtsc` and `rdtscp` get a tactic too. They need one only where the processor does not let
    /// enclaves use them; otherwise they are noted as [`erofs_format::Tactic::Trap`].
    pub patch_tsc: bool,
}

/// Whether a file's first bytes are those of a 64-bit x86 ELF file.
#[must_use]
pub fn is_program(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01") && head.get(18..20) == Some(&[62, 0])
}

/// Finds the sites of a program, given the whole file. Files that are no x86-64 ELF programs or libraries, or
/// not rightly formed, have none.
#[must_use]
pub fn analyse(program: &[u8]) -> SiteTable {
    analyse_with(program, AnalyseOptions::default())
}

/// As [`analyse`], with options.
#[must_use]
pub fn analyse_with(program: &[u8], options: AnalyseOptions) -> SiteTable {
    let Some(elf) =
        Elf::parse(program).filter(|elf| elf.regions.iter().any(|region| suspicious(region.bytes)))
    else {
        return SiteTable::default();
    };
    let chunks = chunks(&elf);
    let mut few = Sweep::new(&elf);
    for chunk in chunks.iter().filter(|chunk| suspicious(chunk.bytes)) {
        few.chunk(chunk);
    }
    let easy = Chooser::easy(&elf, &few, options);
    if easy.is_complete() {
        return easy.table();
    }
    let mut all = Sweep::new(&elf);
    for chunk in &chunks {
        all.chunk(chunk);
    }
    targets::scan_data(&elf, program, &mut all);
    Chooser::full(&elf, &all, options).table()
}

/// Whether the bytes of a site that matters are there, perhaps as part of other instructions.
fn suspicious(text: &[u8]) -> bool {
    memmem::find(text, &[0x0f, 0x05]).is_some() || memmem::find(text, &[0x0f, 0xa2]).is_some()
}

#[cfg(test)]
mod tests;
