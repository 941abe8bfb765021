use super::*;
use std::sync::Barrier;
use vfs::{FileType, SetAttributes, TimeChange, XattrFlags};

const MIB: u64 = 1 << 20;

/// A lower with one of everything.
fn lower() -> Arc<MemFs> {
    let fs = memory(16 * MIB);
    let root = fs.root();
    file(&root, "f", b"lower");
    let d = folder(&root, "d");
    file(&d, "inner", b"inner");
    folder(&d, "deep");
    folder(&root, "empty");
    root.create(name("l"), Create::Symlink(b"f"), 0o777, 0).unwrap();
    root.create(name("pipe"), Create::Special(FileType::Fifo), 0o600, 0).unwrap();
    fs
}

#[test]
fn it_keeps_the_contract_over_an_empty_lower() {
    vfs::contract::contract(union(&memory(MIB), &memory(MIB)));
}

#[test]
fn it_keeps_the_contract_over_removed_entries_of_the_lower() {
    // Everything that the contract makes replaces something.
    let lower = memory(MIB);
    let root = lower.root();
    for (index, text) in ["a", "b", "c", "d", "e", "f", "g", "h", "s", "l", "old", "late"].iter().enumerate()
    {
        if index % 2 == 0 {
            file(&folder(&root, text), "x", b"x");
        } else {
            file(&root, text, b"x");
        }
    }
    let fs = union(&lower, &memory(MIB));
    let root = fs.root();
    for text in list(&*root, 100) {
        if let Node::Directory(directory) = root.lookup(name(&text)).unwrap() {
            directory.unlink(name("x"), false).unwrap();
            root.unlink(name(&text), true).unwrap();
        } else {
            root.unlink(name(&text), false).unwrap();
        }
    }
    assert!(list(&*root, 3).is_empty());
    vfs::contract::contract(fs);
}

#[test]
fn an_open_file_sees_what_is_written_through_another() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    let (a, b) = (file_at(&root, "d/inner"), file_at(&root, "d/inner"));
    let before = a.page(0).unwrap();
    write(&*b, 2, b"NN").unwrap();
    assert_eq!(content(&*a), b"inNNr");
    assert_eq!(content(&*file_at(&root, "d/inner")), b"inNNr");
    assert_eq!(before.get(..5), Some(&b"inner"[..]));
}

#[test]
fn numbers_and_attributes_stay_when_a_file_is_copied_up() {
    let lower = lower();
    let f = file_at(&lower.root(), "d/inner");
    let owner = SetAttributes { uid: Some(5), gid: Some(6), mode: Some(0o4751), ..SetAttributes::default() };
    f.set_attributes(&owner).unwrap();
    let fs = union(&lower, &memory(MIB));
    let root = fs.root();
    let f = file_at(&root, "d/inner");
    let d = folder_at(&root, "d");
    let (before, before_d) = (f.metadata().unwrap(), d.metadata().unwrap());
    assert_eq!(before.dev, 42);
    f.set_attributes(&SetAttributes { atime: Some(TimeChange { at_ns: 3 }), ..SetAttributes::default() })
        .unwrap();
    let after = f.metadata().unwrap();
    let expected = vfs::Metadata { atime_ns: 3, ctime_ns: after.ctime_ns, blocks: after.blocks, ..before };
    assert_eq!(after, expected);
    let after_d = d.metadata().unwrap();
    // Its change time is when it came to be in the tmpfs; see `MemDirectory::rename`.
    let expected = vfs::Metadata { nlink: 1, size: after_d.size, ctime_ns: after_d.ctime_ns, ..before_d };
    assert_eq!(after_d, expected);
    // The number does not hang on anybody holding the file, nor on its name.
    drop((f, d));
    folder_at(&root, "d").rename(name("inner"), &root, name("moved"), false).unwrap();
    assert_eq!(file_at(&root, "moved").metadata().unwrap().ino, before.ino);
    let moved = root.entries(0, 100).unwrap().into_iter().find(|entry| entry.name == b"moved").unwrap();
    assert_eq!(moved.ino, before.ino);
    // A new file of the old name is another one.
    let again = file(&folder_at(&root, "d"), "inner", b"");
    assert_ne!(again.metadata().unwrap().ino, before.ino);
}

