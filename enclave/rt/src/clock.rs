//! Clocks from RDTSC, held to what the host says.
//!
//! The host's clocks are sampled rarely; between two samples the time stamp counter is scaled by the rate that the
//! samples gave. All of it is untrusted, but what comes out never runs backwards, on one CPU or seen from two:
//!
//! * A sample that lies behind what readers were told is not jumped back to: the clock runs slower until it is.
//! * A scale changes at a counter value that is read after readers were stopped, and a reader that was stopped, or
//!   whose scale changed before it had read the counter, starts over. So nobody applies the old scale past the
//!   value at which the new one begins, however long it was interrupted in between.
//!
//! What is needed to tell the time is published under a sequence counter, so that readers take no lock. User code
//! reads it too: the vDSO calls [`vdso_clock_gettime`] and its kin as ordinary functions of the program.

use crate::ocall::{self, Channel};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use edge_abi::ocall::{ClockSample, Ocall};
use platform::sync::Mutex;

/// Below this distance two samples are too close to compute a rate from.
const CALIBRATION_NS: u64 = 2_000_000;
/// A rate is believed when its samples are this many times as far apart as their own times are uncertain.
const PRECISION: u64 = 1000;
/// How long the first rate holds.
const FIRST_HORIZON_NS: u64 = 10_000_000;
/// Most time between two samples.
const LONGEST_NS: u64 = 1_000_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// CLOCK_REALTIME is set anew when it is further off than this; closer is the jitter of sampling.
const REALTIME_SLACK_NS: u64 = 100_000;

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
        let passed = scaled(ticks, self.rate);
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
    /// Stops the readers, then publishes what `scale` makes of the value that `counter` reads. One thread may change it at a
    /// time.
    fn change(&self, counter: impl FnOnce() -> u64, scale: impl FnOnce(u64) -> Scale) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // The counter is read when every reader sees the odd number.
        fence(Ordering::SeqCst);
        let scale = scale(counter());
        let values = [scale.tsc, scale.monotonic_ns, scale.realtime_ns, scale.rate, scale.valid_until];
        for (word, value) in self.words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// What the clocks say at the value that `counter` reads. `None` while the scale changes, or did so until the
    /// counter was read, and where it says nothing of that value.
    #[inline(always)]
    fn read(&self, counter: impl FnOnce() -> u64) -> Option<ClockSample> {
        let before = self.sequence.load(Ordering::Acquire);
        let [tsc, monotonic_ns, realtime_ns, rate, valid_until] = [0, 1, 2, 3, 4]
            .map(|index: usize| self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed)));
        let now = counter();
        fence(Ordering::Acquire);
        let is_stable = before & 1 == 0 && self.sequence.load(Ordering::Relaxed) == before;
        is_stable.then_some(Scale { tsc, monotonic_ns, realtime_ns, rate, valid_until })?.at(now)
    }
}

/// What the host's clocks said at some value of the counter between two others.
#[derive(Clone, Copy)]
struct Observed {
    before: u64,
    after: u64,
    clocks: ClockSample,
}

impl Observed {
    /// The likeliest value.
    fn tsc(&self) -> u64 {
        self.before + self.uncertainty() / 2
    }

