//! The pages of a file.

use crate::Shared;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use vfs::{PAGE_SIZE, Page};

/// Pages in a chunk: a file without holes costs one tree node per half megabyte.
const CHUNK: usize = 128;

type Chunk = [Option<Arc<Page>>; CHUNK];

/// Sparse content. Bytes at and after `size` are zero in every page.
#[derive(Default)]
pub(crate) struct Content {
    size: u64,
    /// Bytes from the start that show the lower file where there is no page. Shrinks, and then at page borders.
    below: u64,
    /// Size of the lower file.
    lower_size: u64,
    pages: u64,
    chunks: BTreeMap<u64, Box<Chunk>>,
}

impl Content {
    /// The content of a lower file.
    pub(crate) fn over(size: u64) -> Self {
        Self { size, below: size, lower_size: size, ..Self::default() }
    }

    /// Whether the lower file shows at a page.
    pub(crate) fn shows_below(&self, index: u64) -> bool {
        index.saturating_mul(PAGE_SIZE as u64) < self.below && self.page(index).is_none()
    }

    /// Bytes of the lower file that show or are hidden by pages.
    pub(crate) const fn below(&self) -> u64 {
        self.below
    }

    /// Lets the lower file show in the first `len` bytes at most.
    pub(crate) fn cut_below(&mut self, len: u64) {
        self.below = self.below.min(len);
    }

    /// Whether it is still that of the lower file, all of it.
    pub(crate) fn is_all_below(&self) -> bool {
        self.below == self.lower_size && self.size == self.lower_size && self.chunks.is_empty()
    }

    /// Puts a page where the lower file shows, unless somebody was faster.
    pub(crate) fn cover(&mut self, index: u64, page: &Arc<Page>, shared: &Shared) -> Result<()> {
        if self.shows_below(index) {
            shared.space.take()?;
            let (chunk, slot) = split(index);
            let chunk = self.chunks.entry(chunk).or_insert_with(|| Box::new([const { None }; CHUNK]));
            if let Some(place) = chunk.get_mut(slot) {
                *place = Some(Arc::clone(page));
                self.pages += 1;
            }
        }
        Ok(())
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Pages in use.
    pub(crate) const fn pages(&self) -> u64 {
        self.pages
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// The page, or `None` for a hole.
    pub(crate) fn page(&self, index: u64) -> Option<&Arc<Page>> {
        let (chunk, slot) = split(index);
        self.chunks.get(&chunk)?.get(slot)?.as_ref()
    }

    /// The page to write to, filling a hole with zeros.
    ///
    /// # Errors
    /// ENOSPC.
    pub(crate) fn page_mut(&mut self, index: u64, shared: &Shared) -> Result<&mut Page> {
        let (chunk, slot) = split(index);
        let chunk = self.chunks.entry(chunk).or_insert_with(|| Box::new([const { None }; CHUNK]));
        let page = chunk.get_mut(slot).ok_or(Error::new(Errno::EIO, "page out of range"))?;
        if page.is_none() {
            shared.space.take()?;
            self.pages += 1;
        }
        Ok(Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE_SIZE]))))
    }

    /// First page at or after `index` that is there.
    pub(crate) fn next_page(&self, index: u64) -> Option<u64> {
        let (first, _) = split(index);
        for (&chunk, pages) in self.chunks.range(first..) {
            for (slot, page) in pages.iter().enumerate() {
                let at = chunk.saturating_mul(CHUNK as u64).saturating_add(slot as u64);
                if at >= index && page.is_some() {
                    return Some(at);
                }
            }
        }
        None
    }

    /// First page at or after `index` that is a hole.
    pub(crate) fn next_hole(&self, index: u64) -> u64 {
        let mut at = index;
        while self.page(at).is_some() {
            at = at.saturating_add(1);
        }
        at
    }

    /// Drops pages of `[from, to)` and returns their number. The pages themselves go into `gone`, to be freed after
    /// the lock.
    pub(crate) fn remove(&mut self, from: u64, to: u64) -> u64 {
        let mut removed = 0;
        let (first, _) = split(from);
        let mut empty = Vec::new();
        for (&chunk, pages) in self.chunks.range_mut(first..) {
            let base = chunk.saturating_mul(CHUNK as u64);
            if base >= to {
                break;
            }
            for (slot, page) in pages.iter_mut().enumerate() {
                let at = base.saturating_add(slot as u64);
                if at >= from && at < to && page.take().is_some() {
                    removed += 1;
                }
            }
            if pages.iter().all(Option::is_none) {
                empty.push(chunk);
            }
        }
        for chunk in empty {
            self.chunks.remove(&chunk);
        }
        self.pages = self.pages.saturating_sub(removed);
        removed
    }

    /// Zeroes bytes `[from, to)` of one page, if it is there.
    pub(crate) fn zero_within(&mut self, index: u64, from: usize, to: usize) {
        let (chunk, slot) = split(index);
        let page = self.chunks.get_mut(&chunk).and_then(|pages| pages.get_mut(slot)).and_then(Option::as_mut);
        if let Some(bytes) = page.and_then(|page| Arc::make_mut(page).get_mut(from..to)) {
            bytes.fill(0);
        }
    }
}

fn split(index: u64) -> (u64, usize) {
    let slot = usize::try_from(index % CHUNK as u64).unwrap_or_default();
    (index / CHUNK as u64, slot)
}
