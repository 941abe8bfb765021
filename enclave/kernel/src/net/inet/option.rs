//! Socket options: what is kept here, and what the host is asked for.
//!
//! [`rule`] lists what is kept. While a socket has none of the host's, such an option is only remembered; when it gets one, what
//! was remembered is set there. Where both are, both have it. Any other option needs a socket of the host, which
//! `edge_abi::net::passes` decides about.

use super::InetSocket;
use super::host::HostSocket;
use crate::net::{put_option, time_limit};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::option::{SOL_SOCKET, ip, ipv6, socket, tcp, udp};
use linux_abi::net::{Ucred, family, kind, protocol};
use linux_abi::time::Timeval;
use vfs::Readiness;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a buffer at most, unless it grew by itself (net.core.wmem_max).
const BUFFER_MAX: u32 = 212_992;
/// Bytes that a stream in the enclave holds, unless a program says otherwise.
const STREAM_BUFFER: usize = 512 * 1024;

/// What a program sets.
pub(super) struct Options {
    kept: Mutex<BTreeMap<(u32, u32), Value>>,
    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0: no limit.
    receive_limit_ns: AtomicU64,
    send_limit_ns: AtomicU64,
    /// SO_OOBINLINE.
    pub(super) is_urgent_inline: AtomicBool,
}

/// A number, or the two of SO_LINGER.
type Value = u64;

impl Options {
    pub(super) const fn new() -> Self {
        Self {
            kept: Mutex::new(BTreeMap::new()),
            receive_limit_ns: AtomicU64::new(0),
            send_limit_ns: AtomicU64::new(0),
            is_urgent_inline: AtomicBool::new(false),
        }
    }

