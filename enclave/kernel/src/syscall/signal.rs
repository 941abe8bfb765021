//! `sigaction(2)`, `sigprocmask(2)`, `kill(2)` and their relatives.

use super::arg::Arg;
use super::{Fd, pipe};
use crate::thread::Thread;
use crate::{Ctx, Process, fs, signal, time};
use alloc::sync::Arc;
use core::fmt::{self, Write};
use kbase::{Errno, Error, Result, UserPtr, bail};
use linux_abi::fs::OpenFlags;
use linux_abi::signal::{
    SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SigAction, SigInfo, SigStack, Signal, SignalSet, si,
};
use linux_abi::time::Timespec;

/// Bytes of the kernel's `sigset_t`.
const SET_LEN: usize = size_of::<SignalSet>();

impl Arg for Signal {
    fn from_arg(raw: u64) -> Result<Self> {
        Self::new(u32::from_arg(raw)?.into()).ok_or(Error::new(Errno::EINVAL, "no such signal"))
    }

    fn show(raw: u64, ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        match Self::from_arg(raw) {
            Ok(signal) => write!(into, "{signal:?}"),
            Err(_) => i32::show(raw, ctx, into),
        }
    }
}

/// A number that is a signal's, or 0: only look whether somebody is there. Calls that send check it after they have found
/// somebody, as Linux does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalNumber(u32);

impl SignalNumber {
    /// # Errors
    /// EINVAL no such signal.
    pub(super) fn check(self) -> Result<Option<Signal>> {
        match (self.0, Signal::new(self.0.into())) {
            (0, _) => Ok(None),
            (_, Some(signal)) => Ok(Some(signal)),
            _ => bail!(EINVAL, "no such signal"),
        }
    }
}

impl Arg for SignalNumber {
    fn from_arg(raw: u64) -> Result<Self> {
        u32::from_arg(raw).map(Self)
    }

    fn show(raw: u64, ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        Signal::show(raw, ctx, into)
    }
}

/// # Errors
/// EINVAL the program's `sigset_t` is not the kernel's.
fn check_set_len(len: usize) -> Result<()> {
    if len == SET_LEN { Ok(()) } else { Err(Error::new(Errno::EINVAL, "a sigset_t has eight bytes")) }
}

/// `rt_sigaction(2)`.
pub(super) fn rt_sigaction(
    ctx: &Ctx<'_>,
    number: SignalNumber,
    new: UserPtr<SigAction>,
    old: UserPtr<SigAction>,
    set_len: usize,
) -> Result<()> {
    check_set_len(set_len)?;
    let new = match new.non_null() {
        Some(new) => Some(new.read(ctx.user())?),
        None => None,
    };
    let Some(signal) = number.check()? else { bail!(EINVAL, "no such signal") };
    let was = match new {
        Some(new) => signal::set_action(ctx, signal, &new)?,
        None => ctx.process.signals.action(signal),
    };
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &was),
        None => Ok(()),
    }
}

/// `rt_sigprocmask(2)`.
pub(super) fn rt_sigprocmask(
    ctx: &Ctx<'_>,
    how: u32,
    new: UserPtr<SignalSet>,
    old: UserPtr<SignalSet>,
    set_len: usize,
) -> Result<()> {
    check_set_len(set_len)?;
    let was = ctx.thread.signals.mask();
    if let Some(new) = new.non_null() {
        let set = new.read(ctx.user())?;
        let mask = match how {
            SIG_BLOCK => was.union(set),
            SIG_UNBLOCK => was.minus(set),
            SIG_SETMASK => set,
            _ => bail!(EINVAL, "how"),
        };
        signal::set_mask(ctx, mask);
    }
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &was),
        None => Ok(()),
    }
}

/// `rt_sigpending(2)`.
pub(super) fn rt_sigpending(ctx: &Ctx<'_>, into: UserPtr<u64>, set_len: usize) -> Result<()> {
    if set_len > SET_LEN {
        bail!(EINVAL, "a sigset_t has eight bytes");
    }
    if set_len == 0 {
        return Ok(());
    }
    let blocked = signal::pending(ctx).and(ctx.thread.signals.mask());
    ctx.user().store(into.address(), blocked.0.to_le_bytes().get(..set_len).unwrap_or_default())
}

