//! `timerfd_create(2)`: a timer as a file.
//!
//! Nothing runs when it expires: how often it did is worked out from the clock when somebody looks, and who waits
//! learns from [`File::next_change_ns`] when to look.

use super::pipe::anonymous_metadata;
use super::{FsShared, OpenFile};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use platform::Platform;
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier, Transfers};

/// When a timer expires next, and how often then. Times of CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// `None`: it does not run.
    pub(crate) next_ns: Option<u64>,
    /// 0: once.
    pub(crate) interval_ns: u64,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// Expirations that nobody has read.
    expired: u64,
}

impl State {
    /// Counts what expired until now.
    fn advance(&mut self, now_ns: u64) {
        let Some(next) = self.schedule.next_ns.filter(|&next| next <= now_ns) else { return };
        let interval = self.schedule.interval_ns;
        let times = (now_ns - next).checked_div(interval).map_or(1, |missed| missed.saturating_add(1));
        self.expired = self.expired.saturating_add(times);
        self.schedule.next_ns = (interval != 0).then(|| next.saturating_add(times.saturating_mul(interval)));
    }
}

/// A timer.
pub(crate) struct TimerFd {
    platform: Arc<dyn Platform>,
    ino: u64,
    created_ns: i64,
    /// Whether absolute times are those of CLOCK_REALTIME.
    is_realtime: bool,
    state: Mutex<State>,
    changed: ReadinessNotifier,
}

/// A new timer, which does not run. `flags` is O_NONBLOCK or nothing.
pub(crate) fn timerfd(shared: &Arc<FsShared>, is_realtime: bool, flags: OpenFlags) -> Arc<OpenFile> {
    let platform = shared.platform();
    let file = Arc::new(TimerFd {
        platform: Arc::clone(platform),
        ino: shared.next_id(),
        created_ns: platform.realtime_ns().cast_signed(),
        is_realtime,
        state: Mutex::default(),
        changed: ReadinessNotifier::new(),
    });
    OpenFile::new(shared, file, None, flags | OpenFlags::RDWR)
}

impl TimerFd {
    /// The timer that an open file is.
    ///
    /// # Errors
    /// EINVAL it is none.
    pub(crate) fn of(open: &OpenFile) -> Result<&Self> {
        let timer = open.file().as_any().downcast_ref::<Self>();
        timer.ok_or(Error::new(Errno::EINVAL, "not a timer"))
    }

    /// Time until the next expiration (0: it does not run) and the interval, in nanoseconds.
    pub(crate) fn get(&self) -> (u64, u64) {
        let now = self.platform.monotonic_ns();
        let mut state = self.state.lock();
        state.advance(now);
        let left = state.schedule.next_ns.map_or(0, |next| next.saturating_sub(now).max(1));
        (left, state.schedule.interval_ns)
    }

    /// Sets it: first expiration at or after `value_ns` (0: stop), then every `interval_ns`. Returns what
    /// [`TimerFd::get`] would have said before.
    pub(crate) fn set(&self, is_absolute: bool, value_ns: u64, interval_ns: u64) -> (u64, u64) {
        let old = self.get();
        let now = self.platform.monotonic_ns();
        let next_ns = match (value_ns, is_absolute) {
            (0, _) => None,
            (value, false) => Some(now.saturating_add(value)),
            (value, true) if self.is_realtime => {
                Some(now.saturating_add(value.saturating_sub(self.platform.realtime_ns())))
            }
            (value, true) => Some(value),
        };
        *self.state.lock() = State { schedule: Schedule { next_ns, interval_ns }, expired: 0 };
        self.changed.broadcast(&Readiness::IN);
        old
    }
}

impl File for TimerFd {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        if into.remaining() < 8 {
            kbase::bail!(EINVAL, "the buffer is shorter than a counter");
        }
        let expired = {
            let mut state = self.state.lock();
            state.advance(self.platform.monotonic_ns());
            core::mem::take(&mut state.expired)
        };
        if expired == 0 {
            kbase::bail!(EAGAIN, "the timer has not expired");
        }
        into.put(&expired.to_le_bytes())
    }

    fn can_transfer(&self) -> Transfers {
        Transfers { read: true, write: false }
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Anonymous, self.created_ns))
    }

    fn bands(&self) -> Bands {
        Bands::Plain
    }

    fn ready(&self) -> Readiness {
        let mut state = self.state.lock();
        state.advance(self.platform.monotonic_ns());
        if state.expired > 0 { Readiness::IN } else { Readiness::empty() }
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.changed)
    }

    fn changes_unannounced(&self) -> bool {
        true
    }

    fn next_change_ns(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.advance(self.platform.monotonic_ns());
        state.schedule.next_ns.filter(|_| state.expired == 0)
    }

    fn seek(&self, _offset: i64, _whence: u32) -> Result<u64> {
        // Linux takes any place for the beginning.
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[timerfd]".into())
    }
}
