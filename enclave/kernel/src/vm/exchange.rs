//! What the members of a group have in common, what each has for itself, and the exchange of the one for the other.
//!
//! Of each page that a member which is not resident has committed, either it has a copy, or the content that is in place is
//! right for it too: it *relies* on what is in place. The resident space may not change what others rely on: such pages are
//! *held*, that is, the processor refuses stores to them. The first store gives each that relies a copy, and the page is the
//! resident's alone. So an exchange touches the pages that differ and no others, and what was never changed is copied by nobody.
//! Nobody relies on a private page that is not held, so a thousand members cost no more than two where they share nothing.
//!
//! A fault costs as much as copying a dozen pages. So a fork copies what is likely to be stored to at once (small ranges), holds
//! the rest, and space that have taken turns several times begin to rely on what they find equal.
//!
//! Shared mappings are never copied while both sides of an exchange have them.

use super::pages::{PageSet, pages};
use super::vma::{Backing, Vma};
use super::{AddressSpace, Fault, State, page_range};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::{Result, bail};
use linux_abi::mm::PAGE_SIZE;
use platform::{Level, Platform, Protection};
use vfs::Page;

/// Pages of one range that a fork copies at once.
const FEW: u64 = 64;
/// Pages that a fork copies at once in all.
const FEW_IN_ALL: u64 = 512;
/// Exchanges after which pages that are equal are relied on.
const SETTLED: u32 = 3;
/// Pages that one store makes the resident's own, when stores go upwards.
const MOST_AT_ONCE: u64 = 16;

/// The content of a page that is not in place.
pub(super) struct PageCopy {
    content: Box<Page>,
    count: Arc<AtomicU64>,
}

impl PageCopy {
    /// The bytes.
    pub(super) fn content(&self) -> &Page {
        &self.content
    }
}

impl Drop for PageCopy {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Copies by page number. Members may share them.
pub(super) type Copies = BTreeMap<u64, Arc<PageCopy>>;

impl State {
    /// The protection of a committed page that is in place.
    pub(super) fn in_place(&self, page: u64, vma: &Vma) -> Protection {
        let is_held = self.held.has(page) || (vma.tracks_dirty() && !self.dirty.has(page));
        let hide = if is_held { Protection::WRITE } else { Protection::empty() };
        vma.hardware().difference(hide)
    }

    /// The parts of a run of committed pages that have one protection, with what that is.
    pub(super) fn parts_in_place(&self, run: Range<u64>, vma: &Vma) -> Vec<(Range<u64>, Protection)> {
        if self.held.len() == 0 && !vma.tracks_dirty() {
            return alloc::vec![(run, vma.hardware())];
        }
        let mut parts: Vec<(Range<u64>, Protection)> = Vec::new();
        for page in run {
            let protection = self.in_place(page, vma);
            match parts.last_mut() {
                Some((last, of)) if *of == protection => last.end = page + 1,
                _ => parts.push((page..page + 1, protection)),
            }
        }
        parts
    }

    /// Whether what is in place at a page has to stay for this space, which is not resident.
    fn relies_on(&self, page: u64) -> bool {
        self.committed.has(page) && self.copies.as_ref().is_some_and(|copies| !copies.contains_key(&page))
    }

    fn share_at(&self, page: u64) -> u64 {
        self.map.find(page * PAGE_SIZE).map_or(0, |(_, vma)| vma.share)
    }

    /// Gets a copy of a page instead of what was in place.
    fn get(&mut self, page: u64, copy: &Arc<PageCopy>) {
        if let Some(copies) = &mut self.copies {
            copies.insert(page, copy.clone());
        }
    }

