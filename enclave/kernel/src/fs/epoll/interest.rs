//! What an instance wants to know of one file, and what it was told.

use super::Epoll;
use crate::fs::poll::{told, waited_for};
use crate::fs::wait::ALWAYS;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::event::Observer;
use kbase::sync::Mutex;
use linux_abi::fs::EpollEvent;
use vfs::{Bands, File, Readiness};

/// EPOLLONESHOT.
pub(super) const ONESHOT: u32 = 1 << 30;
/// EPOLLET.
pub(super) const EDGE: u32 = 1 << 31;
/// What everybody is told who is to look anew though nothing new may be ready: an instance that watches this one by edges is not to
/// take it for one.
pub(super) const LOOK_ANEW: Readiness = ALWAYS;

/// A descriptor number and the open file description that it led to.
pub(super) type Key = (u32, u64);

/// What an instance wants to know of one file.
pub(crate) struct Interest {
    pub(super) me: Weak<Self>,
    pub(super) key: Key,
    pub(super) epoll: Weak<Epoll>,
    pub(super) file: Weak<dyn File>,
    pub(super) is_unannounced: bool,
    pub(super) bands: Bands,
    pub(super) setting: Mutex<Setting>,
    pub(super) is_queued: AtomicBool,
    pub(super) is_removed: AtomicBool,
    /// Of an edge-triggered interest in a file that changes unannounced: something happened since it was last reported.
    pub(super) is_armed: AtomicBool,
}

#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) events: u32,
    data: (u32, u32),
    /// Reported, with EPOLLONESHOT.
    is_disarmed: bool,
}

impl Setting {
    pub(super) const fn new(event: EpollEvent) -> Self {
        Self { events: event.events, data: (event.data_low, event.data_high), is_disarmed: false }
    }

    /// What is waited for.
    pub(super) fn wanted(&self) -> Readiness {
        waited_for(self.asked()) | ALWAYS
    }

    /// The bits of `poll(2)` among the events.
    pub(super) fn asked(&self) -> u16 {
        u16::try_from(self.events & 0xffff).unwrap_or_default()
    }

    pub(super) const fn is_edge(&self) -> bool {
        self.events & EDGE != 0
    }
}

impl Observer<Readiness> for Interest {
    fn on_event(&self, event: &Readiness) {
        let Some(epoll) = self.epoll.upgrade() else { return };
        if self.is_unannounced && *event == LOOK_ANEW {
            epoll.look_anew();
            return;
        }
        self.is_armed.store(true, Ordering::SeqCst);
        epoll.enqueue(self);
    }
}

impl Interest {
    pub(super) fn setting(&self) -> Setting {
        *self.setting.lock()
    }

    /// Begins to hear from the file.
    pub(super) fn attach(&self) {
        if let Some(file) = self.file.upgrade()
            && let Some(notifier) = file.notifier()
        {
            notifier.register(self.me.clone(), self.setting().wanted() & file.possible());
        }
    }

    pub(super) fn detach(&self) {
        if let Some(file) = self.file.upgrade()
            && let Some(notifier) = file.notifier()
        {
            let me: Weak<dyn Observer<Readiness>> = self.me.clone();
            notifier.unregister(&me);
        }
    }

    /// Something happened to a file that changes unannounced.
    pub(in crate::fs) fn arm(&self) {
        if !self.is_armed.swap(true, Ordering::SeqCst)
            && let Some(epoll) = self.epoll.upgrade()
        {
            epoll.look_anew();
        }
    }

    /// The open file description is closed.
    pub(in crate::fs) fn close(&self) {
        if let Some(epoll) = self.epoll.upgrade() {
            let removed = epoll.interests.lock().remove(&self.key);
            if removed.is_some() {
                epoll.forget(self);
            }
        }
    }

    /// What can be reported; `ready` is what the file is ready for.
    pub(super) fn found(&self, ready: Readiness) -> Option<(Setting, u32)> {
        if self.is_removed.load(Ordering::SeqCst) {
            return None;
        }
        let setting = self.setting();
        let found = told(ready, setting.asked(), self.bands);
        let is_muted = self.is_unannounced && setting.is_edge() && !self.is_armed.load(Ordering::SeqCst);
        (found != 0 && !setting.is_disarmed && !is_muted).then_some((setting, found.into()))
    }

    /// The event to report, which mutes what is to be reported once.
    pub(super) fn report(&self, ready: Readiness) -> Option<(EpollEvent, bool)> {
        let (setting, events) = self.found(ready)?;
        if setting.events & ONESHOT != 0 {
            self.setting.lock().is_disarmed = true;
        }
        if setting.is_edge() {
            self.is_armed.store(false, Ordering::SeqCst);
        }
        let comes_back = setting.events & (EDGE | ONESHOT) == 0;
        let (data_low, data_high) = setting.data;
        Some((EpollEvent { events, data_low, data_high }, comes_back))
    }

    /// What the file is ready for. Nothing, once the interest is removed: the file may be an instance that watches this one by now.
    pub(super) fn ready(&self) -> Readiness {
        if self.is_removed.load(Ordering::SeqCst) {
            return Readiness::empty();
        }
        self.file.upgrade().map_or(Readiness::empty(), |file| file.ready())
    }
}
