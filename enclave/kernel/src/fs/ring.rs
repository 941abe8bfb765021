//! A queue of bytes between threads: what pipes and stream sockets are made of.
//!
//! Bytes travel in segments. A writer copies from user memory into a segment of its own and then queues it, a reader
//! takes a segment out of the queue and then copies from it: one copy each way, and no lock over user memory. Small writes are
//! gathered in the last segment.
//!
//! A write may carry a mark, which goes with its first byte. What a read does about that is [`Marks`].
//!
//! Lock order: the state is a leaf; no notifier is told under it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::sync::{Mutex, MutexGuard};
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use vfs::{Readiness, ReadinessNotifier};

/// Writes up to this size are not interleaved with others (PIPE_BUF).
pub(crate) const ATOMIC: usize = 4096;
/// Bytes of the largest segment.
pub(crate) const SEGMENT: usize = 64 * 1024;
/// Writes of less are gathered.
const SMALL: usize = 1024;
/// Buffers of each size that are kept for reuse: of [`ATOMIC`] and of [`SEGMENT`] bytes.
const SPARES: [usize; 2] = [8, 2];

/// What a read does about marks. A small write that is marked is a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// It stops before a mark, or takes it and stops behind its segment, whose rest is like everything else.
    Apart,
    /// A segment that is marked is a packet: the read stops behind it, and what it leaves of it is lost.
    Packets,
    /// As [`Marks::Apart`], but the rest keeps the mark: what `splice(2)` does. Who waits for room hears of every page that it
    /// empties, as from Linux.
    Parts,
}

/// The queue.
pub(crate) struct Ring<M = ()> {
    state: Mutex<RingState<M>>,
    /// Who hears that something can be read, and that there is room.
    reader: Arc<ReadinessNotifier>,
    writer: Arc<ReadinessNotifier>,
}

pub(crate) struct RingState<M> {
    segments: VecDeque<Segment<M>>,
    /// Buffers of [`ATOMIC`] and of [`SEGMENT`] bytes.
    spares: [Vec<Box<[u8]>>; 2],
    /// Bytes queued, in the hands of a reader, or promised to a writer.
    len: usize,
    /// Of those, bytes promised to writers.
    promised: usize,
    /// Bytes that were ever read.
    received: u64,
    /// Somebody found nothing while another reader had all in its hands.
    is_missed: bool,
    /// Somebody found no room while another writer had been promised some.
    is_refused: bool,
    pub(crate) capacity: usize,
    /// Who may read, and who may write.
    pub(crate) readers: u32,
    pub(crate) writers: u32,
}

/// Bytes `start..end` of a buffer.
struct Segment<M> {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    mark: Option<M>,
}

impl<M> Segment<M> {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Appends if it fits and nothing is marked.
    fn append(&mut self, bytes: &[u8]) -> bool {
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
        self.capacity.saturating_sub(self.len)
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
        self.len
    }

    fn recycle(&mut self, buffer: Box<[u8]>) {
        let ([pages, large], [most_pages, most_large]) = (&mut self.spares, SPARES);
        match buffer.len() {
            ATOMIC if pages.len() < most_pages => pages.push(buffer),
            SEGMENT if large.len() < most_large => large.push(buffer),
            _ => {}
        }
    }

    /// A buffer that was used before, for so many bytes.
    fn spare(&mut self, len: usize) -> Option<Box<[u8]>> {
        let [pages, large] = &mut self.spares;
        if len <= ATOMIC { pages.pop() } else { large.pop() }
    }

    /// Queues a small write: in the last segment, or in a new one.
    fn queue_small(&mut self, bytes: &[u8], mark: &mut Option<M>) {
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
    const fn keep_promise(&mut self, promised: usize, came: usize) -> bool {
        self.promised = self.promised.saturating_sub(promised);
        self.len = self.len.saturating_sub(promised.saturating_sub(came));
        came < promised && core::mem::replace(&mut self.is_refused, false)
    }
}

impl<M> Ring<M> {
    /// An empty queue, without anybody who reads or writes.
    pub(crate) const fn new(
        capacity: usize,
        reader: Arc<ReadinessNotifier>,
        writer: Arc<ReadinessNotifier>,
    ) -> Self {
        let state = RingState {
            segments: VecDeque::new(),
            spares: [const { Vec::new() }; 2],
            len: 0,
            promised: 0,
            received: 0,
            is_missed: false,
            is_refused: false,
            capacity,
            readers: 0,
            writers: 0,
        };
        Self { state: Mutex::new(state), reader, writer }
    }

    /// The state. Who changes what somebody may wait for calls [`Ring::tell`] afterwards.
    pub(crate) fn state(&self) -> MutexGuard<'_, RingState<M>> {
        self.state.lock()
    }

