//! User memory: its pages and its bytes.

use bitflags::bitflags;
use core::ops::Range;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

bitflags! {
    /// What an access may do with a page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

/// A range of whole pages; `start` and `end` are page-aligned addresses and `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    start: u64,
    end: u64,
}

impl PageRange {
    /// The range, if both ends are page-aligned and in order.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE) && start <= end)
            .then_some(Self { start, end })
    }

    /// The range of page numbers `first..end`; empty if they are out of order or beyond all addresses.
    #[must_use]
    pub const fn of_pages(first: u64, end: u64) -> Self {
        match (first.checked_mul(PAGE_SIZE), end.checked_mul(PAGE_SIZE)) {
            (Some(start), Some(end)) if start <= end => Self { start, end },
            _ => Self { start: 0, end: 0 },
        }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// First address after it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no page.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Number of pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.len() / PAGE_SIZE
    }
}

/// Enclave memory is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// The pages of the user range. Pages are uncommitted, or committed with a protection.
///
/// The kernel keeps the record of what is committed; asking for what contradicts it (committing twice,
/// protecting an uncommitted page) is a bug of the kernel and is answered with [`OutOfMemory`] or ignored,
/// never with corruption.
pub trait UserPages {
    /// The addresses that programs may use.
    fn user_range(&self) -> Range<u64>;

    /// Most bytes that may be committed at once.
    fn user_limit(&self) -> u64;

    /// Makes uncommitted pages accessible, filled with zeros (EAUG, EACCEPT). When the kernel is about to fill
    /// them itself it commits with `READ | WRITE` and narrows with [`UserPages::protect`] afterwards.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then no page of the range is committed.
    fn commit(&self, range: PageRange, protection: Protection) -> Result<(), OutOfMemory>;

    /// Changes the protection of committed pages from `from` to `to` (EMODPR, EMODPE).
    fn protect(&self, range: PageRange, from: Protection, to: Protection);

    /// Gives committed pages back (EMODT, EACCEPT, EREMOVE). Their content is lost.
    fn decommit(&self, range: PageRange);

    /// Keeps accesses from pages, committed or not, by the page tables of the host: content and protection stay. What is
    /// concealed is not committed, protected or given back before it is revealed. A host that does not do it lets stray
    /// accesses of programs go unnoticed.
    fn conceal(&self, range: PageRange);

    /// Undoes [`UserPages::conceal`].
    fn reveal(&self, range: PageRange);
}

/// An access to user memory failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFault {
    /// Bytes that were copied before it.
    pub done: usize,
    /// Address that could not be accessed.
    pub address: u64,
}

/// Raw access to user memory: the bytes that user code could access itself at this moment. The kernel wraps
/// it with demand paging; nothing else should call it. Addresses outside the user range fail.
pub trait UserMemory {
    /// Copies from user memory.
    ///
    /// # Errors
    /// [`UserFault`] at the first byte that is not readable.
    fn user_load(&self, from: u64, into: &mut [u8]) -> Result<(), UserFault>;

    /// Copies to user memory.
    ///
    /// # Errors
    /// [`UserFault`] at the first byte that is not writable.
    fn user_store(&self, into: u64, from: &[u8]) -> Result<(), UserFault>;

    /// Fills user memory with one byte.
    ///
    /// # Errors
    /// [`UserFault`] at the first byte that is not writable.
    fn user_fill(&self, into: u64, len: usize, byte: u8) -> Result<(), UserFault>;

    /// Loads an aligned word atomically.
    ///
    /// # Errors
    /// [`UserFault`] not readable or not aligned.
    fn user_load_u32(&self, from: u64) -> Result<u32, UserFault>;

    /// Compares and exchanges an aligned word atomically: returns the value found, which equals `current` when
    /// `new` was stored.
    ///
    /// # Errors
    /// [`UserFault`] not writable or not aligned.
    fn user_compare_exchange_u32(&self, at: u64, current: u32, new: u32) -> Result<u32, UserFault>;
}
