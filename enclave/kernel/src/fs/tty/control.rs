//! Controlling terminals and job control: which session a terminal belongs to, and who may use it.

use super::Pty;
use super::slave::Slave;
use crate::process::capability;
use crate::{Ctx, Kernel, Process, signal};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result};
use linux_abi::signal::{SIG_IGN, SigInfo, Signal, si};
use linux_abi::tty::LocalFlags;

/// Sends a signal of the kernel.
pub(super) fn send(process: &Process, signal: Signal) {
    // It carries no value, so it is never refused.
    let _ = signal::send_to_process(process, signal, SigInfo::new(signal, si::KERNEL));
}

/// Sends a signal to all processes of a group.
pub(super) fn signal_group(kernel: &Kernel, group: u32, signal: Signal) {
    for process in kernel.processes.all() {
        if process.group.load(Ordering::Relaxed) == group {
            send(&process, signal);
        }
    }
}

fn session_of(process: &Process) -> u32 {
    process.session.load(Ordering::Relaxed)
}

fn group_of(process: &Process) -> u32 {
    process.group.load(Ordering::Relaxed)
}

/// Whether a terminal is the controlling one of the calling process.
pub(super) fn is_own(ctx: &Ctx<'_>, pty: &Pty) -> bool {
    pty.state.lock().session == session_of(ctx.process)
}

/// The pseudo-terminal that controls the session of a process.
fn controlling(kernel: &Kernel, process: &Process) -> Option<Arc<Pty>> {
    let session = session_of(process);
    let all = kernel.mounts.shared().terminals.list();
    all.into_iter().find(|pty| pty.state.lock().session == session)
}

/// Device number and foreground group of the controlling terminal of a process, for `/proc/PID/stat`.
pub(crate) fn terminal_of(kernel: &Kernel, process: &Process) -> Option<(u64, u32)> {
    let pty = controlling(kernel, process)?;
    let foreground = pty.state.lock().foreground;
    Some((pty.metadata().rdev, foreground))
}

/// Opens `/dev/tty` where it is a pseudo-terminal.
///
/// # Errors
/// EIO the terminal is gone.
pub(in crate::fs) fn open_controlling(
    ctx: &Ctx<'_>,
    metadata: &vfs::Metadata,
) -> Result<Option<Arc<dyn vfs::File>>> {
    let Some(pty) = controlling(ctx.kernel, ctx.process) else { return Ok(None) };
    Slave::open(ctx, &pty, linux_abi::fs::OpenFlags::NOCTTY, Some(*metadata)).map(Some)
}

/// Makes a terminal the controlling one of the caller's session; `steals`: from another, too.
///
/// # Errors
/// EPERM the caller does not lead a session, has a terminal, or the terminal is another session's.
pub(super) fn acquire(ctx: &Ctx<'_>, pty: &Pty, steals: bool) -> Result<()> {
    let session = session_of(ctx.process);
    let has_other = controlling(ctx.kernel, ctx.process).is_some();
    let mut state = pty.state.lock();
    let is_leader = session == ctx.process.pid;
    if is_leader && state.session == session {
        return Ok(());
    }
    if !is_leader || has_other {
        kbase::bail!(EPERM, "the process does not lead a session, or has a terminal");
    }
    if state.session != 0 && !(steals && ctx.process.credentials.is_capable(capability::SYS_ADMIN)) {
        kbase::bail!(EPERM, "the terminal is another session's");
    }
    state.session = session;
    state.foreground = group_of(ctx.process);
    Ok(())
}

/// TIOCNOTTY: gives up the controlling terminal. The members of a session have it together, so only its leader can.
///
/// # Errors
/// ENOTTY it is not the caller's; EINVAL the caller does not lead the session.
pub(super) fn give_up(ctx: &Ctx<'_>, pty: &Pty) -> Result<()> {
    if !is_own(ctx, pty) {
        kbase::bail!(ENOTTY, "not the controlling terminal");
    }
    if ctx.process.pid != session_of(ctx.process) {
        let line = format_args!("TIOCNOTTY by a process that does not lead its session is not supported");
        ctx.kernel.log(platform::Level::Warn, line);
        kbase::bail!(EINVAL, "the members of a session have its terminal together");
    }
    let foreground = {
        let mut state = pty.state.lock();
        state.session = 0;
        core::mem::take(&mut state.foreground)
    };
    if foreground != 0 {
        signal_group(ctx.kernel, foreground, Signal::SIGHUP);
        signal_group(ctx.kernel, foreground, Signal::SIGCONT);
    }
    Ok(())
}

