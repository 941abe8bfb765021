//! ECALLs: what the host may ask of the enclave.
//!
//! The host enters with EENTER on a free TCS, RDI = the [`Ecall`] number and RSI = the address of an
//! [`crate::ocall::EdgeFrame`] outside ELRANGE that stays with this thread for as long as the call lasts.
//! The arguments are in `frame.args`. When the call ends, the enclave stores the result in `frame.result` as
//! Linux does (a value, or the negated errno) and leaves with RDI = [`EXIT_DONE`]. When the enclave asks for
//! something instead, it leaves with RDI = [`EXIT_OCALL`]; the host serves it and enters with
//! RDI = [`ENTER_OCALL_RETURN`] and RDX = 0, or 1 if it would have interrupted the thread in the meantime: an interrupt of a thread
//! that is outside is not seen inside.

/// RDI at EENTER: the host returns from an OCALL.
pub const ENTER_OCALL_RETURN: u64 = 0x4f43_5245;
/// RDI at EEXIT: the ECALL is done.
pub const EXIT_DONE: u64 = 0;
/// RDI at EEXIT: the frame holds an OCALL.
pub const EXIT_OCALL: u64 = 1;
/// RDI at EEXIT: the exception handler is done; the host continues with ERESUME.
pub const EXIT_RESUME: u64 = 2;
/// RDI at EEXIT: the enclave gave up. The frame's `args` may hold a message (debug enclaves only).
pub const EXIT_ABORT: u64 = 3;

/// Numbers of the ECALLs.
///
/// Any call, in this order: where the frame is not wholly outside ELRANGE, nothing is done and nobody is told; EFAULT the buffer
/// beside it is not, or is shorter than [`crate::ocall::BUFFER_LEN`]; ENOSYS there is no such call. `host/occlum/tests/ecalls.rs`
/// asks for every errno that is listed here but ENOMEM of Init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Ecall {
    /// Starts the LibOS. Once, before anything else.
    ///
    /// `args[0]` is the address of an [`InitArgs`] outside ELRANGE.
    ///
    /// Errors: EALREADY it was started, or failed after its arguments had been found good; EPROTO the
    /// [`crate::EDGE_VERSION`] differs; EFAULT a pointer is not wholly outside ELRANGE; E2BIG `mounts` or `host_files` is larger
    /// than 1 MiB; EINVAL the CPUID table has more rows than there are leaves, or the measured configuration cannot be decoded;
    /// EPERM there are mounts, and the measured configuration allows none; EIO the image file system cannot be read or does not
    /// match its measured root hash; ENOMEM the heap is exhausted.
    Init = 1,
    /// Creates a process that is ready to run.
    ///
    /// `args[0]` is the address of a [`ProcessArgs`]. Returns the pid.
    ///
    /// Errors: EAGAIN the LibOS is not started, or the programs have all the threads that they may; EFAULT a pointer is not
    /// wholly outside ELRANGE; E2BIG arguments and environment are larger than 2 MiB or a quarter of the stack, one of them is
    /// larger than 128 KiB, or a path than 4 KiB; EINVAL the path is empty or relative; EACCES not below an entry point, or not
    /// an executable file; ENOENT no such file, interpreter or working directory; ENOTDIR, ELOOP, ENAMETOOLONG as for
    /// `open(2)`; ENOEXEC not an x86-64 ELF file or script; ENOMEM it does not fit; EIO the image is corrupt.
    NewProcess = 2,
    /// Runs thread `args[0]` (a tid) on this host thread until it ends. For the first thread of a process
    /// the result is its wait status (`wait(2)` encoding), for others 0.
    ///
    /// Errors: EAGAIN not started; ESRCH no such thread, or it runs already or has run.
    RunThread = 3,
    /// Sends signal `args[1]` to process `args[0]` (-1: all).
    ///
    /// Errors: EAGAIN not started; EINVAL no such signal (0 is none), or a pid that is neither -1 nor positive; EPERM a signal
    /// other than SIGKILL, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT or SIGWINCH; ESRCH no such process.
    Kill = 4,
    /// Writes a report of counters as text into the buffer beside the frame and returns its length (debug enclaves).
    ///
    /// Errors: EAGAIN not started; EPERM a release enclave tells nothing.
    Statistics = 5,
    /// Takes what is in the readiness ring: a socket that is watched at once ([`crate::readiness::AT_ONCE`]) has become ready.
    ///
    /// Errors: EAGAIN not started.
    Ready = 6,
}

impl Ecall {
    /// The call of a number from outside.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Init),
            2 => Some(Self::NewProcess),
            3 => Some(Self::RunThread),
            4 => Some(Self::Kill),
            5 => Some(Self::Statistics),
            6 => Some(Self::Ready),
            _ => None,
        }
    }
}

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A byte range outside ELRANGE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HostRange {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

/// Log levels of [`InitArgs::log_level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Nothing.
    Off = 0,
    /// Something failed.
    Error = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// Milestones.
    Info = 3,
    /// What the LibOS decides.
    Debug = 4,
    /// Every system call.
    Trace = 5,
}

/// Arguments of [`Ecall::Init`]. Everything in it is untrusted.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InitArgs {
    /// [`crate::EDGE_VERSION`] of the host.
    pub version: u32,
    /// A [`LogLevel`]; ignored by a release enclave.
    pub log_level: u32,
    /// The image file, mapped read-only in host memory.
    pub image: HostRange,
    /// TSC ticks per second as the host believes, or 0.
    pub tsc_hz: u64,
    /// Online CPUs.
    pub cpus: u32,
    /// 1: print decoded system calls through the log channel (debug enclaves only).
    pub strace: u32,
    /// Physical memory of the host in bytes, for /proc/meminfo.
    pub host_memory: u64,
    /// 1 if `rdtsc` is legal on this machine (SGX2, or software).
    pub has_rdtsc: u32,
    /// 1 if [`crate::ocall::Ocall::MapPermissions`] after adding pages saves faults (the software machine).
    pub map_hint: u32,
    /// Host folders for hostfs: `\0`-separated `HOST\0GUEST\0MODE\0` triples, or empty (only `try` uses it;
    /// whether it is honoured is a measured setting).
    pub mounts: HostRange,
    /// Strings of CPUID: an array of [`CpuidEntry`].
    pub cpuid: HostRange,
    /// Host name, `/etc/resolv.conf` and `/etc/hosts` are taken from here: `NAME\0CONTENT\0…`, or empty.
    pub host_files: HostRange,
}

/// One row of the CPUID table that the host measured for the enclave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuidEntry {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// Arguments of [`Ecall::NewProcess`]. Everything in it is untrusted.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessArgs {
    /// Path of the program in the enclave.
    pub path: HostRange,
    /// Arguments, each ended by `\0`.
    pub argv: HostRange,
    /// Environment offered by the host, each ended by `\0`; the measured rules decide what passes.
    pub envp: HostRange,
    /// Host descriptors of stdin, stdout and stderr (-1: none).
    pub stdio: [i32; 3],
    /// Unused, zero.
    pub reserved: u32,
    /// Working directory in the enclave, or empty for `/`.
    pub cwd: HostRange,
}
