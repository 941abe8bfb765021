//! `prctl(2)`, `capget(2)`, `capset(2)`.

use crate::Ctx;
use crate::process::{ALL_CAPABILITIES, Capabilities};
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::signal::Signal;

/// Operations (include/uapi/linux/prctl.h).
mod op {
    pub(super) const SET_PDEATHSIG: u32 = 1;
    pub(super) const GET_PDEATHSIG: u32 = 2;
    pub(super) const GET_DUMPABLE: u32 = 3;
    pub(super) const SET_DUMPABLE: u32 = 4;
    pub(super) const GET_KEEPCAPS: u32 = 7;
    pub(super) const SET_KEEPCAPS: u32 = 8;
    pub(super) const GET_TIMING: u32 = 13;
    pub(super) const SET_TIMING: u32 = 14;
    pub(super) const SET_NAME: u32 = 15;
    pub(super) const GET_NAME: u32 = 16;
    pub(super) const GET_SECCOMP: u32 = 21;
    pub(super) const CAPBSET_READ: u32 = 23;
    pub(super) const CAPBSET_DROP: u32 = 24;
    pub(super) const GET_TSC: u32 = 25;
    pub(super) const GET_SECUREBITS: u32 = 27;
    pub(super) const SET_SECUREBITS: u32 = 28;
    pub(super) const SET_TIMERSLACK: u32 = 29;
    pub(super) const GET_TIMERSLACK: u32 = 30;
    pub(super) const SET_CHILD_SUBREAPER: u32 = 36;
    pub(super) const GET_CHILD_SUBREAPER: u32 = 37;
    pub(super) const SET_NO_NEW_PRIVS: u32 = 38;
    pub(super) const GET_NO_NEW_PRIVS: u32 = 39;
    pub(super) const GET_TID_ADDRESS: u32 = 40;
    pub(super) const SET_THP_DISABLE: u32 = 41;
    pub(super) const GET_THP_DISABLE: u32 = 42;
    pub(super) const CAP_AMBIENT: u32 = 47;
}

/// PR_TSC_ENABLE.
const TSC_ENABLE: u32 = 1;
/// PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_CLEAR_ALL.
const AMBIENT_IS_SET: u64 = 1;
const AMBIENT_CLEAR_ALL: u64 = 4;
/// Default of PR_SET_TIMERSLACK, nanoseconds.
const TIMER_SLACK_NS: u32 = 50_000;
/// All bits of PR_SET_SECUREBITS.
const SECURE_BITS: u64 = 0xff;
/// Bytes of a thread's name with its NUL.
const NAME_LEN: usize = 16;

/// Stores a setting that takes the values up to `max`.
fn set(place: &AtomicU32, value: u64, max: u32) -> Result<()> {
    match u32::try_from(value) {
        Ok(value) if value <= max => {
            place.store(value, Ordering::Relaxed);
            Ok(())
        }
        _ => bail!(EINVAL, "the value"),
    }
}

/// The bit of a capability.
fn capability(number: u64) -> Result<u64> {
    match u32::try_from(number).ok().and_then(|number| 1u64.checked_shl(number)) {
        Some(bit) if bit & ALL_CAPABILITIES != 0 => Ok(bit),
        _ => bail!(EINVAL, "no such capability"),
    }
}

/// `prctl(2)`.
pub(super) fn prctl(ctx: &Ctx<'_>, operation: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    let attributes = &ctx.process.attributes;
    let load = |place: &AtomicU32| place.load(Ordering::Relaxed);
    let get = |place: &AtomicU32| Ok(u64::from(load(place)));
    let store = |value: u32| UserPtr::<u32>::new(UserAddr(a)).write(ctx.user(), &value);
    match operation {
        op::SET_PDEATHSIG if a != 0 && Signal::new(a).is_none() => bail!(EINVAL, "no such signal"),
        op::SET_PDEATHSIG => set(&attributes.parent_death_signal, a, 64)?,
        op::GET_PDEATHSIG => store(load(&attributes.parent_death_signal))?,
        op::GET_DUMPABLE => return get(&attributes.dumpable),
        op::SET_DUMPABLE => set(&attributes.dumpable, a, 1)?,
        op::GET_KEEPCAPS => return get(&attributes.keeps_capabilities),
        op::SET_KEEPCAPS => set(&attributes.keeps_capabilities, a, 1)?,
        op::GET_TIMING | op::GET_SECCOMP => {}
        op::SET_TIMING if a == 0 => {}
        op::SET_NAME => set_name(ctx, UserAddr(a))?,
        op::GET_NAME => {
            let name = *ctx.thread.name.lock();
            ctx.user().store(UserAddr(a), &name)?;
        }
        op::CAPBSET_READ => {
            return Ok(u64::from(ctx.process.credentials.bounding() & capability(a)? != 0));
        }
        op::CAPBSET_DROP => ctx.process.credentials.drop_bounding(capability(a)?),
        op::GET_TSC => store(TSC_ENABLE)?,
        op::GET_SECUREBITS => return get(&attributes.secure_bits),
        op::SET_SECUREBITS if a & !SECURE_BITS == 0 => set(&attributes.secure_bits, a, u32::MAX)?,
        op::SET_TIMERSLACK => {
            let slack = if a == 0 { TIMER_SLACK_NS.into() } else { a };
            attributes.timer_slack.store(slack, Ordering::Relaxed);
        }
        op::GET_TIMERSLACK => return Ok(attributes.timer_slack.load(Ordering::Relaxed)),
        op::SET_CHILD_SUBREAPER => set(&attributes.is_subreaper, u64::from(a != 0), 1)?,
        op::GET_CHILD_SUBREAPER => store(load(&attributes.is_subreaper))?,
        op::SET_NO_NEW_PRIVS if a == 1 && (b, c, d) == (0, 0, 0) => set(&attributes.no_new_privileges, 1, 1)?,
        op::GET_NO_NEW_PRIVS if (a, b, c, d) == (0, 0, 0, 0) => return get(&attributes.no_new_privileges),
        op::GET_TID_ADDRESS => {
            let address = ctx.thread.clear_child_tid.load(Ordering::Relaxed);
            UserPtr::<u64>::new(UserAddr(a)).write(ctx.user(), &address)?;
        }
        op::SET_THP_DISABLE if (b, c, d) == (0, 0, 0) => {
            set(&attributes.no_huge_pages, u64::from(a != 0), 1)?
        }
        op::GET_THP_DISABLE if (a, b, c, d) == (0, 0, 0, 0) => return get(&attributes.no_huge_pages),
        // No capability is ever ambient.
        op::CAP_AMBIENT if a == AMBIENT_IS_SET => {
            capability(b)?;
        }
        op::CAP_AMBIENT if a == AMBIENT_CLEAR_ALL && b == 0 => {}
        _ => bail!(EINVAL, "no such operation, or not with these arguments"),
    }
    Ok(0)
}

