//! Scheduling: asked for, remembered, reported, and told to the host.

use crate::Ctx;
use crate::process::capability;
use crate::sched::{CpuSet, Policy, Settings};
use crate::thread::Thread;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::process::resource;
use linux_abi::time::Timespec;

const SCHED_DEADLINE: u32 = 6;
/// Ored to a policy: children do not inherit it.
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
/// Slice of SCHED_RR and of the others, nanoseconds.
const RR_SLICE_NS: u64 = 100_000_000;
const SLICE_NS: u64 = 4_000_000;
/// Bytes of the first version of `struct sched_attr`, and of the one that is known here.
const SCHED_ATTR_SIZE: u32 = 48;
const SCHED_ATTR_KNOWN: u32 = 56;
/// More than this nobody passes.
const SCHED_ATTR_MAX: u32 = 4096;

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;

/// The thread of a number, 0 being the calling one.
///
/// # Errors
/// ESRCH there is none.
fn find(ctx: &Ctx<'_>, tid: i32) -> Result<Arc<Thread>> {
    if tid == 0 || tid.cast_unsigned() == ctx.thread.tid() {
        return Ok(ctx.thread.clone());
    }
    match u32::try_from(tid).ok().and_then(|tid| ctx.kernel.processes.thread(tid)) {
        Some(thread) => Ok(thread),
        None => bail!(ESRCH, "no such thread"),
    }
}

/// # Errors
/// EINVAL a negative number: the calls about policies say so, others look for it.
fn check_sign(tid: i32) -> Result<()> {
    if tid < 0 { bail!(EINVAL, "a negative number") } else { Ok(()) }
}

/// The processors of the machine, as the host says.
fn online(ctx: &Ctx<'_>) -> (u32, CpuSet) {
    let cpus = ctx.platform().host_facts().cpus.clamp(1, (CpuSet::LEN * 8) as u32);
    (cpus, CpuSet::first(cpus))
}

pub(super) fn is_privileged(ctx: &Ctx<'_>) -> bool {
    ctx.process.credentials.is_capable(capability::SYS_NICE)
}

/// Whether the caller runs as the user of a thread.
pub(super) fn is_same_owner(ctx: &Ctx<'_>, thread: &Thread) -> bool {
    let effective = ctx.process.credentials.users.effective();
    thread.process().is_none_or(|process| {
        let [real, its_effective, _] = process.credentials.users.get();
        effective == real || effective == its_effective
    })
}

/// A soft limit of the process of a thread.
fn limit_of(thread: &Thread, resource: usize) -> u64 {
    thread.process().map_or(0, |process| process.limit(resource))
}

/// Whether RLIMIT_NICE allows a nice value, or the caller is privileged.
fn may_be_nice(ctx: &Ctx<'_>, thread: &Thread, nice: i32) -> bool {
    u64::from((20 - nice).unsigned_abs()) <= limit_of(thread, resource::NICE) || is_privileged(ctx)
}

/// Changes the settings of a thread and tells the host.
pub(super) fn change(ctx: &Ctx<'_>, thread: &Thread, change: impl FnOnce(&mut Settings)) {
    thread.sched.change(ctx.platform(), thread.handle(), change);
}

/// `sched_yield(2)`.
pub(super) fn sched_yield(ctx: &Ctx<'_>) -> Result<()> {
    ctx.outside(|| ctx.platform().yield_now());
    Ok(())
}

/// `sched_getaffinity(2)`: returns the bytes stored, as many as the processors of the machine need.
pub(super) fn sched_getaffinity(ctx: &Ctx<'_>, tid: i32, len: u32, into: UserAddr) -> Result<u32> {
    let (cpus, online) = online(ctx);
    // The product wraps around on Linux too.
    if len.wrapping_mul(8) < cpus || !len.is_multiple_of(8) {
        bail!(EINVAL, "the buffer is too small or not of whole words");
    }
    let stored = len.min(cpus.div_ceil(64) * 8);
    let set = find(ctx, tid)?.sched.settings().cpus(&online);
    let bytes: Vec<u8> = set.bytes().take(stored as usize).collect();
    ctx.user().store(into, &bytes)?;
    Ok(stored)
}

