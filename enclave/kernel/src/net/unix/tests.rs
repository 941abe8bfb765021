//! Programs with sockets of the Unix domain.

mod corners;

use crate::kernel::BootExtra;
use crate::testing::{SCRATCH, World};
use crate::{Ctx, Kernel};
use boot_config::{BootConfig, Mount, MountSource};
use fake_platform::FakePlatform;
use kbase::Errno;
use linux_abi::net::control::{self, SCM_RIGHTS};
use linux_abi::net::option::SOL_SOCKET;
use linux_abi::net::{MessageFlags, Msghdr, family, kind};
use platform::HostNet;
use zerocopy::IntoBytes;

const WRITE: u64 = 1;
const CLOSE: u64 = 3;
const POLL: u64 = 7;
const PIPE: u64 = 22;
const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const ACCEPT: u64 = 43;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const SOCKETPAIR: u64 = 53;

const ADDRESS: u64 = SCRATCH;
const MESSAGE: u64 = SCRATCH + 0x200;
const IOVEC: u64 = SCRATCH + 0x300;
const CONTROL: u64 = SCRATCH + 0x400;
const FDS: u64 = SCRATCH + 0x600;
const DATA: u64 = SCRATCH + 0x1000;
const UNIX: u64 = family::UNIX as u64;
const NONBLOCK: u64 = kind::NONBLOCK as u64;
const DONTWAIT: u64 = MessageFlags::DONTWAIT.bits() as u64;
const QUIET: u64 = MessageFlags::NOSIGNAL.bits() as u64;

impl Ctx<'_> {
    fn pair(&self, of_kind: u32) -> (u64, u64) {
        self.call(SOCKETPAIR, &[UNIX, u64::from(of_kind) | NONBLOCK, 0, FDS]).unwrap();
        let [a, b]: [u32; 2] = self.peek(FDS);
        (a.into(), b.into())
    }

    /// An address in user memory: its length.
    fn named(&self, name: &[u8]) -> u64 {
        let mut address = family::UNIX.to_le_bytes().to_vec();
        address.extend_from_slice(name);
        self.poke_bytes(ADDRESS, &address);
        address.len() as u64
    }

    fn send(&self, fd: u64, text: &[u8]) -> Result<u64, Errno> {
        self.poke_bytes(DATA, text);
        self.call(SENDTO, &[fd, DATA, text.len() as u64, QUIET, 0, 0])
    }

    fn receive(&self, fd: u64) -> Result<Vec<u8>, Errno> {
        let len = self.call(RECVFROM, &[fd, DATA, 0x1000, 0, 0, 0])?;
        Ok((0..len).map(|index| self.peek::<u8>(DATA + index)).collect())
    }

    fn message(&self, control_len: u64) {
        self.poke(IOVEC, [DATA, 1]);
        self.poke(
            MESSAGE,
            Msghdr { iov: IOVEC, iov_len: 1, control: CONTROL, control_len, ..Msghdr::default() },
        );
    }

    fn send_file(&self, over: u64, file: u64) -> Result<u64, Errno> {
        let mut chain = control::header(SOL_SOCKET, SCM_RIGHTS, 4).as_bytes().to_vec();
        chain.extend_from_slice(&u32::try_from(file).unwrap().to_le_bytes());
        self.poke_bytes(CONTROL, &chain);
        self.message(chain.len() as u64);
        self.call(SENDMSG, &[over, MESSAGE, QUIET])
    }

    fn files_in_flight(&self) -> usize {
        self.kernel.unix.in_flight.count()
    }
}

#[test]
fn a_server_on_an_abstract_name_accepts_who_connects() {
    World::new().with_ctx(|ctx| {
        let server = ctx.call(SOCKET, &[UNIX, 1 | NONBLOCK, 0]).unwrap();
        let client = ctx.call(SOCKET, &[UNIX, 1, 0]).unwrap();
        let len = ctx.named(b"\0name");
        assert_eq!(ctx.call(CONNECT, &[client, ADDRESS, len]), Err(Errno::ECONNREFUSED));
        ctx.call(BIND, &[server, ADDRESS, len]).unwrap();
        ctx.call(LISTEN, &[server, 0]).unwrap();
        assert_eq!(ctx.call(ACCEPT, &[server, 0, 0]), Err(Errno::EAGAIN));
        ctx.call(CONNECT, &[client, ADDRESS, len]).unwrap();
        let late = ctx.call(SOCKET, &[UNIX, 1 | NONBLOCK, 0]).unwrap();
        assert_eq!(ctx.call(CONNECT, &[late, ADDRESS, len]), Err(Errno::EAGAIN));
        let accepted = ctx.call(ACCEPT, &[server, 0, 0]).unwrap();
        ctx.send(client, b"hello").unwrap();
        assert_eq!(ctx.receive(accepted), Ok(b"hello".to_vec()));
        ctx.call(CLOSE, &[client]).unwrap();
        assert_eq!(ctx.receive(accepted), Ok(Vec::new()));
        assert_eq!(ctx.send(accepted, b"x"), Err(Errno::EPIPE));
        ctx.call(CLOSE, &[server]).unwrap();
        assert_eq!(ctx.call(CONNECT, &[late, ADDRESS, len]), Err(Errno::ECONNREFUSED));
    });
}

