//! Devices: what `/dev` has and what opening it gives.

use super::tty;
use crate::Ctx;
use crate::syscall::Fd;
use alloc::sync::Arc;
use core::any::Any;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use linux_abi::fs::{OpenFlags, major_minor, make_dev};
use platform::Platform;
use vfs::{Create, Directory, File, FileType, Metadata, Name};

/// The devices, by name and number.
const DEVICES: [(&str, u32, u32); 8] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
    ("ptmx", 5, 2),
];

/// Symbolic links, by name and target.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Fills an empty `/dev`.
///
/// # Errors
/// ENOSPC.
pub(crate) fn populate(root: &dyn Directory) -> Result<()> {
    for (name, major, minor) in DEVICES {
        let device = Create::Device(FileType::CharDevice, make_dev(major, minor));
        root.create(Name::new(name.as_bytes())?, device, 0o666, 0)?;
    }
    for (name, target) in LINKS {
        root.create(Name::new(name.as_bytes())?, Create::Symlink(target.as_bytes()), 0o777, 0)?;
    }
    for name in ["shm", "pts", "mqueue"] {
        root.create(Name::new(name.as_bytes())?, Create::Directory, 0o1777, 0)?;
    }
    Ok(())
}

/// Opens the device of a node.
///
/// # Errors
/// ENXIO there is no such device.
pub(crate) fn open(ctx: &Ctx<'_>, metadata: &Metadata, flags: OpenFlags) -> Result<Arc<dyn File>> {
    if metadata.kind != FileType::CharDevice {
        kbase::bail!(ENXIO, "nothing serves this kind of special file");
    }
    let kind = match major_minor(metadata.rdev) {
        (1, 3) => Kind::Null,
        (1, 5) => Kind::Zero,
        (1, 7) => Kind::Full,
        (1, 8 | 9) => Kind::Random(Arc::clone(ctx.kernel.platform())),
        (5, 0) => match tty::open_controlling(ctx, metadata)? {
            Some(terminal) => return Ok(terminal),
            None => return terminal(ctx),
        },
        (5, 1) => return terminal(ctx),
        (5, 2) => return tty::open_master(ctx, metadata),
        number => match tty::devpts::number_of(number) {
            Some(number) => return tty::devpts::open(ctx, number, flags),
            None => return Err(Error::new(Errno::ENXIO, "there is no such device")),
        },
    };
    Ok(Arc::new(Device { kind, metadata: *metadata }))
}

/// The terminal that the program was started on, if a standard stream still leads to it.
fn terminal(ctx: &Ctx<'_>) -> Result<Arc<dyn File>> {
    let streams = [0, 2, 1].into_iter().filter_map(|fd| ctx.files.get(Fd(fd)).ok());
    let mut terminals = streams.filter(|open| open.file().is_terminal());
    let found = terminals.next().map(|open| Arc::clone(open.file()));
    found.ok_or(Error::new(Errno::ENXIO, "the process has no terminal"))
}

enum Kind {
    Null,
    Zero,
    Full,
    Random(Arc<dyn Platform>),
}

/// A memory device.
struct Device {
    kind: Kind,
    metadata: Metadata,
}

impl File for Device {
    fn can_be_watched(&self) -> bool {
        matches!(major_minor(self.metadata.rdev), (1, 8))
    }

    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        let wanted = into.remaining();
        match &self.kind {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => into.put_zeros(wanted),
            Kind::Random(platform) => {
                let mut done = 0;
                let mut bounce = [0u8; 256];
                while into.remaining() > 0 {
                    let len = into.remaining().min(bounce.len());
                    let part = bounce.get_mut(..len).unwrap_or_default();
                    platform.fill_random(part);
                    match into.put(part) {
                        Ok(0) => break,
                        Ok(put) => done += put,
                        Err(_) if done > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(done)
            }
        }
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        match self.kind {
            Kind::Full => Err(Error::new(Errno::ENOSPC, "the device is always full")),
            _ => Ok(from.remaining()),
        }
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.metadata)
    }

    /// Seeking in a memory device succeeds and means nothing.
    fn seek(&self, _offset: i64, _whence: u32) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
