//! Nodes of a host folder.

use crate::handle::Handle;
use crate::location::{Identity, Kind, Location};
use crate::{Shared, dirent};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::fs::OpenFlags;
use platform::{HostFd, HostFiles, HostStat, TimeSetting};
use vfs::{
    Create, Directory, DirectoryEntry, FileType, Inode, Intent, Metadata, Name, Node, Regular, SetAttributes,
    Special, Symlink,
};

/// Bytes moved by one host call.
const TRANSFER: usize = 128 << 10;
/// Bytes of directory records asked for at once.
const RECORDS: usize = 32 << 10;
/// AT_REMOVEDIR.
const REMOVE_DIRECTORY: u32 = 0x200;
/// RENAME_NOREPLACE.
const NO_REPLACE: u32 = 1;
/// FALLOC_FL_KEEP_SIZE.
const KEEP_SIZE: u32 = 1;
/// FALLOC_FL_PUNCH_HOLE.
const PUNCH_HOLE: u32 = 2;
/// Longest target of a symbolic link.
const LONGEST_TARGET: usize = 4096;

/// What every node of a host folder has.
pub(crate) struct Common {
    shared: Arc<Shared>,
    location: Arc<Location>,
    /// Of a file that was opened: it stays this one, whatever comes to its place.
    opened: Option<Arc<Handle>>,
    /// What was seen when it was looked up, for who asks next.
    seen: Mutex<Option<HostStat>>,
}

impl Common {
    fn new(shared: &Arc<Shared>, location: Arc<Location>) -> Self {
        Self { shared: Arc::clone(shared), location, opened: None, seen: Mutex::new(None) }
    }

    fn handle(&self) -> Result<Arc<Handle>> {
        match &self.opened {
            Some(opened) => Ok(Arc::clone(opened)),
            None => self.location.handle(&self.shared),
        }
    }

