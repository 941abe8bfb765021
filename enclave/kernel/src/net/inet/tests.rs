//! Programs with sockets on a network in memory, and a host that lies.

mod corners;
mod files;
mod inside;
mod ring;

use crate::Ctx;
use crate::testing::{SCRATCH, World};
use boot_config::network::{Network, Ports};
use fake_platform::{FakePlatform, Lie};
use kbase::Errno;
use linux_abi::net::netlink::{Nlmsghdr, flag, message};
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::net::{MessageFlags, Msghdr, SockaddrIn, family, kind};
use linux_abi::time::Timeval;
use platform::{Clocks, HostAddress, HostFd, HostNet};
use zerocopy::IntoBytes;

const READ: u64 = 0;
const WRITE: u64 = 1;
const CLOSE: u64 = 3;
const POLL: u64 = 7;
const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const ACCEPT: u64 = 43;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const RECVMSG: u64 = 47;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const KILL: u64 = 62;
const SETSOCKOPT: u64 = 54;
const GETSOCKOPT: u64 = 55;
const FCNTL: u64 = 72;
const RT_SIGPROCMASK: u64 = 14;
const RT_SIGPENDING: u64 = 127;
const EPOLL_WAIT: u64 = 232;
const EPOLL_CTL: u64 = 233;
const EPOLL_CREATE1: u64 = 291;

const PORT: u16 = 80;
const ADDRESS: u64 = SCRATCH;
const LENGTH: u64 = SCRATCH + 200;
const DATA: u64 = SCRATCH + 0x1000;
const NONBLOCK: u64 = kind::NONBLOCK as u64;
const DONTWAIT: u64 = MessageFlags::DONTWAIT.bits() as u64;

fn address(port: u16) -> SockaddrIn {
    SockaddrIn { family: family::INET, port: port.to_be_bytes(), address: [127, 0, 0, 1], zero: [0; 8] }
}

impl Ctx<'_> {
    fn socket(&self, kind: u64) -> Result<u64, Errno> {
        self.call(SOCKET, &[u64::from(family::INET), kind, 0])
    }

    fn listener(&self, flags: u64) -> u64 {
        let fd = self.socket(1 | flags).unwrap();
        self.poke(ADDRESS, address(PORT));
        self.call(BIND, &[fd, ADDRESS, 16]).unwrap();
        self.call(LISTEN, &[fd, 8]).unwrap();
        fd
    }

    fn revents(&self, fd: u64) -> u16 {
        // pollfd: POLLIN | POLLOUT
        self.poke(SCRATCH + 0x100, [u32::try_from(fd).unwrap(), 5]);
        self.call(POLL, &[SCRATCH + 0x100, 1, 0]).unwrap();
        self.peek(SCRATCH + 0x106)
    }

    fn text(&self, len: u64) -> Vec<u8> {
        (0..len).map(|index| self.peek::<u8>(DATA + index)).collect()
    }
}

/// A client outside of the enclave that is connected to [`PORT`].
fn client(platform: &FakePlatform) -> HostFd {
    let fd = platform.host_socket(family::INET, kind::STREAM, 0).unwrap();
    platform.host_connect(fd, &HostAddress::new(address(PORT).as_bytes()).unwrap()).unwrap();
    fd
}

#[test]
fn a_server_accepts_receives_and_sends() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = client(&world.platform);
        world.platform.host_send(outside, b"question", 0).unwrap();
        ctx.poke(LENGTH, 16u32);
        let fd = ctx.call(ACCEPT, &[listener, ADDRESS, LENGTH]).unwrap();
        assert_eq!(ctx.peek::<SockaddrIn>(ADDRESS).address, [127, 0, 0, 1]);
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]), Ok(8));
        assert_eq!(ctx.text(8), b"question");
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
        assert_eq!(ctx.call(WRITE, &[fd, DATA, 3]), Ok(3));
        let mut answer = [0; 100];
        assert_eq!(world.platform.host_receive(outside, 0, &mut answer), Ok(3));
        assert_eq!(answer[..3], *b"que");
        world.platform.host_close_socket(outside);
        assert_eq!(ctx.call(READ, &[fd, DATA, 100]), Ok(0));
        for fd in [fd, listener] {
            ctx.call(CLOSE, &[fd]).unwrap();
        }
    });
    assert_eq!(world.platform.open_sockets(), 0);
}

