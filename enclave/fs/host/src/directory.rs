//! Directories: names, and what they lead to.

use crate::file::HostFile;
use crate::handle::Handle;
use crate::location::{Identity, Kind, Location};
use crate::node::{Common, HostSpecial, HostSymlink, file_type, identity, inode};
use crate::{Shared, dirent};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::fs::OpenFlags;
use platform::{HostFd, HostFiles, HostStat};
use vfs::{Create, Directory, DirectoryEntry, FileType, Inode, Intent, Metadata, Name, Node, SetAttributes};

/// Bytes of directory records asked for at once.
const RECORDS: usize = 32 << 10;
/// AT_REMOVEDIR.
const REMOVE_DIRECTORY: u32 = 0x200;
/// RENAME_NOREPLACE.
const NO_REPLACE: u32 = 1;

/// A directory.
pub(crate) struct HostDirectory {
    common: Common,
    /// What the last listing went by, and where that is, or no further than dots behind that, if it is where the listing ended.
    listing: Mutex<Option<(Arc<Handle>, Option<u64>)>>,
}

inode!(HostDirectory);

impl HostDirectory {
    pub(crate) fn new(shared: &Arc<Shared>, location: Arc<Location>) -> Self {
        Self::of(Common::new(shared, location))
    }

    const fn of(common: Common) -> Self {
        Self { common, listing: Mutex::new(None) }
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
            FileType::Directory => Node::Directory(Arc::new(Self::of(child(Kind::Directory)))),
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

    /// The same directory with an own position, for listing it from there on.
    fn listing(&self, cursor: u64) -> Result<Arc<Handle>> {
        let Common { shared, location, .. } = &self.common;
        let kept = self.listing.lock().take();
        let (listing, at) = match kept {
            // From the start on, what came meanwhile is listed, too.
            Some((listing, at)) => (listing, at.filter(|&at| at != 0)),
            None => (location.open_anew(shared)?, Some(0)),
        };
        if at != Some(cursor) {
            shared.platform().host_seek(listing.fd(), cursor.cast_signed(), 0)?;
        }
        Ok(listing)
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
        let listing = self.listing(cursor)?;
        let mut entries = Vec::new();
        let mut buffer = alloc::vec![0; RECORDS];
        let mut at = Some(cursor);
        while entries.len() < max {
            let read = platform.host_read_directory(listing.fd(), &mut buffer)?;
            if read == 0 {
                break;
            }
            for record in dirent::parse(buffer.get(..read).unwrap_or_default())? {
                if entries.len() >= max {
                    // It is further than what was taken.
                    at = None;
                    break;
                }
                let kind = match record.kind {
                    Some(kind) => kind,
                    None => file_type(&platform.host_stat_at(listing.fd(), record.name)?)?,
                };
                at = Some(record.next);
                entries.push(DirectoryEntry {
                    name: record.name.to_vec(),
                    ino: record.ino,
                    kind,
                    next: record.next,
                });
            }
        }
        let other = self.listing.lock().replace((listing, at));
        drop(other);
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
