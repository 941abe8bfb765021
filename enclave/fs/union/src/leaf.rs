//! Nodes that are no directories.

use crate::directory::UnionDirectory;
use crate::{Shared, UPPER_INO, copy, marks};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::sync::Once;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use vfs::{
    Create, Directory, File, FileType, Inode, MappedPages, Metadata, Name, Node, Page, Regular,
    SetAttributes, Special, Symlink, XattrFlags,
};

/// A kind of node that is no directory.
pub(crate) trait Kind: Inode {
    /// The node of one layer, by kind.
    fn into_node(layer: Arc<Self>) -> Node;

    /// The node as this kind.
    fn from_node(node: Node) -> Option<Arc<Self>>;

    /// Prepares a copy; `cut` is the size to give it.
    fn copy(shared: &Shared, lower: &Arc<Self>, of: &Metadata, cut: Option<u64>) -> Result<Prepared<Self>>;
}

/// A copy before it has its name.
pub(crate) enum Prepared<T: ?Sized> {
    /// It is there, without a name.
    Unnamed(Arc<T>),
    /// It is made under its name only.
    ToMake(What),
}

/// What to make.
pub(crate) enum What {
    Symlink(Vec<u8>),
    Special(FileType, u64),
}

impl What {
    fn as_create(&self) -> Create<'_> {
        match self {
            Self::Symlink(target) => Create::Symlink(target),
            Self::Special(kind @ (FileType::CharDevice | FileType::BlockDevice), rdev) => {
                Create::Device(*kind, *rdev)
            }
            Self::Special(kind, _) => Create::Special(*kind),
        }
    }
}

/// A node that is no directory: of the upper, or of the lower until it is copied up.
pub(crate) struct Leaf<T: Kind + ?Sized> {
    me: Weak<Self>,
    shared: Arc<Shared>,
    layer: Layer<T>,
    /// What `stat(2)` shows once the node is the upper's.
    ino: Once<u64>,
    /// A name of it was removed. One of the lower has no other. Changes under the lock of the directory.
    is_unlinked: AtomicBool,
}

enum Layer<T: ?Sized> {
    Upper(Arc<T>),
    Lower(Lower<T>),
}

/// A node of the lower, and its only name, which is valid until it is copied up or unlinked.
struct Lower<T: ?Sized> {
    node: Arc<T>,
    parent: Arc<UnionDirectory>,
    name: Box<[u8]>,
    /// Set under the lock of `parent`.
    copy: Once<Arc<T>>,
}

/// A regular file.
pub(crate) type UnionFile = Leaf<dyn Regular>;
/// A symbolic link.
pub(crate) type UnionSymlink = Leaf<dyn Symlink>;
/// A device, FIFO or socket.
pub(crate) type UnionSpecial = Leaf<dyn Special>;

impl<T: Kind + ?Sized> Leaf<T> {
    /// A node of the upper file system.
    pub(crate) fn of_upper(shared: &Arc<Shared>, node: Arc<T>) -> Arc<Self> {
        Self::new(shared, Layer::Upper(node))
    }

    /// A node of the lower file system.
    pub(crate) fn of_lower(node: Arc<T>, parent: Arc<UnionDirectory>, name: Name<'_>) -> Arc<Self> {
        let shared = Arc::clone(parent.shared());
        let name = name.as_bytes().into();
        Self::new(&shared, Layer::Lower(Lower { node, parent, name, copy: Once::new() }))
    }

