//! `futex_waitv(2)`: waiting for any of several words.

use super::queue::{Fate, FutexTable, Key, Kind, Scope, Waiter};
use super::{sleep, waiter_of};
use crate::Ctx;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr};
use linux_abi::process::futex::BITSET_MATCH_ANY;

/// One word of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    /// Its address.
    pub(crate) address: UserAddr,
    /// Who may wake it.
    pub(crate) scope: Scope,
    /// It is waited for while it has this value.
    pub(crate) value: u32,
}

/// Places in several queues, which are left when it is dropped.
struct Places<'a> {
    table: &'a FutexTable,
    waiters: Vec<Arc<Waiter>>,
}

impl Places<'_> {
    /// The last word that was woken.
    fn woken(&self) -> Option<usize> {
        self.waiters.iter().rposition(|waiter| waiter.fate() == Fate::Done)
    }
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        for waiter in &self.waiters {
            drop(self.table.remove(waiter));
        }
    }
}

/// Waits until one of `words` is woken and returns its index.
///
/// # Errors
/// EAGAIN one has another value; ETIMEDOUT; ERESTARTSYS; EINVAL not aligned; EFAULT.
pub(crate) fn wait_for_any(ctx: &Ctx<'_>, words: &[Word], deadline_ns: Option<u64>) -> Result<usize> {
    let keys: Vec<Key> =
        words.iter().map(|word| Key::of(ctx, word.address, word.scope)).collect::<Result<_>>()?;
    let mut places = Places { table: &ctx.kernel.futexes, waiters: Vec::new() };
    for (word, key) in words.iter().zip(keys) {
        let waiter = waiter_of(ctx);
        places.table.add(key, Kind::Wait(BITSET_MATCH_ANY), &waiter);
        places.waiters.push(waiter);
        let compared = match ctx.user().load_u32(word.address) {
            Ok(value) if value == word.value => continue,
            Ok(_) => Error::new(Errno::EAGAIN, "a word has another value"),
            Err(error) => error,
        };
        return places.woken().ok_or(compared);
    }
    loop {
        if let Some(index) = places.woken() {
            return Ok(index);
        }
        if let Err(error) = sleep(ctx, deadline_ns) {
            return places.woken().ok_or(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SCRATCH, World};

    #[test]
    fn words_are_compared_and_the_queues_are_left_again() {
        World::new().with_ctx(|ctx| {
            let word = |index: u64, value| Word {
                address: UserAddr(SCRATCH + index * 4),
                scope: Scope::Private,
                value,
            };
            let errno = |words: &[Word], deadline| wait_for_any(ctx, words, deadline).unwrap_err().errno();
            assert_eq!(errno(&[word(0, 0), word(1, 5)], None), Errno::EAGAIN);
            let soon = Some(ctx.platform().monotonic_ns() + 1000);
            assert_eq!(errno(&[word(0, 0), word(1, 0)], soon), Errno::ETIMEDOUT);
            let odd = Word { address: UserAddr(SCRATCH + 1), ..word(0, 0) };
            assert_eq!(errno(&[word(0, 0), odd], None), Errno::EINVAL);
            let table = &ctx.kernel.futexes;
            assert!(table.indices().all(|index| table.lock(index).unwrap().is_empty()));
        });
    }
}
