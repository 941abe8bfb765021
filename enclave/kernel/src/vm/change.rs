//! `mprotect(2)`, `mremap(2)`, `madvise(2)`, `msync(2)`, `mincore(2)`: what changes mappings that are there.

use super::vma::{Backing, Role, Vma};
use super::{AddressSpace, Fault, Place, State, page_range, page_up, pages};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use kbase::{Errno, Error, Result, SliceSource, UserAddr, UserSpace, bail};
use linux_abi::mm::{PAGE_SIZE, RemapFlags, advice};
use platform::Protection;
use vfs::Regular;

/// Bytes of a shared file mapping written back at a time.
const WRITE_BACK: usize = 64 << 10;

impl AddressSpace {
    /// `mprotect(2)`: changes the protection of whole pages.
    ///
    /// # Errors
    /// EINVAL not page-aligned; ENOMEM something in the range is not mapped; EACCES a shared mapping of a file that is
    /// not open for writing would become writable.
    pub(crate) fn protect(&self, start: u64, len: u64, protection: Protection) -> Result<()> {
        if !start.is_multiple_of(PAGE_SIZE) {
            bail!(EINVAL, "the address is not page-aligned");
        }
        let Ok(range) = self.checked_range(start, len) else {
            bail!(ENOMEM, "outside the address space");
        };
        let mut state = self.state.lock();
        if !state.map.is_mapped(&range) {
            bail!(ENOMEM, "not all of it is mapped");
        }
        let refused = |vma: &Vma| protection.contains(Protection::WRITE) && !vma.may_write;
        if state.map.overlapping(range.clone()).any(|(_, vma)| refused(vma)) {
            bail!(EACCES, "the file is not open for writing");
        }
        for (start, vma) in state.map.overlapping(range.clone()) {
            let part = pages::pages(&(start.max(range.start)..vma.end.min(range.end)));
            let new = Vma { protection, ..vma.clone() };
            self.protect_committed(&state, part, vma, &new);
        }
        state.map.update(&range, |vma| {
            vma.protection = protection;
            vma.was_writable |= protection.contains(Protection::WRITE);
        });
        drop(state);
        self.restrict_windows(&range, protection);
        Ok(())
    }

    /// Tells the processor the new protection of the committed pages of a part of a range.
    fn protect_committed(&self, state: &State, part: Range<u64>, vma: &Vma, new: &Vma) {
        if vma.hardware() == new.hardware() {
            return;
        }
        let mut rest = part;
        while let Some(run) = state.committed.next_run(rest.clone()) {
            rest.start = run.end;
            for (part, before) in state.parts_in_place(run, vma) {
                let after = state.in_place(part.start, new);
                if before != after {
                    self.backend.platform.protect(page_range(&part), before, after);
                }
            }
        }
    }

    /// `mremap(2)`: changes the size of a mapping, or its place.
    ///
    /// # Errors
    /// EINVAL wrong flags or alignment; EFAULT nothing, or more than one mapping, is there; ENOMEM no room.
    pub(crate) fn remap(
        &self,
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        new: u64,
    ) -> Result<u64> {
        let (Some(old_len), Some(new_len)) = (page_up(old_len), page_up(new_len)) else {
            bail!(EINVAL, "longer than the address space");
        };
        let moves = flags.contains(RemapFlags::MAYMOVE);
        if new_len == 0 || !old.is_multiple_of(PAGE_SIZE) {
            bail!(EINVAL, "no bytes, or not page-aligned");
        }
        if flags.contains(RemapFlags::FIXED) && !moves {
            bail!(EINVAL, "MREMAP_FIXED needs MREMAP_MAYMOVE");
        }
        if old_len == 0 {
            bail!(EINVAL, "duplicating mappings is not supported");
        }
        let range = self.checked_range(old, old_len)?;
        let stays = flags.contains(RemapFlags::DONTUNMAP);
        if stays {
            let (_, vma) = self.single_mapping(&range)?;
            let is_plain = !vma.is_shared && matches!(vma.backing, Backing::Anonymous);
            if !moves || old_len != new_len || !is_plain || !new.is_multiple_of(PAGE_SIZE) {
                bail!(EINVAL, "MREMAP_DONTUNMAP is for private anonymous mappings of one size that may move");
            }
        }
        if flags.contains(RemapFlags::FIXED) {
            let target = self.checked_range(new, new_len)?;
            if target.start < range.end && range.start < target.end {
                bail!(EINVAL, "the old and the new place overlap");
            }
            self.unmap(target.start, new_len)?;
            return self.move_mapping(range, new_len, Place::FixedNoReplace(new), stays);
        }
        if stays {
            let place = if new == 0 { Place::Any } else { Place::Hint(new) };
            return self.move_mapping(range, new_len, place, stays);
        }
        if new_len <= old_len {
            if new_len < old_len {
                self.single_mapping(&range)?;
                self.unmap(old + new_len, old_len - new_len)?;
            }
            return Ok(old);
        }
        self.single_mapping(&range)?;
        if self.grow_in_place(&range, new_len)? {
            return Ok(old);
        }
        if !moves {
            bail!(ENOMEM, "no room to grow in place");
        }
        self.move_mapping(range, new_len, Place::Any, false)
    }

