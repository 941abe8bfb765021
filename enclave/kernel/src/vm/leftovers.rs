//! Pages that programs left behind, for the next program at the same addresses.
//!
//! Committing pages is most of what starting a program costs: each goes through the host, and through a fault or two. So a
//! space that ends keeps its pages committed, and one that gives way to another member of its group those that nobody changed. Content that is that of an image file for sure stays as it is, and so do the
//! stubs of rewritten instructions; all other memory becomes zeros, and nothing of the ended program can be read. Programs get
//! the same addresses again and again, and map the same libraries at the same places: what fits a new mapping is taken as it
//! is, what does not goes when its page is needed.
//!
//! The same program again takes most of it while it is loaded. So pages are accessible as long as nobody runs at their
//! addresses, and those that a program has not taken when it begins to run, or that are at addresses which it claims later, are
//! *concealed*: its accesses to them fault.
//!
//! Invariants: a page here is committed, belongs to no address space and has the protection that its [`Vma`] says. It is
//! concealed if it is in a mapping, or its addresses are those of a space in which a program runs. There are at most [`MOST`] of
//! them, and none once memory is short.
//!
//! Lock order: the state of an address space, then this one, then nothing. Pages are revealed and given back without it, but
//! for those that go because memory is short, and pages are concealed under it where others may take them: nobody has them who
//! would wait.

use super::pages::{PageSet, pages};
use super::vma::{Backing, Role, Vma, VmaMap};
use super::{AddressSpace, Backend, State, page_range};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::sync::{Mutex, MutexGuard};
use linux_abi::mm::PAGE_SIZE;
use platform::{OutOfMemory, Protection};
use vfs::Page;

/// Most pages that are kept.
const MOST: u64 = 8192;
/// Most pages of an unmapped range that are filled with zeros to be kept.
const MOST_ZEROED: u64 = 64;
/// Pages of the heap that are taken as it grows.
const HEAP_START: u64 = 8;
/// Kept zeros that a fault takes at once, with those before that belong to the same so many.
const ZEROS_AT_ONCE: u64 = 16;
/// Kept pages with fewer others between them are concealed together.
const NEAR: u64 = 256;

/// What was left behind.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Whether there are pages here or concealed ones; while there are none, nobody needs the lock.
    is_any: AtomicBool,
    state: Mutex<Left>,
}

#[derive(Default)]
struct Left {
    /// What the pages hold.
    map: VmaMap,
    /// The pages.
    committed: PageSet,
    /// Pages that an access does not reach, of which not all are committed.
    concealed: PageSet,
    /// Whether an access may reach some.
    is_open: bool,
}

/// What was left at a page that a program needs.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// These pages, which have the content and the protection that they have to have, and are the program's now.
    Ready(Range<u64>),
    /// These pages of zeros, which become the program's by [`Backend::take_zeros`] when their content is known.
    Zeros(Range<u64>),
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        !self.is_any.load(Ordering::SeqCst)
    }

    /// The part of `window` around `page`, where nothing is left, in which nothing is left either.
    pub(super) fn limit(&self, window: Range<u64>, page: u64) -> Range<u64> {
        if self.is_empty() {
            return window;
        }
        let left = self.state.lock();
        let high = left.committed.next_run(page..window.end).map_or(window.end, |run| run.start);
        left.committed.clear_down(page, window.start)..high
    }

    /// Takes the pages in `range` that fit a mapping, which begins there, as they are: each run with whether it is concealed.
    fn take_fitting(&self, range: &Range<u64>, vma: &Vma) -> Vec<(Range<u64>, bool)> {
        let start = range.start;
        if self.is_empty() {
            return Vec::new();
        }
        let mut left = self.state.lock();
        let mut runs = Vec::new();
        for (left_start, left_vma) in left.map.overlapping(range.clone()) {
            let both = start.max(left_start)..range.end.min(left_vma.end);
            if fits(start, vma, left_start, left_vma, both.start) || fits_zeros(vma, left_vma) {
                let mut rest = pages(&both);
                while let Some(run) = left.committed.next_run(rest.clone()) {
                    rest.start = run.end;
                    runs.push(run);
                }
            }
        }
        let take = |run| {
            let is_concealed = left.remove(&run);
            (run, is_concealed)
        };
        let taken = runs.into_iter().map(take).collect();
        self.note(&left);
        taken
    }

    /// How many more pages may be kept.
    fn room(&self) -> u64 {
        MOST.saturating_sub(self.state.lock().committed.len())
    }

    fn note(&self, left: &Left) {
        self.is_any.store(left.committed.len() + left.concealed.len() != 0, Ordering::SeqCst);
    }
}

