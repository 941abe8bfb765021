//! The calls of `socket(2)`: on what is inside, and on what is the host's.

use super::host::HostSocket;
use super::{InetSocket, endpoint, host};
use crate::Ctx;
use crate::fs::wait;
use crate::net::{Address, Batches, Incoming, Outgoing, Received, Socket};
use alloc::sync::Arc;
use kbase::{ByteSink, ByteSource, Errno, Result, SliceSource, bail};
use linux_abi::net::option::SOL_SOCKET;
use linux_abi::net::{MessageFlags, family, protocol, shut};
use platform::HostFd;
use vfs::{File, Readiness};

/// What is thrown away, up to a length.
pub(super) struct Nowhere(pub(super) usize);

impl ByteSink for Nowhere {
    fn remaining(&self) -> usize {
        self.0
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }
}

impl InetSocket {
    /// The wait of a call.
    pub(super) fn wait_of<'c>(
        &'c self,
        ctx: &'c Ctx<'c>,
        is_blocking: bool,
    ) -> impl FnMut(Readiness) -> Result<()> + 'c {
        move |events| if is_blocking { wait::wait_for(ctx, self, events) } else { host::no_wait(events) }
    }

    /// `send(2)` on a connection inside.
    fn send_stream(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        let Outgoing { data, to, flags, is_blocking, .. } = message;
        if flags.contains(MessageFlags::ZEROCOPY) {
            bail!(EOPNOTSUPP, "what is sent is copied");
        }
        if flags.contains(MessageFlags::FASTOPEN) && !to.is_empty() && !self.has_link() {
            self.connect_stream(ctx, to, is_blocking)?;
            if self.is_hosts() {
                return self.attach()?.send_plain(
                    data,
                    MessageFlags::empty(),
                    &mut self.wait_of(ctx, is_blocking),
                );
            }
        }
        if flags.contains(MessageFlags::OOB) && data.remaining() > 0 {
            return self.send_urgent(ctx, data, is_blocking);
        }
        self.send_all(ctx, data, is_blocking)
    }

    fn send_all(&self, ctx: &Ctx<'_>, data: &mut dyn ByteSource, is_blocking: bool) -> Result<usize> {
        let mut done = 0usize;
        loop {
            match self.try_send(data) {
                Ok(sent) => {
                    done = done.saturating_add(sent);
                    if data.remaining() == 0 || sent == 0 || !is_blocking {
                        return Ok(done);
                    }
                }
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    match wait::wait_for(ctx, self, Readiness::OUT) {
                        Err(_) if done > 0 => return Ok(done),
                        result => result?,
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// MSG_OOB: the last byte is urgent.
    fn send_urgent(&self, ctx: &Ctx<'_>, data: &mut dyn ByteSource, is_blocking: bool) -> Result<usize> {
        let mut all = alloc::vec![0; data.remaining().min(64 * 1024)];
        let taken = data.take(&mut all)?;
        all.truncate(taken);
        if self.has_no_receiver() {
            // Nobody sees a mark.
            return self.send_all(ctx, &mut SliceSource::new(&all), is_blocking);
        }
        let Some((&urgent, before)) = all.split_last() else { return Ok(0) };
        let sent = if before.is_empty() {
            0
        } else {
            self.send_all(ctx, &mut SliceSource::new(before), is_blocking)?
        };
        if sent < before.len() {
            return Ok(sent);
        }
        loop {
            match self.try_send_urgent(urgent) {
                Ok(()) => return Ok(sent.saturating_add(1)),
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    match wait::wait_for(ctx, self, Readiness::OUT) {
                        Err(_) if sent > 0 => return Ok(sent),
                        result => result?,
                    }
                }
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
    }

    /// `recv(2)` on a connection inside.
    fn receive_stream(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        let Incoming { data, flags, is_blocking, .. } = wanted;
        if flags.contains(MessageFlags::ERRQUEUE) {
            bail!(EAGAIN, "the queue of errors is empty");
        }
        let mut nowhere = Nowhere(data.remaining());
        let into: &mut dyn ByteSink = if flags.contains(MessageFlags::TRUNC) { &mut nowhere } else { data };
        let takes = !flags.intersects(MessageFlags::PEEK | MessageFlags::OOB);
        let wants_all = flags.contains(MessageFlags::WAITALL) && takes;
        let mut done = 0usize;
        loop {
            match self.try_receive(into, flags) {
                Ok(taken) => {
                    done = done.saturating_add(taken);
                    if !wants_all || taken == 0 || into.remaining() == 0 {
                        break;
                    }
                }
                Err(error)
                    if error.errno() == Errno::EAGAIN
                        && is_blocking
                        && !flags.contains(MessageFlags::OOB) =>
                {
                    match wait::wait_for(ctx, self, Readiness::IN) {
                        Err(_) if done > 0 => break,
                        result => result?,
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let flags = flags & MessageFlags::OOB;
        Ok(Received { len: done, flags, ..Received::default() })
    }
}

impl Socket for InetSocket {
    fn bind(&self, _ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        self.bind_to(address)
    }

    fn listen(&self, _ctx: &Ctx<'_>, backlog: u32) -> Result<()> {
        self.start_listening(backlog)
    }

    fn accept(&self, ctx: &Ctx<'_>, is_blocking: bool) -> Result<(Arc<dyn File>, Address)> {
        if !self.is_stream() {
            bail!(EOPNOTSUPP, "a datagram socket does not listen");
        }
        if !self.is_hosts() {
            let (new, peer) = self.accept_next(ctx, is_blocking)?;
            return Ok((new, endpoint::show(self.family, peer)));
        }
        let host = self.attach()?;
        loop {
            // A connection is not taken from the host to be dropped.
            ctx.files.want_room()?;
            match host.accept() {
                Ok((new, peer)) => return Ok((self.of_host(new), peer)),
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    wait::wait_for(ctx, self, Readiness::IN)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()> {
        if self.is_stream() {
            self.connect_stream(ctx, address, is_blocking)
        } else {
            self.connect_datagram(address)
        }
    }

    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        if !self.is_hosts() {
            return if self.is_stream() {
                self.send_stream(ctx, message)
            } else {
                self.send_datagram(ctx, message)
            };
        }
        let wait = &mut self.wait_of(ctx, message.is_blocking);
        self.attach()?.send_message(message.data, message.to, message.control, message.flags, wait)
    }

    fn send_file(
        &self,
        ctx: &Ctx<'_>,
        (file, offset): (HostFd, u64),
        len: usize,
        is_blocking: bool,
    ) -> Option<Result<usize>> {
        // What the ring has queued goes first.
        let by_calls =
            |host: &&Arc<HostSocket>| self.is_hosts() && self.is_stream() && host.stream().is_none();
        let host = self.host().filter(by_calls)?;
        let mut done = 0usize;
        let error = loop {
            match host.send_file(file, offset.saturating_add(done as u64), len.saturating_sub(done)) {
                Ok(sent) => {
                    done = done.saturating_add(sent);
                    if sent == 0 || done >= len || ctx.is_interrupted() {
                        return Some(Ok(done));
                    }
                }
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    if let Err(error) = wait::wait_for(ctx, self, Readiness::OUT) {
                        break error;
                    }
                }
                // Of such a file it can be read.
                Err(error) if error.errno() == Errno::EINVAL && done == 0 => return None,
                Err(error) => break error,
            }
        };
        Some(if done > 0 { Ok(done) } else { Err(error) })
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        if !self.is_hosts() {
            return if self.is_stream() {
                self.receive_stream(ctx, wanted)
            } else {
                self.receive_datagram(ctx, wanted)
            };
        }
        let wait = &mut self.wait_of(ctx, wanted.is_blocking);
        let host = self.attach()?;
        match wanted.control_room {
            Some(room) => host.receive_message(wanted.data, room, wanted.flags, wait),
            None => {
                let len = host.receive_plain(wanted.data, wanted.flags, wait)?;
                Ok(Received { len, ..Received::default() })
            }
        }
    }

    fn name(&self, of_peer: bool) -> Result<Address> {
        self.name_of(of_peer)
    }

    fn shutdown(&self, how: u32) -> Result<()> {
        if how > shut::RDWR {
            bail!(EINVAL, "no such direction");
        }
        if self.is_hosts() {
            self.attach()?.shutdown(how)
        } else if self.is_stream() {
            self.shut_stream(how)
        } else {
            self.shut_datagram(how)
        }
    }

    fn check_level(&self, level: u32, is_set: bool) -> Result<()> {
        let is_its = [SOL_SOCKET, protocol::IP, self.protocol].contains(&level)
            || (level == protocol::IPV6 && self.family == family::INET6);
        if is_its {
            return Ok(());
        }
        if is_set || self.family == family::INET6 {
            bail!(ENOPROTOOPT, "no such level");
        }
        bail!(EOPNOTSUPP, "no such level")
    }

    fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        self.get_any_option(level, option, value)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        self.set_any_option(level, option, value)
    }

    fn take_pending(&self) -> Option<Errno> {
        if self.is_hosts() { None } else { self.take_error() }
    }

    fn raises_sigpipe(&self) -> bool {
        self.is_stream()
    }

    fn batches(&self) -> Option<&dyn Batches> {
        if self.is_stream() || self.host().is_none() { None } else { Some(self) }
    }
}
