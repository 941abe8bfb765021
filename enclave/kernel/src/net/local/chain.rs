//! A chain of control messages that is written.

use alloc::vec::Vec;
use linux_abi::net::MessageFlags;
use linux_abi::net::control::{self, HEADER};
use zerocopy::IntoBytes;

/// The messages, in the room that a program has for them.
pub(crate) struct Chain {
    bytes: Vec<u8>,
    room: usize,
    is_cut: bool,
}

impl Chain {
    pub(crate) const fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room, is_cut: false }
    }

    /// Bytes that are left.
    pub(crate) const fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    /// Something did not fit.
    pub(crate) const fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Adds a message, or as much of it as fits.
    pub(crate) fn add(&mut self, level: u32, kind: u32, data: &[u8]) {
        let fits = self.left().saturating_sub(HEADER).min(data.len());
        if fits == 0 || fits < data.len() {
            self.is_cut = true;
        }
        if self.left() < HEADER {
            return;
        }
        let end = self.bytes.len().saturating_add(control::space(fits).unwrap_or(usize::MAX)).min(self.room);
        self.bytes.extend_from_slice(control::header(level, kind, fits).as_bytes());
        self.bytes.extend_from_slice(data.get(..fits).unwrap_or_default());
        self.bytes.resize(end, 0);
    }

    /// The chain, and whether it was cut.
    pub(crate) fn finish(self) -> (Vec<u8>, MessageFlags) {
        let flags = if self.is_cut { MessageFlags::CTRUNC } else { MessageFlags::empty() };
        (self.bytes, flags)
    }
}
