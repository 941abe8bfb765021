//! Inodes and their pages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use erofs_format::{
    BLOCK, BLOCK_U64, DirBlock, DirEntry, FileType, FormatError, Inode, Mapping, SITES_DIRECTORY, SITES_FILE,
    SiteIndex, Superblock,
};
use kbase::sync::Once;
use kbase::{Errno, Error, Result};
use vfs::Page;

use crate::source::BlockSource;
use crate::verified::VerifiedBlocks;
use crate::{CacheSize, ImageStats, directory};

/// Longest site records of one file that are believed, in bytes: a million sites.
const MAX_SITES_LEN: u64 = 16 << 20;

/// A file system on verified blocks.
pub(crate) struct Volume {
    blocks: VerifiedBlocks,
    superblock: Superblock,
    dev: u64,
    zeros: Arc<Page>,
    sites: Once<Option<Sites>>,
}

/// The site file, once it was looked for.
struct Sites {
    file: Located,
    index: SiteIndex,
}

/// An inode with its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) nid: u64,
    /// Byte offset in the image.
    pub(crate) offset: u64,
    pub(crate) inode: Inode,
}

impl Volume {
    pub(crate) fn open(
        source: Arc<dyn BlockSource>,
        commitment: &[u8; 32],
        cache: CacheSize,
        dev: u64,
    ) -> Result<Self> {
        let blocks = VerifiedBlocks::open(source, commitment, cache)?;
        let first = blocks.data(0)?;
        let superblock =
            Superblock::decode(&*first).map_err(|error| blocks.corrupt("superblock in block", 0, error))?;
        if u64::from(superblock.blocks) > blocks.data_blocks() {
            return Err(blocks.corrupt("superblock in block", 0, FormatError::Corrupt("number of blocks")));
        }
        Ok(Self { blocks, superblock, dev, zeros: Arc::new([0; BLOCK]), sites: Once::new() })
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub(crate) fn root_nid(&self) -> u64 {
        self.superblock.root_nid.into()
    }

    pub(crate) fn dev(&self) -> u64 {
        self.dev
    }

    pub(crate) fn stats(&self) -> ImageStats {
        self.blocks.stats()
    }

    pub(crate) fn drop_caches(&self) {
        self.blocks.drop_caches();
    }

    /// The error for node `nid`, reported.
    pub(crate) fn corrupt(&self, nid: u64, error: FormatError) -> Error {
        self.blocks.corrupt("node", nid, error)
    }

    /// Reads node `nid`.
    pub(crate) fn inode(&self, nid: u64) -> Result<Located> {
        let offset = self
            .superblock
            .node_offset(nid)
            .ok_or_else(|| self.corrupt(nid, FormatError::Corrupt("outside the file system")))?;
        let mut bytes = [0; Inode::MAX_LEN];
        let got = self.copy_bytes(offset, &mut bytes)?;
        let inode = Inode::decode(bytes.get(..got).unwrap_or_default(), &self.superblock)
            .map_err(|error| self.corrupt(nid, error))?;
        Ok(Located { nid, offset, inode })
    }

    /// Page `index` of a node's data. Bytes behind its end are zero; so are pages behind its end.
    pub(crate) fn page(&self, node: &Located, index: u64) -> Result<Arc<Page>> {
        if index >= node.inode.pages() {
            return Ok(Arc::clone(&self.zeros));
        }
        let mapping = node
            .inode
            .map_page(node.offset, index, &self.superblock)
            .map_err(|error| self.corrupt(node.nid, error))?;
        match mapping {
            Mapping::Block(block) => {
                let page = self.blocks.data(block)?;
                let used = page_len(node, index);
                match page.get(used..) {
                    Some(rest) if rest.iter().any(|byte| *byte != 0) => zero_padded(page.get(..used)),
                    _ => Ok(page),
                }
            }
            Mapping::Tail { offset, len } => {
                let block = self.blocks.data(offset / BLOCK_U64)?;
                let start = within(offset);
                zero_padded(block.get(start..).and_then(|rest| rest.get(..len)))
            }
        }
    }

    /// Copies what the image has from byte `offset` on and returns the number of bytes, short only at the end.
    pub(crate) fn copy_bytes(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(at) = offset.checked_add(done as u64) else { break };
            if at / BLOCK_U64 >= self.blocks.data_blocks() {
                break;
            }
            let block = self.blocks.data(at / BLOCK_U64)?;
            let from = block.get(within(at)..).unwrap_or_default();
            let len = from.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..len), from.get(..len)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(len);
        }
        Ok(done)
    }

    /// Copies a part of a node's data, which must have it all.
    pub(crate) fn copy_data(&self, node: &Located, offset: u64, len: u64) -> Result<Vec<u8>> {
        let too_long = || self.corrupt(node.nid, FormatError::Truncated);
        let end = offset.checked_add(len).filter(|end| *end <= node.inode.size).ok_or_else(too_long)?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(usize::try_from(len).map_err(|_| too_long())?)
            .map_err(|_| Error::new(Errno::ENOMEM, "no memory for file content"))?;
        let mut at = offset;
        while at < end {
            let page = self.page(node, at / BLOCK_U64)?;
            let from = page.get(within(at)..).unwrap_or_default();
            let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
            let part = from.get(..from.len().min(rest)).unwrap_or_default();
            bytes.extend_from_slice(part);
            at = at.saturating_add(part.len() as u64);
        }
        Ok(bytes)
    }

    /// Calls `visit` with block `index` of a directory's entries.
    pub(crate) fn directory_block<T>(
        &self,
        node: &Located,
        index: u64,
        visit: impl FnOnce(DirBlock<'_>) -> core::result::Result<T, FormatError>,
    ) -> Result<T> {
        let page = self.page(node, index)?;
        let used = page.get(..page_len(node, index)).unwrap_or_default();
        DirBlock::new(used).and_then(visit).map_err(|error| self.corrupt(node.nid, error))
    }

    /// The encoded sites of node `nid`, if it has any.
    pub(crate) fn sites(&self, nid: u64) -> Result<Option<Arc<[u8]>>> {
        let Some(sites) = self.sites.try_call_once(|| self.open_sites())? else { return Ok(None) };
        let Some(range) = sites.index.find(nid) else { return Ok(None) };
        let len = range.end.saturating_sub(range.start);
        if len > MAX_SITES_LEN {
            return Err(self.corrupt(nid, FormatError::Corrupt("too many sites")));
        }
        Ok(Some(self.copy_data(&sites.file, range.start, len)?.into()))
    }

    fn open_sites(&self) -> Result<Option<Sites>> {
        let root = self.inode(self.root_nid())?;
        let Some(nid) = self.child(&root, SITES_DIRECTORY)? else { return Ok(None) };
        let Some(nid) = self.child(&self.inode(nid)?, SITES_FILE)? else { return Ok(None) };
        let file = self.inode(nid)?;
        if file.inode.file_type() != Some(FileType::Regular) {
            return Ok(None);
        }
        let size = file.inode.size;
        let header = self.copy_data(&file, 0, SiteIndex::HEADER_LEN as u64)?;
        let len = SiteIndex::len(&header, size).map_err(|error| self.corrupt(nid, error))?;
        let bytes = self.copy_data(&file, 0, len as u64)?;
        let index = SiteIndex::parse(&bytes, size).map_err(|error| self.corrupt(nid, error))?;
        Ok(Some(Sites { file, index }))
    }

    fn child(&self, directory: &Located, name: &str) -> Result<Option<u64>> {
        if directory.inode.file_type() != Some(FileType::Directory) {
            return Ok(None);
        }
        directory::find(self, directory, name.as_bytes(), |entry: DirEntry<'_>| entry.nid)
    }
}

/// Bytes of page `index` that belong to the node.
pub(crate) fn page_len(node: &Located, index: u64) -> usize {
    let start = index.saturating_mul(BLOCK_U64);
    usize::try_from(node.inode.size.saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK)
}

/// Offset in its page.
pub(crate) fn within(offset: u64) -> usize {
    usize::try_from(offset % BLOCK_U64).unwrap_or(0)
}

fn zero_padded(bytes: Option<&[u8]>) -> Result<Arc<Page>> {
    let mut page: Arc<Page> = Arc::new([0; BLOCK]);
    let place = Arc::get_mut(&mut page)
        .zip(bytes)
        .and_then(|(page, bytes)| Some((page.get_mut(..bytes.len())?, bytes)));
    let Some((place, bytes)) = place else { kbase::bail!(EIO, "a tail outside its block") };
    place.copy_from_slice(bytes);
    Ok(page)
}
