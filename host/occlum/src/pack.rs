//! Writes image files.

use crate::cache::Cache;
use crate::config::size;
use crate::deps::{Item, Kind, Stamp, Tree};
use crate::error::{Context, Error, Result};
use crate::printer::Progress;
use erofs_format::SiteTable;
use image_fs::{Analyser, Content, ImageInfo, ImageWriter, Metadata, Options};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Mode bits of a file without its type.
const PERMISSIONS: u32 = 0o7777;

/// Folders that every image has, for what is mounted there.
const SKELETON: [(&str, u16); 8] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/run", 0o755),
    ("/root", 0o700),
    ("/var/tmp", 0o1777),
    ("/host", 0o755),
];

/// 1 January 1980 UTC: the time of files of an image that is the same wherever it is built. Zip files know
/// nothing earlier.
pub(crate) const BUILD_TIME: u64 = 315_532_800;

/// The first name of each file: a file of many names is packed once. A stamp that two files of different file
/// systems share would need the same inode number, size and nanosecond.
type Names = HashMap<Stamp, PathBuf>;

/// Writes an image of `tree`, whose times and owners stay as they are, to `out`.
pub(crate) fn tree(
    tree: &Tree,
    out: File,
    cache: Option<Cache>,
    progress: &mut Progress,
) -> Result<ImageInfo> {
    let mut writer = writer(BUILD_TIME, cache);
    let mut names = Names::new();
    for (path, item) in tree.items() {
        progress.step(path.display());
        if let Kind::File(_) = item.kind
            && let Some(first) = names.get(&item.stamp)
        {
            writer
                .add_hard_link(path, first)
                .machine(|| format!("cannot add `{}` to the image", path.display()))?;
            continue;
        }
        if let Kind::File(_) = item.kind {
            names.insert(item.stamp, path.to_owned());
        }
        add(&mut writer, path, item).machine(|| format!("cannot add `{}` to the image", path.display()))?;
    }
    let total =
        tree.items().filter(|(_, item)| matches!(item.kind, Kind::File(_))).map(|(_, i)| i.stamp.size).sum();
    finish(writer, Watched { file: out, progress, written: 0, total })
}

/// Writes an image of the folder `folder`. Everything is root's, and its times do not depend on when and where
/// the folder was made.
pub(crate) fn folder(
    folder: &Path,
    build_time: u64,
    out: File,
    cache: Option<Cache>,
    progress: &mut Progress,
) -> Result<ImageInfo> {
    let mut writer = writer(build_time, cache);
    let mut names = Names::new();
    let mut total = 0;
    let mut stack = vec![PathBuf::new()];
    while let Some(below) = stack.pop() {
        let host = folder.join(&below);
        progress.step(host.display());
        let cannot = || format!("cannot read `{}`", host.display());
        for entry in std::fs::read_dir(&host).user(cannot)? {
            let entry = entry.user(cannot)?;
            let below = below.join(entry.file_name());
            add_from_folder(&mut writer, &mut names, &entry.path(), &below, build_time)?;
            let metadata = entry.metadata().user(cannot)?;
            if metadata.is_dir() {
                stack.push(below);
            } else {
                total += metadata.len();
            }
        }
    }
    finish(writer, Watched { file: out, progress, written: 0, total })
}

/// The image file, which tells how far it is.
struct Watched<'a> {
    file: File,
    progress: &'a mut Progress,
    written: u64,
    /// Bytes of the files that go into it.
    total: u64,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.written += len as u64;
        let (done, total) = (size::about(self.written.min(self.total)), size::about(self.total));
        self.progress.step(format_args!("{done} of {total}"));
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn writer(build_time: u64, cache: Option<Cache>) -> ImageWriter {
    let analyser: Analyser = match cache {
        Some(cache) => Box::new(move |program| analyse(&cache, program)),
        None => Box::new(image_fs::sites::analyse),
    };
    ImageWriter::new(Options { build_time, analyser: Some(analyser), ..Options::default() })
}

fn finish(mut writer: ImageWriter, out: Watched<'_>) -> Result<ImageInfo> {
    for (path, mode) in SKELETON {
        if !writer.contains(path) {
            let metadata = Metadata::root(mode, BUILD_TIME);
            writer.add_directory(path, metadata).machine(|| format!("cannot add `{path}` to the image"))?;
        }
    }
    writer.finish(BufWriter::with_capacity(1 << 20, out)).map_err(|e| match e {
        // A file that vanished or changed its permissions in the meantime.
        image_fs::Error::Host { .. } => Error::user("cannot write the image").because(&e),
        e => Error::machine("cannot write the image").because(&e),
    })
}

fn add(writer: &mut ImageWriter, path: &Path, item: &Item) -> Result<(), image_fs::Error> {
    let ns = item.stamp.mtime_ns.max(0);
    let metadata = Metadata {
        mode: (item.stamp.mode & PERMISSIONS) as u16,
        uid: item.uid,
        gid: item.gid,
        mtime: (ns / 1_000_000_000) as u64,
        mtime_nsec: (ns % 1_000_000_000) as u32,
    };
    match &item.kind {
        Kind::Directory { .. } => writer.add_directory(path, metadata),
        Kind::Symlink(target) => writer.add_symlink(path, target, metadata),
        Kind::File(host) => writer.add_file(path, Content::Host(host.clone()), metadata),
    }
}

