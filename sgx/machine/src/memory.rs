//! Anonymous mappings of the host.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU16;

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// A private anonymous mapping; pages that are never touched cost nothing.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is a range of addresses; who may touch them is up to the users of `start`.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out numbers only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes anywhere.
    pub(crate) fn new(len: usize, protection: libc::c_int) -> io::Result<Self> {
        Self::map(ptr::null_mut(), len, protection, 0)
    }

    /// Maps `len` bytes at `start`.
    ///
    /// # Errors
    /// EEXIST something is mapped there; EPERM below `vm.mmap_min_addr`.
    pub(crate) fn at(start: usize, len: usize, protection: libc::c_int) -> io::Result<Self> {
        let wanted = ptr::with_exposed_provenance_mut(start);
        let mapping = Self::map(wanted, len, protection, libc::MAP_FIXED_NOREPLACE)?;
        // Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint.
        if mapping.address() == start { Ok(mapping) } else { Err(io::Error::from_raw_os_error(libc::EEXIST)) }
    }

    fn map(
        wanted: *mut libc::c_void,
        len: usize,
        protection: libc::c_int,
        flags: libc::c_int,
    ) -> io::Result<Self> {
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED the call replaces no mapping.
        let start = unsafe { libc::mmap(wanted, len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        // Enclave addresses come as numbers; this makes pointers built from them legitimate.
        let _ = start.as_ptr().expose_provenance();
        Ok(Self { start, len })
    }

    /// First address.
    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr().addr()
    }

    /// Bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// First byte.
    pub(crate) const fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The mapping as a table. It was mapped readable and writable, and only through this table is it used.
    ///
    /// # Safety
    /// The mapping is readable and writable for as long as it exists, and nothing but atomics touches it.
    pub(crate) unsafe fn table(&self) -> &[AtomicU16] {
        let first = self.start.as_ptr().cast::<AtomicU16>();
        // SAFETY: page-aligned, `len` bytes long, zero-initialized by the kernel, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(first, self.len / size_of::<AtomicU16>()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's own.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// `mprotect(2)` of a range that the caller owns.
///
/// # Errors
/// ENOMEM too many mappings.
pub(crate) fn protect(start: usize, len: usize, protection: libc::c_int) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: callers pass ranges inside mappings of this crate, of which Rust holds no references.
    if unsafe { libc::mprotect(start, len, protection) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the pages of a range back to the host; they read as zero afterwards.
///
/// # Errors
/// As `madvise(2)`.
pub(crate) fn discard(start: usize, len: usize) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: as for `protect`.
    if unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks the kernel for huge pages where a range has room for them.
pub(crate) fn prefer_huge(start: usize, len: usize) {
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: changes no content. It is a wish: a kernel without huge pages refuses, and nothing is lost.
    unsafe { libc::madvise(start, len, libc::MADV_HUGEPAGE) };
}
