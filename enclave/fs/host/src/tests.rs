//! A host folder on the fake platform.

use crate::{HostFs, Options};
use fake_platform::FakePlatform;
use kbase::{Errno, SliceSink, SliceSource};
use platform::Platform;
use std::sync::Arc;
use vfs::{
    Create, Dentry, Directory, FileSystem, FileType, Intent, MountOptions, Name, Namespace, Node, Opened,
    Regular, Start, WalkFlags,
};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn folder(read_only: bool) -> Arc<HostFs> {
    folder_of(Options { read_only, ..Options::default() }).1
}

fn folder_of(options: Options) -> (Arc<FakePlatform>, Arc<HostFs>) {
    let platform = FakePlatform::new();
    platform.add_host_file("/share/greeting", b"hello");
    platform.add_host_file("/share/sub/deep", b"down here");
    let its: Arc<dyn Platform> = platform.clone();
    let fs = HostFs::open(&its, b"/share", options, 7).unwrap();
    (platform, fs)
}

fn regular(directory: &dyn Directory, file: &str) -> Arc<dyn Regular> {
    let Node::Regular(node) = directory.lookup(name(file)).unwrap() else { panic!("{file} is not regular") };
    node
}

fn content(file: &dyn Regular) -> Vec<u8> {
    let mut bytes = [0; 64];
    let len = file.read_at(0, &mut SliceSink::new(&mut bytes)).unwrap();
    bytes[..len].to_vec()
}

#[test]
fn files_below_folders_are_read() {
    let fs = folder(true);
    let root = fs.root();
    assert_eq!(content(&*regular(&*root, "greeting")), b"hello");
    let sub = root.lookup(name("sub")).unwrap();
    assert_eq!(
        content(&**sub.as_directory().map(|sub| regular(&**sub, "deep")).as_ref().unwrap()),
        b"down here"
    );
    assert_eq!(root.lookup(name("nothing")).err().unwrap().errno(), Errno::ENOENT);
    let mut names: Vec<_> =
        root.entries(0, 10).unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(names, [(b"greeting".to_vec(), FileType::Regular), (b"sub".to_vec(), FileType::Directory)]);
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let root = folder(true).root();
    let refused = |result: kbase::Result<()>| assert_eq!(result.unwrap_err().errno(), Errno::EROFS);
    refused(root.create(name("new"), Create::Regular, 0o644, 0).map(|_| ()));
    refused(root.unlink(name("greeting"), false));
    refused(regular(&*root, "greeting").truncate(0));
    refused(regular(&*root, "greeting").write_at(0, &mut SliceSource::new(b"x")).map(|_| ()));
}

#[test]
fn an_open_file_follows_a_rename() {
    let root = folder(false).root();
    let Node::Regular(file) = root.create(name("new"), Create::Regular, 0o644, 0).unwrap() else { panic!() };
    file.write_at(0, &mut SliceSource::new(b"content")).unwrap();
    root.rename(name("new"), &root, name("newer"), false).unwrap();
    assert_eq!(content(&*file), b"content");
    assert_eq!(content(&*regular(&*root, "newer")), b"content");
    assert_eq!(root.lookup(name("new")).err().unwrap().errno(), Errno::ENOENT);
}

fn opened(directory: &dyn Directory, file: &str, for_writing: bool) -> Arc<dyn Regular> {
    let found = directory.lookup_below(&[name(file)], Intent::Open).unwrap().unwrap().pop();
    let Some(Node::Regular(found)) = found else { panic!("{file}") };
    found.open(for_writing).unwrap().unwrap_or(found)
}

#[test]
fn what_is_open_stays_what_it_is_and_what_is_opened_is_what_is_there() {
    let (platform, fs) = folder_of(Options::default());
    let root = fs.root();
    let old = opened(&*root, "greeting", true);
    // As somebody does who rotates logs, behind the enclave's back.
    platform.add_host_file("/share/greeting", b"good day");
    assert_eq!(content(&*old), b"hello");
    old.write_at(5, &mut SliceSource::new(b" again")).unwrap();
    assert_eq!(old.metadata().unwrap().size, 11);
    assert_eq!(platform.host_file("/share/greeting").unwrap(), b"good day");
    let new = opened(&*root, "greeting", true);
    assert_eq!(content(&*new), b"good day");
    assert_eq!(content(&*old), b"hello again");
    root.unlink(name("greeting"), false).unwrap();
    assert_eq!(content(&*new), b"good day");
    let gone = root.lookup_below(&[name("greeting")], Intent::Open);
    assert_eq!(gone.err().unwrap().errno(), Errno::ENOENT);
}

