//! The running enclave: ECALL dispatch and the [`Platform`].

use crate::ocall::{self, Channel};
use crate::outside::Outside;
use crate::{area, clock, copy, heap, pages, random, slots, user, xstate};
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::cell::RefCell;
use core::fmt;
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use edge_abi::EDGE_VERSION;
use edge_abi::ecall::{CpuidEntry, Ecall, HostRange, InitArgs, ProcessArgs};
use edge_abi::layout::EnclaveLayout;
use edge_abi::ocall::{BUFFER_LEN, EdgeFrame, Ocall};
use linux_abi::Errno;
use platform::{
    Clocks, CpuidResult, Entropy, HostError, HostFacts, HostFd, HostResult, ImageFile, Level, Log,
    OutOfMemory, PageRange, Park, Platform, Protection, Scheduling, ThreadHandle, Threads, Trap, UserCpu,
    UserFault, UserMemory, UserPages, UserRegisters, VdsoFunctions,
};
use sgx_arch::SecinfoFlags;
use spin::Once;

/// Extended features that this LibOS lets programs use: x87, SSE, AVX, AVX-512.
const FEATURES: u64 = 0xe7;
/// Most bytes of arguments and environment of a process from outside.
const PROCESS_BYTES: u64 = 2 << 20;
/// Most rows of a CPUID table.
const CPUID_ROWS: u64 = 256;
/// Most bytes of the other tables of `InitArgs`.
const TABLE_BYTES: u64 = 1 << 20;

/// What the LibOS does for the host. The errnos are those of [`Ecall`].
#[allow(clippy::missing_errors_doc, reason = "edge_abi::Ecall states the errnos of each call")]
pub trait Ecalls: Sync {
    /// [`Ecall::Init`].
    fn init(&self, start: Start) -> Result<(), Errno>;
    /// [`Ecall::NewProcess`].
    fn new_process(&self, request: ProcessRequest) -> Result<u64, Errno>;
    /// [`Ecall::RunThread`].
    fn run_thread(&self, tid: u64) -> Result<u64, Errno>;
    /// [`Ecall::Kill`].
    fn kill(&self, pid: i64, signal: u64) -> Result<(), Errno>;
    /// [`Ecall::Ready`].
    fn ready(&self);
    /// [`Ecall::Statistics`].
    fn statistics(&self) -> String;
}

/// What the LibOS starts with.
pub struct Start {
    /// The measured boot configuration.
    pub config: Vec<u8>,
    /// Host folders, untrusted, as [`InitArgs::mounts`] encodes them.
    pub mounts: Vec<u8>,
    /// Host files such as `/etc/resolv.conf`, untrusted, as [`InitArgs::host_files`] encodes them.
    pub host_files: Vec<u8>,
}

/// A process that the host asks for.
pub struct ProcessRequest {
    /// Path of the program.
    pub path: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment, untrusted.
    pub envp: Vec<Vec<u8>>,
    /// Host descriptors of stdin, stdout and stderr.
    pub stdio: [Option<HostFd>; 3],
    /// Working directory.
    pub cwd: Vec<u8>,
}

/// What the first ECALL fixes for good.
struct Facts {
    host: HostFacts,
    image: Outside,
    /// In the order of [`cpuid_key`].
    cpuid: Vec<CpuidEntry>,
}

/// Leaf and subleaf; u32::MAX: of all subleaves that have no row.
const fn cpuid_key(row: &CpuidEntry) -> (u32, u32) {
    (row.leaf, row.subleaf)
}

static STARTED: AtomicBool = AtomicBool::new(false);
static FACTS: Once<Facts> = Once::new();
static DEBUGGABLE: AtomicBool = AtomicBool::new(false);
static LOG_LEVEL: AtomicU32 = AtomicU32::new(0);
static STRACE: AtomicBool = AtomicBool::new(false);

/// Whether this is a debug enclave, whose lines may leave.
pub(crate) fn debuggable() -> bool {
    DEBUGGABLE.load(Ordering::Relaxed)
}

pub(crate) fn layout() -> EnclaveLayout {
    let address = area::get::<{ area::LAYOUT }>() as *const EnclaveLayout;
    // SAFETY: the builder put a measured, read-only EnclaveLayout there.
    unsafe { address.read() }
}

