//! Several messages in one call: one exit where the socket is the host's.

use super::Fd;
use super::socket::{control_room, iovecs, is_blocking, load_names, receive_one, send_one, tell};
use crate::Ctx;
use crate::fs::OpenFile;
use crate::net::inet::io::DATAGRAM;
use crate::net::{self, Parcel, Received, local};
use alloc::vec::Vec;
use core::ops::Range;
use kbase::{ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSink, UserSource};
use linux_abi::net::{MESSAGES_MAX, MessageFlags, Mmsghdr};
use linux_abi::time::Timespec;
use platform::HostWanted;

/// Messages that go together at most.
const TOGETHER: usize = 64;
/// Bytes of the data of messages that go together, but for the last.
const BYTES: usize = 128 * 1024;

/// How far a call got.
struct Step {
    /// Messages that were sent or received.
    count: u32,
    /// What comes next failed.
    is_last: bool,
}

impl Step {
    const ONE: Self = Self { count: 1, is_last: false };
}

/// Takes steps until all messages are done. An error after the first message only ends it.
fn walk(count: u32, mut step: impl FnMut(Range<u32>) -> Result<Step>) -> Result<u32> {
    let mut done = 0;
    while done < count {
        match step(done..count) {
            Ok(Step { count: more, is_last }) => {
                done = done.saturating_add(more);
                if is_last {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The first messages of a vector, and what `load` makes of them: as many as go together, and those before the first that
/// cannot be loaded. `load` also says how many bytes of data there are.
fn load<T>(
    ctx: &Ctx<'_>,
    vector: UserPtr<Mmsghdr>,
    range: Range<u32>,
    load: impl Fn(&Mmsghdr) -> Result<(T, usize)>,
) -> Vec<(UserPtr<Mmsghdr>, Mmsghdr, T)> {
    let (mut loaded, mut bytes) = (Vec::new(), 0usize);
    for index in range.take(TOGETHER) {
        let one = || {
            let at = vector.index(index.into())?;
            let message = at.read(ctx.user())?;
            let (value, len) = load(&message)?;
            Ok::<_, Error>(((at, message, value), len))
        };
        let Ok((row, len)) = one() else { break };
        loaded.push(row);
        bytes = bytes.saturating_add(len);
        if bytes >= BYTES {
            break;
        }
    }
    loaded
}

/// Writes the length of a message that was sent or received.
fn write_len(ctx: &Ctx<'_>, at: UserPtr<Mmsghdr>, mut message: Mmsghdr, len: usize) -> Result<()> {
    message.len = u32::try_from(len).unwrap_or(u32::MAX);
    at.write(ctx.user(), &message)
}

/// `sendmmsg(2)`.
pub(super) fn sendmmsg(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
) -> Result<u32> {
    let open = ctx.files.get_file(fd)?;
    net::of(&open)?;
    walk(count.min(MESSAGES_MAX), |range| send_next(ctx, &open, (vector, range), flags))
}

fn send_next(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    (vector, range): (UserPtr<Mmsghdr>, Range<u32>),
    flags: u32,
) -> Result<Step> {
    let at = vector.index(range.start.into())?;
    if range.len() > 1
        && let Some(batches) = net::of(open)?.batches()
    {
        let (mut rows, parcels): (Vec<_>, Vec<_>) = load(ctx, vector, range, |message| {
            let (to, control) = load_names(ctx, &message.header)?;
            let mut from = UserSource::vectored(ctx.user(), iovecs(ctx, &message.header)?);
            let mut data = alloc::vec![0; from.remaining().min(DATAGRAM)];
            let len = if data.is_empty() { 0 } else { from.take(&mut data)? };
            data.truncate(len);
            Ok((Parcel { to, control, data }, len))
        })
        .into_iter()
        .map(|(at, message, parcel)| ((at, message), parcel))
        .unzip();
        if parcels.len() > 1 {
            let flags = MessageFlags::from_bits_retain(flags);
            let sent = batches.send_several(ctx, &parcels, flags, is_blocking(open, flags))?;
            for ((at, message), parcel) in rows.drain(..).zip(&parcels).take(sent) {
                write_len(ctx, at, message, parcel.data.len())?;
            }
            let count = u32::try_from(sent).unwrap_or(u32::MAX);
            return Ok(Step { count, is_last: sent < parcels.len() });
        }
    }
    let message = at.read(ctx.user())?;
    let sent = send_one(ctx, open, &message.header, flags)?;
    write_len(ctx, at, message, sent)?;
    Ok(Step::ONE)
}

/// `recvmmsg(2)`. As on Linux, the time limit is looked at after messages only.
pub(super) fn recvmmsg(
    ctx: &Ctx<'_>,
    fd: Fd,
    vector: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
) -> Result<u32> {
    let now = || ctx.platform().monotonic_ns();
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let time = timeout.read(ctx.user())?;
            let limit = time.to_ns().ok_or(Error::new(Errno::EINVAL, "a time that makes no sense"))?;
            Some(now().saturating_add(limit))
        }
    };
    let open = ctx.files.get_file(fd)?;
    net::of(&open)?;
    let mut flags = MessageFlags::from_bits_retain(flags);
    if !flags.contains(MessageFlags::ERRQUEUE)
        && let Some(errno) = net::of(&open)?.take_pending()
    {
        return Err(Error::new(errno, "what went wrong before, whatever can be received"));
    }
    let is_over = || deadline.is_some_and(|deadline| now() >= deadline);
    walk(count.min(MESSAGES_MAX), |mut range| {
        if is_over() {
            // It ends after the next.
            range.end = range.start.saturating_add(1);
        }
        let mut step = receive_next(ctx, &open, (vector, range), flags)?;
        if flags.contains(MessageFlags::WAITFORONE) {
            flags |= MessageFlags::DONTWAIT;
        }
        step.is_last |= is_over();
        Ok(step)
    })
}

/// Where a message that is received goes.
struct Room {
    buffers: Vec<(UserAddr, usize)>,
    wanted: HostWanted,
}

fn receive_next(
    ctx: &Ctx<'_>,
    open: &OpenFile,
    (vector, range): (UserPtr<Mmsghdr>, Range<u32>),
    flags: MessageFlags,
) -> Result<Step> {
    let at = vector.index(range.start.into())?;
    let stays = MessageFlags::PEEK | MessageFlags::OOB | MessageFlags::ERRQUEUE;
    if range.len() > 1
        && !flags.intersects(stays)
        && let Some(batches) = net::of(open)?.batches()
    {
        let rows = load(ctx, vector, range, |message| {
            let buffers = iovecs(ctx, &message.header)?;
            let len = buffers.iter().fold(0usize, |sum, &(_, len)| sum.saturating_add(len)).min(DATAGRAM);
            let wanted = HostWanted { data: len, control: control_room(&message.header) };
            Ok((Room { buffers, wanted }, len))
        });
        if rows.len() > 1 {
            let wanted: Vec<HostWanted> = rows.iter().map(|(_, _, room)| room.wanted).collect();
            let received = batches.receive_several(ctx, &wanted, flags, is_blocking(open, flags))?;
            if !received.is_empty() {
                return hand_out(ctx, rows, &received, flags);
            }
        }
    }
    let mut message = at.read(ctx.user())?;
    let len = receive_one(ctx, open, &mut message.header, flags)?;
    write_len(ctx, at, message, len)?;
    Ok(Step::ONE)
}

/// Copies received messages out. What cannot be is lost, and what comes behind it.
fn hand_out(
    ctx: &Ctx<'_>,
    rows: Vec<(UserPtr<Mmsghdr>, Mmsghdr, Room)>,
    messages: &[(Received, Vec<u8>)],
    flags: MessageFlags,
) -> Result<Step> {
    let mut count = 0;
    for ((at, mut message, room), (received, data)) in rows.into_iter().zip(messages) {
        let copied = local::put_whole(&mut UserSink::vectored(ctx.user(), room.buffers), data)
            .and_then(|()| tell(ctx, &mut message.header, received, flags))
            .and_then(|()| write_len(ctx, at, message, received.len));
        match copied {
            Ok(()) => count += 1,
            Err(error) if count == 0 => return Err(error),
            Err(_) => return Ok(Step { count, is_last: true }),
        }
    }
    Ok(Step { count, is_last: false })
}
