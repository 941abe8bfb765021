//! `getpid(2)` and its relatives: numbers of processes, groups, sessions, users. None that only asks takes a lock.

use crate::process::{Credentials, Ids};
use crate::{Ctx, Process};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Result, UserPtr, bail};

/// Most supplementary groups (NGROUPS_MAX).
const NGROUPS_MAX: usize = 65_536;
/// In a call that sets numbers: leave this one.
const KEEP: u32 = u32::MAX;

/// `getpid(2)`.
pub(super) fn getpid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.pid)
}

/// `getppid(2)`.
pub(super) fn getppid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.parent())
}

/// `gettid(2)`.
pub(super) fn gettid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.thread.tid())
}

/// The process of a number, 0 being the calling one.
fn find(ctx: &Ctx<'_>, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 || pid.cast_unsigned() == ctx.process.pid {
        return Ok(ctx.process.clone());
    }
    match u32::try_from(pid).ok().and_then(|pid| ctx.kernel.processes.process(pid)) {
        Some(process) => Ok(process),
        None => bail!(ESRCH, "no such process"),
    }
}

/// `getpgrp(2)`.
pub(super) fn getpgrp(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.group.load(Ordering::Relaxed))
}

/// `getpgid(2)`.
pub(super) fn getpgid(ctx: &Ctx<'_>, pid: i32) -> Result<u32> {
    Ok(find(ctx, pid)?.group.load(Ordering::Relaxed))
}

/// `getsid(2)`.
pub(super) fn getsid(ctx: &Ctx<'_>, pid: i32) -> Result<u32> {
    Ok(find(ctx, pid)?.session.load(Ordering::Relaxed))
}

/// `setpgid(2)`.
pub(super) fn setpgid(ctx: &Ctx<'_>, pid: i32, group: i32) -> Result<()> {
    // A group of 0 is that of the process.
    let Ok(group) = u32::try_from(if group == 0 { pid } else { group }) else {
        bail!(EINVAL, "a negative group")
    };
    let process = find(ctx, pid)?;
    if process.pid != ctx.process.pid && process.parent() != ctx.process.pid {
        bail!(ESRCH, "neither this process nor a child");
    }
    let session = ctx.process.session.load(Ordering::Relaxed);
    if process.session.load(Ordering::Relaxed) != session {
        bail!(EPERM, "the child is in another session");
    }
    if process.pid == process.session.load(Ordering::Relaxed) {
        bail!(EPERM, "a session leader stays in its group");
    }
    let group = if group == 0 { process.pid } else { group };
    let is_there = |other: &Arc<Process>| {
        other.group.load(Ordering::Relaxed) == group && other.session.load(Ordering::Relaxed) == session
    };
    if group != process.pid && !ctx.kernel.processes.all().iter().any(is_there) {
        bail!(EPERM, "no such group in this session");
    }
    process.group.store(group, Ordering::Relaxed);
    Ok(())
}

/// `setsid(2)`.
pub(super) fn setsid(ctx: &Ctx<'_>) -> Result<u32> {
    let pid = ctx.process.pid;
    if ctx.kernel.processes.all().iter().any(|other| other.group.load(Ordering::Relaxed) == pid) {
        bail!(EPERM, "the process leads a group");
    }
    ctx.process.session.store(pid, Ordering::Relaxed);
    ctx.process.group.store(pid, Ordering::Relaxed);
    Ok(pid)
}

/// `getuid(2)`.
pub(super) fn getuid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.credentials.uid())
}

/// `geteuid(2)`.
pub(super) fn geteuid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.credentials.users.effective())
}

/// `getgid(2)`.
pub(super) fn getgid(ctx: &Ctx<'_>) -> Result<u32> {
    let [real, ..] = ctx.process.credentials.groups.get();
    Ok(real)
}

/// `getegid(2)`.
pub(super) fn getegid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.credentials.groups.effective())
}

/// Which numbers a call means.
#[derive(Clone, Copy)]
enum Kind {
    Users,
    Groups,
}

fn ids(credentials: &Credentials, kind: Kind) -> &Ids {
    match kind {
        Kind::Users => &credentials.users,
        Kind::Groups => &credentials.groups,
    }
}

/// Sets numbers, those of users with what that does to capabilities.
fn change(ctx: &Ctx<'_>, kind: Kind, new: [Option<u32>; 3]) {
    let credentials = &ctx.process.credentials;
    let privileges =
        || (credentials.users.effective(), credentials.groups.effective(), credentials.capabilities());
    let before = privileges();
    match kind {
        Kind::Users => {
            let keeps = ctx.process.attributes.keeps_capabilities.load(Ordering::Relaxed) != 0;
            credentials.set_users(new, keeps);
        }
        Kind::Groups => credentials.groups.set(new),
    }
    if privileges() != before {
        ctx.process.attributes.reset_for_credentials();
    }
}

/// `setuid(2)`, `setgid(2)`: a privileged process sets all three, another its effective one to one that it has.
fn set_one(ctx: &Ctx<'_>, kind: Kind, id: u32) -> Result<()> {
    if id == KEEP {
        bail!(EINVAL, "not a number");
    }
    let credentials = &ctx.process.credentials;
    if credentials.may_set_ids() {
        change(ctx, kind, [Some(id); 3]);
        return Ok(());
    }
    let [real, _, saved] = ids(credentials, kind).get();
    if id != real && id != saved {
        bail!(EPERM, "neither the real nor the saved number");
    }
    change(ctx, kind, [None, Some(id), None]);
    Ok(())
}

