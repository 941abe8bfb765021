//! Futexes: threads wait for a word of user memory, others wake them.
//!
//! A waiter enters the queue of the word *before* it compares the word, and a waker changes the word before it looks at
//! the queue, so no wake is lost although no lock is held over user memory. A waiter that finds the word changed leaves; if
//! somebody woke it in between, it was not waiting by Linux's rules, and passes the wake on.
//!
//! Lock order: one bucket, or two of them by index. A waiter's bucket changes only under the lock of the old one.

use crate::Ctx;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kbase::event::Waker;
use kbase::sync::{Mutex, MutexGuard};
use kbase::{Errno, Error, Result, UserAddr, bail};
use linux_abi::process::futex::{BITSET_MATCH_ANY, OWNER_DIED, TID_MASK, WAITERS};

/// Number of queues that words are spread over; a power of two.
const BUCKETS: usize = 256;
/// Most entries of a robust list that are followed (ROBUST_LIST_LIMIT).
const ROBUST_LIMIT: usize = 2048;

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
struct Key {
    space: u64,
    address: u64,
}

impl Key {
    /// The word at an address of the calling process.
    ///
    /// # Errors
    /// EINVAL not aligned; EFAULT outside the memory of programs.
    fn of(ctx: &Ctx<'_>, address: UserAddr, scope: Scope) -> Result<Self> {
        if !address.0.is_multiple_of(4) {
            bail!(EINVAL, "a futex is an aligned word");
        }
        if !ctx.space.range().contains(&address.0) {
            bail!(EFAULT, "outside the memory of programs");
        }
        let space = match scope {
            Scope::Private => ctx.space.id,
            Scope::Shared => ctx.space.word_space(address.0),
        };
        Ok(Self { space, address: address.0 })
    }

    /// Index of its queue: the high bits of a product spread neighbours.
    fn bucket(self) -> usize {
        let mixed = (self.address >> 2 ^ self.space << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 56).unwrap_or(0) % BUCKETS
    }
}

/// A thread that waits.
struct Waiter {
    waker: Waker,
    bits: u32,
    /// Index of the queue that it is in.
    bucket: AtomicUsize,
    /// It was taken out of its queue by who woke it.
    is_woken: AtomicBool,
}

/// One place in a queue.
struct Entry {
    key: Key,
    waiter: Arc<Waiter>,
}

/// The queue of the words that share an index.
type Bucket = VecDeque<Entry>;

/// All futexes with waiters.
pub(crate) struct FutexTable {
    buckets: [Mutex<Bucket>; BUCKETS],
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Address of the word.
    pub(crate) address: UserAddr,
    /// Who may wake it.
    pub(crate) scope: Scope,
    /// It waits while the word has this value.
    pub(crate) value: u32,
    /// Wakes with one of these bits are for it.
    pub(crate) bits: u32,
    /// Until this time of CLOCK_MONOTONIC.
    pub(crate) deadline_ns: Option<u64>,
    /// An absolute timeout or none: after a signal the call begins anew, else it is gone on with.
    pub(crate) begins_anew: bool,
}

impl FutexTable {
    pub(crate) const fn new() -> Self {
        Self { buckets: [const { Mutex::new(VecDeque::new()) }; BUCKETS] }
    }

