//! Urgent data: a byte that overtakes others (MSG_OOB), and SIGURG for who owns the file.
//!
//! Lock order: each lock is a leaf.

use super::super::InetSocket;
use super::super::host::HostSocket;
use crate::fs::SignalDriven;
use crate::net::local::Queue;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, Errno, Result, SliceSource, bail};
use linux_abi::net::MessageFlags;

/// The mark of the byte that was sent with MSG_OOB: which of those of the connection it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::net::inet) struct Urgent(u64);

/// Urgent data that comes to a socket.
#[derive(Default)]
pub(in crate::net::inet) struct UrgentInbox {
    is_used: AtomicBool,
    /// The last byte, until it is received.
    byte: Mutex<Option<u8>>,
    /// How many were sent, and how many of their marks are behind what was received.
    sent: AtomicU64,
    passed: AtomicU64,
    /// Who is told, with SIGURG.
    owner: Mutex<Weak<SignalDriven>>,
}

impl UrgentInbox {
    /// There is no connection any more.
    pub(super) fn clear(&self) {
        *self.byte.lock() = None;
        self.passed.store(0, Ordering::SeqCst);
    }

    /// What was received has this mark, or none: nobody receives the byte apart any more.
    pub(super) fn pass(&self, mark: Option<Urgent>) {
        let Some(Urgent(number)) = mark else { return };
        let mut byte = self.byte.lock();
        self.passed.store(number, Ordering::SeqCst);
        if self.sent.load(Ordering::SeqCst) <= number {
            *byte = None;
        }
    }

    /// Whether anything urgent ever came, so that who has none pays a load.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::SeqCst)
    }

    /// Whether a mark is that of the last byte.
    pub(super) fn is_last(&self, Urgent(number): Urgent) -> bool {
        self.sent.load(Ordering::SeqCst) <= number
    }

    /// A byte comes.
    fn put(&self, number: u64, new: u8) {
        let mut byte = self.byte.lock();
        if self.passed.load(Ordering::SeqCst) < number {
            *byte = Some(new);
        }
    }
}

impl InetSocket {
    pub(super) fn is_urgent_inline(&self) -> bool {
        self.options.is_urgent_inline.load(Ordering::Relaxed)
    }

    /// Has SIGURG sent to the owner of the file that the socket is.
    pub(crate) fn tell_of_urgent(&self, owner: Weak<SignalDriven>) {
        *self.stream.urgent.owner.lock() = owner;
        // One of the host that comes later looks there.
        if let Some(host) = self.host() {
            self.signal_from(host);
        }
    }

    /// Has the host's socket signal the owner of the file, if there is one.
    pub(in crate::net::inet) fn signal_from(&self, host: &HostSocket) {
        let owner = self.stream.urgent.owner.lock().clone();
        if owner.strong_count() > 0 {
            host.signal(owner);
        }
    }

    pub(super) fn receive_urgent(&self, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<usize> {
        let mut urgent = self.stream.urgent.byte.lock();
        let byte = match *urgent {
            Some(byte) if !self.is_urgent_inline() => byte,
            _ => bail!(EINVAL, "no urgent data is there"),
        };
        if !flags.contains(MessageFlags::PEEK) {
            *urgent = None;
        }
        drop(urgent);
        into.put(&[byte])
    }

    /// Whether an urgent byte is among what waits to be received.
    pub(super) fn has_urgent(&self) -> bool {
        self.stream.urgent.byte.lock().is_some()
    }

    /// Sends a byte that overtakes others.
    pub(in crate::net::inet) fn try_send_urgent(&self, byte: u8) -> Result<()> {
        let link = self.link_to_send()?;
        let Queue::Bytes(ring) = &link.outgoing.queue else { return Ok(()) };
        link.peer_urgent.is_used.store(true, Ordering::SeqCst);
        let number = link.peer_urgent.sent.load(Ordering::SeqCst) + 1;
        match ring.write(&mut SliceSource::new(&[byte]), &mut Some(Urgent(number))) {
            Err(error) if error.errno() == Errno::EPIPE => {
                return self.send_to_nobody(&link, &mut SliceSource::new(&[byte]), error).map(drop);
            }
            result => result?,
        };
        link.peer_urgent.sent.fetch_max(number, Ordering::SeqCst);
        link.peer_urgent.put(number, byte);
        // The reader was told of a byte; it may be waiting for an urgent one.
        ring.tell_reader();
        let owner = link.peer_urgent.owner.lock().clone();
        if let Some(owner) = owner.upgrade() {
            owner.send_urgent();
        }
        Ok(())
    }
}
