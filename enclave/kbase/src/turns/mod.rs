//! Several members that take turns at one place.
//!
//! One member is *resident*: what is in the place is its own. Its threads may be *inside*; those of the others wait. When nobody
//! is inside and another member wants the place, that becomes resident, by a `switch` which the caller provides. Who wants the
//! place gets it first come first; a member may be preferred. All threads of the resident may come in during its time slice. A
//! resident whose threads stay inside is never thrown out: the first of those who wait learns who it is and until when it may
//! stay, and asks it to leave.
//!
//! Only one thread of the first is woken, when the last thread leaves or when it becomes the first, and only one looks at the
//! clock: a thousand that wait cost the others nothing. With the thread that gets inside all others of its member do, which it
//! counts in before it wakes them: each of these wakes leads somewhere, however long it takes until the thread runs.
//!
//! Invariant: whoever changes who is first, or frees the place, wakes the first afterwards. A thread that waits has a ticket at
//! its seat before it looks, and looks after it is among those who wait; so one of the two sees the other. `models` checks it.
//!
//! A switch takes long, so it runs without a lock: meanwhile the next is resident already, and nobody can get inside.
//!
//! Lock order: the state of the turns, then the list of members, then the tickets of a seat. Members are dropped, and threads woken, without either.

#[cfg(all(test, loom))]
mod models;

use crate::event::Waker;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Mutex, MutexGuard};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// The shortest time slice, in nanoseconds.
pub const SLICE_NS: u64 = 2_000_000;
/// The longest.
const LONGEST_SLICE_NS: u64 = 100_000_000;
/// A slice is this many times as long as the switch before it.
const SLICE_TO_SWITCH: u64 = 8;
/// The number of no member.
const NOBODY: u64 = 0;

/// What a member needs to take turns.
pub struct Seat {
    id: u64,
    /// Threads that are inside.
    inside: AtomicU32,
    /// Its threads that wait to get inside. The first is the one that is woken, and looks at the clock.
    tickets: Mutex<Vec<Arc<Ticket>>>,
}

/// What a thread that waits holds.
struct Ticket {
    waker: Waker,
    /// Another thread of the member has counted it in.
    is_inside: AtomicBool,
}

impl Seat {
    /// The seat of a member with a number that no other has, and that is not 0.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self { id, inside: AtomicU32::new(0), tickets: Mutex::new(Vec::new()) }
    }

    /// The number.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Threads that are inside.
    pub fn inside(&self) -> u32 {
        self.inside.load(Ordering::SeqCst)
    }

    /// Another thread counts as inside. Only for one that need not wait: nobody takes turns with the member yet, or a thread of
    /// it is inside, or nothing of the place is touched.
    pub fn count_in(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    /// A thread went outside while nobody takes turns with the member. Returns whether it was the last.
    pub fn count_out(&self) -> bool {
        self.inside.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// Who takes turns.
pub trait Member {
    /// Its seat.
    fn seat(&self) -> &Seat;
}

/// Whose turn it is.
pub struct Turns<M> {
    state: Mutex<State>,
    /// The first of those who wait, to be read without the lock.
    first: AtomicU64,
    members: Mutex<BTreeMap<u64, Weak<M>>>,
}

struct State {
    resident: u64,
    /// The place is being made the resident's own.
    is_switching: bool,
    /// When the time slice of the resident is over, on the clock of [`Turns::try_enter`].
    slice_end_ns: u64,
    /// The members that wait, each once: they have a thread in [`Turns::enter`], or one that starts there (a forked child).
    waiting: VecDeque<u64>,
}

/// What became of an attempt to get inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The thread is inside.
    Inside,
    /// It has to wait. The first of those who wait is told for whom.
    Taken(Option<Stay>),
}

/// How long the resident may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The number of the resident.
    pub resident: u64,
    /// When its time slice is over.
    pub until_ns: u64,
}

/// What a member that leaves for good leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It was not resident and others go on.
    Away,
    /// It was resident, and another is now.
    Replaced,
    /// It was the last; `was_resident`: the place has what is its own.
    Last {
        /// Whether it was resident.
        was_resident: bool,
    },
}

