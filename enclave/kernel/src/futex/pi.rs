//! Locks with priority inheritance: FUTEX_LOCK_PI and its relatives.
//!
//! The word of a lock holds the number of its owner, or 0, and FUTEX_WAITERS if the kernel has to be asked to unlock it.
//! Programs change a word from 0 to their number and back without the kernel; with FUTEX_WAITERS set, only the owner in
//! [`unlock`] gives it up, to the waiter that came first.
//!
//! The queue and the word are not changed at once, as no lock is held over user memory. A waiter is in the queue before it
//! looks at the word. Whoever gives the lock up takes a waiter out of the queue first (its fate is *taken*), then puts its number into
//! the word, and then tells it. Whoever found nobody and cleared the word looks at the queue again.

use super::queue::{Entry, Fate, FutexTable, Key, Kind, Scope, Waiter, place, take_locker};
use super::{sleep, waiter_of};
use crate::Ctx;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, bail};
use linux_abi::process::futex::{OWNER_DIED, TID_MASK, WAITERS};

/// A wait for a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockWait {
    /// Address of the word.
    pub(crate) address: UserAddr,
    /// Whose threads may have it.
    pub(crate) scope: Scope,
    /// Until this time of CLOCK_MONOTONIC.
    pub(crate) deadline_ns: Option<u64>,
}

/// What an attempt came to.
enum Attempt {
    /// The caller has the lock.
    Locked,
    /// This thread has it, and the word says that somebody waits.
    OwnedBy(u32),
}

/// Tries to get a lock for a thread. If another has it, its word says afterwards that somebody waits.
///
/// # Errors
/// EDEADLK the thread has it; EFAULT.
fn attempt(ctx: &Ctx<'_>, word: UserAddr, tid: u32, has_others: bool) -> Result<Attempt> {
    let mut value = ctx.user().load_u32(word)?;
    loop {
        let owner = value & TID_MASK;
        let new = match owner {
            0 => value & OWNER_DIED | tid | if has_others { WAITERS } else { value & WAITERS },
            _ if owner == tid => bail!(EDEADLK, "the thread has the lock"),
            _ if value & WAITERS != 0 => return Ok(Attempt::OwnedBy(owner)),
            _ => value | WAITERS,
        };
        let found = ctx.user().compare_exchange_u32(word, value, new)?;
        if found != value {
            value = found;
        } else if owner == 0 {
            return Ok(Attempt::Locked);
        } else {
            return Ok(Attempt::OwnedBy(owner));
        }
    }
}

/// Whether other threads wait for a lock.
fn has_waiters(table: &FutexTable, key: Key, except: Option<&Arc<Waiter>>) -> bool {
    table.lock(key.bucket()).is_some_and(|bucket| {
        bucket.iter().any(|entry| {
            entry.key == key
                && entry.kind == Kind::Lock
                && except.is_none_or(|waiter| !Arc::ptr_eq(&entry.waiter, waiter))
        })
    })
}

/// FUTEX_TRYLOCK_PI.
///
/// # Errors
/// EAGAIN another thread has it; EDEADLK the caller has it; EINVAL not aligned; EFAULT.
pub(crate) fn try_lock(ctx: &Ctx<'_>, address: UserAddr, scope: Scope) -> Result<()> {
    let key = Key::of(ctx, address, scope)?;
    let others = has_waiters(&ctx.kernel.futexes, key, None);
    match attempt(ctx, address, ctx.thread.tid(), others)? {
        Attempt::Locked => Ok(()),
        Attempt::OwnedBy(owner) if ctx.kernel.processes.thread(owner).is_none() => {
            bail!(ESRCH, "the owner has ended")
        }
        Attempt::OwnedBy(_) => bail!(EAGAIN, "another thread has the lock"),
    }
}

/// FUTEX_LOCK_PI.
///
/// # Errors
/// EDEADLK the caller has it; ESRCH its owner has ended without saying so; ETIMEDOUT; ERESTARTNOINTR a signal came;
/// EINVAL not aligned; EFAULT.
pub(crate) fn lock(ctx: &Ctx<'_>, wait: LockWait) -> Result<()> {
    let key = Key::of(ctx, wait.address, wait.scope)?;
    acquire(ctx, key, wait).map_err(|error| match error.errno() {
        Errno::ERESTARTSYS => Error::new(Errno::ERESTARTNOINTR, "a signal came"),
        _ => error,
    })
}

