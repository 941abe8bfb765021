//! Socket options: what is answered here, what the host is asked for. `edge_abi::net::passes` lists what the host gets.

use super::HostSocket;
use crate::net::{put_option, time_limit};
use core::sync::atomic::Ordering;
use kbase::Result;
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::time::Timeval;
use zerocopy::IntoBytes;

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
                return Ok(put_option(value, &number.to_le_bytes()));
            }
            let limit = match option {
                socket::RCVTIMEO | socket::RCVTIMEO_NEW => Some(&self.receive_limit_ns),
                socket::SNDTIMEO | socket::SNDTIMEO_NEW => Some(&self.send_limit_ns),
                _ => None,
            };
            if let Some(limit) = limit {
                return Ok(put_option(value, Timeval::from_ns(limit.load(Ordering::Relaxed)).as_bytes()));
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
