//! Who may use which addresses.
//!
//! All programs live in one enclave, so two address spaces that run at the same time must not overlap. The arena
//! hands out the addresses in slots: a space claims some when it begins, more as it grows, and gives all back when it
//! is dropped. A mapping at an address that the program chose claims the slots there, or fails.
//!
//! Lock order: the state of an address space, then the arena.

use alloc::vec::Vec;
use core::ops::Range;
use kbase::sync::Mutex;

/// Bytes in a slot: a small program with its stack fits in.
const SLOT: u64 = 16 << 20;
/// Slots that a space claims at least while more than so many eighths of all are free. A space that grows into what it has
/// claimed stays in one piece; a thousand small ones must fit.
const SHARES: [(usize, usize); 4] = [(7, 64), (6, 32), (4, 8), (1, 2)];

/// The addresses of programs.
pub(super) struct Arena {
    range: Range<u64>,
    /// For each slot the space that has it.
    slots: Mutex<Vec<Option<u64>>>,
}

impl Arena {
    pub(super) fn new(range: Range<u64>) -> Self {
        let slots = usize::try_from(range.end.div_ceil(SLOT)).unwrap_or(0);
        Self { range, slots: Mutex::new(alloc::vec![None; slots]) }
    }

    /// The addresses of a run of slots.
    fn addresses(&self, first: usize, count: usize) -> Range<u64> {
        let start = first as u64 * SLOT;
        let end = start.saturating_add(count as u64 * SLOT);
        start.max(self.range.start)..end.min(self.range.end)
    }

    /// Claims the slots that hold `wanted`. `None`: another space has one of them.
    pub(super) fn claim(&self, space: u64, wanted: &Range<u64>) -> Option<Range<u64>> {
        let first = usize::try_from(wanted.start / SLOT).ok()?;
        let end = usize::try_from(wanted.end.div_ceil(SLOT)).ok()?;
        let mut slots = self.slots.lock();
        let part = slots.get_mut(first..end.max(first))?;
        if part.iter().any(|slot| slot.is_some_and(|owner| owner != space)) {
            return None;
        }
        part.fill(Some(space));
        Some(self.addresses(first, end - first))
    }

    /// Claims the highest free run of slots that holds `len` bytes and lies within `within`.
    pub(super) fn claim_any(&self, space: u64, len: u64, within: &Range<u64>) -> Option<Range<u64>> {
        let needed = usize::try_from(len.div_ceil(SLOT)).ok()?.max(1);
        let mut slots = self.slots.lock();
        let free = slots.iter().filter(|slot| slot.is_none()).count();
        let share = SHARES.iter().find(|(eighths, _)| free > slots.len() / 8 * eighths);
        let wanted = share.map_or(needed, |&(_, share)| needed.max(share));
        let find = |slots: &[Option<u64>], count: usize| {
            let starts = 0..=slots.len().checked_sub(count)?;
            starts.rev().find(|&first| {
                let addresses = self.addresses(first, count);
                let is_inside = within.start <= addresses.start && addresses.end <= within.end;
                let run = slots.get(first..first + count);
                is_inside
                    && addresses.end - addresses.start >= len
                    && run.is_some_and(|run| run.iter().all(Option::is_none))
            })
        };
        let (first, count) = match find(&slots, wanted) {
            Some(first) => (first, wanted),
            None => (find(&slots, needed)?, needed),
        };
        slots.get_mut(first..first + count)?.fill(Some(space));
        Some(self.addresses(first, count))
    }

    /// Who has some of these addresses.
    pub(super) fn owner_of(&self, wanted: &Range<u64>) -> Option<u64> {
        let first = usize::try_from(wanted.start / SLOT).ok()?;
        let end = usize::try_from(wanted.end.div_ceil(SLOT)).ok()?;
        self.slots.lock().get(first..end.max(first))?.iter().find_map(|slot| *slot)
    }

    /// Gives back all slots of a space.
    pub(super) fn release(&self, space: u64) {
        for slot in self.slots.lock().iter_mut().filter(|slot| **slot == Some(space)) {
            *slot = None;
        }
    }
}

/// The addresses that a space has claimed: ranges in order that do not touch.
#[derive(Clone, Default)]
pub(super) struct Claims {
    ranges: Vec<Range<u64>>,
}

impl Claims {
    /// The ranges, highest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter().rev()
    }

    /// Whether all of `range` is claimed.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.ranges.iter().any(|claim| claim.start <= range.start && range.end <= claim.end)
    }

    /// Adds a claim, which may join others.
    pub(super) fn add(&mut self, range: Range<u64>) {
        self.ranges.push(range);
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        self.ranges = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<u64> = 0x1_0000..0xE_0000_0000;

    #[test]
    fn two_spaces_never_have_the_same_addresses() {
        let arena = Arena::new(ALL);
        let first = arena.claim_any(1, 4096, &ALL).unwrap();
        let second = arena.claim_any(2, 4096, &ALL).unwrap();
        assert_eq!(first.end, ALL.end);
        assert!(second.end <= first.start);
        assert_eq!(arena.claim(2, &(first.start..first.start + 4096)), None);
        assert!(arena.claim(1, &(first.start..first.start + 4096)).is_some());
        arena.release(1);
        assert!(arena.claim(2, &(first.start..first.start + 4096)).is_some());
    }

    #[test]
    fn small_shares_are_left_for_many_spaces() {
        let arena = Arena::new(ALL);
        let count = (0..1000).take_while(|&space| arena.claim_any(space, 4096, &ALL).is_some()).count();
        assert!(count == 1000, "{count}");
        arena.release(5);
        assert!(arena.claim_any(2000, 4096, &ALL).is_some());
    }

    #[test]
    fn a_reservation_of_many_slots_is_one_range() {
        let arena = Arena::new(ALL);
        let range = arena.claim_any(1, 16 << 30, &ALL).unwrap();
        assert!(range.end - range.start >= 16 << 30);
        assert_eq!(arena.claim_any(2, 60 << 30, &ALL), None);
    }

    #[test]
    fn claims_that_touch_are_one() {
        let mut claims = Claims::default();
        claims.add(0x3000..0x4000);
        claims.add(0x1000..0x2000);
        assert!(!claims.has(&(0x1000..0x4000)));
        claims.add(0x2000..0x3000);
        assert!(claims.has(&(0x1000..0x4000)));
        assert_eq!(claims.iter().count(), 1);
    }
}
