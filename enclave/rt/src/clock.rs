//! Clocks from RDTSC, held to what the host says.
//!
//! The host's clocks are sampled rarely; between two samples the time stamp counter is scaled by the rate that the
//! samples gave. All of it is untrusted, but what comes out never runs backwards: a new sample that lies behind
//! what the old one predicts is moved up to it.
//!
//! What is needed to tell the time is published under a sequence counter, so that readers take no lock. User code
//! reads it too: the vDSO calls [`vdso_clock_gettime`] and its kin as ordinary functions of the program.

use crate::ocall::{self, Channel};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use edge_abi::ocall::{ClockSample, Ocall};
use spin::mutex::SpinMutex;

/// Below this distance two samples are too close to compute a rate from.
const CALIBRATION_NS: u64 = 2_000_000;
/// How long the first rate holds.
const FIRST_HORIZON_NS: u64 = 10_000_000;
/// Most time between two samples.
const LONGEST_NS: u64 = 1_000_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Whether `rdtsc` is legal.
pub(crate) static HAS_RDTSC: AtomicBool = AtomicBool::new(false);

/// How to tell the time from the time stamp counter.
#[derive(Clone, Copy, Default)]
struct Scale {
    /// A counter value, and the clocks at it.
    tsc: u64,
    monotonic_ns: u64,
    realtime_ns: u64,
    /// Nanoseconds per tick, 32.32 fixed point; 0 when unknown.
    rate: u64,
    /// Counter value up to which it holds.
    valid_until: u64,
}

impl Scale {
    fn at(&self, tsc: u64) -> Option<ClockSample> {
        if self.rate == 0 || tsc >= self.valid_until {
            return None;
        }
        let ticks = tsc.saturating_sub(self.tsc);
        let passed = ((u128::from(ticks) * u128::from(self.rate)) >> 32) as u64;
        Some(ClockSample {
            monotonic_ns: self.monotonic_ns.wrapping_add(passed),
            realtime_ns: self.realtime_ns.wrapping_add(passed),
        })
    }
}

/// The published [`Scale`]: `sequence` is odd while it changes.
struct Published {
    sequence: AtomicU64,
    words: [AtomicU64; 5],
}

static PUBLISHED: Published =
    Published { sequence: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 5] };

impl Published {
    /// Only one thread may store at a time.
    fn store(&self, scale: &Scale) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let values = [scale.tsc, scale.monotonic_ns, scale.realtime_ns, scale.rate, scale.valid_until];
        for (word, value) in self.words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// `None` while it changes.
    #[inline(always)]
    fn load(&self) -> Option<Scale> {
        let before = self.sequence.load(Ordering::Acquire);
        let [tsc, monotonic_ns, realtime_ns, rate, valid_until] = [0, 1, 2, 3, 4]
            .map(|index: usize| self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        let is_stable = before & 1 == 0 && self.sequence.load(Ordering::Relaxed) == before;
        is_stable.then_some(Scale { tsc, monotonic_ns, realtime_ns, rate, valid_until })
    }
}

/// What the samples taught.
struct Learner {
    first: Option<(u64, ClockSample)>,
    scale: Scale,
    horizon_ns: u64,
}

impl Learner {
    const fn new() -> Self {
        Self {
            first: None,
            scale: Scale { tsc: 0, monotonic_ns: 0, realtime_ns: 0, rate: 0, valid_until: 0 },
            horizon_ns: FIRST_HORIZON_NS,
        }
    }

