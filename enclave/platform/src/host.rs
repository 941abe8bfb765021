//! Host files: descriptors, folders, terminals. All content and all metadata from here is untrusted.

use linux_abi::Errno;

/// A host call failed with an errno of the errno table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError(pub Errno);

/// Result of a host call.
pub type HostResult<T> = Result<T, HostError>;

/// A descriptor of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostFd(pub i32);

/// What the host says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits (`S_IFMT` and below).
    pub mode: u32,
    /// Links.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred I/O size.
    pub blksize: u32,
    /// Access time, ns since the epoch.
    pub atime_ns: i64,
    /// Modification time, ns since the epoch.
    pub mtime_ns: i64,
    /// Change time, ns since the epoch.
    pub ctime_ns: i64,
}

/// What the host says of a file system (`statfs(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStatFs {
    /// Block size in bytes.
    pub block_size: u64,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Blocks free to ordinary users.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// A time for [`HostFiles::set_times`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSetting {
    /// Leave it.
    Keep,
    /// The host's current time.
    Now,
    /// Nanoseconds since the epoch.
    At(i64),
}

/// A part of a folder: raw `linux_dirent64` records, which the caller parses with suspicion.
pub type DirectoryRead = usize;

/// Events of `poll(2)` (POLLIN, POLLOUT, POLLERR, POLLHUP … bits).
pub type PollEvents = u16;

/// One row of [`HostFiles::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPoll {
    /// Descriptor.
    pub fd: HostFd,
    /// Wanted.
    pub events: PollEvents,
    /// Found.
    pub revents: PollEvents,
}

/// Calls on host files. Names are single components without `/` unless the method says path. Flags and modes
/// have the bits of the Linux call of the same name. Each can fail with whatever the Linux call can.
#[allow(clippy::missing_errors_doc, reason = "the errors are those of the Linux call, stated once above")]
pub trait HostFiles {
    /// Opens an absolute host path that a measured setting or the operator named (`open(2)`).
    fn host_open_path(&self, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd>;

    /// `openat(2)` of one component, or of several one below the other, joined by `/`. The host adds O_CLOEXEC and follows no link.
    fn host_open_at(&self, dir: HostFd, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd>;

    /// Closes a descriptor.
    fn host_close(&self, fd: HostFd);

    /// `read(2)`; blocks if the descriptor does.
    fn host_read(&self, fd: HostFd, into: &mut [u8]) -> HostResult<usize>;

    /// `write(2)`; blocks if the descriptor does.
    fn host_write(&self, fd: HostFd, from: &[u8]) -> HostResult<usize>;

    /// `pread(2)`.
    fn host_read_at(&self, fd: HostFd, offset: u64, into: &mut [u8]) -> HostResult<usize>;

    /// `pwrite(2)`.
    fn host_write_at(&self, fd: HostFd, offset: u64, from: &[u8]) -> HostResult<usize>;

    /// `lseek(2)` with SEEK_SET, SEEK_CUR or SEEK_END.
    fn host_seek(&self, fd: HostFd, offset: i64, whence: u32) -> HostResult<u64>;

    /// `fstat(2)`.
    fn host_stat(&self, fd: HostFd) -> HostResult<HostStat>;

    /// Attributes of what is at a path as [`Self::host_open_at`] takes it; if flags are given, and it is a regular file, a descriptor of it
    /// too. `None`: it cannot be opened so. It may be another file by then than the one that the attributes are of. ENOENT: all of the
    /// path but the last name are folders; ELOOP: they are not.
    fn host_look_up(
        &self,
        dir: HostFd,
        path: &[u8],
        flags: Option<u32>,
    ) -> HostResult<(HostStat, Option<HostFd>)>;

    /// `fstatat(2)` with AT_SYMLINK_NOFOLLOW.
    fn host_stat_at(&self, dir: HostFd, name: &[u8]) -> HostResult<HostStat> {
        self.host_look_up(dir, name, None).map(|(stat, _)| stat)
    }

    /// `fstatfs(2)`.
    fn host_statfs(&self, fd: HostFd) -> HostResult<HostStatFs>;

    /// `getdents64(2)`; 0 at the end.
    fn host_read_directory(&self, fd: HostFd, into: &mut [u8]) -> HostResult<DirectoryRead>;

    /// `readlinkat(2)`; the length may equal that of `into` when the target was cut.
    fn host_read_link_at(&self, dir: HostFd, name: &[u8], into: &mut [u8]) -> HostResult<usize>;

    /// `mkdirat(2)`.
    fn host_mkdir_at(&self, dir: HostFd, name: &[u8], mode: u32) -> HostResult<()>;

    /// `unlinkat(2)`.
    fn host_unlink_at(&self, dir: HostFd, name: &[u8], flags: u32) -> HostResult<()>;

    /// `renameat2(2)`.
    fn host_rename_at(
        &self,
        from_dir: HostFd,
        from: &[u8],
        to_dir: HostFd,
        to: &[u8],
        flags: u32,
    ) -> HostResult<()>;

    /// `symlinkat(2)`.
    fn host_symlink_at(&self, target: &[u8], dir: HostFd, name: &[u8]) -> HostResult<()>;

    /// `linkat(2)`.
    fn host_link_at(&self, from_dir: HostFd, from: &[u8], to_dir: HostFd, to: &[u8]) -> HostResult<()>;

    /// `ftruncate(2)`.
    fn host_truncate(&self, fd: HostFd, size: u64) -> HostResult<()>;

    /// `fallocate(2)`.
    fn host_allocate(&self, fd: HostFd, mode: u32, offset: u64, len: u64) -> HostResult<()>;

    /// `fchmod(2)`.
    fn host_chmod(&self, fd: HostFd, mode: u32) -> HostResult<()>;

    /// `futimens(2)`.
    fn host_set_times(&self, fd: HostFd, atime: TimeSetting, mtime: TimeSetting) -> HostResult<()>;

    /// `fsync(2)` or `fdatasync(2)`.
    fn host_sync(&self, fd: HostFd, data_only: bool) -> HostResult<()>;

    /// `fcntl(2)` F_GETFL, then F_SETFL when `set` is given: returns the flags.
    fn host_status_flags(&self, fd: HostFd, set: Option<u32>) -> HostResult<u32>;

    /// `ioctl(2)` on a terminal or pipe with an argument of at most 64 bytes that is copied in and out. The
    /// runtime passes only TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, TIOCSWINSZ, FIONREAD, SIOCOUTQ, SIOCATMARK, TIOCGPGRP
    /// and refuses others with ENOTTY.
    fn host_ioctl(&self, fd: HostFd, request: u32, argument: &mut [u8]) -> HostResult<u32>;

    /// `ppoll(2)`; ends early when the calling thread is unparked or interrupted. `deadline_ns` is a time of
    /// [`crate::Clocks::monotonic_ns`]; a deadline of 0 asks without waiting. Returns the number of rows with events.
    fn host_poll(&self, rows: &mut [HostPoll], deadline_ns: Option<u64>) -> HostResult<usize>;
}
