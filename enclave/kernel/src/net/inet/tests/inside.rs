//! Connections and datagrams between programs of one enclave.

use super::*;

/// A world whose loopback is its own.
pub(super) fn alone() -> World {
    World::with_network(FakePlatform::new(), Network::default())
}

impl Ctx<'_> {
    /// Connects a new socket to a port of 127.0.0.1.
    pub(super) fn connected(&self, port: u16, flags: u64) -> (u64, Result<u64, Errno>) {
        let fd = self.socket(1 | flags).unwrap();
        self.poke(ADDRESS, address(port));
        (fd, self.call(CONNECT, &[fd, ADDRESS, 16]))
    }

    /// Binds a new socket to [`PORT`].
    fn bound(&self) -> Result<u64, Errno> {
        let fd = self.socket(1).unwrap();
        self.poke(ADDRESS, address(PORT));
        self.call(BIND, &[fd, ADDRESS, 16])
    }
}

#[test]
fn a_connection_inside_needs_no_socket_of_the_host() {
    let world = alone();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let outside = world.platform.host_socket(family::INET, kind::STREAM, 0).unwrap();
        let to = HostAddress::new(address(PORT).as_bytes()).unwrap();
        assert!(world.platform.host_connect(outside, &to).is_err(), "the host has no such port");
        world.platform.host_close_socket(outside);
        let (client, result) = ctx.connected(PORT, 0);
        assert_eq!(result, Ok(0));
        ctx.poke(LENGTH, 16u32);
        let server = ctx.call(ACCEPT, &[listener, ADDRESS, LENGTH]).unwrap();
        assert_eq!(ctx.peek::<SockaddrIn>(ADDRESS).address, [127, 0, 0, 1]);
        for (from, to) in [(client, server), (server, client)] {
            ctx.poke_bytes(DATA, b"inside");
            assert_eq!(ctx.call(WRITE, &[from, DATA, 6]), Ok(6));
            assert_eq!(ctx.call(READ, &[to, DATA + 100, 100]), Ok(6));
            assert_eq!(ctx.peek::<[u8; 6]>(DATA + 100), *b"inside");
        }
        ctx.call(CLOSE, &[client]).unwrap();
        assert_eq!(ctx.call(READ, &[server, DATA, 1]), Ok(0));
        let (_, refused) = ctx.connected(PORT + 1, 0);
        assert_eq!(refused, Err(Errno::ECONNREFUSED));
        assert_eq!(world.platform.open_sockets(), 0);
        // As soon as both are closed, the client first, another has the port.
        ctx.call(CLOSE, &[listener]).unwrap();
        assert_eq!(ctx.bound(), Err(Errno::EADDRINUSE));
        ctx.call(CLOSE, &[server]).unwrap();
        ctx.listener(0);
    });
}

#[test]
fn who_closes_first_keeps_the_port_for_a_minute() {
    let world = alone();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let (client, _) = ctx.connected(PORT, 0);
        let server = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        for fd in [server, client, listener] {
            ctx.call(CLOSE, &[fd]).unwrap();
        }
        assert_eq!(ctx.bound(), Err(Errno::EADDRINUSE));
        world.platform.advance(59_999_000_000);
        assert_eq!(ctx.bound(), Err(Errno::EADDRINUSE));
        world.platform.advance(1_000_000);
        assert!(ctx.bound().is_ok());
    });
}

