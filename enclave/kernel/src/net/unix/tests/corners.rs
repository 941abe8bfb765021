//! What is seldom seen of sockets of the Unix domain, as Linux has it.

use super::*;
use linux_abi::net::control::{HEADER, SCM_CREDENTIALS};
use linux_abi::net::option::socket;

const SHUTDOWN: u64 = 48;
const GETSOCKNAME: u64 = 51;
const GETPEERNAME: u64 = 52;
const SETSOCKOPT: u64 = 54;
const GETSOCKOPT: u64 = 55;
const READ: u64 = 0;
const LENGTH: u64 = SCRATCH + 0x700;
const LEVEL: u64 = SOL_SOCKET as u64;

impl Ctx<'_> {
    fn unix(&self, of_kind: u32) -> u64 {
        self.call(SOCKET, &[UNIX, u64::from(of_kind) | NONBLOCK, 0]).unwrap()
    }

    fn bind_to(&self, fd: u64, name: &[u8]) -> Result<u64, Errno> {
        let len = self.named(name);
        self.call(BIND, &[fd, ADDRESS, len])
    }

    fn connect_to(&self, fd: u64, name: &[u8]) -> Result<u64, Errno> {
        let len = self.named(name);
        self.call(CONNECT, &[fd, ADDRESS, len])
    }

    fn switch_on(&self, fd: u64, option: u32) {
        self.poke(LENGTH, 1u32);
        self.call(SETSOCKOPT, &[fd, LEVEL, option.into(), LENGTH, 4]).unwrap();
    }

    /// How long a name is.
    fn name_len(&self, call: u64, fd: u64) -> Result<u32, Errno> {
        self.poke(LENGTH, 110u32);
        self.call(call, &[fd, ADDRESS, LENGTH])?;
        Ok(self.peek(LENGTH))
    }

    /// What `poll` finds of POLLIN, POLLOUT, POLLRDHUP and what comes unasked.
    fn state(&self, fd: u64) -> u16 {
        self.poke(SCRATCH, u32::try_from(fd).unwrap());
        self.poke(SCRATCH + 4, 0x2005u16);
        self.call(POLL, &[SCRATCH, 1, 0]).unwrap();
        self.peek(SCRATCH + 6)
    }
}

#[test]
fn each_type_has_abstract_names_of_its_own() {
    World::new().with_ctx(|ctx| {
        let (stream, datagram) = (ctx.unix(kind::STREAM), ctx.unix(kind::DGRAM));
        ctx.bind_to(stream, b"\0name").unwrap();
        assert_eq!(ctx.connect_to(datagram, b"\0name"), Err(Errno::ECONNREFUSED));
        assert_eq!(ctx.bind_to(datagram, b"\0name"), Ok(0));
        assert_eq!(ctx.bind_to(ctx.unix(kind::DGRAM), b"\0name"), Err(Errno::EADDRINUSE));
        // Who has a name has one, if any will do.
        assert_eq!(ctx.bind_to(stream, b""), Ok(0));
        assert_eq!(ctx.bind_to(stream, b"\0other"), Err(Errno::EINVAL));
    });
}

#[test]
fn who_signs_gets_a_name_when_it_connects_or_sends() {
    World::new().with_ctx(|ctx| {
        let listener = ctx.unix(kind::STREAM);
        ctx.bind_to(listener, b"\0name").unwrap();
        ctx.call(LISTEN, &[listener, 5]).unwrap();
        let client = ctx.unix(kind::STREAM);
        ctx.switch_on(client, socket::PASSCRED);
        assert_eq!(ctx.name_len(GETSOCKNAME, client), Ok(2));
        ctx.connect_to(client, b"\0name").unwrap();
        assert_eq!(ctx.name_len(GETSOCKNAME, client), Ok(8), "a zero and five digits");
        let server = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(ctx.name_len(GETPEERNAME, server), Ok(8));
        let (a, b) = ctx.pair(kind::DGRAM);
        ctx.switch_on(a, socket::PASSCRED);
        ctx.send(a, b"x").unwrap();
        assert_eq!(ctx.name_len(GETPEERNAME, b), Ok(8));
    });
}

