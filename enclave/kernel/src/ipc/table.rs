//! Objects by identifier and key, and who may use them.

use crate::Ctx;
use crate::process::capability;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use linux_abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm};

/// Identifiers with the same index: an identifier is `sequence << SHIFT | index`.
const SHIFT: u32 = 15;
/// Sequence numbers, after which they begin again.
const SEQUENCES: u32 = (i32::MAX.unsigned_abs() >> SHIFT) + 1;

/// Who an object belongs to, and who may use it.
#[derive(Clone, Copy, Debug)]
struct Identity {
    uid: u32,
    gid: u32,
    creator_uid: u32,
    creator_gid: u32,
    /// Permission bits.
    mode: u32,
}

/// An object with its identity.
pub(crate) struct Object<T> {
    pub(crate) id: i32,
    key: i32,
    identity: Mutex<Identity>,
    is_removed: AtomicBool,
    pub(crate) value: T,
}

impl<T> Object<T> {
    /// Whether it was removed while somebody still used it.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::SeqCst)
    }

    /// Whether a key finds it.
    fn has_key(&self, key: i32) -> bool {
        self.key == key && !self.is_removed()
    }

    /// From now on no key finds it.
    pub(crate) fn mark_removed(&self) {
        self.is_removed.store(true, Ordering::SeqCst);
    }

    /// Fails if it was removed.
    ///
    /// # Errors
    /// EIDRM.
    pub(crate) fn check_there(&self) -> Result<()> {
        if self.is_removed() {
            kbase::bail!(EIDRM, "the object was removed");
        }
        Ok(())
    }

    /// What `IPC_STAT` tells of its identity.
    pub(crate) fn permission(&self) -> IpcPerm {
        let identity = *self.identity.lock();
        IpcPerm {
            key: if self.is_removed() { IPC_PRIVATE } else { self.key },
            uid: identity.uid,
            gid: identity.gid,
            cuid: identity.creator_uid,
            cgid: identity.creator_gid,
            mode: identity.mode,
            seq: u16::try_from(self.id >> SHIFT).unwrap_or_default(),
            ..IpcPerm::default()
        }
    }

    /// Fails unless the caller has the permissions of a mode: bits of read and write in any of its three places.
    ///
    /// # Errors
    /// EACCES.
    pub(crate) fn check_access(&self, ctx: &Ctx<'_>, mode: u32) -> Result<()> {
        let identity = *self.identity.lock();
        let credentials = &ctx.process.credentials;
        let user = credentials.users.effective();
        let is_member = |group: u32| {
            credentials.groups.effective() == group || credentials.others.lock().contains(&group)
        };
        let wanted = (mode >> 6 | mode >> 3 | mode) & 0o7;
        let granted = if user == identity.uid || user == identity.creator_uid {
            identity.mode >> 6
        } else if is_member(identity.gid) || is_member(identity.creator_gid) {
            identity.mode >> 3
        } else {
            identity.mode
        };
        if wanted & !granted != 0 && !credentials.is_capable(capability::IPC_OWNER) {
            kbase::bail!(EACCES, "the permissions of the object do not allow it");
        }
        Ok(())
    }

    /// Fails unless the caller owns it.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_owner(&self, ctx: &Ctx<'_>) -> Result<()> {
        let identity = *self.identity.lock();
        let user = ctx.process.credentials.users.effective();
        let is_owner = user == identity.uid || user == identity.creator_uid;
        if !is_owner && !ctx.process.credentials.is_capable(capability::SYS_ADMIN) {
            kbase::bail!(EPERM, "the object is another user's");
        }
        Ok(())
    }

    /// IPC_SET: changes owner and permission bits.
    ///
    /// # Errors
    /// EINVAL not a user or group.
    pub(crate) fn set_permission(&self, new: &IpcPerm) -> Result<()> {
        if new.uid == u32::MAX || new.gid == u32::MAX {
            kbase::bail!(EINVAL, "not a user or group");
        }
        let mut identity = self.identity.lock();
        identity.uid = new.uid;
        identity.gid = new.gid;
        identity.mode = (identity.mode & !0o777) | (new.mode & 0o777);
        Ok(())
    }
}