#[test]
fn a_connection_that_is_dissolved_is_reset_and_the_socket_is_as_new() {
    let world = alone();
    world.with_ctx(|ctx| {
        let listener = ctx.listener(0);
        let (client, _) = ctx.connected(PORT, 0);
        let server = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        ctx.poke(ADDRESS, [0u64; 2]);
        assert_eq!(ctx.call(CONNECT, &[client, ADDRESS, 16]), Ok(0));
        assert_eq!(ctx.call(READ, &[server, DATA, 1]), Err(Errno::ECONNRESET));
        assert_eq!(ctx.call(READ, &[client, DATA, 1]), Err(Errno::ECONNRESET));
        assert_eq!(ctx.call(READ, &[client, DATA, 1]), Err(Errno::ENOTCONN));
        ctx.call(CLOSE, &[server]).unwrap();
        ctx.poke(ADDRESS, address(PORT));
        assert_eq!(ctx.call(CONNECT, &[client, ADDRESS, 16]), Ok(0));
        let server = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(ctx.call(WRITE, &[client, DATA, 3]), Ok(3));
        assert_eq!(ctx.call(READ, &[server, DATA, 9]), Ok(3));
        // Who waits at a listener that has no room any more is not connected later.
        ctx.call(LISTEN, &[listener, 0]).unwrap();
        let (_first, _) = ctx.connected(PORT, NONBLOCK);
        let (second, _) = ctx.connected(PORT, NONBLOCK);
        assert_eq!(ctx.revents(second), 0);
        ctx.poke(ADDRESS, [0u64; 2]);
        assert_eq!(ctx.call(CONNECT, &[second, ADDRESS, 16]), Ok(0));
        ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(ctx.call(WRITE, &[second, DATA, 1]), Err(Errno::ECONNRESET));
        assert_eq!(world.platform.open_sockets(), 0);
    });
}