/// `setreuid(2)`, `setregid(2)`.
fn set_two(ctx: &Ctx<'_>, kind: Kind, real: u32, effective: u32) -> Result<()> {
    let credentials = &ctx.process.credentials;
    let [old_real, old_effective, old_saved] = ids(credentials, kind).get();
    let real_fits = [KEEP, old_real, old_effective].contains(&real);
    let effective_fits = [KEEP, old_real, old_effective, old_saved].contains(&effective);
    if !(credentials.may_set_ids() || real_fits && effective_fits) {
        bail!(EPERM, "none of the present numbers");
    }
    let given = |id: u32| (id != KEEP).then_some(id);
    let new_effective = given(effective).unwrap_or(old_effective);
    let saves = real != KEEP || effective != KEEP && effective != old_real;
    change(ctx, kind, [given(real), given(effective), saves.then_some(new_effective)]);
    Ok(())
}

/// `setresuid(2)`, `setresgid(2)`.
fn set_three(ctx: &Ctx<'_>, kind: Kind, new: [u32; 3]) -> Result<()> {
    let credentials = &ctx.process.credentials;
    let old = ids(credentials, kind).get();
    if !credentials.may_set_ids() && !new.iter().all(|id| *id == KEEP || old.contains(id)) {
        bail!(EPERM, "none of the present numbers");
    }
    change(ctx, kind, new.map(|id| (id != KEEP).then_some(id)));
    Ok(())
}

/// `getresuid(2)`, `getresgid(2)`.
fn get_three(ctx: &Ctx<'_>, kind: Kind, into: [UserPtr<u32>; 3]) -> Result<()> {
    for (into, id) in into.into_iter().zip(ids(&ctx.process.credentials, kind).get()) {
        into.write(ctx.user(), &id)?;
    }
    Ok(())
}

/// `setuid(2)`.
pub(super) fn setuid(ctx: &Ctx<'_>, id: u32) -> Result<()> {
    set_one(ctx, Kind::Users, id)
}

/// `setgid(2)`.
pub(super) fn setgid(ctx: &Ctx<'_>, id: u32) -> Result<()> {
    set_one(ctx, Kind::Groups, id)
}

/// `setreuid(2)`.
pub(super) fn setreuid(ctx: &Ctx<'_>, real: u32, effective: u32) -> Result<()> {
    set_two(ctx, Kind::Users, real, effective)
}

/// `setregid(2)`.
pub(super) fn setregid(ctx: &Ctx<'_>, real: u32, effective: u32) -> Result<()> {
    set_two(ctx, Kind::Groups, real, effective)
}

/// `setresuid(2)`.
pub(super) fn setresuid(ctx: &Ctx<'_>, real: u32, effective: u32, saved: u32) -> Result<()> {
    set_three(ctx, Kind::Users, [real, effective, saved])
}

/// `setresgid(2)`.
pub(super) fn setresgid(ctx: &Ctx<'_>, real: u32, effective: u32, saved: u32) -> Result<()> {
    set_three(ctx, Kind::Groups, [real, effective, saved])
}

/// `getresuid(2)`.
pub(super) fn getresuid(
    ctx: &Ctx<'_>,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<()> {
    get_three(ctx, Kind::Users, [real, effective, saved])
}

/// `getresgid(2)`.
pub(super) fn getresgid(
    ctx: &Ctx<'_>,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<()> {
    get_three(ctx, Kind::Groups, [real, effective, saved])
}

/// `setfsuid(2)`: the file system looks at nobody's number, so it stays the effective one.
pub(super) fn setfsuid(ctx: &Ctx<'_>, _id: u32) -> Result<u32> {
    geteuid(ctx)
}

/// `setfsgid(2)`.
pub(super) fn setfsgid(ctx: &Ctx<'_>, _id: u32) -> Result<u32> {
    getegid(ctx)
}

/// `getgroups(2)`.
pub(super) fn getgroups(ctx: &Ctx<'_>, size: i32, into: UserPtr<u32>) -> Result<usize> {
    let Ok(size) = usize::try_from(size) else { bail!(EINVAL, "a negative size") };
    let groups = ctx.process.credentials.others.lock().clone();
    if size == 0 {
        return Ok(groups.len());
    }
    if size < groups.len() {
        bail!(EINVAL, "there are more groups");
    }
    for (index, group) in (0u64..).zip(&groups) {
        into.index(index)?.write(ctx.user(), group)?;
    }
    Ok(groups.len())
}

/// `setgroups(2)`.
pub(super) fn setgroups(ctx: &Ctx<'_>, size: usize, from: UserPtr<u32>) -> Result<()> {
    if !ctx.process.credentials.may_set_ids() {
        bail!(EPERM, "not privileged");
    }
    if size > NGROUPS_MAX {
        bail!(EINVAL, "too many groups");
    }
    let mut groups = Vec::new();
    for index in 0..size as u64 {
        groups.push(from.index(index)?.read(ctx.user())?);
    }
    groups.sort_unstable();
    *ctx.process.credentials.others.lock() = groups;
    Ok(())
}