impl Left {
    /// Returns whether some of the pages were concealed.
    fn remove(&mut self, run: &Range<u64>) -> bool {
        let is_concealed = self.concealed.next_run(run.clone()).is_some();
        self.committed.remove(run.clone());
        self.concealed.remove(run.clone());
        self.map.carve(&(run.start * PAGE_SIZE..run.end * PAGE_SIZE));
        is_concealed
    }

    /// The runs of kept pages in `range` that are not concealed. With the pages between two of them, if these are few and
    /// `is_free` says that nothing else is there.
    fn accessible(&self, range: &Range<u64>, is_free: impl Fn(&Range<u64>) -> bool) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut rest = range.clone();
        while let Some(kept) = self.committed.next_run(rest.clone()) {
            let start = self.concealed.next_clear(kept.start, kept.end);
            let end = self.concealed.next_run(start..kept.end).map_or(kept.end, |run| run.start);
            rest.start = end;
            if start == end {
                continue;
            }
            match found.last_mut() {
                Some(last) if start - last.end < NEAR && is_free(&(last.end..start)) => last.end = end,
                _ => found.push(start..end),
            }
        }
        found
    }
}

/// Whether leftover pages from `address` on are what a mapping shows there.
fn fits(start: u64, vma: &Vma, left_start: u64, left: &Vma, address: u64) -> bool {
    vma.share == 0
        && vma.hardware() == left.hardware()
        && !vma.was_writable
        && Vma::shows_same((start, vma), (left_start, left), address)
}

const fn is_zeros(left: &Vma) -> bool {
    matches!(left.backing, Backing::Anonymous)
}

/// Whether zeros that were left have the protection that a mapping needs.
fn takes_zeros(vma: &Vma, left: &Vma) -> bool {
    is_zeros(left) && vma.hardware() == left.hardware() && !vma.tracks_dirty()
}

/// Whether zeros that were left are what a mapping shows.
fn fits_zeros(vma: &Vma, left: &Vma) -> bool {
    vma.share == 0 && is_zeros(vma) && takes_zeros(vma, left)
}

/// What becomes of the pages of a range whose program is over.
fn remainder(vma: &Vma) -> Option<Vma> {
    let hardware = vma.hardware();
    if vma.share != 0 || hardware.is_empty() {
        return None;
    }
    match &vma.backing {
        Backing::Stubs { .. } if !vma.was_writable => return Some(vma.clone()),
        Backing::File { file, .. } if !vma.was_writable => {
            // A file that shows the image to this day has always done so.
            return file.file.mapped_pages().is_some().then(|| vma.clone());
        }
        _ => {}
    }
    let zeros = Protection::READ | Protection::WRITE;
    (!hardware.contains(Protection::EXEC)).then(|| Vma::anonymous(vma.end, zeros, Role::Mapping))
}

impl Backend {
    /// Prepares pages to be committed: what is left there goes, and accesses reach them.
    fn open(&self, range: &Range<u64>) {
        let mut gone = Vec::new();
        if self.leftovers.is_empty() {
            return;
        }
        let is_concealed = {
            let mut left = self.leftovers.state.lock();
            let mut rest = range.clone();
            while let Some(run) = left.committed.next_run(rest.clone()) {
                rest.start = run.end;
                gone.push(run);
            }
            let is_concealed = left.remove(range);
            self.leftovers.note(&left);
            is_concealed
        };
        if is_concealed {
            self.platform.reveal(page_range(range));
        }
        for run in gone {
            self.platform.decommit(page_range(&run));
        }
    }

