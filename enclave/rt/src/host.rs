//! Host files by OCALL. Lengths are bounded by what was asked, records are copied before they are read.

use crate::ocall::{Channel, call};
use crate::runtime::Runtime;
use crate::uring::Asleep;
use alloc::vec::Vec;
use edge_abi::ocall::{NOT_OPENED, Ocall, TIME_KEEP, TIME_NOW, WirePoll, WireStat, WireStatFs};
use linux_abi::Errno;
use platform::{
    DirectoryRead, HostError, HostFd, HostFiles, HostPoll, HostResult, HostStat, HostStatFs, Scheduling,
    ThreadHandle, TimeSetting,
};
use zerocopy::IntoBytes;

/// The largest descriptor that a host call may return.
pub(crate) const FD_MAX: u64 = i32::MAX as u64;
/// Requests that [`HostFiles::host_ioctl`] passes: TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ,
/// TIOCSWINSZ, FIONREAD, SIOCOUTQ, SIOCATMARK.
const IOCTLS: [u32; 10] = [0x5401, 0x5402, 0x5403, 0x5404, 0x540f, 0x5413, 0x5414, 0x541b, 0x5411, 0x8905];

pub(crate) fn channel() -> HostResult<Channel> {
    Channel::current().ok_or(HostError(Errno::EIO))
}

pub(crate) fn raw(fd: HostFd) -> u64 {
    i64::from(fd.0).cast_unsigned()
}

/// A call with one name in the buffer.
fn with_name(number: Ocall, name: &[u8], args: [u64; 6], most: u64) -> HostResult<u64> {
    let channel = channel()?;
    channel.put(0, name)?;
    channel.call(number, args, most)
}

/// A call with two names in the buffer, one after the other.
fn with_names(number: Ocall, first: &[u8], second: &[u8], args: [u64; 6]) -> HostResult<()> {
    let channel = channel()?;
    channel.put(0, first)?;
    channel.put(first.len(), second)?;
    channel.call(number, args, 0).map(|_| ())
}

/// A call that fills `into` from the buffer.
fn reading(number: Ocall, args: impl FnOnce(u64) -> [u64; 6], into: &mut [u8]) -> HostResult<usize> {
    let channel = channel()?;
    let wanted = into.len().min(channel.capacity());
    let done = channel.call(number, args(wanted as u64), wanted as u64)? as usize;
    channel.take(0, into.get_mut(..done).unwrap_or_default())?;
    Ok(done)
}

/// A call that passes `from` through the buffer.
fn writing(number: Ocall, args: impl FnOnce(u64) -> [u64; 6], from: &[u8]) -> HostResult<usize> {
    let channel = channel()?;
    let part = from.get(..from.len().min(channel.capacity())).unwrap_or_default();
    channel.put(0, part)?;
    Ok(channel.call(number, args(part.len() as u64), part.len() as u64)? as usize)
}

/// Asks for a thread to be scheduled otherwise.
pub(crate) fn schedule(thread: ThreadHandle, request: &Scheduling<'_>) -> HostResult<()> {
    let channel = channel()?;
    let set = request.cpus.as_bytes();
    channel.put(0, set)?;
    let nice = i64::from(request.nice).cast_unsigned();
    let args = [thread.0.into(), request.policy.into(), request.priority.into(), nice, set.len() as u64, 0];
    channel.call(Ocall::Schedule, args, 0).map(|_| ())
}

fn stat(wire: &WireStat) -> HostStat {
    HostStat {
        dev: wire.dev,
        ino: wire.ino,
        mode: wire.mode,
        nlink: wire.nlink,
        uid: wire.uid,
        gid: wire.gid,
        rdev: wire.rdev,
        size: wire.size,
        blocks: wire.blocks,
        blksize: wire.blksize,
        atime_ns: wire.atime_ns,
        mtime_ns: wire.mtime_ns,
        ctime_ns: wire.ctime_ns,
    }
}

fn time(setting: TimeSetting) -> u64 {
    match setting {
        TimeSetting::Keep => TIME_KEEP,
        TimeSetting::Now => TIME_NOW,
        TimeSetting::At(ns) => ns.cast_unsigned(),
    }
}

pub(crate) fn descriptor(value: u64) -> HostFd {
    // Bounded by FD_MAX.
    HostFd(value as i32)
}

