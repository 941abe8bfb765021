//! `getpid(2)` and its relatives.

use crate::Ctx;
use kbase::Result;

/// `getpid(2)`.
pub(super) fn getpid(ctx: &Ctx<'_>) -> Result<u32> {
    Ok(ctx.process.pid)
}
