//! The ring of operations on sockets ([`edge_abi::ring`]), written and read by the enclave.
//!
//! All of the ring is host memory. What counts is kept here: the tail of what was submitted, the head of what was completed, and
//! a table of operations that are outstanding. Where things are is told once, when the ring is made, and each access is checked
//! against the range that was given then.
//!
//! A completion is believed only as far as it answers an operation of the table: its user data are the place and the
//! generation of one that is outstanding, its length is at most what was asked for, and its buffer is one of those that there are.
//! Any other is dropped, or is EIO for the socket. A tail that lies costs at most one ring of records. Buffers are copied once,
//! and what is done with the copy is up to who reads it: the data are the host's in any case. A receive buffer goes back as soon
//! as it is copied, so the host has all of them all the time, and one that it names twice was its own to fill twice.
//!
//! Lock order: [`RING`] alone; it is not held over a call or while events are passed on.

mod layout;
mod operations;
#[cfg(test)]
mod tests;

use crate::host::raw;
use crate::net;
use crate::ocall::{Channel, call};
use crate::runtime::Runtime;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use edge_abi::ocall::Ocall;
use edge_abi::readiness::AT_ONCE;
use edge_abi::ring::{
    BUFFER_GROUP, CANCEL_ALL, CANCEL_FD, CQ_ENTRIES, CQ_EVENTFD_DISABLED, CQE_BUFFER, RECEIVE_BUFFERS,
    RECEIVE_LEN, SEND_BUFFERS, SEND_LEN, SQ_ENTRIES, SQ_NEED_WAKEUP, SQE_BUFFER_SELECT, TOKEN, WireCqe,
    WireSqe, op,
};
use layout::Layout;
use linux_abi::Errno;
use linux_abi::net::MessageFlags;
use operations::{Kind, Operations};
use platform::sync::Mutex;
use platform::{HostError, HostFd, HostResult, HostRing, RingEvent};

/// POLLOUT, as submissions have it.
const POLLOUT: u32 = 4;
/// Completions that are looked at under one lock.
const BATCH: usize = 32;
/// Places of the submission queue that only closing uses.
const RESERVE: u32 = 64;
/// How often a place for closing is waited for.
const PATIENCE: u32 = 1000;

const EIO: HostError = HostError(Errno::EIO);
const EAGAIN: HostError = HostError(Errno::EAGAIN);

/// Where the enclave is in the ring.
struct Ring {
    layout: Layout,
    sq_tail: u32,
    cq_head: u32,
    provided_tail: u16,
    /// The receive buffer in the first entry of those provided.
    first_provided: u16,
    operations: Operations,
    /// Send buffers that are free.
    free: Vec<u16>,
    /// Threads that want to be woken by completions.
    sleepers: u32,
}

static RING: Mutex<Option<Ring>> = Mutex::new(None);
/// Whether there is a ring, so that who has none pays one load.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Forgets the ring.
#[cfg(fuzzing)]
pub(crate) fn forget() {
    IS_USED.store(false, Ordering::Release);
    *RING.lock() = None;
}

/// A completion, judged.
enum Judged {
    /// For the socket of a token.
    Event(u64, RingEvent),
    /// Nobody's.
    Nothing,
}

impl Ring {
    fn new(layout: Layout) -> Self {
        let mut ring = Self {
            layout,
            sq_tail: layout.load(layout.sq_tail),
            cq_head: layout.load(layout.cq_head),
            provided_tail: 0,
            first_provided: 0,
            operations: Operations::new(CQ_ENTRIES),
            free: (0..SEND_BUFFERS).rev().collect(),
            sleepers: 0,
        };
        (0..RECEIVE_BUFFERS).for_each(|buffer| ring.provide(buffer));
        ring.layout.store(layout.cq_flags, CQ_EVENTFD_DISABLED);
        ring
    }

    /// Gives a receive buffer to the host.
    fn provide(&mut self, buffer: u16) {
        self.layout.provide(self.provided_tail, buffer);
        if self.provided_tail.is_multiple_of(RECEIVE_BUFFERS) {
            self.first_provided = buffer;
        }
        self.provided_tail = self.provided_tail.wrapping_add(1);
        fence(Ordering::Release);
        self.layout.set_provided_tail(self.first_provided, self.provided_tail);
    }

    /// Places that are free in the submission queue, as the host says.
    fn room(&self) -> u32 {
        let used = self.sq_tail.wrapping_sub(self.layout.load(self.layout.sq_head));
        SQ_ENTRIES.saturating_sub(used)
    }

    /// Submits an operation that leaves so many places free.
    fn post(&mut self, kind: Kind, token: u64, mut submission: WireSqe, reserve: u32) -> HostResult<()> {
        if self.room() <= reserve {
            return Err(EAGAIN);
        }
        submission.user_data = self.operations.begin(kind, token).ok_or(EAGAIN)?;
        self.layout.submit(self.sq_tail, &submission);
        self.sq_tail = self.sq_tail.wrapping_add(1);
        fence(Ordering::Release);
        self.layout.store(self.layout.sq_tail, self.sq_tail);
        Ok(())
    }