/// `sched_setaffinity(2)`: a short buffer stands for a set without the processors that it has no bit for.
pub(super) fn sched_setaffinity(ctx: &Ctx<'_>, tid: i32, len: u32, from: UserAddr) -> Result<()> {
    let (cpus, online) = online(ctx);
    let mut bytes = [0u8; CpuSet::LEN];
    let looked_at = (cpus.div_ceil(64) as usize * 8).min(len as usize);
    let given = bytes.get_mut(..looked_at).unwrap_or_default();
    if !given.is_empty() {
        ctx.user().load(from, given)?;
    }
    let thread = find(ctx, tid)?;
    if !is_same_owner(ctx, &thread) && !is_privileged(ctx) {
        bail!(EPERM, "a thread of another user");
    }
    let set = CpuSet::from_bytes(&bytes).and(&online);
    if set.is_empty() {
        bail!(EINVAL, "no processor of the machine");
    }
    change(ctx, &thread, |settings| settings.affinity = Some(set));
    Ok(())
}

/// `getcpu(2)`: what the host says, unless the thread may not run there. There is one node.
pub(super) fn getcpu(ctx: &Ctx<'_>, cpu: UserPtr<u32>, node: UserPtr<u32>, _cache: UserAddr) -> Result<()> {
    if let Some(cpu) = cpu.non_null() {
        let allowed = ctx.thread.sched.settings().cpus(&online(ctx).1);
        let said = ctx.platform().current_cpu();
        let shown = if allowed.has(said) { said } else { allowed.lowest().unwrap_or(0) };
        cpu.write(ctx.user(), &shown)?;
    }
    match node.non_null() {
        Some(node) => node.write(ctx.user(), &0),
        None => Ok(()),
    }
}

/// `sched_get_priority_max(2)`.
pub(super) fn sched_get_priority_max(_ctx: &Ctx<'_>, policy: u32) -> Result<u32> {
    match Policy::new(policy) {
        Some(policy) if policy.is_realtime() => Ok(99),
        Some(_) => Ok(0),
        None if policy == SCHED_DEADLINE => Ok(0),
        None => bail!(EINVAL, "no such policy"),
    }
}

/// `sched_get_priority_min(2)`.
pub(super) fn sched_get_priority_min(ctx: &Ctx<'_>, policy: u32) -> Result<u32> {
    Ok(sched_get_priority_max(ctx, policy)?.min(1))
}

/// A policy that is asked for.
struct Wish {
    policy: u32,
    priority: u32,
    /// `None`: as it is.
    nice: Option<i32>,
    resets_on_fork: bool,
    /// Whether nothing else changes, though all of it must be allowed (SCHED_FLAG_KEEP_PARAMS).
    keeps_params: bool,
}

/// Gives a thread a policy.
///
/// # Errors
/// EINVAL no such policy, or not its priority; EPERM more than the limits allow, or a thread of another user.
fn set_policy(ctx: &Ctx<'_>, thread: &Thread, wish: &Wish) -> Result<()> {
    let Some(policy) = Policy::new(wish.policy) else { bail!(EINVAL, "no such policy") };
    if wish.priority > 99 || policy.is_realtime() != (wish.priority != 0) {
        bail!(EINVAL, "not a priority of the policy");
    }
    let now = thread.sched.settings();
    if !is_privileged(ctx) && needs_privilege(ctx, thread, &now, policy, wish) {
        bail!(EPERM, "more than the limits allow");
    }
    change(ctx, thread, |settings| {
        settings.resets_on_fork = wish.resets_on_fork;
        if wish.keeps_params {
            return;
        }
        (settings.policy, settings.priority) = (policy, wish.priority);
        if let Some(nice) = wish.nice
            && matches!(policy, Policy::Other | Policy::Batch)
        {
            settings.nice = nice;
        }
    });
    Ok(())
}

/// Whether only a privileged thread may have its wish.
fn needs_privilege(ctx: &Ctx<'_>, thread: &Thread, now: &Settings, policy: Policy, wish: &Wish) -> bool {
    let most = limit_of(thread, resource::RTPRIO);
    let wants_realtime = policy.is_realtime()
        && (policy != now.policy && most == 0
            || wish.priority > now.priority && u64::from(wish.priority) > most);
    let is_fair = matches!(policy, Policy::Other | Policy::Batch);
    let gets_nicer =
        is_fair && wish.nice.is_some_and(|nice| nice < now.nice && !may_be_nice(ctx, thread, nice));
    let leaves_idle =
        now.policy == Policy::Idle && policy != Policy::Idle && !may_be_nice(ctx, thread, now.nice);
    let stops_resetting = now.resets_on_fork && !wish.resets_on_fork;
    wants_realtime || gets_nicer || leaves_idle || stops_resetting || !is_same_owner(ctx, thread)
}

/// A priority that a program gives as a signed number.
fn priority(given: i32) -> Result<u32> {
    match u32::try_from(given) {
        Ok(priority) => Ok(priority),
        Err(_) => bail!(EINVAL, "a negative priority"),
    }
}

