//! OCALLs: one exit each, with the answer read once and bounded.

#[cfg(not(fuzzing))]
use crate::area;
#[cfg(fuzzing)]
use crate::fuzzing::{leave, place};
use crate::outside::Outside;
use edge_abi::ecall::HostRange;
use edge_abi::ocall::{EdgeFrame, Ocall};
use linux_abi::Errno;
use platform::{HostError, HostResult};

/// The channel of the calling thread to its host thread.
#[derive(Clone, Copy)]
pub struct Channel {
    frame: Outside,
    buffer: Outside,
}

impl Channel {
    /// The channel that the ECALL entry recorded; `None` outside of an ECALL.
    #[must_use]
    pub fn current() -> Option<Self> {
        let (frame, buffer) = place();
        let frame = Outside::new(HostRange { address: frame, len: size_of::<EdgeFrame>() as u64 })?;
        Some(Self { frame, buffer: Outside::new(buffer)? })
    }

    /// Bytes of the buffer.
    #[must_use]
    pub fn capacity(self) -> usize {
        self.buffer.len() as usize
    }

    /// Puts bytes into the buffer at `offset`.
    ///
    /// # Errors
    /// EMSGSIZE they do not fit.
    pub fn put(self, offset: usize, bytes: &[u8]) -> HostResult<()> {
        if self.buffer.store(offset as u64, bytes) { Ok(()) } else { Err(HostError(Errno::EMSGSIZE)) }
    }

    /// Takes bytes out of the buffer.
    ///
    /// # Errors
    /// EIO they are not there.
    pub fn take(self, offset: usize, into: &mut [u8]) -> HostResult<()> {
        if self.buffer.load(offset as u64, into) { Ok(()) } else { Err(HostError(Errno::EIO)) }
    }

    /// Takes a value out of the start of the buffer.
    ///
    /// # Errors
    /// EIO it is not there.
    pub fn take_value<T: zerocopy::FromBytes + zerocopy::IntoBytes>(self) -> HostResult<T> {
        self.take_value_at(0)
    }

    /// Takes a value out of the buffer at `offset`.
    ///
    /// # Errors
    /// EIO it is not there.
    pub fn take_value_at<T: zerocopy::FromBytes + zerocopy::IntoBytes>(self, offset: usize) -> HostResult<T> {
        self.buffer.read(offset as u64).ok_or(HostError(Errno::EIO))
    }

    /// Makes the call. A value above `most` breaks the protocol and is EIO.
    ///
    /// # Errors
    /// What the host answered, or EIO when the answer makes no sense.
    pub fn call(self, call: Ocall, args: [u64; 6], most: u64) -> HostResult<u64> {
        let (_, buffer) = place();
        let frame = EdgeFrame {
            number: call as u64,
            args,
            result: Errno::EIO.as_return(),
            buffer: buffer.address,
            buffer_len: buffer.len,
        };
        if !self.frame.write(0, &frame) {
            return Err(HostError(Errno::EIO));
        }
        leave();
        let offset = core::mem::offset_of!(EdgeFrame, result) as u64;
        let result: u64 = self.frame.read(offset).ok_or(HostError(Errno::EIO))?;
        check(result, most)
    }
}

/// Where the frame and the buffer of the calling thread are.
#[cfg(not(fuzzing))]
fn place() -> (u64, HostRange) {
    let (address, len) = (area::get::<{ area::BUFFER }>(), area::get::<{ area::BUFFER_LEN }>());
    (area::get::<{ area::FRAME }>(), HostRange { address, len })
}

/// Leaves the enclave; the host has answered when it returns.
#[cfg(not(fuzzing))]
fn leave() {
    crate::user::ensure_xstate_saved();
    // SAFETY: the xstate is saved, and the callers have filled the frame.
    unsafe { crate::entry::ocall_exit() };
}

/// Judges a result: a value of at most `most`, or a negated errno of the table.
fn check(result: u64, most: u64) -> HostResult<u64> {
    if result <= most {
        return Ok(result);
    }
    let errno = Errno::from_number(result.wrapping_neg()).unwrap_or(Errno::EIO);
    Err(HostError(errno))
}

/// Makes a call on the calling thread's channel.
///
/// # Errors
/// As [`Channel::call`].
pub fn call(call: Ocall, args: [u64; 6], most: u64) -> HostResult<u64> {
    Channel::current().ok_or(HostError(Errno::EIO))?.call(call, args, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_what_was_asked_is_refused() {
        assert_eq!(check(10, 10), Ok(10));
        assert_eq!(check(11, 10), Err(HostError(Errno::EIO)));
    }

    #[test]
    fn only_errnos_of_the_table_pass() {
        assert_eq!(check(Errno::ENOENT.as_return(), 0), Err(HostError(Errno::ENOENT)));
        assert_eq!(check(4000u64.wrapping_neg(), 0), Err(HostError(Errno::EIO)));
        assert_eq!(check(u64::MAX >> 1, 0), Err(HostError(Errno::EIO)));
    }
}
