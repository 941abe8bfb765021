//! CPU time. The host says how much its threads used, so it is for people, not for decisions.
//!
//! A thread can ask only about itself, so each stores what it knows of itself when it asks, is interrupted or ends; others see
//! that. The sum is what the host says. How much of it was system time is an estimate: of the system calls one in
//! [`LONGEST_PERIOD`] or so is timed and counts for those since the one before, what is rare anyway (faults, interrupts) is timed
//! always. As on Linux, user and system time never run backwards and add up to the sum.

use crate::thread::WORK_BARRIER;
use crate::{Ctx, Process};
use core::ops::Add;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kbase::sync::Mutex;
use platform::Platform;

/// System calls of a thread from one that is timed to the next, at the beginning.
const FIRST_PERIOD: u32 = 4;
/// The same in the long run.
const LONGEST_PERIOD: u32 = 64;
/// What takes longer is not believed to the clock, in nanoseconds.
const LONG_NS: u64 = 20_000;
/// So many times the host is asked instead.
const ASKS: u32 = 16;
/// Calls that are timed before the period doubles.
const SAMPLES_PER_PERIOD: u32 = 16;

/// CPU time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// In the program.
    pub(crate) user: u64,
    /// In the kernel, and in the host for it.
    pub(crate) system: u64,
}

impl Add for CpuTimes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user.saturating_add(other.user), system: self.system.saturating_add(other.system) }
    }
}

impl CpuTimes {
    /// Both together.
    pub(crate) const fn sum(self) -> u64 {
        self.user.saturating_add(self.system)
    }

    /// Of `sum`, which an estimate says was `system` in the kernel.
    fn split(sum: u64, system: u64) -> Self {
        let system = system.min(sum);
        Self { user: sum - system, system }
    }

    /// Goes on to what is known now. Neither part gets less.
    fn advance(&mut self, now: Self) {
        let sum = now.sum();
        if sum <= self.sum() {
            return;
        }
        let system = now.system.max(self.system).min(sum - self.user);
        *self = Self::split(sum, system);
    }
}

/// Chooses the system calls of a thread that are timed: at distances that vary, so that no loop of a program keeps step.
pub(crate) struct Sampler {
    /// Calls until the next one, with it.
    left: u32,
    /// How many it counts for.
    gap: u32,
    period: u32,
    samples: u32,
    random: u32,
}

impl Sampler {
    pub(crate) const fn new(seed: u32) -> Self {
        Self { left: FIRST_PERIOD, gap: FIRST_PERIOD, period: FIRST_PERIOD, samples: 0, random: seed | 1 }
    }

    /// Whether to time this call.
    #[inline]
    pub(crate) const fn is_due(&mut self) -> bool {
        self.left = self.left.wrapping_sub(1);
        self.left == 0
    }

    /// How many calls the one counts for that is due; chooses the next.
    fn take(&mut self) -> u64 {
        let gap = self.gap;
        self.samples += 1;
        if self.samples >= SAMPLES_PER_PERIOD && self.period < LONGEST_PERIOD {
            (self.samples, self.period) = (0, self.period * 2);
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // From 1 to twice the period, and the period on average.
        self.gap = 1 + self.random % (2 * self.period - 1);
        self.left = self.gap;
        gap.into()
    }
}

/// CPU time of a thread.
pub(crate) struct ThreadTimes {
    /// What its host thread had used when it started.
    base: AtomicU64,
    /// What it had used when it last looked.
    used: AtomicU64,
    /// How much of it was system time: the estimate.
    system: AtomicU64,
    /// Whether what it does now is timed.
    is_timed: AtomicBool,
    /// How long it used no CPU time since that began.
    idle: AtomicU64,
    /// How often the host is asked yet how long that took.
    asks: AtomicU32,
    /// What others were told.
    told: Mutex<CpuTimes>,
}

impl ThreadTimes {
    pub(crate) const fn new() -> Self {
        Self {
            base: AtomicU64::new(0),
            used: AtomicU64::new(0),
            system: AtomicU64::new(0),
            is_timed: AtomicBool::new(false),
            idle: AtomicU64::new(0),
            asks: AtomicU32::new(0),
            told: Mutex::new(CpuTimes { user: 0, system: 0 }),
        }
    }

    /// The thread starts on a host thread that has used so much.
    pub(crate) fn start(&self, host_ns: u64) {
        self.base.store(host_ns, Ordering::Relaxed);
    }

    /// The host thread has used so much now.
    fn update(&self, host_ns: u64) -> u64 {
        let used = host_ns.saturating_sub(self.base.load(Ordering::Relaxed));
        self.used.fetch_max(used, Ordering::Relaxed).max(used)
    }

