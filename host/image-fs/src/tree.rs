//! The tree of entries, before it is written.
//!
//! Nodes live in one vector and directories refer to them by number, so that a node may have several names.
//! Symbolic links in the middle of a path are followed inside the image, as they would be at run time.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use erofs_format::{FileType, MAX_NAME};

use crate::Error;

/// Links followed in one path before it is taken for a loop, as Linux has it.
const MAX_LINKS: u32 = 40;

/// Attributes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permissions, set-id and sticky bits (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification, seconds since 1970.
    pub mtime: u64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
}

impl Metadata {
    /// An entry of root with these permissions.
    #[must_use]
    pub const fn root(mode: u16, mtime: u64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, mtime_nsec: 0 }
    }
}

/// Where a regular file's data come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of the host, read when the image is written.
    Host(PathBuf),
}

pub(crate) type NodeId = usize;

pub(crate) const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory(BTreeMap<Vec<u8>, NodeId>),
    Regular(Content),
    Symlink(Vec<u8>),
    Special { file_type: FileType, major: u32, minor: u32 },
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) kind: Kind,
}

impl Node {
    pub(crate) fn new(metadata: Metadata, kind: Kind) -> Self {
        Self { metadata, xattrs: BTreeMap::new(), kind }
    }

    pub(crate) fn file_type(&self) -> FileType {
        match &self.kind {
            Kind::Directory(_) => FileType::Directory,
            Kind::Regular(_) => FileType::Regular,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::Special { file_type, .. } => *file_type,
        }
    }
}

/// One node as it will be written, in the order of writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) node: NodeId,
    /// The directory it was first found in; the root's is the root.
    pub(crate) parent: NodeId,
    pub(crate) nlink: u32,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    implicit: Metadata,
}

