//! A set of pages: one bit each, in chunks of 2 MiB that exist only where a bit is set.

use alloc::collections::BTreeMap;
use core::ops::Range;
use linux_abi::mm::PAGE_SIZE;

/// Pages in a chunk.
const CHUNK: u64 = 512;
/// Words in a chunk.
const WORDS: usize = 8;

/// A set of page numbers (addresses divided by the page size).
#[derive(Clone, Default)]
pub(crate) struct PageSet {
    chunks: BTreeMap<u64, [u64; WORDS]>,
    len: u64,
}

/// The chunk, word and bit of a page.
const fn split(page: u64) -> (u64, usize, u64) {
    let in_chunk = page % CHUNK;
    (page / CHUNK, (in_chunk / 64) as usize, 1 << (in_chunk % 64))
}

/// Page numbers of an address range with page-aligned ends.
pub(crate) const fn pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_SIZE..range.end / PAGE_SIZE
}

/// Bits of the word that starts at page `first` which lie in `range`.
fn mask(first: u64, range: &Range<u64>) -> u64 {
    let low = range.start.saturating_sub(first).min(64);
    let high = range.end.saturating_sub(first).min(64);
    if low >= high {
        return 0;
    }
    let below = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
    below(high) & !below(low)
}

impl PageSet {
    /// Number of pages in it.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Whether a page is in it.
    pub(crate) fn has(&self, page: u64) -> bool {
        let (chunk, word, bit) = split(page);
        self.chunks.get(&chunk).and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Adds pages.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let chunk = at / CHUNK;
            let words = self.chunks.entry(chunk).or_default();
            for (first, word) in (chunk * CHUNK..).step_by(64).zip(words) {
                let new = mask(first, &range) & !*word;
                *word |= new;
                self.len += u64::from(new.count_ones());
            }
            at = (chunk + 1) * CHUNK;
        }
    }

    /// Removes pages.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let first_chunk = range.start / CHUNK;
        let last_chunk = range.end.div_ceil(CHUNK);
        let mut emptied = false;
        for (chunk, words) in self.chunks.range_mut(first_chunk..last_chunk) {
            for (first, word) in (chunk * CHUNK..).step_by(64).zip(words.iter_mut()) {
                let gone = mask(first, &range) & *word;
                *word &= !gone;
                self.len -= u64::from(gone.count_ones());
            }
            emptied |= words.iter().all(|&word| word == 0);
        }
        if emptied {
            self.chunks.retain(|chunk, words| {
                !(first_chunk..last_chunk).contains(chunk) || words.iter().any(|&word| word != 0)
            });
        }
    }

    /// The first run of pages of the set at or after `range.start` and below `range.end`.
    pub(crate) fn next_run(&self, range: Range<u64>) -> Option<Range<u64>> {
        let start = self.next_set(range.start, range.end)?;
        Some(start..self.next_clear(start, range.end))
    }

    /// First page of the set in `from..limit`.
    fn next_set(&self, from: u64, limit: u64) -> Option<u64> {
        if from >= limit {
            return None;
        }
        for (chunk, words) in self.chunks.range(from / CHUNK..) {
            if chunk * CHUNK >= limit {
                break;
            }
            for (first, word) in (chunk * CHUNK..).step_by(64).zip(words) {
                let found = word & mask(first, &(from..limit));
                if found != 0 {
                    return Some(first + u64::from(found.trailing_zeros()));
                }
            }
        }
        None
    }

    /// First page not in the set in `from..limit`, or `limit`.
    pub(crate) fn next_clear(&self, from: u64, limit: u64) -> u64 {
        let mut at = from;
        while at < limit {
            let (chunk, word, _) = split(at);
            let Some(word) = self.chunks.get(&chunk).and_then(|words| words.get(word)) else { return at };
            let first = at / 64 * 64;
            let clear = !word & mask(first, &(at..limit));
            if clear != 0 {
                return first + u64::from(clear.trailing_zeros());
            }
            at = first + 64;
        }
        limit
    }

    /// The run of pages of the set around `page`, which is in it, as far as it lies in `range`.
    pub(crate) fn run_around(&self, page: u64, range: &Range<u64>) -> Range<u64> {
        let mut low = page;
        while low > range.start && self.has(low - 1) {
            low -= 1;
        }
        low..self.next_clear(page, range.end)
    }

    /// First page not in the set going down from `from` (inclusive) to `limit` (inclusive), as the end of the run
    /// of pages outside the set: returns the lowest page such that it up to `from` are all outside.
    pub(crate) fn clear_down(&self, from: u64, limit: u64) -> u64 {
        let mut low = from;
        while low > limit && !self.has(low - 1) {
            low -= 1;
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_plain_set() {
        let mut random = 0x1234_5678_9abc_def1u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut set, mut model) = (PageSet::default(), BTreeSet::new());
        for round in 0..2000 {
            let start = next(2000);
            let end = start + next(300);
            if round % 2 == 0 {
                set.insert(start..end);
                model.extend(start..end);
            } else {
                set.remove(start..end);
                model.retain(|page| !(start..end).contains(page));
            }
            assert_eq!(set.len(), model.len() as u64);
            let (from, limit) = (next(2000), 2300);
            let run = model
                .range(from..limit)
                .next()
                .map(|&first| first..(first..limit).find(|page| !model.contains(page)).unwrap_or(limit));
            assert_eq!(set.next_run(from..limit), run);
        }
        set.remove(0..10_000);
        assert!(set.chunks.is_empty());
    }
}
