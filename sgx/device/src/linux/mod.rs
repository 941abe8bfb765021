//! The Linux driver, /dev/sgx_enclave, and `__vdso_sgx_enter_enclave`.
//!
//! Written to the kernel's headers and documentation (Documentation/arch/x86/sgx.rst, Linux 6.0 or later for
//! memory that changes at run time). What can be tested without a processor that has SGX is; the rest has not run.

mod enter;
mod ioctl;
mod vdso;

use crate::{EnclaveRun, Exit, SgxDevice, SgxEnclave};
use ioctl::{AddPages, Create, Init, ModifyTypes, Provision, RemovePages, RestrictPermissions};
use sgx_arch::{AttributesFlags, PAGE_SIZE, Secinfo, Secs, Sigstruct};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

const ENCLAVE: &str = "/dev/sgx_enclave";
const PROVISION: &str = "/dev/sgx_provision";
/// Nothing can be mapped below this address, whatever `vm.mmap_min_addr` is.
const LOWEST: u64 = 0x1_0000;

/// How often in a row the driver may ask to come again, as it does while a page is on its way out of the EPC.
const MOST_STOPS: u32 = 10_000;

/// SGX of this processor, through the kernel's driver.
#[derive(Debug)]
pub struct LinuxSgx {
    vdso_function: usize,
    xfrm: u64,
}

impl LinuxSgx {
    /// The machine, if this host is one.
    ///
    /// # Errors
    /// ENOENT or EACCES /dev/sgx_enclave cannot be opened; ENOSYS the kernel has no
    /// `__vdso_sgx_enter_enclave` (Linux 5.11).
    pub fn new() -> io::Result<Self> {
        open(ENCLAVE)?;
        let vdso_function = enter::function().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel's vDSO has no __vdso_sgx_enter_enclave")
        })?;
        Ok(Self { vdso_function, xfrm: enclave_xfrm() })
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// XFRM bits that the processor gives enclaves (CPUID leaf 12H, sub-leaf 1).
fn enclave_xfrm() -> u64 {
    let leaf = core::arch::x86_64::__cpuid_count(0x12, 1);
    u64::from(leaf.edx) << 32 | u64::from(leaf.ecx)
}

impl SgxDevice for LinuxSgx {
    fn name(&self) -> &'static str {
        ENCLAVE
    }

    fn xfrm(&self) -> u64 {
        self.xfrm
    }

    fn create(&self, secs: &Secs) -> io::Result<Box<dyn SgxEnclave>> {
        let file = open(ENCLAVE)?;
        let start = secs.baseaddr.max(LOWEST);
        let end = secs
            .baseaddr
            .checked_add(secs.size)
            .filter(|end| *end > start)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let range = Range { start, len: end - start };
        range.reserve()?;
        let enclave =
            LinuxEnclave { file, base: secs.baseaddr, size: secs.size, range, function: self.vdso_function };
        let mut argument = Create { src: address_of(secs) };
        ioctl::call(enclave.file.as_fd(), &mut argument)?;
        if secs.attributes.flags.contains(AttributesFlags::PROVISIONKEY) {
            let provision = open(PROVISION)?;
            let fd = u64::try_from(provision.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
            ioctl::call(enclave.file.as_fd(), &mut Provision { fd })?;
        }
        Ok(Box::new(enclave))
    }
}

fn address_of<T>(value: &T) -> u64 {
    ptr::from_ref(value).expose_provenance() as u64
}

/// Linear addresses that belong to the enclave from creation on.
#[derive(Debug)]
struct Range {
    start: u64,
    len: u64,
}

impl Range {
    /// Keeps everything else out.
    fn reserve(&self) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        let start = pointer(self.start)?;
        // SAFETY: MAP_FIXED_NOREPLACE replaces no mapping.
        let got = unsafe { libc::mmap(start, length(self.len)?, libc::PROT_NONE, flags, -1, 0) };
        if got == start {
            Ok(())
        } else {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EEXIST) => Err(io::ErrorKind::ResourceBusy.into()),
                _ => Err(error),
            }
        }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let (Ok(start), Ok(len)) = (pointer(self.start), length(self.len)) {
            // SAFETY: the range was reserved by this object, and nothing of the host is in it.
            unsafe { libc::munmap(start, len) };
        }
    }
}

