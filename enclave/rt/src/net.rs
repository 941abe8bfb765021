//! Host sockets by OCALL, and what is checked of the answers.
//!
//! A descriptor that the host gives must be new: two sockets of the kernel never share one. An address has at most 128 bytes,
//! data and control messages are no longer than was asked for, and a control message is of a kind and a length that an
//! internet socket may get. What breaks these rules is EIO. A host that interrupts a call that does not block, again and again,
//! gets EIO too.

use crate::host::{FD_MAX, channel, descriptor, raw};
use crate::ocall::{Channel, call};
use crate::runtime::Runtime;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use edge_abi::net::{
    CONTROL_AT, CONTROL_MAX, DATA_AT, DATA_MAX, INTERFACES_MAX, MESSAGES_MAX, Places, WireInterface,
    WireMessage, WireName, WireRow, passes,
};
use edge_abi::ocall::Ocall;
use linux_abi::Errno;
use linux_abi::net::{MessageFlags, SOCKADDR_MAX, control, family};
use platform::sync::Mutex;
use platform::{
    HostAddress, HostBatch, HostError, HostFd, HostInterface, HostMessage, HostNet, HostReceived, HostResult,
    HostSent, HostWanted,
};
use zerocopy::{FromZeros, IntoBytes};

/// How often a call is made again after EINTR.
const MOST_INTERRUPTIONS: u32 = 16;
/// What a call can return at most with MSG_TRUNC.
const LENGTH_MAX: u64 = i32::MAX as u64;

/// The sockets that the host gave and that are not closed.
static OPEN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Forgets all sockets.
#[cfg(fuzzing)]
pub(crate) fn forget() {
    OPEN.lock().clear();
}

/// A socket is not the kernel's any more: the host may give its number again. False: it was not.
pub(crate) fn disown(fd: HostFd) -> bool {
    OPEN.lock().remove(&fd.0)
}

const EIO: HostError = HostError(Errno::EIO);

/// Takes a socket from the host.
fn take(fd: u64) -> HostResult<HostFd> {
    let fd = descriptor(fd);
    if fd.0 > 2 && OPEN.lock().insert(fd.0) { Ok(fd) } else { Err(EIO) }
}

/// Makes a call that does not block again while the host says EINTR, but not for ever.
fn patiently<T>(mut act: impl FnMut() -> HostResult<T>) -> HostResult<T> {
    for _ in 0..MOST_INTERRUPTIONS {
        match act() {
            Err(HostError(Errno::EINTR)) => {}
            result => return result,
        }
    }
    Err(EIO)
}

/// Judges an address from the host.
fn address(wire: &WireName) -> HostResult<HostAddress> {
    let bytes = wire.bytes.get(..wire.len as usize).ok_or(EIO)?;
    HostAddress::new(bytes).ok_or(EIO)
}

fn wire(address: &HostAddress) -> WireName {
    let mut wire = WireName::new_zeroed();
    let bytes = address.as_bytes();
    wire.len = bytes.len() as u32;
    for (to, from) in wire.bytes.iter_mut().zip(bytes) {
        *to = *from;
    }
    wire
}

/// Judges control messages from the host.
fn check_control(chain: &[u8]) -> HostResult<()> {
    for message in control::messages(chain) {
        let message = message.map_err(|_| EIO)?;
        let (least, most) = control::host_lengths(message.level, message.kind).ok_or(EIO)?;
        if !(least..=most).contains(&message.data.len()) {
            return Err(EIO);
        }
    }
    Ok(())
}

/// A call with an address in the buffer.
fn with_address(number: Ocall, fd: HostFd, address: &HostAddress) -> HostResult<()> {
    patiently(|| {
        let channel = channel()?;
        channel.put(0, address.as_bytes())?;
        let args = [raw(fd), address.as_bytes().len() as u64, 0, 0, 0, 0];
        channel.call(number, args, 0).map(|_| ())
    })
}

/// What a receiving call may return at most.
fn most_received(wanted: usize, flags: u32) -> u64 {
    let tells_length = flags & MessageFlags::TRUNC.bits() != 0;
    if tells_length { LENGTH_MAX } else { wanted as u64 }
}

/// Copies received data out of the channel.
fn take_data(channel: Channel, at: usize, len: usize, into: &mut Vec<u8>) -> HostResult<()> {
    into.clear();
    into.resize(len, 0);
    channel.take(at, into)
}

/// What goes before the data of a message to send.
fn outgoing(message: &HostMessage<'_>) -> WireMessage {
    WireMessage { flags: message.flags, control_len: message.control.len() as u32, name: wire(&message.to) }
}

