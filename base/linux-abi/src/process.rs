//! Processes: wait statuses, limits, usage, names, futexes, the auxiliary vector.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A wait status: the process called `exit` with the low 8 bits of `code`.
#[must_use]
pub const fn status_exited(code: i32) -> i32 {
    (code & 0xff) << 8
}

/// A wait status: the process was killed by a signal.
#[must_use]
pub const fn status_killed(signal: i32, dumped_core: bool) -> i32 {
    signal & 0x7f | if dumped_core { 0x80 } else { 0 }
}

/// A wait status: the process was stopped by a signal.
#[must_use]
pub const fn status_stopped(signal: i32) -> i32 {
    (signal & 0xff) << 8 | 0x7f
}

/// A wait status: the process was continued.
pub const STATUS_CONTINUED: i32 = 0xffff;

bitflags! {
    /// `options` of `wait4(2)` and `waitid(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// WNOHANG.
        const NOHANG = 1;
        /// WUNTRACED, WSTOPPED.
        const UNTRACED = 2;
        /// WEXITED.
        const EXITED = 4;
        /// WCONTINUED.
        const CONTINUED = 8;
        /// WNOWAIT.
        const NOWAIT = 0x0100_0000;
        /// __WNOTHREAD.
        const NOTHREAD = 0x2000_0000;
        /// __WALL.
        const ALL = 0x4000_0000;
        /// __WCLONE.
        const CLONE = 0x8000_0000;
    }

    /// Flags of `clone(2)`, without the exit signal.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// CLONE_VM.
        const VM = 0x100;
        /// CLONE_FS.
        const FS = 0x200;
        /// CLONE_FILES.
        const FILES = 0x400;
        /// CLONE_SIGHAND.
        const SIGHAND = 0x800;
        /// CLONE_PIDFD.
        const PIDFD = 0x1000;
        /// CLONE_PTRACE.
        const PTRACE = 0x2000;
        /// CLONE_VFORK.
        const VFORK = 0x4000;
        /// CLONE_PARENT.
        const PARENT = 0x8000;
        /// CLONE_THREAD.
        const THREAD = 0x1_0000;
        /// CLONE_NEWNS.
        const NEWNS = 0x2_0000;
        /// CLONE_SYSVSEM.
        const SYSVSEM = 0x4_0000;
        /// CLONE_SETTLS.
        const SETTLS = 0x8_0000;
        /// CLONE_PARENT_SETTID.
        const PARENT_SETTID = 0x10_0000;
        /// CLONE_CHILD_CLEARTID.
        const CHILD_CLEARTID = 0x20_0000;
        /// CLONE_DETACHED: ignored.
        const DETACHED = 0x40_0000;
        /// CLONE_UNTRACED: ignored.
        const UNTRACED = 0x80_0000;
        /// CLONE_CHILD_SETTID.
        const CHILD_SETTID = 0x100_0000;
        /// CLONE_NEWCGROUP.
        const NEWCGROUP = 0x200_0000;
        /// CLONE_NEWUTS.
        const NEWUTS = 0x400_0000;
        /// CLONE_NEWIPC.
        const NEWIPC = 0x800_0000;
        /// CLONE_NEWUSER.
        const NEWUSER = 0x1000_0000;
        /// CLONE_NEWPID.
        const NEWPID = 0x2000_0000;
        /// CLONE_NEWNET.
        const NEWNET = 0x4000_0000;
        /// CLONE_IO: ignored.
        const IO = 0x8000_0000;
        /// CLONE_CLEAR_SIGHAND (clone3 only).
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// `struct new_utsname`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Utsname {
    /// Operating system.
    pub sysname: [u8; 65],
    /// Host name.
    pub nodename: [u8; 65],
    /// Release.
    pub release: [u8; 65],
    /// Version.
    pub version: [u8; 65],
    /// Architecture.
    pub machine: [u8; 65],
    /// Domain name.
    pub domainname: [u8; 65],
}

/// `struct rlimit64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rlimit {
    /// Soft limit.
    pub rlim_cur: u64,
    /// Hard limit.
    pub rlim_max: u64,
}

