//! The files that go into an image, at the paths they have on this machine.
//!
//! Symbolic links stay links, along every component of a path: where `/lib` is a link to `usr/lib`, the image
//! has the link and the folder behind it, because the loader asks for both.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// What tells one state of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) size: u64,
    /// Time of the last change, in ns since the epoch.
    pub(crate) mtime_ns: i128,
    /// Inode number.
    pub(crate) ino: u64,
    /// File type and permissions.
    pub(crate) mode: u32,
}

impl Stamp {
    /// The stamp of a file with these metadata.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            ino: metadata.ino(),
            mode: metadata.mode(),
        }
    }
}

/// A thing in the image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its state when it was found.
    pub(crate) stamp: Stamp,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// The kinds of things in an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A folder.
    Directory {
        /// Whether all of its content belongs to the image: then a new file in it matters.
        is_whole: bool,
    },
    /// A symbolic link and where it points.
    Symlink(OsString),
    /// A regular file of the host.
    File(PathBuf),
}

/// Files by their absolute path in the image.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    items: BTreeMap<PathBuf, Item>,
    /// Paths that were added as they were asked for, to make asking again cheap.
    asked: HashSet<PathBuf>,
}

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

impl Tree {
    /// All items, parents before children.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&Path, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_path(), item))
    }

    /// The items at and below `path`, which goes through no link.
    pub(crate) fn items_below(&self, path: &Path) -> impl Iterator<Item = (&Path, &Item)> {
        let below = path.to_owned();
        self.items
            .range(below.clone()..)
            .take_while(move |(path, _)| path.starts_with(&below))
            .map(|(path, item)| (path.as_path(), item))
    }

    /// Whether something is at `path`.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.items.contains_key(path)
    }

    /// Adds what is at the absolute `path`, the links that lead there, and the folders on the way. A folder
    /// comes without its content. Returns the path behind all links.
    ///
    /// # Errors
    /// What lstat(2) or readlink(2) says; ELOOP.
    pub(crate) fn add(&mut self, path: &Path) -> io::Result<PathBuf> {
        if self.asked.contains(path) && self.contains(path) {
            return Ok(path.to_owned());
        }
        let mut links = 0;
        let mut real = PathBuf::from("/");
        // Components still to walk, last first.
        let mut ahead: Vec<OsString> = names(path);
        self.note(&real)?;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            let Some(target) = self.note(&real)? else { continue };
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()));
            }
            ahead.extend(names(&target));
            if target.is_absolute() {
                real = PathBuf::from("/");
            } else {
                real.pop();
            }
        }
        if real == path {
            self.asked.insert(real.clone());
        }
        Ok(real)
    }

    /// Adds the one thing at `path`; the target if it is a link.
    fn note(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        if let Some(item) = self.items.get(path) {
            return Ok(match &item.kind {
                Kind::Symlink(target) => Some(target.into()),
                _ => None,
            });
        }
        let metadata = path.symlink_metadata()?;
        let item = item(path, &metadata)?;
        let target = match &item.kind {
            Kind::Symlink(target) => Some(target.into()),
            _ => None,
        };
        self.items.insert(path.to_owned(), item);
        Ok(target)
    }

    /// Adds the folder at `path` with all it holds, but not what `skip` says. Files that cannot be read and
    /// things that are neither file, folder nor link are left out; links bring along what they point to.
    ///
    /// # Errors
    /// What the system says about `path` itself.
    pub(crate) fn add_folder(&mut self, path: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<PathBuf> {
        let real = self.add(path)?;
        let Some(Item { kind: Kind::Directory { is_whole }, .. }) = self.items.get_mut(&real) else {
            return Ok(real);
        };
        if std::mem::replace(is_whole, true) {
            return Ok(real);
        }
        for entry in std::fs::read_dir(&real)? {
            let path = entry?.path();
            if skip(&path) {
                continue;
            }
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                // A folder that may not be searched is left out like a file that may not be read.
                let _ = self.add_folder(&path, skip);
            } else if metadata.is_symlink() {
                let _ = self.add(&path);
            } else if metadata.is_file()
                && !self.contains(&path)
                && is_readable(&path)
                && let Ok(item) = item(&path, &metadata)
            {
                self.items.insert(path, item);
            }
        }
        Ok(real)
    }
}

fn item(path: &Path, metadata: &Metadata) -> io::Result<Item> {
    let kind = if metadata.is_dir() {
        Kind::Directory { is_whole: false }
    } else if metadata.is_symlink() {
        Kind::Symlink(path.read_link()?.into_os_string())
    } else if metadata.is_file() {
        Kind::File(path.to_owned())
    } else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "neither file, folder nor link"));
    };
    Ok(Item { kind, stamp: Stamp::of(metadata), uid: metadata.uid(), gid: metadata.gid() })
}

fn is_readable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// The components of `path`, last first, without `.` and the root.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn paths(tree: &Tree, below: &Path) -> Vec<String> {
        tree.items()
            .filter_map(|(path, _)| path.strip_prefix(below).ok())
            .map(|path| path.display().to_string())
            .filter(|path| !path.is_empty())
            .collect()
    }

    #[test]
    fn links_on_the_way_stay_links_and_bring_what_is_behind() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("usr/lib/deep")).unwrap();
        fs::write(home.join("usr/lib/deep/a.so.1"), "x").unwrap();
        symlink("usr/lib", home.join("lib")).unwrap();
        symlink("deep/../deep/a.so.1", home.join("usr/lib/a.so")).unwrap();
        let mut tree = Tree::default();
        let real = tree.add(&home.join("lib/a.so")).unwrap();
        assert_eq!(real, home.join("usr/lib/deep/a.so.1"));
        assert_eq!(
            paths(&tree, &home),
            ["lib", "usr", "usr/lib", "usr/lib/a.so", "usr/lib/deep", "usr/lib/deep/a.so.1"]
        );
        assert_eq!(tree.items[&home.join("lib")].kind, Kind::Symlink("usr/lib".into()));
    }

    #[test]
    fn a_loop_of_links_and_a_missing_file_are_errors() {
        let home = tempfile::tempdir().unwrap();
        symlink("b", home.path().join("a")).unwrap();
        symlink("a", home.path().join("b")).unwrap();
        let mut tree = Tree::default();
        let e = tree.add(&home.path().join("a")).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(40));
        assert_eq!(tree.add(&home.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_comes_with_its_content_but_not_with_what_is_skipped() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("a/b")).unwrap();
        fs::create_dir_all(home.join("a/test")).unwrap();
        fs::write(home.join("a/b/f"), "x").unwrap();
        fs::write(home.join("a/test/g"), "x").unwrap();
        fs::write(home.join("outside"), "x").unwrap();
        symlink("../outside", home.join("a/link")).unwrap();
        let mut tree = Tree::default();
        tree.add_folder(&home.join("a"), &|path| path.ends_with("test")).unwrap();
        assert_eq!(paths(&tree, &home), ["a", "a/b", "a/b/f", "a/link", "outside"]);
    }
}
