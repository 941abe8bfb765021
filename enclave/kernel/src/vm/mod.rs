//! The memory of a process.

use alloc::sync::Arc;
use kbase::{Errno, Error, Result, UserAddr, UserSpace};
use platform::Platform;

/// An address space.
pub(crate) struct AddressSpace {
    platform: Arc<dyn Platform>,
}

impl AddressSpace {
    pub(crate) fn new(platform: Arc<dyn Platform>) -> Self {
        Self { platform }
    }
}

impl UserSpace for AddressSpace {
    fn load(&self, from: UserAddr, into: &mut [u8]) -> Result<()> {
        self.platform.user_load(from.0, into).map_err(|_| Error::new(Errno::EFAULT, "not readable"))
    }

    fn store(&self, into: UserAddr, from: &[u8]) -> Result<()> {
        self.platform.user_store(into.0, from).map_err(|_| Error::new(Errno::EFAULT, "not writable"))
    }

    fn zero(&self, _into: UserAddr, _len: u64) -> Result<()> {
        Err(Error::new(Errno::EFAULT, "not writable"))
    }

    fn load_u32(&self, from: UserAddr) -> Result<u32> {
        self.platform.user_load_u32(from.0).map_err(|_| Error::new(Errno::EFAULT, "not readable"))
    }

    fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32> {
        self.platform
            .user_compare_exchange_u32(at.0, current, new)
            .map_err(|_| Error::new(Errno::EFAULT, "not writable"))
    }
}