#[test]
fn a_file_that_lost_its_name_can_still_be_written() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    let f = file_at(&root, "d/inner");
    let ino = f.metadata().unwrap().ino;
    folder_at(&root, "d").unlink(name("inner"), false).unwrap();
    assert_eq!(f.metadata().unwrap().nlink, 0);
    folder_at(&root, "d").unlink(name("deep"), true).unwrap();
    root.unlink(name("d"), true).unwrap();
    write(&*f, 0, b"I").unwrap();
    assert_eq!(content(&*f), b"Inner");
    assert_eq!((f.metadata().unwrap().nlink, f.metadata().unwrap().ino), (0, ino));
    assert_eq!(errno(root.lookup(name("d"))), Errno::ENOENT);
}

#[test]
fn a_removed_directory_is_empty_and_takes_nothing() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    let d = folder_at(&root, "d");
    assert_eq!(errno(root.unlink(name("d"), true)), Errno::ENOTEMPTY);
    d.unlink(name("inner"), false).unwrap();
    d.unlink(name("deep"), true).unwrap();
    root.unlink(name("d"), true).unwrap();
    assert!(list(&*d, 10).is_empty());
    assert_eq!(errno(d.lookup(name("inner"))), Errno::ENOENT);
    assert_eq!(errno(d.create(name("inner"), Create::Regular, 0o600, 0)), Errno::ENOENT);
    assert_eq!(d.metadata().unwrap().nlink, 0);
    // One of its name hides what the old one had.
    let again = folder(&root, "d");
    assert!(list(&*again, 10).is_empty());
    assert_eq!(errno(again.lookup(name("inner"))), Errno::ENOENT);
    drop(again);
    assert!(list(&*folder_at(&root, "d"), 10).is_empty());
}

#[test]
fn marks_in_the_upper_are_not_seen_and_cannot_be_made() {
    let upper = memory(MIB);
    let fs = union(&lower(), &upper);
    let root = fs.root();
    root.unlink(name("f"), false).unwrap();
    root.unlink(name("empty"), true).unwrap();
    folder(&root, "empty");
    let empty = folder_at(&upper.root(), "empty");
    assert_eq!(list(&*empty, 10), [".wh..opq"]);
    assert!(list(&*folder_at(&root, "empty"), 10).is_empty());
    assert_eq!(list(&*root, 1), ["d", "empty", "l", "pipe"]);
    for reserved in [".wh..opq", ".wh..new", ".wh..old"] {
        let name = name(reserved);
        assert_eq!(errno(folder_at(&root, "empty").lookup(name)), Errno::ENOENT);
        assert_eq!(errno(root.create(name, Create::Regular, 0o644, 0)), Errno::EINVAL);
        assert_eq!(errno(root.rename(self::name("l"), &root, name, false)), Errno::EINVAL);
        assert_eq!(errno(root.unlink(name, false)), Errno::ENOENT);
    }
    let whiteout = Create::Device(FileType::CharDevice, 0);
    assert_eq!(errno(root.create(name("w"), whiteout, 0o644, 0)), Errno::EPERM);
    root.unlink(name("empty"), true).unwrap();
}

#[test]
fn what_was_changed_is_there_after_mounting_again() {
    let (lower, upper) = (lower(), memory(MIB));
    {
        let fs = union(&lower, &upper);
        let root = fs.root();
        root.unlink(name("f"), false).unwrap();
        root.unlink(name("empty"), true).unwrap();
        write(&*file_at(&root, "d/inner"), 5, b"!").unwrap();
        folder_at(&root, "d").unlink(name("deep"), true).unwrap();
        folder(&folder_at(&root, "d"), "deep");
        root.rename(name("l"), &root, name("k"), false).unwrap();
        root.set_attributes(&SetAttributes { mode: Some(0o700), ..SetAttributes::default() }).unwrap();
    }
    let fs = union(&lower, &upper);
    let root = fs.root();
    assert_eq!(list(&*root, 2), ["d", "k", "pipe"]);
    assert_eq!(content(&*file_at(&root, "d/inner")), b"inner!");
    assert_eq!(root.metadata().unwrap().mode, 0o700);
    assert_eq!(list(&*folder_at(&root, "d"), 2), ["deep", "inner"]);
}

