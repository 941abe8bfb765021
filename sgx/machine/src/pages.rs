//! ELRANGE and its pages: the EPCM, the permissions of the mapping, and the host protection that results.
//!
//! Per page there is one 16-bit entry in a lazily zero table: the ten bits of [`Page`], then three rights that
//! the host mapping has now ("applied"), then three rights of the enclave's mapping ("paging"), which count
//! where the page's chunk of 2 MiB says that its pages differ.
//!
//! Invariant: applied ⊆ (EPCM ∩ paging). Rights are taken away at once, under the lock; rights that are given
//! reach the host only when an access faults, or when [`Pages::set_paging`] hints that it will. So EACCEPT and
//! EMODPE are one compare-and-swap and never take the lock: an enclave thread can be interrupted in the middle
//! of them, and its exception handler may execute them again.
//!
//! The lock is a leaf: nothing else is taken under it, and no enclave code runs while it is held.

use crate::memory::{self, Mapping, PAGE};
use sgx_arch::SecinfoFlags;
use sgx_model::Elrange;
use sgx_model::epcm::{self, Access, Page};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pages in a chunk.
const CHUNK: usize = 512;
/// Nothing is mapped below this address, whatever `vm.mmap_min_addr` is.
const LOWEST: usize = 0x1_0000;

/// R, W and X in bits 2:0.
type Rights = u16;
const R: Rights = 1;
const W: Rights = 2;
const X: Rights = 4;

/// Chunk state: the paging rights of all its pages, or [`MIXED`].
const MIXED: u8 = 1 << 7;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u16);

impl Entry {
    const APPLIED: u16 = 10;
    const PAGING: u16 = 13;

    const fn page(self) -> Page {
        Page::from_bits(self.0)
    }

    const fn applied(self) -> Rights {
        self.0 >> Self::APPLIED & 7
    }

    const fn own_paging(self) -> Rights {
        self.0 >> Self::PAGING & 7
    }

    const fn with_page(self, page: Page) -> Self {
        Self(self.0 & !Page::MASK | page.bits())
    }

    const fn with_applied(self, rights: Rights) -> Self {
        Self(self.0 & !(7 << Self::APPLIED) | rights << Self::APPLIED)
    }

    const fn with_paging(self, rights: Rights) -> Self {
        Self(self.0 & !(7 << Self::PAGING) | rights << Self::PAGING)
    }
}

fn rights(flags: SecinfoFlags) -> Rights {
    u16::from(flags.permissions().bits().to_le_bytes()[0])
}

/// Protection of the host mapping. X implies readable: where the kernel has execute-only mappings, the machine
/// could not look at the instruction that faulted.
const fn host_protection(rights: Rights) -> libc::c_int {
    let mut protection = libc::PROT_NONE;
    if rights & R != 0 {
        protection |= libc::PROT_READ;
    }
    if rights & W != 0 {
        protection |= libc::PROT_READ | libc::PROT_WRITE;
    }
    if rights & X != 0 {
        protection |= libc::PROT_READ | libc::PROT_EXEC;
    }
    protection
}

/// The lock on host protections.
pub(crate) struct Protections<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>);

/// How an access that the host refused goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// The host mapping allows it now.
    Retry,
    /// The page tables refuse it: the enclave's mapping has no such right.
    Paging,
    /// The EPCM refuses it. A page that was missing is PENDING now.
    Epcm,
}

/// The pages of an enclave.
pub(crate) struct Pages {
    elrange: Elrange,
    /// ELRANGE without what lies below [`LOWEST`].
    mapping: Mapping,
    table: Mapping,
    /// Paging rights by chunk.
    paging: Box<[AtomicU8]>,
    /// 1 for chunks that ever had a page.
    populated: Box<[AtomicU8]>,
    /// This process's memory as a file, through which pages are written that no thread may access; `None`: the host has none.
    memory: Option<File>,
    lock: Mutex<()>,
}

