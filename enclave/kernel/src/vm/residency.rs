//! `fork(2)`: several address spaces at the same addresses of one enclave.
//!
//! A forked child must see its memory where its parent has it, and there is one enclave. So the spaces that overlap form a
//! [`Group`], of which one member is *resident*: its pages are in place, those of the others are copies in the kernel
//! heap. A thread is *inside* its space while it runs user code or may touch user memory, that is, all the time but
//! when it sleeps; only a space whose threads are all outside can be made to give way. What need not be copied stays in
//! place: pages that nobody could have changed, and shared memory that both members have.
//!
//! Who waits for a space whose threads do not leave by themselves asks them to after [`SLICE_NS`].
//!
//! Lock order: a group, then the state of the resident space, then that of the next.

use super::pages::PageSet;
use super::vma::{Backing, Vma};
use super::{AddressSpace, State, page_range};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::{Result, bail};
use linux_abi::mm::PAGE_SIZE;
use platform::{Level, Protection};
use vfs::Page;

/// How long a resident space may keep others waiting, in nanoseconds.
pub(crate) const SLICE_NS: u64 = 10_000_000;

/// Copies of pages by page number.
type Copies = BTreeMap<u64, Box<Page>>;

/// Spaces of which one is in place.
pub(super) struct Group {
    /// What the arena knows the addresses of all members by.
    pub(super) owner: u64,
    state: Mutex<GroupState>,
    /// Woken when the last thread leaves the resident space.
    left: WaiterQueue,
}

struct GroupState {
    /// The member whose pages are in place.
    resident: u64,
    /// The member that waits longest to be.
    wanted: Option<u64>,
    members: Vec<Weak<AddressSpace>>,
}

impl GroupState {
    fn add(&mut self, member: &Arc<AddressSpace>) {
        self.members.retain(|member| member.strong_count() > 0);
        self.members.push(Arc::downgrade(member));
    }
}

/// What became of an attempt to get inside.
pub(crate) enum Entry {
    /// The thread is inside.
    Inside,
    /// Another space is resident and has threads inside; its number.
    Taken(u64),
}

impl AddressSpace {
    /// The group, if it was ever forked.
    fn group(&self) -> Option<Arc<Group>> {
        self.group.lock().clone()
    }

    /// Whether other spaces may be at the same addresses.
    pub(crate) fn is_grouped(&self) -> bool {
        self.group.lock().is_some()
    }

    /// What the arena knows its addresses by.
    pub(crate) fn owner(&self) -> u64 {
        self.group.lock().as_ref().map_or(self.id, |group| group.owner)
    }

