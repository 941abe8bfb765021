//! Host sockets for the enclave. Every call is the Linux call of its name, on sockets that never block.
//!
//! The host does not believe the enclave either: only internet sockets are made, and such of the Unix domain as are connected to
//! a file in a folder that the enclave has; and only options that [`edge_abi::net::passes`] pass.

use crate::files::{checked, descriptor};
use edge_abi::net::{
    CONTROL_AT, CONTROL_MAX, DATA_AT, DATA_MAX, INTERFACES_MAX, MESSAGES_MAX, Places, WireInterface,
    WireMessage, WireName, WireRow, passes,
};
use edge_abi::ocall::Ocall;
use linux_abi::net::SOCKADDR_MAX;
use std::mem::MaybeUninit;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Serves a socket OCALL.
pub(crate) fn answer(call: Ocall, args: &[u64; 6], buffer: &mut [u8]) -> Result<u64, i32> {
    let [a0, a1, a2, a3, ..] = *args;
    match call {
        Ocall::Socket => socket(a0, a1, a2),
        Ocall::Accept => accept(descriptor(a0)?, buffer),
        Ocall::SocketName => name(descriptor(a0)?, a1 == 1, buffer),
        Ocall::SendMessage => send_message(descriptor(a0)?, buffer, a1),
        Ocall::ReceiveMessage => receive_message(descriptor(a0)?, buffer, a1, a2, a3),
        Ocall::SendMessages => send_messages(descriptor(a0)?, buffer, a1),
        Ocall::ReceiveMessages => receive_messages(descriptor(a0)?, buffer, a1, a2),
        Ocall::GetOption => get_option(descriptor(a0)?, a1, a2, part(buffer, a3)?),
        Ocall::SetOption => set_option(descriptor(a0)?, a1, a2, part(buffer, a3)?),
        Ocall::Interfaces => interfaces(buffer),
        Ocall::Bind => {
            let address = part(buffer, a1)?;
            // SAFETY: an address of its length.
            checked(i64::from(unsafe {
                libc::bind(descriptor(a0)?, address.as_ptr().cast(), address.len() as libc::socklen_t)
            }))
        }
        Ocall::Connect => connect(descriptor(a0)?, part(buffer, a1)?),
        Ocall::ConnectAt => connect_at(args, buffer),
        Ocall::Listen => {
            let backlog = i32::try_from(a1).unwrap_or(i32::MAX);
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::listen(descriptor(a0)?, backlog) }))
        }
        Ocall::Send => {
            let data = part(buffer, a1)?;
            let flags = a2 as i32 | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::send(descriptor(a0)?, data.as_ptr().cast(), data.len(), flags) } as i64)
        }
        Ocall::SendFile => {
            let mut offset = a2.cast_signed();
            // SAFETY: an offset that the call may change.
            checked(unsafe { libc::sendfile(descriptor(a0)?, descriptor(a1)?, &raw mut offset, a3 as usize) }
                as i64)
        }
        Ocall::Receive => {
            let into = part(buffer, a1)?;
            let flags = a2 as i32 | libc::MSG_DONTWAIT;
            let fd = descriptor(a0)?;
            // SAFETY: a valid buffer of its length.
            checked(unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), flags) } as i64)
        }
        Ocall::Shutdown => {
            // SAFETY: no pointers are involved.
            checked(i64::from(unsafe { libc::shutdown(descriptor(a0)?, a1 as i32) }))
        }
        _ => Err(libc::ENOSYS),
    }
}

fn part(buffer: &mut [u8], len: u64) -> Result<&mut [u8], i32> {
    buffer.get_mut(..len as usize).ok_or(libc::EINVAL)
}

fn socket(family: u64, kind: u64, protocol: u64) -> Result<u64, i32> {
    let family = i32::try_from(family).map_err(|_| libc::EAFNOSUPPORT)?;
    if !matches!(family, libc::AF_INET | libc::AF_INET6) {
        return Err(libc::EAFNOSUPPORT);
    }
    let kind = i32::try_from(kind).map_err(|_| libc::EINVAL)?;
    if !matches!(kind, libc::SOCK_STREAM | libc::SOCK_DGRAM) {
        return Err(libc::ESOCKTNOSUPPORT);
    }
    new_socket(family, kind, protocol as i32)
}

