//! The path walk, after `path_resolution(7)`.
//!
//! ENOTDIR, ELOOP and ENAMETOOLONG are raised here and nowhere else. Search permission is not checked: every process of
//! the enclave has the capability that overrides it.

use crate::{Dentry, Intent, Name, Namespace, Node};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use kbase::{Errno, Error, Result};

/// Symbolic links that one walk follows at most.
const MAX_LINKS: u32 = 40;
/// Names that are looked up at once at most.
const AT_ONCE: usize = 32;
/// Bytes of a path without its NUL.
const MAX_PATH: usize = 4095;

bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link at the end.
        const FOLLOW = 1;
        /// The end must be a directory.
        const DIRECTORY = 1 << 1;
        /// Fail at any symbolic link (`RESOLVE_NO_SYMLINKS`).
        const NO_SYMLINKS = 1 << 2;
        /// Fail at links that lead to a file itself (`RESOLVE_NO_MAGICLINKS`).
        const NO_MAGIC_LINKS = 1 << 3;
        /// Never leave the mount of the start (`RESOLVE_NO_XDEV`).
        const NO_MOUNTS = 1 << 4;
        /// Never leave the directory of the start (`RESOLVE_BENEATH`).
        const BENEATH = 1 << 5;
        /// Take the directory of the start for the root (`RESOLVE_IN_ROOT`).
        const IN_ROOT = 1 << 6;
        /// What is at the end is opened next, if it is a regular file.
        const TO_OPEN = 1 << 7;
        /// What is at the end is asked for its attributes next, once.
        const TO_STAT = 1 << 8;
    }
}

/// Where walks start.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// What `/` means, and where `..` stops.
    pub root: &'a Arc<Dentry>,
    /// Where relative paths start.
    pub directory: &'a Arc<Dentry>,
}

/// The last component of a path whose parent was walked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name, which may exist or not. `is_directory`: a slash followed.
    Name {
        /// The name.
        name: Vec<u8>,
        /// A slash followed it.
        is_directory: bool,
    },
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// The path is the root.
    Root,
}

/// What a path that may be created leads to.
pub enum Opened {
    /// Something that exists.
    Existing(Arc<Dentry>),
    /// A name that does not exist in a directory that does.
    Missing {
        /// The directory.
        parent: Arc<Dentry>,
        /// The name.
        name: Vec<u8>,
    },
}

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Entry,
    Parent,
    Create,
}

/// How a walk ended.
enum End {
    At(Arc<Dentry>),
    Missing { parent: Arc<Dentry>, name: Vec<u8> },
    Parent { parent: Arc<Dentry>, last: Last },
}

impl Namespace {
    /// Walks to what exists at `path`.
    ///
    /// # Errors
    /// ENOENT no such name, or the path is empty; ENOTDIR; ELOOP more than 40 symbolic links, or one that may not be
    /// followed; ENAMETOOLONG; EXDEV the path leads out of where it has to stay; EIO.
    pub fn resolve(&self, start: Start<'_>, path: &[u8], flags: WalkFlags) -> Result<Arc<Dentry>> {
        match self.walk(start, path, flags, Goal::Entry)? {
            End::At(dentry) => {
                if flags.contains(WalkFlags::DIRECTORY) {
                    dentry.node().as_directory()?;
                }
                Ok(dentry)
            }
            End::Missing { .. } | End::Parent { .. } => Err(Error::new(Errno::ENOENT, "no such name")),
        }
    }

    /// Walks to the directory that holds, or would hold, the last component.
    ///
    /// # Errors
    /// As [`Namespace::resolve`].
    pub fn resolve_parent(&self, start: Start<'_>, path: &[u8]) -> Result<(Arc<Dentry>, Last)> {
        match self.walk(start, path, WalkFlags::empty(), Goal::Parent)? {
            End::Parent { parent, last } => Ok((parent, last)),
            End::At(parent) => Ok((parent, Last::Root)),
            End::Missing { .. } => Err(Error::new(Errno::ENOENT, "no such name")),
        }
    }

