//! The map of an address space: which ranges are mapped, to what, with which protection.
//!
//! Ranges do not overlap; neighbours that say the same are one range. Nothing here touches a page: the owner of
//! the map does that with what the operations return.

use super::text::Text;
use super::window::Window;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use platform::Protection;
use vfs::Regular;

/// Address space kept free below a stack, so that an overflow hits nothing.
pub(crate) const STACK_GUARD: u64 = 1 << 20;

/// A file as a mapping sees it.
pub(crate) struct MappedFile {
    /// The file.
    pub(crate) file: Arc<dyn Regular>,
    /// Its path, for `/proc/self/maps`.
    pub(crate) path: Vec<u8>,
}

/// Where the pages of a range come from.
#[derive(Clone)]
pub(crate) enum Backing {
    /// Zeros.
    Anonymous,
    /// A file, from this offset.
    File {
        /// The file.
        file: Arc<MappedFile>,
        /// Offset in it of the start of the range.
        offset: u64,
        /// Its rewritten instructions, where it is mapped to be executed.
        text: Option<Arc<Text>>,
    },
    /// The stubs of rewritten instructions, from this offset in them.
    Stubs {
        /// The rewriting that they belong to.
        text: Arc<Text>,
        /// Offset of the start of the range.
        offset: u64,
    },
}

/// What a range is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A mapping.
    Mapping,
    /// The stack of the first thread, or MAP_GROWSDOWN.
    Stack,
    /// The heap of `brk`.
    Heap,
}

/// A range of addresses that is mapped.
#[derive(Clone)]
pub(crate) struct Vma {
    /// First address after it.
    pub(crate) end: u64,
    /// What the program may do with it.
    pub(crate) protection: Protection,
    /// MAP_SHARED.
    pub(crate) is_shared: bool,
    /// Whether PROT_WRITE may be asked for (false: a shared mapping of a file that is open for reading).
    pub(crate) may_write: bool,
    /// Where its pages come from.
    pub(crate) backing: Backing,
    /// What it is for.
    pub(crate) role: Role,
    /// Whether stores were ever allowed, so that its pages may differ from their file.
    pub(crate) was_writable: bool,
    /// Tells shared mappings apart; 0: private.
    pub(crate) share: u64,
    /// Whose pages these are, if they are not the space's.
    pub(crate) common: Option<Arc<Window>>,
    /// How often they are mapped here.
    pub(crate) times: u32,
    /// Address at which the next fault would be a sequential one.
    pub(crate) next_fault: u64,
    /// Pages that a sequential fault commits.
    pub(crate) window: u64,
}

impl Vma {
    /// An anonymous private range.
    pub(crate) const fn anonymous(end: u64, protection: Protection, role: Role) -> Self {
        Self {
            end,
            protection,
            is_shared: false,
            may_write: true,
            backing: Backing::Anonymous,
            role,
            was_writable: protection.contains(Protection::WRITE),
            share: 0,
            common: None,
            times: 1,
            next_fault: 0,
            window: 0,
        }
    }

    /// What the processor is told: it cannot write or execute without reading.
    pub(crate) fn hardware(&self) -> Protection {
        if self.protection.is_empty() { self.protection } else { self.protection | Protection::READ }
    }

    /// Whether stores to it must be noted, since they reach a file.
    pub(crate) const fn tracks_dirty(&self) -> bool {
        self.is_shared && matches!(self.backing, Backing::File { .. })
    }

    /// Of a range from `start` on, makes this the part from `address` on.
    pub(crate) fn skip_to(&mut self, start: u64, address: u64) {
        self.skip(address.saturating_sub(start));
    }

    /// Whether two ranges, which begin at these addresses and were never written to, show the same content from `address` on.
    /// Anonymous ones do not.
    pub(crate) fn shows_same(one: (u64, &Self), other: (u64, &Self), address: u64) -> bool {
        let is_same_place = |offset: u64, of_offset: u64| {
            offset.wrapping_add(address.wrapping_sub(one.0))
                == of_offset.wrapping_add(address.wrapping_sub(other.0))
        };
        match (&one.1.backing, &other.1.backing) {
            (
                Backing::File { file, offset, text },
                Backing::File { file: of, offset: of_offset, text: of_text },
            ) => {
                let is_same_text = match (text, of_text) {
                    (None, None) => true,
                    (Some(text), Some(of)) => text.is_same(of),
                    _ => false,
                };
                Arc::ptr_eq(&file.file, &of.file) && is_same_place(*offset, *of_offset) && is_same_text
            }
            (Backing::Stubs { text, offset }, Backing::Stubs { text: of, offset: of_offset }) => {
                is_same_place(*offset, *of_offset) && text.is_same(of)
            }
            _ => false,
        }
    }