    fn new(shared: &Arc<Shared>, layer: Layer<T>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            shared: Arc::clone(shared),
            layer,
            ino: Once::new(),
            is_unlinked: AtomicBool::new(false),
        })
    }

    /// The node itself, if it belongs to that union.
    pub(crate) fn in_union(&self, shared: &Arc<Shared>) -> Option<Arc<Self>> {
        Arc::ptr_eq(&self.shared, shared).then(|| self.me.upgrade()).flatten()
    }

    /// The node of the upper file system, if it is there.
    pub(crate) fn upper(&self) -> Option<&Arc<T>> {
        match &self.layer {
            Layer::Upper(node) => Some(node),
            Layer::Lower(lower) => lower.copy.get(),
        }
    }

    /// The node that counts.
    fn top(&self) -> &Arc<T> {
        match &self.layer {
            Layer::Upper(node) => node,
            Layer::Lower(lower) => lower.copy.get().unwrap_or(&lower.node),
        }
    }

    /// What tells apart whether two nodes are one file: the layer, and the number there.
    pub(crate) fn identity(&self) -> Result<(bool, u64)> {
        let upper = self.upper();
        let metadata = upper.unwrap_or_else(|| self.top()).metadata()?;
        Ok((upper.is_some(), metadata.ino))
    }

    /// Notes that its name was removed, under the lock of the directory.
    pub(crate) fn set_unlinked(&self) {
        self.is_unlinked.store(true, Ordering::Release);
    }

    fn is_unlinked(&self) -> bool {
        self.is_unlinked.load(Ordering::Acquire)
    }

    /// The node in the upper file system, copied up if it was not. When this call copies, it is with the size `cut`.
    ///
    /// # Errors
    /// ENOSPC; EIO; ENOENT it has no name any more and cannot be without.
    pub(crate) fn copy_up(&self, cut: Option<u64>) -> Result<&Arc<T>> {
        let lower = match &self.layer {
            Layer::Upper(node) => return Ok(node),
            Layer::Lower(lower) => lower,
        };
        if let Some(copy) = lower.copy.get() {
            return Ok(copy);
        }
        match self.copy_lower(lower, cut) {
            Ok(copy) => Ok(copy),
            // Another thread's copy may be what took the space.
            Err(error) => lower.copy.get().ok_or(error),
        }
    }

    fn copy_lower<'a>(&self, lower: &'a Lower<T>, cut: Option<u64>) -> Result<&'a Arc<T>> {
        let metadata = lower.node.metadata()?;
        let prepared = T::copy(&self.shared, &lower.node, &metadata, cut)?;
        if let Err(error) = lower.parent.ensure_upper()
            && !self.is_unlinked()
        {
            return Err(error);
        }
        // Locked after `prepared` was made: the loser of a race frees its copy without the lock.
        let _children = lower.parent.lock();
        if let Some(copy) = lower.copy.get() {
            return Ok(copy);
        }
        let (copy, upper_ino) = if self.is_unlinked() {
            let Prepared::Unnamed(copy) = prepared else {
                kbase::bail!(ENOENT, "the name of the file was removed");
            };
            let ino = copy.metadata()?.ino;
            (copy, ino)
        } else {
            let name = Name::new(&lower.name)?;
            let directory =
                lower.parent.upper().ok_or(Error::new(Errno::EIO, "a parent is not copied up"))?;
            marks::keeping_times(directory, || match prepared {
                Prepared::Unnamed(copy) => {
                    let ino = copy.metadata()?.ino;
                    directory.link(name, &T::into_node(Arc::clone(&copy)))?;
                    Ok((copy, ino))
                }
                Prepared::ToMake(what) => make_copy(&what, &*lower.node, &metadata, directory, name),
            })?
        };
        let ino = if metadata.nlink <= 1 {
            self.shared.origins.lock().insert(upper_ino, metadata.ino);
            metadata.ino
        } else {
            // Its other names are other files from now on.
            upper_ino.wrapping_add(UPPER_INO)
        };
        self.ino.call_once(|| ino);
        Ok(lower.copy.call_once(|| copy))
    }

    fn metadata(&self) -> Result<Metadata> {
        let mut metadata;
        if let Some(upper) = self.upper() {
            metadata = upper.metadata()?;
            metadata.ino = *self.ino.call_once(|| self.shared.ino_of_upper(metadata.ino));
        } else {
            metadata = self.top().metadata()?;
            if self.is_unlinked() {
                metadata.nlink = metadata.nlink.saturating_sub(1);
            }
        }
        metadata.dev = self.shared.dev;
        Ok(metadata)
    }
}

/// Makes the copy of a node of a kind that has to have a name.
fn make_copy<T: Kind + ?Sized>(
    what: &What,
    lower: &T,
    of: &Metadata,
    directory: &Arc<dyn Directory>,
    name: Name<'_>,
) -> Result<(Arc<T>, u64)> {
    let new = marks::free_new_name(directory)?;
    let copy = directory.create(new, what.as_create(), of.mode, of.ctime_ns)?;
    let ready = copy::xattrs(lower, copy.inode())
        .and_then(|()| copy.inode().set_attributes(&copy::attributes(of)))
        .and_then(|()| copy.inode().metadata());
    match (ready, T::from_node(copy)) {
        (Ok(ready), Some(copy)) => {
            marks::install(directory, name)?;
            Ok((copy, ready.ino))
        }
        (ready, _) => {
            marks::give_up(directory);
            Err(ready
                .err()
                .unwrap_or(Error::new(Errno::EIO, "the upper file system made another kind of node")))
        }
    }
}

