//! Robust futexes: what a thread held when it ended.

use super::wake;
use crate::Ctx;
use core::sync::atomic::Ordering;
use kbase::{Result, UserAddr};
use linux_abi::process::futex::{OWNER_DIED, TID_MASK, WAITERS};

/// Most entries of a robust list that are followed (ROBUST_LIST_LIMIT).
const ROBUST_LIMIT: usize = 2048;

/// A thread ends: marks the robust futexes that it holds and wakes one waiter of each (`get_robust_list(2)`). What of the list
/// cannot be read ends the walk, as on Linux.
pub(crate) fn release_robust(ctx: &Ctx<'_>) {
    let head = ctx.thread.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // The list is the program's own; there is nobody to tell.
        let _ = walk_robust(ctx, head);
    }
    super::pi::release_all(ctx);
}

/// # Errors
/// EFAULT the list leads to memory that cannot be accessed.
fn walk_robust(ctx: &Ctx<'_>, head: u64) -> Result<()> {
    let read = |address: u64| kbase::UserPtr::<u64>::new(UserAddr(address)).read(ctx.user());
    let mut entry = read(head)?;
    let offset = read(head.wrapping_add(8))?;
    let pending = read(head.wrapping_add(16))?;
    let (pending, is_pending_lock) = (pending & !1, pending & 1 != 0);
    for _ in 0..ROBUST_LIMIT {
        // Bit 0 says that the futex is a lock with priority inheritance.
        let (this, is_lock) = (entry & !1, entry & 1 != 0);
        if this == head {
            break;
        }
        let next = read(this);
        if this != pending {
            release(ctx, UserAddr(this.wrapping_add(offset)), false, is_lock)?;
        }
        entry = next?;
    }
    if pending != 0 {
        release(ctx, UserAddr(pending.wrapping_add(offset)), true, is_pending_lock)?;
    }
    Ok(())
}

/// Says in a word that its owner died, if that is the calling thread.
///
/// # Errors
/// EFAULT, EINVAL.
fn release(ctx: &Ctx<'_>, word: UserAddr, was_pending: bool, is_lock: bool) -> Result<()> {
    let mut value = ctx.user().load_u32(word)?;
    if was_pending && value == 0 && !is_lock {
        // The thread ended between unlocking and waking.
        wake(ctx, word, 1);
        return Ok(());
    }
    while value & TID_MASK == ctx.thread.tid() {
        let found = ctx.user().compare_exchange_u32(word, value, value & WAITERS | OWNER_DIED)?;
        if found == value {
            // Waiters for a lock get it from the kernel.
            if value & WAITERS != 0 && !is_lock {
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

    #[test]
    fn robust_futexes_of_a_dead_thread_say_so() {
        World::new().with_ctx(|ctx| {
            let (head, node, word) = (SCRATCH, SCRATCH + 0x100, SCRATCH + 0x120);
            ctx.poke(head, [node, 0x20, 0]);
            ctx.poke(node, head);
            ctx.poke(word, ctx.thread.tid() | WAITERS);
            ctx.thread.robust_list.store(head, Ordering::Relaxed);
            release_robust(ctx);
            assert_eq!(ctx.peek::<u32>(word), WAITERS | OWNER_DIED);
            ctx.poke(word, ctx.thread.tid() + 1);
            ctx.thread.robust_list.store(head, Ordering::Relaxed);
            release_robust(ctx);
            assert_eq!(ctx.peek::<u32>(word), ctx.thread.tid() + 1);
        });
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
