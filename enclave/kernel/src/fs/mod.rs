//! Files of the kernel: mounts, path walk, descriptors.
//!
//! A descriptor leads to an [`OpenFile`], that to a [`vfs::File`], and that, for files with a place, to a node of a file
//! system. Files that can block never do so themselves: they answer EAGAIN, and [`wait`] does the waiting.
//!
//! Lock order: `FsContext`, `FileTable`, `LockTable`; then what [`vfs`] says.

mod context;
mod device;
mod epoll;
mod eventfd;
mod inotify;
mod io;
mod limit;
mod locks;
mod memfd;
mod mounts;
mod open;
mod open_file;
mod pidfd;
mod pipe;
pub(crate) mod poll;
mod proc;
pub(crate) mod ring;
mod sigio;
mod signalfd;
mod stream;
mod sys;
mod table;
mod timerfd;
pub(crate) mod tty;
pub(crate) mod wait;
mod watches;

pub(crate) use context::{FsContext, Places};
pub(crate) use epoll::{Epoll, epoll};
pub(crate) use eventfd::eventfd;
pub(crate) use inotify::{Instance, inotify};
pub(crate) use io::{read, read_at, send_in_host, write, write_at};
pub(crate) use limit::check_size;
pub(crate) use locks::{Lock, LockOwner, file_id};
pub(crate) use memfd::MemoryFile;
pub(crate) use mounts::Mounts;
pub(crate) use open::{OpenHow, give_owner, open};
pub(crate) use open_file::{OpenFile, Position};
pub(crate) use pidfd::{PidFd, pidfd};
pub(crate) use pipe::{
    anonymous_metadata, check_two, give, hand_on, is_pipe, pipe, pipe_size, relay, set_packets, take, tee,
    wait_for_peer, wait_for_room,
};
pub(crate) use sigio::{SignalDriven, SignalOwner};
pub(crate) use signalfd::{SignalFd, signalfd};
pub(crate) use stream::HostStream;
pub(crate) use table::FileTable;
pub(crate) use timerfd::{TimerFd, timerfd};

use crate::kernel::Kernel;
use crate::vm::Windows;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{Result, bail};
use locks::LockTable;
use platform::Platform;
use vfs::{Dentry, Node, Regular, WalkFlags};

/// What open files need of the whole.
pub(crate) struct FsShared {
    platform: Arc<dyn Platform>,
    root: Arc<Dentry>,
    next_id: AtomicU64,
    /// The process group in the foreground of the terminal; 0: nobody said.
    pub(crate) foreground: AtomicU32,
    pub(crate) locks: LockTable,
    /// Files that are mapped shared.
    pub(crate) windows: Arc<Windows>,
    pub(crate) terminals: Arc<tty::Terminals>,
    pub(crate) watches: Arc<watches::Watches>,
    /// Held by who has an `epoll` instance watch another.
    nesting: Mutex<()>,
}

impl FsShared {
    fn new(platform: &Arc<dyn Platform>, root: &Arc<Dentry>) -> Arc<Self> {
        Arc::new(Self {
            platform: Arc::clone(platform),
            root: Arc::clone(root),
            next_id: AtomicU64::new(1),
            foreground: AtomicU32::new(0),
            locks: LockTable::default(),
            windows: Arc::default(),
            terminals: Arc::default(),
            watches: Arc::default(),
            nesting: Mutex::default(),
        })
    }

    /// A number that was not given out before.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The root of the namespace.
    pub(crate) const fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// What is below the kernel.
    pub(crate) fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }
}

/// A file that can be mapped.
pub(crate) struct Mappable {
    /// The file.
    pub(crate) file: Arc<dyn Regular>,
    /// Whether the descriptor is open for reading.
    pub(crate) readable: bool,
    /// Whether the descriptor is open for writing.
    pub(crate) writable: bool,
    /// Its path, for `/proc/self/maps`; may be empty.
    pub(crate) path: Vec<u8>,
}

/// A program file.
pub(crate) struct Executable {
    /// The file.
    pub(crate) file: Arc<dyn Regular>,
    /// Its absolute path, links resolved, for `/proc/self/exe`.
    pub(crate) path: Vec<u8>,
}

/// Opens a program file for `execve(2)`, from the context's working directory.
///
/// # Errors
/// ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG of the path walk; EACCES not a regular file, or no execute permission.
pub(crate) fn open_executable(kernel: &Kernel, context: &FsContext, path: &[u8]) -> Result<Executable> {
    let places = context.places();
    let dentry = kernel.mounts.namespace().resolve(places.start(), path, WalkFlags::FOLLOW)?;
    executable(&dentry, &places)
}

/// The program file that a place is.
///
/// # Errors
/// EACCES not a regular file, or no execute permission.
pub(crate) fn executable(dentry: &Arc<Dentry>, places: &Places) -> Result<Executable> {
    let Node::Regular(file) = dentry.node() else {
        bail!(EACCES, "a program is a regular file");
    };
    if file.metadata()?.mode & 0o111 == 0 {
        bail!(EACCES, "the file has no execute permission");
    }
    if dentry.mount().is_some_and(|mount| mount.options().no_exec) {
        bail!(EACCES, "the mount has noexec");
    }
    let path = dentry.path_from(&places.root).path;
    Ok(Executable { file: Arc::clone(file), path })
}

#[cfg(test)]
mod tests;
