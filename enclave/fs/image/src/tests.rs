//! The reader against images of the host's writer, whole and damaged.

use std::io::Cursor;
use std::sync::Mutex;

use erofs_format::{
    BLOCK, Footer, ImageRoot, Site, SiteKind, SiteTable, Superblock, Tactic, TreeBuilder, hash_block,
};
use image_fs::{Content, FileType, ImageWriter, Metadata, Options};
use kbase::SliceSink;
use vfs::{Name, Node, Regular};

use super::*;

struct Host {
    bytes: Mutex<Vec<u8>>,
    lines: Mutex<Vec<String>>,
}

impl BlockSource for Host {
    fn len(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = bytes.get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or(Error::new(Errno::EIO, "past the end"))?);
        Ok(())
    }

    fn report(&self, line: core::fmt::Arguments<'_>) {
        self.lines.lock().unwrap().push(line.to_string());
    }
}

/// Reads of a small cache, so that damage cannot hide behind it.
const SMALL: CacheSize = CacheSize { data_blocks: 8, tree_blocks: 8 };

const SIZES: [usize; 9] = [0, 1, 4063, 4064, 4065, 4096, 4097, 12_288, 300_001];

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + len).to_le_bytes()[0]).collect()
}

fn table(offset: u64) -> SiteTable {
    let tactic = Tactic::MovImm32 { back: 5, imm: 39 };
    SiteTable::new(vec![Site { offset, kind: SiteKind::Syscall, tactic }])
}

fn image() -> (Vec<u8>, [u8; 32]) {
    let analyser = Box::new(|program: &[u8]| table(program.len() as u64));
    let mut writer = ImageWriter::new(Options { build_time: 77, salt: [5; 32], analyser: Some(analyser) });
    let metadata = Metadata { mode: 0o4755, uid: 1, gid: 2, mtime: 1_600_000_000, mtime_nsec: 5 };
    for size in SIZES {
        writer.add_file(format!("/data/f{size}"), Content::Bytes(content(size)), metadata).unwrap();
    }
    for n in 0..600 {
        let name = format!("/many/{n}-{}", "x".repeat(n % 60));
        writer.add_file(name, Content::Bytes(n.to_string().into_bytes()), Metadata::root(0o644, 77)).unwrap();
    }
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(5000, 0);
    elf[18] = 62;
    writer.add_file("/bin/program", Content::Bytes(elf), Metadata::root(0o755, 77)).unwrap();
    writer.add_symlink("/lib", "usr/lib", Metadata::root(0o777, 77)).unwrap();
    writer.add_symlink("/long", "y/".repeat(2040), Metadata::root(0o777, 77)).unwrap();
    writer.add_special("/dev/tty", FileType::CharDevice, (5, 300), Metadata::root(0o666, 77)).unwrap();
    writer.add_hard_link("/data/hard", "/data/f4097").unwrap();
    writer.set_xattr("/data/f4097", "user.note", b"value").unwrap();
    writer.set_xattr("/data/f1", "security.capability", &[9; 5000]).unwrap();
    let mut out = Cursor::new(Vec::new());
    let info = writer.finish(&mut out).unwrap();
    (out.into_inner(), info.commitment)
}

fn mount(bytes: &[u8], commitment: &[u8; 32]) -> (Arc<Host>, Result<Arc<ImageFs>>) {
    let host = Arc::new(Host { bytes: Mutex::new(bytes.to_vec()), lines: Mutex::default() });
    let source: Arc<dyn BlockSource> = host.clone();
    (host, ImageFs::open(source, commitment, SMALL, 3))
}

fn find(fs: &ImageFs, path: &str) -> Result<Node> {
    let mut node = Node::Directory(fs.root());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        node = node.as_directory()?.lookup(Name::new(part.as_bytes())?)?;
    }
    Ok(node)
}

fn regular(fs: &ImageFs, path: &str) -> Arc<dyn Regular> {
    match find(fs, path).unwrap() {
        Node::Regular(file) => file,
        _ => panic!("{path} is not a regular file"),
    }
}

fn read(file: &dyn Regular) -> Result<Vec<u8>> {
    let size = file.metadata()?.size.min(1 << 20);
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let mut done = 0;
    while done < bytes.len() {
        // As for read(2), what comes before a bad block is a short read; the bad block itself is the error.
        match file.read_at(done as u64, &mut SliceSink::new(&mut bytes[done..]))? {
            0 => panic!("the file ends early"),
            count => done += count,
        }
    }
    Ok(bytes)
}

