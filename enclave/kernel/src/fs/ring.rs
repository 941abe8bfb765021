//! A queue of bytes between threads: what pipes and stream sockets are made of.
//!
//! Bytes travel in segments. A writer copies from user memory into a segment of its own and then queues it, a reader
//! takes a segment out of the queue and then copies from it: one copy each way, and no lock over user memory. Small writes are
//! gathered in the last segment.
//!
//! A write may carry a mark, which goes with its first byte. What a read does about that is [`Marks`].
//!
//! How much has room is counted in bytes, or, for pipes, in pages: [`slots`].
//!
//! Lock order: the state is a leaf; no notifier is told under it.

mod moving;
mod slots;
mod state;

pub(crate) use slots::Fill;
pub(crate) use state::RingState;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::sync::{Mutex, MutexGuard};
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use slots::{Promise, Slots};
use state::{SPARES, Segment};
use vfs::{Readiness, ReadinessNotifier};

/// Writes up to this size are not interleaved with others (PIPE_BUF).
pub(crate) const ATOMIC: usize = 4096;
/// Bytes of the largest segment.
pub(crate) const SEGMENT: usize = 64 * 1024;
/// Writes of less are gathered.
const SMALL: usize = 1024;
/// Writes of less are frequent: a byte that wakes somebody, a number of events.
const TINY: usize = 64;

/// What a read does about marks. A small write that is marked is a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// It stops before a mark, or takes it and stops behind its segment, whose rest is like everything else.
    Apart,
    /// It goes on into a segment that is marked, takes the mark and stops behind it: what goes along with bytes of `unix(7)`.
    Behind,
    /// A segment that is marked is a packet: the read stops behind it, and what it leaves of it is lost.
    Packets,
    /// As [`Marks::Apart`], but the rest keeps the mark: what `splice(2)` does. Who waits for room hears of every slot that it
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

impl<M> Ring<M> {
    /// An empty queue whose capacity is that of pages.
    pub(crate) fn of_slots(
        capacity: usize,
        reader: Arc<ReadinessNotifier>,
        writer: Arc<ReadinessNotifier>,
    ) -> Self {
        let ring = Self::new(capacity, reader, writer);
        ring.state.lock().slots = Some(Slots::default());
        ring
    }

