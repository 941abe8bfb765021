//! The slots of a pipe. On Linux a pipe holds so many pages, not so many bytes: a page counts from its first byte to its last, be it
//! full or not. How much can be written, by whom, and whether somebody waits, follows from that.
//!
//! Here they only count: the bytes themselves are in the segments of the queue.

use super::ATOMIC as PAGE;
use alloc::collections::VecDeque;

/// How what comes takes slots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// As of `write(2)`: what exceeds whole pages is first added to the last page, if all of it has room there.
    Merged,
    /// Only that part of it.
    Rest,
    /// In new pages, from that place of the first. Later writes may be added to the last, or not: to what is a packet, or
    /// shares its page with a file or another pipe.
    Pages { start: usize, merges: bool },
}

impl Fill {
    /// A packet.
    pub(crate) const PACKET: Self = Self::Pages { start: 0, merges: false };
}

/// Room that was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Promise {
    pub(crate) len: usize,
    /// Bytes of it in the first page, where pages count: of each all or nothing comes.
    pub(crate) first: Option<usize>,
}

/// Bytes in slots that follow one another: each slot but the last is filled to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Where it begins in its first page.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Whether the last page takes more.
    pub(crate) merges: bool,
}

impl Run {
    const fn slots(&self) -> usize {
        self.start.saturating_add(self.len).div_ceil(PAGE)
    }
}

/// The slots that are in use, in order.
#[derive(Default)]
pub(crate) struct Slots {
    runs: VecDeque<Run>,
    used: usize,
}

impl Slots {
    /// Slots in use.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// The first bytes.
    pub(crate) fn front(&self) -> Option<Run> {
        self.runs.front().copied()
    }

