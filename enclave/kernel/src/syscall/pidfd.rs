//! Descriptors for processes.

use super::signal::{SignalNumber, sent_through};
use super::{Fd, pipe};
use crate::fs::{self, PidFd};
use crate::process::capability;
use crate::{Ctx, Process, signal};
use core::sync::atomic::Ordering;
use kbase::{Result, UserPtr, bail};
use linux_abi::fs::OpenFlags;
use linux_abi::signal::{SigInfo, si};

/// `pidfd_open(2)`.
pub(super) fn pidfd_open(ctx: &Ctx<'_>, pid: i32, flags: u32) -> Result<Fd> {
    let flags = pipe::flags_of(flags, OpenFlags::NONBLOCK)?;
    let Some(pid) = u32::try_from(pid).ok().filter(|&pid| pid != 0) else {
        bail!(EINVAL, "not a number of a process");
    };
    let Some(process) = ctx.kernel.processes.process(pid) else {
        if ctx.kernel.processes.thread(pid).is_some() {
            bail!(ENOENT, "not the first thread of a process");
        }
        bail!(ESRCH, "no such process");
    };
    ctx.files.insert(fs::pidfd(ctx.kernel.mounts.shared(), process, flags), true)
}

/// `pidfd_send_signal(2)`.
pub(super) fn pidfd_send_signal(
    ctx: &Ctx<'_>,
    fd: Fd,
    number: SignalNumber,
    info: UserPtr<SigInfo>,
    flags: u32,
) -> Result<()> {
    /// PIDFD_SIGNAL_THREAD, PIDFD_SIGNAL_THREAD_GROUP, PIDFD_SIGNAL_PROCESS_GROUP.
    const THREAD: u32 = 1;
    const PROCESS: u32 = 2;
    const GROUP: u32 = 4;
    if !matches!(flags, 0 | THREAD | PROCESS | GROUP) {
        bail!(EINVAL, "unknown flags, or several");
    }
    let open = ctx.files.get(fd)?;
    let process = PidFd::process(&open)?;
    let code = if flags == THREAD { si::TKILL } else { si::USER };
    let sent = sent_through(ctx, process, number, info, code)?;
    if flags == GROUP {
        // The process's number as a group's, as Linux has it.
        let Ok(group) = i32::try_from(process.pid) else { bail!(ESRCH, "no such group") };
        return signal::send_to_all(ctx, &signal::addressed(ctx, -group)?, sent);
    }
    let state = process.state.lock();
    let (has_ended, first) = (state.has_ended, state.threads.first().cloned());
    drop(state);
    let is_there = ctx.kernel.processes.process(process.pid).is_some();
    if has_ended && !is_there {
        bail!(ESRCH, "the process was waited for");
    }
    match (sent, first) {
        (Some((signal, info)), Some(thread)) if flags == THREAD => {
            signal::send_to_thread(process, &thread, signal, info)
        }
        (Some((signal, info)), _) => signal::send_to_process(process, signal, info),
        (None, _) => Ok(()),
    }
}

/// Whether the caller may look into a process: it is privileged, or both run as the same user and the other allows it.
///
/// # Errors
/// EPERM it may not.
pub(super) fn may_inspect(ctx: &Ctx<'_>, process: &Process) -> Result<()> {
    let credentials = &ctx.process.credentials;
    let [user, ..] = credentials.users.get();
    let is_same = process.credentials.users.get() == [user; 3];
    let is_open = process.attributes.dumpable.load(Ordering::Relaxed) != 0;
    let is_own = process.pid == ctx.process.pid;
    if is_own || is_same && is_open || credentials.is_capable(capability::SYS_PTRACE) {
        return Ok(());
    }
    bail!(EPERM, "a process that the caller may not look into")
}

/// `pidfd_getfd(2)`: another name for a file of the process.
pub(super) fn pidfd_getfd(ctx: &Ctx<'_>, fd: Fd, target: Fd, flags: u32) -> Result<Fd> {
    if flags != 0 {
        bail!(EINVAL, "no flags are known");
    }
    let open = ctx.files.get(fd)?;
    let process = PidFd::process(&open)?;
    if process.state.lock().has_ended {
        bail!(ESRCH, "the process has ended");
    }
    may_inspect(ctx, process)?;
    let file = process.world().1.get(target)?;
    ctx.files.insert(file, true)
}

#[cfg(test)]
mod tests {
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;

    const PIDFD_OPEN: u64 = 434;
    const SEND: u64 = 424;
    const GETFD: u64 = 438;

    #[test]
    fn a_process_is_signalled_and_its_files_are_taken_through_a_descriptor() {
        World::new().with_ctx(|ctx| {
            let pid = u64::from(ctx.process.pid);
            let fd = ctx.call(PIDFD_OPEN, &[pid, 0]).unwrap();
            // Close-on-exec is not asked for.
            assert_eq!(ctx.call(72, &[fd, 1]), Ok(1));
            assert_eq!(ctx.call(SEND, &[fd, 0, 0, 0]), Ok(0));
            assert_eq!(ctx.call(SEND, &[fd, 65, 0, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SEND, &[fd, 0, 0, 8]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SEND, &[1, 0, 0, 0]), Err(Errno::EBADF));
            ctx.poke(SCRATCH, 1u64 << 9);
            ctx.call(14, &[0, SCRATCH, 0, 8]).unwrap();
            ctx.call(SEND, &[fd, 10, 0, 0]).unwrap();
            ctx.call(127, &[SCRATCH, 8]).unwrap();
            assert_eq!(ctx.peek::<u64>(SCRATCH), 1 << 9);
            let copy = ctx.call(GETFD, &[fd, 1, 0]).unwrap();
            assert!(copy > fd);
            assert_eq!(ctx.call(GETFD, &[fd, 99, 0]), Err(Errno::EBADF));
            assert_eq!(ctx.call(0, &[fd, SCRATCH, 1]), Err(Errno::EINVAL));
        });
    }

    #[test]
    fn only_processes_that_are_there_get_descriptors() {
        World::new().with_ctx(|ctx| {
            assert_eq!(ctx.call(PIDFD_OPEN, &[0, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(PIDFD_OPEN, &[u64::MAX, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(PIDFD_OPEN, &[4_000_000, 0]), Err(Errno::ESRCH));
            assert_eq!(ctx.call(PIDFD_OPEN, &[ctx.process.pid.into(), 0o2_000_000]), Err(Errno::EINVAL));
        });
    }
}
