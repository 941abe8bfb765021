//! Finding and listing names.

use alloc::vec::Vec;

use erofs_format::{DirEntry, FileType};
use kbase::Result;
use vfs::DirectoryEntry;

use crate::volume::{Located, Volume};

/// A cursor is the entry's block times this, plus its place in the block; a block has at most 315 entries.
const CURSOR_BLOCK: u64 = 512;

/// Finds `name` by bisection: first the block, then the entry.
pub(crate) fn find<T>(
    volume: &Volume,
    directory: &Located,
    name: &[u8],
    found: impl Fn(DirEntry<'_>) -> T,
) -> Result<Option<T>> {
    let (mut low, mut high) = (0, directory.inode.pages());
    // Blocks below `low` start at or before the name, those from `high` on after it.
    while low < high {
        let middle = low + (high - low) / 2;
        if volume.directory_block(directory, middle, |block| block.precedes(name))? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    match low.checked_sub(1) {
        Some(block) => volume.directory_block(directory, block, |block| Ok(block.find(name)?.map(found))),
        None => Ok(None),
    }
}

/// Entries after `cursor`, at most `max`, without `.` and `..`.
pub(crate) fn list(
    volume: &Volume,
    directory: &Located,
    cursor: u64,
    max: usize,
) -> Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    let mut block = cursor / CURSOR_BLOCK;
    let mut first = usize::try_from(cursor % CURSOR_BLOCK).unwrap_or(0);
    while entries.len() < max && block < directory.inode.pages() {
        volume.directory_block(directory, block, |content| {
            for index in first..content.len() {
                if entries.len() >= max {
                    break;
                }
                let entry = content.entry(index)?;
                if !matches!(entry.name, b"." | b"..") {
                    entries.push(listed(entry, block, index));
                }
            }
            Ok(())
        })?;
        first = 0;
        block += 1;
    }
    Ok(entries)
}

fn listed(entry: DirEntry<'_>, block: u64, index: usize) -> DirectoryEntry {
    let next = block.saturating_mul(CURSOR_BLOCK).saturating_add(index as u64).saturating_add(1);
    DirectoryEntry { name: entry.name.to_vec(), ino: entry.nid, kind: kind(entry.file_type), next }
}

/// The kernel's name of a type.
pub(crate) const fn kind(file_type: FileType) -> vfs::FileType {
    match file_type {
        FileType::Regular => vfs::FileType::Regular,
        FileType::Directory => vfs::FileType::Directory,
        FileType::CharDevice => vfs::FileType::CharDevice,
        FileType::BlockDevice => vfs::FileType::BlockDevice,
        FileType::Fifo => vfs::FileType::Fifo,
        FileType::Socket => vfs::FileType::Socket,
        FileType::Symlink => vfs::FileType::Symlink,
    }
}
