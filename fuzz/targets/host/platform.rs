//! The platform in memory, but with the host on the other side of the runtime's border.

use fake_platform::FakePlatform;
use linux_abi::net::{MessageFlags, SOCKADDR_MAX};
use platform::*;
use rt::Runtime;
use std::cell::RefCell;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread that sleeps is woken after so long, for no reason.
const NAP_NS: u64 = 50_000_000;

/// The platform. Its host is honest at first.
pub struct Border {
    fake: Arc<FakePlatform>,
    lies: AtomicBool,
}

impl Border {
    pub fn new(fake: Arc<FakePlatform>) -> Arc<Self> {
        Arc::new(Self { fake, lies: AtomicBool::new(false) })
    }

    /// From now on the host of [`rt::fuzzing`] answers.
    pub fn lie(&self) {
        self.lies.store(true, Ordering::Relaxed);
    }

    fn files(&self) -> &dyn HostFiles {
        if self.lies.load(Ordering::Relaxed) { &Runtime } else { &*self.fake }
    }
}

/// Methods that are those of another.
macro_rules! same {
    ($of:ident: $(fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)+) => {
        $(fn $name(&self, $($argument: $kind),*) $(-> $result)? { same!(@ $of self).$name($($argument),*) })+
    };
    (@ fake $me:ident) => { $me.fake };
    (@ files $me:ident) => { $me.files() };
    (@ runtime $me:ident) => { Runtime };
}

impl HostFiles for Border {
    same! { files:
        fn host_open_path(path: &[u8], flags: u32, mode: u32) -> HostResult<HostFd>;
        fn host_open_at(dir: HostFd, name: &[u8], flags: u32, mode: u32) -> HostResult<HostFd>;
        fn host_close(fd: HostFd);
        fn host_read(fd: HostFd, into: &mut [u8]) -> HostResult<usize>;
        fn host_write(fd: HostFd, from: &[u8]) -> HostResult<usize>;
        fn host_read_at(fd: HostFd, offset: u64, into: &mut [u8]) -> HostResult<usize>;
        fn host_write_at(fd: HostFd, offset: u64, from: &[u8]) -> HostResult<usize>;
        fn host_seek(fd: HostFd, offset: i64, whence: u32) -> HostResult<u64>;
        fn host_statfs(fd: HostFd) -> HostResult<HostStatFs>;
        fn host_read_directory(fd: HostFd, into: &mut [u8]) -> HostResult<DirectoryRead>;
        fn host_read_link_at(dir: HostFd, name: &[u8], into: &mut [u8]) -> HostResult<usize>;
        fn host_mkdir_at(dir: HostFd, name: &[u8], mode: u32) -> HostResult<()>;
        fn host_unlink_at(dir: HostFd, name: &[u8], flags: u32) -> HostResult<()>;
        fn host_rename_at(from_dir: HostFd, from: &[u8], to_dir: HostFd, to: &[u8], flags: u32) -> HostResult<()>;
        fn host_symlink_at(target: &[u8], dir: HostFd, name: &[u8]) -> HostResult<()>;
        fn host_link_at(from_dir: HostFd, from: &[u8], to_dir: HostFd, to: &[u8]) -> HostResult<()>;
        fn host_truncate(fd: HostFd, size: u64) -> HostResult<()>;
        fn host_allocate(fd: HostFd, mode: u32, offset: u64, len: u64) -> HostResult<()>;
        fn host_chmod(fd: HostFd, mode: u32) -> HostResult<()>;
        fn host_set_times(fd: HostFd, atime: TimeSetting, mtime: TimeSetting) -> HostResult<()>;
        fn host_sync(fd: HostFd, data_only: bool) -> HostResult<()>;
        fn host_status_flags(fd: HostFd, set: Option<u32>) -> HostResult<u32>;
        fn host_ioctl(fd: HostFd, request: u32, argument: &mut [u8]) -> HostResult<u32>;
        fn host_poll(rows: &mut [HostPoll], deadline_ns: Option<u64>) -> HostResult<usize>;
    }

    fn host_stat(&self, fd: HostFd) -> HostResult<HostStat> {
        // The program may be executed.
        self.files().host_stat(fd).map(|stat| HostStat { mode: stat.mode | 0o111, ..stat })
    }

