//! Serving OCALLs.

use crate::enclave::Shared;
use crate::files;
use crate::park::{FOREVER, clock_ns};
use crate::schedule;
use crate::slot::Slot;
use crate::sockets;
use edge_abi::ecall::LogLevel;
use edge_abi::ocall::{ClockSample, EdgeFrame, Ocall, WirePoll};
use edge_abi::readiness::AT_ONCE;
use linux_abi::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

/// The real-time signal that interrupts an enclave thread.
pub(crate) const INTERRUPT_SIGNAL: i32 = 64;

/// Serves the OCALL in the slot's frame and stores its result.
pub(crate) fn serve(shared: &Arc<Shared>, slot: &Slot) {
    let frame = slot.channel.frame();
    let result = match Ocall::from_number(frame.number) {
        None => Err(libc::ENOSYS),
        Some(call) => {
            shared.count(call);
            answer(shared, slot, call, &frame)
        }
    };
    slot.channel.set_result(match result {
        Ok(value) => value,
        Err(errno) => i64::from(-errno).cast_unsigned(),
    });
}

/// Turns an `io::Error` into the errno for the enclave.
pub(crate) fn errno_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn unit(result: std::io::Result<()>) -> Result<u64, i32> {
    result.map(|()| 0).map_err(|error| errno_of(&error))
}

/// Applies what a thread asks of the scheduler to the host thread in its slot.
fn reschedule(shared: &Shared, buffer: &[u8], args: &[u64; 6]) -> Result<u64, i32> {
    let [slot, policy, _priority, nice, len, _] = *args;
    let slot = shared.slots.get(slot).ok_or(libc::ESRCH)?;
    let set = usize::try_from(len).ok().and_then(|len| buffer.get(..len)).ok_or(libc::EMSGSIZE)?;
    let request = schedule::Request::decode([policy, nice], set)?;
    let host_tid = slot.host_tid.load(Ordering::Acquire);
    if host_tid == 0 {
        return Err(libc::ESRCH);
    }
    slot.is_scheduled.store(true, Ordering::Release);
    schedule::apply(host_tid, &request).map(|()| 0)
}

/// Both clocks at one time: taken again when something came in between.
fn clocks() -> ClockSample {
    const TRIES: usize = 4;
    const CLOSE_NS: u64 = 10_000;
    let sample = || {
        let monotonic_ns = clock_ns(libc::CLOCK_MONOTONIC);
        let realtime_ns = clock_ns(libc::CLOCK_REALTIME);
        let took = clock_ns(libc::CLOCK_MONOTONIC) - monotonic_ns;
        (took, ClockSample { monotonic_ns, realtime_ns })
    };
    let mut best = sample();
    for _ in 1..TRIES {
        if best.0 <= CLOSE_NS {
            break;
        }
        let (took, again) = sample();
        if took < best.0 {
            best = (took, again);
        }
    }
    best.1
}

