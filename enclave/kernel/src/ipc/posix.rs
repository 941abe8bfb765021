//! POSIX message queues (`mq_overview(7)`). A queue is found by name, and used through a descriptor.

use crate::fs::{OpenFile, anonymous_metadata};
use crate::net::inet::netlink::RouteSocket;
use crate::process::capability;
use crate::{Ctx, Kernel, signal};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use linux_abi::ipc::MqAttr;
use linux_abi::process::resource;
use linux_abi::signal::{SigInfo, Signal, si};
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Most queues (`/proc/sys/fs/mqueue/queues_max`).
const MAX_QUEUES: usize = 256;
/// Messages of a queue whose creator does not say (`msg_default`), and most for who has no privileges (`msg_max`).
const MESSAGES: i64 = 10;
/// Longest message of such a queue.
const MESSAGE_SIZE: i64 = 8192;
/// The same for the privileged.
const MOST_MESSAGES: i64 = 65_536;
const MOST_MESSAGE_SIZE: i64 = 16 << 20;
/// One more than the highest priority (MQ_PRIO_MAX).
pub(crate) const PRIORITIES: u32 = 32_768;
/// What a message costs beside its text, as far as RLIMIT_MSGQUEUE goes: its head and its node of the tree.
const OVERHEAD: i64 = 48 + 48;

/// All queues that have a name.
#[derive(Default)]
pub(crate) struct PosixQueues {
    named: Mutex<BTreeMap<Vec<u8>, Arc<PosixQueue>>>,
}

/// A queue.
pub(crate) struct PosixQueue {
    ino: u64,
    created_ns: i64,
    max_messages: usize,
    message_size: usize,
    mode: u32,
    uid: u32,
    gid: u32,
    state: Mutex<QueueState>,
    /// Woken when a message comes, and when one goes.
    changed: WaiterQueue,
    /// Tells who polls.
    ready: ReadinessNotifier,
}

#[derive(Default)]
struct QueueState {
    /// Messages by priority, first come first.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: usize,
    /// Threads that wait for a message.
    receivers: u32,
    notification: Option<Notification>,
}

/// Who is told when a message comes to the empty queue.
struct Notification {
    pid: u32,
    /// The table of descriptors of that process.
    table: u64,
    kernel: Weak<Kernel>,
    how: Notify,
}

/// Bytes of what a socket is told, of which the last says why.
pub(crate) const COOKIE_LEN: usize = 32;
/// A message came.
const WOKEN_UP: u8 = 1;
/// Nobody waits for a message any more.
const REMOVED: u8 = 2;

/// How `mq_notify(2)` tells.
pub(crate) enum Notify {
    /// Nothing is sent, but nobody else can ask.
    Nothing,
    /// A signal with a value.
    Signal(Signal, u64),
    /// A datagram on a netlink socket of the program, whose C library makes a thread of it.
    Datagram(Arc<OpenFile>, [u8; COOKIE_LEN]),
}

impl Notify {
    /// Sends the datagram, if it is one.
    fn tell(self, why: u8) {
        let Self::Datagram(open, mut cookie) = self else { return };
        if let Some(last) = cookie.last_mut() {
            *last = why;
        }
        if let Some(socket) = open.file().as_any().downcast_ref::<RouteSocket>() {
            socket.tell(cookie.to_vec());
        }
    }
}

/// An open message queue.
pub(crate) struct MessageDescriptor {
    queue: Arc<PosixQueue>,
}

impl PosixQueue {
    fn push(&self, priority: u32, text: Vec<u8>) -> core::result::Result<bool, Vec<u8>> {
        let mut state = self.state.lock();
        if state.count >= self.max_messages {
            return Err(text);
        }
        let was_empty = state.count == 0;
        state.messages.entry(priority).or_default().push_back(text);
        state.count += 1;
        Ok(was_empty && state.receivers == 0)
    }

