//! Files that are sent.

use super::*;
use fs_host::{HostFs, Options};
use platform::Platform;
use std::sync::Arc;
use vfs::MountOptions;

const OPEN: u64 = 2;
const LSEEK: u64 = 8;
const SENDFILE: u64 = 40;
const PATH: u64 = SCRATCH + 0x200;
const OFFSET: u64 = SCRATCH + 0x300;
const LEN: usize = 700_000;

fn content() -> Vec<u8> {
    (0..LEN).map(|index| (index / 3) as u8).collect()
}

/// A world that shows a folder of the host with a file in it.
fn world() -> World {
    let world = World::new();
    world.platform.add_host_file("/share/page", &content());
    let platform: Arc<dyn Platform> = world.platform.clone();
    let fs = HostFs::open(&platform, b"/share", Options::default(), 9).unwrap();
    world.kernel.mounts.namespace().mount(b"/host", fs, MountOptions::default()).unwrap();
    world
}

impl Ctx<'_> {
    /// A connection to outside and its end there, and the file.
    fn sender(&self, platform: &FakePlatform, flags: u64) -> (u64, HostFd, u64) {
        let listener = self.listener(0);
        let outside = client(platform);
        let fd = self.call(288, &[listener, 0, 0, flags]).unwrap();
        self.poke_bytes(PATH, b"/host/page\0");
        (fd, outside, self.call(OPEN, &[PATH, 0, 0]).unwrap())
    }
}

/// What comes at a socket outside, up to so many bytes.
fn receive(platform: &FakePlatform, outside: HostFd, len: usize) -> Vec<u8> {
    let mut received = vec![0; len];
    let mut at = 0;
    while at < len {
        match platform.host_receive(outside, 0, &mut received[at..]) {
            Ok(0) => break,
            Ok(len) => at += len,
            Err(error) => {
                assert_eq!(error.0, Errno::EAGAIN);
                std::thread::yield_now();
            }
        }
    }
    received.truncate(at);
    received
}

#[test]
fn a_file_of_the_host_goes_to_a_socket_of_the_host_without_the_enclave() {
    let world = world();
    world.with_ctx(|ctx| {
        let (socket, outside, file) = ctx.sender(&world.platform, NONBLOCK);
        // What it has room for; from the position, which moves.
        let sent = ctx.call(SENDFILE, &[socket, file, 0, LEN as u64]).unwrap();
        assert!(sent > 0 && sent < LEN as u64, "{sent}");
        assert_eq!(ctx.call(LSEEK, &[file, 0, 1]), Ok(sent));
        let len = usize::try_from(sent).unwrap();
        assert!(receive(&world.platform, outside, len) == content()[..len]);
        // From an offset, which moves instead.
        ctx.poke(OFFSET, LEN as u64 - 1000);
        assert_eq!(ctx.call(SENDFILE, &[socket, file, OFFSET, LEN as u64]), Ok(1000));
        assert_eq!(ctx.peek::<u64>(OFFSET), LEN as u64);
        assert_eq!(ctx.call(SENDFILE, &[socket, file, OFFSET, LEN as u64]), Ok(0));
        assert_eq!(ctx.call(LSEEK, &[file, 0, 1]), Ok(sent));
        assert!(receive(&world.platform, outside, 1000) == content()[LEN - 1000..]);
        assert_eq!(world.platform.files_sent(), 5);
        world.platform.host_close_socket(outside);
        assert_eq!(ctx.call(SENDFILE, &[socket, file, 0, 1000]), Err(Errno::EPIPE));
        assert_eq!(ctx.call(SENDFILE, &[socket, socket, 0, 1]), Err(Errno::EINVAL));
    });
}

#[test]
fn who_sends_a_long_file_waits_for_room() {
    let world = world();
    world.with_ctx(|ctx| {
        let (socket, outside, file) = ctx.sender(&world.platform, 0);
        let platform = world.platform.clone();
        std::thread::scope(|scope| {
            let received = scope.spawn(move || {
                FakePlatform::become_thread(7);
                receive(&platform, outside, LEN)
            });
            assert_eq!(ctx.call(SENDFILE, &[socket, file, 0, 1 << 40]), Ok(LEN as u64));
            assert!(received.join().unwrap() == content());
        });
    });
}

#[test]
fn what_the_host_cannot_send_and_what_it_has_not_is_carried() {
    let world = world();
    world.install("inside", b"from memory");
    world.platform.refuse_to_send_files();
    world.with_ctx(|ctx| {
        let (socket, outside, file) = ctx.sender(&world.platform, NONBLOCK);
        assert_eq!(ctx.call(SENDFILE, &[socket, file, 0, 1000]), Ok(1000));
        assert!(receive(&world.platform, outside, 1000) == content()[..1000]);
        assert_eq!(ctx.call(LSEEK, &[file, 0, 1]), Ok(1000));
        ctx.poke_bytes(PATH, b"/inside\0");
        let file = ctx.call(OPEN, &[PATH, 0, 0]).unwrap();
        assert_eq!(ctx.call(SENDFILE, &[socket, file, 0, 1000]), Ok(11));
        assert_eq!(receive(&world.platform, outside, 11), b"from memory");
        assert_eq!(world.platform.files_sent(), 0);
    });
}
