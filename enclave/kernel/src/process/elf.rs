//! ELF program files (`elf(5)`): what the kernel needs of them, from private copies of the headers.

use crate::vm::{AddressSpace, MapRequest, MappedFile, Place, Role};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use kbase::{Result, SliceSink, UserAddr, UserSpace, bail};
use linux_abi::mm::PAGE_SIZE;
use platform::Protection;
use vfs::Regular;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Most program headers (64 KiB of them).
const MAX_HEADERS: u16 = 1170;
/// Longest path of an interpreter.
const MAX_INTERPRETER: u64 = 4096;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// `Elf64_Ehdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

/// `Elf64_Phdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const _: () = assert!(size_of::<FileHeader>() == 64, "elf(5)");
const _: () = assert!(size_of::<ProgramHeader>() == 56, "elf(5)");

/// A segment to load.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
    protection: Protection,
}

/// A program file, checked.
#[derive(Debug)]
pub(crate) struct Elf {
    entry: u64,
    /// Whether it may go anywhere.
    is_relocatable: bool,
    segments: Vec<Segment>,
    /// All addresses of the segments, whole pages.
    span: Range<u64>,
    /// The alignment that the segments ask for.
    align: u64,
    /// Address of the program headers, if they are loaded.
    headers_at: Option<u64>,
    header_count: u16,
    /// Path of the interpreter.
    pub(crate) interpreter: Option<Vec<u8>>,
}

/// A loaded program file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Address of the entry.
    pub(crate) entry: u64,
    /// What was added to its addresses.
    pub(crate) bias: u64,
    /// Address of the program headers, or 0.
    pub(crate) headers: u64,
    /// Their number.
    pub(crate) header_count: u64,
    /// First page of it.
    pub(crate) start: u64,
    /// First page after it.
    pub(crate) end: u64,
}

/// Bytes in a program header, for AT_PHENT.
pub(crate) const HEADER_SIZE: u64 = size_of::<ProgramHeader>() as u64;

/// Reads exactly `into.len()` bytes.
fn read_exact(file: &dyn Regular, offset: u64, into: &mut [u8]) -> Result<()> {
    let len = into.len();
    if file.read_at(offset, &mut SliceSink::new(into))? != len {
        bail!(ENOEXEC, "the program file is cut short");
    }
    Ok(())
}

impl Elf {
    /// Reads and checks the headers.
    ///
    /// # Errors
    /// ENOEXEC not an x86-64 program file, or a malformed one; EIO it cannot be read.
    pub(crate) fn read(file: &dyn Regular) -> Result<Self> {
        let mut header = FileHeader::new_zeroed();
        read_exact(file, 0, header.as_mut_bytes())?;
        let [0x7f, b'E', b'L', b'F', class, data, ..] = header.ident else {
            bail!(ENOEXEC, "not an ELF file");
        };
        if class != 2 || data != 1 || header.machine != EM_X86_64 {
            bail!(ENOEXEC, "not a program for x86-64");
        }
        if header.kind != ET_EXEC && header.kind != ET_DYN {
            bail!(ENOEXEC, "not a program");
        }
        if u64::from(header.phentsize) != HEADER_SIZE || !(1..=MAX_HEADERS).contains(&header.phnum) {
            bail!(ENOEXEC, "impossible program headers");
        }
        let mut headers = alloc::vec![ProgramHeader::new_zeroed(); header.phnum.into()];
        read_exact(file, header.phoff, headers.as_mut_slice().as_mut_bytes())?;
        let mut elf = Self {
            entry: header.entry,
            is_relocatable: header.kind == ET_DYN,
            segments: Vec::new(),
            span: Range { start: u64::MAX, end: 0 },
            align: PAGE_SIZE,
            headers_at: None,
            header_count: header.phnum,
            interpreter: None,
        };
        for part in &headers {
            match part.kind {
                PT_LOAD => elf.add_segment(part)?,
                PT_INTERP => elf.interpreter = Some(read_interpreter(file, part)?),
                PT_PHDR => elf.headers_at = Some(part.vaddr),
                _ => {}
            }
        }
        if elf.segments.is_empty() {
            bail!(ENOEXEC, "nothing to load");
        }
        if elf.headers_at.is_none() {
            let holds = |s: &&Segment| s.offset <= header.phoff && header.phoff - s.offset < s.filesz;
            elf.headers_at = elf.segments.iter().find(holds).map(|s| s.vaddr + (header.phoff - s.offset));
        }
        Ok(elf)
    }