#[test]
fn who_opens_one_file_twice_shares_a_descriptor_of_the_host() {
    let (platform, fs) = folder_of(Options::default());
    let root = fs.root();
    let before = platform.open_host_files();
    let files = [(); 3].map(|()| opened(&*root, "greeting", true));
    assert_eq!(platform.open_host_files(), before + 1);
    drop(files);
    assert_eq!(platform.open_host_files(), before);
}

#[test]
fn many_files_are_open_at_once() {
    let (platform, fs) = folder_of(Options::default());
    let root = fs.root();
    let files: Vec<_> = (0..1000)
        .map(|number| {
            platform.add_host_file(&format!("/share/{number}"), format!("number {number}").as_bytes());
            opened(&*root, &number.to_string(), false)
        })
        .collect();
    (0..1000).for_each(|number| root.unlink(name(&number.to_string()), false).unwrap());
    for (number, file) in files.iter().enumerate() {
        assert_eq!(content(&**file), format!("number {number}").as_bytes());
    }
}

#[test]
fn what_the_host_lets_nobody_write_is_opened_for_reading_alone() {
    let (platform, fs) = folder_of(Options::default());
    platform.protect_host_file("/share/greeting");
    let root = fs.root();
    let file = opened(&*root, "greeting", false);
    assert_eq!(content(&*file), b"hello");
    let refused = |file: &Arc<dyn Regular>| file.open(true).err().unwrap().errno();
    assert_eq!(refused(&file), Errno::EACCES);
    assert_eq!(refused(&regular(&*root, "greeting")), Errno::EACCES);
    assert_eq!(file.truncate(0).unwrap_err().errno(), Errno::EACCES);
    // It is allowed from now on: who opens it then may.
    platform.unprotect_host_file("/share/greeting");
    opened(&*root, "greeting", true).write_at(0, &mut SliceSource::new(b"H")).unwrap();
    assert_eq!(content(&*file), b"Hello");
}

/// A tree of links and folders, and walks through it.
struct Tree {
    platform: Arc<FakePlatform>,
    namespace: Arc<Namespace>,
}

impl Tree {
    fn new() -> Self {
        let (platform, fs) = folder_of(Options::default());
        platform.add_host_file("/share/a/b/c/file", b"in c");
        platform.add_host_file("/share/a/b/other", b"in b");
        let root = fs.root();
        root.create(name("shortcut"), Create::Symlink(b"a/b/c"), 0, 0).unwrap();
        let b = [name("a"), name("b")].iter().fold(root, |at, &name| {
            let Node::Directory(next) = at.lookup(name).unwrap() else { panic!() };
            next
        });
        b.create(name("up"), Create::Symlink(b"../b/other"), 0, 0).unwrap();
        Self { platform, namespace: Namespace::new(fs, MountOptions::default()) }
    }

    fn start(&self) -> Start<'_> {
        Start { root: self.namespace.root(), directory: self.namespace.root() }
    }

    fn walk(&self, path: &str, flags: WalkFlags) -> kbase::Result<Arc<Dentry>> {
        self.namespace.resolve(self.start(), path.as_bytes(), flags)
    }

    fn content(&self, path: &str) -> String {
        let found = self.walk(path, WalkFlags::FOLLOW | WalkFlags::TO_OPEN).unwrap();
        let Node::Regular(file) = found.node() else { panic!("{path}") };
        String::from_utf8(content(&**file)).unwrap()
    }

    fn path_of(&self, dentry: &Arc<Dentry>) -> String {
        String::from_utf8(dentry.path_from(self.namespace.root()).path).unwrap()
    }

    fn fails(&self, path: &str) -> Errno {
        self.walk(path, WalkFlags::FOLLOW).err().unwrap().errno()
    }
}

