//! Copies a directory tree of the host into the image.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use erofs_format::{FileType, decode_device};

use crate::tree::{Kind, Node, NodeId};
use crate::{Content, Error, ImageWriter, Metadata};

/// Whose the imported entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Owner and group as on the host.
    Keep,
    /// Root's, whoever runs the build.
    #[default]
    Root,
    /// This user's and group's.
    Fixed {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// When the imported entries were modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModificationTime {
    /// As on the host.
    Keep,
    /// As on the host, but not later than this second (SOURCE_DATE_EPOCH).
    AtMost(u64),
    /// In this second.
    Fixed(u64),
}

/// How a tree is imported.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Whose the entries are.
    pub owner: Owner,
    /// When they were modified.
    pub mtime: ModificationTime,
    /// Whether device nodes and FIFOs come along. Sockets never do.
    pub special: bool,
    /// Says which entries to take, given the path below the imported directory; what lies in a directory that
    /// is not taken is not asked for.
    pub keep: &'a dyn Fn(&Path) -> bool,
}

impl Default for Policy<'_> {
    fn default() -> Self {
        Self { owner: Owner::Root, mtime: ModificationTime::Fixed(0), special: false, keep: &|_| true }
    }
}

impl Policy<'_> {
    fn metadata(&self, host: &fs::Metadata) -> Metadata {
        let (uid, gid) = match self.owner {
            Owner::Keep => (host.uid(), host.gid()),
            Owner::Root => (0, 0),
            Owner::Fixed { uid, gid } => (uid, gid),
        };
        // Times before 1970 cannot be stored.
        let modified = u64::try_from(host.mtime()).unwrap_or(0);
        let (mtime, mtime_nsec) = match self.mtime {
            ModificationTime::AtMost(limit) if modified >= limit => (limit, 0),
            ModificationTime::Fixed(fixed) => (fixed, 0),
            _ => (modified, u32::try_from(host.mtime_nsec()).unwrap_or(0)),
        };
        let mode = u16::try_from(host.mode() & 0o7777).unwrap_or(0);
        Metadata { mode, uid, gid, mtime, mtime_nsec }
    }
}

/// Names of one host file, by device and inode.
type Links = HashMap<(u64, u64), NodeId>;

impl ImageWriter {
    /// Adds the directory `host` of the host with all it holds as `guest`. Hard links within the tree stay
    /// hard links; a file's data are read when the image is written.
    ///
    /// # Errors
    /// [`Error::Host`] if a directory or link cannot be read, [`Error::Entry`] if an entry does not fit what is
    /// in the image already.
    pub fn add_tree(
        &mut self,
        host: impl AsRef<Path>,
        guest: impl AsRef<Path>,
        policy: &Policy<'_>,
    ) -> Result<(), Error> {
        let host = host.as_ref();
        let metadata = fs::metadata(host).map_err(Error::host(host))?;
        self.add_directory(guest.as_ref(), policy.metadata(&metadata))?;
        self.import(host, Path::new(""), guest.as_ref(), policy, &mut Links::new())
    }

    fn import(
        &mut self,
        root: &Path,
        below: &Path,
        guest: &Path,
        policy: &Policy<'_>,
        links: &mut Links,
    ) -> Result<(), Error> {
        let directory = root.join(below);
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::host(&directory))? {
            names.push(entry.map_err(Error::host(&directory))?.file_name());
        }
        // So that of several errors always the same one is reported.
        names.sort_unstable();
        for name in names {
            let below = below.join(&name);
            if !(policy.keep)(&below) {
                continue;
            }
            let path = root.join(&below);
            let host = fs::symlink_metadata(&path).map_err(Error::host(&path))?;
            let target = guest.join(&below);
            let metadata = policy.metadata(&host);
            if host.is_dir() {
                self.add_directory(&target, metadata)?;
                self.import(root, &below, guest, policy, links)?;
                continue;
            }
            let identity = (host.dev(), host.ino());
            if host.nlink() > 1
                && let Some(first) = links.get(&identity)
            {
                self.tree_mut().add_link(&target, *first)?;
                continue;
            }
            let Some(kind) = import_kind(&path, &host, policy)? else { continue };
            let node = self.tree_mut().add(&target, Node::new(metadata, kind))?;
            if host.nlink() > 1 {
                links.insert(identity, node);
            }
        }
        Ok(())
    }
}

fn import_kind(path: &Path, host: &fs::Metadata, policy: &Policy<'_>) -> Result<Option<Kind>, Error> {
    let file_type = host.file_type();
    if file_type.is_file() {
        return Ok(Some(Kind::Regular(Content::Host(path.to_path_buf()))));
    }
    if file_type.is_symlink() {
        let target = fs::read_link(path).map_err(Error::host(path))?;
        return Ok(Some(Kind::Symlink(target.as_os_str().as_bytes().to_vec())));
    }
    let file_type = if file_type.is_char_device() {
        FileType::CharDevice
    } else if file_type.is_block_device() {
        FileType::BlockDevice
    } else if file_type.is_fifo() {
        FileType::Fifo
    } else {
        return Ok(None);
    };
    // Linux' 64-bit device number has the 32-bit form in its low half for all numbers the image can store.
    let (major, minor) = decode_device(u32::try_from(host.rdev()).unwrap_or(0));
    Ok(policy.special.then_some(Kind::Special { file_type, major, minor }))
}
