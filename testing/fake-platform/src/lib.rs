//! A platform in memory, for tests of the kernel and the file systems.
//!
//! User memory is a map of pages with protections, so a missing `commit` or a wrong `protect` shows. "User code" is a
//! closure ([`FakePlatform::run`]) that gets the registers and returns a trap. The clock moves when a thread sleeps
//! or a test says so. Host files live in a map of paths; descriptors 0, 1 and 2 are there from the start.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a broken rule of the platform fails the test that broke it")]

mod cpu;
mod files;
mod memory;
mod net;
mod ring;

use files::Files;
use memory::Memory;
pub use net::Lie;
use net::Net;
use platform::{
    Clocks, Entropy, HostError, HostFacts, HostResult, ImageFile, Level, Log, Park, Platform, Scheduling,
    ThreadHandle, Threads, Trap, UserRegisters,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// User code of a test: looks at memory through the platform, changes registers, returns a trap.
pub type UserCode = Box<dyn FnMut(&FakePlatform, &mut UserRegisters) -> Trap + Send>;

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(0) };
}

/// How long a test thread waits for another before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Locks even if another test thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Policy, priority, nice value and processors that a thread asked for.
pub type Scheduled = (u32, u32, i32, Vec<u64>);

/// Who is to be woken, and when.
#[derive(Default)]
struct Sleepers {
    /// Tokens of `unpark`.
    tokens: BTreeSet<u32>,
    /// Those who sleep in `park` without a deadline.
    asleep: BTreeSet<u32>,
    /// Pending interrupts.
    interrupts: BTreeSet<u32>,
    /// Requests of `interrupt_at`.
    alarms: BTreeMap<u32, u64>,
    /// How many there were.
    alarm_requests: u64,
    /// Requests of `schedule`.
    scheduled: BTreeMap<u32, Scheduled>,
}

/// The platform.
pub struct FakePlatform {
    memory: Mutex<Memory>,
    files: Mutex<Files>,
    net: Mutex<Net>,
    code: Mutex<BTreeMap<u32, UserCode>>,
    sleepers: Mutex<Sleepers>,
    woken: Condvar,
    now_ns: AtomicU64,
    random: AtomicU64,
    image: Mutex<Vec<u8>>,
    lines: Mutex<Vec<(Level, String)>>,
    trace: Mutex<Option<Vec<String>>>,
    started: Mutex<Vec<u32>>,
    xstate: Mutex<Vec<u8>>,
}

impl FakePlatform {
    /// How often `interrupt_at` was called.
    pub fn alarm_requests(&self) -> u64 {
        lock(&self.sleepers).alarm_requests
    }

    /// How a thread was last asked to be scheduled.
    pub fn scheduled(&self, thread: ThreadHandle) -> Option<Scheduled> {
        lock(&self.sleepers).scheduled.get(&thread.0).cloned()
    }