#[test]
fn messages_keep_their_borders_and_a_full_queue_says_so() {
    World::new().with_ctx(|ctx| {
        for of_kind in [kind::DGRAM, kind::SEQPACKET] {
            let (a, b) = ctx.pair(of_kind);
            ctx.send(a, b"one").unwrap();
            ctx.send(a, b"").unwrap();
            assert_eq!(ctx.receive(b), Ok(b"one".to_vec()));
            assert_eq!(ctx.receive(b), Ok(Vec::new()));
            let count = (0..10_000).take_while(|_| ctx.send(a, b"x").is_ok()).count();
            assert!((100..5_000).contains(&count), "{count}");
            assert_eq!(ctx.send(a, b"x"), Err(Errno::EAGAIN));
            ctx.receive(b).unwrap();
            ctx.send(a, b"x").unwrap();
            assert_eq!(ctx.send(a, &[0; 0x8_0000]), Err(Errno::EMSGSIZE));
        }
    });
}

#[test]
fn files_in_flight_are_closed_with_what_carries_them() {
    World::new().with_ctx(|ctx| {
        ctx.call(PIPE, &[FDS]).unwrap();
        let [reader, writer]: [u32; 2] = ctx.peek(FDS);
        let (a, b) = ctx.pair(kind::STREAM);
        ctx.send_file(a, writer.into()).unwrap();
        ctx.call(CLOSE, &[writer.into()]).unwrap();
        assert_eq!(ctx.files_in_flight(), 1);
        let mut fd = a;
        for _ in 0..3_000 {
            let (near, far) = ctx.pair(kind::STREAM);
            ctx.send_file(near, if fd == a { b } else { fd }).unwrap();
            ctx.call(CLOSE, &[if fd == a { b } else { fd }]).unwrap();
            ctx.call(CLOSE, &[near]).unwrap();
            fd = far;
        }
        assert_eq!(ctx.files_in_flight(), 3_001);
        ctx.call(CLOSE, &[fd]).unwrap();
        assert_eq!(ctx.files_in_flight(), 0, "the whole chain is closed");
        assert_eq!(ctx.call(0, &[reader.into(), DATA, 1]), Ok(0), "nobody has the writer");
    });
}

#[test]
fn sockets_in_a_circle_are_lost_up_to_a_limit() {
    World::new().with_ctx(|ctx| {
        let lost = (0..100_000).take_while(|_| {
            let (a, b) = ctx.pair(kind::STREAM);
            let sent = ctx.send_file(a, b);
            ctx.call(CLOSE, &[a]).unwrap();
            ctx.call(CLOSE, &[b]).unwrap();
            sent.is_ok()
        });
        assert!(lost.count() <= 16 * 1024);
        let (a, b) = ctx.pair(kind::STREAM);
        assert_eq!(ctx.send_file(a, b), Err(Errno::ETOOMANYREFS));
        assert_eq!(ctx.send(a, b"data goes on"), Ok(12));
    });
}

#[test]
fn control_messages_that_do_not_fit_are_cut_and_their_files_closed() {
    World::new().with_ctx(|ctx| {
        let (a, b) = ctx.pair(kind::STREAM);
        ctx.send_file(a, a).unwrap();
        ctx.message(16);
        ctx.call(RECVMSG, &[b, MESSAGE, 0]).unwrap();
        let message: Msghdr = ctx.peek(MESSAGE);
        assert_eq!((message.control_len, message.flags), (0, MessageFlags::CTRUNC.bits()));
        assert_eq!(ctx.files_in_flight(), 0);
        let mut chain = control::header(SOL_SOCKET, SCM_RIGHTS, 4).as_bytes().to_vec();
        chain.extend_from_slice(&[0xff; 4]);
        ctx.poke_bytes(CONTROL, &chain);
        ctx.message(20);
        assert_eq!(ctx.call(SENDMSG, &[a, MESSAGE, 0]), Err(Errno::EBADF));
        chain[0] = 200;
        ctx.poke_bytes(CONTROL, &chain);
        assert_eq!(ctx.call(SENDMSG, &[a, MESSAGE, 0]), Err(Errno::EINVAL));
    });
}

