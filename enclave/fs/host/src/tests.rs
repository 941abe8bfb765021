//! A host folder on the fake platform.

use crate::{HostFs, Options};
use fake_platform::FakePlatform;
use kbase::{Errno, SliceSink, SliceSource};
use platform::Platform;
use std::sync::Arc;
use vfs::{Create, Directory, FileSystem, FileType, Name, Node, Regular};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn folder(read_only: bool) -> Arc<HostFs> {
    let platform = FakePlatform::new();
    platform.add_host_file("/share/greeting", b"hello");
    platform.add_host_file("/share/sub/deep", b"down here");
    let platform: Arc<dyn Platform> = platform;
    HostFs::open(&platform, b"/share", Options { read_only, sockets: false }, 7).unwrap()
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