    /// Gives everything that was left behind back, since memory is short.
    pub(crate) fn drop_leftovers(&self) {
        let all = pages(&self.platform.user_range());
        let mut left = self.leftovers.state.lock();
        while let Some(run) = left.committed.next_run(all.clone()) {
            // Under the lock: who has the addresses now would commit a page that is then given back.
            self.platform.reveal(page_range(&run));
            self.platform.decommit(page_range(&run));
            left.remove(&run);
        }
        self.leftovers.note(&left);
    }

    /// Takes pages that no member of a group has in place any more, and which `map` describes: those that have for sure the content
    /// of a file or of stubs stay for whoever maps the same there, the others are given back.
    pub(super) fn set_aside(&self, gone: &PageSet, range: &Range<u64>, map: &VmaMap) {
        let mut kept: Vec<(Range<u64>, Vma)> = Vec::new();
        let mut others = PageSet::default();
        let mut room = self.leftovers.room();
        let mut rest = pages(range);
        while let Some(run) = gone.next_run(rest.clone()) {
            rest.start = run.end;
            let mut at = run.start;
            while at < run.end {
                let Some((start, vma)) = map.find(at * PAGE_SIZE) else {
                    others.insert(at..run.end);
                    break;
                };
                let part = at..run.end.min(vma.end / PAGE_SIZE);
                at = part.end;
                let remainder =
                    remainder(vma).filter(|left| !is_zeros(left) && part.end - part.start <= room);
                let Some(mut remainder) = remainder else {
                    others.insert(part);
                    continue;
                };
                room -= part.end - part.start;
                remainder.skip_to(start, part.start * PAGE_SIZE);
                remainder.end = part.end * PAGE_SIZE;
                kept.push((part, remainder));
            }
        }
        let mut rest = pages(range);
        while let Some(run) = others.next_run(rest.clone()) {
            rest.start = run.end;
            self.platform.decommit(page_range(&run));
        }
        // The next member runs at these addresses. What lies in between is in place for it.
        let mut left = self.keep(kept);
        self.conceal_in(&mut left, &pages(range), |_| false);
    }

