//! Delivery: what a thread does about its signals on the way back to user code, and the way back from handlers.

use super::queue::Quota;
use super::state::Own;
use super::wait::restore_mask;
use super::{deliverable, frame, send};
use crate::ctx::After;
use crate::stats::count;
use crate::thread::{ExceptionRecord, WORK_EXIT, WORK_SIGNAL};
use crate::{Ctx, Process};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::process::{resource, status_killed};
use linux_abi::signal::{
    ActionFlags, DefaultAction, SIG_DFL, SIG_IGN, SigAction, SigFrame, SigInfo, Signal, SignalSet, UContext,
    si,
};
use zerocopy::IntoBytes;

/// Delivers what is pending, before user code runs again. `Break`: the process ends with this wait status.
pub(crate) fn deliver(ctx: &Ctx<'_>) -> ControlFlow<i32> {
    // Expirations until now are overruns of a signal that is pending, and not signals of their own.
    crate::time::expire_timers(ctx);
    loop {
        // Cleared before looking, so that what is sent from here on sets it again.
        ctx.thread.clear_work(WORK_SIGNAL);
        wait_while_stopped(ctx);
        if ctx.thread.has_work(WORK_EXIT) {
            return ControlFlow::Continue(());
        }
        let wanted = deliverable(ctx);
        if wanted.is_empty() {
            break;
        }
        let Some((signal, info, action)) = ctx.process.signals.take(&ctx.thread.signals, wanted) else {
            break;
        };
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => match signal.default_action() {
                DefaultAction::Ignore | DefaultAction::Continue => {}
                DefaultAction::Stop => stop(ctx, signal),
                DefaultAction::Terminate => {
                    return ControlFlow::Break(status_killed(info_number(signal), false));
                }
                DefaultAction::Core => return ControlFlow::Break(core_status(ctx, signal)),
            },
            _ => {
                if run_handler(ctx, &info, &action).is_err() {
                    if signal == Signal::SIGSEGV {
                        return ControlFlow::Break(core_status(ctx, signal));
                    }
                    force(ctx, Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, si::KERNEL));
                }
            }
        }
    }
    restore_mask(ctx);
    ControlFlow::Continue(())
}

fn info_number(signal: Signal) -> i32 {
    signal.number().into()
}

/// The wait status of a process that a signal with the action `Core` ended. No core is ever written; the status says so
/// unless RLIMIT_CORE asks for one.
fn core_status(ctx: &Ctx<'_>, signal: Signal) -> i32 {
    status_killed(info_number(signal), ctx.process.limit(resource::CORE) != 0)
}

/// Makes the frame of a handler and the registers and the mask that it starts with.
///
/// # Errors
/// EFAULT the frame cannot be written, or there is no restorer to return to.
fn run_handler(ctx: &Ctx<'_>, info: &SigInfo, action: &SigAction) -> Result<()> {
    let flags = ActionFlags::from_bits_retain(action.flags);
    ctx.settle_for_handler(flags.contains(ActionFlags::RESTART));
    if !flags.contains(ActionFlags::RESTORER) {
        bail!(EFAULT, "no SA_RESTORER");
    }
    let signals = &ctx.thread.signals;
    let mask = signals.mask();
    let mut registers = *ctx.registers.borrow();
    registers.rip = ctx.space.original_pc(registers.rip);
    let platform = ctx.platform();
    let mut xstate = alloc::vec![0u8; platform.xstate_len()];
    platform.xstate_save(&mut xstate);
    let interrupted = {
        let Own { stack, saved_mask, exception, .. } = &*signals.own();
        frame::Interrupted {
            registers: &registers,
            mask: saved_mask.unwrap_or(mask),
            stack: *stack,
            exception: *exception,
            xstate: &mut xstate,
            features: platform.xstate_features(),
        }
    };
    let Some(made) = frame::build(interrupted, info, action) else {
        bail!(EFAULT, "the frame does not fit on the alternate stack");
    };
    ctx.user().store(UserAddr(made.fpstate), &made.xstate)?;
    ctx.user().store(UserAddr(made.address), made.frame.as_bytes())?;
    frame::enter(&mut registers, &made, ctx.space.resume_address(action.handler));
    *ctx.registers.borrow_mut() = registers;
    {
        let mut own = signals.own();
        own.stack = frame::disarmed(own.stack);
        own.saved_mask = None;
    }
    let mut during = mask.union(action.mask);
    if !flags.contains(ActionFlags::NODEFER)
        && let Some(signal) = u64::try_from(info.signo).ok().and_then(Signal::new)
    {
        during = during.with(signal);
    }
    super::set_mask(ctx, during);
    count(&ctx.kernel.statistics.signals);
    Ok(())
}

/// `rt_sigreturn(2)`: goes back to what a handler interrupted. A frame that cannot be read or makes no sense is SIGSEGV.
pub(crate) fn return_from_handler(ctx: &Ctx<'_>) {
    ctx.after.set(After::Keep);
    if restore(ctx).is_err() {
        force(ctx, Signal::SIGSEGV, SigInfo::new(Signal::SIGSEGV, si::KERNEL));
    }
}

