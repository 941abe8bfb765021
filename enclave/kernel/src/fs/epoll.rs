//! `epoll(7)`.
//!
//! An instance keeps a queue of the interests whose files told of something since it last looked at them, and looks at no
//! others: a wait costs what is ready, not what is watched. An edge-triggered interest leaves the queue when it is looked at; a
//! level-triggered one comes back to the end for as long as its file is ready. Files that change unannounced (host
//! streams, timers, other instances) are looked at every time.
//!
//! A host socket wakes one thread, the one that waits for it. Who waits in an instance does not look at each of its files, so the first
//! to wait tells the files, and so does the second: from then on they wake any.
//!
//! Lock order: the one of [`OpenFile::nesting`], then those here, which are leaves; none is held while a file is asked what is ready.

mod interest;

use super::pipe::anonymous_metadata;
use super::wait::{Source, host_row, wait_until};
use super::{FsShared, OpenFile};
use crate::Ctx;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use interest::Interest;
use interest::{Key, LOOK_ANEW, Setting};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::fs::{EpollEvent, OpenFlags};
use platform::{HostPoll, Platform, ThreadHandle};
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier, Transfers};

/// EPOLLEXCLUSIVE. Every waiter is woken nevertheless, which `epoll_ctl(2)` allows ("one or more").
const EXCLUSIVE: u32 = 1 << 28;
/// How often an instance may be watched by one that is watched (EP_MAX_NESTS).
const NESTING: u32 = 4;
/// Nobody has waited for an instance yet.
const NOBODY: u64 = 0;
/// Several threads have.
const ANY: u64 = u64::MAX;

/// An instance.
pub(crate) struct Epoll {
    me: Weak<Self>,
    platform: Arc<dyn Platform>,
    ino: u64,
    created_ns: i64,
    interests: Mutex<BTreeMap<Key, Arc<Interest>>>,
    /// Those to look at.
    queue: Mutex<VecDeque<Arc<Interest>>>,
    /// Those to look at every time.
    unannounced: Mutex<Vec<Arc<Interest>>>,
    /// The interests in this instance.
    watchers: Mutex<Vec<Weak<Interest>>>,
    /// Counts changes of what is to be looked at every time.
    generation: AtomicU64,
    /// 1 + the thread that waits here, [`NOBODY`], or [`ANY`].
    waiter: AtomicU64,
    notifier: ReadinessNotifier,
}

