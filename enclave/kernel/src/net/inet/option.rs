//! Socket options: what is answered here, what the host is asked for. `edge_abi::net::passes` lists what the host gets.

use super::HostSocket;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::time::{NSEC_PER_SEC, Timeval};
use zerocopy::{FromBytes, IntoBytes};

impl HostSocket {
    /// `getsockopt(2)`: fills `value` and returns the length of what there is.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; EINVAL the value is too short.
    pub(crate) fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        if level == SOL_SOCKET {
            let number = match option {
                socket::TYPE => Some(self.kind),
                socket::PROTOCOL => Some(self.protocol),
                socket::DOMAIN => Some(self.family.into()),
                socket::PASSCRED | socket::PASSSEC => Some(0),
                _ => None,
            };
            if let Some(number) = number {
                return Ok(put(value, &number.to_le_bytes()));
            }
            let limit = match option {
                socket::RCVTIMEO | socket::RCVTIMEO_NEW => Some(&self.receive_limit_ns),
                socket::SNDTIMEO | socket::SNDTIMEO_NEW => Some(&self.send_limit_ns),
                _ => None,
            };
            if let Some(limit) = limit {
                return Ok(put(value, Timeval::from_ns(limit.load(Ordering::Relaxed)).as_bytes()));
            }
        }
        self.get_host_option(level, option, value)
    }

    /// The same of the host.
    pub(super) fn get_host_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        let before = self.pollee.before();
        let len = self.platform.host_get_option(self.fd, level, option, value)?;
        if (level, option) == (SOL_SOCKET, socket::ERROR) {
            // It is cleared, and so may be what the socket was ready for.
            self.pollee.is_unsure(before);
        }
        Ok(len)
    }

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; EINVAL the value is too short or makes no sense; EDOM a time limit
    /// that makes no sense; and what the host reports.
    pub(crate) fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if level == SOL_SOCKET {
            let limit = match option {
                socket::RCVTIMEO | socket::RCVTIMEO_NEW => Some(&self.receive_limit_ns),
                socket::SNDTIMEO | socket::SNDTIMEO_NEW => Some(&self.send_limit_ns),
                _ => None,
            };
            if let Some(limit) = limit {
                limit.store(time_limit(value)?, Ordering::Relaxed);
                return Ok(());
            }
            if option == socket::DEBUG && value.first() == Some(&0) {
                return Ok(());
            }
        }
        Ok(self.platform.host_set_option(self.fd, level, option, value)?)
    }
}

/// A time limit in nanoseconds; 0: none.
fn time_limit(value: &[u8]) -> Result<u64> {
    let Ok((time, _)) = Timeval::read_from_prefix(value) else {
        bail!(EINVAL, "the value is shorter than a time");
    };
    if !(0..1_000_000).contains(&time.tv_usec) {
        bail!(EDOM, "more microseconds than a second has");
    }
    if time.tv_sec < 0 {
        // Linux: do not wait.
        return Ok(1);
    }
    let limit = time.to_ns().ok_or(Error::new(Errno::EDOM, "a time that makes no sense"))?;
    // More than a century is for ever.
    Ok(if limit > NSEC_PER_SEC.saturating_mul(3_200_000_000) { 0 } else { limit })
}

/// Copies as much as there is room for.
fn put(into: &mut [u8], value: &[u8]) -> usize {
    for (to, from) in into.iter_mut().zip(value) {
        *to = *from;
    }
    into.len().min(value.len())
}