    /// A platform with 256 MiB of user memory.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_user_limit(256 << 20)
    }

    /// A platform with so many bytes of user memory.
    #[must_use]
    pub fn with_user_limit(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::new(Memory::new(bytes)),
            files: Mutex::new(Files::new()),
            net: Mutex::new(Net::new()),
            code: Mutex::default(),
            sleepers: Mutex::default(),
            woken: Condvar::new(),
            now_ns: AtomicU64::new(1_000_000_000),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            image: Mutex::default(),
            lines: Mutex::default(),
            trace: Mutex::default(),
            started: Mutex::default(),
            xstate: Mutex::new(cpu::initial_xstate()),
        })
    }

    /// Makes the calling test thread the host thread of this number (0 at first).
    pub fn become_thread(number: u32) {
        CURRENT.with(|current| current.set(number));
    }

    /// Sets the user code of the calling thread.
    pub fn run(&self, code: impl FnMut(&Self, &mut UserRegisters) -> Trap + Send + 'static) {
        lock(&self.code).insert(CURRENT.with(Cell::get), Box::new(code));
    }

    /// Waits until the thread of this number sleeps in `park` without a deadline. Returns whether it does within ten seconds.
    #[must_use]
    pub fn falls_asleep(&self, number: u32) -> bool {
        let awake = |sleepers: &mut Sleepers| !sleepers.asleep.contains(&number);
        let sleepers = lock(&self.sleepers);
        let waited = self.woken.wait_timeout_while(sleepers, PATIENCE, awake);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Moves the clock.
    pub fn advance(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::SeqCst);
        self.ring();
    }

    /// Makes a host file; folders on the way are made too.
    pub fn add_host_file(&self, path: &str, content: &[u8]) {
        lock(&self.files).add(path.as_bytes(), content);
    }

    /// Content of a host file.
    #[must_use]
    pub fn host_file(&self, path: &str) -> Option<Vec<u8>> {
        lock(&self.files).content(path.as_bytes())
    }

    /// Nobody may open this host file for writing.
    pub fn protect_host_file(&self, path: &str) {
        lock(&self.files).protected.insert(path.as_bytes().to_vec());
    }

    /// It may be opened for writing again.
    pub fn unprotect_host_file(&self, path: &str) {
        lock(&self.files).protected.remove(path.as_bytes());
    }

    /// How many calls looked at host files by their names.
    #[must_use]
    pub fn file_calls(&self) -> usize {
        lock(&self.files).calls
    }

    /// How many host files are open.
    #[must_use]
    pub fn open_host_files(&self) -> usize {
        lock(&self.files).count_open()
    }

    /// What was written to a standard descriptor.
    #[must_use]
    pub fn output(&self, fd: i32) -> Vec<u8> {
        lock(&self.files).output(fd)
    }

    /// Has the next writes to standard descriptors end after so many bytes each, or with EINTR before the first.
    pub fn cut_writes(&self, lens: &[usize]) {
        lock(&self.files).cut_writes(lens);
    }

    /// What standard input will give.
    pub fn set_input(&self, bytes: &[u8]) {
        lock(&self.files).set_input(bytes);
    }

    /// Sets the image file.
    pub fn set_image(&self, image: Vec<u8>) {
        *lock(&self.image) = image;
    }

    /// Lines logged so far.
    #[must_use]
    pub fn log_lines(&self) -> Vec<(Level, String)> {
        lock(&self.lines).clone()
    }

    /// Asks for `--strace` lines.
    pub fn want_trace(&self) {
        *lock(&self.trace) = Some(Vec::new());
    }

    /// The `--strace` lines so far.
    #[must_use]
    pub fn trace_lines(&self) -> Vec<String> {
        lock(&self.trace).clone().unwrap_or_default()
    }

    /// Tids that [`Threads::start_thread`] was asked for; the test runs them.
    #[must_use]
    pub fn started_threads(&self) -> Vec<u32> {
        lock(&self.started).clone()
    }

    /// Number of committed user pages.
    #[must_use]
    pub fn committed_pages(&self) -> usize {
        lock(&self.memory).len()
    }

    /// Forgets all user memory, when the kernel is not used any more.
    pub fn forget_pages(&self) {
        *lock(&self.memory) = Memory::new(0);
    }

    /// Raises the interrupts whose time has come.
    fn ring(&self) {
        let now = self.now_ns.load(Ordering::SeqCst);
        let mut sleepers = lock(&self.sleepers);
        let due: Vec<u32> =
            sleepers.alarms.iter().filter(|&(_, &at)| at <= now).map(|(&thread, _)| thread).collect();
        for thread in due {
            sleepers.alarms.remove(&thread);
            sleepers.interrupts.insert(thread);
            sleepers.tokens.insert(thread);
        }
        self.woken.notify_all();
    }
}

impl Clocks for FakePlatform {
    fn monotonic_ns(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst)
    }

    fn realtime_ns(&self) -> u64 {
        1_700_000_000_000_000_000 + self.now_ns.load(Ordering::SeqCst)
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst) / 2
    }
}

impl Entropy for FakePlatform {
    fn fill_random(&self, into: &mut [u8]) {
        for byte in into {
            let mut state = self.random.load(Ordering::SeqCst);
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            self.random.store(state, Ordering::SeqCst);
            *byte = state.to_le_bytes()[3];
        }
    }
}

