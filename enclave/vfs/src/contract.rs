//! What every writable file system must do. Each calls [`contract`] from its own tests, on a fresh and empty instance.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that other crates call")]

use crate::{
    Create, Directory, FileSystem, FileType, Last, MountOptions, Name, Namespace, Node, Opened, Regular,
    SetAttributes, Start, TimeChange, WalkFlags, XattrFlags,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, SliceSink, SliceSource};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

#[track_caller]
fn errno<T>(result: kbase::Result<T>) -> Errno {
    result.map(drop).unwrap_err().errno()
}

fn file(directory: &Arc<dyn Directory>, text: &str) -> Arc<dyn Regular> {
    match directory.create(name(text), Create::Regular, 0o644, 0).unwrap() {
        Node::Regular(file) => file,
        _ => panic!("a regular file was asked for"),
    }
}

fn folder(directory: &Arc<dyn Directory>, text: &str) -> Arc<dyn Directory> {
    let node = directory.create(name(text), Create::Directory, 0o755, 0).unwrap();
    Arc::clone(node.as_directory().unwrap())
}

fn content(file: &dyn Regular) -> Vec<u8> {
    let mut bytes = alloc::vec![0; usize::try_from(file.metadata().unwrap().size).unwrap()];
    let read = file.read_at(0, &mut SliceSink::new(&mut bytes)).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

fn list(directory: &dyn Directory) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut cursor = 0;
    loop {
        let part = directory.entries(cursor, 2).unwrap();
        let Some(last) = part.last() else { break };
        assert_ne!(last.next, 0);
        cursor = last.next;
        names.extend(part.into_iter().map(|entry| entry.name));
    }
    names.sort();
    names
}

/// Runs all of it.
pub fn contract(fs: Arc<dyn FileSystem>) {
    let root = fs.root();
    names(&root);
    contents(&root);
    links(&root);
    renames(&root);
    attributes(&root);
    xattrs(&root);
    walks(fs);
}

fn names(root: &Arc<dyn Directory>) {
    assert_eq!(errno(root.lookup(name("a"))), Errno::ENOENT);
    file(root, "a");
    folder(root, "d");
    assert_eq!(errno(root.create(name("a"), Create::Regular, 0o644, 0)), Errno::EEXIST);
    assert_eq!(errno(root.create(name("a"), Create::Directory, 0o755, 0)), Errno::EEXIST);
    assert_eq!(list(&**root), [b"a", b"d"]);
    assert_eq!(errno(root.unlink(name("a"), true)), Errno::ENOTDIR);
    assert_eq!(errno(root.unlink(name("d"), false)), Errno::EISDIR);
    assert_eq!(errno(root.unlink(name("x"), false)), Errno::ENOENT);
    let d = folder(root, "e");
    file(&d, "inner");
    assert_eq!(errno(root.unlink(name("e"), true)), Errno::ENOTEMPTY);
    d.unlink(name("inner"), false).unwrap();
    root.unlink(name("e"), true).unwrap();
    assert_eq!(errno(d.create(name("late"), Create::Regular, 0o644, 0)), Errno::ENOENT);
    root.unlink(name("a"), false).unwrap();
    root.unlink(name("d"), true).unwrap();
    assert!(list(&**root).is_empty());
}