    /// Tells both sides to look.
    pub(crate) fn tell(&self) {
        self.reader.broadcast(&Readiness::all());
        if !Arc::ptr_eq(&self.reader, &self.writer) {
            self.writer.broadcast(&Readiness::all());
        }
    }

    /// Drops what is queued.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.state.lock();
            let bytes: usize = state.segments.iter().map(|segment| segment.bytes().len()).sum();
            state.len = state.len.saturating_sub(bytes);
            (core::mem::take(&mut state.segments), core::mem::take(&mut state.spares))
        };
        drop(dropped);
    }

    /// Reads what is there, up to the next mark, and takes the mark of its first byte. 0: the end.
    ///
    /// # Errors
    /// EAGAIN nothing is there; EFAULT.
    pub(crate) fn read(&self, into: &mut dyn ByteSink) -> Result<(usize, Option<M>)>
    where
        M: Clone,
    {
        self.read_with(into, Marks::Apart)
    }

    /// Reads what is there, as far as marks allow, and gives the mark that it met. 0: the end.
    ///
    /// # Errors
    /// EAGAIN nothing is there; EFAULT.
    pub(crate) fn read_with(&self, into: &mut dyn ByteSink, marks: Marks) -> Result<(usize, Option<M>)>
    where
        M: Clone,
    {
        let mut done = 0usize;
        let mut mark = None;
        while into.remaining() > 0 && mark.is_none() {
            let Some(mut segment) = self.next(done > 0 && marks != Marks::Packets) else { break };
            // A fault puts the segment back: nothing is lost.
            let wanted = segment.bytes().len().min(into.remaining());
            let result = into.put(segment.bytes()).and_then(|put| whole_pages(put, wanted));
            let taken = *result.as_ref().unwrap_or(&0);
            let page = segment.start / ATOMIC;
            segment.start += taken;
            let empties_page = segment.start == segment.end || segment.start / ATOMIC > page;
            let mut lost = 0;
            if taken > 0 {
                mark = segment.mark.take();
            }
            if mark.is_some() {
                match marks {
                    Marks::Apart => {}
                    Marks::Packets => {
                        lost = segment.end.saturating_sub(segment.start);
                        segment.start = segment.end;
                    }
                    Marks::Parts => segment.mark.clone_from(&mark),
                }
            }
            let was_full = {
                let mut state = self.state.lock();
                let was_full = state.room() < ATOMIC;
                state.len = state.len.saturating_sub(taken + lost);
                state.received = state.received.saturating_add((taken + lost) as u64);
                if segment.start < segment.end {
                    state.segments.push_front(segment);
                } else {
                    state.recycle(segment.buffer);
                }
                was_full
            };
            if was_full || (marks == Marks::Parts && empties_page) {
                self.writer.broadcast(&Readiness::OUT);
            }
            match result {
                Ok(0) => break,
                Ok(taken) => done += taken,
                Err(_) if done > 0 => break,
                Err(error) => {
                    self.tell_missed();
                    return Err(error);
                }
            }
        }
        if done > 0 || into.remaining() == 0 {
            self.tell_missed();
            return Ok((done, mark));
        }
        self.end_or_again().map(|()| (0, None))
    }

    /// Whether the next byte is marked.
    pub(crate) fn is_marked(&self) -> bool {
        self.state.lock().segments.front().is_some_and(|first| first.mark.is_some())
    }

    /// The first segment, unless it is marked and something was read before.
    fn next(&self, stops_at_mark: bool) -> Option<Segment<M>> {
        let mut state = self.state.lock();
        let is_stop = stops_at_mark && state.segments.front().is_some_and(|first| first.mark.is_some());
        if is_stop { None } else { state.segments.pop_front() }
    }

    /// Tells who found nothing while this reader had it.
    fn tell_missed(&self) {
        let is_missed = {
            let mut state = self.state.lock();
            core::mem::take(&mut state.is_missed) && state.readable() > 0
        };
        if is_missed {
            self.reader.broadcast(&Readiness::IN);
        }
    }

    fn end_or_again(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.readable() == 0 && (state.writers == 0 || state.readers == 0) {
            return Ok(());
        }
        state.is_missed |= state.readable() > 0;
        Err(Error::new(Errno::EAGAIN, "nothing is there to read"))
    }

    /// Writes what there is room for, and `mark` with its first byte. What was not written is back in `from`.
    ///
    /// # Errors
    /// EAGAIN no room, or none for all of a small write; EPIPE nobody reads; EFAULT.
    pub(crate) fn write(&self, from: &mut dyn ByteSource, mark: &mut Option<M>) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let (promised, spare) = match self.reserve(from.remaining()) {
                Ok(reserved) => reserved,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let result = if promised < SMALL {
                self.write_small(from, promised, mark)
            } else {
                self.write_large(from, promised, spare, mark)
            };
            if let Ok(1..) = result {
                self.reader.broadcast(&Readiness::IN);
            }
            match result {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Promises room to a writer of `wanted` bytes: all of it if the write is atomic.
    fn reserve(&self, wanted: usize) -> Result<(usize, Option<Box<[u8]>>)> {
        let mut state = self.state.lock();
        if state.readers == 0 || state.writers == 0 {
            kbase::bail!(EPIPE, "nobody reads any more");
        }
        let room = state.room();
        if room == 0 || (wanted <= ATOMIC && room < wanted) {
            state.is_refused |= state.promised > 0;
            kbase::bail!(EAGAIN, "there is no room");
        }
        let promised = wanted.min(room).min(SEGMENT);
        state.len += promised;
        state.promised += promised;
        let spare = if promised < SMALL { None } else { state.spare(promised) };
        Ok((promised, spare))
    }

    fn write_small(&self, from: &mut dyn ByteSource, promised: usize, mark: &mut Option<M>) -> Result<usize> {
        let mut bounce = [0u8; SMALL];
        let result = take_pages(from, bounce.get_mut(..promised).unwrap_or_default());
        let bytes = bounce.get(..*result.as_ref().unwrap_or(&0)).unwrap_or_default();
        let is_refused = {
            let mut state = self.state.lock();
            let is_refused = state.keep_promise(promised, bytes.len());
            if !bytes.is_empty() {
                state.queue_small(bytes, mark);
            }
            is_refused
        };
        self.tell_refused(is_refused);
        result
    }

    fn write_large(
        &self,
        from: &mut dyn ByteSource,
        promised: usize,
        spare: Option<Box<[u8]>>,
        mark: &mut Option<M>,
    ) -> Result<usize> {
        let mut buffer =
            spare.unwrap_or_else(|| new_buffer(if promised <= ATOMIC { ATOMIC } else { SEGMENT }));
        let result = take_pages(from, buffer.get_mut(..promised).unwrap_or_default());
        let taken = *result.as_ref().unwrap_or(&0);
        let is_refused = {
            let mut state = self.state.lock();
            if taken > 0 {
                state.segments.push_back(Segment { buffer, start: 0, end: taken, mark: mark.take() });
            } else {
                state.recycle(buffer);
            }
            state.keep_promise(promised, taken)
        };
        self.tell_refused(is_refused);
        result
    }

    /// Tells who found no room because of a promise that was not kept.
    fn tell_refused(&self, is_refused: bool) {
        if is_refused {
            self.writer.broadcast(&Readiness::OUT);
        }
    }
}

fn new_buffer(len: usize) -> Box<[u8]> {
    alloc::vec![0; len].into_boxed_slice()
}

/// Takes bytes to queue.
///
/// # Errors
/// EFAULT.
fn take_pages(from: &mut dyn ByteSource, into: &mut [u8]) -> Result<usize> {
    let taken = from.take(into)?;
    let whole = whole_pages(taken, into.len());
    from.give_back(taken - whole.as_ref().unwrap_or(&0));
    whole
}

/// What counts of a copy that ended before all that was wanted, because of a fault: of a page all or nothing, as on Linux.
///
/// # Errors
/// EFAULT nothing counts.
fn whole_pages(done: usize, wanted: usize) -> Result<usize> {
    if done >= wanted {
        return Ok(done);
    }
    match done - done % ATOMIC {
        0 => Err(Error::new(Errno::EFAULT, "not all of a page can be copied")),
        whole => Ok(whole),
    }
}

impl<M: Clone> Ring<M> {
    /// Copies of what is there, at most `max` bytes, in parts of which each is marked or not. None: the end.
    ///
    /// # Errors
    /// EAGAIN nothing is there.
    pub(crate) fn copy(&self, max: usize) -> Result<Vec<(Vec<u8>, Option<M>)>> {
        let mut held: Vec<Segment<M>> = Vec::new();
        let mut left = max;
        while left > 0
            && let Some(segment) = self.next(false)
        {
            left = left.saturating_sub(segment.bytes().len());
            held.push(segment);
        }
        let mut left = max;
        let part = |segment: &Segment<M>| {
            let len = segment.bytes().len().min(left);
            left -= len;
            (segment.bytes().get(..len).unwrap_or_default().to_vec(), segment.mark.clone())
        };
        let parts: Vec<_> = held.iter().map(part).collect();
        self.put_back(held);
        if parts.is_empty() && max > 0 {
            self.end_or_again()?;
        }
        Ok(parts)
    }

    /// Puts segments back that were taken to be looked at.
    fn put_back(&self, held: Vec<Segment<M>>) {
        {
            let mut state = self.state.lock();
            held.into_iter().rev().for_each(|segment| state.segments.push_front(segment));
        }
        self.tell_missed();
    }

    /// As [`Ring::read`], but leaves everything there.
    ///
    /// # Errors
    /// As [`Ring::read`].
    pub(crate) fn peek(&self, into: &mut dyn ByteSink) -> Result<(usize, Option<M>)> {
        let mut held: Vec<Segment<M>> = Vec::new();
        let mut wanted = into.remaining();
        while wanted > 0 && held.last().is_none_or(|last| last.mark.is_none()) {
            let Some(segment) = self.next(!held.is_empty()) else { break };
            wanted = wanted.saturating_sub(segment.bytes().len());
            held.push(segment);
        }
        let mut done = 0usize;
        let result = held.iter().try_for_each(|segment| {
            done += into.put(segment.bytes())?;
            Ok(())
        });
        let mark = held.last().and_then(|last| last.mark.clone());
        let was_empty = held.is_empty();
        self.put_back(held);
        match result {
            Err(error) if done == 0 => Err(error),
            _ if was_empty && into.remaining() > 0 => self.end_or_again().map(|()| (0, None)),
            _ => Ok((done, mark)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kbase::{SliceSink, SliceSource};

    fn ring() -> Ring<u32> {
        let ring = Ring::new(2 * SEGMENT, Arc::default(), Arc::default());
        (ring.state().readers, ring.state().writers) = (1, 1);
        ring
    }

    fn write(ring: &Ring<u32>, bytes: &[u8], mark: Option<u32>) -> usize {
        ring.write(&mut SliceSource::new(bytes), &mut { mark }).unwrap()
    }

    fn read(ring: &Ring<u32>, len: usize) -> (Vec<u8>, Option<u32>) {
        let mut bytes = alloc::vec![0; len];
        let (len, mark) = ring.read(&mut SliceSink::new(&mut bytes)).unwrap();
        bytes.truncate(len);
        (bytes, mark)
    }

    fn peek(ring: &Ring<u32>, len: usize) -> Result<(usize, Option<u32>)> {
        ring.peek(&mut SliceSink::new(&mut alloc::vec![0; len]))
    }

    #[test]
    fn a_read_stops_before_a_mark_and_behind_what_came_with_it() {
        let ring = ring();
        write(&ring, b"ab", None);
        write(&ring, b"cd", Some(7));
        write(&ring, b"ef", None);
        assert_eq!(read(&ring, 9), (b"ab".to_vec(), None));
        assert_eq!(read(&ring, 1), (b"c".to_vec(), Some(7)));
        assert_eq!(read(&ring, 9), (b"def".to_vec(), None));
    }

    fn read_with(ring: &Ring<u32>, len: usize, marks: Marks) -> (Vec<u8>, Option<u32>) {
        let mut bytes = alloc::vec![0; len];
        let (len, mark) = ring.read_with(&mut SliceSink::new(&mut bytes), marks).unwrap();
        bytes.truncate(len);
        (bytes, mark)
    }

    #[test]
    fn a_packet_ends_a_read_and_its_rest_is_lost() {
        let ring = ring();
        write(&ring, b"ab", None);
        write(&ring, b"cde", Some(7));
        write(&ring, b"fg", Some(8));
        assert_eq!(read_with(&ring, 3, Marks::Packets), (b"abc".to_vec(), Some(7)));
        assert_eq!(ring.state().readable(), 2);
        assert_eq!(read_with(&ring, 9, Marks::Packets), (b"fg".to_vec(), Some(8)));
    }

    #[test]
    fn a_part_of_a_packet_leaves_a_packet() {
        let ring = ring();
        write(&ring, b"abc", Some(7));
        write(&ring, b"de", None);
        assert_eq!(read_with(&ring, 1, Marks::Parts), (b"a".to_vec(), Some(7)));
        let parts = [(b"bc".to_vec(), Some(7)), (b"d".to_vec(), None)];
        assert_eq!(ring.copy(3).unwrap(), parts);
        assert_eq!(read_with(&ring, 9, Marks::Parts), (b"bc".to_vec(), Some(7)));
        assert_eq!(read_with(&ring, 9, Marks::Parts), (b"de".to_vec(), None));
        assert_eq!(ring.copy(3).unwrap_err().errno(), Errno::EAGAIN);
    }

    #[test]
    fn a_peek_leaves_everything_there() {
        let ring = ring();
        write(&ring, b"ab", None);
        write(&ring, &[1; 5000], None);
        write(&ring, b"cd", Some(7));
        assert_eq!(peek(&ring, 9000).unwrap(), (5002, None));
        assert_eq!(read(&ring, 9000).0.len(), 5002);
        assert_eq!(peek(&ring, 1).unwrap(), (1, Some(7)));
        assert_eq!(read(&ring, 2), (b"cd".to_vec(), Some(7)));
        assert_eq!(peek(&ring, 1).unwrap_err().errno(), Errno::EAGAIN);
        ring.state().writers = 0;
        assert_eq!(peek(&ring, 1).unwrap(), (0, None));
    }
}