    /// Takes a sample in and returns what the time is now: never before what it was.
    fn learn(&mut self, tsc: u64, sample: ClockSample) -> ClockSample {
        let (first_tsc, first) = *self.first.get_or_insert((tsc, sample));
        // What readers were told just before, whether the scale still holds or not.
        let told = Scale { valid_until: u64::MAX, ..self.scale }
            .at(tsc)
            .map_or(self.scale.monotonic_ns, |told| told.monotonic_ns);
        let told = if self.scale.rate == 0 { self.scale.monotonic_ns } else { told };
        let monotonic_ns = sample.monotonic_ns.max(told);
        self.scale = Scale { tsc, monotonic_ns, realtime_ns: sample.realtime_ns, ..self.scale };
        let ticks = tsc.saturating_sub(first_tsc);
        let passed = sample.monotonic_ns.saturating_sub(first.monotonic_ns);
        if passed >= CALIBRATION_NS && ticks != 0 {
            self.scale.rate = u64::try_from((u128::from(passed) << 32) / u128::from(ticks)).unwrap_or(0);
            let horizon = u128::from(self.horizon_ns) * u128::from(ticks) / u128::from(passed);
            self.scale.valid_until = tsc.saturating_add(u64::try_from(horizon).unwrap_or(0));
            self.horizon_ns = (self.horizon_ns * 4).min(LONGEST_NS);
        }
        ClockSample { monotonic_ns, realtime_ns: sample.realtime_ns }
    }
}

static LEARNER: SpinMutex<Learner> = SpinMutex::new(Learner::new());

/// The time stamp counter.
#[must_use]
#[inline(always)]
pub fn tsc() -> u64 {
    let low: u64;
    let high: u64;
    // SAFETY: RDTSC only writes its registers. Where it is illegal, the caller does not ask.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags)) };
    high << 32 | low
}

fn ask_host() -> ClockSample {
    let Some(channel) = Channel::current() else { return ClockSample::default() };
    if channel.call(Ocall::Clock, [0; 6], 0).is_err() {
        return ClockSample::default();
    }
    channel.take_value().unwrap_or_default()
}

fn now() -> ClockSample {
    let has_rdtsc = HAS_RDTSC.load(Ordering::Relaxed);
    if has_rdtsc && let Some(sample) = PUBLISHED.load().and_then(|scale| scale.at(tsc())) {
        return sample;
    }
    // Never hold the lock over the exit.
    let sample = ask_host();
    let mut learner = LEARNER.lock();
    let now = learner.learn(if has_rdtsc { tsc() } else { 0 }, sample);
    PUBLISHED.store(&learner.scale);
    now
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> u64 {
    now().monotonic_ns
}

/// Nanoseconds of CLOCK_REALTIME.
pub(crate) fn realtime_ns() -> u64 {
    now().realtime_ns
}

/// CPU time of the calling thread as the host says.
pub(crate) fn thread_cpu_ns() -> u64 {
    ocall::call(Ocall::ThreadCpu, [0; 6], u64::MAX >> 1).unwrap_or(0)
}

/// `struct timespec`, or `struct timeval`.
#[repr(C)]
struct Pair {
    seconds: u64,
    fraction: u64,
}

/// What the vDSO's functions return when the program must make the system call instead.
const CALL_KERNEL: i32 = -1;

/// What the clock `id` says, without a lock and without the kernel.
#[inline(always)]
fn user_ns(id: i32) -> Option<u64> {
    let sample = PUBLISHED.load()?.at(tsc())?;
    match id {
        // CLOCK_REALTIME and its coarse kin.
        0 | 5 => Some(sample.realtime_ns),
        // CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME.
        1 | 4 | 6 | 7 => Some(sample.monotonic_ns),
        _ => None,
    }
}

/// `clock_gettime(2)` for the vDSO: runs as part of the program, on its stack. Returns 0, or [`CALL_KERNEL`].
///
/// # Safety
/// As the program calls it: a bad pointer is the program's fault.
pub(crate) unsafe extern "C" fn vdso_clock_gettime(id: i32, into: *mut u64) -> i32 {
    let Some(ns) = user_ns(id) else { return CALL_KERNEL };
    // SAFETY: the program's pointer to its own memory; a fault is delivered to it as any other of its code.
    unsafe {
        into.cast::<Pair>().write_volatile(Pair { seconds: ns / NS_PER_SECOND, fraction: ns % NS_PER_SECOND })
    };
    0
}

/// `gettimeofday(2)` for the vDSO. A time zone is for the kernel.
///
/// # Safety
/// As [`vdso_clock_gettime`].
pub(crate) unsafe extern "C" fn vdso_gettimeofday(into: *mut u64, zone: *mut u64) -> i32 {
    let Some(ns) = user_ns(0).filter(|_| zone.is_null() && !into.is_null()) else { return CALL_KERNEL };
    let pair = Pair { seconds: ns / NS_PER_SECOND, fraction: ns % NS_PER_SECOND / 1000 };
    // SAFETY: as in `vdso_clock_gettime`.
    unsafe { into.cast::<Pair>().write_volatile(pair) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ns: u64) -> ClockSample {
        ClockSample { monotonic_ns: ns, realtime_ns: 1_000_000_000_000 + ns }
    }

    #[test]
    fn the_rate_comes_from_two_samples_far_enough_apart() {
        let mut learner = Learner::new();
        learner.learn(1_000, sample(0));
        assert!(learner.scale.at(1_500).is_none());
        learner.learn(6_001_000, sample(2_000_000));
        // Three ticks a nanosecond.
        let later = learner.scale.at(6_001_000 + 3_000).unwrap();
        assert!((2_000_999..=2_001_000).contains(&later.monotonic_ns), "{later:?}");
        assert!(learner.scale.at(6_001_000 + 3 * FIRST_HORIZON_NS).is_none());
    }

    #[test]
    fn a_host_that_turns_the_clock_back_is_not_followed() {
        let mut learner = Learner::new();
        learner.learn(0, sample(0));
        learner.learn(6_000_000, sample(2_000_000));
        let told = learner.scale.at(9_000_000).unwrap().monotonic_ns;
        assert!(learner.learn(9_000_000, sample(1_000_000)).monotonic_ns >= told);
    }

    #[test]
    fn what_is_published_is_read_whole() {
        let scale = Scale { tsc: 1, monotonic_ns: 2, realtime_ns: 3, rate: 4, valid_until: 5 };
        let published = Published { sequence: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 5] };
        published.store(&scale);
        let read = published.load().unwrap();
        assert_eq!((read.tsc, read.rate, read.valid_until), (1, 4, 5));
        published.sequence.store(3, Ordering::Relaxed);
        assert!(published.load().is_none());
    }
}
