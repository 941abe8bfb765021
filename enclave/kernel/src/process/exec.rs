//! Starting programs: `execve(2)`, and processes from outside.

use super::elf::{self, Elf, Loaded};
use super::{NewProcess, Origin, Process, Program, short_name, stack, vdso};
use crate::ctx::{After, Ctx};
use crate::fs::{self, FileTable, FsContext};
use crate::ipc::segment;
use crate::kernel::Kernel;
use crate::thread::{NewThread, WORK_WORLD};
use crate::vm::{AddressSpace, MapRequest, MappedFile, Place, Role};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Result, SliceSink, UserAddr, UserSpace, bail};
use linux_abi::mm::PAGE_SIZE;
use linux_abi::process::{auxv, resource};
use linux_abi::time::CLOCKS_PER_SEC;
use platform::{HostFd, Level, Platform, Protection, UserRegisters};

/// Most scripts that name scripts as their interpreters.
const MAX_SCRIPTS: usize = 4;
/// Bytes of a script that may be its first line (BINPRM_BUF_SIZE).
const SCRIPT_LINE: usize = 256;
/// Least and most bytes of a stack.
const STACK_SIZES: core::ops::RangeInclusive<u64> = 128 << 10..=256 << 20;
/// RFLAGS of a new program: interrupts on, and the bit that is always set.
const INITIAL_RFLAGS: u64 = 0x202;
/// Bytes of a signal frame besides the extended state: `struct rt_sigframe`, alignment, red zone.
const SIGNAL_FRAME: u64 = 440 + 64 + 16 + 128;

/// A program that was found and checked, but not loaded.
struct Image {
    file: Arc<MappedFile>,
    elf: Elf,
    interpreter: Option<(Arc<MappedFile>, Elf)>,
    /// Path for AT_EXECFN: what was asked for.
    asked: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
}

impl Image {
    /// Finds the program, follows scripts, and checks files and sizes.
    fn find(
        kernel: &Kernel,
        context: &FsContext,
        path: &[u8],
        mut opened: Option<fs::Executable>,
        arguments: Vec<Vec<u8>>,
        environment: Vec<Vec<u8>>,
        stack_size: u64,
    ) -> Result<Self> {
        let asked = path.to_vec();
        let mut path = path.to_vec();
        let mut arguments = arguments;
        if arguments.is_empty() {
            // Linux too gives programs at least a name.
            arguments.push(Vec::new());
        }
        stack::check(&arguments, &environment, stack_size)?;
        for _ in 0..=MAX_SCRIPTS {
            let program = match opened.take() {
                Some(program) => program,
                None => fs::open_executable(kernel, context, &path)?,
            };
            let Some(line) = script_line(&*program.file)? else {
                let elf = Elf::read(&*program.file)?;
                let interpreter = find_interpreter(kernel, context, &path, &elf)?;
                let file = Arc::new(MappedFile { file: program.file, path: program.path });
                return Ok(Self { file, elf, interpreter, asked, arguments, environment });
            };
            let (interpreter, argument) = parse_script_line(&line)?;
            let mut new = alloc::vec![interpreter.clone()];
            new.extend(argument);
            new.push(path);
            new.extend(arguments.into_iter().skip(1));
            arguments = new;
            path = interpreter;
        }
        bail!(ELOOP, "too many scripts that need scripts")
    }

    /// Loads it into an empty address space. Returns the registers to start with, and the auxiliary vector.
    fn load(
        &self,
        kernel: &Kernel,
        space: &AddressSpace,
        stack_size: u64,
        heap: u64,
    ) -> Result<(UserRegisters, Vec<u8>)> {
        let program = self.elf.load_program(space, &self.file)?;
        let interpreter = match &self.interpreter {
            Some((file, elf)) => Some(elf.load_interpreter(space, file)?),
            None => None,
        };
        space.start_heap(program.end, heap);
        let stack_size =
            stack_size.clamp(*STACK_SIZES.start(), *STACK_SIZES.end()).next_multiple_of(PAGE_SIZE);
        let bottom = space.map(MapRequest {
            protection: Protection::READ | Protection::WRITE,
            role: Role::Stack,
            ..MapRequest::reservation(Place::Any, stack_size)
        })?;
        let platform = kernel.platform();
        let mut random = [0; 16];
        platform.fill_random(&mut random);
        let mut vector = auxiliary(&**platform, &program, interpreter.as_ref());
        if let Some(vdso) = &kernel.vdso {
            vector.push((auxv::SYSINFO_EHDR, vdso::map(space, vdso.clone())?));
        }
        let content = stack::Content {
            arguments: &self.arguments,
            environment: &self.environment,
            path: &self.asked,
            random,
            auxv: &vector,
        };
        let stack::Built { bytes, pointer, auxv } = stack::build(&content, bottom + stack_size);
        space.expect_stores(&(pointer..bottom + stack_size));
        space.store(UserAddr(pointer), &bytes)?;
        match &interpreter {
            Some(interpreter) => space.expect_interpreter(interpreter.start..interpreter.end),
            None => space.set_loaded(),
        }
        let registers = UserRegisters {
            rip: interpreter.map_or(program.entry, |interpreter| interpreter.entry),
            rsp: pointer,
            rflags: INITIAL_RFLAGS,
            ..UserRegisters::default()
        };
        Ok((registers, auxv))
    }

