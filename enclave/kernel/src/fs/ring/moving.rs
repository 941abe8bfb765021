//! Looking without taking, and from queue to queue.

use super::slots::{Fill, Run, Slots};
use super::{Marks, Ring, Segment, buffer_for};
use alloc::vec::Vec;
use kbase::{ByteSink, Result, SliceSink};
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
        let mut held: Vec<Segment<M>> = Vec::new();
        let mut left = max;
        while left > 0
            && let Some(segment) = self.next(false)
        {
            left = left.saturating_sub(segment.bytes().len());
            held.push(segment);
        }
        let mut bytes = Vec::with_capacity(max - left);
        let mut marks = Vec::new();
        for segment in &held {
            if let Some(mark) = &segment.mark {
                marks.push((bytes.len(), mark.clone()));
            }
            let len = segment.bytes().len().min(max - bytes.len());
            bytes.extend_from_slice(segment.bytes().get(..len).unwrap_or_default());
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
