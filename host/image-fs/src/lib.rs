//! Writes image files: an EROFS file system, the hash tree that verifies it, and the tables that tell the
//! enclave how to rewrite the programs in it.
//!
//! An [`ImageWriter`] collects a tree of entries and writes it in one pass. The output is a function of the
//! entries alone: not of the order in which they were added, the paths they came from, or the time. The
//! result's [`ImageInfo::commitment`] is the value to measure; see [`erofs_format`] for the format.
//!
//! [`sites`] finds what has to be rewritten in a program, and can be used by itself.
#![forbid(unsafe_code)]

mod directory;
mod error;
mod import;
mod layout;
mod output;
mod pack;
pub mod sites;
mod tree;
mod writer;

pub use erofs_format::{FileType, ImageRoot};
pub use error::Error;
pub use import::{ModificationTime, Owner, Policy};
pub use tree::{Content, Metadata};
pub use writer::{Analyser, ImageInfo, ImageWriter, Options};
