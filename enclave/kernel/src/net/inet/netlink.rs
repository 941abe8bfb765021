//! A `rtnetlink(7)` that lists interfaces and addresses: what `getifaddrs(3)` and `getaddrinfo(3)` need. Nothing can be
//! changed, and nothing is announced. The answers are the host's word.
//!
//! Lock order: the inbox is a leaf.

use super::interfaces::name;
use crate::Ctx;
use crate::fs::{FsShared, anonymous_metadata, wait};
use crate::net::{Address, Incoming, Outgoing, Received, Socket};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, bail};
use linux_abi::net::netlink::{Ifaddrmsg, Ifinfomsg, Nlmsghdr, Rtattr, attribute, flag, message};
use linux_abi::net::{MessageFlags, SockaddrNl, family};
use platform::{HostInterface, Platform};
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a request at most.
const REQUEST: usize = 4096;
/// Bytes of a datagram of answers.
const DATAGRAM: usize = 8192;
/// Datagrams that wait at most.
const WAITING: usize = 64;

/// A netlink socket of the family NETLINK_ROUTE.
pub(crate) struct RouteSocket {
    platform: Arc<dyn Platform>,
    ino: u64,
    created_ns: i64,
    port: AtomicU32,
    inbox: Mutex<VecDeque<Vec<u8>>>,
    notifier: ReadinessNotifier,
}

impl RouteSocket {
    /// A new socket.
    pub(crate) fn new(shared: &Arc<FsShared>) -> Arc<Self> {
        Arc::new(Self {
            platform: Arc::clone(shared.platform()),
            ino: shared.next_id(),
            created_ns: shared.platform().realtime_ns().cast_signed(),
            port: AtomicU32::new(0),
            inbox: Mutex::default(),
            notifier: ReadinessNotifier::new(),
        })
    }

    /// `bind(2)`. A port of 0 is `pid`.
    ///
    /// # Errors
    /// EINVAL the address is too short or of another family.
    pub(crate) fn bind(&self, address: &[u8], pid: u32) -> Result<()> {
        let Ok((address, _)) = SockaddrNl::read_from_prefix(address) else {
            bail!(EINVAL, "the address is too short");
        };
        if address.family != family::NETLINK {
            bail!(EINVAL, "an address of another family");
        }
        self.port.store(if address.port == 0 { pid } else { address.port }, Ordering::Relaxed);
        Ok(())
    }

    /// Its own address; of the peer, the kernel.
    pub(crate) fn name(&self, of_peer: bool) -> SockaddrNl {
        let port = if of_peer { 0 } else { self.port.load(Ordering::Relaxed) };
        SockaddrNl { family: family::NETLINK, port, ..SockaddrNl::default() }
    }

