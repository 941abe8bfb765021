//! Connected streams whose data go through the ring of operations.

use super::*;
use linux_abi::net::shut;
use platform::{HostError, RingEvent};

const SHUTDOWN: u64 = 48;
const IOCTL: u64 = 16;
const FIONREAD: u64 = 0x541b;
/// The token of the first stream.
const FIRST: u64 = 1;
const IN: u16 = 1;
const OUT: u16 = 4;
const ERR: u16 = 8;
const HUP: u16 = 0x10;
const RDHUP: u16 = 0x2000;

fn world() -> World {
    let platform = FakePlatform::new();
    platform.make_ring();
    World::with_ring(platform)
}

impl Ctx<'_> {
    /// A connection of a client outside: its end here, and there.
    fn connection(&self, platform: &FakePlatform) -> (u64, HostFd) {
        let listener = self.listener(0);
        let outside = client(platform);
        let fd = self.call(ACCEPT, &[listener, 0, 0]).unwrap();
        self.call(CLOSE, &[listener]).unwrap();
        (fd, outside)
    }

    fn take(&self, fd: u64, len: u64, flags: MessageFlags) -> Result<u64, Errno> {
        self.call(RECVFROM, &[fd, DATA, len, (flags | MessageFlags::DONTWAIT).bits().into(), 0, 0])
    }

    fn put(&self, fd: u64, len: u64) -> Result<u64, Errno> {
        let flags = MessageFlags::DONTWAIT | MessageFlags::NOSIGNAL;
        self.call(SENDTO, &[fd, DATA, len, flags.bits().into(), 0, 0])
    }

    /// Sends a byte.
    fn send_one(&self, fd: u64, flags: MessageFlags) -> Result<u64, Errno> {
        self.call(SENDTO, &[fd, DATA, 1, flags.bits().into(), 0, 0])
    }

    /// What a socket is ready for, of all that there is.
    fn all_revents(&self, fd: u64) -> u16 {
        self.poke(SCRATCH, [u32::try_from(fd).unwrap(), 0x2005]);
        self.call(POLL, &[SCRATCH, 1, 0]).unwrap();
        u16::from_le_bytes([self.peek::<u8>(SCRATCH + 6), self.peek::<u8>(SCRATCH + 7)])
    }

    fn error(&self, fd: u64) -> u32 {
        self.poke(LENGTH, 4u32);
        let option = [u64::from(SOL_SOCKET), u64::from(socket::ERROR)];
        self.call(GETSOCKOPT, &[fd, option[0], option[1], SCRATCH, LENGTH]).unwrap();
        self.peek(SCRATCH)
    }
}

const NO_FLAGS: MessageFlags = MessageFlags::empty();

/// All that is there at a socket of the host.
fn drain(platform: &FakePlatform, fd: HostFd) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), vec![0; 50_000]);
    while let Ok(len @ 1..) = platform.host_receive(fd, 0, &mut part) {
        all.extend_from_slice(&part[..len]);
    }
    all
}

#[test]
fn a_stream_receives_and_sends_through_the_ring() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        assert_eq!(world.platform.outstanding(), 1, "it waits for data");
        assert_eq!(ctx.all_revents(fd), OUT);
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::EAGAIN));
        world.platform.host_send(outside, b"question", 0).unwrap();
        assert_eq!(ctx.all_revents(fd), IN | OUT);
        ctx.call(IOCTL, &[fd, FIONREAD, SCRATCH]).unwrap();
        assert_eq!(ctx.peek::<u32>(SCRATCH), 8);
        assert_eq!(ctx.take(fd, 100, MessageFlags::PEEK), Ok(8));
        assert_eq!(ctx.take(fd, 3, MessageFlags::TRUNC), Ok(3));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(5));
        assert_eq!(ctx.text(5), b"stion");
        assert_eq!(ctx.put(fd, 5), Ok(5));
        world.kernel.take_readiness();
        assert_eq!(drain(&world.platform, outside), b"stion");
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!(world.platform.outstanding(), 0);
        assert_eq!(world.platform.open_sockets(), 1, "the other end");
    });
}

