//! A file system over another one.

use super::*;
use kbase::Errno;
use kbase::{SliceSink, SliceSource};
use std::vec::Vec;
use vfs::{Create, Name, Node, XattrFlags};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn write(directory: &Arc<dyn Directory>, text: &str, content: &[u8]) {
    let node = directory.create(name(text), Create::Regular, 0o644, 0).unwrap();
    let Node::Regular(file) = node else { panic!("a regular file") };
    file.write_at(0, &mut SliceSource::new(content)).unwrap();
}

fn read(node: &Node) -> Vec<u8> {
    let Node::Regular(file) = node else { panic!("a regular file") };
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().size).unwrap()];
    let mut sink = SliceSink::new(&mut bytes);
    file.read_at(0, &mut sink).unwrap();
    assert_eq!(sink.done(), bytes.len());
    bytes
}

fn list(directory: &dyn Directory) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = 0;
    loop {
        let part = directory.entries(cursor, 2).unwrap();
        let Some(last) = part.last() else { break };
        cursor = last.next;
        names.extend(part.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
    }
    names.sort();
    names
}

/// A lower file system with some files, and one over it.
fn layers() -> (Arc<MemFs>, Arc<MemFs>) {
    let clock: Clock = Arc::new(|| 1_000_000_000);
    let lower = MemFs::new(1, 1 << 20, 0o755, Arc::clone(&clock));
    let root = lower.root();
    write(&root, "small", b"lower content");
    let large: Vec<u8> = (0..30_000u32).map(|i| (i / 4096) as u8 + 1).collect();
    write(&root, "large", &large);
    let node = root.create(name("dir"), Create::Directory, 0o755, 0).unwrap();
    let inner = node.as_directory().unwrap();
    write(inner, "a", b"a");
    write(inner, "b", b"b");
    root.link(name("second-name"), &root.lookup(name("small")).unwrap()).unwrap();
    let upper = MemFs::over(Arc::clone(&lower) as Arc<dyn FileSystem>, 2, Space::new(1 << 20), clock);
    (lower, upper)
}

#[test]
fn over_an_empty_file_system_it_keeps_the_contract() {
    let clock: Clock = Arc::new(|| 1_000_000_000);
    let lower = MemFs::new(1, 0, 0o755, Arc::clone(&clock));
    vfs::contract::contract(MemFs::over(lower, 2, Space::new(1 << 20), clock));
}

#[test]
fn what_is_below_shows_and_stays_as_it_is() {
    let (lower, upper) = layers();
    let root = upper.root();
    assert_eq!(list(&*root), ["dir", "large", "second-name", "small"]);
    let small = root.lookup(name("small")).unwrap();
    assert_eq!(read(&small), b"lower content");
    let Node::Regular(file) = &small else { panic!("a regular file") };
    file.write_at(6, &mut SliceSource::new(b"CONTENT!")).unwrap();
    assert_eq!(read(&small), b"lower CONTENT!");
    assert_eq!(read(&root.lookup(name("second-name")).unwrap()), b"lower CONTENT!", "one file, two names");
    assert_eq!(read(&lower.root().lookup(name("small")).unwrap()), b"lower content");
    drop(small);
    assert_eq!(read(&root.lookup(name("small")).unwrap()), b"lower CONTENT!", "a change outlives its node");
}

#[test]
fn only_the_pages_that_are_written_are_kept() {
    let (_, upper) = layers();
    let node = upper.root().lookup(name("large")).unwrap();
    let Node::Regular(file) = &node else { panic!("a regular file") };
    file.write_at(5000, &mut SliceSource::new(b"xyz")).unwrap();
    assert_eq!(upper.statfs().unwrap().free, 255);
    let bytes = read(&node);
    assert_eq!((bytes[4999], &bytes[5000..5003], bytes[5003], bytes[9000]), (2, &b"xyz"[..], 2, 3));
    file.truncate(4097).unwrap();
    file.truncate(20_000).unwrap();
    let bytes = read(&node);
    assert_eq!((bytes[4095], bytes[4096]), (1, 2));
    assert!(bytes[4097..].iter().all(|&byte| byte == 0), "what was cut off does not come back");
    let (offset, _) = file.append(&mut SliceSource::new(b"end")).unwrap();
    assert_eq!(offset, 20_000);
}

#[test]
fn a_cut_at_a_page_border_hides_what_is_behind_it() {
    let (_, upper) = layers();
    let node = upper.root().lookup(name("large")).unwrap();
    let Node::Regular(file) = &node else { panic!("a regular file") };
    file.truncate(8192).unwrap();
    let mut bytes = [7; 10];
    assert_eq!(file.read_at(8190, &mut SliceSink::new(&mut bytes)).unwrap(), 2);
    file.deallocate(0, 4096).unwrap();
    assert_eq!(read(&node)[..4096], [0; 4096]);
    assert_eq!(file.page(1).unwrap()[0], 2);
}

