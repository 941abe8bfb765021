//! Files of `memfd_create(2)`: files in memory whose content can be sealed (`fcntl(2)`, F_ADD_SEALS).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::{ByteSink, ByteSource, Result};
use linux_abi::fs::seal;
use vfs::{Inode, MappedPages, Metadata, Page, Regular, SetAttributes, XattrFlags};

/// A file that may be sealed.
pub(crate) struct MemoryFile {
    file: Arc<dyn Regular>,
    /// F_SEAL_* bits.
    seals: AtomicU32,
}

impl MemoryFile {
    pub(crate) fn new(file: Arc<dyn Regular>, seals: u32) -> Arc<Self> {
        Arc::new(Self { file, seals: AtomicU32::new(seals) })
    }

    /// The file in memory, which mappings write to: seals bind only those that are made later.
    pub(crate) const fn content(&self) -> &Arc<dyn Regular> {
        &self.file
    }

    /// The seals.
    pub(crate) fn seals(&self) -> u32 {
        self.seals.load(Ordering::SeqCst)
    }

    /// Whether nobody may map it to write any more.
    pub(crate) fn refuses_writable_mappings(&self) -> bool {
        self.seals() & (seal::WRITE | seal::FUTURE_WRITE) != 0
    }

    /// Adds seals.
    ///
    /// # Errors
    /// EINVAL no such seal; EPERM there may be no more.
    pub(crate) fn add_seals(&self, seals: u32) -> Result<()> {
        if seals & !seal::ALL != 0 {
            kbase::bail!(EINVAL, "no such seal");
        }
        if self.seals() & seal::SEAL != 0 {
            kbase::bail!(EPERM, "no more seals may be added");
        }
        let mut seals = seals;
        if seals & seal::EXEC != 0 && self.file.metadata()?.mode & 0o111 != 0 {
            // Who can be executed must not change.
            seals |= seal::SHRINK | seal::GROW | seal::WRITE | seal::FUTURE_WRITE;
        }
        self.seals.fetch_or(seals, Ordering::SeqCst);
        Ok(())
    }

    fn check_write(&self, end: u64) -> Result<()> {
        if self.refuses_writable_mappings() {
            kbase::bail!(EPERM, "the content is sealed");
        }
        if self.seals() & seal::GROW != 0 && end > self.file.metadata()?.size {
            kbase::bail!(EPERM, "the size is sealed");
        }
        Ok(())
    }
}

impl Inode for MemoryFile {
    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata()
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        if self.seals() & seal::EXEC != 0
            && let Some(mode) = change.mode
            && (mode ^ self.file.metadata()?.mode) & 0o111 != 0
        {
            kbase::bail!(EPERM, "whether it can be executed is sealed");
        }
        self.file.set_attributes(change)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.file.xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        self.file.xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: XattrFlags) -> Result<()> {
        self.file.set_xattr(name, value, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Regular for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        self.file.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        self.check_write(offset.saturating_add(from.remaining() as u64))?;
        self.file.write_at(offset, from)
    }

    fn append(&self, from: &mut dyn ByteSource) -> Result<(u64, usize)> {
        self.check_write(self.file.metadata()?.size.saturating_add(from.remaining() as u64))?;
        self.file.append(from)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let (seals, old) = (self.seals(), self.file.metadata()?.size);
        if (size < old && seals & seal::SHRINK != 0) || (size > old && seals & seal::GROW != 0) {
            kbase::bail!(EPERM, "the size is sealed");
        }
        self.file.truncate(size)
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        if self.seals() & seal::GROW != 0 && offset.saturating_add(len) > self.file.metadata()?.size {
            kbase::bail!(EPERM, "the size is sealed");
        }
        self.file.allocate(offset, len, keep_size)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<()> {
        self.check_write(0)?;
        self.file.deallocate(offset, len)
    }

    fn seek_data(&self, offset: u64) -> Result<u64> {
        self.file.seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> Result<u64> {
        self.file.seek_hole(offset)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.file.sync(data_only)
    }

    fn page(&self, index: u64) -> Result<Arc<Page>> {
        self.file.page(index)
    }

    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        self.file.mapped_pages()
    }
}