    /// What `/proc` shows.
    fn program(&self, auxv: Vec<u8>) -> Program {
        let join = |strings: &[Vec<u8>]| {
            strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect::<Vec<u8>>()
        };
        Program {
            path: self.file.path.clone(),
            arguments: join(&self.arguments),
            environment: join(&self.environment),
            auxv,
        }
    }
}

/// The auxiliary vector, except for what points into the stack.
fn auxiliary(platform: &dyn Platform, program: &Loaded, interpreter: Option<&Loaded>) -> Vec<(u64, u64)> {
    let frame = SIGNAL_FRAME + platform.xstate_len() as u64;
    alloc::vec![
        (auxv::MINSIGSTKSZ, frame),
        (auxv::HWCAP, platform.cpuid(1, 0).edx.into()),
        (auxv::PAGESZ, PAGE_SIZE),
        (auxv::CLKTCK, CLOCKS_PER_SEC),
        (auxv::PHDR, program.headers),
        (auxv::PHENT, elf::HEADER_SIZE),
        (auxv::PHNUM, program.header_count),
        (auxv::BASE, interpreter.map_or(0, |interpreter| interpreter.bias)),
        (auxv::FLAGS, 0),
        (auxv::ENTRY, program.entry),
        (auxv::UID, 0),
        (auxv::EUID, 0),
        (auxv::GID, 0),
        (auxv::EGID, 0),
        (auxv::SECURE, 0),
        // Bit 1: user code may use wrfsbase and its like, which the enclave always enables.
        (auxv::HWCAP2, 2),
    ]
}

/// Finds the interpreter that a program asks for.
fn find_interpreter(
    kernel: &Kernel,
    context: &FsContext,
    path: &[u8],
    elf: &Elf,
) -> Result<Option<(Arc<MappedFile>, Elf)>> {
    let Some(interpreter) = &elf.interpreter else { return Ok(None) };
    let found = fs::open_executable(kernel, context, interpreter).inspect_err(|error| {
        kernel.log(
            Level::Error,
            format_args!(
                "{} needs the program interpreter {}, which cannot be opened: {error}",
                path.escape_ascii(),
                interpreter.escape_ascii()
            ),
        );
    })?;
    let elf = Elf::read(&*found.file)?;
    Ok(Some((Arc::new(MappedFile { file: found.file, path: found.path }), elf)))
}

/// The first line of a script without `#!`, or `None` if it is not one.
fn script_line(file: &dyn vfs::Regular) -> Result<Option<Vec<u8>>> {
    let mut start = [0u8; SCRIPT_LINE];
    let len = file.read_at(0, &mut SliceSink::new(&mut start))?;
    let start = start.get(..len).unwrap_or_default();
    let Some(rest) = start.strip_prefix(b"#!") else { return Ok(None) };
    match rest.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some(rest.get(..end).unwrap_or_default().to_vec())),
        None if len < SCRIPT_LINE => Ok(Some(rest.to_vec())),
        // A cut line is good enough if the path of the interpreter is whole.
        None => {
            let trimmed = trim(rest);
            if trimmed.iter().any(|&byte| is_blank(byte)) {
                Ok(Some(rest.to_vec()))
            } else {
                bail!(ENOEXEC, "the first line of the script is too long")
            }
        }
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without blanks at both ends.
fn trim(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    line.get(start..end).unwrap_or_default()
}

