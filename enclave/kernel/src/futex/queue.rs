//! The queues of waiters.
//!
//! A waiter enters the queue of a word *before* it looks at the word, and whoever changes the word looks at the queue
//! afterwards, so no wake is lost although no lock is held over user memory.
//!
//! Lock order: one bucket, or two of them by index. A waiter's bucket changes only under the lock of the old one.

use crate::Ctx;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use kbase::event::Waker;
use kbase::sync::{Mutex, MutexGuard};
use kbase::{Result, UserAddr, bail};
use linux_abi::process::futex::BITSET_MATCH_ANY;

/// Number of queues that words are spread over; a power of two.
const BUCKETS: usize = 256;

/// End of the addresses of programs on Linux.
const USER_END: u64 = 0x7fff_ffff_f000;

/// Who may wait for a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Threads of the process (FUTEX_PRIVATE_FLAG).
    Private,
    /// Whoever has the memory.
    Shared,
}

/// A word of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) space: u64,
    pub(super) address: u64,
}

impl Key {
    /// The word at an address of the calling process.
    ///
    /// # Errors
    /// EINVAL not aligned; EFAULT no address of a program, or nothing is mapped there and others could wait for it.
    pub(super) fn of(ctx: &Ctx<'_>, address: UserAddr, scope: Scope) -> Result<Self> {
        if !address.0.is_multiple_of(4) {
            bail!(EINVAL, "a futex is an aligned word");
        }
        if address.0 >= USER_END {
            bail!(EFAULT, "no address of a program");
        }
        let space = match scope {
            // Nobody looks whether there is memory.
            Scope::Private => ctx.space.id(),
            Scope::Shared => {
                ctx.user().load_u32(address)?;
                ctx.space.word_space(address.0)
            }
        };
        Ok(Self { space, address: address.0 })
    }

    /// Index of its queue: the high bits of a product spread neighbours.
    pub(super) fn bucket(self) -> usize {
        let mixed = (self.address >> 2 ^ self.space << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 56).unwrap_or(0) % BUCKETS
    }
}

/// What a place in a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A wake whose bits meet these.
    Wait(u32),
    /// A move to the queue of a lock (FUTEX_WAIT_REQUEUE_PI).
    Requeue(Key),
    /// A lock with priority inheritance.
    Lock,
}

/// What became of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    /// It waits.
    Waiting = 0,
    /// It was taken out of its queue by somebody who has yet to say what for.
    Taken = 1,
    /// It was woken; if it waited for a lock, it has it now.
    Done = 2,
    /// It waited for a lock and is to try again.
    Again = 3,
}

/// A thread that waits.
pub(super) struct Waiter {
    waker: Waker,
    /// Number of the thread.
    pub(super) tid: u32,
    /// For [`Kind::Lock`]: the thread that had the lock when somebody last looked.
    pub(super) owner: AtomicU32,
    /// Index of the queue that it is in.
    bucket: AtomicUsize,
    fate: AtomicU8,
}

impl Waiter {
    pub(super) fn new(waker: Waker, tid: u32) -> Arc<Self> {
        Arc::new(Self {
            waker,
            tid,
            owner: AtomicU32::new(0),
            bucket: AtomicUsize::new(0),
            fate: AtomicU8::new(Fate::Waiting as u8),
        })
    }

    pub(super) fn fate(&self) -> Fate {
        match self.fate.load(Ordering::SeqCst) {
            0 => Fate::Waiting,
            1 => Fate::Taken,
            2 => Fate::Done,
            _ => Fate::Again,
        }
    }

    fn set_fate(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::SeqCst);
    }

    /// Says what became of it, and wakes it. It is in no queue any more.
    pub(super) fn settle(&self, fate: Fate) {
        self.set_fate(fate);
        self.waker.wake();
    }
}

/// One place in a queue.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) waiter: Arc<Waiter>,
}

/// The queue of the words that share an index.
pub(super) type Bucket = VecDeque<Entry>;

/// All futexes with waiters.
pub(crate) struct FutexTable {
    buckets: [Mutex<Bucket>; BUCKETS],
    /// Waiters for locks with priority inheritance: while there are none, a thread that ends need not look for them.
    lockers: AtomicUsize,
}

impl FutexTable {
    pub(crate) const fn new() -> Self {
        Self { buckets: [const { Mutex::new(VecDeque::new()) }; BUCKETS], lockers: AtomicUsize::new(0) }
    }

