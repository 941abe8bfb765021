//! `fork(2)`: several address spaces at the same addresses of one enclave.
//!
//! A forked child must see its memory where its parent has it, and there is one enclave. So the spaces that overlap form a
//! [`Group`], of which one member is *resident*: its pages are in place. A thread is *inside* its space while it runs user code
//! or may touch user memory, that is, all the time but when it sleeps; only a space whose threads are all outside can be made
//! to give way. What the members have in common stays in place ([`super::exchange`]).
//!
//! Who waits for a space whose threads do not leave by themselves asks them to when its time slice is over: [`SLICE_NS`], or as
//! much longer as makes exchanges a small part of all time, since two programs that have nothing in common take long to exchange.
//!
//! Lock order: the state of a group, the state of its resident space, then that of another member. The list of members is taken
//! for a moment under any of these. While a thread is inside nobody locks the state of its space under that of the group.

use super::AddressSpace;
use super::exchange::{Copies, exchange};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::Result;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;

/// The shortest time slice, in nanoseconds.
pub(crate) const SLICE_NS: u64 = 2_000_000;
/// The longest.
const LONGEST_SLICE_NS: u64 = 100_000_000;
/// A slice is this many times as long as the exchange before it.
const SLICE_TO_EXCHANGE: u64 = 8;

/// Spaces of which one is in place.
pub(super) struct Group {
    /// What the arena knows the addresses of all members by.
    pub(super) owner: u64,
    state: Mutex<GroupState>,
    members: Mutex<Vec<Weak<AddressSpace>>>,
    /// Woken when the last thread leaves the resident space.
    left: WaiterQueue,
}

struct GroupState {
    /// The member whose pages are in place.
    resident: u64,
    /// When its time slice is over (CLOCK_MONOTONIC, ns).
    slice_end_ns: u64,
    /// The members that wait to be, first come first; a forked child comes before those who wait.
    waiting: VecDeque<u64>,
}

impl GroupState {
    /// Puts a member at the end, unless it waits already.
    fn wait(&mut self, member: u64) -> Entry {
        if !self.waiting.contains(&member) {
            self.waiting.push_back(member);
        }
        Entry::Taken { resident: self.resident, until_ns: self.slice_end_ns }
    }
}

impl Group {
    fn add(&self, member: &Arc<AddressSpace>) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// The members that live. To be dropped without a lock: with the last reference a space leaves its group.
    fn members(&self) -> Vec<Arc<AddressSpace>> {
        self.members.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// What became of an attempt to get inside.
pub(crate) enum Entry {
    /// The thread is inside.
    Inside,
    /// Another space is resident, or others wait already.
    Taken {
        /// Number of the resident space.
        resident: u64,
        /// When its time slice is over (CLOCK_MONOTONIC, ns).
        until_ns: u64,
    },
}

impl AddressSpace {
    /// The group, if it was ever forked.
    fn group(&self) -> Option<Arc<Group>> {
        self.group.lock().clone()
    }

    /// Whether other spaces may be at the same addresses.
    pub(crate) fn is_grouped(&self) -> bool {
        self.group.lock().is_some()
    }

    /// What the arena knows its addresses by.
    pub(crate) fn owner(&self) -> u64 {
        self.group.lock().as_ref().map_or(self.id, |group| group.owner)
    }

    /// Tries to get the calling thread inside.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Entry {
        let Some(group) = self.group() else {
            self.inside.fetch_add(1, Ordering::SeqCst);
            return Entry::Inside;
        };
        // Declared before the guard, so that they are dropped after it.
        let members: Vec<Arc<Self>>;
        let mut state = group.state.lock();
        members = group.members();
        let member = |id: u64| members.iter().find(|member| member.id == id);
        // Who waits may have ended meanwhile.
        state.waiting.retain(|&waiting| member(waiting).is_some());
        if state.waiting.front().is_some_and(|&first| first != self.id) {
            return state.wait(self.id);
        }
        if state.resident != self.id {
            // A resident that cannot be had any more is about to leave the group, and puts another in its place.
            let Some(resident) = member(state.resident) else {
                return state.wait(self.id);
            };
            if resident.inside.load(Ordering::SeqCst) > 0 {
                return state.wait(self.id);
            }
            let clock = &self.backend.platform;
            let begin = clock.monotonic_ns();
            exchange(resident, self, !resident.is_over.load(Ordering::SeqCst), &members);
            let end = clock.monotonic_ns();
            let slice = end.saturating_sub(begin).saturating_mul(SLICE_TO_EXCHANGE);
            state.slice_end_ns = end.saturating_add(slice.clamp(SLICE_NS, LONGEST_SLICE_NS));
            state.resident = self.id;
        }
        state.waiting.pop_front();
        self.inside.fetch_add(1, Ordering::SeqCst);
        Entry::Inside
    }

    /// The calling thread goes outside.
    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if let Some(group) = self.group() {
            group.left.wake_all();
        }
    }

