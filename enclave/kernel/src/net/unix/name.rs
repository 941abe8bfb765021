//! Names of sockets: paths, whose sockets are found by the inode that `bind(2)` makes, and abstract names.
//!
//! Lock order: the table is a leaf.

use super::UnixSocket;
use crate::Ctx;
use crate::fs::give_owner;
use crate::net::Address;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use hashbrown::HashMap;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result, bail};
use linux_abi::net::{SockaddrUn, family};
use vfs::{Create, Dentry, FileType, Last, Name as FileName, WalkFlags};

/// Bytes of the family, which a name comes behind.
const FAMILY: usize = 2;
/// Numbers of autobind: five hexadecimal digits.
const AUTOBIND: u32 = 1 << 20;

/// What a name is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Device and inode number.
    Inode(u64, u64),
    /// Each type of socket has names of its own.
    Abstract(u32, Vec<u8>),
}

/// A name that a socket has.
pub(super) struct Name {
    /// As `getsockname(2)` shows it, behind the family.
    shown: Vec<u8>,
    key: Key,
    /// Keeps the inode, and so its number.
    _place: Option<Arc<Dentry>>,
}

impl Name {
    /// As `getsockname(2)` shows it, behind the family.
    pub(super) fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// The address of a socket with this name, or without one.
    pub(super) fn address(name: Option<&Self>) -> Address {
        let mut bytes = family::UNIX.to_le_bytes().to_vec();
        if let Some(name) = name {
            bytes.extend_from_slice(&name.shown);
        }
        Address::new(&bytes).unwrap_or_default()
    }
}

/// What a program says after the family.
enum Wanted<'a> {
    /// Nothing.
    Unnamed,
    Path(&'a [u8]),
    Abstract(&'a [u8]),
}

impl<'a> Wanted<'a> {
    fn of(address: &'a [u8]) -> Result<Self> {
        let Some((of_family, name)) = address.split_first_chunk::<FAMILY>() else {
            bail!(EINVAL, "the address is too short");
        };
        if *of_family != family::UNIX.to_le_bytes() || address.len() > size_of::<SockaddrUn>() {
            bail!(EINVAL, "not an address of the Unix domain");
        }
        Ok(match name {
            [] => Self::Unnamed,
            [0, ..] => Self::Abstract(name),
            path => Self::Path(path.split(|&byte| byte == 0).next().unwrap_or_default()),
        })
    }
}

/// Refuses an address that has no name of the Unix domain.
///
/// # Errors
/// EINVAL.
pub(super) fn check(address: &[u8]) -> Result<()> {
    if matches!(Wanted::of(address)?, Wanted::Unnamed) {
        bail!(EINVAL, "the address has no name");
    }
    Ok(())
}

/// What is at a name.
pub(super) enum Found {
    Inside(Arc<UnixSocket>),
    /// A socket of the host.
    Outside(Arc<Dentry>),
}

/// Who gets a name: a socket and its type.
pub(super) type Owner<'a> = (&'a Weak<UnixSocket>, u32);

/// The names of a kernel.
#[derive(Default)]
pub(super) struct Names {
    table: Mutex<HashMap<Key, Weak<UnixSocket>>>,
}

impl Names {
    /// The name that `bind(2)` gives.
    ///
    /// # Errors
    /// EINVAL the address makes no sense; EADDRINUSE; ENOSPC no number is left for autobind; and what making the file says.
    pub(super) fn bind(&self, ctx: &Ctx<'_>, socket: Owner<'_>, address: &[u8]) -> Result<Arc<Name>> {
        match Wanted::of(address)? {
            Wanted::Unnamed => self.bind_any(socket),
            Wanted::Abstract(name) => self.bind_abstract(socket, name),
            Wanted::Path(path) => self.bind_path(ctx, socket, path),
        }
    }

    /// What a socket with a name is told that is to get another: as on Linux, it has one if any will do, and a path that exists
    /// is found first.
    pub(super) fn bind_again(ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        match Wanted::of(address)? {
            Wanted::Unnamed => return Ok(()),
            Wanted::Abstract(_) => {}
            Wanted::Path(path) => {
                let places = ctx.fs.places();
                if ctx.kernel.mounts.namespace().resolve(places.start(), path, WalkFlags::empty()).is_ok() {
                    bail!(EADDRINUSE, "the path exists");
                }
            }
        }
        bail!(EINVAL, "the socket has a name")
    }