    /// `sendmsg(2)`: requests, which are answered at once. A socket without a port gets `pid`.
    ///
    /// # Errors
    /// EMSGSIZE the requests are too long; ENOBUFS too many answers wait; EFAULT.
    pub(crate) fn send(&self, from: &mut dyn ByteSource, pid: u32) -> Result<usize> {
        let len = from.remaining();
        if len > REQUEST {
            bail!(EMSGSIZE, "the requests are too long");
        }
        // Linux binds a socket when it first sends.
        let _ = self.port.compare_exchange(0, pid, Ordering::Relaxed, Ordering::Relaxed);
        let mut requests = alloc::vec![0; len];
        let taken = from.take(&mut requests)?;
        let mut rest = requests.get(..taken).unwrap_or_default();
        while let Ok((request, _)) = Nlmsghdr::read_from_prefix(rest) {
            let len = usize::try_from(request.len).unwrap_or(usize::MAX);
            if len < size_of::<Nlmsghdr>() || len > rest.len() {
                break;
            }
            let answers = self.answer(&request, rest.get(size_of::<Nlmsghdr>()..len).unwrap_or_default())?;
            {
                let mut inbox = self.inbox.lock();
                if inbox.len().saturating_add(answers.len()) > WAITING {
                    bail!(ENOBUFS, "too many answers wait");
                }
                inbox.extend(answers);
            }
            self.notifier.broadcast(&Readiness::IN);
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(taken)
    }

    /// `recvmsg(2)`: the length of the datagram and whether it was cut.
    ///
    /// # Errors
    /// EAGAIN no answer waits; EFAULT.
    pub(crate) fn receive(&self, into: &mut dyn ByteSink, flags: MessageFlags) -> Result<(usize, bool)> {
        let is_peek = flags.contains(MessageFlags::PEEK);
        let datagram = {
            let mut inbox = self.inbox.lock();
            let next = if is_peek { inbox.front().cloned() } else { inbox.pop_front() };
            next.ok_or(Error::new(Errno::EAGAIN, "no answer waits"))?
        };
        let put = into.put(&datagram)?;
        let is_cut = put < datagram.len();
        let len = if flags.contains(MessageFlags::TRUNC) { datagram.len() } else { put };
        Ok((len, is_cut))
    }

    /// Whether there is room for another datagram.
    pub(crate) fn has_room(&self) -> bool {
        self.inbox.lock().len() < WAITING
    }

    /// A datagram of the kernel that nobody asked for here (`mq_notify(2)`).
    pub(crate) fn tell(&self, datagram: Vec<u8>) {
        self.inbox.lock().push_back(datagram);
        self.notifier.broadcast(&Readiness::IN);
    }

    /// The datagrams that answer a request.
    fn answer(&self, request: &Nlmsghdr, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut answers =
            Answers { request: *request, port: self.port.load(Ordering::Relaxed), datagrams: Vec::new() };
        let wanted = body.first().copied().map_or(family::UNSPEC, u16::from);
        let is_dump = request.flags & flag::DUMP != 0;
        match request.kind {
            message::GETLINK if is_dump => {
                for link in self.platform.host_interfaces()?.iter().filter(|row| row.family == 0) {
                    answers.add(message::NEWLINK, &link_body(link));
                }
                answers.done();
            }
            message::GETADDR if is_dump => {
                for row in self.platform.host_interfaces()?.iter().filter(|row| row.family != 0) {
                    if wanted == family::UNSPEC || wanted == row.family {
                        answers.add(message::NEWADDR, &address_body(row));
                    }
                }
                answers.done();
            }
            message::GETROUTE if is_dump => answers.done(),
            message::NOOP => {}
            _ => answers.error(Errno::EOPNOTSUPP),
        }
        Ok(answers.datagrams)
    }
}

/// Datagrams of answers to a request.
struct Answers {
    request: Nlmsghdr,
    port: u32,
    datagrams: Vec<Vec<u8>>,
}

impl Answers {
    fn add(&mut self, kind: u16, body: &[u8]) {
        self.push(kind, flag::MULTI, body);
    }

    fn done(&mut self) {
        self.push(message::DONE, flag::MULTI, &0u32.to_le_bytes());
    }

    /// An error repeats the header of the request.
    fn error(&mut self, errno: Errno) {
        let mut body = (-i32::from(errno.number())).to_le_bytes().to_vec();
        body.extend_from_slice(self.request.as_bytes());
        self.push(message::ERROR, 0, &body);
    }