    /// Keeps pages, each run with what it shows.
    fn keep(&self, kept: Vec<(Range<u64>, Vma)>) -> MutexGuard<'_, Left> {
        let mut left = self.leftovers.state.lock();
        left.is_open |= !kept.is_empty();
        for (run, vma) in kept {
            left.committed.insert(run.clone());
            left.map.insert(run.start * PAGE_SIZE, vma);
        }
        self.leftovers.note(&left);
        left
    }

    /// Conceals what is accessible among the kept pages in `range`, and around it where `is_free` says that nothing else is.
    fn conceal_in(&self, left: &mut Left, range: &Range<u64>, is_free: impl Fn(&Range<u64>) -> bool) {
        // Those who take turns come here at each of them.
        if !left.is_open {
            return;
        }
        for run in left.accessible(range, is_free) {
            self.platform.conceal(page_range(&run));
            left.concealed.insert(run);
        }
        left.is_open = *range != pages(&self.platform.user_range());
    }

    /// Commits pages of zeros.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then no page of the range is committed.
    pub(super) fn commit(&self, range: &Range<u64>, protection: Protection) -> Result<(), OutOfMemory> {
        self.open(range);
        self.platform.commit(page_range(range), protection).or_else(|_| {
            self.drop_leftovers();
            self.platform.commit(page_range(range), protection)
        })
    }

    /// Commits pages with their content; `is_watched`: other threads may access them at any moment.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then no page of the range is committed.
    pub(super) fn commit_copy(
        &self,
        first: u64,
        content: &[&Page],
        protection: Protection,
        is_watched: bool,
    ) -> Result<(), OutOfMemory> {
        self.open(&(first..first.saturating_add(content.len() as u64)));
        let commit = || {
            if is_watched {
                self.platform.commit_copy_at_once(first * PAGE_SIZE, content, protection)
            } else {
                self.platform.commit_copy(first * PAGE_SIZE, content, protection)
            }
        };
        commit().or_else(|_| {
            self.drop_leftovers();
            commit()
        })
    }

    /// What was left at `page`, which lies in a range of a map, and around it in that range. What is of no use goes; so do zeros
    /// that are to get content where other threads would see them without it (`is_watched`).
    pub(super) fn take_at(&self, page: u64, start: u64, vma: &Vma, is_watched: bool) -> Found {
        if self.leftovers.is_empty() {
            return Found::Nothing;
        }
        let (run, is_concealed) = {
            let mut left = self.leftovers.state.lock();
            if !left.committed.has(page) {
                return Found::Nothing;
            }
            let Some((left_start, left_vma)) = left.map.find(page * PAGE_SIZE) else { return Found::Nothing };
            let both = pages(&(start.max(left_start)..vma.end.min(left_vma.end)));
            let run = left.committed.run_around(page, &both);
            let is_fit = fits(start, vma, left_start, left_vma, run.start * PAGE_SIZE);
            let run = if is_zeros(left_vma) {
                run.start.max(page - page % ZEROS_AT_ONCE)..run.end.min(page + ZEROS_AT_ONCE)
            } else {
                run
            };
            let gets_content = !matches!(vma.backing, Backing::Anonymous);
            let takes_zeros = takes_zeros(vma, left_vma) && !(gets_content && is_watched);
            if !is_fit && !takes_zeros {
                drop(left);
                self.open(&run);
                return Found::Nothing;
            }
            if !is_fit && gets_content {
                return Found::Zeros(run);
            }
            let is_concealed = left.remove(&run);
            self.leftovers.note(&left);
            (run, is_concealed)
        };
        if is_concealed {
            self.platform.reveal(page_range(&run));
        }
        Found::Ready(run)
    }

    /// Takes pages of [`Found::Zeros`]; false: they are not there any more.
    pub(super) fn take_zeros(&self, range: &Range<u64>) -> bool {
        let is_concealed = {
            let mut left = self.leftovers.state.lock();
            if left.committed.next_run(range.clone()) != Some(range.clone()) {
                return false;
            }
            let is_concealed = left.remove(range);
            self.leftovers.note(&left);
            is_concealed
        };
        if is_concealed {
            self.platform.reveal(page_range(range));
        }
        true
    }
}

impl AddressSpace {
    /// Gives a mapping that was just made the pages that are there already. An access to one of the others faults, but for data that
    /// is about to be filled: see [`AddressSpace::expect_stores`].
    pub(super) fn take_fitting(&self, state: &mut State, start: u64) {
        let State { map, committed, is_loading, .. } = state;
        let Some((_, vma)) = map.find(start) else { return };
        let range = start..vma.end;
        self.take_fitting_in(committed, &range, vma);
        let hardware = vma.hardware();
        let is_data = hardware.contains(Protection::WRITE) && matches!(vma.backing, Backing::File { .. });
        if *is_loading && !hardware.is_empty() && !is_data {
            self.settle_later(state, range);
        }
    }

    /// The heap has grown by `range`: gives it what is there already of the first pages. Most programs need few, and what they have
    /// is filled with zeros at their end.
    pub(super) fn take_for_heap(&self, state: &mut State, range: &Range<u64>) {
        let State { map, committed, .. } = state;
        let Some((_, vma)) = map.find(range.start) else { return };
        let end = range.end.min(range.start + HEAP_START * PAGE_SIZE);
        self.take_fitting_in(committed, &(range.start..end), vma);
    }

    fn take_fitting_in(&self, committed: &mut PageSet, range: &Range<u64>, vma: &Vma) {
        for (run, is_concealed) in self.backend.leftovers.take_fitting(range, vma) {
            if is_concealed {
                self.backend.platform.reveal(page_range(&run));
            }
            committed.insert(run);
        }
    }

