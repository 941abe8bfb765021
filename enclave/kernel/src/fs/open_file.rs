//! Open file descriptions: what descriptors share after `dup(2)` and `fork(2)`.

use super::FsShared;
use super::epoll::Interest;
use super::sigio::SignalDriven;
use crate::Kernel;
use crate::net::inet::InetSocket;
use crate::net::unix::UnixSocket;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use linux_abi::fs::{O_ACCMODE, OpenFlags};
use linux_abi::inotify::mask;
use platform::{HostFd, Threads};
use vfs::{Dentry, Directory, File, Node, Regular};

/// Flags that `fcntl(2)` F_SETFL can change.
const SETTABLE: u32 =
    OpenFlags::APPEND.union(OpenFlags::NONBLOCK).union(OpenFlags::DIRECT).union(OpenFlags::NOATIME).bits();

/// An open file description.
pub(crate) struct OpenFile {
    file: Arc<dyn File>,
    dentry: Option<Arc<Dentry>>,
    /// Access mode and status flags, as F_GETFL shows them.
    flags: AtomicU32,
    position: AtomicU64,
    is_position_taken: AtomicBool,
    shared: Arc<FsShared>,
    id: u64,
    may_hold_locks: AtomicBool,
    /// The epoll interests in it.
    watchers: Mutex<Vec<Weak<Interest>>>,
    is_watched: AtomicBool,
    /// What it signals, once that was asked for.
    driven: Mutex<Option<Arc<SignalDriven>>>,
}

impl OpenFile {
    /// Opens `file`; `flags` are those of `open(2)`.
    pub(crate) fn new(
        shared: &Arc<FsShared>,
        file: Arc<dyn File>,
        dentry: Option<Arc<Dentry>>,
        flags: OpenFlags,
    ) -> Arc<Self> {
        let transient = OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::NOCTTY
            | OpenFlags::TRUNC
            | OpenFlags::CLOEXEC
            | OpenFlags::ASYNC;
        Arc::new(Self {
            file,
            dentry,
            flags: AtomicU32::new(flags.difference(transient).bits()),
            position: AtomicU64::new(0),
            is_position_taken: AtomicBool::new(false),
            shared: Arc::clone(shared),
            id: shared.next_id(),
            may_hold_locks: AtomicBool::new(false),
            watchers: Mutex::default(),
            is_watched: AtomicBool::new(false),
            driven: Mutex::default(),
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where it was opened, for files that have a place.
    pub(crate) const fn dentry(&self) -> Option<&Arc<Dentry>> {
        self.dentry.as_ref()
    }

    /// A number that no other open file description has.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Access mode and status flags.
    pub(crate) fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the status flags that F_SETFL can change.
    pub(crate) fn set_flags(&self, flags: u32) {
        let update = |old: u32| Some((old & !SETTABLE) | (flags & SETTABLE));
        // The closure always gives a value.
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Sets or clears O_NONBLOCK.
    pub(crate) fn set_nonblocking(&self, on: bool) {
        let bit = OpenFlags::NONBLOCK.bits();
        if on {
            self.flags.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether O_NONBLOCK is set.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Whether it was opened with O_PATH: a place, not a file.
    pub(crate) fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }

    /// Whether it is open for reading.
    pub(crate) fn is_readable(&self) -> bool {
        !self.is_path_only() && matches!(self.flags().bits() & O_ACCMODE, 0 | 2)
    }

    /// Whether it is open for writing.
    pub(crate) fn is_writable(&self) -> bool {
        !self.is_path_only() && matches!(self.flags().bits() & O_ACCMODE, 1 | 2)
    }

    /// Fails unless it is open for reading.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn want_read(&self) -> Result<()> {
        if !self.is_readable() {
            kbase::bail!(EBADF, "the descriptor is not open for reading");
        }
        Ok(())
    }

    /// Fails unless it is open for writing.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn want_write(&self) -> Result<()> {
        if !self.is_writable() {
            kbase::bail!(EBADF, "the descriptor is not open for writing");
        }
        Ok(())
    }

    /// The regular file it is, if it is one.
    pub(crate) fn regular(&self) -> Option<&Arc<dyn Regular>> {
        match self.file.node() {
            Some(Node::Regular(file)) => Some(file),
            _ => None,
        }
    }

    /// Reads from the regular file that it is, what others stored where they map it included.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn read_regular(
        &self,
        file: &dyn Regular,
        offset: u64,
        into: &mut dyn ByteSink,
    ) -> Result<usize> {
        let end = offset.saturating_add(into.remaining() as u64);
        self.shared.windows.before_access(file, &(offset..end));
        file.read_at(offset, into)
    }

    /// The host's descriptor of the file of the host that it is, in which what others stored where they map this part of it is now.
    pub(super) fn host_file(&self, offset: u64, len: usize) -> Option<HostFd> {
        let file = self.regular()?;
        let fd = file.host_fd()?;
        self.shared.windows.before_access(&**file, &(offset..offset.saturating_add(len as u64)));
        Some(fd)
    }

    /// Writes to the regular file that it is, where others who map it see it. Returns where, and how much.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn write_regular(
        &self,
        file: &dyn Regular,
        offset: u64,
        from: &mut dyn ByteSource,
    ) -> Result<(u64, usize)> {
        let windows = &self.shared.windows;
        let len = from.remaining() as u64;
        let appends = self.flags().contains(OpenFlags::APPEND);
        let offset = if appends && !windows.is_empty() { file.metadata()?.size } else { offset };
        windows.before_access(file, &(offset..offset.saturating_add(len)));
        let (offset, written) =
            if appends { file.append(from)? } else { (offset, file.write_at(offset, from)?) };
        windows.after_change(file, &(offset..offset.saturating_add(written as u64)));
        Ok((offset, written))
    }

    /// The directory it is.
    ///
    /// # Errors
    /// ENOTDIR.
    pub(crate) fn directory(&self) -> Result<&Arc<dyn Directory>> {
        match self.file.node() {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(Error::new(Errno::ENOTDIR, "the descriptor is not of a directory")),
        }
    }

    /// Takes the position for one read or write, which moves it as one step. Waits while another thread has it, which
    /// may be copying to or from user memory: so it is no spin lock.
    pub(crate) fn take_position(&self, threads: &dyn Threads) -> Position<'_> {
        while self.is_position_taken.swap(true, Ordering::Acquire) {
            threads.yield_now();
        }
        Position { of: self }
    }

