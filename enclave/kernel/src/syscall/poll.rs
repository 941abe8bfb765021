//! `poll(2)` and `select(2)`.

use super::Fd;
use crate::fs::poll::{Watched, poll as poll_files, told, waited_for};
use crate::{Ctx, signal};
use alloc::vec::Vec;
use kbase::{Result, UserAddr, UserPtr};
use linux_abi::fs::Pollfd;
use linux_abi::signal::SignalSet;
use linux_abi::time::{Timespec, Timeval};
use vfs::{Bands, Readiness};

const NS: u64 = 1_000_000_000;
/// POLLNVAL.
const INVALID: u16 = 0x20;
/// Descriptors of a `select(2)` at most.
const FD_SETSIZE: u32 = 1024;

/// `poll(2)`; the time is in milliseconds.
pub(super) fn poll(ctx: &Ctx<'_>, at: UserPtr<Pollfd>, count: u32, timeout_ms: i32) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok().map(|ms| ms.saturating_mul(1_000_000));
    poll_for(ctx, at, count, timeout)
}

/// `ppoll(2)`.
pub(super) fn ppoll(
    ctx: &Ctx<'_>,
    at: UserPtr<Pollfd>,
    count: u32,
    timeout: UserPtr<Timespec>,
    mask: UserAddr,
    mask_len: usize,
) -> Result<usize> {
    let timeout = timeout.non_null().map(|t| nanoseconds(t.read(ctx.user())?)).transpose()?;
    masked(ctx, mask, mask_len, || poll_for(ctx, at, count, timeout))
}

/// Runs a wait with another signal mask, if there is one.
///
/// # Errors
/// EINVAL the mask has another size; EFAULT.
pub(super) fn masked<T>(
    ctx: &Ctx<'_>,
    mask: UserAddr,
    mask_len: usize,
    wait: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if mask.is_null() {
        return wait();
    }
    if mask_len != size_of::<SignalSet>() {
        kbase::bail!(EINVAL, "a signal mask has eight bytes");
    }
    let mask = SignalSet(UserPtr::<u64>::new(mask).read(ctx.user())?);
    signal::with_mask(ctx, Some(mask), wait)
}

/// A relative time.
///
/// # Errors
/// EINVAL negative, or more nanoseconds than a second has.
pub(super) fn nanoseconds(time: Timespec) -> Result<u64> {
    let (Ok(seconds), Ok(ns)) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec)) else {
        kbase::bail!(EINVAL, "a negative time");
    };
    if ns >= NS {
        kbase::bail!(EINVAL, "more nanoseconds than a second has");
    }
    Ok(seconds.saturating_mul(NS).saturating_add(ns))
}

/// The time when a wait is over; 0: no wait.
pub(super) fn deadline(ctx: &Ctx<'_>, timeout_ns: Option<u64>) -> Option<u64> {
    match timeout_ns {
        Some(0) => Some(0),
        Some(ns) => Some(ctx.platform().monotonic_ns().saturating_add(ns)),
        None => None,
    }
}

fn poll_for(ctx: &Ctx<'_>, at: UserPtr<Pollfd>, count: u32, timeout_ns: Option<u64>) -> Result<usize> {
    if u64::from(count) > ctx.files.limit() {
        kbase::bail!(EINVAL, "more entries than there can be descriptors");
    }
    let mut rows = Vec::new();
    for index in 0..count {
        rows.push(at.index(index.into())?.read(ctx.user())?);
    }
    let mut watched = Vec::new();
    let mut row_of = Vec::new();
    let mut invalid = 0;
    for (index, row) in rows.iter_mut().enumerate() {
        row.revents = 0;
        let Ok(fd) = u32::try_from(row.fd) else { continue };
        match ctx.files.get_file(Fd(fd)) {
            Ok(open) => {
                watched.push(Watched { open, events: waited_for(row.events), found: Readiness::empty() });
                row_of.push(index);
            }
            Err(_) => {
                row.revents = INVALID;
                invalid += 1;
            }
        }
    }
    let deadline = if invalid > 0 { Some(0) } else { deadline(ctx, timeout_ns) };
    poll_files(ctx, &mut watched, deadline)?;
    for (&index, watch) in row_of.iter().zip(&watched) {
        if let Some(row) = rows.get_mut(index) {
            let asks_plain = Readiness::from_bits(row.events).is_some();
            let bands = if asks_plain { Bands::Plain } else { watch.open.file().bands() };
            row.revents = told(watch.found, row.events, bands);
        }
    }
    let mut found = 0;
    for (index, row) in (0u64..).zip(&rows) {
        let place = at.index(index)?;
        // Only the result is written back: the program may change the rest meanwhile.
        let result = UserPtr::<u16>::new(place.address().offset(6)?);
        result.write(ctx.user(), &row.revents)?;
        found += usize::from(row.revents != 0);
    }
    Ok(found)
}

