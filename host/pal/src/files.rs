//! Host files for the enclave. Every call is the Linux call of its name.

use edge_abi::ocall::{NOT_OPENED, Ocall, TIME_KEEP, TIME_NOW, WireStat, WireStatFs};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use zerocopy::IntoBytes;

/// A descriptor argument.
pub(crate) fn descriptor(value: u64) -> Result<i32, i32> {
    i32::try_from(value.cast_signed()).map_err(|_| libc::EBADF)
}

/// The result of a libc call that sets errno.
pub(crate) fn checked(result: i64) -> Result<u64, i32> {
    if result < 0 {
        Err(crate::ocalls::errno_of(&std::io::Error::last_os_error()))
    } else {
        Ok(result.cast_unsigned())
    }
}

/// Whether reads of the descriptor block.
pub(crate) fn is_blocking(fd: i32) -> bool {
    // SAFETY: no pointers are involved.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK == 0
}

fn text(buffer: &[u8], offset: usize, len: u64) -> Result<CString, i32> {
    let end = offset.checked_add(len as usize).ok_or(libc::EINVAL)?;
    CString::new(buffer.get(offset..end).ok_or(libc::EINVAL)?).map_err(|_| libc::EINVAL)
}

fn part(buffer: &mut [u8], len: u64) -> Result<&mut [u8], i32> {
    buffer.get_mut(..len as usize).ok_or(libc::EINVAL)
}

