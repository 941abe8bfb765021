//! Directories.

use crate::inode::Common;
use crate::lower::adopt;
use crate::special::{MemSpecial, MemSymlink};
use crate::xattr::inode_xattrs;
use crate::{MemFile, Shared};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use hashbrown::{HashMap, HashSet};
use kbase::sync::{Mutex, MutexGuard};
use kbase::{Errno, Error, Result};
use vfs::{Create, Directory, DirectoryEntry, FileType, Inode, Metadata, Name, Node, SetAttributes};

/// Cursors of a listing from here on are those of the lower directory.
const BELOW: u64 = 1 << 61;

/// A directory.
pub(crate) struct MemDirectory {
    pub(crate) common: Common,
    me: Weak<MemDirectory>,
    state: Mutex<DirectoryState>,
    /// The directory of the lower file system whose names show here unless they are hidden.
    below: Option<Arc<dyn Directory>>,
    /// Where it is, for refusing to move a directory into itself. Changes under `Shared::renames` only.
    parent: Mutex<Weak<MemDirectory>>,
}

#[derive(Default)]
struct DirectoryState {
    /// Names, and the key of each in `entries`.
    names: HashMap<Box<[u8]>, u64>,
    /// Entries in the order of their making, so that a listing in parts is stable.
    entries: BTreeMap<u64, Entry>,
    last_key: u64,
    /// Names of the lower directory that do not show: removed, or replaced by one in `names`.
    hidden: HashSet<Box<[u8]>>,
    /// It was removed: nothing can be created in it any more.
    is_dead: bool,
}

struct Entry {
    name: Box<[u8]>,
    node: Node,
}

impl DirectoryState {
    fn get(&self, name: Name<'_>) -> Option<&Node> {
        let key = self.names.get(name.as_bytes())?;
        self.entries.get(key).map(|entry| &entry.node)
    }

    fn insert(&mut self, name: Name<'_>, node: Node) {
        self.last_key += 1;
        self.names.insert(name.as_bytes().into(), self.last_key);
        self.entries.insert(self.last_key, Entry { name: name.as_bytes().into(), node });
    }

    fn remove(&mut self, name: Name<'_>) -> Option<Node> {
        let key = self.names.remove(name.as_bytes())?;
        self.entries.remove(&key).map(|entry| entry.node)
    }

    /// The node of a name; `below` is that of the lower directory.
    fn find<'a>(&'a self, name: Name<'_>, below: Option<&'a Node>) -> Option<&'a Node> {
        self.get(name).or_else(|| below.filter(|_| !self.hidden.contains(name.as_bytes())))
    }

    /// Fails unless `name` can be made here.
    fn check_free(&self, name: Name<'_>, below: Option<&Node>) -> Result<()> {
        if self.is_dead {
            kbase::bail!(ENOENT, "the directory was removed");
        }
        if self.find(name, below).is_some() {
            kbase::bail!(EEXIST, "the name exists");
        }
        Ok(())
    }

    /// Removes a name, here and as it shows from below.
    fn take(&mut self, name: Name<'_>, below: Option<&Node>) -> Option<Node> {
        let own = self.remove(name);
        let is_new = below.is_some() && self.hidden.insert(name.as_bytes().into());
        own.or_else(|| below.filter(|_| is_new).cloned())
    }
}

