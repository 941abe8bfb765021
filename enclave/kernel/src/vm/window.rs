//! Files that processes share: every mapping of a file with MAP_SHARED is at one place for all of them.
//!
//! A page of an enclave has one address, so two processes see the same bytes only where both have them at the same address.
//! Where a program leaves the place of a shared mapping to the system it gets a part of the file's [`Window`]: addresses that no
//! space owns, at which all spaces map the file. The pages belong to the window and not to any space: they are in place whichever
//! member of a group is resident, an exchange does not look at them, and the last mapping that goes writes them to the file.
//! `read(2)` and `write(2)` of the file agree with what is mapped ([`Windows::before_access`], [`Windows::after_change`]).
//!
//! Protections are the processor's, and so common: a page allows what one of those who map it allows. Only where one space alone
//! maps the window are protections taken away. A space that maps the same part twice gets the same address twice, and its
//! map counts how often.
//!
//! Invariants: a committed page of a window is readable; one that is writable may differ from the file.
//!
//! Lock order: the state of an address space, then that of a window, then the list of windows, then the arena. Files are read and
//! written without any of them. A window is not dropped under a lock.

mod space;
#[cfg(test)]
mod tests;

use super::change::write_within;
use super::fault::Fault;
use super::pages::{PageSet, pages};
use super::vma::MappedFile;
use super::{Backend, page_range, page_up};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use kbase::sync::Mutex;
use linux_abi::mm::PAGE_SIZE;
use platform::{Level, Protection};
use vfs::{Page, Regular};

/// Pages that one fault reads, or one step writes back.
const STEP: u64 = 16;
/// Bytes of the smallest window.
const LEAST: u64 = 1 << 20;
/// Windows of files up to this size have room for twice as much, and begin where the file begins.
const SMALL: u64 = 256 << 20;
/// What the arena knows the addresses of windows by.
const ZONE: u64 = u64::MAX;

/// A file as windows know it: device and inode.
type FileId = (u64, u64);

fn id_of(file: &dyn Regular) -> Option<FileId> {
    file.metadata().ok().map(|metadata| (metadata.dev, metadata.ino))
}

/// All windows.
#[derive(Default)]
pub(crate) struct Windows {
    /// How many there are, so that who has none pays for none.
    len: AtomicUsize,
    state: Mutex<List>,
}

#[derive(Default)]
struct List {
    windows: Vec<Entry>,
    /// The addresses that windows have: start and end.
    taken: BTreeMap<u64, u64>,
    /// Addresses that windows may have.
    zones: Vec<Range<u64>>,
}

/// A window that lives, or writes its last pages back.
struct Entry {
    file: FileId,
    /// Offsets in the file that it covers.
    covers: Range<u64>,
    start: u64,
    window: Weak<Window>,
}

/// A part of a file, at the same addresses for all who map it.
pub(crate) struct Window {
    backend: Arc<Backend>,
    /// The file as the last one mapped it who may write.
    file: Mutex<Arc<MappedFile>>,
    covers: Range<u64>,
    start: u64,
    share: u64,
    state: Mutex<WindowState>,
}

#[derive(Default)]
struct WindowState {
    committed: PageSet,
    /// Those of them that may be stored to, and may differ from the file.
    writable: PageSet,
    executable: PageSet,
}

impl WindowState {
    fn protection(&self, page: u64) -> Protection {
        let mut protection = Protection::READ;
        protection.set(Protection::WRITE, self.writable.has(page));
        protection.set(Protection::EXEC, self.executable.has(page));
        protection
    }
}

/// What became of looking for a window.
enum Search {
    Found(Arc<Window>),
    /// Its last mapping has gone, and it writes its pages back.
    Closing,
    /// The file has a window that does not cover what is wanted.
    Elsewhere,
    Nothing,
}

impl Windows {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    fn search(&self, id: FileId, wanted: &Range<u64>) -> Search {
        let list = self.state.lock();
        let mut result = Search::Nothing;
        for entry in list.windows.iter().filter(|entry| entry.file == id) {
            let covers = entry.covers.start <= wanted.start && wanted.end <= entry.covers.end;
            if covers {
                return entry.window.upgrade().map_or(Search::Closing, Search::Found);
            }
            if entry.covers.start < wanted.end && wanted.start < entry.covers.end {
                result = Search::Elsewhere;
            }
        }
        result
    }

