//! What is seldom seen of sockets of the internet, as Linux has it.

use super::inside::alone;
use super::*;

const SHUTDOWN: u64 = 48;
const SENDMSG: u64 = 46;
const CONTROL: u64 = SCRATCH + 0x400;
const MESSAGE: u64 = SCRATCH + 0x300;
const IOVEC: u64 = SCRATCH + 0x380;
const OOB: u64 = MessageFlags::OOB.bits() as u64;
const PEEK: u64 = MessageFlags::PEEK.bits() as u64;
const QUIET: u64 = MessageFlags::NOSIGNAL.bits() as u64;

impl Ctx<'_> {
    /// What `poll` finds of these events and what comes unasked.
    fn found(&self, fd: u64, events: u16) -> u16 {
        self.poke(SCRATCH + 0x100, u32::try_from(fd).unwrap());
        self.poke(SCRATCH + 0x104, events);
        self.call(POLL, &[SCRATCH + 0x100, 1, 0]).unwrap();
        self.peek(SCRATCH + 0x106)
    }

    /// Both sides of a connection.
    fn both_sides(&self) -> (u64, u64) {
        let listener = self.listener(0);
        let (client, _) = self.connected(PORT, NONBLOCK);
        let server = self.call(ACCEPT, &[listener, 0, 0]).unwrap();
        self.call(CLOSE, &[listener]).unwrap();
        (client, server)
    }

    fn say(&self, fd: u64, len: u64, flags: u64) -> Result<u64, Errno> {
        self.call(SENDTO, &[fd, DATA, len, flags | QUIET, 0, 0])
    }

    fn hear(&self, fd: u64, flags: u64) -> Result<u64, Errno> {
        self.call(RECVFROM, &[fd, DATA, 100, flags | DONTWAIT, 0, 0])
    }
}

#[test]
fn shutting_down_what_is_not_connected_fails_and_counts() {
    alone().with_ctx(|ctx| {
        let fd = ctx.socket(1 | NONBLOCK).unwrap();
        assert_eq!(ctx.found(fd, 0x2005), 0x14);
        assert_eq!(ctx.call(SHUTDOWN, &[fd, 0]), Err(Errno::ENOTCONN));
        assert_eq!(ctx.found(fd, 0x2005), 0x2015);
        assert_eq!(ctx.hear(fd, 0), Ok(0));
        let _listener = ctx.listener(0);
        ctx.poke(ADDRESS, address(PORT));
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, 16]), Err(Errno::EINPROGRESS));
        assert_eq!(ctx.found(fd, 0x2005), 0x2005, "it is connected, and receives nothing");
        let fd = ctx.socket(1).unwrap();
        assert_eq!(ctx.say(fd, 1, 0), Err(Errno::EPIPE));
        assert_eq!(ctx.say(fd, 1, OOB), Err(Errno::EPIPE));
        assert_eq!(ctx.hear(fd, OOB), Err(Errno::EINVAL));
        assert_eq!(ctx.hear(fd, 0), Err(Errno::ENOTCONN));
    });
}

#[test]
fn a_connection_that_failed_has_ended_until_the_next_attempt() {
    alone().with_ctx(|ctx| {
        let (fd, result) = ctx.connected(PORT, NONBLOCK);
        assert_eq!(result, Err(Errno::EINPROGRESS));
        assert_eq!(ctx.say(fd, 0, 0), Err(Errno::ECONNREFUSED));
        assert_eq!(ctx.hear(fd, 0), Ok(0));
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, 16]), Err(Errno::ECONNABORTED));
        assert_eq!(ctx.hear(fd, 0), Err(Errno::ENOTCONN));
        // One that was made and is gone, before the program asked.
        let listener = ctx.listener(0);
        let (fd, _) = ctx.connected(PORT, NONBLOCK);
        ctx.call(CLOSE, &[listener]).unwrap();
        assert_eq!(ctx.hear(fd, 0), Err(Errno::ECONNRESET));
        ctx.poke(ADDRESS, address(PORT));
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, 16]), Err(Errno::ECONNABORTED));
        assert_eq!(ctx.found(fd, 0x2005), 0x14, "it is as new");
    });
}

