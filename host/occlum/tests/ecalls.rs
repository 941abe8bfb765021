//! Every ECALL with every errno that `edge_abi::ecall` documents, asked by a host that does not keep to the rules.
//!
//! The enclave is one that the command built; the host of these tests serves only what changes pages.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use edge_abi::EDGE_VERSION;
use edge_abi::ecall::{
    CpuidEntry, ENTER_OCALL_RETURN, EXIT_DONE, EXIT_OCALL, EXIT_RESUME, Ecall, HostRange, InitArgs,
    ProcessArgs,
};
use edge_abi::layout;
use edge_abi::ocall::{BUFFER_LEN, Ocall};
use linux_abi::Errno;
use sgx_arch::{PageType, SecinfoFlags};
use sgx_device::{EnclaveRun, Exit, Leaf, SgxDevice, SgxEnclave};
use sgx_image::{Content, SignedEnclave};
use sgx_machine::SoftwareSgx;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

type Answer = Result<u64, Errno>;

/// A place for the enclave to read from or write to.
fn range<T>(bytes: &[T]) -> HostRange {
    HostRange { address: address(bytes), len: size_of_val(bytes) as u64 }
}

fn address<T: ?Sized>(place: &T) -> u64 {
    std::ptr::from_ref(place).cast::<u8>().expose_provenance() as u64
}

/// In the enclave, so nothing that the host may offer.
const INSIDE: HostRange = HostRange { address: layout::USER_BASE, len: 64 };
/// Begins outside, and ends beyond the address space.
const WRAPS: HostRange = HostRange { address: u64::MAX - 32, len: 64 };
/// Begins inside, and ends outside.
const ACROSS: HostRange = HostRange { address: layout::ELRANGE_SIZE - 32, len: 64 };

/// The folder of an instance that is built, and removed at the end of the process at the earliest.
struct Instance(tempfile::TempDir);

/// A static program at `base`, or anywhere if that is 0, that ends with status 7 and asks for `memory` bytes.
fn program(base: u64, memory: u64, interpreter: Option<&str>) -> Vec<u8> {
    // mov edi, 7; mov eax, 231; syscall
    let code = b"\xbf\x07\0\0\0\xb8\xe7\0\0\0\x0f\x05";
    let headers = 1 + u64::from(interpreter.is_some());
    let start = 64 + 56 * headers;
    let name = interpreter.map_or(Vec::new(), |name| [name.as_bytes(), b"\0"].concat());
    let size = start + code.len() as u64 + name.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file[16] = if base == 0 { 3 } else { 2 };
    let mut words = |words: &[u64]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    words(&[base + start, 64, 0]);
    words(&[64 << 32 | 56 << 48, headers | 64 << 16]);
    words(&[1 | 5 << 32, 0, base, base, size, memory.max(size), 4096]);
    if interpreter.is_some() {
        let at = start + code.len() as u64;
        words(&[3 | 4 << 32, at, base + at, base + at, name.len() as u64, name.len() as u64, 1]);
    }
    file.extend(code);
    file.extend(name);
    file
}

const BASE: u64 = 0x40_0000;
/// Content of a file that is found again in the image.
const MARK: &[u8] = b"a block of the image that is going to be damaged";

impl Instance {
    fn build(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self(folder);
        this.occlum(&["init"]);
        fs::write(this.path("Occlum.json"), config).unwrap();
        let files: [(&str, &[u8], u32); 6] = [
            ("seven", &program(0, 0, None), 0o755),
            ("large", &program(BASE, 60 << 30, None), 0o755),
            ("orphan", &program(BASE, 0, Some("/lib/no-such-loader")), 0o755),
            ("text", b"neither ELF nor a script", 0o755),
            ("data", &program(BASE, 0, None), 0o644),
            ("damaged", &[MARK, &[b'.'; 8000]].concat(), 0o755),
        ];
        for (name, content, mode) in files {
            let path = this.path("image/bin").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir_all(this.path("image/other")).unwrap();
        fs::copy(this.path("image/bin/seven"), this.path("image/other/seven")).unwrap();
        std::os::unix::fs::symlink("loop", this.path("image/bin/loop")).unwrap();
        this.occlum(&["build"]);
        this
    }

    /// A debug enclave with few threads.
    fn debug() -> &'static Self {
        static BUILT: OnceLock<Instance> = OnceLock::new();
        BUILT.get_or_init(|| {
            Self::build(
                r#"{ "entry_points": ["/bin"], "resource_limits": { "max_num_of_threads": 4, "user_space_max_size": "1GB" } }"#,
            )
        })
    }

