//! What all kinds of nodes have: identity, attributes, times.

use crate::Shared;
use crate::xattr::Xattrs;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};
use kbase::Result;
use kbase::sync::Mutex;
use vfs::{FileType, Inode, Metadata, SetAttributes, XattrFlags};

/// The part of a node that every kind has.
pub(crate) struct Common {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ino: u64,
    attributes: Mutex<Attributes>,
    pub(crate) xattrs: Xattrs,
    /// How it stands to the node of the lower file system.
    tie: AtomicU8,
}

/// The lower file system has no such node, or it has no name any more.
const FREE: u8 = 0;
/// It is as in the lower file system, under the same number.
const CLEAN: u8 = 1;
/// It differs, and is kept by the table of lower nodes.
const PINNED: u8 = 2;

#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    atime_ns: i64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl Common {
    pub(crate) fn new(shared: &Arc<Shared>, mode: u32, nlink: u64) -> Self {
        shared.nodes.fetch_add(1, Ordering::Relaxed);
        let ino = shared.next_ino.fetch_add(1, Ordering::Relaxed);
        let now = shared.now();
        let attributes = Attributes {
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            nlink,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
        };
        Self::build(shared, ino, attributes, FREE)
    }

    /// The common part of a node that the lower file system has.
    pub(crate) fn of_lower(shared: &Arc<Shared>, metadata: &Metadata) -> Self {
        shared.nodes.fetch_add(1, Ordering::Relaxed);
        let attributes = Attributes {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            nlink: metadata.nlink,
            atime_ns: metadata.atime_ns,
            mtime_ns: metadata.mtime_ns,
            ctime_ns: metadata.ctime_ns,
        };
        Self::build(shared, metadata.ino, attributes, CLEAN)
    }

    fn build(shared: &Arc<Shared>, ino: u64, attributes: Attributes, tie: u8) -> Self {
        Self {
            shared: Arc::clone(shared),
            ino,
            attributes: Mutex::new(attributes),
            xattrs: Xattrs::default(),
            tie: AtomicU8::new(tie),
        }
    }

    /// Notes that the node differs now from what the lower file system has.
    pub(crate) fn changed(&self) {
        if self.tie.load(Ordering::Relaxed) == CLEAN
            && let Some(lower) = &self.shared.lower
        {
            self.tie.store(PINNED, Ordering::Relaxed);
            lower.pin(self.ino);
        }
    }

    pub(crate) fn metadata(&self, kind: FileType, rdev: u64, size: u64, pages: u64) -> Metadata {
        let attributes = *self.attributes.lock();
        Metadata {
            dev: self.shared.dev,
            ino: self.ino,
            kind,
            mode: attributes.mode,
            nlink: attributes.nlink,
            uid: attributes.uid,
            gid: attributes.gid,
            rdev,
            size,
            blocks: pages.saturating_mul(8),
            blksize: 4096,
            atime_ns: attributes.atime_ns,
            mtime_ns: attributes.mtime_ns,
            ctime_ns: attributes.ctime_ns,
        }
    }

    pub(crate) fn set(&self, change: &SetAttributes) {
        self.changed();
        let mut attributes = self.attributes.lock();
        attributes.mode = change.mode.map_or(attributes.mode, |mode| mode & 0o7777);
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        attributes.atime_ns = change.atime.map_or(attributes.atime_ns, |time| time.at_ns);
        attributes.mtime_ns = change.mtime.map_or(attributes.mtime_ns, |time| time.at_ns);
        attributes.ctime_ns = change.ctime.map_or(attributes.ctime_ns, |time| time.at_ns);
    }

    /// Records that the content changed.
    pub(crate) fn modified(&self) {
        self.changed();
        let now = self.shared.now();
        let mut attributes = self.attributes.lock();
        attributes.mtime_ns = now;
        attributes.ctime_ns = now;
    }

    /// Sets an extended attribute or removes it; `below` is the node of the lower file system.
    pub(crate) fn set_xattr(
        &self,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
        below: Option<&dyn Inode>,
    ) -> Result<()> {
        self.xattrs.set(name, value, flags, &self.shared.space, below)?;
        self.changed();
        let now = self.shared.now();
        self.attributes.lock().ctime_ns = now;
        Ok(())
    }

    /// Changes the number of links.
    pub(crate) fn add_links(&self, delta: i64) {
        self.changed();
        let now = self.shared.now();
        let nlink = {
            let mut attributes = self.attributes.lock();
            attributes.nlink = attributes.nlink.saturating_add_signed(delta);
            attributes.ctime_ns = now;
            attributes.nlink
        };
        if nlink == 0
            && self.tie.swap(FREE, Ordering::Relaxed) == PINNED
            && let Some(lower) = &self.shared.lower
        {
            lower.unpin(self.ino);
        }
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        self.xattrs.free(&self.shared.space);
        self.shared.nodes.fetch_sub(1, Ordering::Relaxed);
        if let Some(lower) = &self.shared.lower {
            lower.forget(self.ino);
        }
    }
}