/// A new instance.
pub(crate) fn epoll(shared: &Arc<FsShared>) -> Arc<OpenFile> {
    let file = Arc::new_cyclic(|me| Epoll {
        me: me.clone(),
        platform: Arc::clone(shared.platform()),
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
        interests: Mutex::default(),
        queue: Mutex::default(),
        unannounced: Mutex::default(),
        watchers: Mutex::default(),
        generation: AtomicU64::new(0),
        waiter: AtomicU64::new(NOBODY),
        notifier: ReadinessNotifier::new(),
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
        if !open.file().can_be_watched() {
            bail!(EPERM, "a file or directory is always ready");
        }
        let other = open.file().as_any().downcast_ref::<Self>();
        // Two who look at the same time would not see each other.
        let nesting = other.map(|_| open.nesting().lock());
        if let Some(other) = other
            && self.height().saturating_add(1).saturating_add(other.depth_to(self, 0)) > NESTING
        {
            bail!(ELOOP, "the instance would watch itself, or through too many others");
        }
        let key = (fd, open.id());
        let interest = Arc::new_cyclic(|me| Interest {
            me: me.clone(),
            key,
            epoll: self.me.clone(),
            file: Arc::downgrade(open.file()),
            is_unannounced: open.file().changes_unannounced(),
            bands: open.file().bands(),
            setting: Mutex::new(Setting::new(event)),
            is_queued: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            is_armed: AtomicBool::new(true),
        });
        {
            let mut interests = self.interests.lock();
            if interests.contains_key(&key) {
                bail!(EEXIST, "the descriptor is there already");
            }
            interests.insert(key, interest.clone());
        }
        if let Some(other) = other {
            let mut watchers = other.watchers.lock();
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.push(interest.me.clone());
        }
        drop(nesting);
        open.watch(&interest);
        if interest.is_unannounced {
            self.unannounced.lock().push(interest.clone());
        }
        self.tell_waiter(&**open.file());
        interest.attach();
        if interest.is_removed.load(Ordering::SeqCst) {
            // Somebody deleted it before it was attached.
            interest.detach();
        }
        self.begin(&interest);
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    ///
    /// # Errors
    /// ENOENT the descriptor is not there; EINVAL with EPOLLEXCLUSIVE.
    pub(crate) fn modify(&self, fd: u32, open: &OpenFile, event: EpollEvent) -> Result<()> {
        let interest = self.interests.lock().get(&(fd, open.id())).cloned().ok_or_else(absent)?;
        if (event.events | interest.setting().events) & EXCLUSIVE != 0 {
            bail!(EINVAL, "an exclusive interest stays as it is");
        }
        interest.detach();
        *interest.setting.lock() = Setting::new(event);
        interest.is_armed.store(true, Ordering::SeqCst);
        interest.attach();
        self.begin(&interest);
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    ///
    /// # Errors
    /// ENOENT the descriptor is not there.
    pub(crate) fn remove(&self, fd: u32, open: &OpenFile) -> Result<()> {
        let removed = self.interests.lock().remove(&(fd, open.id()));
        self.forget(&*removed.ok_or_else(absent)?);
        Ok(())
    }

    /// An interest is not in the table any more.
    fn forget(&self, interest: &Interest) {
        interest.is_removed.store(true, Ordering::SeqCst);
        interest.detach();
        if interest.is_unannounced {
            self.unannounced.lock().retain(|there| !core::ptr::eq(&raw const **there, interest));
            self.look_anew();
        }
    }

    /// Something is waited for from now on, and may be ready already.
    fn begin(&self, interest: &Interest) {
        if interest.is_unannounced {
            self.look_anew();
        }
        // What the host has is not asked for here, and what another waits for not looked at.
        let is_anothers = || {
            let waiter = self.waiter.load(Ordering::SeqCst);
            !matches!(waiter, NOBODY | ANY) && waiter != number_of(self.platform.current())
        };
        let is_ready = || interest.ready().intersects(interest.setting().wanted());
        if host_row_of(interest).is_some() || is_anothers() || is_ready() {
            self.enqueue(interest);
        }
    }

    /// Has an interest looked at.
    fn enqueue(&self, interest: &Interest) {
        if let Some(interest) = interest.me.upgrade()
            && !interest.is_queued.swap(true, Ordering::SeqCst)
        {
            self.queue.lock().push_back(interest);
        }
        self.notifier.broadcast(&Readiness::IN);
    }

    /// Makes those who wait look at what changes unannounced.
    fn look_anew(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.notifier.broadcast(&LOOK_ANEW);
    }

    /// A thread waits here, or may: 1 + its handle, or [`ANY`].
    fn note_waiter(&self, waiter: u64) {
        let before = self.waiter.load(Ordering::SeqCst);
        if before == waiter || before == ANY {
            return;
        }
        // The closure always gives a value.
        let note = |before| Some(if before == NOBODY { waiter } else { ANY });
        let _ = self.waiter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, note);
        let interests: Vec<_> = self.interests.lock().values().cloned().collect();
        interests
            .iter()
            .filter_map(|interest| interest.file.upgrade())
            .for_each(|file| self.tell_waiter(&*file));
    }

    fn note_me(&self) {
        self.note_waiter(number_of(self.platform.current()));
    }

    /// Tells a file who waits for it here, if somebody does.
    fn tell_waiter(&self, file: &dyn File) {
        match self.waiter.load(Ordering::SeqCst) {
            NOBODY => {}
            ANY => file.is_awaited_by(None),
            waiter => file.is_awaited_by(u32::try_from(waiter - 1).ok().map(ThreadHandle)),
        }
    }

    /// Through how many instances this one watches others. More than [`NESTING`]: it is too many, or `other` is among them.
    fn depth_to(&self, other: &Self, before: u32) -> u32 {
        if core::ptr::eq(self, other) || before > NESTING {
            return NESTING + 1;
        }
        let files = self.unannounced_interests();
        let depths = files.iter().filter_map(|interest| interest.file.upgrade()).filter_map(|file| {
            let inner = file.as_any().downcast_ref::<Self>()?;
            Some(inner.depth_to(other, before + 1).saturating_add(1))
        });
        depths.max().unwrap_or(0)
    }

    /// Through how many instances this one is watched.
    fn height(&self) -> u32 {
        let watchers = self.watchers.lock().clone();
        let watchers = watchers.iter().filter_map(Weak::upgrade);
        let watching = watchers.filter(|watcher| !watcher.is_removed.load(Ordering::SeqCst));
        let heights =
            watching.filter_map(|watcher| Some(watcher.epoll.upgrade()?.height().saturating_add(1)));
        heights.max().unwrap_or(0)
    }

    fn unannounced_interests(&self) -> Vec<Arc<Interest>> {
        self.unannounced.lock().clone()
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
        self.note_me();
        let sockets = &ctx.kernel.host_sockets;
        // Who never sleeps asks the host now and then; who finds nothing and does not want to sleep, at once.
        sockets.fetch_sometimes(ctx.platform());
        let mut may_fetch = deadline_ns == Some(0);
        loop {
            let mut events = Vec::new();
            self.collect(max, &mut events);
            self.collect_unannounced(ctx, max, &mut events)?;
            if events.is_empty() && may_fetch && sockets.fetch(ctx.platform()) {
                may_fetch = false;
                continue;
            }
            let is_over = deadline_ns.is_some_and(|at| at == 0 || ctx.platform().monotonic_ns() >= at);
            if !events.is_empty() || is_over {
                return Ok(events);
            }
            self.sleep(ctx, deadline_ns)?;
        }
    }

    /// Looks at the interests that are queued, each once.
    fn collect(&self, max: usize, events: &mut Vec<EpollEvent>) {
        let mut left = self.queue.lock().len();
        let most = left.min(max);
        events.reserve(most);
        let mut back = Vec::with_capacity(most);
        while left > 0 && events.len() < max {
            let Some(interest) = self.queue.lock().pop_front() else { break };
            left -= 1;
            // Before it is looked at, so that what happens afterwards brings it back.
            interest.is_queued.store(false, Ordering::SeqCst);
            if interest.is_unannounced {
                continue;
            }
            if let Some((event, comes_back)) = interest.report(interest.ready()) {
                events.push(event);
                if comes_back {
                    back.push(interest);
                }
            }
        }
        if !back.is_empty() {
            {
                let mut queue = self.queue.lock();
                back.retain(|interest| !interest.is_queued.swap(true, Ordering::SeqCst));
                queue.extend(back);
            }
            // Others who wait here may have found the queue empty meanwhile.
            self.notifier.broadcast(&LOOK_ANEW);
        }
    }

    /// Looks at the interests in files that change unannounced.
    fn collect_unannounced(&self, ctx: &Ctx<'_>, max: usize, events: &mut Vec<EpollEvent>) -> Result<()> {
        let interests = self.unannounced_interests();
        let (mut rows, of_hosts) = host_rows(&interests);
        if !rows.is_empty() {
            ctx.platform().host_poll(&mut rows, Some(0))?;
        }
        let in_host = of_hosts.into_iter().zip(rows.iter().map(|row| row.revents));
        let in_host = in_host.map(|(interest, ready)| (interest, Readiness::from_bits_truncate(ready)));
        let inside = interests.iter().filter(|interest| host_row_of(interest).is_none());
        for (interest, ready) in in_host.chain(inside.map(|interest| (interest, interest.ready()))) {
            if events.len() >= max {
                break;
            }
            events.extend(interest.report(ready).map(|(event, _)| event));
        }
        Ok(())
    }

    /// Sleeps until there may be something to report.
    fn sleep(&self, ctx: &Ctx<'_>, deadline_ns: Option<u64>) -> Result<()> {
        let before = self.generation.load(Ordering::SeqCst);
        let interests = self.unannounced_interests();
        let (mut rows, _) = host_rows(&interests);
        let source = Source { notifier: &self.notifier, events: Readiness::IN };
        let next_change = || next_change_of(&interests);
        let result = wait_until(ctx, &[source], &mut rows, deadline_ns, next_change, |rows| {
            let is_host_ready = rows.iter().any(|row| row.revents != 0);
            let is_queued = || !self.queue.lock().is_empty();
            let is_changed = || self.generation.load(Ordering::SeqCst) != before;
            let is_ready = || {
                let mut inside = interests.iter().filter(|interest| host_row_of(interest).is_none());
                inside.any(|interest| interest.found(interest.ready()).is_some())
            };
            (is_host_ready || is_queued() || is_changed() || is_ready()).then_some(())
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.errno() == Errno::ERESTARTSYS => {
                Err(Error::new(Errno::ERESTARTNOHAND, "a signal came while waiting"))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for interest in self.interests.get_mut().values() {
            interest.detach();
        }
    }
}

/// The row of a host poll for an interest in a host descriptor, unless it is muted.
fn host_row_of(interest: &Interest) -> Option<HostPoll> {
    let setting = interest.setting();
    let file = interest.file.upgrade()?;
    host_row(&*file, setting.wanted())
}

/// The rows of a host poll, and what they are of.
fn host_rows(interests: &[Arc<Interest>]) -> (Vec<HostPoll>, Vec<&Arc<Interest>>) {
    let rows = interests.iter().filter(|interest| interest.found(Readiness::all()).is_some());
    rows.filter_map(|interest| Some((host_row_of(interest)?, interest))).unzip()
}

/// When one of the files that are watched for reading changes though nobody tells.
fn next_change_of(interests: &[Arc<Interest>]) -> Option<u64> {
    let timed = interests.iter().filter(|interest| interest.found(Readiness::IN).is_some());
    timed.filter_map(|interest| interest.file.upgrade()?.next_change_ns()).min()
}

fn number_of(thread: ThreadHandle) -> u64 {
    u64::from(thread.0) + 1
}

fn absent() -> Error {
    Error::new(Errno::ENOENT, "the descriptor is not there")
}

impl File for Epoll {
    fn can_transfer(&self) -> Transfers {
        Transfers { read: false, write: false }
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Anonymous, self.created_ns))
    }

    fn ready(&self) -> Readiness {
        self.note_me();
        let queued: Vec<Arc<Interest>> = self.queue.lock().iter().cloned().collect();
        let mut all = queued.iter().chain(&*self.unannounced_interests()).cloned().collect::<Vec<_>>();
        all.retain(|interest| interest.found(interest.ready()).is_some());
        if all.is_empty() { Readiness::empty() } else { Readiness::IN }
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.notifier)
    }

    fn is_awaited_by(&self, thread: Option<ThreadHandle>) {
        self.note_waiter(thread.map_or(ANY, number_of));
    }

    fn changes_unannounced(&self) -> bool {
        true
    }

    fn next_change_ns(&self) -> Option<u64> {
        next_change_of(&self.unannounced_interests())
    }

    fn seek(&self, _offset: i64, _whence: u32) -> Result<u64> {
        // Linux takes any place for the beginning.
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[eventpoll]".into())
    }
}
