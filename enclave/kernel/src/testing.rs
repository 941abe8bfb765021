//! A world for tests: a kernel on a fake platform, programs in it, system calls by number.

use crate::ctx::{After, Ctx};
use crate::fs::{FileTable, FsContext};
use crate::kernel::{BootExtra, Kernel};
use crate::process::{NewProcess, Origin, Program as ProgramInfo};
use crate::syscall;
use crate::thread::NewThread;
use crate::vm::{MapRequest, Place};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boot_config::BootConfig;
use boot_config::network::{Network, Ports};
use core::cell::{Cell, RefCell};
use fake_platform::FakePlatform;
use kbase::{Errno, SliceSource, UserAddr, UserPtr};
use platform::{HostFd, Platform, Protection, Trap, UserRegisters};
use vfs::{Create, Name, Node};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A kernel and what is below it.
pub(crate) struct World {
    pub(crate) platform: Arc<FakePlatform>,
    pub(crate) kernel: Arc<Kernel>,
}

/// Where [`World::program`] has its scratch memory.
pub(crate) const SCRATCH: u64 = 0x20_0000;
const SCRATCH_LEN: u64 = 0x10_0000;

impl World {
    /// A kernel with a tmpfs as root; everything may be started from outside.
    pub(crate) fn new() -> Self {
        Self::on(FakePlatform::new())
    }

    pub(crate) fn on(platform: Arc<FakePlatform>) -> Self {
        let shared = Network { publish: Ports::all(), host_loopback: Ports::all() };
        Self::with_network(platform, shared)
    }

    /// A kernel that shares these loopback ports with its host.
    pub(crate) fn with_network(platform: Arc<FakePlatform>, network: Network) -> Self {
        Self::boot(platform, BootConfig { network, ..BootConfig::default() })
    }

    /// A kernel that shares a ring with its host, if that has one.
    pub(crate) fn with_ring(platform: Arc<FakePlatform>) -> Self {
        let network = Network { publish: Ports::all(), host_loopback: Ports::all() };
        Self::boot(platform, BootConfig { network, io_uring: true, ..BootConfig::default() })
    }

    fn boot(platform: Arc<FakePlatform>, config: BootConfig) -> Self {
        let config = BootConfig { entry_points: vec!["/".to_string()], ..config };
        let kernel = Kernel::boot(platform.clone(), config, BootExtra::default()).unwrap();
        Self { platform, kernel }
    }

    /// Committed pages but those that ended programs left behind.
    pub(crate) fn pages_in_use(&self) -> usize {
        self.kernel.memory.drop_leftovers();
        self.platform.committed_pages()
    }

    /// Puts a file into the root.
    pub(crate) fn install(&self, name: &str, content: &[u8]) {
        let namespace = self.kernel.mounts.namespace();
        let name = Name::new(name.as_bytes()).unwrap();
        let entry = namespace.create(namespace.root(), name, Create::Regular, 0o755, 0).unwrap();
        let Node::Regular(file) = entry.node() else { panic!("a regular file") };
        file.write_at(0, &mut SliceSource::new(content)).unwrap();
    }

    /// Starts a program by path.
    pub(crate) fn start(&self, path: &str, arguments: &[&str]) -> Result<u32, Errno> {
        let argv = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let stdio = [Some(HostFd(0)), Some(HostFd(1)), Some(HostFd(2))];
        self.kernel
            .create_process(path.as_bytes(), argv, Vec::new(), stdio, b"/")
            .map_err(|error| error.errno())
    }

    /// Calls `body` in the context of the first thread of a process, which has scratch memory at [`SCRATCH`].
    pub(crate) fn with_ctx<T>(&self, body: impl FnOnce(&Ctx<'_>) -> T) -> T {
        let space = self.kernel.memory.new_space();
        space
            .map(MapRequest {
                protection: Protection::READ | Protection::WRITE,
                ..MapRequest::reservation(Place::Fixed(SCRATCH), SCRATCH_LEN)
            })
            .unwrap();
        let stdio = [Some(HostFd(0)), Some(HostFd(1)), Some(HostFd(2))];
        let files = FileTable::with_stdio(&self.kernel, stdio).unwrap();
        let context = FsContext::at(&self.kernel, b"/").unwrap();
        let platform: Arc<dyn Platform> = self.platform.clone();
        let process = self
            .kernel
            .processes
            .add(
                &platform,
                self.kernel.config().limits.max_threads,
                NewProcess {
                    world: (space, Arc::new(files), Arc::new(context)),
                    thread: NewThread::of_program(UserRegisters::default(), [0; 16]),
                    program: ProgramInfo::default(),
                    origin: Origin::Outside(self.kernel.config().limits),
                },
            )
            .unwrap();
        let thread = self.kernel.processes.thread(process.pid).unwrap();
        thread.attach();
        process.world().0.count_in();
        let registers = RefCell::new(UserRegisters::default());
        let (space, files, fs) = process.world();
        let ctx = Ctx {
            kernel: &self.kernel,
            process: &process,
            thread: &thread,
            space: &space,
            files: &files,
            fs: &fs,
            registers: &registers,
            after: Cell::new(After::Return),
            interrupted: Cell::new(None),
        };
        body(&ctx)
    }
}

impl Ctx<'_> {
    /// A system call by number.
    pub(crate) fn call(&self, number: u64, arguments: &[u64]) -> Result<u64, Errno> {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        syscall::dispatch(self, number, all).map_err(|error| error.errno())
    }

