//! Advisory locks: records of processes, records of open file descriptions, and `flock(2)`.
//!
//! One table for all files, by device and inode number. Whoever waits for a lock waits for any change of the table.

use super::OpenFile;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use hashbrown::HashMap;
use kbase::Result;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOwner {
    /// A process, by its descriptor table, with its number for F_GETLK.
    Process {
        /// Number of the descriptor table.
        table: u64,
        /// Number of the process.
        pid: u32,
    },
    /// An open file description, for records (F_OFD_SETLK).
    Description(u64),
    /// An open file description, for the whole file (`flock(2)`); these live in a world of their own.
    Whole(u64),
}

impl LockOwner {
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Process { table: a, .. }, Self::Process { table: b, .. }) => a == b,
            _ => self == other,
        }
    }

    const fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

/// A lock on the bytes `start..=last` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Who holds it.
    pub(crate) owner: LockOwner,
    /// Whether it excludes readers too.
    pub(crate) is_exclusive: bool,
    /// First byte.
    pub(crate) start: u64,
    /// Last byte; `u64::MAX`: to the end, however far that moves.
    pub(crate) last: u64,
}

impl Lock {
    const fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.owner.is_whole() == other.owner.is_whole()
            && !self.owner.is_same(other.owner)
            && (self.is_exclusive || other.is_exclusive)
            && self.overlaps(other)
    }
}

/// A file, by device and inode number.
type FileId = (u64, u64);

/// All locks.
#[derive(Default)]
pub(crate) struct LockTable {
    /// How many records of processes there are, so that `close(2)` is cheap where there are none.
    records: AtomicUsize,
    files: Mutex<HashMap<FileId, Vec<Lock>>>,
    changed: WaiterQueue,
}

impl LockTable {
    /// Who wants to know when a lock is released.
    pub(crate) const fn queue(&self) -> &WaiterQueue {
        &self.changed
    }

    /// The first lock that stands against `wanted`.
    pub(crate) fn conflict(&self, file: FileId, wanted: &Lock) -> Option<Lock> {
        self.files.lock().get(&file)?.iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// Takes a lock, or says what stands against it. Locks of the same owner give way.
    pub(crate) fn take(&self, file: FileId, wanted: Lock) -> core::result::Result<(), Lock> {
        let was_shrunk = {
            let mut files = self.files.lock();
            let held = files.entry(file).or_default();
            if let Some(conflict) = held.iter().find(|held| held.conflicts(&wanted)) {
                return Err(*conflict);
            }
            // A lock that was exclusive may become shared: then others can go on.
            let was_shrunk = held.iter().any(|h| h.owner.is_same(wanted.owner) && h.overlaps(&wanted));
            cut(held, &wanted);
            held.push(wanted);
            was_shrunk
        };
        if matches!(wanted.owner, LockOwner::Process { .. }) {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
        if was_shrunk {
            self.changed.wake_all();
        }
        Ok(())
    }

    /// Releases what the owner of `range` holds within it.
    pub(crate) fn release(&self, file: FileId, range: &Lock) {
        {
            let mut files = self.files.lock();
            if let Some(held) = files.get_mut(&file) {
                cut(held, range);
                if held.is_empty() {
                    files.remove(&file);
                }
            }
        }
        self.changed.wake_all();
    }

    /// Releases the records that a process holds on the file of a descriptor that it closes.
    pub(crate) fn release_owner(&self, table: u64, open: &OpenFile) {
        if self.records.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Ok(file) = file_id(open) {
            let owner = LockOwner::Process { table, pid: 0 };
            self.release(file, &Lock { owner, is_exclusive: false, start: 0, last: u64::MAX });
        }
    }

    /// Releases what an open file description holds.
    pub(crate) fn release_description(&self, id: u64) {
        self.files.lock().retain(|_, held| {
            held.retain(|l| l.owner != LockOwner::Description(id) && l.owner != LockOwner::Whole(id));
            !held.is_empty()
        });
        self.changed.wake_all();
    }
}

/// The key of a file.
///
/// # Errors
/// What its metadata says.
pub(crate) fn file_id(open: &OpenFile) -> Result<FileId> {
    let metadata = open.file().metadata()?;
    Ok((metadata.dev, metadata.ino))
}

/// Removes a range from the locks of one owner, splitting those that reach beyond it.
fn cut(held: &mut Vec<Lock>, range: &Lock) {
    let mut pieces = Vec::new();
    held.retain(|lock| {
        if !lock.owner.is_same(range.owner) || !lock.overlaps(range) {
            return true;
        }
        if lock.start < range.start {
            pieces.push(Lock { last: range.start - 1, ..*lock });
        }
        if lock.last > range.last {
            pieces.push(Lock { start: range.last + 1, ..*lock });
        }
        false
    });
    held.append(&mut pieces);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(table: u64, is_exclusive: bool, start: u64, last: u64) -> Lock {
        Lock { owner: LockOwner::Process { table, pid: 1 }, is_exclusive, start, last }
    }

    #[test]
    fn readers_share_and_a_writer_excludes() {
        let table = LockTable::default();
        table.take((1, 1), lock(1, false, 0, 9)).unwrap();
        table.take((1, 1), lock(2, false, 5, 15)).unwrap();
        assert!(table.take((1, 1), lock(3, true, 9, 9)).is_err());
        table.take((1, 1), lock(3, true, 16, u64::MAX)).unwrap();
        table.take((1, 2), lock(3, true, 0, u64::MAX)).unwrap();
    }

    #[test]
    fn unlocking_the_middle_splits_a_lock() {
        let table = LockTable::default();
        table.take((1, 1), lock(1, true, 0, 99)).unwrap();
        table.release((1, 1), &lock(1, false, 40, 59));
        table.take((1, 1), lock(2, true, 40, 59)).unwrap();
        assert_eq!(table.conflict((1, 1), &lock(2, true, 39, 39)), Some(lock(1, true, 0, 39)));
        assert_eq!(table.conflict((1, 1), &lock(2, true, 60, 60)), Some(lock(1, true, 60, 99)));
    }

    #[test]
    fn flock_and_records_do_not_see_each_other() {
        let table = LockTable::default();
        table.take((1, 1), lock(1, true, 0, u64::MAX)).unwrap();
        let whole = Lock { owner: LockOwner::Whole(7), is_exclusive: true, start: 0, last: u64::MAX };
        table.take((1, 1), whole).unwrap();
        table.release_description(7);
        assert!(table.conflict((1, 1), &Lock { owner: LockOwner::Whole(8), ..whole }).is_none());
    }
}