    /// The windows of a file.
    fn of(&self, file: &dyn Regular) -> Vec<Arc<Window>> {
        if self.is_empty() {
            return Vec::new();
        }
        let Some(id) = id_of(file) else { return Vec::new() };
        let list = self.state.lock();
        list.windows
            .iter()
            .filter(|entry| entry.file == id)
            .filter_map(|entry| entry.window.upgrade())
            .collect()
    }

    /// To be called before a part of a file is read or changed by other means: what was stored to it where it is mapped reaches
    /// the file. Without windows it is one load.
    #[inline]
    pub(crate) fn before_access(&self, file: &dyn Regular, range: &Range<u64>) {
        if !self.is_empty() {
            self.of(file).iter().for_each(|window| window.write_back_offsets(range));
        }
    }

    /// To be called after a part of a file was changed by other means: where it is mapped the change is seen.
    #[inline]
    pub(crate) fn after_change(&self, file: &dyn Regular, range: &Range<u64>) {
        if !self.is_empty() {
            self.of(file).iter().for_each(|window| window.refresh(file, range));
        }
    }
}

/// How long a window for a part of a file is, and the offset at which it begins.
fn extent(wanted: &Range<u64>) -> Option<Range<u64>> {
    if wanted.end <= SMALL {
        let len = wanted.end.checked_mul(2)?.next_power_of_two().max(LEAST);
        return Some(0..len);
    }
    let start = if wanted.end - wanted.start <= SMALL { wanted.start } else { 0 };
    Some(start..wanted.end)
}

impl List {
    /// The lowest free addresses of a zone.
    fn find(&self, len: u64) -> Option<u64> {
        self.zones.iter().find_map(|zone| {
            let mut low = zone.start;
            for (&start, &end) in self.taken.range(zone.clone()) {
                if start - low >= len {
                    return Some(low);
                }
                low = end;
            }
            (zone.end - low >= len).then_some(low)
        })
    }
}

impl Backend {
    /// The window of a part of a file, which is made if there is none. `None`: the file cannot have one.
    fn window(
        self: &Arc<Self>,
        file: &Arc<MappedFile>,
        wanted: &Range<u64>,
        share: Option<u64>,
    ) -> Option<Arc<Window>> {
        let id = id_of(&*file.file)?;
        loop {
            match self.windows.search(id, wanted) {
                Search::Found(window) => return Some(window),
                Search::Closing => self.platform.yield_now(),
                Search::Elsewhere => {
                    let text = "a longer part of a file is mapped shared than by others: they do not see each other's stores";
                    self.log(Level::Warn, format_args!("{text}"));
                    return None;
                }
                Search::Nothing => {
                    if let Some(window) = self.make_window(id, file, wanted, share)? {
                        return Some(window);
                    }
                }
            }
        }
    }

    /// Makes a window, unless there is one now. `None`: there is no room.
    #[expect(clippy::option_option, reason = "no room, or somebody else was faster")]
    fn make_window(
        self: &Arc<Self>,
        id: FileId,
        file: &Arc<MappedFile>,
        wanted: &Range<u64>,
        share: Option<u64>,
    ) -> Option<Option<Arc<Window>>> {
        let covers = extent(wanted)?;
        let len = covers.end - covers.start;
        let mut list = self.windows.state.lock();
        let overlaps = |entry: &Entry| {
            entry.file == id && entry.covers.start < covers.end && covers.start < entry.covers.end
        };
        if list.windows.iter().any(overlaps) {
            return Some(None);
        }
        if list.find(len).is_none() {
            let zone = self.arena.claim_any(ZONE, len, &self.platform.user_range())?;
            list.zones.push(zone);
        }
        let start = list.find(len)?;
        let window = Arc::new(Window {
            backend: self.clone(),
            file: Mutex::new(file.clone()),
            covers: covers.clone(),
            start,
            share: share.unwrap_or_else(|| self.next_share()),
            state: Mutex::default(),
        });
        list.taken.insert(start, start + len);
        list.windows.push(Entry { file: id, covers, start, window: Arc::downgrade(&window) });
        self.windows.len.store(list.windows.len(), Ordering::SeqCst);
        Some(Some(window))
    }
}

