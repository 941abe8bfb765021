//! Files of the kernel: mounts, path walk, descriptors.

use crate::kernel::{BootExtra, Kernel};
use crate::syscall::Fd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boot_config::BootConfig;
use kbase::{Result, bail};
use platform::{HostFd, Platform};
use vfs::Regular;

/// The file systems of the enclave and where they are mounted.
pub(crate) struct Mounts {}

impl Mounts {
    /// Mounts what the configuration says, then what the host adds where that is allowed.
    ///
    /// # Errors
    /// EIO the image is corrupt; EINVAL a mount point is wrong.
    pub(crate) fn boot(
        _platform: &Arc<dyn Platform>,
        _config: &BootConfig,
        _extra: &BootExtra,
    ) -> Result<Self> {
        Ok(Self {})
    }
}

/// The descriptors of a process (shared with CLONE_FILES).
pub(crate) struct FileTable {}

impl FileTable {
    /// A table with the three standard descriptors on host descriptors.
    pub(crate) fn with_stdio(_kernel: &Kernel, _stdio: [Option<HostFd>; 3]) -> Result<Self> {
        Ok(Self {})
    }

    /// A copy for a forked child.
    #[expect(dead_code, reason = "clone comes with the next milestone")]
    pub(crate) fn fork(&self) -> Self {
        Self {}
    }

    /// Closes what is marked close-on-exec.
    pub(crate) fn close_on_exec(&self) {}

    /// Closes everything: the process ends.
    pub(crate) fn close_all(&self) {}

    /// What `mmap(2)` maps for a descriptor.
    ///
    /// # Errors
    /// EBADF no such descriptor; ENODEV it cannot be mapped.
    pub(crate) fn mappable(&self, _fd: Fd) -> Result<Mappable> {
        bail!(EBADF, "no such descriptor")
    }
}

/// Working directory, root and umask of a process (shared with CLONE_FS).
pub(crate) struct FsContext {}

impl FsContext {
    /// A context with a working directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR as for `chdir(2)`.
    pub(crate) fn at(_kernel: &Kernel, _cwd: &[u8]) -> Result<Self> {
        Ok(Self {})
    }

    /// A copy for a forked child.
    #[expect(dead_code, reason = "clone comes with the next milestone")]
    pub(crate) fn fork(&self) -> Self {
        Self {}
    }
}

/// A file that can be mapped.
pub(crate) struct Mappable {
    /// The file.
    pub(crate) file: Arc<dyn Regular>,
    /// Whether the descriptor is open for reading.
    pub(crate) readable: bool,
    /// Whether the descriptor is open for writing.
    pub(crate) writable: bool,
    /// Its path, for `/proc/self/maps`; may be empty.
    pub(crate) path: Vec<u8>,
}

/// A program file.
pub(crate) struct Executable {
    /// The file.
    pub(crate) file: Arc<dyn Regular>,
    /// Its absolute path, links resolved, for `/proc/self/exe`.
    pub(crate) path: Vec<u8>,
}

/// Opens a program file for `execve(2)`, from the context's working directory.
///
/// # Errors
/// ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG of the path walk; EACCES not a regular file, or no execute permission.
pub(crate) fn open_executable(_kernel: &Kernel, _context: &FsContext, _path: &[u8]) -> Result<Executable> {
    bail!(ENOENT, "no such program")
}
