//! The streams of the host whose data go through the ring of operations.
//!
//! A stream is here from when it joins until its descriptor is closed at the host, which may be later than the program closes it.
//!
//! Lock order: each of the two lists alone; neither is held while a stream is told.

use super::ringed::RingStream;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use hashbrown::HashMap;
use kbase::sync::Mutex;
use platform::{Platform, RingEvent};

/// Streams that may be here at once: their operations have room in the ring, and what they queue in the kernel's heap.
const MOST: usize = 2048;
/// How long nobody sleeps while something could not be posted.
const SOON_NS: u64 = 1_000_000;
/// How often [`Streams::settle`] looks: some 20 microseconds.
const LOOKS: u32 = 500;

/// Whether there is a ring.
mod ring {
    /// The host was not asked.
    pub(super) const UNASKED: u8 = 0;
    pub(super) const THERE: u8 = 1;
    /// It is not wanted, or the host has none.
    pub(super) const NONE: u8 = 2;
}

/// The streams.
#[derive(Default)]
pub(crate) struct Streams {
    ring: AtomicU8,
    all: Mutex<HashMap<u64, Arc<RingStream>>>,
    count: AtomicUsize,
    next_token: AtomicU64,
    /// Those for which something could not be posted.
    refused: Mutex<Vec<Weak<RingStream>>>,
    has_refused: AtomicBool,
    /// Those that programs have closed.
    closing: AtomicUsize,
    /// Sending operations that are outstanding, and those that wait for room.
    sending: AtomicUsize,
    awaiting: AtomicUsize,
    /// Operations that ended, for statistics.
    receives: AtomicU64,
    sends: AtomicU64,
}

impl Streams {
    pub(super) fn new(uses_ring: bool) -> Self {
        let ring = if uses_ring { ring::UNASKED } else { ring::NONE };
        Self { ring: AtomicU8::new(ring), ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Whether one more can join.
    pub(super) fn has_room(&self, platform: &dyn Platform) -> bool {
        match self.ring.load(Ordering::Relaxed) {
            ring::NONE => return false,
            ring::UNASKED => {
                let answer = if platform.ring_open().is_ok() { ring::THERE } else { ring::NONE };
                self.ring.store(answer, Ordering::Relaxed);
                if answer == ring::NONE {
                    return false;
                }
            }
            _ => {}
        }
        self.count.load(Ordering::SeqCst) < MOST
    }

    /// A token for one that joins.
    pub(super) fn next_token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add(&self, stream: &Arc<RingStream>) {
        let mut all = self.all.lock();
        all.insert(stream.token(), Arc::clone(stream));
        self.count.store(all.len(), Ordering::SeqCst);
    }

    pub(super) fn remove(&self, token: u64) {
        let mut all = self.all.lock();
        let removed = all.remove(&token);
        self.count.store(all.len(), Ordering::SeqCst);
        drop(all);
        drop(removed);
    }

    /// What could not be posted for a stream is tried again by the next who looks.
    pub(super) fn retry(&self, stream: &Weak<RingStream>) {
        self.refused.lock().push(stream.clone());
        self.has_refused.store(true, Ordering::SeqCst);
    }

    /// A program closed one, which stays until all is sent.
    pub(super) fn begin_close(&self) {
        self.closing.fetch_add(1, Ordering::SeqCst);
    }

    /// One that was closed is gone.
    pub(super) fn end_close(&self, token: u64) {
        self.remove(token);
        self.closing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether one that was closed has something to send.
    pub(crate) fn are_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) > 0
    }

    /// A sending operation was posted.
    pub(super) fn note_sending(&self) {
        self.sending.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation was posted that waits for room.
    pub(super) fn note_awaiting(&self) {
        self.awaiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether something is being sent: when it is done, more may be to send, also while nobody waits for sockets.
    pub(crate) fn are_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed) > 0 || self.awaiting.load(Ordering::Relaxed) > 0
    }

    /// Looks a while whether something becomes of what is being sent: who goes to sleep would be woken to hear just that. Returns
    /// how many operations ended.
    pub(super) fn settle(&self, platform: &dyn Platform) -> usize {
        for _ in 0..LOOKS {
            if self.sending.load(Ordering::Relaxed) == 0 {
                break;
            }
            let count = self.dispatch(platform);
            if count > 0 {
                return count;
            }
            core::hint::spin_loop();
        }
        0
    }

    /// Passes on what became of operations. Returns how many there were.
    pub(super) fn dispatch(&self, platform: &dyn Platform) -> usize {
        if self.ring.load(Ordering::Relaxed) != ring::THERE {
            return 0;
        }
        let count = platform.ring_take(&mut |token, event| {
            match &event {
                RingEvent::Received(_) => {
                    self.receives.fetch_add(1, Ordering::Relaxed);
                }
                RingEvent::Sent(_) => {
                    self.sends.fetch_add(1, Ordering::Relaxed);
                    self.sending.fetch_sub(1, Ordering::Relaxed);
                }
                RingEvent::HasRoom => {
                    self.awaiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
            let stream = self.all.lock().get(&token).cloned();
            if let Some(stream) = stream {
                stream.on_event(event);
            }
        });
        if self.has_refused.swap(false, Ordering::SeqCst) {
            let refused = core::mem::take(&mut *self.refused.lock());
            for stream in refused.iter().filter_map(Weak::upgrade) {
                stream.try_again();
            }
        } else if count == 0 {
            return 0;
        }
        platform.ring_kick();
        count
    }

    /// The deadline of who sleeps: soon, if something is to be posted again.
    pub(crate) fn limit(&self, platform: &dyn Platform, deadline_ns: Option<u64>) -> Option<u64> {
        if !self.has_refused.load(Ordering::SeqCst) {
            return deadline_ns;
        }
        let soon = platform.monotonic_ns().saturating_add(SOON_NS);
        Some(deadline_ns.map_or(soon, |deadline| deadline.min(soon)))
    }

    /// Receiving and sending operations that ended.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("ring_receives", load(&self.receives)), ("ring_sends", load(&self.sends))]
    }
}