    /// All, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter().copied()
    }

    /// Takes slots for at most `wanted` and `most` bytes, of `capacity` slots. None: there is no room.
    pub(crate) fn promise(
        &mut self,
        wanted: usize,
        fill: Fill,
        capacity: usize,
        most: usize,
    ) -> Option<Promise> {
        let free = capacity.saturating_sub(self.used).saturating_mul(PAGE);
        let (start, merges) = match fill {
            Fill::Merged | Fill::Rest => (0, true),
            Fill::Pages { start, merges } => (start % PAGE, merges),
        };
        let merged = match fill {
            Fill::Merged | Fill::Rest => self.merge(wanted % PAGE),
            Fill::Pages { .. } => 0,
        };
        // Whoever comes again for more has filled a page.
        let pages = match fill {
            Fill::Rest => 0,
            Fill::Merged if merged > 0 => (most - most.min(merged)) / PAGE * PAGE,
            _ => most.saturating_sub(start),
        };
        let len = wanted.saturating_sub(merged).min(free.saturating_sub(start)).min(pages);
        if len > 0 {
            let run = Run { start, len, merges };
            self.used = self.used.saturating_add(run.slots());
            self.runs.push_back(run);
        }
        let first = Some(if merged > 0 { merged } else { PAGE - start });
        let len = merged.saturating_add(len);
        (len > 0).then_some(Promise { len, first })
    }

    /// Adds bytes to the last page, if all have room there. Returns how many that are.
    fn merge(&mut self, len: usize) -> usize {
        match self.runs.back_mut() {
            Some(last) if last.merges && len > 0 => {
                let end = last.start.saturating_add(last.len) % PAGE;
                if end == 0 || end.saturating_add(len) > PAGE {
                    return 0;
                }
                last.len = last.len.saturating_add(len);
                len
            }
            _ => 0,
        }
    }

    /// The last `len` bytes do not come.
    pub(crate) fn retract(&mut self, mut len: usize) {
        while len > 0
            && let Some(last) = self.runs.back_mut()
        {
            let before = last.slots();
            let gone = len.min(last.len);
            last.len -= gone;
            len -= gone;
            let left = if last.len == 0 { 0 } else { last.slots() };
            self.used = self.used.saturating_sub(before.saturating_sub(left));
            if left == 0 {
                self.runs.pop_back();
            }
        }
    }

    /// The first `len` bytes are read. Returns how many slots that empties.
    pub(crate) fn consume(&mut self, mut len: usize) -> usize {
        let before = self.used;
        while len > 0
            && let Some(first) = self.runs.front_mut()
        {
            let slots = first.slots();
            if len >= first.len {
                len -= first.len;
                self.used = self.used.saturating_sub(slots);
                self.runs.pop_front();
                continue;
            }
            first.start = first.start.saturating_add(len) % PAGE;
            first.len -= len;
            self.used = self.used.saturating_sub(slots.saturating_sub(first.slots()));
            break;
        }
        before.saturating_sub(self.used)
    }

    /// Where the slot ends that the byte at `place` is in. None: it is behind all.
    pub(crate) fn end_of(&self, place: usize) -> Option<usize> {
        let mut before = 0usize;
        for run in &self.runs {
            let within = place.saturating_sub(before);
            if within < run.len {
                let page = run.start.saturating_add(within) / PAGE;
                let end = page.saturating_add(1).saturating_mul(PAGE).saturating_sub(run.start);
                return Some(before.saturating_add(end.min(run.len)));
            }
            before = before.saturating_add(run.len);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16 * PAGE;

    fn write(slots: &mut Slots, len: usize) -> usize {
        slots.promise(len, Fill::Merged, 16, MOST).map_or(0, |promise| promise.len)
    }

    #[test]
    fn small_writes_share_a_page_and_do_not_cross_its_end() {
        let mut slots = Slots::default();
        (0..4096).for_each(|_| assert_eq!(write(&mut slots, 1), 1));
        assert_eq!(slots.used(), 1);
        assert_eq!(write(&mut slots, 4000), 4000);
        assert_eq!((write(&mut slots, 97), slots.used()), (97, 3));
        assert_eq!((write(&mut slots, 4096 + 3999), slots.used()), (4096 + 3999, 4));
        assert_eq!(slots.promise(4096, Fill::Merged, 4, MOST), None, "a page has no rest");
        assert_eq!(slots.promise(4096, Fill::Rest, 16, MOST), None);
        assert_eq!(slots.promise(1, Fill::Rest, 16, MOST), None, "the last page is full");
    }

    #[test]
    fn a_full_pipe_takes_what_fits_into_the_last_page() {
        let mut slots = Slots::default();
        assert_eq!(write(&mut slots, 15 * 4096 + 100), 15 * 4096 + 100);
        assert_eq!(slots.promise(4097, Fill::Merged, 16, MOST), Some(Promise { len: 1, first: Some(1) }));
        assert_eq!(write(&mut slots, 3996), 0);
        assert_eq!(write(&mut slots, 3995), 3995);
        assert_eq!(write(&mut slots, 1), 0);
    }

    #[test]
    fn a_slot_is_free_when_its_last_byte_is_read() {
        let mut slots = Slots::default();
        write(&mut slots, 3 * 4096);
        assert_eq!((slots.consume(4095), slots.used()), (0, 3));
        assert_eq!([0, 1, 4096, 4097].map(|place| slots.end_of(place)), [1, 4097, 4097, 8193].map(Some));
        assert_eq!(slots.end_of(8193), None);
        assert_eq!((slots.consume(2), slots.used()), (1, 2));
        assert_eq!((slots.consume(9999), slots.used()), (2, 0));
        assert!(slots.front().is_none());
        assert_eq!(write(&mut slots, 10), 10);
        assert_eq!(slots.front(), Some(Run { start: 0, len: 10, merges: true }), "a new page");
    }

    #[test]
    fn what_begins_within_a_page_takes_one_more() {
        let mut slots = Slots::default();
        let fill = Fill::Pages { start: 4000, merges: false };
        assert_eq!(slots.promise(9000, fill, 2, MOST), Some(Promise { len: 96 + 4096, first: Some(96) }));
        assert_eq!(slots.used(), 2);
        assert_eq!(slots.promise(1, fill, 2, MOST), None);
        assert_eq!(slots.promise(1, Fill::Merged, 2, MOST), None, "no page to add to");
    }

    #[test]
    fn what_does_not_come_takes_no_slot() {
        let mut slots = Slots::default();
        write(&mut slots, 100);
        write(&mut slots, 2 * 4096 + 50);
        assert_eq!(slots.used(), 3);
        slots.retract(4096);
        assert_eq!(slots.used(), 2);
        slots.retract(4096 + 50);
        assert_eq!((slots.used(), slots.front()), (1, Some(Run { start: 0, len: 100, merges: true })));
        slots.retract(100);
        assert_eq!((slots.used(), slots.front()), (0, None));
    }

    #[test]
    fn a_packet_is_a_slot_and_nothing_is_added_to_it() {
        let mut slots = Slots::default();
        write(&mut slots, 1);
        assert_eq!(slots.promise(1, Fill::PACKET, 3, MOST).map(|it| it.len), Some(1));
        assert_eq!(slots.promise(1, Fill::Rest, 3, MOST), None);
        assert_eq!(slots.promise(1, Fill::PACKET, 3, MOST).map(|it| it.len), Some(1));
        assert_eq!(slots.promise(1, Fill::PACKET, 3, MOST), None);
    }

    #[test]
    fn a_long_write_comes_again_at_the_border_of_a_page() {
        let mut slots = Slots::default();
        slots.promise(10, Fill::Merged, 64, MOST);
        let first = slots.promise(100_000, Fill::Merged, 64, MOST).map(|it| it.len);
        assert_eq!(first, Some(100_000 % 4096 + 15 * 4096));
        assert_eq!((100_000 - first.unwrap()) % 4096, 0);
    }
}