fn acquire(ctx: &Ctx<'_>, key: Key, wait: LockWait) -> Result<()> {
    let table = &ctx.kernel.futexes;
    let waiter = waiter_of(ctx);
    loop {
        table.add(key, Kind::Lock, &waiter);
        let others = has_waiters(table, key, Some(&waiter));
        let attempted = attempt(ctx, wait.address, waiter.tid, others);
        let owner = match attempted {
            Ok(Attempt::OwnedBy(owner)) => owner,
            done => {
                // Who took it out of the queue meanwhile may have given it the lock that it found to be its own.
                if table.remove(&waiter).is_none() && await_fate(ctx, &waiter) == Fate::Done {
                    return Ok(());
                }
                return done.map(|_| ());
            }
        };
        waiter.owner.store(owner, Ordering::SeqCst);
        if let Some(ended) = owner_is_ending(ctx, owner) {
            if table.remove(&waiter).is_some() || await_fate(ctx, &waiter) == Fate::Again {
                if ended && ctx.user().load_u32(wait.address)? & TID_MASK == owner {
                    bail!(ESRCH, "the owner has ended");
                }
                ctx.outside(|| ctx.platform().yield_now());
                continue;
            }
            return Ok(());
        }
        match sleep_until_settled(ctx, &waiter, wait.deadline_ns)? {
            Fate::Again => {}
            _ => return Ok(()),
        }
    }
}

/// Whether the thread is about to end, and then whether it has.
fn owner_is_ending(ctx: &Ctx<'_>, owner: u32) -> Option<bool> {
    match ctx.kernel.processes.thread(owner) {
        None => Some(true),
        Some(thread) if thread.gave_up_locks.load(Ordering::SeqCst) => Some(false),
        Some(_) => None,
    }
}

/// Waits for what somebody who took the waiter out of the queue has to say, which takes no longer than a copy.
fn await_fate(ctx: &Ctx<'_>, waiter: &Waiter) -> Fate {
    loop {
        match waiter.fate() {
            Fate::Waiting | Fate::Taken => ctx.outside(|| ctx.platform().yield_now()),
            fate => return fate,
        }
    }
}

/// Sleeps until the waiter has the lock or is to try again.
///
/// # Errors
/// ETIMEDOUT; ERESTARTSYS. The waiter is in no queue any more.
fn sleep_until_settled(ctx: &Ctx<'_>, waiter: &Arc<Waiter>, deadline_ns: Option<u64>) -> Result<Fate> {
    loop {
        match waiter.fate() {
            Fate::Waiting => {
                if let Err(error) = sleep(ctx, deadline_ns) {
                    if ctx.kernel.futexes.remove(waiter).is_some() {
                        return Err(error);
                    }
                    return match await_fate(ctx, waiter) {
                        Fate::Again => Err(error),
                        fate => Ok(fate),
                    };
                }
            }
            Fate::Taken => return Ok(await_fate(ctx, waiter)),
            fate => return Ok(fate),
        }
    }
}

/// Takes the first waiter out of the queue.
fn next_locker(table: &FutexTable, key: Key) -> Option<Entry> {
    let entry = table.lock(key.bucket()).and_then(|mut bucket| take_locker(&mut bucket, key))?;
    table.note_gone(&entry);
    Some(entry)
}

/// Gives a lock that `from` has (0: nobody) to a waiter that was taken out of the queue, with `extra` bits in the word. If it
/// has another owner by now, or cannot be given, the waiter tries for itself.
///
/// # Errors
/// EFAULT.
fn give(ctx: &Ctx<'_>, word: UserAddr, from: u32, entry: &Entry, extra: u32) -> Result<()> {
    let given = (|| {
        let mut value = ctx.user().load_u32(word)?;
        while value & TID_MASK == from {
            let new = entry.waiter.tid | WAITERS | extra | if from == 0 { value & OWNER_DIED } else { 0 };
            let found = ctx.user().compare_exchange_u32(word, value, new)?;
            if found == value {
                return Ok(true);
            }
            value = found;
        }
        Ok(false)
    })();
    entry.waiter.settle(if matches!(given, Ok(true)) { Fate::Done } else { Fate::Again });
    given.map(|_| ())
}