#[test]
fn a_thread_that_waits_is_woken_by_the_host() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                FakePlatform::become_thread(7);
                std::thread::sleep(std::time::Duration::from_millis(20));
                let outside = client(&world.platform);
                std::thread::sleep(std::time::Duration::from_millis(20));
                world.platform.host_send(outside, b"late", 0).unwrap();
            });
            let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
            // pollfd: POLLIN
            ctx.poke(SCRATCH, [u32::try_from(fd).unwrap(), 1]);
            assert_eq!(ctx.call(POLL, &[SCRATCH, 1, u64::MAX]), Ok(1));
            assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]), Ok(4));
        });
    });
}

#[test]
fn another_thread_may_wait_where_one_waited_before() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        // epoll_event: EPOLLIN
        let epoll = ctx.call(EPOLL_CREATE1, &[0]).unwrap();
        ctx.poke(SCRATCH, [1u32, 0, 0]);
        ctx.call(EPOLL_CTL, &[epoll, 1, fd, SCRATCH]).unwrap();
        let wait = || ctx.call(EPOLL_WAIT, &[epoll, SCRATCH, 1, 1000]);
        assert_eq!(wait(), Ok(0), "this thread is the one that waits");
        for thread in [7, 8, 0] {
            FakePlatform::become_thread(thread);
            world.platform.host_send(outside, b"x", 0).unwrap();
            assert_eq!(wait(), Ok(1), "thread {thread}");
            assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, DONTWAIT, 0, 0]), Ok(1));
        }
        // One that it was not told of looks.
        let other = client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(ctx.revents(fd), 4);
        FakePlatform::become_thread(7);
        world.platform.host_send(other, b"x", 0).unwrap();
        assert_eq!(ctx.revents(fd), 5);
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, DONTWAIT, 0, 0]), Ok(1));
        FakePlatform::become_thread(0);
    });
}

#[test]
fn an_edge_that_nobody_fetched_is_told_of_when_another_thread_waits() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        // epoll_event: EPOLLIN | EPOLLET
        let epoll = ctx.call(EPOLL_CREATE1, &[0]).unwrap();
        ctx.poke(SCRATCH, [1u32 | 1 << 31, 0, 0]);
        ctx.call(EPOLL_CTL, &[epoll, 1, fd, SCRATCH]).unwrap();
        world.platform.host_send(outside, b"x", 0).unwrap();
        FakePlatform::become_thread(7);
        assert_eq!(ctx.call(EPOLL_WAIT, &[epoll, SCRATCH, 1, 1000]), Ok(1));
        FakePlatform::become_thread(0);
    });
}

#[test]
fn who_owns_a_socket_of_the_host_is_signalled_though_nobody_sleeps() {
    const OWNER: u64 = 8;
    const FLAGS: u64 = 4;
    const O_ASYNC: u64 = 0x2000;
    const SIGIO: u64 = 1 << 28;
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        let signals = || {
            world.kernel.take_readiness();
            ctx.call(RT_SIGPENDING, &[SCRATCH, 8]).unwrap();
            ctx.peek::<u64>(SCRATCH)
        };
        ctx.poke(SCRATCH, u64::MAX);
        ctx.call(RT_SIGPROCMASK, &[0, SCRATCH, 0, 8]).unwrap();
        ctx.call(FCNTL, &[fd, OWNER, ctx.process.pid.into()]).unwrap();
        ctx.call(FCNTL, &[fd, FLAGS, O_ASYNC]).unwrap();
        assert_eq!(signals(), 0, "nothing has happened yet");
        world.platform.host_send(outside, b"x", 0).unwrap();
        assert_eq!(signals(), SIGIO);
    });
}