/// `rt_sigsuspend(2)`.
pub(super) fn rt_sigsuspend(ctx: &Ctx<'_>, mask: UserPtr<SignalSet>, set_len: usize) -> Result<()> {
    check_set_len(set_len)?;
    let mask = mask.read(ctx.user())?;
    signal::suspend(ctx, Some(mask))
}

/// `pause(2)`.
pub(super) fn pause(ctx: &Ctx<'_>) -> Result<()> {
    signal::suspend(ctx, None)
}

/// `rt_sigtimedwait(2)`.
pub(super) fn rt_sigtimedwait(
    ctx: &Ctx<'_>,
    set: UserPtr<SignalSet>,
    info: UserPtr<SigInfo>,
    timeout: UserPtr<Timespec>,
    set_len: usize,
) -> Result<u32> {
    check_set_len(set_len)?;
    let wanted = set.read(ctx.user())?;
    let deadline = match timeout.non_null() {
        Some(timeout) => Some(time::deadline_after(ctx, timeout.read(ctx.user())?)?),
        None => None,
    };
    let (signal, taken) = signal::take_awaited(ctx, wanted, deadline)?;
    if let Some(info) = info.non_null() {
        info.write(ctx.user(), &taken)?;
    }
    Ok(signal.number().into())
}

/// `rt_sigreturn(2)`.
pub(super) fn rt_sigreturn(ctx: &Ctx<'_>) -> Result<()> {
    signal::return_from_handler(ctx);
    Ok(())
}

/// `sigaltstack(2)`.
pub(super) fn sigaltstack(ctx: &Ctx<'_>, new: UserPtr<SigStack>, old: UserPtr<SigStack>) -> Result<()> {
    let rsp = ctx.registers.borrow().rsp;
    let was = ctx.thread.signals.stack(rsp);
    if let Some(new) = new.non_null() {
        ctx.thread.signals.set_stack(&new.read(ctx.user())?, rsp)?;
    }
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &was),
        None => Ok(()),
    }
}

/// What the receiver sees of the sender.
fn sent(ctx: &Ctx<'_>, signal: Signal, code: i32) -> (Signal, SigInfo) {
    (signal, SigInfo::sent(signal, code, ctx.process.pid, ctx.process.credentials.uid()))
}

/// `kill(2)`.
pub(super) fn kill(ctx: &Ctx<'_>, pid: i32, number: SignalNumber) -> Result<()> {
    let targets = signal::addressed(ctx, pid)?;
    let signal = number.check()?;
    signal::send_to_all(ctx, &targets, signal.map(|signal| sent(ctx, signal, si::USER)))
}

/// The thread of a number, in the process of a number if one is given.
fn find_thread(ctx: &Ctx<'_>, pid: Option<i32>, tid: i32) -> Result<Arc<Thread>> {
    if tid <= 0 || pid.is_some_and(|pid| pid <= 0) {
        bail!(EINVAL, "not a number of a thread");
    }
    let thread = if tid.unsigned_abs() == ctx.thread.tid() {
        Some(ctx.thread.clone())
    } else {
        ctx.kernel.processes.thread(tid.unsigned_abs())
    };
    let is_there = |process: &Process| pid.is_none_or(|pid| process.pid == pid.unsigned_abs());
    match thread {
        Some(thread) if thread.process().is_some_and(|process| is_there(&process)) => Ok(thread),
        _ => Err(Error::new(Errno::ESRCH, "no such thread")),
    }
}

fn send_to_thread(
    ctx: &Ctx<'_>,
    pid: Option<i32>,
    tid: i32,
    number: SignalNumber,
    info: impl FnOnce(Signal) -> (Signal, SigInfo),
) -> Result<()> {
    let thread = find_thread(ctx, pid, tid)?;
    let Some(process) = thread.process() else { bail!(ESRCH, "no such thread") };
    let signal = number.check()?;
    signal::may_signal(ctx, &process, signal)?;
    let Some((signal, info)) = signal.map(info) else { return Ok(()) };
    signal::send_to_thread(&process, &thread, signal, info)
}

/// `tkill(2)`.
pub(super) fn tkill(ctx: &Ctx<'_>, tid: i32, number: SignalNumber) -> Result<()> {
    send_to_thread(ctx, None, tid, number, |signal| sent(ctx, signal, si::TKILL))
}

