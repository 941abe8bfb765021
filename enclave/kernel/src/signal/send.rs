//! Sending signals: to processes, threads, groups, from the kernel and from outside.
//!
//! A signal is put into a queue first; then a thread that would take it is made to look.

use super::queue::{Queue, Quota};
use super::state::ProcessSignals;
use crate::process::capability;
use crate::thread::{Thread, WORK_SIGNAL};
use crate::time::TimerSetting;
use crate::{Ctx, Process};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Result, bail};
use linux_abi::signal::{SigInfo, Signal, SignalSet, si};
use vfs::Readiness;

/// Sends a signal to a process: one of its threads takes it.
///
/// # Errors
/// EAGAIN as [`Queue::push`].
pub(crate) fn send_to_process(process: &Process, signal: Signal, info: SigInfo) -> Result<()> {
    let quota = Quota::of(process);
    to_process(process, signal, |queue| queue.push(signal, info, &quota))
}

/// Sends a signal to one thread.
///
/// # Errors
/// EAGAIN as [`Queue::push`].
pub(crate) fn send_to_thread(
    process: &Process,
    thread: &Thread,
    signal: Signal,
    info: SigInfo,
) -> Result<()> {
    let quota = Quota::of(process);
    to_thread(process, thread, signal, |queue| queue.push(signal, info, &quota))
}

/// Sends the signal of a timer to a process, or one of its threads.
pub(crate) fn send_of_timer(
    process: &Process,
    thread: Option<&Thread>,
    signal: Signal,
    info: SigInfo,
    timer: TimerSetting,
) {
    let push = |queue: &mut Queue| {
        queue.push_timer(signal, info, timer);
        Ok(())
    };
    // It has its place, so it is not refused.
    let _ = match thread {
        Some(thread) => to_thread(process, thread, signal, push),
        None => to_process(process, signal, push),
    };
}

fn to_process(process: &Process, signal: Signal, push: impl FnOnce(&mut Queue) -> Result<()>) -> Result<()> {
    let threads = process.threads();
    if threads.is_empty() {
        // It has ended and was not waited for.
        return Ok(());
    }
    let is_blocked = threads.first().is_some_and(|thread| thread.signals.mask().has(signal));
    let is_queued = process.signals.with_shared(|shared| {
        job_control(&process.signals, shared, &threads, signal);
        // What is blocked may be caught or waited for later, and a thread that waits for it has blocked it.
        if shared.ignores(signal) && !is_blocked {
            return Ok(false);
        }
        push(&mut shared.queue).map(|()| true)
    })?;
    if is_queued {
        process.signals.arrived.broadcast(&Readiness::IN);
    }
    if signal == Signal::SIGCONT {
        // Whoever stopped looks whether it still is to.
        threads.iter().for_each(|thread| thread.request(WORK_SIGNAL));
    } else if is_queued && let Some(taker) = threads.iter().find(|thread| thread.signals.wants(signal)) {
        taker.request(WORK_SIGNAL);
    }
    Ok(())
}

fn to_thread(
    process: &Process,
    thread: &Thread,
    signal: Signal,
    push: impl FnOnce(&mut Queue) -> Result<()>,
) -> Result<()> {
    let affects_all = signal == Signal::SIGCONT || SignalSet::STOPS.has(signal);
    let threads = if affects_all { process.threads() } else { Vec::new() };
    let is_queued = process.signals.with_shared(|shared| {
        job_control(&process.signals, shared, &threads, signal);
        if shared.ignores(signal) && !thread.signals.mask().has(signal) {
            return Ok(false);
        }
        thread.signals.with_queue(push).map(|()| true)
    })?;
    if is_queued {
        process.signals.arrived.broadcast(&Readiness::IN);
    }
    if signal == Signal::SIGCONT {
        threads.iter().for_each(|thread| thread.request(WORK_SIGNAL));
    }
    if is_queued && thread.signals.wants(signal) {
        thread.request(WORK_SIGNAL);
    }
    Ok(())
}

/// What a signal does when it is sent, whether it is blocked, ignored or caught: SIGCONT continues and forgets stop signals,
/// and a stop signal forgets SIGCONT.
fn job_control(
    signals: &ProcessSignals,
    shared: &mut super::state::Shared,
    threads: &[Arc<Thread>],
    signal: Signal,
) {
    let forgotten = if signal == Signal::SIGCONT {
        signals.is_stopped.store(false, Ordering::SeqCst);
        SignalSet::STOPS
    } else if SignalSet::STOPS.has(signal) {
        SignalSet::of(Signal::SIGCONT)
    } else {
        return;
    };
    shared.queue.discard(forgotten);
    for thread in threads {
        thread.signals.with_queue(|queue| queue.discard(forgotten));
    }
}

