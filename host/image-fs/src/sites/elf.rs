//! What the analysis needs to know of an ELF file: its text, its data and where functions start (elf(5)).

use std::collections::BTreeSet;
use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::is_program;
use super::unwind::{self, Function};

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const SHF_EXECINSTR: u64 = 4;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    ident: [u8; 16],
    file_type: U16,
    machine: U16,
    version: U32,
    entry: U64,
    phoff: U64,
    shoff: U64,
    flags: U32,
    ehsize: U16,
    phentsize: U16,
    phnum: U16,
    shentsize: U16,
    shnum: U16,
    shstrndx: U16,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    vaddr: U64,
    paddr: U64,
    filesz: U64,
    memsz: U64,
    align: U64,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SectionHeader {
    name: U32,
    kind: U32,
    flags: U64,
    addr: U64,
    offset: U64,
    size: U64,
    link: U32,
    info: U32,
    align: U64,
    entsize: U64,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Symbol {
    name: U32,
    info: u8,
    other: u8,
    section: U16,
    value: U64,
    size: U64,
}

/// Text that is spread wider is left as it is: the analysis takes memory for every address in between.
const LARGEST_SPAN: u64 = 1 << 30;

/// File content at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region<'a> {
    pub(super) start: u64,
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

impl Region<'_> {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        (self.start..self.end()).contains(&address)
    }
}

/// An ELF file as the analysis sees it.
pub(super) struct Elf<'a> {
    /// What is decoded, by address; regions do not overlap.
    pub(super) regions: Vec<Region<'a>>,
    /// Loaded file content.
    pub(super) segments: Vec<Region<'a>>,
    /// Whether addresses in the file are those at run time.
    pub(super) fixed: bool,
    /// Whether sections tell text from other content of executable segments.
    pub(super) has_sections: bool,
    /// Where functions start.
    pub(super) starts: BTreeSet<u64>,
    /// Functions with unwind information, by start.
    pub(super) functions: Vec<Function>,
}

impl<'a> Elf<'a> {
    /// Reads the headers; `None` if there is no text, or they are not rightly formed.
    pub(super) fn parse(file: &'a [u8]) -> Option<Self> {
        if !is_program(file) {
            return None;
        }
        let (header, _) = Header::ref_from_prefix(file).ok()?;
        if !matches!(header.file_type.get(), ET_EXEC | ET_DYN) {
            return None;
        }
        let programs: &[ProgramHeader] = table(file, header.phoff.get(), header.phnum.get())?;
        if usize::from(header.phentsize.get()) != size_of::<ProgramHeader>() {
            return None;
        }
        let region = |offset: u64, vaddr: u64, size: u64| {
            vaddr.checked_add(size)?;
            Some(Region { start: vaddr, offset, bytes: slice(file, offset, size)? })
        };
        let mut segments = Vec::new();
        let mut executable = Vec::new();
        for program in programs.iter().filter(|program| program.kind.get() == PT_LOAD) {
            let segment = region(program.offset.get(), program.vaddr.get(), program.filesz.get())?;
            segments.push(segment);
            if program.flags.get() & PF_X != 0 {
                executable.push(segment);
            }
        }
        let sections: &[SectionHeader] = if usize::from(header.shentsize.get()) == size_of::<SectionHeader>()
        {
            table(file, header.shoff.get(), header.shnum.get()).unwrap_or_default()
        } else {
            &[]
        };
        let mut regions: Vec<_> = sections
            .iter()
            .filter(|section| {
                section.kind.get() == SHT_PROGBITS
                    && section.flags.get() & SHF_EXECINSTR != 0
                    && section.size.get() != 0
            })
            .filter_map(|section| region(section.offset.get(), section.addr.get(), section.size.get()))
            .filter(|text| executable.iter().any(|segment| encloses(segment, text)))
            .collect();
        let has_sections = !regions.is_empty();
        if !has_sections {
            regions = executable;
        }
        regions.sort_by_key(|region| region.start);
        if regions.windows(2).any(|pair| pair[0].end() > pair[1].start) {
            return None;
        }
        let (first, last) = (regions.first()?, regions.last()?);
        if last.end() - first.start > LARGEST_SPAN {
            return None;
        }

        let mut elf = Self {
            regions,
            segments,
            fixed: header.file_type.get() == ET_EXEC,
            has_sections,
            starts: BTreeSet::new(),
            functions: Vec::new(),
        };
        let frames = programs.iter().find(|program| program.kind.get() == PT_GNU_EH_FRAME);
        if let Some(frames) = frames {
            elf.functions = unwind::functions(&elf, frames.vaddr.get());
        }
        elf.add_start(header.entry.get());
        for section in sections.iter().filter(|section| matches!(section.kind.get(), SHT_SYMTAB | SHT_DYNSYM))
        {
            let bytes = slice(file, section.offset.get(), section.size.get()).unwrap_or_default();
            for symbol in records::<Symbol>(bytes) {
                if matches!(symbol.info & 0xf, STT_FUNC | STT_GNU_IFUNC) && symbol.section.get() != 0 {
                    elf.add_start(symbol.value.get());
                }
            }
        }
        for at in 0..elf.functions.len() {
            elf.add_start(elf.functions[at].range.start);
        }
        Some(elf)
    }

    fn add_start(&mut self, address: u64) {
        if self.region(address).is_some() {
            self.starts.insert(address);
        }
    }

    /// The text that has `address`.
    pub(super) fn region(&self, address: u64) -> Option<&Region<'a>> {
        let at = self.regions.partition_point(|region| region.start <= address).checked_sub(1)?;
        self.regions.get(at).filter(|region| region.contains(address))
    }

    /// Loaded file content from `address` to the end of its segment.
    pub(super) fn content(&self, address: u64) -> Option<&'a [u8]> {
        let segment = self.segments.iter().find(|segment| segment.contains(address))?;
        segment.bytes.get(usize::try_from(address - segment.start).ok()?..)
    }

    /// The function with unwind information that has `address`.
    pub(super) fn function(&self, address: u64) -> Option<&Function> {
        let at = self.functions.partition_point(|function| function.range.start <= address).checked_sub(1)?;
        self.functions.get(at).filter(|function| function.range.contains(&address))
    }

    /// Whether the compiler gave its functions unwind information, so that text without is written by hand.
    pub(super) fn is_unwindable(&self) -> bool {
        let text: u64 = self.regions.iter().map(|region| region.bytes.len() as u64).sum();
        let covered: u64 =
            self.functions.iter().map(|function| function.range.end - function.range.start).sum();
        covered > text / 2
    }

    /// From the first to behind the last byte of text.
    pub(super) fn text_span(&self) -> Range<u64> {
        let start = self.regions.first().map_or(0, |region| region.start);
        start..self.regions.last().map_or(start, Region::end)
    }
}

/// Whether the segment maps the section, at the same place in the file.
fn encloses(segment: &Region<'_>, section: &Region<'_>) -> bool {
    section.start >= segment.start
        && section.end() <= segment.end()
        && section.start - segment.start == section.offset.wrapping_sub(segment.offset)
}

fn slice(file: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

fn table<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    file: &[u8],
    offset: u64,
    count: u16,
) -> Option<&[T]> {
    let size = u64::from(count) * size_of::<T>() as u64;
    <[T]>::ref_from_bytes(slice(file, offset, size)?).ok()
}

/// As many records as `bytes` has whole ones.
fn records<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> &[T] {
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    <[T]>::ref_from_bytes(&bytes[..whole]).unwrap_or_default()
}
