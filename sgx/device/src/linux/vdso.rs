//! Finding a function in the vDSO.

use std::ptr;

/// The vDSO of this process.
#[derive(Clone, Copy)]
pub(super) struct Vdso {
    image: &'static [u8],
}

/// ELF constants (`elf.h`).
mod elf {
    pub(super) const MAGIC: &[u8] = b"\x7fELF\x02\x01";
    pub(super) const HEADER: usize = 64;
    pub(super) const PROGRAM_HEADER: usize = 56;
    pub(super) const PT_LOAD: u32 = 1;
    pub(super) const PT_DYNAMIC: u32 = 2;
    pub(super) const DT_STRTAB: u64 = 5;
    pub(super) const DT_SYMTAB: u64 = 6;
    pub(super) const SYMBOL: usize = 24;
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn half(image: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes(image, at)?).into())
}

fn word(image: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes(image, at)?))
}

fn long(image: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes(image, at)?)).ok()
}

impl Vdso {
    /// The vDSO that the kernel mapped.
    pub(super) fn of_this_process() -> Option<Self> {
        // SAFETY: reads the auxiliary vector.
        let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
        let start = ptr::with_exposed_provenance::<u8>(usize::try_from(start).ok().filter(|at| *at != 0)?);
        // SAFETY: the kernel maps an ELF image there, of a page at least, and leaves it for the process's life.
        let head = unsafe { std::slice::from_raw_parts(start, 4096) };
        let size = loaded_size(head)?;
        // SAFETY: the image is mapped as its program headers say, readable and never changed.
        Some(Self { image: unsafe { std::slice::from_raw_parts(start, size) } })
    }

    /// Address of a function.
    pub(super) fn find(self, name: &str) -> Option<usize> {
        let offset = find(self.image, name)?;
        Some(self.image.as_ptr().addr() + offset)
    }

    /// Three bytes of code.
    pub(super) fn code_at(self, address: u64) -> Option<[u8; 3]> {
        let start = self.image.as_ptr().addr();
        bytes(self.image, usize::try_from(address).ok()?.checked_sub(start)?)
    }
}

fn program_headers(image: &[u8]) -> Option<impl Iterator<Item = usize>> {
    if !image.starts_with(elf::MAGIC) || image.len() < elf::HEADER {
        return None;
    }
    let (first, count) = (long(image, 32)?, half(image, 56)?);
    Some((0..count).map(move |index| first + index * elf::PROGRAM_HEADER))
}

/// Bytes of the image in memory.
fn loaded_size(image: &[u8]) -> Option<usize> {
    program_headers(image)?
        .filter(|at| word(image, *at) == Some(elf::PT_LOAD))
        .filter_map(|at| long(image, at + 16)?.checked_add(long(image, at + 40)?))
        .max()
}

/// Offset of a function in the image.
fn find(image: &[u8], name: &str) -> Option<usize> {
    let dynamic = program_headers(image)?.find(|at| word(image, *at) == Some(elf::PT_DYNAMIC))?;
    let (start, size) = (long(image, dynamic + 16)?, long(image, dynamic + 40)?);
    let entry = |tag: u64| {
        (start..start.checked_add(size)?)
            .step_by(16)
            .find(|at| long(image, *at).is_some_and(|found| found as u64 == tag))
            .and_then(|at| long(image, at + 8))
    };
    let (strings, symbols) = (entry(elf::DT_STRTAB)?, entry(elf::DT_SYMTAB)?);
    // The string table follows the symbol table in a vDSO, so its start bounds the count.
    (symbols..strings.max(symbols))
        .step_by(elf::SYMBOL)
        .find(|at| {
            let named = || {
                let start = strings.checked_add(usize::try_from(word(image, *at)?).ok()?)?;
                let end = start.checked_add(name.len())?;
                Some(image.get(start..end)? == name.as_bytes() && image.get(end) == Some(&0))
            };
            named() == Some(true)
        })
        .and_then(|at| long(image, at + 8))
        .filter(|offset| *offset != 0 && *offset < image.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_every_kernel_has_is_found_and_works() {
        let vdso = Vdso::of_this_process().unwrap();
        let address = vdso.find("__vdso_time").unwrap();
        assert!(vdso.code_at(address as u64).is_some());
        assert!(vdso.code_at(8).is_none());
        let pointer = ptr::with_exposed_provenance::<()>(address);
        type Time = extern "C" fn(*mut i64) -> i64;
        // SAFETY: the vDSO's function has this signature.
        let time: Time = unsafe { std::mem::transmute::<*const (), Time>(pointer) };
        assert!(time(ptr::null_mut()) > 1_700_000_000);
        assert_eq!(vdso.find("__vdso_tim"), None);
        assert_eq!(vdso.find("__vdso_nothing"), None);
    }

    #[test]
    fn broken_images_have_no_functions() {
        let image = Vdso::of_this_process().unwrap().image;
        for len in 0..image.len().min(2048) {
            let _ = find(&image[..len], "__vdso_time");
            let _ = loaded_size(&image[..len]);
        }
        assert_eq!(find(&[0; 4096], "__vdso_time"), None);
    }
}