    /// The mapping that holds all of `range`.
    fn single_mapping(&self, range: &Range<u64>) -> Result<(u64, Vma)> {
        let state = self.state.lock();
        match state.map.find(range.start) {
            Some((start, vma)) if vma.end >= range.end => Ok((start, vma.clone())),
            _ => bail!(EFAULT, "not one mapping"),
        }
    }

    /// Extends a mapping that ends with `range`, if what follows is free.
    fn grow_in_place(&self, range: &Range<u64>, new_len: u64) -> Result<bool> {
        let Some(end) = range.start.checked_add(new_len).filter(|&end| end <= self.range.end) else {
            return Ok(false);
        };
        let mut state = self.state.lock();
        let Some((start, vma)) = state.map.find(range.start) else { return Ok(false) };
        if vma.end != range.end || !state.map.is_free(&(range.end..end)) {
            return Ok(false);
        }
        let is_in_window = vma.common.as_ref().is_none_or(|window| vma.times == 1 && window.has(end));
        if !is_in_window {
            return Ok(false);
        }
        let mut tail = Vma { end, ..vma.clone() };
        match &mut tail.backing {
            Backing::Anonymous => {}
            Backing::File { offset, .. } => *offset = offset.saturating_add(range.end - start),
            Backing::Stubs { .. } => bail!(EFAULT, "not a mapping of the program"),
        }
        if tail.common.is_none() && !self.claim(&mut state, &(range.end..end)) {
            return Ok(false);
        }
        state.map.insert(range.end, tail);
        Ok(true)
    }

    /// Moves a mapping with its content; if it `stays`, an empty one is left where it was.
    fn move_mapping(&self, range: Range<u64>, new_len: u64, place: Place, stays: bool) -> Result<u64> {
        let (start, vma) = self.single_mapping(&range)?;
        let file = match &vma.backing {
            Backing::Anonymous => None,
            Backing::File { file, offset, .. } => {
                Some((file.clone(), offset.saturating_add(range.start - start)))
            }
            Backing::Stubs { .. } => bail!(EFAULT, "not a mapping of the program"),
        };
        self.write_back(&range);
        self.write_back_windows(&range);
        if vma.common.is_some() && place == Place::Any {
            // Its content is in the file, and where it is now it has no room.
            drop(vma.common);
            self.unmap(range.start, range.end - range.start)?;
            return self.map(super::MapRequest {
                place,
                len: new_len,
                protection: vma.protection,
                is_shared: true,
                may_write: vma.may_write,
                file,
                role: Role::Mapping,
            });
        }
        let new = self.map(super::MapRequest {
            place,
            len: new_len,
            protection: Protection::READ | Protection::WRITE,
            is_shared: vma.is_shared,
            may_write: vma.may_write,
            file,
            role: Role::Mapping,
        })?;
        let kept = new_len.min(range.end - range.start);
        self.copy_committed(&(range.start..range.start + kept), new)?;
        self.protect_unchecked(new, new_len, vma.protection);
        let old_len = range.end - range.start;
        if stays {
            let place = Place::Fixed(range.start);
            let empty = super::MapRequest::reservation(place, old_len);
            self.map(super::MapRequest { protection: vma.protection, role: vma.role, ..empty })?;
        } else {
            self.unmap(range.start, old_len)?;
        }
        Ok(new)
    }

