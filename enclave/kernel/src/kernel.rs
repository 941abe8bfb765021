//! The kernel: what there is once.

use crate::fs::{FileTable, Mounts};
use crate::futex::FutexTable;
use crate::ipc::Ipc;
use crate::net::inet::Inet;
use crate::net::inet::readiness::HostSockets;
use crate::net::unix::UnixDomain;
use crate::process::{ProcessTable, vdso_file};
use crate::stats::Statistics;
use crate::vm::{AddressSpace, Backend, MappedFile};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boot_config::BootConfig;
use kbase::Result;
use platform::{Level, Platform};

/// A host folder that the host asks to be mounted (`occlum try`).
#[derive(Clone, Debug)]
pub struct HostMount {
    /// Absolute path on the host.
    pub host: Vec<u8>,
    /// Absolute path in the enclave.
    pub guest: Vec<u8>,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// A small file whose content the host gives at start (`/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`).
#[derive(Clone, Debug)]
pub struct HostFile {
    /// Absolute path in the enclave.
    pub path: Vec<u8>,
    /// Content, untrusted.
    pub content: Vec<u8>,
}

/// What the host adds to the measured configuration at start. All of it is untrusted.
#[derive(Clone, Debug, Default)]
pub struct BootExtra {
    /// Mounts; refused unless the configuration allows them.
    pub mounts: Vec<HostMount>,
    /// Files.
    pub files: Vec<HostFile>,
}

/// The LibOS.
pub struct Kernel {
    platform: Arc<dyn Platform>,
    config: BootConfig,
    pub(crate) mounts: Mounts,
    pub(crate) processes: ProcessTable,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) memory: Arc<Backend>,
    pub(crate) futexes: FutexTable,
    pub(crate) ipc: Ipc,
    pub(crate) host_sockets: Arc<HostSockets>,
    pub(crate) inet: Arc<Inet>,
    pub(crate) unix: Arc<UnixDomain>,
    /// Memory and descriptors of processes that have ended.
    pub(crate) nothing: (Arc<AddressSpace>, Arc<FileTable>),
    /// The vDSO, if there is one.
    pub(crate) vdso: Option<Arc<MappedFile>>,
    /// Whether decoded system calls are wanted, by `--strace` or by the log level.
    pub(crate) traces_calls: bool,
}

impl Kernel {
    /// Starts a kernel: mounts its file systems.
    ///
    /// # Errors
    /// EIO the image cannot be read or is not the measured one; EINVAL the configuration makes no sense;
    /// EPERM the host asks for mounts that the configuration does not allow; ENOMEM.
    pub fn boot(platform: Arc<dyn Platform>, config: BootConfig, extra: BootExtra) -> Result<Arc<Self>> {
        if !extra.mounts.is_empty() && !config.allow_host_mounts {
            kbase::bail!(EPERM, "the configuration does not allow mounts by the host");
        }
        let mounts = Mounts::boot(&platform, &config, &extra)?;
        let statistics = Arc::new(Statistics::new());
        let host_sockets = Arc::new(HostSockets::new(config.io_uring));
        let memory = Arc::new(Backend::new(
            platform.clone(),
            statistics.clone(),
            mounts.shared().windows.clone(),
            config.limits.kernel_heap_max / 2,
        ));
        let kernel = Arc::new(Self {
            nothing: (memory.new_space(), Arc::new(FileTable::new(mounts.shared()))),
            memory,
            futexes: FutexTable::new(),
            ipc: Ipc::new(),
            inet: Arc::new(Inet::new(mounts.shared(), &host_sockets, &config.network)),
            host_sockets,
            unix: Arc::new(UnixDomain::new(&platform)),
            vdso: vdso_file(&*platform),
            traces_calls: platform.wants_strace() || platform.level() >= Some(Level::Trace),
            platform,
            config,
            mounts,
            processes: ProcessTable::new(),
            statistics,
        });
        kernel.mounts.bind(&kernel);
        let limits = kernel.config.limits;
        kernel.log(
            Level::Info,
            format_args!(
                "the LibOS has started: at most {} MiB for programs, {} MiB for itself, {} threads",
                limits.user_space_max >> 20,
                limits.kernel_heap_max >> 20,
                limits.max_threads
            ),
        );
        Ok(kernel)
    }

    /// What is below.
    #[must_use]
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    /// The measured configuration.
    #[must_use]
    pub fn config(&self) -> &BootConfig {
        &self.config
    }

    /// The counters as text, one `name value` line each.
    #[must_use]
    pub fn statistics(&self) -> String {
        let mut report = String::new();
        // Writing to a string cannot fail.
        let _ = self.statistics.report(&mut report);
        let _ = self.host_sockets.report(&mut report);
        report
    }

    /// Logs a line if its level is wanted.
    pub(crate) fn log(&self, level: Level, line: core::fmt::Arguments<'_>) {
        if self.platform.level().is_some_and(|wanted| level <= wanted) {
            self.platform.log(level, line);
        }
    }
}