/// FUTEX_UNLOCK_PI.
///
/// # Errors
/// EPERM the caller does not have it; EINVAL not aligned; EFAULT.
pub(crate) fn unlock(ctx: &Ctx<'_>, address: UserAddr, scope: Scope) -> Result<()> {
    let tid = ctx.thread.tid();
    // Even before it is known to be aligned.
    let mut value: u32 = UserPtr::new(address).read(ctx.user())?;
    if value & TID_MASK != tid {
        bail!(EPERM, "the caller does not have the lock");
    }
    let key = Key::of(ctx, address, scope)?;
    let table = &ctx.kernel.futexes;
    if let Some(entry) = next_locker(table, key) {
        return give(ctx, address, tid, &entry, 0);
    }
    while value & TID_MASK == tid {
        let found = ctx.user().compare_exchange_u32(address, value, 0)?;
        if found == value {
            break;
        }
        value = found;
    }
    // Somebody may have come who saw the old word.
    if let Some(entry) = next_locker(table, key) {
        give(ctx, address, 0, &entry, 0)?;
    }
    Ok(())
}

/// A thread ends: whoever waits for a lock of its gets it, and learns that its owner died.
pub(super) fn release_all(ctx: &Ctx<'_>) {
    ctx.thread.gave_up_locks.store(true, Ordering::SeqCst);
    let table = &ctx.kernel.futexes;
    if !table.has_lockers() {
        return;
    }
    let tid = ctx.thread.tid();
    for index in table.indices() {
        loop {
            let taken = table.lock(index).and_then(|mut bucket| {
                let is_waiting = |entry: &&Entry| {
                    entry.kind == Kind::Lock && entry.waiter.owner.load(Ordering::SeqCst) == tid
                };
                let key = bucket.iter().find(is_waiting)?.key;
                take_locker(&mut bucket, key)
            });
            let Some(entry) = taken else { break };
            table.note_gone(&entry);
            let word = UserAddr(entry.key.address);
            // A robust list has cleared the word already.
            let from = ctx.user().load_u32(word).map_or(tid, |value| value & TID_MASK);
            let from = if from == 0 { 0 } else { tid };
            let _ = give(ctx, word, from, &entry, OWNER_DIED);
        }
    }
}

/// FUTEX_WAIT_REQUEUE_PI: waits while a word has a value, then for the lock that [`requeue_to_lock`] moves the wait to.
///
/// # Errors
/// EAGAIN the word has another value, or a signal came; ETIMEDOUT; EINVAL not aligned, or the words are one; EFAULT.
pub(crate) fn wait_for_requeue(
    ctx: &Ctx<'_>,
    (address, value): (UserAddr, u32),
    lock_wait: LockWait,
) -> Result<()> {
    let (key, target) =
        (Key::of(ctx, address, lock_wait.scope)?, Key::of(ctx, lock_wait.address, lock_wait.scope)?);
    if key == target {
        bail!(EINVAL, "the word is the lock");
    }
    let table = &ctx.kernel.futexes;
    let waiter = waiter_of(ctx);
    table.add(key, Kind::Requeue(target), &waiter);
    let compared = match ctx.user().load_u32(address) {
        Ok(found) if found == value => Ok(()),
        Ok(_) => Err(Error::new(Errno::EAGAIN, "the word has another value")),
        Err(error) => Err(error),
    };
    // One that was moved before it looked waits for the lock now, or has it.
    if compared.is_err() && table.remove(&waiter).is_some() {
        return compared;
    }
    let settled = sleep_until_settled(ctx, &waiter, lock_wait.deadline_ns).and_then(|fate| match fate {
        Fate::Again => acquire(ctx, target, lock_wait),
        _ => Ok(()),
    });
    settled.map_err(|error| match error.errno() {
        Errno::ERESTARTSYS => Error::new(Errno::EAGAIN, "a signal came"),
        _ => error,
    })
}