    fn take(&self) -> Option<(u32, Vec<u8>)> {
        let mut state = self.state.lock();
        let mut entry = state.messages.last_entry()?;
        let priority = *entry.key();
        let text = entry.get_mut().pop_front();
        if entry.get().is_empty() {
            entry.remove();
        }
        state.count = state.count.saturating_sub(1);
        text.map(|text| (priority, text))
    }

    /// Tells who asked for it, once.
    fn notify(&self, ctx: &Ctx<'_>) {
        let Some(asked) = self.state.lock().notification.take() else { return };
        let Notify::Signal(signal, value) = asked.how else { return asked.how.tell(WOKEN_UP) };
        let Some(target) = asked.kernel.upgrade().and_then(|kernel| kernel.processes.process(asked.pid))
        else {
            return;
        };
        let mut info = SigInfo::sent(signal, si::MESGQ, ctx.process.pid, ctx.process.credentials.uid());
        info.fields[1] = value;
        // The sender of a message does not learn that the other has too many signals.
        let _ = signal::send_to_process(&target, signal, info);
    }

    /// Takes a notification back, if it is one that `is_meant`.
    fn forget(&self, is_meant: impl FnOnce(&Notification) -> bool) {
        let asked = {
            let mut state = self.state.lock();
            if !state.notification.as_ref().is_some_and(is_meant) {
                return;
            }
            state.notification.take()
        };
        if let Some(asked) = asked {
            asked.how.tell(REMOVED);
        }
    }
}

/// A descriptor was closed. Whatever descriptor of a queue a process closes, its notification is gone (`mq_close(3)`).
pub(crate) fn closed(table: u64, open: &OpenFile) {
    if let Ok(descriptor) = queue_of(open) {
        descriptor.queue.forget(|asked| asked.table == table);
    }
}

impl File for MessageDescriptor {
    fn metadata(&self) -> Result<Metadata> {
        let queue = &self.queue;
        Ok(Metadata {
            mode: queue.mode,
            uid: queue.uid,
            gid: queue.gid,
            size: 80,
            ..anonymous_metadata(queue.ino, FileType::Regular, queue.created_ns)
        })
    }

    fn ready(&self) -> Readiness {
        let count = self.queue.state.lock().count;
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, count > 0);
        ready.set(Readiness::OUT, count < self.queue.max_messages);
        ready
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.queue.ready)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[mqueue]".into())
    }
}

/// The queue of an open file.
///
/// # Errors
/// EBADF it is none.
fn queue_of(open: &OpenFile) -> Result<&MessageDescriptor> {
    let descriptor = open.file().as_any().downcast_ref::<MessageDescriptor>();
    descriptor.ok_or(Error::new(Errno::EBADF, "not a message queue"))
}

