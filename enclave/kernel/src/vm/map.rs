//! `mmap(2)`, `munmap(2)`, `brk(2)`: what comes into the map and goes out of it.

use super::text::{self, Entries, Sites, Text};
use super::vma::{Backing, MappedFile, Role, Vma};
use super::{AddressSpace, Backend, SitesKey, State, page_down, page_up};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use erofs_format::SiteTable;
use kbase::{Result, bail};
use linux_abi::mm::PAGE_SIZE;
use platform::{Level, Protection};
use vfs::{MappedPages, Regular};

/// Most ranges of an address space (`vm.max_map_count`).
pub(super) const MAX_RANGES: usize = 65_530;
/// How far a jump reaches.
const REACH: u64 = (1 << 31) - (1 << 20);

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere.
    Any,
    /// There if it is free, else anywhere.
    Hint(u64),
    /// There, instead of what is there.
    Fixed(u64),
    /// There, or not at all.
    FixedNoReplace(u64),
    /// Anywhere below 2 GiB.
    Low,
}

/// A mapping to be made.
pub(crate) struct MapRequest {
    /// Where.
    pub(crate) place: Place,
    /// Bytes; rounded up to pages.
    pub(crate) len: u64,
    /// What the program may do with it.
    pub(crate) protection: Protection,
    /// MAP_SHARED.
    pub(crate) is_shared: bool,
    /// Whether a shared mapping may be made writable.
    pub(crate) may_write: bool,
    /// The file and the offset in it, or `None`: zeros.
    pub(crate) file: Option<(Arc<MappedFile>, u64)>,
    /// What it is for.
    pub(crate) role: Role,
}

impl MapRequest {
    /// Anonymous memory that nobody may access.
    pub(crate) const fn reservation(place: Place, len: u64) -> Self {
        Self {
            place,
            len,
            protection: Protection::empty(),
            is_shared: false,
            may_write: true,
            file: None,
            role: Role::Mapping,
        }
    }
}

impl AddressSpace {
    /// Makes a mapping and returns its address.
    ///
    /// # Errors
    /// EINVAL the length is 0 or something is not page-aligned; ENOMEM no room; EEXIST the place is taken;
    /// EOVERFLOW the file offset overflows; EPERM the place is below the lowest address.
    pub(crate) fn map(&self, request: MapRequest) -> Result<u64> {
        let is_free = matches!(request.place, Place::Any | Place::Hint(_));
        let offset = request.file.as_ref().map_or(0, |(_, offset)| *offset);
        if request.is_shared
            && is_free
            && request.len > 0
            && offset.is_multiple_of(PAGE_SIZE)
            && let Some(start) = self.map_window(&request, None)?
        {
            return Ok(start);
        }
        let share = if request.is_shared { self.backend.next_share() } else { 0 };
        // Loaders alone make these, and store to them next: to relocate, or to clear what follows the data.
        let is_data =
            !request.is_shared && request.file.is_some() && request.protection.contains(Protection::WRITE);
        let len = request.len;
        let start = self.map_as(request, share)?;
        if is_data {
            self.expect_stores(&(start..start + len));
        }
        Ok(start)
    }

