//! Waiting for files: the one place where a thread sleeps for them.
//!
//! A sleep ends when a notifier tells of something that is waited for, by the host where a host descriptor is among what is
//! waited for, by a signal, or at a deadline. The thread observes all before it looks, so nothing is missed.

use crate::net::inet::readiness;
use crate::{Ctx, signal};
use alloc::sync::Weak;
use alloc::vec::Vec;
use kbase::event::Observer;
use kbase::{Errno, Error, Result};
use linux_abi::signal::Signal;
use platform::HostPoll;
use vfs::{File, Readiness, ReadinessNotifier};

/// What is found whether it is asked for or not.
pub(crate) const ALWAYS: Readiness = Readiness::ERR.union(Readiness::HUP);

/// Something that tells of what is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) notifier: &'a ReadinessNotifier,
    /// What is waited for, beside [`ALWAYS`].
    pub(crate) events: Readiness,
}

/// The earlier of two times, of which each may be never.
pub(crate) fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// What ends a wait by the caller's look, or `None` when the deadline passed. `next_change_ns` says when to look
/// again though nobody tells.
///
/// # Errors
/// ERESTARTSYS a signal is to be delivered.
pub(crate) fn wait_until<T>(
    ctx: &Ctx<'_>,
    sources: &[Source<'_>],
    hosts: &mut [HostPoll],
    deadline_ns: Option<u64>,
    next_change_ns: impl Fn() -> Option<u64>,
    mut look: impl FnMut(&[HostPoll]) -> Option<T>,
) -> Result<Option<T>> {
    let platform = ctx.kernel.platform();
    let _observing = Observing::begin(sources, ctx.thread.waker().observer());
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
            readiness::sleep(ctx, until);
        } else {
            // The poll ends when a host socket becomes ready too.
            match readiness::rest(ctx, || platform.host_poll(hosts, until)) {
                None | Some(Ok(_)) => {}
                Some(Err(error)) if error.0 == Errno::EINTR => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}

/// Makes `attempt`, which does not wait, until it answers something else than EAGAIN. If that is not the first time, it sleeps
/// until the file is ready for `events` (or has an error) before each other, as long as the file allows.
///
/// That a file is ready need not be enough for what is attempted: an event counter with room for something is too full for a
/// large number, and what a pipe has may be in the hands of another reader. So who was refused is not refused again until the
/// file tells that something changed.
///
/// # Errors
/// As [`wait_for`], and what `attempt` says.
pub(crate) fn persist<T>(
    ctx: &Ctx<'_>,
    file: &dyn File,
    events: Readiness,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut unless_refused = || match attempt() {
        Err(error) if error.errno() == Errno::EAGAIN => None,
        result => Some(result),
    };
    if let Some(result) = unless_refused() {
        return result;
    }
    check_signals(ctx, file, events)?;
    wait_within_limit(ctx, file, events, unless_refused)?
}

/// Waits until `file`, which the caller just found not ready for `events`, is so (or has an error), as long as it allows.
///
/// As on Linux, a signal comes before what may have changed since. So it also ends the calls of who is told again and again
/// that a file is ready, and finds that it is not.
///
/// # Errors
/// ERESTARTSYS, or EINTR of a wait with a limit: a signal is to be delivered; EAGAIN the limit is over.
pub(crate) fn wait_for(ctx: &Ctx<'_>, file: &dyn File, events: Readiness) -> Result<()> {
    check_signals(ctx, file, events)?;
    wait_ready(ctx, file, events)
}

/// Waits until `file` is ready for one of `events` (or has an error), as long as it allows.
///
/// # Errors
/// As [`wait_for`].
pub(crate) fn wait_ready(ctx: &Ctx<'_>, file: &dyn File, events: Readiness) -> Result<()> {
    wait_within_limit(ctx, file, events, || Some(()))
}

fn check_signals(ctx: &Ctx<'_>, file: &dyn File, events: Readiness) -> Result<()> {
    if ctx.is_interrupted() {
        let is_limited = file.wait_limit_ns(events).is_some();
        let errno = if is_limited { Errno::EINTR } else { Errno::ERESTARTSYS };
        return Err(Error::new(errno, "a signal came before waiting"));
    }
    Ok(())
}

/// Waits until `take` gives something of a file that is ready, as long as the file allows.
fn wait_within_limit<T>(
    ctx: &Ctx<'_>,
    file: &dyn File,
    events: Readiness,
    take: impl FnMut() -> Option<T>,
) -> Result<T> {
    let limit = file.wait_limit_ns(events);
    let deadline = limit.map(|limit| ctx.platform().monotonic_ns().saturating_add(limit));
    match wait_to_take(ctx, file, events, deadline, take) {
        Ok(Some(taken)) => Ok(taken),
        Ok(None) => Err(Error::new(Errno::EAGAIN, "the time limit of the file is over")),
        // A call with a limit is not made again.
        Err(error) if limit.is_some() && error.errno() == Errno::ERESTARTSYS => {
            Err(Error::new(Errno::EINTR, "a signal came while waiting"))
        }
        Err(error) => Err(error),
    }
}

/// Waits until `take` gives something of a file that is ready; `None`: until the deadline (CLOCK_MONOTONIC, ns).
fn wait_to_take<T>(
    ctx: &Ctx<'_>,
    file: &dyn File,
    events: Readiness,
    deadline_ns: Option<u64>,
    mut take: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    let source = file.notifier().map(|notifier| Source { notifier, events });
    let mut hosts: Vec<HostPoll> = host_row(file, events).into_iter().collect();
    wait_until(
        ctx,
        source.as_slice(),
        &mut hosts,
        deadline_ns,
        || file.next_change_ns(),
        |hosts| {
            let ready = match hosts.first() {
                Some(row) => Readiness::from_bits_truncate(row.revents),
                None => file.ready(),
            };
            if ready.intersects(events | ALWAYS) { take() } else { None }
        },
    )
}

/// The row of a host poll for a file that stands for a host descriptor.
pub(crate) fn host_row(file: &dyn File, events: Readiness) -> Option<HostPoll> {
    file.host_fd().map(|fd| HostPoll { fd, events: events.bits(), revents: 0 })
}

/// Sends SIGPIPE to the calling thread, which wrote where nobody reads.
pub(crate) fn raise_sigpipe(ctx: &Ctx<'_>) {
    signal::raise_self(ctx, Signal::SIGPIPE);
}

/// Registration with sources, which ends when it is dropped.
struct Observing<'a> {
    sources: &'a [Source<'a>],
    observer: Weak<dyn Observer<Readiness>>,
}

impl<'a> Observing<'a> {
    fn begin(sources: &'a [Source<'a>], observer: Weak<dyn Observer<Readiness>>) -> Self {
        for source in sources {
            source.notifier.register(observer.clone(), source.events | ALWAYS);
        }
        Self { sources, observer }
    }
}

impl Drop for Observing<'_> {
    fn drop(&mut self) {
        for source in self.sources {
            source.notifier.unregister(&self.observer);
        }
    }
}