    /// Whether a page has, for sure, the content of a file or of stubs: it can be had again.
    fn is_pure(&self, page: u64) -> bool {
        self.map.find(page * PAGE_SIZE).is_some_and(|(_, vma)| is_pure(vma))
    }
}

/// Whether the content of pages in a range is that of a file (or stubs) for sure.
const fn is_pure(vma: &Vma) -> bool {
    !vma.was_writable && vma.share == 0 && !matches!(vma.backing, Backing::Anonymous)
}

/// Whether a page that is in place for one space is right for another that has not committed it.
fn is_common(page: u64, one: (u64, &Vma), other: Option<(u64, &Vma)>) -> bool {
    let Some(other) = other else { return false };
    if one.1.share != 0 || other.1.share != 0 {
        return one.1.share == other.1.share;
    }
    is_pure(one.1) && is_pure(other.1) && Vma::shows_same(one, other, page * PAGE_SIZE)
}

impl AddressSpace {
    /// The state of a forked child of this space, which is resident.
    ///
    /// # Errors
    /// ENOMEM the child may need more copies than there is room for.
    pub(super) fn fork_state(&self, state: &mut State) -> Result<State> {
        let private: u64 = self.private_runs(state).iter().map(|(run, _)| run.end - run.start).sum();
        let copied = self.backend.copied.load(Ordering::Relaxed);
        if copied.saturating_add(private) > self.backend.copies_limit / PAGE_SIZE {
            bail!(ENOMEM, "too much memory to copy for fork");
        }
        let mut copies = Copies::new();
        let mut left = FEW_IN_ALL;
        for (run, vma) in self.private_runs(state) {
            let len = run.end - run.start;
            let is_written = vma.hardware().contains(Protection::WRITE);
            if is_written && len <= FEW && len <= left {
                left -= len;
                for page in run.clone().filter(|&page| !state.held.has(page)) {
                    copies.insert(page, self.copy_page(page, &vma));
                }
                continue;
            }
            if is_written {
                for (part, before) in state.parts_in_place(run.clone(), &vma) {
                    let after = before.difference(Protection::WRITE);
                    if before != after {
                        self.backend.platform.protect(page_range(&part), before, after);
                    }
                }
            }
            state.held.insert(run);
        }
        Ok(State {
            map: state.map.clone(),
            claims: state.claims.clone(),
            committed: state.committed.clone(),
            dirty: PageSet::default(),
            held: PageSet::default(),
            copies: Some(copies),
            exchanges: 0,
            is_broken: state.is_broken,
            is_loading: false,
            interpreter: 0..0,
            unsettled: 0..0,
            heap_start: state.heap_start,
            heap_end: state.heap_end,
            heap_limit: state.heap_limit,
            peak: 0,
        })
    }

    /// The committed pages that belong to the space alone, by range.
    fn private_runs(&self, state: &State) -> Vec<(Range<u64>, Vma)> {
        let mut runs = Vec::new();
        for (start, vma) in state.map.iter().filter(|(_, vma)| vma.share == 0) {
            let mut rest = pages(&(start..vma.end));
            while let Some(run) = state.committed.next_run(rest.clone()) {
                rest.start = run.end;
                runs.push((run, vma.clone()));
            }
        }
        runs
    }

    /// Stores into the memory of a space that is not resident (CLONE_CHILD_SETTID) while `resident` is. Nothing happens where
    /// there is no page.
    pub(crate) fn store_while_away(&self, resident: &Self, address: u64, bytes: &[u8]) {
        let in_place = resident.state.lock();
        let mut state = self.state.lock();
        for (at, &byte) in (address..).zip(bytes) {
            let page = at / PAGE_SIZE;
            if state.relies_on(page)
                && let Some((_, vma)) = in_place.map.find(at)
            {
                let copy = resident.copy_page(page, vma);
                state.get(page, &copy);
            }
            let copy = state.copies.as_mut().and_then(|copies| copies.get_mut(&page)).and_then(Arc::get_mut);
            let place = usize::try_from(at % PAGE_SIZE).unwrap_or(0);
            if let Some(to) = copy.and_then(|copy| copy.content.get_mut(place)) {
                *to = byte;
            }
        }
    }