    /// What it had used when it last looked, in nanoseconds.
    pub(crate) fn used_ns(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The same, as far as it is known.
    fn split(&self) -> CpuTimes {
        CpuTimes::split(self.used_ns(), self.system.load(Ordering::Relaxed))
    }

    /// Does something that is system time, and counts for so many of its kind. Not within itself.
    ///
    /// Usually by the clock, which goes on while the host runs something else instead: so what takes long is not believed, and
    /// the next ones are measured by the host's account of the thread.
    #[inline(never)]
    fn time<T>(&self, platform: &dyn Platform, weight: u64, act: impl FnOnce() -> T) -> T {
        // What counts for itself alone is not worth a question.
        let asks = if weight > 1 { self.asks.load(Ordering::Relaxed) } else { 0 };
        let used = (asks > 0).then(|| platform.thread_cpu_ns());
        let begin = platform.monotonic_ns();
        self.idle.store(0, Ordering::Relaxed);
        self.is_timed.store(true, Ordering::Relaxed);
        let value = act();
        self.is_timed.store(false, Ordering::Relaxed);
        let mut busy = match used {
            Some(used) => platform.thread_cpu_ns().saturating_sub(used),
            None => {
                let passed = platform.monotonic_ns().saturating_sub(begin);
                passed.saturating_sub(self.idle.load(Ordering::Relaxed))
            }
        };
        if weight == 1 {
            self.system.fetch_add(busy, Ordering::Relaxed);
            return value;
        }
        if busy > LONG_NS {
            self.asks.store(ASKS, Ordering::Relaxed);
            busy = if used.is_some() { busy } else { LONG_NS };
        } else {
            self.asks.store(asks.saturating_sub(1), Ordering::Relaxed);
        }
        self.system.fetch_add(busy.saturating_mul(weight), Ordering::Relaxed);
        value
    }

    /// Sleeps in `block`: if the call that does so is timed, without what the thread does not use of the CPU meanwhile.
    pub(crate) fn sleep<T>(&self, platform: &dyn Platform, block: impl FnOnce() -> T) -> T {
        if !self.is_timed.load(Ordering::Relaxed) {
            return block();
        }
        let (begin, used) = (platform.monotonic_ns(), platform.thread_cpu_ns());
        let value = block();
        let busy = platform.thread_cpu_ns().saturating_sub(used);
        let idle = platform.monotonic_ns().saturating_sub(begin).saturating_sub(busy);
        self.idle.fetch_add(idle, Ordering::Relaxed);
        value
    }
}

/// CPU time of a process.
pub(crate) struct ProcessTimes(Mutex<Ended>);

/// What is added when something ends.
struct Ended {
    /// What threads used.
    threads: CpuTimes,
    /// What children used that were waited for, and theirs.
    children: CpuTimes,
    /// What others were told of the process.
    told: CpuTimes,
}

impl ProcessTimes {
    pub(crate) const fn new() -> Self {
        const NONE: CpuTimes = CpuTimes { user: 0, system: 0 };
        Self(Mutex::new(Ended { threads: NONE, children: NONE, told: NONE }))
    }

    /// What children used that were waited for, and theirs.
    pub(crate) fn children(&self) -> CpuTimes {
        self.0.lock().children
    }

    /// Adds a child that was waited for.
    pub(crate) fn add_child(&self, child: &Process) {
        let used = child.cpu_times() + child.times.children();
        let mut ended = self.0.lock();
        ended.children = ended.children + used;
    }

    /// Adds a thread that ends.
    pub(super) fn add_ended(&self, thread: &ThreadTimes) {
        let mut ended = self.0.lock();
        ended.threads = ended.threads + thread.split();
    }
}

impl Process {
    /// Makes its threads, but for one, note how much CPU time they have used.
    pub(crate) fn ask_for_cpu_times(&self, except: u32) {
        for thread in self.threads() {
            // One that sleeps has noted it before.
            if thread.tid() != except && thread.handle().is_some() && !thread.has_work(WORK_BARRIER) {
                thread.request(WORK_BARRIER);
            }
        }
    }

    /// CPU time of its threads, as far as they know.
    pub(crate) fn cpu_times(&self) -> CpuTimes {
        let threads = self.threads();
        let running = threads.iter().map(|thread| thread.times.split()).fold(CpuTimes::default(), Add::add);
        let mut ended = self.times.0.lock();
        let now = running + ended.threads;
        ended.told.advance(now);
        ended.told
    }

    /// The same, user and system time together, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_times().sum()
    }
}

impl Ctx<'_> {
    /// CPU time of the calling thread, in nanoseconds.
    pub(crate) fn thread_cpu_ns(&self) -> u64 {
        self.thread.times.update(self.platform().thread_cpu_ns())
    }

    /// The same, divided.
    pub(crate) fn thread_cpu_times(&self) -> CpuTimes {
        self.thread_cpu_ns();
        let mut told = self.thread.times.told.lock();
        told.advance(self.thread.times.split());
        *told
    }

    /// CPU time of the calling process, in nanoseconds.
    pub(crate) fn process_cpu_ns(&self) -> u64 {
        self.process_cpu_times().sum()
    }

    /// The same, divided.
    pub(crate) fn process_cpu_times(&self) -> CpuTimes {
        self.thread_cpu_ns();
        self.process.cpu_times()
    }

    /// Serves a system call that the sampler chose.
    #[inline(never)]
    pub(crate) fn time_sample(&self, sampler: &mut Sampler, act: impl FnOnce()) {
        self.thread.times.time(self.platform(), sampler.take(), act);
    }

    /// Does something rare that is system time.
    pub(crate) fn time<T>(&self, act: impl FnOnce() -> T) -> T {
        self.thread.times.time(self.platform(), 1, act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_part_runs_backwards_when_the_estimate_does() {
        let mut told = CpuTimes::default();
        told.advance(CpuTimes { user: 60, system: 40 });
        told.advance(CpuTimes { user: 110, system: 0 });
        assert_eq!(told, CpuTimes { user: 70, system: 40 });
        told.advance(CpuTimes { user: 10, system: 120 });
        assert_eq!(told, CpuTimes { user: 70, system: 60 });
        told.advance(CpuTimes { user: 1, system: 1 });
        assert_eq!(told, CpuTimes { user: 70, system: 60 });
    }

    #[test]
    fn the_calls_that_are_timed_count_for_all_of_them() {
        let mut sampler = Sampler::new(7);
        let (mut timed, mut counted) = (0u64, 0);
        for _ in 0..100_000 {
            if sampler.is_due() {
                timed += 1;
                counted += sampler.take();
            }
        }
        assert!((99_800..=100_000).contains(&counted), "{counted}");
        assert!((1_200..2_000).contains(&timed), "{timed}");
    }
}
