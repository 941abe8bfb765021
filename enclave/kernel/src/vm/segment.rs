//! Shared memory with an identity (System V): a file that its attachments have in common.
//!
//! Pages of an enclave are at one address each. So all spaces that have a segment have it at the same address, and are members
//! of one group, where a page in place is right for all. When nobody has it, its content is in the file.

use super::AddressSpace;
use super::change::write_within;
use super::vma::{Backing, MappedFile, Role};
use super::{MapRequest, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::Result;
use linux_abi::mm::PAGE_SIZE;
use platform::{Level, Protection};
use vfs::Regular;

impl AddressSpace {
    /// Where this space has a segment, if it has it.
    pub(crate) fn attached_at(&self, share: u64) -> Option<u64> {
        self.state.lock().map.iter().find(|(_, vma)| vma.share == share).map(|(start, _)| start)
    }

    /// Maps a segment.
    ///
    /// # Errors
    /// As [`AddressSpace::map`].
    pub(crate) fn attach(
        &self,
        share: u64,
        file: &Arc<MappedFile>,
        len: u64,
        place: Place,
        protection: Protection,
    ) -> Result<u64> {
        self.map_as(
            MapRequest {
                place,
                len,
                protection,
                is_shared: true,
                may_write: protection.contains(Protection::WRITE),
                file: Some((Arc::clone(file), 0)),
                role: Role::Mapping,
            },
            share,
        )
    }

    /// Unmaps the segment that begins at `start`; `is_segment` knows the length of those there are. False: none does.
    ///
    /// # Errors
    /// As [`AddressSpace::unmap`].
    pub(crate) fn detach(&self, start: u64, is_segment: impl FnOnce(u64) -> Option<u64>) -> Result<bool> {
        let found = {
            let state = self.state.lock();
            state
                .map
                .find(start)
                .filter(|&(at, vma)| at == start && matches!(vma.backing, Backing::File { offset: 0, .. }))
                .and_then(|(_, vma)| is_segment(vma.share).map(|len| (vma.share, len)))
        };
        let Some((share, len)) = found else { return Ok(false) };
        // Parts may be unmapped already, and other things may be in their place.
        let end = start.saturating_add(len);
        let parts: Vec<(u64, u64)> = {
            let state = self.state.lock();
            let inside = state.map.iter().filter(|&(at, vma)| at >= start && at < end && vma.share == share);
            inside.map(|(at, vma)| (at, vma.end)).collect()
        };
        for (at, end) in parts {
            self.unmap(at, end - at)?;
        }
        Ok(true)
    }

    /// Puts what this space, which is not resident, has of a segment into the file, where who attaches it next finds it.
    pub(crate) fn put_back(&self, share: u64, file: &dyn Regular) {
        let mut state = self.state.lock();
        let parts: Vec<(u64, u64, u64)> = state
            .map
            .iter()
            .filter(|(_, vma)| vma.share == share)
            .filter_map(|(start, vma)| match vma.backing {
                Backing::File { offset, .. } => Some((start, vma.end, offset)),
                _ => None,
            })
            .collect();
        let mut taken = Vec::new();
        for (start, end, offset) in parts {
            for page in start / PAGE_SIZE..end / PAGE_SIZE {
                if let Some(copy) = state.copies.as_mut().and_then(|copies| copies.remove(&page)) {
                    state.committed.remove(page..page + 1);
                    state.dirty.remove(page..page + 1);
                    taken.push((offset + (page * PAGE_SIZE - start), copy));
                }
            }
        }
        drop(state);
        for (at, copy) in taken {
            if let Err(error) = write_within(file, at, copy.content()) {
                self.backend.log(Level::Warn, format_args!("shared memory is lost: {error:?}"));
            }
        }
    }
}