    fn host_look_up(
        &self,
        dir: HostFd,
        path: &[u8],
        flags: Option<u32>,
    ) -> HostResult<(HostStat, Option<HostFd>)> {
        let (stat, fd) = self.files().host_look_up(dir, path, flags)?;
        assert!(flags.is_some() || fd.is_none());
        Ok((HostStat { mode: stat.mode | 0o111, ..stat }, fd))
    }
}

impl HostNet for Border {
    same! { runtime:
        fn host_socket(family: u16, kind: u32, protocol: u32) -> HostResult<HostFd>;
        fn host_bind(fd: HostFd, address: &HostAddress) -> HostResult<()>;
        fn host_listen(fd: HostFd, backlog: u32) -> HostResult<()>;
        fn host_connect(fd: HostFd, address: &HostAddress) -> HostResult<()>;
        fn host_set_option(fd: HostFd, level: u32, option: u32, value: &[u8]) -> HostResult<()>;
        fn host_shutdown(fd: HostFd, how: u32) -> HostResult<()>;
        fn host_close_socket(fd: HostFd);
        fn host_interfaces() -> HostResult<Vec<HostInterface>>;
    }

    // What the runtime promises of its answers is looked at here.

    fn host_accept(&self, fd: HostFd) -> HostResult<(HostFd, HostAddress)> {
        let (new, peer) = Runtime.host_accept(fd)?;
        assert!(new.0 > 2 && new != fd && peer.as_bytes().len() <= SOCKADDR_MAX);
        Ok((new, peer))
    }

    fn host_connect_at(&self, dir: HostFd, name: &[u8], kind: u32) -> HostResult<HostFd> {
        Runtime.host_connect_at(dir, name, kind).inspect(|new| assert!(new.0 > 2))
    }

    fn host_socket_name(&self, fd: HostFd, of_peer: bool) -> HostResult<HostAddress> {
        Runtime.host_socket_name(fd, of_peer).inspect(|name| assert!(name.as_bytes().len() <= SOCKADDR_MAX))
    }

    fn host_send(&self, fd: HostFd, data: &[u8], flags: u32) -> HostResult<usize> {
        Runtime.host_send(fd, data, flags).inspect(|&sent| assert!(sent <= data.len()))
    }

    fn host_send_file(&self, fd: HostFd, file: HostFd, offset: u64, len: usize) -> HostResult<usize> {
        Runtime.host_send_file(fd, file, offset, len).inspect(|&sent| assert!(sent <= len))
    }

    fn host_receive(&self, fd: HostFd, flags: u32, into: &mut [u8]) -> HostResult<usize> {
        let tells_length = flags & MessageFlags::TRUNC.bits() != 0;
        Runtime.host_receive(fd, flags, into).inspect(|&len| assert!(tells_length || len <= into.len()))
    }

    fn host_send_message(&self, fd: HostFd, message: &HostMessage<'_>) -> HostResult<usize> {
        Runtime.host_send_message(fd, message).inspect(|&sent| assert!(sent <= message.data.len()))
    }

    fn host_receive_message(
        &self,
        fd: HostFd,
        wanted: usize,
        control: usize,
        flags: u32,
    ) -> HostResult<HostReceived> {
        let received = Runtime.host_receive_message(fd, wanted, control, flags)?;
        assert!(received.data.len() <= wanted && received.control.len() <= control);
        Ok(received)
    }

    fn host_send_messages(&self, fd: HostFd, messages: &[HostMessage<'_>]) -> HostResult<HostSent> {
        let sent = Runtime.host_send_messages(fd, messages)?;
        assert!((1..=messages.len()).contains(&sent.count));
        Ok(sent)
    }

    fn host_receive_messages(&self, fd: HostFd, wanted: &[HostWanted], flags: u32) -> HostResult<HostBatch> {
        let batch = Runtime.host_receive_messages(fd, wanted, flags)?;
        assert!(batch.asked <= wanted.len() && (1..=batch.asked).contains(&batch.messages.len()));
        for (message, wanted) in batch.messages.iter().zip(wanted) {
            assert!(message.data.len() <= wanted.data && message.control.len() <= wanted.control);
        }
        Ok(batch)
    }

    fn host_get_option(&self, fd: HostFd, level: u32, option: u32, value: &mut [u8]) -> HostResult<usize> {
        let room = value.len();
        Runtime.host_get_option(fd, level, option, value).inspect(|&len| assert!(len <= room))
    }
}

impl HostReadiness for Border {
    same! { runtime:
        fn watch(fd: HostFd, token: u64, waiter: Option<ThreadHandle>) -> HostResult<PollEvents>;
        fn watch_at_once(fd: HostFd, token: u64) -> HostResult<PollEvents>;
        fn unwatch(fd: HostFd);
        fn take_readiness(each: &mut dyn FnMut(u64, PollEvents)) -> usize;
        fn park_ready(deadline_ns: Option<u64>) -> Park;
    }
}

impl HostRing for Border {
    same! { runtime:
        fn ring_open() -> HostResult<()>;
        fn ring_receive(fd: HostFd, token: u64) -> HostResult<()>;
        fn ring_send(fd: HostFd, token: u64, data: &[u8], more: bool) -> HostResult<()>;
        fn ring_await_room(fd: HostFd, token: u64) -> HostResult<()>;
        fn ring_cancel(fd: HostFd) -> HostResult<()>;
        fn ring_close(fd: HostFd);
        fn ring_kick();
    }