    /// What an accepted socket has of its listener: everything.
    pub(super) fn inherit(&self, listener: &Self) {
        let kept = listener.kept.lock().clone();
        *self.kept.lock() = kept;
        for (mine, its) in [
            (&self.receive_limit_ns, &listener.receive_limit_ns),
            (&self.send_limit_ns, &listener.send_limit_ns),
        ] {
            mine.store(its.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let is_inline = listener.is_urgent_inline.load(Ordering::Relaxed);
        self.is_urgent_inline.store(is_inline, Ordering::Relaxed);
    }

    fn kept(&self, level: u32, option: u32) -> Option<Value> {
        self.kept.lock().get(&(level, option)).copied()
    }

    pub(super) fn is_on(&self, level: u32, option: u32) -> bool {
        self.kept(level, option).is_some_and(|value| value != 0)
    }

    /// The socket has an address of version 6, and so no part in version 4.
    pub(super) fn leave_version_4(&self) {
        self.kept.lock().insert((protocol::IPV6, ipv6::V6ONLY), 1);
    }

    /// A number, or the default of the caller.
    pub(super) fn number(&self, level: u32, option: u32, default: u32) -> u32 {
        self.kept(level, option).and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    }

    /// Bytes of the buffer of one direction of a stream, if a program said so.
    fn buffer(&self, option: u32) -> Option<usize> {
        usize::try_from(self.kept(SOL_SOCKET, option)?).ok()
    }

    /// Bytes of datagrams that may wait.
    pub(super) fn receive_buffer(&self) -> usize {
        self.buffer(socket::RCVBUF).unwrap_or(BUFFER_MAX as usize)
    }

    /// Bytes that may be under way from this socket to another.
    pub(super) fn capacity_to(&self, receiver: &Self) -> usize {
        match (self.buffer(socket::SNDBUF), receiver.buffer(socket::RCVBUF)) {
            (None, None) => STREAM_BUFFER,
            (sending, receiving) => {
                let half = STREAM_BUFFER / 2;
                sending.unwrap_or(half).saturating_add(receiving.unwrap_or(half))
            }
        }
    }

    /// How long a wait may take.
    pub(super) fn limit_ns(&self, events: Readiness) -> Option<u64> {
        let limit = if events.contains(Readiness::IN) { &self.receive_limit_ns } else { &self.send_limit_ns };
        Some(limit.load(Ordering::Relaxed)).filter(|&limit| limit != 0)
    }

    /// Whether closing is to be a reset (SO_LINGER with no time).
    pub(super) fn aborts(&self) -> bool {
        self.kept(SOL_SOCKET, socket::LINGER) == Some(1)
    }

    /// Sets what is kept at a socket of the host, which may refuse.
    pub(super) fn replay(&self, host: &HostSocket, its: (u16, u32)) {
        let kept: Vec<((u32, u32), Value)> =
            self.kept.lock().iter().map(|(&option, &value)| (option, value)).collect();
        for ((level, option), value) in kept {
            let bytes = value.to_le_bytes();
            let value = match rule(its, level, option) {
                Some(Rule::Linger) => &bytes[..],
                // The host doubles it again.
                Some(Rule::Buffer { .. }) => &(value / 2).to_le_bytes()[..4],
                _ => &bytes[..4],
            };
            // What the host does not want to know concerns the enclave alone.
            let _ = host.set_option(level, option, value);
        }
    }
}

/// What values an option has.
#[derive(Clone, Copy)]
enum Rule {
    /// On or off.
    Switch(bool),
    /// A number.
    Number { least: i32, most: i32, default: i32 },
    /// Bytes of a buffer.
    Buffer { least: u32, default: u32 },
    /// `struct linger`.
    Linger,
}

const fn number(least: i32, most: i32, default: i32) -> Option<Rule> {
    Some(Rule::Number { least, most, default })
}

/// The rule of an option that is kept; `None`: it is the host's alone.
fn rule((of_family, of_kind): (u16, u32), level: u32, option: u32) -> Option<Rule> {
    let is_stream = of_kind == kind::STREAM;
    match level {
        SOL_SOCKET => match option {
            socket::REUSEADDR | socket::REUSEPORT | socket::DONTROUTE | socket::BROADCAST => {
                Some(Rule::Switch(false))
            }
            socket::KEEPALIVE | socket::OOBINLINE | socket::NO_CHECK => Some(Rule::Switch(false)),
            socket::TIMESTAMP | socket::TIMESTAMPNS | socket::RXQ_OVFL => Some(Rule::Switch(false)),
            socket::PRIORITY => number(0, 6, 0),
            socket::RCVLOWAT => number(0, i32::MAX, 1),
            socket::LINGER => Some(Rule::Linger),
            socket::SNDBUF if is_stream => Some(Rule::Buffer { least: 4608, default: 16_384 }),
            socket::RCVBUF if is_stream => Some(Rule::Buffer { least: 2304, default: 131_072 }),
            socket::SNDBUF => Some(Rule::Buffer { least: 4608, default: BUFFER_MAX }),
            socket::RCVBUF => Some(Rule::Buffer { least: 2304, default: BUFFER_MAX }),
            _ => None,
        },
        protocol::TCP if is_stream => match option {
            tcp::NODELAY | tcp::CORK | tcp::FASTOPEN_CONNECT => Some(Rule::Switch(false)),
            tcp::QUICKACK => Some(Rule::Switch(true)),
            tcp::KEEPIDLE => number(1, 32_767, 7200),
            tcp::KEEPINTVL => number(1, 32_767, 75),
            tcp::KEEPCNT => number(1, 127, 9),
            tcp::SYNCNT => number(1, 127, 6),
            tcp::LINGER2 => number(-1, i32::MAX, 60),
            tcp::DEFER_ACCEPT | tcp::USER_TIMEOUT | tcp::FASTOPEN => number(0, i32::MAX, 0),
            _ => None,
        },
        protocol::UDP if !is_stream => match option {
            udp::SEGMENT => number(0, 65_535, 0),
            udp::GRO | udp::CORK => Some(Rule::Switch(false)),
            _ => None,
        },
        protocol::IP => match option {
            ip::PKTINFO | ip::RECVERR | ip::RECVTTL | ip::RECVTOS | ip::FREEBIND => Some(Rule::Switch(false)),
            ip::BIND_ADDRESS_NO_PORT => Some(Rule::Switch(false)),
            ip::MULTICAST_LOOP | ip::MULTICAST_ALL => Some(Rule::Switch(true)),
            ip::TOS => number(0, 255, 0),
            ip::TTL => number(1, 255, 64),
            ip::MINTTL => number(0, 255, 0),
            ip::MULTICAST_TTL => number(0, 255, 1),
            ip::MTU_DISCOVER => number(0, 5, 1),
            _ => None,
        },
        protocol::IPV6 if of_family == family::INET6 => match option {
            ipv6::V6ONLY | ipv6::RECVERR | ipv6::RECVPKTINFO | ipv6::RECVHOPLIMIT => {
                Some(Rule::Switch(false))
            }
            ipv6::RECVTCLASS | ipv6::FREEBIND | ipv6::DONTFRAG => Some(Rule::Switch(false)),
            ipv6::MULTICAST_LOOP | ipv6::MULTICAST_ALL => Some(Rule::Switch(true)),
            ipv6::UNICAST_HOPS => number(0, 255, 64),
            ipv6::MULTICAST_HOPS => number(0, 255, 1),
            ipv6::TCLASS => number(0, 255, 0),
            ipv6::MTU_DISCOVER => number(0, 5, 1),
            _ => None,
        },
        _ => None,
    }
}

impl Rule {
    /// The value that is kept of what a program gives.
    fn read(self, (level, option): (u32, u32), value: &[u8]) -> Result<Value> {
        let short = Error::new(Errno::EINVAL, "the value is too short");
        let given = match (i32::read_from_prefix(value), value.first()) {
            // ip(7) takes a byte, too, or nothing for none.
            (Err(_), Some(&byte)) if level == protocol::IP => byte.into(),
            (Err(_), None) if level == protocol::IP && !matches!(self, Self::Switch(true)) => 0,
            // The rest of a class is not looked at.
            (Ok((number, _)), _) if (level, option) == (protocol::IP, ip::TOS) => number & 0xff,
            (Ok((number, _)), _) => number,
            _ => return Err(short),
        };
        let has_none = [
            (protocol::IP, ip::MTU_DISCOVER),
            (protocol::IP, ip::MINTTL),
            (protocol::IPV6, ipv6::MTU_DISCOVER),
            (protocol::UDP, udp::SEGMENT),
        ];
        let has_default = level != protocol::TCP && !has_none.contains(&(level, option));
        let kept: u32 = match self {
            Self::Switch(_) => (given != 0).into(),
            // What ends no wait earlier than a byte.
            Self::Number { least: 0, default: 1, most: i32::MAX } => given.max(1).cast_unsigned(),
            // -1: what it was before.
            Self::Number { default, .. } if given == -1 && has_default => default.cast_unsigned(),
            Self::Number { least, most, .. } if (least..=most).contains(&given) => given.cast_unsigned(),
            Self::Number { .. } => bail!(EINVAL, "no such value"),
            Self::Buffer { least, .. } => {
                (given.cast_unsigned().min(BUFFER_MAX)).saturating_mul(2).max(least)
            }
            Self::Linger => {
                let (seconds, _) = <[u32; 2]>::read_from_prefix(value).map_err(|_| short)?;
                return Ok(u64::from(seconds[0] != 0) | u64::from(seconds[1]) << 32);
            }
        };
        Ok(kept.into())
    }

    const fn default(self) -> Value {
        match self {
            Self::Switch(on) => on as u64,
            Self::Number { default, .. } => default.cast_unsigned() as u64,
            Self::Buffer { default, .. } => default as u64,
            Self::Linger => 0,
        }
    }
}

impl InetSocket {
    fn limit_of(&self, level: u32, option: u32) -> Option<&AtomicU64> {
        match (level, option) {
            (SOL_SOCKET, socket::RCVTIMEO | socket::RCVTIMEO_NEW) => Some(&self.options.receive_limit_ns),
            (SOL_SOCKET, socket::SNDTIMEO | socket::SNDTIMEO_NEW) => Some(&self.options.send_limit_ns),
            _ => None,
        }
    }

    /// What the kernel knows of a socket of any kind.
    fn own_number(&self, option: u32) -> Option<u32> {
        match option {
            socket::TYPE => Some(self.kind),
            socket::PROTOCOL => Some(self.protocol),
            socket::DOMAIN => Some(self.family.into()),
            socket::PASSCRED | socket::PASSSEC | socket::DEBUG | socket::INCOMING_NAPI_ID => Some(0),
            _ => None,
        }
    }

    /// `getsockopt(2)`: fills `value` and returns the length of what there is.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; EINVAL the value is too short.
    pub(super) fn get_any_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        if let Some(limit) = self.limit_of(level, option) {
            return Ok(put_option(value, Timeval::from_ns(limit.load(Ordering::Relaxed)).as_bytes()));
        }
        if level == SOL_SOCKET
            && let Some(number) = self.own_number(option)
        {
            return Ok(put_option(value, &number.to_le_bytes()));
        }
        match (level, option) {
            // Nobody is known to be on the other side.
            (SOL_SOCKET, socket::PEERCRED) => {
                let nobody = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                return Ok(put_option(value, nobody.as_bytes()));
            }
            // There are none, and a server may want to know that of who connects.
            (protocol::IP, ip::OPTIONS) => return Ok(0),
            _ => {}
        }
        if self.is_hosts() {
            return self.attach()?.get_option(level, option, value);
        }
        let number: u32 = match (level, option) {
            (SOL_SOCKET, socket::ERROR) => match (self.take_error(), self.host()) {
                (Some(errno), _) => errno.number().into(),
                (None, Some(host)) if self.kind == kind::DGRAM => {
                    return host.get_option(level, option, value);
                }
                (None, _) => 0,
            },
            (SOL_SOCKET, socket::ACCEPTCONN) => self.listens().into(),
            (SOL_SOCKET, socket::SNDLOWAT) => 1,
            (protocol::TCP, tcp::INFO) if self.kind == kind::STREAM => {
                return Ok(put_option(value, &self.tcp_info()));
            }
            (protocol::TCP, tcp::CONGESTION) if self.kind == kind::STREAM => {
                return Ok(put_option(value, b"cubic\0\0\0\0\0\0\0\0\0\0\0"));
            }
            (protocol::TCP, tcp::MAXSEG) if self.kind == kind::STREAM => {
                if self.has_link() {
                    65_483
                } else {
                    536
                }
            }
            (protocol::IP, ip::MTU) if self.has_link() => 65_536,
            _ => {
                if let Some(rule) = rule((self.family, self.kind), level, option) {
                    let kept = self.options.kept(level, option).unwrap_or(rule.default());
                    let bytes = kept.to_le_bytes();
                    let len = match rule {
                        Rule::Linger => 8,
                        // ip(7) gives a byte where there is no room for a number.
                        _ if level == protocol::IP && (1..4).contains(&value.len()) && kept <= 255 => 1,
                        _ => 4,
                    };
                    return Ok(put_option(value, bytes.get(..len).unwrap_or_default()));
                }
                if self.has_link() {
                    bail!(ENOPROTOOPT, "no such option of a connection inside of the enclave");
                }
                return self.attach()?.get_option(level, option, value);
            }
        };
        Ok(put_option(value, &number.to_le_bytes()))
    }

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// ENOPROTOOPT no such option, or it does not pass; EINVAL the value is too short or makes no sense; EDOM a time limit
    /// that makes no sense; and what the host reports.
    pub(super) fn set_any_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        if let Some(limit) = self.limit_of(level, option) {
            limit.store(time_limit(value)?, Ordering::Relaxed);
            return Ok(());
        }
        if (level, option) == (SOL_SOCKET, socket::DEBUG) && value.first() == Some(&0) {
            return Ok(());
        }
        if self.is_hosts() {
            return self.attach()?.set_option(level, option, value);
        }
        let option = match (level, option) {
            (SOL_SOCKET, socket::SNDBUFFORCE) => socket::SNDBUF,
            (SOL_SOCKET, socket::RCVBUFFORCE) => socket::RCVBUF,
            _ => option,
        };
        let Some(rule) = rule((self.family, self.kind), level, option) else {
            if self.has_link() {
                if (level, option) == (protocol::TCP, tcp::CONGESTION) {
                    return Ok(());
                }
                bail!(ENOPROTOOPT, "no such option of a connection inside of the enclave");
            }
            return self.attach()?.set_option(level, option, value);
        };
        let kept = rule.read((level, option), value)?;
        if (level, option) == (protocol::IPV6, ipv6::V6ONLY) && self.local().is_some() {
            bail!(EINVAL, "the socket is bound");
        }
        if let Some(host) = self.host()
            && !self.has_link()
        {
            host.set_option(level, option, value)?;
        }
        self.options.kept.lock().insert((level, option), kept);
        if (level, option) == (SOL_SOCKET, socket::OOBINLINE) {
            self.options.is_urgent_inline.store(kept != 0, Ordering::Relaxed);
        }
        if (level, option) == (SOL_SOCKET, socket::SNDBUF) {
            self.resize();
        }
        if (level, option) == (protocol::UDP, udp::CORK) && kept == 0 {
            self.uncork()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