    /// Completions that are there, as the host says. A tail that lies skips what was never said.
    fn completed(&mut self) -> u32 {
        let there = self.layout.load(self.layout.cq_tail).wrapping_sub(self.cq_head);
        fence(Ordering::Acquire);
        if there > CQ_ENTRIES {
            self.cq_head = self.cq_head.wrapping_add(there).wrapping_sub(CQ_ENTRIES);
        }
        there.min(CQ_ENTRIES)
    }

    /// Takes completions, at most as many as `most`, and returns how many were there.
    fn take(&mut self, most: usize, into: &mut Vec<Judged>) -> usize {
        let count = self.completed().min(u32::try_from(most).unwrap_or(u32::MAX));
        for _ in 0..count {
            let completion = self.layout.completion(self.cq_head);
            self.cq_head = self.cq_head.wrapping_add(1);
            let judged = self.judge(&completion);
            into.push(judged);
        }
        if count > 0 {
            fence(Ordering::Release);
            self.layout.store(self.layout.cq_head, self.cq_head);
        }
        count as usize
    }

    /// What a completion says to an operation that is outstanding.
    fn judge(&mut self, completion: &WireCqe) -> Judged {
        let Some((kind, token)) = self.operations.end(completion.user_data) else { return Judged::Nothing };
        let result = result_of(completion.res);
        match kind {
            Kind::Receive => {
                let buffer = (completion.flags & CQE_BUFFER != 0).then_some((completion.flags >> 16) as u16);
                let buffer = buffer.filter(|&buffer| buffer < RECEIVE_BUFFERS);
                let data = result.and_then(|len| match (len, buffer) {
                    (0, _) => Ok(Vec::new()),
                    (1..=RECEIVE_LEN, Some(buffer)) => self.layout.received(buffer, len).ok_or(EIO),
                    _ => Err(EIO),
                });
                if let Some(buffer) = buffer {
                    self.provide(buffer);
                }
                Judged::Event(token, RingEvent::Received(data))
            }
            Kind::Send { buffer, len } => {
                self.free.push(buffer);
                let sent = result.and_then(|sent| if sent <= len { Ok(sent as usize) } else { Err(EIO) });
                Judged::Event(token, RingEvent::Sent(sent))
            }
            Kind::AwaitRoom => Judged::Event(token, RingEvent::HasRoom),
            Kind::End => Judged::Nothing,
        }
    }

    fn send(&mut self, fd: HostFd, token: u64, data: &[u8], more: bool) -> HostResult<()> {
        let buffer = self.free.pop().ok_or(EAGAIN)?;
        let part = data.get(..data.len().min(SEND_LEN as usize)).unwrap_or_default();
        let mut flags = MessageFlags::DONTWAIT | MessageFlags::NOSIGNAL;
        if more && part.len() == data.len() {
            flags |= MessageFlags::MORE;
        }
        let len = part.len() as u32;
        let addr = self.layout.fill(buffer, part);
        let submission =
            WireSqe { opcode: op::SEND, fd: fd.0, addr, len, op_flags: flags.bits(), ..WireSqe::default() };
        let posted = self.post(Kind::Send { buffer, len }, token, submission, RESERVE);
        if posted.is_err() {
            self.free.push(buffer);
        }
        posted
    }

    /// Whether the host's thread has to be woken to look. What was submitted is seen by it, or its flag is seen here.
    fn needs_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.layout.load(self.layout.sq_flags) & SQ_NEED_WAKEUP != 0
    }
}

/// A result of the host: a number, or a negated errno of the table.
fn result_of(res: i32) -> HostResult<u32> {
    if res >= 0 {
        return Ok(res.cast_unsigned());
    }
    Err(HostError(Errno::from_number(res.unsigned_abs().into()).unwrap_or(Errno::EIO)))
}

/// Does something with the ring, if there is one.
fn with<T>(act: impl FnOnce(&mut Ring) -> HostResult<T>) -> HostResult<T> {
    RING.lock().as_mut().map_or(Err(HostError(Errno::ENOSYS)), act)
}

fn wake() {
    let _ = call(Ocall::RingWake, [0; 6], u64::from(u32::MAX));
}

fn cancel(fd: HostFd) -> WireSqe {
    let op_flags = CANCEL_ALL | CANCEL_FD;
    WireSqe { opcode: op::ASYNC_CANCEL, fd: fd.0, op_flags, ..WireSqe::default() }
}

/// Somebody sleeps who is to be woken by completions, until it is dropped.
pub(crate) struct Asleep(bool);