/// The priority at an address.
fn parameter(ctx: &Ctx<'_>, tid: i32, from: UserPtr<i32>) -> Result<i32> {
    check_sign(tid)?;
    match from.non_null() {
        Some(from) => from.read(ctx.user()),
        None => bail!(EINVAL, "no parameter"),
    }
}

/// The number of a thread's policy, with the flag for its children.
fn number(settings: &Settings) -> u32 {
    settings.policy as u32 | if settings.resets_on_fork { SCHED_RESET_ON_FORK } else { 0 }
}

/// `sched_getscheduler(2)`.
pub(super) fn sched_getscheduler(ctx: &Ctx<'_>, tid: i32) -> Result<u32> {
    check_sign(tid)?;
    Ok(number(&find(ctx, tid)?.sched.settings()))
}

/// `sched_setscheduler(2)`.
pub(super) fn sched_setscheduler(ctx: &Ctx<'_>, tid: i32, policy: i32, from: UserPtr<i32>) -> Result<()> {
    let Ok(policy) = u32::try_from(policy) else { bail!(EINVAL, "no such policy") };
    let given = parameter(ctx, tid, from)?;
    let thread = find(ctx, tid)?;
    let wish = Wish {
        policy: policy & !SCHED_RESET_ON_FORK,
        priority: priority(given)?,
        nice: None,
        resets_on_fork: policy & SCHED_RESET_ON_FORK != 0,
        keeps_params: false,
    };
    set_policy(ctx, &thread, &wish)
}

/// `sched_getparam(2)`.
pub(super) fn sched_getparam(ctx: &Ctx<'_>, tid: i32, into: UserPtr<i32>) -> Result<()> {
    check_sign(tid)?;
    let Some(into) = into.non_null() else { bail!(EINVAL, "no parameter") };
    into.write(ctx.user(), &find(ctx, tid)?.sched.settings().priority.cast_signed())
}

/// `sched_setparam(2)`.
pub(super) fn sched_setparam(ctx: &Ctx<'_>, tid: i32, from: UserPtr<i32>) -> Result<()> {
    let given = parameter(ctx, tid, from)?;
    let thread = find(ctx, tid)?;
    let now = thread.sched.settings();
    let wish = Wish {
        policy: now.policy as u32,
        priority: priority(given)?,
        nice: None,
        resets_on_fork: now.resets_on_fork,
        keeps_params: false,
    };
    set_policy(ctx, &thread, &wish)
}

/// `sched_rr_get_interval(2)`.
pub(super) fn sched_rr_get_interval(ctx: &Ctx<'_>, tid: i32, into: UserPtr<Timespec>) -> Result<()> {
    check_sign(tid)?;
    let slice = match find(ctx, tid)?.sched.settings().policy {
        Policy::Fifo => 0,
        Policy::RoundRobin => RR_SLICE_NS,
        _ => SLICE_NS,
    };
    into.write(ctx.user(), &Timespec::from_ns(slice))
}

/// `struct sched_attr`, by words: size and policy, flags, nice and priority, three times, and two clamps.
type SchedAttr = [u64; 7];

/// Two halves of a word.
const fn halves(word: u64) -> (u32, u32) {
    ((word & 0xffff_ffff) as u32, (word >> 32) as u32)
}

const fn word(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// `sched_getattr(2)`.
pub(super) fn sched_getattr(ctx: &Ctx<'_>, tid: i32, into: UserAddr, size: u32, flags: u32) -> Result<()> {
    if into.0 == 0 || tid < 0 || !(SCHED_ATTR_SIZE..=SCHED_ATTR_MAX).contains(&size) || flags != 0 {
        bail!(EINVAL, "size or flags");
    }
    let settings = find(ctx, tid)?.sched.settings();
    let known = size.min(SCHED_ATTR_KNOWN);
    let nice = if settings.policy.is_realtime() { 0 } else { settings.nice.cast_unsigned() };
    let slice = if settings.policy.is_realtime() { 0 } else { SLICE_NS };
    let attr: SchedAttr = [
        word(known, settings.policy as u32),
        u64::from(settings.resets_on_fork),
        word(nice, settings.priority),
        slice,
        0,
        0,
        0,
    ];
    let mut bytes = alloc::vec![0u8; size as usize];
    for (to, from) in bytes.iter_mut().zip(attr.iter().flat_map(|word| word.to_le_bytes())) {
        *to = from;
    }
    ctx.user().store(into, &bytes)
}

/// Copies a `struct sched_attr` of any version; what is not known must be 0.
///
/// # Errors
/// E2BIG it is not, or the size is no version's: the known size is stored in its place; EFAULT.
fn load_attr(ctx: &Ctx<'_>, from: UserPtr<u32>) -> Result<(SchedAttr, u32)> {
    let size = match from.read(ctx.user())? {
        0 => SCHED_ATTR_SIZE,
        size => size,
    };
    let mut attr: SchedAttr = [0; 7];
    let mut is_known = (SCHED_ATTR_SIZE..=SCHED_ATTR_MAX).contains(&size);
    if is_known {
        let mut bytes = alloc::vec![0u8; size as usize];
        ctx.user().load(from.address(), &mut bytes)?;
        let rest = bytes.get(SCHED_ATTR_KNOWN as usize..).unwrap_or_default();
        is_known = rest.iter().all(|&byte| byte == 0);
        for (to, chunk) in attr.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            *to = u64::from_le_bytes(word);
        }
    }
    if !is_known {
        from.write(ctx.user(), &SCHED_ATTR_KNOWN)?;
        bail!(E2BIG, "not a sched_attr that is known here");
    }
    Ok((attr, size))
}