/// PR_SET_NAME: up to 15 bytes before a NUL.
fn set_name(ctx: &Ctx<'_>, from: UserAddr) -> Result<()> {
    let mut name = [0u8; NAME_LEN];
    for (index, place) in (0u64..).zip(name.iter_mut().take(NAME_LEN - 1)) {
        // Byte by byte: the name may end right before memory that is not there.
        let byte: u8 = UserPtr::new(from.offset(index)?).read(ctx.user())?;
        if byte == 0 {
            break;
        }
        *place = byte;
    }
    *ctx.thread.name.lock() = name;
    Ok(())
}

/// Versions of the header of `capget(2)`, the first with 32 capabilities, the others with 64.
const CAPABILITY_V1: u32 = 0x1998_0330;
const CAPABILITY_V2: u32 = 0x2007_1026;
const CAPABILITY_V3: u32 = 0x2008_0522;

/// Reads the header of `capget(2)` and `capset(2)`: the process, and how many groups of 32 there are. `None`: an unknown version,
/// to which the header answers with the newest.
fn header(ctx: &Ctx<'_>, header: UserPtr<[u32; 2]>) -> Result<Option<(i32, u64)>> {
    let [version, pid] = header.read(ctx.user())?;
    let groups = match version {
        CAPABILITY_V1 => 1,
        CAPABILITY_V2 | CAPABILITY_V3 => 2,
        _ => {
            header.write(ctx.user(), &[CAPABILITY_V3, pid])?;
            return Ok(None);
        }
    };
    Ok(Some((pid.cast_signed(), groups)))
}

/// `capget(2)`.
pub(super) fn capget(ctx: &Ctx<'_>, head: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> Result<()> {
    let Some((pid, groups)) = header(ctx, head)? else {
        // Asking for the version only.
        if data.non_null().is_none() {
            return Ok(());
        }
        bail!(EINVAL, "an unknown version");
    };
    let process = match u32::try_from(pid) {
        Ok(0) => Some(ctx.process.clone()),
        Ok(pid) if pid == ctx.thread.tid() => Some(ctx.process.clone()),
        Ok(pid) => ctx.kernel.processes.process(pid),
        Err(_) => bail!(EINVAL, "a negative pid"),
    };
    let Some(process) = process else { bail!(ESRCH, "no such process") };
    if data.non_null().is_none() {
        return Ok(());
    }
    let Capabilities { effective, permitted, inheritable } = process.credentials.capabilities();
    for group in 0..groups {
        let part = |set: u64| ((set >> (32 * group)) & 0xffff_ffff) as u32;
        data.index(group)?.write(ctx.user(), &[part(effective), part(permitted), part(inheritable)])?;
    }
    Ok(())
}

/// `capset(2)`.
pub(super) fn capset(ctx: &Ctx<'_>, head: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> Result<()> {
    let Some((pid, groups)) = header(ctx, head)? else { bail!(EINVAL, "an unknown version") };
    if pid != 0 && pid.unsigned_abs() != ctx.thread.tid() {
        bail!(EPERM, "another process");
    }
    let mut new = Capabilities { effective: 0, permitted: 0, inheritable: 0 };
    for group in 0..groups {
        let [effective, permitted, inheritable] = data.index(group)?.read(ctx.user())?;
        new.effective |= u64::from(effective) << (32 * group);
        new.permitted |= u64::from(permitted) << (32 * group);
        new.inheritable |= u64::from(inheritable) << (32 * group);
    }
    new.effective &= ALL_CAPABILITIES;
    new.permitted &= ALL_CAPABILITIES;
    new.inheritable &= ALL_CAPABILITIES;
    ctx.process.credentials.set_capabilities(new)
}
