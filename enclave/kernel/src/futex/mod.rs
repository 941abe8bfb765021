//! Futexes: threads wait for words of user memory, others wake them.
//!
//! [`queue`] has the waiters. A waiter that finds the word changed leaves; if somebody woke it in between, it was not
//! waiting by Linux's rules, and passes the wake on.
//!
//! Locks whose word holds their owner ([`pi`]) are handed over by the kernel. Their waiters are served in the order in which they
//! came. The host schedules, so an owner gets no better priority from those who wait for it.

mod operation;
mod pi;
mod queue;
mod robust;
mod vector;

pub(crate) use operation::{WakeOp, wake_op};
pub(crate) use pi::{LockWait, lock, requeue_to_lock, try_lock, unlock, wait_for_requeue};
pub(crate) use queue::{FutexTable, Scope};
pub(crate) use robust::release_robust;
pub(crate) use vector::{Word, wait_for_any};

use crate::Ctx;
use alloc::sync::Arc;
use kbase::event::Waker;
use kbase::{Errno, Error, Result, UserAddr, bail};
use linux_abi::process::futex::BITSET_MATCH_ANY;
use queue::{Fate, Key, Kind, Waiter};

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
        let waiter = Waiter::new(waker, 0);
        self.add(key, Kind::Wait(bits), &waiter);
        let compared = match is_same() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(Errno::EAGAIN, "the word has another value")),
            Err(error) => Err(error),
        };
        if compared.is_err() {
            if self.remove(&waiter).is_none() {
                let _ = self.wake(key, 1, bits);
            }
            return compared;
        }
        while waiter.fate() != Fate::Done {
            if let Err(error) = sleep() {
                // Woken at the last moment counts as woken.
                return if self.remove(&waiter).is_some() { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }
}

/// Sleeps until woken, or fails because the time is over or a signal came.
///
/// # Errors
/// ETIMEDOUT; ERESTARTSYS.
fn sleep(ctx: &Ctx<'_>, deadline_ns: Option<u64>) -> Result<()> {
    if deadline_ns.is_some_and(|deadline| ctx.platform().monotonic_ns() >= deadline) {
        bail!(ETIMEDOUT, "the time is over");
    }
    ctx.park(deadline_ns).map(|_| ())
}

/// A place in a queue for the calling thread.
fn waiter_of(ctx: &Ctx<'_>) -> Arc<Waiter> {
    Waiter::new(ctx.thread.waker().clone(), ctx.thread.tid())
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
    let asleep = || sleep(ctx, wait.deadline_ns);
    let Err(failure) = ctx.kernel.futexes.wait(key, wait.bits, ctx.thread.waker().clone(), is_same, asleep)
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
/// EINVAL not aligned, no bits, or a waiter for a lock; EFAULT.
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
    ctx.kernel.futexes.wake(Key::of(ctx, address, scope)?, count, bits)
}

/// Wakes some waiters and moves others to another word (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE). Returns the numbers of both.
///
/// # Errors
/// EAGAIN the word has not the value that is compared; EINVAL not aligned, or a waiter for a lock; EFAULT.
pub(crate) fn requeue(
    ctx: &Ctx<'_>,
    (from, from_scope): (UserAddr, Scope),
    (to, to_scope): (UserAddr, Scope),
    (wake, requeue): (u32, u32),
    compare: Option<u32>,
) -> Result<(u32, u32)> {
    let (from_key, to_key) = (Key::of(ctx, from, from_scope)?, Key::of(ctx, to, to_scope)?);
    if let Some(value) = compare
        && ctx.user().load_u32(from)? != value
    {
        bail!(EAGAIN, "the word has another value");
    }
    ctx.kernel.futexes.requeue(from_key, to_key, wake, requeue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SCRATCH, World};
    use core::sync::atomic::Ordering;
    use kbase::event::Unpark;

    const NONE: Wait = Wait {
        address: UserAddr(SCRATCH),
        scope: Scope::Shared,
        value: 0,
        bits: BITSET_MATCH_ANY,
        deadline_ns: None,
        begins_anew: true,
    };

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
                            table.wake(key, 1, BITSET_MATCH_ANY).unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), THREADS * ROUNDS);
        assert!(table.indices().all(|index| table.lock(index).unwrap().is_empty()));
    }
}
