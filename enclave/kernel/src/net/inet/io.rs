//! Sending and receiving.

use super::bounce::Bounce;
use super::host::{HostSocket, Wait};
use crate::net::{Received, local};
use alloc::vec::Vec;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::control::{self, ControlMessage};
use linux_abi::net::option::SOL_SOCKET;
use linux_abi::net::{MessageFlags, protocol};
use platform::{HostFd, HostMessage};
use vfs::Readiness;

/// Bytes of a stream that cross the border at once.
const CHUNK: usize = 128 * 1024;
/// Bytes of the largest datagram, and some more: a longer one is refused by the host.
pub(crate) const DATAGRAM: usize = 66 * 1024;
/// Bytes of control messages that a program may send at once.
const CONTROL: usize = 2048;

/// Flags of sending that the host gets. It never waits and never signals, and whatever else there is is not for it.
const SENDABLE: MessageFlags = MessageFlags::OOB
    .union(MessageFlags::DONTROUTE)
    .union(MessageFlags::EOR)
    .union(MessageFlags::CONFIRM)
    .union(MessageFlags::MORE)
    .union(MessageFlags::FASTOPEN);
/// Flags of receiving that the host gets.
const RECEIVABLE: MessageFlags =
    MessageFlags::OOB.union(MessageFlags::PEEK).union(MessageFlags::TRUNC).union(MessageFlags::ERRQUEUE);

impl HostSocket {
    /// `send(2)`. What could not be sent is back in `from`.
    ///
    /// # Errors
    /// What `wait` says, unless something was sent; EPIPE (the caller raises SIGPIPE), ECONNRESET, ENOTCONN, EDESTADDRREQ,
    /// EMSGSIZE, ECONNREFUSED and what else the host reports; EFAULT.
    pub(crate) fn send_plain(
        &self,
        from: &mut dyn ByteSource,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        if let Some(stream) = self.stream() {
            return self.send_in_ring(stream, from, flags, wait);
        }
        let sent = self.send_by_call(from, sendable(flags)?, wait);
        self.join_if_connected(&sent);
        sent
    }

    /// Sends by calls.
    pub(super) fn send_by_call(
        &self,
        from: &mut dyn ByteSource,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        let mut bounce = self.bounce();
        self.fill(&mut bounce, from)?;
        self.send_all(bounce, 0, from, flags, wait)
    }

    /// Takes what crosses the border at once.
    fn fill(&self, bounce: &mut Bounce<'_>, from: &mut dyn ByteSource) -> Result<()> {
        let room = if self.is_stream() { CHUNK } else { DATAGRAM };
        bounce.set_len(from.remaining().min(room));
        let taken = from.take(bounce.bytes_mut())?;
        bounce.set_len(taken);
        Ok(())
    }

    /// Sends `bounce` from `start` on, and then, of a stream, all that `from` has.
    fn send_all(
        &self,
        mut bounce: Bounce<'_>,
        start: usize,
        from: &mut dyn ByteSource,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        let mut done = 0usize;
        let mut rest = start;
        loop {
            let part = bounce.bytes().get(rest..).unwrap_or_default();
            let left = part.len();
            let before = self.pollee.before();
            let error = match self.platform.host_send(self.fd, part, flags.bits()) {
                Ok(sent) => {
                    done = done.saturating_add(sent);
                    rest = rest.saturating_add(sent);
                    if !self.is_stream() {
                        return Ok(done);
                    }
                    if sent < left {
                        // A stream that takes a part has no room for more: the next try would say so.
                        Errno::EAGAIN
                    } else if from.remaining() == 0 {
                        return Ok(done);
                    } else {
                        rest = 0;
                        match self.fill(&mut bounce, from) {
                            Ok(()) => continue,
                            Err(_) => return Ok(done),
                        }
                    }
                }
                Err(error) => error.0,
            };
            let result = if error == Errno::EAGAIN {
                self.pollee.is_not(before, Readiness::OUT);
                wait(Readiness::OUT)
            } else {
                // It was told, and is not there any more.
                self.pollee.is_unsure(before);
                Err(Error::new(error, "the host could not send"))
            };
            if let Err(error) = result {
                from.give_back(bounce.bytes().len().saturating_sub(rest));
                return if done > 0 { Ok(done) } else { Err(error) };
            }
        }
    }

    /// `sendfile(2)` of a file of the host, which the host sends by itself: what it takes at once. 0: the file ends there.
    ///
    /// # Errors
    /// EAGAIN it takes nothing now; EINVAL the host cannot send this file so; EIO; and as [`Self::send_plain`].
    pub(super) fn send_file(&self, file: HostFd, offset: u64, len: usize) -> Result<usize> {
        let before = self.pollee.before();
        self.platform.host_send_file(self.fd, file, offset, len).map_err(|error| {
            if error.0 == Errno::EAGAIN {
                self.pollee.is_not(before, Readiness::OUT);
            } else {
                self.pollee.is_unsure(before);
            }
            Error::new(error.0, "the host could not send its file")
        })
    }

