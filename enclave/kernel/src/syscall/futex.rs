//! `futex(2)`, `futex_waitv(2)` and their relatives, `membarrier(2)`.

use crate::Ctx;
use crate::futex::{self, LockWait, Scope, Wait, WakeOp, Word};
use crate::time::{Clock, deadline_after, deadline_at};
use alloc::vec::Vec;
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::process::futex as op;
use linux_abi::time::Timespec;

/// How many a count wakes: Linux compares it after it woke the first, so 0 and negative counts wake one.
fn at_least_one(count: u32) -> u32 {
    if count.cast_signed() < 1 { 1 } else { count }
}

/// A count that may not be negative.
fn count(raw: u64) -> Result<u32> {
    match u32::try_from(raw & 0xffff_ffff) {
        Ok(count) if count.cast_signed() >= 0 => Ok(count),
        _ => bail!(EINVAL, "a negative count"),
    }
}

/// The timeout at an address, if there is one.
///
/// # Errors
/// EFAULT; EINVAL not a time.
fn timeout(ctx: &Ctx<'_>, at: UserPtr<Timespec>) -> Result<Option<Timespec>> {
    match at.non_null() {
        None => Ok(None),
        Some(at) => {
            let time = at.read(ctx.user())?;
            if time.to_ns().is_none() {
                bail!(EINVAL, "not a time");
            }
            Ok(Some(time))
        }
    }
}

/// `futex(2)`. The fourth argument is the address of a timeout or a second count.
pub(super) fn futex(
    ctx: &Ctx<'_>,
    address: UserAddr,
    operation: u32,
    value: u32,
    fourth: u64,
    second: UserAddr,
    third_value: u32,
) -> Result<u32> {
    let command = operation & op::CMD_MASK;
    let scope = if operation & op::PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
    let clock = if operation & op::CLOCK_REALTIME != 0 { Clock::Realtime } else { Clock::Monotonic };
    let given = if waits(command) { timeout(ctx, UserPtr::new(UserAddr(fourth)))? } else { None };
    if clock == Clock::Realtime && !matches!(command, op::WAIT_BITSET | op::WAIT_REQUEUE_PI | op::LOCK_PI2) {
        bail!(ENOSYS, "the operation takes no clock");
    }
    let at = |clock: Clock| given.map(|time| deadline_at(ctx, clock, time)).transpose();
    let wait = |bits: u32, deadline_ns: Option<u64>, begins_anew: bool| {
        futex::wait(ctx, Wait { address, scope, value, bits, deadline_ns, begins_anew }).map(|()| 0)
    };
    match command {
        op::WAIT => {
            let deadline = given.map(|timeout| deadline_after(ctx, timeout)).transpose()?;
            wait(op::BITSET_MATCH_ANY, deadline, deadline.is_none())
        }
        op::WAIT_BITSET => wait(third_value, at(clock)?, given.is_none()),
        op::WAKE => futex::wake_bits(ctx, address, scope, at_least_one(value), op::BITSET_MATCH_ANY),
        op::WAKE_BITSET => futex::wake_bits(ctx, address, scope, at_least_one(value), third_value),
        op::REQUEUE | op::CMP_REQUEUE => {
            let compare = (command == op::CMP_REQUEUE).then_some(third_value);
            let counts = (count(value.into())?, count(fourth)?);
            let (woken, moved) = futex::requeue(ctx, (address, scope), (second, scope), counts, compare)?;
            Ok(woken.saturating_add(moved))
        }
        op::WAKE_OP => {
            let second_count = u32::try_from(fourth & 0xffff_ffff).unwrap_or(0);
            let counts = (at_least_one(value), at_least_one(second_count));
            futex::wake_op(ctx, address, second, scope, counts, WakeOp::decode(third_value))
        }
        op::LOCK_PI | op::LOCK_PI2 => {
            let clock = if command == op::LOCK_PI { Clock::Realtime } else { clock };
            futex::lock(ctx, LockWait { address, scope, deadline_ns: at(clock)? }).map(|()| 0)
        }
        op::UNLOCK_PI => futex::unlock(ctx, address, scope).map(|()| 0),
        op::TRYLOCK_PI => futex::try_lock(ctx, address, scope).map(|()| 0),
        op::WAIT_REQUEUE_PI => {
            let wait = LockWait { address: second, scope, deadline_ns: at(clock)? };
            futex::wait_for_requeue(ctx, (address, value), wait).map(|()| 0)
        }
        op::CMP_REQUEUE_PI => {
            if address == second {
                bail!(EINVAL, "the word is the lock");
            }
            let most = count(fourth)?;
            if value != 1 {
                bail!(EINVAL, "one is woken, no more and no fewer");
            }
            futex::requeue_to_lock(ctx, (address, third_value), (second, scope), most)
        }
        _ => bail!(ENOSYS, "no such operation"),
    }
}