    fn release() -> &'static Self {
        static BUILT: OnceLock<Instance> = OnceLock::new();
        BUILT.get_or_init(|| {
            Self::build(r#"{ "entry_points": ["/bin"], "metadata": { "debuggable": false } }"#)
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn occlum(&self, arguments: &[&str]) {
        static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
        let home = HOME.get_or_init(|| tempfile::tempdir().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_occlum"))
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", home.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.path("build/mount/__ROOT")).unwrap()
    }
}

/// A loaded enclave, and the memory through which the host talks to its first thread.
struct Host {
    enclave: Box<dyn SgxEnclave>,
    frame: [AtomicU64; 10],
    buffer: Vec<AtomicU64>,
    image: Vec<u8>,
    /// Only one enclave at address 0 at a time.
    _one: MutexGuard<'static, ()>,
}

impl Host {
    /// Loads the enclave of an instance. Its LibOS is not started.
    fn load(instance: &Instance) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = SoftwareSgx::with_secret(&[7; 32]).unwrap();
        let file = fs::read(instance.path("build/lib/libocclum-libos.signed.so")).unwrap();
        let signed = SignedEnclave::from_bytes(&file).unwrap();
        let enclave = machine.create(&signed.secs(machine.xfrm())).unwrap();
        for chunk in signed.chunks() {
            let zeros;
            let bytes = match &chunk.content {
                Content::Bytes(bytes) => &**bytes,
                Content::Zeros(len) => {
                    zeros = vec![0; usize::try_from(*len).unwrap()];
                    &zeros
                }
            };
            enclave.add_pages(bytes, chunk.offset, &chunk.secinfo, chunk.measure).unwrap();
        }
        enclave.init(signed.sigstruct()).unwrap();
        let fixed = signed.layout();
        let map = |at, len, flags: SecinfoFlags| enclave.map_permissions(at, len, flags.bits()).unwrap();
        map(fixed.user_base, fixed.user_end - fixed.user_base, SecinfoFlags::RWX);
        map(fixed.heap_base, fixed.heap_limit, SecinfoFlags::RW);
        let slots = layout::thread_slot(0)..layout::thread_slot(fixed.max_threads);
        map(slots.start, slots.end - slots.start, SecinfoFlags::RW);
        for chunk in signed.chunks() {
            let flags = chunk.secinfo.flags;
            let is_tcs = flags.page_type() == Some(PageType::Tcs);
            let flags = if is_tcs { SecinfoFlags::RW } else { flags.permissions() };
            map(chunk.offset, chunk.content.len(), flags);
        }
        enclave.prepare_thread().unwrap();
        Self {
            enclave,
            frame: Default::default(),
            buffer: (0..BUFFER_LEN / 8).map(|_| AtomicU64::new(0)).collect(),
            image: instance.image(),
            _one: one,
        }
    }

    /// Loads it and starts its LibOS.
    fn start(instance: &Instance) -> Self {
        let this = Self::load(instance);
        assert_eq!(this.init(|_| ()), Ok(0));
        this
    }

    /// An ECALL with a frame that is in order.
    fn ecall(&self, number: u64, args: [u64; 2]) -> Answer {
        self.ecall_with(number, args, range(&self.buffer))
    }

    fn ecall_with(&self, number: u64, args: [u64; 2], buffer: HostRange) -> Answer {
        let words = [0, args[0], args[1], 0, 0, 0, 0, Errno::EIO.as_return(), buffer.address, buffer.len];
        for (field, word) in self.frame.iter().zip(words) {
            field.store(word, Ordering::SeqCst);
        }
        self.enter(number, address(&self.frame));
        let result = self.frame[7].load(Ordering::SeqCst);
        Errno::from_number(result.wrapping_neg()).map_or(Ok(result), Err)
    }

    /// Enters the first thread until its call is done.
    fn enter(&self, number: u64, frame: u64) {
        let tcs = layout::thread_slot(0);
        let mut run = EnclaveRun { tcs, leaf: Leaf::Eenter, rdi: number, rsi: frame, rdx: 0, r8: 0, r9: 0 };
        loop {
            match self.enclave.enter(&mut run) {
                Exit::Eexit if run.rdi == EXIT_DONE => return,
                Exit::Eexit if run.rdi == EXIT_OCALL => {
                    self.serve();
                    (run.leaf, run.rdi) = (Leaf::Eenter, ENTER_OCALL_RETURN);
                }
                Exit::Eexit if run.rdi == EXIT_RESUME => run.leaf = Leaf::Eresume,
                Exit::Exception { .. } | Exit::Interrupt => (run.leaf, run.rdi) = (Leaf::Eenter, 0),
                other => panic!("{other:?}, RDI = {}: {}", run.rdi, self.text(512)),
            }
        }
    }

    /// Serves what concerns pages, and nothing else.
    fn serve(&self) {
        let word = |index: usize| self.frame[index].load(Ordering::SeqCst);
        let (a0, a1, a2) = (word(1), word(2), word(3));
        let done = match Ocall::from_number(word(0)) {
            Some(Ocall::RestrictPermissions) => self.enclave.restrict_permissions(a0, a1, a2),
            Some(Ocall::ModifyTypes) => self.enclave.modify_types(a0, a1, u8::try_from(a2).unwrap()),
            Some(Ocall::RemovePages) => self.enclave.remove_pages(a0, a1),
            Some(Ocall::MapPermissions) => self.enclave.map_permissions(a0, a1, a2),
            // The buffer is the time.
            Some(Ocall::Clock | Ocall::Log) => Ok(()),
            _ => Err(std::io::ErrorKind::Unsupported.into()),
        };
        let result = if done.is_ok() { 0 } else { Errno::ENOSYS.as_return() };
        self.frame[7].store(result, Ordering::SeqCst);
    }

    /// The start of the buffer as text.
    fn text(&self, len: u64) -> String {
        let bytes: Vec<u8> =
            self.buffer.iter().flat_map(|word| word.load(Ordering::SeqCst).to_le_bytes()).collect();
        String::from_utf8_lossy(&bytes[..usize::try_from(len).unwrap()]).into_owned()
    }

    /// Init with arguments that are right but for a change.
    fn init(&self, change: impl FnOnce(&mut InitArgs)) -> Answer {
        let mut args = Box::new(InitArgs {
            version: EDGE_VERSION,
            image: range(&self.image),
            cpus: 2,
            host_memory: 1 << 33,
            map_hint: 1,
            ..InitArgs::default()
        });
        change(&mut args);
        self.ecall(Ecall::Init as u64, [address(&*args), 0])
    }

    /// NewProcess with arguments that are right but for a change.
    fn new_process(&self, path: &str, change: impl FnOnce(&mut ProcessArgs)) -> Answer {
        let mut args = Box::new(ProcessArgs {
            path: range(path.as_bytes()),
            argv: range(b"program\0argument\0"),
            stdio: [-1; 3],
            ..ProcessArgs::default()
        });
        change(&mut args);
        self.ecall(Ecall::NewProcess as u64, [address(&*args), 0])
    }

    fn run_thread(&self, tid: u64) -> Answer {
        self.ecall(Ecall::RunThread as u64, [tid, 0])
    }

    fn kill(&self, pid: i64, signal: u64) -> Answer {
        self.ecall(Ecall::Kill as u64, [pid.cast_unsigned(), signal])
    }
}

#[test]
fn no_call_but_init_is_served_before_init() {
    let host = Host::load(Instance::debug());
    assert_eq!(host.new_process("/bin/seven", |_| ()), Err(Errno::EAGAIN));
    assert_eq!(host.run_thread(1), Err(Errno::EAGAIN));
    assert_eq!(host.kill(-1, 15), Err(Errno::EAGAIN));
    assert_eq!(host.ecall(Ecall::Statistics as u64, [0; 2]), Err(Errno::EAGAIN));
    assert_eq!(host.ecall(Ecall::Ready as u64, [0; 2]), Err(Errno::EAGAIN));
    assert_eq!(host.init(|_| ()), Ok(0), "and none of them did harm");
}

#[test]
fn a_number_of_no_call_is_enosys() {
    let host = Host::start(Instance::debug());
    for number in [7, 8, 99, u64::MAX] {
        assert_eq!(host.ecall(number, [0; 2]), Err(Errno::ENOSYS), "{number}");
    }
}

#[test]
fn a_frame_or_a_buffer_that_is_not_outside_the_enclave_is_not_used() {
    let host = Host::start(Instance::debug());
    for buffer in [
        INSIDE,
        WRAPS,
        ACROSS,
        HostRange { address: layout::USER_BASE, len: BUFFER_LEN as u64 },
        HostRange { len: BUFFER_LEN as u64 - 1, ..range(&host.buffer) },
        HostRange::default(),
    ] {
        assert_eq!(host.ecall_with(Ecall::Kill as u64, [0; 2], buffer), Err(Errno::EFAULT), "{buffer:?}");
    }
    host.frame[7].store(1234, Ordering::SeqCst);
    for frame in [0, layout::USER_BASE, layout::ELRANGE_SIZE - 8, u64::MAX - 8] {
        host.enter(Ecall::Kill as u64, frame);
    }
    assert_eq!(host.frame[7].load(Ordering::SeqCst), 1234, "nobody is told");
    assert_eq!(host.kill(-1, 15), Err(Errno::ESRCH), "the next call is served");
}

#[test]
fn init_says_what_is_wrong_with_its_arguments() {
    let instance = Instance::debug();
    // Each needs an enclave of its own: an Init that got beyond the checks of its arguments cannot be repeated.
    let fails = |errno: Errno, change: &dyn Fn(&mut InitArgs)| {
        let host = Host::load(instance);
        assert_eq!(host.init(change), Err(errno));
        assert!(host.new_process("/bin/seven", |_| ()).is_err(), "it is not started after {errno:?}");
    };
    fails(Errno::EPROTO, &|args| args.version = EDGE_VERSION + 1);
    for bad in [INSIDE, WRAPS, ACROSS] {
        fails(Errno::EFAULT, &|args| args.image = bad);
        fails(Errno::EFAULT, &|args| args.mounts = bad);
        fails(Errno::EFAULT, &|args| args.cpuid = bad);
        fails(Errno::EFAULT, &|args| args.host_files = bad);
    }
    let much = vec![0_u8; (1 << 20) + 1];
    fails(Errno::E2BIG, &|args| args.mounts = range(&much));
    fails(Errno::E2BIG, &|args| args.host_files = range(&much));
    let rows = vec![CpuidEntry::default(); 10_000];
    fails(Errno::EINVAL, &|args| args.cpuid = range(&rows));
    fails(Errno::EPERM, &|args| args.mounts = range(b"/etc\0/etc\0ro\0"));
    // No image, half of one, one of zeros, one that was changed where it says what it is.
    let image = instance.image();
    let zeros = vec![0_u8; image.len()];
    let mut changed = image.clone();
    changed[1024 + 16] ^= 1;
    fails(Errno::EIO, &|args| args.image = HostRange::default());
    fails(Errno::EIO, &|args| args.image = range(&image[..image.len() / 2]));
    fails(Errno::EIO, &|args| args.image = range(&zeros));
    fails(Errno::EIO, &|args| args.image = range(&changed));

    let host = Host::load(instance);
    for bad in [INSIDE, WRAPS, ACROSS] {
        assert_eq!(host.ecall(Ecall::Init as u64, [bad.address, 0]), Err(Errno::EFAULT));
    }
    assert_eq!(host.init(|_| ()), Ok(0), "no argument was looked at, so it is still the first");
    assert_eq!(host.init(|_| ()), Err(Errno::EALREADY));
}

#[test]
fn an_init_that_failed_late_is_not_repeated() {
    let host = Host::load(Instance::debug());
    assert_eq!(host.init(|args| args.image = HostRange::default()), Err(Errno::EIO));
    assert_eq!(host.init(|_| ()), Err(Errno::EALREADY));
}

#[test]
fn new_process_says_what_is_wrong_with_its_arguments() {
    let host = Host::start(Instance::debug());
    let fails = |path: &str, change: &dyn Fn(&mut ProcessArgs)| host.new_process(path, change).unwrap_err();
    for bad in [INSIDE, WRAPS, ACROSS] {
        assert_eq!(fails("", &|args| args.path = bad), Errno::EFAULT);
        assert_eq!(fails("/bin/seven", &|args| args.argv = bad), Errno::EFAULT);
        assert_eq!(fails("/bin/seven", &|args| args.envp = bad), Errno::EFAULT);
        assert_eq!(fails("/bin/seven", &|args| args.cwd = bad), Errno::EFAULT);
        assert_eq!(host.ecall(Ecall::NewProcess as u64, [bad.address, 0]), Err(Errno::EFAULT));
    }
    let much = vec![b'a'; (2 << 20) + 1];
    assert_eq!(fails("/bin/seven", &|args| args.argv = range(&much)), Errno::E2BIG);
    assert_eq!(fails("/bin/seven", &|args| args.envp = range(&much)), Errno::E2BIG);
    let half = &much[..(1 << 20) + 1];
    let both = |args: &mut ProcessArgs| (args.argv, args.envp) = (range(half), range(half));
    assert_eq!(fails("/bin/seven", &both), Errno::E2BIG);
    assert_eq!(fails("/bin/seven", &|args| args.argv = range(&much[..200_000])), Errno::E2BIG, "one of them");
    assert_eq!(fails("/bin/seven", &|args| args.path = range(&much[..4097])), Errno::E2BIG);
    assert_eq!(fails("/bin/seven", &|args| args.cwd = range(&much[..4097])), Errno::E2BIG);

    let nothing = |_: &mut ProcessArgs| ();
    for (path, errno) in [
        ("", Errno::EINVAL),
        ("bin/seven", Errno::EINVAL),
        ("/other/seven", Errno::EACCES),
        ("/bin/../other/seven", Errno::EACCES),
        ("/binary", Errno::EACCES),
        ("/bin/data", Errno::EACCES),
        ("/bin", Errno::EACCES),
        ("/bin/nothing", Errno::ENOENT),
        ("/bin/orphan", Errno::ENOENT),
        ("/bin/seven/below", Errno::ENOTDIR),
        ("/bin/loop", Errno::ELOOP),
        ("/bin/text", Errno::ENOEXEC),
        ("/bin/large", Errno::ENOMEM),
    ] {
        assert_eq!(fails(path, &nothing), errno, "{path}");
    }
    let name = format!("/bin/{}", "a".repeat(300));
    assert_eq!(fails(&name, &nothing), Errno::ENAMETOOLONG);
    assert_eq!(fails("/bin/seven", &|args| args.cwd = range(b"/nowhere")), Errno::ENOENT);
    assert_eq!(fails("/bin/seven", &|args| args.cwd = range(b"/bin/seven")), Errno::ENOTDIR);

    // None of these failures took one of the four threads away.
    let pids: Vec<u64> = (0..4).map(|_| host.new_process("/bin/seven", |_| ()).unwrap()).collect();
    assert_eq!(fails("/bin/seven", &nothing), Errno::EAGAIN);
    assert_eq!(host.run_thread(pids[0]), Ok(7 << 8));
    assert!(host.new_process("/bin/seven", |_| ()).is_ok(), "the end of a thread makes room");
}

#[test]
fn a_program_whose_block_is_damaged_is_eio() {
    let mut host = Host::load(Instance::debug());
    let places: Vec<usize> = (0..host.image.len() - MARK.len())
        .step_by(4)
        .filter(|&at| host.image[at..].starts_with(MARK))
        .collect();
    assert_eq!(places.len(), 1, "the file is in the image once");
    host.image[places[0]] ^= 4;
    assert_eq!(host.init(|_| ()), Ok(0), "the start needs other blocks");
    assert_eq!(host.new_process("/bin/damaged", |_| ()), Err(Errno::EIO));
    let pid = host.new_process("/bin/seven", |_| ()).unwrap();
    assert_eq!(host.run_thread(pid), Ok(7 << 8), "who does not need it is not harmed");
}

#[test]
fn run_thread_runs_each_thread_once() {
    let host = Host::start(Instance::debug());
    for nobody in [0, 1, 4096, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(host.run_thread(nobody), Err(Errno::ESRCH), "{nobody}");
    }
    let pid = host.new_process("/bin/seven", |_| ()).unwrap();
    assert_eq!(host.run_thread(pid), Ok(7 << 8));
    assert_eq!(host.run_thread(pid), Err(Errno::ESRCH));
}

#[test]
fn kill_takes_the_signals_of_a_terminal_and_of_an_init_system() {
    let host = Host::start(Instance::debug());
    assert_eq!(host.kill(-1, 15), Err(Errno::ESRCH));
    let pid = host.new_process("/bin/seven", |_| ()).unwrap();
    let known = i64::try_from(pid).unwrap();
    for signal in [0, 65, 1 << 40, u64::MAX] {
        assert_eq!(host.kill(known, signal), Err(Errno::EINVAL), "signal {signal}");
    }
    for nobody in [0, -2, i64::MIN, i64::MAX, 1 << 32] {
        assert_eq!(host.kill(nobody, 15), Err(Errno::EINVAL), "pid {nobody}");
    }
    assert_eq!(host.kill(known + 1000, 15), Err(Errno::ESRCH));
    // SIGINT, SIGTERM, SIGKILL and their kind. SIGUSR1 or SIGSEGV would be the host's word against the program's.
    let taken: Vec<u64> = (1..=64).filter(|&signal| host.kill(known, signal).is_ok()).collect();
    assert_eq!(taken, [1, 2, 3, 9, 15, 18, 20, 28]);
    assert_eq!(host.kill(known, 10), Err(Errno::EPERM));
    assert_eq!(host.run_thread(pid), Ok(9), "SIGKILL was among them");
}

#[test]
fn statistics_are_for_debug_enclaves() {
    let host = Host::start(Instance::debug());
    let len = host.ecall(Ecall::Statistics as u64, [0; 2]).unwrap();
    assert!(host.text(len).contains("kernel heap committed"), "{}", host.text(len));
    drop(host);
    let host = Host::start(Instance::release());
    assert_eq!(host.ecall(Ecall::Statistics as u64, [0; 2]), Err(Errno::EPERM));
    let pid = host.new_process("/bin/seven", |_| ()).unwrap();
    assert_eq!(host.run_thread(pid), Ok(7 << 8));
}

/// One thread is enough for a program, whatever the LibOS itself needs.
#[test]
fn a_limit_of_one_thread_leaves_one() {
    let instance = Instance::build(r#"{ "resource_limits": { "max_num_of_threads": 1 } }"#);
    let host = Host::start(&instance);
    for _ in 0..3 {
        let pid = host.new_process("/bin/seven", |_| ()).unwrap();
        assert_eq!(host.new_process("/bin/seven", |_| ()), Err(Errno::EAGAIN));
        assert_eq!(host.run_thread(pid), Ok(7 << 8));
    }
}