/// All that can be seen from `node` on, in a form that can be compared; at most `budget` nodes.
fn walk(node: &Node, path: &str, budget: &mut usize, seen: &mut Vec<(String, String)>) -> Result<()> {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return Ok(());
    }
    let mut note = format!("{:?}", node.inode().metadata()?);
    let _ = node.inode().xattr(b"user.note");
    match node {
        Node::Regular(file) => {
            note += &format!("{:?}", hash_block(&[0; 32], &read(&**file)?));
            let _ = file.page(file.metadata()?.size / 4096)?;
            note += &format!("{:?}", file.mapped_pages().map(|pages| pages.rewrite_sites()).transpose()?);
        }
        Node::Symlink(link) => note += &format!("{:?}", link.target()?),
        Node::Directory(directory) => {
            let mut cursor = 0;
            loop {
                let entries = directory.entries(cursor, 50)?;
                let Some(last) = entries.last() else { break };
                cursor = last.next;
                for entry in entries {
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    let child = directory.lookup(Name::new(&entry.name)?)?;
                    walk(&child, &format!("{path}/{name}"), budget, seen)?;
                }
                if *budget == 0 {
                    break;
                }
            }
        }
        Node::Special(_) => {}
    }
    seen.push((path.to_string(), note));
    Ok(())
}

fn walk_all(fs: &ImageFs) -> Result<Vec<(String, String)>> {
    let mut seen = Vec::new();
    walk(&Node::Directory(fs.root()), "", &mut 2000, &mut seen)?;
    Ok(seen)
}

#[test]
fn what_was_written_is_read() {
    let (bytes, commitment) = image();
    let fs = mount(&bytes, &commitment).1.unwrap();
    for size in SIZES {
        let file = regular(&fs, &format!("/data/f{size}"));
        assert_eq!(read(&*file).unwrap(), content(size));
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.mode, metadata.uid, metadata.gid, metadata.dev), (0o4755, 1, 2, 3));
        assert_eq!(metadata.mtime_ns, 1_600_000_000_000_000_005);
        for index in 0..=size.div_ceil(4096) {
            let page = file.page(index as u64).unwrap();
            let mut expected = content(size).split_off((index * 4096).min(size));
            expected.resize(4096, 0);
            assert!(page[..] == expected[..4096], "page {index} of f{size}");
        }
        let mut middle = vec![0; 5000];
        let from = size / 3;
        let count = file.read_at(from as u64, &mut SliceSink::new(&mut middle)).unwrap();
        assert_eq!(middle[..count], content(size)[from..(from + 5000).min(size)]);
        assert_eq!(file.read_at(u64::MAX, &mut SliceSink::new(&mut middle)).unwrap(), 0);
    }
    let Node::Symlink(link) = find(&fs, "/long").unwrap() else { panic!("a link") };
    assert_eq!(link.target().unwrap(), "y/".repeat(2040).into_bytes());
    let tty = find(&fs, "/dev/tty").unwrap().inode().metadata().unwrap();
    assert_eq!((tty.kind, tty.rdev), (vfs::FileType::CharDevice, (5 << 8) | 44 | (1 << 20)));
    let (hard, first) = (find(&fs, "/data/hard").unwrap(), find(&fs, "/data/f4097").unwrap());
    assert_eq!(hard.inode().metadata().unwrap(), first.inode().metadata().unwrap());
    assert_eq!(hard.inode().metadata().unwrap().nlink, 2);
    assert_eq!(hard.inode().xattr(b"user.note").unwrap(), b"value");
    assert_eq!(hard.inode().xattr(b"user.none").unwrap_err().errno(), Errno::ENODATA);
    assert_eq!(hard.inode().xattr(b"user.").unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(hard.inode().xattrs().unwrap(), [b"user.note"]);
    assert!(find(&fs, "/data").unwrap().inode().xattrs().unwrap().is_empty());
    let long = find(&fs, "/data/f1").unwrap();
    assert_eq!(long.inode().xattr(b"security.capability").unwrap(), [9; 5000]);
    assert_eq!(fs.statfs().unwrap().files, 1 + 5 + 9 + 600 + 1 + 2 + 1 + 1);
}