/// Interpreter and the one argument of a script's first line.
fn parse_script_line(line: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let line = trim(line);
    let end = line.iter().position(|&byte| is_blank(byte)).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at_checked(end).unwrap_or_default();
    if interpreter.is_empty() {
        bail!(ENOEXEC, "the script names no interpreter");
    }
    let argument = trim(rest);
    Ok((interpreter.to_vec(), (!argument.is_empty()).then(|| argument.to_vec())))
}

/// `execve(2)`: replaces the program of the calling process by that at `path`, which is `opened` if the caller has found it
/// already. The calling thread becomes the first of the process.
///
/// # Errors
/// Those of the man page; after the old program is gone there is no way back and the process is killed.
pub(crate) fn execve(
    ctx: &Ctx<'_>,
    path: &[u8],
    opened: Option<fs::Executable>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<()> {
    let stack_size = ctx.process.limit(resource::STACK);
    let heap = ctx.process.limit(resource::DATA);
    let image = Image::find(ctx.kernel, ctx.fs, path, opened, arguments, environment, stack_size)?;
    // The point of no return: other threads end, the old memory goes.
    ctx.end_other_threads()?;
    if ctx.thread.tid() != ctx.process.pid {
        ctx.kernel.processes.make_first(ctx.thread, ctx.process.pid);
    }
    let space = ctx.space_for(&image.elf);
    ctx.space.leave();
    ctx.kernel.enter(&space, ctx.thread);
    let loaded = image.load(ctx.kernel, &space, stack_size, heap);
    space.leave();
    ctx.space.count_in();
    ctx.process.replace_memory(space);
    let (registers, auxv) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            log_load_error(ctx.kernel, path, &error);
            ctx.process.end_with(linux_abi::process::status_killed(9, false));
            ctx.after.set(After::Keep);
            return Ok(());
        }
    };
    *ctx.registers.borrow_mut() = registers;
    ctx.platform().xstate_reset();
    ctx.unshare_files().close_on_exec();
    ctx.process.signals.reset_for_exec();
    ctx.thread.reset_for_exec();
    *ctx.thread.name.lock() = short_name(&image.asked);
    *ctx.process.program.lock() = image.program(auxv);
    ctx.thread.add_work(WORK_WORLD);
    ctx.after.set(After::Keep);
    ctx.kernel.log(
        Level::Debug,
        format_args!("process {} executes {}", ctx.process.pid, image.asked.escape_ascii()),
    );
    Ok(())
}

impl Ctx<'_> {
    /// The memory for a new program of the calling process, which gives up what it has: that, empty, unless others share it. A
    /// program that must be where another process is takes turns with it.
    fn space_for(&self, elf: &Elf) -> Arc<AddressSpace> {
        let wanted = elf.fixed_addresses();
        if self.process.give_up_memory(self.kernel, self.space) {
            segment::sweep(self.kernel);
            if !self.space.is_grouped() && wanted.is_none_or(|wanted| self.space.claim_addresses(wanted)) {
                self.space.users().join();
                return self.space.clone();
            }
        }
        let memory = &self.kernel.memory;
        let Some(wanted) = wanted else { return memory.new_space() };
        let waker = self.thread.waker();
        let space = loop {
            memory.freed().enqueue(waker);
            match memory.new_space_at(wanted) {
                Some(space) => break space,
                None => self.sleep(None),
            };
        };
        memory.freed().dequeue(waker);
        space
    }
}

/// Says why a program could not be loaded.
fn log_load_error(kernel: &Kernel, path: &[u8], error: &kbase::Error) {
    let hint = if error.errno() == Errno::ENOMEM {
        " (resource_limits.user_space_max_size is the ceiling)"
    } else {
        ""
    };
    kernel.log(Level::Error, format_args!("{} cannot be loaded: {error}{hint}", path.escape_ascii()));
}

