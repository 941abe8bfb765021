//! Priorities of transfers, `ioprio_set(2)` and `ioprio_get(2)`: remembered, inherited and reported. What the enclave has in memory
//! has no queue, and the host, whose queues they would be about, is not told.

use super::sched::{change, is_privileged, is_same_owner, threads};
use crate::Ctx;
use crate::process::capability;
use crate::sched::{Policy, Settings};
use kbase::{Result, bail};

/// IOPRIO_WHO_PROCESS, which is a thread.
const WHO_PROCESS: u32 = 1;
/// IOPRIO_WHO_USER.
const WHO_USER: u32 = 3;
/// Bits below the class: a hint and a level.
const CLASS_SHIFT: u32 = 13;
const LEVEL_MASK: u32 = 7;

const NONE: u32 = 0;
const REALTIME: u32 = 1;
const BEST_EFFORT: u32 = 2;
const IDLE: u32 = 3;

/// `which` as `getpriority(2)` counts.
///
/// # Errors
/// EINVAL.
fn which(which: u32) -> Result<i32> {
    match (WHO_PROCESS..=WHO_USER).contains(&which) {
        true => Ok(i32::try_from(which - WHO_PROCESS).unwrap_or_default()),
        false => bail!(EINVAL, "which"),
    }
}

/// What counts for a thread that did not ask: it follows from how it is scheduled.
fn effective(settings: &Settings) -> u32 {
    if settings.io_priority >> CLASS_SHIFT != NONE {
        return settings.io_priority;
    }
    let class = match settings.policy {
        Policy::Idle => IDLE,
        policy if policy.is_realtime() => REALTIME,
        _ => BEST_EFFORT,
    };
    let level = u32::try_from((settings.nice + 20) / 5).unwrap_or_default();
    class << CLASS_SHIFT | level
}

/// `ioprio_set(2)`.
pub(super) fn ioprio_set(ctx: &Ctx<'_>, of: u32, who: i32, priority: u32) -> Result<()> {
    // Linux has 16 bits of it.
    let priority = priority & 0xffff;
    match priority >> CLASS_SHIFT {
        REALTIME if !is_privileged(ctx) && !ctx.process.credentials.is_capable(capability::SYS_ADMIN) => {
            bail!(EPERM, "the real-time class is for the privileged")
        }
        REALTIME | BEST_EFFORT | IDLE => {}
        NONE if priority & LEVEL_MASK == 0 => {}
        _ => bail!(EINVAL, "no such class, or a level without one"),
    }
    for thread in threads(ctx, which(of)?, who)? {
        if !is_same_owner(ctx, &thread) && !is_privileged(ctx) {
            bail!(EPERM, "a thread of another user");
        }
        change(ctx, &thread, |settings| settings.io_priority = priority);
    }
    Ok(())
}

/// `ioprio_get(2)`: what a thread asked for, or the best of what counts for several.
pub(super) fn ioprio_get(ctx: &Ctx<'_>, of: u32, who: i32) -> Result<u32> {
    let threads = threads(ctx, which(of)?, who)?;
    let settings = threads.iter().map(|thread| thread.sched.settings());
    Ok(match of {
        WHO_PROCESS => settings.map(|settings| settings.io_priority).min(),
        _ => settings.map(|settings| effective(&settings)).min(),
    }
    .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use kbase::Errno;

    const SET: u64 = 251;
    const GET: u64 = 252;

    #[test]
    fn a_priority_is_remembered_and_the_best_of_a_group_is_told() {
        World::new().with_ctx(|ctx| {
            assert_eq!((ctx.call(GET, &[1, 0]), ctx.call(GET, &[2, 0])), (Ok(0), Ok(2 << 13 | 4)));
            assert_eq!(ctx.call(SET, &[1, 0, 3 << 13]), Ok(0));
            assert_eq!((ctx.call(GET, &[1, 0]), ctx.call(GET, &[2, 0])), (Ok(3 << 13), Ok(3 << 13)));
            assert_eq!(ctx.call(SET, &[1, 0, 1]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SET, &[1, 0, 4 << 13]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SET, &[4, 0, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SET, &[1, 4_000_000, 0]), Err(Errno::ESRCH));
        });
    }
}
