//! Loading an enclave and running programs in it.

use crate::error::PalError;
use crate::pool::Pool;
use crate::readiness::Readiness;
use crate::slot::{Slot, Slots};
use crate::sweep::{Found, Sweeper};
use crate::timer::Timer;
use crate::uring::Rings;
use crate::{cpuid, ocalls, signals};
use edge_abi::EDGE_VERSION;
use edge_abi::ecall::{
    ENTER_OCALL_RETURN, EXIT_ABORT, EXIT_DONE, EXIT_OCALL, EXIT_RESUME, Ecall, HostRange, InitArgs, LogLevel,
    ProcessArgs,
};
use edge_abi::layout;
use edge_abi::ocall::Ocall;
use linux_abi::Errno;
use sgx_arch::{PageType, SecinfoFlags};
use sgx_device::{EnclaveRun, Exit, Leaf, SgxDevice, SgxEnclave};
use sgx_image::{Content, SignedEnclave};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Takes log lines: a level of [`LogLevel`] (0 is `--strace` output) and a text.
pub type LogSink = Box<dyn Fn(u64, &str) + Send + Sync>;

/// How to load an enclave.
pub struct LoadOptions {
    /// Lines of the LibOS.
    pub log: LogSink,
    /// Which of them are wanted; a release enclave sends none.
    pub log_level: LogLevel,
    /// Whether decoded system calls are wanted.
    pub strace: bool,
    /// Host folders for hostfs: `(host path, guest path, writable)`. The enclave takes them only if its measured
    /// configuration says so.
    pub mounts: Vec<(Vec<u8>, Vec<u8>, bool)>,
    /// Whether SIGINT and its kind go to the program.
    pub forward_signals: bool,
}

/// A program to run.
pub struct ProcessOptions {
    /// Path in the enclave.
    pub path: Vec<u8>,
    /// Arguments, the zeroth included.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Working directory in the enclave.
    pub cwd: Vec<u8>,
    /// Host descriptors of stdin, stdout and stderr; -1 for none.
    pub stdio: [i32; 3],
}

/// How a program ended, in the encoding of `wait(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub u32);

impl WaitStatus {
    /// The exit code that a shell would show: the code, or 128 + the signal.
    #[must_use]
    pub const fn shell_code(self) -> u8 {
        let signal = (self.0 & 0x7f) as u8;
        if signal == 0 { (self.0 >> 8) as u8 } else { 128 + signal }
    }
}

/// When an ECALL is tried again that found no slot.
const RETRY: Duration = Duration::from_millis(4);

/// What every host thread of an enclave shares.
pub(crate) struct Shared {
    pub(crate) enclave: Box<dyn SgxEnclave>,
    pub(crate) log: LogSink,
    pub(crate) timer: Timer,
    pub(crate) pool: Pool,
    pub(crate) readiness: Readiness,
    pub(crate) rings: Rings,
    pub(crate) slots: Slots,
    sweeper: Sweeper,
    counts: Vec<AtomicU64>,
    image: Mapping,
    /// Why the enclave stopped. No thread enters it again.
    lost: OnceLock<String>,
}

/// A loaded enclave whose LibOS runs.
pub struct Enclave {
    shared: Arc<Shared>,
}

impl Enclave {
    /// Builds the enclave on a machine and starts its LibOS with an image file.
    ///
    /// # Errors
    /// [`PalError`]: the file, the machine or the LibOS refused.
    pub fn load(
        device: &dyn SgxDevice,
        file: &[u8],
        image: &File,
        options: LoadOptions,
    ) -> Result<Self, PalError> {
        let signed = SignedEnclave::from_bytes(file).map_err(PalError::EnclaveFile)?;
        let machine = device.name();
        let step = |step| move |source| PalError::Machine { step, machine, source };
        let host = |step| move |source| PalError::Host { step, source };

        let enclave = device.create(&signed.secs(device.xfrm())).map_err(step("create the enclave"))?;
        for chunk in signed.chunks() {
            add(&*enclave, chunk).map_err(step("add pages"))?;
        }
        enclave.init(signed.sigstruct()).map_err(step("initialize the enclave"))?;
        map(&*enclave, &signed).map_err(step("map the enclave"))?;

        raise_file_limit();
        let slots = Slots::new(signed.layout().max_threads);
        slots.grow(signed.layout().initial_threads).map_err(host("make the thread channels"))?;
        let shared = Arc::new(Shared {
            enclave,
            log: options.log,
            timer: Timer::new(),
            pool: Pool::default(),
            readiness: Readiness::default(),
            rings: Rings::default(),
            slots,
            sweeper: Sweeper::new(),
            counts: (0..=highest_ocall()).map(|_| AtomicU64::new(0)).collect(),
            image: Mapping::of(image).map_err(host("map the image file"))?,
            lost: OnceLock::new(),
        });
        if options.forward_signals {
            let weak = Arc::downgrade(&shared);
            signals::forward(move |signal| weak.upgrade().is_some_and(|shared| shared.kill(signal).is_ok()))
                .map_err(host("start forwarding signals"))?;
        }
        shared.enclave.prepare_thread().map_err(step("prepare a thread"))?;
        let this = Self { shared };
        this.init(device, &options.mounts, options.log_level, options.strace)?;
        Ok(this)
    }