impl Tree {
    /// A tree of only a root. Directories that nobody adds get the same attributes.
    pub(crate) fn new(implicit: Metadata) -> Self {
        Self { nodes: vec![Node::new(implicit, Kind::Directory(BTreeMap::new()))], implicit }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    /// Adds `node` at `path`. A directory that is there takes the new attributes and keeps its entries; a file
    /// is replaced by a file.
    pub(crate) fn add(&mut self, path: &Path, node: Node) -> Result<NodeId, Error> {
        let Some((directory, name)) = self.locate(path)? else {
            // The root itself.
            let Kind::Directory(_) = node.kind else { return Err(Error::entry(path, "is a directory")) };
            self.nodes[ROOT].metadata = node.metadata;
            return Ok(ROOT);
        };
        if let Some(old) = self.children(directory).get(&name).copied() {
            match (&self.nodes[old].kind, &node.kind) {
                (Kind::Directory(_), Kind::Directory(_)) => {
                    self.nodes[old].metadata = node.metadata;
                    return Ok(old);
                }
                (Kind::Directory(_), _) => return Err(Error::entry(path, "is a directory")),
                (Kind::Symlink(_), Kind::Directory(_)) => {
                    // A directory over a link to one: as `cp -a dir/. target` sees it.
                    let target = self.resolve(path)?;
                    return match self.nodes[target].kind {
                        Kind::Directory(_) => Ok(target),
                        _ => Err(Error::entry(path, "not a directory")),
                    };
                }
                (_, Kind::Directory(_)) => return Err(Error::entry(path, "not a directory")),
                _ => {}
            }
        }
        let id = self.nodes.len();
        self.nodes.push(node);
        self.link(directory, name, id);
        Ok(id)
    }

    /// Gives node `existing`, which is not a directory, another name.
    pub(crate) fn add_link(&mut self, path: &Path, existing: NodeId) -> Result<(), Error> {
        let (directory, name) = self.locate(path)?.ok_or_else(|| Error::entry(path, "is a directory"))?;
        if let Kind::Directory(_) = self.nodes[existing].kind {
            return Err(Error::entry(path, "hard link to a directory"));
        }
        if let Some(old) = self.children(directory).get(&name)
            && let Kind::Directory(_) = self.nodes[*old].kind
        {
            return Err(Error::entry(path, "is a directory"));
        }
        self.link(directory, name, existing);
        Ok(())
    }

    /// Takes the name away; says whether it was there.
    pub(crate) fn remove(&mut self, path: &Path) -> Result<bool, Error> {
        let Some((directory, name)) = self.locate(path)? else {
            return Err(Error::entry(path, "the root cannot be removed"));
        };
        match &mut self.nodes[directory].kind {
            Kind::Directory(children) => Ok(children.remove(&name).is_some()),
            _ => Ok(false),
        }
    }

    /// The node at `path`, whose last component may be a symbolic link but is not followed.
    pub(crate) fn find(&self, path: &Path) -> Option<NodeId> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => match &self.nodes[at].kind {
                    Kind::Directory(children) => at = *children.get(name.as_bytes())?,
                    _ => return None,
                },
                _ => return None,
            }
        }
        Some(at)
    }

    /// All nodes that have a name, breadth first and by name, each once: directories before what they hold.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        let mut place = vec![None; self.nodes.len()];
        let mut visits = vec![Visit { node: ROOT, parent: ROOT, nlink: 2 }];
        let mut queue = VecDeque::from([(ROOT, 0)]);
        while let Some((directory, directory_place)) = queue.pop_front() {
            for &child in self.children(directory).values() {
                if let Some(place) = place[child] {
                    let visit: &mut Visit = &mut visits[place];
                    visit.nlink += 1;
                    continue;
                }
                place[child] = Some(visits.len());
                let is_directory = matches!(self.nodes[child].kind, Kind::Directory(_));
                if is_directory {
                    visits[directory_place].nlink += 1;
                    queue.push_back((child, visits.len()));
                }
                visits.push(Visit {
                    node: child,
                    parent: directory,
                    nlink: if is_directory { 2 } else { 1 },
                });
            }
        }
        visits
    }

    pub(crate) fn children(&self, directory: NodeId) -> &BTreeMap<Vec<u8>, NodeId> {
        static NONE: BTreeMap<Vec<u8>, NodeId> = BTreeMap::new();
        match &self.nodes[directory].kind {
            Kind::Directory(children) => children,
            _ => &NONE,
        }
    }

    fn link(&mut self, directory: NodeId, name: Vec<u8>, node: NodeId) {
        if let Kind::Directory(children) = &mut self.nodes[directory].kind {
            children.insert(name, node);
        }
    }

    /// The directory and the name that `path` means, or `None` for the root. Makes missing directories.
    fn locate(&mut self, path: &Path) -> Result<Option<(NodeId, Vec<u8>)>, Error> {
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) if name.len() <= MAX_NAME && !name.as_bytes().contains(&0) => {
                    components.push(name.as_bytes().to_vec());
                }
                Component::Normal(_) => return Err(Error::entry(path, "file name too long")),
                _ => return Err(Error::entry(path, "`..` in a path of the image")),
            }
        }
        let Some(name) = components.pop() else { return Ok(None) };
        let mut stack = vec![ROOT];
        let mut rest: VecDeque<Vec<u8>> = components.into();
        self.walk(path, &mut stack, &mut rest)?;
        Ok(Some((stack.last().copied().unwrap_or(ROOT), name)))
    }

    /// The node that `path` leads to, links followed to the end.
    fn resolve(&mut self, path: &Path) -> Result<NodeId, Error> {
        let mut stack = vec![ROOT];
        let mut rest = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.as_bytes().to_vec()),
                _ => None,
            })
            .collect();
        self.walk(path, &mut stack, &mut rest)?;
        Ok(stack.last().copied().unwrap_or(ROOT))
    }

    /// Walks `rest` from the top of `stack`, which keeps the way back for `..`.
    fn walk(
        &mut self,
        path: &Path,
        stack: &mut Vec<NodeId>,
        rest: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let at = stack.last().copied().unwrap_or(ROOT);
            if name == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let next = match self.children(at).get(&name) {
                Some(next) => *next,
                None => {
                    let id = self.nodes.len();
                    self.nodes.push(Node::new(self.implicit, Kind::Directory(BTreeMap::new())));
                    self.link(at, name, id);
                    id
                }
            };
            match &self.nodes[next].kind {
                Kind::Directory(_) => stack.push(next),
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::entry(path, "too many levels of symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let parts = target.split(|byte| *byte == b'/');
                    for part in parts.rev().filter(|part| !part.is_empty() && *part != b".") {
                        rest.push_front(part.to_vec());
                    }
                }
                _ => return Err(Error::entry(path, "not a directory")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node::new(Metadata::root(0o644, 0), Kind::Regular(Content::Bytes(Vec::new())))
    }

    fn link(target: &str) -> Node {
        Node::new(Metadata::root(0o777, 0), Kind::Symlink(target.as_bytes().to_vec()))
    }

    fn tree() -> Tree {
        Tree::new(Metadata::root(0o755, 0))
    }

    #[test]
    fn missing_directories_are_made() {
        let mut tree = tree();
        let id = tree.add(Path::new("/a/b/c"), file()).unwrap();
        assert_eq!(tree.find(Path::new("a/b/c")), Some(id));
        assert_eq!(tree.visits().iter().map(|visit| visit.nlink).collect::<Vec<_>>(), [3, 3, 2, 1]);
    }

    #[test]
    fn links_to_directories_are_followed_inside_the_image() {
        let mut tree = tree();
        tree.add(Path::new("/lib"), link("usr/lib")).unwrap();
        tree.add(Path::new("/usr/up"), link("../lib/./x/..")).unwrap();
        let id = tree.add(Path::new("/usr/up/ld.so"), file()).unwrap();
        assert_eq!(tree.find(Path::new("/usr/lib/ld.so")), Some(id));
        tree.add(Path::new("/loop"), link("/loop")).unwrap();
        assert!(tree.add(Path::new("/loop/x"), file()).is_err());
    }

    #[test]
    fn what_cannot_be_added_is_an_error() {
        let mut tree = tree();
        tree.add(Path::new("/d/f"), file()).unwrap();
        assert!(tree.add(Path::new("/d"), file()).is_err());
        assert!(tree.add(Path::new("/d/f/g"), file()).is_err());
        assert!(tree.add(Path::new("/d/../g"), file()).is_err());
        assert!(tree.add(Path::new("/"), file()).is_err());
        assert!(tree.add(Path::new(&"n".repeat(256)), file()).is_err());
        assert!(tree.add_link(Path::new("/e"), tree.find(Path::new("/d")).unwrap()).is_err());
    }

    #[test]
    fn a_node_with_two_names_is_visited_once() {
        let mut tree = tree();
        let id = tree.add(Path::new("/z"), file()).unwrap();
        tree.add_link(Path::new("/d/y"), id).unwrap();
        let visits = tree.visits();
        assert_eq!(visits.len(), 3);
        assert_eq!(visits.iter().find(|visit| visit.node == id).unwrap().nlink, 2);
        assert!(tree.remove(Path::new("/z")).unwrap());
        assert!(!tree.remove(Path::new("/z")).unwrap());
    }
}
