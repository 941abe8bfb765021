//! Demand paging.
//!
//! A fault commits the page and some neighbours that are not committed yet: a block of 64 KiB, or all of a range that is no longer,
//! and twice as much each time that the next fault comes where the last one ended.

use super::leftovers::Found;
use super::pages::PageSet;
use super::text::Text;
use super::vma::{Backing, MappedFile, Role, Vma};
use super::window::Window;
use super::{AddressSpace, State, page_down, page_range};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use linux_abi::mm::PAGE_SIZE;
use platform::Protection;
use vfs::Page;

/// Pages that the first fault in a range commits.
const START_WINDOW: u64 = 16;
/// Pages that a sequential fault commits at most, of anonymous memory.
const MAX_WINDOW: u64 = 512;
/// Pages that a sequential fault commits at most, of a file.
const MAX_FILE_WINDOW: u64 = 64;

/// Why a fault cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is mapped there: SIGSEGV with SEGV_MAPERR.
    Unmapped,
    /// The mapping does not allow the access: SIGSEGV with SEGV_ACCERR.
    Protected,
    /// The file ends before, or cannot be read: SIGBUS with BUS_ADRERR.
    NoContent,
    /// Enclave memory is exhausted: SIGKILL.
    OutOfMemory,
}

/// Pages to be filled with content before they become accessible.
struct Fill {
    /// Page numbers.
    pages: Range<u64>,
    /// The page that faulted.
    wanted: u64,
    source: Source,
    /// The pages are committed already: zeros that another program left behind.
    is_on_zeros: bool,
}

/// Where the content comes from.
enum Source {
    /// A file from an offset.
    File { file: Arc<MappedFile>, offset: u64, text: Option<Arc<Text>> },
    /// Stubs from an offset.
    Stubs { text: Arc<Text>, offset: u64 },
}

/// The content of a page.
enum Content {
    /// A page of the file as it is.
    Shared(Arc<Page>),
    /// A changed copy.
    Own(Box<Page>),
}

impl Content {
    fn bytes(&self) -> &Page {
        match self {
            Self::Shared(page) => page,
            Self::Own(page) => page,
        }
    }
}

/// Whether a range with this protection allows an access.
fn allows(vma: &Vma, access: Protection) -> bool {
    vma.hardware().contains(access)
}

/// The pages around `page` that a fault commits together.
fn window(start: u64, vma: &mut Vma, page: u64, committed: &PageSet) -> Range<u64> {
    let (first, end) = (start / PAGE_SIZE, vma.end / PAGE_SIZE);
    let most = if matches!(vma.backing, Backing::Anonymous) { MAX_WINDOW } else { MAX_FILE_WINDOW };
    let is_sequential = vma.next_fault == page * PAGE_SIZE;
    let (low, size) = if end - first <= START_WINDOW {
        (first, START_WINDOW)
    } else if is_sequential {
        (page, (vma.window * 2).clamp(START_WINDOW, most))
    } else {
        (first.max(page - page % START_WINDOW), START_WINDOW)
    };
    let high = low.saturating_add(size).min(end);
    let low = committed.clear_down(page, low);
    let high = committed.next_run(page..high).map_or(high, |run| run.start);
    vma.window = size;
    vma.next_fault = high * PAGE_SIZE;
    low..high
}