/// `sched_setattr(2)`.
pub(super) fn sched_setattr(ctx: &Ctx<'_>, tid: i32, from: UserPtr<u32>, flags: u32) -> Result<()> {
    /// SCHED_FLAG_RESET_ON_FORK, _KEEP_POLICY, _KEEP_PARAMS, _UTIL_CLAMP, and all.
    const RESET_ON_FORK: u64 = 1;
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 0x10;
    const UTIL_CLAMP: u64 = 0x60;
    const ALL: u64 = 0x7f;
    if from.non_null().is_none() || tid < 0 || flags != 0 {
        bail!(EINVAL, "no attributes, a negative number, or flags");
    }
    let ([head, attributes, ranks, ..], size) = load_attr(ctx, from)?;
    let (_, policy) = halves(head);
    let (nice, priority) = halves(ranks);
    if attributes & UTIL_CLAMP != 0 && size < SCHED_ATTR_KNOWN || policy.cast_signed() < 0 {
        bail!(EINVAL, "no room for what the flags speak of, or no such policy");
    }
    let thread = find(ctx, tid)?;
    let now = thread.sched.settings();
    let keeps = |flag: u64| attributes & flag != 0;
    let mut wish = Wish {
        policy: if keeps(KEEP_POLICY) { now.policy as u32 } else { policy },
        priority,
        nice: Some(nice.cast_signed().clamp(-20, 19)),
        resets_on_fork: keeps(RESET_ON_FORK),
        keeps_params: keeps(KEEP_PARAMS),
    };
    if keeps(KEEP_PARAMS) {
        // As Linux, which keeps what the policy of the thread has and not what the new one would have.
        if now.policy.is_realtime() {
            wish.priority = now.priority;
        } else {
            wish.nice = Some(now.nice);
        }
    }
    if keeps(KEEP_POLICY) {
        wish.resets_on_fork = now.resets_on_fork;
    }
    if Policy::new(wish.policy).is_none() || attributes & !ALL != 0 {
        bail!(EINVAL, "no such policy or flag");
    }
    if keeps(UTIL_CLAMP) {
        bail!(EOPNOTSUPP, "utilisation is not clamped");
    }
    set_policy(ctx, &thread, &wish)
}

/// The threads that `getpriority(2)` speaks of.
pub(super) fn threads(ctx: &Ctx<'_>, which: i32, who: i32) -> Result<Vec<Arc<Thread>>> {
    let number = who.cast_unsigned();
    let mut found = Vec::new();
    match which {
        PRIO_PROCESS => return find(ctx, who).map(|thread| alloc::vec![thread]),
        PRIO_PGRP => {
            let group = if who == 0 { ctx.process.group.load(Ordering::Relaxed) } else { number };
            for process in ctx.kernel.processes.all() {
                if process.group.load(Ordering::Relaxed) == group {
                    found.extend(process.threads());
                }
            }
        }
        PRIO_USER => {
            let user = if who == 0 { ctx.process.credentials.uid() } else { number };
            for process in ctx.kernel.processes.all() {
                if process.credentials.uid() == user {
                    found.extend(process.threads());
                }
            }
        }
        _ => bail!(EINVAL, "which"),
    }
    if found.is_empty() {
        bail!(ESRCH, "nobody there");
    }
    Ok(found)
}