impl Kernel {
    /// Creates a process that is ready to run with [`Kernel::run_thread`]. Returns its pid.
    ///
    /// # Errors
    /// ENOENT no such file, interpreter or working directory; EACCES not executable, or not below an entry point; ENOEXEC not an
    /// x86-64 ELF file or script; E2BIG arguments and environment are too long; ENOMEM it does not fit; EAGAIN too
    /// many threads; EINVAL the path is empty or relative; EIO the image is corrupt.
    pub fn create_process(
        &self,
        path: &[u8],
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
        stdio: [Option<HostFd>; 3],
        cwd: &[u8],
    ) -> Result<u32> {
        if !path.starts_with(b"/") {
            bail!(EINVAL, "the path of the program is not absolute");
        }
        self.check_entry_point(path)?;
        let environment = self.environment(envp);
        let context = FsContext::at(self, if cwd.is_empty() { b"/" } else { cwd })?;
        let limits = self.config().limits;
        let image = Image::find(self, &context, path, None, argv, environment, limits.default_stack_size)?;
        let space = self.memory.new_space();
        let (registers, auxv) = image
            .load(self, &space, limits.default_stack_size, limits.default_heap_size)
            .inspect_err(|error| log_load_error(self, path, error))?;
        let files = FileTable::with_stdio(self, stdio)?;
        let new = NewProcess {
            world: (space, Arc::new(files), Arc::new(context)),
            thread: NewThread::of_program(registers, short_name(path)),
            program: image.program(auxv),
            origin: Origin::Outside(limits),
        };
        let process = self.processes.add(self.platform(), limits.max_threads, new)?;
        self.log(Level::Info, format_args!("process {} is {}", process.pid, path.escape_ascii()));
        Ok(process.pid)
    }

    /// Only what lies at or below an entry point may be started from outside.
    fn check_entry_point(&self, path: &[u8]) -> Result<()> {
        let is_below = |entry: &str| {
            let entry = entry.trim_end_matches('/').as_bytes();
            path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let has_dots = path.split(|&byte| byte == b'/').any(|part| part == b"..");
        if has_dots || !self.config().entry_points.iter().any(|entry| is_below(entry)) {
            bail!(EACCES, "not below an entry point of the configuration");
        }
        Ok(())
    }

    /// The environment by the measured rules: the defaults, replaced or joined by what the host may give.
    fn environment(&self, offered: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let rules = &self.config().environment;
        let name_of = |line: &[u8]| line.split(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
        let may_pass = |name: &[u8]| {
            rules.untrusted.iter().any(|rule| match rule.as_bytes().strip_suffix(b"*") {
                Some(prefix) => name.starts_with(prefix),
                None => rule.as_bytes() == name,
            })
        };
        let mut lines: Vec<Vec<u8>> = rules.default.iter().map(|line| line.as_bytes().to_vec()).collect();
        for line in offered {
            let name = name_of(&line);
            if name.is_empty() || !line.contains(&b'=') || !may_pass(&name) {
                continue;
            }
            lines.retain(|old| name_of(old) != name);
            lines.push(line);
        }
        lines
    }
}

impl Process {
    /// Path of the program file, for `/proc/self/exe`.
    pub(crate) fn executable(&self) -> Vec<u8> {
        self.program.lock().path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SCRATCH, World, elf, interpret};

    /// mov eax, 231; xor-free exit of 0: mov edi, 0; syscall
    const EXIT: &[u8] = b"\xbf\0\0\0\0\xb8\xe7\0\0\0\x0f\x05";

    fn words_at(world: &World, address: u64, count: usize) -> Vec<u64> {
        use platform::UserMemory;
        let mut words = alloc::vec![0u64; count];
        for (index, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            world.platform.user_load(address + index as u64 * 8, &mut bytes).unwrap();
            *word = u64::from_le_bytes(bytes);
        }
        words
    }

    fn string_at(world: &World, address: u64) -> Vec<u8> {
        use platform::UserMemory;
        let mut string = Vec::new();
        loop {
            let mut byte = [0];
            world.platform.user_load(address + string.len() as u64, &mut byte).unwrap();
            if byte == [0] {
                return string;
            }
            string.push(byte[0]);
        }
    }

    /// The arguments that the process will see.
    fn arguments(world: &World, pid: u32) -> Vec<Vec<u8>> {
        let thread = world.kernel.processes.thread(pid).unwrap();
        let rsp = thread.start_registers().rsp;
        let count = words_at(world, rsp, 1)[0];
        let pointers = words_at(world, rsp + 8, usize::try_from(count).unwrap());
        pointers.into_iter().map(|pointer| string_at(world, pointer)).collect()
    }

    #[test]
    fn a_script_runs_its_interpreter_with_one_argument() {
        let world = World::new();
        world.install("interpreter", &elf(0, EXIT, true));
        world.install("script", b"#! /interpreter  -a b \nrest");
        world.install("outer", b"#!/script\n");
        let pid = world.start("/outer", &["name", "one", "two"]).unwrap();
        let expected: Vec<Vec<u8>> = [&b"/interpreter"[..], b"-a b", b"/script", b"/outer", b"one", b"two"]
            .iter()
            .map(|argument| argument.to_vec())
            .collect();
        assert_eq!(arguments(&world, pid), expected);
    }

    #[test]
    fn what_is_no_program_is_refused_with_the_right_errno() {
        let world = World::new();
        world.install("text", b"hello");
        world.install("loop", b"#!/loop\n");
        world.install("lost", b"#!/nowhere\n");
        world.install("empty", b"");
        world.install("cut", &elf(0, EXIT, true)[..100]);
        let mut foreign = elf(0, EXIT, true);
        foreign[18] = 183;
        world.install("foreign", &foreign);
        for (path, errno) in [
            ("/text", Errno::ENOEXEC),
            ("/loop", Errno::ELOOP),
            ("/lost", Errno::ENOENT),
            ("/empty", Errno::ENOEXEC),
            ("/cut", Errno::ENOEXEC),
            ("/foreign", Errno::ENOEXEC),
            ("/missing", Errno::ENOENT),
            ("relative", Errno::EINVAL),
        ] {
            assert_eq!(world.start(path, &["x"]), Err(errno), "{path}");
        }
    }

    #[test]
    fn no_header_makes_the_loader_panic() {
        let good = elf(0x40_0000, EXIT, false);
        let world = World::new();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let name = alloc::format!("f{at}-{value}");
                world.install(&name, &bad);
                if let Ok(pid) = world.start(&alloc::format!("/{name}"), &["x"]) {
                    let process = world.kernel.processes.process(pid).unwrap();
                    process.world().0.end();
                    world.kernel.processes.forget(pid);
                }
            }
        }
    }

