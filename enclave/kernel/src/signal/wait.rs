//! Waiting for signals: `sigsuspend(2)`, `sigtimedwait(2)`, and calls that change the mask while they wait.

use super::{deliverable, set_mask};
use crate::Ctx;
use crate::thread::WORK_SIGNAL;
use kbase::{Errno, Error, Result, bail};
use linux_abi::signal::{SigInfo, Signal, SignalSet};

/// Waits with another mask until a handler ran (`sigsuspend(2)`, `pause(2)` with the mask as it is).
///
/// # Errors
/// ERESTARTNOHAND a signal came. It never succeeds.
pub(crate) fn suspend(ctx: &Ctx<'_>, mask: Option<SignalSet>) -> Result<()> {
    if let Some(mask) = mask {
        lend_mask(ctx, mask);
    }
    while ctx.park(None).is_ok() {}
    bail!(ERESTARTNOHAND, "a signal came");
}

/// Makes a call with another mask (`ppoll(2)`, `pselect(2)`, `epoll_pwait(2)`). If a signal ended it, the handler runs with
/// that mask and comes back to the old one.
pub(crate) fn with_mask<T>(
    ctx: &Ctx<'_>,
    mask: Option<SignalSet>,
    call: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(mask) = mask else { return call() };
    lend_mask(ctx, mask);
    let result = call();
    let is_interrupted = result.as_ref().is_err_and(|error| error.errno().is_restart());
    if !is_interrupted {
        restore_mask(ctx);
    }
    result
}

fn lend_mask(ctx: &Ctx<'_>, mask: SignalSet) {
    let old = ctx.thread.signals.mask();
    ctx.thread.signals.own().saved_mask = Some(old);
    set_mask(ctx, mask);
}

/// Gives a lent mask back.
pub(super) fn restore_mask(ctx: &Ctx<'_>) {
    let saved = ctx.thread.signals.own().saved_mask.take();
    if let Some(saved) = saved {
        set_mask(ctx, saved);
    }
}

/// Takes a pending signal of `wanted`, or waits for one until a time of CLOCK_MONOTONIC (`sigtimedwait(2)`).
///
/// # Errors
/// EAGAIN the time is over; EINTR another signal is to be delivered.
pub(crate) fn take_awaited(
    ctx: &Ctx<'_>,
    wanted: SignalSet,
    deadline_ns: Option<u64>,
) -> Result<(Signal, SigInfo)> {
    let wanted = wanted.minus(SignalSet::UNBLOCKABLE);
    let signals = &ctx.thread.signals;
    signals.set_awaited(wanted);
    crate::time::expire_timers(ctx);
    let result = loop {
        if let Some((signal, info)) = ctx.process.signals.take_quietly(signals, wanted) {
            break Ok((signal, info));
        }
        if deadline_ns.is_some_and(|deadline| ctx.platform().monotonic_ns() >= deadline) {
            break Err(Error::new(Errno::EAGAIN, "the time is over"));
        }
        if ctx.park(deadline_ns).is_err() {
            let last = ctx.process.signals.take_quietly(signals, wanted);
            break last.ok_or(Error::new(Errno::EINTR, "another signal came"));
        }
    };
    signals.set_awaited(SignalSet::EMPTY);
    if !deliverable(ctx).is_empty() {
        ctx.thread.add_work(WORK_SIGNAL);
    }
    result
}
