//! A tree of mounted file systems, and the operations that change it.
//!
//! Lock order: `renames`, then dentries; `mounts` and `recent` are innermost.

use crate::dentry::Child;
use crate::mount::Phantom;
use crate::{
    Change, Create, Dentry, DirectoryEntry, FileSystem, FileType, Mount, MountOptions, Name, Node,
    SetAttributes, Start, TimeChange, WalkFlags, Watcher, XattrFlags,
};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::sync::{Mutex, RwLock};
use kbase::{Errno, Result};

/// Dentries that are remembered without anybody holding them.
const REMEMBERED: usize = 32 * 1024;

/// Cursors from here on are mount points that the file system of a directory does not have.
/// Cursors of a host's directory take 63 bits: ext4's are hashes.
const PHANTOM_CURSORS: u64 = 1 << 63;

/// A namespace: what a process sees as its files.
pub struct Namespace {
    root: Arc<Dentry>,
    mounts: Mutex<Vec<(Arc<Mount>, Arc<Dentry>)>>,
    next_id: AtomicU64,
    /// Remembered dentries, the oldest first; a second chance for those used since.
    recent: Mutex<VecDeque<Weak<Dentry>>>,
    /// Serializes renames of directories within cached file systems, so that the tree stays a tree.
    renames: Mutex<()>,
    /// Who is told of changes.
    watcher: RwLock<Option<Arc<dyn Watcher>>>,
}

impl Drop for Namespace {
    /// Those above remember those below, who hold those above: what nobody else uses is freed only if that ends.
    fn drop(&mut self) {
        let mut above = alloc::vec![Arc::clone(&self.root)];
        while let Some(dentry) = above.pop() {
            above.extend(dentry.forget_all());
        }
    }
}

