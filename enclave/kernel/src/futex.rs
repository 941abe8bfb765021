//! Futexes.

use crate::Ctx;
use kbase::UserAddr;

/// Wakes at most `count` threads that wait for the word at `address`, and returns their number.
pub(crate) fn wake(_ctx: &Ctx<'_>, _address: UserAddr, _count: u32) -> u32 {
    0
}