    /// The part from `by` bytes on.
    fn skip(&mut self, by: u64) {
        match &mut self.backing {
            Backing::Anonymous => {}
            Backing::File { offset, .. } | Backing::Stubs { offset, .. } => {
                *offset = offset.saturating_add(by);
            }
        }
    }

    /// Whether `next`, which starts where this ends, continues it.
    fn continues_in(&self, len: u64, next: &Self) -> bool {
        let same = self.protection == next.protection
            && self.is_shared == next.is_shared
            && self.may_write == next.may_write
            && self.role == next.role
            && self.share == next.share
            && self.common.as_ref().map(Arc::as_ptr) == next.common.as_ref().map(Arc::as_ptr)
            && self.times == next.times
            && self.was_writable == next.was_writable;
        same && match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (
                Backing::File { file, offset, text },
                Backing::File { file: next_file, offset: next_offset, text: next_text },
            ) => {
                let same_text = match (text, next_text) {
                    (None, None) => true,
                    (Some(text), Some(next)) => Arc::ptr_eq(text, next),
                    _ => false,
                };
                Arc::ptr_eq(file, next_file) && offset.checked_add(len) == Some(*next_offset) && same_text
            }
            _ => false,
        }
    }
}

/// The map.
#[derive(Clone, Default)]
pub(crate) struct VmaMap {
    ranges: BTreeMap<u64, Vma>,
}

impl VmaMap {
    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The range that holds an address: its start and itself.
    pub(crate) fn find(&self, address: u64) -> Option<(u64, &Vma)> {
        let (&start, vma) = self.ranges.range(..=address).next_back()?;
        (address < vma.end).then_some((start, vma))
    }

    /// The range that holds an address, to note a fault.
    pub(crate) fn find_mut(&mut self, address: u64) -> Option<(u64, &mut Vma)> {
        let (&start, vma) = self.ranges.range_mut(..=address).next_back()?;
        (address < vma.end).then_some((start, vma))
    }

