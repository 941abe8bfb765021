//! Copies of nodes of the lower file system.

use alloc::sync::Arc;
use kbase::{Errno, Error, Result, SliceSource};
use vfs::{Inode, Metadata, PAGE_SIZE, Regular, SetAttributes, TimeChange, XattrFlags};

/// All attributes that a copy takes over.
pub(crate) fn attributes(of: &Metadata) -> SetAttributes {
    let at = |at_ns| Some(TimeChange { at_ns });
    SetAttributes {
        mode: Some(of.mode),
        uid: Some(of.uid),
        gid: Some(of.gid),
        atime: at(of.atime_ns),
        mtime: at(of.mtime_ns),
        ctime: at(of.ctime_ns),
    }
}

/// Copies the extended attributes, as far as the upper file system takes any. To be called before the times are set.
pub(crate) fn xattrs<T: Inode + ?Sized>(from: &T, to: &(impl Inode + ?Sized)) -> Result<()> {
    for name in from.xattrs()? {
        match to.set_xattr(&name, Some(&from.xattr(&name)?), XattrFlags::empty()) {
            Err(error) if error.errno() != Errno::EOPNOTSUPP => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Copies the first `size` bytes into an empty file, page by page; pages of zeros become holes.
pub(crate) fn content(from: &Arc<dyn Regular>, to: &Arc<dyn Regular>, size: u64) -> Result<()> {
    let page_size = PAGE_SIZE as u64;
    to.truncate(size)?;
    let mut at = 0;
    while at < size {
        let index = match from.seek_data(at) {
            Ok(data) => data / page_size,
            Err(error) if error.errno() == Errno::ENXIO => break,
            Err(error) => return Err(error),
        };
        let start = index.saturating_mul(page_size);
        if start >= size {
            break;
        }
        let page = from.page(index)?;
        let len = usize::try_from(size.saturating_sub(start)).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let bytes = page.get(..len).unwrap_or_default();
        if bytes.iter().any(|&byte| byte != 0) {
            write_all(to, start, bytes)?;
        }
        at = start.saturating_add(page_size);
    }
    Ok(())
}

fn write_all(to: &Arc<dyn Regular>, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = to.write_at(offset, &mut SliceSource::new(bytes))?;
        bytes = match bytes.get(written..) {
            Some(rest) if written > 0 => rest,
            _ => return Err(Error::new(Errno::EIO, "the upper file system takes no bytes")),
        };
        offset = offset.saturating_add(written as u64);
    }
    Ok(())
}