#[test]
fn the_host_has_no_part_in_it() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let (a, b) = ctx.pair(kind::STREAM);
        for _ in 0..100 {
            ctx.poke_bytes(DATA, &[7; 4096]);
            ctx.call(WRITE, &[a, DATA, 4096]).unwrap();
            assert_eq!(ctx.receive(b).unwrap().len(), 4096);
        }
    });
    assert_eq!(world.platform.open_sockets(), 0);
}

/// A kernel with a folder of the host in which somebody listens, and whether programs may connect to that.
fn with_folder(sockets: bool) -> World {
    let platform = FakePlatform::new();
    platform.listen_at("/share/socket");
    let source = MountSource::HostFs { path: "/share".to_owned(), sockets };
    let mount = Mount { target: "/host".to_owned(), source, read_only: true };
    let root = Mount {
        target: "/".to_owned(),
        source: MountSource::Tmpfs { max_size: None, mode: 0o755 },
        read_only: false,
    };
    let config =
        BootConfig { entry_points: vec!["/".to_owned()], mounts: vec![root, mount], ..BootConfig::default() };
    let kernel = Kernel::boot(platform.clone(), config, BootExtra::default()).unwrap();
    World { platform, kernel }
}

#[test]
fn a_socket_file_of_the_host_is_connected_to_where_the_mount_says_so() {
    with_folder(false).with_ctx(|ctx| {
        let fd = ctx.call(SOCKET, &[UNIX, kind::STREAM.into(), 0]).unwrap();
        let len = ctx.named(b"/host/socket");
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, len]), Err(Errno::ECONNREFUSED));
    });
    let world = with_folder(true);
    world.with_ctx(|ctx| {
        let fd = ctx.call(SOCKET, &[UNIX, kind::STREAM.into(), 0]).unwrap();
        let len = ctx.named(b"/host/socket");
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, len]), Ok(0));
        assert_eq!(ctx.call(CONNECT, &[fd, ADDRESS, len]), Err(Errno::EISCONN));
        assert_eq!(ctx.call(LISTEN, &[fd, 1]), Err(Errno::EINVAL));
        let outside = world.platform.accept_at("socket").unwrap();
        assert_eq!(ctx.send(fd, b"question"), Ok(8));
        let mut data = [0; 100];
        assert_eq!(world.platform.host_receive(outside, 0, &mut data), Ok(8));
        assert_eq!(data[..8], *b"question");
        assert_eq!(ctx.call(RECVFROM, &[fd, DATA, 100, DONTWAIT, 0, 0]), Err(Errno::EAGAIN));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                FakePlatform::become_thread(7);
                std::thread::sleep(std::time::Duration::from_millis(20));
                world.platform.host_send(outside, b"answer", 0).unwrap();
            });
            // pollfd: POLLIN
            ctx.poke(SCRATCH, [u32::try_from(fd).unwrap(), 1]);
            assert_eq!(ctx.call(POLL, &[SCRATCH, 1, u64::MAX]), Ok(1));
        });
        assert_eq!(ctx.receive(fd), Ok(b"answer".to_vec()));
        // No file of the enclave goes to the host.
        assert_eq!(ctx.send_file(fd, fd), Err(Errno::EOPNOTSUPP));
        assert_eq!(ctx.files_in_flight(), 0);
        ctx.call(CLOSE, &[fd]).unwrap();
        world.platform.host_close_socket(outside);
    });
    assert_eq!(world.platform.open_sockets(), 0);
}

#[test]
fn who_connects_to_the_host_waits_for_room_or_not() {
    let world = with_folder(true);
    world.with_ctx(|ctx| {
        let connect = |flags: u64| {
            let fd = ctx.call(SOCKET, &[UNIX, u64::from(kind::SEQPACKET) | flags, 0]).unwrap();
            let len = ctx.named(b"/host/socket");
            ctx.call(CONNECT, &[fd, ADDRESS, len])
        };
        while connect(NONBLOCK).is_ok() {}
        assert_eq!(connect(NONBLOCK), Err(Errno::EAGAIN));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                FakePlatform::become_thread(7);
                std::thread::sleep(std::time::Duration::from_millis(20));
                assert!(world.platform.accept_at("socket").is_some());
            });
            assert_eq!(connect(0), Ok(0));
        });
    });
}
