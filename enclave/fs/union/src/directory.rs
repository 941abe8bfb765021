//! Directories: their layers, lookup, and copying them up.

use crate::children::{Child, Children};
use crate::leaf::Leaf;
use crate::marks::{self, There};
use crate::{Shared, UPPER_INO, copy};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::sync::{Mutex, MutexGuard, Once};
use kbase::{Errno, Error, Result};
use vfs::{Create, Directory, DirectoryEntry, Inode, Metadata, Name, Node, SetAttributes, XattrFlags};

/// A directory.
pub(crate) struct UnionDirectory {
    me: Weak<Self>,
    shared: Arc<Shared>,
    layers: Layers,
    /// It was removed. Changes under the locks of its parent and of itself.
    is_dead: AtomicBool,
    /// Its lock is the lock of the directory: the upper part changes under it only.
    children: Mutex<Children>,
}

enum Layers {
    Upper {
        upper: Arc<dyn Directory>,
        /// What merges with it, and the number there.
        lower: Option<(Arc<dyn Directory>, u64)>,
    },
    Lower {
        lower: Arc<dyn Directory>,
        ino: u64,
        place: Place,
        /// Set under the lock of the parent.
        copy: Once<Arc<dyn Directory>>,
    },
}

/// Where a directory of the lower is. It stays there, since it is not renamed.
struct Place {
    /// `None` only while the directory is freed.
    parent: Option<Arc<UnionDirectory>>,
    name: Box<[u8]>,
}

impl UnionDirectory {
    /// A directory that is in the upper file system; it merges with `lower` unless it is opaque.
    pub(crate) fn of_upper(
        shared: &Arc<Shared>,
        upper: Arc<dyn Directory>,
        lower: Option<Arc<dyn Directory>>,
    ) -> Result<Arc<Self>> {
        let lower = match lower {
            Some(lower) if !marks::is_opaque(&upper)? => {
                let ino = lower.metadata()?.ino;
                Some((lower, ino))
            }
            _ => None,
        };
        Ok(Self::new(shared, Layers::Upper { upper, lower }))
    }

    fn of_lower(lower: Arc<dyn Directory>, parent: Arc<Self>, name: Name<'_>) -> Result<Arc<Self>> {
        let ino = lower.metadata()?.ino;
        let shared = Arc::clone(&parent.shared);
        let place = Place { parent: Some(parent), name: name.as_bytes().into() };
        Ok(Self::new(&shared, Layers::Lower { lower, ino, place, copy: Once::new() }))
    }

