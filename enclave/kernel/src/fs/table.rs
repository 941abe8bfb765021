//! Descriptors.

use super::{FsShared, HostStream, Mappable, OpenFile};
use crate::kernel::Kernel;
use crate::process::Users;
use crate::syscall::Fd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::sync::RwLock;
use kbase::{Errno, Error, Result};
use platform::HostFd;

/// Most descriptors of a process, whatever its limit says.
const MAX_DESCRIPTORS: usize = 1 << 20;
/// RLIMIT_NOFILE of new processes.
const DEFAULT_LIMIT: u64 = 1024;

/// The descriptors of threads (CLONE_FILES), mostly of all those of a process.
///
/// Open files are dropped after the lock is released: closing may call the host.
pub(crate) struct FileTable {
    shared: Arc<FsShared>,
    /// The threads that have it.
    users: Users,
    /// Owner of its record locks.
    id: u64,
    limit: AtomicU64,
    slots: RwLock<Slots>,
}

#[derive(Clone, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    /// Nothing below is free.
    lowest: usize,
}

#[derive(Clone)]
struct Entry {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

impl Slots {
    fn get(&self, fd: Fd) -> Option<&Entry> {
        self.entries.get(index(fd))?.as_ref()
    }

    /// The lowest free number that is at least `from`.
    fn free(&self, from: usize, limit: usize) -> Result<usize> {
        let start = from.max(self.lowest);
        let free = self.entries.iter().skip(start).position(Option::is_none);
        let at = free.map_or(self.entries.len().max(start), |offset| start + offset);
        if at >= limit.min(MAX_DESCRIPTORS) {
            kbase::bail!(EMFILE, "the process has too many open files");
        }
        Ok(at)
    }

    /// Puts an entry at the lowest free number that is at least `from`.
    fn insert(&mut self, entry: Entry, from: usize, limit: usize) -> Result<Fd> {
        let at = self.free(from, limit)?;
        if from <= self.lowest {
            self.lowest = at + 1;
        }
        self.put(at, entry);
        Ok(Fd(u32::try_from(at).unwrap_or_default()))
    }

    fn put(&mut self, at: usize, entry: Entry) -> Option<Entry> {
        if at >= self.entries.len() {
            self.entries.resize(at + 1, None);
        }
        self.entries.get_mut(at)?.replace(entry)
    }

    fn take(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(at)?.take();
        if entry.is_some() {
            self.lowest = self.lowest.min(at);
        }
        entry
    }
}

fn index(fd: Fd) -> usize {
    usize::try_from(fd.0).unwrap_or(usize::MAX)
}

fn bad() -> Error {
    Error::new(Errno::EBADF, "no such descriptor")
}

impl FileTable {
    /// An empty table.
    pub(crate) fn new(shared: &Arc<FsShared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            users: Users::one(),
            id: shared.next_id(),
            limit: AtomicU64::new(DEFAULT_LIMIT),
            slots: RwLock::default(),
        }
    }

    /// A table with the three standard descriptors on host descriptors.
    ///
    /// # Errors
    /// EBADF the host does not have such a descriptor.
    pub(crate) fn with_stdio(kernel: &Kernel, stdio: [Option<HostFd>; 3]) -> Result<Self> {
        let table = Self::new(kernel.mounts.shared());
        for (number, host) in (0u32..).zip(stdio) {
            let Some(host) = host else { continue };
            let (stream, flags) = HostStream::open(kernel.platform(), host)?;
            let open = OpenFile::new(&table.shared, stream, None, flags);
            let entry = Entry { file: open, close_on_exec: false };
            table.slots.write().put(index(Fd(number)), entry);
        }
        table.slots.write().lowest = stdio.iter().take_while(|host| host.is_some()).count();
        Ok(table)
    }