#[test]
fn a_thread_that_waits_hears_of_data_and_of_room() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        let all: Vec<u8> = (0..0xf_0000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        ctx.poke_bytes(DATA, &all);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                FakePlatform::become_thread(7);
                let mut received = Vec::new();
                while received.len() < all.len() {
                    received.extend(drain(&world.platform, outside));
                    std::thread::yield_now();
                }
                for part in [&b"ab"[..], b"cd"] {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    world.platform.host_send(outside, part, 0).unwrap();
                }
                received
            });
            assert_eq!(ctx.call(WRITE, &[fd, DATA, all.len() as u64]), Ok(all.len() as u64));
            let wants_all = u64::from(MessageFlags::WAITALL.bits());
            assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 4, wants_all, 0, 0]), Ok(4));
            assert!(reader.join().unwrap() == all);
        });
        assert_eq!(ctx.text(4), b"abcd");
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"last", 0).unwrap();
        world.platform.host_shutdown(outside, shut::WR).unwrap();
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(4));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(0));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(0));
        assert_eq!(ctx.all_revents(fd), IN | OUT | RDHUP);
        assert_eq!(ctx.put(fd, 4), Ok(4));
        ctx.call(SHUTDOWN, &[fd, u64::from(shut::WR)]).unwrap();
        assert_eq!(ctx.put(fd, 4), Err(Errno::EPIPE));
        assert_eq!(ctx.all_revents(fd), IN | OUT | RDHUP | HUP);
        world.kernel.take_readiness();
        let mut part = [0; 10];
        assert_eq!(world.platform.host_receive(outside, 0, &mut part), Ok(4));
        assert_eq!(world.platform.host_receive(outside, 0, &mut part), Ok(0));
    });
}

#[test]
fn an_error_is_told_once_after_what_came_before_it() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"before", 0).unwrap();
        assert_eq!(ctx.take(fd, 2, NO_FLAGS), Ok(2));
        world.platform.lie_in_ring(FIRST, RingEvent::Received(Err(HostError(Errno::ECONNRESET))));
        assert_eq!(ctx.all_revents(fd), IN | OUT | ERR | HUP | RDHUP);
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(4));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::ECONNRESET));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(0));
        assert_eq!(ctx.put(fd, 4), Err(Errno::EPIPE));

        let (fd, _) = ctx.connection(&world.platform);
        world.platform.lie_in_ring(FIRST + 1, RingEvent::Received(Err(HostError(Errno::ETIMEDOUT))));
        assert_ne!(ctx.all_revents(fd) & ERR, 0);
        assert_eq!(ctx.error(fd), Errno::ETIMEDOUT.number().into());
        assert_eq!(ctx.error(fd), 0);
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(0));
    });
}

#[test]
fn who_sends_to_nobody_hears_of_it_with_the_next_call() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_close_socket(outside);
        assert_eq!(ctx.put(fd, 4), Ok(4));
        world.kernel.take_readiness();
        assert_eq!(ctx.put(fd, 4), Err(Errno::EPIPE));
    });
}

#[test]
fn a_stream_takes_no_more_than_there_is_room_for() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        let all: Vec<u8> = (0..0x10_0000u32 - 0x1000).map(|n| (n / 255) as u8).collect();
        ctx.poke_bytes(DATA, &all);
        let mut sent = 0;
        loop {
            let flags = MessageFlags::DONTWAIT.bits().into();
            match ctx.call(SENDTO, &[fd, DATA + sent, all.len() as u64 - sent, flags, 0, 0]) {
                Ok(len) => sent += len,
                Err(error) => break assert_eq!(error, Errno::EAGAIN),
            }
        }
        assert!(sent > 256 * 1024 && sent < 512 * 1024, "the host's window and two parts: {sent}");
        assert_eq!(ctx.all_revents(fd), 0);
        let mut received = drain(&world.platform, outside);
        assert_eq!(ctx.all_revents(fd), OUT);
        // Closed with what the host does not have yet: all of it arrives, and then the end.
        ctx.call(CLOSE, &[fd]).unwrap();
        while received.len() < sent as usize {
            world.kernel.take_readiness();
            received.extend(drain(&world.platform, outside));
        }
        assert!(received == all[..sent as usize]);
        world.kernel.take_readiness();
        assert_eq!(world.platform.host_receive(outside, 0, &mut [0]), Ok(0));
        assert_eq!((world.platform.outstanding(), world.platform.open_sockets()), (0, 1));
    });
}

