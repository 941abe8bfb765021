//! System V semaphores and message queues: `semget(2)`, `semop(2)`, `semctl(2)`, `msgget(2)`, `msgsnd(2)`, `msgrcv(2)`,
//! `msgctl(2)`.

use crate::Ctx;
use crate::ipc::message::{self, MAX_MESSAGE, MAX_QUEUE, Message, MessageQueue};
use crate::ipc::semaphore::{self, MAX_IN_SET, MAX_OPERATIONS, MAX_VALUE, SemaphoreSet};
use crate::ipc::{MAX_OBJECTS, Object, now_s};
use crate::process::capability;
use crate::time::deadline_after;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::ipc::{IPC_NOWAIT, MSG_COPY, MSG_EXCEPT, Msginfo, MsqidDs, Sembuf, SemidDs, Seminfo, command};
use linux_abi::time::Timespec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Permission to read, in all three places of a mode.
const READ: u32 = 0o444;
/// Permission to change.
const WRITE: u32 = 0o222;

/// What an IPC_SET is to set.
pub(super) fn read_if<T: FromBytes + IntoBytes + Immutable>(
    ctx: &Ctx<'_>,
    is_wanted: bool,
    from: UserAddr,
) -> Result<Option<T>> {
    if is_wanted { UserPtr::new(from).read(ctx.user()).map(Some) } else { Ok(None) }
}

/// A number of objects as `int`.
fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// `semget(2)`.
pub(super) fn semget(ctx: &Ctx<'_>, key: i32, count: i32, flags: u32) -> Result<i32> {
    let wrong = Error::new(Errno::EINVAL, "no such number of semaphores");
    let count = u64::try_from(count).ok().filter(|&count| count <= MAX_IN_SET).ok_or(wrong)?;
    let count = usize::try_from(count).map_err(|_| wrong)?;
    let now = now_s(ctx.kernel);
    let check = |set: &SemaphoreSet| if count > set.len() { Err(wrong) } else { Ok(()) };
    let make = || if count == 0 { Err(wrong) } else { Ok(SemaphoreSet::new(count, now)) };
    ctx.kernel.ipc.semaphores.get(ctx, key, flags, check, make)
}

/// `semop(2)`.
pub(super) fn semop(ctx: &Ctx<'_>, id: i32, operations: UserPtr<Sembuf>, count: usize) -> Result<()> {
    semtimedop(ctx, id, operations, count, UserPtr::new(UserAddr(0)))
}

/// `semtimedop(2)`.
pub(super) fn semtimedop(
    ctx: &Ctx<'_>,
    id: i32,
    operations: UserPtr<Sembuf>,
    count: usize,
    timeout: UserPtr<Timespec>,
) -> Result<()> {
    let timeout = timeout.non_null().map(|timeout| timeout.read(ctx.user())).transpose()?;
    if count > MAX_OPERATIONS {
        kbase::bail!(E2BIG, "too many operations");
    }
    if count == 0 {
        kbase::bail!(EINVAL, "no operations");
    }
    let mut list = Vec::with_capacity(count);
    for index in 0..count as u64 {
        list.push(operations.index(index)?.read(ctx.user())?);
    }
    let deadline = timeout.map(|timeout| deadline_after(ctx, timeout)).transpose()?;
    let set = ctx.kernel.ipc.semaphores.find(id)?;
    let len = set.value.len();
    if list.iter().any(|one| usize::from(one.sem_num) >= len) {
        kbase::bail!(EFBIG, "no semaphore has the number");
    }
    let changes = list.iter().any(|one| one.sem_op != 0);
    set.check_access(ctx, if changes { WRITE } else { READ })?;
    semaphore::operate(ctx, &set, &list, deadline)
}