/// Whether the fourth argument of an operation is the address of a timeout.
fn waits(command: u32) -> bool {
    matches!(command, op::WAIT | op::WAIT_BITSET | op::LOCK_PI | op::LOCK_PI2 | op::WAIT_REQUEUE_PI)
}

/// Whose word it is, from the flags of the calls that know sizes.
///
/// # Errors
/// EINVAL flags that are not known, or a word of another size than 32 bits.
fn scope_of(flags: u32) -> Result<Scope> {
    match flags & !op::PRIVATE_FLAG {
        op::SIZE_U32 if flags & op::PRIVATE_FLAG != 0 => Ok(Scope::Private),
        op::SIZE_U32 => Ok(Scope::Shared),
        _ => bail!(EINVAL, "flags, or not a word of 32 bits"),
    }
}

/// A 64-bit argument that stands for a 32-bit one.
///
/// # Errors
/// EINVAL it is larger.
fn word(value: u64) -> Result<u32> {
    match u32::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => bail!(EINVAL, "larger than a word"),
    }
}

/// The deadline at an address, if there is one.
///
/// # Errors
/// EINVAL not a time, or a clock that nobody waits on; EFAULT.
fn deadline(ctx: &Ctx<'_>, at: UserPtr<Timespec>, clock: i32) -> Result<Option<u64>> {
    let Some(at) = at.non_null() else { return Ok(None) };
    let clock = match clock {
        linux_abi::time::CLOCK_REALTIME => Clock::Realtime,
        linux_abi::time::CLOCK_MONOTONIC => Clock::Monotonic,
        _ => bail!(EINVAL, "not a clock for futexes"),
    };
    deadline_at(ctx, clock, at.read(ctx.user())?).map(Some)
}

/// `struct futex_waitv`, by words: value, address, flags and reserved.
type WaitVector = [u64; 3];

/// A row of an array of `struct futex_waitv`.
fn row(ctx: &Ctx<'_>, rows: UserPtr<WaitVector>, index: u64) -> Result<Word> {
    let [value, address, rest] = rows.index(index)?.read(ctx.user())?;
    if rest >> 32 != 0 {
        bail!(EINVAL, "a reserved field is not 0");
    }
    let scope = scope_of(word(rest)?)?;
    Ok(Word { address: UserAddr(address), scope, value: word(value)? })
}

/// `futex_waitv(2)`.
pub(super) fn futex_waitv(
    ctx: &Ctx<'_>,
    rows: UserPtr<WaitVector>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
    clock: i32,
) -> Result<usize> {
    /// FUTEX_WAITV_MAX.
    const MAX: u32 = 128;
    if flags != 0 || !(1..=MAX).contains(&count) || rows.non_null().is_none() {
        bail!(EINVAL, "no flags are known, or not as many words");
    }
    let deadline = deadline(ctx, timeout, clock)?;
    let words: Vec<Word> = (0..u64::from(count)).map(|index| row(ctx, rows, index)).collect::<Result<_>>()?;
    futex::wait_for_any(ctx, &words, deadline)
}

/// `futex_wake(2)`.
pub(super) fn futex_wake(ctx: &Ctx<'_>, address: UserAddr, mask: u64, count: i32, flags: u32) -> Result<u32> {
    let scope = scope_of(flags)?;
    let bits = word(mask)?;
    // Unlike futex(2), it takes 0 and less at its word.
    let Some(count) = u32::try_from(count).ok().filter(|&count| count > 0) else {
        return futex::wake_bits(ctx, address, scope, 0, bits);
    };
    futex::wake_bits(ctx, address, scope, count, bits)
}

/// `futex_wait(2)`.
pub(super) fn futex_wait(
    ctx: &Ctx<'_>,
    address: UserAddr,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: UserPtr<Timespec>,
    clock: i32,
) -> Result<()> {
    let scope = scope_of(flags)?;
    let (value, bits) = (word(value)?, word(mask)?);
    let deadline_ns = deadline(ctx, timeout, clock)?;
    futex::wait(ctx, Wait { address, scope, value, bits, deadline_ns, begins_anew: true })
}

/// `futex_requeue(2)`.
pub(super) fn futex_requeue(
    ctx: &Ctx<'_>,
    rows: UserPtr<WaitVector>,
    flags: u32,
    wake: i32,
    requeue: i32,
) -> Result<u32> {
    if flags != 0 || rows.non_null().is_none() {
        bail!(EINVAL, "no flags are known, or no words");
    }
    let (from, to) = (row(ctx, rows, 0)?, row(ctx, rows, 1)?);
    let counts = (count(wake.cast_unsigned().into())?, count(requeue.cast_unsigned().into())?);
    let (woken, moved) =
        futex::requeue(ctx, (from.address, from.scope), (to.address, to.scope), counts, Some(from.value))?;
    Ok(woken.saturating_add(moved))
}