#[test]
fn a_directory_of_the_lower_is_not_renamed_but_others_are() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    assert_eq!(errno(root.rename(name("d"), &root, name("e"), false)), Errno::EXDEV);
    file(&folder(&root, "mine"), "x", b"x");
    assert_eq!(errno(root.rename(name("mine"), &root, name("d"), false)), Errno::ENOTEMPTY);
    root.rename(name("mine"), &root, name("empty"), false).unwrap();
    assert_eq!(list(&*folder_at(&root, "empty"), 9), ["x"]);
    // It came to where the lower has a directory with entries, which stay hidden.
    folder_at(&root, "d").unlink(name("inner"), false).unwrap();
    folder_at(&root, "d").unlink(name("deep"), true).unwrap();
    root.rename(name("empty"), &root, name("d"), false).unwrap();
    assert_eq!(list(&*folder_at(&root, "d"), 9), ["x"]);
    assert_eq!(list(&*root, 9), ["d", "f", "l", "pipe"]);
}

#[test]
fn truncating_copies_only_what_stays() {
    let lower = memory(16 * MIB);
    file(&lower.root(), "big", &vec![7; 8 << 20]);
    let upper = memory(2 * 4096);
    let fs = union(&lower, &upper);
    let big = file_at(&fs.root(), "big");
    assert_eq!(errno(write(&*big, 0, b"x")), Errno::ENOSPC);
    assert_eq!(upper.statfs().unwrap().free, 2, "a failed copy leaves nothing");
    assert!(list(&*upper.root(), 10).is_empty());
    assert_eq!(big.metadata().unwrap().size, 8 << 20);
    big.truncate(4097).unwrap();
    assert_eq!(content(&*big), vec![7; 4097]);
    assert_eq!(upper.statfs().unwrap().free, 0);
}

#[test]
fn pages_of_zeros_are_not_copied() {
    let lower = memory(16 * MIB);
    let f = file(&lower.root(), "sparse", b"start");
    write(&*f, 1 << 40, b"far").unwrap();
    write(&*f, 1 << 20, &[0; 8192]).unwrap();
    let upper = memory(MIB);
    let fs = union(&lower, &upper);
    let f = file_at(&fs.root(), "sparse");
    write(&*f, 0, b"S").unwrap();
    assert_eq!(f.metadata().unwrap().size, (1 << 40) + 3);
    assert_eq!(f.metadata().unwrap().blocks, 2 * 8);
    assert_eq!(f.page(1 << 28).unwrap().get(..3), Some(&b"far"[..]));
}

#[test]
fn a_listing_lists_everything_once_while_all_is_copied_up() {
    let lower = memory(16 * MIB);
    for index in 0..50 {
        file(&lower.root(), &format!("f{index}"), b"x");
    }
    for part in [1, 3, 7] {
        let fs = union(&lower, &memory(MIB));
        let root = fs.root();
        for index in 0..20 {
            file(&root, &format!("u{index}"), b"x");
        }
        let (mut cursor, mut seen, mut round) = (0, Vec::new(), 0);
        loop {
            let entries = root.entries(cursor, part).unwrap();
            let Some(last) = entries.last() else { break };
            cursor = last.next;
            seen.extend(entries.into_iter().map(|entry| entry.name));
            write(&*file_at(&root, &format!("f{}", (round * 17) % 50)), 0, b"y").unwrap();
            round += 1;
        }
        assert_eq!(seen.len(), 70);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 70);
    }
}

#[test]
fn links_and_special_files_are_copied_up_as_what_they_are() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    let owner = SetAttributes { uid: Some(9), ..SetAttributes::default() };
    for text in ["l", "pipe"] {
        let node = root.lookup(name(text)).unwrap();
        let before = node.inode().metadata().unwrap();
        node.inode().set_attributes(&owner).unwrap();
        let after = node.inode().metadata().unwrap();
        assert_eq!((after.ino, after.kind, after.mode), (before.ino, before.kind, before.mode));
        assert_eq!(after.uid, 9);
        root.link(name("other"), &node).unwrap();
        assert_eq!(node.inode().metadata().unwrap().nlink, 2);
        root.unlink(name("other"), false).unwrap();
    }
    match root.lookup(name("l")).unwrap() {
        Node::Symlink(link) => assert_eq!(link.target().unwrap(), b"f"),
        _ => panic!("a symbolic link was there"),
    }
}