    fn init(
        &self,
        device: &dyn SgxDevice,
        mounts: &[(Vec<u8>, Vec<u8>, bool)],
        log_level: LogLevel,
        strace: bool,
    ) -> Result<(), PalError> {
        let table = cpuid::table(device.xfrm());
        let mut mount_bytes = Vec::new();
        for (host, guest, writable) in mounts {
            let mode: &[u8] = if *writable { b"rw" } else { b"ro" };
            for field in [host.as_slice(), guest.as_slice(), mode] {
                mount_bytes.extend_from_slice(field);
                mount_bytes.push(0);
            }
        }
        let host_files = host_files();
        let args = Box::new(InitArgs {
            version: EDGE_VERSION,
            log_level: log_level as u32,
            image: self.shared.image.range(),
            tsc_hz: 0,
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            strace: u32::from(strace),
            host_memory: host_memory(),
            has_rdtsc: 1,
            map_hint: 1,
            mounts: range(&mount_bytes),
            cpuid: range(zerocopy::IntoBytes::as_bytes(table.as_slice())),
            host_files: range(&host_files),
        });
        self.shared.ecall("Init", Ecall::Init, [&raw const *args as u64, 0])?;
        Ok(())
    }

    /// Runs a program to its end on the calling thread.
    ///
    /// # Errors
    /// [`PalError::Ecall`] with the errno of NewProcess or RunThread; [`PalError::Lost`].
    pub fn run(&self, options: &ProcessOptions) -> Result<WaitStatus, PalError> {
        let argv = joined(&options.argv);
        let envp = joined(&options.envp);
        let args = Box::new(ProcessArgs {
            path: range(&options.path),
            argv: range(&argv),
            envp: range(&envp),
            stdio: options.stdio,
            reserved: 0,
            cwd: range(&options.cwd),
        });
        let pid = self.shared.ecall("NewProcess", Ecall::NewProcess, [&raw const *args as u64, 0])?;
        let status = self.shared.ecall("RunThread", Ecall::RunThread, [pid, 0])?;
        Ok(WaitStatus(status as u32))
    }

    /// Counters of the LibOS and of the border, as text. Empty for a release enclave.
    ///
    /// # Errors
    /// [`PalError::Lost`].
    pub fn statistics(&self) -> Result<String, PalError> {
        let shared = &self.shared;
        let mut text = match shared.with_slot(|slot| {
            let len = shared.enter(slot, Ecall::Statistics, [0, 0])?;
            Ok(len.map(|len| {
                String::from_utf8_lossy(slot.channel.buffer().get(..len as usize).unwrap_or_default())
                    .into_owned()
            }))
        })? {
            Ok(text) => text,
            Err(_) => return Ok(String::new()),
        };
        text.push_str("enclave exits by OCALL:\n");
        for &(call, name) in Ocall::ALL {
            let count = shared.counts.get(call as usize).map_or(0, |count| count.load(Ordering::Relaxed));
            if count != 0 {
                text.push_str(&format!("  {count:>10}  {name}\n"));
            }
        }
        Ok(text)
    }
}

fn add(enclave: &dyn SgxEnclave, chunk: &sgx_image::Chunk<'_>) -> io::Result<()> {
    match &chunk.content {
        Content::Bytes(bytes) => enclave.add_pages(bytes, chunk.offset, &chunk.secinfo, chunk.measure),
        Content::Zeros(len) => {
            static ZEROS: [u8; 65536] = [0; 65536];
            let mut done = 0;
            while done < *len {
                let part = (*len - done).min(ZEROS.len() as u64);
                let zeros = ZEROS.get(..part as usize).unwrap_or_default();
                enclave.add_pages(zeros, chunk.offset + done, &chunk.secinfo, chunk.measure)?;
                done += part;
            }
            Ok(())
        }
    }
}