    /// Makes accesses to what was left behind in `range` fault.
    pub(super) fn conceal_leftovers(&self, state: &State, range: &Range<u64>) {
        let leftovers = &self.backend.leftovers;
        if leftovers.is_empty() {
            return;
        }
        let is_free = |gap: &Range<u64>| state.map.is_free(&(gap.start * PAGE_SIZE..gap.end * PAGE_SIZE));
        self.backend.conceal_in(&mut leftovers.state.lock(), &pages(range), is_free);
    }

    /// Prepares committed pages of a mapping from `start` on to be left behind: what they show then. `None`: they are of no use
    /// to the next.
    fn vacate(&self, state: &State, start: u64, vma: &Vma, run: &Range<u64>) -> Option<Vma> {
        let mut left = remainder(vma)?;
        if is_zeros(&left) {
            let len = usize::try_from((run.end - run.start) * PAGE_SIZE).unwrap_or(0);
            for (part, before) in state.parts_in_place(run.clone(), vma) {
                if before != left.hardware() {
                    self.backend.platform.protect(page_range(&part), before, left.hardware());
                }
            }
            self.backend.platform.user_fill(run.start * PAGE_SIZE, len, 0).ok()?;
        }
        left.skip_to(start, run.start * PAGE_SIZE);
        left.end = run.end * PAGE_SIZE;
        Some(left)
    }

    /// The pages of a mapping that was just unmapped stay for the next one at the same addresses, where that costs less than to give
    /// them back: the program unmaps and maps again.
    pub(super) fn leave_unmapped(&self, state: &mut State, start: u64, vma: &Vma) {
        let range = pages(&(start..vma.end));
        let is_worth_it = |left: &Vma| {
            let is_ready = vma.hardware() == left.hardware() && !vma.tracks_dirty();
            !is_zeros(left) || (is_ready && range.end - range.start <= MOST_ZEROED)
        };
        let mut room = self.backend.leftovers.room();
        let mut kept = Vec::new();
        let mut rest = range.clone();
        if !self.is_grouped() && remainder(vma).as_ref().is_some_and(is_worth_it) {
            while let Some(run) = state.committed.next_run(rest.clone()) {
                rest.start = run.end;
                let len = run.end - run.start;
                if len <= room
                    && let Some(left) = self.vacate(state, start, vma, &run)
                {
                    room -= len;
                    kept.push((run, left));
                }
            }
        }
        if kept.is_empty() {
            return self.decommit_locked(state, &(start..vma.end));
        }
        state.peak = state.peak.max(state.committed.len());
        for (run, _) in &kept {
            state.committed.remove(run.clone());
        }
        drop(self.backend.keep(kept));
        self.decommit_locked(state, &(start..vma.end));
        self.conceal_leftovers(state, &(start..vma.end));
    }

    /// The program is over, and its space is in place and has the addresses for itself: its pages stay for the next.
    pub(super) fn leave_behind(&self) {
        let mut state = self.state.lock();
        let map = core::mem::take(&mut state.map);
        let mut kept: Vec<(Range<u64>, Vma)> = Vec::new();
        let mut room = self.backend.leftovers.room();
        for (start, vma) in map.iter() {
            let mut rest = pages(&(start..vma.end));
            while let Some(run) = state.committed.next_run(rest.clone()) {
                rest.start = run.end;
                let len = run.end - run.start;
                let left = if len <= room { self.vacate(&state, start, vma, &run) } else { None };
                match left {
                    Some(left) => {
                        room -= len;
                        kept.push((run, left));
                    }
                    None => self.backend.platform.decommit(page_range(&run)),
                }
            }
        }
        state.committed = PageSet::default();
        state.dirty = PageSet::default();
        state.held = PageSet::default();
        state.is_loading = true;
        drop(state);
        drop(self.backend.keep(kept));
    }
}

#[cfg(test)]
mod tests;
