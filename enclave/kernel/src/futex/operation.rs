//! FUTEX_WAKE_OP: change one word, wake the waiters of another, and perhaps those of the first.

use super::queue::{Key, Scope};
use crate::Ctx;
use kbase::{Result, UserAddr, bail};
use linux_abi::process::futex::BITSET_MATCH_ANY;

/// The operation of FUTEX_WAKE_OP, from its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakeOp {
    operation: u32,
    comparison: u32,
    operand: u32,
    against: i32,
}

/// Twelve bits with a sign.
const fn signed(bits: u32) -> i32 {
    (bits << 20).cast_signed() >> 20
}

impl WakeOp {
    /// Decodes `val3`: `op << 28 | cmp << 24 | oparg << 12 | cmparg`, both arguments signed.
    pub(crate) const fn decode(encoded: u32) -> Self {
        let (operation, comparison) = (encoded >> 28 & 7, encoded >> 24 & 0xf);
        let operand = signed(encoded >> 12 & 0xfff).cast_unsigned();
        // FUTEX_OP_OPARG_SHIFT; Linux masks shifts that are too far.
        let operand = if encoded >> 31 == 1 { 1u32.wrapping_shl(operand) } else { operand };
        Self { operation, comparison, operand, against: signed(encoded & 0xfff) }
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
/// EINVAL not aligned, or a waiter for a lock; ENOSYS an unknown operation or comparison; EFAULT.
pub(crate) fn wake_op(
    ctx: &Ctx<'_>,
    first: UserAddr,
    second: UserAddr,
    scope: Scope,
    (wake, wake_second): (u32, u32),
    operation: WakeOp,
) -> Result<u32> {
    let (first_key, second_key) = (Key::of(ctx, first, scope)?, Key::of(ctx, second, scope)?);
    if operation.operation > 4 {
        bail!(ENOSYS, "unknown FUTEX_OP");
    }
    let mut old = ctx.user().load_u32(second)?;
    loop {
        let found = ctx.user().compare_exchange_u32(second, old, operation.apply(old))?;
        if found == old {
            break;
        }
        old = found;
    }
    if operation.comparison > 5 {
        // Linux too has changed the word by now.
        bail!(ENOSYS, "unknown FUTEX_OP_CMP");
    }
    let table = &ctx.kernel.futexes;
    let mut woken = table.wake(first_key, wake, BITSET_MATCH_ANY)?;
    if operation.holds(old) {
        woken = woken.saturating_add(table.wake(second_key, wake_second, BITSET_MATCH_ANY)?);
    }
    Ok(woken)
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Fate, Kind};
    use super::*;
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;

    #[test]
    fn wake_op_changes_one_word_and_decides_by_its_old_value() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH + 4, 7u32);
            // FUTEX_OP_ADD 3, FUTEX_OP_CMP_GT 6
            let add = WakeOp::decode(1 << 28 | 4 << 24 | 3 << 12 | 6);
            let key = Key::of(ctx, UserAddr(SCRATCH + 4), Scope::Private).unwrap();
            let second = super::super::waiter_of(ctx);
            ctx.kernel.futexes.add(key, Kind::Wait(1), &second);
            assert_eq!(
                wake_op(ctx, UserAddr(SCRATCH), UserAddr(SCRATCH + 4), Scope::Private, (1, 1), add).unwrap(),
                1
            );
            assert_eq!(second.fate(), Fate::Done);
            assert_eq!(ctx.peek::<u32>(SCRATCH + 4), 10);
            // FUTEX_OP_ANDN with a shifted operand of 1 << 1, FUTEX_OP_CMP_LT -1
            let clear = WakeOp::decode(0xb << 28 | 2 << 24 | 1 << 12 | 0xfff);
            assert_eq!((clear.operand, clear.against), (2, -1));
            assert_eq!(
                wake_op(ctx, UserAddr(SCRATCH), UserAddr(SCRATCH + 4), Scope::Private, (1, 1), clear)
                    .unwrap(),
                0
            );
            assert_eq!(ctx.peek::<u32>(SCRATCH + 4), 8);
            let unknown = WakeOp::decode(5 << 28);
            let (first, second) = (UserAddr(SCRATCH), UserAddr(SCRATCH + 4));
            let failure = wake_op(ctx, first, second, Scope::Private, (1, 1), unknown).unwrap_err();
            assert_eq!(failure.errno(), Errno::ENOSYS);
        });
    }
}
