//! `epoll(7)`.
//!
//! An instance keeps its interests and looks at all of them on every wait. Edge-triggered interests report again when the
//! file was woken, or read or written, since the last report: more often than Linux, never less.
//!
//! Lock order: the interests are locked before a file is asked what is ready; nothing that a file does in answer
//! locks an epoll instance, because instances do not watch each other's readiness under the lock.

use super::pipe::anonymous_metadata;
use super::poll::{ALWAYS, Watched, poll};
use super::wait::wait_until;
use super::{FsShared, OpenFile};
use crate::Ctx;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, WaitQueue, Wake};
use linux_abi::fs::{EpollEvent, OpenFlags};
use vfs::{File, FileType, Metadata, Readiness};

/// EPOLLONESHOT.
const ONESHOT: u32 = 1 << 30;
/// EPOLLET.
const EDGE: u32 = 1 << 31;

/// An instance.
pub(crate) struct Epoll {
    ino: u64,
    created_ns: i64,
    interests: Mutex<BTreeMap<Key, Interest>>,
    changed: Arc<WaitQueue>,
}

/// A descriptor number and the open file description that it led to.
type Key = (u32, u64);

struct Interest {
    open: Weak<OpenFile>,
    events: u32,
    data: (u32, u32),
    watcher: Arc<Watcher>,
    as_wake: Arc<dyn Wake>,
    /// Counters of wakes and of reads and writes when it was last reported.
    reported: Option<(u64, u64)>,
    is_disarmed: bool,
}

/// Hears from one file and passes it on.
struct Watcher {
    wakes: AtomicU64,
    changed: Arc<WaitQueue>,
}

impl Wake for Watcher {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.changed.wake_all();
    }
}

impl Interest {
    /// Whether it may be reported now.
    fn is_armed(&self, open: &OpenFile) -> bool {
        if self.is_disarmed {
            return false;
        }
        self.events & EDGE == 0 || self.reported != Some(self.counters(open))
    }

    fn counters(&self, open: &OpenFile) -> (u64, u64) {
        (self.watcher.wakes.load(Ordering::Relaxed), open.transfers())
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(open) = self.open.upgrade() {
            queue_of(&open).remove(&self.as_wake);
        }
    }
}

/// A new instance.
pub(crate) fn epoll(shared: &Arc<FsShared>) -> Arc<OpenFile> {
    let file = Arc::new(Epoll {
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
        interests: Mutex::default(),
        changed: Arc::default(),
    });
    OpenFile::new(shared, file, None, OpenFlags::RDWR)
}

impl Epoll {
    /// The instance that an open file is.
    ///
    /// # Errors
    /// EINVAL it is none.
    pub(crate) fn of(open: &OpenFile) -> Result<&Self> {
        let epoll = open.file().as_any().downcast_ref::<Self>();
        epoll.ok_or(Error::new(Errno::EINVAL, "not an epoll instance"))
    }

