//! System calls: one table ([`table`]), one file per family.
//!
//! A file reads like the man page: it takes typed arguments, checks what the man page says is checked, and
//! delegates. It holds no lock and does no pointer arithmetic.

mod arg;
mod attr;
mod clone;
mod dir;
mod epoll;
mod fcntl;
mod futex;
mod ids;
mod inotify;
mod ioprio;
mod kcmp;
mod link;
mod memory;
mod messages;
mod mqueue;
mod open;
mod path;
mod pidfd;
mod pipe;
mod poll;
mod prctl;
mod program;
mod rw;
mod sched;
mod shm;
mod signal;
mod socket;
mod space;
mod stat;
mod system;
mod sysv;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod timer;
mod timerfd;
mod trace;
mod transfer;
mod wait;
mod xattr;

pub(crate) use arg::{DirFd, Fd, UserStr, flag_args};
pub use table::TABLE;
pub(crate) use table::name;

use crate::Ctx;
use kbase::{Errno, Error, Result};
use platform::Level;

/// One more than the highest number that is counted and named.
pub(crate) const NUMBERS: usize = 480;

/// How far a system call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As the man page says.
    Full,
    /// Works, except for what is said here.
    Partial(&'static str),
    /// Answers ENOSYS.
    Missing,
}

/// Serves a system call and returns the value of RAX.
pub(crate) fn dispatch(ctx: &Ctx<'_>, number: u64, arguments: [u64; 6]) -> Result<u64> {
    ctx.kernel.statistics.count_call(number);
    if ctx.kernel.traces_calls {
        return trace::dispatch(ctx, number, arguments);
    }
    table::invoke(ctx, number, arguments)
}

/// A call that is not there: says so once per number.
#[cold]
fn missing(ctx: &Ctx<'_>, number: u64) -> Result<u64> {
    if ctx.kernel.statistics.is_first_call(number) {
        let name = name(number).unwrap_or("unknown");
        ctx.kernel.log(Level::Warn, format_args!("system call {number} ({name}) is not implemented"));
    }
    Err(Error::new(Errno::ENOSYS, "not implemented"))
}
