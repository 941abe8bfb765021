//! Which sockets of the host are streams of the ring, and their calls that are otherwise than those of the others.
//!
//! A stream joins when it is connected. Those of whose urgent data somebody wants to hear do not, or leave: the ring does not tell
//! of these, and signals are for who does not look.

use super::host::{HostSocket, Wait};
use super::io::sendable;
use super::ringed::RingStream;
use super::socket::Nowhere;
use crate::net::put_option;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::sync::Once;
use kbase::{ByteSink, ByteSource, Errno, Result};
use linux_abi::net::option::{SOL_SOCKET, socket, tcp};
use linux_abi::net::{MessageFlags, family, ioctl, protocol};
use vfs::Readiness;
use zerocopy::FromBytes;

/// What decides whether a socket joins, and what it takes along.
#[derive(Default)]
pub(super) struct Joining {
    stream: Once<Arc<RingStream>>,
    /// It is to be none.
    stays_out: AtomicBool,
    /// It is none any more. What it received before it left is still there.
    has_left: AtomicBool,
    /// SO_LINGER: whether it is on, and seconds above.
    linger: AtomicU64,
}

impl Joining {
    /// What an accepted socket has of its listener.
    pub(super) fn inherit(&self, listener: &Self) {
        self.stays_out.store(listener.stays_out.load(Ordering::Relaxed), Ordering::Relaxed);
        self.linger.store(listener.linger.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl HostSocket {
    /// The stream of the ring that it is, if it is one.
    pub(super) fn stream(&self) -> Option<&RingStream> {
        let stream = self.joining.stream.get()?;
        (!self.joining.has_left.load(Ordering::SeqCst)).then_some(&**stream)
    }

    /// What a stream received before it left the ring.
    pub(super) fn left_behind(&self) -> Option<&RingStream> {
        if !self.joining.has_left.load(Ordering::SeqCst) {
            return None;
        }
        self.joining.stream.get().filter(|stream| stream.readable().0 > 0).map(|stream| &**stream)
    }

    /// Leaves the ring, if that can be, and does not join again. Whether it is no stream of the ring.
    pub(super) fn leave(&self) -> bool {
        self.joining.stays_out.store(true, Ordering::Relaxed);
        let Some(stream) = self.stream() else { return true };
        let has_left = stream.leave();
        if has_left {
            self.joining.has_left.store(true, Ordering::SeqCst);
        }
        has_left
    }

    /// It is connected: from now on its data go through the ring, if there is one with room and nothing is against it.
    pub(super) fn join(&self) {
        let is_internet = matches!(self.family, family::INET | family::INET6);
        if !self.is_stream() || !is_internet || self.joining.stays_out.load(Ordering::Relaxed) {
            return;
        }
        let streams = &self.sockets.streams;
        if self.stream().is_some() || !streams.has_room(&*self.platform) {
            return;
        }
        let its = (self.fd, streams.next_token());
        let new = RingStream::new(&self.platform, &self.sockets, self.notifier(), its);
        let stream = self.joining.stream.call_once(|| Arc::clone(&new));
        if !Arc::ptr_eq(stream, &new) {
            return;
        }
        streams.add(stream);
        let linger = self.joining.linger.load(Ordering::Relaxed);
        stream.set_linger(linger & 1 != 0, (linger >> 32) as u32);
        self.ends_watch();
        stream.want_more();
        self.platform.ring_kick();
        // Who waits for it was told by the host before.
        self.notifier().broadcast(&Readiness::all());
    }

    /// A socket that was being connected and has sent is connected.
    pub(super) fn join_if_connected(&self, sent: &Result<usize>) {
        if matches!(sent, Ok(1..)) && self.is_stream() {
            self.join();
        }
    }

    /// An option was set.
    pub(super) fn note_option(&self, level: u32, option: u32, value: &[u8]) {
        let is_on = value.iter().take(4).any(|&byte| byte != 0);
        match (level, option) {
            (SOL_SOCKET, socket::LINGER) => {
                let (seconds, _) = <[u32; 2]>::read_from_prefix(value).unwrap_or_default();
                let linger = u64::from(seconds[0] != 0) | u64::from(seconds[1]) << 32;
                self.joining.linger.store(linger, Ordering::Relaxed);
                if let Some(stream) = self.stream() {
                    stream.set_linger(seconds[0] != 0, seconds[1]);
                }
            }
            (SOL_SOCKET, socket::OOBINLINE) | (protocol::TCP, tcp::FASTOPEN_CONNECT) if is_on => {
                let was_in = self.stream().is_some();
                if self.leave() && was_in {
                    // Who waits for it was told by the ring before.
                    self.watch_for(None);
                    self.notifier().broadcast(&Readiness::all());
                }
            }
            _ => {}
        }
    }

    /// SO_ERROR of a stream that broke: the length of the value.
    pub(super) fn error_of_stream(&self, level: u32, option: u32, value: &mut [u8]) -> Option<usize> {
        if (level, option) != (SOL_SOCKET, socket::ERROR) {
            return None;
        }
        let errno = self.stream()?.take_error()?;
        Some(put_option(value, &u32::from(errno.number()).to_le_bytes()))
    }

    /// `ioctl(2)` that answers with a number of bytes: those here and those that the host has.
    pub(super) fn number_with_stream(&self, request: u32, ask: impl Fn(u32) -> Result<u32>) -> Result<u32> {
        if let Some(stream) = self.left_behind()
            && request == ioctl::SIOCINQ
        {
            let here = u32::try_from(stream.readable().0).unwrap_or(u32::MAX);
            return Ok(ask(request)?.saturating_add(here));
        }
        let Some(stream) = self.stream() else { return ask(request) };
        let here = match request {
            ioctl::SIOCINQ => {
                self.sockets.dispatch(&*self.platform);
                let (here, may_be_more) = stream.readable();
                if !may_be_more {
                    return Ok(u32::try_from(here).unwrap_or(u32::MAX));
                }
                here
            }
            ioctl::SIOCOUTQ => stream.unsent(),
            _ => 0,
        };
        Ok(ask(request)?.saturating_add(u32::try_from(here).unwrap_or(u32::MAX)))
    }

    /// `send(2)` on a stream of the ring.
    pub(super) fn send_in_ring(
        &self,
        stream: &RingStream,
        from: &mut dyn ByteSource,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        let host_flags = sendable(flags)?;
        if host_flags.intersects(MessageFlags::OOB | MessageFlags::FASTOPEN | MessageFlags::DONTROUTE) {
            self.is_all_sent(stream, wait)?;
            return self.send_by_call(from, host_flags, wait);
        }
        persist(Readiness::OUT, wait, || {
            let sent = stream.send(from, host_flags.contains(MessageFlags::MORE))?;
            Ok((sent, sent == 0 || from.remaining() == 0))
        })
    }

    /// Waits until the host has all that was sent before: what is sent by a call comes after it.
    pub(super) fn is_all_sent(&self, stream: &RingStream, wait: Wait<'_>) -> Result<()> {
        let _awaiting = stream.await_dry();
        self.sockets.dispatch(&*self.platform);
        while !stream.is_all_sent()? {
            wait(Readiness::OUT)?;
            self.sockets.dispatch(&*self.platform);
        }
        Ok(())
    }
}

impl RingStream {
    /// `recv(2)`.
    pub(super) fn receive_all(
        &self,
        into: &mut dyn ByteSink,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        let is_peek = flags.contains(MessageFlags::PEEK);
        let wants_all = flags.contains(MessageFlags::WAITALL) && !is_peek;
        // TCP throws away what it is asked for, and copies nothing.
        let mut nowhere = Nowhere(into.remaining());
        let into: &mut dyn ByteSink = if flags.contains(MessageFlags::TRUNC) { &mut nowhere } else { into };
        persist(Readiness::IN, wait, || {
            let taken = self.receive(into, is_peek)?;
            Ok((taken, taken == 0 || !wants_all || into.remaining() == 0))
        })
    }
}

/// Makes `attempt` until it says that this was all, and waits where it has nothing to do. Returns how much was done; what ends it
/// counts only if that is nothing.
fn persist(
    events: Readiness,
    wait: Wait<'_>,
    mut attempt: impl FnMut() -> Result<(usize, bool)>,
) -> Result<usize> {
    let mut done = 0usize;
    loop {
        let result = match attempt() {
            Ok((more, is_all)) => {
                done = done.saturating_add(more);
                if is_all {
                    return Ok(done);
                }
                continue;
            }
            Err(error) if error.errno() == Errno::EAGAIN => wait(events),
            Err(error) => Err(error),
        };
        match result {
            Err(_) if done > 0 => return Ok(done),
            result => result?,
        }
    }
}