    fn push(&mut self, kind: u16, flags: u16, body: &[u8]) {
        let len = size_of::<Nlmsghdr>() + body.len();
        let header = Nlmsghdr {
            len: u32::try_from(len).unwrap_or_default(),
            kind,
            flags,
            sequence: self.request.sequence,
            port: self.port,
        };
        // DONE comes alone, as from Linux.
        let fits = |last: &Vec<u8>| kind != message::DONE && last.len() + len <= DATAGRAM;
        if !self.datagrams.last().is_some_and(fits) {
            self.datagrams.push(Vec::new());
        }
        if let Some(datagram) = self.datagrams.last_mut() {
            datagram.extend_from_slice(header.as_bytes());
            datagram.extend_from_slice(body);
            datagram.resize(datagram.len().next_multiple_of(4), 0);
        }
    }
}

/// Adds an attribute.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(size_of::<Rtattr>() + value.len()).unwrap_or_default();
    body.extend_from_slice(Rtattr { len, kind }.as_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A name with its NUL.
fn name_value(link: &HostInterface) -> Vec<u8> {
    name(&link.name).iter().copied().chain([0]).collect()
}

fn link_body(link: &HostInterface) -> Vec<u8> {
    let kind = u16::try_from(link.prefix).unwrap_or_default();
    let header = Ifinfomsg { kind, index: link.index, flags: link.flags, ..Ifinfomsg::default() };
    let mut body = header.as_bytes().to_vec();
    attribute(&mut body, attribute::LINK_NAME, &name_value(link));
    attribute(&mut body, attribute::LINK_MTU, &link.mtu.to_le_bytes());
    attribute(&mut body, attribute::LINK_TXQLEN, &1000u32.to_le_bytes());
    attribute(&mut body, attribute::LINK_ADDRESS, link.address.get(..6).unwrap_or_default());
    attribute(&mut body, attribute::LINK_BROADCAST, link.broadcast.get(..6).unwrap_or_default());
    body
}

fn address_body(row: &HostInterface) -> Vec<u8> {
    let len = if row.family == family::INET { 4 } else { 16 };
    let address = row.address.get(..len).unwrap_or_default();
    let header = Ifaddrmsg {
        family: u8::try_from(row.family).unwrap_or_default(),
        prefix: u8::try_from(row.prefix).unwrap_or_default(),
        // IFA_F_PERMANENT
        flags: 0x80,
        scope: scope(row.family, address),
        index: row.index,
    };
    let mut body = header.as_bytes().to_vec();
    attribute(&mut body, attribute::ADDR_ADDRESS, address);
    if row.family == family::INET {
        attribute(&mut body, attribute::ADDR_LOCAL, address);
        if row.broadcast.iter().any(|&byte| byte != 0) {
            attribute(&mut body, attribute::ADDR_BROADCAST, row.broadcast.get(..4).unwrap_or_default());
        }
        attribute(&mut body, attribute::ADDR_LABEL, &name_value(row));
    }
    attribute(&mut body, attribute::ADDR_FLAGS, &0x80u32.to_le_bytes());
    body
}

/// RT_SCOPE_HOST, RT_SCOPE_LINK or RT_SCOPE_UNIVERSE.
fn scope(of_family: u16, address: &[u8]) -> u8 {
    match (of_family, address) {
        (family::INET, [127, ..]) => 254,
        (family::INET6, [0xfe, second, ..]) if second & 0xc0 == 0x80 => 253,
        (family::INET6, [front @ .., 1]) if front.iter().all(|&byte| byte == 0) => 254,
        _ => 0,
    }
}

impl File for RouteSocket {
    fn bands(&self) -> Bands {
        Bands::All
    }

    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        self.receive(into, MessageFlags::empty()).map(|(len, _)| len)
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        self.send(from, 0)
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = anonymous_metadata(self.ino, FileType::Socket, self.created_ns);
        Ok(Metadata { mode: 0o777, ..metadata })
    }

    fn ready(&self) -> Readiness {
        let is_empty = self.inbox.lock().is_empty();
        if is_empty { Readiness::OUT } else { Readiness::IN | Readiness::OUT }
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.notifier)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.ino))
    }
}

impl Socket for RouteSocket {
    fn bind(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        Self::bind(self, address, ctx.process.pid)
    }

    /// There is nobody to connect to but the kernel.
    fn connect(&self, _ctx: &Ctx<'_>, _address: &[u8], _is_blocking: bool) -> Result<()> {
        Ok(())
    }

    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        Self::send(self, message.data, ctx.process.pid)
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        loop {
            match Self::receive(self, wanted.data, wanted.flags) {
                Err(error) if wanted.is_blocking && error.errno() == Errno::EAGAIN => {
                    wait::wait_for(ctx, self, Readiness::IN)?;
                }
                Err(error) => return Err(error),
                Ok((len, is_cut)) => {
                    let flags = if is_cut { MessageFlags::TRUNC } else { MessageFlags::empty() };
                    return Ok(Received {
                        len,
                        from: Socket::name(self, true)?,
                        flags,
                        ..Received::default()
                    });
                }
            }
        }
    }

    fn name(&self, of_peer: bool) -> Result<Address> {
        Ok(Address::new(Self::name(self, of_peer).as_bytes()).unwrap_or_default())
    }

    /// Buffer sizes, and what reports that never come are to say.
    fn set_option(&self, _level: u32, _option: u32, _value: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_fill_datagrams_and_the_end_comes_alone() {
        let mut answers = Answers {
            request: Nlmsghdr { sequence: 9, ..Nlmsghdr::default() },
            port: 3,
            datagrams: Vec::new(),
        };
        (0..200).for_each(|_| answers.add(message::NEWADDR, &[0; 60]));
        answers.done();
        assert!(answers.datagrams.len() > 2);
        assert!(answers.datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM));
        let (last, _) = Nlmsghdr::read_from_prefix(answers.datagrams.last().unwrap()).unwrap();
        assert_eq!((last.kind, last.sequence, last.port), (message::DONE, 9, 3));
    }

    #[test]
    fn addresses_have_the_scope_that_linux_gives_them() {
        assert_eq!(scope(family::INET, &[127, 0, 0, 1]), 254);
        assert_eq!(scope(family::INET, &[10, 0, 0, 1]), 0);
        let mut local = [0; 16];
        local[15] = 1;
        assert_eq!(scope(family::INET6, &local), 254);
        (local[0], local[1]) = (0xfe, 0x80);
        assert_eq!(scope(family::INET6, &local), 253);
    }
}
