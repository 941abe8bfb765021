//! Open files: what a descriptor refers to.

use crate::{Metadata, Node};
use alloc::string::String;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::any::Any;
use kbase::event::{Event, EventFilter, Notifier};
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserSpace};
use platform::{HostFd, ThreadHandle};

bitflags! {
    /// What could be done without blocking; the bits are those of `poll(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Readiness: u16 {
        /// POLLIN.
        const IN = 0x001;
        /// POLLPRI.
        const PRI = 0x002;
        /// POLLOUT.
        const OUT = 0x004;
        /// POLLERR.
        const ERR = 0x008;
        /// POLLHUP.
        const HUP = 0x010;
        /// POLLRDHUP.
        const RDHUP = 0x2000;
    }
}

/// What may have become possible: somebody who waits for one of these looks again.
impl Event for Readiness {}

/// The readiness that somebody waits for.
impl EventFilter<Readiness> for Readiness {
    fn accepts(&self, event: &Readiness) -> bool {
        self.intersects(*event)
    }
}

/// Tells those who wait for a file what may have become possible. Who registers adds ERR and HUP to what it waits for.
pub type ReadinessNotifier = Notifier<Readiness, Readiness>;

/// Which bits of `poll(2)` a kind of file tells with POLLIN and POLLOUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bands {
    /// None.
    Plain,
    /// POLLRDNORM, POLLWRNORM.
    Normal,
    /// POLLWRBAND, too.
    All,
}

/// Which ways bytes may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfers {
    /// Out of the file.
    pub read: bool,
    /// Into it.
    pub write: bool,
}

/// An open file of any kind. The default of each method is what Linux answers for files that cannot.
///
/// Access mode, status flags and the position of seekable files live in the open file description around it, once,
/// not in every kind. Callers hold no lock.
pub trait File: Send + Sync + Any {
    /// Reads from a file without a position (terminal, pipe, device). `nonblocking`: who reads does not wait. A file with a
    /// [`File::notifier`] does not wait either way.
    ///
    /// # Errors
    /// EAGAIN nothing is there and `nonblocking`; EINTR a signal came first; EINVAL not for this kind.
    fn read(&self, _into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        Err(Error::new(Errno::EINVAL, "this kind of file cannot be read"))
    }

    /// Writes to a file without a position.
    ///
    /// # Errors
    /// EAGAIN, EINTR, EPIPE nobody reads any more, EINVAL not for this kind.
    fn write(&self, _from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        Err(Error::new(Errno::EINVAL, "this kind of file cannot be written"))
    }

    /// Whether there is anything to read from it, or to write to it, ever. If not, a call says so before it looks at its buffer.
    fn can_transfer(&self) -> Transfers {
        Transfers { read: true, write: true }
    }

    /// The node, when it has one; a regular node makes the file seekable.
    fn node(&self) -> Option<&Node> {
        None
    }

    /// Attributes for `fstat(2)`.
    ///
    /// # Errors
    /// EIO.
    fn metadata(&self) -> Result<Metadata>;

    /// What it tells with POLLIN and POLLOUT.
    fn bands(&self) -> Bands {
        Bands::Normal
    }

    /// Whether `epoll(7)` takes it. What is always ready, and says so, it has no use for.
    fn can_be_watched(&self) -> bool {
        self.node().is_none()
    }

    /// What could be done without blocking. Never blocks itself.
    fn ready(&self) -> Readiness {
        Readiness::IN | Readiness::OUT
    }

    /// `lseek(2)` for files that keep their position themselves. A regular node or a directory does not: its position
    /// is in the open file description.
    ///
    /// # Errors
    /// ESPIPE no position; EINVAL the result would be negative.
    fn seek(&self, _offset: i64, _whence: u32) -> Result<u64> {
        Err(Error::new(Errno::ESPIPE, "this kind of file has no position"))
    }

    /// Who wants to know when [`File::ready`] changes. Files that have one never block themselves: they answer EAGAIN,
    /// and the caller waits.
    fn notifier(&self) -> Option<&ReadinessNotifier> {
        None
    }

    /// From now on its readiness is watched for by this thread, or by any (`None`), who does not look at it before it sleeps.
    fn is_awaited_by(&self, _thread: Option<ThreadHandle>) {}

    /// What the file can ever be ready for. Files that share a notifier hear of nothing else, where they differ in that: the ends of a
    /// pipe.
    fn possible(&self) -> Readiness {
        Readiness::all()
    }

    /// Whether its notifier tells of every event, so that O_ASYNC (`fcntl(2)`) may ask for signals.
    fn signals_events(&self) -> bool {
        false
    }

    /// When [`File::ready`] changes without a wake: a time of CLOCK_MONOTONIC in nanoseconds that has not come yet.
    fn next_change_ns(&self) -> Option<u64> {
        None
    }

    /// How long a wait for one of these may take, in nanoseconds: SO_RCVTIMEO and SO_SNDTIMEO of sockets.
    fn wait_limit_ns(&self, _events: Readiness) -> Option<u64> {
        None
    }

    /// Whether [`File::ready`] may change though no notifier tells: with time, or in the host.
    fn changes_unannounced(&self) -> bool {
        self.host_fd().is_some()
    }

    /// `ioctl(2)`.
    ///
    /// # Errors
    /// ENOTTY no such request for this kind.
    fn ioctl(&self, _request: u32, _argument: UserAddr, _space: &dyn UserSpace) -> Result<u64> {
        Err(Error::new(Errno::ENOTTY, "no such ioctl for this kind of file"))
    }

    /// The host descriptor to poll for [`File::ready`], for files that stand for one.
    fn host_fd(&self) -> Option<HostFd> {
        None
    }

    /// Whether it is a terminal.
    fn is_terminal(&self) -> bool {
        false
    }

    /// The file as its concrete type.
    fn as_any(&self) -> &dyn Any;

    /// The name that `/proc/self/fd` shows for files without a path, such as `pipe:[12]`.
    fn display_name(&self) -> Option<String> {
        None
    }
}

/// An opened node.
pub struct NodeFile {
    node: Node,
}

impl NodeFile {
    /// Opens a node as it is.
    #[must_use]
    pub fn new(node: Node) -> Arc<Self> {
        Arc::new(Self { node })
    }
}

impl File for NodeFile {
    fn node(&self) -> Option<&Node> {
        Some(&self.node)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.node.inode().metadata()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