/// # Errors
/// EFAULT the frame is not readable.
fn restore(ctx: &Ctx<'_>) -> Result<()> {
    // The handler's return popped the address of the restorer, so RSP points behind it.
    let rsp = ctx.registers.borrow().rsp;
    let frame = rsp.wrapping_sub(core::mem::offset_of!(SigFrame, uc) as u64);
    let uc_address = frame.wrapping_add(core::mem::offset_of!(SigFrame, uc) as u64);
    let uc: UContext = UserPtr::new(UserAddr(uc_address)).read(ctx.user())?;
    let xstate = load_xstate(ctx, uc.uc_mcontext.fpstate)?;
    super::set_mask(ctx, uc.uc_sigmask);
    match xstate {
        Some(xstate) => ctx.platform().xstate_restore(&xstate),
        None => ctx.platform().xstate_reset(),
    }
    let rsp = {
        let mut registers = ctx.registers.borrow_mut();
        frame::leave(&mut registers, &uc.uc_mcontext);
        registers.rip = ctx.space.resume_address(registers.rip);
        registers.rsp
    };
    // Linux ignores what is wrong with it.
    let _ = ctx.thread.signals.set_stack(&uc.uc_stack, rsp);
    Ok(())
}

/// The extended state of a frame, as an image for the processor; `None`: the frame has none.
fn load_xstate(ctx: &Ctx<'_>, fpstate: u64) -> Result<Option<Vec<u8>>> {
    if fpstate == 0 {
        return Ok(None);
    }
    let len = ctx.platform().xstate_len();
    let mut loaded = alloc::vec![0u8; frame::FXSAVE_LEN];
    ctx.user().load(UserAddr(fpstate), &mut loaded)?;
    if let Some(extended) = frame::extended_len(&loaded, len) {
        loaded = alloc::vec![0u8; extended];
        ctx.user().load(UserAddr(fpstate), &mut loaded)?;
    }
    Ok(Some(frame::image(loaded, len)))
}

/// Makes a signal of an exception. `Break`: the process ends with this wait status.
pub(crate) fn raise_fault(ctx: &Ctx<'_>, info: SigInfo, record: ExceptionRecord) -> ControlFlow<i32> {
    let Some(signal) = u64::try_from(info.signo).ok().and_then(Signal::new) else {
        return ControlFlow::Continue(());
    };
    if signal == Signal::SIGKILL {
        return ControlFlow::Break(status_killed(info_number(signal), false));
    }
    ctx.thread.signals.own().exception = record;
    force(ctx, signal, info);
    ControlFlow::Continue(())
}

/// Sends a signal to the calling thread that it cannot block or ignore: where it does, the default action is taken.
fn force(ctx: &Ctx<'_>, signal: Signal, info: SigInfo) {
    let signals = &ctx.thread.signals;
    let is_blocked = signals.mask().has(signal);
    let quota = Quota::of(ctx.process);
    ctx.process.signals.with_shared(|shared| {
        let action = shared.action(signal);
        if is_blocked || action.handler == SIG_IGN {
            shared.set_action(signal, SigAction { handler: SIG_DFL, ..action });
        }
        // A classic signal needs no room: it is at worst delivered without details.
        let _ = signals.with_queue(|queue| queue.push(signal, info, &quota));
    });
    if is_blocked {
        signals.store_mask(signals.mask().minus(SignalSet::of(signal)));
    }
    ctx.thread.add_work(WORK_SIGNAL);
}

/// The default action of the stop signals. All but SIGSTOP do nothing in a group that no shell looks after.
fn stop(ctx: &Ctx<'_>, signal: Signal) {
    if signal != Signal::SIGSTOP && is_orphaned_group(ctx) {
        return;
    }
    ctx.process.signals.is_stopped.store(true, Ordering::SeqCst);
    for thread in ctx.process.threads() {
        if thread.tid() != ctx.thread.tid() {
            thread.request(WORK_SIGNAL);
        }
    }
    ctx.process.note_change(ctx.kernel, Some(signal));
    notify_parent(ctx, SigInfo::child(si::CLD_STOPPED, ctx.process.pid, 0, info_number(signal)));
    wait_while_stopped(ctx);
    if !ctx.process.signals.is_stopped() {
        ctx.process.note_change(ctx.kernel, None);
        notify_parent(
            ctx,
            SigInfo::child(si::CLD_CONTINUED, ctx.process.pid, 0, info_number(Signal::SIGCONT)),
        );
    }
}

/// Whether no member of the group has its parent in another group of the session (POSIX 3.264).
pub(crate) fn is_orphaned_group(ctx: &Ctx<'_>) -> bool {
    let place =
        |process: &Process| (process.session.load(Ordering::Relaxed), process.group.load(Ordering::Relaxed));
    let (session, group) = place(ctx.process);
    let processes = ctx.kernel.processes.all();
    let looks_after = |member: &Arc<Process>| {
        let parent = ctx.kernel.processes.process(member.parent());
        parent.is_some_and(|parent| place(&parent).0 == session && place(&parent).1 != group)
    };
    !processes.iter().any(|member| place(member) == (session, group) && looks_after(member))
}

/// Tells the parent that the process stopped or went on, unless it does not want to know.
fn notify_parent(ctx: &Ctx<'_>, info: SigInfo) {
    let Some(parent) = ctx.kernel.processes.process(ctx.process.parent()) else { return };
    let (_, is_deaf) = parent.signals.child_policy();
    if !is_deaf {
        // SIGCHLD carries no value, so it is never refused.
        let _ = send::send_to_process(&parent, Signal::SIGCHLD, info);
    }
}

/// Sleeps while the process is stopped and nothing ends it.
fn wait_while_stopped(ctx: &Ctx<'_>) {
    while ctx.process.signals.is_stopped() {
        let is_killed = super::pending(ctx).has(Signal::SIGKILL);
        if is_killed || ctx.thread.has_work(WORK_EXIT) {
            return;
        }
        ctx.sleep(None);
    }
}