    fn new(shared: &Arc<Shared>, layers: Layers) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            shared: Arc::clone(shared),
            layers,
            is_dead: AtomicBool::new(false),
            children: Mutex::default(),
        })
    }

    /// What all nodes share.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The directory itself, if it belongs to that union.
    pub(crate) fn in_union(&self, shared: &Arc<Shared>) -> Option<Arc<Self>> {
        Arc::ptr_eq(&self.shared, shared).then(|| self.me.upgrade()).flatten()
    }

    fn me(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(Error::new(Errno::EIO, "the directory is being freed"))
    }

    /// The part in the upper file system, if there is one.
    pub(crate) fn upper(&self) -> Option<&Arc<dyn Directory>> {
        match &self.layers {
            Layers::Upper { upper, .. } => Some(upper),
            Layers::Lower { copy, .. } => copy.get(),
        }
    }

    /// The part in the lower file system, if there is one that shows.
    pub(crate) fn lower(&self) -> Option<&Arc<dyn Directory>> {
        match &self.layers {
            Layers::Upper { lower, .. } => lower.as_ref().map(|(lower, _)| lower),
            Layers::Lower { lower, .. } => Some(lower),
        }
    }

    fn top(&self) -> &Arc<dyn Directory> {
        match &self.layers {
            Layers::Upper { upper, .. } => upper,
            Layers::Lower { lower, copy, .. } => copy.get().unwrap_or(lower),
        }
    }

    /// Locks the directory.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock()
    }

    /// Notes that it was removed, under its lock and that of its parent.
    pub(crate) fn set_dead(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// Fails if the directory was removed. The answer holds while the lock is held.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.is_dead() {
            kbase::bail!(ENOENT, "the directory was removed");
        }
        Ok(())
    }

    /// What the lower has under a name. Not to be called under a lock.
    pub(crate) fn lower_node(&self, name: Name<'_>) -> Result<Option<Node>> {
        let Some(lower) = self.lower() else { return Ok(None) };
        if marks::is_reserved(name.as_bytes()) {
            return Ok(None);
        }
        let node = marks::find(&**lower, name)?;
        match node {
            // A device of that number could not be told from a whiteout once it is copied up.
            Some(node) if marks::is_whiteout(&node)? => Ok(None),
            node => Ok(node),
        }
    }

    /// The object of a name.
    pub(crate) fn child(&self, name: Name<'_>) -> Result<Child> {
        if marks::is_reserved(name.as_bytes()) {
            kbase::bail!(ENOENT, "the name is reserved for the union of file systems");
        }
        let mut lower = None;
        loop {
            let mut children = self.lock();
            self.check_alive()?;
            if let Some(child) = children.get(name) {
                return Ok(child);
            }
            let there = marks::look(self.upper(), name)?;
            let may_show = matches!(&there, There::Nothing | There::Node(Node::Directory(_)));
            if may_show && lower.is_none() && self.lower().is_some() {
                drop(children);
                lower = Some(self.lower_node(name)?);
                continue;
            }
            let child = match (there, lower.flatten()) {
                (There::Nothing, None) | (There::Whiteout, _) => kbase::bail!(ENOENT, "no such name"),
                (There::Nothing, Some(node)) => self.child_of_lower(node, name)?,
                (There::Node(node), lower) => self.child_of_upper(node, lower)?,
            };
            children.insert(name, &child);
            return Ok(child);
        }
    }

    fn child_of_lower(&self, node: Node, name: Name<'_>) -> Result<Child> {
        let me = self.me()?;
        Ok(match node {
            Node::Regular(node) => Child::File(Leaf::of_lower(node, me, name)),
            Node::Directory(node) => Child::Directory(Self::of_lower(node, me, name)?),
            Node::Symlink(node) => Child::Symlink(Leaf::of_lower(node, me, name)),
            Node::Special(node) => Child::Special(Leaf::of_lower(node, me, name)),
        })
    }

    /// The object of a node of the upper file system, where the lower has `lower`.
    pub(crate) fn child_of_upper(&self, node: Node, lower: Option<Node>) -> Result<Child> {
        let shared = &self.shared;
        Ok(match node {
            Node::Regular(node) => Child::File(Leaf::of_upper(shared, node)),
            Node::Directory(node) => {
                let lower = match lower {
                    Some(Node::Directory(lower)) => Some(lower),
                    _ => None,
                };
                Child::Directory(Self::of_upper(shared, node, lower)?)
            }
            Node::Symlink(node) => Child::Symlink(Leaf::of_upper(shared, node)),
            Node::Special(node) => Child::Special(Leaf::of_upper(shared, node)),
        })
    }

    /// The part in the upper file system, copied up if it was not, after all directories above.
    ///
    /// # Errors
    /// ENOENT it was removed; ENOSPC; EIO.
    pub(crate) fn ensure_upper(&self) -> Result<&Arc<dyn Directory>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let mut chain = Vec::new();
        let mut at = self.me()?;
        while at.upper().is_none() {
            let parent = match &at.layers {
                Layers::Lower { place: Place { parent: Some(parent), .. }, .. } => Arc::clone(parent),
                _ => break,
            };
            chain.push(core::mem::replace(&mut at, parent));
        }
        while let Some(directory) = chain.pop() {
            directory.copy_up()?;
        }
        self.upper().ok_or(Error::new(Errno::EIO, "the directory is not copied up"))
    }

    /// Copies up this directory, whose parent is.
    fn copy_up(&self) -> Result<()> {
        let Layers::Lower { lower, place: Place { parent: Some(parent), name }, copy, .. } = &self.layers
        else {
            return Ok(());
        };
        let above = parent.upper().ok_or(Error::new(Errno::EIO, "a parent is not copied up"))?;
        let name = Name::new(name)?;
        let metadata = lower.metadata()?;
        let _parent = parent.lock();
        if copy.get().is_some() {
            return Ok(());
        }
        self.check_alive()?;
        let made = marks::keeping_times(above, || {
            let new = marks::free_new_name(above)?;
            let node = above.create(new, Create::Directory, metadata.mode, metadata.ctime_ns)?;
            let ready = copy::xattrs(&**lower, node.inode())
                .and_then(|()| node.inode().set_attributes(&copy::attributes(&metadata)));
            if let Err(error) = ready {
                marks::give_up(above);
                return Err(error);
            }
            marks::install(above, name)?;
            Ok(node)
        })?;
        let made = Arc::clone(made.as_directory()?);
        copy.call_once(|| made);
        Ok(())
    }
}