    /// Tries to get the calling thread inside.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Entry {
        let Some(group) = self.group() else {
            self.inside.fetch_add(1, Ordering::SeqCst);
            return Entry::Inside;
        };
        // Declared before the guard: dropping the last reference of a member takes the lock.
        let members: Vec<Arc<Self>>;
        let mut state = group.state.lock();
        members = state.members.iter().filter_map(Weak::upgrade).collect();
        let member = |id: u64| members.iter().find(|member| member.id == id);
        // Who waits may have ended meanwhile.
        let is_before = |wanted: u64| wanted != self.id && member(wanted).is_some();
        if state.wanted.is_some_and(is_before) {
            return Entry::Taken(state.resident);
        }
        if state.resident != self.id {
            if let Some(resident) = member(state.resident) {
                if resident.inside.load(Ordering::SeqCst) > 0 {
                    state.wanted = Some(self.id);
                    return Entry::Taken(resident.id);
                }
                exchange(resident, self, !resident.is_over.load(Ordering::SeqCst));
            }
            state.resident = self.id;
        }
        state.wanted = None;
        self.inside.fetch_add(1, Ordering::SeqCst);
        Entry::Inside
    }

    /// The calling thread goes outside.
    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if let Some(group) = self.group() {
            group.left.wake_all();
        }
    }

    /// What tells a word of this space from the word at the same address of another: the same for both where they share it.
    pub(crate) fn word_space(&self, address: u64) -> u64 {
        let state = self.state.lock();
        match state.map.find(address) {
            Some((_, vma)) if vma.share != 0 => vma.share | 1 << 63,
            _ => self.id,
        }
    }

    /// What is woken when threads leave the spaces at these addresses.
    pub(crate) fn with_left_queue<T>(&self, use_it: impl FnOnce(Option<&WaiterQueue>) -> T) -> T {
        let group = self.group();
        use_it(group.as_ref().map(|group| &group.left))
    }

    /// Whether another member waits.
    pub(crate) fn is_wanted_by_another(&self) -> bool {
        self.group().is_some_and(|group| group.state.lock().wanted.is_some_and(|wanted| wanted != self.id))
    }

    /// The last thread is about to leave for good: what it changed need not be kept.
    pub(crate) fn set_over(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// A copy of this space, which is resident, for a forked child. The caller is inside.
    ///
    /// # Errors
    /// ENOMEM the copy would take too much of the kernel heap.
    pub(crate) fn fork(self: &Arc<Self>, id: u64) -> Result<Arc<Self>> {
        let group = self.group_or_new();
        let mut members = group.state.lock();
        let state = self.state.lock();
        let mut copies = Copies::new();
        let mut committed = PageSet::default();
        let mut room = self.backend.copies_limit / PAGE_SIZE;
        for (page, vma) in committed_pages(&state, &self.range) {
            if vma.share != 0 {
                // Comes over when the child becomes resident.
                continue;
            }
            if is_pure(vma) {
                continue;
            }
            let Some(left) = room.checked_sub(1) else {
                bail!(ENOMEM, "too much memory to copy for fork");
            };
            room = left;
            copies.insert(page, self.read_page(page, vma));
            committed.insert(page..page + 1);
        }
        let mut child = Self::new(self.backend.clone(), id);
        child.group = Mutex::new(Some(group.clone()));
        child.state = Mutex::new(State {
            map: state.map.clone(),
            claims: state.claims.clone(),
            committed,
            dirty: PageSet::default(),
            copies: Some(copies),
            is_broken: state.is_broken,
            heap_start: state.heap_start,
            heap_end: state.heap_end,
            heap_limit: state.heap_limit,
            peak: 0,
        });
        drop(state);
        let child = Arc::new(child);
        members.add(&child);
        Ok(child)
    }

    /// An empty space that may be at the same addresses, for a program that cannot be anywhere else.
    pub(crate) fn sibling(self: &Arc<Self>, id: u64) -> Arc<Self> {
        let group = self.group_or_new();
        let mut sibling = Self::new(self.backend.clone(), id);
        sibling.group = Mutex::new(Some(group.clone()));
        let sibling = Arc::new(sibling);
        group.state.lock().add(&sibling);
        sibling
    }

    /// The group, which begins with this space as its resident member.
    fn group_or_new(self: &Arc<Self>) -> Arc<Group> {
        let new = || {
            Arc::new(Group {
                owner: self.id,
                state: Mutex::new(GroupState {
                    resident: self.id,
                    wanted: None,
                    members: alloc::vec![Arc::downgrade(self)],
                }),
                left: WaiterQueue::new(),
            })
        };
        self.group.lock().get_or_insert_with(new).clone()
    }

    /// The calling thread, which went outside and into another space, counts as inside again without coming in: it leaves
    /// for good soon.
    pub(crate) fn count_in(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    /// Stores into the copy of a space that is not resident (CLONE_CHILD_SETTID). Nothing happens where there is no page.
    pub(crate) fn store_in_copy(&self, address: u64, bytes: &[u8]) {
        let mut state = self.state.lock();
        let Some(copies) = &mut state.copies else { return };
        for (at, &byte) in (address..).zip(bytes) {
            let place = usize::try_from(at % PAGE_SIZE).unwrap_or(0);
            if let Some(to) = copies.get_mut(&(at / PAGE_SIZE)).and_then(|page| page.get_mut(place)) {
                *to = byte;
            }
        }
    }

    /// Reads a committed page that is in place.
    fn read_page(&self, page: u64, vma: &Vma) -> Box<Page> {
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
        content
    }

    /// Leaves the group: another member becomes resident, or the pages are given back. For the end of the space.
    pub(super) fn leave_group(&mut self) -> bool {
        let Some(group) = self.group.get_mut().take() else { return false };
        let mut state = group.state.lock();
        state.members.retain(|member| member.strong_count() > 0);
        let others: Vec<Arc<Self>> = state.members.iter().filter_map(Weak::upgrade).collect();
        if state.wanted == Some(self.id) {
            state.wanted = None;
        }
        if state.resident != self.id {
            // Its pages are copies, which go with it.
            if others.is_empty() {
                self.backend.arena.release(group.owner);
            }
            drop(state);
            drop(others);
            return true;
        }
        let next = others.iter().find(|other| Some(other.id) == state.wanted).or(others.first());
        let Some(next) = next else {
            drop(state);
            self.leave_behind();
            self.backend.arena.release(group.owner);
            return true;
        };
        exchange(self, next, false);
        state.resident = next.id;
        drop(state);
        group.left.wake_all();
        // Dropping the last reference of another member takes the group's lock again.
        drop(others);
        true
    }
}

/// Every committed page with the range that it lies in.
fn committed_pages<'a>(state: &'a State, range: &Range<u64>) -> impl Iterator<Item = (u64, &'a Vma)> {
    let all = super::pages::pages(range);
    let mut rest = all;
    let mut run = 0..0;
    core::iter::from_fn(move || {
        loop {
            if run.is_empty() {
                run = state.committed.next_run(rest.clone())?;
                rest.start = run.end;
            }
            let page = run.start;
            run.start += 1;
            if let Some((_, vma)) = state.map.find(page * PAGE_SIZE) {
                return Some((page, vma));
            }
        }
    })
}

/// Whether the content of pages in a range is that of a file (or stubs) for sure.
const fn is_pure(vma: &Vma) -> bool {
    !vma.was_writable && !matches!(vma.backing, Backing::Anonymous)
}

