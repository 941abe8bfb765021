//! Collects entries and writes the image file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use erofs_format::{
    BLOCK, BLOCK_U64, DataLayout, Digest, FileType, Footer, ImageRoot, SITES_DIRECTORY, SITES_FILE,
    SiteTable, Superblock, XattrPrefix, encode_index, hash_block,
};
use sha2::{Digest as _, Sha256};

use crate::layout::{FileData, Layout, block_number, describe};
use crate::output::Output;
use crate::tree::{Kind, Node, NodeId, Tree, Visit};
use crate::{Content, Error, Metadata, sites};

/// The sites of the programs among the regular files.
type Tables = HashMap<NodeId, SiteTable>;

/// Longest target of a symbolic link, as Linux has it (`PATH_MAX` less the NUL).
const MAX_TARGET: usize = 4095;

/// Finds the sites of a program, given the whole file; called on a thread of its own.
pub type Analyser = Box<dyn FnMut(&[u8]) -> SiteTable + Send>;

/// What an image is written with.
pub struct Options {
    /// Time of modification, seconds since 1970, of directories that nobody adds. Entries with this time take
    /// the least space.
    pub build_time: u64,
    /// What is hashed in front of each block.
    pub salt: [u8; 32],
    /// What finds the rewriting sites of x86-64 ELF files; `None` leaves the site file out.
    pub analyser: Option<Analyser>,
}

impl Default for Options {
    fn default() -> Self {
        Self { build_time: 0, salt: [0; 32], analyser: Some(Box::new(sites::analyse)) }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Root hash, salt and size.
    pub root: ImageRoot,
    /// The value to measure: [`ImageRoot::commitment`].
    pub commitment: Digest,
    /// Bytes in the file, a multiple of 4096.
    pub file_len: u64,
    /// Bytes of it that are EROFS.
    pub erofs_len: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// Files that have rewriting sites.
    pub files_with_sites: u64,
    /// Their sites.
    pub sites: u64,
}

/// Collects the entries of an image and writes it.
///
/// Paths are paths in the image, absolute or relative to its root; missing directories are made, and symbolic
/// links in the middle of a path are followed. An entry that is added where one exists replaces it, except that
/// a directory and a file do not replace each other.
pub struct ImageWriter {
    options: Options,
    tree: Tree,
}

impl ImageWriter {
    /// An image of only a root directory.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let tree = Tree::new(Metadata::root(0o755, options.build_time));
        Self { options, tree }
    }

    pub(crate) fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Adds a directory, or changes the attributes of one.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` or its parent is something else.
    pub fn add_directory(&mut self, path: impl AsRef<Path>, metadata: Metadata) -> Result<(), Error> {
        self.add(path.as_ref(), metadata, Kind::Directory(Default::default()))
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` is a directory or its parent is none.
    pub fn add_file(
        &mut self,
        path: impl AsRef<Path>,
        content: Content,
        metadata: Metadata,
    ) -> Result<(), Error> {
        self.add(path.as_ref(), metadata, Kind::Regular(content))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` is a directory or its parent is none, or `target` is empty, longer than 4095
    /// bytes or has a NUL in it.
    pub fn add_symlink(
        &mut self,
        path: impl AsRef<Path>,
        target: impl AsRef<Path>,
        metadata: Metadata,
    ) -> Result<(), Error> {
        let target = target.as_ref().as_os_str().as_bytes();
        if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
            return Err(Error::entry(path.as_ref(), "target of a symbolic link too long or empty"));
        }
        self.add(path.as_ref(), metadata, Kind::Symlink(target.to_vec()))
    }

    /// Adds a device node, FIFO or socket.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` is a directory or its parent is none, `file_type` is another type, or the
    /// device number does not fit 12 and 20 bits.
    pub fn add_special(
        &mut self,
        path: impl AsRef<Path>,
        file_type: FileType,
        (major, minor): (u32, u32),
        metadata: Metadata,
    ) -> Result<(), Error> {
        let path = path.as_ref();
        if matches!(file_type, FileType::Regular | FileType::Directory | FileType::Symlink) {
            return Err(Error::entry(path, "not a device, FIFO or socket"));
        }
        if major > 0xfff || minor > 0xf_ffff {
            return Err(Error::entry(path, "device number too large"));
        }
        self.add(path, metadata, Kind::Special { file_type, major, minor })
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// [`Error::Entry`] if `existing` does not exist or is a directory, or `path` is a directory or its parent
    /// is none.
    pub fn add_hard_link(&mut self, path: impl AsRef<Path>, existing: impl AsRef<Path>) -> Result<(), Error> {
        let existing = existing.as_ref();
        let node = self.tree.find(existing).ok_or_else(|| Error::entry(existing, "no such file"))?;
        self.tree.add_link(path.as_ref(), node)
    }

    /// Sets an extended attribute (xattr(7)), given its full name.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` does not exist, or the name or value is too long or of a name space other
    /// than user, trusted, security and the POSIX ACLs.
    pub fn set_xattr(&mut self, path: impl AsRef<Path>, name: &str, value: &[u8]) -> Result<(), Error> {
        let path = path.as_ref();
        let node = self.tree.find(path).ok_or_else(|| Error::entry(path, "no such file"))?;
        let fits = name.len() <= 255 && value.len() <= 65_535;
        if !fits || XattrPrefix::split(name.as_bytes()).is_none() {
            return Err(Error::entry(path, "extended attribute not supported"));
        }
        self.tree.node_mut(node).xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
        Ok(())
    }

    /// Whether there is an entry at `path`; links are not followed.
    #[must_use]
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.tree.find(path.as_ref()).is_some()
    }

    /// Removes an entry with all below it; says whether it was there.
    ///
    /// # Errors
    /// [`Error::Entry`] for the root, or if the parent is not a directory.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> Result<bool, Error> {
        self.tree.remove(path.as_ref())
    }