    /// What tells a word of this space from the word at the same address of another: the same for both where they share it.
    pub(crate) fn word_space(&self, address: u64) -> u64 {
        let state = self.state.lock();
        match state.map.find(address) {
            Some((_, vma)) if vma.share != 0 => vma.share | 1 << 63,
            _ => self.id,
        }
    }

    /// What is woken when threads leave the spaces at these addresses.
    pub(crate) fn with_left_queue<T>(&self, use_it: impl FnOnce(Option<&WaiterQueue>) -> T) -> T {
        let group = self.group();
        use_it(group.as_ref().map(|group| &group.left))
    }

    /// Makes a forked child the next to be resident. False: it would have to wait for other threads than the calling one.
    pub(crate) fn prefer(&self, child: &Self) -> bool {
        let Some(group) = self.group() else { return false };
        if self.inside.load(Ordering::SeqCst) != 1 {
            return false;
        }
        let mut state = group.state.lock();
        // It may be there already.
        state.waiting.retain(|&waiting| waiting != child.id);
        state.waiting.push_front(child.id);
        true
    }

    /// Whether another member waits.
    pub(crate) fn is_wanted_by_another(&self) -> bool {
        self.group()
            .is_some_and(|group| group.state.lock().waiting.front().is_some_and(|&first| first != self.id))
    }

