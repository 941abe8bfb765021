//! Looking without taking, and from queue to queue.

use super::slots::{Fill, Run, Slots};
use super::{Marks, Ring, Segment, buffer_for};
use alloc::vec::Vec;
use kbase::{ByteSink, Errno, Error, Result, SliceSink};
use vfs::Readiness;

/// What was in a queue, and in which slots, with marks.
pub(crate) struct Copied<M> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) runs: Vec<(Run, Option<M>)>,
}

impl<M: Clone> Ring<M> {
    /// Copies of what is there, at most `max` bytes, and how they are in slots, with marks. Nothing: the end.
    ///
    /// # Errors
    /// EAGAIN nothing is there.
    pub(crate) fn copy(&self, max: usize) -> Result<Copied<M>> {
        let (held, bytes) = self.hold(max);
        let mut marks = Vec::new();
        let mut place = 0;
        for segment in &held {
            if let Some(mark) = &segment.mark {
                marks.push((place, mark.clone()));
            }
            place += segment.bytes().len();
        }
        let mut runs = Vec::new();
        let mut at = 0;
        if let Some(slots) = &self.state.lock().slots {
            for run in slots.runs() {
                if at >= bytes.len() {
                    break;
                }
                let mark = marks.iter().find(|(place, _)| *place == at).map(|(_, mark)| mark.clone());
                runs.push((Run { len: run.len.min(bytes.len() - at), ..run }, mark));
                at += run.len;
            }
        }
        self.put_back(held);
        if bytes.is_empty() && max > 0 {
            self.end_or_again()?;
        }
        Ok(Copied { bytes, runs })
    }

    /// Moves at most `max` bytes here from another queue, slot by slot. 0: its end.
    ///
    /// # Errors
    /// EAGAIN nothing is there, or there is no room; EPIPE nobody reads.
    pub(crate) fn move_from(&self, from: &Self, max: usize) -> Result<usize> {
        let mut done = 0;
        while done < max {
            match self.move_run(from, max - done) {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Hands at most `max` bytes of what is there to `write`, which may wait, and takes out what that takes. Nobody else reads them
    /// meanwhile. 0: the end. The inner result is that of `write`.
    ///
    /// # Errors
    /// EAGAIN nothing is there.
    pub(crate) fn hand_on(
        &self,
        max: usize,
        write: &mut dyn FnMut(&[u8]) -> Result<usize>,
    ) -> Result<Result<usize>> {
        let (held, bytes) = self.hold(max);
        if bytes.is_empty() {
            self.end_or_again()?;
            return Ok(Ok(0));
        }
        let written = write(&bytes);
        let mut taken = *written.as_ref().unwrap_or(&0);
        let mut rest = Vec::new();
        let makes_room = {
            let mut state = self.state.lock();
            let makes_room = state.consume(taken, Marks::Parts);
            for mut segment in held {
                let len = segment.bytes().len().min(taken);
                taken -= len;
                segment.start += len;
                if segment.start < segment.end {
                    rest.push(segment);
                } else {
                    state.recycle(segment.buffer);
                }
            }
            makes_room
        };
        if makes_room {
            self.writer.broadcast(&Readiness::OUT);
        }
        self.put_back(rest);
        Ok(written)
    }

    fn move_run(&self, from: &Self, max: usize) -> Result<usize> {
        let run = from.state.lock().slots.as_ref().and_then(Slots::front);
        let Some(run) = run else { return from.end_or_again().map(|()| 0) };
        // Of a page that is in both, neither pipe changes what it shares.
        let fill = Fill::Pages { start: run.start, merges: run.merges && run.len <= max };
        let (promise, spare) = self.reserve(run.len.min(max), fill)?;
        let mut buffer = spare.unwrap_or_else(|| buffer_for(promise.len));
        let mut into = SliceSink::new(buffer.get_mut(..promise.len).unwrap_or_default());
        let read = from.read_with(&mut into, Marks::Parts);
        let (came, mark) = read.as_ref().map_or((0, None), Clone::clone);
        self.queue(buffer, promise.len, came, mark);
        if came > 0 {
            self.reader.broadcast(&Readiness::IN);
        }
        read.map(|_| came)
    }

    /// Takes segments out, to be looked at, and copies at most `max` bytes of them.
    fn hold(&self, max: usize) -> (Vec<Segment<M>>, Vec<u8>) {
        let (mut held, mut bytes) = (Vec::new(), Vec::new());
        while bytes.len() < max
            && let Some(segment) = self.next(false)
        {
            let len = segment.bytes().len().min(max - bytes.len());
            bytes.extend_from_slice(segment.bytes().get(..len).unwrap_or_default());
            held.push(segment);
        }
        (held, bytes)
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
        self.peek_behind(into, Marks::Apart, 0)
    }

    /// As [`Ring::peek`], as far as marks allow, but `skipped` segments are passed over, marked or not.
    ///
    /// # Errors
    /// EAGAIN nothing is behind them; EFAULT.
    pub(crate) fn peek_behind(
        &self,
        into: &mut dyn ByteSink,
        marks: Marks,
        skipped: usize,
    ) -> Result<(usize, Option<M>)> {
        let mut held: Vec<Segment<M>> = Vec::new();
        let mut wanted = into.remaining();
        while wanted > 0 && (held.len() <= skipped || held.last().is_none_or(|last| last.mark.is_none())) {
            let Some(segment) = self.next(held.len() > skipped && marks != Marks::Behind) else { break };
            if held.len() >= skipped {
                wanted = wanted.saturating_sub(segment.bytes().len());
            }
            held.push(segment);
        }
        let mut done = 0usize;
        let result = held.iter().skip(skipped).try_for_each(|segment| {
            done += into.put(segment.bytes())?;
            Ok(())
        });
        let mark = held.last().and_then(|last| last.mark.clone());
        let was_empty = held.len() <= skipped;
        self.put_back(held);
        match result {
            Err(error) if done == 0 => Err(error),
            _ if was_empty && skipped > 0 => {
                let state = self.state.lock();
                let is_over = state.writers == 0 || state.readers == 0;
                if is_over { Ok((0, None)) } else { Err(Error::new(Errno::EAGAIN, "nothing is behind them")) }
            }
            _ if was_empty && into.remaining() > 0 => self.end_or_again().map(|()| (0, None)),
            _ => Ok((done, mark)),
        }
    }
}
