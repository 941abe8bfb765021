//! User and group numbers and capabilities of a process. The enclave is the security boundary and what is inside trusts
//! itself, so files have no guards. But programs drop privileges and check that they cannot get them back, so the
//! rules of `credentials(7)` and `capabilities(7)` hold among the numbers.

use super::account::{Account, Accounts};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kbase::sync::Mutex;
use kbase::{Result, bail};

/// All capabilities of Linux 6.1: 0 to CAP_CHECKPOINT_RESTORE.
pub(crate) const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// Capabilities that are asked for, as bits.
pub(crate) mod capability {
    /// CAP_DAC_OVERRIDE.
    pub(crate) const DAC_OVERRIDE: u64 = 1 << 1;
    /// CAP_KILL.
    pub(crate) const KILL: u64 = 1 << 5;
    /// CAP_SETUID. CAP_SETGID is not told apart from it.
    pub(crate) const SETUID: u64 = 1 << 7;
    /// CAP_IPC_OWNER.
    pub(crate) const IPC_OWNER: u64 = 1 << 15;
    /// CAP_SYS_PTRACE.
    pub(crate) const SYS_PTRACE: u64 = 1 << 19;
    /// CAP_SYS_ADMIN.
    pub(crate) const SYS_ADMIN: u64 = 1 << 21;
    /// CAP_SYS_NICE.
    pub(crate) const SYS_NICE: u64 = 1 << 23;
    /// CAP_SYS_RESOURCE.
    pub(crate) const SYS_RESOURCE: u64 = 1 << 24;
    /// CAP_SETFCAP.
    pub(crate) const SETFCAP: u64 = 1 << 31;
}

/// Real, effective and saved number.
pub(crate) struct Ids([AtomicU32; 3]);

impl Ids {
    const fn root() -> Self {
        Self([const { AtomicU32::new(0) }; 3])
    }

    /// Real, effective, saved.
    pub(crate) fn get(&self) -> [u32; 3] {
        let [real, effective, saved] = &self.0;
        [real, effective, saved].map(|id| id.load(Ordering::Relaxed))
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

/// Sets of capabilities, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// Numbers and capabilities of a process.
pub(crate) struct Credentials {
    /// Users. To be set with [`Credentials::set_users`].
    pub(crate) users: Ids,
    /// Groups.
    pub(crate) groups: Ids,
    /// Supplementary groups, sorted.
    pub(crate) others: Mutex<Vec<u32>>,
    effective: AtomicU64,
    permitted: AtomicU64,
    inheritable: AtomicU64,
    /// Capabilities that can be had at all (`PR_CAPBSET_DROP`).
    bounding: AtomicU64,
    accounts: Arc<Accounts>,
    /// That of the real user.
    account: Mutex<Arc<Account>>,
}

impl Credentials {
    /// Those of root.
    pub(crate) fn root(accounts: &Arc<Accounts>) -> Self {
        Self {
            users: Ids::root(),
            groups: Ids::root(),
            others: Mutex::new(Vec::new()),
            effective: AtomicU64::new(ALL_CAPABILITIES),
            permitted: AtomicU64::new(ALL_CAPABILITIES),
            inheritable: AtomicU64::new(0),
            bounding: AtomicU64::new(ALL_CAPABILITIES),
            accounts: Arc::clone(accounts),
            account: Mutex::new(accounts.of(0)),
        }
    }

    /// A copy for a child.
    pub(crate) fn fork(&self) -> Self {
        let copy = Self::root(&self.accounts);
        *copy.account.lock() = self.account();
        copy.users.set(self.users.get().map(Some));
        copy.groups.set(self.groups.get().map(Some));
        *copy.others.lock() = self.others.lock().clone();
        copy.store(self.capabilities());
        copy.bounding.store(self.bounding(), Ordering::Relaxed);
        copy
    }

    /// The real user.
    pub(crate) fn uid(&self) -> u32 {
        let [real, ..] = self.users.get();
        real
    }

    /// What is counted of the real user.
    pub(crate) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account.lock())
    }

    /// Whether it may take any number.
    pub(crate) fn may_set_ids(&self) -> bool {
        self.is_capable(capability::SETUID)
    }

