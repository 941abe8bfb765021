//! What the union keeps in directories of the upper file system: whiteouts, marks of opaque directories, and
//! the steps by which an entry is replaced.
//!
//! All of it is called under the lock of the directory in question.

use alloc::sync::Arc;
use kbase::{Errno, Result};
use vfs::{Create, Directory, FileType, Metadata, Name, Node, SetAttributes, TimeChange};

/// Marks an opaque directory.
const OPAQUE: &[u8] = b".wh..opq";
/// Becomes the entry of another name.
const NEW: &[u8] = b".wh..new";
/// Was the entry of another name, to be removed.
const OLD: &[u8] = b".wh..old";

/// How deep leftovers in leftovers are removed.
const LEFTOVER_DEPTH: u32 = 4;

/// Whether programs cannot have this name.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name == OPAQUE || name == NEW || name == OLD
}

/// Fails unless a program may make this name.
pub(crate) fn check_new_name(name: Name<'_>) -> Result<()> {
    if is_reserved(name.as_bytes()) {
        kbase::bail!(EINVAL, "the name is reserved for the union of file systems");
    }
    Ok(())
}

/// The name of an entry on its way to another name.
pub(crate) fn new_name() -> Result<Name<'static>> {
    Name::new(NEW)
}

/// Whether attributes are those of a whiteout.
pub(crate) const fn is_whiteout_metadata(metadata: &Metadata) -> bool {
    matches!(metadata.kind, FileType::CharDevice) && metadata.rdev == 0
}

/// Whether a node is a whiteout.
pub(crate) fn is_whiteout(node: &Node) -> Result<bool> {
    match node {
        Node::Special(special) => Ok(is_whiteout_metadata(&special.metadata()?)),
        _ => Ok(false),
    }
}

/// What the upper file system has under a name.
pub(crate) enum There {
    /// Nothing: the lower's entry shows.
    Nothing,
    /// A whiteout: there is no entry.
    Whiteout,
    /// A node.
    Node(Node),
}

