//! Host descriptors.

use crate::location::Location;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use platform::{HostFd, Platform};

/// Most descriptors that stay open without being in use.
const MOST_OPEN: usize = 256;

/// An open host descriptor, closed when the last user is done.
pub(crate) struct Handle {
    platform: Arc<dyn Platform>,
    fd: HostFd,
    /// Why it is open for reading alone, if it is.
    read_only: Option<Errno>,
}

impl Handle {
    pub(crate) fn new(platform: &Arc<dyn Platform>, fd: HostFd, read_only: Option<Errno>) -> Arc<Self> {
        Arc::new(Self { platform: Arc::clone(platform), fd, read_only })
    }

    /// The descriptor.
    pub(crate) const fn fd(&self) -> HostFd {
        self.fd
    }

    /// Fails if it is open for reading alone.
    ///
    /// # Errors
    /// What the host said when it was to be opened for writing; EROFS.
    pub(crate) fn want_write(&self) -> Result<()> {
        self.read_only
            .map_or(Ok(()), |errno| Err(Error::new(errno, "the host's file is not open for writing")))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.platform.host_close(self.fd);
    }
}

/// The locations that keep a handle, oldest first.
#[derive(Default)]
pub(crate) struct OpenHandles {
    queue: Mutex<VecDeque<Weak<Location>>>,
}

impl OpenHandles {
    /// Notes that a location keeps a handle, and lets the oldest go when there are too many.
    pub(crate) fn keep(&self, location: &Arc<Location>) {
        let oldest = {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(location));
            if queue.len() > MOST_OPEN { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|weak| weak.upgrade()) {
            oldest.forget_handle();
        }
    }
}