    /// Whether it has a capability of `capabilities(7)`, one of [`capability`].
    pub(crate) fn is_capable(&self, capability: u64) -> bool {
        self.effective.load(Ordering::Relaxed) & capability != 0
    }

    /// Sets users, and takes or gives capabilities as `capabilities(7)` says of changes from and to 0.
    pub(crate) fn set_users(&self, new: [Option<u32>; 3], keeps_permitted: bool) {
        let before = self.users.get();
        self.users.set(new);
        let after = self.users.get();
        let ([real_before, ..], [real, ..]) = (before, after);
        if real != real_before {
            // What was counted so far stays with the user that it was counted for.
            let account = self.accounts.of(real);
            *self.account.lock() = account;
        }
        let mut capabilities = self.capabilities();
        if before.contains(&0) && !after.contains(&0) {
            if !keeps_permitted {
                capabilities.permitted = 0;
            }
            capabilities.effective = 0;
        }
        let ([_, effective_before, _], [_, effective_after, _]) = (before, after);
        match (effective_before, effective_after) {
            (0, 1..) => capabilities.effective = 0,
            (1.., 0) => capabilities.effective = capabilities.permitted,
            _ => {}
        }
        self.store(capabilities);
    }

    /// The capabilities.
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            effective: self.effective.load(Ordering::Relaxed),
            permitted: self.permitted.load(Ordering::Relaxed),
            inheritable: self.inheritable.load(Ordering::Relaxed),
        }
    }

    fn store(&self, capabilities: Capabilities) {
        self.effective.store(capabilities.effective, Ordering::Relaxed);
        self.permitted.store(capabilities.permitted, Ordering::Relaxed);
        self.inheritable.store(capabilities.inheritable, Ordering::Relaxed);
    }

    /// Sets the capabilities (`capset(2)`).
    ///
    /// # Errors
    /// EPERM a permitted one is new, or an effective one is not permitted.
    pub(crate) fn set_capabilities(&self, new: Capabilities) -> Result<()> {
        let old = self.capabilities();
        let inheritable_limit = old.inheritable | old.permitted;
        if new.permitted & !old.permitted != 0
            || new.effective & !new.permitted != 0
            || new.inheritable & !inheritable_limit != 0
        {
            bail!(EPERM, "more capabilities than before");
        }
        self.store(new);
        Ok(())
    }

    /// Capabilities that can be had at all.
    pub(crate) fn bounding(&self) -> u64 {
        self.bounding.load(Ordering::Relaxed)
    }

    /// Takes one out of them.
    pub(crate) fn drop_bounding(&self, capability: u64) {
        self.bounding.fetch_and(!capability, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drops_root_for_good_cannot_set_numbers_any_more() {
        let credentials = Credentials::root(&Arc::default());
        credentials.set_users([None, Some(1000), None], false);
        assert!(!credentials.may_set_ids());
        credentials.set_users([None, Some(0), None], false);
        assert!(credentials.may_set_ids(), "the saved number leads back");
        credentials.set_users([Some(1000); 3], false);
        assert_eq!(credentials.capabilities().permitted, 0);
        assert!(!credentials.fork().may_set_ids());
    }

    #[test]
    fn processes_of_a_user_share_its_account() {
        let credentials = Credentials::root(&Arc::default());
        let child = credentials.fork();
        assert!(Arc::ptr_eq(&credentials.account(), &child.account()));
        child.set_users([Some(1000), None, None], false);
        assert!(!Arc::ptr_eq(&credentials.account(), &child.account()));
        credentials.set_users([Some(1000); 3], false);
        assert!(Arc::ptr_eq(&credentials.account(), &child.account()));
    }

    #[test]
    fn capabilities_only_shrink() {
        let credentials = Credentials::root(&Arc::default());
        let some = Capabilities { effective: 1, permitted: 3, inheritable: 0 };
        credentials.set_capabilities(some).unwrap();
        assert_eq!(credentials.capabilities(), some);
        assert!(credentials.set_capabilities(Capabilities { permitted: 7, ..some }).is_err());
        assert!(credentials.set_capabilities(Capabilities { effective: 4, ..some }).is_err());
    }
}