/// `semctl(2)`.
pub(super) fn semctl(ctx: &Ctx<'_>, id: i32, number: i32, cmd: u32, argument: UserAddr) -> Result<u64> {
    let sets = &ctx.kernel.ipc.semaphores;
    if id < 0 {
        kbase::bail!(EINVAL, "a negative identifier");
    }
    match cmd {
        command::IPC_INFO | command::SEM_INFO => {
            let list = sets.list();
            let (used, total) = (list.len(), list.iter().map(|set| set.value.len()).sum());
            let is_usage = cmd == command::SEM_INFO;
            let most = i32::try_from(MAX_IN_SET).unwrap_or(i32::MAX);
            let info = Seminfo {
                semmni: int(MAX_OBJECTS),
                semmns: int(MAX_OBJECTS).saturating_mul(most),
                semmap: int(MAX_OBJECTS).saturating_mul(most),
                semmnu: int(MAX_OBJECTS).saturating_mul(most),
                semmsl: most,
                semopm: int(MAX_OPERATIONS),
                semume: int(MAX_OPERATIONS),
                semvmx: MAX_VALUE,
                semusz: if is_usage { int(used) } else { 20 },
                semaem: if is_usage { int(total) } else { MAX_VALUE },
            };
            UserPtr::new(argument).write(ctx.user(), &info)?;
            return Ok(sets.highest_index());
        }
        command::SEM_STAT | command::SEM_STAT_ANY => {
            let set = sets.at(id)?;
            if cmd == command::SEM_STAT {
                set.check_access(ctx, READ)?;
            }
            UserPtr::new(argument).write(ctx.user(), &describe_set(&set))?;
            return Ok(set.id.unsigned_abs().into());
        }
        _ => {}
    }
    // Linux reads what is to be set, and looks at a value, before it looks for the set.
    let change = read_if::<SemidDs>(ctx, cmd == command::IPC_SET, argument)?;
    let [a, b, c, d, ..] = argument.0.to_le_bytes();
    let value = i32::from_le_bytes([a, b, c, d]);
    if cmd == command::SETVAL && !(0..=MAX_VALUE).contains(&value) {
        kbase::bail!(ERANGE, "not a value of a semaphore");
    }
    let set = sets.find(id)?;
    let pid = ctx.process.pid;
    match cmd {
        command::IPC_RMID => {
            set.check_owner(ctx)?;
            sets.remove(&set);
            set.value.wake_all();
        }
        command::IPC_SET => {
            set.check_owner(ctx)?;
            set.set_permission(&change.unwrap_or_default().sem_perm)?;
            set.value.touch(now_s(ctx.kernel));
        }
        command::IPC_STAT => {
            set.check_access(ctx, READ)?;
            UserPtr::new(argument).write(ctx.user(), &describe_set(&set))?;
        }
        command::GETALL => {
            set.check_access(ctx, READ)?;
            let into = UserPtr::<u16>::new(argument);
            for (index, value) in (0..).zip(set.value.values()) {
                into.index(index)?.write(ctx.user(), &value)?;
            }
        }
        command::SETALL => {
            set.check_access(ctx, WRITE)?;
            let from = UserPtr::<u16>::new(argument);
            let indices = 0..set.value.len() as u64;
            let values: Result<Vec<u16>> = indices.map(|index| from.index(index)?.read(ctx.user())).collect();
            set.value.set_all(&values?, pid, now_s(ctx.kernel))?;
        }
        command::SETVAL => {
            set.value.look(number)?;
            set.check_access(ctx, WRITE)?;
            set.value.set(number, value, pid, now_s(ctx.kernel))?;
        }
        command::GETVAL | command::GETPID | command::GETNCNT | command::GETZCNT => {
            set.check_access(ctx, READ)?;
            let (value, last, more, zero) = set.value.look(number)?;
            return Ok(match cmd {
                command::GETVAL => value.unsigned_abs(),
                command::GETPID => last,
                command::GETNCNT => more,
                _ => zero,
            }
            .into());
        }
        _ => kbase::bail!(EINVAL, "unknown command"),
    }
    Ok(0)
}

fn describe_set(set: &Arc<Object<SemaphoreSet>>) -> SemidDs {
    let (sem_otime, sem_ctime) = set.value.times_s();
    SemidDs {
        sem_perm: set.permission(),
        sem_otime,
        sem_ctime,
        sem_nsems: set.value.len() as u64,
        ..SemidDs::default()
    }
}

/// `msgget(2)`.
pub(super) fn msgget(ctx: &Ctx<'_>, key: i32, flags: u32) -> Result<i32> {
    let now = now_s(ctx.kernel);
    ctx.kernel.ipc.messages.get(ctx, key, flags, |_| Ok(()), || Ok(MessageQueue::new(now)))
}

/// `msgsnd(2)`: a type, and then the text.
pub(super) fn msgsnd(ctx: &Ctx<'_>, id: i32, from: UserPtr<i64>, len: usize, flags: u32) -> Result<()> {
    let kind = from.read(ctx.user())?;
    if len > MAX_MESSAGE || id < 0 || kind < 1 {
        kbase::bail!(EINVAL, "too long a message, no identifier, or no type");
    }
    let mut text = alloc::vec![0; len];
    ctx.user().load(from.address().offset(8)?, &mut text)?;
    let queue = ctx.kernel.ipc.messages.find(id)?;
    queue.check_access(ctx, WRITE)?;
    message::send(ctx, &queue, Message { kind, text }, flags)
}