    /// `sendmsg(2)` with an address or control messages.
    ///
    /// # Errors
    /// As [`Self::send_plain`]; EINVAL a control message that may not be sent, or a broken chain; EISCONN.
    pub(crate) fn send_message(
        &self,
        from: &mut dyn ByteSource,
        to: &[u8],
        control: &[u8],
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        if to.is_empty() && control.is_empty() {
            return self.send_plain(from, flags, wait);
        }
        if let Some(stream) = self.stream() {
            self.is_all_sent(stream, wait)?;
        }
        let flags = sendable(flags)?;
        let own;
        let control = if concerns_host(control)? {
            control
        } else {
            own = of_host(control)?;
            &own
        };
        check_control(control)?;
        let to = self.address_of_program(to)?;
        let mut data = self.bounce();
        self.fill(&mut data, from)?;
        let sent = loop {
            let message = HostMessage { to, control, data: data.bytes(), flags: flags.bits() };
            let before = self.pollee.before();
            match self.platform.host_send_message(self.fd, &message) {
                Ok(sent) => break sent,
                Err(error) if error.0 == Errno::EAGAIN => {
                    self.pollee.is_not(before, Readiness::OUT);
                    wait(Readiness::OUT)?;
                }
                Err(error) => {
                    self.pollee.is_unsure(before);
                    return Err(error.into());
                }
            }
        };
        if self.is_stream() && (sent < data.bytes().len() || from.remaining() > 0) {
            // The rest needs neither address nor control messages again.
            return Ok(sent.saturating_add(self.send_all(data, sent, from, flags, wait).unwrap_or(0)));
        }
        Ok(sent)
    }

