//! The scheduler settings of a thread.

use super::CpuSet;
use kbase::sync::Mutex;
use platform::{Platform, Scheduling, ThreadHandle};

/// SCHED_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Policy {
    /// SCHED_OTHER.
    Other = 0,
    /// SCHED_FIFO.
    Fifo = 1,
    /// SCHED_RR.
    RoundRobin = 2,
    /// SCHED_BATCH.
    Batch = 3,
    /// SCHED_IDLE.
    Idle = 5,
}

impl Policy {
    /// The policy of a number.
    pub(crate) const fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Other,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            _ => return None,
        })
    }

    /// Whether its threads have real-time priorities.
    pub(crate) const fn is_realtime(self) -> bool {
        matches!(self, Self::Fifo | Self::RoundRobin)
    }
}

/// Scheduler settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    /// 1 to 99 with a real-time policy, else 0.
    pub(crate) priority: u32,
    /// -20 to 19.
    pub(crate) nice: i32,
    /// Children get neither a real-time policy nor a nice value below 0 (SCHED_RESET_ON_FORK).
    pub(crate) resets_on_fork: bool,
    /// What `ioprio_set(2)` was told.
    pub(crate) io_priority: u32,
    /// The processors that it asked for; `None`: it did not ask.
    pub(crate) affinity: Option<CpuSet>,
}

/// What a thread has that asked for nothing.
const DEFAULT: Settings = Settings {
    policy: Policy::Other,
    priority: 0,
    nice: 0,
    resets_on_fork: false,
    io_priority: 0,
    affinity: None,
};

impl Settings {
    /// The processors of `online` that the thread may run on.
    pub(crate) fn cpus(&self, online: &CpuSet) -> CpuSet {
        match self.affinity.map(|asked| asked.and(online)) {
            Some(cpus) if !cpus.is_empty() => cpus,
            _ => *online,
        }
    }
}

/// Scheduler settings of a thread, and their way to the host.
pub(crate) struct SchedAgent(Mutex<Settings>);

impl SchedAgent {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(DEFAULT))
    }

    /// The settings that a new thread or process has from this one.
    pub(crate) fn inherit(&self) -> Self {
        let mut settings = self.settings();
        if settings.resets_on_fork {
            if settings.policy.is_realtime() {
                (settings.policy, settings.priority) = (Policy::Other, 0);
            }
            settings.nice = settings.nice.max(0);
            settings.resets_on_fork = false;
        }
        Self(Mutex::new(settings))
    }

    /// The settings.
    pub(crate) fn settings(&self) -> Settings {
        *self.0.lock()
    }

    /// Changes the settings, and tells the host if there is a host thread.
    pub(crate) fn change(
        &self,
        platform: &dyn Platform,
        host: Option<ThreadHandle>,
        change: impl FnOnce(&mut Settings),
    ) {
        let (old, new) = {
            let mut settings = self.0.lock();
            let old = *settings;
            change(&mut settings);
            settings.nice = settings.nice.clamp(-20, 19);
            (old, *settings)
        };
        if let Some(host) = host
            && old != new
        {
            tell(platform, host, &new);
        }
    }

    /// The thread got a host thread, which is scheduled like any other so far.
    pub(crate) fn attach(&self, platform: &dyn Platform, host: ThreadHandle) {
        let settings = self.settings();
        if settings != DEFAULT {
            tell(platform, host, &settings);
        }
    }
}

/// Tells the host, which may not be willing or able.
fn tell(platform: &dyn Platform, host: ThreadHandle, settings: &Settings) {
    let request = Scheduling {
        policy: settings.policy as u32,
        priority: settings.priority,
        nice: settings.nice,
        cpus: settings.affinity.as_ref().map_or(&[], CpuSet::words),
    };
    // The thread has what it asked for as far as programs can tell.
    let _ = platform.schedule(host, &request);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fake_platform::FakePlatform;

    #[test]
    fn a_thread_runs_everywhere_until_it_asks_for_less() {
        let platform = FakePlatform::new();
        let agent = SchedAgent::new();
        let online = CpuSet::first(4);
        assert_eq!(agent.settings().cpus(&online), online);
        agent.change(&*platform, None, |settings| settings.affinity = Some(CpuSet::first(2)));
        assert_eq!(agent.settings().cpus(&online), CpuSet::first(2));
        assert_eq!(agent.inherit().settings().cpus(&online), CpuSet::first(2));
    }

    #[test]
    fn children_are_reset_where_that_was_asked_for() {
        let platform = FakePlatform::new();
        let agent = SchedAgent::new();
        agent.change(&*platform, None, |settings| {
            (settings.policy, settings.priority, settings.nice) = (Policy::Fifo, 7, -5);
        });
        assert_eq!(agent.inherit().settings(), agent.settings());
        agent.change(&*platform, None, |settings| settings.resets_on_fork = true);
        assert_eq!(agent.inherit().settings(), DEFAULT);
    }

    #[test]
    fn the_host_is_told_what_changed_before_and_after_there_was_a_host_thread() {
        let platform = FakePlatform::new();
        let agent = SchedAgent::new();
        let host = ThreadHandle(3);
        agent.attach(&*platform, host);
        assert_eq!(platform.scheduled(host), None);
        agent.change(&*platform, None, |settings| settings.nice = 5);
        agent.attach(&*platform, host);
        assert_eq!(platform.scheduled(host), Some((0, 0, 5, Vec::new())));
        agent.change(&*platform, Some(host), |settings| settings.affinity = Some(CpuSet::first(1)));
        let words = platform.scheduled(host).map(|(.., words)| words);
        assert_eq!(words.and_then(|words| words.first().copied()), Some(1));
    }
}