#[test]
fn a_large_directory_is_listed_once_and_each_name_found() {
    let (bytes, commitment) = image();
    let fs = mount(&bytes, &commitment).1.unwrap();
    let Node::Directory(many) = find(&fs, "/many").unwrap() else { panic!("a directory") };
    assert!(many.metadata().unwrap().size > 5 * 4096);
    let mut names = Vec::new();
    let mut cursor = 0;
    while let Some(last) = {
        let part = many.entries(cursor, 7).unwrap();
        let last = part.last().map(|entry| entry.next);
        names.extend(part.into_iter().map(|entry| (entry.name, entry.ino)));
        last
    } {
        cursor = last;
    }
    assert_eq!(names.len(), 600);
    assert!(names.is_sorted());
    for (name, ino) in &names {
        let node = many.lookup(Name::new(name).unwrap()).unwrap();
        assert_eq!(node.inode().metadata().unwrap().ino, *ino);
        let absent = [name.as_slice(), b"!"].concat();
        assert_eq!(many.lookup(Name::new(&absent).unwrap()).err().unwrap().errno(), Errno::ENOENT);
    }
    assert!(many.lookup(Name::new(b"!").unwrap()).is_err());
    assert!(many.lookup(Name::new(b"~").unwrap()).is_err());
}

#[test]
fn programs_have_their_sites_and_others_none() {
    let (bytes, commitment) = image();
    let fs = mount(&bytes, &commitment).1.unwrap();
    let sites = |path: &str| regular(&fs, path).mapped_pages().unwrap().rewrite_sites().unwrap();
    assert_eq!(SiteTable::from_bytes(&sites("/bin/program").unwrap()), Ok(table(5000)));
    assert!(sites("/data/f4096").is_none());
}

#[test]
fn sites_of_a_real_program_arrive_as_they_were_found() {
    let Ok(program) = std::fs::read("/bin/busybox") else {
        eprintln!("no /bin/busybox");
        return;
    };
    let mut writer = ImageWriter::new(Options::default());
    let metadata = Metadata::root(0o755, 0);
    writer.add_file("/bin/busybox", Content::Bytes(program.clone()), metadata).unwrap();
    let mut out = Cursor::new(Vec::new());
    let info = writer.finish(&mut out).unwrap();
    let fs = mount(out.get_ref(), &info.commitment).1.unwrap();
    let sites = regular(&fs, "/bin/busybox").mapped_pages().unwrap().rewrite_sites().unwrap().unwrap();
    let found = image_fs::sites::analyse(&program);
    assert!(found.sites().len() > 100);
    assert_eq!(SiteTable::from_bytes(&sites), Ok(found));
}

#[test]
fn many_threads_see_the_same_through_a_small_cache() {
    let (bytes, commitment) = image();
    let fs = mount(&bytes, &commitment).1.unwrap();
    let right = walk_all(&fs).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| walk_all(&fs).unwrap())).collect();
        for thread in threads {
            assert!(thread.join().unwrap() == right);
        }
    });
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_and_never_wrong_data() {
    let (bytes, commitment) = image();
    let right = walk_all(&mount(&bytes, &commitment).1.unwrap()).unwrap();
    let mut unnoticed = 0;
    for block in 0..bytes.len() / BLOCK {
        for at in [1024 + block % 128, block * 37 % BLOCK] {
            let mut bad = bytes.clone();
            bad[block * BLOCK + at] ^= 1 << (block % 8);
            let (host, fs) = mount(&bad, &commitment);
            match fs.and_then(|fs| walk_all(&fs)) {
                Ok(seen) => {
                    assert!(seen == right, "block {block} byte {at}: wrong data");
                    unnoticed += 1;
                }
                Err(error) => {
                    assert_eq!(error.errno(), Errno::EIO);
                    let mut lines = host.lines.lock().unwrap().clone();
                    lines.dedup();
                    assert_eq!(lines.len(), 1, "the log tells of this block: {lines:?}");
                }
            }
        }
    }
    assert_eq!(unnoticed, 0, "every block is needed by someone");
}