/// Whether a page that is in place for one space is right for another.
fn is_common(page: u64, one: (u64, &Vma), other: Option<(u64, &Vma)>) -> bool {
    let Some(other) = other else { return false };
    if one.1.share != 0 || other.1.share != 0 {
        return one.1.share == other.1.share;
    }
    is_pure(one.1) && is_pure(other.1) && Vma::shows_same(one, other, page * PAGE_SIZE)
}

/// What a page has to become.
enum Change {
    /// It stays, for the other space, with another protection.
    Stays(Protection, Protection),
    /// It gets other content.
    Replaced(Protection, Protection, Box<Page>),
    /// It is not there any more.
    Goes,
}

/// Puts the pages of `to` in place of those of `from`, which keeps copies unless it is over.
fn exchange(from: &AddressSpace, to: &AddressSpace, keeps: bool) {
    let platform = &*from.backend.platform;
    let mut old = from.state.lock();
    let mut new = to.state.lock();
    let mut wanted = new.copies.take().unwrap_or_default();
    let mut copies = Copies::new();
    let mut gone = PageSet::default();
    let pages: Vec<u64> = committed_pages(&old, &from.range).map(|(page, _)| page).collect();
    for page in pages {
        let address = page * PAGE_SIZE;
        let Some(old_vma) = old.map.find(address) else { continue };
        let new_vma = new.map.find(address);
        let before = in_place(&old, page, old_vma.1);
        let change = if is_common(page, old_vma, new_vma) && !wanted.contains_key(&page) {
            let after = new_vma.map_or(before, |(_, vma)| in_place(&old, page, vma));
            Change::Stays(before, after)
        } else {
            let must_keep = keeps && !is_pure(old_vma.1);
            match (wanted.remove(&page), new_vma) {
                (Some(content), Some((_, vma))) => {
                    let current = from.read_page(page, old_vma.1);
                    // Most pages of a forked child are as its parent left them.
                    let is_same = *current == *content;
                    if must_keep {
                        copies.insert(page, current);
                    }
                    if is_same {
                        Change::Stays(before, vma.hardware())
                    } else {
                        Change::Replaced(before, vma.hardware(), content)
                    }
                }
                _ => {
                    if must_keep {
                        copies.insert(page, from.read_page(page, old_vma.1));
                    }
                    Change::Goes
                }
            }
        };
        let at = page..page + 1;
        let kept = copies.contains_key(&page);
        match change {
            Change::Stays(before, after) => {
                if before != after {
                    platform.protect(page_range(&at), before, after);
                }
                if old.dirty.has(page) {
                    new.dirty.insert(at.clone());
                }
                new.committed.insert(at.clone());
            }
            Change::Replaced(before, after, content) => {
                let filling = Protection::READ | Protection::WRITE;
                if before != filling {
                    platform.protect(page_range(&at), before, filling);
                }
                // It is committed and writable, so this cannot fail.
                let _ = platform.user_store(address, &*content);
                if after != filling {
                    platform.protect(page_range(&at), filling, after);
                }
            }
            Change::Goes => gone.insert(at.clone()),
        }
        if !kept {
            old.committed.remove(at.clone());
            old.dirty.remove(at);
        }
    }
    let mut rest = super::pages::pages(&from.range);
    while let Some(run) = gone.next_run(rest.clone()) {
        platform.decommit(page_range(&run));
        rest.start = run.end;
    }
    old.copies = Some(copies);
    restore(to, &mut new, wanted);
}

/// The protection of a page that is in place.
fn in_place(state: &State, page: u64, vma: &Vma) -> Protection {
    let hardware = vma.hardware();
    if vma.tracks_dirty() && !state.dirty.has(page) {
        hardware.difference(Protection::WRITE)
    } else {
        hardware
    }
}

/// Commits copied pages where there is none.
fn restore(to: &AddressSpace, state: &mut State, wanted: Copies) {
    let mut wanted = wanted.into_iter().peekable();
    while let Some((first, content)) = wanted.next() {
        let protection =
            state.map.find(first * PAGE_SIZE).map_or(Protection::empty(), |(_, vma)| vma.hardware());
        let mut run = alloc::vec![content];
        loop {
            let next = first + run.len() as u64;
            let same = |&(page, _): &(u64, Box<Page>)| {
                let vma = state.map.find(page * PAGE_SIZE);
                page == next && vma.is_some_and(|(_, vma)| vma.hardware() == protection)
            };
            match wanted.next_if(same) {
                Some((_, content)) => run.push(content),
                None => break,
            }
        }
        let pages: Vec<&Page> = run.iter().map(|page| &**page).collect();
        if to.backend.commit_copy(first, &pages, protection).is_err() {
            // The next access finds nothing there and the process is killed.
            to.backend.log(Level::Error, format_args!("no memory to bring a forked process back"));
            state.is_broken = true;
            state.committed.remove(first..first + run.len() as u64);
        }
    }
}