/// `select(2)`; the time that is left is written back, as Linux does.
pub(super) fn select(
    ctx: &Ctx<'_>,
    count: u32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Timeval>,
) -> Result<usize> {
    let wanted = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let time = timeout.read(ctx.user())?;
            if time.tv_sec < 0 || time.tv_usec < 0 {
                kbase::bail!(EINVAL, "a negative time");
            }
            let us = time.tv_usec.unsigned_abs();
            let seconds = time.tv_sec.unsigned_abs().saturating_mul(NS);
            Some(seconds.saturating_add(us.saturating_mul(1000)))
        }
    };
    let end = deadline(ctx, wanted);
    let result = select_until(ctx, count, [read, write, except], end);
    if let (Some(timeout), Some(end)) = (timeout.non_null(), end) {
        let left = end.saturating_sub(ctx.platform().monotonic_ns());
        let time = Timeval { tv_sec: (left / NS).cast_signed(), tv_usec: (left % NS / 1000).cast_signed() };
        // A read-only time is no error.
        let _ = timeout.write(ctx.user(), &time);
    }
    result
}

/// `pselect6(2)`; the last argument points to a pointer to the mask and its length.
pub(super) fn pselect6(
    ctx: &Ctx<'_>,
    count: u32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Timespec>,
    mask: UserPtr<[u64; 2]>,
) -> Result<usize> {
    let timeout_ns = timeout.non_null().map(|t| nanoseconds(t.read(ctx.user())?)).transpose()?;
    let [mask, mask_len] = match mask.non_null() {
        Some(mask) => mask.read(ctx.user())?,
        None => [0, 0],
    };
    let mask_len = usize::try_from(mask_len).unwrap_or(usize::MAX);
    let end = deadline(ctx, timeout_ns);
    let result =
        masked(ctx, UserAddr(mask), mask_len, || select_until(ctx, count, [read, write, except], end));
    if let (Some(timeout), Some(end)) = (timeout.non_null(), end) {
        let left = end.saturating_sub(ctx.platform().monotonic_ns());
        let time = Timespec { tv_sec: (left / NS).cast_signed(), tv_nsec: (left % NS).cast_signed() };
        let _ = timeout.write(ctx.user(), &time);
    }
    result
}

/// What each set waits for, and what counts as found for it.
const SETS: [(Readiness, Readiness); 3] = [
    (Readiness::IN, Readiness::IN.union(Readiness::HUP).union(Readiness::ERR)),
    (Readiness::OUT, Readiness::OUT.union(Readiness::ERR)),
    (Readiness::PRI, Readiness::PRI),
];

fn select_until(
    ctx: &Ctx<'_>,
    count: u32,
    sets: [UserPtr<u64>; 3],
    deadline_ns: Option<u64>,
) -> Result<usize> {
    if count > i32::MAX.cast_unsigned() {
        kbase::bail!(EINVAL, "a negative number of descriptors");
    }
    let count = count.min(FD_SETSIZE);
    let words = u64::from(count.div_ceil(64));
    let mut bits: [Vec<u64>; 3] = Default::default();
    for (set, bits) in sets.iter().zip(&mut bits) {
        for word in 0..words {
            let value = match set.non_null() {
                Some(set) => set.index(word)?.read(ctx.user())?,
                None => 0,
            };
            bits.push(value);
        }
    }
    let mut watched = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..count {
        let mut events = Readiness::empty();
        for ((wanted, _), bits) in SETS.iter().zip(&bits) {
            events.set(*wanted, is_set(bits, fd));
        }
        if events.is_empty() {
            continue;
        }
        let open = ctx.files.get_file(Fd(fd))?;
        watched.push(Watched { open, events, found: Readiness::empty() });
        numbers.push(fd);
    }
    poll_files(ctx, &mut watched, deadline_ns)?;
    let mut found = 0;
    let mut results: [Vec<u64>; 3] = bits.each_ref().map(|bits| alloc::vec![0; bits.len()]);
    for (&fd, watch) in numbers.iter().zip(&watched) {
        for (((_, counts), bits), result) in SETS.iter().zip(&bits).zip(&mut results) {
            if is_set(bits, fd) && watch.found.intersects(*counts) {
                set_bit(result, fd);
                found += 1;
            }
        }
    }
    for (set, result) in sets.iter().zip(&results) {
        if let Some(set) = set.non_null() {
            for (index, word) in (0u64..).zip(result) {
                set.index(index)?.write(ctx.user(), word)?;
            }
        }
    }
    Ok(found)
}

fn is_set(bits: &[u64], fd: u32) -> bool {
    let word = usize::try_from(fd / 64).ok().and_then(|index| bits.get(index));
    word.is_some_and(|word| word & (1 << (fd % 64)) != 0)
}

fn set_bit(bits: &mut [u64], fd: u32) {
    if let Some(word) = usize::try_from(fd / 64).ok().and_then(|index| bits.get_mut(index)) {
        *word |= 1 << (fd % 64);
    }
}
