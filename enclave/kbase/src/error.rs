//! The error of the kernel: an errno for the program, a note and a place for the log.

use core::panic::Location;
use linux_abi::Errno;
use platform::HostError;

/// Result of kernel functions.
pub type Result<T> = core::result::Result<T, Error>;

/// An errno, why, and where it was made. Cheap to make and to copy; formatted only for the log.
#[derive(Clone, Copy)]
pub struct Error {
    errno: Errno,
    note: &'static str,
    at: &'static Location<'static>,
}

impl Error {
    /// An error. The note says what is wrong, in lower case, without a full stop.
    #[track_caller]
    #[must_use]
    pub const fn new(errno: Errno, note: &'static str) -> Self {
        Self { errno, note, at: Location::caller() }
    }

    /// What the program sees.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// What is wrong.
    #[must_use]
    pub const fn note(&self) -> &'static str {
        self.note
    }
}

impl From<HostError> for Error {
    #[track_caller]
    fn from(error: HostError) -> Self {
        Self::new(error.0, "the host refused")
    }
}

impl core::fmt::Debug for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({}, {}:{})", self.errno, self.note, self.at.file(), self.at.line())
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.errno, self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_errno_note_and_place() {
        let line = format!("{:?}", Error::new(Errno::ENOENT, "no such name"));
        assert!(line.starts_with("ENOENT (no such name, "), "{line}");
        assert!(line.contains("error.rs"), "{line}");
    }
}