    /// The position, as it happens to be.
    pub(crate) fn tell(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The lock that is held while an `epoll` instance comes to watch another.
    pub(super) fn nesting(&self) -> &Mutex<()> {
        &self.shared.nesting
    }

    /// Notes a read or write. After one, an edge may come that nobody announces.
    pub(crate) fn note_transfer(&self) {
        if self.is_watched.load(Ordering::Relaxed) && self.file.changes_unannounced() {
            self.watchers().iter().for_each(|interest| interest.arm());
        }
    }

    /// Adds an epoll interest, which goes when this closes.
    pub(super) fn watch(&self, interest: &Arc<Interest>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(interest));
        self.is_watched.store(true, Ordering::Relaxed);
    }

    fn watchers(&self) -> Vec<Arc<Interest>> {
        self.watchers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Tells who watches the file or its directory of an event (`inotify(7)`).
    pub(crate) fn tell_watchers(&self, event: u32) {
        if let Some(entry) = &self.dentry {
            self.shared.watches.tell_entry(entry, event);
        }
    }

    /// Tells of bytes that were read or written.
    pub(super) fn tell_transfer(&self, count: usize, event: u32) {
        if count > 0 {
            self.tell_watchers(event);
        }
    }

    /// What it signals.
    pub(crate) fn signal_driven(&self, kernel: &Arc<Kernel>) -> Arc<SignalDriven> {
        let driven = self.driven.lock().get_or_insert_with(|| SignalDriven::new(kernel, self)).clone();
        if let Some(socket) = self.file.as_any().downcast_ref::<InetSocket>() {
            // Urgent data is told of whether or not O_ASYNC is set.
            socket.tell_of_urgent(Arc::downgrade(&driven));
        } else if let Some(socket) = self.file.as_any().downcast_ref::<UnixSocket>() {
            socket.tell_of_urgent(Arc::downgrade(&driven));
        }
        driven
    }

    /// What it signals, if that was ever asked for.
    pub(crate) fn signals(&self) -> Option<Arc<SignalDriven>> {
        self.driven.lock().clone()
    }

    /// Sets or clears O_ASYNC.
    pub(super) fn note_signal_driven(&self, on: bool) {
        let bit = OpenFlags::ASYNC.bits();
        if on {
            self.flags.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Notes that locks may have to be released when this closes.
    pub(crate) fn note_locks(&self) {
        self.may_hold_locks.store(true, Ordering::Relaxed);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.is_path_only() {
            self.tell_watchers(if self.is_writable() { mask::CLOSE_WRITE } else { mask::CLOSE_NOWRITE });
        }
        if *self.is_watched.get_mut() {
            self.watchers().iter().for_each(|interest| interest.close());
        }
        if let Some(driven) = self.driven.get_mut().take()
            && let Some(notifier) = self.file.notifier()
        {
            notifier.unregister(&(Arc::downgrade(&driven) as _));
        }
        if *self.may_hold_locks.get_mut() {
            self.shared.locks.release_description(self.id);
        }
    }
}

/// The position of an open file description, taken.
pub(crate) struct Position<'a> {
    of: &'a OpenFile,
}

impl Position<'_> {
    pub(crate) fn get(&self) -> u64 {
        self.of.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, position: u64) {
        self.of.position.store(position, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: usize) {
        self.set(self.get().saturating_add(bytes as u64));
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        self.of.is_position_taken.store(false, Ordering::Release);
    }
}
