//! Buffers in which data waits on its way between a program and the host.
//!
//! They are kept: to allocate one for each call, and to fill it with zeros first, costs more than to copy what it is for. What
//! is left in one from before is never looked at.

use alloc::vec::Vec;
use kbase::sync::Mutex;

/// Buffers that are kept: about as many as threads send or receive at one time.
const SPARES: usize = 4;

/// The buffers that nobody uses.
#[derive(Default)]
pub(super) struct Bounces {
    /// The one that was used last comes last: its lines are still in a cache.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A buffer.
pub(super) struct Bounce<'a> {
    of: &'a Bounces,
    buffer: Vec<u8>,
    len: usize,
}

impl Bounces {
    /// A buffer, empty.
    pub(super) fn take(&self) -> Bounce<'_> {
        let buffer = self.spare.lock().pop().unwrap_or_default();
        Bounce { of: self, buffer, len: 0 }
    }
}

impl Bounce<'_> {
    /// Makes it so long; what is in it is anything.
    pub(super) fn set_len(&mut self, len: usize) {
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        self.len = len;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }
}

impl Drop for Bounce<'_> {
    fn drop(&mut self) {
        let buffer = core::mem::take(&mut self.buffer);
        let surplus = {
            let mut spare = self.of.spare.lock();
            if spare.len() < SPARES {
                spare.push(buffer);
                return;
            }
            buffer
        };
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_has_the_length_that_was_asked_for() {
        let bounces = Bounces::default();
        let mut bounce = bounces.take();
        bounce.set_len(5000);
        bounce.bytes_mut().fill(7);
        let place = bounce.bytes().as_ptr();
        drop(bounce);
        let mut bounce = bounces.take();
        assert!(bounce.bytes().is_empty());
        bounce.set_len(10);
        assert_eq!((bounce.bytes().len(), bounce.bytes().as_ptr()), (10, place));
    }

    #[test]
    fn no_more_buffers_are_kept_than_are_used_at_one_time() {
        let bounces = Bounces::default();
        let many: Vec<_> = (0..2 * SPARES).map(|_| bounces.take()).collect();
        drop(many);
        assert_eq!(bounces.spare.lock().len(), SPARES);
    }
}
