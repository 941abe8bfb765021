//! Telling the enclave which sockets became ready.
//!
//! # The protocol
//!
//! A thread of the enclave that sleeps for readiness ([`Ocall::ParkReady`]) sleeps in an edge-triggered epoll instance of its slot.
//! Edges go into a ring in memory that both sides see ([`edge_abi::readiness`]), which the enclave empties without an exit. So a
//! server pays for receiving and sending, and one exit whenever it has nothing left to do, as it would natively; and where each of
//! several threads has its own sockets, an event wakes the thread that wants it and no other.
//!
//! The enclave says who waits for a socket when it has it watched ([`Ocall::Watch`]), and that is where it is put, once:
//!
//! * One thread: into the instance of its slot.
//! * Any, because several do or did: into the *common* instance. That one is itself in the instance of one thread that sleeps,
//!   the *warden*, which fetches what is there. Events of a descriptor that another sleeper used last wake that sleeper;
//!   for any other the warden returns into the enclave, which tells whoever waits. A warden that goes puts the common
//!   instance into that of another sleeper, which is not woken for it. The one that has slept longest has least to do.
//!
//! There is no helper thread for these: between two threads that do the work, one more would cost a switch per event. A socket of which
//! the enclave wants to hear at once is in the instance of [`crate::alerts`], which has one.
//!
//! # Why nothing is lost
//!
//! * The enclave empties the ring before it parks; a park with records in the ring returns at once. Whoever writes a record
//!   returns into the enclave, or wakes somebody who does.
//! * Who waits for a socket that is another's has it watched for all first. It is put into the common instance before it is taken out of
//!   the other, and whoever puts a descriptor in gets an edge if it is ready.
//! * Somebody is warden whenever somebody sleeps and there is a common instance: who falls asleep looks, who goes hands it on, and
//!   who makes the first socket common gives it to a sleeper. All under one lock.
//! * An unpark sets the token first. A sleeper is woken through its eventfd, which is in its instance, edge-triggered, so that
//!   nobody has to read it. One that comes late costs the next sleep a look.
//! * A thread that has to poll other descriptors too polls its instance with them.
//! * Edges that find no room in the ring wait in [`Producer::backlog`], and the next park moves them.
//!
//! Lock order: `sleepers` and `producer`, each alone; neither is held over a wait.

use crate::alerts::Alerts;
use crate::epoll::{BATCH, Epoll, NO_EVENTS};
use crate::files::{checked, descriptor};
use crate::ocalls::errno_of;
use crate::park::{FOREVER, monotonic_ns};
use crate::slot::{Slot, Slots};
use edge_abi::ocall::{Ocall, WirePoll};
use edge_abi::readiness::{AT_ONCE, HEAD_AT, RECORDS, RECORDS_AT, RING_LEN, TAIL_AT, WireReady};
use edge_abi::ring;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What is known of descriptors is kept in this many parts of this many, made when they are needed.
const PARTS: usize = 1024;
const PART: usize = 1024;
/// What an eventfd has in place of a descriptor.
const WAKE: u64 = u64::MAX;
/// What the common instance has in place of a descriptor.
const COMMON: u64 = u64::MAX - 1;
/// Nobody: no warden, no user of a descriptor, or none that alone waits for it.
const NOBODY: u32 = 0;
/// The helper of [`crate::alerts`].
const HELPER: u32 = AT_ONCE as u32;
/// How long a thread sleeps for which the host has no instance.
const BLIND_NS: u64 = 10_000_000;

/// What is known of a descriptor.
#[derive(Default)]
struct Watched {
    token: AtomicU64,
    /// 1 + the slot in whose instance it is; [`NOBODY`]: it is in the common one; [`HELPER`].
    home: AtomicU32,
    /// 1 + the slot whose thread used it last.
    user: AtomicU32,
}

/// The part that exists once something is watched.
struct Instance {
    common: Epoll,
    watched: [OnceLock<Box<[Watched]>>; PARTS],
    ring: Box<[AtomicU64]>,
}

/// Who sleeps for readiness.
#[derive(Default)]
struct Sleepers {
    /// 1 + their slots, the one that has slept longest first.
    asleep: Vec<u32>,
    /// 1 + the slot in whose instance the common one is.
    warden: u32,
    /// Whether something is in the common instance, or was.
    has_common: bool,
}

/// Who writes the ring.
#[derive(Default)]
struct Producer {
    backlog: VecDeque<WireReady>,
}