/// `tgkill(2)`.
pub(super) fn tgkill(ctx: &Ctx<'_>, pid: i32, tid: i32, number: SignalNumber) -> Result<()> {
    send_to_thread(ctx, Some(pid), tid, number, |signal| sent(ctx, signal, si::TKILL))
}

/// Whether details that a program gives are refused: only to itself may a thread send what looks like the kernel's or
/// `tkill`'s.
fn is_forged(info: &SigInfo) -> bool {
    info.code >= 0 || info.code == si::TKILL
}

fn with_number(signal: Signal, info: SigInfo) -> (Signal, SigInfo) {
    (signal, SigInfo { signo: signal.number().into(), ..info })
}

/// `rt_sigqueueinfo(2)`.
pub(super) fn rt_sigqueueinfo(
    ctx: &Ctx<'_>,
    pid: i32,
    number: SignalNumber,
    info: UserPtr<SigInfo>,
) -> Result<()> {
    let info = info.read(ctx.user())?;
    if is_forged(&info) && u32::try_from(pid) != Ok(ctx.thread.tid()) {
        bail!(EPERM, "si_code is the kernel's");
    }
    if pid <= 0 {
        bail!(ESRCH, "no such process");
    }
    let targets = signal::addressed(ctx, pid)?;
    let signal = number.check()?;
    signal::send_to_all(ctx, &targets, signal.map(|signal| with_number(signal, info)))
}

/// `rt_tgsigqueueinfo(2)`.
pub(super) fn rt_tgsigqueueinfo(
    ctx: &Ctx<'_>,
    pid: i32,
    tid: i32,
    number: SignalNumber,
    info: UserPtr<SigInfo>,
) -> Result<()> {
    let info = info.read(ctx.user())?;
    if pid <= 0 || tid <= 0 {
        bail!(EINVAL, "not a number of a thread");
    }
    if is_forged(&info) && u32::try_from(tid) != Ok(ctx.thread.tid()) {
        bail!(EPERM, "si_code is the kernel's");
    }
    send_to_thread(ctx, Some(pid), tid, number, |signal| with_number(signal, info))
}

/// The signal and the details of `pidfd_send_signal(2)`, whose own details have `code`.
///
/// # Errors
/// EINVAL no such signal, or details of another; EPERM forged ones, or a process of another user; EFAULT.
pub(super) fn sent_through(
    ctx: &Ctx<'_>,
    process: &Process,
    number: SignalNumber,
    info: UserPtr<SigInfo>,
    code: i32,
) -> Result<Option<(Signal, SigInfo)>> {
    let info = match info.non_null() {
        Some(info) => Some(info.read(ctx.user())?),
        None => None,
    };
    if let Some(info) = info {
        if info.signo.cast_unsigned() != number.0 {
            bail!(EINVAL, "the details are those of another signal");
        }
        if is_forged(&info) && process.pid != ctx.thread.tid() {
            bail!(EPERM, "si_code is the kernel's");
        }
    }
    let signal = number.check()?;
    signal::may_signal(ctx, process, signal)?;
    Ok(signal.map(|signal| match info {
        Some(info) => with_number(signal, info),
        None => sent(ctx, signal, code),
    }))
}

/// `signalfd(2)`.
pub(super) fn signalfd(ctx: &Ctx<'_>, fd: i32, set: UserPtr<SignalSet>, set_len: usize) -> Result<Fd> {
    signalfd4(ctx, fd, set, set_len, 0)
}

/// `signalfd4(2)`.
pub(super) fn signalfd4(
    ctx: &Ctx<'_>,
    fd: i32,
    set: UserPtr<SignalSet>,
    set_len: usize,
    flags: u32,
) -> Result<Fd> {
    check_set_len(set_len)?;
    let set = set.read(ctx.user())?;
    let flags = pipe::flags_of(flags, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)?;
    if fd == -1 {
        let open = fs::signalfd(ctx.kernel, ctx.kernel.mounts.shared(), set, flags);
        return ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC));
    }
    let Ok(number) = u32::try_from(fd) else { bail!(EBADF, "no such descriptor") };
    let open = ctx.files.get_file(Fd(number))?;
    fs::SignalFd::of(&open)?.set(set);
    Ok(Fd(number))
}

/// `restart_syscall(2)`.
pub(super) fn restart_syscall(ctx: &Ctx<'_>) -> Result<u64> {
    time::restart(ctx)
}