    /// The same for a shared mapping that others have too: `share` is the number of that.
    pub(super) fn map_as(&self, request: MapRequest, share: u64) -> Result<u64> {
        if request.len == 0 {
            bail!(EINVAL, "a mapping of no bytes");
        }
        let Some(len) = page_up(request.len) else { bail!(ENOMEM, "longer than the address space") };
        let offset = request.file.as_ref().map_or(0, |(_, offset)| *offset);
        if !offset.is_multiple_of(PAGE_SIZE) {
            bail!(EINVAL, "the file offset is not page-aligned");
        }
        if offset.checked_add(len).is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            bail!(EOVERFLOW, "the file offset overflows");
        }
        let sites = self.sites_for(&request, len);
        if let Place::Fixed(start) = request.place {
            self.write_back(&(start..start.saturating_add(len)));
        }
        // Declared before the guard, so that it is dropped after it.
        let _gone;
        let mut state = self.state.lock();
        if state.map.len() >= MAX_RANGES {
            bail!(ENOMEM, "too many mappings");
        }
        let start = self.place(&mut state, request.place, len)?;
        let range = start..start + len;
        if matches!(request.place, Place::Fixed(_)) {
            _gone = self.unmap_locked(&mut state, &range);
        }
        let backing = match request.file {
            None => Backing::Anonymous,
            Some((file, offset)) => {
                let text =
                    sites.and_then(|sites| self.rewrite(&mut state, &sites, offset..offset + len, start));
                Backing::File { file, offset, text }
            }
        };
        let vma = Vma {
            is_shared: request.is_shared,
            may_write: request.may_write,
            share,
            backing,
            ..Vma::anonymous(range.end, request.protection, request.role)
        };
        state.map.insert(start, vma);
        self.take_fitting(&mut state, start);
        Ok(start)
    }

    /// Chooses the address of a mapping.
    fn place(&self, state: &mut State, place: Place, len: u64) -> Result<u64> {
        let check = |start: u64| -> Result<Range<u64>> {
            if !start.is_multiple_of(PAGE_SIZE) {
                bail!(EINVAL, "the address is not page-aligned");
            }
            let Some(end) = start.checked_add(len).filter(|&end| end <= self.range.end) else {
                bail!(ENOMEM, "above the addresses that programs have");
            };
            if start < self.range.start {
                bail!(EPERM, "below the lowest address that may be mapped");
            }
            Ok(start..end)
        };
        match place {
            Place::Fixed(start) => {
                let range = check(start)?;
                if !self.claim(state, &range) {
                    bail!(ENOMEM, "another process is at these addresses");
                }
                return Ok(range.start);
            }
            Place::FixedNoReplace(start) => {
                let range = check(start)?;
                if !self.claim(state, &range) || !state.map.is_free(&range) {
                    bail!(EEXIST, "something is mapped there");
                }
                return Ok(range.start);
            }
            Place::Hint(start) => {
                if let Ok(range) = check(page_down(start))
                    && state.map.is_free(&range)
                    && self.claim(state, &range)
                {
                    return Ok(range.start);
                }
            }
            Place::Low => {
                let low = self.range.start..self.range.end.min(1 << 31);
                return match self.find_room(state, len, &low) {
                    Some(start) => Ok(start),
                    None => bail!(ENOMEM, "no room below 2 GiB"),
                };
            }
            Place::Any => {}
        }
        match self.find_room(state, len, &self.range) {
            Some(start) => Ok(start),
            None => bail!(ENOMEM, "no room in the address space"),
        }
    }

    /// Makes addresses its own that nobody else has. False: somebody has.
    pub(crate) fn claim_addresses(&self, range: &Range<u64>) -> bool {
        self.claim(&mut self.state.lock(), range)
    }

    /// Makes addresses those of this space; false: another has some of them.
    pub(super) fn claim(&self, state: &mut State, range: &Range<u64>) -> bool {
        if state.claims.has(range) {
            return true;
        }
        let Some(claimed) = self.backend.arena.claim(self.owner(), range) else { return false };
        if !state.is_loading {
            self.conceal_leftovers(state, &claimed);
        }
        state.claims.add(claimed);
        true
    }

    /// The highest free range of `len` bytes within `within` that is this space's, or becomes it.
    fn find_room(&self, state: &mut State, len: u64, within: &Range<u64>) -> Option<u64> {
        let find = |state: &State| {
            state.claims.iter().find_map(|claim| state.map.gap_down(len, &intersection(claim, within)))
        };
        if let Some(start) = find(state) {
            return Some(start);
        }
        let new = self.backend.arena.claim_any(self.owner(), len, within)?;
        if !state.is_loading {
            self.conceal_leftovers(state, &new);
        }
        state.claims.add(new);
        find(state)
    }

    /// The sites to rewrite of a mapping: only a private, executable, not writable one of a file has any.
    fn sites_for(&self, request: &MapRequest, len: u64) -> Option<Arc<Sites>> {
        let (file, offset) = request.file.as_ref()?;
        let is_text = request.protection.contains(Protection::EXEC)
            && !request.protection.contains(Protection::WRITE)
            && !request.is_shared;
        if !is_text {
            return None;
        }
        let table = self.backend.sites(&*file.file, *offset..offset.saturating_add(len));
        table.filter(|table| !table.is_empty())
    }

    /// Rewrites the sites of a file range that is about to be mapped at `start`: finds room for the stubs within
    /// reach, and maps them.
    fn rewrite(
        &self,
        state: &mut State,
        sites: &Sites,
        offsets: Range<u64>,
        start: u64,
    ) -> Option<Arc<Text>> {
        let stubs = text::stubs_len(sites, &offsets);
        if stubs == 0 {
            return None;
        }
        let end = start + (offsets.end - offsets.start);
        let reachable = end.saturating_sub(REACH)..start.saturating_add(REACH);
        let (below, above) = (reachable.start..start, end..reachable.end);
        let claims = &state.claims;
        let base =
            claims.iter().find_map(|claim| state.map.gap_down(stubs, &intersection(claim, &below))).or_else(
                || claims.iter().find_map(|claim| state.map.gap_up(stubs, &intersection(claim, &above))),
            );
        let Some(base) = base else {
            self.backend.log(Level::Warn, format_args!("no room for rewritten system calls near {start:#x}"));
            return None;
        };
        let platform = &self.backend.platform;
        let entries = Entries { syscall: platform.syscall_entry(), cpuid: platform.cpuid_entry() };
        let text = sites.text(offsets, start, base, entries);
        self.backend.statistics.rewritten_sites.fetch_add(text.rewritten, Ordering::Relaxed);
        let vma = Vma {
            backing: Backing::Stubs { text: text.clone(), offset: 0 },
            ..Vma::anonymous(base + stubs, Protection::READ | Protection::EXEC, Role::Mapping)
        };
        state.map.insert(base, vma);
        self.take_fitting(state, base);
        Some(text)
    }

    /// Unmaps a range.
    ///
    /// # Errors
    /// EINVAL not page-aligned, empty, or outside the address space.
    pub(crate) fn unmap(&self, start: u64, len: u64) -> Result<()> {
        let range = self.checked_range(start, len)?;
        if range.is_empty() {
            bail!(EINVAL, "no bytes to unmap");
        }
        self.write_back(&range);
        self.write_back_windows(&range);
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            for part in Self::unmap_once(&mut state, &range) {
                gone.extend(self.unmap_locked(&mut state, &part));
            }
        }
        // The last mapping of a file writes to it, which is not done under the lock.
        drop(gone);
        Ok(())
    }

    /// The whole pages of a range of addresses of a call.
    ///
    /// # Errors
    /// EINVAL not page-aligned or outside the address space.
    pub(super) fn checked_range(&self, start: u64, len: u64) -> Result<Range<u64>> {
        if !start.is_multiple_of(PAGE_SIZE) {
            bail!(EINVAL, "the address is not page-aligned");
        }
        let end = page_up(len).and_then(|len| start.checked_add(len));
        match end {
            Some(end) if end <= self.range.end => Ok(start..end),
            _ => bail!(EINVAL, "outside the address space"),
        }
    }

    /// Sets where the heap begins, behind what is mapped at `start` (stubs may be), and the bytes that it may have.
    pub(crate) fn start_heap(&self, start: u64, limit: u64) {
        let mut state = self.state.lock();
        let mut start = start;
        while let Some((_, vma)) = state.map.find(start) {
            start = vma.end;
        }
        state.heap_start = start;
        state.heap_end = start;
        state.heap_limit = limit;
    }

    /// `brk(2)`: moves the end of the heap if that is possible, and returns where it is.
    pub(crate) fn move_heap_end(&self, wanted: u64) -> u64 {
        let mut state = self.state.lock();
        let (start, old) = (state.heap_start, state.heap_end);
        let in_limit = wanted.checked_sub(start).is_some_and(|len| len <= state.heap_limit);
        let (Some(old_page), Some(new_page)) = (page_up(old), page_up(wanted)) else { return old };
        if start == 0 || !in_limit || new_page > self.range.end {
            return old;
        }
        if new_page < old_page {
            self.unmap_locked(&mut state, &(new_page..old_page));
        } else if new_page > old_page {
            let range = old_page..new_page;
            let is_full = state.map.len() >= MAX_RANGES;
            if is_full || !state.map.is_free(&range) || !self.claim(&mut state, &range) {
                return old;
            }
            let vma = Vma::anonymous(new_page, Protection::READ | Protection::WRITE, Role::Heap);
            state.map.insert(old_page, vma);
            self.take_for_heap(&mut state, &range);
        }
        state.heap_end = wanted;
        wanted
    }

    /// Finds room for a program of `len` bytes: low in what this space has, so that `brk` has room above it and
    /// libraries have the top.
    pub(crate) fn room_for_program(&self, len: u64) -> Option<u64> {
        let mut state = self.state.lock();
        self.find_room(&mut state, len, &self.range)?;
        state.claims.iter().find_map(|claim| state.map.gap_up(len, claim))
    }
}