#[test]
fn datagrams_inside_need_no_socket_of_the_host() {
    let world = alone();
    world.with_ctx(|ctx| {
        let (receiver, sender) = (ctx.socket(2).unwrap(), ctx.socket(2).unwrap());
        ctx.poke(ADDRESS, address(PORT));
        ctx.call(BIND, &[receiver, ADDRESS, 16]).unwrap();
        ctx.poke_bytes(DATA, b"datagram");
        assert_eq!(ctx.call(SENDTO, &[sender, DATA, 8, 0, ADDRESS, 16]), Ok(8));
        ctx.poke(LENGTH, 16u32);
        assert_eq!(ctx.call(RECVFROM, &[receiver, DATA, 100, DONTWAIT, ADDRESS, LENGTH]), Ok(8));
        let from: SockaddrIn = ctx.peek(ADDRESS);
        assert_eq!((from.address, from.port == [0; 2]), ([127, 0, 0, 1], false));
        assert_eq!(ctx.call(RECVFROM, &[receiver, DATA, 100, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
        // To nobody, over a connection.
        ctx.poke(ADDRESS, address(PORT + 1));
        ctx.call(CONNECT, &[sender, ADDRESS, 16]).unwrap();
        assert_eq!(ctx.call(SENDTO, &[sender, DATA, 8, 0, 0, 0]), Ok(8));
        assert_eq!(ctx.call(SENDTO, &[sender, DATA, 8, 0, 0, 0]), Err(Errno::ECONNREFUSED));
        assert_eq!(world.platform.open_sockets(), 0);
    });
}

#[test]
fn a_listener_at_all_addresses_accepts_from_inside_and_from_outside() {
    let world = alone();
    world.with_ctx(|ctx| {
        let listener = ctx.socket(1 | NONBLOCK).unwrap();
        ctx.poke(ADDRESS, SockaddrIn { address: [0; 4], ..address(PORT) });
        ctx.call(BIND, &[listener, ADDRESS, 16]).unwrap();
        ctx.call(LISTEN, &[listener, 100]).unwrap();
        assert_eq!(ctx.revents(listener), 0);
        let (inside, result) = ctx.connected(PORT, 0);
        assert_eq!(result, Ok(0));
        assert_eq!(ctx.revents(listener), 1);
        let first = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(ctx.call(WRITE, &[inside, DATA, 5]), Ok(5));
        assert_eq!(ctx.call(READ, &[first, DATA, 9]), Ok(5));
        assert_eq!(ctx.revents(listener), 0);
        let outside = client(&world.platform);
        assert_eq!(ctx.revents(listener), 1);
        let second = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        world.platform.host_send(outside, b"out", 0).unwrap();
        assert_eq!(ctx.call(READ, &[second, DATA, 9]), Ok(3));
        assert_eq!(ctx.call(ACCEPT, &[listener, 0, 0]), Err(Errno::EAGAIN));
        // Those inside do not keep those outside waiting for ever.
        let outside = client(&world.platform);
        world.platform.host_send(outside, b"!", 0).unwrap();
        let is_served = (0..20).any(|_| {
            ctx.connected(PORT, 0).1.unwrap();
            let fd = ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
            ctx.call(RECVFROM, &[fd, DATA, 9, DONTWAIT, 0, 0]) == Ok(1)
        });
        assert!(is_served);
    });
}

#[test]
fn where_nobody_inside_listens_the_configuration_decides() {
    for (shared, expected) in [(Ports::default(), Err(Errno::ECONNREFUSED)), (Ports::all(), Ok(0))] {
        let platform = FakePlatform::new();
        let outside = platform.host_socket(family::INET, kind::STREAM, 0).unwrap();
        platform.host_bind(outside, &HostAddress::new(address(PORT).as_bytes()).unwrap()).unwrap();
        platform.host_listen(outside, 8).unwrap();
        let network = Network { publish: Ports::default(), host_loopback: shared };
        World::with_network(platform, network).with_ctx(|ctx| {
            assert_eq!(ctx.connected(PORT, 0).1, expected);
            // Who listens inside is nearer, and the host's port is another.
            ctx.listener(0);
            assert_eq!(ctx.connected(PORT, 0).1, Ok(0));
        });
    }
}

#[test]
fn who_connects_while_too_many_wait_waits_too() {
    let world = alone();
    world.with_ctx(|ctx| {
        let listener = ctx.socket(1 | NONBLOCK).unwrap();
        ctx.poke(ADDRESS, address(PORT));
        ctx.call(BIND, &[listener, ADDRESS, 16]).unwrap();
        ctx.call(LISTEN, &[listener, 1]).unwrap();
        let clients: Vec<u64> = (0..4)
            .map(|_| {
                let (fd, result) = ctx.connected(PORT, NONBLOCK);
                assert_eq!(result, Err(Errno::EINPROGRESS));
                fd
            })
            .collect();
        let connected = || clients.iter().filter(|&&fd| ctx.revents(fd) == 4).count();
        assert_eq!(connected(), 2);
        ctx.poke(ADDRESS, address(PORT));
        assert_eq!(ctx.call(CONNECT, &[clients[3], ADDRESS, 16]), Err(Errno::EALREADY));
        ctx.call(ACCEPT, &[listener, 0, 0]).unwrap();
        assert_eq!(connected(), 3);
        // The listener goes: who was not accepted is reset, who waited is refused.
        ctx.call(CLOSE, &[listener]).unwrap();
        assert_eq!(ctx.call(READ, &[clients[1], DATA, 1]), Err(Errno::ECONNRESET));
        assert_eq!(ctx.call(READ, &[clients[3], DATA, 1]), Err(Errno::ECONNREFUSED));
    });
}

#[test]
fn what_was_set_before_the_host_had_a_socket_is_set_there_too() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let fd = ctx.socket(1).unwrap();
        ctx.poke(DATA, 1u32);
        let (level, option) = (u64::from(SOL_SOCKET), u64::from(socket::KEEPALIVE));
        ctx.call(SETSOCKOPT, &[fd, level, option, DATA, 4]).unwrap();
        assert_eq!(world.platform.open_sockets(), 0);
        ctx.poke(ADDRESS, address(PORT));
        ctx.call(BIND, &[fd, ADDRESS, 16]).unwrap();
        let host = world.platform.last_socket();
        let mut value = [0; 4];
        world.platform.host_get_option(host, SOL_SOCKET, socket::KEEPALIVE, &mut value).unwrap();
        assert_eq!(value, [1, 0, 0, 0]);
    });
}