impl Pages {
    /// Reserves ELRANGE, without access.
    ///
    /// # Errors
    /// EBUSY something is mapped there.
    pub(crate) fn new(elrange: Elrange) -> io::Result<Self> {
        let (base, size) = match (usize::try_from(elrange.base), usize::try_from(elrange.size)) {
            (Ok(base), Ok(size)) => (base, size),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let start = base.max(LOWEST);
        let mapping =
            Mapping::at(start, base + size - start, libc::PROT_NONE).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::EEXIST) => io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        format!("ELRANGE {base:#x}..{:#x} is not free in this process", base + size),
                    ),
                    _ => error,
                }
            })?;
        // A huge page takes one fault instead of 512, and comes into being only where all its pages have the same
        // protection, so only where the enclave accepted all of them.
        memory::prefer_huge(mapping.address(), mapping.len());
        let pages = size / PAGE;
        let table = Mapping::new((pages * 2).next_multiple_of(PAGE), libc::PROT_READ | libc::PROT_WRITE)?;
        let chunks = pages.div_ceil(CHUNK);
        let zeros = || (0..chunks).map(|_| AtomicU8::new(0)).collect();
        let memory = File::options().write(true).open("/proc/self/mem").ok();
        Ok(Self {
            elrange,
            mapping,
            table,
            paging: zeros(),
            populated: zeros(),
            memory,
            lock: Mutex::new(()),
        })
    }

    /// ELRANGE.
    pub(crate) const fn elrange(&self) -> Elrange {
        self.elrange
    }

    /// Takes the lock on host protections.
    pub(crate) fn lock(&self) -> Protections<'_> {
        Protections(self.lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Index of the page of an address in ELRANGE.
    pub(crate) fn index(&self, address: u64) -> Option<usize> {
        if !self.elrange.contains(address) {
            return None;
        }
        usize::try_from(address.wrapping_sub(self.elrange.base) / PAGE as u64).ok()
    }

    /// Indices of a range of whole pages that is mapped.
    ///
    /// # Errors
    /// EINVAL unaligned, empty, or not wholly inside the mapped part of ELRANGE.
    pub(crate) fn range(&self, offset: u64, length: u64) -> io::Result<Range<usize>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let end = offset.checked_add(length).filter(|end| *end <= self.elrange.size).ok_or_else(invalid)?;
        let page = PAGE as u64;
        if !offset.is_multiple_of(page) || !length.is_multiple_of(page) || length == 0 {
            return Err(invalid());
        }
        let first = usize::try_from(offset / page).map_err(|_| invalid())?;
        let last = usize::try_from(end / page).map_err(|_| invalid())?;
        if self.address(first) < self.mapping.address() { Err(invalid()) } else { Ok(first..last) }
    }

    /// Address of a page in the host's address space, which is its address in the enclave.
    pub(crate) fn address(&self, index: usize) -> usize {
        // ELRANGE fits below 2^47 and the host is 64-bit, so neither step overflows.
        self.mapping.address() + self.mapping.len() - (self.page_count() - index) * PAGE
    }

    fn page_count(&self) -> usize {
        self.table().len().min(usize::try_from(self.elrange.size / PAGE as u64).unwrap_or(0))
    }

    fn table(&self) -> &[AtomicU16] {
        // SAFETY: `new` mapped the table readable and writable; only this module uses it.
        unsafe { self.table.table() }
    }

    fn entry(&self, index: usize) -> Entry {
        Entry(self.table().get(index).map_or(0, |entry| entry.load(Ordering::Acquire)))
    }

    /// The EPCM entry of a page.
    pub(crate) fn page(&self, index: usize) -> Page {
        self.entry(index).page()
    }

    fn change(&self, index: usize, change: impl Fn(Entry) -> Entry) {
        if let Some(entry) = self.table().get(index) {
            let _ =
                entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| Some(change(Entry(bits)).0));
        }
    }

    /// Changes the EPCM entry of a page by a rule of the model, atomically. A rule must not take rights away:
    /// that is for [`Pages::update_range`].
    ///
    /// # Errors
    /// What the rule answers.
    pub(crate) fn update<E>(&self, index: usize, rule: impl Fn(Page) -> Result<Page, E>) -> Result<Page, E> {
        let Some(entry) = self.table().get(index) else { return rule(Page::INVALID) };
        let mut bits = entry.load(Ordering::Acquire);
        loop {
            let new = rule(Entry(bits).page())?;
            if bits & Page::MASK == 0 {
                self.mark_populated(index);
            }
            let next = Entry(bits).with_page(new).0;
            match entry.compare_exchange_weak(bits, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(new),
                Err(now) => bits = now,
            }
        }
    }

    fn mark_populated(&self, index: usize) {
        if let Some(chunk) = self.populated.get(index / CHUNK)
            && chunk.load(Ordering::Relaxed) == 0
        {
            chunk.store(1, Ordering::Release);
        }
    }

    /// The rights of the enclave's mapping at a page.
    fn paging(&self, index: usize, entry: Entry) -> Rights {
        match self.paging.get(index / CHUNK).map_or(0, |chunk| chunk.load(Ordering::Acquire)) {
            MIXED => entry.own_paging(),
            uniform => u16::from(uniform),
        }
    }

    fn wanted(&self, index: usize, entry: Entry) -> Rights {
        rights(entry.page().accessible()) & self.paging(index, entry)
    }

    /// Whether the driver would EAUG the page when it is touched: it is missing, and the mapping is for
    /// reading and writing. Below the lowest mapped address there is never a page.
    pub(crate) fn can_augment(&self, index: usize) -> bool {
        let entry = self.entry(index);
        !entry.page().is_valid()
            && self.paging(index, entry) & (R | W) == R | W
            && index < self.page_count()
            && self.address(index) >= self.mapping.address()
    }

    /// EAUG on demand, as the driver does when a missing page is touched. Whether the page is there now.
    fn augment(&self, index: usize) -> bool {
        self.can_augment(index) && self.update(index, |page| epcm::eaug(0, page)).is_ok()
    }

    /// Whether the host can read a page without a fault.
    pub(crate) fn is_readable(&self, index: usize) -> bool {
        self.entry(index).applied() & (R | X) != 0
    }

    /// Whether the host can read and write a page without a fault.
    pub(crate) fn is_writable(&self, index: usize) -> bool {
        self.entry(index).applied() & W != 0
    }

    /// Decides on an access by enclave code that the host refused, and opens the host mapping if the EPCM and
    /// the mapping allow it: the page and its neighbours in the same state, as they are likely next.
    pub(crate) fn touch(&self, index: usize, access: Access, initialized: bool) -> Touch {
        let guard = self.lock();
        let mut entry = self.entry(index);
        if !entry.page().is_valid() && initialized && self.augment(index) {
            entry = self.entry(index);
        }
        let need = rights(access.right());
        if self.paging(index, entry) & need == 0 {
            return Touch::Paging;
        }
        let want = self.wanted(index, entry);
        if want & need == 0 {
            return Touch::Epcm;
        }
        if entry.applied() & need != 0 {
            return Touch::Retry;
        }
        let same = |other: usize| {
            let neighbour = self.entry(other);
            self.wanted(other, neighbour) == want && neighbour.applied() != want
        };
        // Whole chunks, so that huge pages fit: the one of the page, and the next, as most accesses ascend.
        let lowest = index / CHUNK * CHUNK;
        let highest = (lowest + 2 * CHUNK).min(self.page_count());
        let mut first = index;
        while first > lowest && same(first - 1) {
            first -= 1;
        }
        let mut end = index + 1;
        while end < highest && same(end) {
            end += 1;
        }
        match self.apply(&guard, first..end, want) {
            Ok(()) => Touch::Retry,
            Err(_) => Touch::Paging,
        }
    }

    fn apply(&self, _: &Protections<'_>, range: Range<usize>, rights: Rights) -> io::Result<()> {
        memory::protect(self.address(range.start), range.len() * PAGE, host_protection(rights))?;
        for index in range {
            self.change(index, |entry| entry.with_applied(rights));
        }
        Ok(())
    }

    /// Makes the host protection of a range what EPCM and mapping say, in as few steps as possible.
    fn settle(&self, guard: &Protections<'_>, range: Range<usize>) -> io::Result<()> {
        let mut run = range.start..range.start;
        let mut run_rights = 0;
        let mut stale = false;
        let mut index = range.start;
        while index < range.end {
            let chunk_end = (index / CHUNK + 1) * CHUNK;
            if self.populated.get(index / CHUNK).is_none_or(|chunk| chunk.load(Ordering::Acquire) == 0) {
                if stale {
                    self.apply(guard, run.start..index, run_rights)?;
                }
                stale = false;
                index = chunk_end;
                run = index..index;
                run_rights = 0;
                continue;
            }
            for page in index..chunk_end.min(range.end) {
                let entry = self.entry(page);
                let want = self.wanted(page, entry);
                if want != run_rights {
                    if stale {
                        self.apply(guard, run.start..page, run_rights)?;
                    }
                    stale = false;
                    run = page..page;
                    run_rights = want;
                }
                stale |= entry.applied() != want;
            }
            index = chunk_end.min(range.end);
        }
        if stale { self.apply(guard, run.start..range.end, run_rights) } else { Ok(()) }
    }

    /// Changes the EPCM entries of a range by a rule that may take rights away, and the host protection at
    /// once. Either all pages change or none.
    ///
    /// # Errors
    /// What the rule answers for the first page that it refuses.
    pub(crate) fn update_range<E: From<io::Error>>(
        &self,
        range: Range<usize>,
        rule: impl Fn(usize, Page) -> Result<Page, E>,
    ) -> Result<(), E> {
        let guard = self.lock();
        for index in range.clone() {
            rule(index, self.page(index))?;
        }
        for index in range.clone() {
            self.update(index, |page| rule(index, page))?;
        }
        Ok(self.settle(&guard, range)?)
    }

    /// `mprotect(2)` of the enclave's mapping.
    ///
    /// # Errors
    /// ENOMEM too many mappings.
    pub(crate) fn set_paging(&self, range: Range<usize>, permissions: SecinfoFlags) -> io::Result<()> {
        let guard = self.lock();
        let new = rights(permissions);
        let mut index = range.start;
        while index < range.end {
            let chunk_start = index / CHUNK * CHUNK;
            let chunk_end = chunk_start + CHUNK;
            let end = chunk_end.min(range.end);
            let Some(chunk) = self.paging.get(index / CHUNK) else { break };
            let old = chunk.load(Ordering::Acquire);
            if index == chunk_start && end == chunk_end {
                chunk.store(new.to_le_bytes()[0], Ordering::Release);
            } else if u16::from(old) != new {
                if old != MIXED {
                    for page in chunk_start..chunk_end {
                        self.change(page, |entry| entry.with_paging(u16::from(old)));
                    }
                }
                for page in index..end {
                    self.change(page, |entry| entry.with_paging(new));
                }
                chunk.store(MIXED, Ordering::Release);
            }
            index = end;
        }
        self.settle(&guard, range)
    }

    /// EADD of pages: `fill`, if there is content other than zeros, writes it, and the pages get the state that
    /// `rule` says.
    ///
    /// # Errors
    /// What the rule answers, before anything is changed.
    pub(crate) fn add<E: From<io::Error>>(
        &self,
        range: Range<usize>,
        rule: impl Fn(usize, Page) -> Result<Page, E>,
        fill: Option<impl FnOnce(*mut u8)>,
    ) -> Result<(), E> {
        let guard = self.lock();
        for index in range.clone() {
            rule(index, self.page(index))?;
        }
        if let Some(fill) = fill {
            self.apply(&guard, range.clone(), R | W)?;
            fill(std::ptr::with_exposed_provenance_mut(self.address(range.start)));
        }
        for index in range.clone() {
            self.update(index, |page| rule(index, page))?;
        }
        Ok(self.settle(&guard, range)?)
    }

    /// Lets the machine write to pages that code of the enclave may not: for patching, and for reading a TCS.
    ///
    /// # Errors
    /// As `mprotect(2)`.
    pub(crate) fn with_access<T>(
        &self,
        range: Range<usize>,
        work: impl FnOnce(*mut u8) -> T,
    ) -> io::Result<T> {
        let guard = self.lock();
        self.apply(&guard, range.clone(), R | W)?;
        let result = work(std::ptr::with_exposed_provenance_mut(self.address(range.start)));
        self.settle(&guard, range)?;
        Ok(result)
    }

    /// Copies a page over one that no thread can access, which stays so. False: the host does not let it, or the source is
    /// not readable.
    pub(crate) fn fill_hidden(&self, target: usize, source: usize) -> bool {
        let Some(memory) = &self.memory else { return false };
        // Rights are taken away only under the lock.
        let _guard = self.lock();
        if !self.is_readable(source) || self.entry(target).applied() != 0 {
            return false;
        }
        let from = std::ptr::with_exposed_provenance(self.address(source));
        let Ok(to) = libc::off_t::try_from(self.address(target)) else { return false };
        // SAFETY: the source is a page that is mapped readable; the target is a page of ELRANGE, to which Rust has no references.
        let written = unsafe { libc::pwrite(memory.as_raw_fd(), from, PAGE, to) };
        usize::try_from(written) == Ok(PAGE)
    }

    /// Removes the content of pages.
    ///
    /// # Errors
    /// As `madvise(2)`.
    pub(crate) fn discard(&self, range: Range<usize>) -> io::Result<()> {
        memory::discard(self.address(range.start), range.len() * PAGE)
    }

    /// Ranges of executable pages, for the patcher.
    pub(crate) fn executable_runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (chunk, populated) in self.populated.iter().enumerate() {
            if populated.load(Ordering::Acquire) == 0 {
                continue;
            }
            for index in chunk * CHUNK..(chunk + 1) * CHUNK {
                if self.page(index).accessible().contains(SecinfoFlags::X) {
                    match runs.last_mut() {
                        Some(last) if last.end == index => last.end = index + 1,
                        _ => runs.push(index..index + 1),
                    }
                }
            }
        }
        runs
    }
}
