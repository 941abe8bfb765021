//! Files: flags, commands and wire structures of `open(2)`, `fcntl(2)`, `stat(2)`, `poll(2)` and their families.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// Flags of `open(2)`, without the access mode (see [`O_ACCMODE`]).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// O_WRONLY, one of the access modes.
        const WRONLY = 0o1;
        /// O_RDWR, one of the access modes.
        const RDWR = 0o2;
        /// O_CREAT.
        const CREAT = 0o100;
        /// O_EXCL.
        const EXCL = 0o200;
        /// O_NOCTTY.
        const NOCTTY = 0o400;
        /// O_TRUNC.
        const TRUNC = 0o1000;
        /// O_APPEND.
        const APPEND = 0o2000;
        /// O_NONBLOCK.
        const NONBLOCK = 0o4000;
        /// O_DSYNC.
        const DSYNC = 0o10000;
        /// O_ASYNC.
        const ASYNC = 0o20000;
        /// O_DIRECT.
        const DIRECT = 0o40000;
        /// O_LARGEFILE.
        const LARGEFILE = 0o100000;
        /// O_DIRECTORY.
        const DIRECTORY = 0o200000;
        /// O_NOFOLLOW.
        const NOFOLLOW = 0o400000;
        /// O_NOATIME.
        const NOATIME = 0o1000000;
        /// O_CLOEXEC.
        const CLOEXEC = 0o2000000;
        /// The bit of O_SYNC that is not O_DSYNC.
        const SYNC = 0o4000000;
        /// O_PATH.
        const PATH = 0o10000000;
        /// The bit of O_TMPFILE that is not O_DIRECTORY.
        const TMPFILE = 0o20000000;
    }

    /// Flags of the `*at` calls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AtFlags: u32 {
        /// AT_SYMLINK_NOFOLLOW.
        const SYMLINK_NOFOLLOW = 0x100;
        /// AT_REMOVEDIR of unlinkat, AT_EACCESS of faccessat.
        const REMOVEDIR = 0x200;
        /// AT_SYMLINK_FOLLOW of linkat.
        const SYMLINK_FOLLOW = 0x400;
        /// AT_NO_AUTOMOUNT.
        const NO_AUTOMOUNT = 0x800;
        /// AT_EMPTY_PATH.
        const EMPTY_PATH = 0x1000;
        /// AT_STATX_FORCE_SYNC.
        const STATX_FORCE_SYNC = 0x2000;
        /// AT_STATX_DONT_SYNC.
        const STATX_DONT_SYNC = 0x4000;
    }
}

/// Mask of the access mode: 0 read, 1 write, 2 both.
pub const O_ACCMODE: u32 = 3;

/// SEEK_SET of `lseek(2)`.
pub const SEEK_SET: u32 = 0;
/// SEEK_CUR.
pub const SEEK_CUR: u32 = 1;
/// SEEK_END.
pub const SEEK_END: u32 = 2;
/// SEEK_DATA.
pub const SEEK_DATA: u32 = 3;
/// SEEK_HOLE.
pub const SEEK_HOLE: u32 = 4;