#[test]
fn a_time_limit_ends_a_wait() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        ctx.poke(DATA, Timeval { tv_sec: 5, tv_usec: 0 });
        let option = u64::from(socket::RCVTIMEO);
        ctx.call(SETSOCKOPT, &[fd, u64::from(SOL_SOCKET), option, DATA, 16]).unwrap();
        let before = world.platform.monotonic_ns();
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]), Err(Errno::EAGAIN));
        assert!(world.platform.monotonic_ns() - before >= 5_000_000_000);
    });
}

#[test]
fn what_a_socket_does_not_take_is_neither_lost_nor_sent_twice() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        let all: Vec<u8> = (0..0xf_0000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        ctx.poke_bytes(DATA, &all);
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                FakePlatform::become_thread(7);
                let (mut received, mut part) = (Vec::new(), [0; 50_000]);
                while received.len() < all.len() {
                    match world.platform.host_receive(outside, 0, &mut part) {
                        Ok(len) => received.extend_from_slice(&part[..len]),
                        Err(_) => std::thread::yield_now(),
                    }
                }
                received
            });
            assert_eq!(ctx.call(WRITE, &[fd, DATA, all.len() as u64]), Ok(all.len() as u64));
            reader.join().unwrap()
        });
        assert!(received == all);
        // Without waiting, a part is sent, and then nothing.
        let sent = ctx.call(SENDTO, &[fd, DATA, all.len() as u64, DONTWAIT, 0, 0]).unwrap();
        assert!(sent > 0 && sent < all.len() as u64);
        assert_eq!(ctx.call(SENDTO, &[fd, DATA, 10, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
    });
}

#[test]
fn a_connection_that_takes_time_is_waited_for_or_not() {
    let world = World::new();
    world.platform.slow_connections();
    world.with_ctx(|ctx| {
        ctx.listener(0);
        ctx.poke(ADDRESS, address(PORT));
        let patient = ctx.socket(1).unwrap();
        assert_eq!(ctx.call(CONNECT, &[patient, ADDRESS, 16]), Ok(0));
        let hasty = ctx.socket(1 | NONBLOCK).unwrap();
        assert_eq!(ctx.call(CONNECT, &[hasty, ADDRESS, 16]), Err(Errno::EINPROGRESS));
        assert_eq!(ctx.call(CONNECT, &[hasty, ADDRESS, 16]), Ok(0));
        ctx.poke(ADDRESS, address(81));
        let refused = ctx.socket(1).unwrap();
        assert_eq!(ctx.call(CONNECT, &[refused, ADDRESS, 16]), Err(Errno::ECONNREFUSED));
    });
}

#[test]
fn what_a_socket_is_and_its_time_limits_are_not_asked_of_the_host() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let fd = ctx.socket(2).unwrap();
        world.platform.lie(Some(Lie::StrangeErrors));
        let level = u64::from(SOL_SOCKET);
        ctx.poke(LENGTH, 100u32);
        assert_eq!(ctx.call(GETSOCKOPT, &[fd, level, u64::from(socket::TYPE), DATA, LENGTH]), Ok(0));
        assert_eq!((ctx.peek::<u32>(DATA), ctx.peek::<u32>(LENGTH)), (kind::DGRAM, 4));
        let limit = u64::from(socket::SNDTIMEO);
        let set = |time: Timeval, len: u64| {
            ctx.poke(DATA, time);
            ctx.call(SETSOCKOPT, &[fd, level, limit, DATA, len])
        };
        assert_eq!(set(Timeval { tv_sec: 3, tv_usec: 5 }, 16), Ok(0));
        assert_eq!(set(Timeval { tv_sec: 3, tv_usec: 1_000_000 }, 16), Err(Errno::EDOM));
        assert_eq!(set(Timeval { tv_sec: 3, tv_usec: 0 }, 8), Err(Errno::EINVAL));
        ctx.poke(LENGTH, 16u32);
        assert_eq!(ctx.call(GETSOCKOPT, &[fd, level, limit, DATA, LENGTH]), Ok(0));
        assert_eq!(ctx.peek::<Timeval>(DATA), Timeval { tv_sec: 3, tv_usec: 5 });
    });
}

