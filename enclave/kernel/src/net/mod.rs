//! Sockets.

pub(crate) mod inet;