    /// Autobind: any abstract name.
    ///
    /// # Errors
    /// ENOSPC no number is left.
    pub(super) fn bind_any(&self, socket: Owner<'_>) -> Result<Arc<Name>> {
        for number in 0..AUTOBIND {
            let name = alloc::format!("\0{number:05x}");
            match self.bind_abstract(socket, name.as_bytes()) {
                Err(error) if error.errno() == Errno::EADDRINUSE => {}
                result => return result,
            }
        }
        bail!(ENOSPC, "all numbers are taken")
    }

    fn bind_abstract(&self, (socket, of_kind): Owner<'_>, name: &[u8]) -> Result<Arc<Name>> {
        let key = Key::Abstract(of_kind, name.to_vec());
        let mut table = self.table.lock();
        if table.contains_key(&key) {
            bail!(EADDRINUSE, "another socket has the name");
        }
        table.insert(key.clone(), Weak::clone(socket));
        Ok(Arc::new(Name { shown: name.to_vec(), key, _place: None }))
    }

    fn bind_path(&self, ctx: &Ctx<'_>, (socket, _): Owner<'_>, path: &[u8]) -> Result<Arc<Name>> {
        let places = ctx.fs.places();
        let namespace = ctx.kernel.mounts.namespace();
        let in_use = Error::new(Errno::EADDRINUSE, "the path exists");
        let (parent, last) = namespace.resolve_parent(places.start(), path)?;
        let Last::Name { name, is_directory: false } = last else { return Err(in_use) };
        let mode = super::MODE & !ctx.fs.umask();
        let now = ctx.platform().realtime_ns().cast_signed();
        let what = Create::Special(FileType::Socket);
        let place = match namespace.create(&parent, FileName::new(&name)?, what, mode, now) {
            Err(error) if error.errno() == Errno::EEXIST => return Err(in_use),
            result => result?,
        };
        give_owner(ctx, &place)?;
        let metadata = place.node().inode().metadata()?;
        let key = Key::Inode(metadata.dev, metadata.ino);
        self.table.lock().insert(key.clone(), Weak::clone(socket));
        let mut shown = path.to_vec();
        shown.push(0);
        Ok(Arc::new(Name { shown, key, _place: Some(place) }))
    }

    /// The socket that has the name of an address, for one of this type.
    ///
    /// # Errors
    /// EINVAL the address makes no sense; ECONNREFUSED nobody has the name; and what the path walk says.
    pub(super) fn find(&self, ctx: &Ctx<'_>, of_kind: u32, address: &[u8]) -> Result<Found> {
        let key = match Wanted::of(address)? {
            Wanted::Unnamed => bail!(EINVAL, "the address has no name"),
            Wanted::Abstract(name) => Key::Abstract(of_kind, name.to_vec()),
            Wanted::Path(path) => {
                let places = ctx.fs.places();
                let place = ctx.kernel.mounts.namespace().resolve(places.start(), path, WalkFlags::FOLLOW)?;
                let metadata = place.node().inode().metadata()?;
                if metadata.kind != FileType::Socket {
                    bail!(ECONNREFUSED, "the path is of no socket");
                }
                if fs_host::is_socket_of_host(place.node().inode()) {
                    return Ok(Found::Outside(place));
                }
                Key::Inode(metadata.dev, metadata.ino)
            }
        };
        let found = self.table.lock().get(&key).and_then(Weak::upgrade);
        found.map(Found::Inside).ok_or(Error::new(Errno::ECONNREFUSED, "nobody has the name"))
    }

    /// Forgets the name of a socket that closes.
    pub(super) fn release(&self, name: &Name, socket: &Weak<UnixSocket>) {
        let removed = {
            let mut table = self.table.lock();
            let is_its = table.get(&name.key).is_some_and(|there| there.ptr_eq(socket));
            if is_its { table.remove(&name.key) } else { None }
        };
        drop(removed);
    }
}
