//! Memory barriers in other threads (`membarrier(2)`).

use super::{Thread, WORK_BARRIER, WORK_EXIT};
use crate::Ctx;
use alloc::sync::Arc;
use core::sync::atomic::{Ordering, fence};

/// Returns when each of `threads` has been in the kernel since the call, or is there asleep: on its way back to its program it
/// passes an atomic read-modify-write of its work, which orders everything before and after it.
pub(crate) fn serialise(ctx: &Ctx<'_>, threads: &[Arc<Thread>]) {
    fence(Ordering::SeqCst);
    let others = || threads.iter().filter(|thread| thread.tid() != ctx.thread.tid());
    others().for_each(|thread| thread.request(WORK_BARRIER));
    for thread in others() {
        while is_outstanding(thread) && !ctx.thread.has_work(WORK_EXIT) {
            // Others may wait for this one, which is in the kernel.
            ctx.thread.clear_work(WORK_BARRIER);
            ctx.outside(|| ctx.platform().yield_now());
        }
    }
    fence(Ordering::SeqCst);
}

fn is_outstanding(thread: &Thread) -> bool {
    let has_gone = thread.handle().is_none() || thread.has_work(WORK_EXIT);
    // A thread that can be woken sleeps in the kernel.
    thread.has_work(WORK_BARRIER) && !has_gone && !thread.waker().wake()
}
