//! Host descriptors that a program gets as its standard input, output and error: terminals, pipes, sockets, files.
//!
//! What is written here leaves the enclave in clear, and what is read is untrusted.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserSpace};
use linux_abi::fs::{O_ACCMODE, OpenFlags, ioctl};
use platform::{HostFd, HostPoll, HostStat, Platform};
use vfs::{File, FileType, Metadata, Readiness};

/// Bytes that cross the border at once.
const CHUNK: usize = 64 * 1024;

/// A host descriptor as a file. The position, where there is one, is the host's.
pub(crate) struct HostStream {
    platform: Arc<dyn Platform>,
    fd: HostFd,
    kind: FileType,
    is_terminal: bool,
}

impl HostStream {
    /// A stream on a descriptor of the host, with its access mode and status flags.
    ///
    /// # Errors
    /// EBADF the host has no such descriptor.
    pub(crate) fn open(platform: &Arc<dyn Platform>, fd: HostFd) -> Result<(Arc<Self>, OpenFlags)> {
        let stat = platform.host_stat(fd)?;
        let flags = platform.host_status_flags(fd, None)?;
        let kind = FileType::from_mode(stat.mode).unwrap_or(FileType::Fifo);
        let mut termios = [0; 64];
        let is_terminal =
            kind == FileType::CharDevice && platform.host_ioctl(fd, ioctl::TCGETS, &mut termios).is_ok();
        let visible = O_ACCMODE | (OpenFlags::APPEND | OpenFlags::NONBLOCK).bits();
        let stream = Arc::new(Self { platform: Arc::clone(platform), fd, kind, is_terminal });
        Ok((stream, OpenFlags::from_bits_retain(flags & visible)))
    }

    fn is_regular(&self) -> bool {
        self.kind == FileType::Regular
    }

    /// What the host finds ready now.
    fn poll_now(&self, events: Readiness) -> Readiness {
        let mut rows = [HostPoll { fd: self.fd, events: events.bits(), revents: 0 }];
        match self.platform.host_poll(&mut rows, Some(0)) {
            Ok(_) => Readiness::from_bits_truncate(rows[0].revents),
            Err(_) => Readiness::ERR,
        }
    }
}

impl File for HostStream {
    fn read(&self, into: &mut dyn ByteSink, nonblocking: bool) -> Result<usize> {
        let wanted = into.remaining().min(CHUNK);
        if wanted == 0 {
            return Ok(0);
        }
        if nonblocking && !self.is_regular() {
            let all = Readiness::IN | Readiness::HUP | Readiness::ERR;
            if !self.poll_now(Readiness::IN).intersects(all) {
                kbase::bail!(EAGAIN, "nothing to read");
            }
        }
        let mut bounce = alloc::vec![0; wanted];
        let read = self.platform.host_read(self.fd, &mut bounce)?;
        into.put(bounce.get(..read).unwrap_or_default())
    }

    fn write(&self, from: &mut dyn ByteSource, nonblocking: bool) -> Result<usize> {
        let mut done = 0usize;
        let mut bounce = Vec::new();
        while from.remaining() > 0 {
            bounce.resize(from.remaining().min(CHUNK), 0);
            let taken = match from.take(&mut bounce) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            if nonblocking && !self.is_regular() {
                let all = Readiness::OUT | Readiness::HUP | Readiness::ERR;
                if !self.poll_now(Readiness::OUT).intersects(all) {
                    from.give_back(taken);
                    if done > 0 {
                        break;
                    }
                    kbase::bail!(EAGAIN, "no room to write");
                }
            }
            match write_all(&*self.platform, self.fd, bounce.get(..taken).unwrap_or_default()) {
                Ok(written) => {
                    done += written;
                    if written < taken {
                        from.give_back(taken - written);
                        break;
                    }
                }
                Err(error) => {
                    from.give_back(taken);
                    if done > 0 {
                        break;
                    }
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn metadata(&self) -> Result<Metadata> {
        let stat = self.platform.host_stat(self.fd)?;
        Ok(metadata_of(&stat, self.kind))
    }

    fn ready(&self) -> Readiness {
        if self.is_regular() {
            return Readiness::IN | Readiness::OUT;
        }
        self.poll_now(Readiness::IN | Readiness::OUT)
    }

    fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if !self.is_regular() {
            kbase::bail!(ESPIPE, "the host file has no position");
        }
        Ok(self.platform.host_seek(self.fd, offset, whence)?)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        // How many bytes each takes in and gives back.
        let (takes, gives) = match request {
            ioctl::TCGETS => (0, 36),
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => (36, 0),
            ioctl::TIOCGWINSZ => (0, 8),
            ioctl::TIOCSWINSZ => (8, 0),
            ioctl::FIONREAD => (0, 4),
            _ => return Err(Error::new(Errno::ENOTTY, "no such ioctl for a host file")),
        };
        if !self.is_terminal && request != ioctl::FIONREAD {
            kbase::bail!(ENOTTY, "not a terminal");
        }
        let mut buffer = [0u8; 64];
        space.load(argument, buffer.get_mut(..takes).unwrap_or_default())?;
        let result = self.platform.host_ioctl(self.fd, request, &mut buffer)?;
        space.store(argument, buffer.get(..gives).unwrap_or_default())?;
        Ok(result.into())
    }

    fn host_fd(&self) -> Option<HostFd> {
        (!self.is_regular()).then_some(self.fd)
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        let name = match self.kind {
            _ if self.is_terminal => "/dev/tty",
            FileType::Fifo => "pipe:[0]",
            FileType::Socket => "socket:[0]",
            _ => "/dev/host",
        };
        Some(name.into())
    }
}

/// Writes all bytes, however little the host takes at once. Returns less only when something failed after the first byte.
fn write_all(platform: &dyn Platform, fd: HostFd, bytes: &[u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match platform.host_write(fd, rest) {
            Ok(0) => break,
            Ok(written) => done += written.min(rest.len()),
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// What the host says of a file, with the type it had when it was opened.
fn metadata_of(stat: &HostStat, kind: FileType) -> Metadata {
    Metadata {
        dev: stat.dev,
        ino: stat.ino,
        kind,
        mode: stat.mode & 0o7777,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        size: stat.size,
        blocks: stat.blocks,
        blksize: stat.blksize,
        atime_ns: stat.atime_ns,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
    }
}