    fn add_segment(&mut self, part: &ProgramHeader) -> Result<()> {
        if part.memsz == 0 {
            return Ok(());
        }
        let file_end = part.offset.checked_add(part.filesz);
        let end = part.vaddr.checked_add(part.memsz).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
        let (Some(end), Some(_)) = (end, file_end.filter(|&end| end <= i64::MAX.cast_unsigned())) else {
            bail!(ENOEXEC, "a segment wraps around");
        };
        if part.filesz > part.memsz || part.vaddr % PAGE_SIZE != part.offset % PAGE_SIZE {
            bail!(ENOEXEC, "a segment is malformed");
        }
        if part.align.is_power_of_two() && part.align <= 1 << 30 {
            self.align = self.align.max(part.align);
        }
        let mut protection = Protection::empty();
        protection.set(Protection::READ, part.flags & PF_R != 0);
        protection.set(Protection::WRITE, part.flags & PF_W != 0);
        protection.set(Protection::EXEC, part.flags & PF_X != 0);
        self.span = self.span.start.min(part.vaddr - part.vaddr % PAGE_SIZE)..self.span.end.max(end);
        self.segments.push(Segment {
            offset: part.offset,
            vaddr: part.vaddr,
            filesz: part.filesz,
            memsz: part.memsz,
            protection,
        });
        Ok(())
    }

    /// The addresses that it must have, if it cannot be elsewhere.
    pub(crate) fn fixed_addresses(&self) -> Option<&Range<u64>> {
        (!self.is_relocatable).then_some(&self.span)
    }

    /// Loads it as the program of an empty address space.
    ///
    /// # Errors
    /// ENOMEM it does not fit.
    pub(crate) fn load_program(&self, space: &AddressSpace, file: &Arc<MappedFile>) -> Result<Loaded> {
        let bias = if self.is_relocatable {
            let len = self.reserve_len()?;
            let Some(room) = space.room_for_program(len) else {
                bail!(ENOMEM, "no room for the program");
            };
            self.bias_at(room)
        } else {
            0
        };
        self.load_at(space, file, bias)
    }

    /// Loads it as the interpreter, where libraries go.
    ///
    /// # Errors
    /// ENOMEM it does not fit.
    pub(crate) fn load_interpreter(&self, space: &AddressSpace, file: &Arc<MappedFile>) -> Result<Loaded> {
        if !self.is_relocatable {
            return self.load_at(space, file, 0);
        }
        let len = self.reserve_len()?;
        let room = space.map(MapRequest::reservation(Place::Any, len))?;
        space.unmap(room, len)?;
        self.load_at(space, file, self.bias_at(room))
    }

    /// Bytes that hold it wherever it begins.
    fn reserve_len(&self) -> Result<u64> {
        let len = (self.span.end - self.span.start).checked_add(self.align - PAGE_SIZE);
        match len {
            Some(len) => Ok(len),
            None => bail!(ENOMEM, "larger than the address space"),
        }
    }

    /// The bias that puts it at the first aligned place from `room` on.
    fn bias_at(&self, room: u64) -> u64 {
        let lowest = self.span.start - self.span.start % self.align;
        let wanted = room.next_multiple_of(self.align);
        // The span may begin behind an alignment border; then it begins as far behind one here.
        let bias = wanted.wrapping_sub(lowest);
        if self.span.start.wrapping_add(bias) - room >= self.align {
            bias.wrapping_sub(self.align)
        } else {
            bias
        }
    }