impl AddressSpace {
    /// Makes the page of `address` accessible for `access`.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn handle_fault(&self, address: u64, access: Protection) -> Result<(), Fault> {
        loop {
            if let Some((window, end)) = self.window_at(address, access)? {
                return window.handle_fault(address / PAGE_SIZE, end, access);
            }
            let fill = self.resolve_locked(&mut self.state.lock(), address, access)?;
            let Some(fill) = fill else { return Ok(()) };
            let content = fill.read()?;
            // When the range changed meanwhile, or the page is not writable yet, the next round finds out.
            self.install(&fill, &content)?;
        }
    }

    /// The window that is mapped at an address, if one is, and the page behind the mapping.
    fn window_at(&self, address: u64, access: Protection) -> Result<Option<(Arc<Window>, u64)>, Fault> {
        if self.backend.windows.is_empty() {
            return Ok(None);
        }
        let state = self.state.lock();
        let Some((_, vma)) = state.map.find(address) else { return Ok(None) };
        let Some(window) = &vma.common else { return Ok(None) };
        if !allows(vma, access) {
            return Err(Fault::Protected);
        }
        Ok(Some((window.clone(), vma.end / PAGE_SIZE)))
    }

    /// Resolves what can be resolved at once, and says what must be read.
    fn resolve_locked(
        &self,
        state: &mut State,
        address: u64,
        access: Protection,
    ) -> Result<Option<Fill>, Fault> {
        let page = address / PAGE_SIZE;
        if state.is_broken {
            return Err(Fault::OutOfMemory);
        }
        if state.map.find(address).is_none() {
            self.grow_stack(state, address)?;
        }
        let State { map, committed, dirty, held, .. } = state;
        let (start, vma) = map.find_mut(address).ok_or(Fault::Unmapped)?;
        if !allows(vma, access) {
            return Err(Fault::Protected);
        }
        if committed.has(page) {
            if access.contains(Protection::WRITE) && held.has(page) {
                return self.let_go(state, page).map(|()| None);
            }
            if access.contains(Protection::WRITE) && vma.tracks_dirty() && !dirty.has(page) {
                let hardware = vma.hardware();
                self.backend.platform.protect(
                    page_range(&(page..page + 1)),
                    hardware.difference(Protection::WRITE),
                    hardware,
                );
                dirty.insert(page..page + 1);
            }
            return Ok(None);
        }
        let is_watched = self.has_threads.load(Ordering::Relaxed);
        let mut is_on_zeros = false;
        let pages = match self.backend.take_at(page, start, vma, is_watched) {
            Found::Ready(run) => {
                committed.insert(run);
                return Ok(None);
            }
            Found::Zeros(run) => {
                is_on_zeros = true;
                run
            }
            Found::Nothing => self.backend.leftovers.limit(window(start, vma, page, committed), page),
        };
        let from_start = pages.start * PAGE_SIZE - start;
        let source = match &vma.backing {
            Backing::Anonymous => {
                let hardware = vma.hardware();
                return self.commit_zeros(committed, pages, page, hardware).map(|()| None);
            }
            Backing::File { file, offset, text } => {
                Source::File { file: file.clone(), offset: offset + from_start, text: text.clone() }
            }
            Backing::Stubs { text, offset } => {
                Source::Stubs { text: text.clone(), offset: offset + from_start }
            }
        };
        Ok(Some(Fill { pages, wanted: page, source, is_on_zeros }))
    }

    /// Commits anonymous pages: all, or when memory is short the one that is needed.
    fn commit_zeros(
        &self,
        committed: &mut PageSet,
        pages: Range<u64>,
        wanted: u64,
        protection: Protection,
    ) -> Result<(), Fault> {
        let pages = if self.backend.commit(&pages, protection).is_ok() {
            pages
        } else {
            let one = wanted..wanted + 1;
            self.backend.commit(&one, protection).map_err(|_| Fault::OutOfMemory)?;
            one
        };
        self.backend.statistics.committed_pages.fetch_add(pages.end - pages.start, Ordering::Relaxed);
        committed.insert(pages);
        Ok(())
    }

    /// Extends a stack that may grow down to `address`.
    fn grow_stack(&self, state: &mut State, address: u64) -> Result<(), Fault> {
        let page = page_down(address);
        let above = state.map.overlapping(page..self.range.end).next();
        let (start, vma) = above.map(|(start, vma)| (start, vma.clone())).ok_or(Fault::Unmapped)?;
        // Only MAP_GROWSDOWN ranges reach this: the stack of a program is mapped in full.
        if vma.role != Role::Stack || start - page > super::vma::STACK_GUARD || page < self.range.start {
            return Err(Fault::Unmapped);
        }
        let below = page.saturating_sub(super::vma::STACK_GUARD)..page;
        if !state.map.is_free(&below) {
            return Err(Fault::Unmapped);
        }
        state.map.insert(page, Vma { end: start, ..vma });
        Ok(())
    }

    /// Commits pages with their content, if the range is still what it was when they were read.
    fn install(&self, fill: &Fill, content: &[Content]) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let State { map, committed, .. } = &mut *state;
        let address = fill.pages.start * PAGE_SIZE;
        let Some((start, vma)) = map.find(address) else { return Ok(()) };
        let count = content.len() as u64;
        let mut pages = fill.pages.start..fill.pages.start + count;
        let is_same = fill.source.is_of(&vma.backing, address - start);
        if !is_same || pages.end * PAGE_SIZE > vma.end || committed.next_run(pages.clone()).is_some() {
            return Ok(());
        }
        let mut protection = vma.hardware();
        if protection.is_empty() {
            return Ok(());
        }
        if vma.tracks_dirty() {
            protection.remove(Protection::WRITE);
        }
        let bytes: Vec<&Page> = content.iter().map(Content::bytes).collect();
        let is_watched = self.has_threads.load(Ordering::Relaxed);
        if fill.is_on_zeros {
            if !self.backend.take_zeros(&pages) {
                return Ok(());
            }
            for (page, bytes) in (pages.start..).zip(&bytes) {
                // It is committed and writable, so this cannot fail.
                let _ = self.backend.platform.user_store(page * PAGE_SIZE, *bytes);
            }
        } else if self.backend.commit_copy(pages.start, &bytes, protection, is_watched).is_err() {
            pages = fill.wanted..fill.wanted + 1;
            let index = usize::try_from(fill.wanted - fill.pages.start).unwrap_or(0);
            let one = bytes.get(index..=index).unwrap_or_default();
            let committed = self.backend.commit_copy(fill.wanted, one, protection, is_watched);
            committed.map_err(|_| Fault::OutOfMemory)?;
        }
        self.backend.statistics.committed_pages.fetch_add(pages.end - pages.start, Ordering::Relaxed);
        committed.insert(pages);
        Ok(())
    }

    /// A range is about to be stored to: spares it the faults, if one would commit all of it anyway. What fails here fails again
    /// at the store. Nobody else accesses the range meanwhile if the space is loading.
    pub(crate) fn expect_stores(&self, range: &Range<u64>) {
        if range.end - range.start <= START_WINDOW * PAGE_SIZE {
            let _ = self.populate(range, Protection::WRITE);
        }
        let state = self.state.lock();
        if state.is_loading {
            self.conceal_leftovers(&state, range);
        }
    }

    /// Commits what is not committed in `range`, as far as it is accessible.
    ///
    /// # Errors
    /// [`Fault`] of the first page that cannot be.
    pub(crate) fn populate(&self, range: &Range<u64>, access: Protection) -> Result<(), Fault> {
        let pages = super::pages::pages(range);
        let mut at = pages.start;
        loop {
            at = self.state.lock().committed.next_clear(at, pages.end);
            if at >= pages.end {
                return Ok(());
            }
            self.handle_fault(at * PAGE_SIZE, access)?;
            at += 1;
        }
    }
}

