//! Decides what each inode says and where it is, once all sizes are known.

use std::collections::HashMap;
use std::io::{Seek, Write};

use erofs_format::{
    BLOCK, BLOCK_U64, DataLayout, FormatError, Inode, SLOT, Superblock, XattrEntry, XattrPrefix,
    encode_device, encode_xattrs,
};

use crate::Error;
use crate::directory::{self, Entry};
use crate::output::Output;
use crate::pack::Packer;
use crate::tree::{Kind, Node, NodeId, ROOT, Tree, Visit};

/// A node's data: blocks in the data area, and what goes behind the inode.
#[derive(Debug, Default)]
pub(crate) struct FileData {
    /// First block.
    pub(crate) start: u64,
    /// Bytes in all.
    pub(crate) size: u64,
    /// The rest that makes no whole block.
    pub(crate) tail: Vec<u8>,
}

/// Every node's inode and its place in the metadata area.
pub(crate) struct Layout<'a> {
    tree: &'a Tree,
    visits: &'a [Visit],
    planned: Vec<Planned>,
    index: HashMap<NodeId, usize>,
    area_len: usize,
}

struct Planned {
    inode: Inode,
    xattrs: Vec<u8>,
    tail: Vec<u8>,
    nid: u64,
}

impl<'a> Layout<'a> {
    /// Places all nodes of `visits`. `data` tells of regular files; the rest follows from the tree.
    pub(crate) fn new(
        tree: &'a Tree,
        visits: &'a [Visit],
        build_time: u64,
        mut data: HashMap<NodeId, FileData>,
    ) -> Result<Self, Error> {
        let mut packer = Packer::new();
        let mut planned = Vec::with_capacity(visits.len());
        let mut index = HashMap::with_capacity(visits.len());
        for visit in visits {
            let node = tree.node(visit.node);
            let data = data.remove(&visit.node).unwrap_or_else(|| small_data(node));
            let (mut inode, xattrs) = describe(tree, visit, data.size, build_time)?;
            inode.ino = u32::try_from(planned.len()).unwrap_or(u32::MAX).saturating_add(1);
            inode.address = match node.kind {
                Kind::Special { major, minor, .. } => encode_device(major, minor),
                _ => block_number(data.start)?,
            };
            let tail = match inode.layout {
                DataLayout::Plain => 0,
                DataLayout::Inline => tail_len(inode.size),
            };
            let nid = (packer.place(inode.header_len() + inode.xattr_len + tail) / SLOT) as u64;
            index.insert(visit.node, planned.len());
            planned.push(Planned { inode, xattrs, tail: data.tail, nid });
        }
        Ok(Self { tree, visits, planned, index, area_len: packer.len() })
    }

    /// Number of the node, 0 for one that has no name.
    pub(crate) fn nid(&self, node: NodeId) -> u64 {
        self.index.get(&node).map_or(0, |index| self.planned[*index].nid)
    }

    pub(crate) fn root_nid(&self) -> Result<u16, Error> {
        u16::try_from(self.nid(ROOT)).map_err(|_| FormatError::Corrupt("root nid").into())
    }

    /// Writes data whose size was planned before their content was known.
    pub(crate) fn write_late(
        &mut self,
        node: NodeId,
        bytes: &[u8],
        output: &mut Output<impl Write + Seek>,
    ) -> Result<(), Error> {
        let Some(index) = self.index.get(&node) else { return Ok(()) };
        let planned = &mut self.planned[*index];
        debug_assert_eq!(bytes.len() as u64, planned.inode.size);
        let whole = match planned.inode.layout {
            DataLayout::Plain => bytes.len(),
            DataLayout::Inline => bytes.len() / BLOCK * BLOCK,
        };
        let (blocks, tail) = bytes.split_at(whole);
        if !blocks.is_empty() {
            planned.inode.address = block_number(output.next_block())?;
        }
        planned.tail = tail.to_vec();
        output.append(blocks)
    }

