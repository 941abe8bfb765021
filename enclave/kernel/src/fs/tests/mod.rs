//! System calls on files, made by number as a program makes them.

mod names;
mod pipes;
mod proc;
mod streams;
mod terminals;

use super::{FileTable, FsContext};
use crate::ctx::{After, Ctx};
use crate::kernel::BootExtra;
use crate::process::{NewProcess, Origin, Program};
use crate::thread::NewThread;
use crate::vm::AddressSpace;
use crate::{Kernel, Process};
use alloc::sync::Arc;
use boot_config::{BootConfig, Mount, MountSource};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use fake_platform::FakePlatform;
use kbase::{Errno, UserAddr, UserPtr};
use linux_abi::signal::{SigAction, SigInfo, Signal};
use platform::{HostFd, UserRegisters};

/// Where the memory of a test program is.
const MEMORY: u64 = 0x10_0000;
/// How much of it there is.
const MEMORY_LEN: u64 = 0x10_0000;
/// Where paths are put, one after the other, by [`Program::path`].
const PATHS: u64 = MEMORY + 0xf_0000;

/// AT_FDCWD as a register.
const AT_FDCWD: u64 = -100i64 as u64;

/// A process that makes system calls when a test says so.
struct World {
    platform: Arc<FakePlatform>,
    kernel: Arc<Kernel>,
    process: Arc<Process>,
    next_path: AtomicU64,
}

impl World {
    /// A process in a kernel with a tmpfs root, `/dev` and `/proc`.
    fn new() -> Self {
        let mount = |target: &str, source, read_only| Mount { target: target.into(), source, read_only };
        Self::with_mounts(vec![
            mount("/", MountSource::Tmpfs { max_size: None, mode: 0o755 }, false),
            mount("/dev", MountSource::Dev, false),
            mount("/proc", MountSource::Proc, false),
            mount("/ro", MountSource::Tmpfs { max_size: None, mode: 0o755 }, true),
        ])
    }

    fn with_mounts(mounts: Vec<Mount>) -> Self {
        let platform = FakePlatform::new();
        let config = BootConfig { mounts, hostname: "tester".into(), ..BootConfig::default() };
        let kernel = Kernel::boot(platform.clone(), config, BootExtra::default()).unwrap();
        let space = kernel.memory.new_space();
        Self::in_space(&platform, &kernel, space)
    }

    /// Another process in the same kernel, which shares the memory.
    fn beside(&self) -> Self {
        Self::in_space(&self.platform, &self.kernel, self.process.world().0)
    }