#[test]
fn a_file_without_a_name_gets_one_by_linking() {
    let fs = union(&lower(), &memory(MIB));
    let root = fs.root();
    let d = folder_at(&root, "d");
    let node = d.create_unnamed(0o600, 0).unwrap();
    assert_eq!(errno(d.link(name("inner"), &node)), Errno::EEXIST);
    d.unlink(name("inner"), false).unwrap();
    d.link(name("inner"), &node).unwrap();
    assert_eq!(content(&*file_at(&root, "d/inner")), b"");
    let other = union(&lower(), &memory(MIB));
    assert_eq!(errno(other.root().link(name("x"), &node)), Errno::EXDEV);
}

#[test]
fn hard_links_of_the_lower_part_when_one_is_changed() {
    let lower = lower();
    let root = lower.root();
    root.link(name("g"), &root.lookup(name("f")).unwrap()).unwrap();
    let fs = union(&lower, &memory(MIB));
    let root = fs.root();
    let ino = |path: &str| file_at(&root, path).metadata().unwrap().ino;
    assert_eq!(ino("f"), ino("g"));
    root.rename(name("f"), &root, name("g"), false).unwrap();
    assert_eq!(list(&*root, 9), ["d", "empty", "f", "g", "l", "pipe"]);
    write(&*file_at(&root, "f"), 0, b"F").unwrap();
    assert_ne!(ino("f"), ino("g"));
    assert_eq!(content(&*file_at(&root, "g")), b"lower");
}

#[test]
fn many_threads_that_write_first_share_one_copy() {
    for _ in 0..50 {
        let upper = memory(MIB);
        let fs = union(&lower(), &upper);
        let root = fs.root();
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for index in 0..4u8 {
                let (root, barrier) = (&root, &barrier);
                scope.spawn(move || {
                    let f = file_at(root, "d/inner");
                    barrier.wait();
                    write(&*f, index.into(), &[b'0' + index]).unwrap();
                });
            }
        });
        assert_eq!(content(&*file_at(&root, "d/inner")), b"0123r");
    }
}

/// A union whose lower has directories in each other, the innermost of which is returned too.
fn deep(depth: usize) -> (Arc<MemFs>, Arc<UnionFs>, Arc<dyn Directory>) {
    let lower = memory(MIB);
    let mut at = lower.root();
    for _ in 0..depth {
        at = folder(&at, "d");
    }
    let fs = union(&lower, &memory(MIB));
    let mut at = fs.root();
    for _ in 0..depth {
        at = Arc::clone(at.lookup(name("d")).unwrap().as_directory().unwrap());
    }
    (lower, fs, at)
}

#[test]
fn a_very_deep_directory_is_freed_without_recursion() {
    let (lower, fs, innermost) = deep(50_000);
    drop(innermost);
    // What a tmpfs does with such a tree is not the question here.
    std::mem::forget((lower, fs));
}

#[test]
fn all_directories_above_are_copied_up() {
    let (_lower, fs, innermost) = deep(500);
    file(&innermost, "f", b"deep");
    drop(innermost);
    assert_eq!(content(&*file_at(&fs.root(), &format!("{}/f", "d/".repeat(500)))), b"deep");
}

#[test]
fn a_copy_takes_the_extended_attributes_along() {
    let lower = lower();
    let texts = ["f", "d", "d/deep", "l", "pipe"];
    for text in texts {
        at(&lower.root(), text)
            .unwrap()
            .inode()
            .set_xattr(b"user.a", Some(b"below"), XattrFlags::empty())
            .unwrap();
    }
    let upper = memory(MIB);
    let fs = union(&lower, &upper);
    let root = fs.root();
    for text in texts {
        let found = at(&root, text).unwrap();
        let node = found.inode();
        assert_eq!(errno(node.set_xattr(b"user.b", None, XattrFlags::REPLACE)), Errno::ENODATA);
        let times = |node: &dyn vfs::Inode| node.metadata().unwrap().mtime_ns;
        let before = times(node);
        node.set_xattr(b"user.b", Some(b"above"), XattrFlags::CREATE).unwrap();
        assert_eq!(times(node), before, "{text}");
        assert_eq!(node.xattr(b"user.a").unwrap(), b"below", "{text}");
        let below = at(&lower.root(), text).unwrap();
        assert_eq!(below.inode().xattrs().unwrap(), [b"user.a"], "{text}");
        let above = at(&upper.root(), text).unwrap();
        assert_eq!(above.inode().xattrs().unwrap(), [b"user.b", b"user.a"], "{text}");
    }
}
