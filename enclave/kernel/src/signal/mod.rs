//! Signals: sending, blocking, waiting, handlers.
//!
//! A signal that is sent is put into the queue of a process or a thread ([`send`]); a thread that would take it gets
//! [`WORK_SIGNAL`]. On its way back to user code it takes what is not blocked and acts on it ([`deliver()`]): it
//! ignores it, stops, ends the process, or makes a frame ([`frame`]) and lets the handler run.
//!
//! Invariant: whenever a thread has a pending signal that its mask lets through, its WORK_SIGNAL bit is set or the thread is in
//! [`deliver()`]. A sender stores the signal before it reads the mask, and a thread stores its mask before it reads what is
//! pending, so one of them sees the other.
//!
//! Lock order: see [`state`]. No lock is held over user memory, or while somebody is woken.

mod deliver;
mod frame;
mod queue;
mod send;
mod state;
#[cfg(test)]
mod tests;
mod wait;

pub(crate) use deliver::{deliver, is_orphaned_group, raise_fault, return_from_handler};
pub(crate) use send::{
    addressed, may_signal, raise_self, send_from_outside, send_of_timer, send_to_all, send_to_process,
    send_to_thread,
};
pub(crate) use state::{ProcessSignals, ThreadSignals};
pub(crate) use wait::{suspend, take_awaited, with_mask};

use crate::Ctx;
use crate::thread::WORK_SIGNAL;
use kbase::Result;
use linux_abi::signal::{SigAction, Signal, SignalSet};

/// Whether a signal waits for the calling thread that would run a handler, stop or end it: who waits for something else
/// stops waiting. Expires the timers of the process on the way.
pub(crate) fn is_deliverable(ctx: &Ctx<'_>) -> bool {
    crate::time::expire_timers(ctx);
    if !ctx.thread.has_work(WORK_SIGNAL) {
        return false;
    }
    ctx.process.signals.is_stopped() || !deliverable(ctx).is_empty()
}

/// An interrupt came: expires the timers of the process.
pub(crate) fn on_interrupt(ctx: &Ctx<'_>) {
    crate::time::on_interrupt(ctx);
}

/// A thread has left its process: others take what it would have taken, and the timers that it was woken for.
pub(crate) fn thread_ended(ctx: &Ctx<'_>) {
    send::retarget(ctx, SignalSet(!0));
    crate::time::hand_over_timers(ctx);
    ctx.thread.signals.with_queue(|queue| queue.discard(SignalSet(!0)));
}

/// A process has ended: what is pending for it and its timers no longer count for its user, before its parent hears of the end.
pub(crate) fn process_ended(process: &crate::Process) {
    process.signals.timers.reset_for_exec();
    process.signals.with_shared(|shared| shared.queue.discard(SignalSet(!0)));
}

/// The pending signals that the calling thread may take.
fn deliverable(ctx: &Ctx<'_>) -> SignalSet {
    pending(ctx).minus(ctx.thread.signals.mask())
}

/// The pending signals of the calling thread and its process (`sigpending(2)` shows those that are blocked).
pub(crate) fn pending(ctx: &Ctx<'_>) -> SignalSet {
    ctx.thread.signals.pending().union(ctx.process.signals.pending())
}

/// Sets the mask of the calling thread.
pub(crate) fn set_mask(ctx: &Ctx<'_>, mask: SignalSet) {
    let newly_blocked = mask.minus(ctx.thread.signals.mask());
    ctx.thread.signals.store_mask(mask);
    if !newly_blocked.is_empty() {
        send::retarget(ctx, newly_blocked);
    }
    if !deliverable(ctx).is_empty() {
        ctx.thread.add_work(WORK_SIGNAL);
    }
}

/// Sets what a signal does and returns what it did (`sigaction(2)`).
///
/// # Errors
/// EINVAL SIGKILL or SIGSTOP.
pub(crate) fn set_action(ctx: &Ctx<'_>, signal: Signal, action: &SigAction) -> Result<SigAction> {
    let (old, is_ignored) = ctx.process.signals.set_action(signal, action)?;
    if is_ignored {
        let gone = SignalSet::of(signal);
        ctx.process.signals.with_shared(|shared| shared.queue.discard(gone));
        for thread in ctx.process.threads() {
            thread.signals.with_queue(|queue| queue.discard(gone));
        }
    }
    Ok(old)
}