impl<M: Member> Turns<M> {
    /// Begins with a resident member.
    #[must_use]
    pub fn new(resident: &Arc<M>) -> Self {
        let id = resident.seat().id;
        Self {
            state: Mutex::new(State {
                resident: id,
                is_switching: false,
                slice_end_ns: 0,
                waiting: VecDeque::new(),
            }),
            first: AtomicU64::new(NOBODY),
            members: Mutex::new(BTreeMap::from([(id, Arc::downgrade(resident))])),
        }
    }

    /// Adds a member, which is not resident.
    pub fn add(&self, member: &Arc<M>) {
        self.members.lock().insert(member.seat().id, Arc::downgrade(member));
    }

    /// The members that live. To be dropped without a lock: with the last reference a member leaves for good.
    pub fn members(&self) -> Vec<Arc<M>> {
        self.members.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// A member, if it lives. To be dropped without a lock, like all of them.
    fn member(&self, id: u64) -> Option<Arc<M>> {
        self.members.lock().get(&id).and_then(Weak::upgrade)
    }

    /// Waits until the calling thread is inside: in `wait`, which returns when `waker` is woken, or earlier. `switch` as for
    /// [`Turns::try_enter`].
    pub fn enter(
        &self,
        me: &Arc<M>,
        waker: &Waker,
        clock: impl Fn() -> u64,
        switch: impl Fn(&M, &[Arc<M>]),
        mut wait: impl FnMut(Option<Stay>),
    ) {
        if self.try_enter(me, &clock, &switch) == Entry::Inside {
            return;
        }
        let tickets = &me.seat().tickets;
        let ticket = Arc::new(Ticket { waker: waker.clone(), is_inside: AtomicBool::new(false) });
        tickets.lock().push(ticket.clone());
        // Pairs with the fence of `leave`.
        fence(Ordering::SeqCst);
        while !ticket.is_inside.load(Ordering::SeqCst)
            && let Entry::Taken(stay) = self.attempt(me, Some(&ticket), &clock, &switch)
        {
            wait(stay.filter(|_| tickets.lock().first().is_some_and(|first| Arc::ptr_eq(first, &ticket))));
        }
    }

    /// Tries to get the calling thread inside. If it is the turn of `me`, `switch` puts it in the place of the resident; it gets
    /// that, and the members that live. `clock` gives nanoseconds.
    pub fn try_enter(
        &self,
        me: &Arc<M>,
        clock: impl Fn() -> u64,
        switch: impl FnOnce(&M, &[Arc<M>]),
    ) -> Entry {
        self.attempt(me, None, clock, switch)
    }

    /// [`Turns::try_enter`] of a thread that has a ticket if it waits.
    fn attempt(
        &self,
        me: &Arc<M>,
        ticket: Option<&Arc<Ticket>>,
        clock: impl Fn() -> u64,
        switch: impl FnOnce(&M, &[Arc<M>]),
    ) -> Entry {
        let seat = me.seat();
        // Declared before the guard, so that they are dropped after it.
        let members: Vec<Arc<M>>;
        let resident: Option<Arc<M>>;
        let mut state = self.state.lock();
        if ticket.is_some_and(|ticket| ticket.is_inside.load(Ordering::SeqCst)) {
            return Entry::Inside;
        }
        let is_switching = state.is_switching;
        let is_resident = state.resident == seat.id;
        let is_turn = state.waiting.front().is_none_or(|&first| first == seat.id);
        if is_resident && !is_switching {
            if state.waiting.is_empty() && ticket.is_none() {
                seat.count_in();
                return Entry::Inside;
            }
            if is_turn || clock() < state.slice_end_ns {
                return self.admit(state, seat, ticket, false);
            }
        }
        resident = if is_resident { None } else { self.member(state.resident) };
        // A resident that cannot be had any more is about to leave for good, and puts another in its place.
        let is_free = |resident: &&Arc<M>| is_turn && !is_switching && resident.seat().inside() == 0;
        let Some(resident) = resident.as_ref().filter(is_free) else {
            if !state.waiting.contains(&seat.id) {
                state.waiting.push_back(seat.id);
            }
            let is_first = state.waiting.front() == Some(&seat.id);
            // The first is woken after the switch.
            let until_ns = if is_switching { u64::MAX } else { state.slice_end_ns };
            let stay = Stay { resident: state.resident, until_ns };
            let next = self.note_first(&state);
            drop(state);
            self.wake(next);
            return Entry::Taken(is_first.then_some(stay));
        };
        members = self.members();
        let begin = clock();
        let mut state = self.switched(state, seat.id, || switch(resident, &members));
        let end = clock();
        let slice = end.saturating_sub(begin).saturating_mul(SLICE_TO_SWITCH);
        state.slice_end_ns = end.saturating_add(slice.clamp(SLICE_NS, LONGEST_SLICE_NS));
        self.admit(state, seat, ticket, true)
    }

    /// Makes a member resident: `switch` makes the place its own.
    fn switched<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        next: u64,
        switch: impl FnOnce(),
    ) -> MutexGuard<'a, State> {
        state.resident = next;
        state.is_switching = true;
        drop(state);
        switch();
        let mut state = self.state.lock();
        state.is_switching = false;
        state
    }

    /// A thread of the resident gets inside, and with it all that wait.
    fn admit(
        &self,
        mut state: MutexGuard<'_, State>,
        seat: &Seat,
        ticket: Option<&Arc<Ticket>>,
        has_switched: bool,
    ) -> Entry {
        state.waiting.retain(|&id| id != seat.id);
        seat.count_in();
        let mut others = core::mem::take(&mut *seat.tickets.lock());
        others.retain(|other| ticket.is_none_or(|own| !Arc::ptr_eq(own, other)));
        for other in &others {
            seat.count_in();
            other.is_inside.store(true, Ordering::SeqCst);
        }
        let changed = self.note_first(&state);
        // Who looked during the switch has not heard until when the resident may stay.
        let next = if has_switched { state.waiting.front().copied() } else { changed };
        drop(state);
        self.wake(next);
        for other in others {
            other.waker.wake();
        }
        Entry::Inside
    }

    /// A thread of `me` goes outside.
    pub fn leave(&self, me: &M) {
        let seat = me.seat();
        if seat.count_out() {
            // Pairs with the fence of `enter`, between the two looks of who waits.
            fence(Ordering::SeqCst);
            let first = self.first.load(Ordering::SeqCst);
            self.wake((first != NOBODY && first != seat.id).then_some(first));
        }
    }

    /// Makes a member the first of those who wait, and ends the time slice of the resident.
    pub fn prefer(&self, member: &M) {
        let id = member.seat().id;
        let mut state = self.state.lock();
        state.slice_end_ns = 0;
        // It may be there already.
        state.waiting.retain(|&waiting| waiting != id);
        state.waiting.push_front(id);
        self.note_first(&state);
    }

    /// Ends the time slice of `me`, a thread of which is inside, if another member waits. Returns whether one does.
    pub fn give_way(&self, me: &M) -> bool {
        let first = self.first.load(Ordering::SeqCst);
        let is_wanted = first != NOBODY && first != me.seat().id;
        if is_wanted {
            self.state.lock().slice_end_ns = 0;
        }
        is_wanted
    }

    /// The last reference to `me` is gone, and nobody of it is inside. If it is resident, `switch` puts the first of the others,
    /// which it gets with all of them, in its place.
    pub fn leave_for_good(&self, me: &M, switch: impl FnOnce(&M, &[Arc<M>])) -> Farewell {
        let id = me.seat().id;
        self.members.lock().remove(&id);
        // Declared before the guard, so that they are dropped after it.
        let others: Vec<Arc<M>>;
        let mut state = self.state.lock();
        state.waiting.retain(|&waiting| waiting != id);
        let was_resident = state.resident == id;
        let lives = |member: &Weak<M>| member.strong_count() != 0;
        others = if was_resident { self.members() } else { Vec::new() };
        let first = state.waiting.front();
        let next = others.iter().find(|other| Some(&other.seat().id) == first).or(others.first());
        let farewell = if let Some(next) = next {
            state = self.switched(state, next.seat().id, || switch(next, &others));
            Farewell::Replaced
        } else if !was_resident && self.members.lock().values().any(lives) {
            Farewell::Away
        } else {
            Farewell::Last { was_resident }
        };
        self.note_first(&state);
        let first = state.waiting.front().copied();
        drop(state);
        // The place is free, even if who is first was so before.
        self.wake(first);
        farewell
    }

    /// Publishes who is first. `Some`: it has just become so and is to be woken.
    fn note_first(&self, state: &State) -> Option<u64> {
        let first = state.waiting.front().copied();
        let before = self.first.swap(first.unwrap_or(NOBODY), Ordering::SeqCst);
        first.filter(|&first| first != before)
    }

    /// Wakes a thread of a member that waits to get inside.
    fn wake(&self, member: Option<u64>) {
        let Some(member) = member.and_then(|id| self.member(id)) else { return };
        let first = member.seat().tickets.lock().first().cloned();
        if let Some(first) = first {
            first.waker.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::event::{Rest, Waiter};
    use core::cell::Cell;

    struct Named(Seat);

    impl Member for Named {
        fn seat(&self) -> &Seat {
            &self.0
        }
    }

    fn named(id: u64) -> Arc<Named> {
        Arc::new(Named(Seat::new(id)))
    }

    fn three() -> (Turns<Named>, [Arc<Named>; 3]) {
        let all = [named(1), named(2), named(3)];
        let turns = Turns::new(&all[0]);
        turns.add(&all[1]);
        turns.add(&all[2]);
        (turns, all)
    }

    fn enter(turns: &Turns<Named>, who: &Arc<Named>) -> Entry {
        turns.try_enter(who, || 0, |_, _| {})
    }

    #[test]
    fn who_comes_first_is_first_and_alone_hears_of_the_resident() {
        let (turns, [one, two, three]) = three();
        assert_eq!(enter(&turns, &one), Entry::Inside);
        let stay = Stay { resident: 1, until_ns: 0 };
        assert_eq!(enter(&turns, &two), Entry::Taken(Some(stay)));
        assert_eq!(enter(&turns, &three), Entry::Taken(None));
        assert!(turns.give_way(&one) && !turns.give_way(&two));
        turns.leave(&one);
        assert_eq!(enter(&turns, &one), Entry::Taken(None), "others were there before");
        assert_eq!(enter(&turns, &three), Entry::Taken(None));
        assert_eq!(enter(&turns, &two), Entry::Inside);
        turns.leave(&two);
        assert_eq!(enter(&turns, &three), Entry::Inside);
        turns.leave(&three);
        assert_eq!(enter(&turns, &one), Entry::Inside);
        assert!(!turns.give_way(&one));
    }

    #[test]
    fn who_is_preferred_is_first_and_the_place_is_switched_once() {
        let (turns, [one, two, three]) = three();
        assert_eq!(enter(&turns, &one), Entry::Inside);
        assert!(matches!(enter(&turns, &two), Entry::Taken(Some(_))));
        turns.prefer(&three);
        turns.leave(&one);
        assert_eq!(enter(&turns, &two), Entry::Taken(None));
        let switches = Cell::new(0);
        let switch = |from: &Named, members: &[Arc<Named>]| {
            assert_eq!((from.0.id(), members.len()), (1, 3));
            switches.set(switches.get() + 1);
        };
        assert_eq!(turns.try_enter(&three, || 0, switch), Entry::Inside);
        turns.leave(&three);
        assert_eq!(turns.try_enter(&three, || SLICE_NS - 1, switch), Entry::Inside, "its slice is not over");
        turns.leave(&three);
        assert_eq!(
            turns.try_enter(&three, || SLICE_NS, switch),
            Entry::Taken(None),
            "the next waits already"
        );
        assert_eq!(switches.get(), 1);
        assert_eq!(enter(&turns, &two), Entry::Inside);
    }

    #[test]
    fn nobody_gets_inside_during_a_switch_nor_hears_how_long_the_next_may_stay() {
        let (turns, [one, two, three]) = three();
        let switch = |_: &Named, _: &[Arc<Named>]| {
            let stay = Stay { resident: 2, until_ns: u64::MAX };
            assert_eq!(enter(&turns, &three), Entry::Taken(Some(stay)));
            assert_eq!(enter(&turns, &two), Entry::Taken(None), "another thread of the next");
            assert_eq!(enter(&turns, &one), Entry::Taken(None));
        };
        assert_eq!(turns.try_enter(&two, || 0, switch), Entry::Inside);
        assert_eq!(two.0.inside(), 1);
        let stay = Stay { resident: 2, until_ns: SLICE_NS };
        assert_eq!(enter(&turns, &three), Entry::Taken(Some(stay)));
        assert_eq!(enter(&turns, &two), Entry::Inside);
    }

    #[test]
    fn all_threads_of_a_member_that_wait_get_inside_with_the_first() {
        struct Nobody;
        impl crate::event::Unpark for Nobody {
            fn unpark(&self) {}
        }
        let (turns, [one, two, _]) = three();
        assert_eq!(enter(&turns, &one), Entry::Inside);
        assert!(matches!(enter(&turns, &two), Entry::Taken(Some(_))));
        let waiters = [(); 3].map(|()| Waiter::new(Arc::new(Nobody)));
        let tickets = waiters.each_ref().map(|waiter| {
            Arc::new(Ticket { waker: waiter.waker().clone(), is_inside: AtomicBool::new(false) })
        });
        two.0.tickets.lock().extend(tickets.iter().cloned());
        turns.leave(&one);
        let is_woken = |waiter: &Waiter| waiter.rest(|| false, || ()) == Rest::NotSlept;
        assert_eq!(waiters.each_ref().map(is_woken), [true, false, false], "one is enough");
        let with = |ticket| turns.attempt(&two, Some(ticket), || 0, |_, _| {});
        assert_eq!(with(&tickets[0]), Entry::Inside);
        assert_eq!(two.0.inside(), 3, "the others need not run for that");
        assert_eq!(waiters.each_ref().map(is_woken), [false, true, true]);
        assert_eq!((with(&tickets[1]), with(&tickets[2])), (Entry::Inside, Entry::Inside));
        assert_eq!(two.0.inside(), 3, "nobody counts twice");
        assert!(two.0.tickets.lock().is_empty());
    }

    #[test]
    fn a_slice_is_longer_after_a_long_switch_but_not_without_end() {
        for (took, slice) in [(0, SLICE_NS), (1_000_000, 8_000_000), (1_000_000_000, LONGEST_SLICE_NS)] {
            let (turns, [one, two, _]) = three();
            let now = Cell::new(5);
            assert_eq!(turns.try_enter(&two, || now.get(), |_, _| now.set(5 + took)), Entry::Inside);
            let until_ns = 5 + took + slice;
            assert_eq!(enter(&turns, &one), Entry::Taken(Some(Stay { resident: 2, until_ns })));
        }
    }

    #[test]
    fn who_leaves_for_good_is_replaced_and_the_last_leaves_the_place() {
        let (turns, [one, two, three]) = three();
        assert_eq!(enter(&turns, &one), Entry::Inside);
        assert!(matches!(enter(&turns, &three), Entry::Taken(Some(_))));
        turns.leave(&one);
        let replaced = |next: u64| move |to: &Named, _: &[Arc<Named>]| assert_eq!(to.0.id(), next);
        assert_eq!(turns.leave_for_good(&one, replaced(3)), Farewell::Replaced);
        drop(one);
        assert_eq!(turns.leave_for_good(&two, replaced(0)), Farewell::Away);
        drop(two);
        assert_eq!(enter(&turns, &three), Entry::Inside, "it is there already");
        turns.leave(&three);
        assert_eq!(turns.leave_for_good(&three, replaced(0)), Farewell::Last { was_resident: true });
    }
}