/// The node of a name, or `None`.
pub(crate) fn find(directory: &dyn Directory, name: Name<'_>) -> Result<Option<Node>> {
    match directory.lookup(name) {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.errno() == Errno::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is under a name in the upper part of a directory, if it has one.
pub(crate) fn look(upper: Option<&Arc<dyn Directory>>, name: Name<'_>) -> Result<There> {
    let Some(upper) = upper else { return Ok(There::Nothing) };
    Ok(match find(&**upper, name)? {
        None => There::Nothing,
        Some(node) if is_whiteout(&node)? => There::Whiteout,
        Some(node) => There::Node(node),
    })
}

/// Makes a whiteout.
pub(crate) fn make_whiteout(upper: &Arc<dyn Directory>, name: Name<'_>) -> Result<()> {
    upper.create(name, Create::Device(FileType::CharDevice, 0), 0, 0).map(drop)
}

/// Whether a directory is opaque.
pub(crate) fn is_opaque(upper: &Arc<dyn Directory>) -> Result<bool> {
    Ok(find(&**upper, Name::new(OPAQUE)?)?.is_some())
}

/// Makes a directory opaque. Says whether it was not so before.
pub(crate) fn make_opaque(upper: &Arc<dyn Directory>) -> Result<bool> {
    match make_whiteout(upper, Name::new(OPAQUE)?) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Errno::EEXIST => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the mark of [`make_opaque`] away.
pub(crate) fn unmake_opaque(upper: &Arc<dyn Directory>) -> Result<()> {
    upper.unlink(Name::new(OPAQUE)?, false)
}

/// Fails if a directory holds anything but marks.
pub(crate) fn check_only_marks(upper: &dyn Directory) -> Result<()> {
    let mut cursor = 0;
    loop {
        let part = upper.entries(cursor, 64)?;
        let Some(last) = part.last() else { return Ok(()) };
        cursor = last.next;
        for entry in &part {
            if is_reserved(&entry.name) {
                continue;
            }
            if entry.kind != FileType::CharDevice || !is_whiteout(&upper.lookup(Name::new(&entry.name)?)?)? {
                kbase::bail!(ENOTEMPTY, "the directory is not empty");
            }
        }
    }
}

/// Removes all marks of a directory that holds nothing else.
pub(crate) fn remove_marks(upper: &dyn Directory) -> Result<()> {
    remove_marks_within(upper, LEFTOVER_DEPTH)
}

fn remove_marks_within(upper: &dyn Directory, depth: u32) -> Result<()> {
    check_only_marks(upper)?;
    loop {
        let part = upper.entries(0, 64)?;
        if part.is_empty() {
            return Ok(());
        }
        for entry in &part {
            discard_within(upper, Name::new(&entry.name)?, depth)?;
        }
    }
}

/// Removes an entry: a file, or a directory that holds only marks.
fn discard(upper: &dyn Directory, name: Name<'_>) -> Result<()> {
    discard_within(upper, name, LEFTOVER_DEPTH)
}

fn discard_within(upper: &dyn Directory, name: Name<'_>, depth: u32) -> Result<()> {
    match upper.lookup(name)? {
        Node::Directory(directory) => {
            let Some(depth) = depth.checked_sub(1) else {
                kbase::bail!(EIO, "leftovers are too deep");
            };
            remove_marks_within(&*directory, depth)?;
            upper.unlink(name, true)
        }
        _ => upper.unlink(name, false),
    }
}

/// The name [`NEW`], with nothing there.
pub(crate) fn free_new_name(upper: &Arc<dyn Directory>) -> Result<Name<'static>> {
    free_work_name(upper, NEW)
}

fn free_work_name(upper: &Arc<dyn Directory>, name: &'static [u8]) -> Result<Name<'static>> {
    let name = Name::new(name)?;
    if find(&**upper, name)?.is_some() {
        discard(&**upper, name)?;
    }
    Ok(name)
}

/// Removes what is at [`NEW`], because the change failed.
pub(crate) fn give_up(upper: &Arc<dyn Directory>) {
    // The error of the change is what the caller wants to know; a leftover is removed later.
    let _ = free_work_name(upper, NEW);
}

/// Gives what is at [`NEW`] its name; what has the name is replaced. On failure nothing is left at [`NEW`].
pub(crate) fn install(upper: &Arc<dyn Directory>, name: Name<'_>) -> Result<()> {
    let installed = new_name().and_then(|new| move_over(upper, new, upper, name));
    if installed.is_err() {
        give_up(upper);
    }
    installed
}

/// Renames within the upper file system. What is at the new name is replaced, of whatever kind it is; a directory there
/// holds only marks. On failure everything is as before.
pub(crate) fn move_over(
    from: &Arc<dyn Directory>,
    name: Name<'_>,
    to: &Arc<dyn Directory>,
    to_name: Name<'_>,
) -> Result<()> {
    let moving = from.lookup(name)?;
    let there = find(&**to, to_name)?;
    let is_directory = |node: &Node| matches!(node, Node::Directory(_));
    let is_simple = there.as_ref().is_none_or(|there| !is_directory(there) && !is_directory(&moving));
    if is_simple {
        return from.rename(name, to, to_name, false);
    }
    let old = free_work_name(to, OLD)?;
    to.rename(to_name, to, old, false)?;
    if let Err(error) = from.rename(name, to, to_name, false) {
        // Its name is free, so this takes nothing that could be missing.
        let _ = to.rename(old, to, to_name, false);
        return Err(error);
    }
    // The change is done; a leftover is removed later.
    let _ = discard(&**to, old);
    Ok(())
}

/// Replaces an entry by a whiteout.
pub(crate) fn hide(upper: &Arc<dyn Directory>, name: Name<'_>) -> Result<()> {
    let new = free_new_name(upper)?;
    make_whiteout(upper, new)?;
    install(upper, name)
}

/// Does something to a directory and sets its times back: copying up is no change of the directory.
pub(crate) fn keeping_times<T>(upper: &Arc<dyn Directory>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = upper.metadata()?;
    let result = act();
    let at = |at_ns| Some(TimeChange { at_ns });
    let times = SetAttributes {
        atime: at(before.atime_ns),
        mtime: at(before.mtime_ns),
        ctime: at(before.ctime_ns),
        ..SetAttributes::default()
    };
    // The times of a directory are not worth failing for after the copy is there.
    let _ = upper.set_attributes(&times);
    result
}