    /// Maps the segments.
    fn load_at(&self, space: &AddressSpace, file: &Arc<MappedFile>, bias: u64) -> Result<Loaded> {
        let move_by = |address: u64| address.wrapping_add(bias);
        let whole = move_by(self.span.start)..move_by(self.span.end);
        // Takes the place as a whole, so that the stubs of one segment do not land where another goes.
        if space
            .map(MapRequest::reservation(Place::FixedNoReplace(whole.start), whole.end - whole.start))
            .is_err()
        {
            bail!(ENOMEM, "the addresses that the program wants are not free");
        }
        for segment in &self.segments {
            segment.map(space, file, move_by(segment.vaddr))?;
        }
        self.unmap_holes(space, bias)?;
        Ok(Loaded {
            entry: move_by(self.entry),
            bias,
            headers: self.headers_at.map_or(0, move_by),
            header_count: self.header_count.into(),
            start: whole.start,
            end: whole.end,
        })
    }

    /// Gives back what no segment covers.
    fn unmap_holes(&self, space: &AddressSpace, bias: u64) -> Result<()> {
        let mut pages: Vec<Range<u64>> = self.segments.iter().map(Segment::pages).collect();
        pages.sort_unstable_by_key(|range| range.start);
        let mut at = self.span.start;
        for range in pages {
            if range.start > at {
                space.unmap(at.wrapping_add(bias), range.start - at)?;
            }
            at = at.max(range.end);
        }
        Ok(())
    }
}

impl Segment {
    /// Its whole pages. The ends were checked.
    const fn pages(&self) -> Range<u64> {
        self.vaddr - self.vaddr % PAGE_SIZE..(self.vaddr + self.memsz).next_multiple_of(PAGE_SIZE)
    }

    /// Maps it so that it begins at `start`.
    fn map(&self, space: &AddressSpace, file: &Arc<MappedFile>, start: u64) -> Result<()> {
        let in_page = start % PAGE_SIZE;
        let first = start - in_page;
        let file_end = start + self.filesz;
        let zero_from = file_end.next_multiple_of(PAGE_SIZE);
        let end = (start + self.memsz).next_multiple_of(PAGE_SIZE);
        let request = |start: u64, end: u64, file| MapRequest {
            place: Place::Fixed(start),
            len: end - start,
            protection: self.protection,
            is_shared: false,
            may_write: true,
            file,
            role: Role::Mapping,
        };
        if self.filesz > 0 {
            let offset = self.offset - in_page;
            space.map(request(first, zero_from, Some((file.clone(), offset))))?;
        }
        let anonymous_from = if self.filesz > 0 { zero_from } else { first };
        let writable = self.protection.contains(Protection::WRITE);
        if end > anonymous_from {
            space.map(request(anonymous_from, end, None))?;
            if writable {
                space.expect_stores(&(anonymous_from..end));
            }
        }
        if self.filesz > 0 && self.memsz > self.filesz && zero_from > file_end && writable {
            // The rest of the last page of the file is what follows in the file: zero it.
            space.zero(UserAddr(file_end), zero_from - file_end)?;
        }
        Ok(())
    }
}

/// The path in a PT_INTERP.
fn read_interpreter(file: &dyn Regular, part: &ProgramHeader) -> Result<Vec<u8>> {
    if !(2..=MAX_INTERPRETER).contains(&part.filesz) {
        bail!(ENOEXEC, "impossible path of an interpreter");
    }
    let mut path = alloc::vec![0; usize::try_from(part.filesz).unwrap_or(0)];
    read_exact(file, part.offset, &mut path)?;
    if path.pop() != Some(0) {
        bail!(ENOEXEC, "the path of the interpreter has no end");
    }
    if let Some(end) = path.iter().position(|&byte| byte == 0) {
        path.truncate(end);
    }
    Ok(path)
}