/// `mq_open(2)`: `name` has no slash.
///
/// # Errors
/// ENOENT; EEXIST; EACCES; EINVAL the attributes make no sense; EMFILE it would be too large; ENOSPC there are too many.
pub(crate) fn open(
    ctx: &Ctx<'_>,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
    attributes: Option<MqAttr>,
) -> Result<Arc<OpenFile>> {
    let shared = ctx.kernel.mounts.shared();
    let mut named = ctx.kernel.ipc.posix.named.lock();
    let queue = match named.get(name) {
        Some(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => {
            kbase::bail!(EEXIST, "a queue has the name");
        }
        Some(queue) => {
            check_access(ctx, queue, flags)?;
            Arc::clone(queue)
        }
        None if !flags.contains(OpenFlags::CREAT) => kbase::bail!(ENOENT, "no queue has the name"),
        None => {
            let attributes = attributes.unwrap_or(MqAttr {
                mq_maxmsg: MESSAGES,
                mq_msgsize: MESSAGE_SIZE,
                ..MqAttr::default()
            });
            check_size(ctx, &attributes, named.values())?;
            if named.len() >= MAX_QUEUES && !ctx.process.credentials.is_capable(capability::SYS_RESOURCE) {
                kbase::bail!(ENOSPC, "there are too many queues");
            }
            let credentials = &ctx.process.credentials;
            let queue = Arc::new(PosixQueue {
                ino: shared.next_id(),
                created_ns: ctx.platform().realtime_ns().cast_signed(),
                max_messages: usize::try_from(attributes.mq_maxmsg).unwrap_or_default(),
                message_size: usize::try_from(attributes.mq_msgsize).unwrap_or_default(),
                mode: mode & 0o7777 & !ctx.fs.umask(),
                uid: credentials.users.effective(),
                gid: credentials.groups.effective(),
                state: Mutex::default(),
                changed: WaiterQueue::new(),
                ready: ReadinessNotifier::new(),
            });
            named.insert(name.to_vec(), Arc::clone(&queue));
            queue
        }
    };
    let file = Arc::new(MessageDescriptor { queue });
    Ok(OpenFile::new(shared, file, None, flags))
}

/// Whether a new queue may be so large.
fn check_size<'a>(
    ctx: &Ctx<'_>,
    attributes: &MqAttr,
    others: impl Iterator<Item = &'a Arc<PosixQueue>>,
) -> Result<()> {
    let is_privileged = ctx.process.credentials.is_capable(capability::SYS_RESOURCE);
    let (most, longest) =
        if is_privileged { (MOST_MESSAGES, MOST_MESSAGE_SIZE) } else { (MESSAGES, MESSAGE_SIZE) };
    let (count, size) = (attributes.mq_maxmsg, attributes.mq_msgsize);
    if !(1..=most).contains(&count) || !(1..=longest).contains(&size) {
        kbase::bail!(EINVAL, "no such size for a queue");
    }
    let cost = |count: i64, size: i64| count.saturating_mul(size.saturating_add(OVERHEAD)).unsigned_abs();
    let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let uid = ctx.process.credentials.users.effective();
    let own = others.filter(|queue| queue.uid == uid);
    let used = own.fold(0u64, |sum, queue| {
        sum.saturating_add(cost(signed(queue.max_messages), signed(queue.message_size)))
    });
    if used.saturating_add(cost(count, size)) > ctx.process.limit(resource::MSGQUEUE) {
        kbase::bail!(EMFILE, "RLIMIT_MSGQUEUE");
    }
    Ok(())
}

fn check_access(ctx: &Ctx<'_>, queue: &PosixQueue, flags: OpenFlags) -> Result<()> {
    let wanted = match flags.bits() & linux_abi::fs::O_ACCMODE {
        0 => 4,
        1 => 2,
        2 => 6,
        _ => kbase::bail!(EINVAL, "no such access mode"),
    };
    let credentials = &ctx.process.credentials;
    let granted = if credentials.users.effective() == queue.uid {
        queue.mode >> 6
    } else if credentials.groups.effective() == queue.gid || credentials.others.lock().contains(&queue.gid) {
        queue.mode >> 3
    } else {
        queue.mode
    };
    if wanted & !granted != 0 && !credentials.is_capable(capability::DAC_OVERRIDE) {
        kbase::bail!(EACCES, "the permissions of the queue do not allow it");
    }
    Ok(())
}

/// `mq_unlink(2)`: who has it open keeps it.
///
/// # Errors
/// ENOENT; EACCES it is another user's.
pub(crate) fn unlink(ctx: &Ctx<'_>, name: &[u8]) -> Result<()> {
    let mut named = ctx.kernel.ipc.posix.named.lock();
    let Some(queue) = named.get(name) else { kbase::bail!(ENOENT, "no queue has the name") };
    let credentials = &ctx.process.credentials;
    if credentials.users.effective() != queue.uid && !credentials.is_capable(capability::DAC_OVERRIDE) {
        kbase::bail!(EACCES, "the queue is another user's");
    }
    let queue = named.remove(name);
    drop(named);
    drop(queue);
    Ok(())
}

