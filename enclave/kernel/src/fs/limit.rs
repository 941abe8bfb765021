//! RLIMIT_FSIZE: how long a program may make a file.

use super::OpenFile;
use crate::{Ctx, signal};
use kbase::{ByteSource, Part, Result, bail};
use linux_abi::fs::OpenFlags;
use linux_abi::process::{RLIM_INFINITY, resource};
use linux_abi::signal::Signal;
use vfs::Regular;

/// Fails, and signals, where a file would get longer than the program may make one.
///
/// # Errors
/// EFBIG.
pub(crate) fn check_size(ctx: &Ctx<'_>, file: &dyn Regular, size: u64) -> Result<()> {
    let limit = ctx.process.limit(resource::FSIZE);
    // One that is longer already may stay so.
    if limit != RLIM_INFINITY && size > limit && size > file.metadata()?.size {
        return exceeded(ctx);
    }
    Ok(())
}

fn exceeded<T>(ctx: &Ctx<'_>) -> Result<T> {
    signal::raise_self(ctx, Signal::SIGXFSZ);
    bail!(EFBIG, "the file would be longer than RLIMIT_FSIZE allows")
}

/// Writes to the regular file that a description is, up to the limit. Returns where, and how much.
///
/// # Errors
/// EFBIG the limit is reached; and what the file says.
pub(super) fn write_regular(
    ctx: &Ctx<'_>,
    (open, file): (&OpenFile, &dyn Regular),
    offset: u64,
    from: &mut dyn ByteSource,
) -> Result<(u64, usize)> {
    let limit = ctx.process.limit(resource::FSIZE);
    if limit == RLIM_INFINITY {
        return open.write_regular(file, offset, from);
    }
    let appends = open.flags().contains(OpenFlags::APPEND);
    let at = if appends { file.metadata()?.size } else { offset };
    match limit.checked_sub(at).map(|room| usize::try_from(room).unwrap_or(usize::MAX)) {
        None | Some(0) => exceeded(ctx),
        Some(room) => open.write_regular(file, offset, &mut Part::new(from, room)),
    }
}