/// Serves an ECALL: the image's entry point calls it with what the host put in RDI and RSI.
///
/// `entry` is the address of that entry point.
pub fn dispatch(ecalls: &dyn Ecalls, entry: u64, number: u64, frame: u64) {
    // SAFETY: no user state is in the registers of a fresh ECALL.
    unsafe { area::set::<{ area::XSTATE_SAVED }>(1) };
    // SAFETY: XGETBV is legal in an enclave, where XCR0 is SECS.ATTRIBUTES.XFRM; the leaving path reads the word.
    unsafe { area::set::<{ area::XFRM }>(xcr0() & FEATURES) };
    let range = HostRange { address: frame, len: size_of::<EdgeFrame>() as u64 };
    let Some(frame) = Outside::new(range) else { return };
    let Some(given) = frame.read::<EdgeFrame>(0) else { return };
    let result = match Outside::new(HostRange { address: given.buffer, len: given.buffer_len }) {
        Some(buffer) if buffer.len() >= BUFFER_LEN as u64 => {
            // SAFETY: the three ranges were checked, and `Channel::current` checks them again.
            unsafe { area::set::<{ area::FRAME }>(range.address) };
            // SAFETY: as above.
            unsafe { area::set::<{ area::BUFFER }>(given.buffer) };
            // SAFETY: as above.
            unsafe { area::set::<{ area::BUFFER_LEN }>(given.buffer_len) };
            serve(ecalls, entry, number, &given.args)
        }
        _ => Err(Errno::EFAULT),
    };
    let value = result.unwrap_or_else(Errno::as_return);
    let _ = frame.write(core::mem::offset_of!(EdgeFrame, result) as u64, &value);
    // SAFETY: the thread has no channel between ECALLs.
    unsafe { area::set::<{ area::FRAME }>(0) };
}

fn serve(ecalls: &dyn Ecalls, entry: u64, number: u64, args: &[u64; 6]) -> Result<u64, Errno> {
    let [a0, a1, ..] = *args;
    match Ecall::from_number(number).ok_or(Errno::ENOSYS)? {
        Ecall::Init => {
            slots::set_entry(entry);
            init(ecalls, a0).map(|()| 0)
        }
        _ if !STARTED.load(Ordering::Acquire) => Err(Errno::EAGAIN),
        Ecall::NewProcess => {
            let request = process_request(a0)?;
            // The thread that the host runs it on.
            slots::reserve().map_err(|_| Errno::EAGAIN)?;
            ecalls.new_process(request).inspect_err(|_| slots::release())
        }
        Ecall::RunThread => {
            let result = ecalls.run_thread(a0);
            if result != Err(Errno::ESRCH) {
                slots::release();
            }
            result
        }
        Ecall::Kill => ecalls.kill(a0.cast_signed(), a1).map(|()| 0),
        Ecall::Statistics => statistics(ecalls),
        Ecall::Ready => {
            ecalls.ready();
            Ok(0)
        }
    }
}

