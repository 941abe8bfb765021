//! When a program is in place.
//!
//! A space *is loading* until the program in it runs: what was [left behind](super::leftovers) at its addresses stays accessible, so
//! that what the program maps there is taken without a word to the host. Of a program that is linked dynamically the kernel loads
//! little; the rest is mapped by its interpreter, which is program code and makes system calls as any. So it counts as loading
//! for as long as all calls come from the text of the interpreter, and are calls that those of glibc and musl make before they start
//! the program. (They map a library as a whole and then its segments over it: what the whole does not show is concealed when another call
//! follows.) glibc's ends that before the program has run: it initialises the C library, by a call from there. musl's is its C
//! library; there it ends with the first other call of the program.

use super::{AddressSpace, State};
use core::ops::Range;
use core::sync::atomic::Ordering;
use linux_abi::mm::MapFlags;

/// What interpreters call. `brk` only asks where the heap is.
const CALLS: [(u64, &str); 18] = [
    (BRK, "brk"),
    (0, "read"),
    (2, "open"),
    (3, "close"),
    (4, "stat"),
    (5, "fstat"),
    (MMAP, "mmap"),
    (10, "mprotect"),
    (11, "munmap"),
    (17, "pread64"),
    (21, "access"),
    (89, "readlink"),
    (158, "arch_prctl"),
    (218, "set_tid_address"),
    (257, "openat"),
    (262, "newfstatat"),
    (273, "set_robust_list"),
    (334, "rseq"),
];
const BRK: u64 = 12;
const MMAP: u64 = 9;

impl AddressSpace {
    /// The interpreter in `range` is about to run, and load the rest of the program.
    pub(crate) fn expect_interpreter(&self, range: Range<u64>) {
        self.state.lock().interpreter = range;
        self.is_interpreted.store(true, Ordering::SeqCst);
    }

    /// The program is about to make system call `number` and to go on at `rip`: unless that is its interpreter, which loads, it is in
    /// place. On the way of every call.
    pub(crate) fn note_call(&self, number: u64, arguments: &[u64; 6], rip: u64) {
        if self.is_interpreted.load(Ordering::Relaxed) {
            self.note_early_call(number, arguments, rip);
        }
    }

    #[cold]
    fn note_early_call(&self, number: u64, arguments: &[u64; 6], rip: u64) {
        if !self.is_call_of_loader(number, arguments, rip) {
            return self.set_loaded();
        }
        let mut state = self.state.lock();
        let [address, _, _, flags, ..] = *arguments;
        let replaces = number == MMAP && flags & u64::from(MapFlags::FIXED.bits()) != 0;
        if !(replaces && state.unsettled.contains(&address)) {
            self.settle(&mut state);
        }
    }

    /// A mapping was made while the program is loading: what was left behind there and is not what it shows is out of reach before
    /// anybody looks.
    pub(super) fn settle_later(&self, state: &mut State, range: Range<u64>) {
        if state.interpreter.is_empty() || !state.unsettled.is_empty() {
            self.conceal_leftovers(state, &range);
        } else {
            state.unsettled = range;
        }
    }

    fn settle(&self, state: &mut State) {
        let range = core::mem::take(&mut state.unsettled);
        self.conceal_leftovers(state, &range);
    }

    fn is_call_of_loader(&self, number: u64, arguments: &[u64; 6], rip: u64) -> bool {
        let is_known = CALLS.iter().any(|&(of_loader, _)| of_loader == number);
        let [first, ..] = *arguments;
        if !is_known || (number == BRK && first != 0) {
            return false;
        }
        let rip = self.original_pc(rip);
        self.state.lock().interpreter.contains(&rip)
    }

    /// The program is in place and about to run: what was left behind at the addresses of this space is out of its reach.
    pub(crate) fn set_loaded(&self) {
        self.is_interpreted.store(false, Ordering::SeqCst);
        let mut state = self.state.lock();
        state.is_loading = false;
        state.interpreter = 0..0;
        state.unsettled = 0..0;
        for claim in state.claims.iter() {
            self.conceal_leftovers(&state, claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscall;
    use crate::testing::World;

    #[test]
    fn the_calls_are_those_of_their_names() {
        for (number, name) in CALLS {
            assert_eq!(syscall::name(number), Some(name));
        }
    }

    #[test]
    fn a_program_is_in_place_with_the_first_call_that_is_not_its_interpreters() {
        let interpreter = 0x40_0000..0x40_1000;
        let inside = interpreter.start + 7;
        let is_loading_after = |calls: &[(u64, u64, u64)]| {
            let space = World::new().kernel.memory.new_space();
            space.expect_interpreter(interpreter.clone());
            for &(number, first, rip) in calls {
                space.note_call(number, &[first, 0, 0, 0, 0, 0], rip);
            }
            space.state.lock().is_loading
        };
        assert!(is_loading_after(&[(BRK, 0, inside), (9, 0, inside), (257, 0, inside)]));
        assert!(!is_loading_after(&[(9, 0, interpreter.end)]), "a call from elsewhere");
        assert!(!is_loading_after(&[(1, 0, inside)]), "write");
        assert!(!is_loading_after(&[(BRK, 0x50_0000, inside)]), "the heap grows");
        assert!(!is_loading_after(&[(1, 0, inside), (9, 0, inside)]), "for good");
    }
}