    /// Copies committed pages of a range to another place.
    fn copy_committed(&self, from: &Range<u64>, to: u64) -> Result<()> {
        let mut rest = pages::pages(from);
        let mut page = [0u8; 4096];
        let readable =
            self.state.lock().map.find(from.start).is_some_and(|(_, vma)| !vma.hardware().is_empty());
        if !readable {
            self.protect(from.start, from.end - from.start, Protection::READ)?;
        }
        loop {
            let run = self.state.lock().committed.next_run(rest.clone());
            let Some(run) = run else { return Ok(()) };
            rest.start = run.end;
            for at in run {
                let at = at * PAGE_SIZE;
                self.load(UserAddr(at), &mut page)?;
                self.store(UserAddr(to + (at - from.start)), &page)?;
            }
        }
    }

    /// Sets the protection of a mapping that was just made.
    fn protect_unchecked(&self, start: u64, len: u64, protection: Protection) {
        // It is mapped, aligned and may be what it is asked to be, so this cannot fail.
        let _ = self.protect(start, len, protection);
    }

    /// `madvise(2)`.
    ///
    /// # Errors
    /// EINVAL not page-aligned, or unknown advice; ENOMEM something in the range is not mapped; EFAULT, EBUSY populating failed.
    pub(crate) fn advise(&self, start: u64, len: u64, what: i32) -> Result<()> {
        let range = self.checked_range(start, len)?;
        match what {
            advice::NORMAL
            | advice::RANDOM
            | advice::SEQUENTIAL
            | advice::WILLNEED
            | advice::DONTFORK
            | advice::DOFORK
            | advice::MERGEABLE
            | advice::UNMERGEABLE
            | advice::HUGEPAGE
            | advice::NOHUGEPAGE
            | advice::DONTDUMP
            | advice::DODUMP
            | advice::COLD
            | advice::PAGEOUT => {}
            advice::DONTNEED | advice::FREE => self.discard(&range, what == advice::FREE)?,
            advice::POPULATE_READ | advice::POPULATE_WRITE => {
                let access = if what == advice::POPULATE_READ { Protection::READ } else { Protection::WRITE };
                if !self.state.lock().map.is_mapped(&range) {
                    bail!(ENOMEM, "not all of it is mapped");
                }
                return self.populate(&range, access).map_err(|fault| match fault {
                    Fault::OutOfMemory => Error::new(Errno::ENOMEM, "enclave memory is exhausted"),
                    _ => Error::new(Errno::EFAULT, "cannot be populated"),
                });
            }
            _ => bail!(EINVAL, "unknown advice"),
        }
        // Linux does what it can and then says that there were holes.
        if self.state.lock().map.is_mapped(&range) {
            Ok(())
        } else {
            bail!(ENOMEM, "not all of it is mapped")
        }
    }

    /// Forgets the content of pages: the next access finds zeros, or the file.
    fn discard(&self, range: &Range<u64>, only_anonymous: bool) -> Result<()> {
        self.write_back(range);
        let mut state = self.state.lock();
        let parts: Vec<(Range<u64>, bool)> = state
            .map
            .overlapping(range.clone())
            .map(|(start, vma)| {
                let is_plain = matches!(vma.backing, Backing::Anonymous) && !vma.is_shared;
                (start.max(range.start)..vma.end.min(range.end), is_plain)
            })
            .collect();
        if only_anonymous && parts.iter().any(|(_, is_plain)| !is_plain) {
            bail!(EINVAL, "MADV_FREE is for private anonymous memory");
        }
        for (part, _) in parts {
            // Shared anonymous memory keeps its content: others may see it.
            let keeps = state
                .map
                .find(part.start)
                .is_some_and(|(_, vma)| vma.is_shared && matches!(vma.backing, Backing::Anonymous));
            if !keeps {
                self.decommit_locked(&mut state, &part);
            }
        }
        Ok(())
    }