#[test]
fn what_an_old_stream_hears_does_not_reach_a_new_one() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        ctx.call(CLOSE, &[fd]).unwrap();
        world.platform.host_close_socket(outside);
        let (fd, _) = ctx.connection(&world.platform);
        for token in [FIRST, 0, u64::MAX, 99] {
            world.platform.lie_in_ring(token, RingEvent::Received(Ok(b"old".to_vec())));
            world.platform.lie_in_ring(token, RingEvent::Sent(Ok(usize::MAX)));
            world.platform.lie_in_ring(token, RingEvent::HasRoom);
        }
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::EAGAIN));
        assert_eq!(ctx.all_revents(fd), OUT);
    });
}

#[test]
fn a_ring_that_is_full_is_tried_again() {
    let world = world();
    world.with_ctx(|ctx| {
        world.platform.limit_ring(Some(0));
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"abc", 0).unwrap();
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::EAGAIN));
        assert_eq!(ctx.put(fd, 3), Ok(3));
        world.platform.limit_ring(Some(1));
        world.kernel.take_readiness();
        world.platform.limit_ring(None);
        // A thread that sleeps meanwhile looks again by itself.
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, 0, 0, 0]), Ok(3));
        world.kernel.take_readiness();
        assert_eq!(drain(&world.platform, outside).len(), 3);
    });
}

#[test]
fn what_does_not_fit_into_the_ring_is_tried_once_at_a_time() {
    let world = world();
    world.with_ctx(|ctx| {
        world.platform.limit_ring(Some(0));
        let (fd, _outside) = ctx.connection(&world.platform);
        assert_eq!(ctx.put(fd, 3), Ok(3));
        let before = world.platform.refused_operations();
        (0..20).for_each(|_| world.kernel.take_readiness());
        let tries = world.platform.refused_operations() - before;
        assert!(tries <= 40, "{tries} times something to receive and something to send was refused");
    });
}

#[test]
fn who_closes_with_data_unread_resets_and_who_lingers_closes_by_a_call() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"unread", 0).unwrap();
        assert_eq!(ctx.all_revents(fd), IN | OUT);
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!((world.platform.outstanding(), world.platform.open_sockets()), (0, 1));

        let (fd, _) = ctx.connection(&world.platform);
        ctx.poke(DATA, [1u32, 5]);
        let option = [u64::from(SOL_SOCKET), u64::from(socket::LINGER)];
        ctx.call(SETSOCKOPT, &[fd, option[0], option[1], DATA, 8]).unwrap();
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!((world.platform.outstanding(), world.platform.open_sockets()), (0, 2));

        // What a host has not looked at must not find the next socket of the number.
        let (fd, _) = ctx.connection(&world.platform);
        ctx.call(SETSOCKOPT, &[fd, option[0], option[1], DATA, 8]).unwrap();
        world.platform.stall_ring(true);
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!(world.platform.outstanding(), 0, "it was closed by the ring");
    });
}

#[test]
fn who_waits_for_data_hears_that_sending_failed() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, _outside) = ctx.connection(&world.platform);
        let failed = RingEvent::Sent(Err(HostError(Errno::ETIMEDOUT)));
        ctx.put(fd, 3).unwrap();
        world.platform.lie_in_ring(FIRST, failed);
        assert_eq!(ctx.all_revents(fd) & (ERR | IN), ERR);
        assert_eq!(ctx.call(READ, &[fd, DATA, 100]), Err(Errno::ETIMEDOUT), "though it may wait");
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::EAGAIN), "once");
    });
}

#[test]
fn a_message_of_its_own_waits_until_all_before_it_is_sent() {
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, _outside) = ctx.connection(&world.platform);
        world.platform.stall_ring(true);
        ctx.put(fd, 3).unwrap();
        assert_eq!(ctx.all_revents(fd), OUT);
        let urgent = MessageFlags::OOB | MessageFlags::NOSIGNAL;
        assert_eq!(ctx.send_one(fd, urgent | MessageFlags::DONTWAIT), Err(Errno::EAGAIN));
        // Who waits sleeps, and hears that the time limit is over.
        ctx.poke(DATA, [0u64, 1000]);
        let option = [u64::from(SOL_SOCKET), u64::from(socket::SNDTIMEO)];
        ctx.call(SETSOCKOPT, &[fd, option[0], option[1], DATA, 16]).unwrap();
        assert_eq!(ctx.send_one(fd, urgent), Err(Errno::EAGAIN));
        world.platform.stall_ring(false);
        assert_eq!(ctx.send_one(fd, urgent), Ok(1));
    });
}