    /// A value in user memory.
    pub(crate) fn peek<T: FromBytes + IntoBytes + Immutable>(&self, address: u64) -> T {
        UserPtr::new(UserAddr(address)).read(self.user()).unwrap()
    }

    /// Stores a value in user memory.
    pub(crate) fn poke<T: FromBytes + IntoBytes + Immutable>(&self, address: u64, value: T) {
        UserPtr::new(UserAddr(address)).write(self.user(), &value).unwrap();
    }

    /// Stores bytes in user memory.
    pub(crate) fn poke_bytes(&self, address: u64, bytes: &[u8]) {
        self.user().store(UserAddr(address), bytes).unwrap();
    }
}

/// A processor for the few instructions that stubs and test programs are made of.
pub(crate) fn interpret(platform: &FakePlatform, registers: &mut UserRegisters) -> Trap {
    use platform::{UserCpu, UserMemory};
    loop {
        let rip = registers.rip;
        let mut code = [0u8; 16];
        let mut len = code.len();
        if let Err(fault) = platform.user_load(rip, &mut code) {
            len = fault.done;
        }
        let code = &code[..len];
        let relative = |at: usize, next: u64| {
            let distance = i32::from_le_bytes(code[at..at + 4].try_into().unwrap());
            next.wrapping_add_signed(distance.into())
        };
        match code {
            [] => return Trap::Exception { vector: 14, error_code: 1 << 4, address: rip },
            [0xb8, ..] => {
                registers.rax = u32::from_le_bytes(code[1..5].try_into().unwrap()).into();
                registers.rip += 5;
            }
            [0xbf, ..] => {
                registers.rdi = u32::from_le_bytes(code[1..5].try_into().unwrap()).into();
                registers.rip += 5;
            }
            [0x89, 0xc7, ..] => {
                registers.rdi = registers.rax;
                registers.rip += 2;
            }
            [0x90, ..] => registers.rip += 1,
            [0xeb, distance, ..] => {
                registers.rip = (rip + 2).wrapping_add_signed(i64::from(distance.cast_signed()));
            }
            [0xe9, ..] => registers.rip = relative(1, rip + 5),
            [0x48, 0x8d, 0x0d, ..] => {
                registers.rcx = relative(3, rip + 7);
                registers.rip += 7;
            }
            [0xff, 0x25, ..] => {
                let mut slot = [0; 8];
                platform.user_load(relative(2, rip + 6), &mut slot).expect("the slot is in the same page");
                assert_eq!(u64::from_le_bytes(slot), platform.syscall_entry());
                registers.rip = registers.rcx;
                return Trap::Syscall;
            }
            [0x0f, 0x05 | 0xa2, ..] | [0x0f, 0x31, ..] | [0x0f, 0x0b, ..] => {
                return Trap::Exception { vector: 6, error_code: 0, address: 0 };
            }
            other => panic!("cannot interpret {other:x?} at {rip:#x}"),
        }
    }
}

/// A static program at `base` with this code, for files.
pub(crate) fn elf(base: u64, code: &[u8], is_relocatable: bool) -> Vec<u8> {
    let start = 64 + 56u64;
    let size = start + code.len() as u64;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&[if is_relocatable { 3 } else { 2 }, 0, 62, 0, 1, 0, 0, 0]);
    for word in [base + start, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, size, size, 4096] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(code);
    file
}

#[test]
fn a_static_program_runs_to_its_exit_with_a_rewritten_call() {
    // mov eax, 39; syscall; mov edi, eax; mov eax, 231; nop; syscall
    let code = b"\xb8\x27\0\0\0\x0f\x05\x89\xc7\xb8\xe7\0\0\0\x90\x0f\x05";
    for (base, is_relocatable) in [(0x40_0000, false), (0, true)] {
        let world = World::new();
        world.install("prog", &elf(base, code, is_relocatable));
        let pid = world.start("/prog", &["prog"]).unwrap();
        world.platform.run(interpret);
        assert_eq!(world.kernel.run_thread(pid).unwrap(), i32::try_from(pid).unwrap() << 8);
        let statistics = world.kernel.statistics();
        assert!(statistics.contains("rewritten_sites 1\n"), "{statistics}");
        assert!(statistics.contains("trapped_syscalls 1\n"), "{statistics}");
        assert!(statistics.contains("syscall.getpid 1\n"), "{statistics}");
        assert_eq!(world.pages_in_use(), 0);
    }
}

#[test]
fn touching_the_same_new_page_over_and_over_is_no_endless_fault() {
    const ROUNDS: u32 = 20_000;
    let world = World::new();
    world.install("prog", &elf(0, b"\x90", true));
    let pid = world.start("/prog", &["prog"]).unwrap();
    let (mut round, mut step) = (0, 0);
    world.platform.run(move |_, registers| {
        step = (step + 1) % 3;
        match step {
            1 if round == ROUNDS => (registers.rax, registers.rdi) = (231, 0),
            1 => {
                registers.rax = 9;
                (registers.rdi, registers.rsi, registers.rdx) = (0x10_0000, 4096, 3);
                (registers.r10, registers.r8, registers.r9) = (0x32, u64::MAX, 0);
            }
            2 => {
                round += 1;
                return Trap::Exception { vector: 14, error_code: 6, address: 0x10_0000 };
            }
            _ => (registers.rax, registers.rdi, registers.rsi) = (11, 0x10_0000, 4096),
        }
        Trap::Syscall
    });
    assert_eq!(world.kernel.run_thread(pid).unwrap(), 0);
}
