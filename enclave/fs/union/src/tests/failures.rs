//! When a change in the upper file system fails, the whole operation was done or nothing of it.

use super::faulty::{Faults, FaultyFs};
use super::tree::tree;
use super::*;
use vfs::{FileType, SetAttributes};

type Root = Arc<dyn Directory>;

fn mount(lower: &Arc<MemFs>, upper: &Arc<MemFs>, faults: &Arc<Faults>) -> Root {
    let lower: Arc<dyn FileSystem> = lower.clone();
    let upper: Arc<dyn FileSystem> = FaultyFs::new(upper, faults);
    UnionFs::new(&lower, &upper, 42).unwrap().root()
}

/// A lower, on which `prepare` has made what it needs.
fn prepared(prepare: fn(&Root)) -> (Arc<MemFs>, Arc<MemFs>) {
    let (lower, upper) = (memory(1 << 20), memory(1 << 20));
    let root = lower.root();
    let d = folder(&folder(&root, "d"), "deep");
    file(&d, "f", &[7; 3 * 4096]);
    d.create(name("l"), Create::Symlink(b"f"), 0o777, 0).unwrap();
    d.create(name("pipe"), Create::Special(FileType::Fifo), 0o600, 0).unwrap();
    file(&root, "f", b"lower");
    file(&root, "g", b"lower too");
    file(&folder(&root, "e"), "x", b"x");
    folder(&root, "empty");
    prepare(&mount(&lower, &upper, &Arc::default()));
    (lower, upper)
}

/// Does `act` with every one of its changes of the upper failing in turn.
#[track_caller]
fn each_failure(prepare: fn(&Root), act: fn(&Root) -> kbase::Result<()>) {
    let (lower, upper) = prepared(prepare);
    let faults = Arc::default();
    let root = mount(&lower, &upper, &faults);
    let before = tree(&root, 9);
    act(&root).unwrap();
    let after = tree(&root, 9);
    for index in 1.. {
        let (lower, upper) = prepared(prepare);
        let root = mount(&lower, &upper, &faults);
        faults.arm(index);
        let result = act(&root);
        let has_fired = faults.has_fired();
        faults.arm(0);
        let expected = if result.is_ok() { &after } else { &before };
        assert_eq!(&tree(&root, 9), expected, "change {index} failed");
        assert_eq!(
            &tree(&mount(&lower, &upper, &faults), 9),
            expected,
            "change {index} failed, then remounted"
        );
        if let Err(error) = result {
            assert_eq!(error.errno(), Errno::ENOSPC);
            // It works the next time.
            act(&root).unwrap();
            assert_eq!(tree(&root, 9), after, "the second time after change {index} failed");
        }
        if !has_fired {
            assert!(index > 1);
            break;
        }
    }
}

fn nothing(_: &Root) {}

fn change_f(root: &Root) {
    write(&*file_at(root, "f"), 0, b"F").unwrap();
}

fn empty_e(root: &Root) {
    folder_at(root, "e").unlink(name("x"), false).unwrap();
}

fn without_e_and_g(root: &Root) {
    empty_e(root);
    root.unlink(name("e"), true).unwrap();
    root.unlink(name("g"), false).unwrap();
    file(&folder(root, "mine"), "y", b"y");
}

fn chmod(root: &Root, path: &str) -> kbase::Result<()> {
    let change = SetAttributes { mode: Some(0o511), ..SetAttributes::default() };
    at(root, path)?.inode().set_attributes(&change)
}

#[test]
fn copying_up() {
    each_failure(nothing, |root| write(&*file_at(root, "d/deep/f"), 5000, b"new").map(drop));
    each_failure(nothing, |root| file_at(root, "d/deep/f").truncate(5000));
    each_failure(nothing, |root| chmod(root, "d/deep/f"));
    each_failure(nothing, |root| chmod(root, "d/deep/pipe"));
    each_failure(nothing, |root| chmod(root, "d/deep"));
}

#[test]
fn making() {
    each_failure(nothing, |root| {
        folder_at(root, "d/deep").create(name("n"), Create::Regular, 0o600, 0).map(drop)
    });
    each_failure(without_e_and_g, |root| root.create(name("g"), Create::Regular, 0o600, 0).map(drop));
    each_failure(without_e_and_g, |root| root.create(name("g"), Create::Directory, 0o700, 0).map(drop));
    each_failure(without_e_and_g, |root| root.create(name("e"), Create::Directory, 0o700, 0).map(drop));
    each_failure(without_e_and_g, |root| root.create(name("e"), Create::Symlink(b"t"), 0o777, 0).map(drop));
    each_failure(without_e_and_g, |root| root.link(name("e"), &at(root, "f")?));
    each_failure(without_e_and_g, |root| folder_at(root, "d").link(name("n"), &at(root, "d/deep/l")?));
}

#[test]
fn removing() {
    each_failure(nothing, |root| root.unlink(name("f"), false));
    each_failure(nothing, |root| root.unlink(name("empty"), true));
    each_failure(nothing, |root| folder_at(root, "d/deep").unlink(name("pipe"), false));
    each_failure(change_f, |root| root.unlink(name("f"), false));
    each_failure(empty_e, |root| root.unlink(name("e"), true));
    each_failure(
        |root| {
            without_e_and_g(root);
            folder(root, "e");
        },
        |root| root.unlink(name("e"), true),
    );
}

#[test]
fn renaming() {
    each_failure(nothing, |root| root.rename(name("f"), root, name("n"), false));
    each_failure(nothing, |root| root.rename(name("f"), root, name("g"), false));
    each_failure(without_e_and_g, |root| root.rename(name("f"), root, name("g"), false));
    each_failure(without_e_and_g, |root| root.rename(name("f"), root, name("e"), false));
    each_failure(without_e_and_g, |root| root.rename(name("mine"), root, name("e"), false));
    each_failure(without_e_and_g, |root| root.rename(name("mine"), root, name("g"), false));
    each_failure(without_e_and_g, |root| root.rename(name("mine"), root, name("empty"), false));
    each_failure(
        |root| {
            without_e_and_g(root);
            folder(root, "e");
        },
        |root| root.rename(name("e"), root, name("empty"), false),
    );
    each_failure(nothing, |root| root.rename(name("g"), &folder_at(root, "d/deep"), name("f"), false));
}
