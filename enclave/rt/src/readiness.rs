//! Edges of host sockets, taken from the ring that the host writes ([`edge_abi::readiness`]).
//!
//! The ring is host memory. The tail that counts is [`Reader::tail`], in the enclave; a head that is more than the ring's
//! records away is a host that breaks the protocol, and then as many records are read as the ring has: whatever they say can
//! only make somebody look in vain. Records are copied before they are looked at.
//!
//! Lock order: [`READER`] alone; it is not held while edges are passed on.

use crate::host::raw;
use crate::ocall::call;
use crate::outside::Outside;
use crate::runtime::Runtime;
use crate::uring::Asleep;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use edge_abi::ecall::HostRange;
use edge_abi::ocall::Ocall;
use edge_abi::readiness::{AT_ONCE, HEAD_AT, RECORDS, RECORDS_AT, RING_LEN, TAIL_AT, WireReady};
use linux_abi::Errno;
use platform::sync::Mutex;
use platform::{HostError, HostFd, HostReadiness, HostResult, Park, PollEvents, ThreadHandle};

/// Records taken at once.
const BATCH: usize = 32;

/// Where the enclave is in the ring.
struct Reader {
    /// The ring; `None` before the first watch.
    ring: Option<Outside>,
    tail: u64,
}

static READER: Mutex<Reader> = Mutex::new(Reader { ring: None, tail: 0 });
/// Whether there is a ring, so that who has no sockets pays one load.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Forgets the ring.
#[cfg(fuzzing)]
pub(crate) fn forget() {
    IS_USED.store(false, Ordering::Release);
    *READER.lock() = Reader { ring: None, tail: 0 };
}

/// Asks the host for its ring, once.
fn find_ring() -> HostResult<()> {
    if IS_USED.load(Ordering::Acquire) {
        return Ok(());
    }
    let address = call(Ocall::ReadinessRing, [0; 6], u64::MAX >> 1)?;
    let ring = Outside::new(HostRange { address, len: RING_LEN }).ok_or(HostError(Errno::EIO))?;
    let mut reader = READER.lock();
    if reader.ring.is_none() {
        *reader = Reader { ring: Some(ring), tail: 0 };
    }
    IS_USED.store(true, Ordering::Release);
    Ok(())
}

impl Reader {
    /// Takes records that are there, as many as fit, and returns their number.
    fn take(&mut self, into: &mut [WireReady; BATCH]) -> usize {
        let Some(ring) = self.ring else { return 0 };
        let Some(head) = ring.load_word(HEAD_AT) else { return 0 };
        fence(Ordering::Acquire);
        let there = head.wrapping_sub(self.tail);
        if there > RECORDS {
            // The host lies. What was never said is skipped.
            self.tail = head.wrapping_sub(RECORDS);
        }
        let count = there.min(RECORDS).min(BATCH as u64);
        for (record, offset) in into.iter_mut().zip(0..count) {
            let place = self.tail.wrapping_add(offset) % RECORDS;
            let at = RECORDS_AT + place * size_of::<WireReady>() as u64;
            *record = ring.read(at).unwrap_or_default();
        }
        if count > 0 {
            self.tail = self.tail.wrapping_add(count);
            fence(Ordering::Release);
            let _ = ring.store_word(TAIL_AT, self.tail);
        }
        count as usize
    }
}

impl HostReadiness for Runtime {
    fn watch(&self, fd: HostFd, token: u64, waiter: Option<ThreadHandle>) -> HostResult<PollEvents> {
        find_ring()?;
        let most = u64::from(PollEvents::MAX);
        let waiter = waiter.map_or(0, |thread| u64::from(thread.0) + 1);
        call(Ocall::Watch, [raw(fd), token, waiter, 0, 0, 0], most).map(|ready| ready as PollEvents)
    }

    fn watch_at_once(&self, fd: HostFd, token: u64) -> HostResult<PollEvents> {
        find_ring()?;
        let most = u64::from(PollEvents::MAX);
        call(Ocall::Watch, [raw(fd), token, AT_ONCE, 0, 0, 0], most).map(|ready| ready as PollEvents)
    }

    fn unwatch(&self, fd: HostFd) {
        let _ = call(Ocall::Unwatch, [raw(fd), 0, 0, 0, 0, 0], 0);
    }

    fn take_readiness(&self, each: &mut dyn FnMut(u64, PollEvents)) -> usize {
        if !IS_USED.load(Ordering::Acquire) {
            return 0;
        }
        let mut records = [WireReady::default(); BATCH];
        let mut total = 0;
        // A host that goes on telling is left after one ring.
        while total < RECORDS as usize {
            let count = READER.lock().take(&mut records);
            for record in records.iter().take(count) {
                // Bits above are no events of poll(2).
                each(record.token, record.events as PollEvents);
            }
            total += count;
            if count < BATCH {
                break;
            }
        }
        total
    }

    fn park_ready(&self, deadline_ns: Option<u64>) -> Park {
        let Some(_asleep) = Asleep::begin(deadline_ns) else { return Park::Woken };
        match call(Ocall::ParkReady, [deadline_ns.unwrap_or(u64::MAX), 0, 0, 0, 0, 0], 1) {
            Ok(1) => Park::TimedOut,
            _ => Park::Woken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    /// A ring of a host in the test.
    struct Host(Vec<u64>);

    impl Host {
        fn new() -> Self {
            Self(vec![0; (RING_LEN / 8) as usize])
        }

        fn outside(&self) -> Outside {
            Outside::new(HostRange { address: self.0.as_ptr() as u64, len: RING_LEN }).unwrap()
        }

        fn write(&self, head: u64, token: u64) {
            let record = WireReady { token, events: 1, pad: 0 };
            let at = RECORDS_AT + (head % RECORDS) * 16;
            assert!(self.outside().store(at, record.as_bytes()));
            assert!(self.outside().write(HEAD_AT, &(head + 1)));
        }
    }

    fn tokens(reader: &mut Reader) -> Vec<u64> {
        let mut records = [WireReady::default(); BATCH];
        let mut tokens = Vec::new();
        loop {
            let count = reader.take(&mut records);
            tokens.extend(records[..count].iter().map(|record| record.token));
            if count < BATCH {
                return tokens;
            }
        }
    }

    #[test]
    fn records_are_taken_once_and_in_order() {
        let host = Host::new();
        let mut reader = Reader { ring: Some(host.outside()), tail: 0 };
        host.write(0, 7);
        host.write(1, 8);
        assert_eq!(tokens(&mut reader), [7, 8]);
        assert!(tokens(&mut reader).is_empty());
        for round in 2..3000 {
            host.write(round, round);
            assert_eq!(tokens(&mut reader), [round]);
        }
        assert_eq!(host.outside().read::<u64>(TAIL_AT), Some(3000));
    }

    #[test]
    fn a_head_that_lies_costs_at_most_a_ring_of_records() {
        let host = Host::new();
        let mut reader = Reader { ring: Some(host.outside()), tail: 5 };
        assert!(host.outside().write(HEAD_AT, &u64::MAX));
        assert_eq!(tokens(&mut reader).len(), RECORDS as usize);
        assert!(host.outside().write(HEAD_AT, &4u64));
        assert_eq!(tokens(&mut reader).len(), 5);
    }
}