fn answer(shared: &Arc<Shared>, slot: &Slot, call: Ocall, frame: &EdgeFrame) -> Result<u64, i32> {
    let [a0, a1, a2, ..] = frame.args;
    let buffer = slot.channel.buffer();
    let enclave = &shared.enclave;
    match call {
        Ocall::Log => {
            let text = buffer.get(..a1 as usize).ok_or(libc::EMSGSIZE)?;
            (shared.log)(a0, &String::from_utf8_lossy(text));
            Ok(0)
        }
        Ocall::Clock => {
            clocks().write_to_prefix(buffer).map_err(|_| libc::EMSGSIZE)?;
            Ok(0)
        }
        Ocall::ThreadCpu => Ok(clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)),
        Ocall::Park => Ok(u64::from(slot.parker.park(a0))),
        Ocall::Unpark => {
            shared.slots.get(a0).map(|other| other.parker.unpark()).map_or(Err(libc::ESRCH), |()| Ok(0))
        }
        Ocall::Interrupt => {
            shared.interrupt(a0);
            Ok(0)
        }
        Ocall::InterruptAt => {
            let weak = Arc::downgrade(shared);
            shared.timer.set(a0, a1, move |slot| {
                if let Some(shared) = weak.upgrade() {
                    shared.interrupt(slot);
                }
            });
            Ok(0)
        }
        Ocall::StartThread => unit(shared.slots.grow(a1).and_then(|()| shared.pool.start(shared, a0))),
        Ocall::Yield => {
            std::thread::yield_now();
            Ok(0)
        }
        Ocall::Schedule => reschedule(shared, buffer, &frame.args),
        Ocall::CurrentCpu => Ok(schedule::current_cpu()),
        Ocall::RestrictPermissions => unit(enclave.restrict_permissions(a0, a1, a2)),
        Ocall::ModifyTypes => unit(enclave.modify_types(a0, a1, a2 as u8)),
        Ocall::RemovePages => unit(enclave.remove_pages(a0, a1)),
        Ocall::MapPermissions => unit(enclave.map_permissions(a0, a1, a2)),
        Ocall::Poll => poll(shared, slot, buffer, a0, a1),
        Ocall::Read => read(slot, buffer, a0, a1),
        Ocall::Watch | Ocall::Unwatch | Ocall::ReadinessRing => {
            if call == Ocall::Watch && a2 == AT_ONCE {
                let weak = Arc::downgrade(shared);
                let tell =
                    move |events: &[_]| weak.upgrade().is_some_and(|shared| shared.tell_of_edges(events));
                shared.readiness.alerts.start(tell).map_err(|error| errno_of(&error))?;
            }
            shared.readiness.answer(&shared.slots, slot, call, &frame.args)
        }
        Ocall::RingOpen => {
            let tell = |error: &std::io::Error| {
                let text = format!("no ring of operations with the host's Linux, so each is a call: {error}");
                (shared.log)(LogLevel::Warn as u64, &text);
            };
            shared.rings.open(tell)?.write_to_prefix(buffer).map_err(|_| libc::EMSGSIZE)?;
            Ok(0)
        }
        Ocall::RingWake => shared.rings.wake(),
        Ocall::ParkReady => Ok(u64::from(shared.readiness.park(&shared.slots, slot, a0))),
        Ocall::Accept | Ocall::Receive | Ocall::ReceiveMessage | Ocall::ReceiveMessages => {
            shared.readiness.note_use(slot, a0);
            sockets::answer(call, &frame.args, buffer)
        }
        Ocall::SendMessages | Ocall::ConnectAt | Ocall::SendFile => {
            sockets::answer(call, &frame.args, buffer)
        }
        _ if (Ocall::Socket..=Ocall::Interfaces).contains(&call) => {
            sockets::answer(call, &frame.args, buffer)
        }
        _ => files::answer(call, &frame.args, buffer),
    }
}

fn poll(shared: &Shared, slot: &Slot, buffer: &mut [u8], count: u64, deadline_ns: u64) -> Result<u64, i32> {
    let bytes = (count as usize).checked_mul(size_of::<WirePoll>()).ok_or(libc::EINVAL)?;
    let table = buffer.get_mut(..bytes).ok_or(libc::EINVAL)?;
    let rows = <[WirePoll]>::mut_from_bytes(table).map_err(|_| libc::EINVAL)?;
    shared.readiness.poll(&shared.slots, slot, rows, deadline_ns)
}

/// Waits until the descriptor is readable, so that an unpark can end the wait, and reads.
fn read(slot: &Slot, buffer: &mut [u8], fd: u64, len: u64) -> Result<u64, i32> {
    let fd = files::descriptor(fd)?;
    let into = buffer.get_mut(..len as usize).ok_or(libc::EINVAL)?;
    let mut row = [WirePoll { fd, events: libc::POLLIN.cast_unsigned(), revents: 0 }];
    let is_ready = matches!(slot.parker.poll(&mut row, 0, None), Ok(1..));
    if !is_ready && files::is_blocking(fd) {
        slot.parker.poll(&mut row, FOREVER, None)?;
    }
    // SAFETY: `into` is a valid buffer of its length.
    files::checked(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) } as i64)
}

const _: () = assert!(Errno::EINTR.number() as i32 == libc::EINTR);