    /// Copies a page that is in place.
    fn copy_page(&self, page: u64, vma: &Vma) -> Arc<PageCopy> {
        let platform = &self.backend.platform;
        let mut content: Box<Page> = Box::new([0; vfs::PAGE_SIZE]);
        let (at, hardware) = (page..page + 1, vma.hardware());
        let is_hidden = !hardware.contains(Protection::READ);
        if is_hidden {
            platform.protect(page_range(&at), hardware, Protection::READ);
        }
        // It is committed and readable, so this cannot fail.
        let _ = platform.user_load(page * PAGE_SIZE, &mut *content);
        if is_hidden {
            platform.protect(page_range(&at), Protection::READ, hardware);
        }
        self.backend.copied.fetch_add(1, Ordering::Relaxed);
        Arc::new(PageCopy { content, count: self.backend.copied.clone() })
    }

    /// The resident space stores to a page that is held: it becomes its own, and so do the next when stores go upwards.
    ///
    /// # Errors
    /// [`Fault::OutOfMemory`] there is no room for copies.
    pub(super) fn let_go(&self, state: &mut State, page: u64) -> core::result::Result<(), Fault> {
        let Some((_, vma)) = state.map.find_mut(page * PAGE_SIZE) else { return Err(Fault::Unmapped) };
        let goes_up = vma.next_fault == page * PAGE_SIZE;
        let most = if goes_up { (vma.window * 2).clamp(1, MOST_AT_ONCE) } else { 1 };
        let end = (page + most).min(vma.end / PAGE_SIZE);
        vma.window = most;
        vma.next_fault = end * PAGE_SIZE;
        let vma = vma.clone();
        let run = state.held.next_run(page..end).unwrap_or(page..page + 1);
        let copied = self.backend.copied.load(Ordering::Relaxed);
        if copied.saturating_add(most) > self.backend.copies_limit.saturating_mul(2) / PAGE_SIZE {
            return Err(Fault::OutOfMemory);
        }
        self.give_copies(state, &run);
        for (part, before) in state.parts_in_place(run.clone(), &vma) {
            let after = vma.hardware();
            if before != after {
                self.backend.platform.protect(page_range(&part), before, after);
            }
        }
        state.held.remove(run);
        Ok(())
    }

    /// Gives the other members copies of what they rely on in `range`, or of shared memory that is about to go.
    pub(super) fn give_copies(&self, state: &State, range: &Range<u64>) {
        let others = OnceCell::new();
        let mut rest = range.clone();
        while let Some(run) = state.committed.next_run(rest.clone()) {
            rest.start = run.end;
            for page in run {
                if let Some((_, vma)) = state.map.find(page * PAGE_SIZE)
                    && is_relied_on(&state.held, page, vma)
                {
                    give(self, page, vma, others.get_or_init(|| self.others()).iter());
                }
            }
        }
    }
}

/// Whether others than the resident space, to which `vma` belongs, may need what is in place at a page.
fn is_relied_on(held: &PageSet, page: u64, vma: &Vma) -> bool {
    vma.share != 0 || held.has(page)
}

/// Gives members who rely on a page that `from` has in place a copy. Of shared memory all who have it get one, since it is the
/// truth.
fn give<'m>(
    from: &AddressSpace,
    page: u64,
    vma: &Vma,
    members: impl Iterator<Item = &'m Arc<AddressSpace>>,
) -> Option<Arc<PageCopy>> {
    let mut copy = None;
    for member in members {
        let mut state = member.state.lock();
        let has_share = vma.share != 0 && state.share_at(page) == vma.share;
        if !has_share && !state.relies_on(page) {
            continue;
        }
        if state.is_pure(page) {
            // It faults and reads the file again.
            state.committed.remove(page..page + 1);
            continue;
        }
        let copy = copy.get_or_insert_with(|| from.copy_page(page, vma));
        state.get(page, copy);
        state.committed.insert(page..page + 1);
    }
    copy
}