fn new_socket(family: i32, kind: i32, protocol: i32) -> Result<u64, i32> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are involved.
    checked(i64::from(unsafe { libc::socket(family, kind, protocol) }))
}

fn connect(fd: i32, address: &[u8]) -> Result<u64, i32> {
    // SAFETY: an address of its length.
    checked(i64::from(unsafe {
        libc::connect(fd, address.as_ptr().cast(), address.len() as libc::socklen_t)
    }))
}

/// A descriptor that is closed at the end, unless it is kept.
struct Open(u64);

impl Drop for Open {
    fn drop(&mut self) {
        let _ = crate::files::answer(Ocall::Close, &[self.0, 0, 0, 0, 0, 0], &mut []);
    }
}

fn connect_at(args: &[u64; 6], buffer: &mut [u8]) -> Result<u64, i32> {
    let [folder, len, kind, ..] = *args;
    let kind = i32::try_from(kind).map_err(|_| libc::EINVAL)?;
    if !matches!(kind, libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_SEQPACKET) {
        return Err(libc::ESOCKTNOSUPPORT);
    }
    // The file itself, by a name that is short enough and leads nowhere else.
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = crate::files::answer(Ocall::OpenAt, &[folder, len, flags as u64, 0, 0, 0], buffer)?;
    let file = Open(file);
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(format!("/proc/self/fd/{}\0", file.0).as_bytes());
    let socket = Open(new_socket(libc::AF_UNIX, kind, 0)?);
    connect(descriptor(socket.0)?, &address)?;
    let fd = socket.0;
    std::mem::forget(socket);
    Ok(fd)
}

/// Runs a call that fills an address, and puts that into the buffer.
fn with_name(
    buffer: &mut [u8],
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> i32,
) -> Result<u64, i32> {
    let mut name = WireName::new_zeroed();
    let mut len = SOCKADDR_MAX as libc::socklen_t;
    let result = checked(i64::from(call(name.bytes.as_mut_ptr().cast(), &raw mut len)))?;
    name.len = len;
    name.write_to_prefix(buffer).map_err(|_| libc::EMSGSIZE)?;
    Ok(result)
}

fn accept(fd: i32, buffer: &mut [u8]) -> Result<u64, i32> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: an address buffer and its length.
    with_name(buffer, |name, len| unsafe { libc::accept4(fd, name, len, flags) })
}

fn name(fd: i32, of_peer: bool, buffer: &mut [u8]) -> Result<u64, i32> {
    let get = if of_peer { libc::getpeername } else { libc::getsockname };
    // SAFETY: an address buffer and its length.
    with_name(buffer, |name, len| unsafe { get(fd, name, len) })
}

/// A `struct msghdr` over parts of the buffer.
fn header(name: &mut [u8], vector: &mut libc::iovec, control: &mut [u8]) -> libc::msghdr {
    // SAFETY: zeros are a valid `msghdr`, whose padding has private names.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    if !name.is_empty() {
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = name.len() as libc::socklen_t;
    }
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    if !control.is_empty() {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len();
    }
    header
}

/// The parts of a buffer that holds a message.
struct Parts<'a> {
    fixed: &'a mut [u8],
    control: &'a mut [u8],
    data: &'a mut [u8],
}

impl<'a> Parts<'a> {
    fn of(buffer: &'a mut [u8], control: u64, data: u64) -> Result<Self, i32> {
        if control > CONTROL_MAX as u64 || data > DATA_MAX as u64 {
            return Err(libc::EMSGSIZE);
        }
        let (front, rest) = buffer.split_at_mut_checked(DATA_AT).ok_or(libc::EMSGSIZE)?;
        let (fixed, controls) = front.split_at_mut_checked(CONTROL_AT).ok_or(libc::EMSGSIZE)?;
        Ok(Self { fixed, control: part(controls, control)?, data: part(rest, data)? })
    }
}

/// Sends one message.
fn send_parts(fd: i32, message: &mut WireMessage, control: &mut [u8], data: &mut [u8]) -> Result<u64, i32> {
    let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let name = message.name.bytes.get_mut(..message.name.len as usize).ok_or(libc::EINVAL)?;
    let header = header(name, &mut vector, control);
    let flags = message.flags as i32 | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: a header whose parts outlive the call.
    checked(unsafe { libc::sendmsg(fd, &raw const header, flags) } as i64)
}