impl Namespace {
    /// A namespace whose root is the root of `fs`.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, options: MountOptions) -> Arc<Self> {
        let mount = Mount::new(1, fs, options);
        let root = Dentry::new(Node::Directory(mount.fs().root()), Arc::clone(&mount), None, b"");
        Arc::new(Self {
            root: Arc::clone(&root),
            mounts: Mutex::new(alloc::vec![(mount, root)]),
            next_id: AtomicU64::new(2),
            recent: Mutex::default(),
            renames: Mutex::default(),
            watcher: RwLock::new(None),
        })
    }

    /// Tells `watcher` of changes from now on.
    pub fn set_watcher(&self, watcher: Arc<dyn Watcher>) {
        *self.watcher.write() = Some(watcher);
    }

    /// Who wants to be told now.
    fn watching(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher.read().as_ref().filter(|watcher| watcher.is_watching()).cloned()
    }

    /// The root of everything.
    #[must_use]
    pub const fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// All mounts with their roots, in the order of mounting.
    #[must_use]
    pub fn mounts(&self) -> Vec<(Arc<Mount>, Arc<Dentry>)> {
        self.mounts.lock().clone()
    }

    /// Mounts `fs` at an absolute path. Directories of the path that do not exist appear, empty and unchangeable.
    ///
    /// # Errors
    /// EINVAL the path is not absolute or is `/`; ENOTDIR something on the way is no directory; ELOOP a symbolic link
    /// is on the way; EBUSY something is mounted there already.
    pub fn mount(&self, path: &[u8], fs: Arc<dyn FileSystem>, options: MountOptions) -> Result<Arc<Dentry>> {
        if path.first() != Some(&b'/') {
            kbase::bail!(EINVAL, "a mount point is an absolute path");
        }
        let mut names = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
        let mut at = Arc::clone(&self.root);
        while let Some(bytes) = names.next() {
            let name = Name::new(bytes)?;
            at.node().as_directory()?;
            if names.peek().is_none() {
                return self.mount_on(&at, name, fs, options);
            }
            at = self.ensure_directory(&at, name)?;
        }
        kbase::bail!(EINVAL, "the root is mounted already")
    }

    /// Shows `node` at an absolute path, in place of what may be there, as a file of the mount that holds the path.
    /// Directories of the path that do not exist appear.
    ///
    /// # Errors
    /// As [`Namespace::mount`].
    pub fn attach(&self, path: &[u8], node: Node) -> Result<()> {
        let mut names = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
        let mut at = Arc::clone(&self.root);
        while let Some(bytes) = names.next() {
            let name = Name::new(bytes)?;
            at.node().as_directory()?;
            if names.peek().is_some() {
                at = self.ensure_directory(&at, name)?;
                continue;
            }
            let is_phantom = self.child(&at, name).is_err();
            let Some(mount) = at.mount() else { break };
            let dentry = Dentry::new(node, Arc::clone(mount), Some(Arc::clone(&at)), bytes);
            let child = Child::Mounted { dentry, is_phantom };
            let old = at.children.write().names.insert(bytes.into(), child);
            drop(old);
            return Ok(());
        }
        kbase::bail!(EINVAL, "not an absolute path of a file")
    }

    /// The directory of that name, real or a phantom made now.
    fn ensure_directory(&self, parent: &Arc<Dentry>, name: Name<'_>) -> Result<Arc<Dentry>> {
        match self.child(parent, name) {
            Ok(dentry) => match dentry.node() {
                Node::Directory(_) => {
                    // Pinned: it must stay, or the mount below could not be reached.
                    let mut children = parent.children.write();
                    if !matches!(children.names.get(name.as_bytes()), Some(Child::Mounted { .. })) {
                        let child = Child::Mounted { dentry: Arc::clone(&dentry), is_phantom: false };
                        children.names.insert(name.as_bytes().into(), child);
                    }
                    Ok(dentry)
                }
                Node::Symlink(_) => kbase::bail!(ELOOP, "a symbolic link is on the way to a mount point"),
                _ => kbase::bail!(ENOTDIR, "a file is on the way to a mount point"),
            },
            Err(error) if error.errno() == Errno::ENOENT => {
                let Some(mount) = parent.mount() else { return Err(error) };
                let ino = PHANTOM_CURSORS | self.next_id.fetch_add(1, Ordering::Relaxed);
                let dev = parent.node().inode().metadata().map_or(0, |m| m.dev);
                let node = Phantom::node(dev, ino);
                let dentry = Dentry::new(node, Arc::clone(mount), Some(Arc::clone(parent)), name.as_bytes());
                let child = Child::Mounted { dentry: Arc::clone(&dentry), is_phantom: true };
                parent.children.write().names.insert(name.as_bytes().into(), child);
                Ok(dentry)
            }
            Err(error) => Err(error),
        }
    }

    fn mount_on(
        &self,
        parent: &Arc<Dentry>,
        name: Name<'_>,
        fs: Arc<dyn FileSystem>,
        options: MountOptions,
    ) -> Result<Arc<Dentry>> {
        let is_phantom = match self.child(parent, name) {
            Ok(there) if there.node().as_directory().is_err() => {
                kbase::bail!(ENOTDIR, "the mount point is not a directory")
            }
            Ok(_) => false,
            Err(error) if error.errno() == Errno::ENOENT => true,
            Err(error) => return Err(error),
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mount = Mount::new(id, fs, options);
        let root = Node::Directory(mount.fs().root());
        let dentry = Dentry::new(root, Arc::clone(&mount), Some(Arc::clone(parent)), name.as_bytes());
        let covered = {
            let mut children = parent.children.write();
            let old = children.names.get(name.as_bytes());
            let was_phantom = match old {
                // A phantom with mounts below it has to stay where it is.
                Some(Child::Mounted { dentry, is_phantom: true })
                    if dentry.children.read().names.is_empty() =>
                {
                    true
                }
                Some(Child::Mounted { .. }) => {
                    kbase::bail!(EBUSY, "something is mounted there or below it")
                }
                _ => false,
            };
            let is_phantom = is_phantom || was_phantom;
            let child = Child::Mounted { dentry: Arc::clone(&dentry), is_phantom };
            children.names.insert(name.as_bytes().into(), child)
        };
        drop(covered);
        self.mounts.lock().push((mount, Arc::clone(&dentry)));
        Ok(dentry)
    }

    /// The entry of a directory by a name that is neither `.` nor `..`.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR; EIO.
    pub fn child(&self, parent: &Arc<Dentry>, name: Name<'_>) -> Result<Arc<Dentry>> {
        match parent.recall(name.as_bytes()) {
            Ok(known) => known,
            Err(generation) => {
                let (dentry, is_new) = parent.look_up(name, generation)?;
                if is_new {
                    self.account(&dentry);
                }
                Ok(dentry)
            }
        }
    }

    /// Counts a remembered dentry and evicts an old one when there are too many.
    fn account(&self, dentry: &Arc<Dentry>) {
        let mut candidate = {
            let mut recent = self.recent.lock();
            recent.push_back(Arc::downgrade(dentry));
            if recent.len() <= REMEMBERED {
                return;
            }
            recent.pop_front()
        };
        // A few tries per insertion keep the queue near its bound without a long pause.
        for _ in 0..8 {
            let Some(old) = candidate.take().and_then(|weak| weak.upgrade()) else { return };
            if !old.take_referenced() && old.evict() {
                return;
            }
            let mut recent = self.recent.lock();
            recent.push_back(Arc::downgrade(&old));
            candidate = recent.pop_front();
        }
        if let Some(rest) = candidate {
            self.recent.lock().push_back(rest);
        }
    }

    /// Creates a node.
    ///
    /// # Errors
    /// EEXIST; EROFS; and what [`crate::Directory::create`] says.
    pub fn create(
        &self,
        parent: &Arc<Dentry>,
        name: Name<'_>,
        what: Create<'_>,
        mode: u32,
        now_ns: i64,
    ) -> Result<Arc<Dentry>> {
        let directory = parent.node().as_directory()?;
        // EEXIST prevails over EROFS (mkdir(2) of an existing directory on a read-only mount).
        if parent.has_mount_at(name.as_bytes())
            || (parent.mount().is_some_and(|m| m.is_read_only()) && self.child(parent, name).is_ok())
        {
            kbase::bail!(EEXIST, "the name exists");
        }
        parent.want_write()?;
        let node = directory.create(name, what, mode, now_ns)?;
        let created = self.adopt(parent, name, node);
        if let Some(watcher) = self.watching() {
            watcher.tell(&Change::Created { parent, name: name.as_bytes(), node: created.node() });
        }
        Ok(created)
    }

    /// Makes another name for what `target` is.
    ///
    /// # Errors
    /// EEXIST; EXDEV; EPERM it is a directory; EROFS; and what [`crate::Directory::link`] says.
    pub fn link(&self, target: &Arc<Dentry>, parent: &Arc<Dentry>, name: Name<'_>) -> Result<()> {
        let directory = parent.node().as_directory()?;
        if self.child(parent, name).is_ok() {
            kbase::bail!(EEXIST, "the name exists");
        }
        if !same_mount(target, parent) {
            kbase::bail!(EXDEV, "a link cannot cross mounts");
        }
        parent.want_write()?;
        if target.node().as_directory().is_ok() {
            kbase::bail!(EPERM, "a directory has one name only");
        }
        directory.link(name, target.node())?;
        self.adopt(parent, name, target.node().clone());
        if let Some(watcher) = self.watching() {
            watcher.tell(&Change::Linked { parent, name: name.as_bytes(), node: target.node() });
        }
        Ok(())
    }

    /// Remembers a node that was created just now.
    fn adopt(&self, parent: &Arc<Dentry>, name: Name<'_>, node: Node) -> Arc<Dentry> {
        parent.forget(name.as_bytes());
        let Some(mount) = parent.mount() else {
            return Dentry::anonymous(node, None, name.as_bytes());
        };
        let dentry = Dentry::new(node, Arc::clone(mount), Some(Arc::clone(parent)), name.as_bytes());
        if !mount.is_cached() {
            return dentry;
        }
        let (dentry, is_new) = parent.remember(name.as_bytes(), dentry, None);
        if is_new {
            self.account(&dentry);
        }
        dentry
    }

    /// Removes a name; `directory` says which kind it must be.
    ///
    /// # Errors
    /// EBUSY it is a mount point; EROFS; and what [`crate::Directory::unlink`] says.
    pub fn unlink(&self, parent: &Arc<Dentry>, name: Name<'_>, directory: bool) -> Result<()> {
        let node = parent.node().as_directory()?;
        parent.want_write()?;
        if parent.has_mount_at(name.as_bytes()) {
            if directory {
                kbase::bail!(EBUSY, "the directory is a mount point or on the way to one");
            }
            kbase::bail!(EISDIR, "the name is a mount point");
        }
        let watching = self.watching().and_then(|watcher| Some((watcher, self.child(parent, name).ok()?)));
        node.unlink(name, directory)?;
        if let Some(gone) = parent.forget(name.as_bytes()) {
            gone.mark_deleted();
        }
        if let Some((watcher, gone)) = watching {
            watcher.tell(&Change::Removed { parent, name: name.as_bytes(), node: gone.node() });
        }
        Ok(())
    }

    /// Renames; replaces what is at the new name unless `no_replace`.
    ///
    /// # Errors
    /// EXDEV; EBUSY a mount point is involved; EINVAL into itself; EROFS; and what [`crate::Directory::rename`] says.
    pub fn rename(
        &self,
        from: &Arc<Dentry>,
        from_name: Name<'_>,
        to: &Arc<Dentry>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        let from_directory = from.node().as_directory()?;
        let to_directory = to.node().as_directory()?;
        if !same_mount(from, to) {
            kbase::bail!(EXDEV, "a rename cannot cross mounts");
        }
        from.want_write()?;
        if from.has_mount_at(from_name.as_bytes()) || to.has_mount_at(to_name.as_bytes()) {
            kbase::bail!(EBUSY, "a mount point cannot be renamed or replaced");
        }
        let watcher = self.watching();
        let tell = |node: &Node, replaced: Option<&Node>| {
            if let Some(watcher) = &watcher {
                let (from_name, to_name) = (from_name.as_bytes(), to_name.as_bytes());
                watcher.tell(&Change::Moved { from, from_name, to, to_name, node, replaced });
            }
        };
        if !from.mount().is_some_and(|mount| mount.is_cached()) {
            let find = |at, name| watcher.as_ref().and_then(|_| self.child(at, name).ok());
            let (source, target) = (find(from, from_name), find(to, to_name));
            from_directory.rename(from_name, to_directory, to_name, no_replace)?;
            if let Some(source) = source {
                tell(source.node(), target.as_ref().map(|target| target.node()));
            }
            return Ok(());
        }
        let tree = self.renames.lock();
        let source = self.child(from, from_name)?;
        if to.is_within(&source) {
            kbase::bail!(EINVAL, "a directory cannot be moved into itself");
        }
        let target = self.child(to, to_name).ok();
        if target.as_ref().is_some_and(|target| from.is_within(target)) {
            if no_replace {
                kbase::bail!(EEXIST, "the new name exists");
            }
            kbase::bail!(ENOTEMPTY, "the new name holds the old one");
        }
        from_directory.rename(from_name, to_directory, to_name, no_replace)?;
        if target.as_ref().is_some_and(|target| is_same_node(&source, target)) {
            // Two names of one file: rename(2) does nothing.
            return Ok(());
        }
        from.forget(from_name.as_bytes());
        if let Some(replaced) = to.forget(to_name.as_bytes()) {
            replaced.mark_deleted();
        }
        source.move_to(to, to_name.as_bytes());
        let node = source.node().clone();
        to.remember(to_name.as_bytes(), source, None);
        drop(tree);
        tell(&node, target.as_ref().map(|target| target.node()));
        Ok(())
    }

    /// Entries of a directory after `cursor`, mount points included; see [`crate::Directory::entries`].
    ///
    /// # Errors
    /// ENOTDIR; EIO.
    pub fn entries(&self, of: &Arc<Dentry>, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let directory = of.node().as_directory()?;
        if cursor < PHANTOM_CURSORS {
            let entries = directory.entries(cursor, max)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        let mut phantoms: Vec<(Vec<u8>, Arc<Dentry>)> = Vec::new();
        for (name, child) in &of.children.read().names {
            if let Child::Mounted { dentry, is_phantom: true } = child {
                phantoms.push((name.to_vec(), Arc::clone(dentry)));
            }
        }
        phantoms.sort_by(|a, b| a.0.cmp(&b.0));
        let start = usize::try_from(cursor.saturating_sub(PHANTOM_CURSORS)).unwrap_or(usize::MAX);
        let start = if cursor < PHANTOM_CURSORS { 0 } else { start };
        let mut entries = Vec::new();
        for (index, (name, dentry)) in phantoms.into_iter().enumerate().skip(start).take(max) {
            let metadata = dentry.node().inode().metadata();
            let (ino, kind) = metadata.map_or((1, FileType::Directory), |m| (m.ino, m.kind));
            let next = PHANTOM_CURSORS + index as u64 + 1;
            entries.push(DirectoryEntry { name, ino, kind, next });
        }
        Ok(entries)
    }

    /// Changes attributes of a node, unless its mount is read-only.
    ///
    /// # Errors
    /// EROFS; EIO.
    pub fn set_attributes(&self, of: &Arc<Dentry>, change: SetAttributes, now_ns: i64) -> Result<()> {
        of.want_write()?;
        let change = SetAttributes { ctime: Some(TimeChange { at_ns: now_ns }), ..change };
        of.node().inode().set_attributes(&change)?;
        if let Some(watcher) = self.watching() {
            watcher.tell(&Change::Attributes { of, change: &change });
        }
        Ok(())
    }

    /// Sets an extended attribute of a node or removes it, unless its mount is read-only.
    ///
    /// # Errors
    /// EROFS; what [`crate::Inode::set_xattr`] says.
    pub fn set_xattr(
        &self,
        of: &Arc<Dentry>,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
    ) -> Result<()> {
        of.want_write()?;
        of.node().inode().set_xattr(name, value, flags)?;
        if let Some(watcher) = self.watching() {
            watcher.tell(&Change::Attributes { of, change: &SetAttributes::default() });
        }
        Ok(())
    }

    /// The dentry at an absolute path, following symbolic links.
    ///
    /// # Errors
    /// As `path_resolution(7)`.
    pub fn look_up(&self, path: &[u8]) -> Result<Arc<Dentry>> {
        let start = Start { root: &self.root, directory: &self.root };
        self.resolve(start, path, WalkFlags::FOLLOW)
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// EIO, after all were tried.
    pub fn sync(&self) -> Result<()> {
        let mut result = Ok(());
        for (mount, _) in self.mounts() {
            result = mount.fs().sync().and(result);
        }
        result
    }
}

/// Whether two entries are of one mount.
#[must_use]
pub fn same_mount(a: &Arc<Dentry>, b: &Arc<Dentry>) -> bool {
    match (a.mount(), b.mount()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Whether two dentries of one mount are names of one file.
fn is_same_node(a: &Arc<Dentry>, b: &Arc<Dentry>) -> bool {
    match (a.node().inode().metadata(), b.node().inode().metadata()) {
        (Ok(a), Ok(b)) => a.ino == b.ino && a.dev == b.dev,
        _ => false,
    }
}