#[test]
fn a_walk_through_folders_is_one_call_of_the_host_and_as_any_other() {
    let tree = Tree::new();
    let calls = |path: &str, flags| {
        let before = tree.platform.file_calls();
        drop(tree.walk(path, flags));
        tree.platform.file_calls() - before
    };
    let stat = WalkFlags::FOLLOW | WalkFlags::TO_STAT;
    assert_eq!(calls("a/b/c/file", stat), 1);
    assert_eq!(calls("a/b/c/missing", stat), 1);
    assert_eq!(tree.content("a/b/c/file"), "in c");
    for (path, content) in [
        ("a/./b//c/../other", "in b"),
        ("shortcut/file", "in c"),
        ("shortcut/../other", "in b"),
        ("a/b/up", "in b"),
        ("shortcut/../up", "in b"),
        ("/a/b/../../greeting", "hello"),
    ] {
        assert_eq!(tree.content(path), content, "{path}");
    }
    assert_eq!(tree.path_of(&tree.walk("a/b/c/file", stat).unwrap()), "/a/b/c/file");
    assert_eq!(tree.fails("a/b/c/missing"), Errno::ENOENT);
    assert_eq!(tree.fails("a/missing/c/file"), Errno::ENOENT);
    assert_eq!(tree.fails("a/b/other/file"), Errno::ENOTDIR);
    assert_eq!(tree.fails("a/b/other/"), Errno::ENOTDIR);
    let seen = tree.walk("a/b/up", WalkFlags::TO_STAT).unwrap();
    assert!(matches!(seen.node(), Node::Symlink(_)));
    let missing = tree.namespace.resolve_create(tree.start(), b"a/b/c/new", WalkFlags::FOLLOW).unwrap();
    let Opened::Missing { parent, name: new } = missing else { panic!("nothing is there") };
    assert_eq!((tree.path_of(&parent), &*new), ("/a/b/c".to_owned(), &b"new"[..]));
    let existing = tree.namespace.resolve_create(tree.start(), b"a/b/c/file", WalkFlags::FOLLOW).unwrap();
    assert!(matches!(existing, Opened::Existing(_)));
    assert!(tree.namespace.resolve_create(tree.start(), b"a/b/missing/new", WalkFlags::FOLLOW).is_err());
}

#[test]
fn what_was_seen_is_told_once() {
    let tree = Tree::new();
    let found = tree.walk("a/b/c/file", WalkFlags::FOLLOW | WalkFlags::TO_STAT).unwrap();
    tree.platform.add_host_file("/share/a/b/c/file", b"longer than it was");
    let size = || found.node().inode().metadata().unwrap().size;
    assert_eq!((size(), size()), (4, 18));
}

#[test]
fn a_mount_on_the_way_is_walked_into() {
    let tree = Tree::new();
    let platform: Arc<dyn Platform> = tree.platform.clone();
    tree.platform.add_host_file("/else/c/file", b"elsewhere");
    let other = HostFs::open(&platform, b"/else", Options::default(), 8).unwrap();
    tree.namespace.mount(b"/a/b", other, MountOptions::default()).unwrap();
    assert_eq!(tree.content("a/b/c/file"), "elsewhere");
    assert_eq!(tree.content("a/b/../../greeting"), "hello");
    assert_eq!(tree.fails("a/b/other"), Errno::ENOENT);
}

#[test]
fn folders_deeper_than_a_path_may_be_long_are_opened() {
    let (_, fs) = folder_of(Options::default());
    let long = "n".repeat(200);
    let mut at = fs.root();
    for _ in 0..40 {
        let Node::Directory(next) = at.create(name(&long), Create::Directory, 0o755, 0).unwrap() else {
            panic!()
        };
        at = next;
    }
    at.create(name("file"), Create::Regular, 0o644, 0).unwrap();
    let mut at = fs.root();
    for _ in 0..40 {
        let Node::Directory(next) = at.lookup(name(&long)).unwrap() else { panic!() };
        at = next;
    }
    assert_eq!(content(&*opened(&*at, "file", true)), b"");
}

#[test]
fn a_listing_goes_on_where_it_was_and_begins_anew() {
    let (platform, fs) = folder_of(Options::default());
    (0..100).for_each(|number| platform.add_host_file(&format!("/share/many/{number}"), b""));
    let Node::Directory(many) = fs.root().lookup(name("many")).unwrap() else { panic!() };
    let list = |step: usize| {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let part = many.entries(cursor, step).unwrap();
            let Some(last) = part.last() else { break };
            cursor = last.next;
            all.extend(part.into_iter().map(|entry| entry.name));
        }
        all.sort();
        all
    };
    let whole = list(1000);
    assert_eq!(whole.len(), 100);
    let before = platform.file_calls();
    list(7);
    assert_eq!(platform.file_calls(), before, "the folder is open");
    assert_eq!([list(7), list(100), list(1)], [whole.clone(), whole.clone(), whole]);
    platform.add_host_file("/share/many/0 comes first", b"");
    assert_eq!(list(1000).len(), 101);
    let empty = fs.root().create(name("empty"), Create::Directory, 0o755, 0).unwrap();
    let empty = empty.as_directory().unwrap();
    assert!(empty.entries(0, 10).unwrap().is_empty());
    empty.create(name("new"), Create::Regular, 0o644, 0).unwrap();
    assert_eq!(empty.entries(0, 10).unwrap().len(), 1);
    drop(many);
    assert_eq!(platform.open_host_files(), 3);
}