impl Source {
    /// Whether a range that starts `from_start` bytes before is backed by this.
    fn is_of(&self, backing: &Backing, from_start: u64) -> bool {
        match (self, backing) {
            (
                Self::File { file, offset, text },
                Backing::File { file: of, offset: of_offset, text: of_text },
            ) => {
                Arc::ptr_eq(file, of)
                    && of_offset + from_start == *offset
                    && text.as_ref().map(Arc::as_ptr) == of_text.as_ref().map(Arc::as_ptr)
            }
            (Self::Stubs { text, offset }, Backing::Stubs { text: of, offset: of_offset }) => {
                Arc::ptr_eq(text, of) && of_offset + from_start == *offset
            }
            _ => false,
        }
    }
}

impl Fill {
    /// Reads the content of as many of the pages as there are, at least of the one that is wanted.
    fn read(&self) -> Result<Vec<Content>, Fault> {
        let count = self.pages.end - self.pages.start;
        let wanted = self.wanted - self.pages.start;
        let mut content = Vec::new();
        match &self.source {
            Source::Stubs { text, offset } => {
                for index in 0..count {
                    let mut page = new_page();
                    text.copy_stubs(offset + index * PAGE_SIZE, &mut *page);
                    content.push(Content::Own(page));
                }
            }
            Source::File { file, offset, text } => {
                let size = file.file.metadata().map_err(|_| Fault::NoContent)?.size;
                for index in 0..count {
                    let at = offset + index * PAGE_SIZE;
                    let page = if at < size { file.file.page(at / PAGE_SIZE).ok() } else { None };
                    let Some(page) = page else {
                        if index <= wanted {
                            return Err(Fault::NoContent);
                        }
                        break;
                    };
                    content.push(match text {
                        Some(text) if text.touches(at) => {
                            let mut own = Box::new(*page);
                            text.apply(at, &mut *own);
                            Content::Own(own)
                        }
                        _ => Content::Shared(page),
                    });
                }
            }
        }
        Ok(content)
    }
}

/// A page of zeros.
fn new_page() -> Box<Page> {
    Box::new([0; vfs::PAGE_SIZE])
}