/// `msgrcv(2)`.
pub(super) fn msgrcv(
    ctx: &Ctx<'_>,
    id: i32,
    into: UserPtr<i64>,
    len: usize,
    kind: i64,
    flags: u32,
) -> Result<usize> {
    if id < 0 || i64::try_from(len).is_err() {
        kbase::bail!(EINVAL, "no identifier, or a negative length");
    }
    if flags & MSG_COPY != 0 && (flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        kbase::bail!(EINVAL, "MSG_COPY wants IPC_NOWAIT and no MSG_EXCEPT");
    }
    if flags & MSG_COPY != 0 && len > 0 {
        // Linux makes the copy of what is there before it looks for the message.
        ctx.user().load(into.address(), &mut alloc::vec![0; len.min(MAX_MESSAGE)])?;
    }
    let queue = ctx.kernel.ipc.messages.find(id)?;
    queue.check_access(ctx, READ)?;
    let message = message::receive(ctx, &queue, kind, len, flags)?;
    into.write(ctx.user(), &message.kind)?;
    ctx.user().store(into.address().offset(8)?, &message.text)?;
    Ok(message.text.len())
}

/// `msgctl(2)`.
pub(super) fn msgctl(ctx: &Ctx<'_>, id: i32, cmd: u32, argument: UserAddr) -> Result<u64> {
    let queues = &ctx.kernel.ipc.messages;
    if id < 0 {
        kbase::bail!(EINVAL, "a negative identifier");
    }
    let describe = |queue: &Arc<Object<MessageQueue>>| MsqidDs {
        msg_perm: queue.permission(),
        ..queue.value.describe()
    };
    match cmd {
        command::IPC_INFO | command::MSG_INFO => {
            let mut info = Msginfo {
                msgmax: int(MAX_MESSAGE),
                msgmnb: i32::try_from(MAX_QUEUE).unwrap_or(i32::MAX),
                msgmni: int(MAX_OBJECTS),
                msgssz: 16,
                msgseg: 0xffff,
                ..Msginfo::default()
            };
            if cmd == command::MSG_INFO {
                let all: Vec<MsqidDs> = queues.list().iter().map(|queue| queue.value.describe()).collect();
                let sum = |part: fn(&MsqidDs) -> u64| {
                    i32::try_from(all.iter().map(part).sum::<u64>()).unwrap_or(i32::MAX)
                };
                info.msgpool = int(all.len());
                info.msgmap = sum(|queue| queue.msg_qnum);
                info.msgtql = sum(|queue| queue.msg_cbytes);
            } else {
                info.msgpool = info.msgmni.saturating_mul(info.msgmnb / 1024);
                info.msgmap = info.msgmnb;
                info.msgtql = info.msgmnb;
            }
            UserPtr::new(argument).write(ctx.user(), &info)?;
            return Ok(queues.highest_index());
        }
        command::MSG_STAT | command::MSG_STAT_ANY => {
            let queue = queues.at(id)?;
            if cmd == command::MSG_STAT {
                queue.check_access(ctx, READ)?;
            }
            UserPtr::new(argument).write(ctx.user(), &describe(&queue))?;
            return Ok(queue.id.unsigned_abs().into());
        }
        _ => {}
    }
    let change = read_if::<MsqidDs>(ctx, cmd == command::IPC_SET, argument)?;
    let queue = queues.find(id)?;
    match cmd {
        command::IPC_RMID => {
            queue.check_owner(ctx)?;
            queues.remove(&queue);
            queue.value.wake_all();
        }
        command::IPC_SET => {
            let new = change.unwrap_or_default();
            queue.check_owner(ctx)?;
            if new.msg_qbytes > MAX_QUEUE && !ctx.process.credentials.is_capable(capability::SYS_RESOURCE) {
                kbase::bail!(EPERM, "the queue would be too large");
            }
            queue.set_permission(&new.msg_perm)?;
            queue.value.set_limit(new.msg_qbytes, now_s(ctx.kernel));
        }
        command::IPC_STAT => {
            queue.check_access(ctx, READ)?;
            UserPtr::new(argument).write(ctx.user(), &describe(&queue))?;
        }
        _ => kbase::bail!(EINVAL, "unknown command"),
    }
    Ok(0)
}