/// Opens the mapping as wide as the enclave's own permissions will ever be: they, not the page tables, decide.
fn map(enclave: &dyn SgxEnclave, signed: &SignedEnclave<'_>) -> io::Result<()> {
    let fixed = signed.layout();
    let all = SecinfoFlags::RWX.bits();
    enclave.map_permissions(fixed.user_base, fixed.user_end - fixed.user_base, all)?;
    enclave.map_permissions(fixed.heap_base, fixed.heap_limit, SecinfoFlags::RW.bits())?;
    let slots = layout::thread_slot(0)..layout::thread_slot(fixed.max_threads);
    enclave.map_permissions(slots.start, slots.end - slots.start, SecinfoFlags::RW.bits())?;
    for chunk in signed.chunks() {
        let flags = chunk.secinfo.flags;
        let is_tcs = flags.page_type() == Some(PageType::Tcs);
        let permissions = if is_tcs { SecinfoFlags::RW } else { flags.permissions() };
        enclave.map_permissions(chunk.offset, chunk.content.len(), permissions.bits())?;
    }
    Ok(())
}

/// Lets the process have as many descriptors as it may: how many a program may have is for the LibOS to say.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the limits.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: limits that were read. A failure leaves the lower one.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn highest_ocall() -> u64 {
    Ocall::ALL.iter().map(|&(call, _)| call as u64).max().unwrap_or(0)
}

fn range(bytes: &[u8]) -> HostRange {
    HostRange { address: bytes.as_ptr() as u64, len: bytes.len() as u64 }
}

fn joined(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect()
}

/// `NAME\0CONTENT\0` for the host files that programs in the enclave look at.
fn host_files() -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        // A minimal host may lack any of them.
        let Ok(content) = std::fs::read(name) else { continue };
        if content.contains(&0) {
            continue;
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&content);
        bytes.push(0);
    }
    bytes
}

fn host_memory() -> u64 {
    // SAFETY: no pointers are involved.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: as above.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(size).unwrap_or(0))
}

