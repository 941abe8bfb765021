//! Telling somebody what changes in a namespace.

use crate::{Dentry, Node, SetAttributes};
use alloc::sync::Arc;

/// A change that was made.
pub enum Change<'a> {
    /// A name and what it is of came into being.
    Created {
        /// The directory.
        parent: &'a Arc<Dentry>,
        /// The name.
        name: &'a [u8],
        /// What was created.
        node: &'a Node,
    },
    /// Something that was there has another name.
    Linked {
        /// The directory.
        parent: &'a Arc<Dentry>,
        /// The name.
        name: &'a [u8],
        /// What has it.
        node: &'a Node,
    },
    /// A name was removed.
    Removed {
        /// The directory.
        parent: &'a Arc<Dentry>,
        /// The name.
        name: &'a [u8],
        /// What had it.
        node: &'a Node,
    },
    /// A name was changed.
    Moved {
        /// The old directory.
        from: &'a Arc<Dentry>,
        /// The old name.
        from_name: &'a [u8],
        /// The new directory.
        to: &'a Arc<Dentry>,
        /// The new name.
        to_name: &'a [u8],
        /// What has it.
        node: &'a Node,
        /// What had the new name.
        replaced: Option<&'a Node>,
    },
    /// Attributes were set.
    Attributes {
        /// Of this.
        of: &'a Arc<Dentry>,
        /// Which.
        change: &'a SetAttributes,
    },
}

/// Somebody who wants to know.
pub trait Watcher: Send + Sync {
    /// Whether anything is watched: asked before there is a [`Change`] to tell.
    fn is_watching(&self) -> bool;

    /// A change was made. Called without a lock of the namespace.
    fn tell(&self, change: &Change<'_>);
}