    /// Walks for `open(2)` with `O_CREAT`: the last name may be missing, also behind a symbolic link.
    ///
    /// # Errors
    /// EISDIR the path ends in a slash; and as [`Namespace::resolve`].
    pub fn resolve_create(&self, start: Start<'_>, path: &[u8], flags: WalkFlags) -> Result<Opened> {
        match self.walk(start, path, flags, Goal::Create)? {
            End::At(dentry) => Ok(Opened::Existing(dentry)),
            End::Missing { parent, name } => Ok(Opened::Missing { parent, name }),
            End::Parent { .. } => Err(Error::new(Errno::EISDIR, "the path names a directory")),
        }
    }

    fn walk(&self, start: Start<'_>, path: &[u8], flags: WalkFlags, goal: Goal) -> Result<End> {
        if path.is_empty() {
            kbase::bail!(ENOENT, "the path is empty");
        }
        if path.len() > MAX_PATH {
            kbase::bail!(ENAMETOOLONG, "the path is longer than 4095 bytes");
        }
        let mut walker = Walker {
            namespace: self,
            root: if flags.contains(WalkFlags::IN_ROOT) { start.directory } else { start.root },
            start: start.directory,
            flags,
            at: Arc::clone(start.directory),
            links: 0,
        };
        walker.run(path, goal)
    }
}

struct Walker<'a> {
    namespace: &'a Namespace,
    root: &'a Arc<Dentry>,
    start: &'a Arc<Dentry>,
    flags: WalkFlags,
    at: Arc<Dentry>,
    links: u32,
}