/// A process has ended: a leader takes the terminal from its session.
pub(crate) fn process_ended(kernel: &Kernel, process: &Process) {
    if process.pid == session_of(process)
        && let Some(pty) = controlling(kernel, process)
    {
        pty.disassociate();
    }
}

/// Sets the foreground group (TIOCSPGRP).
///
/// # Errors
/// ENOTTY it is not the caller's terminal; EINVAL; ESRCH no such group; EPERM the group is of another session; and as
/// [`before_change`].
pub(super) fn set_foreground(ctx: &Ctx<'_>, pty: &Arc<Pty>, group: i32) -> Result<()> {
    before_change(ctx, pty)?;
    if !is_own(ctx, pty) {
        kbase::bail!(ENOTTY, "not the controlling terminal");
    }
    let Ok(group) = u32::try_from(group) else { kbase::bail!(EINVAL, "a negative group") };
    let mut members = ctx.kernel.processes.all();
    members.retain(|process| group_of(process) == group);
    let Some(first) = members.first() else { kbase::bail!(ESRCH, "no such group") };
    if session_of(first) != session_of(ctx.process) {
        kbase::bail!(EPERM, "the group is of another session");
    }
    pty.state.lock().foreground = group;
    Ok(())
}

/// Before a read: who is in the background is stopped.
///
/// # Errors
/// EIO the process ignores SIGTTIN or cannot be stopped; ERESTARTSYS it is being stopped.
pub(super) fn before_read(ctx: &Ctx<'_>, pty: &Arc<Pty>) -> Result<()> {
    if is_in_foreground(ctx, pty) {
        return Ok(());
    }
    if is_deaf(ctx, Signal::SIGTTIN) || signal::is_orphaned_group(ctx) {
        kbase::bail!(EIO, "a background process reads from its terminal");
    }
    stop(ctx, Signal::SIGTTIN)
}

/// Before a write: with TOSTOP, who is in the background is stopped.
///
/// # Errors
/// As [`before_change`].
pub(crate) fn before_write(ctx: &Ctx<'_>, slave: &Slave) -> Result<()> {
    let pty = slave.pty();
    if !pty.state.lock().line.termios().local(LocalFlags::TOSTOP) {
        return Ok(());
    }
    before_change(ctx, pty)
}

/// Before a change of the terminal: who is in the background is stopped, unless it does not want to hear of that.
///
/// # Errors
/// EIO the process cannot be stopped; ERESTARTSYS it is being stopped.
pub(super) fn before_change(ctx: &Ctx<'_>, pty: &Arc<Pty>) -> Result<()> {
    if is_in_foreground(ctx, pty) || is_deaf(ctx, Signal::SIGTTOU) {
        return Ok(());
    }
    if signal::is_orphaned_group(ctx) {
        kbase::bail!(EIO, "nobody could continue a stopped process");
    }
    stop(ctx, Signal::SIGTTOU)
}

/// Whether the caller may use the terminal: it is not its controlling one, or the caller is in the foreground.
fn is_in_foreground(ctx: &Ctx<'_>, pty: &Pty) -> bool {
    let state = pty.state.lock();
    state.session != session_of(ctx.process)
        || state.foreground == 0
        || state.foreground == group_of(ctx.process)
}

fn is_deaf(ctx: &Ctx<'_>, signal: Signal) -> bool {
    let is_ignored = ctx.process.signals.action(signal).handler == SIG_IGN;
    is_ignored || ctx.thread.signals.mask().has(signal)
}

fn stop(ctx: &Ctx<'_>, signal: Signal) -> Result<()> {
    signal_group(ctx.kernel, group_of(ctx.process), signal);
    Err(Error::new(Errno::ERESTARTSYS, "a background process uses its terminal"))
}
