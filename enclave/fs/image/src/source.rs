//! Where the bytes of the image file come from.

use core::fmt;
use core::ops::Deref;

use kbase::Result;
use platform::{ImageFile, Level, Log};

/// The image file as the host gives it: untrusted bytes.
pub trait BlockSource: Send + Sync {
    /// Bytes in the file, as the host says.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes into the enclave. Two reads of the same bytes may differ.
    ///
    /// # Errors
    /// EIO they cannot be had.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()>;

    /// Says in the log that the image is not what it should be.
    fn report(&self, line: fmt::Arguments<'_>);
}

/// The image file of a platform.
#[derive(Clone, Copy, Debug)]
pub struct PlatformSource<P>(pub P);

impl<P> BlockSource for PlatformSource<P>
where
    P: Deref + Send + Sync,
    P::Target: ImageFile + Log,
{
    fn len(&self) -> u64 {
        self.0.image_len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        Ok(self.0.image_read(offset, into)?)
    }

    fn report(&self, line: fmt::Arguments<'_>) {
        if self.0.level() >= Some(Level::Error) {
            self.0.log(Level::Error, line);
        }
    }
}