/// Serves a file OCALL.
pub(crate) fn answer(call: Ocall, args: &[u64; 6], buffer: &mut [u8]) -> Result<u64, i32> {
    let [a0, a1, a2, a3, a4, _] = *args;
    match call {
        Ocall::Open => {
            let path = text(buffer, 0, a0)?;
            // SAFETY: a NUL-terminated path.
            checked(i64::from(unsafe {
                libc::open(path.as_ptr(), a1 as i32 | libc::O_CLOEXEC, a2 as libc::c_uint)
            }))
        }
        Ocall::OpenAt => {
            let path = text(buffer, 0, a1)?;
            open_below(descriptor(a0)?, &path, a2 as i32, a3).map(|fd| fd.into_raw_fd() as u64)
        }
        Ocall::Close => {
            let fd = descriptor(a0)?;
            if fd <= 2 {
                // The tool's own standard streams stay open: other processes of the enclave may share them.
                return Ok(0);
            }
            // SAFETY: the enclave gives back what it opened.
            checked(i64::from(unsafe { libc::close(fd) }))
        }
        Ocall::Write => {
            let from = part(buffer, a1)?;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::write(descriptor(a0)?, from.as_ptr().cast(), from.len()) } as i64)
        }
        Ocall::Pread => {
            let into = part(buffer, a1)?;
            let fd = descriptor(a0)?;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::pread(fd, into.as_mut_ptr().cast(), into.len(), a2.cast_signed()) } as i64)
        }
        Ocall::Pwrite => {
            let from = part(buffer, a1)?;
            let fd = descriptor(a0)?;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::pwrite(fd, from.as_ptr().cast(), from.len(), a2.cast_signed()) } as i64)
        }
        Ocall::Seek => {
            // SAFETY: no pointers are involved.
            checked(unsafe { libc::lseek(descriptor(a0)?, a1.cast_signed(), a2 as i32) })
        }
        Ocall::Fstat => {
            let mut stat = MaybeUninit::uninit();
            // SAFETY: a buffer of the right size.
            checked(i64::from(unsafe { libc::fstat(descriptor(a0)?, stat.as_mut_ptr()) }))?;
            // SAFETY: the call succeeded and filled it.
            put_stat(buffer, unsafe { stat.assume_init() })
        }
        Ocall::LookUp => {
            let path = text(buffer, 0, a1)?;
            let (stat, opened) = look_up(descriptor(a0)?, &path, (a2 != NOT_OPENED).then_some(a2 as i32))?;
            put_stat(buffer, stat)?;
            Ok(opened.map_or(0, |fd| fd.into_raw_fd() as u64 + 1))
        }
        Ocall::Statfs => {
            let mut statfs = MaybeUninit::<libc::statfs>::uninit();
            // SAFETY: a buffer of the right size.
            checked(i64::from(unsafe { libc::fstatfs(descriptor(a0)?, statfs.as_mut_ptr()) }))?;
            // SAFETY: the call succeeded and filled it.
            let statfs = unsafe { statfs.assume_init() };
            let wire = WireStatFs {
                block_size: statfs.f_bsize.cast_unsigned(),
                blocks: statfs.f_blocks,
                free: statfs.f_bfree,
                available: statfs.f_bavail,
                files: statfs.f_files,
                files_free: statfs.f_ffree,
            };
            put(buffer, &wire)
        }
        Ocall::ReadDirectory => {
            let into = part(buffer, a1)?;
            let fd = descriptor(a0)?;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), into.len()) })
        }
        Ocall::ReadLinkAt => {
            let name = text(buffer, 0, a1)?;
            let into = part(buffer, a2)?;
            let fd = descriptor(a0)?;
            // SAFETY: a NUL-terminated name and a valid buffer of its length.
            checked(
                unsafe { libc::readlinkat(fd, name.as_ptr(), into.as_mut_ptr().cast(), into.len()) } as i64
            )
        }
        Ocall::MkdirAt => {
            let name = text(buffer, 0, a1)?;
            // SAFETY: a NUL-terminated name.
            checked(i64::from(unsafe { libc::mkdirat(descriptor(a0)?, name.as_ptr(), a2 as libc::mode_t) }))
        }
        Ocall::UnlinkAt => {
            let name = text(buffer, 0, a1)?;
            // SAFETY: a NUL-terminated name.
            checked(i64::from(unsafe { libc::unlinkat(descriptor(a0)?, name.as_ptr(), a2 as i32) }))
        }
        Ocall::RenameAt => {
            let from = text(buffer, 0, a1)?;
            let to = text(buffer, a1 as usize, a3)?;
            let (from_dir, to_dir) = (descriptor(a0)?, descriptor(a2)?);
            // SAFETY: NUL-terminated names.
            checked(unsafe {
                libc::syscall(
                    libc::SYS_renameat2,
                    from_dir,
                    from.as_ptr(),
                    to_dir,
                    to.as_ptr(),
                    a4 as libc::c_uint,
                )
            })
        }
        Ocall::SymlinkAt => {
            let target = text(buffer, 0, a0)?;
            let name = text(buffer, a0 as usize, a2)?;
            // SAFETY: NUL-terminated strings.
            checked(i64::from(unsafe { libc::symlinkat(target.as_ptr(), descriptor(a1)?, name.as_ptr()) }))
        }
        Ocall::LinkAt => {
            let from = text(buffer, 0, a1)?;
            let to = text(buffer, a1 as usize, a3)?;
            let (from_dir, to_dir) = (descriptor(a0)?, descriptor(a2)?);
            // SAFETY: NUL-terminated names.
            checked(i64::from(unsafe { libc::linkat(from_dir, from.as_ptr(), to_dir, to.as_ptr(), 0) }))
        }
        Ocall::Truncate => {
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::ftruncate(descriptor(a0)?, a1.cast_signed()) }))
        }
        Ocall::Allocate => {
            let (offset, len) = (a2.cast_signed(), a3.cast_signed());
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::fallocate(descriptor(a0)?, a1 as i32, offset, len) }))
        }
        Ocall::Chmod => {
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::fchmod(descriptor(a0)?, a1 as libc::mode_t) }))
        }
        Ocall::SetTimes => {
            let times = [time(a1), time(a2)];
            // SAFETY: an array of two timespecs.
            checked(i64::from(unsafe { libc::futimens(descriptor(a0)?, times.as_ptr()) }))
        }
        Ocall::Sync => {
            let fd = descriptor(a0)?;
            let call = if a1 == 1 { libc::SYS_fdatasync } else { libc::SYS_fsync };
            // SAFETY: no pointers are involved.
            checked(unsafe { libc::syscall(call, fd) })
        }
        Ocall::StatusFlags => {
            let fd = descriptor(a0)?;
            if a1 != u64::MAX {
                // SAFETY: no pointers are involved.
                checked(i64::from(unsafe { libc::fcntl(fd, libc::F_SETFL, a1 as libc::c_int) }))?;
            }
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::fcntl(fd, libc::F_GETFL) }))
        }
        Ocall::Ioctl => {
            let argument = part(buffer, a2.max(64))?;
            let fd = descriptor(a0)?;
            // SAFETY: the enclave passes only requests whose argument is at most 64 bytes; a request with a larger
            // one would overwrite the rest of the channel's buffer, which is larger than any.
            checked(i64::from(unsafe { libc::ioctl(fd, a1, argument.as_mut_ptr()) }))
        }
        _ => Err(libc::ENOSYS),
    }
}