    /// Writes the data of all directories and symbolic links.
    pub(crate) fn write_small(&mut self, output: &mut Output<impl Write + Seek>) -> Result<(), Error> {
        for visit in self.visits {
            match &self.tree.node(visit.node).kind {
                Kind::Directory(_) => {
                    let bytes = self.directory(visit);
                    self.write_late(visit.node, &bytes, output)?;
                }
                Kind::Symlink(target) => self.write_late(visit.node, target, output)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn directory(&self, visit: &Visit) -> Vec<u8> {
        let children = self.tree.children(visit.node).iter().map(|(name, node)| (name.as_slice(), *node));
        let dots = [(&b"."[..], visit.node), (b"..", visit.parent)];
        let mut entries: Vec<Entry<'_>> = children
            .chain(dots)
            .map(|(name, node)| Entry {
                name,
                nid: self.nid(node),
                file_type: self.tree.node(node).file_type(),
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.name);
        directory::encode(&entries)
    }

    /// The metadata area.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut area = vec![0; self.area_len];
        for planned in &self.planned {
            let at = usize::try_from(planned.nid).unwrap_or(usize::MAX).saturating_mul(SLOT);
            let place = area.get_mut(at..).ok_or(FormatError::Truncated)?;
            planned.inode.encode(place)?;
            let mut rest = place.get_mut(planned.inode.header_len()..).ok_or(FormatError::Truncated)?;
            for part in [&planned.xattrs, &planned.tail] {
                let (now, later) = rest.split_at_mut_checked(part.len()).ok_or(FormatError::Truncated)?;
                now.copy_from_slice(part);
                rest = later;
            }
        }
        Ok(area)
    }
}

/// A node's inode, all but its data's address, and its attributes.
pub(crate) fn describe(
    tree: &Tree,
    visit: &Visit,
    size: u64,
    build_time: u64,
) -> Result<(Inode, Vec<u8>), Error> {
    let node = tree.node(visit.node);
    let xattrs = encode_node_xattrs(node)?;
    let mut inode = Inode {
        mode: node.file_type().mode_bits() | node.metadata.mode & 0o7777,
        nlink: visit.nlink,
        size,
        uid: node.metadata.uid,
        gid: node.metadata.gid,
        mtime: node.metadata.mtime,
        mtime_nsec: node.metadata.mtime_nsec.min(999_999_999),
        ino: 0,
        layout: DataLayout::Plain,
        address: 0,
        xattr_len: xattrs.len(),
        extended: false,
    };
    inode.extended = !inode.fits_compact(&time_base(build_time));
    if inode.holds_tail(tail_len(size)) {
        inode.layout = DataLayout::Inline;
    }
    Ok((inode, xattrs))
}

/// A superblock as far as compact inodes depend on it.
fn time_base(build_time: u64) -> Superblock {
    Superblock {
        root_nid: 0,
        inodes: 0,
        build_time,
        build_time_nsec: 0,
        blocks: 0,
        meta_blkaddr: 0,
        uuid: [0; 16],
    }
}

/// The size of what is not a regular file.
fn small_data(node: &Node) -> FileData {
    let size = match &node.kind {
        Kind::Symlink(target) => target.len() as u64,
        Kind::Directory(children) => {
            let mut names: Vec<&[u8]> = children.keys().map(Vec::as_slice).collect();
            names.extend([&b"."[..], b".."]);
            names.sort_unstable();
            directory::len(names.into_iter())
        }
        _ => 0,
    };
    FileData { size, ..FileData::default() }
}

fn tail_len(size: u64) -> usize {
    usize::try_from(size % BLOCK_U64).unwrap_or(0)
}

/// A block's number as the format has it.
pub(crate) fn block_number(block: u64) -> Result<u32, Error> {
    u32::try_from(block).map_err(|_| FormatError::Corrupt("more than 2^32 blocks").into())
}

fn encode_node_xattrs(node: &Node) -> Result<Vec<u8>, Error> {
    let entries: Vec<XattrEntry<'_>> = node
        .xattrs
        .iter()
        .filter_map(|(name, value)| {
            let (prefix, suffix) = XattrPrefix::split(name)?;
            Some(XattrEntry { prefix, suffix, value })
        })
        .collect();
    Ok(encode_xattrs(&entries)?)
}
