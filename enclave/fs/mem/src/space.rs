//! How much the files of one or several file systems may take.

use crate::PAGE_SIZE;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::{Errno, Error, Result};

/// Room for pages of content: what is used never exceeds the limit, its own or that of the space it is a part of.
pub struct Space {
    limit: u64,
    used: AtomicU64,
    whole: Option<Arc<Self>>,
    /// Called when it is full for the first time.
    on_full: Option<Box<dyn Fn() + Send + Sync>>,
    was_full: AtomicBool,
}

impl Space {
    /// Room for `limit_bytes`, rounded down to pages.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Self::build(limit_bytes, None, None)
    }

    /// The same; `on_full` is called once, when somebody is turned away.
    #[must_use]
    pub fn telling(limit_bytes: u64, on_full: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Self::build(limit_bytes, None, Some(Box::new(on_full)))
    }

    /// At most `limit_bytes` of what `whole` has.
    #[must_use]
    pub fn part(whole: &Arc<Self>, limit_bytes: u64) -> Arc<Self> {
        Self::build(limit_bytes, Some(Arc::clone(whole)), None)
    }

    fn build(
        limit_bytes: u64,
        whole: Option<Arc<Self>>,
        on_full: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> Arc<Self> {
        let (used, was_full) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { limit: limit_bytes / PAGE_SIZE as u64, used, whole, on_full, was_full })
    }

    /// Takes a page.
    ///
    /// # Errors
    /// ENOSPC.
    pub(crate) fn take(&self) -> Result<()> {
        let more = |used: u64| (used < self.limit).then_some(used + 1);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.tell();
            return Err(Error::new(Errno::ENOSPC, "the file system is full"));
        }
        match self.whole.as_ref().map_or(Ok(()), |whole| whole.take()) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.used.fetch_sub(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Gives pages back.
    pub(crate) fn give_back(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(pages);
        }
    }

    /// Pages in all.
    pub(crate) fn limit(&self) -> u64 {
        self.whole.as_ref().map_or(self.limit, |whole| self.limit.min(whole.limit()))
    }

    /// Pages that can still be taken.
    pub(crate) fn free(&self) -> u64 {
        let own = self.limit.saturating_sub(self.used.load(Ordering::Relaxed));
        self.whole.as_ref().map_or(own, |whole| own.min(whole.free()))
    }

    fn tell(&self) {
        if let Some(on_full) = &self.on_full
            && !self.was_full.swap(true, Ordering::Relaxed)
        {
            on_full();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn parts_share_the_whole_and_keep_to_their_own_limit() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let whole = Space::telling(3 * PAGE, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let (small, large) = (Space::part(&whole, PAGE), Space::part(&whole, 9 * PAGE));
        assert_eq!((small.limit(), large.limit()), (1, 3));
        small.take().unwrap();
        assert_eq!(small.take().unwrap_err().errno(), Errno::ENOSPC);
        assert_eq!(calls.load(Ordering::Relaxed), 0, "the whole has room");
        large.take().unwrap();
        large.take().unwrap();
        assert_eq!(large.free(), 0);
        assert!(large.take().is_err() && large.take().is_err());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        small.give_back(1);
        assert_eq!((small.free(), large.free()), (1, 1));
        large.take().unwrap();
    }
}