#[test]
fn a_connection_that_took_time_joins_when_it_has_sent() {
    let world = world();
    world.platform.slow_connections();
    world.with_ctx(|ctx| {
        let outside = world.platform.host_socket(family::INET, kind::STREAM, 0).unwrap();
        world.platform.host_bind(outside, &HostAddress::new(address(PORT).as_bytes()).unwrap()).unwrap();
        world.platform.host_listen(outside, 8).unwrap();
        ctx.poke(ADDRESS, address(PORT));
        let hasty = ctx.socket(1 | NONBLOCK).unwrap();
        assert_eq!(ctx.call(CONNECT, &[hasty, ADDRESS, 16]), Err(Errno::EINPROGRESS));
        assert_eq!((ctx.all_revents(hasty), ctx.error(hasty)), (OUT, 0));
        assert_eq!(world.platform.outstanding(), 0);
        assert_eq!(ctx.put(hasty, 3), Ok(3));
        assert_eq!(world.platform.outstanding(), 1, "it waits for an answer");
        let (there, _) = world.platform.host_accept(outside).unwrap();
        assert_eq!(drain(&world.platform, there).len(), 3);
        world.platform.host_send(there, b"answer", 0).unwrap();
        assert_eq!(ctx.call(READ, &[hasty, DATA, 100]), Ok(6));
    });
}

#[test]
fn what_is_queued_is_sent_while_the_program_sleeps() {
    const NANOSLEEP: u64 = 35;
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        let len = 0x1_8000;
        assert_eq!(ctx.put(fd, len), Ok(len), "one operation, and half of the queue");
        ctx.poke(SCRATCH, [0u64, 1_000_000]);
        ctx.call(NANOSLEEP, &[SCRATCH, 0]).unwrap();
        assert_eq!(drain(&world.platform, outside).len() as u64, len);
    });
}

#[test]
fn who_gets_an_owner_leaves_and_loses_nothing() {
    const OWNER: u64 = 8;
    const FLAGS: u64 = 4;
    const O_ASYNC: u64 = 0x2000;
    const SIGIO: u64 = 1 << 28;
    let world = world();
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"before", 0).unwrap();
        assert_eq!(ctx.all_revents(fd), IN | OUT);
        assert_eq!(ctx.put(fd, 3), Ok(3));
        let signals = || {
            world.kernel.take_readiness();
            ctx.call(RT_SIGPENDING, &[SCRATCH, 8]).unwrap();
            ctx.peek::<u64>(SCRATCH)
        };
        ctx.poke(SCRATCH, u64::MAX);
        ctx.call(RT_SIGPROCMASK, &[0, SCRATCH, 0, 8]).unwrap();
        ctx.call(FCNTL, &[fd, OWNER, ctx.process.pid.into()]).unwrap();
        ctx.call(FCNTL, &[fd, FLAGS, O_ASYNC]).unwrap();
        assert_eq!((world.platform.outstanding(), signals()), (0, 0));
        assert_eq!(drain(&world.platform, outside).len(), 3);
        world.platform.host_send(outside, b"after", 0).unwrap();
        assert_eq!(signals(), SIGIO);
        assert_eq!(ctx.all_revents(fd), IN | OUT);
        assert_eq!(ctx.take(fd, 2, NO_FLAGS), Ok(2));
        assert_eq!((ctx.take(fd, 100, NO_FLAGS), ctx.text(4)), (Ok(4), b"fore".to_vec()));
        assert_eq!((ctx.take(fd, 100, NO_FLAGS), ctx.text(5)), (Ok(5), b"after".to_vec()));
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Err(Errno::EAGAIN));
        assert_eq!(ctx.put(fd, 3), Ok(3));
        assert_eq!(drain(&world.platform, outside).len(), 3);
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!(world.platform.open_sockets(), 1);
    });
}

#[test]
fn without_a_ring_all_is_as_it_was() {
    let world = World::with_ring(FakePlatform::new());
    world.with_ctx(|ctx| {
        let (fd, outside) = ctx.connection(&world.platform);
        world.platform.host_send(outside, b"abc", 0).unwrap();
        assert_eq!(ctx.take(fd, 100, NO_FLAGS), Ok(3));
        assert_eq!(ctx.put(fd, 3), Ok(3));
        assert_eq!(drain(&world.platform, outside), b"abc");
    });
}
