//! Scheduling: asked for, remembered, reported. The host schedules.

use crate::Ctx;
use crate::thread::{CpuSet, Thread};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Result, UserAddr, UserPtr, bail};
use linux_abi::time::Timespec;

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;
const SCHED_DEADLINE: u32 = 6;
/// Ored to a policy: children do not inherit it.
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
/// Slice of SCHED_RR and of the others, nanoseconds.
const RR_SLICE_NS: u64 = 100_000_000;
const SLICE_NS: u64 = 4_000_000;
/// Bytes of the first version of `struct sched_attr`.
const SCHED_ATTR_SIZE: u32 = 48;

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;

/// The thread of a number, 0 being the calling one.
fn find(ctx: &Ctx<'_>, tid: i32) -> Result<Arc<Thread>> {
    let Ok(tid) = u32::try_from(tid) else { bail!(EINVAL, "a negative number") };
    if tid == 0 || tid == ctx.thread.tid {
        return Ok(ctx.thread.clone());
    }
    match ctx.kernel.processes.thread(tid) {
        Some(thread) => Ok(thread),
        None => bail!(ESRCH, "no such thread"),
    }
}

/// The processors of the machine, as the host says.
fn online(ctx: &Ctx<'_>) -> (u32, CpuSet) {
    let cpus = ctx.platform().host_facts().cpus.clamp(1, (CpuSet::LEN * 8) as u32);
    (cpus, CpuSet::first(cpus))
}

/// `sched_yield(2)`.
pub(super) fn sched_yield(ctx: &Ctx<'_>) -> Result<()> {
    ctx.outside(|| ctx.platform().yield_now());
    Ok(())
}

/// `sched_getaffinity(2)`: returns the bytes stored, as many as the processors of the machine need.
pub(super) fn sched_getaffinity(ctx: &Ctx<'_>, tid: i32, len: u32, into: UserAddr) -> Result<u32> {
    let (cpus, online) = online(ctx);
    if len.saturating_mul(8) < cpus || !len.is_multiple_of(8) {
        bail!(EINVAL, "the buffer is too small or not of whole words");
    }
    let stored = len.min(cpus.div_ceil(64) * 8);
    let set = find(ctx, tid)?.schedule.affinity(&online);
    let bytes: Vec<u8> = set.bytes().take(stored as usize).collect();
    ctx.user().store(into, &bytes)?;
    Ok(stored)
}

/// `sched_setaffinity(2)`: a short buffer stands for a set without the processors that it has no bit for.
pub(super) fn sched_setaffinity(ctx: &Ctx<'_>, tid: i32, len: u32, from: UserAddr) -> Result<()> {
    let mut bytes = [0u8; CpuSet::LEN];
    let given = bytes.get_mut(..(len as usize).min(CpuSet::LEN)).unwrap_or_default();
    ctx.user().load(from, given)?;
    let thread = find(ctx, tid)?;
    let set = CpuSet::from_bytes(&bytes);
    if set.and(&online(ctx).1).is_empty() {
        bail!(EINVAL, "no processor of the machine");
    }
    thread.schedule.set_affinity(&set);
    Ok(())
}

/// `getcpu(2)`: the host may move threads at any time, so all say 0.
pub(super) fn getcpu(ctx: &Ctx<'_>, cpu: UserPtr<u32>, node: UserPtr<u32>, _cache: UserAddr) -> Result<()> {
    for into in [cpu, node] {
        if let Some(into) = into.non_null() {
            into.write(ctx.user(), &0)?;
        }
    }
    Ok(())
}

/// Whether a priority fits a policy.
fn check(policy: u32, priority: i32) -> Result<()> {
    let fits = match policy {
        SCHED_FIFO | SCHED_RR => (1..=99).contains(&priority),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE => priority == 0,
        _ => false,
    };
    if !fits {
        bail!(EINVAL, "no such policy, or not its priority");
    }
    Ok(())
}

/// `sched_get_priority_max(2)`.
pub(super) fn sched_get_priority_max(_ctx: &Ctx<'_>, policy: u32) -> Result<u32> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(99),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok(0),
        _ => bail!(EINVAL, "no such policy"),
    }
}

/// `sched_get_priority_min(2)`.
pub(super) fn sched_get_priority_min(ctx: &Ctx<'_>, policy: u32) -> Result<u32> {
    Ok(sched_get_priority_max(ctx, policy)?.min(1))
}

/// `sched_getscheduler(2)`.
pub(super) fn sched_getscheduler(ctx: &Ctx<'_>, tid: i32) -> Result<u32> {
    Ok(find(ctx, tid)?.schedule.policy().0)
}

/// `sched_setscheduler(2)`.
pub(super) fn sched_setscheduler(
    ctx: &Ctx<'_>,
    tid: i32,
    policy: u32,
    parameter: UserPtr<i32>,
) -> Result<()> {
    if parameter.non_null().is_none() {
        bail!(EINVAL, "no parameter");
    }
    let priority = parameter.read(ctx.user())?;
    let thread = find(ctx, tid)?;
    check(policy & !SCHED_RESET_ON_FORK, priority)?;
    thread.schedule.set_policy(policy, priority);
    Ok(())
}

