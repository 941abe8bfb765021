//! An epoll instance of the host.

use crate::park::{FOREVER, monotonic_ns, timespec};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Events fetched at once.
pub(crate) const BATCH: usize = 128;

/// Room for what is fetched at once.
pub(crate) type Events = [libc::epoll_event; BATCH];
pub(crate) const NO_EVENTS: Events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];

/// An instance.
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// EPOLL_CTL_ADD.
    ///
    /// # Errors
    /// EEXIST, ENOSPC, ENOMEM, EPERM, EBADF.
    pub(crate) fn add(&self, fd: i32, events: i32, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, data)
    }

    /// EPOLL_CTL_DEL.
    ///
    /// # Errors
    /// ENOENT, EBADF.
    pub(crate) fn remove(&self, fd: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: i32, events: i32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
        // SAFETY: a valid event.
        let result = unsafe { libc::epoll_ctl(self.fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for events: their data and bits. The deadline is as for parks, 0: does not wait. None when a signal came.
    pub(crate) fn wait<'a>(
        &self,
        events: &'a mut Events,
        deadline_ns: u64,
    ) -> impl Iterator<Item = (u64, u32)> + use<'a> {
        let left = deadline_ns.saturating_sub(if deadline_ns == 0 { 0 } else { monotonic_ns() });
        let time = timespec(left);
        let time = if deadline_ns == FOREVER { std::ptr::null() } else { &raw const time };
        // SAFETY: an array of its length and a valid time; no mask is passed.
        let mut count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd(),
                events.as_mut_ptr(),
                BATCH,
                time,
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        if count < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            // Linux before 5.11: milliseconds, rounded up.
            let rounded = i32::try_from(left.div_ceil(1_000_000)).unwrap_or(i32::MAX);
            let timeout = if deadline_ns == FOREVER { -1 } else { rounded };
            // SAFETY: an array of its length.
            count = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), BATCH as i32, timeout) }.into();
        }
        events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| (event.u64, event.events))
    }
}
