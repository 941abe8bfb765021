//! Host descriptors.

use crate::location::Location;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use kbase::sync::Mutex;
use platform::{HostFd, Platform};

/// Most descriptors that stay open without being in use.
const MOST_OPEN: usize = 256;

/// An open host descriptor, closed when the last user is done.
pub(crate) struct Handle {
    platform: Arc<dyn Platform>,
    fd: HostFd,
}

impl Handle {
    pub(crate) fn new(platform: Arc<dyn Platform>, fd: HostFd) -> Self {
        Self { platform, fd }
    }

    /// The descriptor.
    pub(crate) const fn fd(&self) -> HostFd {
        self.fd
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
