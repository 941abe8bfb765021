//! Waiting for many files at once: what `poll(2)`, `select(2)` and `epoll_wait(2)` stand on.

use super::OpenFile;
use super::wait::{ALWAYS, Source, wait_until};
use crate::Ctx;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result};
use platform::HostPoll;
use vfs::{Bands, Readiness};

/// POLLRDNORM, which comes with POLLIN.
const READ_NORMAL: u16 = 0x40;
/// POLLWRNORM and POLLWRBAND, which come with POLLOUT.
const WRITE_NORMAL: u16 = 0x100;
const WRITE_BAND: u16 = 0x200;

/// What the bits of `poll(2)` that a program gives wait for.
pub(crate) const fn waited_for(asked: u16) -> Readiness {
    let with_in = if asked & READ_NORMAL != 0 { Readiness::IN } else { Readiness::empty() };
    let with_out = if asked & (WRITE_NORMAL | WRITE_BAND) != 0 { Readiness::OUT } else { Readiness::empty() };
    Readiness::from_bits_truncate(asked).union(with_in).union(with_out)
}

/// The bits of `poll(2)` that a program is given, of those that it asked for.
pub(crate) fn told(found: Readiness, asked: u16, bands: Bands) -> u16 {
    let mut bits = found.bits();
    if found.contains(Readiness::IN) && bands != Bands::Plain {
        bits |= READ_NORMAL;
    }
    if found.contains(Readiness::OUT) {
        bits |= match bands {
            Bands::Plain => 0,
            Bands::Normal => WRITE_NORMAL,
            Bands::All => WRITE_NORMAL | WRITE_BAND,
        };
    }
    bits & (asked | ALWAYS.bits())
}

/// A file, and what is waited for.
pub(crate) struct Watched {
    /// The file.
    pub(crate) open: Arc<OpenFile>,
    /// Wanted.
    pub(crate) events: Readiness,
    /// Found.
    pub(crate) found: Readiness,
}

/// Looks at all files; waits until something is found, the deadline (CLOCK_MONOTONIC, ns; 0: do not wait) passed, or a
/// signal came. Returns how many files have something.
///
/// # Errors
/// ERESTARTNOHAND a signal came.
pub(crate) fn poll(ctx: &Ctx<'_>, watched: &mut [Watched], deadline_ns: Option<u64>) -> Result<usize> {
    let mut hosts = Vec::new();
    let mut host_of = Vec::new();
    for (index, watch) in watched.iter().enumerate() {
        if let Some(fd) = watch.open.file().host_fd() {
            hosts.push(HostPoll { fd, events: watch.events.bits(), revents: 0 });
            host_of.push(index);
        }
    }
    let sockets = &ctx.kernel.host_sockets;
    sockets.dispatch(ctx.platform());
    let mut found = look(watched, &host_of, &hosts);
    // Who does not sleep is told what the host knows now.
    if (found > 0 || deadline_ns == Some(0)) && sockets.fetch(ctx.platform()) {
        found = look(watched, &host_of, &hosts);
    }
    if found > 0 || deadline_ns == Some(0) {
        if hosts.is_empty() {
            return Ok(found);
        }
        ctx.platform().host_poll(&mut hosts, Some(0))?;
        return Ok(look(watched, &host_of, &hosts));
    }
    let files: Vec<Arc<OpenFile>> = watched.iter().map(|watch| Arc::clone(&watch.open)).collect();
    let wanted: Vec<Readiness> = watched.iter().map(|watch| watch.events).collect();
    let files_and_events = files.iter().zip(&wanted);
    let sources: Vec<Source<'_>> = files_and_events
        .filter_map(|(open, &events)| Some(Source { notifier: open.file().notifier()?, events }))
        .collect();
    let next_change = || {
        let timed = files.iter().zip(&wanted).filter(|(_, events)| events.contains(Readiness::IN));
        timed.filter_map(|(open, _)| open.file().next_change_ns()).min()
    };
    let result = wait_until(ctx, &sources, &mut hosts, deadline_ns, next_change, |hosts| {
        let found = look(watched, &host_of, hosts);
        (found > 0).then_some(found)
    });
    match result {
        Ok(found) => Ok(found.unwrap_or(0)),
        Err(error) if error.errno() == Errno::ERESTARTSYS => {
            Err(Error::new(Errno::ERESTARTNOHAND, "a signal came while polling"))
        }
        Err(error) => Err(error),
    }
}

fn look(watched: &mut [Watched], host_of: &[usize], hosts: &[HostPoll]) -> usize {
    let mut count = 0;
    let mut rows = host_of.iter().zip(hosts).peekable();
    for (index, watch) in watched.iter_mut().enumerate() {
        let ready = match rows.next_if(|&(&of, _)| of == index) {
            Some((_, row)) => Readiness::from_bits_truncate(row.revents),
            None => watch.open.file().ready(),
        };
        watch.found = ready & (watch.events | ALWAYS);
        count += usize::from(!watch.found.is_empty());
    }
    count
}