/// Puts the pages of `to` in place of those of `from`, which keeps what is its own unless it is over. `members` are those of the
/// group, with or without the two.
pub(super) fn exchange(from: &AddressSpace, to: &AddressSpace, keeps: bool, members: &[Arc<AddressSpace>]) {
    let platform = &*from.backend.platform;
    let mut old = from.state.lock();
    let mut new = to.state.lock();
    let third: Vec<&Arc<AddressSpace>> =
        members.iter().filter(|member| member.id() != from.id() && member.id() != to.id()).collect();
    new.exchanges = new.exchanges.saturating_add(1);
    let settles = keeps && new.exchanges >= SETTLED;
    let mut wanted = new.copies.take().unwrap_or_default();
    let mut held = core::mem::take(&mut old.held);
    let mut copies = Copies::new();
    let mut gone = PageSet::default();
    align_protections(platform, &old, &new, &wanted, &held);
    let mut changes = Changes::default();
    for page in differing(&old, &new, &wanted, &from.range) {
        let address = page * PAGE_SIZE;
        let Some((old_start, old_vma)) = old.map.find(address) else { continue };
        let before = in_place(&old, &held, page, old_vma);
        let at = page..page + 1;
        if is_common(page, (old_start, old_vma), new.map.find(address)) {
            wanted.remove(&page);
            if old_vma.share == 0 {
                held.insert(at.clone());
            } else if old.dirty.has(page) {
                new.dirty.insert(at.clone());
            }
            new.committed.insert(at.clone());
            let after = new.map.find(address).map_or(before, |(_, vma)| in_place(&new, &held, page, vma));
            changes.add(platform, page, before, after);
            continue;
        }
        let mut copy = if is_relied_on(&held, page, old_vma) {
            give(from, page, old_vma, third.iter().copied())
        } else {
            None
        };
        let is_kept = keeps && !is_pure(old_vma);
        let content = wanted.remove(&page);
        if is_kept && copy.is_none() {
            copy = Some(from.copy_page(page, old_vma));
        }
        held.remove(page..page + 1);
        match (content, new.map.find(address)) {
            (Some(content), Some((_, vma))) => {
                let is_equal = settles
                    && copy.as_ref().is_some_and(|copy| *copy.content == *content.content)
                    && vma.share == 0;
                if is_equal {
                    held.insert(page..page + 1);
                    copy = None;
                }
                let after = in_place(&new, &held, page, vma);
                if is_equal {
                    changes.add(platform, page, before, after);
                } else {
                    replace(from, page, before, after, &content.content);
                }
            }
            _ => gone.insert(page..page + 1),
        }
        if is_kept {
            if let Some(copy) = copy {
                copies.insert(page, copy);
            }
        } else {
            old.committed.remove(page..page + 1);
            old.dirty.remove(page..page + 1);
        }
    }
    changes.flush(platform);
    from.backend.set_aside(&gone, &from.range, &old.map);
    if !keeps {
        old.committed = PageSet::default();
    }
    old.copies = Some(copies);
    new.held = held;
    restore(to, &mut new, wanted);
}

/// [`State::in_place`], while what is held belongs to neither.
fn in_place(state: &State, held: &PageSet, page: u64, vma: &Vma) -> Protection {
    let protection = state.in_place(page, vma);
    if held.has(page) { protection.difference(Protection::WRITE) } else { protection }
}