    /// EPOLL_CTL_ADD.
    ///
    /// # Errors
    /// EEXIST the descriptor is there; EPERM the file cannot be waited for; ELOOP the instance would watch itself.
    pub(crate) fn add(&self, fd: u32, open: &Arc<OpenFile>, event: EpollEvent) -> Result<()> {
        if open.file().node().is_some() {
            kbase::bail!(EPERM, "a file or directory is always ready");
        }
        if let Some(other) = open.file().as_any().downcast_ref::<Self>()
            && other.watches(self, 5)
        {
            kbase::bail!(ELOOP, "the instance would watch itself");
        }
        let key = (fd, open.id());
        let watcher = Arc::new(Watcher { wakes: AtomicU64::new(0), changed: Arc::clone(&self.changed) });
        let as_wake: Arc<dyn Wake> = watcher.clone();
        {
            let mut interests = self.interests.lock();
            interests.retain(|_, interest| interest.open.strong_count() > 0);
            if interests.contains_key(&key) {
                kbase::bail!(EEXIST, "the descriptor is there already");
            }
            let interest = Interest {
                open: Arc::downgrade(open),
                events: event.events,
                data: (event.data_low, event.data_high),
                watcher,
                as_wake: Arc::clone(&as_wake),
                reported: None,
                is_disarmed: false,
            };
            interests.insert(key, interest);
        }
        queue_of(open).add(&as_wake);
        // Somebody who waits already has to look at the new file too.
        self.changed.wake_all();
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    ///
    /// # Errors
    /// ENOENT the descriptor is not there.
    pub(crate) fn modify(&self, fd: u32, open: &OpenFile, event: EpollEvent) -> Result<()> {
        {
            let mut interests = self.interests.lock();
            let interest = interests.get_mut(&(fd, open.id())).ok_or_else(absent)?;
            interest.events = event.events;
            interest.data = (event.data_low, event.data_high);
            interest.reported = None;
            interest.is_disarmed = false;
        }
        self.changed.wake_all();
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    ///
    /// # Errors
    /// ENOENT the descriptor is not there.
    pub(crate) fn remove(&self, fd: u32, open: &OpenFile) -> Result<()> {
        let removed = self.interests.lock().remove(&(fd, open.id()));
        removed.map(drop).ok_or_else(absent)
    }

    /// Whether this instance watches `other`, through at most `depth` others.
    fn watches(&self, other: &Self, depth: u32) -> bool {
        if core::ptr::eq(self, other) || depth == 0 {
            return true;
        }
        let watched: Vec<Arc<OpenFile>> =
            self.interests.lock().values().filter_map(|interest| interest.open.upgrade()).collect();
        watched.iter().any(|open| {
            let inner = open.file().as_any().downcast_ref::<Self>();
            inner.is_some_and(|inner| inner.watches(other, depth - 1))
        })
    }

    /// What could be reported now.
    fn armed(&self) -> Vec<(Key, Watched)> {
        let mut armed = Vec::new();
        for (&key, interest) in self.interests.lock().iter() {
            if let Some(open) = interest.open.upgrade()
                && interest.is_armed(&open)
            {
                let wanted = u16::try_from(interest.events & 0xffff).unwrap_or_default();
                let events = Readiness::from_bits_truncate(wanted);
                armed.push((key, Watched { open, events, found: Readiness::empty() }));
            }
        }
        armed
    }

    /// `epoll_wait(2)`: at most `max` events. The deadline is a time of CLOCK_MONOTONIC in ns; 0: do not wait.
    ///
    /// # Errors
    /// ERESTARTNOHAND a signal came.
    pub(crate) fn wait(
        &self,
        ctx: &Ctx<'_>,
        max: usize,
        deadline_ns: Option<u64>,
    ) -> Result<Vec<EpollEvent>> {
        loop {
            let (keys, mut watched): (Vec<Key>, Vec<Watched>) = self.armed().into_iter().unzip();
            let found = poll(ctx, &mut watched, Some(0))?;
            if found > 0 {
                let events = self.report(&keys, &watched, max);
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            let is_over = deadline_ns.is_some_and(|at| at == 0 || ctx.platform().monotonic_ns() >= at);
            if is_over {
                return Ok(Vec::new());
            }
            self.sleep(ctx, &watched, deadline_ns)?;
        }
    }

    /// Sleeps until any watched file or the set of interests changes.
    fn sleep(&self, ctx: &Ctx<'_>, watched: &[Watched], deadline_ns: Option<u64>) -> Result<()> {
        let mut hosts: Vec<_> =
            watched.iter().filter_map(|w| super::wait::host_row(&**w.open.file(), w.events)).collect();
        let before = self.generation();
        let next_change = || next_change_of(watched.iter());
        let result = wait_until(ctx, &[&self.changed], &mut hosts, deadline_ns, next_change, |hosts| {
            let is_host_ready = hosts.iter().any(|row| row.revents != 0);
            let is_ready = || {
                watched.iter().any(|w| {
                    w.open.file().host_fd().is_none()
                        && !w.open.file().as_any().is::<Self>()
                        && w.open.file().ready().intersects(w.events | ALWAYS)
                })
            };
            (is_host_ready || self.generation() != before || is_ready()).then_some(())
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.errno() == Errno::ERESTARTSYS => {
                Err(Error::new(Errno::ERESTARTNOHAND, "a signal came while waiting"))
            }
            Err(error) => Err(error),
        }
    }

    /// A number that changes when a watched file wakes or the interests change.
    fn generation(&self) -> u64 {
        let interests = self.interests.lock();
        let wakes: u64 = interests.values().map(|i| i.watcher.wakes.load(Ordering::Relaxed)).sum();
        wakes.wrapping_mul(31).wrapping_add(interests.len() as u64)
    }

    /// Turns what was found into events, and disarms what is to be reported once.
    fn report(&self, keys: &[Key], watched: &[Watched], max: usize) -> Vec<EpollEvent> {
        let mut events = Vec::new();
        let mut interests = self.interests.lock();
        for (key, watch) in keys.iter().zip(watched) {
            if events.len() >= max {
                break;
            }
            let Some(interest) = interests.get_mut(key) else { continue };
            let wanted = u16::try_from(interest.events & 0xffff).unwrap_or_default();
            let found = watch.found & (Readiness::from_bits_truncate(wanted) | ALWAYS);
            if found.is_empty() || !interest.is_armed(&watch.open) {
                continue;
            }
            interest.reported = Some(interest.counters(&watch.open));
            interest.is_disarmed |= interest.events & ONESHOT != 0;
            let (data_low, data_high) = interest.data;
            events.push(EpollEvent { events: found.bits().into(), data_low, data_high });
        }
        events
    }
}

/// When one of the files that are watched for reading changes without a wake.
fn next_change_of<'w>(watched: impl Iterator<Item = &'w Watched>) -> Option<u64> {
    let timed = watched.filter(|watch| watch.events.contains(Readiness::IN));
    timed.filter_map(|watch| watch.open.file().next_change_ns()).min()
}

/// Where to hear of a file: its own queue; for a host descriptor, which has none, that of reads and writes.
fn queue_of(open: &OpenFile) -> &WaitQueue {
    open.file().wait_queue().unwrap_or(open.activity())
}

fn absent() -> Error {
    Error::new(Errno::ENOENT, "the descriptor is not there")
}

impl File for Epoll {
    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Regular, self.created_ns))
    }

    fn ready(&self) -> Readiness {
        let is_ready =
            self.armed().iter().any(|(_, watch)| watch.open.file().ready().intersects(watch.events | ALWAYS));
        if is_ready { Readiness::IN } else { Readiness::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.changed)
    }

    fn next_change_ns(&self) -> Option<u64> {
        next_change_of(self.armed().iter().map(|(_, watch)| watch))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[eventpoll]".into())
    }
}
