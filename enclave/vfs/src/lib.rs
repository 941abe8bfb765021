//! Files, nodes, file systems, path walk.
//!
//! A file system hands out [`Node`]s: kinds are an enum, abilities are traits, so "look up a name in a regular
//! file" cannot be written. An open file is a [`File`]; everything a descriptor can refer to implements it.
//!
//! A [`Namespace`] is the tree of all mounts. Its entries are [`Dentry`]s: a node at its place, which remembers what
//! was looked up below it, so that a walk over known names asks no file system. The walk itself, after
//! `path_resolution(7)`, is in one module and raises ENOTDIR, ELOOP and ENAMETOOLONG for all.
//!
//! Lock order: a file system's own locks are innermost; it never calls back into the kernel while it holds
//! one, and never touches a [`kbase::ByteSink`] or [`kbase::ByteSource`] (which may be user memory) under one.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod dentry;
mod file;
mod metadata;
mod mount;
mod namespace;
mod node;
mod walk;
mod watch;
mod xattr;

pub use dentry::{Dentry, PathName};
pub use file::{Bands, File, NodeFile, Readiness, ReadinessNotifier, Transfers};
pub use metadata::{FileType, Metadata, SetAttributes, StatFs, TimeChange};
pub use mount::{Mount, MountOptions};
pub use namespace::{Namespace, same_mount};
pub use node::{
    Create, Directory, DirectoryEntry, FileSystem, Inode, Intent, MappedPages, Name, Node, PAGE_SIZE, Page,
    Regular, Special, Symlink,
};
pub use walk::{Last, Opened, Start, WalkFlags};
pub use watch::{Change, Watcher};
pub use xattr::{XattrFlags, XattrSpace, check_xattr_name};