impl Walker<'_> {
    fn run(&mut self, path: &[u8], goal: Goal) -> Result<End> {
        let mut path = Cow::Borrowed(path);
        if path.first() == Some(&b'/') {
            self.go_to_root()?;
        }
        let mut from = 0;
        loop {
            let Some((begin, end)) = component(&path, from) else {
                // Nothing but slashes: the root, or a link that leads to it.
                return Ok(End::At(Arc::clone(&self.at)));
            };
            let bytes = path.get(begin..end).unwrap_or_default();
            let is_last = component(&path, end).is_none();
            let has_slash = is_last && end < path.len();
            self.at.node().as_directory()?;
            if is_last && goal == Goal::Parent {
                let last = match bytes {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    // Its length is checked when it is looked up.
                    name => Last::Name { name: name.to_vec(), is_directory: has_slash },
                };
                return Ok(End::Parent { parent: Arc::clone(&self.at), last });
            }
            if bytes == b"." || bytes == b".." {
                if bytes == b".." {
                    self.go_up()?;
                }
                if is_last {
                    return Ok(End::At(Arc::clone(&self.at)));
                }
                from = end;
                continue;
            }
            if has_slash && goal == Goal::Create {
                kbase::bail!(EISDIR, "a file to create cannot end in a slash");
            }
            let name = Name::new(bytes)?;
            let found = match self.several(&path, begin, goal) {
                Ok(None) => self.namespace.child(&self.at, name).map(|next| (next, end)),
                Ok(Some((next, end))) => {
                    // Where a link leads is told from where it is.
                    self.at = next.parent().unwrap_or_else(|| Arc::clone(&self.at));
                    Ok((next, end))
                }
                Err(error) => Err(error),
            };
            let (next, end) = match found {
                Ok(found) => found,
                Err(error) if error.errno() == Errno::ENOENT && is_last && goal == Goal::Create => {
                    return Ok(End::Missing { parent: Arc::clone(&self.at), name: bytes.to_vec() });
                }
                Err(error) => return Err(error),
            };
            let is_last = component(&path, end).is_none();
            let has_slash = is_last && end < path.len();
            self.check_mount(&next)?;
            let follows = !is_last || has_slash || self.flags.contains(WalkFlags::FOLLOW);
            match next.node() {
                Node::Symlink(link) if follows => {
                    if let Some(target) = self.follow(&**link)? {
                        let mut joined = target;
                        if !is_last || has_slash {
                            joined.push(b'/');
                            joined.extend_from_slice(path.get(end..).unwrap_or_default());
                        }
                        if joined.first() == Some(&b'/') {
                            self.go_to_root()?;
                        }
                        path = Cow::Owned(joined);
                        from = 0;
                        continue;
                    }
                }
                _ => self.at = next,
            }
            if is_last {
                if has_slash {
                    self.at.node().as_directory()?;
                }
                return Ok(End::At(Arc::clone(&self.at)));
            }
            from = end;
        }
    }

    /// Walks through as many names at once as the file system looks up so, and gives where that ends in the path.
    ///
    /// # Errors
    /// ENOENT the last of them is not there; EIO.
    fn several(&self, path: &[u8], from: usize, goal: Goal) -> Result<Option<(Arc<Dentry>, usize)>> {
        if self.at.remembers() {
            return Ok(None);
        }
        let mut names = Vec::new();
        let mut ends = Vec::new();
        let mut end = from;
        while names.len() < AT_ONCE
            && let Some((begin, stop)) = component(path, end)
            && let Ok(name) = Name::new(path.get(begin..stop).unwrap_or_default())
        {
            let is_last = component(path, stop).is_none();
            if is_last && (goal == Goal::Parent || goal == Goal::Create && stop < path.len()) {
                break;
            }
            names.push(name);
            ends.push(stop);
            end = stop;
        }
        // A mount is there, and below it none of this.
        if names.first().is_none_or(|&first| self.at.recall(first.as_bytes()).is_ok()) {
            return Ok(None);
        }
        let is_last = component(path, end).is_none();
        let found = self.at.look_up_below(&names, if is_last { self.intent() } else { Intent::Entry });
        match found {
            // Its directory is wanted then.
            Err(error)
                if error.errno() == Errno::ENOENT && is_last && goal == Goal::Create && names.len() > 1 =>
            {
                names.pop();
                ends.pop();
                let parent = self.at.look_up_below(&names, Intent::Entry)?;
                Ok(parent.zip(ends.last().copied()))
            }
            found => Ok(found?.map(|dentry| (dentry, end))),
        }
    }

    /// What the end of the path is looked up for.
    fn intent(&self) -> Intent {
        if self.flags.contains(WalkFlags::TO_OPEN) {
            Intent::Open
        } else if self.flags.contains(WalkFlags::TO_STAT) {
            Intent::Attributes
        } else {
            Intent::Entry
        }
    }

    /// Follows a link: its target, or `None` after jumping to where it leads.
    fn follow(&mut self, link: &dyn crate::Symlink) -> Result<Option<Vec<u8>>> {
        self.links += 1;
        if self.links > MAX_LINKS || self.flags.contains(WalkFlags::NO_SYMLINKS) {
            kbase::bail!(ELOOP, "too many symbolic links");
        }
        if let Some(dentry) = link.jump()? {
            if self.flags.contains(WalkFlags::NO_MAGIC_LINKS) {
                kbase::bail!(ELOOP, "the link may not be followed");
            }
            if self.flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
                kbase::bail!(EXDEV, "the link leads elsewhere");
            }
            self.check_mount(&dentry)?;
            self.at = dentry;
            return Ok(None);
        }
        let target = link.target()?;
        if target.is_empty() {
            kbase::bail!(ENOENT, "the symbolic link is empty");
        }
        Ok(Some(target))
    }

    fn go_to_root(&mut self) -> Result<()> {
        if self.flags.contains(WalkFlags::BENEATH) {
            kbase::bail!(EXDEV, "an absolute path leaves the directory");
        }
        let root = Arc::clone(self.root);
        self.check_mount(&root)?;
        self.at = root;
        Ok(())
    }

    fn go_up(&mut self) -> Result<()> {
        if self.flags.contains(WalkFlags::BENEATH) && Arc::ptr_eq(&self.at, self.start) {
            kbase::bail!(EXDEV, "the path leaves the directory");
        }
        if Arc::ptr_eq(&self.at, self.root) {
            return Ok(());
        }
        if let Some(parent) = self.at.parent() {
            self.check_mount(&parent)?;
            self.at = parent;
        }
        Ok(())
    }

    fn check_mount(&self, next: &Arc<Dentry>) -> Result<()> {
        if !self.flags.contains(WalkFlags::NO_MOUNTS) {
            return Ok(());
        }
        match (next.mount(), self.start.mount()) {
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ok(()),
            _ => Err(Error::new(Errno::EXDEV, "the path leaves the mount")),
        }
    }
}

/// The next component at or after `from`: where it begins and ends.
fn component(path: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = path.get(from..)?;
    let begin = from + rest.iter().position(|&b| b != b'/')?;
    let name = path.get(begin..)?;
    let end = begin + name.iter().position(|&b| b == b'/').unwrap_or(name.len());
    Some((begin, end))
}
