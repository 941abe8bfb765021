//! What all nodes of a host folder have; links and special files.

use crate::Shared;
use crate::handle::Handle;
use crate::location::{Identity, Location};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use platform::{HostFd, HostStat, TimeSetting};
use vfs::{FileType, Inode, Metadata, SetAttributes, Special, Symlink};

/// Longest target of a symbolic link.
const LONGEST_TARGET: usize = 4096;

/// What every node of a host folder has.
pub(crate) struct Common {
    pub(crate) shared: Arc<Shared>,
    pub(crate) location: Arc<Location>,
    /// Of a file that was opened: it stays this one, whatever comes to its place.
    pub(crate) opened: Option<Arc<Handle>>,
    /// What was seen when it was looked up, for who asks next.
    pub(crate) seen: Mutex<Option<HostStat>>,
}

impl Common {
    pub(crate) fn new(shared: &Arc<Shared>, location: Arc<Location>) -> Self {
        Self { shared: Arc::clone(shared), location, opened: None, seen: Mutex::new(None) }
    }

    pub(crate) fn handle(&self) -> Result<Arc<Handle>> {
        match &self.opened {
            Some(opened) => Ok(Arc::clone(opened)),
            None => self.location.handle(&self.shared),
        }
    }

    /// What the host says of the file: of the open one, which may have lost its name, else of the one at the name.
    pub(crate) fn stat(&self) -> Result<HostStat> {
        let platform = self.shared.platform();
        if let Some(open) = self.opened.clone().or_else(|| self.location.open_handle()) {
            return Ok(platform.host_stat(open.fd())?);
        }
        match self.location.place() {
            Some((parent, name)) => {
                let parent = parent.handle(&self.shared)?;
                Ok(platform.host_stat_at(parent.fd(), &name)?)
            }
            None => Ok(platform.host_stat(self.handle()?.fd())?),
        }
    }

    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let seen = self.seen.lock().take();
        let stat = seen.map_or_else(|| self.stat(), Ok)?;
        let kind = file_type(&stat)?;
        if stat.size > i64::MAX.cast_unsigned() {
            bail!(EIO, "the host says an impossible size");
        }
        Ok(Metadata {
            dev: self.shared.dev,
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
        })
    }

    pub(crate) fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.shared.check_writable()?;
        let handle = self.handle()?;
        let platform = self.shared.platform();
        let now = self.stat()?;
        if change.uid.is_some_and(|uid| uid != now.uid) || change.gid.is_some_and(|gid| gid != now.gid) {
            bail!(EPERM, "owners of host files are the host's");
        }
        if let Some(mode) = change.mode {
            platform.host_chmod(handle.fd(), mode & 0o7777)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let setting = |time: Option<vfs::TimeChange>| {
                time.map_or(TimeSetting::Keep, |time| TimeSetting::At(time.at_ns))
            };
            platform.host_set_times(handle.fd(), setting(change.atime), setting(change.mtime))?;
        }
        Ok(())
    }
}

pub(crate) fn file_type(stat: &HostStat) -> Result<FileType> {
    FileType::from_mode(stat.mode).ok_or(Error::new(Errno::EIO, "the host says an impossible file type"))
}

pub(crate) fn identity(stat: &HostStat) -> Identity {
    (stat.dev, stat.ino)
}

/// Implements [`Inode`] by the field `common`.
macro_rules! inode {
    ($type:ty) => {
        impl Inode for $type {
            fn metadata(&self) -> Result<Metadata> {
                self.common.metadata()
            }

            fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
                self.common.set_attributes(change)
            }

            fn as_any(&self) -> &dyn Any {
                self
            }
        }
    };
}

pub(crate) use inode;

/// A symbolic link.
pub(crate) struct HostSymlink {
    pub(crate) common: Common,
}

/// A device, FIFO or socket: it can be seen, not opened.
pub(crate) struct HostSpecial {
    pub(crate) common: Common,
}

inode!(HostSymlink);
inode!(HostSpecial);

impl Symlink for HostSymlink {
    fn target(&self) -> Result<Vec<u8>> {
        let gone = Error::new(Errno::ENOENT, "the link has no place");
        let (parent, name) = self.common.location.place().ok_or(gone)?;
        let parent = parent.handle(&self.common.shared)?;
        let mut target = alloc::vec![0; LONGEST_TARGET];
        let len = self.common.shared.platform().host_read_link_at(parent.fd(), &name, &mut target)?;
        target.truncate(len);
        if len == LONGEST_TARGET || target.contains(&0) {
            bail!(EIO, "the host sent an impossible link target");
        }
        Ok(target)
    }
}

impl HostSpecial {
    /// Whether programs may connect to it, if it is a socket.
    pub(crate) fn is_open_to_programs(&self) -> bool {
        self.common.shared.options.sockets
    }

    /// Connects a new socket of a type to it.
    pub(crate) fn connect(&self, kind: u32) -> Result<HostFd> {
        let gone = Error::new(Errno::ECONNREFUSED, "the socket has no place");
        let (parent, name) = self.common.location.place().ok_or(gone)?;
        let parent = parent.handle(&self.common.shared)?;
        Ok(self.common.shared.platform().host_connect_at(parent.fd(), &name, kind)?)
    }
}

impl Special for HostSpecial {}