    fn lock(&self, index: usize) -> Option<MutexGuard<'_, Bucket>> {
        self.buckets.get(index).map(Mutex::lock)
    }

    fn add(&self, key: Key, waiter: &Arc<Waiter>) {
        waiter.bucket.store(key.bucket(), Ordering::SeqCst);
        if let Some(mut bucket) = self.lock(key.bucket()) {
            bucket.push_back(Entry { key, waiter: Arc::clone(waiter) });
        }
    }

    /// Takes a waiter out of its queue. Whether it was there: nobody woke it.
    fn remove(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            let index = waiter.bucket.load(Ordering::SeqCst);
            let Some(mut bucket) = self.lock(index) else { return false };
            if let Some(place) = bucket.iter().position(|entry| Arc::ptr_eq(&entry.waiter, waiter)) {
                let entry = bucket.remove(place);
                drop(bucket);
                drop(entry);
                return true;
            }
            // It was woken, or moved to another queue before this one was locked.
            if waiter.bucket.load(Ordering::SeqCst) == index {
                return false;
            }
        }
    }

    /// Waits for a word: `is_same` compares it, `sleep` sleeps until `waker` is woken (or for nothing) and fails when the wait
    /// is to end.
    ///
    /// # Errors
    /// EAGAIN it is not the same; those of `is_same` and `sleep`.
    fn wait(
        &self,
        key: Key,
        bits: u32,
        waker: Waker,
        is_same: impl FnOnce() -> Result<bool>,
        mut sleep: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let (bucket, is_woken) = (AtomicUsize::new(0), AtomicBool::new(false));
        let waiter = Arc::new(Waiter { waker, bits, bucket, is_woken });
        self.add(key, &waiter);
        let compared = match is_same() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(Errno::EAGAIN, "the word has another value")),
            Err(error) => Err(error),
        };
        if compared.is_err() {
            if !self.remove(&waiter) {
                self.wake(key, 1, bits);
            }
            return compared;
        }
        while !waiter.is_woken.load(Ordering::SeqCst) {
            if let Err(error) = sleep() {
                // Woken at the last moment counts as woken.
                return if self.remove(&waiter) { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Wakes at most `count` waiters of a word whose bits meet `bits`; returns how many.
    fn wake(&self, key: Key, count: u32, bits: u32) -> u32 {
        let mut woken = Vec::new();
        if let Some(mut bucket) = self.lock(key.bucket()) {
            take(&mut bucket, key, count, bits, &mut woken);
        }
        finish(woken)
    }

    /// Wakes at most `wake` waiters of `from` and moves at most `requeue` others to `to`; returns the numbers of both.
    fn requeue(&self, from: Key, to: Key, wake: u32, requeue: u32) -> (u32, u32) {
        let mut woken = Vec::new();
        let moved = if from.bucket() == to.bucket() {
            self.lock(from.bucket()).map_or(0, |mut bucket| {
                take(&mut bucket, from, wake, BITSET_MATCH_ANY, &mut woken);
                rename(&mut bucket, from, to, requeue)
            })
        } else {
            let (low, high) = (from.bucket().min(to.bucket()), from.bucket().max(to.bucket()));
            match (self.lock(low), self.lock(high)) {
                (Some(mut low_bucket), Some(mut high_bucket)) => {
                    let (source, target) = if from.bucket() == low {
                        (&mut low_bucket, &mut high_bucket)
                    } else {
                        (&mut high_bucket, &mut low_bucket)
                    };
                    take(source, from, wake, BITSET_MATCH_ANY, &mut woken);
                    transfer(source, target, from, to, requeue)
                }
                _ => 0,
            }
        };
        (finish(woken), moved)
    }
}

/// Takes waiters out of a queue, in the order in which they came.
fn take(bucket: &mut Bucket, key: Key, count: u32, bits: u32, into: &mut Vec<Arc<Waiter>>) {
    let mut left = count;
    let mut index = 0;
    while left > 0 {
        let Some(entry) = bucket.get(index) else { break };
        if entry.key == key && entry.waiter.bits & bits != 0 {
            if let Some(entry) = bucket.remove(index) {
                entry.waiter.is_woken.store(true, Ordering::SeqCst);
                into.push(entry.waiter);
            }
            left -= 1;
        } else {
            index += 1;
        }
    }
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
        if moved == count || from == to {
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
            entry.waiter.bucket.store(to.bucket(), Ordering::SeqCst);
            target.push_back(Entry { key: to, ..entry });
        }
        moved += 1;
    }
    moved
}

/// Waits while a word has a value (FUTEX_WAIT_BITSET).
///
/// # Errors
/// EAGAIN it has another; ETIMEDOUT; ERESTARTSYS or ERESTART_RESTARTBLOCK a signal came; EINVAL not aligned, or no bits;
/// EFAULT.
pub(crate) fn wait(ctx: &Ctx<'_>, wait: Wait) -> Result<()> {
    if wait.bits == 0 {
        bail!(EINVAL, "no bits");
    }
    let key = Key::of(ctx, wait.address, wait.scope)?;
    let is_same = || Ok(ctx.user().load_u32(wait.address)? == wait.value);
    let sleep = || {
        if wait.deadline_ns.is_some_and(|deadline| ctx.platform().monotonic_ns() >= deadline) {
            bail!(ETIMEDOUT, "the time is over");
        }
        ctx.park(wait.deadline_ns).map(|_| ())
    };
    let Err(failure) = ctx.kernel.futexes.wait(key, wait.bits, ctx.thread.waker().clone(), is_same, sleep)
    else {
        return Ok(());
    };
    if failure.errno() == Errno::ERESTARTSYS && !wait.begins_anew {
        ctx.thread.signals.set_restart(crate::time::Restart::Futex(wait));
        bail!(ERESTART_RESTARTBLOCK, "a signal came");
    }
    Err(failure)
}

/// Wakes at most `count` threads that wait for the word at `address`, and returns their number. A bad address has no
/// waiters.
pub(crate) fn wake(ctx: &Ctx<'_>, address: UserAddr, count: u32) -> u32 {
    wake_bits(ctx, address, Scope::Shared, count, BITSET_MATCH_ANY).unwrap_or(0)
}

/// Wakes waiters whose bits meet `bits` (FUTEX_WAKE_BITSET).
///
/// # Errors
/// EINVAL not aligned, or no bits; EFAULT.
pub(crate) fn wake_bits(
    ctx: &Ctx<'_>,
    address: UserAddr,
    scope: Scope,
    count: u32,
    bits: u32,
) -> Result<u32> {
    if bits == 0 {
        bail!(EINVAL, "no bits");
    }
    Ok(ctx.kernel.futexes.wake(Key::of(ctx, address, scope)?, count, bits))
}

/// Wakes some waiters and moves others to another word (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE). Returns the numbers of both.
///
/// # Errors
/// EAGAIN the word has not the value that is compared; EINVAL not aligned; EFAULT.
pub(crate) fn requeue(
    ctx: &Ctx<'_>,
    from: UserAddr,
    to: UserAddr,
    scope: Scope,
    (wake, requeue): (u32, u32),
    compare: Option<u32>,
) -> Result<(u32, u32)> {
    let (from_key, to_key) = (Key::of(ctx, from, scope)?, Key::of(ctx, to, scope)?);
    if let Some(value) = compare
        && ctx.user().load_u32(from)? != value
    {
        bail!(EAGAIN, "the word has another value");
    }
    Ok(ctx.kernel.futexes.requeue(from_key, to_key, wake, requeue))
}

/// The operation of FUTEX_WAKE_OP, from its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakeOp {
    operation: u32,
    comparison: u32,
    operand: u32,
    against: i32,
}

