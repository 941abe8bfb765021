//! Shared memory with an identity (System V): a file that its attachments have in common.
//!
//! Who leaves the place to the system gets the file's window ([`super::window`]), as all who map it do. A segment at an address
//! that a program chose is a mapping of the space's own: then all who have it are members of one group, where a page in place is
//! right for all. When nobody has it, its content is in the file.

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

/// Where and how a space has a segment.
#[derive(Clone, Copy)]
pub(crate) struct Attached {
    /// Its address.
    pub(crate) at: u64,
    /// How often it is attached there.
    pub(crate) times: u32,
    /// Whether it is where all have it.
    pub(crate) is_in_window: bool,
}

impl AddressSpace {
    /// Where this space has a segment, if it has it.
    pub(crate) fn attached_at(&self, share: u64) -> Option<Attached> {
        let state = self.state.lock();
        let (at, vma) = state.map.iter().find(|(_, vma)| vma.share == share)?;
        Some(Attached { at, times: vma.times, is_in_window: vma.common.is_some() })
    }

    /// Maps a segment in its window. `None`: there is no room for one.
    ///
    /// # Errors
    /// As [`AddressSpace::map`].
    pub(crate) fn attach_window(
        &self,
        share: u64,
        file: &Arc<MappedFile>,
        len: u64,
        protection: Protection,
    ) -> Result<Option<u64>> {
        let request = MapRequest {
            protection,
            is_shared: true,
            may_write: protection.contains(Protection::WRITE),
            file: Some((Arc::clone(file), 0)),
            ..MapRequest::reservation(Place::Any, len)
        };
        self.map_window(&request, Some(share))
    }

    /// Maps a segment at a place of its own.
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
