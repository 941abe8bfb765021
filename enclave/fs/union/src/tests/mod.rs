//! Tests on tmpfs as both layers.

mod basics;
mod failures;
mod faulty;
mod random;
mod tree;

use crate::UnionFs;
use fs_mem::MemFs;
use kbase::{Errno, SliceSink, SliceSource};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use vfs::{Create, Directory, FileSystem, Name, Node, Regular};

/// A tmpfs whose clock goes on with every look.
fn memory(limit: u64) -> Arc<MemFs> {
    let now = AtomicI64::new(1_000_000_000);
    MemFs::new(7, limit, 0o755, Arc::new(move || now.fetch_add(1, Ordering::Relaxed)))
}

fn union(lower: &Arc<MemFs>, upper: &Arc<MemFs>) -> Arc<UnionFs> {
    let lower: Arc<dyn FileSystem> = lower.clone();
    let upper: Arc<dyn FileSystem> = upper.clone();
    UnionFs::new(&lower, &upper, 42).unwrap()
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

#[track_caller]
fn errno<T>(result: kbase::Result<T>) -> Errno {
    result.map(drop).unwrap_err().errno()
}

/// The node at a path.
fn at(root: &Arc<dyn Directory>, path: &str) -> kbase::Result<Node> {
    let mut node = Node::Directory(Arc::clone(root));
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let next = node.as_directory()?.lookup(name(part))?;
        node = next;
    }
    Ok(node)
}

#[track_caller]
fn folder_at(root: &Arc<dyn Directory>, path: &str) -> Arc<dyn Directory> {
    Arc::clone(at(root, path).unwrap().as_directory().unwrap())
}

#[track_caller]
fn file_at(root: &Arc<dyn Directory>, path: &str) -> Arc<dyn Regular> {
    match at(root, path).unwrap() {
        Node::Regular(file) => file,
        _ => panic!("{path} is not a regular file"),
    }
}

fn folder(directory: &Arc<dyn Directory>, text: &str) -> Arc<dyn Directory> {
    let node = directory.create(name(text), Create::Directory, 0o755, 0).unwrap();
    Arc::clone(node.as_directory().unwrap())
}

fn file(directory: &Arc<dyn Directory>, text: &str, content: &[u8]) -> Arc<dyn Regular> {
    match directory.create(name(text), Create::Regular, 0o644, 0).unwrap() {
        Node::Regular(file) => {
            file.write_at(0, &mut SliceSource::new(content)).unwrap();
            file
        }
        _ => panic!("a regular file was asked for"),
    }
}

fn content(file: &dyn Regular) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().size).unwrap()];
    let read = file.read_at(0, &mut SliceSink::new(&mut bytes)).unwrap();
    bytes.truncate(read);
    bytes
}

fn write(file: &dyn Regular, offset: u64, bytes: &[u8]) -> kbase::Result<usize> {
    file.write_at(offset, &mut SliceSource::new(bytes))
}

/// All names, in parts of `part` entries.
fn list(directory: &dyn Directory, part: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = 0;
    loop {
        let entries = directory.entries(cursor, part).unwrap();
        assert!(entries.len() <= part);
        let Some(last) = entries.last() else { break };
        assert_ne!(last.next, 0);
        cursor = last.next;
        names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
    }
    names.sort();
    names
}