#[test]
fn names_are_hidden_and_replaced() {
    let (_, upper) = layers();
    let root = upper.root();
    let errno = |result: Result<Node>| result.map(drop).unwrap_err().errno();
    assert_eq!(errno(root.create(name("small"), Create::Regular, 0o600, 0)), Errno::EEXIST);
    assert_eq!(root.unlink(name("dir"), true).unwrap_err().errno(), Errno::ENOTEMPTY);
    root.unlink(name("small"), false).unwrap();
    assert_eq!(errno(root.lookup(name("small"))), Errno::ENOENT);
    assert_eq!(root.lookup(name("second-name")).unwrap().inode().metadata().unwrap().nlink, 1);
    write(&root, "small", b"new");
    assert_eq!(read(&root.lookup(name("small")).unwrap()), b"new");
    assert_eq!(list(&*root), ["dir", "large", "second-name", "small"]);
    let node = root.lookup(name("dir")).unwrap();
    let dir = node.as_directory().unwrap();
    dir.unlink(name("a"), false).unwrap();
    dir.unlink(name("b"), false).unwrap();
    assert!(list(&**dir).is_empty());
    root.unlink(name("dir"), true).unwrap();
    root.create(name("dir"), Create::Directory, 0o755, 0).unwrap();
    let node = root.lookup(name("dir")).unwrap();
    assert!(list(&**node.as_directory().unwrap()).is_empty(), "a new directory shows nothing of the old");
}

#[test]
fn directories_from_below_move_with_their_content() {
    let (_, upper) = layers();
    let root = upper.root();
    let node = root.create(name("new"), Create::Directory, 0o755, 0).unwrap();
    let new = Arc::clone(node.as_directory().unwrap());
    root.rename(name("dir"), &new, name("moved"), false).unwrap();
    assert_eq!(list(&*root), ["large", "new", "second-name", "small"]);
    let moved = new.lookup(name("moved")).unwrap();
    let moved = moved.as_directory().unwrap();
    assert_eq!(list(&**moved), ["a", "b"]);
    assert_eq!(new.rename(name("moved"), moved, name("x"), false).unwrap_err().errno(), Errno::EINVAL);
    moved.rename(name("a"), &root, name("large"), false).unwrap();
    assert_eq!(read(&root.lookup(name("large")).unwrap()), b"a");
    assert_eq!(list(&**moved), ["b"]);
}

#[test]
fn an_unlinked_file_gives_its_space_back() {
    let (_, upper) = layers();
    let root = upper.root();
    let node = root.lookup(name("large")).unwrap();
    if let Node::Regular(file) = &node {
        file.write_at(0, &mut SliceSource::new(b"x")).unwrap();
    }
    root.unlink(name("large"), false).unwrap();
    assert_eq!(upper.statfs().unwrap().free, 255);
    drop(node);
    assert_eq!(upper.statfs().unwrap().free, 256);
}

#[test]
fn extended_attributes_from_below_show_until_one_is_changed() {
    let (lower, upper) = layers();
    let below = lower.root();
    for text in ["small", "dir"] {
        let node = below.lookup(name(text)).unwrap();
        for attribute in [&b"user.a"[..], b"user.b", b"security.c"] {
            node.inode().set_xattr(attribute, Some(attribute), XattrFlags::empty()).unwrap();
        }
    }
    let root = upper.root();
    for text in ["small", "dir"] {
        let free = upper.statfs().unwrap().free;
        let all = |node: &Node| node.inode().xattrs().unwrap();
        let node = root.lookup(name(text)).unwrap();
        assert_eq!(all(&node), [&b"user.b"[..], b"user.a", b"security.c"]);
        assert_eq!(node.inode().xattr(b"user.a").unwrap(), b"user.a");
        assert_eq!(upper.statfs().unwrap().free, free, "what is only read takes no room");
        let removed = node.inode().set_xattr(b"user.none", None, XattrFlags::REPLACE);
        assert_eq!(removed.unwrap_err().errno(), Errno::ENODATA);
        assert_eq!(upper.statfs().unwrap().free, free);
        node.inode().set_xattr(b"user.a", None, XattrFlags::REPLACE).unwrap();
        node.inode().set_xattr(b"user.b", Some(b"new"), XattrFlags::REPLACE).unwrap();
        drop(node);
        let node = root.lookup(name(text)).unwrap();
        assert_eq!(all(&node), [&b"user.b"[..], b"security.c"]);
        assert_eq!(node.inode().xattr(b"user.b").unwrap(), b"new");
        assert_eq!(node.inode().xattr(b"security.c").unwrap(), b"security.c");
        assert_eq!(below.lookup(name(text)).unwrap().inode().xattr(b"user.b").unwrap(), b"user.b");
    }
}
