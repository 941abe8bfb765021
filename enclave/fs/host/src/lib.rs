//! hostfs: host folders, untrusted.
//!
//! Everything read here is the host's word: content, names, sizes and times. What is checked is what would harm the
//! kernel: names are names, types are types, lengths are bounded. The host walks through folders alone and follows no
//! symbolic links, so a link leads where it points *in the enclave*.
//!
//! * [`directory`], [`file`], [`node`]: what a name is; the last has what is the same for all.
//! * [`location`]: where a node is, kept right over renames that go through the enclave.
//! * [`handle`]: host descriptors. What programs have open stays so; of the others a bounded number does.
//! * [`dirent`]: the parser of directory records.
//!
//! Lock order: the children of a location, then its handle. The others are taken alone. No lock is held over a host call.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod directory;
mod dirent;
mod file;
mod handle;
mod location;
mod node;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use directory::HostDirectory;
use handle::{Handle, OpenHandles};
use kbase::{Errno, Result, bail};
use linux_abi::fs::OpenFlags;
use location::Location;
use node::HostSpecial;
use platform::{HostFd, Platform};
use vfs::{Directory, FileSystem, Inode, StatFs};

/// V9FS_MAGIC of `statfs(2)`: files of another system.
const MAGIC: u64 = 0x0102_1997;

/// Whether a program may connect to what a node is: a socket of the host.
#[must_use]
pub fn is_socket_of_host(inode: &dyn Inode) -> bool {
    inode.as_any().downcast_ref::<HostSpecial>().is_some_and(HostSpecial::is_open_to_programs)
}

/// Connects a new socket of the host, of a type, to the one that a node is.
///
/// # Errors
/// ECONNREFUSED it is none, or programs may not; EAGAIN too many wait there; and what the host says.
pub fn connect(inode: &dyn Inode, kind: u32) -> Result<HostFd> {
    match inode.as_any().downcast_ref::<HostSpecial>() {
        Some(special) if special.is_open_to_programs() => special.connect(kind),
        _ => bail!(ECONNREFUSED, "no socket of the host that programs may connect to"),
    }
}

/// A host folder.
pub struct HostFs {
    shared: Arc<Shared>,
    root: Arc<Location>,
}

/// What the nodes of a mount share.
pub(crate) struct Shared {
    platform: Arc<dyn Platform>,
    dev: u64,
    options: Options,
    open: OpenHandles,
}

/// What programs may do in a host folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Change nothing.
    pub read_only: bool,
    /// Connect to the sockets of the host that are files in it.
    pub sockets: bool,
}

impl Shared {
    fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// Why files are opened for reading alone, if they are.
    fn read_only(&self) -> Option<Errno> {
        self.options.read_only.then_some(Errno::EROFS)
    }

    /// How a regular file is opened at the host: once, whatever for, since those who open it share the handle.
    fn file_flags(&self) -> OpenFlags {
        // What is none by now does not block.
        OpenFlags::NONBLOCK | if self.options.read_only { OpenFlags::empty() } else { OpenFlags::RDWR }
    }

    /// Fails on a read-only mount.
    ///
    /// # Errors
    /// EROFS.
    fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            bail!(EROFS, "the host folder is mounted read-only");
        }
        Ok(())
    }
}

impl HostFs {
    /// Mounts the folder at an absolute host path.
    ///
    /// # Errors
    /// What opening it says.
    pub fn open(platform: &Arc<dyn Platform>, path: &[u8], options: Options, dev: u64) -> Result<Arc<Self>> {
        let flags = OpenFlags::DIRECTORY.bits();
        let fd = platform.host_open_path(path, flags, 0)?;
        let handle = Handle::new(platform, fd, None);
        let shared =
            Arc::new(Shared { platform: Arc::clone(platform), dev, options, open: OpenHandles::default() });
        Ok(Arc::new(Self { shared, root: Location::root(handle) }))
    }
}

impl FileSystem for HostFs {
    fn type_name(&self) -> &'static str {
        "hostfs"
    }

    fn is_cached(&self) -> bool {
        // The host changes its folders behind our back.
        false
    }

    fn root(&self) -> Arc<dyn Directory> {
        Arc::new(HostDirectory::new(&self.shared, Arc::clone(&self.root)))
    }

    fn statfs(&self) -> Result<StatFs> {
        let handle = self.root.handle(&self.shared)?;
        let host = self.shared.platform.host_statfs(handle.fd())?;
        Ok(StatFs {
            magic: MAGIC,
            block_size: host.block_size,
            blocks: host.blocks,
            free: host.free,
            files: host.files,
            files_free: host.files_free,
            read_only: self.shared.options.read_only,
        })
    }
}