    /// `recv(2)`.
    ///
    /// # Errors
    /// What `wait` says, unless something came; ENOTCONN, ECONNRESET, ECONNREFUSED and what else the host reports; EFAULT.
    pub(crate) fn receive_plain(
        &self,
        into: &mut dyn ByteSink,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<usize> {
        let host_flags = receivable(flags);
        if let Some(stream) = self.stream()
            && !flags.contains(MessageFlags::OOB)
        {
            return stream.receive_all(into, flags, wait);
        }
        if let Some(stream) = self.left_behind()
            && !flags.contains(MessageFlags::OOB)
        {
            return stream.take(into, flags.contains(MessageFlags::PEEK));
        }
        let takes = !flags.intersects(MessageFlags::PEEK | MessageFlags::OOB | MessageFlags::ERRQUEUE);
        let wants_all = flags.contains(MessageFlags::WAITALL) && self.is_stream() && takes;
        let mut done = 0usize;
        let mut bounce = self.bounce();
        loop {
            let room = if self.is_stream() { CHUNK } else { DATAGRAM };
            let wanted = into.remaining().min(room);
            self.note_receive();
            let before = self.pollee.before();
            bounce.set_len(wanted);
            let error = match self.platform.host_receive(self.fd, host_flags.bits(), bounce.bytes_mut()) {
                Ok(len) => {
                    if self.is_stream() && flags.contains(MessageFlags::TRUNC) {
                        // TCP throws away what it is asked for, and copies nothing.
                        self.pollee.is_unsure(before);
                        return Ok(len);
                    }
                    bounce.set_len(len.min(wanted));
                    let put = match into.put(bounce.bytes()) {
                        Ok(put) if put < bounce.bytes().len() && !self.is_stream() => {
                            bail!(EFAULT, "a part of the message could not be copied")
                        }
                        Ok(put) => put,
                        Err(_) if done > 0 => return Ok(done),
                        Err(error) => return Err(error),
                    };
                    if takes {
                        self.note_received(before, wanted, len);
                    } else if !flags.contains(MessageFlags::PEEK) {
                        self.pollee.is_unsure(before);
                    }
                    if !self.is_stream() || !takes {
                        return Ok(len);
                    }
                    done = done.saturating_add(put);
                    let is_over = len == 0 || into.remaining() == 0;
                    // More may have come meanwhile; who asked for a lot gets it without another call.
                    let is_full = len == wanted;
                    if is_over || !(wants_all || is_full) {
                        return Ok(done);
                    }
                    continue;
                }
                Err(error) => error.0,
            };
            if error != Errno::EAGAIN {
                self.pollee.is_unsure(before);
                return if done > 0 {
                    Ok(done)
                } else {
                    Err(Error::new(error, "the host could not receive"))
                };
            }
            if flags.contains(MessageFlags::ERRQUEUE) || flags.contains(MessageFlags::OOB) {
                bail!(EAGAIN, "the queue of errors is empty");
            }
            self.pollee.is_not(before, Readiness::IN);
            if done > 0 && !wants_all {
                return Ok(done);
            }
            match wait(Readiness::IN) {
                Err(_) if done > 0 => return Ok(done),
                result => result?,
            }
        }
    }

    /// `recvmsg(2)`, with the address and at most `control_room` bytes of control messages.
    ///
    /// # Errors
    /// As [`Self::receive_plain`].
    pub(crate) fn receive_message(
        &self,
        into: &mut dyn ByteSink,
        control_room: usize,
        flags: MessageFlags,
        wait: Wait<'_>,
    ) -> Result<Received> {
        let wants_no_control = control_room == 0 || self.stream().is_some() || self.left_behind().is_some();
        if self.is_stream() && wants_no_control && !flags.contains(MessageFlags::ERRQUEUE) {
            let len = self.receive_plain(into, flags, wait)?;
            return Ok(Received { len, ..Received::default() });
        }
        let host_flags = receivable(flags);
        let takes = !flags.intersects(MessageFlags::PEEK | MessageFlags::OOB | MessageFlags::ERRQUEUE);
        let room = if self.is_stream() { CHUNK } else { DATAGRAM };
        let wanted = into.remaining().min(room);
        loop {
            self.note_receive();
            let before = self.pollee.before();
            match self.platform.host_receive_message(self.fd, wanted, control_room, host_flags.bits()) {
                Ok(received) => {
                    if !self.is_stream() {
                        local::put_whole(into, &received.data)?;
                    } else if !flags.contains(MessageFlags::TRUNC) {
                        into.put(&received.data)?;
                    }
                    if takes {
                        self.note_received(before, wanted, received.len);
                    } else if !flags.contains(MessageFlags::PEEK) {
                        self.pollee.is_unsure(before);
                    }
                    // An error report may come with an address of its sender's family.
                    let from = self.address_of_host(received.from).unwrap_or_default();
                    return Ok(Received {
                        len: received.len,
                        from,
                        control: received.control,
                        flags: MessageFlags::from_bits_truncate(received.flags),
                    });
                }
                Err(error) if error.0 == Errno::EAGAIN && !flags.contains(MessageFlags::ERRQUEUE) => {
                    self.pollee.is_not(before, Readiness::IN);
                    wait(Readiness::IN)?;
                }
                Err(error) => {
                    self.pollee.is_unsure(before);
                    return Err(error.into());
                }
            }
        }
    }

    /// Learns from what was received: a stream that gave less than was wanted has no more.
    fn note_received(&self, before: super::readiness::Before, wanted: usize, len: usize) {
        if self.is_stream() && len < wanted && len > 0 {
            self.pollee.is_drained(before);
        } else if len > 0 || !self.is_stream() {
            self.pollee.is_unsure(before);
        }
    }
}

/// The flags for the host.
pub(super) fn sendable(flags: MessageFlags) -> Result<MessageFlags> {
    if flags.contains(MessageFlags::ZEROCOPY) {
        bail!(EOPNOTSUPP, "what is sent is copied");
    }
    Ok(flags & SENDABLE)
}

/// The flags for the host.
pub(super) const fn receivable(flags: MessageFlags) -> MessageFlags {
    flags.intersection(RECEIVABLE)
}

/// Refuses control messages that the host has no business with.
pub(super) fn check_control(chain: &[u8]) -> Result<()> {
    if chain.len() > CONTROL {
        bail!(ENOBUFS, "too many control messages");
    }
    messages(chain).try_for_each(|message| check_message(&message?))
}

/// Whether a message is for the level of a socket of the internet; others go nowhere, as on Linux.
pub(super) fn is_known(message: &ControlMessage<'_>) -> bool {
    match message.level {
        SOL_SOCKET => !matches!(message.kind, control::SCM_RIGHTS | control::SCM_CREDENTIALS),
        protocol::IP | protocol::IPV6 | protocol::UDP => true,
        _ => false,
    }
}

/// Whether all messages of a chain are.
fn concerns_host(chain: &[u8]) -> Result<bool> {
    for message in messages(chain) {
        if !is_known(&message?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The messages of a chain that are.
fn of_host(chain: &[u8]) -> Result<Vec<u8>> {
    let mut room = local::Chain::new(chain.len());
    for message in messages(chain) {
        let message = message?;
        if is_known(&message) {
            room.add(message.level, message.kind, message.data);
        }
    }
    Ok(room.finish().0)
}

/// The control messages of a chain.
///
/// # Errors
/// EINVAL the chain is broken.
pub(super) fn messages(chain: &[u8]) -> impl Iterator<Item = Result<ControlMessage<'_>>> {
    control::messages(chain).map(|message| {
        message.map_err(|_| Error::new(Errno::EINVAL, "the chain of control messages is broken"))
    })
}

/// Refuses a control message that cannot be sent.
///
/// # Errors
/// EINVAL.
pub(super) fn check_message(message: &ControlMessage<'_>) -> Result<()> {
    let Some((least, most)) = control::sendable_lengths(message.level, message.kind) else {
        bail!(EINVAL, "this control message cannot be sent");
    };
    if !(least..=most).contains(&message.data.len()) {
        bail!(EINVAL, "a control message of another length");
    }
    Ok(())
}
