//! What a program asks of the system: names, memory, randomness, limits.

use crate::process::capability;
use crate::{Ctx, Process};
use alloc::sync::Arc;
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::mm::PAGE_SIZE;
use linux_abi::process::{RLIM_NLIMITS, Rlimit, Sysinfo, Utsname, resource};
use linux_abi::time::NSEC_PER_SEC;

/// Most descriptors of a process (`/proc/sys/fs/nr_open`).
const NR_OPEN: u64 = 1 << 20;
/// What `uname -n` says when the configuration does not.
const DEFAULT_HOSTNAME: &str = "occlum";

const GRND_NONBLOCK: u32 = 1;
const GRND_RANDOM: u32 = 2;
const GRND_INSECURE: u32 = 4;

/// A name, cut, with zeros behind it.
fn field(name: &str) -> [u8; 65] {
    let mut field = [0; 65];
    for (to, from) in field.iter_mut().take(64).zip(name.bytes()) {
        *to = from;
    }
    field
}

/// `uname(2)`.
pub(super) fn uname(ctx: &Ctx<'_>, into: UserPtr<Utsname>) -> Result<()> {
    let hostname = match ctx.kernel.config().hostname.as_str() {
        "" => DEFAULT_HOSTNAME,
        name => name,
    };
    let names = Utsname {
        sysname: field("Linux"),
        nodename: field(hostname),
        release: field("6.1.0-occlum"),
        version: field("#1 SMP Occlum"),
        machine: field("x86_64"),
        domainname: field("(none)"),
    };
    into.write(ctx.user(), &names)
}

/// `sysinfo(2)`: memory is what the enclave has.
pub(super) fn sysinfo(ctx: &Ctx<'_>, into: UserPtr<Sysinfo>) -> Result<()> {
    let total = ctx.kernel.config().limits.user_space_max;
    let used: u64 = ctx
        .kernel
        .processes
        .all()
        .iter()
        .map(|process| process.world().0.resident().0.saturating_mul(PAGE_SIZE))
        .fold(0, u64::saturating_add);
    let info = Sysinfo {
        uptime: (ctx.platform().monotonic_ns() / NSEC_PER_SEC).cast_signed(),
        totalram: total,
        freeram: total.saturating_sub(used),
        procs: u16::try_from(ctx.kernel.processes.thread_count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    into.write(ctx.user(), &info)
}

/// `sethostname(2)`, `setdomainname(2)`: names are measured.
pub(super) fn sethostname(_ctx: &Ctx<'_>, _name: UserAddr, _len: usize) -> Result<()> {
    bail!(EPERM, "the host name is part of the measured configuration")
}

/// `syslog(2)`: there is no kernel log to read.
pub(super) fn syslog(_ctx: &Ctx<'_>, _kind: i32, _buffer: UserAddr, _len: i32) -> Result<()> {
    bail!(EPERM, "the log is the operator's")
}

/// `getrandom(2)`: the processor's random numbers are there from the start, so the flags that say how to wait change
/// nothing.
pub(super) fn getrandom(ctx: &Ctx<'_>, into: UserAddr, len: usize, flags: u32) -> Result<usize> {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0
        || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE
    {
        bail!(EINVAL, "flags");
    }
    let len = len.min(super::rw::MAX_COUNT);
    let mut done = 0;
    while done < len {
        let mut chunk = [0u8; 256];
        let part = chunk.get_mut(..(len - done).min(256)).unwrap_or_default();
        ctx.platform().fill_random(part);
        match into.offset(done as u64).and_then(|at| ctx.user().store(at, part)) {
            Ok(()) => done += part.len(),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if ctx.is_interrupted() {
            break;
        }
    }
    Ok(done)
}

/// The limits of a resource, after they were replaced if `new` is given.
fn limits(ctx: &Ctx<'_>, process: &Process, resource: u32, new: Option<Rlimit>) -> Result<Rlimit> {
    let Some(resource) = usize::try_from(resource).ok().filter(|&resource| resource < RLIM_NLIMITS) else {
        bail!(EINVAL, "no such resource")
    };
    let mut all = process.limits.lock();
    let Some(place) = all.get_mut(resource) else { bail!(EINVAL, "no such resource") };
    let old = *place;
    if let Some(new) = new {
        if new.rlim_cur > new.rlim_max {
            bail!(EINVAL, "the soft limit is above the hard one");
        }
        let is_privileged = ctx.process.credentials.is_capable(capability::SYS_RESOURCE);
        if new.rlim_max > old.rlim_max && !is_privileged
            || resource == resource::NOFILE && new.rlim_max > NR_OPEN
        {
            bail!(EPERM, "the hard limit cannot be raised so far");
        }
        *place = new;
        drop(all);
        if resource == resource::NOFILE {
            process.set_descriptor_limit(new.rlim_cur);
        }
    }
    Ok(old)
}

/// `prlimit64(2)`.
pub(super) fn prlimit64(
    ctx: &Ctx<'_>,
    pid: i32,
    resource: u32,
    new: UserPtr<Rlimit>,
    old: UserPtr<Rlimit>,
) -> Result<()> {
    let new = match new.non_null() {
        Some(new) => Some(new.read(ctx.user())?),
        None => None,
    };
    let process: Arc<Process> = if pid == 0 || pid.cast_unsigned() == ctx.process.pid {
        ctx.process.clone()
    } else {
        match u32::try_from(pid).ok().and_then(|pid| ctx.kernel.processes.process(pid)) {
            Some(process) => process,
            None => bail!(ESRCH, "no such process"),
        }
    };
    let was = limits(ctx, &process, resource, new)?;
    match old.non_null() {
        Some(old) => old.write(ctx.user(), &was),
        None => Ok(()),
    }
}

/// `getrlimit(2)`.
pub(super) fn getrlimit(ctx: &Ctx<'_>, resource: u32, into: UserPtr<Rlimit>) -> Result<()> {
    into.write(ctx.user(), &limits(ctx, ctx.process, resource, None)?)
}

/// `setrlimit(2)`.
pub(super) fn setrlimit(ctx: &Ctx<'_>, resource: u32, from: UserPtr<Rlimit>) -> Result<()> {
    limits(ctx, ctx.process, resource, Some(from.read(ctx.user())?)).map(|_| ())
}
