//! Remembers the state of the files that went into an image, to see at the next start that nothing changed.
//!
//! Only lstat(2) is asked, folder by folder: a second start reads no file.

use crate::deps::{Kind, Stamp, Tree};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, open, statat};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The files of one folder.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Folder {
    path: Vec<u8>,
    files: Vec<(Vec<u8>, State)>,
}

/// What must not change.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
struct State {
    mode: u32,
    ino: u64,
    size: u64,
    mtime_ns: i128,
}

/// The state of all files of an image.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Inputs {
    folders: Vec<Folder>,
    newest_ns: i128,
}

/// From this number of files on, checking them takes longer than starting a thread for it.
const MANY: usize = 500;

impl Inputs {
    /// The state of the files of `tree` when they were found.
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut folders: Vec<Folder> = Vec::new();
        let mut newest_ns = 0;
        for (path, item) in tree.items() {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            // Compiled from the sources beside it, which are checked; Python itself takes one for the other.
            if parent.ends_with("__pycache__") {
                continue;
            }
            let state = match item.kind {
                // The folder matters and not what else is in it.
                Kind::Directory { is_whole: false } => {
                    State { mode: item.stamp.mode, ino: item.stamp.ino, size: 0, mtime_ns: 0 }
                }
                _ => {
                    newest_ns = newest_ns.max(item.stamp.mtime_ns);
                    let Stamp { size, mtime_ns, ino, mode } = item.stamp;
                    State { mode, ino, size, mtime_ns }
                }
            };
            let parent = parent.as_os_str().as_bytes();
            if folders.last().is_none_or(|last| last.path != parent) {
                folders.push(Folder { path: parent.to_owned(), files: Vec::new() });
            }
            if let Some(last) = folders.last_mut() {
                last.files.push((name.as_bytes().to_owned(), state));
            }
        }
        Self { folders, newest_ns }
    }

    /// The latest time at which one of the files was changed, in ns since the epoch.
    pub(crate) fn newest_ns(&self) -> i128 {
        self.newest_ns
    }

    /// Whether all files are as they were. Takes microseconds for each.
    pub(crate) fn are_unchanged(&self) -> bool {
        let (left, right) = self.folders.split_at(self.folders.len() / 2);
        if self.count() < MANY {
            return self.folders.iter().all(Folder::is_unchanged);
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| right.iter().all(Folder::is_unchanged));
            left.iter().all(Folder::is_unchanged) && other.join().unwrap_or(false)
        })
    }

    /// Whether the check is better done beside other work.
    pub(crate) fn are_many(&self) -> bool {
        self.count() >= MANY
    }

    fn count(&self) -> usize {
        self.folders.iter().map(|folder| folder.files.len()).sum()
    }
}

impl Folder {
    fn is_unchanged(&self) -> bool {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = open(path, flags, Mode::empty()) else { return false };
        self.files.iter().all(|(name, state)| {
            statat(&folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| state.matches(&stat))
        })
    }
}

impl State {
    fn matches(&self, stat: &Stat) -> bool {
        if self.mode != stat.st_mode || self.ino != stat.st_ino {
            return false;
        }
        let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        let is_loose = self.mtime_ns == 0 && self.size == 0;
        is_loose || (self.mtime_ns == mtime_ns && self.size == stat.st_size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fixture() -> (tempfile::TempDir, Inputs) {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir(root.join("whole")).unwrap();
        fs::write(root.join("whole/a"), "a").unwrap();
        fs::write(root.join("b"), "b").unwrap();
        std::os::unix::fs::symlink("b", root.join("l")).unwrap();
        let mut tree = Tree::default();
        tree.add_folder(&root.join("whole"), &|_| false).unwrap();
        tree.add(&root.join("l")).unwrap();
        (home, Inputs::of(&tree))
    }

    #[test]
    fn nothing_changed_is_seen_as_that() {
        let (_home, inputs) = fixture();
        assert!(inputs.are_unchanged());
        assert!(inputs.newest_ns() > 0);
    }

    #[test]
    fn new_bytes_new_files_in_whole_folders_and_new_links_are_changes() {
        type Change = fn(&Path);
        let changes: [Change; 4] = [
            |home| fs::write(home.join("b"), "longer").unwrap(),
            |home| fs::write(home.join("whole/new"), "").unwrap(),
            |home| fs::remove_file(home.join("whole/a")).unwrap(),
            |home| {
                fs::remove_file(home.join("l")).unwrap();
                std::os::unix::fs::symlink("whole", home.join("l")).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let (home, inputs) = fixture();
            // Time stamps are no finer than the kernel's tick.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(home.path());
            assert!(!inputs.are_unchanged(), "{number}");
        }
    }

    #[test]
    fn compiled_python_counts_by_its_source() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir(root.join("__pycache__")).unwrap();
        fs::write(root.join("__pycache__/m.cpython-311.pyc"), "1").unwrap();
        fs::write(root.join("m.py"), "1").unwrap();
        let mut tree = Tree::default();
        tree.add_folder(&root, &|_| false).unwrap();
        let inputs = Inputs::of(&tree);
        fs::write(root.join("__pycache__/m.cpython-311.pyc"), "22").unwrap();
        assert!(inputs.are_unchanged());
        fs::write(root.join("m.py"), "22").unwrap();
        assert!(!inputs.are_unchanged());
    }

    #[test]
    fn a_new_file_beside_others_is_no_change() {
        let (home, inputs) = fixture();
        fs::write(home.path().join("unrelated"), "").unwrap();
        assert!(inputs.are_unchanged());
    }
}
