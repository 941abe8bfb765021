//! `wait4(2)` and `waitid(2)`.

use super::arg::Arg;
use super::{Fd, flag_args};
use crate::Ctx;
use crate::fs::PidFd;
use crate::process::{self, Who};
use crate::time::CpuTimes;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserPtr, bail};
use linux_abi::process::{Rusage, STATUS_CONTINUED, WaitOptions};
use linux_abi::signal::{SigInfo, si};
use linux_abi::time::Timeval;

flag_args! {
    WaitOptions: u32;
}

const P_ALL: u32 = 0;
const P_PID: u32 = 1;
const P_PGID: u32 = 2;
const P_PIDFD: u32 = 3;

/// What a child used.
fn usage(times: CpuTimes) -> Rusage {
    Rusage {
        ru_utime: Timeval::from_ns(times.user),
        ru_stime: Timeval::from_ns(times.system),
        ..Rusage::default()
    }
}

/// `wait4(2)`.
pub(super) fn wait4(
    ctx: &Ctx<'_>,
    pid: i32,
    status: UserPtr<i32>,
    options: WaitOptions,
    rusage: UserPtr<Rusage>,
) -> Result<u32> {
    if options.intersects(WaitOptions::EXITED | WaitOptions::NOWAIT) {
        bail!(EINVAL, "options of waitid");
    }
    let who = match pid {
        i32::MIN => bail!(ESRCH, "no such group"),
        -1 => Who::Any,
        0 => Who::Group(ctx.process.group.load(Ordering::Relaxed)),
        pid if pid < 0 => Who::Group(pid.unsigned_abs()),
        pid => Who::Pid(pid.unsigned_abs()),
    };
    let Some(found) = process::wait(ctx, who, options | WaitOptions::EXITED)? else { return Ok(0) };
    if let Some(status) = status.non_null() {
        status.write(ctx.user(), &found.status)?;
    }
    if let Some(rusage) = rusage.non_null() {
        rusage.write(ctx.user(), &usage(found.times))?;
    }
    Ok(found.pid)
}

/// `waitid(2)`.
pub(super) fn waitid(
    ctx: &Ctx<'_>,
    kind: u32,
    id: u32,
    info: UserPtr<SigInfo>,
    options: WaitOptions,
    rusage: UserPtr<Rusage>,
) -> Result<()> {
    if !options.intersects(WaitOptions::EXITED | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
        bail!(EINVAL, "none of WEXITED, WSTOPPED, WCONTINUED");
    }
    let mut does_not_wait = false;
    let who = match (kind, id) {
        (P_ALL, _) => Who::Any,
        (P_PID | P_PGID | P_PIDFD, id) if id.cast_signed() < 0 => bail!(EINVAL, "a negative number"),
        (P_PID, 0) => bail!(EINVAL, "no such pid"),
        (P_PID, pid) => Who::Pid(pid),
        (P_PGID, 0) => Who::Group(ctx.process.group.load(Ordering::Relaxed)),
        (P_PGID, group) => Who::Group(group),
        (P_PIDFD, fd) => {
            let open = ctx.files.get(Fd(fd))?;
            does_not_wait = open.is_nonblocking();
            Who::Pid(PidFd::process(&open)?.pid)
        }
        _ => bail!(EINVAL, "no such kind of identifier"),
    };
    let looks_once = options.contains(WaitOptions::NOHANG);
    let options = if does_not_wait { options | WaitOptions::NOHANG } else { options };
    let found = process::wait(ctx, who, options)?;
    if found.is_none() && !looks_once {
        bail!(EAGAIN, "the descriptor does not wait");
    }
    let Some(info) = info.non_null() else { return Ok(()) };
    let Some(found) = found else {
        // WNOHANG and nothing: signo and pid are zero.
        let mut nothing = SigInfo::child(0, 0, 0, 0);
        nothing.signo = 0;
        return info.write(ctx.user(), &nothing);
    };
    let (code, value) = match found.status {
        STATUS_CONTINUED => (si::CLD_CONTINUED, 18),
        status if status & 0xff == 0x7f => (si::CLD_STOPPED, status >> 8 & 0xff),
        status if status & 0x7f == 0 => (si::CLD_EXITED, status >> 8 & 0xff),
        status if status & 0x80 != 0 => (si::CLD_DUMPED, status & 0x7f),
        status => (si::CLD_KILLED, status & 0x7f),
    };
    info.write(ctx.user(), &SigInfo::child(code, found.pid, found.uid, value))?;
    match rusage.non_null() {
        Some(rusage) => rusage.write(ctx.user(), &usage(found.times)),
        None => Ok(()),
    }
}
