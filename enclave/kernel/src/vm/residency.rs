//! `fork(2)`: several address spaces at the same addresses of one enclave.
//!
//! A forked child must see its memory where its parent has it, and there is one enclave. So the spaces that overlap form a
//! [`Group`] and take [turns](kbase::turns): the pages of the *resident* one are in place. A thread is *inside* its space while it
//! runs user code or may touch user memory, that is, all the time but when it sleeps; only a space whose threads are all outside
//! can be made to give way. What the members have in common stays in place ([`super::exchange`]).
//!
//! Who waits for a space whose threads do not leave by themselves asks them to when its time slice is over: [`SLICE_NS`], or as
//! much longer as makes exchanges a small part of all time, since two programs that have nothing in common take long to exchange.
//!
//! Lock order: the state of the resident space, then that of another member. An exchange holds both, and no lock of the turns,
//! while nobody is inside.
//!
//! [`SLICE_NS`]: kbase::turns::SLICE_NS

use super::AddressSpace;
use super::exchange::{Copies, exchange};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::Result;
use kbase::event::Waker;
use kbase::sync::Mutex;
#[cfg(test)]
use kbase::turns::Entry;
use kbase::turns::{Farewell, Member, Seat, Stay, Turns};

/// Spaces of which one is in place.
pub(super) struct Group {
    /// What the arena knows the addresses of all members by.
    pub(super) owner: u64,
    turns: Turns<AddressSpace>,
}

impl Member for AddressSpace {
    fn seat(&self) -> &Seat {
        &self.seat
    }
}

impl AddressSpace {
    /// Tells address spaces apart.
    pub(crate) const fn id(&self) -> u64 {
        self.seat.id()
    }

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
        self.group.lock().as_ref().map_or(self.id(), |group| group.owner)
    }

    /// The group, or the calling thread is inside. If a group begins at the same moment, it finds the thread inside.
    fn group_or_inside(&self) -> Option<Arc<Group>> {
        let group = self.group.lock();
        if group.is_none() {
            self.seat.count_in();
        }
        group.clone()
    }

    /// Takes the place of the resident space.
    fn replace(&self, resident: &Self, members: &[Arc<Self>]) {
        exchange(resident, self, !resident.is_over.load(Ordering::SeqCst), members);
    }

    /// Tries to get the calling thread inside.
    #[cfg(test)]
    pub(crate) fn try_enter(self: &Arc<Self>) -> bool {
        let Some(group) = self.group_or_inside() else { return true };
        let switch = |resident: &Self, members: &[Arc<Self>]| self.replace(resident, members);
        group.turns.try_enter(self, || 0, switch) == Entry::Inside
    }

    /// Gets the calling thread, which `waker` wakes, inside. While others are in place it waits in `wait`; it learns how long the
    /// resident space may stay if it is the next.
    pub(crate) fn enter(self: &Arc<Self>, waker: &Waker, wait: impl FnMut(Option<Stay>)) {
        let Some(group) = self.group_or_inside() else { return };
        let switch = |resident: &Self, members: &[Arc<Self>]| self.replace(resident, members);
        group.turns.enter(self, waker, || self.backend.platform.monotonic_ns(), switch, wait);
    }

    /// The calling thread goes outside.
    pub(crate) fn leave(&self) {
        match self.group() {
            Some(group) => group.turns.leave(self),
            None => _ = self.seat.count_out(),
        }
    }

    /// What tells a word of this space from the word at the same address of another: the same for both where they share it.
    pub(crate) fn word_space(&self, address: u64) -> u64 {
        let state = self.state.lock();
        match state.map.find(address) {
            Some((_, vma)) if vma.share != 0 => vma.share | 1 << 63,
            _ => self.id(),
        }
    }

    /// Makes a forked child the next to be resident. False: it would have to wait for other threads than the calling one.
    pub(crate) fn prefer(&self, child: &Self) -> bool {
        let Some(group) = self.group().filter(|_| self.seat.inside() == 1) else { return false };
        group.turns.prefer(child);
        true
    }

    /// Ends the time slice if another member waits. Returns whether one does: the calling thread, which is inside, is to leave.
    pub(crate) fn give_way(&self) -> bool {
        self.group().is_some_and(|group| group.turns.give_way(self))
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
        group.turns.add(&child);
        Ok(child)
    }

    /// The other members of the group.
    pub(super) fn others(&self) -> Vec<Arc<Self>> {
        let mut others = self.group().map_or_else(Vec::new, |group| group.turns.members());
        others.retain(|other| other.id() != self.id());
        others
    }

    /// An empty space that may be at the same addresses, for a program that cannot be anywhere else.
    pub(super) fn sibling(self: &Arc<Self>) -> Arc<Self> {
        let group = self.group_or_new();
        let sibling = self.backend.add_space(|sibling| {
            sibling.state.get_mut().copies = Some(Copies::new());
            sibling.group = Mutex::new(Some(group.clone()));
        });
        group.turns.add(&sibling);
        sibling
    }

    /// The group, which begins with this space as its resident member.
    fn group_or_new(self: &Arc<Self>) -> Arc<Group> {
        let new = || Arc::new(Group { owner: self.id(), turns: Turns::new(self) });
        self.group.lock().get_or_insert_with(new).clone()
    }

    /// The calling thread, which went outside and into another space, counts as inside again without coming in: it leaves
    /// for good soon.
    pub(crate) fn count_in(&self) {
        self.seat.count_in();
    }

    /// Leaves the group: another member becomes resident, or the pages are given back. For the end of the space. False: it is in
    /// none.
    pub(super) fn leave_group(&mut self) -> bool {
        let Some(group) = self.group.get_mut().take() else { return false };
        let switch = |next: &Self, others: &[Arc<Self>]| exchange(self, next, false, others);
        if let Farewell::Last { was_resident } = group.turns.leave_for_good(self, switch) {
            if was_resident {
                self.leave_behind();
            }
            self.backend.free_addresses(group.owner);
        }
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
        assert!(memory.arena.claim(before.id(), &wanted).is_some());
        let id = before.id();
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
            while !space.try_enter() {
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
