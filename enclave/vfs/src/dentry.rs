//! Directory entries: nodes at their places in the tree, with a memory of what was looked up.
//!
//! One tree of dentries spans all mounts of a namespace: the root of a mounted file system takes the place of the
//! entry it covers, so `..` and absolute paths need no mount table. A child holds its parent; a parent holds the
//! children that are cached or mounted, until the namespace evicts those that nobody else holds.
//!
//! What a directory is known not to have is remembered too. A lookup that raced with a change must not leave a
//! stale memory: every change bumps the generation of the directory, and a lookup is remembered only when the
//! generation is still the one it started from.
//!
//! Lock order: `children` of the parent, then `place`. Two `children`: lower address first. No file system is
//! called under either.

use crate::{Intent, Mount, Name, Node};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use hashbrown::HashMap;
use kbase::sync::RwLock;
use kbase::{Errno, Error, Result};

/// Deeper than any tree: the bound of walks towards the root.
const MAX_DEPTH: usize = 1 << 16;

/// A node at its place.
pub struct Dentry {
    node: Node,
    mount: Option<Arc<Mount>>,
    place: RwLock<Place>,
    pub(crate) children: RwLock<Children>,
    is_referenced: AtomicBool,
}

#[derive(Clone)]
struct Place {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
    is_deleted: bool,
}

#[derive(Default)]
pub(crate) struct Children {
    pub(crate) generation: u64,
    pub(crate) names: HashMap<Box<[u8]>, Child>,
}

#[derive(Clone)]
pub(crate) enum Child {
    /// Looked up before.
    Cached(Arc<Dentry>),
    /// Looked up before, and not there.
    Absent,
    /// The root of a mount, or a directory on the way to one. `is_phantom` when the file system has no such name.
    Mounted { dentry: Arc<Dentry>, is_phantom: bool },
}

/// Where a dentry is, seen from a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathName {
    /// The absolute path, or the bare name of something without a place (`pipe:[12]`).
    pub path: Vec<u8>,
    /// Its name was removed.
    pub is_deleted: bool,
    /// The root is not above it.
    pub is_unreachable: bool,
}

impl PathName {
    /// The path as `/proc` shows it, with a note when it is deleted.
    #[must_use]
    pub fn into_display(mut self) -> Vec<u8> {
        if self.is_deleted {
            self.path.extend_from_slice(b" (deleted)");
        }
        self.path
    }
}