impl MemDirectory {
    pub(crate) fn new(shared: &Arc<Shared>, mode: u32, parent: Option<&Arc<Self>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common: Common::new(shared, mode, 2),
            me: me.clone(),
            state: Mutex::default(),
            below: None,
            parent: Mutex::new(parent.map_or_else(Weak::new, Arc::downgrade)),
        })
    }

    /// A directory that shows one of the lower file system.
    pub(crate) fn over(common: Common, below: &Arc<dyn Directory>, parent: Option<&Arc<Self>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common,
            me: me.clone(),
            state: Mutex::default(),
            below: Some(Arc::clone(below)),
            parent: Mutex::new(parent.map_or_else(Weak::new, Arc::downgrade)),
        })
    }

    fn inode_below(&self) -> Option<&dyn Inode> {
        self.below.as_deref().map(|below| below as &dyn Inode)
    }

    /// The node that the lower directory has under a name, hidden or not. Called under no lock.
    fn below(&self, name: Name<'_>) -> Result<Option<Node>> {
        let (Some(below), Some(me)) = (&self.below, self.me.upgrade()) else { return Ok(None) };
        match below.lookup(name) {
            Ok(node) => Ok(Some(adopt(&self.common.shared, &me, &node)?)),
            Err(error) if error.errno() == Errno::ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the lower directory. Called under no lock.
    fn names_below(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut cursor = 0;
        while let Some(below) = &self.below {
            let part = below.entries(cursor, 128)?;
            let Some(last) = part.last() else { break };
            cursor = last.next;
            names.extend(part.into_iter().map(|entry| entry.name));
        }
        Ok(names)
    }

    /// This directory, if `node` is one of the same file system.
    fn of_node<'n>(&self, node: &'n dyn Inode) -> Option<&'n Self> {
        let directory = node.as_any().downcast_ref::<Self>()?;
        Arc::ptr_eq(&directory.common.shared, &self.common.shared).then_some(directory)
    }

    fn is_within(&self, other: &Self) -> bool {
        if core::ptr::eq(self, other) {
            return true;
        }
        let mut at = self.parent.lock().upgrade();
        while let Some(directory) = at {
            if core::ptr::eq(&*directory, other) {
                return true;
            }
            at = directory.parent.lock().upgrade();
        }
        false
    }

    /// The names of the lower directory behind the entry `name`, if that is a directory. Called under no lock.
    fn names_below_of(&self, name: Name<'_>, is_wanted: bool) -> Result<Vec<Vec<u8>>> {
        if !is_wanted || self.common.shared.lower.is_none() {
            return Ok(Vec::new());
        }
        match self.lookup(name) {
            Ok(Node::Directory(node)) => match self.of_node(&*node) {
                Some(directory) => directory.names_below(),
                None => Ok(Vec::new()),
            },
            _ => Ok(Vec::new()),
        }
    }

    /// Entries of the lower directory that show, after a cursor of its own.
    fn entries_below(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let Some(below) = &self.below else { return Ok(Vec::new()) };
        let mut cursor = cursor;
        loop {
            let mut part = below.entries(cursor, max)?;
            let Some(last) = part.last() else { return Ok(part) };
            cursor = last.next;
            let state = self.state.lock();
            part.retain(|entry| !state.hidden.contains(entry.name.as_slice()));
            drop(state);
            if part.is_empty() {
                continue;
            }
            for entry in &mut part {
                entry.next = entry.next.saturating_add(BELOW);
            }
            return Ok(part);
        }
    }

    /// Marks an empty directory as removed; `below` are the names of its lower directory.
    fn kill(&self, below: &[Vec<u8>]) -> Result<()> {
        let mut state = self.state.lock();
        if !state.names.is_empty() || below.iter().any(|name| !state.hidden.contains(name.as_slice())) {
            kbase::bail!(ENOTEMPTY, "the directory is not empty");
        }
        state.is_dead = true;
        Ok(())
    }
}

/// The common part of a node of this file system.
fn common(node: &Node) -> Option<&Common> {
    let any = node.inode().as_any();
    any.downcast_ref::<MemFile>()
        .map(|node| &node.common)
        .or_else(|| any.downcast_ref::<MemDirectory>().map(|node| &node.common))
        .or_else(|| any.downcast_ref::<MemSymlink>().map(|node| &node.common))
        .or_else(|| any.downcast_ref::<MemSpecial>().map(|node| &node.common))
}

fn kind_of(node: &Node) -> FileType {
    match node {
        Node::Regular(_) => FileType::Regular,
        Node::Directory(_) => FileType::Directory,
        Node::Symlink(_) => FileType::Symlink,
        Node::Special(special) => special.metadata().map_or(FileType::CharDevice, |m| m.kind),
    }
}

fn is_same(a: &Node, b: &Node) -> bool {
    match (common(a), common(b)) {
        (Some(a), Some(b)) => core::ptr::eq(a, b),
        _ => false,
    }
}

/// Accounts for a name of `node` that is gone.
fn unlinked(node: &Node) {
    if let Some(common) = common(node) {
        common.add_links(if matches!(node, Node::Directory(_)) { -2 } else { -1 });
    }
}