/// `membarrier(2)`.
///
/// A barrier on every processor that runs a thread of the process is what an interrupt of the thread is: it leaves the enclave
/// and comes back, both of which serialise. The private commands wait until each other thread has been in the kernel since, or
/// sleeps there.
pub(super) fn membarrier(ctx: &Ctx<'_>, command: i32, flags: u32, _cpu: i32) -> Result<u32> {
    const QUERY: i32 = 0;
    const GLOBAL: i32 = 1;
    const GLOBAL_EXPEDITED: i32 = 2;
    const REGISTER_GLOBAL_EXPEDITED: i32 = 4;
    const PRIVATE_EXPEDITED: i32 = 8;
    const REGISTER_PRIVATE_EXPEDITED: i32 = 16;
    const SYNC_CORE: i32 = 32;
    const REGISTER_SYNC_CORE: i32 = 64;
    const ALL: i32 = GLOBAL
        | GLOBAL_EXPEDITED
        | REGISTER_GLOBAL_EXPEDITED
        | PRIVATE_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED
        | SYNC_CORE
        | REGISTER_SYNC_CORE;
    if flags != 0 {
        bail!(EINVAL, "no flags are known");
    }
    let registered = &ctx.process.attributes.membarriers;
    match command {
        QUERY => return Ok(ALL.cast_unsigned()),
        REGISTER_PRIVATE_EXPEDITED | REGISTER_SYNC_CORE => {
            registered.fetch_or(command.cast_unsigned(), core::sync::atomic::Ordering::Relaxed);
        }
        REGISTER_GLOBAL_EXPEDITED => {}
        PRIVATE_EXPEDITED | SYNC_CORE => {
            // The command that registers for one is twice its number.
            let wanted = command.cast_unsigned() << 1;
            if registered.load(core::sync::atomic::Ordering::Relaxed) & wanted == 0 {
                bail!(EPERM, "the process has not registered");
            }
            crate::thread::serialise(ctx, &ctx.process.threads());
        }
        GLOBAL | GLOBAL_EXPEDITED => {
            let all = ctx.kernel.processes.all();
            let threads: Vec<_> = all.iter().flat_map(|process| process.threads()).collect();
            crate::thread::serialise(ctx, &threads);
        }
        _ => bail!(EINVAL, "no such command"),
    }
    Ok(0)
}

/// `rseq(2)`: programs do without.
pub(super) fn rseq(_ctx: &Ctx<'_>) -> Result<()> {
    bail!(ENOSYS, "no restartable sequences")
}

#[cfg(test)]
mod tests {
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;

    const FUTEX: u64 = 202;
    const WAITV: u64 = 449;

    #[test]
    fn bad_rows_and_clocks_are_refused() {
        World::new().with_ctx(|ctx| {
            let waitv = |count: u64, flags: u64| ctx.call(WAITV, &[SCRATCH, count, flags, 0, 0]);
            ctx.poke(SCRATCH, [1u64, SCRATCH + 512, 2]);
            assert_eq!(waitv(0, 0), Err(Errno::EINVAL));
            assert_eq!(waitv(129, 0), Err(Errno::EINVAL));
            assert_eq!(waitv(1, 1), Err(Errno::EINVAL));
            assert_eq!(waitv(1, 0), Err(Errno::EAGAIN));
            ctx.poke(SCRATCH, [0u64, SCRATCH + 512, 3]);
            assert_eq!(waitv(1, 0), Err(Errno::EINVAL));
            ctx.poke(SCRATCH, [0u64, SCRATCH + 512, 2 | 1 << 32]);
            assert_eq!(waitv(1, 0), Err(Errno::EINVAL));
            ctx.poke(SCRATCH + 64, [0u64, 1]);
            assert_eq!(ctx.call(WAITV, &[SCRATCH, 1, 0, SCRATCH + 64, 7]), Err(Errno::EINVAL));
        });
    }

    #[test]
    fn a_lock_is_taken_and_given_back_through_the_call() {
        World::new().with_ctx(|ctx| {
            let futex = |operation: u64| ctx.call(FUTEX, &[SCRATCH, operation, 0, 0, 0, 0]);
            assert_eq!(futex(6), Ok(0));
            assert_eq!(ctx.peek::<u32>(SCRATCH), ctx.thread.tid());
            assert_eq!(futex(8), Err(Errno::EDEADLK));
            assert_eq!(futex(7), Ok(0));
            assert_eq!(futex(7), Err(Errno::EPERM));
            assert_eq!(futex(13 | 256), Ok(0));
            assert_eq!(futex(6 | 256), Err(Errno::ENOSYS));
        });
    }

    #[test]
    fn a_barrier_needs_registration() {
        World::new().with_ctx(|ctx| {
            assert_eq!(ctx.call(324, &[8, 0, 0]), Err(Errno::EPERM));
            assert_eq!(ctx.call(324, &[16, 0, 0]), Ok(0));
            assert_eq!(ctx.call(324, &[8, 0, 0]), Ok(0));
            assert_eq!(ctx.call(324, &[0, 1, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(324, &[3, 0, 0]), Err(Errno::EINVAL));
        });
    }
}
