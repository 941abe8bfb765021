use super::*;
use kbase::Errno;
use kbase::{SliceSink, SliceSource};
use vfs::{Create, MountOptions, Name, Namespace, Node, SetAttributes, Start, WalkFlags, XattrFlags};

fn fs(limit: u64) -> Arc<MemFs> {
    MemFs::new(7, limit, 0o755, Arc::new(|| 1_000_000_000))
}

#[test]
fn it_keeps_the_contract_of_file_systems() {
    vfs::contract::contract(fs(1 << 20));
}

#[test]
fn space_is_limited_and_given_back() {
    let fs = fs(2 * 4096);
    let file = fs.unnamed_file(0o600);
    assert_eq!(file.write_at(0, &mut SliceSource::new(&[1; 3 * 4096])).unwrap(), 2 * 4096);
    assert_eq!(file.write_at(9000, &mut SliceSource::new(b"x")).unwrap_err().errno(), Errno::ENOSPC);
    assert_eq!(fs.statfs().unwrap().free, 0);
    file.truncate(1).unwrap();
    assert_eq!(fs.statfs().unwrap().free, 1);
    drop(file);
    assert_eq!(fs.statfs().unwrap().free, 2);
}

#[test]
fn extended_attributes_take_space_and_give_it_back() {
    let fs = fs(3 * 4096);
    let file = fs.unnamed_file(0o600);
    let set = |name: &[u8], value: &[u8]| file.set_xattr(name, Some(value), XattrFlags::empty());
    set(b"user.a", &[1; 4096]).unwrap();
    assert_eq!(fs.statfs().unwrap().free, 1, "with its name it is more than a page");
    assert_eq!(set(b"user.b", &[2; 2 * 4096]).unwrap_err().errno(), Errno::ENOSPC);
    assert_eq!(fs.statfs().unwrap().free, 1);
    set(b"user.b", b"small").unwrap();
    set(b"user.a", b"small, too").unwrap();
    assert_eq!(fs.statfs().unwrap().free, 2);
    assert_eq!(file.metadata().unwrap().blocks, 0);
    file.set_xattr(b"user.a", None, XattrFlags::REPLACE).unwrap();
    file.set_xattr(b"user.b", None, XattrFlags::REPLACE).unwrap();
    assert_eq!(fs.statfs().unwrap().free, 3);
    set(b"user.c", b"c").unwrap();
    drop(file);
    assert_eq!(fs.statfs().unwrap().free, 3);
}

#[test]
fn a_far_write_takes_one_page() {
    let fs = fs(1 << 20);
    let file = fs.unnamed_file(0o600);
    file.write_at(1 << 40, &mut SliceSource::new(b"far")).unwrap();
    assert_eq!(file.metadata().unwrap().blocks, 8);
    assert_eq!(file.seek_data(0).unwrap(), 1 << 40);
    assert_eq!(file.seek_hole(0).unwrap(), 0);
    assert_eq!(file.seek_hole(1 << 40).unwrap(), (1 << 40) + 3);
    let overflow = file.write_at(i64::MAX as u64, &mut SliceSource::new(b"x")).unwrap_err();
    assert_eq!(overflow.errno(), Errno::EFBIG);
}

#[test]
fn a_punched_hole_reads_as_zeros() {
    let fs = fs(1 << 20);
    let file = fs.unnamed_file(0o600);
    file.write_at(0, &mut SliceSource::new(&[7; 4 * 4096])).unwrap();
    file.deallocate(100, 2 * 4096).unwrap();
    let mut bytes = vec![1; 4 * 4096];
    file.read_at(0, &mut SliceSink::new(&mut bytes)).unwrap();
    assert!(bytes[100..100 + 2 * 4096].iter().all(|&b| b == 0));
    assert_eq!((bytes[99], bytes[100 + 2 * 4096]), (7, 7));
    assert_eq!(file.metadata().unwrap().blocks, 3 * 8);
}

#[test]
fn a_listing_in_parts_survives_removal() {
    let fs = fs(1 << 20);
    let root = fs.root();
    for index in 0..10 {
        let name = format!("f{index}");
        root.create(Name::new(name.as_bytes()).unwrap(), Create::Regular, 0o644, 0).unwrap();
    }
    let first = root.entries(0, 3).unwrap();
    for entry in &first {
        root.unlink(Name::new(&entry.name).unwrap(), false).unwrap();
    }
    assert_eq!(root.entries(first[2].next, 100).unwrap().len(), 7);
}

