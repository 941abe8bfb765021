//! A bounded cache of immutable blocks, evicted by the clock algorithm.
//!
//! Blocks are spread over shards by number, each with a lock of its own that is held for a table look-up and
//! nothing else.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use kbase::sync::Mutex;
use vfs::Page;

const SHARDS: u64 = 8;

/// What a cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Look-ups that found the block.
    pub hits: u64,
    /// Look-ups that did not, each followed by reading and hashing.
    pub misses: u64,
    /// Blocks that made room for others.
    pub evictions: u64,
    /// Blocks now in the cache.
    pub blocks: u64,
}

pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS as usize],
    /// Blocks in one shard, at least 1.
    shard_capacity: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    /// From block number to slot.
    index: HashMap<u64, usize>,
    hand: usize,
}

struct Slot {
    block: u64,
    page: Arc<Page>,
    referenced: bool,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: Default::default(),
            shard_capacity: capacity.div_ceil(SHARDS as usize).max(1),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    fn shard(&self, block: u64) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        usize::try_from(block % SHARDS).ok().and_then(|at| self.shards.get(at)).unwrap_or(first)
    }

    /// The block, if it is here.
    pub(crate) fn get(&self, block: u64) -> Option<Arc<Page>> {
        let found = self.shard(block).lock().get(block);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a block, and returns the one to use: two threads may have read the same.
    pub(crate) fn insert(&self, block: u64, page: Arc<Page>) -> Arc<Page> {
        let mut shard = self.shard(block).lock();
        if let Some(found) = shard.get(block) {
            return found;
        }
        let evicted = shard.insert(block, Arc::clone(&page), self.shard_capacity);
        drop(shard);
        if evicted.is_some() {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        page
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let emptied = core::mem::take(&mut *shard.lock());
            drop(emptied);
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            blocks: self.shards.iter().map(|shard| shard.lock().slots.len() as u64).sum(),
        }
    }
}

impl Shard {
    fn get(&mut self, block: u64) -> Option<Arc<Page>> {
        let slot = self.slots.get_mut(*self.index.get(&block)?)?;
        slot.referenced = true;
        Some(Arc::clone(&slot.page))
    }

    /// Returns what had to go, so that it is freed without the lock.
    fn insert(&mut self, block: u64, page: Arc<Page>, capacity: usize) -> Option<Arc<Page>> {
        // Not referenced yet: what is read once, front to back, must not push out what is used again.
        let slot = Slot { block, page, referenced: false };
        if self.slots.len() < capacity {
            self.index.insert(block, self.slots.len());
            self.slots.push(slot);
            return None;
        }
        let at = self.victim();
        let old = core::mem::replace(self.slots.get_mut(at)?, slot);
        self.index.remove(&old.block);
        self.index.insert(block, at);
        Some(old.page)
    }

    /// The next slot that was not used since the hand last passed it. Two rounds always find one.
    fn victim(&mut self) -> usize {
        let len = self.slots.len().max(1);
        for _ in 0..2 * len {
            let at = self.hand % len;
            self.hand = (at + 1) % len;
            match self.slots.get_mut(at) {
                Some(slot) if slot.referenced => slot.referenced = false,
                _ => return at,
            }
        }
        self.hand % len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Arc<Page> {
        Arc::new([byte; 4096])
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let cache = Cache::new(16);
        for block in 0..1000 {
            assert!(cache.get(block).is_none());
            cache.insert(block, page(block.to_le_bytes()[0]));
        }
        let stats = cache.stats();
        assert_eq!((stats.blocks, stats.evictions, stats.misses), (16, 984, 1000));
        let found = (0..1000).filter(|block| cache.get(*block).is_some()).count();
        assert_eq!(found, 16);
    }

    #[test]
    fn what_is_used_again_survives_a_sequential_scan() {
        let cache = Cache::new(64);
        for block in 0..8 {
            cache.insert(block, page(1));
        }
        for block in 8..2000 {
            for hot in 0..8 {
                assert!(cache.get(hot).is_some(), "hot {hot} at {block}");
            }
            cache.insert(block, page(2));
        }
    }

    #[test]
    fn the_first_of_two_equal_reads_stays() {
        let cache = Cache::new(8);
        let first = cache.insert(5, page(1));
        let second = cache.insert(5, page(1));
        assert!(Arc::ptr_eq(&first, &second));
        cache.clear();
        assert_eq!(cache.stats().blocks, 0);
    }
}
