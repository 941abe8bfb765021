//! The nodes of a directory that somebody holds, so that there is one object per file.

use crate::directory::UnionDirectory;
use crate::leaf::{Kind, Leaf, UnionFile, UnionSpecial, UnionSymlink};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;
use kbase::Result;
use vfs::{Name, Node};

/// A node of the union, by kind.
#[derive(Clone)]
pub(crate) enum Child {
    File(Arc<UnionFile>),
    Directory(Arc<UnionDirectory>),
    Symlink(Arc<UnionSymlink>),
    Special(Arc<UnionSpecial>),
}

impl Child {
    /// As the kernel sees it.
    pub(crate) fn into_node(self) -> Node {
        match self {
            Self::File(node) => Node::Regular(node),
            Self::Directory(node) => Node::Directory(node),
            Self::Symlink(node) => Node::Symlink(node),
            Self::Special(node) => Node::Special(node),
        }
    }

    /// The object of a node that the kernel hands back, if it is of this union.
    pub(crate) fn of_node(node: &Node, of: &UnionDirectory) -> Option<Self> {
        let any = node.inode().as_any();
        let shared = of.shared();
        match node {
            Node::Regular(_) => any.downcast_ref::<UnionFile>()?.in_union(shared).map(Self::File),
            Node::Directory(_) => any.downcast_ref::<UnionDirectory>()?.in_union(shared).map(Self::Directory),
            Node::Symlink(_) => any.downcast_ref::<UnionSymlink>()?.in_union(shared).map(Self::Symlink),
            Node::Special(_) => any.downcast_ref::<UnionSpecial>()?.in_union(shared).map(Self::Special),
        }
    }

    /// The directory, if it is one.
    pub(crate) const fn directory(&self) -> Option<&Arc<UnionDirectory>> {
        match self {
            Self::Directory(node) => Some(node),
            _ => None,
        }
    }

    /// The node in the upper file system, copied up if it was not.
    pub(crate) fn copy_up(&self) -> Result<Node> {
        fn leaf<T: Kind + ?Sized>(leaf: &Leaf<T>) -> Result<Node> {
            Ok(T::into_node(Arc::clone(leaf.copy_up(None)?)))
        }
        match self {
            Self::File(node) => leaf(node),
            Self::Directory(node) => Ok(Node::Directory(Arc::clone(node.ensure_upper()?))),
            Self::Symlink(node) => leaf(node),
            Self::Special(node) => leaf(node),
        }
    }

    /// Whether two names are of one file.
    pub(crate) fn is_same_file(&self, other: &Self) -> Result<bool> {
        if self.address() == other.address() {
            return Ok(true);
        }
        Ok(match (self.identity()?, other.identity()?) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        })
    }

    fn identity(&self) -> Result<Option<(bool, u64)>> {
        Ok(Some(match self {
            Self::File(node) => node.identity()?,
            Self::Directory(_) => return Ok(None),
            Self::Symlink(node) => node.identity()?,
            Self::Special(node) => node.identity()?,
        }))
    }

    /// Notes that the name by which it is known was removed.
    pub(crate) fn set_unlinked(&self) {
        match self {
            Self::File(node) => node.set_unlinked(),
            Self::Directory(node) => node.set_dead(),
            Self::Symlink(node) => node.set_unlinked(),
            Self::Special(node) => node.set_unlinked(),
        }
    }

    fn address(&self) -> *const () {
        match self {
            Self::File(node) => Arc::as_ptr(node).cast(),
            Self::Directory(node) => Arc::as_ptr(node).cast(),
            Self::Symlink(node) => Arc::as_ptr(node).cast(),
            Self::Special(node) => Arc::as_ptr(node).cast(),
        }
    }

    fn downgrade(&self) -> Known {
        match self {
            Self::File(node) => Known::File(Arc::downgrade(node)),
            Self::Directory(node) => Known::Directory(Arc::downgrade(node)),
            Self::Symlink(node) => Known::Symlink(Arc::downgrade(node)),
            Self::Special(node) => Known::Special(Arc::downgrade(node)),
        }
    }
}

enum Known {
    File(Weak<UnionFile>),
    Directory(Weak<UnionDirectory>),
    Symlink(Weak<UnionSymlink>),
    Special(Weak<UnionSpecial>),
}

impl Known {
    fn upgrade(&self) -> Option<Child> {
        Some(match self {
            Self::File(node) => Child::File(node.upgrade()?),
            Self::Directory(node) => Child::Directory(node.upgrade()?),
            Self::Symlink(node) => Child::Symlink(node.upgrade()?),
            Self::Special(node) => Child::Special(node.upgrade()?),
        })
    }

    fn is_alive(&self) -> bool {
        let count = match self {
            Self::File(node) => node.strong_count(),
            Self::Directory(node) => node.strong_count(),
            Self::Symlink(node) => node.strong_count(),
            Self::Special(node) => node.strong_count(),
        };
        count > 0
    }

    fn address(&self) -> *const () {
        match self {
            Self::File(node) => node.as_ptr().cast(),
            Self::Directory(node) => node.as_ptr().cast(),
            Self::Symlink(node) => node.as_ptr().cast(),
            Self::Special(node) => node.as_ptr().cast(),
        }
    }
}

/// The table. A name in it has the node that it says; a name that is not in it may have one.
#[derive(Default)]
pub(crate) struct Children {
    names: HashMap<Box<[u8]>, Known>,
    /// How many names make it worth to look for those whose node is gone.
    limit: usize,
}

impl Children {
    /// The node of a name, if somebody holds it.
    pub(crate) fn get(&self, name: Name<'_>) -> Option<Child> {
        self.names.get(name.as_bytes())?.upgrade()
    }

    /// Whether the name has this node, which the caller holds.
    pub(crate) fn has(&self, name: Name<'_>, child: &Child) -> bool {
        self.names.get(name.as_bytes()).is_some_and(|known| known.address() == child.address())
    }

    /// Notes what node a name has.
    pub(crate) fn insert(&mut self, name: Name<'_>, child: &Child) {
        if self.names.len() >= self.limit {
            self.names.retain(|_, known| known.is_alive());
            self.limit = self.names.len().saturating_mul(2).max(32);
        }
        self.names.insert(name.as_bytes().into(), child.downgrade());
    }

    /// Notes that a name is gone.
    pub(crate) fn remove(&mut self, name: Name<'_>) {
        self.names.remove(name.as_bytes());
    }
}