    pub(super) fn lock(&self, index: usize) -> Option<MutexGuard<'_, Bucket>> {
        self.buckets.get(index).map(Mutex::lock)
    }

    /// Does something with the queues of two words, of which the second is not given if it is the same.
    pub(super) fn with_two<T>(
        &self,
        first: Key,
        second: Key,
        act: impl FnOnce(&mut Bucket, Option<&mut Bucket>) -> T,
    ) -> Option<T> {
        let (a, b) = (first.bucket(), second.bucket());
        if a == b {
            return Some(act(&mut *self.lock(a)?, None));
        }
        let (mut low, mut high) = (self.lock(a.min(b))?, self.lock(a.max(b))?);
        Some(if a < b { act(&mut low, Some(&mut high)) } else { act(&mut high, Some(&mut low)) })
    }

    /// Puts a waiter into the queue of a word.
    pub(super) fn add(&self, key: Key, kind: Kind, waiter: &Arc<Waiter>) {
        if !matches!(kind, Kind::Wait(_)) {
            self.lockers.fetch_add(1, Ordering::SeqCst);
        }
        waiter.set_fate(Fate::Waiting);
        waiter.bucket.store(key.bucket(), Ordering::SeqCst);
        if let Some(mut bucket) = self.lock(key.bucket()) {
            bucket.push_back(Entry { key, kind, waiter: Arc::clone(waiter) });
        }
    }

    /// Takes a waiter out of its queue. `None`: somebody else took it.
    pub(super) fn remove(&self, waiter: &Arc<Waiter>) -> Option<Entry> {
        loop {
            let index = waiter.bucket.load(Ordering::SeqCst);
            let mut bucket = self.lock(index)?;
            if let Some(place) = bucket.iter().position(|entry| Arc::ptr_eq(&entry.waiter, waiter)) {
                let entry = bucket.remove(place)?;
                self.note_gone(&entry);
                return Some(entry);
            }
            // It was woken, or moved to another queue before this one was locked.
            if waiter.bucket.load(Ordering::SeqCst) == index {
                return None;
            }
        }
    }

    /// An entry left its queue for good.
    pub(super) fn note_gone(&self, entry: &Entry) {
        if !matches!(entry.kind, Kind::Wait(_)) {
            self.lockers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether anybody waits for a lock with priority inheritance.
    pub(super) fn has_lockers(&self) -> bool {
        self.lockers.load(Ordering::SeqCst) > 0
    }

    /// The indices of all queues.
    pub(super) fn indices(&self) -> core::ops::Range<usize> {
        0..self.buckets.len()
    }

    /// Wakes at most `count` waiters of a word whose bits meet `bits`; returns how many.
    ///
    /// # Errors
    /// EINVAL one waits for a lock, which is not for a wake to give.
    pub(super) fn wake(&self, key: Key, count: u32, bits: u32) -> Result<u32> {
        let mut woken = Vec::new();
        let taken = match self.lock(key.bucket()) {
            Some(mut bucket) => take(&mut bucket, key, count, bits, &mut woken),
            None => Ok(()),
        };
        let woken = finish(woken);
        if woken == 0 { taken.map(|()| 0) } else { Ok(woken) }
    }

    /// Wakes at most `wake` waiters of `from` and moves at most `requeue` others to `to`; returns the numbers of both.
    ///
    /// # Errors
    /// EINVAL one waits for a lock.
    pub(super) fn requeue(&self, from: Key, to: Key, wake: u32, requeue: u32) -> Result<(u32, u32)> {
        let mut woken = Vec::new();
        let moved = self.with_two(from, to, |source, target| {
            take(source, from, wake, BITSET_MATCH_ANY, &mut woken)?;
            if source.iter().any(|entry| entry.key == from && !matches!(entry.kind, Kind::Wait(_))) {
                bail!(EINVAL, "a waiter for a lock");
            }
            Ok(match target {
                None => rename(source, from, to, requeue),
                Some(target) => transfer(source, target, from, to, requeue),
            })
        });
        let woken = finish(woken);
        Ok((woken, moved.unwrap_or(Ok(0))?))
    }
}

/// Takes waiters out of a queue, in the order in which they came.
///
/// # Errors
/// EINVAL one waits for a lock. Those before it are taken.
fn take(bucket: &mut Bucket, key: Key, count: u32, bits: u32, into: &mut Vec<Arc<Waiter>>) -> Result<()> {
    let mut left = count;
    let mut index = 0;
    while left > 0 {
        let Some(entry) = bucket.get(index) else { break };
        match entry.kind {
            _ if entry.key != key => index += 1,
            Kind::Wait(its) if its & bits != 0 => {
                if let Some(entry) = bucket.remove(index) {
                    entry.waiter.set_fate(Fate::Done);
                    into.push(entry.waiter);
                }
                left -= 1;
            }
            Kind::Wait(_) => index += 1,
            Kind::Requeue(_) | Kind::Lock => bail!(EINVAL, "a waiter for a lock"),
        }
    }
    Ok(())
}

/// Wakes who was taken out, without a lock.
fn finish(woken: Vec<Arc<Waiter>>) -> u32 {
    for waiter in &woken {
        waiter.waker.wake();
    }
    u32::try_from(woken.len()).unwrap_or(u32::MAX)
}

/// Moves waiters within a queue.
fn rename(bucket: &mut Bucket, from: Key, to: Key, count: u32) -> u32 {
    let mut moved = 0;
    for entry in bucket.iter_mut().filter(|entry| entry.key == from) {
        if moved == count {
            break;
        }
        entry.key = to;
        moved += 1;
    }
    moved
}

/// Moves waiters to another queue.
fn transfer(source: &mut Bucket, target: &mut Bucket, from: Key, to: Key, count: u32) -> u32 {
    let mut moved = 0;
    let mut index = 0;
    while moved < count {
        let Some(entry) = source.get(index) else { break };
        if entry.key != from {
            index += 1;
            continue;
        }
        if let Some(entry) = source.remove(index) {
            place(target, Entry { key: to, ..entry });
        }
        moved += 1;
    }
    moved
}

/// Puts an entry from another queue at the end of one.
pub(super) fn place(target: &mut Bucket, entry: Entry) {
    entry.waiter.bucket.store(entry.key.bucket(), Ordering::SeqCst);
    target.push_back(entry);
}

/// Takes the first waiter for a lock out of a queue; the others wait for it from now on.
pub(super) fn take_locker(bucket: &mut Bucket, key: Key) -> Option<Entry> {
    let is_locker = |entry: &Entry| entry.key == key && entry.kind == Kind::Lock;
    let first = bucket.iter().position(is_locker)?;
    let entry = bucket.remove(first)?;
    entry.waiter.set_fate(Fate::Taken);
    for other in bucket.iter().filter(|entry| is_locker(entry)) {
        other.waiter.owner.store(entry.waiter.tid, Ordering::SeqCst);
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kbase::event::Unpark;

    struct Nobody;

    impl Unpark for Nobody {
        fn unpark(&self) {}
    }

    fn waiter(table: &FutexTable, key: Key, kind: Kind) -> Arc<Waiter> {
        let waiter = Waiter::new(kbase::event::Waiter::new(Arc::new(Nobody)).waker().clone(), 1);
        table.add(key, kind, &waiter);
        waiter
    }

    fn is_woken(waiter: &Waiter) -> bool {
        waiter.fate() == Fate::Done
    }

    #[test]
    fn waiters_are_woken_in_order_and_by_their_bits() {
        let table = FutexTable::new();
        let key = Key { space: 1, address: 64 };
        let waiters: Vec<_> = [1, 2, 3].map(|bits| waiter(&table, key, Kind::Wait(bits))).into();
        assert_eq!(table.wake(Key { space: 2, ..key }, 9, u32::MAX).unwrap(), 0);
        assert_eq!(table.wake(key, 1, 2).unwrap(), 1);
        assert!(!is_woken(&waiters[0]) && is_woken(&waiters[1]) && !is_woken(&waiters[2]));
        assert_eq!(table.wake(key, 9, u32::MAX).unwrap(), 2);
    }

    #[test]
    fn requeued_waiters_wait_for_the_other_word() {
        let table = FutexTable::new();
        let from = Key { space: 1, address: 64 };
        // In another queue, and in the same one.
        let far =
            (1..).map(|n| Key { space: 1, address: 64 + n * 4 }).find(|key| key.bucket() != from.bucket());
        let near =
            (1..).map(|n| Key { space: 1, address: 64 + n * 4 }).find(|key| key.bucket() == from.bucket());
        for to in [far.unwrap(), near.unwrap()] {
            let waiters: Vec<_> = [1; 4].map(|bits| waiter(&table, from, Kind::Wait(bits))).into();
            assert_eq!(table.requeue(from, to, 1, 2).unwrap(), (1, 2));
            assert!(is_woken(&waiters[0]));
            assert_eq!(table.wake(from, 9, u32::MAX).unwrap(), 1);
            assert!(is_woken(&waiters[3]));
            assert!(table.remove(&waiters[1]).is_some(), "a requeued waiter can leave");
            assert_eq!(table.wake(to, 9, u32::MAX).unwrap(), 1);
            assert!(table.remove(&waiters[2]).is_none(), "a woken waiter is not there any more");
        }
    }

    #[test]
    fn a_wake_does_not_give_locks() {
        let table = FutexTable::new();
        let key = Key { space: 1, address: 64 };
        let waiter = waiter(&table, key, Kind::Lock);
        assert!(table.wake(key, 1, u32::MAX).is_err());
        assert!(table.requeue(key, Key { space: 1, address: 128 }, 0, 1).is_err());
        assert!(table.has_lockers());
        assert!(table.remove(&waiter).is_some());
        assert!(!table.has_lockers());
    }

    #[test]
    fn the_first_waiter_gets_the_lock_and_the_others_wait_for_it() {
        let table = FutexTable::new();
        let key = Key { space: 1, address: 64 };
        let (first, second) = (waiter(&table, key, Kind::Lock), waiter(&table, key, Kind::Lock));
        let taken = take_locker(&mut table.lock(key.bucket()).unwrap(), key).unwrap();
        assert!(Arc::ptr_eq(&taken.waiter, &first));
        assert_eq!((first.fate(), second.fate()), (Fate::Taken, Fate::Waiting));
        assert_eq!(second.owner.load(Ordering::SeqCst), first.tid);
    }
}