    /// What the host says of the file: of the open one, which may have lost its name, else of the one at the name.
    fn stat(&self) -> Result<HostStat> {
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

    fn metadata(&self) -> Result<Metadata> {
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

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
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

fn file_type(stat: &HostStat) -> Result<FileType> {
    FileType::from_mode(stat.mode).ok_or(Error::new(Errno::EIO, "the host says an impossible file type"))
}

fn identity(stat: &HostStat) -> Identity {
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

/// A directory.
pub(crate) struct HostDirectory {
    common: Common,
}

/// A regular file.
pub(crate) struct HostFile {
    common: Common,
}

/// A symbolic link.
struct HostSymlink {
    common: Common,
}

/// A device, FIFO or socket: it can be seen, not opened.
pub(crate) struct HostSpecial {
    common: Common,
}

inode!(HostDirectory);
inode!(HostFile);
inode!(HostSymlink);
inode!(HostSpecial);

impl HostDirectory {
    pub(crate) fn new(shared: &Arc<Shared>, location: Arc<Location>) -> Self {
        Self { common: Common::new(shared, location) }
    }

    /// The node at a name, of which the host says this.
    fn node(&self, name: &[u8], stat: &HostStat, intent: Intent) -> Result<Node> {
        let child = |kind| {
            let child = self.child(name, kind, Some(identity(stat)));
            *child.seen.lock() = (intent == Intent::Attributes).then_some(*stat);
            child
        };
        Ok(match file_type(stat)? {
            FileType::Regular => Node::Regular(Arc::new(HostFile { common: child(Kind::File) })),
            FileType::Directory => Node::Directory(Arc::new(Self { common: child(Kind::Directory) })),
            FileType::Symlink => Node::Symlink(Arc::new(HostSymlink { common: child(Kind::Other) })),
            _ => Node::Special(Arc::new(HostSpecial { common: child(Kind::Other) })),
        })
    }

    fn child(&self, name: &[u8], kind: Kind, identity: Option<Identity>) -> Common {
        Common::new(&self.common.shared, self.common.location.child(name, kind, identity))
    }

    /// The regular file at a name that was opened.
    fn opened(&self, name: &[u8], stat: &HostStat, fd: HostFd) -> Node {
        let shared = &self.common.shared;
        let mut common = self.child(name, Kind::File, Some(identity(stat)));
        let handle = Handle::new(&shared.platform, fd, shared.read_only());
        common.opened = Some(common.location.keep_handle(shared, handle));
        Node::Regular(Arc::new(HostFile { common }))
    }

    /// The same directory with an own position, for listing it.
    fn listing(&self) -> Result<Arc<Handle>> {
        let handle = self.common.handle()?;
        let platform = &self.common.shared.platform;
        let fd = platform.host_open_at(handle.fd(), b".", OpenFlags::DIRECTORY.bits(), 0)?;
        Ok(Handle::new(platform, fd, None))
    }

    /// Checks that a change is allowed and gives platform and descriptor.
    fn change(&self) -> Result<(&dyn HostFiles, Arc<Handle>)> {
        self.common.shared.check_writable()?;
        let handle = self.common.handle()?;
        Ok((&*self.common.shared.platform, handle))
    }
}

impl Directory for HostDirectory {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        let handle = self.common.handle()?;
        let stat = self.common.shared.platform().host_stat_at(handle.fd(), name.as_bytes())?;
        self.node(name.as_bytes(), &stat, Intent::Entry)
    }

    fn lookup_below(&self, names: &[Name<'_>], intent: Intent) -> Result<Option<Vec<Node>>> {
        let Common { shared, location, .. } = &self.common;
        let Some((last, above)) = names.split_last() else { return Ok(None) };
        // On the way to the last, nothing but what they are called is looked at.
        let mut parents = Vec::with_capacity(names.len());
        let mut at = Arc::clone(location);
        for name in above {
            at = at.child(name.as_bytes(), Kind::Directory, None);
            parents.push(Arc::new(Self::new(shared, Arc::clone(&at))));
        }
        let last = last.as_bytes();
        // What is open already is most likely what is there still.
        let opens = intent == Intent::Open && at.open_child(last).is_none();
        let flags = opens.then(|| shared.file_flags().bits());
        let path = names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>().join(&b'/');
        let handle = self.common.handle()?;
        let (stat, fd) = match shared.platform().host_look_up(handle.fd(), &path, flags) {
            // A link, say.
            Err(error) if error.0 == Errno::ELOOP && !above.is_empty() => return Ok(None),
            found => found?,
        };
        let parent = parents.last().map_or(self, |parent| &**parent);
        let node = match fd {
            Some(fd) => parent.opened(last, &stat, fd),
            None => parent.node(last, &stat, intent)?,
        };
        let mut nodes: Vec<_> = parents.into_iter().map(|parent| Node::Directory(parent)).collect();
        nodes.push(node);
        Ok(Some(nodes))
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let platform = self.common.shared.platform();
        let listing = self.listing()?;
        if cursor != 0 {
            platform.host_seek(listing.fd(), cursor.cast_signed(), 0)?;
        }
        let mut entries = Vec::new();
        let mut buffer = alloc::vec![0; RECORDS];
        while entries.len() < max {
            let read = platform.host_read_directory(listing.fd(), &mut buffer)?;
            if read == 0 {
                break;
            }
            for record in dirent::parse(buffer.get(..read).unwrap_or_default())? {
                if entries.len() >= max {
                    break;
                }
                let kind = match record.kind {
                    Some(kind) => kind,
                    None => file_type(&platform.host_stat_at(listing.fd(), record.name)?)?,
                };
                entries.push(DirectoryEntry {
                    name: record.name.to_vec(),
                    ino: record.ino,
                    kind,
                    next: record.next,
                });
            }
        }
        Ok(entries)
    }

    fn create(&self, name: Name<'_>, what: Create<'_>, mode: u32, _now_ns: i64) -> Result<Node> {
        let (platform, handle) = self.change()?;
        let bytes = name.as_bytes();
        match what {
            Create::Regular => {
                let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR;
                let fd = platform.host_open_at(handle.fd(), bytes, flags.bits(), mode & 0o7777)?;
                let stat = platform.host_stat(fd).inspect_err(|_| platform.host_close(fd))?;
                self.common.location.forget(bytes);
                Ok(self.opened(bytes, &stat, fd))
            }
            Create::Directory => {
                platform.host_mkdir_at(handle.fd(), bytes, mode & 0o7777)?;
                self.common.location.forget(bytes);
                self.lookup(name)
            }
            Create::Symlink(target) => {
                platform.host_symlink_at(target, handle.fd(), bytes)?;
                self.common.location.forget(bytes);
                self.lookup(name)
            }
            Create::Special(_) | Create::Device(..) => {
                bail!(EPERM, "a host folder takes only files, directories and links")
            }
        }
    }

    fn link(&self, name: Name<'_>, node: &Node) -> Result<()> {
        let (platform, handle) = self.change()?;
        let other = Error::new(Errno::EXDEV, "the file is of another file system");
        let file = node.inode().as_any().downcast_ref::<HostFile>().ok_or(other)?;
        if !Arc::ptr_eq(&file.common.shared, &self.common.shared) {
            return Err(other);
        }
        let (parent, from) = file.common.location.place().ok_or(other)?;
        let parent = parent.handle(&self.common.shared)?;
        Ok(platform.host_link_at(parent.fd(), &from, handle.fd(), name.as_bytes())?)
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<()> {
        let (platform, handle) = self.change()?;
        let flags = if directory { REMOVE_DIRECTORY } else { 0 };
        platform.host_unlink_at(handle.fd(), name.as_bytes(), flags)?;
        self.common.location.forget(name.as_bytes());
        Ok(())
    }

    fn rename(
        &self,
        from: Name<'_>,
        to: &Arc<dyn Directory>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        let (platform, handle) = self.change()?;
        let other = Error::new(Errno::EXDEV, "the directories are of different file systems");
        let to = to.as_any().downcast_ref::<Self>().ok_or(other)?;
        if !Arc::ptr_eq(&to.common.shared, &self.common.shared) {
            return Err(other);
        }
        let flags = if no_replace { NO_REPLACE } else { 0 };
        let to_handle = to.common.handle()?;
        let (from, to_name) = (from.as_bytes(), to_name.as_bytes());
        platform.host_rename_at(handle.fd(), from, to_handle.fd(), to_name, flags)?;
        self.common.location.moved(from, &to.common.location, to_name);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let handle = self.common.handle()?;
        Ok(self.common.shared.platform().host_sync(handle.fd(), false)?)
    }
}

impl HostFile {
    fn fd(&self) -> Result<(Arc<Handle>, HostFd)> {
        let handle = self.common.handle()?;
        let fd = handle.fd();
        Ok((handle, fd))
    }

    /// The descriptor to change the file by.
    fn fd_to_change(&self) -> Result<(Arc<Handle>, HostFd)> {
        self.common.shared.check_writable()?;
        let (handle, fd) = self.fd()?;
        handle.want_write()?;
        Ok((handle, fd))
    }

    fn host_allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let (_open, fd) = self.fd_to_change()?;
        Ok(self.common.shared.platform().host_allocate(fd, mode, offset, len)?)
    }
}

impl Regular for HostFile {
    fn open(&self, for_writing: bool) -> Result<Option<Arc<dyn Regular>>> {
        let Common { shared, location, opened, .. } = &self.common;
        if let Some(handle) = opened {
            if for_writing {
                handle.want_write()?;
            }
            return Ok(None);
        }
        let mut handle = location.handle(shared)?;
        if for_writing && handle.want_write().is_err() {
            // It may be allowed by now.
            location.forget_handle();
            handle = location.handle(shared)?;
            handle.want_write()?;
        }
        let common = Common { opened: Some(handle), ..Common::new(shared, Arc::clone(location)) };
        Ok(Some(Arc::new(Self { common })))
    }

    fn host_fd(&self) -> Option<HostFd> {
        self.common.opened.as_ref().map(|handle| handle.fd())
    }

    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let (_open, fd) = self.fd()?;
        let platform = self.common.shared.platform();
        let mut buffer = alloc::vec![0; into.remaining().min(TRANSFER)];
        let mut done = 0;
        while into.remaining() > 0 {
            let wanted = into.remaining().min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let at =
                offset.checked_add(done as u64).ok_or(Error::new(Errno::EINVAL, "offset out of range"))?;
            let read = match platform.host_read_at(fd, at, part) {
                Ok(read) => read,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            };
            let taken = match into.put(part.get(..read).unwrap_or_default()) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += taken;
            if read < wanted || taken < read {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        let (_open, fd) = self.fd_to_change()?;
        let platform = self.common.shared.platform();
        let mut buffer = alloc::vec![0; from.remaining().min(TRANSFER)];
        let mut done = 0;
        while from.remaining() > 0 {
            let taken = match from.take(&mut buffer) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let part = buffer.get(..taken).unwrap_or_default();
            let at =
                offset.checked_add(done as u64).ok_or(Error::new(Errno::EFBIG, "offset out of range"))?;
            let written = match platform.host_write_at(fd, at, part) {
                Ok(written) => written,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            };
            done += written;
            if written < taken {
                break;
            }
        }
        Ok(done)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let (_open, fd) = self.fd_to_change()?;
        Ok(self.common.shared.platform().host_truncate(fd, size)?)
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        self.host_allocate(if keep_size { KEEP_SIZE } else { 0 }, offset, len)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<()> {
        self.host_allocate(PUNCH_HOLE | KEEP_SIZE, offset, len)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let (_open, fd) = self.fd()?;
        Ok(self.common.shared.platform().host_sync(fd, data_only)?)
    }
}

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
