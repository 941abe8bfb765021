//! The interface of an SGX machine, in the shape of the Linux driver and vDSO.
//!
//! The untrusted runtime loads and runs an enclave through [`SgxDevice`] and [`SgxEnclave`] alone. One
//! implementation is software (`sgx-machine`); the other, [`LinuxSgx`], is `/dev/sgx_enclave` with
//! `__vdso_sgx_enter_enclave`, whose ioctls these methods mirror one by one, so that the loader above is one
//! piece of code.

mod linux;

pub use linux::LinuxSgx;

use sgx_arch::{Secinfo, Secs, Sigstruct};
use std::io;

/// A machine that can make enclaves.
pub trait SgxDevice: Send + Sync {
    /// What it is, for people: `software SGX` or `/dev/sgx_enclave`.
    fn name(&self) -> &'static str;

    /// The extended features (XCR0 bits) that enclaves may use.
    fn xfrm(&self) -> u64;

    /// ECREATE: reserves ELRANGE and makes the enclave.
    ///
    /// # Errors
    /// EINVAL the SECS is not acceptable; EBUSY or ENOMEM the range is not free.
    fn create(&self, secs: &Secs) -> io::Result<Box<dyn SgxEnclave>>;
}

/// An enclave of a machine. Offsets and lengths are in bytes from the base of ELRANGE, page-aligned.
pub trait SgxEnclave: Send + Sync {
    /// SGX_IOC_ENCLAVE_ADD_PAGES: EADD of every page of `source` (a multiple of the page size), with EEXTEND of
    /// all of it when `measure`.
    ///
    /// # Errors
    /// EINVAL out of range, unaligned, already added, bad SECINFO, or the enclave is initialized.
    fn add_pages(&self, source: &[u8], offset: u64, secinfo: &Secinfo, measure: bool) -> io::Result<()>;

    /// SGX_IOC_ENCLAVE_INIT: EINIT.
    ///
    /// # Errors
    /// EPERM the SIGSTRUCT does not verify or does not match the enclave (the message says which check);
    /// EINVAL it was initialized before.
    fn init(&self, sigstruct: &Sigstruct) -> io::Result<()>;

    /// SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS: EMODPR of a range; the enclave must EACCEPT each page after it.
    ///
    /// # Errors
    /// EINVAL out of range or not a valid page; EAGAIN a page is not accepted yet.
    fn restrict_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()>;

    /// SGX_IOC_ENCLAVE_MODIFY_TYPES: EMODT of a range to `PT_TRIM` or `PT_TCS`.
    ///
    /// # Errors
    /// As [`SgxEnclave::restrict_permissions`].
    fn modify_types(&self, offset: u64, length: u64, page_type: u8) -> io::Result<()>;

    /// SGX_IOC_ENCLAVE_REMOVE_PAGES: EREMOVE of trimmed and accepted pages.
    ///
    /// # Errors
    /// EPERM a page is not trimmed and accepted; EINVAL out of range.
    fn remove_pages(&self, offset: u64, length: u64) -> io::Result<()>;

    /// `mprotect(2)` of the enclave's mapping (page tables, not EPCM): an access needs both to allow it. The
    /// software machine also uses it as the hint that the range will be touched at once.
    ///
    /// # Errors
    /// EINVAL out of range; ENOMEM too many mappings.
    fn map_permissions(&self, offset: u64, length: u64, permissions: u64) -> io::Result<()>;

    /// Makes the calling thread able to enter (alternate stack, system call filter). Once per host thread;
    /// the thread must not return the stack it got.
    ///
    /// # Errors
    /// ENOMEM, or ENOSYS when the kernel lacks what the machine needs (the message says what).
    fn prepare_thread(&self) -> io::Result<()>;

    /// `__vdso_sgx_enter_enclave`: EENTER or ERESUME on a TCS, until EEXIT or an AEX.
    fn enter(&self, run: &mut EnclaveRun) -> Exit;
}

/// The leaf that [`SgxEnclave::enter`] starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Leaf {
    /// ENCLU\[EENTER\].
    Eenter = 2,
    /// ENCLU\[ERESUME\].
    Eresume = 3,
}

/// `struct sgx_enclave_run`, with the registers that the vDSO passes through.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EnclaveRun {
    /// Address of the TCS.
    pub tcs: u64,
    /// The leaf to execute.
    pub leaf: Leaf,
    /// RDI in and out.
    pub rdi: u64,
    /// RSI in and out.
    pub rsi: u64,
    /// RDX in and out.
    pub rdx: u64,
    /// R8 in and out.
    pub r8: u64,
    /// R9 in and out.
    pub r9: u64,
}

/// Why [`SgxEnclave::enter`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The enclave executed EEXIT; the registers of the [`EnclaveRun`] are its.
    Eexit,
    /// An exception caused an AEX. The details are for diagnosis; the enclave has its own in the SSA.
    Exception {
        /// The vector, as SDM vol. 3A table 6-1 numbers it.
        vector: u8,
        /// The error code of #PF, #GP, #AC.
        error_code: u16,
        /// The page of a #PF.
        address: u64,
    },
    /// A host signal for the enclave (signal 64) caused an AEX: the host enters on the same TCS to let the
    /// enclave look at what is pending, then ERESUMEs.
    Interrupt,
    /// EENTER or ERESUME itself failed, as with #GP for a busy TCS or #PF for a missing one.
    Failed,
}