#[test]
fn what_is_shut_down_before_it_is_connected_stays_so() {
    World::new().with_ctx(|ctx| {
        let (listener, client) = (ctx.unix(kind::STREAM), ctx.unix(kind::STREAM));
        ctx.bind_to(listener, b"\0name").unwrap();
        ctx.call(LISTEN, &[listener, 5]).unwrap();
        assert_eq!(ctx.state(client), 0x14);
        ctx.call(SHUTDOWN, &[client, 0]).unwrap();
        assert_eq!(ctx.state(client), 0x2015);
        ctx.connect_to(client, b"\0name").unwrap();
        assert_eq!(ctx.state(client), 0x2005);
        assert_eq!(ctx.receive(client), Ok(Vec::new()));
        // Datagrams have no end for who does not wait.
        let (a, _b) = ctx.pair(kind::DGRAM);
        ctx.call(SHUTDOWN, &[a, 0]).unwrap();
        assert_eq!(ctx.receive(a), Err(Errno::EAGAIN));
        assert_eq!(ctx.call(READ, &[a, DATA, 1]), Err(Errno::EAGAIN));
        assert_eq!(ctx.call(READ, &[a, DATA, 0]), Ok(0));
        let (a, _b) = ctx.pair(kind::STREAM);
        ctx.call(SHUTDOWN, &[a, 1]).unwrap();
        assert_eq!(ctx.send(a, b""), Err(Errno::EPIPE), "not even nothing");
    });
}

#[test]
fn a_datagram_socket_hears_once_that_its_peer_is_gone() {
    World::new().with_ctx(|ctx| {
        let (a, b) = ctx.pair(kind::DGRAM);
        ctx.send(b, b"x").unwrap();
        ctx.call(CLOSE, &[b]).unwrap();
        assert_eq!(ctx.name_len(GETPEERNAME, a), Ok(2));
        assert_eq!(ctx.send(a, b"x"), Err(Errno::ECONNREFUSED));
        assert_eq!(ctx.send(a, b"x"), Err(Errno::ENOTCONN));
        assert_eq!(ctx.name_len(GETPEERNAME, a), Err(Errno::ENOTCONN));
        assert_eq!(ctx.receive(a), Err(Errno::EAGAIN), "what had come is gone");
        // Who goes to another peer leaves what came from the old one, which hears of that.
        let (a, b) = ctx.pair(kind::DGRAM);
        let other = ctx.unix(kind::DGRAM);
        ctx.bind_to(other, b"\0other").unwrap();
        ctx.send(b, b"x").unwrap();
        ctx.connect_to(a, b"\0other").unwrap();
        assert_eq!(ctx.state(b), 0xc);
        assert_eq!(ctx.receive(b), Err(Errno::ECONNRESET));
        assert_eq!(ctx.state(b), 4);
    });
}

#[test]
fn a_reset_of_messages_is_told_before_what_can_be_received() {
    World::new().with_ctx(|ctx| {
        let (a, b) = ctx.pair(kind::SEQPACKET);
        ctx.send(a, b"lost").unwrap();
        ctx.send(b, b"received").unwrap();
        ctx.call(CLOSE, &[b]).unwrap();
        assert_eq!(ctx.receive(a), Err(Errno::ECONNRESET));
        assert_eq!(ctx.receive(a), Ok(b"received".to_vec()));
        assert_eq!(ctx.receive(a), Ok(Vec::new()));
    });
}

#[test]
fn messages_tell_when_they_were_sent_and_by_whom() {
    World::new().with_ctx(|ctx| {
        let (a, b) = ctx.pair(kind::DGRAM);
        ctx.switch_on(b, socket::TIMESTAMPNS);
        ctx.switch_on(b, socket::TIMESTAMP);
        ctx.switch_on(b, socket::PASSCRED);
        ctx.send(a, b"x").unwrap();
        ctx.message(128);
        ctx.call(RECVMSG, &[b, MESSAGE, 0]).unwrap();
        let time: [u64; 2] = ctx.peek(CONTROL);
        assert_eq!(time, [HEADER as u64 + 16, LEVEL | u64::from(socket::TIMESTAMP) << 32]);
        let credentials: [u32; 2] = ctx.peek(CONTROL + 32 + 8);
        assert_eq!(credentials, [SOL_SOCKET, SCM_CREDENTIALS]);
        // A pair has the credentials of who made it.
        ctx.poke(LENGTH, 12u32);
        ctx.call(GETSOCKOPT, &[a, LEVEL, socket::PEERCRED.into(), DATA, LENGTH]).unwrap();
        assert_eq!(ctx.peek::<u32>(DATA), ctx.process.pid);
    });
}