    #[test]
    fn the_measured_rules_decide_about_entry_and_environment() {
        let platform = fake_platform::FakePlatform::new();
        let config = boot_config::BootConfig {
            entry_points: alloc::vec!["/bin".into()],
            environment: boot_config::Environment {
                default: alloc::vec!["HOME=/root".into(), "LANG=C".into()],
                untrusted: alloc::vec!["LANG".into(), "APP_*".into()],
            },
            ..boot_config::BootConfig::default()
        };
        let kernel = Kernel::boot(platform, config, crate::BootExtra::default()).unwrap();
        let offered = ["LANG=de", "APP_X=1", "LD_PRELOAD=evil", "HOME=/evil", "APP_"];
        let passed = kernel.environment(offered.iter().map(|line| line.as_bytes().to_vec()).collect());
        let expected: Vec<Vec<u8>> =
            ["HOME=/root", "LANG=de", "APP_X=1"].iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(passed, expected);
        for (path, is_allowed) in
            [("/bin", true), ("/bin/x", true), ("/binary", false), ("/bin/../etc/x", false), ("/etc", false)]
        {
            assert_eq!(kernel.check_entry_point(path.as_bytes()).is_ok(), is_allowed, "{path}");
        }
    }

    #[test]
    fn execve_replaces_memory_and_registers() {
        let world = World::new();
        world.install("prog", &elf(0x40_0000, EXIT, false));
        world.with_ctx(|ctx| {
            ctx.poke_bytes(SCRATCH, b"/prog\0/missing\0");
            ctx.poke(SCRATCH + 64, [SCRATCH, 0u64]);
            let environment = SCRATCH + 72;
            assert_eq!(ctx.call(59, &[SCRATCH + 6, SCRATCH + 64, environment]), Err(Errno::ENOENT));
            assert_eq!(ctx.peek::<u8>(SCRATCH), b'/');
            ctx.call(59, &[SCRATCH, SCRATCH + 64, environment]).unwrap();
            assert_eq!(ctx.after.get(), After::Keep);
            assert_eq!(ctx.registers.borrow().rip, 0x40_0000 + 120);
            assert!(ctx.user().load(UserAddr(SCRATCH), &mut [0]).is_err());
            assert_eq!(&ctx.thread.name.lock()[..5], b"prog\0");
        });
    }

    #[test]
    fn a_program_whose_memory_is_too_small_is_refused() {
        let platform = fake_platform::FakePlatform::with_user_limit(8192);
        let world = World::on(platform);
        world.install("prog", &elf(0x40_0000, EXIT, false));
        let pid = world.start("/prog", &["x"]).unwrap();
        world.platform.run(interpret);
        assert!(world.kernel.run_thread(pid).is_ok());
    }
}
