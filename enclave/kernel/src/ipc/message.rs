//! System V message queues (`msgrcv(2)`).

use super::Object;
use crate::Ctx;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use linux_abi::ipc::{IPC_NOWAIT, MSG_COPY, MSG_EXCEPT, MSG_NOERROR, MsqidDs};

/// Longest message (MSGMAX).
pub(crate) const MAX_MESSAGE: usize = 8192;
/// Bytes of a queue (MSGMNB).
pub(crate) const MAX_QUEUE: u64 = 16_384;

/// A message.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) kind: i64,
    pub(crate) text: Vec<u8>,
}

/// A queue of messages.
pub(crate) struct MessageQueue {
    state: Mutex<QueueState>,
    /// Woken after every change.
    changed: WaiterQueue,
}

struct QueueState {
    messages: VecDeque<Message>,
    bytes: u64,
    limit: u64,
    sent_s: i64,
    received_s: i64,
    changed_s: i64,
    sender: u32,
    receiver: u32,
}

impl MessageQueue {
    pub(crate) fn new(now_s: i64) -> Self {
        Self {
            state: Mutex::new(QueueState {
                messages: VecDeque::new(),
                bytes: 0,
                limit: MAX_QUEUE,
                sent_s: 0,
                received_s: 0,
                changed_s: now_s,
                sender: 0,
                receiver: 0,
            }),
            changed: WaiterQueue::new(),
        }
    }

    /// What `msgctl(2)` tells, without the identity.
    pub(crate) fn describe(&self) -> MsqidDs {
        let state = self.state.lock();
        MsqidDs {
            msg_stime: state.sent_s,
            msg_rtime: state.received_s,
            msg_ctime: state.changed_s,
            msg_cbytes: state.bytes,
            msg_qnum: state.messages.len() as u64,
            msg_qbytes: state.limit,
            msg_lspid: state.sender,
            msg_lrpid: state.receiver,
            ..MsqidDs::default()
        }
    }

    /// Sets how many bytes the queue may have.
    pub(crate) fn set_limit(&self, limit: u64, now_s: i64) {
        {
            let mut state = self.state.lock();
            state.limit = limit;
            state.changed_s = now_s;
        }
        self.changed.wake_all();
    }

    pub(crate) fn wake_all(&self) {
        self.changed.wake_all();
    }

    /// Queues a message if there is room; else gives it back.
    fn push(&self, message: Message, pid: u32, now_s: i64) -> Option<Message> {
        let mut state = self.state.lock();
        let bytes = state.bytes + message.text.len() as u64;
        if bytes > state.limit || state.messages.len() as u64 >= state.limit {
            return Some(message);
        }
        state.bytes = bytes;
        state.messages.push_back(message);
        state.sent_s = now_s;
        state.sender = pid;
        None
    }

    /// Takes the message that is wanted, or finds out why not: E2BIG it is longer than `max`.
    fn take(&self, wanted: Wanted, max: usize, flags: u32, pid: u32, now_s: i64) -> Result<Option<Message>> {
        let mut state = self.state.lock();
        let Some(index) = wanted.find(&state.messages) else { return Ok(None) };
        let Some(message) = state.messages.get(index) else { return Ok(None) };
        if message.text.len() > max && flags & MSG_NOERROR == 0 {
            kbase::bail!(E2BIG, "the message is longer than the buffer");
        }
        if flags & MSG_COPY != 0 {
            if message.text.len() > max {
                kbase::bail!(EINVAL, "what is copied is not cut");
            }
            return Ok(Some(message.clone()));
        }
        let message = state.messages.remove(index);
        let len = message.as_ref().map_or(0, |message| message.text.len());
        state.bytes = state.bytes.saturating_sub(len as u64);
        state.received_s = now_s;
        state.receiver = pid;
        Ok(message)
    }
}

/// Which message is wanted.
#[derive(Clone, Copy)]
enum Wanted {
    First,
    Of(i64),
    NotOf(i64),
    /// The first of the lowest type up to this.
    UpTo(i64),
    /// By number (MSG_COPY).
    Numbered(i64),
}

impl Wanted {
    const fn of(kind: i64, flags: u32) -> Self {
        match kind {
            _ if flags & MSG_COPY != 0 => Self::Numbered(kind),
            0 => Self::First,
            1.. if flags & MSG_EXCEPT != 0 => Self::NotOf(kind),
            1.. => Self::Of(kind),
            i64::MIN => Self::UpTo(i64::MAX),
            _ => Self::UpTo(-kind),
        }
    }

    fn find(self, messages: &VecDeque<Message>) -> Option<usize> {
        match self {
            Self::First => (!messages.is_empty()).then_some(0),
            Self::Of(kind) => messages.iter().position(|message| message.kind == kind),
            Self::NotOf(kind) => messages.iter().position(|message| message.kind != kind),
            Self::UpTo(most) => {
                let candidates = messages.iter().enumerate().filter(|(_, message)| message.kind <= most);
                candidates.min_by_key(|(_, message)| message.kind).map(|(index, _)| index)
            }
            Self::Numbered(number) => usize::try_from(number).ok().filter(|&index| index < messages.len()),
        }
    }
}

fn interrupted(error: &Error) -> Error {
    match error.errno() {
        Errno::ERESTARTSYS => Error::new(Errno::ERESTARTNOHAND, "a signal came"),
        errno => Error::new(errno, "the wait ended"),
    }
}

/// `msgsnd(2)`.
///
/// # Errors
/// EAGAIN there is no room and IPC_NOWAIT; EIDRM; ERESTARTNOHAND a signal came.
pub(crate) fn send(
    ctx: &Ctx<'_>,
    queue: &Arc<Object<MessageQueue>>,
    message: Message,
    flags: u32,
) -> Result<()> {
    let mut waiting = Some(message);
    let sent = ctx.wait_until(&queue.value.changed, None, || {
        if let Err(error) = queue.check_there() {
            return Some(Err(error));
        }
        waiting = queue.value.push(waiting.take()?, ctx.process.pid, super::now_s(ctx.kernel));
        if waiting.is_none() {
            return Some(Ok(()));
        }
        let is_told = flags & IPC_NOWAIT != 0;
        is_told.then_some(Err(Error::new(Errno::EAGAIN, "the queue is full")))
    });
    sent.map_err(|error| interrupted(&error))??;
    queue.value.wake_all();
    Ok(())
}

/// `msgrcv(2)`: a message of at most `max` bytes, cut to that with MSG_NOERROR.
///
/// # Errors
/// E2BIG; ENOMSG there is none and IPC_NOWAIT; EIDRM; ERESTARTNOHAND a signal came.
pub(crate) fn receive(
    ctx: &Ctx<'_>,
    queue: &Arc<Object<MessageQueue>>,
    kind: i64,
    max: usize,
    flags: u32,
) -> Result<Message> {
    let wanted = Wanted::of(kind, flags);
    let received = ctx.wait_until(&queue.value.changed, None, || {
        if let Err(error) = queue.check_there() {
            return Some(Err(error));
        }
        match queue.value.take(wanted, max, flags, ctx.process.pid, super::now_s(ctx.kernel)) {
            Ok(Some(message)) => Some(Ok(message)),
            Ok(None) if flags & IPC_NOWAIT != 0 => {
                Some(Err(Error::new(Errno::ENOMSG, "no such message is queued")))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    });
    let mut message = received.map_err(|error| interrupted(&error))??;
    message.text.truncate(max);
    if flags & MSG_COPY == 0 {
        queue.value.wake_all();
    }
    Ok(message)
}