/// FUTEX_CMP_REQUEUE_PI: moves one waiter of a word and at most `most` others to a lock, and gives it to the first if it is
/// free. Returns their number.
///
/// # Errors
/// EAGAIN the word has not the value that is compared; EINVAL not aligned, the words are one, or a waiter that waits for
/// something else; EFAULT.
pub(crate) fn requeue_to_lock(
    ctx: &Ctx<'_>,
    (address, value): (UserAddr, u32),
    (lock_address, scope): (UserAddr, Scope),
    most: u32,
) -> Result<u32> {
    let (from, to) = (Key::of(ctx, address, scope)?, Key::of(ctx, lock_address, scope)?);
    if from == to {
        bail!(EINVAL, "the word is the lock");
    }
    if ctx.user().load_u32(address)? != value {
        bail!(EAGAIN, "the word has another value");
    }
    // Whether anybody waits or not.
    ctx.user().load_u32(lock_address)?;
    let table = &ctx.kernel.futexes;
    let moved = table.with_two(from, to, |source, mut target| {
        let mut moved = 0;
        let mut index = 0;
        while moved <= most {
            let Some(entry) = source.get(index) else { break };
            if entry.key != from {
                index += 1;
                continue;
            }
            if entry.kind != Kind::Requeue(to) {
                bail!(EINVAL, "a waiter that does not wait for this lock");
            }
            let Some(entry) = source.remove(index) else { break };
            let entry = Entry { key: to, kind: Kind::Lock, ..entry };
            match target.as_deref_mut() {
                Some(target) => place(target, entry),
                None => place(source, entry),
            }
            moved += 1;
        }
        Ok(moved)
    });
    let moved = moved.unwrap_or(Ok(0))?;
    if moved > 0 {
        settle_moved(ctx, to, lock_address)?;
    }
    Ok(moved)
}