#[test]
fn moved_missing_and_foreign_blocks_are_errors() {
    let (bytes, commitment) = image();
    let fails = |bytes: &[u8]| mount(bytes, &commitment).1.and_then(|fs| walk_all(&fs)).is_err();
    assert!(!fails(&bytes));
    let mut swapped = bytes.clone();
    let (first, second) = swapped.split_at_mut(3 * BLOCK);
    first[BLOCK..2 * BLOCK].swap_with_slice(&mut second[..BLOCK]);
    assert!(fails(&swapped));
    for len in [0, 1, BLOCK, bytes.len() - BLOCK, bytes.len() - 1] {
        assert!(fails(&bytes[..len]), "cut to {len}");
    }
    assert!(fails(&[&bytes[..], &[0; BLOCK]].concat()));
    assert!(fails(&[&bytes[..], &bytes[bytes.len() - BLOCK..]].concat()));
    let other = ImageWriter::new(Options::default());
    let mut out = Cursor::new(Vec::new());
    let info = other.finish(&mut out).unwrap();
    assert!(fails(out.get_ref()));
    assert!(mount(out.get_ref(), &info.commitment).1.is_ok());
}

#[test]
fn what_is_cached_stays_right_when_the_host_changes_the_file() {
    let (bytes, commitment) = image();
    let (host, fs) = mount(&bytes, &commitment);
    let fs = fs.unwrap();
    let file = regular(&fs, "/data/f12288");
    let page = file.page(1).unwrap();
    host.bytes.lock().unwrap().fill(0);
    assert_eq!(page[..], content(12_288)[4096..8192]);
    assert!(Arc::ptr_eq(&page, &file.page(1).unwrap()), "the cached page is shared");
    assert_eq!(file.page(2).unwrap_err().errno(), Errno::EIO);
}

#[test]
fn the_caches_keep_to_their_size_and_count() {
    let (bytes, commitment) = image();
    let fs = mount(&bytes, &commitment).1.unwrap();
    walk_all(&fs).unwrap();
    let stats = fs.stats();
    assert!(stats.data.blocks <= 8 && stats.tree.blocks <= 8);
    assert!(stats.data.evictions > 0);
    let file = regular(&fs, "/data/f4096");
    file.page(0).unwrap();
    let before = fs.stats().data;
    file.page(0).unwrap();
    assert_eq!(fs.stats().data, CacheStats { hits: before.hits + 1, ..before });
    fs.drop_caches();
    assert_eq!(fs.stats().data.blocks, 0);
}

/// Makes damaged bytes a rightly signed image: hostile content, as if it had been measured.
fn seal(mut bytes: Vec<u8>) -> (Vec<u8>, [u8; 32]) {
    let mut tree = TreeBuilder::new();
    for block in bytes.chunks(BLOCK) {
        tree.push(hash_block(&[0; 32], block));
    }
    let data_blocks = (bytes.len() / BLOCK) as u64;
    let (tree, root_hash) = tree.finish(&[0; 32]).unwrap();
    let root = ImageRoot { root_hash, salt: [0; 32], data_blocks };
    bytes.extend(tree);
    bytes.extend(Footer::new(&root).encode());
    (bytes, root.commitment())
}

#[test]
fn hostile_content_that_was_measured_does_no_harm() {
    let (bytes, commitment) = image();
    let (_, geometry) = Footer::decode(&bytes[bytes.len() - BLOCK..], bytes.len() as u64).unwrap();
    let erofs = &bytes[..usize::try_from(geometry.data_blocks()).unwrap() * BLOCK];
    assert_eq!(seal(erofs.to_vec()).0.len(), bytes.len());
    assert!(mount(&bytes, &commitment).1.is_ok());
    let superblock = Superblock::decode(erofs).unwrap();
    let meta = usize::try_from(superblock.meta_blkaddr).unwrap() * BLOCK;
    let mut state = 0x1234_5678_9abc_def0_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let (mut opened, mut walked) = (0, 0);
    for round in 0..200 {
        let mut bad = erofs.to_vec();
        for _ in 0..1 + random() % 8 {
            // Mostly where the structure is: the metadata area, and in it the root.
            let (from, to) = match random() % 4 {
                0 => (meta + 64, meta + 4096),
                1 => (BLOCK, bad.len()),
                _ => (meta, bad.len()),
            };
            let at = from + random() % (to - from);
            bad[at] = if round % 2 == 0 { 0xff } else { random().to_le_bytes()[0] };
        }
        let (bytes, commitment) = seal(bad);
        if let Ok(fs) = mount(&bytes, &commitment).1 {
            opened += 1;
            walked += usize::from(walk_all(&fs).is_ok());
        }
    }
    assert!(opened > 50 && walked < opened, "{walked} of {opened}: the mutations reach the parsers");
}