/// Ranges of files whose sites are remembered: a program that makes files and executes them adds to them without end.
const MOST_SITES: usize = 1024;

/// What two ranges have in common; empty if nothing.
fn intersection(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

impl Backend {
    /// The sites of a range of a file: from its table, or found by a scan. They are remembered.
    fn sites(&self, file: &dyn Regular, range: Range<u64>) -> Option<Arc<Sites>> {
        let metadata = file.metadata().ok()?;
        let range = range.start..range.end.min(metadata.size);
        let key: SitesKey =
            (metadata.dev, metadata.ino, metadata.size, metadata.ctime_ns, range.start, range.end);
        if let Some(known) = self.known_sites.lock().get(&key) {
            return Some(known.clone());
        }
        let table = match file.mapped_pages() {
            // A file of the image without a table was looked at by a disassembler, which found nothing in it. A scan
            // would take data and the inside of instructions for sites.
            Some(pages) => self.site_table(pages).unwrap_or_else(|| SiteTable::new(Vec::new())),
            None => text::scan(file, &range).ok()?,
        };
        let sites = Arc::new(Sites::new(table, file, &range).ok()?);
        let mut known = self.known_sites.lock();
        if known.len() >= MOST_SITES {
            known.clear();
        }
        known.insert(key, sites.clone());
        Some(sites)
    }

    /// The table that was made with the image.
    fn site_table(&self, pages: &dyn MappedPages) -> Option<SiteTable> {
        let table = pages.rewrite_sites();
        let bytes =
            table.inspect_err(|error| self.log(Level::Error, format_args!("rewriting sites: {error:?}")));
        let table = SiteTable::from_bytes(&bytes.ok()??);
        table
            .inspect_err(|_| self.log(Level::Error, format_args!("a table of rewriting sites is corrupt")))
            .ok()
    }

    /// Logs a line if its level is wanted.
    pub(super) fn log(&self, level: Level, line: core::fmt::Arguments<'_>) {
        if self.platform.level().is_some_and(|wanted| level <= wanted) {
            self.platform.log(level, line);
        }
    }
}