/// The readiness service of an enclave.
#[derive(Default)]
pub(crate) struct Readiness {
    instance: OnceLock<Box<Instance>>,
    is_used: AtomicBool,
    sleepers: Mutex<Sleepers>,
    producer: Mutex<Producer>,
    pub(crate) alerts: Alerts,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The instance in which the thread of a slot sleeps.
fn instance_of(slot: &Slot) -> Result<&Epoll, i32> {
    if let Some(epoll) = slot.epoll.get() {
        return Ok(epoll);
    }
    let new = Epoll::new().map_err(|error| errno_of(&error))?;
    new.add(slot.parker.event()?, libc::EPOLLIN | libc::EPOLLET, WAKE).map_err(|error| errno_of(&error))?;
    Ok(slot.epoll.get_or_init(|| new))
}

/// A slot by 1 + its place.
fn numbered(slots: &Slots, number: u32) -> Option<&Slot> {
    slots.get(number.checked_sub(1)?.into())
}

impl Instance {
    fn new() -> io::Result<Self> {
        Ok(Self {
            common: Epoll::new()?,
            watched: [const { OnceLock::new() }; PARTS],
            ring: (0..RING_LEN / 8).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// What is known of a descriptor, if it is watched or was.
    fn watched(&self, fd: i32) -> Option<&Watched> {
        let fd = usize::try_from(fd).ok()?;
        self.watched.get(fd / PART)?.get()?.get(fd % PART)
    }

    /// The place for what is known of a descriptor; `None`: there is none for such a high one.
    fn place(&self, fd: i32) -> Option<&Watched> {
        let fd = usize::try_from(fd).ok()?;
        let part = self.watched.get(fd / PART)?;
        part.get_or_init(|| (0..PART).map(|_| Watched::default()).collect()).get(fd % PART)
    }

    /// The record of an event.
    fn record(&self, data: u64, events: u32) -> Option<WireReady> {
        let watched = i32::try_from(data).ok().and_then(|fd| self.watched(fd))?;
        Some(WireReady { token: watched.token.load(Ordering::SeqCst), events, pad: 0 })
    }

    fn word(&self, at: u64) -> Option<&AtomicU64> {
        self.ring.get(usize::try_from(at / 8).ok()?)
    }

    /// Records in the ring, as far as the enclave has said.
    fn held(&self) -> u64 {
        let load = |at| self.word(at).map_or(0, |word| word.load(Ordering::SeqCst));
        load(HEAD_AT).wrapping_sub(load(TAIL_AT)).min(RECORDS)
    }

    /// Writes a record; false if there is no room. One thread at a time.
    fn write(&self, record: &WireReady) -> bool {
        let (true, Some(head)) = (self.held() < RECORDS, self.word(HEAD_AT)) else { return false };
        let place = head.load(Ordering::Relaxed);
        let at = RECORDS_AT + place % RECORDS * size_of::<WireReady>() as u64;
        let (Some(token), Some(events)) = (self.word(at), self.word(at + 8)) else { return false };
        token.store(record.token, Ordering::Relaxed);
        events.store(record.events.into(), Ordering::Relaxed);
        head.store(place.wrapping_add(1), Ordering::SeqCst);
        true
    }
}

/// What a look into the instances brought.
#[derive(Default)]
struct Fetched {
    /// 1 + the slots that used last what is ready and is common.
    users: Vec<u32>,
    /// Whether some of it is the thread's own, or was used by nobody.
    is_mine: bool,
}

impl Sleepers {
    /// Has a slot's thread look after the common instance, unless one that sleeps does.
    fn appoint(&mut self, instance: &Instance, slots: &Slots, number: u32) {
        if !self.has_common || self.warden == number || self.asleep.contains(&self.warden) {
            return;
        }
        if let Some(former) = numbered(slots, self.warden).and_then(|slot| slot.epoll.get()) {
            let _ = former.remove(instance.common.fd());
        }
        self.warden = NOBODY;
        if let Some(epoll) = numbered(slots, number).and_then(|slot| slot.epoll.get())
            && epoll.add(instance.common.fd(), libc::EPOLLIN, COMMON).is_ok()
        {
            self.warden = number;
        }
    }

    fn begin(&mut self, instance: &Instance, slots: &Slots, number: u32) {
        self.asleep.push(number);
        self.appoint(instance, slots, number);
    }

    fn end(&mut self, instance: &Instance, slots: &Slots, number: u32) {
        self.asleep.retain(|&sleeper| sleeper != number);
        if let Some(&first) = self.asleep.first() {
            self.appoint(instance, slots, first);
        }
    }
}

impl Readiness {
    fn instance(&self) -> Result<&Instance, i32> {
        if let Some(instance) = self.instance.get() {
            return Ok(instance);
        }
        let new = Instance::new().map_err(|error| errno_of(&error))?;
        let instance = self.instance.get_or_init(|| Box::new(new));
        self.is_used.store(true, Ordering::Release);
        Ok(instance)
    }

    /// Serves Watch, Unwatch and ReadinessRing.
    pub(crate) fn answer(
        &self,
        slots: &Slots,
        slot: &Slot,
        call: Ocall,
        args: &[u64; 6],
    ) -> Result<u64, i32> {
        let instance = self.instance()?;
        match call {
            Ocall::Watch => {
                let fd = descriptor(args[0])?;
                let waiter = u32::try_from(args[2]).map_err(|_| libc::EINVAL)?;
                self.watch(instance, slots, (fd, args[1]), waiter)?;
                // Whoever looks after the common instance hears of operations for all.
                if args[1] != ring::TOKEN
                    && let Some(watched) = instance.watched(fd)
                {
                    watched.user.store(slot.number(), Ordering::SeqCst);
                }
                Ok(ready_now(slot, fd))
            }
            Ocall::Unwatch => {
                let fd = descriptor(args[0])?;
                let watched = instance.watched(fd).ok_or(libc::ENOENT)?;
                let _moving = lock(&self.sleepers);
                watched.token.store(0, Ordering::SeqCst);
                let home = self.instance_at(instance, slots, watched.home.load(Ordering::SeqCst))?;
                home.remove(fd).map(|()| 0).map_err(|error| errno_of(&error))
            }
            Ocall::ReadinessRing => Ok(instance.ring.as_ptr() as u64),
            _ => checked(-1),
        }
    }

    /// Watches a descriptor for a waiter, or one that is watched already, which is that of the token, for all.
    fn watch(
        &self,
        instance: &Instance,
        slots: &Slots,
        (fd, token): (i32, u64),
        waiter: u32,
    ) -> Result<(), i32> {
        let all = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLET;
        let watched = instance.place(fd).ok_or(libc::ENOSPC)?;
        let mut sleepers = lock(&self.sleepers);
        let is_watched = watched.token.load(Ordering::SeqCst) == token;
        let home = watched.home.load(Ordering::SeqCst);
        let waiter = if is_watched && waiter != HELPER { NOBODY } else { waiter };
        if is_watched && (home == waiter || home == HELPER) {
            return Ok(());
        }
        let epoll = self.instance_at(instance, slots, waiter)?;
        let add = || epoll.add(fd, all, u64::from(fd.cast_unsigned()));
        let mut added = add();
        if is_watched {
            let _ = self.instance_at(instance, slots, home)?.remove(fd);
            // There may have been no room for both.
            added = added.or_else(|_| add());
        }
        added.map_err(|error| errno_of(&error))?;
        watched.token.store(token, Ordering::SeqCst);
        watched.home.store(waiter, Ordering::SeqCst);
        if waiter == NOBODY {
            sleepers.has_common = true;
            if let Some(&first) = sleepers.asleep.first() {
                sleepers.appoint(instance, slots, first);
            }
        }
        Ok(())
    }

    /// The instance of a slot's thread, the common one or the helper's.
    fn instance_at<'a>(
        &'a self,
        instance: &'a Instance,
        slots: &'a Slots,
        home: u32,
    ) -> Result<&'a Epoll, i32> {
        match home {
            NOBODY => Ok(&instance.common),
            HELPER => self.alerts.epoll().ok_or(libc::EINVAL),
            number => instance_of(numbered(slots, number).ok_or(libc::EINVAL)?),
        }
    }

    /// Puts events that the helper got into the ring.
    pub(crate) fn note(&self, events: &[(u64, u32)]) {
        let Some(instance) = self.instance.get() else { return };
        let mut producer = lock(&self.producer);
        producer.backlog.extend(events.iter().filter_map(|&(data, events)| instance.record(data, events)));
        producer.flush(instance);
    }

    /// Whether the enclave has not taken all that is in the ring.
    pub(crate) fn has_news(&self) -> bool {
        self.instance.get().is_some_and(|instance| self.has_records(instance))
    }

    /// Notes who uses a descriptor.
    pub(crate) fn note_use(&self, slot: &Slot, fd: u64) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let watched = self.instance.get().and_then(|instance| instance.watched(i32::try_from(fd).ok()?));
        if let Some(watched) = watched {
            watched.user.store(slot.number(), Ordering::Relaxed);
        }
    }