impl Dentry {
    pub(crate) fn new(node: Node, mount: Arc<Mount>, parent: Option<Arc<Self>>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            node,
            mount: Some(mount),
            place: RwLock::new(Place { parent, name: name.into(), is_deleted: false }),
            children: RwLock::default(),
            is_referenced: AtomicBool::new(false),
        })
    }

    /// A node without a place in any tree, such as a pipe or an unnamed temporary file.
    #[must_use]
    pub fn anonymous(node: Node, mount: Option<Arc<Mount>>, name: &[u8]) -> Arc<Self> {
        let is_deleted = mount.is_some();
        Arc::new(Self {
            node,
            mount,
            place: RwLock::new(Place { parent: None, name: name.into(), is_deleted }),
            children: RwLock::default(),
            is_referenced: AtomicBool::new(false),
        })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The mount it belongs to; `None` for what is in no file system.
    #[must_use]
    pub const fn mount(&self) -> Option<&Arc<Mount>> {
        self.mount.as_ref()
    }

    /// Whether its name was removed.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.place.read().is_deleted
    }

    /// Its name; empty at the root.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.place.read().name.to_vec()
    }

    /// The parent directory, across mounts; `None` at the root of the namespace.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.place.read().parent.clone()
    }

    /// Fails when nothing can be changed here.
    ///
    /// # Errors
    /// EROFS.
    pub fn want_write(&self) -> Result<()> {
        self.mount.as_ref().map_or(Ok(()), |mount| mount.want_write())
    }

    /// Its path from `root`.
    #[must_use]
    pub fn path_from(self: &Arc<Self>, root: &Arc<Self>) -> PathName {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut is_deleted = false;
        let mut is_unreachable = true;
        let mut at = Arc::clone(self);
        for _ in 0..MAX_DEPTH {
            if Arc::ptr_eq(&at, root) {
                is_unreachable = false;
                break;
            }
            let parent = {
                let place = at.place.read();
                is_deleted |= place.is_deleted && Arc::ptr_eq(&at, self);
                if !place.name.is_empty() {
                    names.push(place.name.clone());
                }
                place.parent.clone()
            };
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        let has_place = !is_unreachable || self.place.read().parent.is_some() || self.mount.is_some();
        let mut path = Vec::new();
        for name in names.iter().rev() {
            if has_place {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        PathName { path, is_deleted, is_unreachable }
    }

    /// Whether `self` is `other` or below it.
    #[must_use]
    pub fn is_within(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = Arc::clone(self);
        for _ in 0..MAX_DEPTH {
            if Arc::ptr_eq(&at, other) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// Whether something is mounted on an entry of this directory with that name.
    pub(crate) fn has_mount_at(&self, name: &[u8]) -> bool {
        matches!(self.children.read().names.get(name), Some(Child::Mounted { .. }))
    }

    /// What is remembered of a name, and the generation to hand to [`Dentry::remember`].
    pub(crate) fn recall(&self, name: &[u8]) -> core::result::Result<Result<Arc<Self>>, u64> {
        let children = self.children.read();
        match children.names.get(name) {
            Some(Child::Cached(dentry)) => {
                dentry.touch();
                Ok(Ok(Arc::clone(dentry)))
            }
            Some(Child::Mounted { dentry, .. }) => Ok(Ok(Arc::clone(dentry))),
            Some(Child::Absent) => Ok(Err(Error::new(Errno::ENOENT, "no such name"))),
            None => Err(children.generation),
        }
    }

    /// Whether lookups in it are remembered.
    pub(crate) fn remembers(&self) -> bool {
        self.mount.as_ref().is_none_or(|mount| mount.is_cached())
    }

    /// Looks names up in the file system, one below the other, where lookups are not remembered. `None`: they are to be looked up one by one.
    ///
    /// # Errors
    /// ENOENT the last is not there; EIO.
    pub(crate) fn look_up_below(
        self: &Arc<Self>,
        names: &[Name<'_>],
        intent: Intent,
    ) -> Result<Option<Arc<Self>>> {
        let Some(mount) = self.mount.as_ref().filter(|_| !self.remembers()) else { return Ok(None) };
        let Some(nodes) = self.node.as_directory()?.lookup_below(names, intent)? else { return Ok(None) };
        let below = |parent, (name, node): (&Name<'_>, _)| {
            Self::new(node, Arc::clone(mount), Some(parent), name.as_bytes())
        };
        Ok(Some(names.iter().zip(nodes).fold(Arc::clone(self), below)))
    }

    /// The entry with the node that opening it gave.
    #[must_use]
    pub fn opened(&self, node: Node) -> Arc<Self> {
        Arc::new(Self {
            node,
            mount: self.mount.clone(),
            place: RwLock::new(self.place.read().clone()),
            children: RwLock::default(),
            is_referenced: AtomicBool::new(false),
        })
    }

    /// Looks a name up in the file system and makes a dentry of it. The second value says whether it is new in the
    /// memory of this directory, so that the namespace has to account for it.
    pub(crate) fn look_up(self: &Arc<Self>, name: Name<'_>, generation: u64) -> Result<(Arc<Self>, bool)> {
        let directory = self.node.as_directory()?;
        let Some(mount) = &self.mount else {
            kbase::bail!(ENOENT, "no such name");
        };
        match directory.lookup(name) {
            Ok(node) => {
                let dentry = Self::new(node, Arc::clone(mount), Some(Arc::clone(self)), name.as_bytes());
                if !mount.is_cached() {
                    return Ok((dentry, false));
                }
                Ok(self.remember(name.as_bytes(), dentry, Some(generation)))
            }
            Err(error) => {
                if error.errno() == Errno::ENOENT && mount.is_cached() {
                    let mut children = self.children.write();
                    if children.generation == generation && children.names.len() < MAX_ABSENT {
                        children.names.entry(name.as_bytes().into()).or_insert(Child::Absent);
                    }
                }
                Err(error)
            }
        }
    }

    /// Puts a dentry into the memory of this directory, unless the directory changed since `generation`. Returns the
    /// dentry to use, which is another one when somebody was faster, and whether it was put there.
    pub(crate) fn remember(
        &self,
        name: &[u8],
        dentry: Arc<Self>,
        generation: Option<u64>,
    ) -> (Arc<Self>, bool) {
        let mut children = self.children.write();
        if let Some(Child::Cached(there) | Child::Mounted { dentry: there, .. }) = children.names.get(name) {
            return (Arc::clone(there), false);
        }
        if generation.is_some_and(|generation| generation != children.generation) {
            return (dentry, false);
        }
        children.names.insert(name.into(), Child::Cached(Arc::clone(&dentry)));
        (dentry, true)
    }

    /// Forgets a name after it was created or removed in the file system, and returns what was known of it.
    pub(crate) fn forget(&self, name: &[u8]) -> Option<Arc<Self>> {
        let mut children = self.children.write();
        children.generation = children.generation.wrapping_add(1);
        match children.names.get(name) {
            Some(Child::Mounted { .. }) | None => None,
            Some(Child::Cached(_) | Child::Absent) => match children.names.remove(name) {
                Some(Child::Cached(dentry)) => Some(dentry),
                _ => None,
            },
        }
    }

    pub(crate) fn mark_deleted(&self) {
        self.place.write().is_deleted = true;
    }

    pub(crate) fn move_to(&self, parent: &Arc<Self>, name: &[u8]) {
        let old = {
            let mut place = self.place.write();
            place.name = name.into();
            place.is_deleted = false;
            place.parent.replace(Arc::clone(parent))
        };
        // The last reference to a directory may go here: not under the lock.
        drop(old);
    }

    fn touch(&self) {
        if !self.is_referenced.load(Ordering::Relaxed) {
            self.is_referenced.store(true, Ordering::Relaxed);
        }
    }

    /// Clears the mark of recent use and says whether it was set.
    pub(crate) fn take_referenced(&self) -> bool {
        self.is_referenced.swap(false, Ordering::Relaxed)
    }

    /// Forgets all below and returns what was there.
    pub(crate) fn forget_all(&self) -> Vec<Arc<Self>> {
        let names = core::mem::take(&mut self.children.write().names);
        let there = names.into_values().filter_map(|child| match child {
            Child::Cached(dentry) | Child::Mounted { dentry, .. } => Some(dentry),
            Child::Absent => None,
        });
        there.collect()
    }

    /// Removes this dentry from the memory of its parent if only that memory and the caller hold it.
    pub(crate) fn evict(self: &Arc<Self>) -> bool {
        let Some(parent) = self.parent() else { return false };
        let name = self.place.read().name.clone();
        let mut children = parent.children.write();
        let is_mine =
            matches!(children.names.get(&name), Some(Child::Cached(there)) if Arc::ptr_eq(there, self));
        // Children hold their parent, so a count of two also says that nothing below is remembered.
        if is_mine && Arc::strong_count(self) == 2 {
            children.names.remove(&name);
            return true;
        }
        false
    }
}

/// Missing names that one directory remembers at most.
const MAX_ABSENT: usize = 4096;

impl Drop for Dentry {
    /// Frees a chain of parents in a loop: recursion would be as deep as the tree, which a program decides.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().parent.take();
        while let Some(parent) = next {
            next = match Arc::into_inner(parent) {
                Some(mut parent) => parent.place.get_mut().parent.take(),
                None => None,
            };
        }
    }
}