    /// The last thread is about to leave for good: what it changed need not be kept.
    pub(crate) fn set_over(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// A copy of this space, which is resident, for a forked child. The caller is inside.
    ///
    /// # Errors
    /// ENOMEM the child may need more of the kernel heap than there is for copies.
    pub(crate) fn fork(self: &Arc<Self>) -> Result<Arc<Self>> {
        let group = self.group_or_new();
        let state = self.fork_state(&mut self.state.lock())?;
        let child = self.backend.add_space(|child| {
            child.state = Mutex::new(state);
            child.group = Mutex::new(Some(group.clone()));
        });
        group.add(&child);
        Ok(child)
    }

    /// The other members of the group.
    pub(super) fn others(&self) -> Vec<Arc<Self>> {
        let mut others = self.group().map_or_else(Vec::new, |group| group.members());
        others.retain(|other| other.id != self.id);
        others
    }

    /// An empty space that may be at the same addresses, for a program that cannot be anywhere else.
    pub(super) fn sibling(self: &Arc<Self>) -> Arc<Self> {
        let group = self.group_or_new();
        let sibling = self.backend.add_space(|sibling| {
            sibling.state.get_mut().copies = Some(Copies::new());
            sibling.group = Mutex::new(Some(group.clone()));
        });
        group.add(&sibling);
        sibling
    }

    /// The group, which begins with this space as its resident member.
    fn group_or_new(self: &Arc<Self>) -> Arc<Group> {
        let new = || {
            Arc::new(Group {
                owner: self.id,
                state: Mutex::new(GroupState {
                    resident: self.id,
                    slice_end_ns: 0,
                    waiting: VecDeque::new(),
                }),
                members: Mutex::new(alloc::vec![Arc::downgrade(self)]),
                left: WaiterQueue::new(),
            })
        };
        self.group.lock().get_or_insert_with(new).clone()
    }

    /// The calling thread, which went outside and into another space, counts as inside again without coming in: it leaves
    /// for good soon.
    pub(crate) fn count_in(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    /// Leaves the group: another member becomes resident, or the pages are given back. For the end of the space.
    pub(super) fn leave_group(&mut self) -> bool {
        let Some(group) = self.group.get_mut().take() else { return false };
        // Declared before the guard, so that they are dropped after it. It is not among them any more.
        let others: Vec<Arc<Self>>;
        let mut state = group.state.lock();
        others = group.members();
        state.waiting.retain(|&waiting| waiting != self.id);
        if state.resident != self.id {
            // Its pages are copies, which go with it.
            if others.is_empty() {
                self.backend.free_addresses(group.owner);
            }
            return true;
        }
        let first = state.waiting.front();
        let next = others.iter().find(|other| Some(&other.id) == first).or(others.first());
        let Some(next) = next else {
            drop(state);
            self.leave_behind();
            self.backend.free_addresses(group.owner);
            return true;
        };
        exchange(self, next, false, &others);
        state.resident = next.id;
        drop(state);
        group.left.wake_all();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use crate::vm::{MapRequest, Place};
    use kbase::{UserAddr, UserSpace};
    use platform::Protection;

    #[test]
    fn programs_that_must_be_at_the_same_addresses_take_turns_or_wait_until_these_are_free() {
        let world = World::new();
        let memory = &world.kernel.memory;
        let wanted = 0x40_0000..0x48_0000;
        let first = memory.new_space_at(&wanted).unwrap();
        assert!(!first.is_grouped());
        let second = memory.new_space_at(&wanted).unwrap();
        assert!(second.is_grouped() && second.owner() == first.owner());
        drop(first);
        let third = memory.new_space_at(&wanted).unwrap();
        assert_eq!(third.owner(), second.owner(), "the group still has the addresses");
        drop((second, third));
        let before = memory.new_space();
        assert!(memory.arena.claim(before.id, &wanted).is_some());
        let id = before.id;
        // As while the last reference is being dropped: nobody can be found, and the addresses are not free yet.
        memory.spaces.lock().remove(&id);
        assert!(memory.new_space_at(&wanted).is_none());
        drop(before);
        assert!(memory.new_space_at(&wanted).is_some());
    }

    /// A space whose last reference is gone is still resident until it has given way. Who enters meanwhile must not take what is
    /// in place for its own.
    #[test]
    fn a_parent_never_sees_the_memory_of_a_child_that_is_just_ending() {
        let world = World::new();
        let parent = world.kernel.memory.new_space();
        let enter = |space: &Arc<AddressSpace>| {
            while !matches!(space.try_enter(), Entry::Inside) {
                std::thread::yield_now();
            }
        };
        enter(&parent);
        let protection = Protection::READ | Protection::WRITE;
        let at =
            parent.map(MapRequest { protection, ..MapRequest::reservation(Place::Any, 8 * 4096) }).unwrap();
        parent.store(UserAddr(at), &[1]).unwrap();
        for round in 0..2000 {
            let child = parent.fork().unwrap();
            parent.leave();
            enter(&child);
            child.store(UserAddr(at), &[2]).unwrap();
            child.end();
            child.leave();
            std::thread::scope(|scope| {
                scope.spawn(|| drop(child));
                enter(&parent);
            });
            let mut byte = [0];
            parent.load(UserAddr(at), &mut byte).unwrap();
            assert_eq!(byte, [1], "round {round}");
        }
        parent.leave();
    }
}