    fn uncertainty(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

/// What the samples taught.
struct Learner {
    first: Option<Observed>,
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

    /// Takes in what was observed; the scale that it gives begins at the value `tsc` of the counter, and never
    /// before what the last one says there.
    fn learn(&mut self, tsc: u64, observed: &Observed) -> Scale {
        let told = self.told(tsc);
        let rate = self.rate(observed).unwrap_or(self.scale.rate);
        let since = scaled(tsc.saturating_sub(observed.tsc()), rate);
        let now = observed.clocks.monotonic_ns.saturating_add(since);
        let monotonic_ns = now.max(told);
        let offset = observed.clocks.realtime_ns.wrapping_sub(observed.clocks.monotonic_ns);
        let told_offset = self.scale.realtime_ns.wrapping_sub(self.scale.monotonic_ns);
        let is_jitter = (offset.wrapping_sub(told_offset) as i64).unsigned_abs() < REALTIME_SLACK_NS;
        let offset = if is_jitter { told_offset } else { offset };
        let realtime_ns = monotonic_ns.wrapping_add(offset);
        self.scale = Scale { tsc, monotonic_ns, realtime_ns, ..Scale::default() };
        if rate != 0 {
            // The host's clock catches up while this scale holds, at half the speed at the least.
            let slower = monotonic_ns.saturating_sub(now).min(self.horizon_ns / 2);
            let part = u128::from(self.horizon_ns - slower);
            self.scale.rate = (u128::from(rate) * part / u128::from(self.horizon_ns)) as u64;
            let horizon = (u128::from(self.horizon_ns) << 32) / u128::from(rate);
            self.scale.valid_until = tsc.saturating_add(u64::try_from(horizon).unwrap_or(0));
            self.horizon_ns = (self.horizon_ns * 4).min(LONGEST_NS);
        }
        self.scale
    }

    /// What readers were told just before `tsc`, whether the scale still holds there or not.
    fn told(&self, tsc: u64) -> u64 {
        let lasting = Scale { valid_until: u64::MAX, ..self.scale };
        lasting.at(tsc).map_or(self.scale.monotonic_ns, |told| told.monotonic_ns)
    }

    /// Nanoseconds per tick from the first sample to this, where they are far enough apart for how exact they are.
    fn rate(&mut self, observed: &Observed) -> Option<u64> {
        let first = *self.first.get_or_insert(*observed);
        let ticks = observed.tsc().saturating_sub(first.tsc());
        let passed = observed.clocks.monotonic_ns.saturating_sub(first.clocks.monotonic_ns);
        let uncertainty = first.uncertainty().saturating_add(observed.uncertainty());
        if passed >= CALIBRATION_NS && ticks != 0 && uncertainty.saturating_mul(PRECISION) <= ticks {
            return u64::try_from((u128::from(passed) << 32) / u128::from(ticks)).ok();
        }
        // A first sample that was interrupted would spoil each rate for a long time.
        if self.scale.rate == 0 && observed.uncertainty() < first.uncertainty() / 2 {
            self.first = Some(*observed);
        }
        None
    }
}

/// `ticks` in nanoseconds.
fn scaled(ticks: u64, rate: u64) -> u64 {
    ((u128::from(ticks) * u128::from(rate)) >> 32) as u64
}

static LEARNER: Mutex<Learner> = Mutex::new(Learner::new());

/// The time stamp counter, read after everything that comes before it in the program and before everything after it.
#[must_use]
#[inline(always)]
pub fn tsc() -> u64 {
    let low: u64;
    let high: u64;
    // SAFETY: RDTSC only writes its registers, LFENCE nothing. Where RDTSC is illegal, the caller does not ask.
    unsafe {
        asm!("lfence", "rdtsc", "lfence", out("rax") low, out("rdx") high, options(nostack, preserves_flags));
    };
    high << 32 | low
}

fn ask_host() -> ClockSample {
    let Some(channel) = Channel::current() else { return ClockSample::default() };
    if channel.call(Ocall::Clock, [0; 6], 0).is_err() {
        return ClockSample::default();
    }
    channel.take_value().unwrap_or_default()
}

/// The time stamp counter, or 0 where it cannot be read.
#[inline(never)]
fn ticks() -> u64 {
    if HAS_RDTSC.load(Ordering::Relaxed) { tsc() } else { 0 }
}

fn now() -> ClockSample {
    // The scale of a clock without a counter has no rate, so it is never read from.
    if let Some(sample) = PUBLISHED.read(ticks) {
        return sample;
    }
    let before = ticks();
    // Never hold the lock over the exit.
    let clocks = ask_host();
    let observed = Observed { before, after: ticks(), clocks };
    let mut learner = LEARNER.lock();
    PUBLISHED.change(ticks, |tsc| learner.learn(tsc, &observed));
    ClockSample { monotonic_ns: learner.scale.monotonic_ns, realtime_ns: learner.scale.realtime_ns }
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
    let sample = PUBLISHED.read(tsc)?;
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

    fn observed(tsc: u64, ns: u64) -> Observed {
        let clocks = ClockSample { monotonic_ns: ns, realtime_ns: 1_000_000_000_000 + ns };
        Observed { before: tsc, after: tsc, clocks }
    }

    /// Learns at the value at which it was observed.
    fn learn(learner: &mut Learner, tsc: u64, ns: u64) -> Scale {
        learner.learn(tsc, &observed(tsc, ns))
    }

    #[test]
    fn the_rate_comes_from_two_samples_far_enough_apart() {
        let mut learner = Learner::new();
        assert!(learn(&mut learner, 1_000, 0).at(1_500).is_none());
        // Three ticks a nanosecond.
        let scale = learn(&mut learner, 6_001_000, 2_000_000);
        let later = scale.at(6_001_000 + 3_000).unwrap();
        assert!((2_000_999..=2_001_000).contains(&later.monotonic_ns), "{later:?}");
        assert!(scale.at(6_001_000 + 3 * FIRST_HORIZON_NS + 3).is_none());
    }

    #[test]
    fn a_host_that_turns_the_clock_back_is_not_followed() {
        let mut learner = Learner::new();
        learn(&mut learner, 0, 0);
        let told = learn(&mut learner, 6_000_000, 2_000_000).at(9_000_000).unwrap().monotonic_ns;
        assert!(learn(&mut learner, 9_000_000, 1_000_000).monotonic_ns >= told);
    }

    #[test]
    fn a_clock_that_is_ahead_goes_slower_until_the_host_has_caught_up() {
        let mut learner = Learner::new();
        learn(&mut learner, 0, 0);
        let mut scale = learn(&mut learner, 6_000_000, 2_000_000);
        let mut ahead = 0;
        for _ in 0..30 {
            let tsc = scale.valid_until;
            let told = learner.told(tsc);
            // In truth there are four ticks a nanosecond, and not three.
            let truth = 2_000_000 + (tsc - 6_000_000) / 4;
            scale = learn(&mut learner, tsc, truth);
            assert!(scale.monotonic_ns >= told);
            ahead = scale.monotonic_ns - truth;
        }
        assert!(ahead < 100_000, "{ahead} ns");
    }

    #[test]
    fn a_sample_that_was_interrupted_gives_no_rate() {
        let mut learner = Learner::new();
        // The answer took 5 ms to arrive.
        let late = Observed { after: 15_000_000, ..observed(0, 0) };
        assert!(learner.learn(15_000_000, &late).rate == 0);
        assert!(learn(&mut learner, 21_000_000, 7_000_000).rate == 0);
        let scale = learn(&mut learner, 27_000_000, 9_000_000);
        let later = scale.at(27_003_000).unwrap().monotonic_ns;
        assert!((9_000_999..=9_001_000).contains(&later), "{later}");
        // Nor does it spoil one.
        let late = Observed { after: 45_000_000, ..observed(30_000_000, 10_000_000) };
        let scale = learner.learn(45_000_000, &late);
        assert!(scale.at(48_000_000).unwrap().monotonic_ns.abs_diff(16_000_000) < 3_000_000);
    }

    #[test]
    fn the_wall_clock_follows_a_host_that_sets_it_and_not_its_jitter() {
        let mut learner = Learner::new();
        learn(&mut learner, 0, 0);
        let mut jitter = observed(6_000_000, 2_000_000);
        jitter.clocks.realtime_ns -= REALTIME_SLACK_NS / 2;
        assert_eq!(learner.learn(6_000_000, &jitter).realtime_ns, 1_000_002_000_000);
        jitter.clocks.realtime_ns = 5;
        assert_eq!(learner.learn(6_000_000, &jitter).realtime_ns, 5);
    }

    #[test]
    fn a_scale_that_changes_before_the_counter_is_read_is_not_used() {
        let old =
            Scale { tsc: 10, monotonic_ns: 100, realtime_ns: 1000, rate: 2 << 32, valid_until: u64::MAX };
        let new = Scale { tsc: 20, monotonic_ns: 120, rate: 1 << 32, ..old };
        let published = Published { sequence: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 5] };
        published.change(|| 10, |_| old);
        assert_eq!(published.read(|| 15).unwrap().monotonic_ns, 110);
        let interrupted = published.read(|| {
            published.change(|| 20, |_| new);
            50
        });
        assert!(
            interrupted.is_none(),
            "the old scale would say 180, and the new one does not say that before 80"
        );
        published.change(
            || {
                assert!(published.read(|| 21).is_none(), "readers are stopped first");
                22
            },
            |_| new,
        );
        assert_eq!(published.read(|| 50).unwrap().monotonic_ns, 150);
    }
}