impl Asleep {
    /// Begins a sleep until a time, which is none if that is 0; `None`: there are completions already.
    pub(crate) fn begin(deadline_ns: Option<u64>) -> Option<Self> {
        if deadline_ns == Some(0) || !IS_USED.load(Ordering::Acquire) {
            return Some(Self(false));
        }
        let mut ring = RING.lock();
        let Some(ring) = ring.as_mut() else { return Some(Self(false)) };
        ring.sleepers += 1;
        if ring.sleepers == 1 {
            ring.layout.store(ring.layout.cq_flags, 0);
        }
        let asleep = Self(true);
        // The host completes and then looks at the flag: one of both sees what the other did.
        fence(Ordering::SeqCst);
        let is_quiet = ring.layout.load(ring.layout.cq_tail) == ring.cq_head;
        if is_quiet {
            return Some(asleep);
        }
        core::mem::forget(asleep);
        ring.wakes();
        None
    }
}

impl Ring {
    /// One who slept does not any more.
    fn wakes(&mut self) {
        self.sleepers = self.sleepers.saturating_sub(1);
        if self.sleepers == 0 {
            self.layout.store(self.layout.cq_flags, CQ_EVENTFD_DISABLED);
        }
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        if self.0
            && let Some(ring) = RING.lock().as_mut()
        {
            ring.wakes();
        }
    }
}

impl HostRing for Runtime {
    fn ring_open(&self) -> HostResult<()> {
        if IS_USED.load(Ordering::Acquire) {
            return Ok(());
        }
        let channel = Channel::current().ok_or(EIO)?;
        channel.call(Ocall::RingOpen, [0; 6], 0)?;
        let layout = Layout::new(&channel.take_value()?).ok_or(EIO)?;
        {
            let mut ring = RING.lock();
            if ring.is_some() {
                return Ok(());
            }
            *ring = Some(Ring::new(layout));
        }
        // Who sleeps for readiness hears of completions.
        let args = [layout.event_fd, TOKEN, 0, 0, 0, 0];
        if let Err(error) = call(Ocall::Watch, args, u64::from(u16::MAX)) {
            *RING.lock() = None;
            return Err(error);
        }
        IS_USED.store(true, Ordering::Release);
        Ok(())
    }

    fn ring_receive(&self, fd: HostFd, token: u64) -> HostResult<()> {
        let submission = WireSqe {
            opcode: op::RECV,
            flags: SQE_BUFFER_SELECT,
            fd: fd.0,
            len: RECEIVE_LEN,
            buf_group: BUFFER_GROUP,
            ..WireSqe::default()
        };
        with(|ring| ring.post(Kind::Receive, token, submission, RESERVE))
    }

    fn ring_send(&self, fd: HostFd, token: u64, data: &[u8], more: bool) -> HostResult<()> {
        with(|ring| ring.send(fd, token, data, more))
    }

    fn ring_await_room(&self, fd: HostFd, token: u64) -> HostResult<()> {
        let submission = WireSqe { opcode: op::POLL_ADD, fd: fd.0, op_flags: POLLOUT, ..WireSqe::default() };
        with(|ring| ring.post(Kind::AwaitRoom, token, submission, RESERVE))
    }

    fn ring_cancel(&self, fd: HostFd) -> HostResult<()> {
        with(|ring| ring.post(Kind::End, 0, cancel(fd), RESERVE))
    }

    fn ring_close(&self, fd: HostFd) {
        // What was submitted before is looked at before, so it is this socket that it means, and what is submitted for a new one of
        // the number comes after.
        let close = WireSqe { opcode: op::CLOSE, fd: fd.0, ..WireSqe::default() };
        let post = |ring: &mut Ring| {
            if ring.room() < 2 || ring.operations.room() < 2 {
                return Err(EAGAIN);
            }
            ring.post(Kind::End, 0, cancel(fd), 0)?;
            ring.post(Kind::End, 0, close, 0)
        };
        if !net::disown(fd) {
            return;
        }
        for _ in 0..PATIENCE {
            match with(post) {
                Ok(()) => return self.ring_kick(),
                Err(error) if error == EAGAIN => wake(),
                Err(_) => break,
            }
        }
        let _ = call(Ocall::Close, [raw(fd), 0, 0, 0, 0, 0], 0);
    }

    fn ring_kick(&self) {
        let is_due = RING.lock().as_ref().is_some_and(Ring::needs_wake);
        if is_due {
            wake();
        }
    }

    fn ring_take(&self, each: &mut dyn FnMut(u64, RingEvent)) -> usize {
        if !IS_USED.load(Ordering::Acquire) {
            return 0;
        }
        let mut judged = Vec::new();
        let mut total = 0;
        // A host that goes on telling is left after one ring.
        while total < CQ_ENTRIES as usize {
            let count = match RING.lock().as_mut() {
                Some(ring) => ring.take(BATCH, &mut judged),
                None => 0,
            };
            for judged in judged.drain(..) {
                if let Judged::Event(token, event) = judged {
                    each(token, event);
                }
            }
            total += count;
            if count < BATCH {
                break;
            }
        }
        total
    }
}

const _: () = assert!(TOKEN != 0 && TOKEN != AT_ONCE);
