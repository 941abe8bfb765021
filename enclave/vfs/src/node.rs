//! Nodes: what a file system consists of.

use crate::{Dentry, File, Metadata, SetAttributes, StatFs, XattrFlags};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use platform::HostFd;

/// Bytes in a page of file content.
pub const PAGE_SIZE: usize = 4096;

/// A page of file content that nobody changes any more. Bytes after the end of the file are zero.
pub type Page = [u8; PAGE_SIZE];

/// A component of a path: not empty, no slash, no NUL, at most 255 bytes, and neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks a component.
    ///
    /// # Errors
    /// ENAMETOOLONG more than 255 bytes; EINVAL not a name.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > 255 {
            kbase::bail!(ENAMETOOLONG, "the name is longer than 255 bytes");
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|&b| b == b'/' || b == 0) {
            kbase::bail!(EINVAL, "not a file name");
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A node of a file system, by kind.
#[derive(Clone)]
pub enum Node {
    /// A regular file.
    Regular(Arc<dyn Regular>),
    /// A directory.
    Directory(Arc<dyn Directory>),
    /// A symbolic link.
    Symlink(Arc<dyn Symlink>),
    /// A device, FIFO or socket.
    Special(Arc<dyn Special>),
}

impl Node {
    /// What every kind has.
    #[must_use]
    pub fn inode(&self) -> &dyn Inode {
        match self {
            Self::Regular(node) => &**node,
            Self::Directory(node) => &**node,
            Self::Symlink(node) => &**node,
            Self::Special(node) => &**node,
        }
    }

    /// The directory.
    ///
    /// # Errors
    /// ENOTDIR it is not one.
    pub fn as_directory(&self) -> Result<&Arc<dyn Directory>> {
        match self {
            Self::Directory(node) => Ok(node),
            _ => Err(Error::new(Errno::ENOTDIR, "not a directory")),
        }
    }
}

/// What every kind of node has.
pub trait Inode: Send + Sync + Any {
    /// Its attributes.
    ///
    /// # Errors
    /// EIO the storage cannot be read or is corrupt.
    fn metadata(&self) -> Result<Metadata>;

    /// Changes attributes.
    ///
    /// # Errors
    /// EROFS the file system is read-only; EIO.
    fn set_attributes(&self, _change: &SetAttributes) -> Result<()> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA there is none of that name; EOPNOTSUPP; EINVAL the name is that of a name space.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Error::new(Errno::EOPNOTSUPP, "no extended attributes here"))
    }

    /// Names of the extended attributes.
    ///
    /// # Errors
    /// EIO.
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// Sets an extended attribute, or removes it.
    ///
    /// # Errors
    /// EEXIST, ENODATA the name is not as `flags` want it; ENOSPC; EOPNOTSUPP there can be none of that name; EINVAL the name is
    /// that of a name space; EIO.
    fn set_xattr(&self, _name: &[u8], _value: Option<&[u8]>, _flags: XattrFlags) -> Result<()> {
        Err(Error::new(Errno::EOPNOTSUPP, "no extended attributes here"))
    }

    /// The node as its concrete type, for a file system that is handed its own nodes back (`link`, `rename`).
    fn as_any(&self) -> &dyn Any;
}

/// A regular file.
pub trait Regular: Inode {
    /// What opening it gives, for reading at least: a file that stays what it is, whatever becomes of the name that it was found by. `None`:
    /// it is that itself.
    ///
    /// # Errors
    /// EACCES, EPERM, EROFS, ETXTBSY it cannot be opened so; ENOENT it is gone; EMFILE, ENFILE; EIO.
    fn open(&self, _for_writing: bool) -> Result<Option<Arc<dyn Regular>>> {
        Ok(None)
    }

    /// The host's descriptor of a file that was opened, if the host has what is in it as it is: the enclave needs not carry what goes
    /// from there to the host.
    fn host_fd(&self) -> Option<HostFd> {
        None
    }

    /// Copies content from `offset` into `into`, until it is full or the file ends. Returns the number of bytes.
    ///
    /// # Errors
    /// EIO the content cannot be read or is corrupt; EFAULT the sink cannot take any.
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize>;

