//! Clocks from RDTSC, held to what the host says.
//!
//! The host's clocks are sampled rarely; between two samples the time stamp counter is scaled by the rate that the
//! samples gave. All of it is untrusted, but what comes out never runs backwards.

use crate::ocall::{self, Channel};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use edge_abi::ocall::{ClockSample, Ocall};
use spin::mutex::SpinMutex;

/// Below this distance two samples are too close to compute a rate from.
const CALIBRATION_NS: u64 = 2_000_000;
/// Most ticks-to-time scaling without a new sample.
const LONGEST_NS: u64 = 1_000_000_000;

/// Whether `rdtsc` is legal.
pub(crate) static HAS_RDTSC: AtomicBool = AtomicBool::new(false);

struct State {
    first: Option<(u64, ClockSample)>,
    last: (u64, ClockSample),
    /// Nanoseconds per tick, 32.32 fixed point; 0 when unknown.
    rate: u64,
    /// TSC up to which `last` and `rate` hold.
    valid_until: u64,
    /// How long the next rate holds, in nanoseconds.
    horizon_ns: u64,
}

static STATE: SpinMutex<State> = SpinMutex::new(State {
    first: None,
    last: (0, ClockSample { monotonic_ns: 0, realtime_ns: 0 }),
    rate: 0,
    valid_until: 0,
    horizon_ns: 10_000_000,
});
static LAST_MONOTONIC: AtomicU64 = AtomicU64::new(0);

/// The time stamp counter.
#[must_use]
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
    if !HAS_RDTSC.load(Ordering::Relaxed) {
        return ask_host();
    }
    if let Some(sample) = STATE.lock().estimate(tsc()) {
        return sample;
    }
    // Never hold the lock over the exit.
    let sample = ask_host();
    STATE.lock().learn(tsc(), sample);
    sample
}

impl State {
    fn estimate(&self, tsc: u64) -> Option<ClockSample> {
        if self.rate == 0 || tsc >= self.valid_until {
            return None;
        }
        let ticks = tsc.saturating_sub(self.last.0);
        let passed = ((u128::from(ticks) * u128::from(self.rate)) >> 32) as u64;
        Some(ClockSample {
            monotonic_ns: self.last.1.monotonic_ns.saturating_add(passed),
            realtime_ns: self.last.1.realtime_ns.saturating_add(passed),
        })
    }

    fn learn(&mut self, tsc: u64, sample: ClockSample) {
        let (first_tsc, first) = *self.first.get_or_insert((tsc, sample));
        self.last = (tsc, sample);
        let ticks = tsc.saturating_sub(first_tsc);
        let passed = sample.monotonic_ns.saturating_sub(first.monotonic_ns);
        if passed < CALIBRATION_NS || ticks == 0 {
            return;
        }
        self.rate = u64::try_from((u128::from(passed) << 32) / u128::from(ticks)).unwrap_or(0);
        let horizon = (u128::from(self.horizon_ns) * u128::from(ticks) / u128::from(passed)) as u64;
        self.valid_until = tsc.saturating_add(horizon);
        self.horizon_ns = (self.horizon_ns * 4).min(LONGEST_NS);
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> u64 {
    let now = now().monotonic_ns;
    LAST_MONOTONIC.fetch_max(now, Ordering::Relaxed).max(now)
}

/// Nanoseconds of CLOCK_REALTIME.
pub(crate) fn realtime_ns() -> u64 {
    now().realtime_ns
}

/// CPU time of the calling thread as the host says.
pub(crate) fn thread_cpu_ns() -> u64 {
    ocall::call(Ocall::ThreadCpu, [0; 6], u64::MAX >> 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ns: u64) -> ClockSample {
        ClockSample { monotonic_ns: ns, realtime_ns: 1_000_000_000_000 + ns }
    }

    #[test]
    fn the_rate_comes_from_two_samples_far_enough_apart() {
        let mut state =
            State { first: None, last: (0, sample(0)), rate: 0, valid_until: 0, horizon_ns: 10_000_000 };
        state.learn(1_000, sample(0));
        assert_eq!(state.estimate(1_500), None);
        state.learn(6_001_000, sample(2_000_000));
        // Three ticks a nanosecond.
        let later = state.estimate(6_001_000 + 3_000).unwrap();
        assert!((2_000_999..=2_001_000).contains(&later.monotonic_ns), "{later:?}");
        assert_eq!(state.estimate(6_001_000 + 3 * 10_000_000), None);
    }
}
