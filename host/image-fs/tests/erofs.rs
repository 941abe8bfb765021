//! The image as an independent implementation of EROFS sees it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use image_fs::{
    Content, FileType, ImageInfo, ImageWriter, Metadata, ModificationTime, Options, Owner, Policy,
};

/// Sizes around every boundary: empty, tails that fit an inode's block and tails that do not, several chunks.
const SIZES: [usize; 12] = [0, 1, 31, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, (1 << 20) + 5];

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("usr/lib/deep/er")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("x".repeat(3000), root.join("long")).unwrap();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let path = root.join("usr/lib").join(format!("file-{size}"));
        fs::write(&path, bytes(size, seed as u64)).unwrap();
        let mode = [0o644, 0o755, 0o600, 0o1751][seed % 4];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for n in 0..700 {
        fs::write(root.join(format!("many/a-rather-long-name-{n}")), n.to_string()).unwrap();
    }
    fs::write(root.join("many/-"), b"sorts before the dot").unwrap();
    fs::hard_link(root.join("usr/lib/file-4097"), root.join("usr/lib/deep/er/link")).unwrap();
}

fn options() -> Options {
    Options { build_time: 1_700_000_000, ..Options::default() }
}

fn write_image(root: &Path) -> (Vec<u8>, ImageInfo) {
    let mut writer = ImageWriter::new(options());
    let mtime = ModificationTime::AtMost(1_700_000_000);
    writer.add_tree(root, "/", &Policy { owner: Owner::Keep, mtime, ..Policy::default() }).unwrap();
    let mut image = Cursor::new(Vec::new());
    let info = writer.finish(&mut image).unwrap();
    (image.into_inner(), info)
}

fn has_erofs_utils() -> bool {
    let found = Command::new("fsck.erofs").arg("-V").output().is_ok();
    if !found {
        eprintln!("skipped: no fsck.erofs");
    }
    found
}

fn fsck(image: &Path, arguments: &[&str]) {
    let output = Command::new("fsck.erofs").args(arguments).arg(image).output().unwrap();
    assert!(
        output.status.success(),
        "fsck.erofs: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every entry below `root`: path, type and permissions, size, data or target.
fn listing(root: &Path) -> Vec<(String, u32, Vec<u8>)> {
    fn walk(root: &Path, path: &Path, all: &mut Vec<(String, u32, Vec<u8>)>) {
        let metadata = fs::symlink_metadata(path).unwrap();
        let data = if metadata.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                walk(root, &entry.unwrap().path(), all);
            }
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(path).unwrap()
        };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        all.push((name, metadata.mode(), data));
    }
    let mut all = Vec::new();
    walk(root, root, &mut all);
    all.sort();
    all
}

#[test]
fn fsck_accepts_the_image_and_extracts_the_same_tree() {
    if !has_erofs_utils() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tree, out, file) =
        (directory.path().join("in"), directory.path().join("out"), directory.path().join("image"));
    make_tree(&tree);
    let (image, info) = write_image(&tree);
    assert_eq!(image.len() as u64, info.file_len);
    fs::write(&file, &image).unwrap();
    fsck(&file, &[]);
    fsck(&file, &[&format!("--extract={}", out.display()), "--preserve-perms"]);
    let mut extracted = listing(&out);
    let site_file = extracted.iter().filter(|(name, ..)| name.starts_with(".occlum")).count();
    assert_eq!(site_file, 2);
    extracted.retain(|(name, ..)| !name.starts_with(".occlum"));
    let original = listing(&tree);
    assert_eq!(extracted.len(), original.len());
    for (ours, theirs) in original.iter().zip(&extracted) {
        assert!(ours == theirs, "{} / {}", ours.0, theirs.0);
    }
}

