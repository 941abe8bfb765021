//! Making and removing names.

use crate::children::Child;
use crate::directory::UnionDirectory;
use crate::marks::{self, There};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result};
use vfs::{Create, Directory, FileType, Name, Node};

/// Where a new entry goes.
enum Free {
    /// There is nothing of the name.
    Nothing,
    /// There is a whiteout to be replaced.
    Whiteout,
}

impl UnionDirectory {
    /// Says how a new entry gets the name, where the lower has `lower`. Under the lock.
    fn check_free(&self, name: Name<'_>, lower: Option<&Node>) -> Result<Free> {
        self.check_alive()?;
        match (marks::look(self.upper(), name)?, lower) {
            (There::Nothing, None) => Ok(Free::Nothing),
            (There::Whiteout, _) => Ok(Free::Whiteout),
            _ => Err(Error::new(Errno::EEXIST, "the name exists")),
        }
    }

    /// [`Directory::create`].
    pub(crate) fn make(&self, name: Name<'_>, what: Create<'_>, mode: u32, now_ns: i64) -> Result<Node> {
        marks::check_new_name(name)?;
        if matches!(what, Create::Device(FileType::CharDevice, 0) | Create::Special(FileType::CharDevice)) {
            kbase::bail!(EPERM, "the device number is that of whiteouts");
        }
        let lower = self.lower_node(name)?;
        if self.upper().is_none() {
            // Before the directory is copied up for nothing.
            self.check_free(name, lower.as_ref())?;
        }
        let upper = self.ensure_upper()?;
        let mut children = self.lock();
        let node = match self.check_free(name, lower.as_ref())? {
            Free::Nothing => upper.create(name, what, mode, now_ns)?,
            Free::Whiteout => {
                let new = marks::free_new_name(upper)?;
                let node = upper.create(new, what, mode, now_ns)?;
                if let (Node::Directory(made), Some(Node::Directory(_))) = (&node, &lower)
                    && let Err(error) = marks::make_opaque(made)
                {
                    marks::give_up(upper);
                    return Err(error);
                }
                marks::install(upper, name)?;
                node
            }
        };
        let child = self.child_of_upper(node, None)?;
        children.insert(name, &child);
        Ok(child.into_node())
    }

    /// [`Directory::link`].
    pub(crate) fn make_link(&self, name: Name<'_>, node: &Node) -> Result<()> {
        let target = Child::of_node(node, self);
        let target = target.ok_or(Error::new(Errno::EXDEV, "the file is of another file system"))?;
        if target.directory().is_some() {
            kbase::bail!(EPERM, "a directory has one name only");
        }
        marks::check_new_name(name)?;
        let lower = self.lower_node(name)?;
        {
            // Before anything is copied up for nothing.
            let _children = self.lock();
            self.check_free(name, lower.as_ref())?;
        }
        let node = target.copy_up()?;
        let upper = self.ensure_upper()?;
        let mut children = self.lock();
        match self.check_free(name, lower.as_ref())? {
            Free::Nothing => upper.link(name, &node)?,
            Free::Whiteout => {
                let new = marks::free_new_name(upper)?;
                upper.link(new, &node)?;
                marks::install(upper, name)?;
            }
        }
        children.insert(name, &target);
        Ok(())
    }

    /// [`Directory::unlink`].
    pub(crate) fn remove(&self, name: Name<'_>, is_directory: bool) -> Result<()> {
        let hides = self.lower_node(name)?.is_some();
        loop {
            let child = self.child(name)?;
            let directory = child.directory();
            match (directory, is_directory) {
                (Some(directory), true) => directory.check_lower_hidden()?,
                (Some(_), false) => kbase::bail!(EISDIR, "the name is a directory"),
                (None, true) => kbase::bail!(ENOTDIR, "the name is not a directory"),
                (None, false) => {}
            }
            if hides {
                self.ensure_upper()?;
            }
            let upper = self.upper().ok_or(Error::new(Errno::EIO, "the directory is not copied up"))?;
            let _tree = is_directory.then(|| self.shared().tree.lock());
            let mut children = self.lock();
            if !children.has(name, &child) {
                continue;
            }
            let _inner = directory.map(|directory| directory.lock());
            if let Some(directory) = directory {
                directory.check_upper_empty()?;
            }
            if hides {
                marks::hide(upper, name)?;
            } else {
                discard(upper, name)?;
            }
            child.set_unlinked();
            children.remove(name);
            return Ok(());
        }
    }

    /// Fails if an entry of the lower shows. The answer holds: what is hidden once is not shown again.
    pub(crate) fn check_lower_hidden(&self) -> Result<()> {
        let Some(lower) = self.lower() else { return Ok(()) };
        let mut cursor = 0;
        loop {
            let part = lower.entries(cursor, 64)?;
            let Some(last) = part.last() else { return Ok(()) };
            cursor = last.next;
            for entry in &part {
                let name = Name::new(&entry.name)?;
                if entry.kind == FileType::CharDevice && self.lower_node(name)?.is_none() {
                    continue;
                }
                let _children = self.lock();
                let is_hidden = marks::is_reserved(&entry.name)
                    || !matches!(marks::look(self.upper(), name)?, There::Nothing);
                if !is_hidden {
                    kbase::bail!(ENOTEMPTY, "the directory is not empty");
                }
            }
        }
    }

    /// Fails if the upper part has an entry. Under the lock.
    pub(crate) fn check_upper_empty(&self) -> Result<()> {
        self.upper().map_or(Ok(()), |upper| marks::check_only_marks(&**upper))
    }
}

/// Removes an entry that hides nothing.
fn discard(upper: &Arc<dyn Directory>, name: Name<'_>) -> Result<()> {
    match upper.lookup(name)? {
        Node::Directory(directory) => {
            marks::remove_marks(&*directory)?;
            upper.unlink(name, true)
        }
        _ => upper.unlink(name, false),
    }
}
