//! User memory: pages with protections.

use crate::{FakePlatform, lock};
use platform::{OutOfMemory, PAGE_SIZE, PageRange, Protection, UserFault, UserMemory, UserPages};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The addresses that programs have.
const USER_RANGE: Range<u64> = 0x1_0000..0xE_0000_0000;

/// A committed page.
struct PageFrame {
    protection: Protection,
    bytes: Box<[u8; 4096]>,
}

/// The committed pages by number.
pub(crate) struct Memory {
    frames: BTreeMap<u64, PageFrame>,
    concealed: BTreeSet<u64>,
    limit: u64,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { frames: BTreeMap::new(), concealed: BTreeSet::new(), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Calls `each` with the parts of pages that an access of `len` bytes touches.
    fn access(
        &mut self,
        address: u64,
        len: usize,
        wanted: Protection,
        mut each: impl FnMut(&mut [u8], usize),
    ) -> Result<(), UserFault> {
        let mut done = 0;
        while done < len {
            let at = address.wrapping_add(done as u64);
            let fault = UserFault { done, address: at };
            if self.concealed.contains(&(at / PAGE_SIZE)) {
                return Err(fault);
            }
            let frame = self.frames.get_mut(&(at / PAGE_SIZE)).ok_or(fault)?;
            if !frame.protection.contains(wanted) {
                return Err(fault);
            }
            let offset = usize::try_from(at % PAGE_SIZE).map_err(|_| fault)?;
            let part = (len - done).min(4096 - offset);
            each(&mut frame.bytes[offset..offset + part], done);
            done += part;
        }
        Ok(())
    }
}

impl UserPages for FakePlatform {
    fn user_range(&self) -> Range<u64> {
        USER_RANGE
    }

    fn user_limit(&self) -> u64 {
        lock(&self.memory).limit
    }

    /// # Panics
    /// A page of the range is committed, or lies outside the user range.
    fn commit(&self, range: PageRange, protection: Protection) -> Result<(), OutOfMemory> {
        let mut memory = lock(&self.memory);
        assert!(USER_RANGE.start <= range.start() && range.end() <= USER_RANGE.end, "commit of {range:x?}");
        if (memory.frames.len() as u64 + range.pages()) * PAGE_SIZE > memory.limit {
            return Err(OutOfMemory);
        }
        for page in range.start() / PAGE_SIZE..range.end() / PAGE_SIZE {
            let old = memory.frames.insert(page, PageFrame { protection, bytes: Box::new([0; 4096]) });
            assert!(old.is_none(), "page {page:#x} is committed twice");
            assert!(!memory.concealed.contains(&page), "page {page:#x} is concealed");
        }
        Ok(())
    }

    /// # Panics
    /// A page of the range is not committed, or its protection is not `from`.
    fn protect(&self, range: PageRange, from: Protection, to: Protection) {
        let mut memory = lock(&self.memory);
        for page in range.start() / PAGE_SIZE..range.end() / PAGE_SIZE {
            let frame = memory.frames.get_mut(&page).expect("an uncommitted page is protected");
            assert_eq!(frame.protection, from, "protection of page {page:#x}");
            frame.protection = to;
        }
    }

    /// # Panics
    /// A page of the range is not committed.
    fn decommit(&self, range: PageRange) {
        let mut memory = lock(&self.memory);
        for page in range.start() / PAGE_SIZE..range.end() / PAGE_SIZE {
            assert!(memory.frames.remove(&page).is_some(), "page {page:#x} is not committed");
            assert!(!memory.concealed.contains(&page), "page {page:#x} is concealed");
        }
    }

    fn conceal(&self, range: PageRange) {
        lock(&self.memory).concealed.extend(range.start() / PAGE_SIZE..range.end() / PAGE_SIZE);
    }

    fn reveal(&self, range: PageRange) {
        let pages = range.start() / PAGE_SIZE..range.end() / PAGE_SIZE;
        lock(&self.memory).concealed.retain(|page| !pages.contains(page));
    }
}

impl UserMemory for FakePlatform {
    fn user_load(&self, from: u64, into: &mut [u8]) -> Result<(), UserFault> {
        lock(&self.memory).access(from, into.len(), Protection::READ, |part, done| {
            into[done..done + part.len()].copy_from_slice(part);
        })
    }

    fn user_store(&self, into: u64, from: &[u8]) -> Result<(), UserFault> {
        lock(&self.memory).access(into, from.len(), Protection::WRITE, |part, done| {
            part.copy_from_slice(&from[done..done + part.len()]);
        })
    }

    fn user_fill(&self, into: u64, len: usize, byte: u8) -> Result<(), UserFault> {
        lock(&self.memory).access(into, len, Protection::WRITE, |part, _| part.fill(byte))
    }

    fn user_load_u32(&self, from: u64) -> Result<u32, UserFault> {
        let mut word = [0; 4];
        self.user_load(from, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn user_compare_exchange_u32(&self, at: u64, current: u32, new: u32) -> Result<u32, UserFault> {
        let mut found = 0;
        lock(&self.memory).access(at, 4, Protection::READ | Protection::WRITE, |part, _| {
            found = u32::from_le_bytes(part.try_into().expect("an aligned word is in one page"));
            if found == current {
                part.copy_from_slice(&new.to_le_bytes());
            }
        })?;
        Ok(found)
    }
}
