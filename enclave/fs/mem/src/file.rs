//! Regular files.

use crate::Shared;
use crate::content::Content;
use crate::inode::Common;
use alloc::sync::Arc;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use vfs::{FileType, Inode, Metadata, PAGE_SIZE, Page, Regular, SetAttributes};

/// The largest size: what `loff_t` holds.
const MAX_SIZE: u64 = i64::MAX as u64;

/// A regular file.
pub struct MemFile {
    pub(crate) common: Common,
    content: Mutex<Content>,
}

impl MemFile {
    pub(crate) fn new(shared: &Arc<Shared>, mode: u32, nlink: u64) -> Arc<Self> {
        Arc::new(Self { common: Common::new(shared, mode, nlink), content: Mutex::default() })
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
            // A guess where the end is, for the alignment only; the lock decides.
            let guess = at.unwrap_or_else(|| self.content.lock().size());
            let room = (PAGE_SIZE - in_page(guess)).min(from.remaining());
            let part = bounce.get_mut(..room).unwrap_or_default();
            let taken = match from.take(part) {
                Ok(0) => break,
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            match self.store(at, bounce.get(..taken).unwrap_or_default()) {
                Ok((_, 0)) => break,
                Ok((began, stored)) => {
                    start = start.or(Some(began));
                    at = Some(began.saturating_add(stored as u64));
                    done += stored;
                    if stored < taken {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if done > 0 {
            self.common.modified();
        }
        Ok((start.unwrap_or_else(|| self.content.lock().size()), done))
    }

    /// Stores bytes at an offset or at the end. Returns where they went and how many.
    fn store(&self, at: Option<u64>, bytes: &[u8]) -> Result<(u64, usize)> {
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
            let page = match content.page_mut(offset / PAGE_SIZE as u64, self.shared()) {
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
        Ok((began, done))
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.common.shared.release(self.content.get_mut().pages());
    }
}

impl Inode for MemFile {
    fn metadata(&self) -> Result<Metadata> {
        let (size, pages) = {
            let content = self.content.lock();
            (content.size(), content.pages())
        };
        Ok(self.common.metadata(FileType::Regular, 0, size, pages))
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        self.common.set(change);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for MemFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let mut done = 0usize;
        while into.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let (page, size) = {
                let content = self.content.lock();
                if at >= content.size() {
                    break;
                }
                (content.page(at / PAGE_SIZE as u64).cloned(), content.size())
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
        let removed = {
            let mut content = self.content.lock();
            let mut removed = 0;
            if size < content.size() {
                removed = content.remove(size.div_ceil(PAGE_SIZE as u64), u64::MAX);
                content.zero_within(size / PAGE_SIZE as u64, in_page(size), PAGE_SIZE);
            }
            content.set_size(size);
            removed
        };
        self.shared().release(removed);
        self.common.modified();
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= MAX_SIZE);
        let end = end.ok_or(Error::new(Errno::EFBIG, "the range ends beyond the largest size"))?;
        let pages = offset / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64);
        for index in pages {
            self.content.lock().page_mut(index, self.shared())?;
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
                content.remove(offset.div_ceil(page), end / page)
            }
        };
        self.shared().release(removed);
        self.common.modified();
        Ok(())
    }

    fn seek_data(&self, offset: u64) -> Result<u64> {
        let content = self.content.lock();
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
        let hole = content.next_hole(offset / PAGE_SIZE as u64).saturating_mul(4096).max(offset);
        Ok(hole.min(content.size()))
    }

    fn page(&self, index: u64) -> Result<Arc<Page>> {
        let content = self.content.lock();
        Ok(Arc::clone(content.page(index).unwrap_or_else(|| self.common.shared.zeros())))
    }
}

/// The offset within its page.
fn in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE_SIZE as u64).unwrap_or_default()
}