/// `sched_getparam(2)`.
pub(super) fn sched_getparam(ctx: &Ctx<'_>, tid: i32, into: UserPtr<i32>) -> Result<()> {
    if into.non_null().is_none() {
        bail!(EINVAL, "no parameter");
    }
    into.write(ctx.user(), &find(ctx, tid)?.schedule.policy().1)
}

/// `sched_setparam(2)`.
pub(super) fn sched_setparam(ctx: &Ctx<'_>, tid: i32, from: UserPtr<i32>) -> Result<()> {
    if from.non_null().is_none() {
        bail!(EINVAL, "no parameter");
    }
    let priority = from.read(ctx.user())?;
    let thread = find(ctx, tid)?;
    let (policy, _) = thread.schedule.policy();
    check(policy & !SCHED_RESET_ON_FORK, priority)?;
    thread.schedule.set_policy(policy, priority);
    Ok(())
}

/// `sched_rr_get_interval(2)`.
pub(super) fn sched_rr_get_interval(ctx: &Ctx<'_>, tid: i32, into: UserPtr<Timespec>) -> Result<()> {
    let slice = match find(ctx, tid)?.schedule.policy().0 & !SCHED_RESET_ON_FORK {
        SCHED_FIFO => 0,
        SCHED_RR => RR_SLICE_NS,
        _ => SLICE_NS,
    };
    into.write(ctx.user(), &Timespec::from_ns(slice))
}

/// `struct sched_attr`, by words: size and policy, flags, nice and priority, three times.
type SchedAttr = [u64; 6];

/// Two halves of a word.
const fn halves(word: u64) -> (u32, u32) {
    ((word & 0xffff_ffff) as u32, (word >> 32) as u32)
}

const fn word(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// `sched_getattr(2)`.
pub(super) fn sched_getattr(
    ctx: &Ctx<'_>,
    tid: i32,
    into: UserPtr<SchedAttr>,
    size: u32,
    flags: u32,
) -> Result<()> {
    if !(SCHED_ATTR_SIZE..=4096).contains(&size) || flags != 0 {
        bail!(EINVAL, "size or flags");
    }
    let thread = find(ctx, tid)?;
    let (policy, priority) = thread.schedule.policy();
    let resets = u64::from(policy & SCHED_RESET_ON_FORK != 0);
    let nice = thread.schedule.nice().cast_unsigned();
    let head = word(SCHED_ATTR_SIZE, policy & !SCHED_RESET_ON_FORK);
    into.write(ctx.user(), &[head, resets, word(nice, priority.cast_unsigned()), 0, 0, 0])
}

/// `sched_setattr(2)`.
pub(super) fn sched_setattr(ctx: &Ctx<'_>, tid: i32, from: UserPtr<SchedAttr>, flags: u32) -> Result<()> {
    if flags != 0 {
        bail!(EINVAL, "unknown flag");
    }
    let [head, attributes, ranks, ..] = from.read(ctx.user())?;
    let (size, policy) = halves(head);
    if size != 0 && size < SCHED_ATTR_SIZE {
        bail!(E2BIG, "not the size of a sched_attr");
    }
    let (nice, priority) = halves(ranks);
    let thread = find(ctx, tid)?;
    check(policy, priority.cast_signed())?;
    let resets = if attributes & 1 != 0 { SCHED_RESET_ON_FORK } else { 0 };
    thread.schedule.set_policy(policy | resets, priority.cast_signed());
    if matches!(policy, SCHED_OTHER | SCHED_BATCH) {
        thread.schedule.set_nice(nice.cast_signed());
    }
    Ok(())
}

/// The threads that `getpriority(2)` speaks of.
fn threads(ctx: &Ctx<'_>, which: i32, who: i32) -> Result<Vec<Arc<Thread>>> {
    let who = who.unsigned_abs();
    let mut found = Vec::new();
    match which {
        PRIO_PROCESS => return find(ctx, who.cast_signed()).map(|thread| alloc::vec![thread]),
        PRIO_PGRP => {
            let group = if who == 0 { ctx.process.group.load(Ordering::Relaxed) } else { who };
            for process in ctx.kernel.processes.all() {
                if process.group.load(Ordering::Relaxed) == group {
                    found.extend(process.threads());
                }
            }
        }
        PRIO_USER => {
            let user = if who == 0 { ctx.process.credentials.uid() } else { who };
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
    Ok(threads.iter().map(|thread| 20 - thread.schedule.nice()).max().unwrap_or(20))
}

/// `setpriority(2)`.
pub(super) fn setpriority(ctx: &Ctx<'_>, which: i32, who: i32, nice: i32) -> Result<()> {
    for thread in threads(ctx, which, who)? {
        thread.schedule.set_nice(nice);
    }
    Ok(())
}

/// Highest `which` of `ioprio_get(2)`.
const IOPRIO_WHO_USER: u32 = 3;

/// `ioprio_get(2)`: no class.
pub(super) fn ioprio_get(_ctx: &Ctx<'_>, which: u32, _who: i32) -> Result<u32> {
    if !(1..=IOPRIO_WHO_USER).contains(&which) {
        bail!(EINVAL, "which");
    }
    Ok(0)
}