/// Commands of `fcntl(2)`.
#[allow(missing_docs, reason = "each is the command of its name")]
pub mod fcntl {
    pub const DUPFD: u32 = 0;
    pub const GETFD: u32 = 1;
    pub const SETFD: u32 = 2;
    pub const GETFL: u32 = 3;
    pub const SETFL: u32 = 4;
    pub const GETLK: u32 = 5;
    pub const SETLK: u32 = 6;
    pub const SETLKW: u32 = 7;
    pub const SETOWN: u32 = 8;
    pub const GETOWN: u32 = 9;
    pub const SETSIG: u32 = 10;
    pub const GETSIG: u32 = 11;
    pub const SETOWN_EX: u32 = 15;
    pub const GETOWN_EX: u32 = 16;
    /// Kinds of `struct f_owner_ex`.
    pub const OWNER_TID: i32 = 0;
    pub const OWNER_PID: i32 = 1;
    pub const OWNER_PGRP: i32 = 2;
    pub const OFD_GETLK: u32 = 36;
    pub const OFD_SETLK: u32 = 37;
    pub const OFD_SETLKW: u32 = 38;
    pub const DUPFD_CLOEXEC: u32 = 1030;
    pub const SETPIPE_SZ: u32 = 1031;
    pub const GETPIPE_SZ: u32 = 1032;
    pub const ADD_SEALS: u32 = 1033;
    pub const GET_SEALS: u32 = 1034;
    pub const FD_CLOEXEC: u32 = 1;
    /// Lock types of `struct flock`.
    pub const RDLCK: i16 = 0;
    pub const WRLCK: i16 = 1;
    pub const UNLCK: i16 = 2;
}

/// Seals of `fcntl(2)` F_ADD_SEALS, without their prefix F_SEAL_.
#[allow(missing_docs, reason = "each is the seal of its name")]
pub mod seal {
    pub const SEAL: u32 = 1;
    pub const SHRINK: u32 = 2;
    pub const GROW: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const FUTURE_WRITE: u32 = 16;
    pub const EXEC: u32 = 32;
    pub const ALL: u32 = SEAL | SHRINK | GROW | WRITE | FUTURE_WRITE | EXEC;
}

/// Requests of `ioctl(2)`.
#[allow(missing_docs, reason = "each is the request of its name")]
pub mod ioctl {
    pub const TCGETS: u32 = 0x5401;
    pub const TCSETS: u32 = 0x5402;
    pub const TCSETSW: u32 = 0x5403;
    pub const TCSETSF: u32 = 0x5404;
    pub const TIOCGPGRP: u32 = 0x540f;
    pub const TIOCSPGRP: u32 = 0x5410;
    pub const TIOCSCTTY: u32 = 0x540e;
    pub const TIOCNOTTY: u32 = 0x5422;
    pub const TIOCGSID: u32 = 0x5429;
    pub const TIOCGWINSZ: u32 = 0x5413;
    pub const TIOCSWINSZ: u32 = 0x5414;
    pub const FIONREAD: u32 = 0x541b;
    pub const FIONBIO: u32 = 0x5421;
    pub const FIONCLEX: u32 = 0x5450;
    pub const FIOCLEX: u32 = 0x5451;
    pub const FIOASYNC: u32 = 0x5452;
    pub const FIOSETOWN: u32 = 0x8901;
    pub const SIOCSPGRP: u32 = 0x8902;
    pub const FIOGETOWN: u32 = 0x8903;
    pub const SIOCGPGRP: u32 = 0x8904;
}

/// `struct iovec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Iovec {
    /// Start.
    pub iov_base: u64,
    /// Bytes.
    pub iov_len: u64,
}

/// Most elements of an iovec array.
pub const IOV_MAX: u32 = 1024;

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct stat, see stat(3type)")]
pub struct Stat {
    pub st_dev: u64,
    pub st_ino: u64,
    pub st_nlink: u64,
    pub st_mode: u32,
    pub st_uid: u32,
    pub st_gid: u32,
    pub _pad: u32,
    pub st_rdev: u64,
    pub st_size: i64,
    pub st_blksize: i64,
    pub st_blocks: i64,
    pub st_atime: i64,
    pub st_atime_nsec: u64,
    pub st_mtime: i64,
    pub st_mtime_nsec: u64,
    pub st_ctime: i64,
    pub st_ctime_nsec: u64,
    pub _reserved: [i64; 3],
}
const _: () = assert!(size_of::<Stat>() == 144);

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct statx_timestamp, see statx(2)")]
pub struct StatxTimestamp {
    pub tv_sec: i64,
    pub tv_nsec: u32,
    pub _reserved: i32,
}