/// Waiters were moved to the queue of a lock: gives it to the first if it is free, else says in its word that they wait.
fn settle_moved(ctx: &Ctx<'_>, key: Key, word: UserAddr) -> Result<()> {
    let table = &ctx.kernel.futexes;
    let mut value = ctx.user().load_u32(word)?;
    loop {
        let owner = value & TID_MASK;
        if owner == 0 {
            let Some(entry) = next_locker(table, key) else { return Ok(()) };
            return give(ctx, word, 0, &entry, 0);
        }
        let found = ctx.user().compare_exchange_u32(word, value, value | WAITERS)?;
        if found != value {
            value = found;
            continue;
        }
        if let Some(bucket) = table.lock(key.bucket()) {
            let lockers = bucket.iter().filter(|entry| entry.key == key && entry.kind == Kind::Lock);
            lockers.for_each(|entry| entry.waiter.owner.store(owner, Ordering::SeqCst));
        }
        if owner_is_ending(ctx, owner).is_some()
            && let Some(entry) = next_locker(table, key)
        {
            // It finds out for itself.
            entry.waiter.settle(Fate::Again);
        }
        return Ok(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SCRATCH, World};

    const WORD: UserAddr = UserAddr(SCRATCH);
    const PRIVATE: Scope = Scope::Private;

    fn errno<T>(result: Result<T>) -> Errno {
        result.err().map_or(Errno::ENOSYS, |error| error.errno())
    }

    /// Another thread that waits for the lock, as far as the queue is concerned.
    fn other(ctx: &Ctx<'_>, tid: u32, kind: Kind, address: UserAddr) -> Arc<Waiter> {
        let waiter = Waiter::new(ctx.thread.waker().clone(), tid);
        let key = Key::of(ctx, address, PRIVATE).unwrap();
        ctx.kernel.futexes.add(key, kind, &waiter);
        waiter
    }

    fn wait(deadline_ns: Option<u64>) -> LockWait {
        LockWait { address: WORD, scope: PRIVATE, deadline_ns }
    }

    #[test]
    fn a_free_lock_is_had_and_given_back() {
        World::new().with_ctx(|ctx| {
            lock(ctx, wait(None)).unwrap();
            assert_eq!(ctx.peek::<u32>(SCRATCH), ctx.thread.tid());
            assert_eq!(errno(lock(ctx, wait(None))), Errno::EDEADLK);
            assert_eq!(errno(try_lock(ctx, WORD, PRIVATE)), Errno::EDEADLK);
            unlock(ctx, WORD, PRIVATE).unwrap();
            assert_eq!(ctx.peek::<u32>(SCRATCH), 0);
            assert_eq!(errno(unlock(ctx, WORD, PRIVATE)), Errno::EPERM);
            try_lock(ctx, WORD, PRIVATE).unwrap();
            assert!(!ctx.kernel.futexes.has_lockers());
        });
    }

    #[test]
    fn an_owner_that_is_not_there_is_an_error() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, 4_000_000u32);
            assert_eq!(errno(lock(ctx, wait(None))), Errno::ESRCH);
            assert_eq!(errno(try_lock(ctx, WORD, PRIVATE)), Errno::ESRCH);
            assert!(!ctx.kernel.futexes.has_lockers());
        });
    }

    #[test]
    fn unlocking_hands_the_lock_to_who_waits() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, ctx.thread.tid() | WAITERS);
            let waiter = other(ctx, 77, Kind::Lock, WORD);
            unlock(ctx, WORD, PRIVATE).unwrap();
            assert_eq!(ctx.peek::<u32>(SCRATCH), 77 | WAITERS);
            assert_eq!(waiter.fate(), Fate::Done);
        });
    }

    #[test]
    fn the_lock_of_a_thread_that_ends_goes_to_who_waits_with_the_news() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, ctx.thread.tid() | WAITERS);
            let waiter = other(ctx, 77, Kind::Lock, WORD);
            waiter.owner.store(ctx.thread.tid(), Ordering::SeqCst);
            super::super::release_robust(ctx);
            assert_eq!(ctx.peek::<u32>(SCRATCH), 77 | WAITERS | OWNER_DIED);
            assert_eq!(waiter.fate(), Fate::Done);
            assert!(!ctx.kernel.futexes.has_lockers());
        });
    }

    #[test]
    fn requeued_waiters_get_a_free_lock_or_wait_for_it() {
        World::new().with_ctx(|ctx| {
            let condition = UserAddr(SCRATCH + 64);
            let target = Key::of(ctx, WORD, PRIVATE).unwrap();
            let waiters: Vec<_> =
                [70, 71, 72].map(|tid| other(ctx, tid, Kind::Requeue(target), condition)).into();
            assert_eq!(errno(requeue_to_lock(ctx, (condition, 1), (WORD, PRIVATE), 9)), Errno::EAGAIN);
            assert_eq!(errno(requeue_to_lock(ctx, (condition, 0), (condition, PRIVATE), 9)), Errno::EINVAL);
            let elsewhere = UserAddr(SCRATCH + 128);
            assert_eq!(errno(requeue_to_lock(ctx, (condition, 0), (elsewhere, PRIVATE), 9)), Errno::EINVAL);
            assert_eq!(requeue_to_lock(ctx, (condition, 0), (WORD, PRIVATE), 1).unwrap(), 2);
            assert_eq!(ctx.peek::<u32>(SCRATCH), 70 | WAITERS);
            let fates: Vec<_> = waiters.iter().map(|waiter| waiter.fate()).collect();
            assert_eq!(fates, [Fate::Done, Fate::Waiting, Fate::Waiting]);
            assert_eq!(waiters[1].owner.load(Ordering::SeqCst), 70);
        });
    }

    #[test]
    fn a_wait_for_a_lock_ends_in_time_and_leaves_nothing_behind() {
        World::new().with_ctx(|ctx| {
            let clone = ctx.call(435, &[]);
            assert!(clone.is_err());
            let condition = UserAddr(SCRATCH + 64);
            let soon = Some(ctx.platform().monotonic_ns() + 1000);
            assert_eq!(errno(wait_for_requeue(ctx, (condition, 0), wait(soon))), Errno::ETIMEDOUT);
            assert_eq!(errno(wait_for_requeue(ctx, (condition, 1), wait(soon))), Errno::EAGAIN);
            assert_eq!(errno(wait_for_requeue(ctx, (WORD, 0), wait(soon))), Errno::EINVAL);
            assert!(!ctx.kernel.futexes.has_lockers());
        });
    }
}
