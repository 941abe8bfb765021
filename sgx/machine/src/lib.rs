//! Software SGX in the address space of the process.
//!
//! The contract of the instruction set, as Intel's SDM vol. 3D writes it, performed by the host program on
//! itself: the same enclave image runs here and on a processor. It protects nothing: whoever owns the process
//! sees everything. What it gives is development and tests anywhere, and the same behaviour.
//!
//! * `pages`: ELRANGE, and the EPCM of `sgx-model` turned into host protections.
//! * `enclave`, `tcs`: the leaves of the supervisor, threads, entering.
//! * `entry`: EENTER, ERESUME, EEXIT in assembly. `thread`: the state they use.
//! * `signal`, `aex`: host signals become asynchronous exits.
//! * `leaf`, `patch`: the leaves of the user, by trap and by jump.
//! * `filter`: `syscall` in the enclave traps.
//! * `secret`: what makes this machine another than the next.
//!
//! # Where it is not the processor
//!
//! * The host and the enclave can touch each other's memory: nothing keeps the host out, and a program in the
//!   enclave that jumps out of ELRANGE runs what it finds there. `cpuid` and the segment instructions work.
//! * A page that the enclave may execute is readable too.
//! * A stack fault, which the processor hides from the enclave, is reported as #GP.
//! * Patched `enclu` sites hold other bytes than were measured.
//! * Pages are not evicted, so the leaves for that (EBLOCK, EWB, ELDU, ETRACK) do not exist; neither do EDECCSSA,
//!   CET, AEX-Notify and debug accesses.
//! * ECREATE takes any signer: launch control is open, as Linux wants it.

mod aex;
mod enclave;
mod entry;
mod filter;
mod leaf;
mod memory;
mod pages;
mod patch;
mod secret;
mod signal;
mod tcs;
mod thread;
mod xsave;

use enclave::SoftwareEnclave;
use sgx_arch::Secs;
use sgx_device::{SgxDevice, SgxEnclave};
use sgx_model::keys::Root;
use std::io;

/// The software machine.
pub struct SoftwareSgx {
    root: Root,
}

impl SoftwareSgx {
    /// The machine of this host and user: its secret is in the user's state folder.
    ///
    /// # Errors
    /// ENOSYS the processor or the kernel lacks what the machine needs; errors of reading or making the secret.
    /// The message says what.
    pub fn new() -> io::Result<Self> {
        require_host()?;
        Ok(Self { root: Root::new(&secret::load()?) })
    }

    /// The machine that a secret makes: enclaves get the same keys wherever the secret is the same.
    ///
    /// # Errors
    /// ENOSYS as for [`SoftwareSgx::new`].
    pub fn with_secret(secret: &[u8; 32]) -> io::Result<Self> {
        require_host()?;
        Ok(Self { root: Root::new(secret) })
    }
}

impl SgxDevice for SoftwareSgx {
    fn name(&self) -> &'static str {
        "software SGX"
    }

    fn xfrm(&self) -> u64 {
        xsave::offered()
    }

    fn create(&self, secs: &Secs) -> io::Result<Box<dyn SgxEnclave>> {
        Ok(Box::new(SoftwareEnclave::create(secs, self.root.clone())?))
    }
}

/// Checks what the machine stands on.
fn require_host() -> io::Result<()> {
    const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;
    // SAFETY: reads the auxiliary vector.
    let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    if hwcap2 & HWCAP2_FSGSBASE == 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "software SGX needs the FSGSBASE instructions: a processor since 2012 and Linux 5.9 or later",
        ));
    }
    if xsave::offered() & 3 != 3 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "software SGX needs XSAVE, which is disabled",
        ));
    }
    Ok(())
}
