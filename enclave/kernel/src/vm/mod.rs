//! The memory of a process.
//!
//! An [`AddressSpace`] is a map of ranges ([`vma`]), the set of pages that are committed, and the set of pages of
//! shared file mappings that were stored to. Mapping costs nothing but an entry; a page is committed when it is
//! first touched ([`fault`]), together with its neighbours.
//!
//! Invariants: a committed page lies in a range, and the processor's protection of it is what
//! [`vma::Vma::hardware`] says, but that a page of a shared file mapping is not writable until it is dirty, nor is one that
//! other members of the group rely on ([`exchange`]).
//!
//! Lock order: [`AddressSpace::state`] is taken alone. Pages are committed and protected under it, since the
//! record and the pages must agree; user memory is accessed and files are read without it.

mod arena;
mod change;
mod exchange;
mod fault;
mod leftovers;
mod loading;
mod map;
mod pages;
mod residency;
mod segment;
#[cfg(test)]
mod tests;
mod text;
mod vma;
mod window;

pub(crate) use fault::Fault;
pub(crate) use map::{MapRequest, Place};
pub(crate) use segment::Attached;
pub(crate) use vma::{Backing, MappedFile, Role, Vma};
pub(crate) use window::Windows;

use crate::process::Users;
use crate::stats::Statistics;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arena::{Arena, Claims};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use exchange::Copies;
use hashbrown::HashMap;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::turns::Seat;
use kbase::{Errno, Error, Result, UserAddr, UserSpace};
use leftovers::Leftovers;
use linux_abi::mm::PAGE_SIZE;
use pages::PageSet;
use platform::{PageRange, Platform, Protection, UserFault};
use residency::Group;
use text::Sites;
use vma::VmaMap;

/// What all address spaces share.
pub(crate) struct Backend {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) statistics: Arc<Statistics>,
    /// Rewriting sites by identity of the file and its range.
    known_sites: Mutex<HashMap<SitesKey, Arc<Sites>>>,
    arena: Arena,
    /// The spaces by number, to find who is at some addresses.
    spaces: Mutex<BTreeMap<u64, Weak<AddressSpace>>>,
    next_space: AtomicU64,
    /// Woken when addresses become free.
    freed: WaiterQueue,
    leftovers: Leftovers,
    /// Files that are mapped shared.
    pub(crate) windows: Arc<Windows>,
    next_share: AtomicU64,
    /// Most bytes of the kernel heap that a fork may take for copies.
    copies_limit: u64,
    /// Copies that there are.
    copied: Arc<AtomicU64>,
}

/// Device, inode, size, change time, start and end of the range.
type SitesKey = (u64, u64, u64, i64, u64, u64);

impl Backend {
    pub(crate) fn new(
        platform: Arc<dyn Platform>,
        statistics: Arc<Statistics>,
        windows: Arc<Windows>,
        copies_limit: u64,
    ) -> Self {
        let arena = Arena::new(platform.user_range());
        Self {
            platform,
            statistics,
            known_sites: Mutex::new(HashMap::new()),
            arena,
            spaces: Mutex::default(),
            next_space: AtomicU64::new(1),
            freed: WaiterQueue::new(),
            leftovers: Leftovers::default(),
            windows,
            next_share: AtomicU64::new(1),
            copies_limit,
            copied: Arc::default(),
        }
    }
}

impl Backend {
    /// An empty space.
    pub(crate) fn new_space(self: &Arc<Self>) -> Arc<AddressSpace> {
        self.add_space(|_| {})
    }

    /// An empty space that `arrange` completes before others can find it.
    fn add_space(self: &Arc<Self>, arrange: impl FnOnce(&mut AddressSpace)) -> Arc<AddressSpace> {
        let id = self.next_space.fetch_add(1, Ordering::Relaxed);
        let mut space = AddressSpace::new(self.clone(), id);
        arrange(&mut space);
        let space = Arc::new(space);
        self.spaces.lock().insert(id, Arc::downgrade(&space));
        space
    }

    /// An empty space for a program that must be at the `wanted` addresses. If others are there, it takes turns with them.
    /// `None`: they are just going, and [`Backend::freed`] tells when they are gone.
    pub(crate) fn new_space_at(self: &Arc<Self>, wanted: &Range<u64>) -> Option<Arc<AddressSpace>> {
        let space = self.new_space();
        if space.claim_addresses(wanted) {
            return Some(space);
        }
        let owner = self.arena.owner_of(wanted)?;
        // Who gets the last reference to one ends it, which must not happen under the lock.
        let spaces: Vec<_> = self.spaces.lock().values().filter_map(Weak::upgrade).collect();
        spaces.iter().find(|space| space.owner() == owner).map(AddressSpace::sibling)
    }

    /// What is woken when addresses become free.
    pub(crate) const fn freed(&self) -> &WaiterQueue {
        &self.freed
    }