/// RLIM64_INFINITY.
pub const RLIM_INFINITY: u64 = u64::MAX;

/// Number of resources.
pub const RLIM_NLIMITS: usize = 16;

/// Resources of `getrlimit(2)`.
pub mod resource {
    /// RLIMIT_CPU, seconds.
    pub const CPU: usize = 0;
    /// RLIMIT_FSIZE, bytes.
    pub const FSIZE: usize = 1;
    /// RLIMIT_DATA, bytes.
    pub const DATA: usize = 2;
    /// RLIMIT_STACK, bytes.
    pub const STACK: usize = 3;
    /// RLIMIT_CORE, bytes.
    pub const CORE: usize = 4;
    /// RLIMIT_RSS, bytes.
    pub const RSS: usize = 5;
    /// RLIMIT_NPROC.
    pub const NPROC: usize = 6;
    /// RLIMIT_NOFILE.
    pub const NOFILE: usize = 7;
    /// RLIMIT_MEMLOCK, bytes.
    pub const MEMLOCK: usize = 8;
    /// RLIMIT_AS, bytes.
    pub const AS: usize = 9;
    /// RLIMIT_SIGPENDING.
    pub const SIGPENDING: usize = 11;
    /// RLIMIT_MSGQUEUE, bytes.
    pub const MSGQUEUE: usize = 12;
    /// RLIMIT_NICE.
    pub const NICE: usize = 13;
    /// RLIMIT_RTPRIO.
    pub const RTPRIO: usize = 14;
}

/// `struct rusage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rusage {
    /// User time.
    pub ru_utime: crate::time::Timeval,
    /// System time.
    pub ru_stime: crate::time::Timeval,
    /// Largest resident set, KiB.
    pub ru_maxrss: i64,
    /// Unused.
    pub ru_ixrss: i64,
    /// Unused.
    pub ru_idrss: i64,
    /// Unused.
    pub ru_isrss: i64,
    /// Page faults without I/O.
    pub ru_minflt: i64,
    /// Page faults with I/O.
    pub ru_majflt: i64,
    /// Unused.
    pub ru_nswap: i64,
    /// Blocks read.
    pub ru_inblock: i64,
    /// Blocks written.
    pub ru_oublock: i64,
    /// Unused.
    pub ru_msgsnd: i64,
    /// Unused.
    pub ru_msgrcv: i64,
    /// Unused.
    pub ru_nsignals: i64,
    /// Voluntary context switches.
    pub ru_nvcsw: i64,
    /// Involuntary context switches.
    pub ru_nivcsw: i64,
}

/// `struct sysinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sysinfo {
    /// Seconds since boot.
    pub uptime: i64,
    /// Load averages, 16-bit fixed point.
    pub loads: [u64; 3],
    /// Bytes of memory.
    pub totalram: u64,
    /// Bytes free.
    pub freeram: u64,
    /// Bytes shared.
    pub sharedram: u64,
    /// Bytes in buffers.
    pub bufferram: u64,
    /// Bytes of swap.
    pub totalswap: u64,
    /// Bytes of swap free.
    pub freeswap: u64,
    /// Processes.
    pub procs: u16,
    /// Padding.
    pub pad: u16,
    /// Padding.
    pub pad2: u32,
    /// Bytes of high memory.
    pub totalhigh: u64,
    /// Bytes of high memory free.
    pub freehigh: u64,
    /// Unit of the above.
    pub mem_unit: u32,
    /// Padding.
    pub pad3: u32,
}

const _: () = assert!(size_of::<Sysinfo>() == 112);
const _: () = assert!(size_of::<Rusage>() == 144);
const _: () = assert!(size_of::<Utsname>() == 390);

