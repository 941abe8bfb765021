//! Regular files.

use crate::Shared;
use crate::content::Content;
use crate::inode::Common;
use crate::xattr::inode_xattrs;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use vfs::{FileType, Inode, MappedPages, Metadata, PAGE_SIZE, Page, Regular, SetAttributes};

/// The largest size: what `loff_t` holds.
const MAX_SIZE: u64 = i64::MAX as u64;

/// A regular file.
pub struct MemFile {
    pub(crate) common: Common,
    content: Mutex<Content>,
    /// The file of the lower file system that shows where nothing was written.
    below: Option<Arc<dyn Regular>>,
}

impl MemFile {
    pub(crate) fn new(shared: &Arc<Shared>, mode: u32, nlink: u64) -> Arc<Self> {
        Arc::new(Self { common: Common::new(shared, mode, nlink), content: Mutex::default(), below: None })
    }

    /// A file that shows a lower one of `size` bytes.
    pub(crate) fn over(common: Common, below: &Arc<dyn Regular>, size: u64) -> Arc<Self> {
        Arc::new(Self { common, content: Mutex::new(Content::over(size)), below: Some(Arc::clone(below)) })
    }

    /// Takes the pages that an operation on `[from, to)` changes in part out of the lower file, before the lock is taken
    /// for the operation itself.
    fn take_over(&self, from: u64, to: u64) -> Result<()> {
        if self.below.is_none() {
            return Ok(());
        }
        let page = PAGE_SIZE as u64;
        let mut edges = [None, None];
        if !from.is_multiple_of(page) {
            edges[0] = Some(from / page);
        }
        if !to.is_multiple_of(page) {
            edges[1] = Some(to / page);
        }
        for index in edges.into_iter().flatten() {
            let is_below = self.content.lock().shows_below(index);
            if is_below {
                self.take_page(index)?;
            }
        }
        Ok(())
    }

    fn shared(&self) -> &Shared {
        &self.common.shared
    }

    /// Writes what `from` gives, at `offset` or at the end.
    fn write(&self, offset: Option<u64>, from: &mut dyn ByteSource) -> Result<(u64, usize)> {
        let mut bounce = [0u8; PAGE_SIZE];
        let mut done = 0usize;
        let mut start = offset;
        let mut at = offset;
        while from.remaining() > 0 {
            // A guess where the end is, for the alignment only: the lock decides.
            let guess = at.unwrap_or_else(|| self.content.lock().size());
            let room = (PAGE_SIZE - in_page(guess)).min(from.remaining());
            let part = bounce.get_mut(..room).unwrap_or_default();
            let taken = match from.take(part) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut rest = bounce.get(..taken).unwrap_or_default();
            while !rest.is_empty() {
                match self.store(at, rest) {
                    Ok((began, stored)) => {
                        start = start.or(Some(began));
                        at = Some(began.saturating_add(stored as u64));
                        done += stored;
                        rest = rest.get(stored..).unwrap_or_default();
                    }
                    // What was taken from the program and has no room is as good as not written.
                    Err(_) if done > 0 => return Ok((self.wrote(start), done)),
                    Err(error) => return Err(error),
                }
            }
        }
        if done == 0 {
            return Ok((start.unwrap_or_else(|| self.content.lock().size()), 0));
        }
        Ok((self.wrote(start), done))
    }

    /// Notes a write, and says where it began.
    fn wrote(&self, start: Option<u64>) -> u64 {
        self.common.modified();
        start.unwrap_or_default()
    }

    /// Stores bytes at an offset or at the end. Returns where they went and how many.
    fn store(&self, at: Option<u64>, bytes: &[u8]) -> Result<(u64, usize)> {
        loop {
            match self.try_store(at, bytes)? {
                Ok(stored) => return Ok(stored),
                Err(index) => self.take_page(index)?,
            }
        }
    }

    /// The same, or the index of a page that has to be taken out of the lower file first.
    fn try_store(&self, at: Option<u64>, bytes: &[u8]) -> Result<core::result::Result<(u64, usize), u64>> {
        let mut content = self.content.lock();
        let began = at.unwrap_or_else(|| content.size());
        let room = usize::try_from(MAX_SIZE.saturating_sub(began)).unwrap_or(usize::MAX);
        if room == 0 {
            kbase::bail!(EFBIG, "the file would be too large");
        }
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        let mut done = 0;
        while done < bytes.len() {
            let offset = began.saturating_add(done as u64);
            let within = in_page(offset);
            let len = (PAGE_SIZE - within).min(bytes.len() - done);
            let index = offset / PAGE_SIZE as u64;
            if len < PAGE_SIZE && content.shows_below(index) {
                if done == 0 {
                    return Ok(Err(index));
                }
                break;
            }
            let page = match content.page_mut(index, self.shared()) {
                Ok(page) => page,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            if let (Some(to), Some(from)) = (page.get_mut(within..within + len), bytes.get(done..done + len))
            {
                to.copy_from_slice(from);
            }
            done += len;
        }
        let end = began.saturating_add(done as u64);
        if end > content.size() {
            content.set_size(end);
        }
        Ok(Ok((began, done)))
    }

    /// Takes a page out of the lower file.
    fn take_page(&self, index: u64) -> Result<()> {
        let Some(below) = &self.below else { return Ok(()) };
        let content = below.page(index)?;
        self.content.lock().cover(index, &content, self.shared())
    }
}

impl MemFile {
    fn inode_below(&self) -> Option<&dyn Inode> {
        self.below.as_deref().map(|below| below as &dyn Inode)
    }