    /// Gives back the addresses of a space or of a group.
    fn free_addresses(&self, owner: u64) {
        self.arena.release(owner);
        self.freed.wake_all();
    }

    /// A number that tells a shared mapping apart.
    pub(crate) fn next_share(&self) -> u64 {
        self.next_share.fetch_add(1, Ordering::Relaxed)
    }
}

/// The memory of a process.
pub(crate) struct AddressSpace {
    backend: Arc<Backend>,
    /// Its number, and who is inside: threads that run in it or may touch it.
    seat: Seat,
    /// Addresses that may be mapped.
    range: Range<u64>,
    /// The spaces at the same addresses, once it was forked.
    group: Mutex<Option<Arc<Group>>>,
    /// Whether its content is of no use any more.
    is_over: AtomicBool,
    /// The processes that have it.
    users: Users,
    /// Whether it ever had more than one thread, so that another may access a page while it is filled.
    has_threads: AtomicBool,
    /// Whether an interpreter loads.
    is_interpreted: AtomicBool,
    state: Mutex<State>,
}

/// What changes in an address space.
struct State {
    map: VmaMap,
    /// The addresses that are its own.
    claims: Claims,
    committed: PageSet,
    dirty: PageSet,
    /// Where the heap begins.
    heap_start: u64,
    /// Where it ends: what `brk(0)` answers.
    heap_end: u64,
    /// Bytes that the heap may have (RLIMIT_DATA).
    heap_limit: u64,
    /// Most pages committed at once.
    peak: u64,
    /// Pages that may not be stored to since other members of the group rely on them.
    held: PageSet,
    /// While it is not resident: the content of its committed pages that is not in place.
    copies: Option<Copies>,
    /// How often it became resident.
    exchanges: u32,
    /// Pages were lost: it may not run on.
    is_broken: bool,
    /// No program runs in it yet, or none any more; the interpreter of one does not count while it loads.
    is_loading: bool,
    /// Where the interpreter is that loads; empty: none does.
    interpreter: Range<u64>,
    /// A mapping that the interpreter made just now, parts of which it is about to replace; empty: none.
    unsettled: Range<u64>,
}

/// Rounds up to whole pages.
fn page_up(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE_SIZE)
}

/// The page of an address.
const fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// A range for the platform, of page numbers.
fn page_range(pages: &Range<u64>) -> PageRange {
    PageRange::of_pages(pages.start, pages.end)
}

impl AddressSpace {
    /// An empty address space.
    fn new(backend: Arc<Backend>, id: u64) -> Self {
        let range = backend.platform.user_range();
        Self {
            backend,
            seat: Seat::new(id),
            range,
            group: Mutex::new(None),
            is_over: AtomicBool::new(false),
            users: Users::one(),
            has_threads: AtomicBool::new(false),
            is_interpreted: AtomicBool::new(false),
            state: Mutex::new(State {
                map: VmaMap::default(),
                claims: Claims::default(),
                committed: PageSet::default(),
                dirty: PageSet::default(),
                heap_start: 0,
                heap_end: 0,
                heap_limit: u64::MAX,
                peak: 0,
                held: PageSet::default(),
                copies: None,
                exchanges: 0,
                is_broken: false,
                is_loading: true,
                interpreter: 0..0,
                unsettled: 0..0,
            }),
        }
    }

    /// A second thread comes, whose accesses do not wait for anybody.
    pub(crate) fn expect_threads(&self) {
        self.has_threads.store(true, Ordering::SeqCst);
    }

    /// The processes that have it.
    pub(crate) const fn users(&self) -> &Users {
        &self.users
    }

    /// Addresses that may be mapped.
    pub(crate) const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Its program is over: what must reach files does, and its pages are left behind, for the other spaces at the same
    /// addresses or for the next program.
    pub(crate) fn end(&self) {
        self.write_back(&self.range);
        self.leave_windows();
        if self.is_grouped() {
            self.set_over();
        } else {
            self.leave_behind();
        }
    }

