//! Options of [`SOL_SOCKET`], which are all that there are.

use super::UnixSocket;
use crate::net::{put_option, time_limit};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::net::{Ucred, family};
use linux_abi::time::Timeval;
use vfs::Readiness;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a buffer unless a program says otherwise (net.core.wmem_default), and at most (net.core.wmem_max).
const BUFFER: usize = 212_992;
/// Bytes of a buffer at least (SOCK_MIN_SNDBUF).
const LEAST: usize = 4608;

/// What a program sets.
pub(super) struct Options {
    send_buffer: AtomicUsize,
    receive_buffer: AtomicUsize,
    passes_credentials: AtomicBool,
    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0: no limit.
    receive_limit_ns: AtomicU64,
    send_limit_ns: AtomicU64,
    /// Those that are on or off and mean nothing here, by number.
    switches: AtomicU64,
    priority: AtomicU32,
    linger: AtomicU64,
}

/// Options that are kept and mean nothing for a socket of the Unix domain.
const SWITCHES: [u32; 8] = [
    socket::DEBUG,
    socket::REUSEADDR,
    socket::DONTROUTE,
    socket::BROADCAST,
    socket::KEEPALIVE,
    socket::OOBINLINE,
    socket::NO_CHECK,
    socket::REUSEPORT,
];

impl Options {
    pub(super) const fn new() -> Self {
        Self {
            send_buffer: AtomicUsize::new(BUFFER),
            receive_buffer: AtomicUsize::new(BUFFER),
            passes_credentials: AtomicBool::new(false),
            receive_limit_ns: AtomicU64::new(0),
            send_limit_ns: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            priority: AtomicU32::new(0),
            linger: AtomicU64::new(0),
        }
    }

    /// Takes what an accepted socket has of its listener.
    pub(super) fn inherit(&self, listener: &Self) {
        self.passes_credentials.store(listener.passes_credentials(), Ordering::Relaxed);
    }

    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    pub(super) fn passes_credentials(&self) -> bool {
        self.passes_credentials.load(Ordering::Relaxed)
    }

    /// SO_OOBINLINE.
    pub(super) fn is_inline(&self) -> bool {
        self.switches.load(Ordering::Relaxed) & (1 << socket::OOBINLINE) != 0
    }

    /// How long a wait may take.
    pub(super) fn limit_ns(&self, events: Readiness) -> Option<u64> {
        let limit = if events.contains(Readiness::IN) { &self.receive_limit_ns } else { &self.send_limit_ns };
        Some(limit.load(Ordering::Relaxed)).filter(|&limit| limit != 0)
    }
}

/// Linux doubles what a program asks for, to pay for its own needs.
fn buffer(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX).min(BUFFER).saturating_mul(2).max(LEAST)
}

impl UnixSocket {
    pub(super) fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        if level != SOL_SOCKET {
            bail!(EOPNOTSUPP, "sockets of the Unix domain have no such level");
        }
        let options = &self.options;
        let narrow = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let number: u32 = match option {
            socket::TYPE => self.kind,
            socket::DOMAIN => family::UNIX.into(),
            socket::PROTOCOL => 0,
            socket::ERROR => match self.outside() {
                Some(host) => return host.get_option(level, option, value),
                None => self.take_error(),
            },
            socket::SNDBUF => narrow(options.send_buffer()),
            socket::RCVBUF => narrow(options.receive_buffer.load(Ordering::Relaxed)),
            socket::PASSCRED => options.passes_credentials().into(),
            socket::ACCEPTCONN => self.listener.lock().is_some().into(),
            socket::PRIORITY => options.priority.load(Ordering::Relaxed),
            socket::RCVLOWAT | socket::SNDLOWAT => 1,
            socket::PASSSEC | socket::TIMESTAMP | socket::TIMESTAMPNS | socket::RXQ_OVFL => 0,
            socket::PEERCRED => {
                let nobody = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                let credentials = self.link.get().map_or(nobody, |link| link.peer_credentials);
                return Ok(put_option(value, credentials.as_bytes()));
            }
            socket::RCVTIMEO | socket::RCVTIMEO_NEW => return Ok(put_time(value, &options.receive_limit_ns)),
            socket::SNDTIMEO | socket::SNDTIMEO_NEW => return Ok(put_time(value, &options.send_limit_ns)),
            socket::LINGER => {
                return Ok(put_option(value, &options.linger.load(Ordering::Relaxed).to_le_bytes()));
            }
            _ if SWITCHES.contains(&option) => {
                u32::from(options.switches.load(Ordering::Relaxed) & (1 << option) != 0)
            }
            _ => bail!(ENOPROTOOPT, "no such option"),
        };
        Ok(put_option(value, &number.to_le_bytes()))
    }

    pub(super) fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if level != SOL_SOCKET {
            bail!(EOPNOTSUPP, "sockets of the Unix domain have no such level");
        }
        let options = &self.options;
        match option {
            socket::RCVTIMEO | socket::RCVTIMEO_NEW => {
                options.receive_limit_ns.store(time_limit(value)?, Ordering::Relaxed);
                return Ok(());
            }
            socket::SNDTIMEO | socket::SNDTIMEO_NEW => {
                options.send_limit_ns.store(time_limit(value)?, Ordering::Relaxed);
                return Ok(());
            }
            _ => {}
        }
        let too_short = Error::new(Errno::EINVAL, "the value is too short");
        let (number, _) = u32::read_from_prefix(value).map_err(|_| too_short)?;
        match option {
            socket::SNDBUF | socket::SNDBUFFORCE => {
                options.send_buffer.store(buffer(number), Ordering::Relaxed);
                if let Some(link) = self.link.get() {
                    link.outgoing.set_capacity(options.send_buffer());
                }
                self.notifier.broadcast(&Readiness::OUT);
            }
            socket::RCVBUF | socket::RCVBUFFORCE => {
                options.receive_buffer.store(buffer(number), Ordering::Relaxed);
            }
            socket::PASSCRED => {
                options.passes_credentials.store(number != 0, Ordering::Relaxed);
                self.tell_passcred();
            }
            socket::PRIORITY => options.priority.store(number, Ordering::Relaxed),
            socket::LINGER => {
                let (linger, _) = u64::read_from_prefix(value).map_err(|_| too_short)?;
                options.linger.store(linger, Ordering::Relaxed);
            }
            _ if SWITCHES.contains(&option) => {
                let bit = 1u64 << option;
                if number == 0 {
                    options.switches.fetch_and(!bit, Ordering::Relaxed);
                } else {
                    options.switches.fetch_or(bit, Ordering::Relaxed);
                }
            }
            _ => bail!(ENOPROTOOPT, "no such option"),
        }
        Ok(())
    }

    /// SO_ERROR: what went wrong, once.
    fn take_error(&self) -> u32 {
        let is_reset = self.link.get().is_some_and(|link| link.outgoing.take_reset());
        if is_reset { u32::from(Errno::ECONNRESET.number()) } else { 0 }
    }
}

fn put_time(value: &mut [u8], limit_ns: &AtomicU64) -> usize {
    put_option(value, Timeval::from_ns(limit_ns.load(Ordering::Relaxed)).as_bytes())
}