impl<T> Object<T> {
    /// Changes bits of the mode that are no permissions (SHM_LOCKED).
    pub(crate) fn set_mode_bits(&self, set: u32, clear: u32) {
        let mut identity = self.identity.lock();
        identity.mode = (identity.mode & !clear) | set;
    }
}

/// The objects of one kind.
pub(crate) struct Table<T> {
    max: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    slots: Vec<Option<Arc<Object<T>>>>,
    sequence: u32,
}

impl<T> Table<T> {
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, state: Mutex::new(State { slots: Vec::new(), sequence: 0 }) }
    }

    /// Finds the object of a key, or makes one (`semget(2)` and its like). `check` looks at one that is there.
    ///
    /// # Errors
    /// ENOENT; EEXIST; EACCES; ENOSPC there are too many; and what `check` and `make` say.
    pub(crate) fn get(
        &self,
        ctx: &Ctx<'_>,
        key: i32,
        flags: u32,
        check: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<i32> {
        let mut state = self.state.lock();
        if key != IPC_PRIVATE {
            let found = state.slots.iter().flatten().find(|object| object.has_key(key)).cloned();
            if let Some(object) = found {
                drop(state);
                if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                    kbase::bail!(EEXIST, "an object has the key");
                }
                check(&object.value)?;
                object.check_access(ctx, flags & 0o777)?;
                return Ok(object.id);
            }
            if flags & IPC_CREAT == 0 {
                kbase::bail!(ENOENT, "no object has the key");
            }
        }
        let value = make()?;
        let index = state.slots.iter().position(Option::is_none).unwrap_or(state.slots.len());
        if index >= self.max {
            kbase::bail!(ENOSPC, "there are too many objects");
        }
        let low = u32::try_from(index).unwrap_or_default();
        let id = (state.sequence << SHIFT | low).cast_signed();
        let credentials = &ctx.process.credentials;
        let (uid, gid) = (credentials.users.effective(), credentials.groups.effective());
        let object = Arc::new(Object {
            id,
            key,
            identity: Mutex::new(Identity {
                uid,
                gid,
                creator_uid: uid,
                creator_gid: gid,
                mode: flags & 0o777,
            }),
            is_removed: AtomicBool::new(false),
            value,
        });
        match state.slots.get_mut(index) {
            Some(slot) => *slot = Some(object),
            None => state.slots.push(Some(object)),
        }
        Ok(id)
    }

    /// The object of an identifier.
    ///
    /// # Errors
    /// EINVAL there is none; EIDRM there was one.
    pub(crate) fn find(&self, id: i32) -> Result<Arc<Object<T>>> {
        let no_object = Error::new(Errno::EINVAL, "no object has the identifier");
        let object = self.at(id)?;
        if object.id != id {
            return Err(no_object);
        }
        Ok(object)
    }

    /// The object in the place of an identifier, whatever its sequence number is (`SEM_STAT` and its like).
    ///
    /// # Errors
    /// EINVAL there is none.
    pub(crate) fn at(&self, id: i32) -> Result<Arc<Object<T>>> {
        let no_object = Error::new(Errno::EINVAL, "no object has the identifier");
        let index = u32::try_from(id).map_err(|_| no_object)? & ((1 << SHIFT) - 1);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.state.lock().slots.get(index).and_then(Option::clone).ok_or(no_object)
    }

    /// Removes an object. Who still uses it finds out.
    pub(crate) fn remove(&self, object: &Arc<Object<T>>) {
        object.mark_removed();
        let mut state = self.state.lock();
        let slot =
            state.slots.iter_mut().find(|slot| slot.as_ref().is_some_and(|there| Arc::ptr_eq(there, object)));
        if let Some(slot) = slot {
            *slot = None;
            state.sequence = (state.sequence + 1) % SEQUENCES;
        }
    }

    /// All objects, by index.
    pub(crate) fn list(&self) -> Vec<Arc<Object<T>>> {
        self.state.lock().slots.iter().flatten().cloned().collect()
    }

    /// The highest index in use; 0 if none is.
    pub(crate) fn highest_index(&self) -> u64 {
        let state = self.state.lock();
        state.slots.iter().rposition(Option::is_some).unwrap_or(0) as u64
    }
}