/// Operations of `futex(2)`.
pub mod futex {
    /// FUTEX_WAIT.
    pub const WAIT: u32 = 0;
    /// FUTEX_WAKE.
    pub const WAKE: u32 = 1;
    /// FUTEX_REQUEUE.
    pub const REQUEUE: u32 = 3;
    /// FUTEX_CMP_REQUEUE.
    pub const CMP_REQUEUE: u32 = 4;
    /// FUTEX_WAKE_OP.
    pub const WAKE_OP: u32 = 5;
    /// FUTEX_LOCK_PI.
    pub const LOCK_PI: u32 = 6;
    /// FUTEX_UNLOCK_PI.
    pub const UNLOCK_PI: u32 = 7;
    /// FUTEX_TRYLOCK_PI.
    pub const TRYLOCK_PI: u32 = 8;
    /// FUTEX_WAIT_BITSET.
    pub const WAIT_BITSET: u32 = 9;
    /// FUTEX_WAKE_BITSET.
    pub const WAKE_BITSET: u32 = 10;
    /// FUTEX_WAIT_REQUEUE_PI.
    pub const WAIT_REQUEUE_PI: u32 = 11;
    /// FUTEX_CMP_REQUEUE_PI.
    pub const CMP_REQUEUE_PI: u32 = 12;
    /// FUTEX_LOCK_PI2: FUTEX_LOCK_PI with a clock to choose.
    pub const LOCK_PI2: u32 = 13;
    /// FUTEX2_SIZE_U32.
    pub const SIZE_U32: u32 = 2;
    /// FUTEX_PRIVATE_FLAG.
    pub const PRIVATE_FLAG: u32 = 128;
    /// FUTEX_CLOCK_REALTIME.
    pub const CLOCK_REALTIME: u32 = 256;
    /// Bits without the flags.
    pub const CMD_MASK: u32 = !(PRIVATE_FLAG | CLOCK_REALTIME);
    /// FUTEX_BITSET_MATCH_ANY.
    pub const BITSET_MATCH_ANY: u32 = u32::MAX;
    /// FUTEX_WAITERS: in a futex word, somebody waits in the kernel.
    pub const WAITERS: u32 = 0x8000_0000;
    /// FUTEX_OWNER_DIED: in a futex word, the owner ended.
    pub const OWNER_DIED: u32 = 0x4000_0000;
    /// FUTEX_TID_MASK: in a futex word, the owner.
    pub const TID_MASK: u32 = 0x3fff_ffff;
}

/// Types of entries of the auxiliary vector (`getauxval(3)`).
pub mod auxv {
    /// AT_NULL: end.
    pub const NULL: u64 = 0;
    /// AT_PHDR: address of the program headers.
    pub const PHDR: u64 = 3;
    /// AT_PHENT: bytes in one.
    pub const PHENT: u64 = 4;
    /// AT_PHNUM: their number.
    pub const PHNUM: u64 = 5;
    /// AT_PAGESZ.
    pub const PAGESZ: u64 = 6;
    /// AT_BASE: where the interpreter is.
    pub const BASE: u64 = 7;
    /// AT_FLAGS.
    pub const FLAGS: u64 = 8;
    /// AT_ENTRY: entry of the program.
    pub const ENTRY: u64 = 9;
    /// AT_UID.
    pub const UID: u64 = 11;
    /// AT_EUID.
    pub const EUID: u64 = 12;
    /// AT_GID.
    pub const GID: u64 = 13;
    /// AT_EGID.
    pub const EGID: u64 = 14;
    /// AT_PLATFORM: address of a string.
    pub const PLATFORM: u64 = 15;
    /// AT_HWCAP: EDX of CPUID leaf 1.
    pub const HWCAP: u64 = 16;
    /// AT_CLKTCK.
    pub const CLKTCK: u64 = 17;
    /// AT_SECURE.
    pub const SECURE: u64 = 23;
    /// AT_RANDOM: address of 16 random bytes.
    pub const RANDOM: u64 = 25;
    /// AT_HWCAP2.
    pub const HWCAP2: u64 = 26;
    /// AT_EXECFN: address of the path of the program.
    pub const EXECFN: u64 = 31;
    /// AT_SYSINFO_EHDR: address of the vDSO.
    pub const SYSINFO_EHDR: u64 = 33;
    /// AT_MINSIGSTKSZ: least bytes that a signal frame takes.
    pub const MINSIGSTKSZ: u64 = 51;
}