/// The pages in place that are not right for the next space as they are, in order: those that it has not committed, and those of
/// which it has a copy. What is right is most, and is not looked at one by one.
fn differing(old: &State, new: &State, wanted: &Copies, range: &Range<u64>) -> Vec<u64> {
    let copied = wanted.range(pages(range)).map(|(&page, _)| page);
    let mut found: Vec<u64> = copied.filter(|page| old.committed.has(*page)).collect();
    let mut rest = pages(range);
    while let Some(run) = old.committed.next_run(rest.clone()) {
        rest.start = run.end;
        let mut at = new.committed.next_clear(run.start, run.end);
        while at < run.end {
            let end = new.committed.next_run(at..run.end).map_or(run.end, |next| next.start);
            found.extend(at..end);
            at = new.committed.next_clear(end, run.end);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the two spaces allow different things with pages that stay in place, gives these the protection of the next.
fn align_protections(platform: &dyn Platform, old: &State, new: &State, wanted: &Copies, held: &PageSet) {
    let mut changes = Changes::default();
    for (start, vma) in new.map.iter() {
        for (old_start, old_vma) in old.map.overlapping(start..vma.end) {
            if old_vma.hardware() == vma.hardware() && !old_vma.tracks_dirty() && !vma.tracks_dirty() {
                continue;
            }
            let both = pages(&(start.max(old_start)..vma.end.min(old_vma.end)));
            let mut rest = both;
            while let Some(run) = old.committed.next_run(rest.clone()) {
                rest.start = run.end;
                for page in run.filter(|page| new.committed.has(*page) && !wanted.contains_key(page)) {
                    let before = in_place(old, held, page, old_vma);
                    let after = in_place(new, held, page, vma);
                    changes.add(platform, page, before, after);
                }
            }
        }
    }
    changes.flush(platform);
}

/// Changes of protections of pages that nobody accesses meanwhile: those of neighbours are made at once.
#[derive(Default)]
struct Changes {
    last: Option<(Range<u64>, Protection, Protection)>,
}

impl Changes {
    fn add(&mut self, platform: &dyn Platform, page: u64, before: Protection, after: Protection) {
        match &mut self.last {
            Some((run, from, to)) if run.end == page && (*from, *to) == (before, after) => run.end = page + 1,
            _ if before == after => {}
            _ => {
                self.flush(platform);
                self.last = Some((page..page + 1, before, after));
            }
        }
    }

    fn flush(&mut self, platform: &dyn Platform) {
        if let Some((run, before, after)) = self.last.take() {
            platform.protect(page_range(&run), before, after);
        }
    }
}

/// Gives a page that is in place other content.
fn replace(space: &AddressSpace, page: u64, before: Protection, after: Protection, content: &Page) {
    let platform = &space.backend.platform;
    let at = page_range(&(page..page + 1));
    let filling = Protection::READ | Protection::WRITE;
    if before != filling {
        platform.protect(at, before, filling);
    }
    // It is committed and writable, so this cannot fail.
    let _ = platform.user_store(page * PAGE_SIZE, content);
    if after != filling {
        platform.protect(at, filling, after);
    }
}

/// Commits copied pages where there is none.
fn restore(to: &AddressSpace, state: &mut State, wanted: Copies) {
    let mut wanted = wanted.into_iter().peekable();
    while let Some((first, copy)) = wanted.next() {
        let protection_of = |page: u64| {
            let vma = state.map.find(page * PAGE_SIZE);
            vma.map_or(Protection::empty(), |(_, vma)| state.in_place(page, vma))
        };
        let protection = protection_of(first);
        let mut run = alloc::vec![copy];
        loop {
            let next = first + run.len() as u64;
            let same = |&(page, _): &(u64, Arc<PageCopy>)| page == next && protection_of(page) == protection;
            match wanted.next_if(same) {
                Some((_, copy)) => run.push(copy),
                None => break,
            }
        }
        let content: Vec<&Page> = run.iter().map(|copy| &*copy.content).collect();
        if to.backend.commit_copy(first, &content, protection, false).is_err() {
            // The next access finds nothing there and the process is killed.
            to.backend.log(Level::Error, format_args!("no memory to bring a forked process back"));
            state.is_broken = true;
            state.committed.remove(first..first + run.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests;
