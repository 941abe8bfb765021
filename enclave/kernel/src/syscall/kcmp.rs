//! `kcmp(2)`: whether two threads have something in common.

use super::Fd;
use super::pidfd::may_inspect;
use crate::{Ctx, Process, Thread};
use alloc::sync::Arc;
use core::cmp::Ordering;
use kbase::{Errno, Error, Result, bail};

const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
/// The last kind: KCMP_EPOLL_TFD.
const LAST: u32 = 7;

/// `kcmp(2)`: 0 equal, 1 the first is less, 2 it is greater, in an order that means nothing.
pub(super) fn kcmp(ctx: &Ctx<'_>, one: i32, other: i32, kind: u32, first: Fd, second: Fd) -> Result<u64> {
    let ((one, its_process), (other, others_process)) = (find(ctx, one)?, find(ctx, other)?);
    may_inspect(ctx, &its_process)?;
    may_inspect(ctx, &others_process)?;
    let (own, others) = (its_process.tables(&one), others_process.tables(&other));
    let order = match kind {
        FILE => own.0.get(first)?.id().cmp(&others.0.get(second)?.id()),
        VM => compare(&its_process.world().0, &others_process.world().0),
        FILES => compare(&own.0, &others.0),
        FS => compare(&own.1, &others.1),
        4..=LAST => bail!(EOPNOTSUPP, "not compared here"),
        _ => bail!(EINVAL, "no such kind"),
    };
    Ok(match order {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    })
}

fn compare<T>(one: &Arc<T>, other: &Arc<T>) -> Ordering {
    Arc::as_ptr(one).cmp(&Arc::as_ptr(other))
}

/// # Errors
/// ESRCH.
fn find(ctx: &Ctx<'_>, tid: i32) -> Result<(Arc<Thread>, Arc<Process>)> {
    let thread = u32::try_from(tid).ok().and_then(|tid| ctx.kernel.processes.thread(tid));
    let both = thread.and_then(|thread| Some((thread.clone(), thread.process()?)));
    both.ok_or(Error::new(Errno::ESRCH, "no such thread"))
}