#[test]
fn fsck_accepts_devices_long_times_owners_and_attributes() {
    if !has_erofs_utils() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image");
    let mut writer = ImageWriter::new(options());
    let odd = Metadata { mode: 0o4751, uid: 1_000_000, gid: 70_000, mtime: 5, mtime_nsec: 7 };
    writer.add_special("/dev/null", FileType::CharDevice, (1, 3), odd).unwrap();
    writer.add_special("/run/fifo", FileType::Fifo, (0, 0), odd).unwrap();
    for size in SIZES {
        let path = format!("/f{size}");
        writer.add_file(&path, Content::Bytes(bytes(size, 1)), odd).unwrap();
        writer.set_xattr(&path, "security.capability", &[7; 20]).unwrap();
        writer.set_xattr(&path, "user.comment", &vec![b'x'; size.min(60_000)]).unwrap();
    }
    let info = writer.finish(fs::File::create(&file).unwrap()).unwrap();
    assert_eq!(info.inodes, 1 + 2 + 2 + 2 + SIZES.len() as u64);
    fsck(&file, &[]);
}

#[test]
fn the_same_tree_makes_the_same_bytes_wherever_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("a/very/different/place"));
    make_tree(&one);
    fs::create_dir_all(&two).unwrap();
    make_tree(&two);
    let ((first, first_info), (second, second_info)) = (write_image(&one), write_image(&two));
    assert_eq!(first_info, second_info);
    assert!(first == second);
    fs::write(two.join("many/-"), b"sorts before the doT").unwrap();
    assert_ne!(write_image(&two).1.commitment, first_info.commitment);
}

#[test]
fn the_order_of_adding_does_not_matter() {
    let write = |reverse: bool| {
        let mut writer = ImageWriter::new(options());
        let mut names: Vec<String> = (0..50).map(|n| format!("/d{}/f{n}", n % 7)).collect();
        if reverse {
            names.reverse();
        }
        for name in &names {
            let content = Content::Bytes(name.repeat(200).into_bytes());
            writer.add_file(name, content, Metadata::root(0o644, 9)).unwrap();
        }
        let mut image = Cursor::new(Vec::new());
        writer.finish(&mut image).unwrap();
        image.into_inner()
    };
    assert!(write(false) == write(true));
}

#[test]
fn what_is_filtered_or_removed_is_not_in_the_image() {
    let directory = tempfile::tempdir().unwrap();
    make_tree(directory.path());
    let mut writer = ImageWriter::new(options());
    let keep = |path: &Path| !path.starts_with("many");
    writer.add_tree(directory.path(), "/", &Policy { keep: &keep, ..Policy::default() }).unwrap();
    assert!(!writer.contains("/many"));
    assert!(writer.contains("/usr/lib/deep/er/link"));
    assert!(writer.remove("/usr/lib/deep").unwrap());
    assert!(!writer.contains("/usr/lib/deep"));
}

#[test]
fn a_missing_host_file_is_an_error_that_names_it() {
    let mut writer = ImageWriter::new(options());
    writer.add_file("/f", Content::Host("/nonexistent/file".into()), Metadata::root(0o644, 0)).unwrap();
    let error = writer.finish(Cursor::new(Vec::new())).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/file"), "{error}");
}

#[test]
fn the_place_of_the_site_file_is_reserved() {
    let file = || Content::Bytes(Vec::new());
    for path in ["/.occlum", "/.occlum/sites"] {
        let mut writer = ImageWriter::new(options());
        writer.add_file(path, file(), Metadata::root(0o644, 0)).unwrap();
        assert!(writer.finish(Cursor::new(Vec::new())).is_err(), "{path}");
    }
    let mut writer = ImageWriter::new(options());
    writer.add_file("/.occlum/other", file(), Metadata::root(0o644, 0)).unwrap();
    assert!(writer.finish(Cursor::new(Vec::new())).is_ok());
}

#[test]
fn veritysetup_finds_the_hash_tree_right() {
    let directory = tempfile::tempdir().unwrap();
    let (tree, file) = (directory.path().join("in"), directory.path().join("image"));
    make_tree(&tree);
    let (image, info) = write_image(&tree);
    fs::write(&file, &image).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let output = Command::new("veritysetup")
        .args(["verify", "--no-superblock", "--format=1", "--hash=sha256"])
        .arg(format!("--data-blocks={}", info.root.data_blocks))
        .arg(format!("--hash-offset={}", info.erofs_len))
        .arg(format!("--salt={}", hex(&info.root.salt)))
        .args([&file, &file])
        .arg(hex(&info.root.root_hash))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no veritysetup");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
