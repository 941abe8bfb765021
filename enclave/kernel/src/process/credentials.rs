//! User and group numbers of a process. Every process is privileged: the enclave is the security boundary, and what is
//! inside trusts itself. Programs still drop privileges and check that they did, so the numbers are kept.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::sync::Mutex;

/// Real, effective and saved number.
pub(crate) struct Ids([AtomicU32; 3]);

impl Ids {
    const fn root() -> Self {
        Self([const { AtomicU32::new(0) }; 3])
    }

    /// Real, effective, saved.
    pub(crate) fn get(&self) -> [u32; 3] {
        [0, 1, 2].map(|index| self.0.get(index).map_or(0, |id| id.load(Ordering::Relaxed)))
    }

    /// Sets those that are given.
    pub(crate) fn set(&self, ids: [Option<u32>; 3]) {
        for (place, id) in self.0.iter().zip(ids) {
            if let Some(id) = id {
                place.store(id, Ordering::Relaxed);
            }
        }
    }

    /// The effective one, without looking at the others.
    pub(crate) fn effective(&self) -> u32 {
        let [_, effective, _] = &self.0;
        effective.load(Ordering::Relaxed)
    }
}

/// User and group numbers of a process.
pub(crate) struct Credentials {
    /// Users.
    pub(crate) users: Ids,
    /// Groups.
    pub(crate) groups: Ids,
    /// Supplementary groups.
    pub(crate) others: Mutex<Vec<u32>>,
}

impl Credentials {
    /// Those of root.
    pub(crate) const fn root() -> Self {
        Self { users: Ids::root(), groups: Ids::root(), others: Mutex::new(Vec::new()) }
    }

    /// A copy for a child.
    pub(crate) fn fork(&self) -> Self {
        let copy = Self::root();
        copy.users.set(self.users.get().map(Some));
        copy.groups.set(self.groups.get().map(Some));
        *copy.others.lock() = self.others.lock().clone();
        copy
    }

    /// The real user.
    pub(crate) fn uid(&self) -> u32 {
        let [real, ..] = self.users.get();
        real
    }
}