/// `struct statx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct statx, see statx(2)")]
pub struct Statx {
    pub stx_mask: u32,
    pub stx_blksize: u32,
    pub stx_attributes: u64,
    pub stx_nlink: u32,
    pub stx_uid: u32,
    pub stx_gid: u32,
    pub stx_mode: u16,
    pub _spare0: u16,
    pub stx_ino: u64,
    pub stx_size: u64,
    pub stx_blocks: u64,
    pub stx_attributes_mask: u64,
    pub stx_atime: StatxTimestamp,
    pub stx_btime: StatxTimestamp,
    pub stx_ctime: StatxTimestamp,
    pub stx_mtime: StatxTimestamp,
    pub stx_rdev_major: u32,
    pub stx_rdev_minor: u32,
    pub stx_dev_major: u32,
    pub stx_dev_minor: u32,
    pub stx_mnt_id: u64,
    pub stx_dio_mem_align: u32,
    pub stx_dio_offset_align: u32,
    pub _spare3: [u64; 12],
}
const _: () = assert!(size_of::<Statx>() == 256);

/// STATX_BASIC_STATS.
pub const STATX_BASIC_STATS: u32 = 0x7ff;
/// STATX_MNT_ID.
pub const STATX_MNT_ID: u32 = 0x1000;

/// `struct statfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct statfs, see statfs(2)")]
pub struct Statfs {
    pub f_type: u64,
    pub f_bsize: u64,
    pub f_blocks: u64,
    pub f_bfree: u64,
    pub f_bavail: u64,
    pub f_files: u64,
    pub f_ffree: u64,
    pub f_fsid: [u32; 2],
    pub f_namelen: u64,
    pub f_frsize: u64,
    pub f_flags: u64,
    pub f_spare: [u64; 4],
}
const _: () = assert!(size_of::<Statfs>() == 120);

/// `struct flock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct flock, see fcntl(2)")]
pub struct Flock {
    pub l_type: i16,
    pub l_whence: i16,
    pub _pad: u32,
    pub l_start: i64,
    pub l_len: i64,
    pub l_pid: i32,
    pub _pad_end: u32,
}
const _: () = assert!(size_of::<Flock>() == 32);

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Pollfd {
    /// Descriptor; negative: ignored.
    pub fd: i32,
    /// Wanted.
    pub events: u16,
    /// Found.
    pub revents: u16,
}

/// `struct epoll_event`, which is packed on x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EpollEvent {
    /// EPOLL* bits.
    pub events: u32,
    /// The program's own, low half.
    pub data_low: u32,
    /// The program's own, high half.
    pub data_high: u32,
}
const _: () = assert!(size_of::<EpollEvent>() == 12);

/// `struct open_how`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenHow {
    /// O_* flags.
    pub flags: u64,
    /// Permission bits of a new file.
    pub mode: u64,
    /// RESOLVE_* flags.
    pub resolve: u64,
}

/// Major and minor number of a device number of the kernel's 64-bit encoding.
#[must_use]
pub const fn major_minor(dev: u64) -> (u32, u32) {
    let major = ((dev >> 8) & 0xfff) | ((dev >> 32) & 0xffff_f000);
    let minor = (dev & 0xff) | ((dev >> 12) & 0xffff_ff00);
    // Both are below 2^32 by the masks.
    (major as u32, minor as u32)
}

/// The device number of a major and a minor number.
#[must_use]
pub const fn make_dev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    ((major & 0xfff) << 8) | ((major & 0xffff_f000) << 32) | (minor & 0xff) | ((minor & 0xffff_ff00) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_round_trip() {
        for pair in [(1, 3), (5, 0), (0x1234, 0x5_6789), (0xfff_ffff, 0xff)] {
            assert_eq!(major_minor(make_dev(pair.0, pair.1)), pair);
        }
        assert_eq!(make_dev(1, 3), 0x103);
    }
}
