//! `futex(2)` and `membarrier(2)`.

use crate::Ctx;
use crate::futex::{self, Scope, Wait, WakeOp};
use crate::time::{Clock, deadline_after, deadline_at};
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
    if clock == Clock::Realtime && command != op::WAIT_BITSET {
        bail!(ENOSYS, "the operation takes no clock");
    }
    let timeout = || match UserPtr::<Timespec>::new(UserAddr(fourth)).non_null() {
        Some(timeout) => timeout.read(ctx.user()).map(Some),
        None => Ok(None),
    };
    let wait = |bits: u32, deadline_ns: Option<u64>| {
        futex::wait(
            ctx,
            Wait { address, scope, value, bits, deadline_ns, begins_anew: deadline_ns.is_none() },
        )
        .map(|()| 0)
    };
    match command {
        op::WAIT => {
            let deadline = timeout()?.map(|timeout| deadline_after(ctx, timeout)).transpose()?;
            wait(op::BITSET_MATCH_ANY, deadline)
        }
        op::WAIT_BITSET => {
            let deadline = timeout()?.map(|time| deadline_at(ctx, clock, time)).transpose()?;
            wait(third_value, deadline)
        }
        op::WAKE => futex::wake_bits(ctx, address, scope, at_least_one(value), op::BITSET_MATCH_ANY),
        op::WAKE_BITSET => futex::wake_bits(ctx, address, scope, at_least_one(value), third_value),
        op::REQUEUE | op::CMP_REQUEUE => {
            let compare = (command == op::CMP_REQUEUE).then_some(third_value);
            let counts = (count(value.into())?, count(fourth)?);
            let (woken, moved) = futex::requeue(ctx, address, second, scope, counts, compare)?;
            Ok(woken.saturating_add(moved))
        }
        op::WAKE_OP => {
            let second_count = u32::try_from(fourth & 0xffff_ffff).unwrap_or(0);
            let counts = (at_least_one(value), at_least_one(second_count));
            futex::wake_op(ctx, address, second, scope, counts, WakeOp::decode(third_value)?)
        }
        _ => bail!(ENOSYS, "no such operation"),
    }
}

/// `membarrier(2)`: says that it can do nothing.
pub(super) fn membarrier(_ctx: &Ctx<'_>, command: i32, flags: u32, _cpu: i32) -> Result<u32> {
    if command == 0 && flags == 0 {
        Ok(0)
    } else {
        Err(kbase::Error::new(kbase::Errno::EINVAL, "no such command"))
    }
}

/// `rseq(2)`: programs do without.
pub(super) fn rseq(_ctx: &Ctx<'_>) -> Result<()> {
    bail!(ENOSYS, "no restartable sequences")
}