fn init(ecalls: &dyn Ecalls, address: u64) -> Result<(), Errno> {
    let args: InitArgs =
        outside(HostRange { address, len: size_of::<InitArgs>() as u64 })?.read(0).ok_or(Errno::EFAULT)?;
    if args.version != EDGE_VERSION {
        return Err(Errno::EPROTO);
    }
    if FACTS.is_completed() {
        return Err(Errno::EALREADY);
    }
    let layout = layout();
    DEBUGGABLE.store(layout.debuggable == 1, Ordering::Relaxed);
    heap::LIMIT.store(layout.heap_base.saturating_add(layout.heap_limit), Ordering::Relaxed);
    pages::LIMIT.store(layout.user_limit, Ordering::Relaxed);
    slots::init(layout.initial_threads);
    pages::MAP_HINT.store(args.map_hint == 1, Ordering::Relaxed);
    if debuggable() {
        LOG_LEVEL.store(args.log_level.min(5), Ordering::Relaxed);
        STRACE.store(args.strace == 1, Ordering::Relaxed);
    }
    platform::sync::on_contention(offer_cpu);
    clock::HAS_RDTSC.store(args.has_rdtsc == 1, Ordering::Relaxed);
    xstate::init(xcr0() & FEATURES);

    let rows = args.cpuid.len / size_of::<CpuidEntry>() as u64;
    if rows > CPUID_ROWS {
        return Err(Errno::EINVAL);
    }
    let table = outside(args.cpuid)?;
    let mut cpuid = Vec::new();
    for row in 0..rows {
        cpuid.push(table.read(row * size_of::<CpuidEntry>() as u64).ok_or(Errno::EFAULT)?);
    }
    cpuid.sort_by_key(cpuid_key);
    let facts = Facts {
        host: HostFacts { cpus: args.cpus.max(1), memory: args.host_memory },
        image: outside(args.image)?,
        cpuid,
    };
    let start = Start {
        config: config_bytes(&layout),
        mounts: bytes(args.mounts, TABLE_BYTES)?,
        host_files: bytes(args.host_files, TABLE_BYTES)?,
    };
    let mut is_first = false;
    FACTS.call_once(|| {
        is_first = true;
        facts
    });
    if !is_first {
        return Err(Errno::EALREADY);
    }
    ecalls.init(start)?;
    STARTED.store(true, Ordering::Release);
    Ok(())
}

fn config_bytes(layout: &EnclaveLayout) -> Vec<u8> {
    // SAFETY: the builder put `config_len` measured bytes there, which nobody writes.
    unsafe { core::slice::from_raw_parts(layout.config as *const u8, layout.config_len as usize) }.to_vec()
}

fn statistics(ecalls: &dyn Ecalls) -> Result<u64, Errno> {
    if !debuggable() {
        return Err(Errno::EPERM);
    }
    let mut text = ecalls.statistics();
    let _ = fmt::Write::write_fmt(
        &mut text,
        format_args!(
            "user memory committed: {} KiB\nkernel heap committed: {} KiB\n",
            pages::committed() / 1024,
            heap::committed() / 1024
        ),
    );
    let channel = Channel::current().ok_or(Errno::EFAULT)?;
    let len = text.len().min(channel.capacity());
    let part = text.as_bytes().get(..len).unwrap_or_default();
    channel.put(0, part).map_err(|error| error.0)?;
    Ok(len as u64)
}

fn process_request(address: u64) -> Result<ProcessRequest, Errno> {
    let args: ProcessArgs =
        outside(HostRange { address, len: size_of::<ProcessArgs>() as u64 })?.read(0).ok_or(Errno::EFAULT)?;
    let total = args.argv.len.saturating_add(args.envp.len);
    if total > PROCESS_BYTES {
        return Err(Errno::E2BIG);
    }
    Ok(ProcessRequest {
        path: bytes(args.path, 4096)?,
        argv: strings(&bytes(args.argv, PROCESS_BYTES)?),
        envp: strings(&bytes(args.envp, PROCESS_BYTES)?),
        stdio: args.stdio.map(|fd| (fd >= 0).then_some(HostFd(fd))),
        cwd: bytes(args.cwd, 4096)?,
    })
}

/// Splits NUL-terminated strings.
fn strings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let whole = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { whole.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect() }
}

fn outside(range: HostRange) -> Result<Outside, Errno> {
    if range.len == 0 {
        // An empty range needs no address.
        return Outside::new(HostRange { address: edge_abi::layout::ELRANGE_SIZE, len: 0 })
            .ok_or(Errno::EFAULT);
    }
    Outside::new(range).ok_or(Errno::EFAULT)
}

fn bytes(range: HostRange, most: u64) -> Result<Vec<u8>, Errno> {
    if range.len > most {
        return Err(Errno::E2BIG);
    }
    let mut copy = alloc::vec![0; range.len as usize];
    if outside(range)?.load(0, &mut copy) { Ok(copy) } else { Err(Errno::EFAULT) }
}

