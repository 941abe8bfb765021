//! What there is to see of a tree.

use super::*;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use vfs::Metadata;

/// What a tree is: every path with mode, links and a hash of what is there, and which paths are one file.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, (u32, u64, u64)>,
    files: BTreeMap<String, String>,
}

/// Looks at all of it; directories are listed in parts of `part` entries.
pub(super) fn tree(root: &Arc<dyn Directory>, part: usize) -> Tree {
    let mut tree = Tree::default();
    let mut first_name = BTreeMap::new();
    walk(root, "", part, &mut tree, &mut first_name);
    tree
}

fn walk(
    directory: &Arc<dyn Directory>,
    path: &str,
    part: usize,
    tree: &mut Tree,
    first_name: &mut BTreeMap<u64, String>,
) {
    let mut cursor = 0;
    let mut entries = Vec::new();
    loop {
        let some = directory.entries(cursor, part).unwrap();
        let Some(last) = some.last() else { break };
        cursor = last.next;
        entries.extend(some);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let text = String::from_utf8(entry.name).unwrap();
        let path = format!("{path}/{text}");
        let node = directory.lookup(name(&text)).unwrap();
        let Metadata { ino, kind, mode, nlink, .. } = node.inode().metadata().unwrap();
        assert_eq!((entry.ino, entry.kind), (ino, kind), "{path}");
        let bytes = match &node {
            Node::Regular(file) => content(&**file),
            Node::Symlink(link) => link.target().unwrap(),
            _ => Vec::new(),
        };
        let nlink = if let Node::Directory(_) = node { 0 } else { nlink };
        assert!(
            tree.nodes.insert(path.clone(), (kind.mode_bits() | mode, nlink, hash(&bytes))).is_none(),
            "{path} twice"
        );
        let first = first_name.entry(ino).or_insert_with(|| path.clone());
        tree.files.insert(path.clone(), first.clone());
        if let Node::Directory(inner) = &node {
            walk(inner, &path, part, tree, first_name);
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