    /// Pages committed now, and the most that ever were.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.committed.len(), state.peak.max(state.committed.len()))
    }

    /// The ranges that are mapped, for `/proc`.
    pub(crate) fn mappings(&self) -> Vec<(u64, Vma)> {
        self.state.lock().map.iter().map(|(start, vma)| (start, vma.clone())).collect()
    }

    /// Takes what is in `range` out of the map and gives its pages back.
    fn unmap_locked(&self, state: &mut State, range: &Range<u64>) -> Vec<(u64, Vma)> {
        self.give_copies(state, &pages::pages(range));
        let gone = state.map.carve(range);
        for (start, vma) in &gone {
            self.leave_unmapped(state, *start, vma);
        }
        self.drop_stubs(state, &gone);
        gone
    }

    /// Gives the pages in `range` back.
    fn decommit_locked(&self, state: &mut State, range: &Range<u64>) {
        let pages = pages::pages(range);
        state.peak = state.peak.max(state.committed.len());
        self.give_copies(state, &pages);
        state.held.remove(pages.clone());
        let mut rest = pages.clone();
        while let Some(run) = state.committed.next_run(rest.clone()) {
            self.backend.platform.decommit(page_range(&run));
            rest.start = run.end;
        }
        state.committed.remove(pages.clone());
        state.dirty.remove(pages);
    }

    /// Unmaps the stubs of texts that no mapping executes any more.
    fn drop_stubs(&self, state: &mut State, gone: &[(u64, Vma)]) {
        for (_, vma) in gone {
            let Backing::File { text: Some(text), .. } = &vma.backing else { continue };
            let uses = |backing: &Backing| matches!(backing, Backing::File { text: Some(used), .. } if Arc::ptr_eq(used, text));
            if state.map.iter().any(|(_, vma)| uses(&vma.backing)) {
                continue;
            }
            let stubs: Vec<Range<u64>> = state
                .map
                .iter()
                .filter(|(_, vma)| matches!(&vma.backing, Backing::Stubs { text: of, .. } if Arc::ptr_eq(of, text)))
                .map(|(start, vma)| start..vma.end)
                .collect();
            for range in stubs {
                self.give_copies(state, &pages::pages(&range));
                state.map.carve(&range);
                self.decommit_locked(state, &range);
            }
        }
    }

    /// What an address in a stub stands for in the program; other addresses stand for themselves.
    pub(crate) fn original_pc(&self, rip: u64) -> u64 {
        let state = self.state.lock();
        match state.map.find(rip).map(|(_, vma)| &vma.backing) {
            Some(Backing::Stubs { text, .. }) => text.original(rip).unwrap_or(rip),
            _ => rip,
        }
    }

    /// Where execution goes on that shall go on at `rip`.
    pub(crate) fn resume_address(&self, rip: u64) -> u64 {
        let state = self.state.lock();
        match state.map.find(rip).map(|(_, vma)| &vma.backing) {
            Some(Backing::File { text: Some(text), .. }) => text.relocated(rip).unwrap_or(rip),
            _ => rip,
        }
    }

    /// Repeats an access, resolving its faults, until it succeeds or a fault cannot be resolved.
    fn with_faults<T>(
        &self,
        access: Protection,
        mut attempt: impl FnMut() -> core::result::Result<T, UserFault>,
    ) -> Result<T> {
        let mut last = None;
        loop {
            let fault = match attempt() {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            // A page that was given must be accessible: the same fault twice and no progress means that it is not
            // memory at all (or another thread unmaps it over and over).
            let here = (fault.address, fault.done);
            if last == Some(here) && fault.done == 0 {
                return Err(Error::new(Errno::EFAULT, "the memory cannot be accessed"));
            }
            last = Some(here);
            self.handle_fault(fault.address, access).map_err(|_| Error::new(Errno::EFAULT, "bad address"))?;
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.backend.spaces.lock().remove(&self.id());
        if !self.leave_group() {
            self.leave_behind();
            self.backend.free_addresses(self.id());
        }
    }
}

impl UserSpace for AddressSpace {
    fn load(&self, from: UserAddr, into: &mut [u8]) -> Result<()> {
        let mut done = 0usize;
        self.with_faults(Protection::READ, || {
            let rest = into.get_mut(done..).unwrap_or_default();
            self.backend.platform.user_load(from.0.wrapping_add(done as u64), rest).inspect_err(|fault| {
                done = done.saturating_add(fault.done);
            })
        })
    }

    fn store(&self, into: UserAddr, from: &[u8]) -> Result<()> {
        let mut done = 0usize;
        self.with_faults(Protection::WRITE, || {
            let rest = from.get(done..).unwrap_or_default();
            self.backend.platform.user_store(into.0.wrapping_add(done as u64), rest).inspect_err(|fault| {
                done = done.saturating_add(fault.done);
            })
        })
    }

    fn zero(&self, into: UserAddr, len: u64) -> Result<()> {
        let len = usize::try_from(len).map_err(|_| Error::new(Errno::EFAULT, "longer than memory"))?;
        let mut done = 0usize;
        self.with_faults(Protection::WRITE, || {
            let rest = len.saturating_sub(done);
            self.backend.platform.user_fill(into.0.wrapping_add(done as u64), rest, 0).inspect_err(|fault| {
                done = done.saturating_add(fault.done);
            })
        })
    }

    fn load_u32(&self, from: UserAddr) -> Result<u32> {
        if !from.0.is_multiple_of(4) {
            return Err(Error::new(Errno::EINVAL, "the word is not aligned"));
        }
        self.with_faults(Protection::READ, || self.backend.platform.user_load_u32(from.0))
    }

    fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32> {
        if !at.0.is_multiple_of(4) {
            return Err(Error::new(Errno::EINVAL, "the word is not aligned"));
        }
        self.with_faults(Protection::WRITE, || {
            self.backend.platform.user_compare_exchange_u32(at.0, current, new)
        })
    }
}