    /// A copy for a forked child. Record locks stay with the parent.
    pub(crate) fn fork(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            users: Users::one(),
            id: self.shared.next_id(),
            limit: AtomicU64::new(self.limit()),
            slots: RwLock::new(self.slots.read().clone()),
        }
    }

    /// The threads that have it.
    pub(crate) const fn users(&self) -> &Users {
        &self.users
    }

    /// A thread gives it up; with the last, all descriptors close.
    pub(crate) fn give_up(&self) {
        if self.users.leave() {
            self.close_all();
        }
    }

    /// Owner number of record locks.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// RLIMIT_NOFILE.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets RLIMIT_NOFILE.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The open file of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn get(&self, fd: Fd) -> Result<Arc<OpenFile>> {
        self.slots.read().get(fd).map(|entry| Arc::clone(&entry.file)).ok_or_else(bad)
    }

    /// The open file of a descriptor that is more than a path (O_PATH).
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn get_file(&self, fd: Fd) -> Result<Arc<OpenFile>> {
        let open = self.get(fd)?;
        if open.is_path_only() {
            kbase::bail!(EBADF, "the descriptor is only a path");
        }
        Ok(open)
    }

    /// Fails if there is no free number now.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn want_room(&self) -> Result<()> {
        self.slots.read().free(0, self.limit_index()).map(|_| ())
    }

    /// Gives an open file the lowest free number.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn insert(&self, file: Arc<OpenFile>, close_on_exec: bool) -> Result<Fd> {
        self.insert_from(file, close_on_exec, 0)
    }

    /// Gives an open file the lowest free number that is at least `from`.
    ///
    /// # Errors
    /// EMFILE; EINVAL `from` is beyond the limit.
    pub(crate) fn insert_from(&self, file: Arc<OpenFile>, close_on_exec: bool, from: u32) -> Result<Fd> {
        let limit = self.limit_index();
        let from = index(Fd(from));
        if from >= limit {
            if from == 0 {
                kbase::bail!(EMFILE, "the process may not open files");
            }
            kbase::bail!(EINVAL, "the number is beyond the limit");
        }
        self.slots.write().insert(Entry { file, close_on_exec }, from, limit)
    }

    /// Gives an open file the number `to`, closing what had it.
    ///
    /// # Errors
    /// EBADF `to` is beyond the limit.
    pub(crate) fn replace(&self, to: Fd, file: Arc<OpenFile>, close_on_exec: bool) -> Result<()> {
        if index(to) >= self.limit_index().min(MAX_DESCRIPTORS) {
            kbase::bail!(EBADF, "the number is beyond the limit");
        }
        let old = {
            let mut slots = self.slots.write();
            let old = slots.put(index(to), Entry { file, close_on_exec });
            if slots.lowest == index(to) {
                slots.lowest += 1;
            }
            old
        };
        if let Some(old) = old {
            self.closed(&old);
        }
        Ok(())
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn close(&self, fd: Fd) -> Result<()> {
        let entry = self.slots.write().take(index(fd)).ok_or_else(bad)?;
        self.closed(&entry);
        Ok(())
    }

    /// Closes the descriptors of a range, both ends included.
    pub(crate) fn close_range(&self, first: u32, last: u32) {
        self.close_where(|at, _| (index(Fd(first))..=index(Fd(last))).contains(&at));
    }

    /// Marks the descriptors of a range close-on-exec.
    pub(crate) fn mark_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.write();
        for (at, entry) in slots.entries.iter_mut().enumerate() {
            if let Some(entry) = entry
                && (index(Fd(first))..=index(Fd(last))).contains(&at)
            {
                entry.close_on_exec = true;
            }
        }
    }

    /// Closes what is marked close-on-exec.
    pub(crate) fn close_on_exec(&self) {
        self.close_where(|_, entry| entry.close_on_exec);
    }

    /// Closes everything: the process ends.
    pub(crate) fn close_all(&self) {
        self.close_where(|_, _| true);
    }

    fn close_where(&self, wanted: impl Fn(usize, &Entry) -> bool) {
        let mut closed = Vec::new();
        {
            let mut slots = self.slots.write();
            for at in 0..slots.entries.len() {
                let is_wanted =
                    slots.entries.get(at).and_then(Option::as_ref).is_some_and(|entry| wanted(at, entry));
                if is_wanted {
                    closed.extend(slots.take(at));
                }
            }
        }
        for entry in &closed {
            self.closed(entry);
        }
    }

    /// Record locks of a process on a file go when it closes *any* descriptor of the file (`fcntl(2)`), and so does what it asked
    /// to be told of a message queue.
    fn closed(&self, entry: &Entry) {
        self.shared.locks.release_owner(self.id, &entry.file);
        crate::ipc::posix::closed(self.id, &entry.file);
    }

    /// Whether a descriptor is closed by `execve(2)`.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn is_close_on_exec(&self, fd: Fd) -> Result<bool> {
        self.slots.read().get(fd).map(|entry| entry.close_on_exec).ok_or_else(bad)
    }

    /// Sets whether a descriptor is closed by `execve(2)`.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn set_close_on_exec(&self, fd: Fd, on: bool) -> Result<()> {
        let mut slots = self.slots.write();
        let entry = slots.entries.get_mut(index(fd)).and_then(Option::as_mut).ok_or_else(bad)?;
        entry.close_on_exec = on;
        Ok(())
    }

    /// The numbers in use at and after `from`, at most `max`.
    pub(crate) fn numbers(&self, from: u32, max: usize) -> Vec<u32> {
        let slots = self.slots.read();
        let used = slots.entries.iter().enumerate().skip(index(Fd(from)));
        let used = used.filter(|(_, entry)| entry.is_some());
        used.take(max).map(|(at, _)| u32::try_from(at).unwrap_or_default()).collect()
    }

    /// What `mmap(2)` maps for a descriptor, to be executed or not.
    ///
    /// # Errors
    /// EBADF no such descriptor; ENODEV it cannot be mapped; EACCES, EPERM neither can it be read, or executed.
    pub(crate) fn mappable(&self, fd: Fd, is_text: bool) -> Result<Mappable> {
        let open = self.get_file(fd)?;
        let Some(file) = open.regular() else {
            if !open.is_readable() {
                kbase::bail!(EACCES, "the descriptor does not allow it");
            }
            // What has no place in the tree is in file systems of the kernel, where nothing is executed.
            if is_text && open.file().node().is_none() {
                kbase::bail!(EPERM, "this kind of file cannot be executed");
            }
            kbase::bail!(ENODEV, "this kind of file cannot be mapped");
        };
        let path =
            open.dentry().map_or_else(Vec::new, |dentry| dentry.path_from(self.shared.root()).into_display());
        Ok(Mappable {
            file: Arc::clone(file),
            readable: open.is_readable(),
            writable: open.is_writable(),
            path,
        })
    }

    fn limit_index(&self) -> usize {
        usize::try_from(self.limit()).unwrap_or(usize::MAX)
    }
}