    fn in_space(platform: &Arc<FakePlatform>, kernel: &Arc<Kernel>, space: Arc<AddressSpace>) -> Self {
        let files = FileTable::with_stdio(kernel, [0, 1, 2].map(|fd| Some(HostFd(fd)))).unwrap();
        let context = FsContext::at(kernel, b"/").unwrap();
        let program = Program {
            path: b"/bin/tester".to_vec(),
            arguments: b"tester\0-x\0".to_vec(),
            environment: b"HOME=/\0".to_vec(),
            auxv: [6u64, 4096, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect(),
        };
        let new = NewProcess {
            world: (space, Arc::new(files), Arc::new(context)),
            thread: NewThread::of_program(
                UserRegisters::default(),
                crate::process::short_name(b"/bin/tester"),
            ),
            program,
            origin: Origin::Outside(kernel.config().limits),
        };
        let process =
            kernel.processes.add(kernel.platform(), kernel.config().limits.max_threads, new).unwrap();
        let world = Self {
            platform: platform.clone(),
            kernel: kernel.clone(),
            process,
            next_path: AtomicU64::new(PATHS),
        };
        // mmap(MEMORY, MEMORY_LEN, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS)
        assert_eq!(world.call(9, [MEMORY, MEMORY_LEN, 3, 0x32, u64::MAX, 0]), Ok(MEMORY));
        world
    }

    fn with_ctx<T>(&self, then: impl FnOnce(&Ctx<'_>) -> T) -> T {
        let (space, files, fs) = self.process.world();
        let thread = self.process.threads().remove(0);
        let registers = RefCell::new(UserRegisters::default());
        then(&Ctx {
            kernel: &self.kernel,
            process: &self.process,
            thread: &thread,
            space: &space,
            files: &files,
            fs: &fs,
            registers: &registers,
            after: Cell::new(After::Return),
            interrupted: Cell::new(None),
        })
    }

    /// Sets a handler for SIGUSR1.
    fn handle_signals(&self) {
        let action: Vec<u8> =
            [0x1234u64, 0x0400_0000, 0x5678, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(MEMORY, &action);
        self.with_ctx(|ctx| {
            let action = UserPtr::<SigAction>::new(UserAddr(MEMORY)).read(ctx.user()).unwrap();
            crate::signal::set_action(ctx, Signal::SIGUSR1, &action).unwrap();
        });
    }

    /// Sends SIGUSR1.
    fn send_signal(&self) {
        let info = SigInfo::sent(Signal::SIGUSR1, 0, 1, 0);
        crate::signal::send_to_process(&self.process, Signal::SIGUSR1, info).unwrap();
    }

    /// Makes a system call.
    fn call<const N: usize>(&self, number: u64, arguments: [u64; N]) -> Result<u64, Errno> {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&arguments);
        self.with_ctx(|ctx| crate::syscall::dispatch(ctx, number, all).map_err(|error| error.errno()))
    }

    /// Puts a string into memory.
    fn path(&self, path: &str) -> u64 {
        let at = self.next_path.load(Ordering::Relaxed);
        let end = at + path.len() as u64 + 1;
        let (at, end) =
            if end > MEMORY + MEMORY_LEN { (PATHS, PATHS + path.len() as u64 + 1) } else { (at, end) };
        self.next_path.store(end, Ordering::Relaxed);
        let mut bytes = path.as_bytes().to_vec();
        bytes.push(0);
        self.poke(at, &bytes);
        at
    }

    fn poke(&self, at: u64, bytes: &[u8]) {
        self.with_ctx(|ctx| ctx.user().store(UserAddr(at), bytes).unwrap());
    }

    fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.with_ctx(|ctx| ctx.user().load(UserAddr(at), &mut bytes).unwrap());
        bytes
    }

    fn peek_u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.peek(at, 8).try_into().unwrap())
    }

    fn open(&self, path: &str, flags: u64) -> Result<u64, Errno> {
        self.call(2, [self.path(path), flags, 0o644])
    }

    /// Writes a new file.
    fn make(&self, path: &str, content: &[u8]) {
        let fd = self.open(path, O_CREAT | O_RDWR | O_TRUNC).unwrap();
        assert_eq!(self.write(fd, content), Ok(content.len() as u64));
        self.call(3, [fd]).unwrap();
    }

    fn write(&self, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
        self.poke(MEMORY, bytes);
        self.call(1, [fd, MEMORY, bytes.len() as u64])
    }

    fn read(&self, fd: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let read = self.call(0, [fd, MEMORY, len])?;
        Ok(self.peek(MEMORY, read as usize))
    }

    /// All of a file.
    fn cat(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let fd = self.open(path, 0)?;
        let mut all = Vec::new();
        loop {
            let part = self.read(fd, 1000)?;
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        self.call(3, [fd])?;
        Ok(all)
    }

    fn readlink(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let len = self.call(89, [self.path(path), MEMORY, 4096])?;
        Ok(self.peek(MEMORY, len as usize))
    }

    /// Mode, size and inode number by `stat(2)`.
    fn stat(&self, path: &str) -> Result<(u32, u64, u64), Errno> {
        self.call(4, [self.path(path), MEMORY])?;
        let mode = u32::from_le_bytes(self.peek(MEMORY + 24, 4).try_into().unwrap());
        Ok((mode, self.peek_u64(MEMORY + 48), self.peek_u64(MEMORY + 8)))
    }

    /// The names in a directory.
    fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let fd = self.open(path, O_DIRECTORY)?;
        let mut names = Vec::new();
        loop {
            let len = self.call(217, [fd, MEMORY, 200])? as usize;
            if len == 0 {
                break;
            }
            let records = self.peek(MEMORY, len);
            let mut at = 0;
            while at < len {
                let record = usize::from(u16::from_le_bytes([records[at + 16], records[at + 17]]));
                let name = records[at + 19..at + record].split(|&b| b == 0).next().unwrap();
                names.push(String::from_utf8(name.to_vec()).unwrap());
                at += record;
            }
        }
        self.call(3, [fd])?;
        names.sort();
        Ok(names)
    }
}

const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_TRUNC: u64 = 0o1000;
const O_APPEND: u64 = 0o2000;
const O_NONBLOCK: u64 = 0o4000;
const O_DIRECTORY: u64 = 0o200_000;
const O_NOFOLLOW: u64 = 0o400_000;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_PATH: u64 = 0o10_000_000;
const O_TMPFILE: u64 = 0o20_200_000;