#[test]
fn raw_sockets_and_strange_families_are_refused() {
    World::new().with_ctx(|ctx| {
        assert_eq!(ctx.socket(3), Err(Errno::EPERM));
        assert_eq!(ctx.call(SOCKET, &[u64::from(family::PACKET), 3, 0]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(ctx.call(SOCKET, &[u64::from(family::INET), 1, 17]), Err(Errno::EPROTONOSUPPORT));
    });
}

#[test]
fn a_host_that_invents_addresses_gets_an_error_and_its_socket_is_closed() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(NONBLOCK);
        client(&world.platform);
        world.platform.lie(Some(Lie::StrangeAddresses));
        let before = world.platform.open_sockets();
        assert_eq!(ctx.call(ACCEPT, &[listener, 0, 0]), Err(Errno::EIO));
        assert_eq!(world.platform.open_sockets(), before - 1);
    });
}

#[test]
fn a_host_that_lies_about_readiness_makes_nobody_believe_it() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        world.platform.lie(Some(Lie::StrangeTokens));
        ctx.poke(SCRATCH, [u32::try_from(fd).unwrap(), 1]);
        assert_eq!(ctx.call(POLL, &[SCRATCH, 1, 10]), Ok(0));
        world.platform.lie(Some(Lie::AlwaysReady));
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
        world.platform.lie(Some(Lie::StrangeErrors));
        assert!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]).is_err());
    });
}

#[test]
fn a_signal_ends_the_calls_of_who_is_told_for_ever_that_a_socket_is_ready() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        client(&world.platform);
        let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        world.platform.lie(Some(Lie::AlwaysReady));
        ctx.call(KILL, &[ctx.process.pid.into(), 10]).unwrap();
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]), Err(Errno::ERESTARTSYS));
        assert_eq!(ctx.call(READ, &[fd, DATA, 100]), Err(Errno::ERESTARTSYS));
        assert_eq!(ctx.call(ACCEPT, &[listener, 0, 0]), Err(Errno::ERESTARTSYS));
    });
}

#[test]
fn a_datagram_that_is_cut_says_so() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let fd = ctx.socket(2).unwrap();
        ctx.poke(ADDRESS, address(PORT));
        ctx.call(BIND, &[fd, ADDRESS, 16]).unwrap();
        ctx.poke_bytes(DATA, b"0123456789");
        assert_eq!(ctx.call(SENDTO, &[fd, DATA, 10, 0, ADDRESS, 16]), Ok(10));
        ctx.poke(SCRATCH + 0x100, [DATA + 0x100, 4u64]);
        let header =
            Msghdr { name: ADDRESS, name_len: 16, iov: SCRATCH + 0x100, iov_len: 1, ..Msghdr::default() };
        ctx.poke(SCRATCH + 0x200, header);
        assert_eq!(ctx.call(RECVMSG, &[fd, SCRATCH + 0x200, 0]), Ok(4));
        let header: Msghdr = ctx.peek(SCRATCH + 0x200);
        assert_eq!(header.flags, MessageFlags::TRUNC.bits());
        assert_eq!((header.name_len, ctx.peek::<SockaddrIn>(ADDRESS).port), (16, PORT.to_be_bytes()));
    });
}

#[test]
fn netlink_lists_what_the_host_says() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let fd = ctx.call(SOCKET, &[u64::from(family::NETLINK), 3, 0]).unwrap();
        let request = Nlmsghdr {
            len: 20,
            kind: message::GETLINK,
            flags: flag::REQUEST | flag::DUMP,
            sequence: 5,
            port: 0,
        };
        ctx.poke(DATA, request);
        ctx.poke(DATA + 16, 0u32);
        assert_eq!(ctx.call(SENDTO, &[fd, DATA, 20, 0, 0, 0]), Ok(20));
        let len = ctx.call(RECVFROM, &[fd, DATA, 4096, 0, 0, 0]).unwrap();
        let answer: Nlmsghdr = ctx.peek(DATA);
        assert_eq!((answer.kind, answer.sequence, u64::from(answer.len)), (message::NEWLINK, 5, len));
        ctx.call(RECVFROM, &[fd, DATA, 4096, 0, 0, 0]).unwrap();
        assert_eq!(ctx.peek::<Nlmsghdr>(DATA).kind, message::DONE);
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 4096, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
    });
}