impl Shared {
    /// Counts an OCALL.
    pub(crate) fn count(&self, call: Ocall) {
        if let Some(count) = self.counts.get(call as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `body` with a free slot.
    pub(crate) fn with_slot<T>(
        self: &Arc<Self>,
        body: impl FnOnce(&Slot) -> Result<T, PalError>,
    ) -> Result<T, PalError> {
        let Some(slot) = self.slots.take() else {
            return Err(PalError::Ecall { call: "an ECALL (no thread slot is free)", errno: Errno::EAGAIN });
        };
        self.on_slot(slot, body)
    }

    /// Runs `body` with a slot that was taken, and gives it back.
    pub(crate) fn on_slot<T>(
        self: &Arc<Self>,
        slot: &Slot,
        body: impl FnOnce(&Slot) -> Result<T, PalError>,
    ) -> Result<T, PalError> {
        let result = body(slot);
        self.slots.give_back(slot);
        self.pool.start_due(self);
        result
    }

    /// Runs a LibOS thread on a slot to its end.
    pub(crate) fn run_thread(self: &Arc<Self>, slot: &Slot, tid: u64) -> Result<(), PalError> {
        self.enter(slot, Ecall::RunThread, [tid, 0])?
            .map(|_| ())
            .map_err(|errno| PalError::Ecall { call: "RunThread", errno })
    }

    /// Makes an ECALL on a free slot.
    fn ecall(self: &Arc<Self>, name: &'static str, call: Ecall, args: [u64; 2]) -> Result<u64, PalError> {
        self.with_slot(|slot| self.enter(slot, call, args))?
            .map_err(|errno| PalError::Ecall { call: name, errno })
    }

    /// Enters the enclave on a slot until the ECALL is done.
    fn enter(
        self: &Arc<Self>,
        slot: &Slot,
        call: Ecall,
        args: [u64; 2],
    ) -> Result<Result<u64, Errno>, PalError> {
        let _entered = slot.begin();
        slot.channel.set_frame([args[0], args[1], 0, 0, 0, 0]);
        // Whether the enclave looks at what happened to it, and whether more has happened since it began.
        let (mut is_looking, mut must_look_again) = (false, false);
        let mut run = EnclaveRun {
            tcs: slot.tcs,
            leaf: Leaf::Eenter,
            rdi: call as u64,
            rsi: slot.channel.frame_address(),
            rdx: 0,
            r8: 0,
            r9: 0,
        };
        loop {
            if let Some(reason) = self.lost.get() {
                return Err(PalError::Lost(reason.clone()));
            }
            match self.enclave.enter(&mut run) {
                Exit::Eexit if run.rdi == EXIT_OCALL => {
                    ocalls::serve(self, slot);
                    run.leaf = Leaf::Eenter;
                    run.rdi = ENTER_OCALL_RETURN;
                    run.rdx = slot.take_interrupt().into();
                }
                Exit::Eexit if run.rdi == EXIT_RESUME => {
                    is_looking = std::mem::take(&mut must_look_again);
                    run.leaf = if is_looking { Leaf::Eenter } else { Leaf::Eresume };
                    run.rdi = 0;
                }
                Exit::Eexit if run.rdi == EXIT_DONE => break,
                Exit::Eexit if run.rdi == EXIT_ABORT => return Err(self.lose(abort_reason(slot))),
                Exit::Eexit => {
                    return Err(self.lose(format!("it left with an unknown code {}", run.rdi)));
                }
                // One interrupt in another, and so on, would need SSA frames without end.
                Exit::Interrupt if is_looking => {
                    slot.take_interrupt();
                    must_look_again = true;
                    run.leaf = Leaf::Eresume;
                }
                // The enclave looks at what happened in its SSA.
                exit @ (Exit::Exception { .. } | Exit::Interrupt) => {
                    if exit == Exit::Interrupt {
                        slot.take_interrupt();
                    }
                    is_looking = true;
                    run.leaf = Leaf::Eenter;
                    run.rdi = 0;
                }
                Exit::Failed => return Err(self.lose("its thread cannot be entered".to_owned())),
            }
        }
        let result = slot.channel.frame().result;
        Ok(match Errno::from_number(result.wrapping_neg()) {
            Some(errno) => Err(errno),
            None => Ok(result),
        })
    }

    /// Interrupts the thread of a slot, in user code or asleep.
    pub(crate) fn interrupt(self: &Arc<Self>, index: u64) {
        if let Some(slot) = self.slots.get(index) {
            slot.interrupt();
            let weak = Arc::downgrade(self);
            self.sweeper.note(move || weak.upgrade().map_or(Found::TheEnd, |shared| shared.sweep()));
        }
    }

    /// Interrupts again who has not heard of it.
    fn sweep(&self) -> Found {
        let slots = (0..self.slots.len()).filter_map(|index| self.slots.get(index));
        let again = slots.filter(|slot| slot.interrupt_again()).count();
        if again > 0 { Found::Somebody } else { Found::Nothing }
    }

    /// Ends all that run in an enclave that stopped: what one thread left undone, the others would wait for without end.
    fn lose(self: &Arc<Self>, reason: String) -> PalError {
        let first = self.lost.get_or_init(|| reason).clone();
        for index in 0..self.slots.len() {
            self.interrupt(index);
        }
        PalError::Lost(first)
    }

    /// Has the enclave take edges. Returns whether there is one.
    pub(crate) fn tell_of_edges(self: &Arc<Self>, events: &[(u64, u32)]) -> bool {
        self.readiness.note(events);
        if self.enclave.prepare_thread().is_err() {
            return false;
        }
        // A thread that sleeps may be faster.
        while self.readiness.has_news() {
            match self.ecall("Ready", Ecall::Ready, [0; 2]) {
                Ok(_) => {}
                Err(PalError::Lost(_)) => return false,
                // No slot is free.
                Err(_) => std::thread::sleep(RETRY),
            }
        }
        true
    }

    /// Passes a signal to every program.
    fn kill(self: &Arc<Self>, signal: i32) -> Result<(), PalError> {
        self.enclave
            .prepare_thread()
            .map_err(|source| PalError::Host { step: "prepare the signal thread", source })?;
        let all = (-1i64).cast_unsigned();
        self.ecall("Kill", Ecall::Kill, [all, signal.cast_unsigned().into()]).map(|_| ())
    }
}

/// What the exception handler left in the buffer.
fn abort_reason(slot: &Slot) -> String {
    let buffer = slot.channel.buffer();
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(0).min(512);
    let text = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
    if text.is_empty() { "it gave no reason (a release enclave never does)".to_owned() } else { text }
}

/// A file mapped read-only, for the enclave to copy from.
struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

// SAFETY: the mapping is only read, and only by the enclave.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Self { address: std::ptr::null_mut(), len });
        }
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, len }) }
    }

    fn range(&self) -> HostRange {
        HostRange { address: self.address as u64, len: self.len as u64 }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: our mapping; the enclave, which could read it, is gone with `Shared`.
            unsafe { libc::munmap(self.address, self.len) };
        }
    }
}

#[cfg(test)]
mod tests;