impl<T: Kind + ?Sized> Drop for Leaf<T> {
    fn drop(&mut self) {
        if !*self.is_unlinked.get_mut() {
            return;
        }
        // The upper file system may use the number of a file without names again.
        if let Some(metadata) = self.upper().and_then(|upper| upper.metadata().ok())
            && metadata.nlink == 0
        {
            self.shared.origins.lock().remove(&metadata.ino);
        }
    }
}

impl<T: Kind + ?Sized> Inode for Leaf<T> {
    fn metadata(&self) -> Result<Metadata> {
        self.metadata()
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.copy_up(None)?.set_attributes(change)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.top().xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        self.top().xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: XattrFlags) -> Result<()> {
        if value.is_none() {
            // Before the file is copied up for nothing.
            self.top().xattr(name)?;
        }
        self.copy_up(None)?.set_xattr(name, value, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for UnionFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        self.top().read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        self.copy_up(None)?.write_at(offset, from)
    }

    fn append(&self, from: &mut dyn ByteSource) -> Result<(u64, usize)> {
        if from.remaining() == 0 {
            return Ok((self.top().metadata()?.size, 0));
        }
        self.copy_up(None)?.append(from)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if let Some(upper) = self.upper() {
            return upper.truncate(size);
        }
        let copy = self.copy_up(Some(size))?;
        // Another thread may have been faster, with a copy of all.
        if copy.metadata()?.size != size {
            copy.truncate(size)?;
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        self.copy_up(None)?.allocate(offset, len, keep_size)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<()> {
        self.copy_up(None)?.deallocate(offset, len)
    }

    fn seek_data(&self, offset: u64) -> Result<u64> {
        self.top().seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> Result<u64> {
        self.top().seek_hole(offset)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.upper().map_or(Ok(()), |upper| upper.sync(data_only))
    }

    fn page(&self, index: u64) -> Result<Arc<Page>> {
        self.top().page(index)
    }

    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        self.top().mapped_pages()
    }
}

impl Symlink for UnionSymlink {
    fn target(&self) -> Result<Vec<u8>> {
        self.top().target()
    }
}

impl Special for UnionSpecial {
    fn open(&self) -> Result<Option<Arc<dyn File>>> {
        self.top().open()
    }
}

impl Kind for dyn Regular {
    fn into_node(layer: Arc<Self>) -> Node {
        Node::Regular(layer)
    }

    fn from_node(node: Node) -> Option<Arc<Self>> {
        if let Node::Regular(node) = node { Some(node) } else { None }
    }

    fn copy(shared: &Shared, lower: &Arc<Self>, of: &Metadata, cut: Option<u64>) -> Result<Prepared<Self>> {
        let node = shared.upper_root.create_unnamed(0, of.ctime_ns)?;
        let copy = Self::from_node(node).ok_or(Error::new(Errno::EIO, "an unnamed file is not regular"))?;
        copy::content(lower, &copy, of.size.min(cut.unwrap_or(u64::MAX)))?;
        copy::xattrs(&**lower, &*copy)?;
        copy.set_attributes(&copy::attributes(of))?;
        if let Some(size) = cut {
            // Again, for the time of the change.
            copy.truncate(size)?;
        }
        Ok(Prepared::Unnamed(copy))
    }
}

impl Kind for dyn Symlink {
    fn into_node(layer: Arc<Self>) -> Node {
        Node::Symlink(layer)
    }

    fn from_node(node: Node) -> Option<Arc<Self>> {
        if let Node::Symlink(node) = node { Some(node) } else { None }
    }

    fn copy(_: &Shared, lower: &Arc<Self>, _: &Metadata, _: Option<u64>) -> Result<Prepared<Self>> {
        Ok(Prepared::ToMake(What::Symlink(lower.target()?)))
    }
}

impl Kind for dyn Special {
    fn into_node(layer: Arc<Self>) -> Node {
        Node::Special(layer)
    }

    fn from_node(node: Node) -> Option<Arc<Self>> {
        if let Node::Special(node) = node { Some(node) } else { None }
    }

    fn copy(_: &Shared, _: &Arc<Self>, of: &Metadata, _: Option<u64>) -> Result<Prepared<Self>> {
        Ok(Prepared::ToMake(What::Special(of.kind, of.rdev)))
    }
}
