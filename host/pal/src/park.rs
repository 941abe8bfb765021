//! Sleeping: one futex word and one eventfd per thread.
//!
//! An unpark is a token: it ends the current sleep, or the next one at once. A thread sleeps in a futex wait, or
//! in one `ppoll` over host descriptors and its eventfd, so that every sleep can be ended the same way.

use edge_abi::ocall::WirePoll;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// "No deadline" in OCALL arguments.
pub(crate) const FOREVER: u64 = u64::MAX;

/// How a thread sleeps and is woken.
pub(crate) struct Parker {
    token: AtomicU32,
    polling: AtomicBool,
    event: OwnedFd,
}

impl Parker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { token: AtomicU32::new(0), polling: AtomicBool::new(false), event })
    }

    /// Ends the current sleep or the next one.
    pub(crate) fn unpark(&self) {
        self.token.store(1, Ordering::SeqCst);
        if self.polling.load(Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eight readable bytes.
            unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
        } else {
            // SAFETY: the futex word is valid; FUTEX_WAKE reads no memory.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.token.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                )
            };
        }
    }

    /// Whether a token is there; takes it.
    fn take_token(&self) -> bool {
        self.token.swap(0, Ordering::SeqCst) != 0
    }

    /// Sleeps until unparked or the deadline (ns of CLOCK_MONOTONIC). Returns whether the deadline passed.
    pub(crate) fn park(&self, deadline_ns: u64) -> bool {
        if self.take_token() {
            return false;
        }
        let until = timespec(deadline_ns);
        let until = if deadline_ns == FOREVER { std::ptr::null() } else { &raw const until };
        // SAFETY: the futex word and the timespec are valid for the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.token.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                0,
                until,
                std::ptr::null::<u32>(),
                u32::MAX,
            )
        };
        let timed_out = result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT);
        !self.take_token() && timed_out
    }

    /// Waits for events on `rows`; an unpark ends it with EINTR. Returns the number of rows with events.
    pub(crate) fn poll(&self, rows: &mut [WirePoll], deadline_ns: u64) -> Result<u64, i32> {
        let mut fds: Vec<libc::pollfd> = rows
            .iter()
            .map(|row| libc::pollfd { fd: row.fd, events: row.events.cast_signed(), revents: 0 })
            .collect();
        fds.push(libc::pollfd { fd: self.event.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        self.polling.store(true, Ordering::SeqCst);
        let result =
            if self.token.load(Ordering::SeqCst) != 0 { Ok(()) } else { ppoll(&mut fds, deadline_ns) };
        self.polling.store(false, Ordering::SeqCst);
        let mut drained = 0u64;
        // SAFETY: eight writable bytes.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut drained).cast(), 8) };
        let woken = self.take_token();
        result?;
        let mut ready = 0;
        for (row, fd) in rows.iter_mut().zip(&fds) {
            row.revents = fd.revents.cast_unsigned();
            ready += u64::from(row.revents != 0);
        }
        if ready == 0 && woken { Err(libc::EINTR) } else { Ok(ready) }
    }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000).cast_signed(), tv_nsec: (ns % 1_000_000_000).cast_signed() }
}

/// ns of CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// ns of a clock.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

fn ppoll(fds: &mut [libc::pollfd], deadline_ns: u64) -> Result<(), i32> {
    let left = timespec(deadline_ns.saturating_sub(if deadline_ns == 0 { 0 } else { monotonic_ns() }));
    let left = if deadline_ns == FOREVER { std::ptr::null() } else { &raw const left };
    // SAFETY: the array and the timespec are valid for the call; no mask is passed.
    let result = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, left, std::ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_unpark_before_the_park_is_kept() {
        let parker = Parker::new().unwrap();
        parker.unpark();
        assert!(!parker.park(FOREVER));
    }

    #[test]
    fn a_deadline_in_the_past_times_out_at_once() {
        let parker = Parker::new().unwrap();
        assert!(parker.park(1));
    }

    #[test]
    fn an_unpark_ends_a_poll_with_eintr() {
        let parker = Arc::new(Parker::new().unwrap());
        let other = Arc::clone(&parker);
        let waker = std::thread::spawn(move || other.unpark());
        assert_eq!(parker.poll(&mut [], FOREVER), Err(libc::EINTR));
        waker.join().unwrap();
    }
}
