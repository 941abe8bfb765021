//! The windows that an address space maps.

use super::super::vma::{Backing, Vma};
use super::super::{AddressSpace, MapRequest, State, page_up};
use super::Window;
use crate::vm::pages::pages;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use kbase::{Result, bail};
use platform::Protection;

impl AddressSpace {
    /// Maps a part of a file where all map it. `None`: the file cannot be mapped so.
    ///
    /// # Errors
    /// ENOMEM too many mappings.
    pub(in crate::vm) fn map_window(&self, request: &MapRequest, share: Option<u64>) -> Result<Option<u64>> {
        let (Some((file, offset)), Some(len)) = (&request.file, page_up(request.len)) else {
            return Ok(None);
        };
        let Some(end) = offset.checked_add(len) else { return Ok(None) };
        if file.file.mapped_pages().is_some() {
            return Ok(None);
        }
        let Some(window) = self.backend.window(file, &(*offset..end), share) else { return Ok(None) };
        if request.may_write {
            *window.file.lock() = file.clone();
        }
        let range = window.addresses(&(*offset..end));
        let mut state = self.state.lock();
        if state.map.len() >= crate::vm::map::MAX_RANGES {
            bail!(ENOMEM, "too many mappings");
        }
        state.map.update(&range, |vma| {
            vma.times = vma.times.saturating_add(1);
            vma.protection |= request.protection;
            vma.may_write |= request.may_write;
        });
        let mut at = range.start;
        while at < range.end {
            let next =
                state.map.overlapping(at..range.end).next().map(|(start, vma)| (start.max(at), vma.end));
            let (gap_end, after) = next.unwrap_or((range.end, range.end));
            if at < gap_end {
                let vma = Vma {
                    is_shared: true,
                    may_write: request.may_write,
                    share: window.share,
                    common: Some(window.clone()),
                    backing: Backing::File {
                        file: file.clone(),
                        offset: offset + (at - range.start),
                        text: None,
                    },
                    ..Vma::anonymous(gap_end, request.protection, request.role)
                };
                state.map.insert(at, vma);
            }
            at = after;
        }
        Ok(Some(range.start))
    }

    /// Of what is mapped several times in `range`, unmaps it once; the rest is to be unmapped: its parts.
    pub(in crate::vm) fn unmap_once(state: &mut State, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        for (start, vma) in state.map.overlapping(range.clone()) {
            let part = start.max(range.start)..vma.end.min(range.end);
            if vma.times > 1 { kept.push(part) } else { gone.push(part) }
        }
        for part in kept {
            state.map.update(&part, |vma| vma.times -= 1);
        }
        gone
    }

    /// The parts of windows in a range, with the pages of each.
    fn windows_in(&self, range: &Range<u64>) -> Vec<(Arc<Window>, Range<u64>)> {
        let state = self.state.lock();
        let in_range = state.map.overlapping(range.clone());
        in_range
            .filter_map(|(start, vma)| {
                Some((vma.common.clone()?, pages(&(start.max(range.start)..vma.end.min(range.end)))))
            })
            .collect()
    }

    /// Writes what was stored to files that are mapped in a range to them.
    pub(in crate::vm) fn write_back_windows(&self, range: &Range<u64>) {
        if !self.backend.windows.is_empty() {
            self.windows_in(range).iter().for_each(|(window, pages)| window.write_back(pages));
        }
    }

    /// The protection of a range was changed: where nobody else maps a file it is the processor's too.
    pub(in crate::vm) fn restrict_windows(&self, range: &Range<u64>, protection: Protection) {
        if self.backend.windows.is_empty() {
            return;
        }
        for (window, pages) in self.windows_in(range) {
            let own = {
                let state = self.state.lock();
                let is_it = |vma: &Vma| vma.common.as_ref().is_some_and(|of| Arc::ptr_eq(of, &window));
                state.map.iter().filter(|(_, vma)| is_it(vma)).count()
            };
            // One reference is held here.
            if Arc::strong_count(&window) == own + 1 {
                window.restrict(&pages, protection);
            }
        }
    }

    /// The program is over: it maps no windows any more.
    pub(in crate::vm) fn leave_windows(&self) {
        if self.backend.windows.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            let of_windows = state.map.iter().filter(|(_, vma)| vma.common.is_some());
            let ranges: Vec<Range<u64>> = of_windows.map(|(start, vma)| start..vma.end).collect();
            for range in ranges {
                gone.extend(state.map.carve(&range));
            }
        }
        // The last mapping writes to the file, which is not done under the lock.
        drop(gone);
    }
}