fn xcr0() -> u64 {
    let low: u32;
    let high: u32;
    // SAFETY: XGETBV of XCR0 is legal in an enclave and only writes its registers.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The platform of an enclave.
#[derive(Clone, Copy, Debug)]
pub struct Runtime;

impl UserCpu for Runtime {
    fn run_user(&self, registers: &RefCell<UserRegisters>, kernel: &mut dyn FnMut(Trap) -> ControlFlow<()>) {
        user::run_user(registers, kernel);
    }

    fn xstate_reset(&self) {
        xstate::reset();
    }

    fn xstate_len(&self) -> usize {
        xstate::len() as usize
    }

    fn xstate_features(&self) -> u64 {
        area::get::<{ area::XFRM }>()
    }

    fn xstate_save(&self, into: &mut [u8]) {
        xstate::save(into);
    }

    fn xstate_restore(&self, from: &[u8]) {
        xstate::restore(from, self.xstate_features());
    }

    fn syscall_entry(&self) -> u64 {
        user::syscall_entry_address()
    }

    fn cpuid_entry(&self) -> u64 {
        user::cpuid_entry_address()
    }

    fn vdso(&self) -> Option<VdsoFunctions> {
        self.has_rdtsc().then_some(VdsoFunctions {
            clock_gettime: clock::vdso_clock_gettime as *const () as u64,
            gettimeofday: clock::vdso_gettimeofday as *const () as u64,
        })
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let table = FACTS.get().map_or(&[][..], |facts| &facts.cpuid);
        let find = |subleaf| table.binary_search_by_key(&(leaf, subleaf), cpuid_key).ok();
        let row = find(subleaf).or_else(|| find(u32::MAX)).and_then(|index| table.get(index));
        row.map_or_else(CpuidResult::default, |row| CpuidResult {
            eax: row.eax,
            ebx: row.ebx,
            ecx: row.ecx,
            edx: row.edx,
        })
    }

    fn has_rdtsc(&self) -> bool {
        clock::HAS_RDTSC.load(Ordering::Relaxed)
    }

    fn tsc(&self) -> u64 {
        if self.has_rdtsc() { clock::tsc() } else { self.monotonic_ns().saturating_mul(2) }
    }
}

impl UserMemory for Runtime {
    fn user_load(&self, from: u64, into: &mut [u8]) -> Result<(), UserFault> {
        copy::load(from, into)
    }

    fn user_store(&self, into: u64, from: &[u8]) -> Result<(), UserFault> {
        copy::store(into, from)
    }

    fn user_fill(&self, into: u64, len: usize, byte: u8) -> Result<(), UserFault> {
        copy::fill(into, len, byte)
    }

    fn user_load_u32(&self, from: u64) -> Result<u32, UserFault> {
        copy::load_u32(from)
    }

    fn user_compare_exchange_u32(&self, at: u64, current: u32, new: u32) -> Result<u32, UserFault> {
        copy::compare_exchange_u32(at, current, new)
    }
}

impl UserPages for Runtime {
    fn user_range(&self) -> Range<u64> {
        let layout = layout();
        layout.user_base..layout.user_end
    }

    fn user_limit(&self) -> u64 {
        pages::LIMIT.load(Ordering::Relaxed)
    }

    fn commit(&self, range: PageRange, protection: Protection) -> Result<(), OutOfMemory> {
        pages::commit(range, protection)
    }

    fn protect(&self, range: PageRange, from: Protection, to: Protection) {
        pages::protect(range, from, to);
    }

    fn decommit(&self, range: PageRange) {
        pages::decommit(range);
    }

    fn conceal(&self, range: PageRange) {
        pages::map(range, SecinfoFlags::empty());
    }

    fn reveal(&self, range: PageRange) {
        pages::map(range, SecinfoFlags::RWX);
    }
}

impl ImageFile for Runtime {
    fn image_len(&self) -> u64 {
        FACTS.get().map_or(0, |facts| facts.image.len())
    }

    fn image_read(&self, offset: u64, into: &mut [u8]) -> HostResult<()> {
        let image = FACTS.get().ok_or(HostError(Errno::EIO))?.image;
        if image.load(offset, into) { Ok(()) } else { Err(HostError(Errno::EIO)) }
    }
}

impl Clocks for Runtime {
    fn monotonic_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        clock::realtime_ns()
    }

    fn thread_cpu_ns(&self) -> u64 {
        clock::thread_cpu_ns()
    }
}