    /// Sleeps until unparked, the deadline, or there is something in the ring. Returns whether it was the deadline.
    pub(crate) fn park(&self, slots: &Slots, slot: &Slot, deadline_ns: u64) -> bool {
        let Ok(instance) = self.instance() else { return slot.parker.park(deadline_ns) };
        let (Ok(epoll), Ok(event)) = (instance_of(slot), slot.parker.event()) else {
            let until = monotonic_ns().saturating_add(BLIND_NS);
            return slot.parker.park(deadline_ns.min(until)) && deadline_ns <= until;
        };
        let me = slot.number();
        // Whether what is in the ring is known to somebody who was woken for it.
        let mut is_handed_over = false;
        loop {
            if slot.parker.take_token() {
                return false;
            }
            if !is_handed_over && self.has_records(instance) {
                return false;
            }
            if deadline_ns == 0 {
                self.fetch(instance, epoll, 0, true);
                return !self.has_records(instance);
            }
            lock(&self.sleepers).begin(instance, slots, me);
            let sleep = || self.fetch(instance, epoll, deadline_ns, false);
            let fetched = slot.parker.with_wake_fd(event, sleep).unwrap_or_default();
            let mut sleepers = lock(&self.sleepers);
            sleepers.end(instance, slots, me);
            let asleep = if fetched.users.is_empty() { Vec::new() } else { sleepers.asleep.clone() };
            drop(sleepers);
            if !hand_over(slots, (me, &asleep), &fetched) {
                return false;
            }
            is_handed_over = !fetched.users.is_empty();
            if deadline_ns != FOREVER && monotonic_ns() >= deadline_ns {
                return !slot.parker.take_token();
            }
        }
    }