fn contents(root: &Arc<dyn Directory>) {
    let f = file(root, "f");
    assert_eq!(f.write_at(0, &mut SliceSource::new(b"hello")).unwrap(), 5);
    assert_eq!(f.append(&mut SliceSource::new(b" world")).unwrap(), (5, 6));
    assert_eq!(content(&*f), b"hello world");
    // A hole reads as zeros, and so do bytes that were cut off and grown again.
    assert_eq!(f.write_at(10_000, &mut SliceSource::new(b"end")).unwrap(), 3);
    assert_eq!(f.metadata().unwrap().size, 10_003);
    assert_eq!(content(&*f).get(5000..5003), Some(&[0u8; 3][..]));
    f.truncate(3).unwrap();
    f.truncate(8).unwrap();
    assert_eq!(content(&*f), b"hel\0\0\0\0\0");
    let mut none = [0; 4];
    assert_eq!(f.read_at(8, &mut SliceSink::new(&mut none)).unwrap(), 0);
    assert_eq!(f.read_at(u64::MAX, &mut SliceSink::new(&mut none)).unwrap(), 0);
    let page = f.page(0).unwrap();
    assert_eq!(page.get(..3), Some(&b"hel"[..]));
    f.write_at(0, &mut SliceSource::new(b"HEL")).unwrap();
    assert_eq!(page.get(..3), Some(&b"hel"[..]), "a page that was handed out does not change");
    // An open file outlives its name.
    root.unlink(name("f"), false).unwrap();
    assert_eq!(content(&*f).get(..3), Some(&b"HEL"[..]));
    // More than one page, not aligned.
    let g = file(root, "g");
    let bytes: Vec<u8> = (0..20_000u32).map(|i| i.to_le_bytes()[0]).collect();
    assert_eq!(g.write_at(777, &mut SliceSource::new(&bytes)).unwrap(), bytes.len());
    assert_eq!(content(&*g).get(777..), Some(&bytes[..]));
    root.unlink(name("g"), false).unwrap();
}

fn links(root: &Arc<dyn Directory>) {
    let f = file(root, "f");
    root.create(name("s"), Create::Symlink(b"f"), 0o777, 0).unwrap();
    match root.lookup(name("s")).unwrap() {
        Node::Symlink(link) => assert_eq!(link.target().unwrap(), b"f"),
        _ => panic!("a symbolic link was made"),
    }
    let node = root.lookup(name("f")).unwrap();
    root.link(name("h"), &node).unwrap();
    assert_eq!(errno(root.link(name("h"), &node)), Errno::EEXIST);
    assert_eq!(f.metadata().unwrap().nlink, 2);
    root.unlink(name("f"), false).unwrap();
    assert_eq!(f.metadata().unwrap().nlink, 1);
    root.unlink(name("h"), false).unwrap();
    root.unlink(name("s"), false).unwrap();
}

fn renames(root: &Arc<dyn Directory>) {
    let a = folder(root, "a");
    let b = folder(root, "b");
    let f = file(&a, "f");
    f.write_at(0, &mut SliceSource::new(b"one")).unwrap();
    assert_eq!(errno(a.rename(name("x"), &b, name("y"), false)), Errno::ENOENT);
    a.rename(name("f"), &b, name("g"), false).unwrap();
    assert_eq!(errno(a.lookup(name("f"))), Errno::ENOENT);
    assert!(b.lookup(name("g")).is_ok());
    file(&b, "old");
    assert_eq!(errno(b.rename(name("g"), &b, name("old"), true)), Errno::EEXIST);
    b.rename(name("g"), &b, name("old"), false).unwrap();
    assert_eq!(list(&*b), [b"old"]);
    assert_eq!(errno(b.rename(name("old"), root, name("a"), false)), Errno::EISDIR);
    assert_eq!(errno(root.rename(name("a"), &b, name("old"), false)), Errno::ENOTDIR);
    assert_eq!(errno(root.rename(name("a"), root, name("b"), false)), Errno::ENOTEMPTY);
    root.rename(name("a"), &b, name("a"), false).unwrap();
    assert_eq!(errno(root.rename(name("b"), &a, name("b"), false)), Errno::EINVAL);
    b.rename(name("a"), root, name("c"), false).unwrap();
    b.unlink(name("old"), false).unwrap();
    root.rename(name("b"), root, name("c"), false).unwrap();
    assert_eq!(list(&**root), [b"c"]);
    root.unlink(name("c"), true).unwrap();
}

