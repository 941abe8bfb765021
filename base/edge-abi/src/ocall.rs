//! OCALLs: what the enclave may ask of the host.
//!
//! The enclave writes a number and arguments into the [`EdgeFrame`] of its thread and data into the buffer beside it,
//! leaves with RDI = [`crate::ecall::EXIT_OCALL`], and reads [`EdgeFrame::result`] once when it is entered again. The
//! result is a value or a negated errno; the enclave turns an errno outside the table into EIO and refuses a
//! length beyond what it asked for. No OCALL carries an enclave address except the page operations,
//! whose answers the enclave verifies by EACCEPT.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The memory through which one enclave thread and its host thread talk. Outside ELRANGE.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EdgeFrame {
    /// The [`Ocall`] number.
    pub number: u64,
    /// Arguments of the ECALL or OCALL.
    pub args: [u64; 6],
    /// Result: a value, or the negated errno.
    pub result: u64,
    /// Address of the buffer beside the frame.
    pub buffer: u64,
    /// Bytes of the buffer.
    pub buffer_len: u64,
}

/// Bytes of the buffer beside the frame that the host provides at least.
pub const BUFFER_LEN: usize = 256 * 1024;

macro_rules! ocalls {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal;)+) => {
        /// Numbers of the OCALLs. `a0`… are the arguments, "in" and "out" are what the buffer holds before and after.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u64)]
        pub enum Ocall {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Ocall {
            /// Every call with its name, for statistics.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name)),)+];

            /// The call of a number from the enclave.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

ocalls! {
    /// Writes a log line. a0: level; in: text of a1 bytes.
    Log = 1;
    /// Clocks. Out: a [`ClockSample`].
    Clock = 2;
    /// CPU time of the calling host thread in ns.
    ThreadCpu = 3;
    /// Sleeps until unparked. a0: deadline in ns of CLOCK_MONOTONIC, or `u64::MAX`. Returns 0 woken, 1 timed out.
    Park = 4;
    /// Unparks the thread of slot a0.
    Unpark = 5;
    /// Sends signal 64 to the host thread of slot a0 and unparks it.
    Interrupt = 6;
    /// Asks for an interrupt of slot a0 at a1 ns of CLOCK_MONOTONIC (`u64::MAX`: never).
    InterruptAt = 7;
    /// Asks for a host thread that runs LibOS thread a0. There are a1 thread slots now.
    StartThread = 8;
    /// `sched_yield(2)`.
    Yield = 9;
    /// SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS. a0: address, a1: bytes, a2: SECINFO permission bits.
    RestrictPermissions = 10;
    /// SGX_IOC_ENCLAVE_MODIFY_TYPES. a0: address, a1: bytes, a2: page type.
    ModifyTypes = 11;
    /// SGX_IOC_ENCLAVE_REMOVE_PAGES. a0: address, a1: bytes.
    RemovePages = 12;
    /// `mprotect(2)` of the enclave mapping. a0: address, a1: bytes, a2: SECINFO permission bits.
    MapPermissions = 13;
    /// Schedules the host thread of slot a0 otherwise until its LibOS thread ends. a1: SCHED_*; a2: real-time priority; a3: nice
    /// value; in: a4 bytes, a set of the processors that the host gives to the enclave (none: all).
    Schedule = 14;
    /// The processor that the calling thread runs on, counted among those.
    CurrentCpu = 15;
    /// `open(2)`. In: path of a0 bytes; a1: flags; a2: mode.
    Open = 20;
    /// `openat(2)` of names one below the other, joined by slashes; no link is followed. a0: folder; in: a1 bytes; a2: flags; a3: mode.
    OpenAt = 21;
    /// `close(2)`. a0: descriptor.
    Close = 22;
    /// `read(2)`. a0: descriptor; a1: bytes wanted. Out: data.
    Read = 23;
    /// `write(2)`. a0: descriptor; in: a1 bytes.
    Write = 24;
    /// `pread(2)`. a0: descriptor; a1: bytes wanted; a2: offset. Out: data.
    Pread = 25;
    /// `pwrite(2)`. a0: descriptor; in: a1 bytes; a2: offset.
    Pwrite = 26;
    /// `lseek(2)`. a0: descriptor; a1: offset; a2: whence.
    Seek = 27;
    /// `fstat(2)`. a0: descriptor. Out: a [`WireStat`].
    Fstat = 28;
    /// `fstatat(2)` of names one below the other, joined by slashes; no link is followed. a0: folder; in: a1 bytes. Then, unless a2 is
    /// [`NOT_OPENED`], [`Self::OpenAt`] with flags a2 of what is there if that is a regular file. Returns 1 + its descriptor; 0: it is
    /// none, or cannot be opened so. Out: a [`WireStat`]. ENOENT: all names but the last are folders; ELOOP: they are not, or cannot be
    /// searched.
    LookUp = 29;
    /// `fstatfs(2)`. a0: descriptor. Out: a [`WireStatFs`].
    Statfs = 30;
    /// `getdents64(2)`. a0: descriptor; a1: bytes wanted. Out: records.
    ReadDirectory = 31;
    /// `readlinkat(2)`. a0: folder; in: name of a1 bytes; a2: bytes wanted. Out: target.
    ReadLinkAt = 32;
    /// `mkdirat(2)`. a0: folder; in: name of a1 bytes; a2: mode.
    MkdirAt = 33;
    /// `unlinkat(2)`. a0: folder; in: name of a1 bytes; a2: flags.
    UnlinkAt = 34;
    /// `renameat2(2)`. a0, a2: folders; in: names of a1 and a3 bytes, one after the other; a4: flags.
    RenameAt = 35;
    /// `symlinkat(2)`. In: target of a0 bytes, then name of a2 bytes; a1: folder.
    SymlinkAt = 36;
    /// `linkat(2)`. a0, a2: folders; in: names of a1 and a3 bytes, one after the other.
    LinkAt = 37;
    /// `ftruncate(2)`. a0: descriptor; a1: bytes.
    Truncate = 38;
    /// `fchmod(2)`. a0: descriptor; a1: mode.
    Chmod = 39;
    /// `futimens(2)`. a0: descriptor; a1, a2: access and modification time in ns ([`TIME_KEEP`], [`TIME_NOW`]).
    SetTimes = 40;
    /// `fsync(2)`, or `fdatasync(2)` when a1 is 1. a0: descriptor.
    Sync = 41;
    /// `fcntl(2)`: F_SETFL to a1 unless that is `u64::MAX`, then F_GETFL. a0: descriptor.
    StatusFlags = 42;
    /// `ioctl(2)`. a0: descriptor; a1: request; in and out: argument of a2 bytes.
    Ioctl = 43;
    /// `ppoll(2)`, which an unpark ends early. In and out: a0 [`WirePoll`] rows; a1: deadline as for Park.
    Poll = 44;
    /// `fallocate(2)`. a0: descriptor; a1: mode; a2: offset; a3: bytes.
    Allocate = 45;
    /// `socket(2)`, non-blocking and closed on exec. a0: family; a1: type; a2: protocol.
    Socket = 60;
    /// `bind(2)`. a0: descriptor; in: address of a1 bytes.
    Bind = 61;
    /// `listen(2)`. a0: descriptor; a1: backlog.
    Listen = 62;
    /// `accept4(2)`, non-blocking and closed on exec. a0: descriptor. Out: a [`crate::net::WireName`].
    Accept = 63;
    /// `connect(2)`. a0: descriptor; in: address of a1 bytes.
    Connect = 64;
    /// `getsockname(2)`, or `getpeername(2)` when a1 is 1. a0: descriptor. Out: a [`crate::net::WireName`].
    SocketName = 65;
    /// `send(2)`. a0: descriptor; in: a1 bytes; a2: flags, to which the host adds MSG_DONTWAIT | MSG_NOSIGNAL.
    Send = 66;
    /// `recv(2)`. a0: descriptor; a1: bytes wanted; a2: flags, to which the host adds MSG_DONTWAIT. Out: data. Returns what
    /// `recv` does: more than a1 only with MSG_TRUNC.
    Receive = 67;
    /// `sendmsg(2)`. a0: descriptor; a1: bytes of data. In: a [`crate::net::WireMessage`], control messages, data, at the places
    /// that [`crate::net`] says.
    SendMessage = 68;
    /// `recvmsg(2)`. a0: descriptor; a1, a2: bytes of data and of control messages wanted; a3: flags. Out: as the
    /// input of [`Self::SendMessage`]. Returns what `recvmsg` does.
    ReceiveMessage = 69;
    /// `getsockopt(2)` of what [`crate::net::passes`]. a0: descriptor; a1: level; a2: option; a3: bytes. In and out: the value.
    /// Returns its length.
    GetOption = 70;
    /// `setsockopt(2)` of what [`crate::net::passes`]. a0: descriptor; a1: level; a2: option; in: a3 bytes.
    SetOption = 71;
    /// `shutdown(2)`. a0: descriptor; a1: how.
    Shutdown = 72;
    /// Interfaces and their addresses. Out: rows of [`crate::net::WireInterface`]. Returns their number.
    Interfaces = 73;
    /// Reports edges of descriptor a0 with token a1, which is not 0, from now on, until it is closed (see [`crate::readiness`]). a2: 1 + the
    /// slot whose thread alone waits for it; 0: any may; [`crate::readiness::AT_ONCE`]: the host makes [`crate::ecall::Ecall::Ready`]. One that is
    /// watched with that token is from now on watched for all, or at once if that is asked for, or was.
    /// Returns the POLL* bits that hold now.
    Watch = 74;
    /// Stops that. a0: descriptor.
    Unwatch = 75;
    /// Address of the [`crate::readiness`] ring.
    ReadinessRing = 76;
    /// As [`Self::Park`], ended by a record in the ring too. a0: deadline; 0: only fetch what is there. Returns 0 woken, 1 timed out.
    ParkReady = 77;
    /// `sendmsg(2)` of a1 messages, until one cannot be sent. a0: descriptor. In: [`crate::net::WireRow`]s, and what
    /// [`crate::net::Places`] places. Returns how many were sent; when those are not all, the row of the next has the errno.
    SendMessages = 78;
    /// `recvmmsg(2)` of at most a1 messages. a0: descriptor; a2: flags. In: [`crate::net::WireRow`]s that say how much is wanted.
    /// Out: rows, and what [`crate::net::Places`] places by what was wanted. Returns how many came.
    ReceiveMessages = 79;
    /// A new socket of the Unix domain, non-blocking and closed on exec, connected to a socket file. a0: folder; in: name of a1 bytes,
    /// which is not followed if it is a link; a2: type.
    ConnectAt = 80;
    /// Makes the [`crate::ring`] of operations on sockets, or tells where it is. Out: a [`crate::ring::WireRing`].
    RingOpen = 81;
    /// Wakes the host's thread of that ring (IORING_ENTER_SQ_WAKEUP).
    RingWake = 82;
    /// `sendfile(2)`, which does not wait for the socket. a0: descriptor of the socket; a1: descriptor of the file; a2: offset; a3: bytes.
    SendFile = 83;
}

/// [`Ocall::LookUp`]: open nothing.
pub const NOT_OPENED: u64 = u64::MAX;
/// [`Ocall::SetTimes`]: leave this time.
pub const TIME_KEEP: u64 = u64::MAX;
/// [`Ocall::SetTimes`]: the current time.
pub const TIME_NOW: u64 = u64::MAX - 1;

/// Answer of [`Ocall::Clock`]. Nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ClockSample {
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME.
    pub realtime_ns: u64,
}

/// Answer of [`Ocall::Fstat`] and [`Ocall::LookUp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireStat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Links.
    pub nlink: u64,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Access time in ns.
    pub atime_ns: i64,
    /// Modification time in ns.
    pub mtime_ns: i64,
    /// Change time in ns.
    pub ctime_ns: i64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Preferred I/O size.
    pub blksize: u32,
}

/// Answer of [`Ocall::Statfs`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WireStatFs {
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

/// A row of [`Ocall::Poll`]: `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WirePoll {
    /// Descriptor.
    pub fd: i32,
    /// Wanted.
    pub events: u16,
    /// Found.
    pub revents: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_decode() {
        for (index, &(call, _)) in Ocall::ALL.iter().enumerate() {
            assert_eq!(Ocall::from_number(call as u64), Some(call));
            assert!(Ocall::ALL[..index].iter().all(|&(other, _)| other != call));
        }
        assert_eq!(Ocall::from_number(0), None);
    }
}
