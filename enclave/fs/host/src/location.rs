//! Where a node is on the host.
//!
//! A location is a name in a parent location. All nodes of one file share one, found through the parent's
//! table of children, so that a rename through the enclave moves what is open. When the host has put another file in its place,
//! that has a location of its own.

use crate::Shared;
use crate::handle::Handle;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use linux_abi::fs::OpenFlags;

/// Bytes of a path after which another call of the host goes on.
const LONGEST_PATH: usize = 2048;

/// How a handle is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    /// Never opened: symbolic links and special files.
    Other,
}

/// Which file a file of the host is: device and inode number. No other file has them for as long as a handle of it is open.
pub(crate) type Identity = (u64, u64);

/// A place on the host.
pub(crate) struct Location {
    kind: Kind,
    /// `None`: nobody has asked. It is a directory then, on the way to something.
    identity: Option<Identity>,
    /// `None` for the root.
    place: Mutex<Option<Place>>,
    handle: Mutex<Option<Arc<Handle>>>,
    children: Mutex<BTreeMap<Vec<u8>, Weak<Location>>>,
}

#[derive(Clone)]
struct Place {
    parent: Arc<Location>,
    name: Vec<u8>,
}

impl Location {
    /// The root of a mount, whose handle stays open.
    pub(crate) fn root(handle: Arc<Handle>) -> Arc<Self> {
        Arc::new(Self {
            kind: Kind::Directory,
            identity: None,
            place: Mutex::new(None),
            handle: Mutex::new(Some(handle)),
            children: Mutex::default(),
        })
    }

    /// The handle that is open of the file that was last seen at a name in this directory.
    pub(crate) fn open_child(&self, name: &[u8]) -> Option<Arc<Handle>> {
        let child = self.children.lock().get(name).and_then(Weak::upgrade)?;
        child.open_handle()
    }

    /// The location of a name in this directory, at which this file is now.
    pub(crate) fn child(self: &Arc<Self>, name: &[u8], kind: Kind, identity: Option<Identity>) -> Arc<Self> {
        let mut children = self.children.lock();
        if let Some(known) = children.get(name).and_then(Weak::upgrade)
            && known.kind == kind
            && known.is(identity)
        {
            return known;
        }
        if children.len() > 64 && children.len().is_power_of_two() {
            children.retain(|_, child| child.strong_count() > 0);
        }
        let place = Place { parent: Arc::clone(self), name: name.to_vec() };
        let child = Arc::new(Self {
            kind,
            identity,
            place: Mutex::new(Some(place)),
            handle: Mutex::new(None),
            children: Mutex::default(),
        });
        children.insert(name.to_vec(), Arc::downgrade(&child));
        child
    }

    /// Whether it is that of this file. If nobody knows which one is meant, or it is, what is open may be another one.
    fn is(&self, identity: Option<Identity>) -> bool {
        match (self.identity, identity) {
            (Some(its), Some(wanted)) => its == wanted,
            _ => self.open_handle().is_none(),
        }
    }

    /// The name in this directory is gone or means another file now. What is open keeps its handle.
    pub(crate) fn forget(&self, name: &[u8]) {
        self.children.lock().remove(name);
    }

    /// The file at `from` in this directory is at `to` in another one now.
    pub(crate) fn moved(&self, from: &[u8], to_dir: &Arc<Self>, to: &[u8]) {
        let moved = self.children.lock().remove(from).and_then(|child| child.upgrade());
        let Some(moved) = moved else {
            to_dir.forget(to);
            return;
        };
        *moved.place.lock() = Some(Place { parent: Arc::clone(to_dir), name: to.to_vec() });
        to_dir.children.lock().insert(to.to_vec(), Arc::downgrade(&moved));
    }

    /// Parent and name; `None` for the root.
    pub(crate) fn place(&self) -> Option<(Arc<Self>, Vec<u8>)> {
        self.place.lock().as_ref().map(|place| (Arc::clone(&place.parent), place.name.clone()))
    }

    /// The handle that is open, if one is.
    pub(crate) fn open_handle(&self) -> Option<Arc<Handle>> {
        self.handle.lock().clone()
    }

    /// The handle, opened if it was not.
    ///
    /// # Errors
    /// What opening says; ENXIO it is a kind that is never opened.
    pub(crate) fn handle(self: &Arc<Self>, shared: &Shared) -> Result<Arc<Handle>> {
        if let Some(open) = self.open_handle() {
            return Ok(open);
        }
        let opened = self.open(shared)?;
        Ok(self.keep_handle(shared, opened))
    }

    /// A handle with a position of its own: of what is open, or else of what is at its place.
    ///
    /// # Errors
    /// As [`Location::handle`].
    pub(crate) fn open_anew(self: &Arc<Self>, shared: &Shared) -> Result<Arc<Handle>> {
        match self.open_handle() {
            Some(open) => open_below(shared, &open, b".", self.kind),
            None => self.open(shared),
        }
    }

    /// Opens what is at its place.
    fn open(self: &Arc<Self>, shared: &Shared) -> Result<Arc<Handle>> {
        // Up to what is open. Paths that are too long for one call of the host are for several.
        let mut names = Vec::new();
        let mut at = Arc::clone(self);
        let mut above = loop {
            let (parent, name) =
                at.place().ok_or(Error::new(Errno::EIO, "the root of a host folder is closed"))?;
            names.push(name);
            if let Some(open) = parent.open_handle() {
                break open;
            }
            at = parent;
        };
        let mut path = Vec::new();
        while let Some(name) = names.pop() {
            path.extend_from_slice(&name);
            if !names.is_empty() && path.len() > LONGEST_PATH {
                above = open_below(shared, &above, &path, Kind::Directory)?;
                path.clear();
            } else if !names.is_empty() {
                path.push(b'/');
            }
        }
        open_below(shared, &above, &path, self.kind)
    }

    /// Keeps a handle, unless there is one. Returns the one that there is then.
    pub(crate) fn keep_handle(self: &Arc<Self>, shared: &Shared, handle: Arc<Handle>) -> Arc<Handle> {
        let kept = {
            let mut slot = self.handle.lock();
            Arc::clone(slot.get_or_insert_with(|| Arc::clone(&handle)))
        };
        shared.open.keep(self);
        kept
    }

    /// Lets the handle go; it is opened again when needed.
    pub(crate) fn forget_handle(&self) {
        // The root has no place to be opened from.
        if self.place.lock().is_some() {
            let handle = self.handle.lock().take();
            // It may be closed here, without the lock.
            drop(handle);
        }
    }
}

/// Opens what is at a path below what is open, a file for writing too where that is allowed.
fn open_below(shared: &Shared, above: &Handle, path: &[u8], kind: Kind) -> Result<Arc<Handle>> {
    let open = |flags: OpenFlags| shared.platform().host_open_at(above.fd(), path, flags.bits(), 0);
    let mut read_only = shared.read_only();
    let fd = match kind {
        Kind::Directory => open(OpenFlags::DIRECTORY)?,
        Kind::Other => kbase::bail!(ENXIO, "this kind of host file is not opened"),
        Kind::File => match open(shared.file_flags()) {
            // Reading may be allowed where writing is not.
            Err(error)
                if read_only.is_none()
                    && matches!(error.0, Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) =>
            {
                read_only = Some(error.0);
                open(OpenFlags::NONBLOCK)?
            }
            opened => opened?,
        },
    };
    Ok(Handle::new(&shared.platform, fd, read_only))
}