    fn add(&mut self, path: &Path, metadata: Metadata, kind: Kind) -> Result<(), Error> {
        self.tree.add(path, Node::new(metadata, kind)).map(drop)
    }

    /// Writes the image at the present position of `out` and leaves the position behind it.
    ///
    /// # Errors
    /// [`Error::Host`] if a file cannot be read, [`Error::Output`] if the image cannot be written,
    /// [`Error::Entry`] if the tree has a file of the site file's name, [`Error::Format`] if it has more than
    /// 2^32 - 1 blocks.
    pub fn finish(mut self, out: impl Write + Seek) -> Result<ImageInfo, Error> {
        let sites_node = match self.options.analyser {
            Some(_) => Some(self.reserve_site_file()?),
            None => None,
        };
        let visits = self.tree.visits();
        let mut output = Output::new(out, self.options.salt)?;
        // Block 0 has to wait for the numbers that go into it.
        output.append(&[0; BLOCK])?;

        let analyser = self.options.analyser.take();
        let mut data = HashMap::new();
        let tables = std::thread::scope(|scope| {
            let (work, incoming) = sync_channel::<(NodeId, Vec<u8>)>(1);
            let worker = scope.spawn(move || {
                let mut tables = Tables::new();
                if let Some(mut analyser) = analyser {
                    for (node, program) in incoming {
                        tables.insert(node, analyser(&program));
                    }
                }
                tables
            });
            let work = sites_node.is_some().then_some(work);
            let written = self.write_files(&visits, &mut output, sites_node, work.as_ref(), &mut data);
            drop(work);
            let tables = worker.join().map_err(|_| Error::Helper);
            written.and(tables)
        })?;

        if let Some(node) = sites_node {
            // Its size is the same whatever the nids are.
            let size = encode_tables(&tables, |_| 0)?.len() as u64;
            data.insert(node, FileData { size, ..FileData::default() });
        }
        let mut layout = Layout::new(&self.tree, &visits, self.options.build_time, data)?;
        if let Some(node) = sites_node {
            let bytes = encode_tables(&tables, |node| layout.nid(node))?;
            layout.write_late(node, &bytes, &mut output)?;
        }
        layout.write_small(&mut output)?;
        let meta_blkaddr = block_number(output.next_block())?;
        let area = layout.encode()?;
        output.append(&area)?;

        let data_blocks = output.next_block();
        let blocks = block_number(data_blocks)?;
        let mut superblock = Superblock {
            root_nid: layout.root_nid()?,
            inodes: visits.len() as u64,
            build_time: self.options.build_time,
            build_time_nsec: 0,
            blocks,
            meta_blkaddr,
            uuid: [0; 16],
        };
        superblock.uuid = name_volume(&superblock, &area);
        let first = superblock.encode();

        let (mut tree, mut file) = output.finish()?;
        tree.replace(0, hash_block(&self.options.salt, &first));
        let (tree, root_hash) = tree.finish(&self.options.salt)?;
        let root = ImageRoot { root_hash, salt: self.options.salt, data_blocks };
        file.rewrite_first(&first)?;
        file.append(&tree)?;
        file.append(&Footer::new(&root).encode())?;
        file.flush()?;
        let erofs_len = data_blocks * BLOCK_U64;
        Ok(ImageInfo {
            root,
            commitment: root.commitment(),
            file_len: erofs_len + tree.len() as u64 + BLOCK_U64,
            erofs_len,
            inodes: visits.len() as u64,
            files_with_sites: with_sites(&tables).count() as u64,
            sites: with_sites(&tables).map(|(_, table)| table.sites().len() as u64).sum(),
        })
    }

