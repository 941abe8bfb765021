//! Telling the enclave which sockets became ready.
//!
//! # The protocol
//!
//! All watched descriptors are in one edge-triggered epoll instance, put there once, when the enclave first has to wait for
//! them. Edges go into a ring in memory that both sides see ([`edge_abi::readiness`]), which the enclave empties without an
//! exit. So a server pays for receiving and sending, and one exit whenever it has nothing left to do, as it would natively.
//!
//! There is no helper thread: between two threads that do the work, one more would cost a switch per event. Enclave threads
//! that sleep for readiness ([`Ocall::ParkReady`]) wait in the instance themselves, one at a time:
//!
//! * The *leader* sleeps in `epoll_pwait2` of the instance. It writes the edges that it gets into the ring. Edges of a
//!   descriptor that another sleeper used last wake that sleeper; for any other the leader returns into the enclave, which
//!   tells whoever waits there.
//! * The *followers* sleep on their futex word. A leader that goes promotes one of them, which takes its place in the
//!   host, without an entry. A server with one thread never does any of that.
//!
//! # Why nothing is lost
//!
//! * The enclave empties the ring before it parks; a park with records in the ring returns at once. Whoever writes a record
//!   sees whether its addressee sleeps only afterwards, and a follower looks at the ring after it is on the list.
//! * A leader gives up the lead before it looks for a follower; a follower is on the list before it looks for a leader.
//! * An unpark sets the token first. The leader is woken through an eventfd in the instance, registered edge-triggered, so that
//!   nobody has to read it. One that comes late, when another leads, costs that one a look.
//! * A thread that has to poll other descriptors too polls the instance with them.
//! * Edges that find no room in the ring wait in [`Producer::backlog`], and the next park moves them.
//!
//! Lock order: `followers` and `producer`, each alone; neither is held over a wait, and nobody is woken under one.

use crate::files::{checked, descriptor};
use crate::park::{FOREVER, Parker, monotonic_ns};
use crate::slot::{Slot, Slots};
use edge_abi::ocall::{Ocall, WirePoll};
use edge_abi::readiness::{HEAD_AT, RECORDS, RECORDS_AT, RING_LEN, TAIL_AT, WireReady};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What is known of descriptors is kept in this many parts of this many, made when they are needed.
const PARTS: usize = 1024;
const PART: usize = 1024;
/// Events fetched at once.
const BATCH: usize = 128;
/// What the eventfd of the leader has in place of a descriptor.
const WAKE: u64 = u64::MAX;
/// Nobody: no leader, or no user of a descriptor.
const NOBODY: u32 = 0;

/// What is known of a descriptor.
#[derive(Default)]
struct Watched {
    token: AtomicU64,
    /// 1 + the slot whose thread used it last.
    user: AtomicU32,
}

/// The part that exists once something is watched.
struct Instance {
    epoll: OwnedFd,
    wake: OwnedFd,
    watched: [OnceLock<Box<[Watched]>>; PARTS],
    ring: Box<[AtomicU64]>,
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
    /// 1 + the slot of the leader.
    leader: AtomicU32,
    followers: Mutex<Vec<u32>>,
    producer: Mutex<Producer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Instance {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: no pointers are involved.
        let wake = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let instance = Self {
            epoll,
            wake,
            watched: [const { OnceLock::new() }; PARTS],
            ring: (0..RING_LEN / 8).map(|_| AtomicU64::new(0)).collect(),
        };
        let edges = libc::EPOLLIN | libc::EPOLLET;
        instance.control(libc::EPOLL_CTL_ADD, instance.wake.as_raw_fd(), edges, WAKE)?;
        Ok(instance)
    }

    fn control(&self, operation: i32, fd: i32, events: i32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
        // SAFETY: a valid event.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

    /// Waits for events; the deadline is as for parks, 0: does not wait.
    fn wait(&self, events: &mut [libc::epoll_event; BATCH], deadline_ns: u64) -> usize {
        let left = deadline_ns.saturating_sub(if deadline_ns == 0 { 0 } else { monotonic_ns() });
        let time = crate::park::timespec(left);
        let time = if deadline_ns == FOREVER { std::ptr::null() } else { &raw const time };
        // SAFETY: an array of its length and a valid time; no mask is passed.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                BATCH,
                time,
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        if count < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            // Linux before 5.11: milliseconds, rounded up.
            let rounded = i32::try_from(left.div_ceil(1_000_000)).unwrap_or(i32::MAX);
            let timeout = if deadline_ns == FOREVER { -1 } else { rounded };
            // SAFETY: an array of its length.
            let count = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, timeout)
            };
            return usize::try_from(count).unwrap_or(0);
        }
        usize::try_from(count).unwrap_or(0)
    }
}