#[test]
fn mounts_appear_where_there_was_no_directory() {
    let namespace = Namespace::new(fs(1 << 20), MountOptions::default());
    let inner = fs(1 << 20);
    namespace.mount(b"/run/deep/er", inner.clone(), MountOptions::default()).unwrap();
    let root = namespace.root();
    let start = Start { root, directory: root };
    let run = namespace.resolve(start, b"/run", WalkFlags::FOLLOW).unwrap();
    assert_eq!(namespace.entries(root, 0, 10).unwrap()[0].name, b"run");
    assert_eq!(namespace.entries(&run, 0, 10).unwrap()[0].name, b"deep");
    let mounted = namespace.resolve(start, b"/run/deep/er/", WalkFlags::FOLLOW).unwrap();
    let name = Name::new(b"f").unwrap();
    let f = namespace.create(&mounted, name, Create::Regular, 0o644, 0).unwrap();
    assert_eq!(f.path_from(root).path, b"/run/deep/er/f");
    assert!(inner.root().lookup(name).is_ok());
    let up = namespace.resolve(start, b"/run/deep/er/../..", WalkFlags::FOLLOW).unwrap();
    assert!(Arc::ptr_eq(&up, &run));
    let busy = namespace.unlink(root, Name::new(b"run").unwrap(), true).unwrap_err();
    assert_eq!(busy.errno(), Errno::EBUSY);
    let crossing = namespace.rename(&mounted, name, root, name, false).unwrap_err();
    assert_eq!(crossing.errno(), Errno::EXDEV);
}

#[test]
fn a_read_only_mount_refuses_changes_but_says_what_exists() {
    let inner = fs(1 << 20);
    let name = Name::new(b"f").unwrap();
    inner.root().create(name, Create::Regular, 0o644, 0).unwrap();
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    let namespace = Namespace::new(inner, options);
    let root = namespace.root();
    let errno = |result: Result<()>| result.unwrap_err().errno();
    let make = |n| namespace.create(root, n, Create::Directory, 0o755, 0).map(drop);
    assert_eq!(errno(make(name)), Errno::EEXIST);
    assert_eq!(errno(make(Name::new(b"g").unwrap())), Errno::EROFS);
    assert_eq!(errno(namespace.unlink(root, name, false)), Errno::EROFS);
    assert_eq!(errno(namespace.set_attributes(root, SetAttributes::default(), 0)), Errno::EROFS);
}

#[test]
fn a_removed_working_directory_is_known_as_deleted() {
    let namespace = Namespace::new(fs(1 << 20), MountOptions::default());
    let root = namespace.root();
    let name = Name::new(b"d").unwrap();
    let d = namespace.create(root, name, Create::Directory, 0o755, 0).unwrap();
    namespace.unlink(root, name, true).unwrap();
    assert!(d.is_deleted());
    assert_eq!(d.path_from(root).into_display(), b"/d (deleted)");
    assert!(matches!(d.node(), Node::Directory(_)));
}

#[test]
fn a_namespace_that_nobody_uses_frees_its_file_systems() {
    let (outer, inner) = (fs(1 << 20), fs(1 << 20));
    let gone = [Arc::downgrade(&outer), Arc::downgrade(&inner)];
    let namespace = Namespace::new(outer, MountOptions::default());
    let mounted = namespace.mount(b"/a/b", inner, MountOptions::default()).unwrap();
    namespace.create(&mounted, Name::new(b"f").unwrap(), Create::Regular, 0o644, 0).unwrap();
    drop((mounted, namespace));
    assert!(gone.iter().all(|fs| fs.upgrade().is_none()));
}

#[test]
fn a_very_deep_tree_is_freed_without_recursion() {
    let namespace = Namespace::new(fs(1 << 30), MountOptions::default());
    let name = Name::new(b"d").unwrap();
    let mut at = Arc::clone(namespace.root());
    for _ in 0..50_000 {
        at = namespace.create(&at, name, Create::Directory, 0o755, 0).unwrap();
    }
    std::mem::forget(namespace);
}
