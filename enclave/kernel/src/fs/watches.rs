//! What is watched by whom (`inotify(7)`): events by node.
//!
//! Lock order: the table of watches, then an instance of [`super::inotify`]. Where nothing is watched, telling costs one load.

use super::inotify::Inotify;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use hashbrown::HashMap;
use kbase::sync::Mutex;
use linux_abi::inotify::mask;
use vfs::{Change, Dentry, Node, Watcher};

/// Device and inode number.
pub(super) type NodeId = (u64, u64);

/// The number of a node.
pub(super) fn node_id(node: &Node) -> Option<NodeId> {
    node.inode().metadata().ok().map(|metadata| (metadata.dev, metadata.ino))
}

/// A node that an instance watches.
pub(super) struct Watch {
    pub(super) instance: Weak<Inotify>,
    /// Its number in the instance.
    pub(super) descriptor: i32,
    /// The events that are wanted, and how.
    pub(super) mask: AtomicU32,
    pub(super) id: NodeId,
    /// Kept, so that its number stays its own.
    pub(super) _node: Node,
}

/// All watches.
#[derive(Default)]
pub(crate) struct Watches {
    count: AtomicUsize,
    by_node: Mutex<HashMap<NodeId, Vec<Arc<Watch>>>>,
    cookie: AtomicU32,
}

impl Watches {
    fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn add(&self, watch: &Arc<Watch>) {
        self.by_node.lock().entry(watch.id).or_default().push(Arc::clone(watch));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, watch: &Watch) {
        let mut gone = Vec::new();
        let mut by_node = self.by_node.lock();
        let Some(list) = by_node.get_mut(&watch.id) else { return };
        list.retain(|there| {
            let is_it = core::ptr::eq(&raw const **there, watch);
            if is_it {
                gone.push(Arc::clone(there));
            }
            !is_it
        });
        if list.is_empty() {
            by_node.remove(&watch.id);
        }
        drop(by_node);
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
    }

    /// Something happened to a node, or under `name` in it.
    fn tell_node(&self, id: NodeId, event: u32, cookie: u32, name: &[u8], is_gone: bool) {
        let watches = self.by_node.lock().get(&id).cloned().unwrap_or_default();
        for watch in watches {
            let wanted = watch.mask.load(Ordering::Relaxed);
            let Some(instance) = watch.instance.upgrade() else { continue };
            if event & wanted & mask::ALL_EVENTS == 0 || (is_gone && wanted & mask::EXCL_UNLINK != 0) {
                continue;
            }
            instance.push(watch.descriptor, event, cookie, name);
            if wanted & mask::ONESHOT != 0 {
                instance.drop_watch(&watch);
            }
        }
    }

    /// A node is gone: so are its watches.
    fn node_gone(&self, node: &Node) {
        let Some(id) = node_id(node) else { return };
        self.tell_node(id, mask::DELETE_SELF, 0, b"", false);
        let watches = self.by_node.lock().get(&id).cloned().unwrap_or_default();
        for watch in watches {
            if let Some(instance) = watch.instance.upgrade() {
                instance.drop_watch(&watch);
            }
        }
    }

    /// Something happened to a file that was opened or found at `entry`: its directory hears of it, and then its own watches.
    pub(crate) fn tell_entry(&self, entry: &Arc<Dentry>, event: u32) {
        if !self.is_any() {
            return;
        }
        let event = event | directory_bit(entry.node());
        if let Some(parent) = entry.parent()
            && let Some(id) = node_id(parent.node())
        {
            self.tell_node(id, event, 0, &entry.name(), entry.is_deleted());
        }
        if let Some(id) = node_id(entry.node()) {
            self.tell_node(id, event, 0, b"", false);
        }
    }

    fn tell_name(&self, parent: &Dentry, event: u32, cookie: u32, name: &[u8], node: &Node) {
        if let Some(id) = node_id(parent.node()) {
            self.tell_node(id, event | directory_bit(node), cookie, name, false);
        }
    }

    fn tell_self(&self, node: &Node, event: u32) {
        if let Some(id) = node_id(node) {
            self.tell_node(id, event | directory_bit(node), 0, b"", false);
        }
    }

    /// A name of a node is gone: and so is the node, if it was its last.
    fn name_gone(&self, node: &Node) {
        let is_directory = matches!(node, Node::Directory(_));
        if is_directory || node.inode().metadata().map_or(true, |metadata| metadata.nlink == 0) {
            self.node_gone(node);
        }
    }
}

fn directory_bit(node: &Node) -> u32 {
    if matches!(node, Node::Directory(_)) { mask::ISDIR } else { 0 }
}

impl Watcher for Watches {
    fn is_watching(&self) -> bool {
        self.is_any()
    }

    fn tell(&self, change: &Change<'_>) {
        let is_file = |node: &Node| !matches!(node, Node::Directory(_));
        match *change {
            Change::Created { parent, name, node } => self.tell_name(parent, mask::CREATE, 0, name, node),
            Change::Linked { parent, name, node } => {
                self.tell_self(node, mask::ATTRIB);
                self.tell_name(parent, mask::CREATE, 0, name, node);
            }
            Change::Removed { parent, name, node } => {
                if is_file(node) {
                    self.tell_self(node, mask::ATTRIB);
                }
                self.tell_name(parent, mask::DELETE, 0, name, node);
                self.name_gone(node);
            }
            Change::Moved { from, from_name, to, to_name, node, replaced } => {
                let cookie = self.cookie.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                self.tell_name(from, mask::MOVED_FROM, cookie, from_name, node);
                self.tell_name(to, mask::MOVED_TO, cookie, to_name, node);
                if let Some(replaced) = replaced
                    && is_file(replaced)
                {
                    self.tell_self(replaced, mask::ATTRIB);
                }
                self.tell_self(node, mask::MOVE_SELF);
                if let Some(replaced) = replaced {
                    self.name_gone(replaced);
                }
            }
            Change::Attributes { of, change } => {
                let is_plain = change.mode.is_some() || change.uid.is_some() || change.gid.is_some();
                let event = match (change.atime.is_some(), change.mtime.is_some()) {
                    (true, false) if !is_plain => mask::ACCESS,
                    (false, true) if !is_plain => mask::MODIFY,
                    _ => mask::ATTRIB,
                };
                self.tell_entry(of, event);
            }
        }
    }
}
