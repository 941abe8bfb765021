//! Where control may come to.
//!
//! The set holds more than the real targets, never less as far as these sources go: direct branches and calls,
//! the starts of functions, `endbr64`, addresses that code computes relative to RIP (and, in programs at fixed
//! addresses, any constant that is one), every aligned 8-byte word of the file that could be an address of
//! text (relocations, their addends, symbols, absolute jump tables, function pointers), and the entries of
//! anything that looks like a relative jump table.

use std::ops::Range;

use super::elf::Elf;
use super::sweep::Sweep;

/// Entries of one jump table, at most.
const MAX_ENTRIES: u64 = 1 << 16;
/// Entries that are taken for a table's although another seems to start among them.
const OVERLAP: u64 = 512;

/// A set of addresses of text.
#[derive(Debug)]
pub(super) struct AddressSet {
    span: Range<u64>,
    words: Vec<u64>,
}

impl AddressSet {
    pub(super) fn new(span: Range<u64>) -> Self {
        let words = usize::try_from((span.end - span.start).div_ceil(64)).unwrap_or(0);
        Self { span, words: vec![0; words] }
    }

    fn place(&self, address: u64) -> Option<(usize, u32)> {
        if !self.span.contains(&address) {
            return None;
        }
        let at = address - self.span.start;
        Some((usize::try_from(at / 64).ok()?, u32::try_from(at % 64).ok()?))
    }

    /// Adds an address if it is one of text.
    pub(super) fn insert(&mut self, address: u64) {
        if let Some((word, bit)) = self.place(address)
            && let Some(word) = self.words.get_mut(word)
        {
            *word |= 1 << bit;
        }
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        self.place(address)
            .and_then(|(word, bit)| Some(self.words.get(word)? >> bit & 1 == 1))
            .unwrap_or(false)
    }

    /// The first address of the set in `range`.
    pub(super) fn first_in(&self, range: Range<u64>) -> Option<u64> {
        range.into_iter().find(|address| self.contains(*address))
    }
}

/// Adds the targets that data of the file tell.
pub(super) fn scan_data(elf: &Elf<'_>, file: &[u8], sweep: &mut Sweep<'_>) {
    let (words, _) = file.as_chunks::<8>();
    for word in words {
        sweep.targets.insert(u64::from_le_bytes(*word));
    }
    let span = elf.text_span();
    let mut bases = std::mem::take(&mut sweep.tables).into_iter().peekable();
    while let Some(base) = bases.next() {
        let to_next = bases.peek().map_or(MAX_ENTRIES, |next| (next - base) / 4);
        let limit = usize::try_from(to_next.clamp(OVERLAP, MAX_ENTRIES)).unwrap_or(usize::MAX);
        let (entries, _) = elf.content(base).unwrap_or_default().as_chunks::<4>();
        for entry in entries.iter().take(limit) {
            let target = base.wrapping_add_signed(i32::from_le_bytes(*entry).into());
            if !span.contains(&target) {
                break;
            }
            sweep.targets.insert(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_holds_addresses_of_text_and_no_others() {
        let mut set = AddressSet::new(1000..1130);
        for address in [0, 999, 1000, 1064, 1129, 1130, u64::MAX] {
            set.insert(address);
        }
        let held: Vec<u64> = (0..2000).filter(|address| set.contains(*address)).collect();
        assert_eq!(held, [1000, 1064, 1129]);
        assert_eq!(set.first_in(1001..1129), Some(1064));
        assert_eq!(set.first_in(1065..1129), None);
    }
}
