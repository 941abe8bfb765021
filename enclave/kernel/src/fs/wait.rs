//! Waiting: the one place where a thread sleeps for files.
//!
//! A sleep ends by a wake of a queue, by the host where a host descriptor is among what is waited for, by a signal,
//! or at a deadline. The thread is in all queues before it looks, so nothing is missed.

use crate::{Ctx, signal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, WaitQueue, Wake};
use linux_abi::signal::Signal;
use platform::HostPoll;
use vfs::{File, Readiness};

/// The earlier of two times, of which each may be never.
pub(crate) fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// What ends a wait by the caller's look, or `None` when the deadline passed. `next_change_ns` says when to look
/// again though nobody wakes.
///
/// # Errors
/// ERESTARTSYS a signal is to be delivered.
pub(crate) fn wait_until<T>(
    ctx: &Ctx<'_>,
    queues: &[&WaitQueue],
    hosts: &mut [HostPoll],
    deadline_ns: Option<u64>,
    next_change_ns: impl Fn() -> Option<u64>,
    mut look: impl FnMut(&[HostPoll]) -> Option<T>,
) -> Result<Option<T>> {
    let platform = ctx.kernel.platform();
    let waker = ctx.thread.waker();
    let _queued = Queued::add(queues, &waker);
    loop {
        if let Some(found) = look(hosts) {
            return Ok(Some(found));
        }
        if ctx.is_interrupted() {
            return Err(Error::new(Errno::ERESTARTSYS, "a signal came while waiting"));
        }
        if deadline_ns.is_some_and(|deadline| platform.monotonic_ns() >= deadline) {
            return Ok(None);
        }
        let until = crate::time::park_deadline(ctx, earlier(deadline_ns, next_change_ns()));
        if hosts.is_empty() {
            ctx.outside(|| platform.park(until));
        } else {
            match ctx.outside(|| platform.host_poll(hosts, until)) {
                Ok(_) => {}
                Err(error) if error.0 == Errno::EINTR => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Waits until `file` is ready for one of `events` (or has an error).
///
/// # Errors
/// ERESTARTSYS a signal is to be delivered.
pub(crate) fn wait_for(ctx: &Ctx<'_>, file: &dyn File, events: Readiness) -> Result<()> {
    let queues: Vec<&WaitQueue> = file.wait_queue().into_iter().collect();
    let mut hosts: Vec<HostPoll> = host_row(file, events).into_iter().collect();
    let wanted = events | Readiness::ERR | Readiness::HUP;
    wait_until(
        ctx,
        &queues,
        &mut hosts,
        None,
        || file.next_change_ns(),
        |hosts| {
            let ready = match hosts.first() {
                Some(row) => Readiness::from_bits_truncate(row.revents),
                None => file.ready(),
            };
            ready.intersects(wanted).then_some(())
        },
    )?;
    Ok(())
}

/// The row of a host poll for a file that stands for a host descriptor.
pub(crate) fn host_row(file: &dyn File, events: Readiness) -> Option<HostPoll> {
    file.host_fd().map(|fd| HostPoll { fd, events: events.bits(), revents: 0 })
}

/// Sends SIGPIPE to the calling thread, which wrote where nobody reads.
pub(crate) fn raise_sigpipe(ctx: &Ctx<'_>) {
    signal::raise_self(ctx, Signal::SIGPIPE);
}

/// Membership in queues, which ends when it is dropped.
struct Queued<'a> {
    queues: &'a [&'a WaitQueue],
    waker: &'a Arc<dyn Wake>,
}

impl<'a> Queued<'a> {
    fn add(queues: &'a [&'a WaitQueue], waker: &'a Arc<dyn Wake>) -> Self {
        for queue in queues {
            queue.add(waker);
        }
        Self { queues, waker }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        for queue in self.queues {
            queue.remove(self.waker);
        }
    }
}