/// What a look into the instance brought.
struct Fetched {
    /// Slots that used what is ready last.
    users: Vec<u32>,
    /// Whether some of it was used by nobody.
    is_unclaimed: bool,
}

impl Readiness {
    fn instance(&self) -> Result<&Instance, i32> {
        if let Some(instance) = self.instance.get() {
            return Ok(instance);
        }
        let new = Instance::new().map_err(|error| crate::ocalls::errno_of(&error))?;
        let instance = self.instance.get_or_init(|| Box::new(new));
        self.is_used.store(true, Ordering::Release);
        Ok(instance)
    }

    /// Serves Watch, Unwatch and ReadinessRing.
    pub(crate) fn answer(&self, slot: &Slot, call: Ocall, args: &[u64; 6]) -> Result<u64, i32> {
        let instance = self.instance()?;
        match call {
            Ocall::Watch => {
                let fd = descriptor(args[0])?;
                let watched = instance.place(fd).ok_or(libc::ENOSPC)?;
                watched.token.store(args[1], Ordering::SeqCst);
                watched.user.store(slot.number(), Ordering::SeqCst);
                let all = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLET;
                let added = instance.control(libc::EPOLL_CTL_ADD, fd, all, fd as u64);
                added.map(|()| ready_now(slot, fd)).map_err(|error| crate::ocalls::errno_of(&error))
            }
            Ocall::Unwatch => {
                let removed = instance.control(libc::EPOLL_CTL_DEL, descriptor(args[0])?, 0, 0);
                removed.map(|()| 0).map_err(|error| crate::ocalls::errno_of(&error))
            }
            Ocall::ReadinessRing => Ok(instance.ring.as_ptr() as u64),
            _ => checked(-1),
        }
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
        let timed_out = self.park_in(instance, slots, slot, deadline_ns);
        self.promote(slots);
        timed_out
    }