impl ImageFile for FakePlatform {
    fn image_len(&self) -> u64 {
        lock(&self.image).len() as u64
    }

    fn image_read(&self, offset: u64, into: &mut [u8]) -> HostResult<()> {
        let image = lock(&self.image);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(into.len()).and_then(|end| image.get(start..end));
        into.copy_from_slice(part.ok_or(HostError(linux_abi::Errno::EIO))?);
        Ok(())
    }
}

impl Log for FakePlatform {
    fn level(&self) -> Option<Level> {
        Some(Level::Debug)
    }

    fn log(&self, level: Level, line: std::fmt::Arguments<'_>) {
        lock(&self.lines).push((level, line.to_string()));
    }

    fn wants_strace(&self) -> bool {
        lock(&self.trace).is_some()
    }

    fn trace_line(&self, line: std::fmt::Arguments<'_>) {
        if let Some(lines) = &mut *lock(&self.trace) {
            lines.push(line.to_string());
        }
    }
}

impl Threads for FakePlatform {
    fn current(&self) -> ThreadHandle {
        ThreadHandle(CURRENT.with(Cell::get))
    }

    /// With a deadline the clock jumps to it, or to an alarm before it. Without one, the test thread sleeps until another
    /// wakes it; after ten seconds the test fails.
    fn park(&self, deadline_ns: Option<u64>) -> Park {
        let me = CURRENT.with(Cell::get);
        let mut sleepers = lock(&self.sleepers);
        if sleepers.tokens.remove(&me) {
            return Park::Woken;
        }
        let alarm = sleepers.alarms.get(&me).copied();
        let until = match (deadline_ns, alarm) {
            (Some(deadline), Some(alarm)) => Some(deadline.min(alarm)),
            (deadline, alarm) => deadline.or(alarm),
        };
        if let Some(until) = until {
            drop(sleepers);
            self.now_ns.fetch_max(until, Ordering::SeqCst);
            self.ring();
            let woken = lock(&self.sleepers).tokens.remove(&me);
            return if woken { Park::Woken } else { Park::TimedOut };
        }
        sleepers.asleep.insert(me);
        self.woken.notify_all();
        let is_not_woken = |sleepers: &mut Sleepers| !sleepers.tokens.contains(&me);
        let waited = self.woken.wait_timeout_while(sleepers, PATIENCE, is_not_woken);
        let (mut sleepers, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        sleepers.asleep.remove(&me);
        sleepers.tokens.remove(&me);
        drop(sleepers);
        assert!(!timeout.timed_out(), "thread {me} sleeps and nobody wakes it");
        Park::Woken
    }

    fn unpark(&self, thread: ThreadHandle) {
        lock(&self.sleepers).tokens.insert(thread.0);
        self.woken.notify_all();
    }

    fn interrupt(&self, thread: ThreadHandle) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.interrupts.insert(thread.0);
        sleepers.tokens.insert(thread.0);
        self.woken.notify_all();
    }

    fn interrupt_at(&self, thread: ThreadHandle, deadline_ns: Option<u64>) {
        let mut sleepers = lock(&self.sleepers);
        sleepers.alarm_requests += 1;
        match deadline_ns {
            Some(deadline) => sleepers.alarms.insert(thread.0, deadline),
            None => sleepers.alarms.remove(&thread.0),
        };
        drop(sleepers);
        self.ring();
    }

    fn start_thread(&self, tid: u32) -> HostResult<()> {
        lock(&self.started).push(tid);
        Ok(())
    }

    fn schedule(&self, thread: ThreadHandle, request: &Scheduling<'_>) -> HostResult<()> {
        let Scheduling { policy, priority, nice, cpus } = *request;
        lock(&self.sleepers).scheduled.insert(thread.0, (policy, priority, nice, cpus.to_vec()));
        Ok(())
    }

    fn current_cpu(&self) -> u32 {
        0
    }

    fn yield_now(&self) {
        std::thread::yield_now();
    }
}

impl Platform for FakePlatform {
    fn host_facts(&self) -> HostFacts {
        HostFacts { cpus: 2, memory: 8 << 30 }
    }
}
