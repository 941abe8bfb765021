//! What is in a queue, and who may have more.

use super::slots::{Fill, Promise, Slots};
use super::{ATOMIC, Marks, SEGMENT, new_buffer};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Buffers of each size that are kept for reuse: of [`ATOMIC`] and of [`SEGMENT`] bytes.
pub(super) const SPARES: [usize; 2] = [8, 2];

pub(crate) struct RingState<M> {
    pub(super) segments: VecDeque<Segment<M>>,
    /// Buffers of [`ATOMIC`] and of [`SEGMENT`] bytes.
    pub(super) spares: [Vec<Box<[u8]>>; 2],
    /// How many of each are kept.
    pub(super) most_spares: [usize; 2],
    /// Bytes queued, in the hands of a reader, or promised to a writer.
    pub(super) len: usize,
    /// Of those, bytes promised to writers.
    pub(super) promised: usize,
    /// Bytes that were ever read.
    pub(super) received: u64,
    /// Somebody found nothing while another reader had all in its hands.
    pub(super) is_missed: bool,
    /// Somebody found no room while another writer had been promised some.
    pub(super) is_refused: bool,
    /// The slots that all those bytes take, where slots count.
    pub(super) slots: Option<Slots>,
    pub(crate) capacity: usize,
    /// Who may read, and who may write.
    pub(crate) readers: u32,
    pub(crate) writers: u32,
}

/// Bytes `start..end` of a buffer.
pub(super) struct Segment<M> {
    pub(super) buffer: Box<[u8]>,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) mark: Option<M>,
}

impl<M> Segment<M> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Appends if it fits and nothing is marked.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        match self.buffer.get_mut(self.end..self.end.saturating_add(bytes.len())) {
            Some(room) if self.mark.is_none() => {
                room.copy_from_slice(bytes);
                self.end += bytes.len();
                true
            }
            _ => false,
        }
    }
}

impl<M> RingState<M> {
    /// Bytes for which there is room.
    pub(crate) const fn room(&self) -> usize {
        self.capacity.saturating_sub(self.used())
    }

    /// Bytes that can be read or will be.
    pub(crate) const fn readable(&self) -> usize {
        self.len.saturating_sub(self.promised)
    }

    /// Bytes that were ever read.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes for which there is no room any more.
    pub(crate) const fn used(&self) -> usize {
        match &self.slots {
            Some(slots) => slots.used().saturating_mul(ATOMIC),
            None => self.len,
        }
    }

    /// Promises room to a writer of `wanted` bytes: all of it if the write is atomic. None: there is no room.
    pub(super) fn promise(&mut self, wanted: usize, fill: Fill) -> Option<Promise> {
        let capacity = self.capacity / ATOMIC;
        let promise = match &mut self.slots {
            Some(slots) => slots.promise(wanted, fill, capacity, SEGMENT)?,
            None => {
                let room = self.room();
                if room == 0 || (wanted <= ATOMIC && room < wanted) {
                    return None;
                }
                Promise { len: wanted.min(room).min(SEGMENT), first: None }
            }
        };
        self.len += promise.len;
        self.promised += promise.len;
        Some(promise)
    }

    /// Bytes are gone. Returns whether somebody who waits for room is to hear of it.
    pub(super) fn consume(&mut self, len: usize, marks: Marks) -> bool {
        let was_full = self.room() < ATOMIC;
        self.len = self.len.saturating_sub(len);
        self.received = self.received.saturating_add(len as u64);
        match &mut self.slots {
            Some(slots) => slots.consume(len) > 0 && (was_full || marks == Marks::Parts),
            None => was_full,
        }
    }

    /// Where the slot, or page, ends that the byte at `place` is in.
    pub(super) fn end_of(&self, place: usize) -> usize {
        match &self.slots {
            Some(slots) => slots.end_of(place).unwrap_or(usize::MAX),
            None => place.saturating_add(ATOMIC - place % ATOMIC),
        }
    }

    /// How many buffers of [`ATOMIC`] and of [`SEGMENT`] bytes are kept for reuse.
    pub(crate) const fn keep_spares(&mut self, most: [usize; 2]) {
        self.most_spares = most;
    }

    pub(super) fn recycle(&mut self, buffer: Box<[u8]>) {
        let ([pages, large], [most_pages, most_large]) = (&mut self.spares, self.most_spares);
        match buffer.len() {
            ATOMIC if pages.len() < most_pages => pages.push(buffer),
            SEGMENT if large.len() < most_large => large.push(buffer),
            _ => {}
        }
    }

    /// A buffer that was used before, for so many bytes.
    pub(super) fn spare(&mut self, len: usize) -> Option<Box<[u8]>> {
        let [pages, large] = &mut self.spares;
        if len <= ATOMIC { pages.pop() } else { large.pop() }
    }

    /// Queues a small write: in the last segment, or in a new one.
    pub(super) fn queue_small(&mut self, bytes: &[u8], mark: &mut Option<M>) {
        if mark.is_none() && self.segments.back_mut().is_some_and(|last| last.append(bytes)) {
            return;
        }
        // What others will be appended to had better be large.
        let large = if mark.is_none() { self.spare(SEGMENT) } else { None };
        let buffer = large.or_else(|| self.spare(ATOMIC)).unwrap_or_else(|| new_buffer(ATOMIC));
        let mut segment = Segment { buffer, start: 0, end: 0, mark: None };
        segment.append(bytes);
        segment.mark = mark.take();
        self.segments.push_back(segment);
    }

    /// Turns promised bytes into queued ones; those that did not come are free again. Returns whether somebody was refused who
    /// would have had room.
    pub(super) fn keep_promise(&mut self, promised: usize, came: usize) -> bool {
        let missing = promised.saturating_sub(came);
        self.promised = self.promised.saturating_sub(promised);
        self.len = self.len.saturating_sub(missing);
        if let Some(slots) = &mut self.slots {
            slots.retract(missing);
        }
        came < promised && core::mem::replace(&mut self.is_refused, false)
    }
}