fn attributes(root: &Arc<dyn Directory>) {
    let f = file(root, "f");
    let metadata = f.metadata().unwrap();
    assert_eq!((metadata.kind, metadata.mode, metadata.nlink), (FileType::Regular, 0o644, 1));
    f.set_attributes(&SetAttributes {
        mode: Some(0o600),
        mtime: Some(TimeChange { at_ns: 5_000_000_000 }),
        ..SetAttributes::default()
    })
    .unwrap();
    assert_eq!(f.metadata().unwrap().mode, 0o600);
    assert_eq!(f.metadata().unwrap().mtime_ns, 5_000_000_000);
    let d = folder(root, "d");
    assert_ne!(d.metadata().unwrap().ino, metadata.ino);
    assert_eq!(d.metadata().unwrap().kind, FileType::Directory);
    root.unlink(name("f"), false).unwrap();
    root.unlink(name("d"), true).unwrap();
}

fn xattrs(root: &Arc<dyn Directory>) {
    file(root, "f");
    folder(root, "d");
    root.create(name("s"), Create::Symlink(b"f"), 0o777, 0).unwrap();
    root.create(name("p"), Create::Special(FileType::Fifo), 0o600, 0).unwrap();
    let any = XattrFlags::empty();
    for text in ["f", "d", "s", "p"] {
        let found = root.lookup(name(text)).unwrap();
        let node = found.inode();
        assert_eq!(errno(node.xattr(b"user.a")), Errno::ENODATA, "{text}");
        assert_eq!(errno(node.set_xattr(b"user.a", Some(b"x"), XattrFlags::REPLACE)), Errno::ENODATA);
        assert_eq!(errno(node.set_xattr(b"user.a", None, XattrFlags::REPLACE)), Errno::ENODATA);
        node.set_xattr(b"user.a", Some(b"one"), XattrFlags::CREATE).unwrap();
        assert_eq!(errno(node.set_xattr(b"user.a", Some(b"x"), XattrFlags::CREATE)), Errno::EEXIST);
        node.set_xattr(b"user.a", Some(b""), XattrFlags::REPLACE).unwrap();
        assert_eq!(node.xattr(b"user.a").unwrap(), b"");
        node.set_xattr(b"trusted.b", Some(&[7; 10_000]), any).unwrap();
        node.set_xattr(b"user.a", Some(b"two"), any).unwrap();
        let again = root.lookup(name(text)).unwrap();
        assert_eq!(again.inode().xattr(b"trusted.b").unwrap(), [7; 10_000]);
        assert_eq!(again.inode().xattr(b"user.a").unwrap(), b"two");
        let mut all = node.xattrs().unwrap();
        all.sort();
        assert_eq!(all, [&b"trusted.b"[..], b"user.a"]);
        node.set_xattr(b"trusted.b", None, XattrFlags::REPLACE).unwrap();
        assert_eq!(errno(node.xattr(b"trusted.b")), Errno::ENODATA);
        assert_eq!(errno(node.xattr(b"user.")), Errno::EINVAL);
        assert_eq!(errno(node.set_xattr(b"user.", Some(b"x"), any)), Errno::EINVAL);
        assert_eq!(errno(node.set_xattr(b"elsewhere.a", Some(b"x"), any)), Errno::EOPNOTSUPP);
        root.unlink(name(text), text == "d").unwrap();
    }
}