    /// `mincore(2)`: for each page, whether it is committed.
    ///
    /// # Errors
    /// EINVAL not page-aligned; ENOMEM something in the range is not mapped.
    pub(crate) fn residency(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        if !start.is_multiple_of(PAGE_SIZE) {
            bail!(EINVAL, "the address is not page-aligned");
        }
        let Ok(range) = self.checked_range(start, len) else {
            bail!(ENOMEM, "outside the address space");
        };
        let state = self.state.lock();
        if !state.map.is_mapped(&range) {
            bail!(ENOMEM, "not all of it is mapped");
        }
        let is_there = |page: u64| {
            let window = || state.map.find(page * PAGE_SIZE).and_then(|(_, vma)| vma.common.clone());
            state.committed.has(page) || window().is_some_and(|window| window.is_committed(page))
        };
        Ok(pages::pages(&range).map(|page| u8::from(is_there(page))).collect())
    }

    /// Whether all of the range is mapped (`msync`, `mlock`).
    pub(crate) fn is_mapped(&self, start: u64, len: u64) -> bool {
        self.checked_range(start, len).is_ok_and(|range| self.state.lock().map.is_mapped(&range))
    }

    /// Writes the dirty pages of shared file mappings in `range` to their files.
    pub(super) fn write_back(&self, range: &Range<u64>) {
        let mut rest = range.clone();
        loop {
            let next = self.next_dirty(&rest);
            let Some((at, len, file, offset)) = next else { return };
            rest.start = at + len as u64;
            let mut bytes = alloc::vec![0u8; len];
            if self.load(UserAddr(at), &mut bytes).is_ok()
                && let Err(error) = write_within(&*file, offset, &bytes)
            {
                self.backend.log(
                    platform::Level::Warn,
                    format_args!("a shared mapping could not be written back: {error:?}"),
                );
            }
        }
    }

    /// `msync(2)`: what was stored to files that are mapped in `range` reaches them.
    pub(crate) fn synchronise(&self, range: &Range<u64>) {
        self.write_back(range);
        self.write_back_windows(range);
    }

    /// The next dirty bytes in a range, which become clean: address, length, file, offset in it.
    fn next_dirty(&self, range: &Range<u64>) -> Option<(u64, usize, Arc<dyn Regular>, u64)> {
        let mut state = self.state.lock();
        let State { map, dirty, .. } = &mut *state;
        if dirty.len() == 0 {
            return None;
        }
        let run = dirty.next_run(pages::pages(range))?;
        let at = run.start * PAGE_SIZE;
        let (start, vma) = map.find(at)?;
        let end = vma.end.min(run.end * PAGE_SIZE).min(at + WRITE_BACK as u64);
        let Backing::File { file, offset, .. } = &vma.backing else { return None };
        let found = (at, usize::try_from(end - at).ok()?, file.file.clone(), offset + (at - start));
        let hardware = vma.hardware();
        let part = at / PAGE_SIZE..end / PAGE_SIZE;
        if hardware.contains(Protection::WRITE) {
            let clean = hardware.difference(Protection::WRITE);
            self.backend.platform.protect(page_range(&part), hardware, clean);
        }
        dirty.remove(part);
        Some(found)
    }
}

/// Writes to a file without making it longer.
pub(super) fn write_within(file: &dyn Regular, offset: u64, bytes: &[u8]) -> Result<()> {
    let size = file.metadata()?.size;
    let room = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let bytes = bytes.get(..room.min(bytes.len())).unwrap_or_default();
    if !bytes.is_empty() {
        file.write_at(offset, &mut SliceSource::new(bytes))?;
    }
    Ok(())
}