    fn ring_take(&self, each: &mut dyn FnMut(u64, RingEvent)) -> usize {
        Runtime.ring_take(&mut |token, event| {
            if let RingEvent::Received(Ok(data)) = &event {
                assert!(data.len() <= 65_536);
            }
            each(token, event);
        })
    }
}

impl Threads for Border {
    same! { fake:
        fn current() -> ThreadHandle;
        fn unpark(thread: ThreadHandle);
        fn interrupt(thread: ThreadHandle);
        fn interrupt_at(thread: ThreadHandle, deadline_ns: Option<u64>);
        fn start_thread(tid: u32) -> HostResult<()>;
        fn yield_now();
        fn schedule(thread: ThreadHandle, request: &Scheduling<'_>) -> HostResult<()>;
        fn current_cpu() -> u32;
    }

    fn park(&self, deadline_ns: Option<u64>) -> Park {
        let nap = self.fake.monotonic_ns() + NAP_NS;
        match deadline_ns {
            Some(deadline) if deadline <= nap => self.fake.park(deadline_ns),
            _ => {
                self.fake.park(Some(nap));
                Park::Woken
            }
        }
    }
}

impl UserCpu for Border {
    same! { fake:
        fn run_user(registers: &RefCell<UserRegisters>, kernel: &mut dyn FnMut(Trap) -> ControlFlow<()>);
        fn xstate_reset();
        fn xstate_len() -> usize;
        fn xstate_features() -> u64;
        fn xstate_save(into: &mut [u8]);
        fn xstate_restore(from: &[u8]);
        fn syscall_entry() -> u64;
        fn cpuid_entry() -> u64;
        fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult;
        fn has_rdtsc() -> bool;
        fn tsc() -> u64;
    }
}

impl UserMemory for Border {
    same! { fake:
        fn user_load(from: u64, into: &mut [u8]) -> Result<(), UserFault>;
        fn user_store(into: u64, from: &[u8]) -> Result<(), UserFault>;
        fn user_fill(into: u64, len: usize, byte: u8) -> Result<(), UserFault>;
        fn user_load_u32(from: u64) -> Result<u32, UserFault>;
        fn user_compare_exchange_u32(at: u64, current: u32, new: u32) -> Result<u32, UserFault>;
    }
}

impl UserPages for Border {
    same! { fake:
        fn user_range() -> Range<u64>;
        fn user_limit() -> u64;
        fn commit(range: PageRange, protection: Protection) -> Result<(), OutOfMemory>;
        fn protect(range: PageRange, from: Protection, to: Protection);
        fn decommit(range: PageRange);
        fn conceal(range: PageRange);
        fn reveal(range: PageRange);
    }
}

impl Clocks for Border {
    same! { fake:
        fn monotonic_ns() -> u64;
        fn realtime_ns() -> u64;
        fn thread_cpu_ns() -> u64;
    }
}

impl Entropy for Border {
    same! { fake: fn fill_random(into: &mut [u8]); }
}

impl ImageFile for Border {
    same! { fake:
        fn image_len() -> u64;
        fn image_read(offset: u64, into: &mut [u8]) -> HostResult<()>;
    }
}

impl Log for Border {
    fn level(&self) -> Option<Level> {
        // Lines are made, so that making them is fuzzed too, and dropped.
        Some(Level::Debug)
    }

    fn log(&self, _level: Level, line: fmt::Arguments<'_>) {
        drop(line.to_string());
    }
}

impl Platform for Border {
    fn host_facts(&self) -> HostFacts {
        self.fake.host_facts()
    }
}