/// Judges a message from the host whose header says `header`, and copies it out of the channel.
fn incoming(
    channel: Channel,
    header: &WireMessage,
    (control_at, data_at): (usize, usize),
    len: usize,
    wanted: HostWanted,
) -> HostResult<HostReceived> {
    let control_len = header.control_len as usize;
    if control_len > wanted.control {
        return Err(EIO);
    }
    let mut received = HostReceived {
        from: address(&header.name)?,
        len,
        flags: header.flags & MessageFlags::all().bits(),
        ..HostReceived::default()
    };
    take_data(channel, control_at, control_len, &mut received.control)?;
    check_control(&received.control)?;
    take_data(channel, data_at, len.min(wanted.data), &mut received.data)?;
    Ok(received)
}

/// Where a row is.
const fn row_at(index: usize) -> usize {
    index * size_of::<WireRow>()
}

/// Puts rows and messages into the channel, as many as it takes. Returns how many.
fn put_messages(channel: Channel, messages: &[HostMessage<'_>]) -> HostResult<usize> {
    let mut places = Places::new();
    for (index, message) in messages.iter().take(MESSAGES_MAX).enumerate() {
        let place = places.next(message.control.len(), message.data.len());
        let Some((control_at, data_at)) = place else { return Ok(index) };
        let row = WireRow { message: outgoing(message), data_len: message.data.len() as u32, error: 0 };
        channel.put(row_at(index), row.as_bytes())?;
        channel.put(control_at, message.control)?;
        channel.put(data_at, message.data)?;
    }
    Ok(messages.len().min(MESSAGES_MAX))
}

/// A message that is wanted, and where its control messages and data will be.
struct Slot {
    wanted: HostWanted,
    place: (usize, usize),
}

/// Puts rows that ask for messages into the channel, as many as it takes answers.
fn put_wanted(channel: Channel, wanted: &[HostWanted]) -> HostResult<Vec<Slot>> {
    let mut places = Places::new();
    let mut slots = Vec::new();
    for (index, wanted) in wanted.iter().take(MESSAGES_MAX).enumerate() {
        let wanted = HostWanted { data: wanted.data.min(DATA_MAX), control: wanted.control.min(CONTROL_MAX) };
        let Some(place) = places.next(wanted.control, wanted.data) else { break };
        let mut row = WireRow::new_zeroed();
        row.data_len = wanted.data as u32;
        row.message.control_len = wanted.control as u32;
        channel.put(row_at(index), row.as_bytes())?;
        slots.push(Slot { wanted, place });
    }
    Ok(slots)
}

impl HostNet for Runtime {
    fn host_socket(&self, family: u16, kind: u32, protocol: u32) -> HostResult<HostFd> {
        let args = [u64::from(family), u64::from(kind), u64::from(protocol), 0, 0, 0];
        take(patiently(|| call(Ocall::Socket, args, FD_MAX))?)
    }

    fn host_bind(&self, fd: HostFd, address: &HostAddress) -> HostResult<()> {
        with_address(Ocall::Bind, fd, address)
    }

    fn host_listen(&self, fd: HostFd, backlog: u32) -> HostResult<()> {
        call(Ocall::Listen, [raw(fd), u64::from(backlog), 0, 0, 0, 0], 0).map(|_| ())
    }

    fn host_accept(&self, fd: HostFd) -> HostResult<(HostFd, HostAddress)> {
        patiently(|| {
            let channel = channel()?;
            let new = take(channel.call(Ocall::Accept, [raw(fd), 0, 0, 0, 0, 0], FD_MAX)?)?;
            let name = channel.take_value::<WireName>().and_then(|wire| address(&wire));
            name.map(|name| (new, name)).inspect_err(|_| self.host_close_socket(new))
        })
    }

    fn host_connect(&self, fd: HostFd, address: &HostAddress) -> HostResult<()> {
        with_address(Ocall::Connect, fd, address)
    }

    fn host_connect_at(&self, dir: HostFd, name: &[u8], kind: u32) -> HostResult<HostFd> {
        take(patiently(|| {
            let channel = channel()?;
            channel.put(0, name)?;
            let args = [raw(dir), name.len() as u64, u64::from(kind), 0, 0, 0];
            channel.call(Ocall::ConnectAt, args, FD_MAX)
        })?)
    }

    fn host_socket_name(&self, fd: HostFd, of_peer: bool) -> HostResult<HostAddress> {
        let channel = channel()?;
        channel.call(Ocall::SocketName, [raw(fd), u64::from(of_peer), 0, 0, 0, 0], 0)?;
        address(&channel.take_value()?)
    }

    fn host_send(&self, fd: HostFd, data: &[u8], flags: u32) -> HostResult<usize> {
        patiently(|| {
            let channel = channel()?;
            let part = data.get(..data.len().min(channel.capacity())).unwrap_or_default();
            channel.put(0, part)?;
            let len = part.len() as u64;
            let args = [raw(fd), len, u64::from(flags), 0, 0, 0];
            Ok(channel.call(Ocall::Send, args, len)? as usize)
        })
    }

    fn host_send_file(&self, fd: HostFd, file: HostFd, offset: u64, len: usize) -> HostResult<usize> {
        patiently(|| {
            let args = [raw(fd), raw(file), offset, len as u64, 0, 0];
            Ok(channel()?.call(Ocall::SendFile, args, len as u64)? as usize)
        })
    }

    fn host_receive(&self, fd: HostFd, flags: u32, into: &mut [u8]) -> HostResult<usize> {
        patiently(|| {
            let channel = channel()?;
            let wanted = into.len().min(channel.capacity());
            let args = [raw(fd), wanted as u64, u64::from(flags), 0, 0, 0];
            let len = channel.call(Ocall::Receive, args, most_received(wanted, flags))? as usize;
            channel.take(0, into.get_mut(..len.min(wanted)).unwrap_or_default())?;
            Ok(len)
        })
    }

    fn host_send_message(&self, fd: HostFd, message: &HostMessage<'_>) -> HostResult<usize> {
        if message.data.len() > DATA_MAX || message.control.len() > CONTROL_MAX {
            return Err(HostError(Errno::EMSGSIZE));
        }
        patiently(|| {
            let channel = channel()?;
            channel.put(0, outgoing(message).as_bytes())?;
            channel.put(CONTROL_AT, message.control)?;
            channel.put(DATA_AT, message.data)?;
            let len = message.data.len() as u64;
            Ok(channel.call(Ocall::SendMessage, [raw(fd), len, 0, 0, 0, 0], len)? as usize)
        })
    }

    fn host_receive_message(
        &self,
        fd: HostFd,
        wanted: usize,
        control: usize,
        flags: u32,
    ) -> HostResult<HostReceived> {
        patiently(|| {
            let channel = channel()?;
            let (wanted, control) = (wanted.min(DATA_MAX), control.min(CONTROL_MAX));
            let args = [raw(fd), wanted as u64, control as u64, u64::from(flags), 0, 0];
            let len = channel.call(Ocall::ReceiveMessage, args, most_received(wanted, flags))? as usize;
            let header: WireMessage = channel.take_value()?;
            let wanted = HostWanted { data: wanted, control };
            incoming(channel, &header, (CONTROL_AT, DATA_AT), len, wanted)
        })
    }

    fn host_send_messages(&self, fd: HostFd, messages: &[HostMessage<'_>]) -> HostResult<HostSent> {
        patiently(|| {
            let channel = channel()?;
            let count = put_messages(channel, messages)?;
            if count == 0 {
                return Err(HostError(Errno::EMSGSIZE));
            }
            let args = [raw(fd), count as u64, 0, 0, 0, 0];
            let sent = channel.call(Ocall::SendMessages, args, count as u64)? as usize;
            if sent == 0 {
                // There would have been a reason.
                return Err(EIO);
            }
            if sent == count {
                return Ok(HostSent { count, error: None });
            }
            let row: WireRow = channel.take_value_at(row_at(sent))?;
            let error = Errno::from_number(row.error.into()).unwrap_or(Errno::EIO);
            Ok(HostSent { count: sent, error: Some(error) })
        })
    }

    fn host_receive_messages(&self, fd: HostFd, wanted: &[HostWanted], flags: u32) -> HostResult<HostBatch> {
        patiently(|| {
            let channel = channel()?;
            let slots = put_wanted(channel, wanted)?;
            if slots.is_empty() {
                return Err(HostError(Errno::EMSGSIZE));
            }
            let args = [raw(fd), slots.len() as u64, u64::from(flags), 0, 0, 0];
            let count = channel.call(Ocall::ReceiveMessages, args, slots.len() as u64)? as usize;
            if count == 0 {
                return Err(EIO);
            }
            let asked = slots.len();
            let take = |(index, slot): (usize, Slot)| {
                let row: WireRow = channel.take_value_at(row_at(index))?;
                if u64::from(row.data_len) > most_received(slot.wanted.data, flags) {
                    return Err(EIO);
                }
                incoming(channel, &row.message, slot.place, row.data_len as usize, slot.wanted)
            };
            let messages = slots.into_iter().take(count).enumerate().map(take).collect::<HostResult<_>>()?;
            Ok(HostBatch { asked, messages })
        })
    }

    fn host_get_option(&self, fd: HostFd, level: u32, option: u32, value: &mut [u8]) -> HostResult<usize> {
        let passing = passes(level, option).filter(|passing| passing.get);
        let passing = passing.ok_or(HostError(Errno::ENOPROTOOPT))?;
        let room = value.len().min(passing.len);
        let value = value.get_mut(..room).unwrap_or_default();
        let channel = channel()?;
        channel.put(0, value)?;
        let args = [raw(fd), u64::from(level), u64::from(option), room as u64, 0, 0];
        let len = channel.call(Ocall::GetOption, args, room as u64)? as usize;
        channel.take(0, value.get_mut(..len).unwrap_or_default())?;
        Ok(len)
    }

    fn host_set_option(&self, fd: HostFd, level: u32, option: u32, value: &[u8]) -> HostResult<()> {
        let passing = passes(level, option).filter(|passing| passing.set);
        let passing = passing.ok_or(HostError(Errno::ENOPROTOOPT))?;
        let value = value.get(..value.len().min(passing.len)).unwrap_or_default();
        let channel = channel()?;
        channel.put(0, value)?;
        let args = [raw(fd), u64::from(level), u64::from(option), value.len() as u64, 0, 0];
        channel.call(Ocall::SetOption, args, 0).map(|_| ())
    }

    fn host_shutdown(&self, fd: HostFd, how: u32) -> HostResult<()> {
        call(Ocall::Shutdown, [raw(fd), u64::from(how), 0, 0, 0, 0], 0).map(|_| ())
    }

    fn host_close_socket(&self, fd: HostFd) {
        // Out of the set before the host can give the number again.
        if disown(fd) {
            let _ = call(Ocall::Close, [raw(fd), 0, 0, 0, 0, 0], 0);
        }
    }

    fn host_interfaces(&self) -> HostResult<Vec<HostInterface>> {
        let channel = channel()?;
        let count = channel.call(Ocall::Interfaces, [0; 6], INTERFACES_MAX as u64)? as usize;
        let mut rows = alloc::vec![WireInterface::default(); count];
        channel.take(0, rows.as_mut_slice().as_mut_bytes())?;
        rows.iter().map(interface).collect()
    }
}

fn interface(wire: &WireInterface) -> HostResult<HostInterface> {
    let (family, bits) = match u16::try_from(wire.family) {
        Ok(0) => (0, u32::MAX),
        Ok(family::INET) => (family::INET, 32),
        Ok(family::INET6) => (family::INET6, 128),
        _ => return Err(EIO),
    };
    let is_terminated = wire.name.contains(&0);
    if wire.prefix > bits || !is_terminated {
        return Err(EIO);
    }
    Ok(HostInterface {
        name: wire.name,
        family,
        address: wire.address,
        broadcast: wire.broadcast,
        index: wire.index,
        flags: wire.flags,
        prefix: wire.prefix,
        mtu: wire.mtu,
    })
}

const _: () = assert!(SOCKADDR_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use linux_abi::net::option::SOL_SOCKET;

    #[test]
    fn a_descriptor_that_is_open_is_not_given_again() {
        assert_eq!(take(70_001).map(|fd| fd.0), Ok(70_001));
        assert_eq!(take(70_001), Err(EIO));
        OPEN.lock().remove(&70_001);
        assert!(take(70_001).is_ok());
        assert_eq!(take(1), Err(EIO));
    }

    #[test]
    fn an_address_that_is_too_long_is_refused() {
        let mut wire = WireName::new_zeroed();
        wire.len = 129;
        assert_eq!(address(&wire), Err(EIO));
        wire.len = 16;
        assert_eq!(address(&wire).map(|address| address.as_bytes().len()), Ok(16));
    }

    #[test]
    fn control_messages_that_no_socket_gets_are_refused() {
        let message = |kind, len: usize| {
            let mut chain = control::header(SOL_SOCKET, kind, len).as_bytes().to_vec();
            chain.resize(chain.len() + len, 0);
            chain
        };
        assert_eq!(check_control(&message(29, 16)), Ok(()));
        assert_eq!(check_control(&message(29, 8)), Err(EIO));
        assert_eq!(check_control(&message(control::SCM_RIGHTS, 4)), Err(EIO));
        let mut broken = message(29, 16);
        broken[0] = 200;
        assert_eq!(check_control(&broken), Err(EIO));
    }

    #[test]
    fn an_endless_interruption_ends() {
        let mut calls = 0;
        let result: HostResult<()> = patiently(|| {
            calls += 1;
            Err(HostError(Errno::EINTR))
        });
        assert_eq!(result, Err(EIO));
        assert_eq!(calls, MOST_INTERRUPTIONS);
    }

    #[test]
    fn an_interface_that_makes_no_sense_is_refused() {
        let good = WireInterface {
            name: *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0",
            family: 2,
            prefix: 24,
            ..Default::default()
        };
        assert!(interface(&good).is_ok());
        assert!(interface(&WireInterface { prefix: 33, ..good }).is_err());
        assert!(interface(&WireInterface { family: 1, ..good }).is_err());
        assert!(interface(&WireInterface { name: [b'x'; 16], ..good }).is_err());
    }
}