/// `mq_timedsend(2)`, until a time of CLOCK_MONOTONIC in nanoseconds.
///
/// # Errors
/// EBADF not a queue that is open for writing; EMSGSIZE; EAGAIN; ETIMEDOUT; ERESTARTSYS.
pub(crate) fn send(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    priority: u32,
    len: usize,
    load: impl FnOnce() -> Result<Vec<u8>>,
    deadline_ns: Option<u64>,
) -> Result<()> {
    let queue = &queue_of(open)?.queue;
    open.want_write()?;
    if len > queue.message_size {
        kbase::bail!(EMSGSIZE, "the message is too long");
    }
    let mut waiting = Some(load()?);
    let is_first =
        ctx.wait_until(&queue.changed, deadline_ns, || match queue.push(priority, waiting.take()?) {
            Ok(is_first) => Some(Ok(is_first)),
            Err(_) if open.is_nonblocking() => Some(Err(Error::new(Errno::EAGAIN, "the queue is full"))),
            Err(text) => {
                waiting = Some(text);
                None
            }
        })??;
    queue.changed.wake_all();
    queue.ready.broadcast(&Readiness::IN);
    if is_first {
        queue.notify(ctx);
    }
    Ok(())
}

/// `mq_timedreceive(2)`: the oldest message of the highest priority, and that.
///
/// # Errors
/// EBADF not a queue that is open for reading; EMSGSIZE the buffer is shorter than a message may be; EAGAIN; ETIMEDOUT;
/// ERESTARTSYS.
pub(crate) fn receive(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    len: usize,
    deadline_ns: Option<u64>,
) -> Result<(u32, Vec<u8>)> {
    let queue = &queue_of(open)?.queue;
    open.want_read()?;
    if len < queue.message_size {
        kbase::bail!(EMSGSIZE, "the buffer is shorter than a message may be");
    }
    let message = match queue.take() {
        Some(message) => message,
        None if open.is_nonblocking() => kbase::bail!(EAGAIN, "the queue is empty"),
        None => {
            queue.state.lock().receivers += 1;
            let result = ctx.wait_until(&queue.changed, deadline_ns, || queue.take());
            let mut state = queue.state.lock();
            state.receivers = state.receivers.saturating_sub(1);
            drop(state);
            result?
        }
    };
    queue.changed.wake_all();
    queue.ready.broadcast(&Readiness::OUT);
    Ok(message)
}

/// `mq_notify(2)`: asks to be told; `None` takes that back.
///
/// # Errors
/// EBADF; EBUSY another asked.
pub(crate) fn ask(ctx: &Ctx<'_>, open: &OpenFile, wanted: Option<Notify>) -> Result<()> {
    let queue = &queue_of(open)?.queue;
    let Some(how) = wanted else {
        queue.forget(|asked| asked.pid == ctx.process.pid);
        return Ok(());
    };
    let mut state = queue.state.lock();
    if state.notification.is_some() {
        kbase::bail!(EBUSY, "another process asked first");
    }
    state.notification = Some(Notification {
        pid: ctx.process.pid,
        table: ctx.files.id(),
        kernel: Arc::downgrade(ctx.kernel),
        how,
    });
    Ok(())
}

/// What `mq_getsetattr(2)` tells.
///
/// # Errors
/// EBADF.
pub(crate) fn attributes(open: &OpenFile) -> Result<MqAttr> {
    let queue = &queue_of(open)?.queue;
    let count = queue.state.lock().count;
    let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    Ok(MqAttr {
        mq_flags: (open.flags() & OpenFlags::NONBLOCK).bits().into(),
        mq_maxmsg: signed(queue.max_messages),
        mq_msgsize: signed(queue.message_size),
        mq_curmsgs: signed(count),
        ..MqAttr::default()
    })
}
