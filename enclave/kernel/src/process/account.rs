//! What is counted of a user, not of a process: pending signals (RLIMIT_SIGPENDING). Processes of one real user have one account.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::sync::Mutex;

/// The accounts of all users that have processes or pending signals.
#[derive(Default)]
pub(crate) struct Accounts(Mutex<BTreeMap<u32, Weak<Account>>>);

impl Accounts {
    /// The account of a user.
    pub(crate) fn of(&self, uid: u32) -> Arc<Account> {
        let mut accounts = self.0.lock();
        if let Some(account) = accounts.get(&uid).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Account::default());
        accounts.insert(uid, Arc::downgrade(&account));
        account
    }
}

/// The account of a user.
#[derive(Default)]
pub(crate) struct Account {
    signals: AtomicU64,
}

impl Account {
    /// Pending signals and timers that can send one.
    pub(crate) fn signals(&self) -> u64 {
        self.signals.load(Ordering::Relaxed)
    }

    /// Counts one more signal, which makes at most `limit`.
    pub(crate) fn take_slot(self: &Arc<Self>, limit: u64) -> Option<SignalSlot> {
        let taken = self.signals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            count.checked_add(1).filter(|&more| more <= limit)
        });
        taken.is_ok().then(|| SignalSlot(Arc::clone(self)))
    }
}

/// A signal that is counted until this is dropped.
pub(crate) struct SignalSlot(Arc<Account>);

impl Drop for SignalSlot {
    fn drop(&mut self) {
        self.0.signals.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_account_as_long_as_somebody_uses_it() {
        let accounts = Accounts::default();
        let account = accounts.of(7);
        assert!(Arc::ptr_eq(&account, &accounts.of(7)));
        assert!(!Arc::ptr_eq(&account, &accounts.of(8)));
        let slot = account.take_slot(1).unwrap();
        assert!(account.take_slot(1).is_none());
        drop(account);
        assert_eq!(accounts.of(7).signals(), 1, "a signal keeps it");
        drop(slot);
        assert_eq!(accounts.of(7).signals(), 0);
        assert_eq!(accounts.0.lock().len(), 1, "accounts that nobody uses are forgotten");
    }
}
