//! What can go wrong while an image is written.

use std::io;
use std::path::{Path, PathBuf};

use erofs_format::FormatError;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the host could not be read.
    #[error("cannot read {}", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image file could not be written.
    #[error("cannot write the image")]
    Output(#[from] io::Error),
    /// An entry cannot be added at this path of the image.
    #[error("{} in the image: {reason}", path.display())]
    Entry {
        /// Path in the image.
        path: PathBuf,
        /// Why, in the words of errno(3).
        reason: &'static str,
    },
    /// The tree does not fit the format's limits.
    #[error("the image does not fit its format")]
    Format(#[from] FormatError),
    /// A helper thread ended early.
    #[error("a helper thread ended early")]
    Helper,
}

impl Error {
    pub(crate) fn host(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Host { path, source }
    }

    pub(crate) fn entry(path: &Path, reason: &'static str) -> Self {
        Self::Entry { path: path.to_path_buf(), reason }
    }
}