fn walks(fs: Arc<dyn FileSystem>) {
    let namespace = Namespace::new(fs, MountOptions::default());
    let root = namespace.root();
    let start = Start { root, directory: root };
    let follow = WalkFlags::FOLLOW;
    let d = namespace.create(root, name("d"), Create::Directory, 0o755, 0).unwrap();
    let f = namespace.create(&d, name("f"), Create::Regular, 0o644, 0).unwrap();
    namespace.create(root, name("l"), Create::Symlink(b"d/../d/f"), 0, 0).unwrap();
    namespace.create(root, name("loop"), Create::Symlink(b"loop"), 0, 0).unwrap();
    namespace.create(root, name("dangling"), Create::Symlink(b"/d/new"), 0, 0).unwrap();
    namespace.create(&d, name("up"), Create::Symlink(b"/d"), 0, 0).unwrap();
    let ino =
        |path: &[u8]| namespace.resolve(start, path, follow).unwrap().node().inode().metadata().unwrap().ino;
    let fails = |path: &[u8]| errno(namespace.resolve(start, path, follow));
    let ino_of = |dentry: &crate::Dentry| dentry.node().inode().metadata().unwrap().ino;
    assert_eq!(ino(b"/d/f"), ino_of(&f));
    assert_eq!(ino(b"l"), ino_of(&f));
    assert_eq!(ino(b"//d/./up/up/../d/f"), ino_of(&f));
    assert_eq!(ino(b"/../.."), ino_of(root));
    assert_eq!(ino(b"d/"), ino_of(&d));
    assert_eq!(ino(b"d/up/"), ino_of(&d));
    assert_eq!(fails(b""), Errno::ENOENT);
    assert_eq!(fails(b"d/none/x"), Errno::ENOENT);
    assert_eq!(fails(b"d/f/x"), Errno::ENOTDIR);
    assert_eq!(fails(b"d/f/"), Errno::ENOTDIR);
    assert_eq!(fails(b"d/f/."), Errno::ENOTDIR);
    assert_eq!(fails(b"l/"), Errno::ENOTDIR);
    assert_eq!(fails(b"loop"), Errno::ELOOP);
    assert_eq!(fails(b"dangling"), Errno::ENOENT);
    assert_eq!(fails(&[b'x'; 256]), Errno::ENAMETOOLONG);
    assert_eq!(fails(&[b'/'; 4096]), Errno::ENAMETOOLONG);
    assert_eq!(errno(namespace.resolve(start, b"d/up", follow | WalkFlags::BENEATH)), Errno::EXDEV);
    assert_eq!(errno(namespace.resolve(start, b"l", follow | WalkFlags::NO_SYMLINKS)), Errno::ELOOP);
    match namespace.resolve_create(start, b"dangling", follow).unwrap() {
        Opened::Missing { parent, name } => {
            assert_eq!(ino_of(&parent), ino_of(&d));
            assert_eq!(name, b"new");
        }
        Opened::Existing(_) => panic!("it dangles"),
    }
    assert_eq!(errno(namespace.resolve_create(start, b"d/new/", follow)), Errno::EISDIR);
    let (_, last) = namespace.resolve_parent(start, b"d/up/").unwrap();
    assert_eq!(last, Last::Name { name: b"up".to_vec(), is_directory: true });
    assert_eq!(namespace.resolve_parent(start, b"/").unwrap().1, Last::Root);
    assert_eq!(namespace.resolve_parent(start, b"d/..").unwrap().1, Last::DotDot);
    assert_eq!(f.path_from(root).path, b"/d/f");
    // What was missing is found once it is there, and the other way round.
    assert_eq!(fails(b"d/late"), Errno::ENOENT);
    namespace.create(&d, name("late"), Create::Regular, 0o644, 0).unwrap();
    ino(b"d/late");
    namespace.rename(&d, name("late"), root, name("later"), false).unwrap();
    assert_eq!(fails(b"d/late"), Errno::ENOENT);
    ino(b"later");
    namespace.unlink(root, name("later"), false).unwrap();
    assert_eq!(fails(b"later"), Errno::ENOENT);
    assert_eq!(errno(namespace.rename(root, name("d"), &d, name("x"), false)), Errno::EINVAL);
    if namespace.mounts()[0].0.fs().is_cached() {
        assert_eq!(errno(namespace.rename(&d, name("f"), root, name("d"), false)), Errno::ENOTEMPTY);
    }
}