    fn park_in(&self, instance: &Instance, slots: &Slots, slot: &Slot, deadline_ns: u64) -> bool {
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
                self.fetch(instance, me, 0);
                return !self.has_records(instance);
            }
            if self.leader.compare_exchange(NOBODY, me, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                let fetched = slot
                    .parker
                    .with_wake_fd(instance.wake.as_raw_fd(), || self.fetch(instance, me, deadline_ns));
                self.leader.store(NOBODY, Ordering::SeqCst);
                match fetched.flatten() {
                    Some(fetched) if !self.hand_over(slots, me, &fetched) => return false,
                    Some(_) => is_handed_over = true,
                    None => {}
                }
            } else {
                lock(&self.followers).push(me);
                let must_look = self.leader.load(Ordering::SeqCst) == NOBODY || self.has_records(instance);
                if !must_look {
                    slot.parker.follow(deadline_ns);
                }
                lock(&self.followers).retain(|&follower| follower != me);
                is_handed_over = false;
            }
            if deadline_ns != FOREVER && monotonic_ns() >= deadline_ns {
                return !slot.parker.take_token();
            }
        }
    }

    /// Sleeps in a poll of `rows`, which unparks and edges end too (EINTR). Returns the number of rows with events.
    pub(crate) fn poll(&self, slot: &Slot, rows: &mut [WirePoll], deadline_ns: u64) -> Result<u64, i32> {
        let used = if self.is_used.load(Ordering::Acquire) { self.instance.get() } else { None };
        let (Some(instance), true) = (used, deadline_ns != 0) else {
            return slot.parker.poll(rows, deadline_ns, None);
        };
        if self.has_records(instance) {
            return Err(libc::EINTR);
        }
        let result = slot.parker.poll(rows, deadline_ns, Some(instance.epoll.as_raw_fd()));
        if result == Err(libc::EINTR) || result == Ok(0) {
            self.fetch(instance, slot.number(), 0);
        }
        result
    }

    /// Wakes the sleepers that used what is ready last; false if some of it belongs to nobody who sleeps.
    fn hand_over(&self, slots: &Slots, me: u32, fetched: &Fetched) -> bool {
        let followers = lock(&self.followers).clone();
        let mut is_all = !fetched.is_unclaimed;
        for &user in &fetched.users {
            if user != me && followers.contains(&user) {
                wake(slots, user, Parker::unpark);
            } else {
                is_all = false;
            }
        }
        is_all
    }

    /// Gets what is ready into the ring; `None` when nothing is.
    fn fetch(&self, instance: &Instance, me: u32, deadline_ns: u64) -> Option<Fetched> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let count = instance.wait(&mut events, deadline_ns);
        let mut fetched = Fetched { users: Vec::new(), is_unclaimed: false };
        let mut producer = lock(&self.producer);
        for event in events.get(..count).unwrap_or_default() {
            let (data, bits) = (event.u64, event.events);
            if data == WAKE {
                if self.leader.load(Ordering::SeqCst) != me {
                    // Meant for the leader, whom this look has just robbed of it.
                    crate::park::signal(instance.wake.as_raw_fd());
                }
                continue;
            }
            let Some(watched) = i32::try_from(data).ok().and_then(|fd| instance.watched(fd)) else {
                continue;
            };
            let record = WireReady { token: watched.token.load(Ordering::SeqCst), events: bits, pad: 0 };
            producer.backlog.push_back(record);
            match watched.user.load(Ordering::Relaxed) {
                NOBODY => fetched.is_unclaimed = true,
                user if fetched.users.contains(&user) => {}
                user => fetched.users.push(user),
            }
        }
        producer.flush(instance);
        drop(producer);
        (fetched.is_unclaimed || !fetched.users.is_empty()).then_some(fetched)
    }

    /// Whether there is something for the enclave to read.
    fn has_records(&self, instance: &Instance) -> bool {
        if instance.held() > 0 {
            return true;
        }
        lock(&self.producer).flush(instance);
        instance.held() > 0
    }

    /// Makes a follower take the lead when nobody has it.
    fn promote(&self, slots: &Slots) {
        if self.leader.load(Ordering::SeqCst) != NOBODY {
            return;
        }
        let first = lock(&self.followers).first().copied();
        if let Some(first) = first {
            wake(slots, first, Parker::promote);
        }
    }
}

/// What a descriptor is ready for: POLL* bits. Nothing when that cannot be known: the first edge tells.
fn ready_now(slot: &Slot, fd: i32) -> u64 {
    let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
    let mut row = [WirePoll { fd, events: events.cast_unsigned(), revents: 0 }];
    let _ = slot.parker.poll(&mut row, 0, None);
    row[0].revents.into()
}

