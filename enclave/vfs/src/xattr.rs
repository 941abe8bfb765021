//! Names of extended attributes (`xattr(7)`).

use bitflags::bitflags;
use kbase::{Errno, Error, Result};

bitflags! {
    /// What is expected of the name of an attribute that is set (`setxattr(2)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct XattrFlags: u32 {
        /// There is none of that name (XATTR_CREATE).
        const CREATE = 1;
        /// There is one (XATTR_REPLACE).
        const REPLACE = 2;
    }
}

/// A name space of extended attributes. Who may use it is the caller's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSpace {
    /// `user.`, of regular files and directories.
    User,
    /// `trusted.`, for the privileged.
    Trusted,
    /// `security.`, which everybody reads and the privileged write.
    Security,
}

impl XattrSpace {
    const ALL: [(Self, &'static [u8]); 3] =
        [(Self::User, b"user."), (Self::Trusted, b"trusted."), (Self::Security, b"security.")];

    /// The space of a name, and the name in it.
    #[must_use]
    pub fn split(name: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL.into_iter().find_map(|(space, prefix)| Some((space, name.strip_prefix(prefix)?)))
    }
}

/// Fails unless there could be an attribute of that name. There are no access control lists (`system.`).
///
/// # Errors
/// EOPNOTSUPP it is in no name space; EINVAL it is nothing but the name space.
pub fn check_xattr_name(name: &[u8]) -> Result<()> {
    match XattrSpace::split(name) {
        Some((_, [])) => Err(Error::new(Errno::EINVAL, "the name ends with its name space")),
        Some(_) => Ok(()),
        None => Err(Error::new(Errno::EOPNOTSUPP, "no such name space of extended attributes")),
    }
}