    /// Writes all of `from` at `offset`, extending the file. Returns the number of bytes, which is less than asked
    /// only when something failed after the first byte.
    ///
    /// # Errors
    /// EROFS; ENOSPC; EFBIG; EIO; EFAULT the source cannot give any.
    fn write_at(&self, _offset: u64, _from: &mut dyn ByteSource) -> Result<usize> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Appends all of `from`: as [`Regular::write_at`] at the end, atomically. Returns offset and number of bytes.
    ///
    /// # Errors
    /// As [`Regular::write_at`].
    fn append(&self, from: &mut dyn ByteSource) -> Result<(u64, usize)> {
        let offset = self.metadata()?.size;
        Ok((offset, self.write_at(offset, from)?))
    }

    /// Sets the size; new bytes are zero.
    ///
    /// # Errors
    /// EROFS; ENOSPC; EFBIG; EIO.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// `fallocate(2)` with mode 0 (or KEEP_SIZE): makes sure that writing there will not fail for want of space.
    ///
    /// # Errors
    /// EOPNOTSUPP the file system cannot; ENOSPC.
    fn allocate(&self, _offset: u64, _len: u64, _keep_size: bool) -> Result<()> {
        Err(Error::new(Errno::EOPNOTSUPP, "no space can be reserved here"))
    }

    /// `fallocate(2)` with PUNCH_HOLE: bytes of the range become zero and their space is given back.
    ///
    /// # Errors
    /// EOPNOTSUPP the file system cannot; EIO.
    fn deallocate(&self, _offset: u64, _len: u64) -> Result<()> {
        Err(Error::new(Errno::EOPNOTSUPP, "no holes can be made here"))
    }

    /// `lseek(2)` with SEEK_DATA.
    ///
    /// # Errors
    /// ENXIO nothing but holes from there on.
    fn seek_data(&self, offset: u64) -> Result<u64> {
        if offset >= self.metadata()?.size {
            kbase::bail!(ENXIO, "the offset is beyond the end");
        }
        Ok(offset)
    }

    /// `lseek(2)` with SEEK_HOLE; there is one at the end of the file.
    ///
    /// # Errors
    /// ENXIO the offset is beyond the end.
    fn seek_hole(&self, offset: u64) -> Result<u64> {
        let size = self.metadata()?.size;
        if offset >= size {
            kbase::bail!(ENXIO, "the offset is beyond the end");
        }
        Ok(size)
    }

    /// Makes content (and metadata unless `data_only`) durable.
    ///
    /// # Errors
    /// EIO.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// Page `index` of the content for a private mapping. The default copies through [`Regular::read_at`]; a file
    /// system with a page cache of immutable pages returns its own.
    ///
    /// # Errors
    /// EIO; ENOMEM.
    fn page(&self, index: u64) -> Result<Arc<Page>> {
        let mut page: Box<Page> = Box::new([0; PAGE_SIZE]);
        let offset =
            index.checked_mul(PAGE_SIZE as u64).ok_or(Error::new(Errno::EIO, "page out of range"))?;
        self.read_at(offset, &mut kbase::SliceSink::new(&mut *page))?;
        Ok(Arc::from(page))
    }

    /// What is known of a file whose content is the same for as long as the LibOS runs; `None`: it may change.
    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        None
    }
}

/// Knowledge about a file that never changes, for who maps it.
pub trait MappedPages: Send + Sync {
    /// The encoded site table (`erofs-format` defines it), if there is one.
    ///
    /// # Errors
    /// EIO it cannot be read or is corrupt.
    fn rewrite_sites(&self) -> Result<Option<Arc<[u8]>>>;
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name.
    pub name: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: crate::FileType,
    /// What to pass as `cursor` to go on after this entry; never 0.
    pub next: u64,
}

/// What to create with [`Directory::create`].
pub enum Create<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to a target.
    Symlink(&'a [u8]),
    /// A FIFO or socket (`mknod(2)`, `bind(2)`); what opening it means is the kernel's.
    Special(crate::FileType),
    /// A device node with a number.
    Device(crate::FileType, u64),
}