/// Wakes the thread of a slot, by the slot's number.
fn wake(slots: &Slots, number: u32, how: impl FnOnce(&Parker)) {
    if let Some(slot) = number.checked_sub(1).and_then(|index| slots.get(index.into())) {
        how(&slot.parker);
    }
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
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    struct Host {
        slots: Slots,
        readiness: Readiness,
    }

    impl Host {
        fn new() -> Arc<Self> {
            let slots = Slots::new(4);
            slots.grow(4).unwrap();
            Arc::new(Self { slots, readiness: Readiness::default() })
        }

        fn slot(&self, index: u64) -> &Slot {
            self.slots.get(index).unwrap()
        }

        fn watch(&self, index: u64, socket: &UdpSocket, token: u64) {
            let args = [socket.as_raw_fd() as u64, token, 0, 0, 0, 0];
            self.readiness.answer(self.slot(index), Ocall::Watch, &args).unwrap();
        }

        fn park(&self, index: u64, deadline_ns: u64) -> bool {
            self.readiness.park(&self.slots, self.slot(index), deadline_ns)
        }

        /// Empties the ring as the enclave does.
        fn tokens(&self) -> Vec<u64> {
            let instance = self.readiness.instance.get().unwrap();
            let head = instance.word(HEAD_AT).unwrap().load(Ordering::SeqCst);
            let tail = instance.word(TAIL_AT).unwrap();
            let tokens = (tail.load(Ordering::SeqCst)..head)
                .map(|n| instance.word(RECORDS_AT + n % RECORDS * 16).unwrap().load(Ordering::Relaxed))
                .collect();
            tail.store(head, Ordering::SeqCst);
            tokens
        }
    }

    fn pair() -> (UdpSocket, UdpSocket) {
        let (one, two) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        one.connect(two.local_addr().unwrap()).unwrap();
        (one, two)
    }

    fn soon() -> u64 {
        monotonic_ns() + 20_000_000
    }

    #[test]
    fn an_edge_ends_a_park_once() {
        let host = Host::new();
        let (sender, receiver) = pair();
        host.watch(0, &receiver, 77);
        assert!(!host.park(0, FOREVER), "a new socket says what it is ready for");
        assert_eq!(host.tokens(), [77]);
        assert!(host.park(0, soon()), "nothing happened");
        sender.send(b"x").unwrap();
        assert!(!host.park(0, FOREVER));
        assert_eq!(host.tokens(), [77]);
        assert!(host.park(0, 0));
    }

    #[test]
    fn a_park_with_records_in_the_ring_returns_at_once() {
        let host = Host::new();
        let (_sender, receiver) = pair();
        host.watch(0, &receiver, 1);
        assert!(!host.park(0, 0));
        assert!(!host.park(1, FOREVER));
        assert_eq!(host.tokens(), [1]);
    }

    #[test]
    fn an_unpark_ends_the_sleep_of_the_leader_and_of_a_follower() {
        let host = Host::new();
        let (_sender, receiver) = pair();
        host.watch(0, &receiver, 1);
        assert!(!host.park(0, 0));
        host.tokens();
        std::thread::scope(|scope| {
            let sleepers: Vec<_> = (0..4)
                .map(|index| {
                    scope.spawn({
                        let host = &host;
                        move || host.park(index, FOREVER)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(20));
            (0..4).for_each(|index| host.slot(index).parker.unpark());
            assert!(sleepers.into_iter().all(|sleeper| !sleeper.join().unwrap()));
        });
    }

    #[test]
    fn the_sleeper_that_used_a_socket_last_is_woken_whoever_leads() {
        let host = Host::new();
        let (sender, receiver) = pair();
        host.watch(2, &receiver, 5);
        assert!(!host.park(0, 0));
        host.tokens();
        for _ in 0..50 {
            std::thread::scope(|scope| {
                let others: Vec<_> = [0, 1, 3]
                    .map(|index| {
                        scope.spawn({
                            let host = &host;
                            move || host.park(index, monotonic_ns() + 2_000_000_000)
                        })
                    })
                    .into();
                let user = scope.spawn(|| host.park(2, FOREVER));
                sender.send(b"x").unwrap();
                assert!(!user.join().unwrap());
                receiver.recv(&mut [0; 4]).unwrap();
                host.tokens();
                [0, 1, 3].iter().for_each(|&index| host.slot(index).parker.unpark());
                others.into_iter().for_each(|other| assert!(!other.join().unwrap()));
                [0, 1, 2, 3].iter().for_each(|&index| {
                    host.slot(index).parker.take_token();
                });
            });
        }
    }

    #[test]
    fn when_the_leader_goes_another_leads() {
        let host = Host::new();
        let (sender, receiver) = pair();
        host.watch(1, &receiver, 5);
        assert!(!host.park(0, 0));
        host.tokens();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| host.park(0, soon()));
            std::thread::sleep(Duration::from_millis(5));
            let second = scope.spawn(|| host.park(1, FOREVER));
            assert!(first.join().unwrap());
            let before = Instant::now();
            sender.send(b"x").unwrap();
            assert!(!second.join().unwrap());
            assert!(before.elapsed() < Duration::from_secs(5));
        });
    }

    #[test]
    fn edges_that_the_ring_has_no_room_for_come_later() {
        let host = Host::new();
        let (_sender, receiver) = pair();
        host.watch(0, &receiver, 9);
        let instance = host.readiness.instance.get().unwrap();
        instance.word(HEAD_AT).unwrap().store(RECORDS, Ordering::SeqCst);
        assert!(!host.park(0, 0));
        host.readiness.fetch(instance, 1, 0);
        assert_eq!(host.tokens().len(), RECORDS as usize);
        assert!(!host.park(0, FOREVER));
        assert_eq!(host.tokens(), [9]);
    }
}
