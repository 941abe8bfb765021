//! Sleeping: one futex word per thread, and one eventfd for each that ever slept on descriptors.
//!
//! An unpark is a token: it ends the current sleep, or the next one at once. A thread sleeps in a futex wait, in one
//! `ppoll` over host descriptors and its eventfd, or in an epoll instance that has the eventfd ([`crate::readiness`]), so that every
//! sleep can be ended the same way.

use edge_abi::ocall::WirePoll;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// "No deadline" in OCALL arguments.
pub(crate) const FOREVER: u64 = u64::MAX;

/// The futex word of who was unparked.
const TOKEN: u32 = 1;
/// The sleep is in the futex.
const FUTEX: i32 = -1;

/// How a thread sleeps and is woken.
pub(crate) struct Parker {
    word: AtomicU32,
    /// The eventfd that ends the present sleep, or [`FUTEX`].
    wake_fd: AtomicI32,
    /// Made when it is needed for the first time, and kept: who wakes the thread may still have its number.
    event: OnceLock<OwnedFd>,
}

impl Parker {
    pub(crate) const fn new() -> Self {
        Self { word: AtomicU32::new(0), wake_fd: AtomicI32::new(FUTEX), event: OnceLock::new() }
    }

    /// The eventfd.
    pub(crate) fn event(&self) -> Result<i32, i32> {
        if let Some(event) = self.event.get() {
            return Ok(event.as_raw_fd());
        }
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EMFILE));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(self.event.get_or_init(|| event).as_raw_fd())
    }

    /// Ends the current sleep or the next one.
    pub(crate) fn unpark(&self) {
        self.word.store(TOKEN, Ordering::SeqCst);
        match self.wake_fd.load(Ordering::SeqCst) {
            FUTEX => {
                // SAFETY: the futex word is valid; FUTEX_WAKE reads no memory.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        self.word.as_ptr(),
                        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                        1,
                    )
                };
            }
            fd => signal(fd),
        }
    }

    /// Whether a token is there; takes it.
    pub(crate) fn take_token(&self) -> bool {
        self.word.swap(0, Ordering::SeqCst) == TOKEN
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
                self.word.as_ptr(),
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

    /// Sleeps in `sleep`, which a write to the eventfd `fd` ends, unless a token is there.
    pub(crate) fn with_wake_fd<T>(&self, fd: i32, sleep: impl FnOnce() -> T) -> Option<T> {
        self.wake_fd.store(fd, Ordering::SeqCst);
        let has_token = self.word.load(Ordering::SeqCst) == TOKEN;
        let value = if has_token { None } else { Some(sleep()) };
        self.wake_fd.store(FUTEX, Ordering::SeqCst);
        value
    }

    /// Waits for events on `rows`; an unpark ends it with EINTR, and so does `other` when it is readable. Returns the number of
    /// rows with events.
    pub(crate) fn poll(
        &self,
        rows: &mut [WirePoll],
        deadline_ns: u64,
        other: Option<i32>,
    ) -> Result<u64, i32> {
        let mut fds: Vec<libc::pollfd> = rows
            .iter()
            .map(|row| libc::pollfd { fd: row.fd, events: row.events.cast_signed(), revents: 0 })
            .collect();
        if deadline_ns == 0 {
            // A look is no sleep: it takes no token.
            ppoll(&mut fds, 0)?;
            return Ok(found(rows, &fds));
        }
        let event = self.event()?;
        fds.push(libc::pollfd { fd: event, events: libc::POLLIN, revents: 0 });
        fds.extend(other.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }));
        let result = self.with_wake_fd(event, || ppoll(&mut fds, deadline_ns));
        let mut drained = 0u64;
        // SAFETY: eight writable bytes.
        unsafe { libc::read(event, (&raw mut drained).cast(), 8) };
        let woken = self.take_token();
        result.unwrap_or(Ok(()))?;
        let ready = found(rows, &fds);
        let is_other_ready = other.is_some() && fds.last().is_some_and(|last| last.revents != 0);
        if ready == 0 && (woken || is_other_ready) { Err(libc::EINTR) } else { Ok(ready) }
    }
}

/// Copies what was found; returns the number of rows with events.
fn found(rows: &mut [WirePoll], fds: &[libc::pollfd]) -> u64 {
    let mut ready = 0;
    for (row, fd) in rows.iter_mut().zip(fds) {
        row.revents = fd.revents.cast_unsigned();
        ready += u64::from(row.revents != 0);
    }
    ready
}

/// Adds to an eventfd.
fn signal(event: i32) {
    let one = 1u64;
    // SAFETY: eight readable bytes.
    unsafe { libc::write(event, (&raw const one).cast(), 8) };
}

pub(crate) fn timespec(ns: u64) -> libc::timespec {
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
        let parker = Parker::new();
        parker.unpark();
        assert!(!parker.park(FOREVER));
    }

    #[test]
    fn a_deadline_in_the_past_times_out_at_once() {
        let parker = Parker::new();
        assert!(parker.park(1));
    }

    #[test]
    fn a_look_leaves_the_token() {
        let parker = Parker::new();
        parker.unpark();
        assert_eq!(parker.poll(&mut [], 0, None), Ok(0));
        assert!(!parker.park(FOREVER));
    }

    #[test]
    fn an_unpark_ends_a_poll_with_eintr() {
        let parker = Arc::new(Parker::new());
        let other = Arc::clone(&parker);
        let waker = std::thread::spawn(move || other.unpark());
        assert_eq!(parker.poll(&mut [], FOREVER, None), Err(libc::EINTR));
        waker.join().unwrap();
    }
}
