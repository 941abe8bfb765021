//! Datagrams that are put together: MSG_MORE and UDP_CORK. Parts wait at the socket until one comes without either; where that is
//! sent to is what the first part said. What goes through the host is put together there.

use super::InetSocket;
use super::datagram::{Destination, Wishes, longest};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kbase::{ByteSource, Result, bail};
use linux_abi::net::option::udp;
use linux_abi::net::{MessageFlags, protocol};

/// A datagram that is not whole.
pub(super) struct Part {
    to: Destination,
    source: SocketAddr,
    wishes: Wishes,
    data: Vec<u8>,
}

impl Part {
    pub(super) const fn new(to: Destination, source: SocketAddr, wishes: Wishes) -> Self {
        Self { to, source, wishes, data: Vec::new() }
    }
}

impl InetSocket {
    /// Whether what is sent with these flags is to wait for more.
    pub(super) fn is_corked(&self, flags: MessageFlags) -> bool {
        flags.contains(MessageFlags::MORE) || self.options.is_on(protocol::UDP, udp::CORK)
    }

    /// Whether a part waits.
    pub(super) fn has_part(&self) -> bool {
        self.datagram.part.lock().is_some()
    }

    /// Adds to the part that waits, or to a new one, and sends the whole if that is not to wait. `None`: there is neither.
    pub(super) fn gather(
        &self,
        new: Option<Part>,
        data: &mut dyn ByteSource,
        is_corked: bool,
    ) -> Result<Option<usize>> {
        let mut bytes = alloc::vec![0; data.remaining()];
        let taken = if bytes.is_empty() { 0 } else { data.take(&mut bytes)? };
        bytes.truncate(taken);
        let whole = {
            let mut waiting = self.datagram.part.lock();
            let Some(mut part) = waiting.take().or(new) else {
                data.give_back(taken);
                return Ok(None);
            };
            if part.data.len().saturating_add(bytes.len()) > longest(part.to.target) {
                // As on Linux, all of it is lost.
                bail!(EMSGSIZE, "the datagram is too long");
            }
            part.data.append(&mut bytes);
            if is_corked {
                *waiting = Some(part);
                None
            } else {
                Some(part)
            }
        };
        if let Some(part) = whole {
            self.send_part(part)?;
        }
        Ok(Some(taken))
    }

    /// Sends the part that waits: UDP_CORK is off.
    pub(super) fn uncork(&self) -> Result<()> {
        self.datagram.has_part_at_host.store(false, Ordering::Relaxed);
        let part = self.datagram.part.lock().take();
        part.map_or(Ok(()), |part| self.send_part(part))
    }

    fn send_part(&self, Part { to, source, wishes, data }: Part) -> Result<()> {
        match self.inet.ports.receiver(to.target, source) {
            Some(receiver) => self.deliver(&receiver, (source, to.target), data, &wishes),
            None => {
                self.lose(to.target, data);
                Ok(())
            }
        }
    }
}
