//! Renaming.

use crate::children::Child;
use crate::directory::UnionDirectory;
use crate::marks::{self, There};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result};
use vfs::{Directory, Name, Node};

/// The part of a rename that is the upper file system's.
struct Move<'a> {
    from: &'a Arc<dyn Directory>,
    name: Name<'a>,
    to: &'a Arc<dyn Directory>,
    to_name: Name<'a>,
    /// The lower has the old name: a whiteout stays there.
    leaves_whiteout: bool,
    /// A directory that comes to where the lower has one.
    becomes_opaque: Option<&'a Arc<dyn Directory>>,
}

impl UnionDirectory {
    /// [`Directory::rename`].
    pub(crate) fn move_to(
        &self,
        from: Name<'_>,
        to: &Arc<Self>,
        to_name: Name<'_>,
        no_replace: bool,
    ) -> Result<()> {
        marks::check_new_name(to_name)?;
        let leaves_whiteout = self.lower_node(from)?.is_some();
        let covers_directory = matches!(to.lower_node(to_name)?, Some(Node::Directory(_)));
        let not_up = Error::new(Errno::EIO, "the directory is not copied up");
        loop {
            let source = self.child(from)?;
            let target = match to.child(to_name) {
                Ok(target) => Some(target),
                Err(error) if error.errno() == Errno::ENOENT => None,
                Err(error) => return Err(error),
            };
            if let Some(target) = &target {
                if no_replace {
                    kbase::bail!(EEXIST, "the new name exists");
                }
                if source.is_same_file(target)? {
                    return Ok(());
                }
                self.check_replaces(&source, to, target)?;
            }
            let directory = source.directory();
            if directory.is_some_and(|directory| directory.lower().is_some()) {
                kbase::bail!(EXDEV, "a directory of the lower file system is not renamed");
            }
            to.check_alive()?;
            source.copy_up()?;
            let to_upper = to.ensure_upper()?;
            let upper = self.upper().ok_or(not_up)?;

            let _tree = self.shared().tree.lock();
            let mut children = self.lock();
            let mut to_children = (!core::ptr::eq(self, &**to)).then(|| to.lock());
            to.check_alive()?;
            let is_target = match &target {
                Some(target) => to_children.as_deref().unwrap_or(&children).has(to_name, target),
                None => !matches!(marks::look(Some(to_upper), to_name)?, There::Node(_)),
            };
            if !is_target || !children.has(from, &source) {
                continue;
            }
            let replaced = target.as_ref().and_then(Child::directory);
            let _inner = replaced.map(|replaced| replaced.lock());
            if let Some(replaced) = replaced {
                replaced.check_upper_empty()?;
            }
            let becomes_opaque =
                directory.filter(|_| covers_directory).and_then(|directory| directory.upper());
            let step =
                Move { from: upper, name: from, to: to_upper, to_name, leaves_whiteout, becomes_opaque };
            step.run()?;
            if let Some(target) = &target {
                target.set_unlinked();
            }
            children.remove(from);
            to_children.as_deref_mut().unwrap_or(&mut children).insert(to_name, &source);
            return Ok(());
        }
    }

    /// Fails unless `source`, an entry of this directory, may take the place of `target` in `to`.
    fn check_replaces(&self, source: &Child, to: &Arc<Self>, target: &Child) -> Result<()> {
        match (source, target) {
            (Child::Directory(_), Child::Directory(target)) => {
                if core::ptr::eq(&**target, self) || Arc::ptr_eq(target, to) {
                    kbase::bail!(ENOTEMPTY, "the directory is not empty");
                }
                target.check_lower_hidden()?;
                let _inner = target.lock();
                target.check_upper_empty()
            }
            (Child::Directory(_), _) => Err(Error::new(Errno::ENOTDIR, "a directory cannot replace a file")),
            (_, Child::Directory(_)) => Err(Error::new(Errno::EISDIR, "a file cannot replace a directory")),
            _ => Ok(()),
        }
    }
}

impl Move<'_> {
    /// Does it, or nothing of it.
    fn run(&self) -> Result<()> {
        if self.leaves_whiteout {
            // Made first, so that no space is needed once something has moved.
            marks::make_whiteout(self.from, marks::free_new_name(self.from)?)?;
        }
        let moved = self.mark().and_then(|is_marked| {
            let moved = marks::move_over(self.from, self.name, self.to, self.to_name);
            if let (Err(_), true, Some(directory)) = (&moved, is_marked, self.becomes_opaque) {
                // A mark on a directory that merges with nothing says nothing.
                let _ = marks::unmake_opaque(directory);
            }
            moved
        });
        match moved {
            // What was replaced is gone, so there is no way back; without the whiteout the old name would show again.
            Ok(()) if self.leaves_whiteout => {
                marks::install(self.from, self.name).or_else(|_| marks::hide(self.from, self.name))
            }
            Err(error) => {
                if self.leaves_whiteout {
                    marks::give_up(self.from);
                }
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn mark(&self) -> Result<bool> {
        self.becomes_opaque.map_or(Ok(false), marks::make_opaque)
    }
}
