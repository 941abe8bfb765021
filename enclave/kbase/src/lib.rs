//! Errors, locks and typed user memory for the kernel and its file systems.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
pub mod event;
pub mod sync;
pub mod turns;
mod user;

pub use error::{Error, Result};
pub use linux_abi::Errno;
pub use user::{
    ByteSink, ByteSource, Part, SliceSink, SliceSource, UserAddr, UserPtr, UserSink, UserSource, UserSpace,
};

/// Fails with an errno and a note for the log.
#[macro_export]
macro_rules! bail {
    ($errno:ident, $note:literal) => {
        return Err($crate::Error::new($crate::Errno::$errno, $note))
    };
}
