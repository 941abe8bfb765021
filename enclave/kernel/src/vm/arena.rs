//! Who may use which addresses.
//!
//! All programs live in one enclave, so two address spaces that run at the same time must not overlap. The arena
//! hands out the addresses in slots: a space claims some when it begins, more as it grows, and gives all back when it
//! is dropped. A mapping at an address that the program chose claims the slots there, or fails.
//!
//! Lock order: the state of an address space, then the arena.

use alloc::collections::BTreeMap;
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
    /// How many slots there are.
    count: usize,
    taken: Mutex<Taken>,
}

/// The slots that are claimed.
#[derive(Default)]
struct Taken {
    /// By the first slot of a run: the one after it, and the space that has it.
    runs: BTreeMap<usize, (usize, u64)>,
    /// How many slots that are.
    count: usize,
}

impl Taken {
    /// The runs that have slots of `wanted`.
    fn overlapping(&self, wanted: &Range<usize>) -> impl Iterator<Item = (usize, usize, u64)> {
        let before = self.runs.range(..wanted.start).next_back();
        let runs = before.into_iter().chain(self.runs.range(wanted.start..wanted.end.max(wanted.start)));
        let start = wanted.start;
        runs.map(|(&first, &(end, space))| (first, end, space)).filter(move |&(_, end, _)| end > start)
    }

    /// The free runs below slot `end`, highest first.
    fn free(&self, end: usize) -> impl Iterator<Item = Range<usize>> {
        let mut top = end;
        let below = self.runs.range(..end).rev().map(|(&first, &(end, _))| (first, end));
        below.chain([(0, 0)]).filter_map(move |(first, end)| {
            let free = end..top;
            top = first;
            (!free.is_empty()).then_some(free)
        })
    }

    /// Gives a space slots that nobody else has.
    fn give(&mut self, space: u64, wanted: Range<usize>) {
        if wanted.is_empty() {
            return;
        }
        let mut joined = wanted;
        let own: Vec<_> = self.overlapping(&joined).map(|(first, end, _)| (first, end)).collect();
        for (first, end) in own {
            self.runs.remove(&first);
            self.count -= end - first;
            joined = joined.start.min(first)..joined.end.max(end);
        }
        self.count += joined.end - joined.start;
        self.runs.insert(joined.start, (joined.end, space));
    }
}

/// The slots that hold addresses.
fn slots_of(addresses: &Range<u64>) -> Option<Range<usize>> {
    let first = usize::try_from(addresses.start / SLOT).ok()?;
    Some(first..usize::try_from(addresses.end.div_ceil(SLOT)).ok()?.max(first))
}

impl Arena {
    pub(super) fn new(range: Range<u64>) -> Self {
        let count = usize::try_from(range.end.div_ceil(SLOT)).unwrap_or(0);
        Self { range, count, taken: Mutex::default() }
    }

    /// The addresses of a run of slots.
    fn addresses(&self, slots: &Range<usize>) -> Range<u64> {
        let (start, end) = (slots.start as u64 * SLOT, (slots.end as u64).saturating_mul(SLOT));
        start.max(self.range.start)..end.min(self.range.end)
    }

    /// Claims the slots that hold `wanted`. `None`: another space has one of them.
    pub(super) fn claim(&self, space: u64, wanted: &Range<u64>) -> Option<Range<u64>> {
        let slots = slots_of(wanted).filter(|slots| slots.end <= self.count)?;
        let mut taken = self.taken.lock();
        if taken.overlapping(&slots).any(|(_, _, owner)| owner != space) {
            return None;
        }
        taken.give(space, slots.clone());
        Some(self.addresses(&slots))
    }

    /// Claims the highest free run of slots that holds `len` bytes and lies within `within`.
    pub(super) fn claim_any(&self, space: u64, len: u64, within: &Range<u64>) -> Option<Range<u64>> {
        let needed = usize::try_from(len.div_ceil(SLOT)).ok()?.max(1);
        let mut taken = self.taken.lock();
        let free = self.count - taken.count;
        let share = SHARES.iter().find(|(eighths, _)| free > self.count / 8 * eighths);
        let wanted = share.map_or(needed, |&(_, share)| needed.max(share));
        let top = slots_of(within)?.end.min(self.count);
        let find = |count: usize| {
            taken.free(top).find_map(|run| {
                (run.start..=run.end.checked_sub(count)?).rev().map(|first| first..first + count).find(
                    |slots| {
                        let addresses = self.addresses(slots);
                        let is_inside = within.start <= addresses.start && addresses.end <= within.end;
                        is_inside && addresses.end - addresses.start >= len
                    },
                )
            })
        };
        let slots = find(wanted).or_else(|| find(needed))?;
        taken.give(space, slots.clone());
        Some(self.addresses(&slots))
    }

    /// Who has some of these addresses.
    pub(super) fn owner_of(&self, wanted: &Range<u64>) -> Option<u64> {
        let slots = slots_of(wanted)?;
        self.taken.lock().overlapping(&slots).next().map(|(_, _, owner)| owner)
    }

    /// Gives back all slots of a space.
    pub(super) fn release(&self, space: u64) {
        let mut taken = self.taken.lock();
        let Taken { runs, count } = &mut *taken;
        runs.retain(|&first, &mut (end, owner)| {
            let stays = owner != space;
            *count -= if stays { 0 } else { end - first };
            stays
        });
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

    /// Random claims, compared with a plain table of slots.
    #[test]
    fn claims_are_those_of_a_table_of_slots() {
        let arena = Arena::new(ALL);
        let mut table = vec![None; arena.count];
        let mut random = 7u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..20_000 {
            let space = next(12) + 1;
            match next(5) {
                0 => {
                    arena.release(space);
                    table.iter_mut().filter(|slot| **slot == Some(space)).for_each(|slot| *slot = None);
                }
                1 | 2 => {
                    let start = ALL.start + next(ALL.end - ALL.start - (1 << 30));
                    let wanted = start..start + next(1 << 30);
                    let part = &mut table[slots_of(&wanted).unwrap()];
                    let is_free = part.iter().all(|slot| slot.is_none_or(|owner| owner == space));
                    assert_eq!(arena.claim(space, &wanted).is_some(), is_free, "round {round}");
                    if is_free {
                        part.fill(Some(space));
                    }
                }
                _ => {
                    let within = if next(4) == 0 { ALL.start..1 << 31 } else { ALL };
                    let free = table.iter().filter(|slot| slot.is_none()).count();
                    let len = next(1 << 28) + 1;
                    let Some(claimed) = arena.claim_any(space, len, &within) else {
                        assert!(free < table.len() / 2 || within.end < ALL.end, "round {round}");
                        continue;
                    };
                    assert!(claimed.end - claimed.start >= len && within.start <= claimed.start);
                    assert!(claimed.end <= within.end);
                    let part = &mut table[slots_of(&claimed).unwrap()];
                    assert!(part.iter().all(Option::is_none), "round {round}");
                    part.fill(Some(space));
                }
            }
            let taken = table.iter().filter(|slot| slot.is_some()).count();
            assert_eq!(arena.taken.lock().count, taken, "round {round}");
            let at = next(ALL.end - SLOT).max(ALL.start);
            assert_eq!(arena.owner_of(&(at..at + 1)), table[slots_of(&(at..at + 1)).unwrap()][0]);
        }
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