fn add_from_folder(
    writer: &mut ImageWriter,
    names: &mut Names,
    host: &Path,
    below: &Path,
    build_time: u64,
) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let cannot = || format!("cannot read `{}`", host.display());
    let found = host.symlink_metadata().user(cannot)?;
    let metadata = Metadata::root((found.mode() & PERMISSIONS) as u16, build_time);
    let added = if found.is_dir() {
        writer.add_directory(below, metadata)
    } else if found.is_symlink() {
        writer.add_symlink(below, host.read_link().user(cannot)?, metadata)
    } else if found.is_file() && names.contains_key(&Stamp::of(&found)) {
        writer.add_hard_link(below, &names[&Stamp::of(&found)])
    } else if found.is_file() {
        File::open(host).user(cannot)?;
        if found.nlink() > 1 {
            names.insert(Stamp::of(&found), below.to_owned());
        }
        let mtime = compiled_time(host, found.len()).unwrap_or(build_time);
        writer.add_file(below, Content::Host(host.to_owned()), Metadata { mtime, ..metadata })
    } else {
        return Err(Error::user(format!("cannot pack `{}`", host.display()))
            .because(&io::Error::other("it is neither file, folder nor link"))
            .hint("remove it: sockets, pipes and devices are made at run time"));
    };
    added.user(|| format!("cannot add `{}` to the image", host.display()))
}

/// The time that Python's compiled form of the source file `path` expects it to have.
///
/// With any other time Python compiles the file anew at every start. The time is content of the image, so the
/// image stays the same wherever it is built.
fn compiled_time(path: &Path, size: u64) -> Option<u64> {
    let name = path.file_name()?.as_bytes().strip_suffix(b".py")?;
    for entry in std::fs::read_dir(path.parent()?.join("__pycache__")).ok()?.flatten() {
        let file_name = entry.file_name();
        let Some(tag) = file_name.as_bytes().strip_prefix(name).and_then(|t| t.strip_prefix(b".")) else {
            continue;
        };
        if Path::new(OsStr::from_bytes(tag)).extension() != Some(OsStr::new("pyc")) {
            continue;
        }
        // PEP 552: magic, flags (0: checked by time), time of the source, size of the source.
        let mut head = [0; 16];
        File::open(entry.path()).and_then(|mut file| file.read_exact(&mut head)).ok()?;
        let word = |at: usize| head[at..at + 4].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        if word(4) == 0 && word(12) == size {
            return Some(word(8));
        }
    }
    None
}

/// The rewriting sites of `program`, remembered by its content: finding them takes a disassembler.
fn analyse(cache: &Cache, program: &[u8]) -> SiteTable {
    let key = Sha256::digest(program);
    if let Some(bytes) = cache.sites(&key.into())
        && let Ok(table) = SiteTable::from_bytes(&bytes)
    {
        return table;
    }
    let table = image_fs::sites::analyse(program);
    cache.keep_sites(&key.into(), &table.to_bytes());
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pack(folder: &Path) -> [u8; 32] {
        let out = tempfile::tempfile().unwrap();
        super::folder(folder, BUILD_TIME, out, None, &mut Progress::start("testing")).unwrap().commitment
    }

    #[test]
    fn a_folder_packs_to_the_same_image_whatever_its_place_and_times() {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (home, order) in homes.iter().zip([["a", "b"], ["b", "a"]]) {
            for name in order {
                fs::create_dir_all(home.path().join("d")).unwrap();
                fs::write(home.path().join("d").join(name), name).unwrap();
            }
            std::os::unix::fs::symlink("d/a", home.path().join("l")).unwrap();
        }
        File::open(homes[0].path().join("d/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(pack(homes[0].path()), pack(homes[1].path()));
        fs::write(homes[0].path().join("d/a"), "c").unwrap();
        assert_ne!(pack(homes[0].path()), pack(homes[1].path()));
    }

    #[test]
    fn a_python_source_takes_its_time_from_its_compiled_form() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("__pycache__")).unwrap();
        fs::write(home.path().join("m.py"), "x = 1\n").unwrap();
        let mut compiled = vec![0xa7, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0];
        compiled.extend_from_slice(&1_234_567u32.to_le_bytes());
        compiled.extend_from_slice(&6u32.to_le_bytes());
        fs::write(home.path().join("__pycache__/m.cpython-311.pyc"), compiled).unwrap();
        assert_eq!(compiled_time(&home.path().join("m.py"), 6), Some(1_234_567));
        assert_eq!(compiled_time(&home.path().join("m.py"), 7), None);
        assert_eq!(compiled_time(&home.path().join("n.py"), 6), None);
    }

    #[test]
    fn a_file_of_two_names_is_packed_once() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a"), vec![7; 1 << 20]).unwrap();
        fs::hard_link(home.path().join("a"), home.path().join("b")).unwrap();
        let mut out = tempfile::NamedTempFile::new().unwrap();
        let file = out.reopen().unwrap();
        folder(home.path(), BUILD_TIME, file, None, &mut Progress::start("testing")).unwrap();
        assert!(out.as_file_mut().metadata().unwrap().len() < 3 << 19);
    }

    #[test]
    fn a_socket_cannot_be_packed() {
        let home = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(home.path().join("s")).unwrap();
        let out = tempfile::tempfile().unwrap();
        let e = folder(home.path(), BUILD_TIME, out, None, &mut Progress::start("testing")).unwrap_err();
        assert!(e.to_string().contains("neither file, folder nor link"), "{e}");
    }
}
