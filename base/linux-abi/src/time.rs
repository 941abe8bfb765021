//! Clocks, times and timers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;

/// `struct __kernel_timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub tv_sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub tv_nsec: i64,
}

impl Timespec {
    /// A time of so many nanoseconds.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { tv_sec: (ns / NSEC_PER_SEC).cast_signed(), tv_nsec: (ns % NSEC_PER_SEC).cast_signed() }
    }

    /// The nanoseconds, saturated; `None` if it is negative or the nanoseconds are out of range.
    #[must_use]
    pub fn to_ns(self) -> Option<u64> {
        let sec = u64::try_from(self.tv_sec).ok()?;
        let nsec = u64::try_from(self.tv_nsec).ok().filter(|&nsec| nsec < NSEC_PER_SEC)?;
        Some(sec.saturating_mul(NSEC_PER_SEC).saturating_add(nsec))
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub tv_sec: i64,
    /// Microseconds, 0 to 999,999.
    pub tv_usec: i64,
}

impl Timeval {
    /// A time of so many nanoseconds, rounded down.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { tv_sec: (ns / NSEC_PER_SEC).cast_signed(), tv_usec: (ns % NSEC_PER_SEC / 1000).cast_signed() }
    }

    /// The nanoseconds, saturated; `None` if it is negative or the microseconds are out of range.
    #[must_use]
    pub fn to_ns(self) -> Option<u64> {
        let usec = u64::try_from(self.tv_usec).ok().filter(|&usec| usec < 1_000_000)?;
        Timespec { tv_sec: self.tv_sec, tv_nsec: (usec * 1000).cast_signed() }.to_ns()
    }
}

/// `struct itimerval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Itimerval {
    /// Period, or zero.
    pub it_interval: Timeval,
    /// Time to the next expiry, or zero: disarmed.
    pub it_value: Timeval,
}

/// `struct timezone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Timezone {
    /// Minutes west of Greenwich.
    pub tz_minuteswest: i32,
    /// Unused.
    pub tz_dsttime: i32,
}

/// `struct tms`, in ticks of [`CLOCKS_PER_SEC`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Tms {
    /// User time.
    pub tms_utime: i64,
    /// System time.
    pub tms_stime: i64,
    /// User time of waited-for children.
    pub tms_cutime: i64,
    /// System time of waited-for children.
    pub tms_cstime: i64,
}

/// Ticks per second (AT_CLKTCK).
pub const CLOCKS_PER_SEC: u64 = 100;

/// CLOCK_REALTIME.
pub const CLOCK_REALTIME: i32 = 0;
/// CLOCK_MONOTONIC.
pub const CLOCK_MONOTONIC: i32 = 1;
/// CLOCK_PROCESS_CPUTIME_ID.
pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
/// CLOCK_THREAD_CPUTIME_ID.
pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
/// CLOCK_MONOTONIC_RAW.
pub const CLOCK_MONOTONIC_RAW: i32 = 4;
/// CLOCK_REALTIME_COARSE.
pub const CLOCK_REALTIME_COARSE: i32 = 5;
/// CLOCK_MONOTONIC_COARSE.
pub const CLOCK_MONOTONIC_COARSE: i32 = 6;
/// CLOCK_BOOTTIME.
pub const CLOCK_BOOTTIME: i32 = 7;
/// CLOCK_TAI.
pub const CLOCK_TAI: i32 = 11;
/// TIMER_ABSTIME.
pub const TIMER_ABSTIME: u32 = 1;

/// ITIMER_REAL.
pub const ITIMER_REAL: i32 = 0;
/// ITIMER_VIRTUAL.
pub const ITIMER_VIRTUAL: i32 = 1;
/// ITIMER_PROF.
pub const ITIMER_PROF: i32 = 2;