/// `getpriority(2)`: 20 less the nice value, the highest of all.
pub(super) fn getpriority(ctx: &Ctx<'_>, which: i32, who: i32) -> Result<i32> {
    let threads = threads(ctx, which, who)?;
    Ok(threads.iter().map(|thread| 20 - thread.sched.settings().nice).max().unwrap_or(20))
}

/// `setpriority(2)`.
pub(super) fn setpriority(ctx: &Ctx<'_>, which: i32, who: i32, nice: i32) -> Result<()> {
    let nice = nice.clamp(-20, 19);
    let mut result = Ok(());
    for thread in threads(ctx, which, who)? {
        let one = if !is_same_owner(ctx, &thread) && !is_privileged(ctx) {
            Err(kbase::Error::new(kbase::Errno::EPERM, "a thread of another user"))
        } else if nice < thread.sched.settings().nice && !may_be_nice(ctx, &thread, nice) {
            Err(kbase::Error::new(kbase::Errno::EACCES, "more than RLIMIT_NICE allows"))
        } else {
            change(ctx, &thread, |settings| settings.nice = nice);
            Ok(())
        };
        if one.is_err() {
            result = one;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;

    #[test]
    fn a_set_without_a_processor_of_the_machine_is_refused() {
        World::new().with_ctx(|ctx| {
            let set = |len: u64| ctx.call(203, &[0, len, SCRATCH]);
            ctx.poke(SCRATCH, [0u64, 1]);
            assert_eq!(set(16), Err(Errno::EINVAL));
            ctx.poke(SCRATCH, [1u64, 1]);
            assert_eq!(set(16), Ok(0));
            assert_eq!(ctx.call(204, &[0, 128, SCRATCH]), Ok(8));
            assert_eq!(ctx.peek::<u64>(SCRATCH), 1);
            assert_eq!(ctx.call(204, &[0, 7, SCRATCH]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(204, &[u64::MAX, 128, SCRATCH]), Err(Errno::ESRCH));
            assert_eq!(ctx.call(309, &[SCRATCH, 0, 0]), Ok(0));
            assert_eq!(ctx.peek::<u32>(SCRATCH), 0);
        });
    }

    #[test]
    fn who_is_not_privileged_gets_no_better() {
        World::new().with_ctx(|ctx| {
            assert_eq!(ctx.call(141, &[0, 0, -5i64 as u64]), Ok(0));
            ctx.call(117, &[1000, 1000, 1000]).unwrap();
            assert_eq!(ctx.call(141, &[0, 0, -6i64 as u64]), Err(Errno::EACCES));
            assert_eq!(ctx.call(141, &[0, 0, 5]), Ok(0));
            assert_eq!(ctx.call(140, &[0, 0]), Ok(15));
            ctx.poke(SCRATCH, 1u32);
            assert_eq!(ctx.call(144, &[0, 1, SCRATCH]), Err(Errno::EPERM));
            assert_eq!(ctx.call(144, &[u64::MAX, 1, SCRATCH]), Err(Errno::EINVAL));
        });
    }

    #[test]
    fn attributes_of_an_unknown_size_are_answered_with_the_known_one() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, [47u32, 0]);
            assert_eq!(ctx.call(314, &[0, SCRATCH, 0]), Err(Errno::E2BIG));
            assert_eq!(ctx.peek::<u32>(SCRATCH), 56);
            ctx.poke(SCRATCH, [48u32 as u64 | 3 << 32, 1, 4, 0, 0, 0]);
            assert_eq!(ctx.call(314, &[0, SCRATCH, 0]), Ok(0));
            assert_eq!(ctx.call(145, &[0]), Ok(0x4000_0003));
            assert_eq!(ctx.call(315, &[0, SCRATCH, 64, 0]), Ok(0));
            assert_eq!(ctx.peek::<[u32; 6]>(SCRATCH), [56, 3, 1, 0, 4, 0]);
        });
    }

    #[test]
    fn who_keeps_its_parameters_keeps_its_policy() {
        World::new().with_ctx(|ctx| {
            const BATCH: u64 = 3;
            const KEEP_PARAMS: u64 = 0x10;
            // Size and policy, flags, nice and priority, and what deadlines need.
            ctx.poke(SCRATCH, [48 | BATCH << 32, KEEP_PARAMS, 5, 0, 0, 0]);
            assert_eq!(ctx.call(314, &[0, SCRATCH, 0]), Ok(0));
            assert_eq!(ctx.call(145, &[0]), Ok(0));
            ctx.poke(SCRATCH + 8, 0u64);
            assert_eq!(ctx.call(314, &[0, SCRATCH, 0]), Ok(0));
            assert_eq!(ctx.call(145, &[0]), Ok(BATCH));
        });
    }
}