impl WakeOp {
    /// Decodes `val3`: `op << 28 | cmp << 24 | oparg << 12 | cmparg`, both arguments signed.
    ///
    /// # Errors
    /// ENOSYS an unknown operation or comparison.
    pub(crate) fn decode(encoded: u32) -> Result<Self> {
        let signed = |bits: u32| (bits << 20).cast_signed() >> 20;
        let (operation, comparison) = (encoded >> 28 & 7, encoded >> 24 & 0xf);
        if operation > 4 || comparison > 5 {
            bail!(ENOSYS, "unknown FUTEX_OP");
        }
        let operand = signed(encoded >> 12 & 0xfff).cast_unsigned();
        // FUTEX_OP_OPARG_SHIFT; Linux masks shifts that are too far.
        let operand = if encoded >> 31 == 1 { 1u32.wrapping_shl(operand) } else { operand };
        Ok(Self { operation, comparison, operand, against: signed(encoded & 0xfff) })
    }

    const fn apply(self, old: u32) -> u32 {
        match self.operation {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    const fn holds(self, old: u32) -> bool {
        let old = old.cast_signed();
        match self.comparison {
            0 => old == self.against,
            1 => old != self.against,
            2 => old < self.against,
            3 => old <= self.against,
            4 => old > self.against,
            _ => old >= self.against,
        }
    }
}

/// Changes the word at `second`, wakes waiters of `first`, and those of `second` if its old value fits (FUTEX_WAKE_OP).
///
/// # Errors
/// EINVAL not aligned; EFAULT.
pub(crate) fn wake_op(
    ctx: &Ctx<'_>,
    first: UserAddr,
    second: UserAddr,
    scope: Scope,
    (wake, wake_second): (u32, u32),
    operation: WakeOp,
) -> Result<u32> {
    let (first_key, second_key) = (Key::of(ctx, first, scope)?, Key::of(ctx, second, scope)?);
    let mut old = ctx.user().load_u32(second)?;
    loop {
        let found = ctx.user().compare_exchange_u32(second, old, operation.apply(old))?;
        if found == old {
            break;
        }
        old = found;
    }
    let table = &ctx.kernel.futexes;
    let mut woken = table.wake(first_key, wake, BITSET_MATCH_ANY);
    if operation.holds(old) {
        woken = woken.saturating_add(table.wake(second_key, wake_second, BITSET_MATCH_ANY));
    }
    Ok(woken)
}

/// A thread ends: marks the robust futexes that it holds and wakes one waiter of each (`get_robust_list(2)`). What of the list
/// cannot be read ends the walk, as on Linux.
pub(crate) fn release_robust(ctx: &Ctx<'_>) {
    let head = ctx.thread.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // The list is the program's own; there is nobody to tell.
        let _ = walk_robust(ctx, head);
    }
}

/// # Errors
/// EFAULT the list leads to memory that cannot be accessed.
fn walk_robust(ctx: &Ctx<'_>, head: u64) -> Result<()> {
    let read = |address: u64| kbase::UserPtr::<u64>::new(UserAddr(address)).read(ctx.user());
    let mut entry = read(head)?;
    let offset = read(head.wrapping_add(8))?;
    let pending = read(head.wrapping_add(16))? & !1;
    for _ in 0..ROBUST_LIMIT {
        // Bit 0 says that the futex has priority inheritance.
        let this = entry & !1;
        if this == head {
            break;
        }
        let next = read(this);
        if this != pending {
            release(ctx, UserAddr(this.wrapping_add(offset)), false)?;
        }
        entry = next?;
    }
    if pending != 0 {
        release(ctx, UserAddr(pending.wrapping_add(offset)), true)?;
    }
    Ok(())
}

/// Says in a word that its owner died, if that is the calling thread.
///
/// # Errors
/// EFAULT, EINVAL.
fn release(ctx: &Ctx<'_>, word: UserAddr, was_pending: bool) -> Result<()> {
    let mut value = ctx.user().load_u32(word)?;
    if was_pending && value == 0 {
        // The thread ended between unlocking and waking.
        wake(ctx, word, 1);
        return Ok(());
    }
    while value & TID_MASK == ctx.thread.tid {
        let found = ctx.user().compare_exchange_u32(word, value, value & WAITERS | OWNER_DIED)?;
        if found == value {
            if value & WAITERS != 0 {
                wake(ctx, word, 1);
            }
            break;
        }
        value = found;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SCRATCH, World};
    use kbase::event::Unpark;

    const NONE: Wait = Wait {
        address: UserAddr(SCRATCH),
        scope: Scope::Shared,
        value: 0,
        bits: BITSET_MATCH_ANY,
        deadline_ns: None,
        begins_anew: true,
    };

    struct Nobody;

    impl Unpark for Nobody {
        fn unpark(&self) {}
    }

    fn waiter(table: &FutexTable, key: Key, bits: u32) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            waker: kbase::event::Waiter::new(Arc::new(Nobody)).waker().clone(),
            bits,
            bucket: AtomicUsize::new(0),
            is_woken: AtomicBool::new(false),
        });
        table.add(key, &waiter);
        waiter
    }

    fn is_woken(waiter: &Waiter) -> bool {
        waiter.is_woken.load(Ordering::SeqCst)
    }

    #[test]
    fn a_word_with_another_value_is_not_waited_for() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, 5u32);
            assert_eq!(wait(ctx, NONE).unwrap_err().errno(), Errno::EAGAIN);
            let odd = Wait { address: UserAddr(SCRATCH + 2), ..NONE };
            assert_eq!(wait(ctx, odd).unwrap_err().errno(), Errno::EINVAL);
            let nowhere = Wait { address: UserAddr(0x1_0000), ..NONE };
            assert_eq!(wait(ctx, nowhere).unwrap_err().errno(), Errno::EFAULT);
        });
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_leaves_nothing_behind() {
        World::new().with_ctx(|ctx| {
            let deadline = ctx.platform().monotonic_ns() + 1000;
            let timed = Wait { deadline_ns: Some(deadline), ..NONE };
            assert_eq!(wait(ctx, timed).unwrap_err().errno(), Errno::ETIMEDOUT);
            assert!(ctx.platform().monotonic_ns() >= deadline);
            assert_eq!(wake(ctx, UserAddr(SCRATCH), 9), 0);
        });
    }

    #[test]
    fn waiters_are_woken_in_order_and_by_their_bits() {
        let table = FutexTable::new();
        let key = Key { space: 1, address: 64 };
        let waiters: Vec<_> = [1, 2, 3].map(|bits| waiter(&table, key, bits)).into();
        assert_eq!(table.wake(Key { space: 2, ..key }, 9, u32::MAX), 0);
        assert_eq!(table.wake(key, 1, 2), 1);
        assert!(!is_woken(&waiters[0]) && is_woken(&waiters[1]) && !is_woken(&waiters[2]));
        assert_eq!(table.wake(key, 9, u32::MAX), 2);
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
            let waiters: Vec<_> = [1, 1, 1, 1].map(|bits| waiter(&table, from, bits)).into();
            assert_eq!(table.requeue(from, to, 1, 2), (1, 2));
            assert!(is_woken(&waiters[0]));
            assert_eq!(table.wake(from, 9, u32::MAX), 1);
            assert!(is_woken(&waiters[3]));
            assert!(table.remove(&waiters[1]), "a requeued waiter can leave");
            assert_eq!(table.wake(to, 9, u32::MAX), 1);
            assert!(!table.remove(&waiters[2]), "a woken waiter is not there any more");
        }
    }

    #[test]
    fn wake_op_changes_one_word_and_decides_by_its_old_value() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH + 4, 7u32);
            // FUTEX_OP_ADD 3, FUTEX_OP_CMP_GT 6
            let add = WakeOp::decode(1 << 28 | 4 << 24 | 3 << 12 | 6).unwrap();
            let key = Key::of(ctx, UserAddr(SCRATCH + 4), Scope::Private).unwrap();
            let second = waiter(&ctx.kernel.futexes, key, 1);
            assert_eq!(
                wake_op(ctx, UserAddr(SCRATCH), UserAddr(SCRATCH + 4), Scope::Private, (1, 1), add).unwrap(),
                1
            );
            assert!(is_woken(&second));
            assert_eq!(ctx.peek::<u32>(SCRATCH + 4), 10);
            // FUTEX_OP_ANDN with a shifted operand of 1 << 1, FUTEX_OP_CMP_LT -1
            let clear = WakeOp::decode(0xb << 28 | 2 << 24 | 1 << 12 | 0xfff).unwrap();
            assert_eq!((clear.operand, clear.against), (2, -1));
            assert_eq!(
                wake_op(ctx, UserAddr(SCRATCH), UserAddr(SCRATCH + 4), Scope::Private, (1, 1), clear)
                    .unwrap(),
                0
            );
            assert_eq!(ctx.peek::<u32>(SCRATCH + 4), 8);
            assert_eq!(WakeOp::decode(5 << 28).unwrap_err().errno(), Errno::ENOSYS);
        });
    }

    #[test]
    fn robust_futexes_of_a_dead_thread_say_so() {
        World::new().with_ctx(|ctx| {
            let (head, node, word) = (SCRATCH, SCRATCH + 0x100, SCRATCH + 0x120);
            ctx.poke(head, [node, 0x20, 0]);
            ctx.poke(node, head);
            ctx.poke(word, ctx.thread.tid | WAITERS);
            ctx.thread.robust_list.store(head, Ordering::Relaxed);
            release_robust(ctx);
            assert_eq!(ctx.peek::<u32>(word), WAITERS | OWNER_DIED);
            ctx.poke(word, ctx.thread.tid + 1);
            ctx.thread.robust_list.store(head, Ordering::Relaxed);
            release_robust(ctx);
            assert_eq!(ctx.peek::<u32>(word), ctx.thread.tid + 1);
        });
    }

    struct Parked(std::thread::Thread);

    impl Unpark for Parked {
        fn unpark(&self) {
            self.0.unpark();
        }
    }

    /// The mutex of Drepper's "Futexes are tricky": 0 free, 1 locked, 2 locked with waiters. A lost wake hangs it.
    #[test]
    fn a_mutex_on_a_futex_excludes_and_never_hangs() {
        use core::sync::atomic::{AtomicU32, AtomicU64};
        const THREADS: u64 = 4;
        const ROUNDS: u64 = 5_000;
        let table = FutexTable::new();
        let key = Key { space: 1, address: 4096 };
        let (word, counter) = (AtomicU32::new(0), AtomicU64::new(0));
        let lock = || {
            if word.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return;
            }
            while word.swap(2, Ordering::SeqCst) != 0 {
                let rest = kbase::event::Waiter::new(Arc::new(Parked(std::thread::current())));
                let is_same = || Ok(word.load(Ordering::SeqCst) == 2);
                let started = std::time::Instant::now();
                let sleep = || {
                    rest.rest(|| false, || std::thread::park_timeout(std::time::Duration::from_secs(20)));
                    assert!(started.elapsed().as_secs() < 20, "a wake was lost");
                    Ok(())
                };
                let _ = table.wait(key, BITSET_MATCH_ANY, rest.waker().clone(), is_same, sleep);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        lock();
                        let seen = counter.load(Ordering::Relaxed);
                        std::thread::yield_now();
                        counter.store(seen + 1, Ordering::Relaxed);
                        if word.swap(0, Ordering::SeqCst) == 2 {
                            table.wake(key, 1, BITSET_MATCH_ANY);
                        }
                    }
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), THREADS * ROUNDS);
        assert!(table.buckets.iter().all(|bucket| bucket.lock().is_empty()));
    }

    #[test]
    fn a_robust_list_that_goes_in_circles_ends() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, [SCRATCH + 0x100, 0x20, 0]);
            ctx.poke(SCRATCH + 0x100, SCRATCH + 0x100);
            ctx.thread.robust_list.store(SCRATCH, Ordering::Relaxed);
            release_robust(ctx);
        });
    }
}
