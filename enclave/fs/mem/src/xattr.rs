//! Extended attributes (`xattr(7)`).
//!
//! A node has none of its own until one is changed. Then it takes over those of the lower file system, and they are its own from
//! there on, so that a removed one stays away. They take room in the [`Space`] like content does.

use crate::{PAGE_SIZE, Space};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use vfs::{Inode, XattrFlags, check_xattr_name};

/// Bytes that an attribute takes besides its name and its value.
const OVERHEAD: u64 = 64;

type Values = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The attributes of a node.
#[derive(Default)]
pub(crate) struct Xattrs {
    own: Mutex<Option<Box<Own>>>,
}

#[derive(Default)]
struct Own {
    values: Values,
    bytes: u64,
    /// Taken of the space for `bytes`.
    pages: u64,
}

impl Own {
    /// Changes how many bytes count.
    ///
    /// # Errors
    /// ENOSPC there is no room; nothing changed.
    fn resize(&mut self, bytes: u64, space: &Space) -> Result<()> {
        let (old, new) = (self.pages, bytes.div_ceil(PAGE_SIZE as u64));
        for taken in 0..new.saturating_sub(old) {
            if let Err(error) = space.take() {
                space.give_back(taken);
                return Err(error);
            }
        }
        space.give_back(old.saturating_sub(new));
        (self.bytes, self.pages) = (bytes, new);
        Ok(())
    }

    /// # Errors
    /// EEXIST, ENODATA the name is not as `flags` want it; ENOSPC.
    fn set(&mut self, name: &[u8], value: Option<&[u8]>, flags: XattrFlags, space: &Space) -> Result<()> {
        let old = self.values.get(name);
        if old.is_some() && flags.contains(XattrFlags::CREATE) {
            kbase::bail!(EEXIST, "there is an extended attribute of that name");
        }
        if old.is_none() && flags.contains(XattrFlags::REPLACE) {
            return Err(none());
        }
        let gone = old.map_or(0, |old| room(name, old));
        let new = value.map_or(0, |value| room(name, value));
        self.resize(self.bytes.saturating_sub(gone).saturating_add(new), space)?;
        match value {
            Some(value) => self.values.insert(name.into(), value.into()),
            None => self.values.remove(name),
        };
        Ok(())
    }
}

fn room(name: &[u8], value: &[u8]) -> u64 {
    (name.len() as u64).saturating_add(value.len() as u64).saturating_add(OVERHEAD)
}

fn none() -> Error {
    Error::new(Errno::ENODATA, "no such extended attribute")
}

impl Xattrs {
    /// The value of one; `below` is the node of the lower file system.
    pub(crate) fn get(&self, name: &[u8], below: Option<&dyn Inode>) -> Result<Vec<u8>> {
        let own = self.own.lock().as_ref().map(|own| own.values.get(name).map(|value| value.to_vec()));
        match (own, below) {
            (Some(Some(value)), _) => Ok(value),
            (None, Some(below)) => below.xattr(name),
            _ => check_xattr_name(name).and(Err(none())),
        }
    }

    /// The names, in the order of the tmpfs of Linux.
    pub(crate) fn names(&self, below: Option<&dyn Inode>) -> Result<Vec<Vec<u8>>> {
        let names = |own: &Own| own.values.keys().rev().map(|name| name.to_vec()).collect();
        let own = self.own.lock().as_ref().map(|own| names(own));
        match (own, below) {
            (Some(names), _) => Ok(names),
            (None, Some(below)) => below.xattrs(),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Sets one, or removes it.
    ///
    /// # Errors
    /// As [`Inode::set_xattr`].
    pub(crate) fn set(
        &self,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
        space: &Space,
        below: Option<&dyn Inode>,
    ) -> Result<()> {
        check_xattr_name(name)?;
        let has_own = self.own.lock().is_some();
        // Read before the lock is taken: what is below never changes.
        let inherited = if has_own { Vec::new() } else { inherited(below)? };
        let mut own = self.own.lock();
        if let Some(own) = own.as_mut() {
            return own.set(name, value, flags, space);
        }
        let mut first = Box::<Own>::default();
        for (name, value) in inherited {
            first.set(&name, Some(&value), XattrFlags::empty(), space).inspect_err(|_| first.free(space))?;
        }
        first.set(name, value, flags, space).inspect_err(|_| first.free(space))?;
        *own = Some(first);
        Ok(())
    }

    /// Gives back the space, at the end of the node.
    pub(crate) fn free(&mut self, space: &Space) {
        if let Some(own) = self.own.get_mut() {
            own.free(space);
        }
    }
}

impl Own {
    fn free(&self, space: &Space) {
        space.give_back(self.pages);
    }
}

/// All attributes of the node of the lower file system.
fn inherited(below: Option<&dyn Inode>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let Some(below) = below else { return Ok(Vec::new()) };
    below.xattrs()?.into_iter().map(|name| below.xattr(&name).map(|value| (name, value))).collect()
}

/// The methods of [`Inode`] that a kind of node has from its `common` part and the node `below`.
macro_rules! inode_xattrs {
    () => {
        fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
            self.common.xattrs.get(name, self.inode_below())
        }

        fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
            self.common.xattrs.names(self.inode_below())
        }

        fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: vfs::XattrFlags) -> Result<()> {
            self.common.set_xattr(name, value, flags, self.inode_below())
        }
    };
}
pub(crate) use inode_xattrs;