impl Entropy for Runtime {
    fn fill_random(&self, into: &mut [u8]) {
        random::fill(into);
    }
}

/// The host runs other threads first, if there are any.
fn offer_cpu() {
    let _ = ocall::call(Ocall::Yield, [0; 6], 0);
}

impl Threads for Runtime {
    fn current(&self) -> ThreadHandle {
        ThreadHandle(area::get::<{ area::INDEX }>() as u32)
    }

    fn park(&self, deadline_ns: Option<u64>) -> Park {
        match ocall::call(Ocall::Park, [deadline_ns.unwrap_or(u64::MAX), 0, 0, 0, 0, 0], 1) {
            Ok(1) => Park::TimedOut,
            _ => Park::Woken,
        }
    }

    fn unpark(&self, thread: ThreadHandle) {
        let _ = ocall::call(Ocall::Unpark, [u64::from(thread.0), 0, 0, 0, 0, 0], 0);
    }

    fn interrupt(&self, thread: ThreadHandle) {
        let _ = ocall::call(Ocall::Interrupt, [u64::from(thread.0), 0, 0, 0, 0, 0], 0);
    }

    fn interrupt_at(&self, thread: ThreadHandle, deadline_ns: Option<u64>) {
        let args = [u64::from(thread.0), deadline_ns.unwrap_or(u64::MAX), 0, 0, 0, 0];
        let _ = ocall::call(Ocall::InterruptAt, args, 0);
    }

    fn start_thread(&self, tid: u32) -> HostResult<()> {
        let count = slots::reserve().map_err(|_| HostError(Errno::EAGAIN))?;
        let started = ocall::call(Ocall::StartThread, [u64::from(tid), count, 0, 0, 0, 0], 0);
        started.map(|_| ()).inspect_err(|_| slots::release())
    }

    fn yield_now(&self) {
        offer_cpu();
    }

    fn schedule(&self, thread: ThreadHandle, request: &Scheduling<'_>) -> HostResult<()> {
        crate::host::schedule(thread, request)
    }

    fn current_cpu(&self) -> u32 {
        let cpu = ocall::call(Ocall::CurrentCpu, [0; 6], u32::MAX.into()).unwrap_or(0);
        u32::try_from(cpu).unwrap_or(0)
    }
}

impl Log for Runtime {
    fn level(&self) -> Option<Level> {
        match LOG_LEVEL.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Level::Error),
            2 => Some(Level::Warn),
            3 => Some(Level::Info),
            4 => Some(Level::Debug),
            _ => Some(Level::Trace),
        }
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if self.level().is_some_and(|wanted| level <= wanted) {
            say(level as u64, line);
        }
    }

    fn wants_strace(&self) -> bool {
        STRACE.load(Ordering::Relaxed)
    }

    fn trace_line(&self, line: fmt::Arguments<'_>) {
        if self.wants_strace() {
            say(0, line);
        }
    }
}

/// Sends a line to the host. Level 0 is `--strace` output.
fn say(level: u64, line: fmt::Arguments<'_>) {
    if !debuggable() {
        return;
    }
    let text = alloc::fmt::format(line);
    let Some(channel) = Channel::current() else { return };
    let len = text.len().min(4096);
    if channel.put(0, text.as_bytes().get(..len).unwrap_or_default()).is_ok() {
        let _ = channel.call(Ocall::Log, [level, len as u64, 0, 0, 0, 0], 0);
    }
}

impl Platform for Runtime {
    fn host_facts(&self) -> HostFacts {
        FACTS.get().map_or_else(HostFacts::default, |facts| facts.host)
    }

    fn commit_copy_at_once(
        &self,
        address: u64,
        pages: &[&[u8; 4096]],
        protection: Protection,
    ) -> Result<(), OutOfMemory> {
        pages::commit_copy(address, pages, protection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_split_at_their_terminators() {
        assert_eq!(strings(b""), Vec::<Vec<u8>>::new());
        assert_eq!(strings(b"a\0bc\0"), [b"a".to_vec(), b"bc".to_vec()]);
        assert_eq!(strings(b"a\0\0"), [b"a".to_vec(), b"".to_vec()]);
    }
}