fn pointer(address: u64) -> io::Result<*mut libc::c_void> {
    let address = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(ptr::with_exposed_provenance_mut(address))
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Pages that EADD takes: the driver wants its source aligned, which slices of the loader need not be.
#[repr(C, align(4096))]
struct Staging([[u8; PAGE_SIZE]; 64]);

/// An enclave of the driver.
#[derive(Debug)]
struct LinuxEnclave {
    file: File,
    base: u64,
    size: u64,
    // Dropped after `file`; the driver takes the enclave down when the last mapping and the file are gone.
    range: Range,
    function: usize,
}

impl LinuxEnclave {
    /// An ioctl on a range that may stop in between. `step` fills in what is left, and answers how far it came.
    fn whole(
        &self,
        offset: u64,
        length: u64,
        mut step: impl FnMut(&Self, u64, u64) -> (io::Result<()>, u64),
    ) -> io::Result<()> {
        let end =
            offset.checked_add(length).filter(|end| *end <= self.size).ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = offset;
        let mut stops = 0;
        while at < end {
            let (result, count) = step(self, at, end - at);
            at += count.min(end - at);
            match result {
                Ok(()) if count > 0 => {}
                Ok(()) => return Err(io::Error::other("the SGX driver makes no progress")),
                Err(error) if ioctl::is_transient(&error) && stops < MOST_STOPS => {
                    stops = if count > 0 { 0 } else { stops + 1 };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl SgxEnclave for LinuxEnclave {
    fn add_pages(&self, source: &[u8], offset: u64, secinfo: &Secinfo, measure: bool) -> io::Result<()> {
        let (pages, rest) = source.as_chunks::<PAGE_SIZE>();
        if pages.is_empty() || !rest.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut staging = Box::new(Staging([[0; PAGE_SIZE]; 64]));
        let flags = if measure { ioctl::PAGE_MEASURE } else { 0 };
        let mut at = offset;
        for some in pages.chunks(64) {
            for (place, page) in staging.0.iter_mut().zip(some) {
                *place = *page;
            }
            let length = (some.len() * PAGE_SIZE) as u64;
            let src = address_of(&*staging);
            self.whole(at, length, |this, offset, left| {
                let src = src + (length - left);
                let secinfo = address_of(secinfo);
                let mut argument = AddPages { src, offset, length: left, secinfo, flags, count: 0 };
                (ioctl::call(this.file.as_fd(), &mut argument), argument.count)
            })?;
            at += length;
        }
        Ok(())
    }

    fn init(&self, sigstruct: &Sigstruct) -> io::Result<()> {
        ioctl::call(self.file.as_fd(), &mut Init { sigstruct: address_of(sigstruct) })
            .map_err(|error| io::Error::new(error.kind(), format!("EINIT: {error}")))
    }

    fn restrict_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()> {
        self.whole(offset, length, |this, offset, length| {
            let mut argument = RestrictPermissions { offset, length, permissions, result: 0, count: 0 };
            (ioctl::call(this.file.as_fd(), &mut argument), argument.count)
        })
    }

    fn modify_types(&self, offset: u64, length: u64, page_type: u8) -> io::Result<()> {
        self.whole(offset, length, |this, offset, length| {
            let mut argument =
                ModifyTypes { offset, length, page_type: page_type.into(), result: 0, count: 0 };
            (ioctl::call(this.file.as_fd(), &mut argument), argument.count)
        })
    }

    fn remove_pages(&self, offset: u64, length: u64) -> io::Result<()> {
        self.whole(offset, length, |this, offset, length| {
            let mut argument = RemovePages { offset, length, count: 0 };
            (ioctl::call(this.file.as_fd(), &mut argument), argument.count)
        })
    }

    fn map_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if !fits || self.base + offset < self.range.start || permissions & !7 != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // R, W and X are the bits of PROT_READ, PROT_WRITE and PROT_EXEC.
        let protection = i32::try_from(permissions).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let start = pointer(self.base + offset)?;
        // SAFETY: the range is in the one that this enclave reserved; enclave pages survive their mapping.
        let got =
            unsafe { libc::mmap(start, self::length(length)?, protection, flags, self.file.as_raw_fd(), 0) };
        if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn prepare_thread(&self) -> io::Result<()> {
        enter::install_handler()
    }

    fn enter(&self, run: &mut EnclaveRun) -> Exit {
        // SAFETY: `function` was looked up under that name in the vDSO.
        unsafe { enter::enter(self.function, run) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_host_without_the_device_says_so() {
        if std::path::Path::new(ENCLAVE).exists() {
            return;
        }
        let error = LinuxSgx::new().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(ENCLAVE));
    }

    /// A range of 1 MiB that no other test of this process asks for: tests run in parallel in one address space.
    fn range() -> Range {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
        Range { start: NEXT.fetch_add(1 << 30, Ordering::Relaxed), len: 1 << 20 }
    }

    fn enclave() -> LinuxEnclave {
        let range = range();
        range.reserve().unwrap();
        LinuxEnclave {
            file: File::open("/dev/null").unwrap(),
            base: range.start,
            size: range.len,
            range,
            function: 0,
        }
    }

    #[test]
    fn an_ioctl_that_stops_in_between_goes_on_where_it_stopped() {
        let enclave = enclave();
        let mut calls = Vec::new();
        enclave
            .whole(0x1000, 0x5000, |_, offset, left| {
                calls.push((offset, left));
                match calls.len() {
                    1 => (Err(io::Error::from_raw_os_error(libc::EINTR)), 0x2000),
                    2 => (Err(io::Error::from_raw_os_error(libc::EAGAIN)), 0),
                    _ => (Ok(()), left),
                }
            })
            .unwrap();
        assert_eq!(calls, [(0x1000, 0x5000), (0x3000, 0x3000), (0x3000, 0x3000)]);
        let failed = enclave.whole(0, 0x1000, |_, _, _| (Err(io::Error::from_raw_os_error(libc::EPERM)), 0));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EPERM));
        let never = enclave.whole(0, 0x1000, |_, _, _| (Err(io::Error::from_raw_os_error(libc::EAGAIN)), 0));
        assert_eq!(never.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert!(enclave.whole(0, 0x1000, |_, _, _| (Ok(()), 0)).is_err(), "no progress is no success");
        assert!(enclave.whole(1 << 20, 0x1000, |_, _, _| (Ok(()), 0x1000)).is_err());
    }

    #[test]
    fn the_range_is_reserved_and_released() {
        let first = range();
        first.reserve().unwrap();
        let second = Range { start: first.start, len: first.len };
        assert_eq!(second.reserve().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        std::mem::forget(second);
        let (start, len) = (first.start, first.len);
        drop(first);
        let third = Range { start, len };
        third.reserve().unwrap();
    }

    #[test]
    fn mapping_stays_inside_the_enclave() {
        let enclave = enclave();
        for (offset, length, permissions) in
            [(1 << 20, 0x1000, 1), (0, 2 << 20, 1), (0, 0x1000, 8), (!0, 2, 1)]
        {
            let error = enclave.map_permissions(offset, length, permissions).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
