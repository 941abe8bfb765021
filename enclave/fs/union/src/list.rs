//! Listing.
//!
//! First the names that the lower has, then those it has not. What the lower has never changes, so every name is in one
//! of the two, whatever is copied up meanwhile.

use crate::directory::UnionDirectory;
use crate::marks::{self, There};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use vfs::{Directory, DirectoryEntry, FileType, Name};

/// Set in cursors of the second part. Bit 62 is the namespace's.
const SECOND: u64 = 1 << 61;

impl UnionDirectory {
    /// [`Directory::entries`].
    pub(crate) fn list(&self, cursor: u64, max: usize) -> Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        let mut at = cursor;
        if at & SECOND == 0 {
            if let Some(lower) = self.lower() {
                self.list_lower(lower, at, max, &mut entries)?;
            }
            at = SECOND;
        }
        if entries.len() < max
            && let Some(upper) = self.upper()
        {
            self.list_upper(upper, at & !SECOND, max, &mut entries)?;
        }
        // Removal takes the marks away that hid entries of the lower.
        if self.is_dead() {
            entries.clear();
        }
        Ok(entries)
    }

    /// Names that the lower has and that show.
    fn list_lower(
        &self,
        lower: &Arc<dyn Directory>,
        mut cursor: u64,
        max: usize,
        entries: &mut Vec<DirectoryEntry>,
    ) -> Result<()> {
        while entries.len() < max {
            let part = lower.entries(cursor, max.saturating_sub(entries.len()))?;
            let Some(last) = part.last() else { break };
            cursor = last.next;
            for entry in part {
                if let Some(entry) = self.shown(entry)? {
                    check_cursor(entry.next)?;
                    entries.push(entry);
                }
            }
        }
        Ok(())
    }

    /// An entry of the lower as the union has it, if it shows.
    fn shown(&self, mut entry: DirectoryEntry) -> Result<Option<DirectoryEntry>> {
        if marks::is_reserved(&entry.name) {
            return Ok(None);
        }
        let name = Name::new(&entry.name)?;
        let there = {
            let _children = self.lock();
            marks::look(self.upper(), name)?
        };
        match there {
            There::Whiteout => Ok(None),
            There::Nothing if entry.kind == FileType::CharDevice && self.lower_node(name)?.is_none() => {
                Ok(None)
            }
            There::Nothing => Ok(Some(entry)),
            There::Node(_) => match self.child(name).and_then(|child| child.into_node().inode().metadata()) {
                Ok(metadata) => {
                    entry.kind = metadata.kind;
                    entry.ino = metadata.ino;
                    Ok(Some(entry))
                }
                Err(error) if error.errno() == Errno::ENOENT => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Names of the upper that the lower has not.
    fn list_upper(
        &self,
        upper: &Arc<dyn Directory>,
        mut cursor: u64,
        max: usize,
        entries: &mut Vec<DirectoryEntry>,
    ) -> Result<()> {
        while entries.len() < max {
            let part = upper.entries(cursor, max.saturating_sub(entries.len()))?;
            let Some(last) = part.last() else { break };
            cursor = last.next;
            for mut entry in part {
                let name = Name::new(&entry.name)?;
                if marks::is_reserved(&entry.name) || self.is_whiteout_entry(upper, &entry, name)? {
                    continue;
                }
                if self.lower_node(name)?.is_some() {
                    continue;
                }
                check_cursor(entry.next)?;
                entry.next |= SECOND;
                entry.ino = self.shared().ino_of_upper(entry.ino);
                entries.push(entry);
            }
        }
        Ok(())
    }

    fn is_whiteout_entry(
        &self,
        upper: &Arc<dyn Directory>,
        entry: &DirectoryEntry,
        name: Name<'_>,
    ) -> Result<bool> {
        if entry.kind != FileType::CharDevice {
            return Ok(false);
        }
        let _children = self.lock();
        Ok(!matches!(marks::look(Some(upper), name)?, There::Node(_)))
    }
}

/// Fails if a cursor of one layer has a bit that is not its own.
fn check_cursor(next: u64) -> Result<()> {
    if next >= SECOND {
        return Err(Error::new(Errno::EOVERFLOW, "a cursor of a layer is out of range"));
    }
    Ok(())
}
