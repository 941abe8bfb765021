//! `/dev/pts`: the slaves by number.

use super::slave::Slave;
use super::{Pty, Terminals};
use crate::Ctx;
use crate::fs::anonymous_metadata;
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use kbase::{Errno, Error, Result};
use linux_abi::fs::{OpenFlags, make_dev};
use vfs::{
    Directory, DirectoryEntry, File, FileSystem, FileType, Inode, Metadata, Name, Node, SetAttributes,
    Special, StatFs,
};

const MAGIC: u64 = 0x1cd1;
/// The name of the file that makes terminals, and its inode number.
const PTMX: (&[u8], u64) = (b"ptmx", 2);

/// The file system.
pub(in crate::fs) struct DevPts(Arc<Root>);

impl DevPts {
    pub(in crate::fs) fn new(terminals: &Arc<Terminals>, dev: u64) -> Arc<Self> {
        Arc::new(Self(Arc::new(Root { terminals: Arc::clone(terminals), dev })))
    }
}

impl FileSystem for DevPts {
    fn type_name(&self) -> &'static str {
        "devpts"
    }

    fn is_cached(&self) -> bool {
        false
    }

    fn root(&self) -> Arc<dyn Directory> {
        self.0.clone()
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, ..StatFs::default() })
    }
}

struct Root {
    terminals: Arc<Terminals>,
    dev: u64,
}

impl Inode for Root {
    fn metadata(&self) -> Result<Metadata> {
        let base = anonymous_metadata(1, FileType::Directory, 0);
        Ok(Metadata { dev: self.dev, mode: 0o755, nlink: 2, ..base })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for Root {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        if name.as_bytes() == PTMX.0 {
            return Ok(Node::Special(Arc::new(Multiplexer { dev: self.dev })));
        }
        let number = core::str::from_utf8(name.as_bytes()).ok().and_then(|name| name.parse().ok());
        // Only the shortest spelling of a number is its name.
        let number = number.filter(|number: &u32| number.to_string().as_bytes() == name.as_bytes());
        let pty = number.and_then(|number| self.terminals.get(number));
        let pty = pty.ok_or(Error::new(Errno::ENOENT, "no such terminal"))?;
        Ok(Node::Special(Arc::new(SlaveNode {
            pty: Arc::downgrade(&pty),
            last: pty.metadata(),
            dev: self.dev,
        })))
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let entry = |name: Vec<u8>, ino| DirectoryEntry { name, ino, kind: FileType::CharDevice, next: ino };
        let slaves = self.terminals.list();
        let slaves = slaves.iter().map(|pty| entry(pty.number.to_string().into(), pty.metadata().ino));
        let all = core::iter::once(entry(PTMX.0.to_vec(), PTMX.1)).chain(slaves);
        Ok(all.filter(|entry| entry.next > cursor).take(max).collect())
    }
}

/// `/dev/pts/ptmx`.
struct Multiplexer {
    dev: u64,
}

impl Inode for Multiplexer {
    fn metadata(&self) -> Result<Metadata> {
        let base = anonymous_metadata(PTMX.1, FileType::CharDevice, 0);
        Ok(Metadata { dev: self.dev, mode: 0o666, rdev: make_dev(5, 2), ..base })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Special for Multiplexer {}

/// A slave that is not opened. It does not keep its terminal.
struct SlaveNode {
    pty: Weak<Pty>,
    /// Attributes when it was found, for when the terminal is gone.
    last: Metadata,
    dev: u64,
}

impl Inode for SlaveNode {
    fn metadata(&self) -> Result<Metadata> {
        let metadata = self.pty.upgrade().map_or(self.last, |pty| pty.metadata());
        Ok(Metadata { dev: self.dev, ..metadata })
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        let Some(pty) = self.pty.upgrade() else { kbase::bail!(EIO, "the terminal is gone") };
        let mut state = pty.state.lock();
        state.mode = change.mode.unwrap_or(state.mode);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Special for SlaveNode {}

/// Opens a slave by device number.
///
/// # Errors
/// EIO, as [`Slave::open`]; ENXIO there is none.
pub(in crate::fs) fn open(ctx: &Ctx<'_>, number: u32, flags: OpenFlags) -> Result<Arc<dyn File>> {
    let pty = ctx.kernel.mounts.shared().terminals.get(number);
    let pty = pty.ok_or(Error::new(Errno::EIO, "the terminal is gone"))?;
    Slave::open(ctx, &pty, flags, None)
}

/// The number of a slave's device, if it is one.
pub(in crate::fs) fn number_of(major_minor: (u32, u32)) -> Option<u32> {
    (major_minor.0 == super::MAJOR).then_some(major_minor.1)
}
