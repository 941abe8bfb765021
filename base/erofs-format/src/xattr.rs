//! Extended attributes, stored behind the inode they belong to (xattr(7)). Shared attributes are not used.

use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;

/// `struct erofs_xattr_ibody_header`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BodyHeader {
    reserved: U32,
    shared_count: u8,
    reserved2: [u8; 7],
}

/// `struct erofs_xattr_entry`; the name and the value follow, then padding to four bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryHeader {
    name_len: u8,
    name_index: u8,
    value_len: U16,
}

const _: () = assert!(size_of::<BodyHeader>() == 12);
const _: () = assert!(size_of::<EntryHeader>() == 4);

/// Name prefixes, which are stored as one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum XattrPrefix {
    /// `user.`
    User = 1,
    /// `system.posix_acl_access`, a whole name.
    PosixAclAccess = 2,
    /// `system.posix_acl_default`, a whole name.
    PosixAclDefault = 3,
    /// `trusted.`
    Trusted = 4,
    /// `security.`
    Security = 6,
}

impl XattrPrefix {
    const ALL: [Self; 5] =
        [Self::User, Self::PosixAclAccess, Self::PosixAclDefault, Self::Trusted, Self::Security];

    /// The characters that it stands for.
    #[must_use]
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::User => b"user.",
            Self::PosixAclAccess => b"system.posix_acl_access",
            Self::PosixAclDefault => b"system.posix_acl_default",
            Self::Trusted => b"trusted.",
            Self::Security => b"security.",
        }
    }

    /// Splits a full attribute name, or `None` for a name space that cannot be stored.
    #[must_use]
    pub fn split(name: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL.into_iter().find_map(|prefix| {
            let rest = name.strip_prefix(prefix.text())?;
            let whole = matches!(prefix, Self::PosixAclAccess | Self::PosixAclDefault);
            (whole == rest.is_empty()).then_some((prefix, rest))
        })
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|prefix| *prefix as u8 == byte)
    }
}

/// One extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XattrEntry<'a> {
    /// Its name space.
    pub prefix: XattrPrefix,
    /// The rest of its name.
    pub suffix: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl XattrEntry<'_> {
    /// Whether its full name is `name`.
    #[must_use]
    pub fn is(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix.text()) == Some(self.suffix)
    }
}

/// The attribute area of an inode; empty for no attributes.
///
/// # Errors
/// [`FormatError::Corrupt`] if a name, a value or the whole is too long.
pub fn encode_xattrs(entries: &[XattrEntry<'_>]) -> Result<Vec<u8>, FormatError> {
    let too_long = || FormatError::Corrupt("extended attribute too long");
    let mut bytes = Vec::new();
    if entries.is_empty() {
        return Ok(bytes);
    }
    let header = BodyHeader { reserved: 0.into(), shared_count: 0, reserved2: [0; 7] };
    bytes.extend_from_slice(header.as_bytes());
    for entry in entries {
        let header = EntryHeader {
            name_len: u8::try_from(entry.suffix.len()).map_err(|_| too_long())?,
            name_index: entry.prefix as u8,
            value_len: u16::try_from(entry.value.len()).map_err(|_| too_long())?.into(),
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.suffix);
        bytes.extend_from_slice(entry.value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() > 8 + 4 * usize::from(u16::MAX) {
        return Err(too_long());
    }
    Ok(bytes)
}

/// The attributes in an inode's attribute area, in stored order; the iteration ends at the first bad one.
pub fn parse_xattrs(area: &[u8]) -> impl Iterator<Item = Result<XattrEntry<'_>, FormatError>> {
    let mut failed = false;
    let mut rest: &[u8] = match BodyHeader::ref_from_prefix(area) {
        Ok((header, rest)) if header.shared_count == 0 => rest,
        _ => {
            failed = !area.is_empty();
            &[]
        }
    };
    let mut report = failed;
    core::iter::from_fn(move || {
        if core::mem::take(&mut report) {
            return Some(Err(FormatError::Corrupt("extended attribute header")));
        }
        if failed || rest.is_empty() {
            return None;
        }
        let entry = next_entry(&mut rest);
        failed = entry.is_none();
        Some(entry.ok_or(FormatError::Corrupt("extended attribute")))
    })
}

fn next_entry<'a>(rest: &mut &'a [u8]) -> Option<XattrEntry<'a>> {
    let (header, after) = EntryHeader::ref_from_prefix(rest).ok()?;
    let (suffix, after) = after.split_at_checked(usize::from(header.name_len))?;
    let (value, after) = after.split_at_checked(usize::from(header.value_len.get()))?;
    let used = rest.len().saturating_sub(after.len());
    let entry = XattrEntry { prefix: XattrPrefix::from_byte(header.name_index)?, suffix, value };
    *rest = rest.get(used.next_multiple_of(4)..).unwrap_or_default();
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<XattrEntry<'static>> {
        vec![
            XattrEntry { prefix: XattrPrefix::Security, suffix: b"capability", value: &[1, 2, 3, 4, 5] },
            XattrEntry { prefix: XattrPrefix::User, suffix: b"x", value: b"" },
        ]
    }

    #[test]
    fn what_is_encoded_parses_to_the_same() {
        let area = encode_xattrs(&sample()).unwrap();
        assert_eq!(area.len() % 4, 0);
        assert_eq!(parse_xattrs(&area).collect::<Result<Vec<_>, _>>(), Ok(sample()));
        assert_eq!(parse_xattrs(&[]).count(), 0);
    }

    #[test]
    fn names_are_split_at_their_prefix() {
        assert_eq!(XattrPrefix::split(b"user.a"), Some((XattrPrefix::User, &b"a"[..])));
        assert_eq!(XattrPrefix::split(b"user."), None);
        assert_eq!(XattrPrefix::split(b"system.posix_acl_accessx"), None);
        assert_eq!(XattrPrefix::split(b"lustre.a"), None);
        assert!(sample()[0].is(b"security.capability"));
    }

    #[test]
    fn no_bytes_make_the_parser_panic_or_run_on() {
        let good = encode_xattrs(&sample()).unwrap();
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                assert!(parse_xattrs(&bad).count() <= good.len());
                assert!(parse_xattrs(&bad[..at]).count() <= good.len());
            }
        }
    }
}
