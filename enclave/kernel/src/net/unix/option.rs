//! Options of the level SOL_SOCKET, which are all that there are.

use super::UnixSocket;
use crate::net::{put_option, time_limit};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::option::socket;
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
    /// Those of [`SWITCHES`], by number.
    switches: AtomicU64,
    priority: AtomicU32,
    linger: AtomicU64,
}

/// Options that are on or off. Most mean nothing for a socket of the Unix domain.
const SWITCHES: [u32; 11] = [
    socket::DEBUG,
    socket::REUSEADDR,
    socket::DONTROUTE,
    socket::BROADCAST,
    socket::KEEPALIVE,
    socket::OOBINLINE,
    socket::NO_CHECK,
    socket::REUSEPORT,
    socket::TIMESTAMP,
    socket::TIMESTAMPNS,
    socket::RXQ_OVFL,
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
        self.is_on(socket::OOBINLINE)
    }

    fn is_on(&self, option: u32) -> bool {
        self.switches.load(Ordering::Relaxed) & (1 << option) != 0
    }

    /// SO_TIMESTAMP or SO_TIMESTAMPNS, if one is on.
    pub(super) fn wanted_time(&self) -> Option<u32> {
        [socket::TIMESTAMP, socket::TIMESTAMPNS].into_iter().find(|&option| self.is_on(option))
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
            socket::PASSSEC => 0,
            socket::PEERCRED => {
                let nobody = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                let own = *self.credentials.lock();
                let credentials = self.link.get().map(|link| link.peer_credentials).or(own).unwrap_or(nobody);
                return Ok(put_option(value, credentials.as_bytes()));
            }
            socket::RCVTIMEO | socket::RCVTIMEO_NEW => return Ok(put_time(value, &options.receive_limit_ns)),
            socket::SNDTIMEO | socket::SNDTIMEO_NEW => return Ok(put_time(value, &options.send_limit_ns)),
            socket::LINGER => {
                return Ok(put_option(value, &options.linger.load(Ordering::Relaxed).to_le_bytes()));
            }
            _ if SWITCHES.contains(&option) => options.is_on(option).into(),
            _ => bail!(ENOPROTOOPT, "no such option"),
        };
        Ok(put_option(value, &number.to_le_bytes()))
    }

    pub(super) fn set_option(&self, option: u32, value: &[u8]) -> Result<()> {
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
            socket::REUSEPORT if number != 0 => bail!(EOPNOTSUPP, "only internet sockets share ports"),
            socket::TIMESTAMP | socket::TIMESTAMPNS => {
                // There is one at a time.
                options
                    .switches
                    .fetch_and(!(1 << socket::TIMESTAMP | 1 << socket::TIMESTAMPNS), Ordering::Relaxed);
                options.switches.fetch_or(u64::from(number != 0) << option, Ordering::Relaxed);
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
        if self.take_reset() { u32::from(Errno::ECONNRESET.number()) } else { 0 }
    }

    /// Whether the connection was reset, once.
    pub(super) fn take_reset(&self) -> bool {
        match self.link.get() {
            Some(link) => link.outgoing.take_reset(),
            None => self.is_left.load(Ordering::SeqCst) && self.is_left.swap(false, Ordering::SeqCst),
        }
    }
}

fn put_time(value: &mut [u8], limit_ns: &AtomicU64) -> usize {
    put_option(value, Timeval::from_ns(limit_ns.load(Ordering::Relaxed)).as_bytes())
}