#[test]
fn who_neither_receives_nor_sends_answers_with_a_reset() {
    alone().with_ctx(|ctx| {
        let (client, server) = ctx.both_sides();
        assert_eq!(ctx.say(client, 5, 0), Ok(5));
        ctx.call(SHUTDOWN, &[server, 2]).unwrap();
        assert_eq!(ctx.say(client, 3, 0), Ok(3));
        assert_eq!(ctx.found(client, 0x2005), 0x201d);
        assert_eq!(ctx.found(server, 0x2005), 0x201d);
        assert_eq!(ctx.say(client, 3, 0), Err(Errno::EPIPE));
        assert_eq!(ctx.say(client, 0, 0), Err(Errno::EPIPE));
        assert_eq!(ctx.hear(server, 0), Ok(5), "what came before is there");
        assert_eq!(ctx.hear(server, 0), Err(Errno::ECONNRESET));
        assert_eq!(ctx.call(SHUTDOWN, &[client, 1]), Err(Errno::ENOTCONN));
        for fd in [server, client] {
            ctx.call(CLOSE, &[fd]).unwrap();
        }
        // To who is closed the first byte is sent, urgent or not.
        let (client, server) = ctx.both_sides();
        ctx.call(CLOSE, &[server]).unwrap();
        assert_eq!(ctx.say(client, 1, OOB), Ok(1));
        assert_eq!(ctx.say(client, 1, OOB), Err(Errno::EPIPE));
    });
}

#[test]
fn an_urgent_byte_that_was_passed_over_is_gone() {
    alone().with_ctx(|ctx| {
        let (client, server) = ctx.both_sides();
        ctx.say(client, 1, OOB).unwrap();
        assert_eq!(ctx.found(server, 3), 2);
        assert_eq!(ctx.hear(server, PEEK), Err(Errno::EAGAIN), "looking passes nothing");
        assert_eq!(ctx.found(server, 3), 2);
        ctx.poke_bytes(DATA, b"more");
        ctx.say(client, 4, 0).unwrap();
        assert_eq!(ctx.hear(server, PEEK), Ok(4));
        assert_eq!(ctx.text(4), b"more");
        assert_eq!(ctx.hear(server, 0), Ok(4));
        assert_eq!(ctx.found(server, 3), 0);
        assert_eq!(ctx.hear(server, OOB), Err(Errno::EINVAL));
        // Where two were sent, the first is a byte like all.
        for flags in [0, OOB, 0, OOB, 0] {
            ctx.say(client, 2, flags).unwrap();
        }
        assert_eq!(ctx.hear(server, 0), Ok(7));
        assert_eq!(ctx.hear(server, OOB), Ok(1));
        assert_eq!(ctx.hear(server, 0), Ok(2));
    });
}

#[test]
fn bits_that_come_with_others_are_those_of_the_kind() {
    alone().with_ctx(|ctx| {
        let (client, _server) = ctx.both_sides();
        let datagrams = ctx.socket(2).unwrap();
        assert_eq!(ctx.found(client, 0x344), 0x104);
        assert_eq!(ctx.found(datagrams, 0x344), 0x304);
        assert_eq!(ctx.found(datagrams, 0x200), 0x200);
        let epoll = ctx.call(EPOLL_CREATE1, &[0]).unwrap();
        for (fd, events, expected) in
            [(client, 0x300u32, Some(0x100u32)), (client, 0x200, None), (datagrams, 0x200, Some(0x200))]
        {
            ctx.poke(DATA, [events, 0, 0]);
            ctx.call(EPOLL_CTL, &[epoll, 1, fd, DATA]).unwrap();
            let found = ctx.call(EPOLL_WAIT, &[epoll, DATA, 8, 0]).unwrap();
            assert_eq!((found == 1).then(|| ctx.peek::<u32>(DATA)), expected);
            ctx.call(EPOLL_CTL, &[epoll, 2, fd, 0]).unwrap();
        }
    });
}

#[test]
fn control_messages_of_other_levels_go_nowhere() {
    let world = alone();
    world.with_ctx(|ctx| {
        let (sender, receiver) = (ctx.socket(2 | NONBLOCK).unwrap(), ctx.socket(2 | NONBLOCK).unwrap());
        ctx.poke(ADDRESS, address(PORT));
        ctx.call(BIND, &[receiver, ADDRESS, 16]).unwrap();
        ctx.call(CONNECT, &[sender, ADDRESS, 16]).unwrap();
        ctx.poke(IOVEC, [DATA, 3]);
        let send = |level: u32, kind: u32| {
            // struct cmsghdr and a number
            ctx.poke(CONTROL, [20u32, 0, level, kind, 1]);
            let message =
                Msghdr { iov: IOVEC, iov_len: 1, control: CONTROL, control_len: 24, ..Msghdr::default() };
            ctx.poke(MESSAGE, message);
            ctx.call(SENDMSG, &[sender, MESSAGE, 0])
        };
        assert_eq!(send(255, 7), Ok(3));
        assert_eq!(send(SOL_SOCKET, 1), Ok(3), "SCM_RIGHTS");
        assert_eq!(send(SOL_SOCKET, 99), Err(Errno::EINVAL));
        assert_eq!(ctx.hear(receiver, OOB), Ok(3), "MSG_OOB means nothing");
    });
}
