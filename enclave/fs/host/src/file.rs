//! Regular files: their content, and what opening one means.

use crate::handle::Handle;
use crate::node::{Common, inode};
use alloc::sync::Arc;
use core::any::Any;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use platform::HostFd;
use vfs::{Inode, Metadata, Regular, SetAttributes};

/// Bytes moved by one host call.
const TRANSFER: usize = 128 << 10;
/// FALLOC_FL_KEEP_SIZE.
const KEEP_SIZE: u32 = 1;
/// FALLOC_FL_PUNCH_HOLE.
const PUNCH_HOLE: u32 = 2;

/// A regular file.
pub(crate) struct HostFile {
    pub(crate) common: Common,
}

inode!(HostFile);

impl HostFile {
    fn fd(&self) -> Result<(Arc<Handle>, HostFd)> {
        let handle = self.common.handle()?;
        let fd = handle.fd();
        Ok((handle, fd))
    }

    /// The descriptor to change the file by.
    fn fd_to_change(&self) -> Result<(Arc<Handle>, HostFd)> {
        self.common.shared.check_writable()?;
        let (handle, fd) = self.fd()?;
        handle.want_write()?;
        Ok((handle, fd))
    }

    fn host_allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let (_open, fd) = self.fd_to_change()?;
        Ok(self.common.shared.platform().host_allocate(fd, mode, offset, len)?)
    }
}

impl Regular for HostFile {
    fn open(&self, for_writing: bool) -> Result<Option<Arc<dyn Regular>>> {
        let Common { shared, location, opened, .. } = &self.common;
        if let Some(handle) = opened {
            if for_writing {
                handle.want_write()?;
            }
            return Ok(None);
        }
        let mut handle = location.handle(shared)?;
        if for_writing && handle.want_write().is_err() {
            // It may be allowed by now.
            location.forget_handle();
            handle = location.handle(shared)?;
            handle.want_write()?;
        }
        let common = Common { opened: Some(handle), ..Common::new(shared, Arc::clone(location)) };
        Ok(Some(Arc::new(Self { common })))
    }

    fn host_fd(&self) -> Option<HostFd> {
        self.common.opened.as_ref().map(|handle| handle.fd())
    }

    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        let (_open, fd) = self.fd()?;
        let platform = self.common.shared.platform();
        let mut buffer = alloc::vec![0; into.remaining().min(TRANSFER)];
        let mut done = 0;
        while into.remaining() > 0 {
            let wanted = into.remaining().min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let at =
                offset.checked_add(done as u64).ok_or(Error::new(Errno::EINVAL, "offset out of range"))?;
            let read = match platform.host_read_at(fd, at, part) {
                Ok(read) => read,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            };
            let taken = match into.put(part.get(..read).unwrap_or_default()) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += taken;
            if read < wanted || taken < read {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, from: &mut dyn ByteSource) -> Result<usize> {
        let (_open, fd) = self.fd_to_change()?;
        let platform = self.common.shared.platform();
        let mut buffer = alloc::vec![0; from.remaining().min(TRANSFER)];
        let mut done = 0;
        while from.remaining() > 0 {
            let taken = match from.take(&mut buffer) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let part = buffer.get(..taken).unwrap_or_default();
            let at =
                offset.checked_add(done as u64).ok_or(Error::new(Errno::EFBIG, "offset out of range"))?;
            let written = match platform.host_write_at(fd, at, part) {
                Ok(written) => written,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            };
            done += written;
            if written < taken {
                break;
            }
        }
        Ok(done)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let (_open, fd) = self.fd_to_change()?;
        Ok(self.common.shared.platform().host_truncate(fd, size)?)
    }

    fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        self.host_allocate(if keep_size { KEEP_SIZE } else { 0 }, offset, len)
    }

    fn deallocate(&self, offset: u64, len: u64) -> Result<()> {
        self.host_allocate(PUNCH_HOLE | KEEP_SIZE, offset, len)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let (_open, fd) = self.fd()?;
        Ok(self.common.shared.platform().host_sync(fd, data_only)?)
    }
}