fn send_message(fd: i32, buffer: &mut [u8], len: u64) -> Result<u64, i32> {
    let (mut message, _) = WireMessage::read_from_prefix(buffer).map_err(|_| libc::EMSGSIZE)?;
    let Parts { control, data, .. } = Parts::of(buffer, message.control_len.into(), len)?;
    send_parts(fd, &mut message, control, data)
}

fn receive_message(fd: i32, buffer: &mut [u8], len: u64, control_len: u64, flags: u64) -> Result<u64, i32> {
    let mut message = WireMessage::new_zeroed();
    let Parts { fixed, control, data } = Parts::of(buffer, control_len, len)?;
    let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let mut header = header(&mut message.name.bytes, &mut vector, control);
    let flags = flags as i32 | libc::MSG_DONTWAIT;
    // SAFETY: a header whose parts outlive the call.
    let received = checked(unsafe { libc::recvmsg(fd, &raw mut header, flags) } as i64)?;
    note_header(&mut message, &header);
    message.write_to_prefix(fixed).map_err(|_| libc::EMSGSIZE)?;
    Ok(received)
}

/// Notes what a receiving call put into a header.
fn note_header(message: &mut WireMessage, header: &libc::msghdr) {
    message.name.len = header.msg_namelen;
    message.control_len = header.msg_controllen as u32;
    message.flags = header.msg_flags.cast_unsigned();
}

/// The rows at the start of a buffer, and the control messages and data of each.
struct Several<'a> {
    rows: &'a mut [WireRow],
    parts: Vec<(&'a mut [u8], &'a mut [u8])>,
}

impl<'a> Several<'a> {
    fn of(buffer: &'a mut [u8], count: u64) -> Result<Self, i32> {
        let count = usize::try_from(count).ok().filter(|&count| count <= MESSAGES_MAX).ok_or(libc::EINVAL)?;
        let (front, mut rest) =
            buffer.split_at_mut_checked(MESSAGES_MAX * size_of::<WireRow>()).ok_or(libc::EMSGSIZE)?;
        let (rows, _) = <[WireRow]>::mut_from_prefix_with_elems(front, count).map_err(|_| libc::EMSGSIZE)?;
        let (mut places, mut parts) = (Places::new(), Vec::with_capacity(count));
        let mut gone = MESSAGES_MAX * size_of::<WireRow>();
        for row in &*rows {
            let (control_len, data_len) = (row.message.control_len as usize, row.data_len as usize);
            let (control_at, data_at) = places.next(control_len, data_len).ok_or(libc::EMSGSIZE)?;
            let mut cut = |at: usize, len: usize| {
                let whole = std::mem::take(&mut rest);
                let (_, whole) = whole.split_at_mut_checked(at - gone)?;
                let (part, behind) = whole.split_at_mut_checked(len)?;
                (rest, gone) = (behind, at + len);
                Some(part)
            };
            let control = cut(control_at, control_len).ok_or(libc::EMSGSIZE)?;
            let data = cut(data_at, data_len).ok_or(libc::EMSGSIZE)?;
            parts.push((control, data));
        }
        Ok(Self { rows, parts })
    }
}

/// Sends one message after the other. `sendmmsg(2)` would not say why it ended early.
fn send_messages(fd: i32, buffer: &mut [u8], count: u64) -> Result<u64, i32> {
    let Several { rows, parts } = Several::of(buffer, count)?;
    for (sent, (row, (control, data))) in rows.iter_mut().zip(parts).enumerate() {
        match send_parts(fd, &mut row.message, control, data) {
            Ok(_) => {}
            Err(errno) if sent == 0 => return Err(errno),
            Err(errno) => {
                row.error = errno.cast_unsigned();
                return Ok(sent as u64);
            }
        }
    }
    Ok(count)
}

