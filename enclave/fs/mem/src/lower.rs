//! The layer below: a read-only file system whose files show through until they are changed.
//!
//! Every node of the lower file system that is looked up gets one node here, found by its inode number, so that all
//! names of a file are one file. A node that was changed is kept for good ([`Lower::pin`]); one that was not is made
//! anew when it is looked up again. Content is shared page by page: nothing is copied but the pages that are
//! written.

use crate::directory::MemDirectory;
use crate::inode::Common;
use crate::special::{MemSpecial, MemSymlink};
use crate::{MemFile, Shared};
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;
use kbase::Result;
use kbase::sync::Mutex;
use vfs::{FileSystem, Node};

/// First inode number of what the lower file system does not have.
pub(crate) const FIRST_OWN_INO: u64 = 1 << 40;

/// The lower file system and what is known of its nodes.
pub(crate) struct Lower {
    pub(crate) fs: Arc<dyn FileSystem>,
    nodes: Mutex<HashMap<u64, Known>>,
}

struct Known {
    node: WeakNode,
    /// Set once the node was changed.
    pinned: Option<Node>,
}

enum WeakNode {
    File(Weak<MemFile>),
    Directory(Weak<MemDirectory>),
    Symlink(Weak<MemSymlink>),
    Special(Weak<MemSpecial>),
}

impl WeakNode {
    fn upgrade(&self) -> Option<Node> {
        Some(match self {
            Self::File(node) => Node::Regular(node.upgrade()?),
            Self::Directory(node) => Node::Directory(node.upgrade()?),
            Self::Symlink(node) => Node::Symlink(node.upgrade()?),
            Self::Special(node) => Node::Special(node.upgrade()?),
        })
    }
}

impl WeakNode {
    /// Whether the node is gone. Never takes a reference: dropping one here could free the node under the lock.
    fn is_freed(&self) -> bool {
        let holders = match self {
            Self::File(node) => node.strong_count(),
            Self::Directory(node) => node.strong_count(),
            Self::Symlink(node) => node.strong_count(),
            Self::Special(node) => node.strong_count(),
        };
        holders == 0
    }
}

impl Lower {
    pub(crate) fn new(fs: Arc<dyn FileSystem>) -> Self {
        Self { fs, nodes: Mutex::default() }
    }

    /// Keeps the node of a lower inode for good, since it is changed now.
    pub(crate) fn pin(&self, ino: u64) {
        let mut nodes = self.nodes.lock();
        if let Some(known) = nodes.get_mut(&ino)
            && known.pinned.is_none()
        {
            known.pinned = known.node.upgrade();
        }
    }

    /// Lets go of the node of a lower inode that has no name any more.
    pub(crate) fn unpin(&self, ino: u64) {
        let gone = self.nodes.lock().get_mut(&ino).and_then(|known| known.pinned.take());
        drop(gone);
    }

    /// Forgets a node that is freed.
    pub(crate) fn forget(&self, ino: u64) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&ino).is_some_and(|known| known.node.is_freed()) {
            nodes.remove(&ino);
        }
    }
}

/// The node here for a node of the lower file system, found in `parent`.
///
/// # Errors
/// EIO the lower node cannot be read.
pub(crate) fn adopt(shared: &Arc<Shared>, parent: &Arc<MemDirectory>, below: &Node) -> Result<Node> {
    let metadata = below.inode().metadata()?;
    let Some(lower) = &shared.lower else { return Ok(below.clone()) };
    let known = |nodes: &HashMap<u64, Known>| nodes.get(&metadata.ino).and_then(|k| k.node.upgrade());
    if let Some(node) = known(&lower.nodes.lock()) {
        return Ok(node);
    }
    let common = Common::of_lower(shared, &metadata);
    let (node, weak) = match below {
        Node::Regular(below) => {
            let file = MemFile::over(common, below, metadata.size);
            let weak = WeakNode::File(Arc::downgrade(&file));
            (Node::Regular(file), weak)
        }
        Node::Directory(below) => {
            let directory = MemDirectory::over(common, below, Some(parent));
            let weak = WeakNode::Directory(Arc::downgrade(&directory));
            (Node::Directory(directory), weak)
        }
        Node::Symlink(below) => {
            let link = MemSymlink::over(common, below)?;
            let weak = WeakNode::Symlink(Arc::downgrade(&link));
            (Node::Symlink(link), weak)
        }
        Node::Special(below) => {
            let special = MemSpecial::over(common, metadata.kind, metadata.rdev, below);
            let weak = WeakNode::Special(Arc::downgrade(&special));
            (Node::Special(special), weak)
        }
    };
    let mut nodes = lower.nodes.lock();
    // Somebody may have been faster: then all use theirs. Ours is dropped after the lock, since that takes it.
    match known(&nodes) {
        Some(theirs) => {
            drop(nodes);
            drop(node);
            Ok(theirs)
        }
        None => {
            nodes.insert(metadata.ino, Known { node: weak, pinned: None });
            Ok(node)
        }
    }
}