/// Sends a signal to the calling thread (SIGPIPE).
pub(crate) fn raise_self(ctx: &Ctx<'_>, signal: Signal) {
    let info = SigInfo::sent(signal, si::USER, ctx.process.pid, ctx.process.credentials.uid());
    // It carries no value, so it is never refused.
    let _ = send_to_thread(ctx.process, ctx.thread, signal, info);
}

/// Sends a signal that the host asks for.
pub(crate) fn send_from_outside(process: &Process, signal: Signal) {
    let _ = send_to_process(process, signal, SigInfo::sent(signal, si::USER, 0, 0));
}

/// The processes that `kill(2)` means: one, the own group (0), all others (-1), a group (negative).
///
/// # Errors
/// ESRCH nobody is there.
pub(crate) fn addressed(ctx: &Ctx<'_>, pid: i32) -> Result<Vec<Arc<Process>>> {
    let table = &ctx.kernel.processes;
    let own_group = ctx.process.group.load(Ordering::Relaxed);
    let targets: Vec<Arc<Process>> = match pid {
        i32::MIN => Vec::new(),
        1.. => {
            let number = pid.unsigned_abs();
            // The number of any thread stands for its process.
            let of_thread = || table.thread(number).and_then(|thread| thread.process());
            table.process(number).or_else(of_thread).into_iter().collect()
        }
        -1 => {
            let others = |process: &Arc<Process>| process.pid != ctx.process.pid && process.pid != 1;
            table.all().into_iter().filter(others).collect()
        }
        _ => {
            let group = if pid == 0 { own_group } else { pid.unsigned_abs() };
            let is_member = |process: &Arc<Process>| process.group.load(Ordering::Relaxed) == group;
            table.all().into_iter().filter(is_member).collect()
        }
    };
    if targets.is_empty() {
        bail!(ESRCH, "no such process or group");
    }
    Ok(targets)
}

/// Sends a signal to those whom [`addressed`] found; it is enough that one gets it.
///
/// # Errors
/// EPERM the caller may signal none of them; EAGAIN.
pub(crate) fn send_to_all(
    ctx: &Ctx<'_>,
    targets: &[Arc<Process>],
    sent: Option<(Signal, SigInfo)>,
) -> Result<()> {
    let mut result = Ok(());
    let mut is_sent = false;
    for target in targets {
        let one = may_signal(ctx, target, sent.map(|(signal, _)| signal)).and_then(|()| match sent {
            Some((signal, info)) => send_to_process(target, signal, info),
            None => Ok(()),
        });
        match one {
            Ok(()) => is_sent = true,
            Err(error) => result = Err(error),
        }
    }
    if is_sent { Ok(()) } else { result }
}

/// Whether the caller may send a signal to a process: it is privileged, or its real or effective user is the other's real
/// or saved one; SIGCONT may be sent within a session.
///
/// # Errors
/// EPERM it may not.
pub(crate) fn may_signal(ctx: &Ctx<'_>, target: &Process, signal: Option<Signal>) -> Result<()> {
    if core::ptr::eq(&raw const **ctx.process, target) || ctx.process.credentials.is_capable(capability::KILL)
    {
        return Ok(());
    }
    let [real, effective, _] = ctx.process.credentials.users.get();
    let [target_real, _, target_saved] = target.credentials.users.get();
    let session = |process: &Process| process.session.load(Ordering::Relaxed);
    let is_related = [real, effective].iter().any(|user| [target_real, target_saved].contains(user));
    let continues = signal == Some(Signal::SIGCONT) && session(target) == session(ctx.process);
    if is_related || continues { Ok(()) } else { bail!(EPERM, "a process of another user") }
}

/// Makes other threads of the process look at `signals`, which are pending for the process and which the calling thread
/// will not take.
pub(super) fn retarget(ctx: &Ctx<'_>, signals: SignalSet) {
    if ctx.process.signals.pending().and(signals).is_empty() {
        return;
    }
    for thread in ctx.process.threads() {
        let wanted = ctx.process.signals.pending().and(signals).minus(thread.signals.mask());
        if thread.tid() != ctx.thread.tid() && !wanted.is_empty() {
            thread.request(WORK_SIGNAL);
        }
    }
}
