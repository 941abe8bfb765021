//! Loads the LibOS: a static-PIE ELF file becomes pages at a fixed address.
//!
//! There is no dynamic linker in an enclave, so the file must need none: only `R_X86_64_RELATIVE` is applied,
//! here, before measuring. Whatever else would have to happen at load time is an error, not a surprise.

use crate::{Error, Result};
use edge_abi::layout::{IMAGE_BASE, PAGE_SIZE, THREADS_BASE};
use object::LittleEndian as LE;
use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64, Rela64};
use object::pod::slice_from_bytes;
use object::read::elf::{FileHeader, ProgramHeader};
use sgx_arch::SecinfoFlags;

/// Most bytes from the image base to the thread slots.
const SPAN_LIMIT: u64 = THREADS_BASE - IMAGE_BASE;
const PAGE: usize = sgx_arch::PAGE_SIZE;
/// Offset and size of `e_shoff` in the ELF header, and of `e_shnum` with `e_shstrndx`.
const SECTION_FIELDS: [(u64, usize); 2] = [(0x28, 8), (0x3c, 4)];

/// The LibOS in memory, relocated to [`IMAGE_BASE`].
#[derive(Clone, Debug)]
pub struct Image {
    entry: u64,
    bytes: Vec<u8>,
    /// Permissions of each page of `bytes`; `None`: no page.
    pages: Vec<Option<SecinfoFlags>>,
}

/// Consecutive pages with the same permissions.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Distance from the image base in bytes.
    pub offset: u64,
    /// What the enclave may do with them.
    pub permissions: SecinfoFlags,
    /// Content.
    pub bytes: &'a [u8],
}

