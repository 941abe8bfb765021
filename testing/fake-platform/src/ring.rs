//! A ring of operations in memory, on the sockets of the network in memory.
//!
//! Operations are done when somebody looks, so what became of one is told by the next look after it was posted.

use crate::net::{Net, POLLOUT};
use crate::{FakePlatform, lock};
use linux_abi::Errno;
use platform::{HostError, HostFd, HostNet, HostResult, HostRing, RingEvent};

/// Bytes of one operation at most.
const PART: usize = 64 * 1024;

/// An operation that is outstanding.
enum Operation {
    Receive,
    Send(Vec<u8>),
    AwaitRoom,
}

/// The ring.
#[derive(Default)]
pub(crate) struct Ring {
    /// Whether the host has one.
    is_there: bool,
    outstanding: Vec<(HostFd, u64, Operation)>,
    /// Operations that may be posted before the ring is full; `None`: as many as one likes.
    room: Option<usize>,
    /// Operations that there was no room for.
    refused: usize,
    /// Whether the host looks at nothing that is posted.
    is_stalled: bool,
    /// What the host says without being asked.
    lies: Vec<(u64, RingEvent)>,
}

impl Ring {
    fn post(&mut self, fd: HostFd, token: u64, operation: Operation) -> HostResult<()> {
        match &mut self.room {
            Some(0) => {
                self.refused += 1;
                return Err(HostError(Errno::EAGAIN));
            }
            Some(room) => *room -= 1,
            None => {}
        }
        self.outstanding.push((fd, token, operation));
        Ok(())
    }
}

impl Net {
    /// What becomes of an operation now; `None`: it waits.
    fn attempt(&mut self, fd: HostFd, operation: &Operation) -> Option<RingEvent> {
        let is_passing = |error: &HostError| error.0 == Errno::EAGAIN;
        match operation {
            Operation::Receive => match self.receive(fd, PART, 0) {
                Err(error) if is_passing(&error) => None,
                result => Some(RingEvent::Received(result.map(|received| received.data))),
            },
            Operation::Send(data) => Some(RingEvent::Sent(self.send_now(fd, data))),
            Operation::AwaitRoom => self.has_room(fd.0).then_some(RingEvent::HasRoom),
        }
    }

    /// Whether the ring has something to tell.
    pub(crate) fn has_operations_done(&self) -> bool {
        if self.ring.is_stalled {
            return false;
        }
        if !self.ring.lies.is_empty() {
            return true;
        }
        self.ring.outstanding.iter().any(|(fd, _, operation)| match operation {
            Operation::Receive => self.ready(fd.0).is_none_or(|ready| ready & !POLLOUT != 0),
            Operation::Send(_) => true,
            Operation::AwaitRoom => self.has_room(fd.0),
        })
    }
}

impl FakePlatform {
    /// Gives the host a ring.
    pub fn make_ring(&self) {
        lock(&self.net).ring.is_there = true;
    }

    /// Lets so many operations be posted, and no more; `None`: as many as one likes.
    pub fn limit_ring(&self, room: Option<usize>) {
        lock(&self.net).ring.room = room;
    }

    /// Operations that could not be posted.
    #[must_use]
    pub fn refused_operations(&self) -> usize {
        lock(&self.net).ring.refused
    }

    /// Has the host look at nothing that is posted, or look again.
    pub fn stall_ring(&self, is_stalled: bool) {
        lock(&self.net).ring.is_stalled = is_stalled;
    }

    /// Has the host tell of an operation that nobody posted.
    pub fn lie_in_ring(&self, token: u64, event: RingEvent) {
        lock(&self.net).ring.lies.push((token, event));
    }

    /// Operations that are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        lock(&self.net).ring.outstanding.len()
    }
}

impl HostRing for FakePlatform {
    fn ring_open(&self) -> HostResult<()> {
        if lock(&self.net).ring.is_there { Ok(()) } else { Err(HostError(Errno::ENOSYS)) }
    }

    fn ring_receive(&self, fd: HostFd, token: u64) -> HostResult<()> {
        lock(&self.net).ring.post(fd, token, Operation::Receive)
    }

    fn ring_send(&self, fd: HostFd, token: u64, data: &[u8], _more: bool) -> HostResult<()> {
        let part = data[..data.len().min(PART)].to_vec();
        lock(&self.net).ring.post(fd, token, Operation::Send(part))
    }

    fn ring_await_room(&self, fd: HostFd, token: u64) -> HostResult<()> {
        lock(&self.net).ring.post(fd, token, Operation::AwaitRoom)
    }

    fn ring_cancel(&self, fd: HostFd) -> HostResult<()> {
        let ring = &mut lock(&self.net).ring;
        if ring.is_stalled {
            return Ok(());
        }
        for (_, token, _) in ring
            .outstanding
            .extract_if(.., |(its, _, operation)| *its == fd && matches!(operation, Operation::Receive))
        {
            ring.lies.push((token, RingEvent::Received(Err(HostError(Errno::ECANCELED)))));
        }
        Ok(())
    }

    fn ring_close(&self, fd: HostFd) {
        lock(&self.net).ring.outstanding.retain(|(its, _, _)| *its != fd);
        self.host_close_socket(fd);
    }

    fn ring_kick(&self) {
        self.net(|_| {});
    }

    fn ring_take(&self, each: &mut dyn FnMut(u64, RingEvent)) -> usize {
        let done = self.net(|net| {
            if net.ring.is_stalled {
                return Vec::new();
            }
            let mut done = std::mem::take(&mut net.ring.lies);
            for (fd, token, operation) in std::mem::take(&mut net.ring.outstanding) {
                match net.attempt(fd, &operation) {
                    Some(event) => done.push((token, event)),
                    None => net.ring.outstanding.push((fd, token, operation)),
                }
            }
            done
        });
        let count = done.len();
        for (token, event) in done {
            each(token, event);
        }
        count
    }
}