fn receive_messages(fd: i32, buffer: &mut [u8], count: u64, flags: u64) -> Result<u64, i32> {
    let Several { rows, mut parts } = Several::of(buffer, count)?;
    let vector = |data: &mut [u8]| libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let mut vectors: Vec<libc::iovec> = parts.iter_mut().map(|(_, data)| vector(data)).collect();
    let mut headers: Vec<libc::mmsghdr> = rows
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut parts)
        .map(|((row, vector), (control, _))| libc::mmsghdr {
            msg_hdr: header(&mut row.message.name.bytes, vector, control),
            msg_len: 0,
        })
        .collect();
    let flags = flags as i32 | libc::MSG_DONTWAIT;
    let (first, most) = (headers.as_mut_ptr(), headers.len() as u32);
    // SAFETY: as many headers, whose parts outlive the call.
    let received =
        checked(i64::from(unsafe { libc::recvmmsg(fd, first, most, flags, std::ptr::null_mut()) }))?;
    for (row, header) in rows.iter_mut().zip(&headers).take(received as usize) {
        note_header(&mut row.message, &header.msg_hdr);
        row.data_len = header.msg_len;
    }
    Ok(received)
}

/// Level and option, if they are among those that pass.
fn option(level: u64, option: u64) -> Result<(u32, u32, edge_abi::net::Passing), i32> {
    let number = |value: u64| u32::try_from(value).map_err(|_| libc::ENOPROTOOPT);
    let (level, option) = (number(level)?, number(option)?);
    Ok((level, option, passes(level, option).ok_or(libc::ENOPROTOOPT)?))
}

fn get_option(fd: i32, level: u64, name: u64, value: &mut [u8]) -> Result<u64, i32> {
    let (level, name, passing) = option(level, name)?;
    if !passing.get {
        return Err(libc::ENOPROTOOPT);
    }
    let mut len = value.len() as libc::socklen_t;
    let into = value.as_mut_ptr().cast();
    // SAFETY: a value buffer and its length.
    checked(i64::from(unsafe {
        libc::getsockopt(fd, level.cast_signed(), name.cast_signed(), into, &raw mut len)
    }))?;
    Ok(len.into())
}

fn set_option(fd: i32, level: u64, name: u64, value: &[u8]) -> Result<u64, i32> {
    let (level, name, passing) = option(level, name)?;
    if !passing.set || value.len() > passing.len {
        return Err(libc::ENOPROTOOPT);
    }
    let len = value.len() as libc::socklen_t;
    let (level, name) = (level.cast_signed(), name.cast_signed());
    // SAFETY: a value of its length.
    checked(i64::from(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) }))
}

/// The list of `getifaddrs(3)`, freed at the end.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list that `getifaddrs` gave, once.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

fn interfaces(buffer: &mut [u8]) -> Result<u64, i32> {
    let mut first = std::ptr::null_mut();
    // SAFETY: a place for the pointer.
    checked(i64::from(unsafe { libc::getifaddrs(&raw mut first) }))?;
    let list = List(first);
    let mut rows = Vec::new();
    let mut next = list.0;
    // SAFETY: entries of the list that lives until the end of this function.
    while let Some(entry) = unsafe { next.as_ref() } {
        rows.extend(interface(entry));
        next = entry.ifa_next;
    }
    rows.truncate(INTERFACES_MAX);
    let bytes = rows.as_slice().as_bytes();
    part(buffer, bytes.len() as u64)?.copy_from_slice(bytes);
    Ok(rows.len() as u64)
}

/// The row of an entry; `None` for families that the border does not know.
fn interface(entry: &libc::ifaddrs) -> Option<WireInterface> {
    // SAFETY: a NUL-terminated name.
    let name = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) };
    let mut row = WireInterface { flags: entry.ifa_flags, ..WireInterface::default() };
    let name_len = name.to_bytes().len().min(row.name.len() - 1);
    row.name[..name_len].copy_from_slice(&name.to_bytes()[..name_len]);
    // SAFETY: a NUL-terminated name.
    row.index = unsafe { libc::if_nametoindex(entry.ifa_name) };
    let (family, address) = address_of(entry.ifa_addr)?;
    row.address = address;
    match family {
        libc::AF_INET | libc::AF_INET6 => {
            row.family = family.cast_unsigned();
            let mask = address_of(entry.ifa_netmask).map_or([0; 16], |(_, mask)| mask);
            row.prefix = mask.iter().map(|byte| byte.count_ones()).sum();
            let has_broadcast = entry.ifa_flags & libc::IFF_BROADCAST.cast_unsigned() != 0;
            if has_broadcast && let Some((_, broadcast)) = address_of(entry.ifa_ifu) {
                row.broadcast = broadcast;
            }
        }
        libc::AF_PACKET => {
            // SAFETY: an AF_PACKET address is a `sockaddr_ll`.
            let link = unsafe { entry.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned() };
            row.prefix = link.sll_hatype.into();
            row.mtu = mtu(name);
            if let Some((_, broadcast)) = address_of(entry.ifa_ifu) {
                row.broadcast = broadcast;
            }
        }
        _ => return None,
    }
    Some(row)
}