/// What a name is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To go on from there, or to do something with the entry.
    Entry,
    /// To open what is there, if it is a regular file.
    Open,
    /// To ask for its attributes, once and at once: [`Inode::metadata`] may answer what was seen meanwhile.
    Attributes,
}

/// A directory. `.` and `..` are the path walk's business and are not listed.
pub trait Directory: Inode {
    /// The node of a name.
    ///
    /// # Errors
    /// ENOENT no such name; EIO.
    fn lookup(&self, name: Name<'_>) -> Result<Node>;

    /// Looks up names of which each is in the directory that the one before it is of, and gives a node for each. `None`: that is done
    /// name by name, with [`Directory::lookup`], which then says what is wrong.
    ///
    /// # Errors
    /// ENOENT the last is not there, all before it are directories; EIO.
    fn lookup_below(&self, _names: &[Name<'_>], _intent: Intent) -> Result<Option<Vec<Node>>> {
        Ok(None)
    }

    /// Entries after `cursor` (0: from the start), at most `max`. An entry that stays during the whole listing is
    /// listed exactly once.
    ///
    /// # Errors
    /// EIO.
    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>>;

    /// Creates a node with permission bits `mode`, owner 0.
    ///
    /// # Errors
    /// EEXIST; EROFS; ENOSPC; EPERM the file system has no such kind.
    fn create(&self, _name: Name<'_>, _what: Create<'_>, _mode: u32, _now_ns: i64) -> Result<Node> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Makes another name for a node of the same file system.
    ///
    /// # Errors
    /// EEXIST; EROFS; EXDEV; EPERM.
    fn link(&self, _name: Name<'_>, _node: &Node) -> Result<()> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Removes a name. `directory` says which kind must be there.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR; EISDIR; ENOTEMPTY; EROFS.
    fn unlink(&self, _name: Name<'_>, _directory: bool) -> Result<()> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Renames within the file system; replaces what is at the new name unless `no_replace`.
    ///
    /// # Errors
    /// ENOENT; EEXIST; ENOTEMPTY; EISDIR; ENOTDIR; EXDEV `to` is of another file system; EROFS; EINVAL into itself.
    fn rename(
        &self,
        _from: Name<'_>,
        _to: &Arc<dyn Directory>,
        _to_name: Name<'_>,
        _no_replace: bool,
    ) -> Result<()> {
        Err(Error::new(Errno::EROFS, "the file system is read-only"))
    }

    /// Creates a regular file without a name (`O_TMPFILE`).
    ///
    /// # Errors
    /// EOPNOTSUPP the file system cannot; ENOSPC.
    fn create_unnamed(&self, _mode: u32, _now_ns: i64) -> Result<Node> {
        Err(Error::new(Errno::EOPNOTSUPP, "no unnamed files here"))
    }

    /// Makes the directory durable.
    ///
    /// # Errors
    /// EIO.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// A symbolic link.
pub trait Symlink: Inode {
    /// Where it points.
    ///
    /// # Errors
    /// EIO.
    fn target(&self) -> Result<Vec<u8>>;

    /// What following it gives, for the links of `/proc` that lead to a file itself and not to a path.
    ///
    /// # Errors
    /// ENOENT it leads nowhere any more.
    fn jump(&self) -> Result<Option<Arc<Dentry>>> {
        Ok(None)
    }
}

/// A device, FIFO or socket.
pub trait Special: Inode {
    /// What opening it gives, or `None` when the kernel decides by [`Metadata::kind`] and `rdev`.
    ///
    /// # Errors
    /// ENXIO no such device.
    fn open(&self) -> Result<Option<Arc<dyn File>>> {
        Ok(None)
    }
}

/// A file system.
pub trait FileSystem: Send + Sync {
    /// The name of its type, as in `/proc/mounts`.
    fn type_name(&self) -> &'static str;

    /// Whether names and nodes change only through this interface, so that lookups may be remembered.
    fn is_cached(&self) -> bool {
        true
    }

    /// Its root directory.
    fn root(&self) -> Arc<dyn Directory>;

    /// Its space.
    ///
    /// # Errors
    /// EIO.
    fn statfs(&self) -> Result<StatFs>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// EIO.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