impl Image {
    /// Loads and relocates an ELF file.
    ///
    /// Pages that RELRO covers become read-only, since relocation is over before they are added. What is about
    /// the file and not the program, notes and the header's references to sections, is cleared: neither
    /// stripping nor a build ID may change MRENCLAVE.
    ///
    /// # Errors
    /// [`Error::Elf`] it is not an x86-64 static-PIE file, is malformed, or has what needs a dynamic linker;
    /// [`Error::Relocation`] it has a relocation other than `R_X86_64_RELATIVE`.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let header =
            FileHeader64::<LE>::parse(file).map_err(|_| Error::Elf("it is not a 64-bit ELF file"))?;
        if !header.is_little_endian() || header.e_machine(LE) != elf::EM_X86_64 {
            return Err(Error::Elf("it is not for x86-64"));
        }
        if header.e_type(LE) != elf::ET_DYN {
            return Err(Error::Elf("it is not position-independent (ET_DYN)"));
        }
        let segments =
            header.program_headers(LE, file).map_err(|_| Error::Elf("its program headers are damaged"))?;
        for segment in segments {
            match segment.p_type(LE) {
                elf::PT_INTERP => return Err(Error::Elf("it wants an interpreter (PT_INTERP)")),
                elf::PT_TLS => return Err(Error::Elf("it has thread-local variables (PT_TLS)")),
                _ => {}
            }
        }
        let mut image = Self { entry: header.e_entry(LE), bytes: Vec::new(), pages: Vec::new() };
        for segment in segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD) {
            image.load(segment, file)?;
        }
        if !image.permissions_at(image.entry).is_some_and(|have| have.contains(SecinfoFlags::X)) {
            return Err(Error::Elf("its entry point is not in an executable segment"));
        }
        for segment in segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_DYNAMIC) {
            image.relocate(segment.p_vaddr(LE), segment.p_memsz(LE))?;
        }
        for segment in segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_GNU_RELRO) {
            image.protect(segment.p_vaddr(LE), segment.p_memsz(LE));
        }
        for segment in segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_NOTE) {
            let len = usize::try_from(segment.p_memsz(LE)).unwrap_or(usize::MAX);
            image.forget(segment.p_vaddr(LE), len);
        }
        if image.bytes.starts_with(&elf::ELFMAG) {
            SECTION_FIELDS.into_iter().for_each(|(address, len)| image.forget(address, len));
        }
        Ok(image)
    }

    /// Distance of the entry point from the image base in bytes.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Bytes from the image base to the end of the last page.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The pages in ascending order; guard pages between segments are left out.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut next = 0;
        self.pages.chunk_by(|a, b| a == b).filter_map(move |pages| {
            let start = next * PAGE;
            next += pages.len();
            let permissions = (*pages.first()?)?;
            let bytes = self.bytes.get(start..next * PAGE)?;
            Some(Run { offset: start as u64, permissions, bytes })
        })
    }

    /// Places one PT_LOAD segment.
    fn load(&mut self, segment: &ProgramHeader64<LE>, file: &[u8]) -> Result<()> {
        let content = segment.data(LE, file).map_err(|()| Error::Elf("a segment lies outside the file"))?;
        let start = segment.p_vaddr(LE);
        let end = start
            .checked_add(segment.p_memsz(LE))
            .filter(|&end| end <= SPAN_LIMIT)
            .ok_or(Error::Elf("a segment is too large or too high"))?;
        if end - start < content.len() as u64 {
            return Err(Error::Elf("a segment is larger in the file than in memory"));
        }
        let flags = segment.p_flags(LE);
        let mut permissions = SecinfoFlags::R;
        permissions.set(SecinfoFlags::W, flags & elf::PF_W != 0);
        permissions.set(SecinfoFlags::X, flags & elf::PF_X != 0);
        if permissions == SecinfoFlags::RWX {
            return Err(Error::Elf("a segment is writable and executable"));
        }
        let (first, last) = (index(start / PAGE_SIZE)?, index(end.div_ceil(PAGE_SIZE))?);
        if last > self.pages.len() {
            self.pages.resize(last, None);
            self.bytes.resize(last * PAGE, 0);
        }
        let pages = self.pages.get_mut(first..last).ok_or(Error::Elf("a segment is empty"))?;
        if pages.iter().any(Option::is_some) {
            return Err(Error::Elf("two segments share a page"));
        }
        pages.fill(Some(permissions));
        self.slice_mut(start, content.len())
            .ok_or(Error::Elf("a segment is too large or too high"))?
            .copy_from_slice(content);
        Ok(())
    }

    /// Applies the relocations that the dynamic section at `address` describes.
    fn relocate(&mut self, address: u64, size: u64) -> Result<()> {
        const OUTSIDE: Error = Error::Elf("its dynamic section is damaged");
        let (mut rela, mut rela_size) = (0, 0);
        for entry in &self.table::<Dyn64<LE>>(address, size).ok_or(OUTSIDE)? {
            let value = entry.d_val.get(LE);
            match i64::from_le_bytes(entry.d_tag.get(LE).to_le_bytes()) {
                elf::DT_NULL => break,
                elf::DT_RELA => rela = value,
                elf::DT_RELASZ => rela_size = value,
                elf::DT_RELAENT if value != 24 => return Err(OUTSIDE),
                elf::DT_NEEDED => return Err(Error::Elf("it needs a shared library (DT_NEEDED)")),
                elf::DT_TEXTREL => return Err(Error::Elf("it has relocations in its code (DT_TEXTREL)")),
                elf::DT_PLTRELSZ if value != 0 => {
                    return Err(Error::Elf("it has lazy relocations (DT_JMPREL)"));
                }
                elf::DT_RELSZ | elf::DT_RELRSZ if value != 0 => {
                    return Err(Error::Elf("it has relocations in a format other than DT_RELA"));
                }
                elf::DT_INIT | elf::DT_FINI => return Err(Error::Elf("it has an initializer (DT_INIT)")),
                elf::DT_INIT_ARRAYSZ | elf::DT_PREINIT_ARRAYSZ | elf::DT_FINI_ARRAYSZ if value != 0 => {
                    return Err(Error::Elf("it has initializers (DT_INIT_ARRAY)"));
                }
                _ => {}
            }
        }
        for relocation in self.table::<Rela64<LE>>(rela, rela_size).ok_or(OUTSIDE)? {
            let address = relocation.r_offset.get(LE);
            match relocation.r_type(LE, false) {
                elf::R_X86_64_NONE => {}
                elf::R_X86_64_RELATIVE => {
                    let value = IMAGE_BASE.wrapping_add_signed(relocation.r_addend.get(LE));
                    if !(IMAGE_BASE..=IMAGE_BASE + self.span()).contains(&value) {
                        return Err(Error::Elf("a relocation points out of the image"));
                    }
                    let writable = self.permissions_at(address).is_some_and(|p| p.contains(SecinfoFlags::W));
                    let word = self.slice_mut(address, 8).filter(|_| writable);
                    word.ok_or(Error::Elf("a relocation lies outside the writable segments"))?
                        .copy_from_slice(&value.to_le_bytes());
                }
                kind => return Err(Error::Relocation { kind, address }),
            }
        }
        Ok(())
    }

    /// Takes W from the pages of a PT_GNU_RELRO segment. It starts where a PT_LOAD segment does, so its first
    /// page is all its own; a last part page is shared with data that stays writable.
    fn protect(&mut self, address: u64, size: u64) {
        let end = address.saturating_add(size);
        let first = usize::try_from(address / PAGE_SIZE).unwrap_or(usize::MAX);
        let last = usize::try_from(end / PAGE_SIZE).unwrap_or(usize::MAX).min(self.pages.len());
        for page in self.pages.get_mut(first..last).into_iter().flatten().flatten() {
            page.remove(SecinfoFlags::W);
        }
    }

    fn forget(&mut self, address: u64, len: usize) {
        if let Some(bytes) = self.slice_mut(address, len) {
            bytes.fill(0);
        }
    }

    fn permissions_at(&self, address: u64) -> Option<SecinfoFlags> {
        *self.pages.get(usize::try_from(address / PAGE_SIZE).ok()?)?
    }

    /// Copies a table out, since relocating writes to the memory that holds it.
    fn table<T: object::pod::Pod>(&self, address: u64, size: u64) -> Option<Vec<T>> {
        let (start, size) = (usize::try_from(address).ok()?, usize::try_from(size).ok()?);
        let bytes = self.bytes.get(start..start.checked_add(size)?)?;
        let (entries, _) = slice_from_bytes(bytes, size / size_of::<T>()).ok()?;
        Some(entries.to_vec())
    }

    fn slice_mut(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        let start = usize::try_from(address).ok()?;
        self.bytes.get_mut(start..start.checked_add(len)?)
    }
}

fn index(page: u64) -> Result<usize> {
    usize::try_from(page).map_err(|_| Error::Elf("a segment is too large or too high"))
}