impl HostFiles for Runtime {
    fn host_open_path(&self, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd> {
        let args = [path.len() as u64, u64::from(flags), u64::from(mode), 0, 0, 0];
        with_name(Ocall::Open, path, args, FD_MAX).map(descriptor)
    }

    fn host_open_at(&self, dir: HostFd, path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd> {
        let args = [raw(dir), path.len() as u64, u64::from(flags), u64::from(mode), 0, 0];
        with_name(Ocall::OpenAt, path, args, FD_MAX).map(descriptor)
    }

    fn host_close(&self, fd: HostFd) {
        let _ = call(Ocall::Close, [raw(fd), 0, 0, 0, 0, 0], 0);
    }

    fn host_read(&self, fd: HostFd, into: &mut [u8]) -> HostResult<usize> {
        reading(Ocall::Read, |len| [raw(fd), len, 0, 0, 0, 0], into)
    }

    fn host_write(&self, fd: HostFd, from: &[u8]) -> HostResult<usize> {
        writing(Ocall::Write, |len| [raw(fd), len, 0, 0, 0, 0], from)
    }

    fn host_read_at(&self, fd: HostFd, offset: u64, into: &mut [u8]) -> HostResult<usize> {
        reading(Ocall::Pread, |len| [raw(fd), len, offset, 0, 0, 0], into)
    }

    fn host_write_at(&self, fd: HostFd, offset: u64, from: &[u8]) -> HostResult<usize> {
        writing(Ocall::Pwrite, |len| [raw(fd), len, offset, 0, 0, 0], from)
    }

    fn host_seek(&self, fd: HostFd, offset: i64, whence: u32) -> HostResult<u64> {
        let args = [raw(fd), offset.cast_unsigned(), u64::from(whence), 0, 0, 0];
        call(Ocall::Seek, args, i64::MAX.cast_unsigned())
    }

    fn host_stat(&self, fd: HostFd) -> HostResult<HostStat> {
        let channel = channel()?;
        channel.call(Ocall::Fstat, [raw(fd), 0, 0, 0, 0, 0], 0)?;
        Ok(stat(&channel.take_value::<WireStat>()?))
    }

    fn host_look_up(
        &self,
        dir: HostFd,
        path: &[u8],
        flags: Option<u32>,
    ) -> HostResult<(HostStat, Option<HostFd>)> {
        let most = if flags.is_some() { FD_MAX + 1 } else { 0 };
        let flags = flags.map_or(NOT_OPENED, u64::from);
        let opened = with_name(Ocall::LookUp, path, [raw(dir), path.len() as u64, flags, 0, 0, 0], most)?;
        Ok((stat(&channel()?.take_value::<WireStat>()?), opened.checked_sub(1).map(descriptor)))
    }

    fn host_statfs(&self, fd: HostFd) -> HostResult<HostStatFs> {
        let channel = channel()?;
        channel.call(Ocall::Statfs, [raw(fd), 0, 0, 0, 0, 0], 0)?;
        let wire: WireStatFs = channel.take_value()?;
        Ok(HostStatFs {
            block_size: wire.block_size,
            blocks: wire.blocks,
            free: wire.free,
            available: wire.available,
            files: wire.files,
            files_free: wire.files_free,
        })
    }

    fn host_read_directory(&self, fd: HostFd, into: &mut [u8]) -> HostResult<DirectoryRead> {
        reading(Ocall::ReadDirectory, |len| [raw(fd), len, 0, 0, 0, 0], into)
    }

    fn host_read_link_at(&self, dir: HostFd, name: &[u8], into: &mut [u8]) -> HostResult<usize> {
        channel()?.put(0, name)?;
        reading(Ocall::ReadLinkAt, |len| [raw(dir), name.len() as u64, len, 0, 0, 0], into)
    }

    fn host_mkdir_at(&self, dir: HostFd, name: &[u8], mode: u32) -> HostResult<()> {
        let args = [raw(dir), name.len() as u64, u64::from(mode), 0, 0, 0];
        with_name(Ocall::MkdirAt, name, args, 0).map(|_| ())
    }

    fn host_unlink_at(&self, dir: HostFd, name: &[u8], flags: u32) -> HostResult<()> {
        let args = [raw(dir), name.len() as u64, u64::from(flags), 0, 0, 0];
        with_name(Ocall::UnlinkAt, name, args, 0).map(|_| ())
    }

    fn host_rename_at(
        &self,
        from_dir: HostFd,
        from: &[u8],
        to_dir: HostFd,
        to: &[u8],
        flags: u32,
    ) -> HostResult<()> {
        let args = [raw(from_dir), from.len() as u64, raw(to_dir), to.len() as u64, u64::from(flags), 0];
        with_names(Ocall::RenameAt, from, to, args)
    }

    fn host_symlink_at(&self, target: &[u8], dir: HostFd, name: &[u8]) -> HostResult<()> {
        let args = [target.len() as u64, raw(dir), name.len() as u64, 0, 0, 0];
        with_names(Ocall::SymlinkAt, target, name, args)
    }

    fn host_link_at(&self, from_dir: HostFd, from: &[u8], to_dir: HostFd, to: &[u8]) -> HostResult<()> {
        let args = [raw(from_dir), from.len() as u64, raw(to_dir), to.len() as u64, 0, 0];
        with_names(Ocall::LinkAt, from, to, args)
    }

    fn host_truncate(&self, fd: HostFd, size: u64) -> HostResult<()> {
        call(Ocall::Truncate, [raw(fd), size, 0, 0, 0, 0], 0).map(|_| ())
    }

    fn host_allocate(&self, fd: HostFd, mode: u32, offset: u64, len: u64) -> HostResult<()> {
        call(Ocall::Allocate, [raw(fd), u64::from(mode), offset, len, 0, 0], 0).map(|_| ())
    }

    fn host_chmod(&self, fd: HostFd, mode: u32) -> HostResult<()> {
        call(Ocall::Chmod, [raw(fd), u64::from(mode), 0, 0, 0, 0], 0).map(|_| ())
    }

    fn host_set_times(&self, fd: HostFd, atime: TimeSetting, mtime: TimeSetting) -> HostResult<()> {
        call(Ocall::SetTimes, [raw(fd), time(atime), time(mtime), 0, 0, 0], 0).map(|_| ())
    }

    fn host_sync(&self, fd: HostFd, data_only: bool) -> HostResult<()> {
        call(Ocall::Sync, [raw(fd), u64::from(data_only), 0, 0, 0, 0], 0).map(|_| ())
    }

    fn host_status_flags(&self, fd: HostFd, set: Option<u32>) -> HostResult<u32> {
        let set = set.map_or(u64::MAX, u64::from);
        call(Ocall::StatusFlags, [raw(fd), set, 0, 0, 0, 0], u64::from(u32::MAX)).map(|flags| flags as u32)
    }

    fn host_ioctl(&self, fd: HostFd, request: u32, argument: &mut [u8]) -> HostResult<u32> {
        if !IOCTLS.contains(&request) || argument.len() > 64 {
            return Err(HostError(Errno::ENOTTY));
        }
        let channel = channel()?;
        channel.put(0, argument)?;
        let args = [raw(fd), u64::from(request), argument.len() as u64, 0, 0, 0];
        let value = channel.call(Ocall::Ioctl, args, u64::from(u32::MAX))?;
        channel.take(0, argument)?;
        Ok(value as u32)
    }

    fn host_poll(&self, rows: &mut [HostPoll], deadline_ns: Option<u64>) -> HostResult<usize> {
        // What the ring of operations brings ends it as an edge does.
        let Some(_asleep) = Asleep::begin(deadline_ns) else { return Err(HostError(Errno::EINTR)) };
        let channel = channel()?;
        let mut wire: Vec<WirePoll> =
            rows.iter().map(|row| WirePoll { fd: row.fd.0, events: row.events, revents: 0 }).collect();
        channel.put(0, wire.as_slice().as_bytes())?;
        let args = [rows.len() as u64, deadline_ns.unwrap_or(u64::MAX), 0, 0, 0, 0];
        let ready = channel.call(Ocall::Poll, args, rows.len() as u64)?;
        channel.take(0, wire.as_mut_slice().as_mut_bytes())?;
        for (row, answer) in rows.iter_mut().zip(&wire) {
            // Events that nobody asked for, other than errors, are the host's invention.
            row.revents = answer.revents & (row.events | 0x38);
        }
        Ok(ready as usize)
    }
}
