//! Pipes.

use super::OpenFile;
use kbase::{Errno, Error, Result};

/// F_GETPIPE_SZ and F_SETPIPE_SZ.
///
/// # Errors
/// EBADF not a pipe.
pub(crate) fn pipe_size(_open: &OpenFile, _set: bool, _size: u32) -> Result<u64> {
    Err(Error::new(Errno::EBADF, "not a pipe"))
}