impl Window {
    /// The addresses of a part of the file.
    fn addresses(&self, offsets: &Range<u64>) -> Range<u64> {
        let at =
            |offset: u64| self.start + (offset.clamp(self.covers.start, self.covers.end) - self.covers.start);
        at(offsets.start)..at(offsets.end)
    }

    /// The offset of a page in the file.
    const fn offset_of(&self, page: u64) -> u64 {
        (page * PAGE_SIZE - self.start) + self.covers.start
    }

    /// Whether addresses up to `end` belong to it.
    pub(super) const fn has(&self, end: u64) -> bool {
        end <= self.start + (self.covers.end - self.covers.start)
    }

    pub(super) fn is_committed(&self, page: u64) -> bool {
        self.state.lock().committed.has(page)
    }

    /// Whether nobody can look at the file any more: it has no name, and nobody has it open.
    fn is_last_of_file(&mut self) -> bool {
        let mapped = self.file.get_mut();
        Arc::strong_count(mapped) == 1
            && Arc::strong_count(&mapped.file) == 1
            && mapped.file.metadata().is_ok_and(|metadata| metadata.nlink == 0)
    }

    fn file(&self) -> Arc<dyn Regular> {
        self.file.lock().file.clone()
    }

    /// Makes a page accessible. The mapping allows the access; `end` is the page behind the mapping.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn handle_fault(&self, page: u64, end: u64, access: Protection) -> Result<(), Fault> {
        loop {
            if self.allow(page, end, access) {
                return Ok(());
            }
            let first = page;
            let content = self.read(first, end.min(page + STEP))?;
            let mut state = self.state.lock();
            let run = first..first + content.len() as u64;
            let count = state.committed.next_run(run.clone()).map_or(run.end, |there| there.start) - first;
            let bytes: Vec<&Page> = content.iter().map(|page| &**page).collect();
            let Some(bytes) = usize::try_from(count).ok().and_then(|count| bytes.get(..count)) else {
                continue;
            };
            if bytes.is_empty() {
                continue;
            }
            let mut count = count;
            // Others may look at any moment.
            if self.backend.commit_copy(first, bytes, Protection::READ, true).is_err() {
                let one = bytes.get(..1).unwrap_or_default();
                self.backend
                    .commit_copy(first, one, Protection::READ, true)
                    .map_err(|_| Fault::OutOfMemory)?;
                count = 1;
            }
            self.backend.statistics.committed_pages.fetch_add(count, Ordering::Relaxed);
            state.committed.insert(first..first + count);
        }
    }

    /// Allows an access to a page that is committed, and to what follows it if that is to be stored to.
    fn allow(&self, page: u64, end: u64, access: Protection) -> bool {
        let mut state = self.state.lock();
        if !state.committed.has(page) {
            return false;
        }
        let before = state.protection(page);
        if before.contains(access) {
            return true;
        }
        let mut last = page + 1;
        let most = end.min(page + STEP);
        while last < most && state.committed.has(last) && state.protection(last) == before {
            last += 1;
        }
        self.backend.platform.protect(page_range(&(page..last)), before, before | access);
        if access.contains(Protection::WRITE) {
            state.writable.insert(page..last);
        }
        if access.contains(Protection::EXEC) {
            state.executable.insert(page..last);
        }
        true
    }

    /// Reads pages of the file, at least the first.
    fn read(&self, first: u64, end: u64) -> Result<Vec<Arc<Page>>, Fault> {
        let file = self.file();
        let size = file.metadata().map_err(|_| Fault::NoContent)?.size;
        let mut content = Vec::new();
        for page in first..end {
            let offset = self.offset_of(page);
            match if offset < size { file.page(offset / PAGE_SIZE).ok() } else { None } {
                Some(page) => content.push(page),
                None if content.is_empty() => return Err(Fault::NoContent),
                None => break,
            }
        }
        Ok(content)
    }

    fn write_back_offsets(&self, offsets: &Range<u64>) {
        let offsets = offsets.start / PAGE_SIZE * PAGE_SIZE..page_up(offsets.end).unwrap_or(u64::MAX);
        self.write_back(&pages(&self.addresses(&offsets)));
    }

    /// Writes what was stored to some pages to the file.
    pub(super) fn write_back(&self, range: &Range<u64>) {
        let file = self.file();
        let mut rest = range.clone();
        loop {
            let run = {
                let mut state = self.state.lock();
                let Some(mut run) = state.writable.next_run(rest.clone()) else { return };
                let protection = state.protection(run.start);
                run.end = run.end.min(run.start + STEP);
                run.end = (run.start..run.end)
                    .find(|&page| state.protection(page) != protection)
                    .unwrap_or(run.end);
                let clean = protection.difference(Protection::WRITE);
                self.backend.platform.protect(page_range(&run), protection, clean);
                state.writable.remove(run.clone());
                run
            };
            rest.start = run.end;
            let len = usize::try_from((run.end - run.start) * PAGE_SIZE).unwrap_or(0);
            let mut bytes = alloc::vec![0u8; len];
            if self.backend.platform.user_load(run.start * PAGE_SIZE, &mut bytes).is_err() {
                // Given back meanwhile, as the file became shorter.
                continue;
            }
            if let Err(error) = write_within(&*file, self.offset_of(run.start), &bytes) {
                self.backend
                    .log(Level::Warn, format_args!("a shared mapping could not be written back: {error:?}"));
            }
        }
    }

    /// Shows what the file has now in a part that was changed, or nothing where it ends before.
    fn refresh(&self, file: &dyn Regular, offsets: &Range<u64>) {
        let Ok(metadata) = file.metadata() else { return };
        let offsets = offsets.start / PAGE_SIZE * PAGE_SIZE..page_up(offsets.end).unwrap_or(u64::MAX);
        let platform = &self.backend.platform;
        let mut rest = pages(&self.addresses(&offsets));
        loop {
            let next = self.state.lock().committed.next_run(rest.clone()).map(|run| run.start);
            let Some(page) = next else { return };
            rest.start = page + 1;
            let (at, offset) = (page_range(&(page..page + 1)), self.offset_of(page));
            let content = if offset < metadata.size { file.page(offset / PAGE_SIZE).ok() } else { None };
            let mut state = self.state.lock();
            if !state.committed.has(page) {
                continue;
            }
            let before = state.protection(page);
            let Some(content) = content else {
                platform.decommit(at);
                state.committed.remove(page..page + 1);
                state.writable.remove(page..page + 1);
                state.executable.remove(page..page + 1);
                continue;
            };
            if before.contains(Protection::WRITE) {
                // Stored to since it was written back: as if that came after the change.
                continue;
            }
            let filling = Protection::READ | Protection::WRITE;
            platform.protect(at, before, filling);
            // It is committed and writable, so this cannot fail.
            let _ = platform.user_store(page * PAGE_SIZE, &*content);
            platform.protect(at, filling, before);
        }
    }

    /// Takes access away from pages that one space alone maps.
    fn restrict(&self, range: &Range<u64>, allowed: Protection) {
        self.write_back(range);
        if allowed.contains(Protection::READ | Protection::EXEC) {
            return;
        }
        let mut state = self.state.lock();
        let mut rest = range.clone();
        // What was not written back meanwhile stays as it is.
        while let Some(run) = state.committed.next_run(rest.clone()) {
            rest.start = run.end;
            for page in run {
                let before = state.protection(page);
                if before.contains(Protection::WRITE) {
                    continue;
                }
                if allowed.is_empty() {
                    self.backend.platform.decommit(page_range(&(page..page + 1)));
                    state.committed.remove(page..page + 1);
                    state.executable.remove(page..page + 1);
                } else if before.contains(Protection::EXEC) {
                    self.backend.platform.protect(page_range(&(page..page + 1)), before, Protection::READ);
                    state.executable.remove(page..page + 1);
                }
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let all = pages(&(self.start..self.start + (self.covers.end - self.covers.start)));
        if !self.is_last_of_file() {
            self.write_back(&all);
        }
        let state = self.state.get_mut();
        let mut rest = all;
        while let Some(run) = state.committed.next_run(rest.clone()) {
            rest.start = run.end;
            self.backend.platform.decommit(page_range(&run));
        }
        let windows = &self.backend.windows;
        let mut list = windows.state.lock();
        list.windows.retain(|entry| entry.start != self.start);
        list.taken.remove(&self.start);
        windows.len.store(list.windows.len(), Ordering::SeqCst);
        if list.windows.is_empty() {
            list.zones.clear();
            self.backend.arena.release(ZONE);
        }
    }
}