    /// Sleeps in a poll of `rows`, which unparks and edges end too (EINTR). Returns the number of rows with events.
    pub(crate) fn poll(
        &self,
        slots: &Slots,
        slot: &Slot,
        rows: &mut [WirePoll],
        deadline_ns: u64,
    ) -> Result<u64, i32> {
        let used = if self.is_used.load(Ordering::Acquire) { self.instance.get() } else { None };
        let (Some(instance), true) = (used, deadline_ns != 0) else {
            return slot.parker.poll(rows, deadline_ns, None);
        };
        let epoll = instance_of(slot)?;
        if self.has_records(instance) {
            return Err(libc::EINTR);
        }
        lock(&self.sleepers).begin(instance, slots, slot.number());
        let result = slot.parker.poll(rows, deadline_ns, Some(epoll.fd()));
        lock(&self.sleepers).end(instance, slots, slot.number());
        if result == Err(libc::EINTR) || result == Ok(0) {
            self.fetch(instance, epoll, 0, false);
        }
        result
    }

    /// Gets what is ready in a thread's instance into the ring, and what is common if that is in there, or asked for.
    fn fetch(&self, instance: &Instance, epoll: &Epoll, deadline_ns: u64, asks_common: bool) -> Fetched {
        let mut is_common_due = asks_common && lock(&self.sleepers).has_common;
        let (mut fetched, mut batch) = (Fetched::default(), NO_EVENTS);
        let mut producer: Option<MutexGuard<'_, Producer>> = None;
        let mut tell = |data: u64, events: u32| {
            let record = instance.record(data, events)?;
            producer.get_or_insert_with(|| lock(&self.producer)).backlog.push_back(record);
            instance.watched(i32::try_from(data).ok()?)
        };
        for (data, events) in epoll.wait(&mut batch, deadline_ns) {
            match data {
                WAKE => {}
                COMMON => is_common_due = true,
                fd => fetched.is_mine |= tell(fd, events).is_some(),
            }
        }
        while is_common_due {
            let mut count = 0;
            for (data, events) in instance.common.wait(&mut batch, 0) {
                count += 1;
                let Some(watched) = tell(data, events) else { continue };
                match watched.user.load(Ordering::Relaxed) {
                    NOBODY => fetched.is_mine = true,
                    user if fetched.users.contains(&user) => {}
                    user => fetched.users.push(user),
                }
            }
            is_common_due = count == BATCH;
        }
        if let Some(mut producer) = producer {
            producer.flush(instance);
        }
        fetched
    }

    /// Whether there is something for the enclave to read.
    fn has_records(&self, instance: &Instance) -> bool {
        if instance.held() > 0 {
            return true;
        }
        lock(&self.producer).flush(instance);
        instance.held() > 0
    }
}

/// Wakes the sleepers that used what is ready last; false if some of it belongs to nobody who sleeps.
fn hand_over(slots: &Slots, (me, asleep): (u32, &[u32]), fetched: &Fetched) -> bool {
    let mut is_all = !fetched.is_mine;
    for &user in &fetched.users {
        match numbered(slots, user) {
            Some(slot) if user != me && asleep.contains(&user) => slot.parker.unpark(),
            _ => is_all = false,
        }
    }
    is_all
}

/// What a descriptor is ready for: POLL* bits. Nothing when that cannot be known: the first edge tells.
fn ready_now(slot: &Slot, fd: i32) -> u64 {
    let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
    let mut row = [WirePoll { fd, events: events.cast_unsigned(), revents: 0 }];
    let _ = slot.parker.poll(&mut row, 0, None);
    row[0].revents.into()
}

impl Producer {
    /// Moves what waits into the ring, as far as there is room.
    fn flush(&mut self, instance: &Instance) {
        while let Some(record) = self.backlog.front() {
            if !instance.write(record) {
                break;
            }
            self.backlog.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