    /// All ranges that overlap `range`, in order: start and range.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Vma)> {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        self.ranges.range(first..range.end.max(first)).map(|(&start, vma)| (start, vma))
    }

    /// All ranges.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Vma)> {
        self.ranges.iter().map(|(&start, vma)| (start, vma))
    }

    /// Whether nothing is mapped in `range`.
    pub(crate) fn is_free(&self, range: &Range<u64>) -> bool {
        self.overlapping(range.clone()).next().is_none()
    }

    /// Whether all of `range` is mapped.
    pub(crate) fn is_mapped(&self, range: &Range<u64>) -> bool {
        let mut at = range.start;
        for (start, vma) in self.overlapping(range.clone()) {
            if start > at {
                return false;
            }
            at = vma.end;
        }
        at >= range.end
    }

    /// Makes `at` a border between ranges.
    fn split(&mut self, at: u64) {
        let Some((start, vma)) = self.find_mut(at) else { return };
        if start == at {
            return;
        }
        let mut tail = vma.clone();
        vma.end = at;
        tail.skip(at - start);
        self.ranges.insert(at, tail);
    }

    /// Takes everything in `range` out of the map.
    pub(crate) fn carve(&mut self, range: &Range<u64>) -> Vec<(u64, Vma)> {
        if self.is_free(range) {
            return Vec::new();
        }
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self.ranges.range(range.clone()).map(|(&start, _)| start).collect();
        starts.into_iter().filter_map(|start| Some((start, self.ranges.remove(&start)?))).collect()
    }

    /// Puts a range where nothing is mapped, and makes it one with neighbours that it continues.
    pub(crate) fn insert(&mut self, start: u64, mut vma: Vma) {
        let mut start = start;
        if let Some((&before_start, before)) = self.ranges.range(..start).next_back()
            && before.end == start
            && before.continues_in(before.end - before_start, &vma)
        {
            let (window, next_fault) = (before.window, before.next_fault);
            if let Some(before) = self.ranges.remove(&before_start) {
                vma.backing = before.backing;
                vma.window = window;
                vma.next_fault = next_fault;
                start = before_start;
            }
        }
        if let Some(after) = self.ranges.get(&vma.end)
            && vma.continues_in(vma.end - start, after)
        {
            let end = vma.end;
            if let Some(after) = self.ranges.remove(&end) {
                vma.end = after.end;
            }
        }
        self.ranges.insert(start, vma);
    }

    /// Changes every part of `range` by `change`, splitting and joining as needed.
    pub(crate) fn update(&mut self, range: &Range<u64>, mut change: impl FnMut(&mut Vma)) {
        for (start, mut vma) in self.carve(range) {
            change(&mut vma);
            self.insert(start, vma);
        }
        // The last part may now continue in what follows; `insert` looks at both sides.
    }

    /// The highest free range of `len` bytes within `within`.
    pub(crate) fn gap_down(&self, len: u64, within: &Range<u64>) -> Option<u64> {
        let mut top = within.end;
        for (&start, vma) in self.ranges.range(..within.end).rev() {
            if vma.end <= within.start {
                break;
            }
            if top.checked_sub(vma.end).is_some_and(|room| room >= len) {
                return Some(top - len);
            }
            let guard = if vma.role == Role::Stack { STACK_GUARD } else { 0 };
            top = top.min(start.saturating_sub(guard));
        }
        top.checked_sub(len).filter(|&start| start >= within.start)
    }

    /// The lowest free range of `len` bytes within `within`.
    pub(crate) fn gap_up(&self, len: u64, within: &Range<u64>) -> Option<u64> {
        let mut low = within.start;
        for (start, vma) in self.overlapping(within.clone()) {
            let guard = if vma.role == Role::Stack { STACK_GUARD } else { 0 };
            if start.saturating_sub(guard).checked_sub(low).is_some_and(|room| room >= len) {
                return Some(low);
            }
            low = low.max(vma.end);
        }
        within.end.checked_sub(low).filter(|&room| room >= len).map(|_| low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(end: u64, protection: Protection) -> Vma {
        Vma::anonymous(end, protection, Role::Mapping)
    }

    fn shape(map: &VmaMap) -> Vec<(u64, u64, Protection)> {
        map.iter().map(|(start, vma)| (start, vma.end, vma.protection)).collect()
    }

    #[test]
    fn equal_neighbours_become_one_range_and_carving_splits_it() {
        let mut map = VmaMap::default();
        map.insert(0x1000, anonymous(0x3000, Protection::READ));
        map.insert(0x5000, anonymous(0x7000, Protection::READ));
        map.insert(0x3000, anonymous(0x5000, Protection::READ));
        assert_eq!(shape(&map), [(0x1000, 0x7000, Protection::READ)]);
        let gone = map.carve(&(0x2000..0x4000));
        assert_eq!(gone.len(), 1);
        assert_eq!(shape(&map), [(0x1000, 0x2000, Protection::READ), (0x4000, 0x7000, Protection::READ)]);
        assert!(map.is_free(&(0x2000..0x4000)) && !map.is_mapped(&(0x1000..0x5000)));
    }

    #[test]
    fn changing_the_middle_and_back_leaves_one_range() {
        let mut map = VmaMap::default();
        map.insert(0x1000, anonymous(0x9000, Protection::READ));
        map.update(&(0x3000..0x5000), |vma| vma.protection = Protection::empty());
        assert_eq!(map.len(), 3);
        map.update(&(0x3000..0x5000), |vma| vma.protection = Protection::READ);
        assert_eq!(shape(&map), [(0x1000, 0x9000, Protection::READ)]);
    }

    #[test]
    fn gaps_are_found_from_both_ends() {
        let mut map = VmaMap::default();
        map.insert(0x4000, anonymous(0x5000, Protection::READ));
        map.insert(0x8000, anonymous(0x9000, Protection::READ));
        let within = 0x1000..0xa000;
        assert_eq!(map.gap_down(0x1000, &within), Some(0x9000));
        assert_eq!(map.gap_down(0x2000, &within), Some(0x6000));
        assert_eq!(map.gap_down(0x4000, &within), None);
        assert_eq!(map.gap_up(0x3000, &within), Some(0x1000));
        assert_eq!(map.gap_up(0x1000, &(0x4000..0xa000)), Some(0x5000));
        assert_eq!(map.gap_up(0x4000, &within), None);
    }
}