impl Drop for UnionDirectory {
    /// Frees a chain of parents in a loop, as deep as it may be.
    fn drop(&mut self) {
        let mut next = take_parent(self);
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| take_parent(&mut parent));
        }
    }
}

fn take_parent(of: &mut UnionDirectory) -> Option<Arc<UnionDirectory>> {
    match &mut of.layers {
        Layers::Upper { .. } => None,
        Layers::Lower { place, .. } => place.parent.take(),
    }
}

impl Inode for UnionDirectory {
    fn metadata(&self) -> Result<Metadata> {
        let mut metadata = self.top().metadata()?;
        metadata.dev = self.shared.dev;
        metadata.ino = match &self.layers {
            Layers::Lower { ino, .. } | Layers::Upper { lower: Some((_, ino)), .. } => *ino,
            Layers::Upper { lower: None, .. } => metadata.ino.wrapping_add(UPPER_INO),
        };
        if self.is_dead() {
            metadata.nlink = 0;
        } else if self.upper().is_some() && self.lower().is_some() {
            // Nobody counted the directories in it; 1 says so to `find`.
            metadata.nlink = 1;
        }
        Ok(metadata)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.ensure_upper()?.set_attributes(change)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.top().xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        self.top().xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: XattrFlags) -> Result<()> {
        if value.is_none() {
            // Before the directory is copied up for nothing.
            self.top().xattr(name)?;
        }
        self.ensure_upper()?.set_xattr(name, value, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for UnionDirectory {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        self.child(name).map(Child::into_node)
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        self.list(cursor, max)
    }

    fn create(&self, name: Name<'_>, what: Create<'_>, mode: u32, now_ns: i64) -> Result<Node> {
        self.make(name, what, mode, now_ns)
    }

    fn create_unnamed(&self, mode: u32, now_ns: i64) -> Result<Node> {
        let node = self.shared.upper_root.create_unnamed(mode, now_ns)?;
        self.child_of_upper(node, None).map(Child::into_node)
    }

    fn link(&self, name: Name<'_>, node: &Node) -> Result<()> {
        self.make_link(name, node)
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<()> {
        self.remove(name, directory)
    }

    fn rename(
        &self,
        from: Name<'_>,
        to: &Arc<dyn Directory>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        let to = to.as_any().downcast_ref::<Self>().and_then(|to| to.in_union(&self.shared));
        let to = to.ok_or(Error::new(Errno::EXDEV, "the directory is of another file system"))?;
        self.move_to(from, &to, to_name, no_replace)
    }

    fn sync(&self) -> Result<()> {
        self.upper().map_or(Ok(()), |upper| upper.sync())
    }
}