fn put<T: IntoBytes + zerocopy::Immutable>(buffer: &mut [u8], value: &T) -> Result<u64, i32> {
    value.write_to_prefix(buffer).map(|()| 0).map_err(|_| libc::EMSGSIZE)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Opens what is at names one below the other, joined by slashes. No link is followed, so that none leads out of the folder.
fn open_below(folder: i32, path: &CStr, flags: i32, mode: u64) -> Result<OwnedFd, i32> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let opened = if path.to_bytes().contains(&b'/') {
        // struct open_how
        let mode = if flags & libc::O_CREAT == 0 { 0 } else { mode };
        let how = [flags as u64, mode, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS];
        // SAFETY: a NUL-terminated path and a structure of its size.
        unsafe { libc::syscall(libc::SYS_openat2, folder, path.as_ptr(), how.as_ptr(), size_of_val(&how)) }
    } else {
        // SAFETY: a NUL-terminated name.
        i64::from(unsafe { libc::openat(folder, path.as_ptr(), flags, mode as libc::c_uint) })
    };
    let fd = checked(opened)?;
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attributes of what is at names one below the other, and its descriptor if it is a regular file that can be opened with these flags.
fn look_up(folder: i32, path: &CStr, flags: Option<i32>) -> Result<(libc::stat, Option<OwnedFd>), i32> {
    let bytes = path.to_bytes();
    let above = match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let above = text(bytes, 0, slash as u64)?;
            let above = open_below(folder, &above, libc::O_PATH | libc::O_DIRECTORY, 0);
            Some((slash, above.map_err(|_| libc::ELOOP)?))
        }
        None => None,
    };
    let (start, folder) = above.as_ref().map_or((0, folder), |(slash, above)| (slash + 1, above.as_raw_fd()));
    let name = text(bytes, start, (bytes.len() - start) as u64)?;
    let stat = lstat_at(folder, &name)?;
    let flags = flags.filter(|_| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    Ok((stat, flags.and_then(|flags| open_below(folder, &name, flags, 0).ok())))
}

/// Attributes of a name in a folder; a link is not followed.
fn lstat_at(folder: i32, name: &CStr) -> Result<libc::stat, i32> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: a NUL-terminated name and a buffer of the right size.
    let result =
        unsafe { libc::fstatat(folder, name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    checked(i64::from(result))?;
    // SAFETY: the call succeeded and filled it.
    Ok(unsafe { stat.assume_init() })
}

fn put_stat(buffer: &mut [u8], stat: libc::stat) -> Result<u64, i32> {
    let wire = WireStat {
        dev: stat.st_dev,
        ino: stat.st_ino,
        nlink: stat.st_nlink,
        rdev: stat.st_rdev,
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime_ns: nanoseconds(stat.st_atime, stat.st_atime_nsec),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
    };
    put(buffer, &wire)
}

fn time(value: u64) -> libc::timespec {
    match value {
        TIME_KEEP => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        TIME_NOW => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        ns => {
            let ns = ns.cast_signed();
            libc::timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_have_positive_nanoseconds() {
        let time = time((-1i64).cast_unsigned() - 5);
        assert_eq!((time.tv_sec, time.tv_nsec), (-1, 999_999_994));
    }

    #[test]
    fn a_name_beyond_the_buffer_is_refused() {
        assert_eq!(text(b"abc", 2, 5), Err(libc::EINVAL));
        assert_eq!(text(b"a\0c", 0, 3), Err(libc::EINVAL));
    }
}