    /// An empty queue, without anybody who reads or writes.
    pub(crate) const fn new(
        capacity: usize,
        reader: Arc<ReadinessNotifier>,
        writer: Arc<ReadinessNotifier>,
    ) -> Self {
        let state = RingState {
            segments: VecDeque::new(),
            spares: [const { Vec::new() }; 2],
            most_spares: SPARES,
            len: 0,
            promised: 0,
            received: 0,
            is_missed: false,
            is_refused: false,
            slots: None,
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

    /// Tells who reads to look.
    pub(crate) fn tell_reader(&self) {
        self.reader.broadcast(&Readiness::all());
    }

    /// Drops what is queued.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.state.lock();
            let bytes: usize = state.segments.iter().map(|segment| segment.bytes().len()).sum();
            state.len = state.len.saturating_sub(bytes);
            if let Some(slots) = &mut state.slots {
                slots.consume(bytes);
            }
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
            let Some(mut segment) = self.next(done > 0 && !matches!(marks, Marks::Packets | Marks::Behind))
            else {
                break;
            };
            // A fault puts the segment back: nothing is lost.
            let wanted = segment.bytes().len().min(into.remaining());
            let result = match into.put(segment.bytes()) {
                Ok(put) if put >= wanted => Ok(put),
                short => {
                    let bytes = segment.bytes().get(..wanted).unwrap_or_default();
                    self.put_whole(into, bytes, short)
                }
            };
            let taken = *result.as_ref().unwrap_or(&0);
            segment.start += taken;
            let mut lost = 0;
            if taken > 0 {
                mark = segment.mark.take();
            }
            if mark.is_some() {
                match marks {
                    Marks::Apart | Marks::Behind => {}
                    Marks::Packets => {
                        lost = segment.end.saturating_sub(segment.start);
                        segment.start = segment.end;
                    }
                    Marks::Parts => segment.mark.clone_from(&mark),
                }
            }
            let makes_room = {
                let mut state = self.state.lock();
                let makes_room = state.consume(taken + lost, marks);
                if segment.start < segment.end {
                    state.segments.push_front(segment);
                } else {
                    state.recycle(segment.buffer);
                }
                makes_room
            };
            if makes_room {
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

    /// What a copy of `bytes` comes to that a fault ended: of each slot, or page, all or nothing, as on Linux.
    ///
    /// # Errors
    /// EFAULT nothing.
    fn put_whole(&self, into: &mut dyn ByteSink, bytes: &[u8], short: Result<usize>) -> Result<usize> {
        if short.is_err() && self.state.lock().slots.is_none() {
            return short;
        }
        let mut done = 0;
        loop {
            let end = self.state.lock().end_of(done).min(bytes.len());
            let slot = bytes.get(done..end).unwrap_or_default();
            let is_whole = match short {
                Ok(put) => end <= put,
                // The sink took nothing.
                Err(_) => into.put(slot).is_ok_and(|put| put == slot.len()),
            };
            if slot.is_empty() || !is_whole {
                return counted(done);
            }
            done = end;
        }
    }

    /// Queues bytes of the kernel's own, whether or not there is room.
    pub(crate) fn queue_own(&self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        {
            let mut state = self.state.lock();
            state.len = state.len.saturating_add(bytes.len());
            if bytes.len() < SMALL {
                state.queue_small(&bytes, &mut None);
            } else {
                let end = bytes.len();
                let buffer = bytes.into_boxed_slice();
                state.segments.push_back(Segment { buffer, start: 0, end, mark: None });
            }
        }
        self.reader.broadcast(&Readiness::IN);
    }

    /// The mark of the next byte.
    pub(crate) fn front_mark(&self) -> Option<M>
    where
        M: Clone,
    {
        self.state.lock().segments.front().and_then(|first| first.mark.clone())
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
        self.write_as(from, mark, Fill::Merged)
    }

    /// As [`Ring::write`], and says how slots are taken, where they count.
    ///
    /// # Errors
    /// As [`Ring::write`].
    pub(crate) fn write_as(
        &self,
        from: &mut dyn ByteSource,
        mark: &mut Option<M>,
        mut fill: Fill,
    ) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let (promise, spare) = match self.reserve(from.remaining(), fill) {
                Ok(reserved) => reserved,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let result = if promise.len < SMALL {
                self.write_small(from, promise, mark)
            } else {
                self.write_large(from, promise, spare, mark)
            };
            if let Fill::Pages { start, .. } = &mut fill {
                *start = start.saturating_add(promise.len) % ATOMIC;
            }
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

    /// Promises room to a writer of `wanted` bytes: all of it if the write is atomic. With a buffer that was used before.
    fn reserve(&self, wanted: usize, fill: Fill) -> Result<(Promise, Option<Box<[u8]>>)> {
        let mut state = self.state.lock();
        if state.readers == 0 || state.writers == 0 {
            kbase::bail!(EPIPE, "nobody reads any more");
        }
        let Some(promise) = state.promise(wanted, fill) else {
            state.is_refused |= state.promised > 0;
            kbase::bail!(EAGAIN, "there is no room");
        };
        let spare = if promise.len < SMALL { None } else { state.spare(promise.len) };
        Ok((promise, spare))
    }

    fn write_small(
        &self,
        from: &mut dyn ByteSource,
        promise: Promise,
        mark: &mut Option<M>,
    ) -> Result<usize> {
        // Zeroing all of it takes longer than a byte does.
        let (mut large, mut tiny);
        let bounce: &mut [u8] = if promise.len <= TINY {
            tiny = [0u8; TINY];
            &mut tiny
        } else {
            large = [0u8; SMALL];
            &mut large
        };
        let promised = promise.len;
        let result = take_pages(from, bounce.get_mut(..promised).unwrap_or_default(), promise.first);
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
        promise: Promise,
        spare: Option<Box<[u8]>>,
        mark: &mut Option<M>,
    ) -> Result<usize> {
        let mut buffer = spare.unwrap_or_else(|| buffer_for(promise.len));
        let into = buffer.get_mut(..promise.len).unwrap_or_default();
        let result = take_pages(from, into, promise.first);
        self.queue(buffer, promise.len, *result.as_ref().unwrap_or(&0), mark.take());
        result
    }

    /// Queues the first `came` bytes of a buffer, for which `promised` were promised.
    fn queue(&self, buffer: Box<[u8]>, promised: usize, came: usize, mark: Option<M>) {
        let is_refused = {
            let mut state = self.state.lock();
            if came > 0 {
                state.segments.push_back(Segment { buffer, start: 0, end: came, mark });
            } else {
                state.recycle(buffer);
            }
            state.keep_promise(promised, came)
        };
        self.tell_refused(is_refused);
    }

    /// Tells who found no room because of a promise that was not kept.
    fn tell_refused(&self, is_refused: bool) {
        if is_refused {
            self.writer.broadcast(&Readiness::OUT);
        }
    }
}

/// A new buffer for so many bytes.
fn buffer_for(len: usize) -> Box<[u8]> {
    new_buffer(if len <= ATOMIC { ATOMIC } else { SEGMENT })
}

fn new_buffer(len: usize) -> Box<[u8]> {
    alloc::vec![0; len].into_boxed_slice()
}

/// Takes bytes to queue. Of a page, the first of which has `first` bytes, all or nothing counts when a fault ends it, as on Linux.
///
/// # Errors
/// EFAULT.
fn take_pages(from: &mut dyn ByteSource, into: &mut [u8], first: Option<usize>) -> Result<usize> {
    let taken = match (from.take(into), first) {
        (Ok(taken), _) if taken >= into.len() => return Ok(taken),
        (Ok(taken), None) => {
            let whole = taken - taken % ATOMIC;
            from.give_back(taken - whole);
            return counted(whole);
        }
        (Err(error), None) => return Err(error),
        (taken, Some(_)) => taken.unwrap_or(0),
    };
    from.give_back(taken);
    let (mut done, mut page) = (0usize, first.unwrap_or(ATOMIC));
    while done < into.len() {
        let end = done.saturating_add(page).min(into.len());
        let taken = from.take(into.get_mut(done..end).unwrap_or_default()).unwrap_or(0);
        if taken < end - done {
            from.give_back(taken);
            break;
        }
        (done, page) = (end, ATOMIC);
    }
    counted(done)
}

/// What counts of a copy that ended before all that was wanted, because of a fault.
///
/// # Errors
/// EFAULT nothing counts.
fn counted(whole: usize) -> Result<usize> {
    if whole == 0 {
        kbase::bail!(EFAULT, "not all of a page can be copied");
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
