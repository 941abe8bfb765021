//! The turns under a model checker: every interleaving of a few threads, within bounds.
//!
//! The place is a word. A thread that is inside finds its own number there, all the time. Nobody waits with a deadline, so a lost
//! wake is a deadlock, which the checker reports.

use super::{Member, Seat, Turns};
use crate::event::{Unpark, Waiter};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::{Arc, Weak};

struct Host {
    token: Mutex<bool>,
    changed: Condvar,
}

impl Host {
    fn new() -> Arc<Self> {
        Arc::new(Self { token: Mutex::new(false), changed: Condvar::new() })
    }

    fn park(&self) {
        let mut token = self.token.lock().unwrap();
        while !*token {
            token = self.changed.wait(token).unwrap();
        }
        *token = false;
    }
}

impl Unpark for Host {
    fn unpark(&self) {
        *self.token.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// The place, and who takes turns there.
struct World {
    turns: Turns<Program>,
    place: AtomicU64,
    /// What the clock says.
    now: u64,
}

struct Program {
    seat: Seat,
    world: Weak<World>,
}

impl Member for Program {
    fn seat(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(world) = self.world.upgrade() else { return };
        world.turns.leave_for_good(self, |to, _| {
            assert_eq!(world.place.swap(to.seat.id(), Ordering::Relaxed), self.seat.id());
        });
    }
}

fn world(count: u64, now: u64) -> (Arc<World>, Vec<Arc<Program>>) {
    let mut programs = Vec::new();
    let world = Arc::new_cyclic(|world| {
        programs
            .extend((1..=count).map(|id| Arc::new(Program { seat: Seat::new(id), world: world.clone() })));
        World { turns: Turns::new(&programs[0]), place: AtomicU64::new(1), now }
    });
    programs[1..].iter().for_each(|program| world.turns.add(program));
    (world, programs)
}

impl World {
    /// One stay inside.
    fn visit(&self, me: &Arc<Program>) {
        let host = Host::new();
        let waiter = Waiter::new(host.clone());
        let id = me.seat.id();
        self.turns.enter(
            me,
            waiter.waker(),
            || self.now,
            |from, _| assert_eq!(self.place.swap(id, Ordering::Relaxed), from.seat.id()),
            |_| _ = waiter.rest(|| false, || host.park()),
        );
        assert_eq!(self.place.load(Ordering::Relaxed), id);
        self.turns.leave(me);
    }
}

/// With a time slice that is never over, and one that is always.
fn check(bound: usize, model: impl Fn(u64) + Copy + Send + Sync + 'static) {
    for now in [0, u64::MAX] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(bound);
        builder.check(move || model(now));
    }
}

#[test]
fn two_members_that_come_and_go_both_get_their_turns() {
    check(3, |now| {
        let (world, programs) = world(2, now);
        let other = {
            let (world, me) = (world.clone(), programs[1].clone());
            thread::spawn(move || {
                world.visit(&me);
                world.visit(&me);
            })
        };
        world.visit(&programs[0]);
        world.visit(&programs[0]);
        other.join().unwrap();
    });
}

#[test]
fn three_members_all_get_their_turn() {
    check(2, |now| {
        let (world, programs) = world(3, now);
        let others: Vec<_> = programs[1..]
            .iter()
            .map(|me| {
                let (world, me) = (world.clone(), me.clone());
                thread::spawn(move || world.visit(&me))
            })
            .collect();
        world.visit(&programs[0]);
        world.visit(&programs[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn two_threads_of_a_member_that_waits_both_get_inside() {
    check(2, |now| {
        let (world, programs) = world(2, now);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (world, me) = (world.clone(), programs[1].clone());
                thread::spawn(move || world.visit(&me))
            })
            .collect();
        world.visit(&programs[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn who_waits_for_a_member_that_ends_gets_the_place() {
    check(3, |now| {
        let (world, mut programs) = world(2, now);
        let other = {
            let (world, me) = (world.clone(), programs.pop().unwrap());
            thread::spawn(move || world.visit(&me))
        };
        let me = programs.pop().unwrap();
        world.visit(&me);
        // The other may hold the last reference.
        drop(me);
        other.join().unwrap();
    });
}

#[test]
fn a_member_that_is_preferred_while_another_waits_lets_that_in_afterwards() {
    check(2, |now| {
        let (world, programs) = world(3, now);
        let waits = {
            let (world, me) = (world.clone(), programs[1].clone());
            thread::spawn(move || world.visit(&me))
        };
        // The resident forks: it is inside, prefers the child, and goes on.
        world.turns.try_enter(
            &programs[0],
            || 0,
            |from, _| {
                assert_eq!(world.place.swap(1, Ordering::Relaxed), from.seat.id());
            },
        );
        world.turns.prefer(&programs[2]);
        let child = {
            let (world, me) = (world.clone(), programs[2].clone());
            thread::spawn(move || world.visit(&me))
        };
        if programs[0].seat.inside() == 1 {
            world.turns.leave(&programs[0]);
        }
        child.join().unwrap();
        waits.join().unwrap();
    });
}