/// Family and address bytes of an address; `None` for null and unknown families.
fn address_of(address: *const libc::sockaddr) -> Option<(i32, [u8; 16])> {
    // SAFETY: null, or an address that starts with its family.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    let mut bytes = [0; 16];
    match family {
        libc::AF_INET => {
            // SAFETY: an AF_INET address is a `sockaddr_in`.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            bytes[..4].copy_from_slice(&v4.sin_addr.s_addr.to_ne_bytes());
        }
        libc::AF_INET6 => {
            // SAFETY: an AF_INET6 address is a `sockaddr_in6`.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            bytes = v6.sin6_addr.s6_addr;
        }
        libc::AF_PACKET => {
            // SAFETY: an AF_PACKET address is a `sockaddr_ll`.
            let link = unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() };
            bytes[..8].copy_from_slice(&link.sll_addr);
        }
        _ => return None,
    }
    Some((family, bytes))
}

/// Bytes of a packet at most, from `/sys`.
fn mtu(name: &std::ffi::CStr) -> u32 {
    let path = format!("/sys/class/net/{}/mtu", name.to_string_lossy());
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_internet_sockets_are_made() {
        for (family, kind) in [(libc::AF_UNIX, libc::SOCK_STREAM), (libc::AF_INET, libc::SOCK_RAW), (-1, 1)] {
            assert!(socket(i64::from(family).cast_unsigned(), kind as u64, 0).is_err());
        }
    }

    #[test]
    fn a_socket_does_not_block() {
        let fd = socket(libc::AF_INET as u64, libc::SOCK_DGRAM as u64, 0).unwrap();
        let mut buffer = vec![0; edge_abi::ocall::BUFFER_LEN];
        assert_eq!(answer(Ocall::Receive, &[fd, 10, 0, 0, 0, 0], &mut buffer), Err(libc::EAGAIN));
        assert_eq!(answer(Ocall::ReceiveMessage, &[fd, 10, 0, 0, 0, 0], &mut buffer), Err(libc::EAGAIN));
        assert_eq!(answer(Ocall::Receive, &[fd, u64::MAX, 0, 0, 0, 0], &mut buffer), Err(libc::EINVAL));
        assert_eq!(answer(Ocall::GetOption, &[fd, 1, 26, 4, 0, 0], &mut buffer), Err(libc::ENOPROTOOPT));
        // It is closed like any other descriptor.
        let mut none = [];
        assert_eq!(crate::files::answer(Ocall::Close, &[fd, 0, 0, 0, 0, 0], &mut none), Ok(0));
    }

    #[test]
    fn a_socket_file_in_a_folder_is_connected_to_and_a_link_is_not_followed() {
        use std::os::fd::AsRawFd;
        use std::os::unix::net::UnixListener;
        let folder = std::env::temp_dir().join(format!("occlum-pal-sockets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("socket")).unwrap();
        std::os::unix::fs::symlink("socket", folder.join("link")).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let opened = std::fs::File::open(&folder).unwrap();
        let mut buffer = vec![0; edge_abi::ocall::BUFFER_LEN];
        let mut connect = |name: &str, kind: i32| {
            buffer[..name.len()].copy_from_slice(name.as_bytes());
            let args = [opened.as_raw_fd() as u64, name.len() as u64, kind as u64, 0, 0, 0];
            answer(Ocall::ConnectAt, &args, &mut buffer)
        };
        let fd = connect("socket", libc::SOCK_STREAM).unwrap();
        listener.accept().unwrap();
        drop(Open(fd));
        assert_eq!(connect("socket", libc::SOCK_SEQPACKET), Err(libc::EPROTOTYPE));
        assert_eq!(connect("socket", libc::SOCK_RAW), Err(libc::ESOCKTNOSUPPORT));
        for other in ["link", "file"] {
            assert_eq!(connect(other, libc::SOCK_STREAM), Err(libc::ECONNREFUSED), "{other}");
        }
        assert_eq!(connect("nothing", libc::SOCK_STREAM), Err(libc::ENOENT));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn several_messages_are_one_call_each_way() {
        use std::net::UdpSocket;
        use std::os::fd::AsRawFd;
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let fd = |socket: &UdpSocket| socket.as_raw_fd() as u64;

        let mut buffer = vec![0; edge_abi::ocall::BUFFER_LEN];
        let fill = |buffer: &mut [u8], lengths: &[usize]| {
            let mut places = Places::new();
            for (index, &len) in lengths.iter().enumerate() {
                let mut row = WireRow::new_zeroed();
                row.data_len = len as u32;
                row.write_to_prefix(&mut buffer[index * size_of::<WireRow>()..]).unwrap();
                let (_, at) = places.next(0, len).unwrap();
                buffer[at..at + len].fill(index as u8 + 1);
            }
        };
        fill(&mut buffer, &[3, 70_000, 5]);
        // The second is longer than a datagram can be.
        assert_eq!(answer(Ocall::SendMessages, &[fd(&sender), 3, 0, 0, 0, 0], &mut buffer), Ok(1));
        let row = |buffer: &[u8], index: usize| {
            WireRow::read_from_prefix(&buffer[index * size_of::<WireRow>()..]).unwrap().0
        };
        assert_eq!(row(&buffer, 1).error, libc::EMSGSIZE as u32);
        fill(&mut buffer, &[4, 6]);
        assert_eq!(answer(Ocall::SendMessages, &[fd(&sender), 2, 0, 0, 0, 0], &mut buffer), Ok(2));

        fill(&mut buffer, &[100, 100, 5, 100]);
        let call = [fd(&receiver), 4, 0, 0, 0, 0];
        assert_eq!(answer(Ocall::ReceiveMessages, &call, &mut buffer), Ok(3));
        let lengths: Vec<u32> = (0..3).map(|index| row(&buffer, index).data_len).collect();
        assert_eq!(lengths, [3, 4, 5]);
        assert_eq!(row(&buffer, 2).message.flags, libc::MSG_TRUNC as u32);
        assert_eq!(row(&buffer, 1).message.name.len, 16);
        let mut places = Places::new();
        let at: Vec<usize> = (0..3).map(|_| places.next(0, 100).unwrap().1).collect();
        assert_eq!(buffer[at[2]..at[2] + 5], [2; 5]);

        fill(&mut buffer, &[100]);
        assert_eq!(
            answer(Ocall::ReceiveMessages, &[fd(&receiver), 1, 0, 0, 0, 0], &mut buffer),
            Err(libc::EAGAIN)
        );
        for count in [65, u64::MAX] {
            let call = [fd(&receiver), count, 0, 0, 0, 0];
            assert_eq!(answer(Ocall::ReceiveMessages, &call, &mut buffer), Err(libc::EINVAL));
        }
        let mut row = WireRow::new_zeroed();
        row.message.control_len = u32::MAX;
        row.write_to_prefix(&mut buffer).unwrap();
        assert_eq!(
            answer(Ocall::SendMessages, &[fd(&sender), 1, 0, 0, 0, 0], &mut buffer),
            Err(libc::EMSGSIZE)
        );
    }

    #[test]
    fn the_loopback_interface_is_among_them() {
        let mut buffer = vec![0; edge_abi::ocall::BUFFER_LEN];
        let count = interfaces(&mut buffer).unwrap() as usize;
        let (rows, _) = <[WireInterface]>::ref_from_prefix_with_elems(&buffer, count).unwrap();
        assert!(rows.iter().any(|row| row.name.starts_with(b"lo\0") && row.address[..4] == [127, 0, 0, 1]));
    }
}