    /// The page of the lower file, if it shows at `index`.
    fn page_below(&self, index: u64) -> Result<Option<Arc<Page>>> {
        match &self.below {
            Some(below) if self.content.lock().shows_below(index) => Ok(Some(below.page(index)?)),
            _ => Ok(None),
        }
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.common.shared.space.give_back(self.content.get_mut().pages());
    }
}

impl Inode for MemFile {
    fn metadata(&self) -> Result<Metadata> {
        let (size, pages) = {
            let content = self.content.lock();
            (content.size(), content.pages() + content.below().div_ceil(PAGE_SIZE as u64))
        };
        Ok(self.common.metadata(FileType::Regular, 0, size, pages))
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.common.set(change);
        Ok(())
    }

    inode_xattrs!();

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for MemFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let mut done = 0usize;
        while into.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let (page, size, is_all_below) = {
                let content = self.content.lock();
                if at >= content.size() {
                    break;
                }
                (content.page(at / PAGE_SIZE as u64).cloned(), content.size(), content.is_all_below())
            };
            if let Some(below) = &self.below
                && is_all_below
            {
                return below.read_at(offset, into);
            }
            let page = match page {
                Some(page) => Some(page),
                None => self.page_below(at / PAGE_SIZE as u64)?,
            };
            let within = in_page(at);
            let left = usize::try_from(size - at).unwrap_or(usize::MAX);
            let len = (PAGE_SIZE - within).min(left).min(into.remaining());
            let put = match &page {
                Some(page) => into.put(page.get(within..within + len).unwrap_or_default()),
                None => into.put_zeros(len),
            };
            match put {
                Ok(0) => break,
                Ok(put) => done += put,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        Ok(self.write(Some(offset), from)?.1)
    }

    fn append(&self, from: &mut dyn ByteSource) -> Result<(u64, usize)> {
        self.write(None, from)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            kbase::bail!(EFBIG, "the file would be too large");
        }
        self.take_over(size, size)?;
        let removed = {
            let mut content = self.content.lock();
            let mut removed = 0;
            content.cut_below(size);
            if size < content.size() {
                removed = content.remove(size.div_ceil(PAGE_SIZE as u64), u64::MAX);
                content.zero_within(size / PAGE_SIZE as u64, in_page(size), PAGE_SIZE);
            }
            content.set_size(size);
            removed
        };
        self.shared().space.give_back(removed);
        self.common.modified();
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= MAX_SIZE);
        let end = end.ok_or(Error::new(Errno::EFBIG, "the range ends beyond the largest size"))?;
        let pages = offset / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64);
        self.take_over(offset, end)?;
        for index in pages {
            let mut content = self.content.lock();
            if !content.shows_below(index) {
                content.page_mut(index, self.shared())?;
            }
        }
        let mut content = self.content.lock();
        if !keep_size && end > content.size() {
            content.set_size(end);
        }
        Ok(())
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.saturating_add(len);
        let page = PAGE_SIZE as u64;
        self.take_over(offset, end)?;
        let removed = {
            let mut content = self.content.lock();
            if offset / page == end / page {
                content.zero_within(offset / page, in_page(offset), in_page(end));
                0
            } else {
                if !offset.is_multiple_of(page) {
                    content.zero_within(offset / page, in_page(offset), PAGE_SIZE);
                }
                content.zero_within(end / page, 0, in_page(end));
                let removed = content.remove(offset.div_ceil(page), end / page);
                // What would show the lower file again becomes zeros.
                for index in offset.div_ceil(page)..(end / page).min(content.below().div_ceil(page)) {
                    content.cover(index, self.common.shared.zeros(), self.shared())?;
                }
                removed
            }
        };
        self.shared().space.give_back(removed);
        self.common.modified();
        Ok(())
    }

    fn seek_data(&self, offset: u64) -> Result<u64> {
        let content = self.content.lock();
        if offset < content.below().min(content.size()) {
            return Ok(offset);
        }
        let found =
            content.next_page(offset / PAGE_SIZE as u64).map(|index| index.saturating_mul(4096).max(offset));
        found
            .filter(|&at| at < content.size() && offset < content.size())
            .ok_or(Error::new(Errno::ENXIO, "no data after the offset"))
    }

    fn seek_hole(&self, offset: u64) -> Result<u64> {
        let content = self.content.lock();
        if offset >= content.size() {
            kbase::bail!(ENXIO, "the offset is beyond the end");
        }
        let offset = offset.max(content.below().min(content.size()));
        let hole = content.next_hole(offset / PAGE_SIZE as u64).saturating_mul(4096).max(offset);
        Ok(hole.min(content.size()))
    }

    fn page(&self, index: u64) -> Result<Arc<Page>> {
        if let Some(page) = self.content.lock().page(index) {
            return Ok(Arc::clone(page));
        }
        Ok(self.page_below(index)?.unwrap_or_else(|| Arc::clone(self.common.shared.zeros())))
    }

    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        let is_all_below = self.content.lock().is_all_below();
        self.below.as_ref().filter(|_| is_all_below)?.mapped_pages()
    }
}

/// The offset within its page.
fn in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE_SIZE as u64).unwrap_or_default()
}