    /// Puts an empty site file into the tree.
    fn reserve_site_file(&mut self) -> Result<NodeId, Error> {
        let directory = Path::new(SITES_DIRECTORY);
        let path = directory.join(SITES_FILE);
        let taken = match self.tree.find(directory) {
            Some(node) => {
                self.tree.node(node).file_type() != FileType::Directory || self.tree.find(&path).is_some()
            }
            None => {
                self.add_directory(directory, Metadata::root(0o755, self.options.build_time))?;
                false
            }
        };
        if taken {
            return Err(Error::entry(&path, "name reserved for the site file"));
        }
        let metadata = Metadata::root(0o444, self.options.build_time);
        self.tree.add(&path, Node::new(metadata, Kind::Regular(Content::Bytes(Vec::new()))))
    }

    /// Writes the whole blocks of all regular files but the site file, and notes the rest.
    fn write_files(
        &self,
        visits: &[Visit],
        output: &mut Output<impl Write + Seek>,
        sites_node: Option<NodeId>,
        work: Option<&SyncSender<(NodeId, Vec<u8>)>>,
        data: &mut HashMap<NodeId, FileData>,
    ) -> Result<(), Error> {
        for visit in visits {
            let Kind::Regular(content) = &self.tree.node(visit.node).kind else { continue };
            if sites_node == Some(visit.node) {
                continue;
            }
            let start = output.next_block();
            let Streamed { size, mut tail, program } = match content {
                Content::Bytes(bytes) => {
                    let (size, tail) = output.append_blocks_of(&mut bytes.as_slice())?;
                    let program = work.filter(|_| sites::is_program(bytes)).map(|_| bytes.clone());
                    Streamed { size, tail, program }
                }
                Content::Host(path) => write_host_file(path, output, work.is_some())?,
            };
            if let (Some(work), Some(program)) = (work, program) {
                work.send((visit.node, program)).map_err(|_| Error::Helper)?;
            }
            let (inode, _) = describe(&self.tree, visit, size, self.options.build_time)?;
            if inode.layout == DataLayout::Plain {
                output.append(&tail)?;
                tail.clear();
            }
            data.insert(visit.node, FileData { start, size, tail });
        }
        Ok(())
    }
}

/// A regular file whose whole blocks are written.
struct Streamed {
    size: u64,
    tail: Vec<u8>,
    /// All its bytes, if they may have sites.
    program: Option<Vec<u8>>,
}

fn write_host_file(
    path: &Path,
    output: &mut Output<impl Write + Seek>,
    programs: bool,
) -> Result<Streamed, Error> {
    let mut file = File::open(path).map_err(Error::host(path))?;
    let mut head = Vec::new();
    (&file).take(BLOCK_U64).read_to_end(&mut head).map_err(Error::host(path))?;
    if programs && sites::is_program(&head) {
        file.read_to_end(&mut head).map_err(Error::host(path))?;
        let (size, tail) = output.append_blocks_of(&mut head.as_slice())?;
        return Ok(Streamed { size, tail, program: Some(head) });
    }
    let mut source = Remembering { inner: head.chain(file), failed: false };
    match output.append_blocks_of(&mut source) {
        Ok((size, tail)) => Ok(Streamed { size, tail, program: None }),
        Err(error) if source.failed => Err(Error::host(path)(error)),
        Err(error) => Err(error.into()),
    }
}

/// Tells an error of the source from one of the output.
struct Remembering<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Remembering<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let result = self.inner.read(buffer);
        self.failed |= matches!(&result, Err(error) if error.kind() != std::io::ErrorKind::Interrupted);
        result
    }
}

/// The tables that say anything, which are all that the site file has.
fn with_sites(tables: &Tables) -> impl Iterator<Item = (&NodeId, &SiteTable)> {
    tables.iter().filter(|(_, table)| !table.is_empty())
}

fn encode_tables(tables: &Tables, nid: impl Fn(NodeId) -> u64) -> Result<Vec<u8>, Error> {
    let tables: Vec<_> = with_sites(tables).map(|(node, table)| (nid(*node), table)).collect();
    Ok(encode_index(&tables)?)
}

/// A volume id that follows from the metadata: a UUID of version 8.
fn name_volume(superblock: &Superblock, area: &[u8]) -> [u8; 16] {
    let hash: Digest = Sha256::new().chain_update(superblock.encode()).chain_update(area).finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
