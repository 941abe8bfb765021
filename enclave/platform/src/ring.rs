//! Receiving and sending on connected streams of the host without a call: operations that are posted, and what became of them.
//!
//! The host does them on its own. A socket has at most one operation of each direction outstanding, so what comes and goes keeps
//! its order.

use crate::{HostFd, HostResult};
use alloc::vec::Vec;

/// What became of an operation. All of it is the host's word; data is no longer than what one operation moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingEvent {
    /// Of [`HostRing::ring_receive`]: data, of which none is the end of the stream. The errors are those of `recv(2)`; ENOBUFS
    /// buffers were scarce, and EIO the host's answer makes no sense.
    Received(HostResult<Vec<u8>>),
    /// Of [`HostRing::ring_send`]: how many bytes were sent; EAGAIN there is no room.
    Sent(HostResult<usize>),
    /// Of [`HostRing::ring_await_room`]: there may be room.
    HasRoom,
}

/// The ring.
pub trait HostRing {
    /// Has the host make the ring, or does nothing if it is there.
    ///
    /// # Errors
    /// ENOSYS the host has none; EIO what it gave makes no sense.
    fn ring_open(&self) -> HostResult<()>;

    /// Receives once, when something comes.
    ///
    /// # Errors
    /// EAGAIN the ring is full.
    fn ring_receive(&self, fd: HostFd, token: u64) -> HostResult<()>;

    /// Sends the first bytes of `data`, without waiting for room: as many as one operation takes, or as there is room for. `more`
    /// as MSG_MORE.
    ///
    /// # Errors
    /// EAGAIN the ring is full.
    fn ring_send(&self, fd: HostFd, token: u64, data: &[u8], more: bool) -> HostResult<()>;

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// EAGAIN the ring is full.
    fn ring_await_room(&self, fd: HostFd, token: u64) -> HostResult<()>;

    /// Ends the operations on a socket that are outstanding. They fail.
    ///
    /// # Errors
    /// EAGAIN the ring is full.
    fn ring_cancel(&self, fd: HostFd) -> HostResult<()>;

    /// Ends the operations on a socket and closes it. Whatever becomes of them is not told any more.
    fn ring_close(&self, fd: HostFd);

    /// Has the host look at what was posted. To be called after posting, with no lock held.
    fn ring_kick(&self);

    /// Takes what became of operations, without leaving the enclave: each with its token. Returns how many there were.
    fn ring_take(&self, each: &mut dyn FnMut(u64, RingEvent)) -> usize;
}
