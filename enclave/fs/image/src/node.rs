//! Nodes as the kernel sees them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use erofs_format::{BLOCK_U64, FileType, FormatError, XattrEntry, parse_xattrs};
use kbase::sync::Once;
use kbase::{ByteSink, Errno, Error, Result};
use vfs::{
    Directory, DirectoryEntry, Inode, MappedPages, Metadata, Name, Node, Page, Regular, Special, Symlink,
    check_xattr_name,
};

use crate::directory;
use crate::volume::{Located, Volume, page_len, within};

/// Longest target of a symbolic link (`PATH_MAX` less the NUL).
const MAX_TARGET: u64 = 4095;

/// What nodes of every kind have.
struct Common {
    volume: Arc<Volume>,
    node: Located,
}

impl Common {
    fn metadata(&self) -> Result<Metadata> {
        let inode = &self.node.inode;
        let file_type = inode
            .file_type()
            .ok_or_else(|| self.volume.corrupt(self.node.nid, FormatError::Corrupt("file type")))?;
        let mtime_ns = i64::try_from(inode.mtime)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000)
            .saturating_add(inode.mtime_nsec.into());
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Metadata {
            dev: self.volume.dev(),
            ino: self.node.nid,
            kind: directory::kind(file_type),
            mode: u32::from(inode.mode & 0o7777),
            nlink: inode.nlink.into(),
            uid: inode.uid,
            gid: inode.gid,
            // The stored form of a device number is also that of `makedev(3)` for numbers of its size.
            rdev: if is_device { inode.address.into() } else { 0 },
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            blksize: 4096,
            atime_ns: mtime_ns,
            mtime_ns,
            ctime_ns: mtime_ns,
        })
    }

    /// Looks at the extended attributes until `visit` has what it wants.
    fn find_xattr<T>(&self, mut visit: impl FnMut(XattrEntry<'_>) -> Option<T>) -> Result<Option<T>> {
        let inode = &self.node.inode;
        let corrupt = |error| self.volume.corrupt(self.node.nid, error);
        let mut area = alloc::vec![0; inode.xattr_len];
        let at = self.node.offset.saturating_add(inode.header_len() as u64);
        if self.volume.copy_bytes(at, &mut area)? < area.len() {
            return Err(corrupt(FormatError::Truncated));
        }
        for entry in parse_xattrs(&area) {
            if let Some(found) = visit(entry.map_err(corrupt)?) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let found = self.find_xattr(|entry| entry.is(name).then(|| entry.value.to_vec()))?;
        match found {
            Some(value) => Ok(value),
            None => check_xattr_name(name).and(Err(Error::new(Errno::ENODATA, "no such extended attribute"))),
        }
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        self.find_xattr(|entry| {
            names.push([entry.prefix.text(), entry.suffix].concat());
            None::<()>
        })?;
        Ok(names)
    }
}

macro_rules! inode {
    ($type:ty) => {
        impl Inode for $type {
            fn metadata(&self) -> Result<Metadata> {
                self.common.metadata()
            }

            fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
                self.common.xattr(name)
            }

            fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
                self.common.xattrs()
            }

            fn as_any(&self) -> &dyn Any {
                self
            }
        }
    };
}

/// The node's object, by its type.
fn open(volume: &Arc<Volume>, node: Located) -> Result<Node> {
    let common = Common { volume: Arc::clone(volume), node };
    Ok(match node.inode.file_type() {
        Some(FileType::Regular) => Node::Regular(Arc::new(ImageFile { common, sites: Once::new() })),
        Some(FileType::Directory) => Node::Directory(Arc::new(ImageDirectory { common })),
        Some(FileType::Symlink) => Node::Symlink(Arc::new(ImageSymlink { common })),
        Some(_) => Node::Special(Arc::new(ImageSpecial { common })),
        None => return Err(volume.corrupt(node.nid, FormatError::Corrupt("file type"))),
    })
}

/// A regular file.
struct ImageFile {
    common: Common,
    sites: Once<Option<Arc<[u8]>>>,
}

inode!(ImageFile);

impl Regular for ImageFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let Common { volume, node } = &self.common;
        let mut done = 0usize;
        while into.remaining() > 0 {
            let Some(at) = offset.checked_add(done as u64).filter(|at| *at < node.inode.size) else { break };
            let put = volume.page(node, at / BLOCK_U64).and_then(|page| {
                let used = page.get(within(at)..page_len(node, at / BLOCK_U64)).unwrap_or_default();
                into.put(used)
            });
            match put {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn page(&self, index: u64) -> Result<Arc<Page>> {
        self.common.volume.page(&self.common.node, index)
    }

    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        Some(self)
    }
}

impl MappedPages for ImageFile {
    fn rewrite_sites(&self) -> Result<Option<Arc<[u8]>>> {
        self.sites.try_call_once(|| self.common.volume.sites(self.common.node.nid)).cloned()
    }
}

/// A directory.
pub(crate) struct ImageDirectory {
    common: Common,
}

inode!(ImageDirectory);

impl ImageDirectory {
    pub(crate) fn new(volume: &Arc<Volume>, node: Located) -> Arc<Self> {
        Arc::new(Self { common: Common { volume: Arc::clone(volume), node } })
    }
}

impl Directory for ImageDirectory {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        let Common { volume, node } = &self.common;
        match directory::find(volume, node, name.as_bytes(), |entry| entry.nid)? {
            Some(nid) => open(volume, volume.inode(nid)?),
            None => Err(Error::new(Errno::ENOENT, "no such name in the image")),
        }
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        directory::list(&self.common.volume, &self.common.node, cursor, max)
    }
}

/// A symbolic link.
struct ImageSymlink {
    common: Common,
}

inode!(ImageSymlink);

impl Symlink for ImageSymlink {
    fn target(&self) -> Result<Vec<u8>> {
        let Common { volume, node } = &self.common;
        if node.inode.size == 0 || node.inode.size > MAX_TARGET {
            return Err(volume.corrupt(node.nid, FormatError::Corrupt("length of a symbolic link")));
        }
        volume.copy_data(node, 0, node.inode.size)
    }
}

/// A device, FIFO or socket: the kernel decides by its number.
struct ImageSpecial {
    common: Common,
}

inode!(ImageSpecial);

impl Special for ImageSpecial {}