impl Inode for MemDirectory {
    fn metadata(&self) -> Result<Metadata> {
        if let Some(below) = &self.below
            && self.state.lock().names.is_empty()
        {
            let size = below.metadata()?.size;
            return Ok(self.common.metadata(FileType::Directory, 0, size, size.div_ceil(4096)));
        }
        let size = self.state.lock().names.len() as u64 * 20 + 40;
        Ok(self.common.metadata(FileType::Directory, 0, size, 0))
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.common.set(change);
        Ok(())
    }

    inode_xattrs!();

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for MemDirectory {
    fn lookup(&self, name: Name<'_>) -> Result<Node> {
        if let Some(node) = self.state.lock().get(name) {
            return Ok(node.clone());
        }
        let below = self.below(name)?;
        let state = self.state.lock();
        state.find(name, below.as_ref()).cloned().ok_or(Error::new(Errno::ENOENT, "no such name"))
    }

    fn entries(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        if cursor >= BELOW {
            return self.entries_below(cursor - BELOW, max);
        }
        let from = cursor.saturating_add(1);
        let state = self.state.lock();
        let listed = state.entries.range(from..).take(max).map(|(&key, entry)| DirectoryEntry {
            name: entry.name.to_vec(),
            ino: common(&entry.node).map_or(1, |common| common.ino),
            kind: kind_of(&entry.node),
            next: key,
        });
        let listed: Vec<DirectoryEntry> = listed.collect();
        drop(state);
        if listed.is_empty() { self.entries_below(0, max) } else { Ok(listed) }
    }

    fn create(&self, name: Name<'_>, what: Create<'_>, mode: u32, _now_ns: i64) -> Result<Node> {
        let shared = &self.common.shared;
        let below = self.below(name)?;
        let mut state = self.state.lock();
        state.check_free(name, below.as_ref())?;
        let node = match what {
            Create::Regular => Node::Regular(MemFile::new(shared, mode, 1)),
            Create::Directory => Node::Directory(Self::new(shared, mode, self.me.upgrade().as_ref())),
            Create::Symlink(target) => Node::Symlink(MemSymlink::new(shared, target)),
            Create::Special(kind) => Node::Special(MemSpecial::new(shared, kind, 0, mode)),
            Create::Device(kind, rdev) => Node::Special(MemSpecial::new(shared, kind, rdev, mode)),
        };
        state.insert(name, node.clone());
        drop(state);
        if matches!(node, Node::Directory(_)) {
            self.common.add_links(1);
        }
        self.common.modified();
        Ok(node)
    }

    fn create_unnamed(&self, mode: u32, _now_ns: i64) -> Result<Node> {
        Ok(Node::Regular(MemFile::new(&self.common.shared, mode, 0)))
    }

    fn link(&self, name: Name<'_>, node: &Node) -> Result<()> {
        let Some(target) = common(node).filter(|c| Arc::ptr_eq(&c.shared, &self.common.shared)) else {
            kbase::bail!(EXDEV, "the file is of another file system");
        };
        if matches!(node, Node::Directory(_)) {
            kbase::bail!(EPERM, "a directory has one name only");
        }
        let below = self.below(name)?;
        let mut state = self.state.lock();
        state.check_free(name, below.as_ref())?;
        state.insert(name, node.clone());
        target.add_links(1);
        drop(state);
        self.common.modified();
        Ok(())
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<()> {
        // Locks parent, then child: with renames, which lock by address, only under their lock.
        let below = self.below(name)?;
        let inner = self.names_below_of(name, directory)?;
        let _tree = directory.then(|| self.common.shared.renames.lock());
        let mut state = self.state.lock();
        let node = state.find(name, below.as_ref()).ok_or(Error::new(Errno::ENOENT, "no such name"))?;
        match (node, directory) {
            (Node::Directory(node), true) => {
                if let Some(node) = self.of_node(&**node) {
                    node.kill(&inner)?;
                }
            }
            (Node::Directory(_), false) => kbase::bail!(EISDIR, "the name is a directory"),
            (_, true) => kbase::bail!(ENOTDIR, "the name is not a directory"),
            (_, false) => {}
        }
        let gone = state.take(name, below.as_ref());
        drop(state);
        if let Some(gone) = gone {
            unlinked(&gone);
        }
        self.common.modified();
        if directory {
            self.common.add_links(-1);
        }
        Ok(())
    }

    fn rename(
        &self,
        from: Name<'_>,
        to: &Arc<dyn Directory>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        let Some(to) = self.of_node(&**to) else {
            kbase::bail!(EXDEV, "the directory is of another file system");
        };
        let below = Below {
            from: self.below(from)?,
            to: to.below(to_name)?,
            names_in_target: to.names_below_of(to_name, true)?,
        };
        let _tree = self.common.shared.renames.lock();
        let (replaced, moved) = {
            let (mut source, mut target) = lock_both(self, to);
            let ends = (self, to);
            move_entry(ends, &mut source, target.as_deref_mut(), (from, to_name), &below, no_replace)?
        };
        let Some(moved) = moved else { return Ok(()) };
        if let Some(replaced) = &replaced {
            unlinked(replaced);
            if matches!(replaced, Node::Directory(_)) {
                to.common.add_links(-1);
            }
        }
        if let Node::Directory(node) = &moved
            && let Some(directory) = self.of_node(&**node)
        {
            *directory.parent.lock() = to.me.clone();
            self.common.add_links(-1);
            to.common.add_links(1);
        }
        self.common.modified();
        to.common.modified();
        if let Some(common) = common(&moved) {
            common.add_links(0);
        }
        Ok(())
    }
}

/// Locks the states of two directories, the lower address first; one guard when they are the same.
fn lock_both<'a>(
    a: &'a MemDirectory,
    b: &'a MemDirectory,
) -> (MutexGuard<'a, DirectoryState>, Option<MutexGuard<'a, DirectoryState>>) {
    if core::ptr::eq(a, b) {
        return (a.state.lock(), None);
    }
    if core::ptr::from_ref(a) < core::ptr::from_ref(b) {
        let first = a.state.lock();
        (first, Some(b.state.lock()))
    } else {
        let second = b.state.lock();
        (a.state.lock(), Some(second))
    }
}

/// What the lower directories have under the names of a rename, looked up before the locks.
struct Below {
    from: Option<Node>,
    to: Option<Node>,
    /// Names in the directory that is replaced.
    names_in_target: Vec<Vec<u8>>,
}

/// Moves one entry under the locks. Returns what was replaced and what was moved; nothing was moved when both names are of
/// one file.
fn move_entry(
    (from_directory, to_directory): (&MemDirectory, &MemDirectory),
    source: &mut DirectoryState,
    mut target: Option<&mut DirectoryState>,
    (from, to_name): (Name<'_>, Name<'_>),
    below: &Below,
    no_replace: bool,
) -> Result<(Option<Node>, Option<Node>)> {
    let absent = Error::new(Errno::ENOENT, "no such name");
    let moving = source.find(from, below.from.as_ref()).cloned().ok_or(absent)?;
    let existing = target.as_deref().unwrap_or(source).find(to_name, below.to.as_ref()).cloned();
    if target.as_deref().is_some_and(|target| target.is_dead) {
        kbase::bail!(ENOENT, "the directory was removed");
    }
    if let Node::Directory(node) = &moving
        && let Some(directory) = from_directory.of_node(&**node)
        && to_directory.is_within(directory)
    {
        kbase::bail!(EINVAL, "a directory cannot be moved into itself");
    }
    if let Some(existing) = &existing {
        if no_replace {
            kbase::bail!(EEXIST, "the new name exists");
        }
        if is_same(&moving, existing) {
            return Ok((None, None));
        }
        match (&moving, existing) {
            (Node::Directory(_), Node::Directory(node)) => {
                // The directory that holds the entry is locked already; being its ancestor it is not empty.
                let replaced = from_directory.of_node(&**node);
                if replaced.is_some_and(|node| {
                    core::ptr::eq(node, from_directory) || core::ptr::eq(node, to_directory)
                }) {
                    kbase::bail!(ENOTEMPTY, "the directory is not empty");
                }
                if let Some(replaced) = replaced {
                    replaced.kill(&below.names_in_target)?;
                }
            }
            (Node::Directory(_), _) => kbase::bail!(ENOTDIR, "a directory cannot replace a file"),
            (_, Node::Directory(_)) => kbase::bail!(EISDIR, "a file cannot replace a directory"),
            _ => {}
        }
    }
    source.take(from, below.from.as_ref());
    let target = target.as_mut().map_or(source, |target| &mut **target);
    let replaced = target.take(to_name, below.to.as_ref());
    target.insert(to_name, moving.clone());
    Ok((replaced, Some(moving)))
}
