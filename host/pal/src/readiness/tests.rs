//! Sleepers, the ring, and who hears of what.

use super::*;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

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

    /// Has a socket watched for the thread of a slot, or for any.
    fn watch(&self, by: u64, socket: &UdpSocket, token: u64, waiter: Option<u64>) {
        let waiter = waiter.map_or(0, |index| index + 1);
        let args = [socket.as_raw_fd() as u64, token, waiter, 0, 0, 0];
        self.readiness.answer(&self.slots, self.slot(by), Ocall::Watch, &args).unwrap();
    }

    /// Waits until threads sleep.
    fn await_sleepers(&self, count: usize) {
        while lock(&self.readiness.sleepers).asleep.len() < count {
            std::thread::yield_now();
        }
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
    for waiter in [Some(0), None] {
        let (sender, receiver) = pair();
        host.watch(0, &receiver, 77, waiter);
        assert!(!host.park(0, FOREVER), "a new socket says what it is ready for");
        assert_eq!(host.tokens(), [77]);
        assert!(host.park(0, soon()), "nothing happened");
        sender.send(b"x").unwrap();
        assert!(!host.park(0, FOREVER));
        assert_eq!(host.tokens(), [77]);
        assert!(host.park(0, 0));
    }
}

#[test]
fn a_park_with_records_in_the_ring_returns_at_once() {
    let host = Host::new();
    let (_sender, receiver) = pair();
    host.watch(0, &receiver, 1, Some(0));
    assert!(!host.park(0, 0));
    assert!(!host.park(1, FOREVER));
    assert_eq!(host.tokens(), [1]);
}

#[test]
fn an_unpark_ends_the_sleep_of_everybody() {
    let host = Host::new();
    let (_sender, receiver) = pair();
    host.watch(0, &receiver, 1, None);
    assert!(!host.park(0, 0));
    host.tokens();
    std::thread::scope(|scope| {
        let host = &host;
        let sleepers: Vec<_> = (0..4).map(|index| scope.spawn(move || host.park(index, FOREVER))).collect();
        host.await_sleepers(4);
        (0..4).for_each(|index| host.slot(index).parker.unpark());
        assert!(sleepers.into_iter().all(|sleeper| !sleeper.join().unwrap()));
    });
}

#[test]
fn an_edge_wakes_the_thread_that_waits_and_no_other() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(0, &receiver, 5, Some(2));
    assert!(!host.park(2, 0));
    host.tokens();
    std::thread::scope(|scope| {
        let host = &host;
        let other = scope.spawn(move || host.park(1, FOREVER));
        host.await_sleepers(1);
        sender.send(b"x").unwrap();
        assert!(!host.park(2, FOREVER));
        assert_eq!(host.tokens(), [5]);
        assert_eq!(lock(&host.readiness.sleepers).asleep, [2]);
        host.slot(1).parker.unpark();
        assert!(!other.join().unwrap());
    });
}

#[test]
fn who_is_awake_keeps_nothing_that_others_wait_for() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(0, &receiver, 5, Some(0));
    sender.send(b"x").unwrap();
    // Another thread looks at it.
    host.watch(1, &receiver, 5, Some(1));
    assert!(!host.park(1, FOREVER));
    assert_eq!(host.tokens(), [5]);
    receiver.recv(&mut [0; 4]).unwrap();
    std::thread::scope(|scope| {
        let host = &host;
        // Put there while somebody sleeps already.
        let (sender, receiver) = pair();
        let sleeper = scope.spawn(move || host.park(2, FOREVER));
        host.await_sleepers(1);
        host.watch(0, &receiver, 6, Some(0));
        host.watch(1, &receiver, 6, Some(1));
        sender.send(b"x").unwrap();
        assert!(!sleeper.join().unwrap());
        assert!(host.tokens().contains(&6));
    });
}

#[test]
fn the_sleeper_that_used_a_socket_last_is_woken_whoever_is_warden() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(2, &receiver, 5, None);
    assert!(!host.park(0, 0));
    host.tokens();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            let host = &host;
            let others = [0, 1, 3].map(|index| scope.spawn(move || host.park(index, FOREVER)));
            let user = scope.spawn(|| host.park(2, FOREVER));
            host.await_sleepers(4);
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
fn when_the_warden_goes_another_hears_without_being_woken() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(1, &receiver, 5, None);
    assert!(!host.park(0, 0));
    host.tokens();
    std::thread::scope(|scope| {
        let host = &host;
        let first = scope.spawn(move || host.park(0, FOREVER));
        host.await_sleepers(1);
        let second = scope.spawn(move || host.park(1, FOREVER));
        host.await_sleepers(2);
        assert_eq!(lock(&host.readiness.sleepers).warden, 1);
        host.slot(0).parker.unpark();
        assert!(!first.join().unwrap());
        assert_eq!(lock(&host.readiness.sleepers).warden, 2);
        assert_eq!(lock(&host.readiness.sleepers).asleep, [2]);
        sender.send(b"x").unwrap();
        assert!(!second.join().unwrap());
        assert_eq!(host.tokens(), [5]);
    });
}

#[test]
fn a_number_that_is_used_again_is_another_socket() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(0, &receiver, 1, None);
    // As if it were closed, and the next socket got the number.
    host.readiness.instance.get().unwrap().common.remove(receiver.as_raw_fd()).unwrap();
    host.watch(0, &receiver, 2, Some(1));
    assert!(!host.park(1, FOREVER));
    host.tokens();
    sender.send(b"x").unwrap();
    assert!(host.park(0, soon()), "it is another's");
    assert!(!host.park(1, FOREVER));
    assert_eq!(host.tokens(), [2]);
}

#[test]
fn what_is_watched_at_once_is_the_helpers_and_stays_there() {
    let host = Host::new();
    let (sender, receiver) = pair();
    host.watch(0, &receiver, 5, Some(0));
    let (send, told) = std::sync::mpsc::channel();
    host.readiness.alerts.start(move |events| send.send(events.to_vec()).is_ok()).unwrap();
    host.watch(0, &receiver, 5, Some(AT_ONCE - 1));
    assert_eq!(told.recv().unwrap().len(), 1, "it says what it is ready for");
    host.watch(1, &receiver, 5, None);
    sender.send(b"x").unwrap();
    host.readiness.note(&told.recv().unwrap());
    assert!(host.readiness.has_news());
    assert_eq!(host.tokens(), [5]);
    assert!(host.park(0, soon()), "it is not there any more");
}

#[test]
fn edges_that_the_ring_has_no_room_for_come_later() {
    let host = Host::new();
    let (_sender, receiver) = pair();
    host.watch(0, &receiver, 9, Some(0));
    let instance = host.readiness.instance.get().unwrap();
    instance.word(HEAD_AT).unwrap().store(RECORDS, Ordering::SeqCst);
    assert!(!host.park(0, 0));
    host.readiness.fetch(instance, instance_of(host.slot(0)).unwrap(), 0, true);
    assert_eq!(host.tokens().len(), RECORDS as usize);
    assert!(!host.park(0, FOREVER));
    assert_eq!(host.tokens(), [9]);
}
