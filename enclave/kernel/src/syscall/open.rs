//! `open(2)`, `openat2(2)`, `close(2)`, `close_range(2)`.

use super::path::PathAt;
use super::{DirFd, Fd, UserStr};
use crate::Ctx;
use crate::fs;
use crate::fs::OpenHow;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::fs::OpenFlags;
use vfs::WalkFlags;

/// `open(2)`.
pub(super) fn open(ctx: &Ctx<'_>, path: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    openat(ctx, DirFd::Cwd, path, flags, mode)
}

/// `creat(2)`.
pub(super) fn creat(ctx: &Ctx<'_>, path: UserStr, mode: u32) -> Result<Fd> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    openat(ctx, DirFd::Cwd, path, flags.bits(), mode)
}

/// `openat(2)`; unknown flags are ignored.
pub(super) fn openat(ctx: &Ctx<'_>, from: DirFd, path: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    // O_LARGEFILE is what every 64-bit program has.
    let flags = OpenFlags::from_bits_truncate(flags) | OpenFlags::LARGEFILE;
    open_with(ctx, from, path, flags, mode & 0o7777, WalkFlags::empty())
}

/// `openat2(2)`; unknown flags are EINVAL.
pub(super) fn openat2(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    how: UserPtr<linux_abi::fs::OpenHow>,
    size: usize,
) -> Result<Fd> {
    const RESOLVE: [(u64, WalkFlags); 5] = [
        (1, WalkFlags::NO_MOUNTS),
        (2, WalkFlags::NO_MAGIC_LINKS),
        (4, WalkFlags::NO_SYMLINKS),
        (8, WalkFlags::BENEATH),
        (16, WalkFlags::IN_ROOT),
    ];
    check_zero_tail(ctx, how.address(), size, size_of::<linux_abi::fs::OpenHow>())?;
    let how = how.read(ctx.user())?;
    let invalid = Error::new(Errno::EINVAL, "unknown flag or mode");
    let flags = u32::try_from(how.flags).ok().and_then(OpenFlags::from_bits).ok_or(invalid)?;
    let creates = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    let mode = u32::try_from(how.mode).ok().filter(|mode| mode & !0o7777 == 0).ok_or(invalid)?;
    if (mode != 0 && !creates) || how.resolve & !31 != 0 {
        return Err(invalid);
    }
    let mut walk = WalkFlags::empty();
    for (bit, flag) in RESOLVE {
        walk.set(flag, how.resolve & bit != 0);
    }
    if walk.contains(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
        return Err(invalid);
    }
    open_with(ctx, from, path, flags | OpenFlags::LARGEFILE, mode, walk)
}

fn open_with(
    ctx: &Ctx<'_>,
    from: DirFd,
    path: UserStr,
    flags: OpenFlags,
    mode: u32,
    resolve: WalkFlags,
) -> Result<Fd> {
    let at = PathAt::new(ctx, from, path)?;
    let how = OpenHow { flags, mode: mode & !ctx.fs.umask(), resolve };
    let open = fs::open(ctx, &at.places, &at.path, how)?;
    fs::wait_for_peer(ctx, &open)?;
    ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC))
}

/// `close(2)`.
pub(super) fn close(ctx: &Ctx<'_>, fd: Fd) -> Result<()> {
    ctx.files.close(fd)
}

/// `close_range(2)`.
pub(super) fn close_range(ctx: &Ctx<'_>, first: u32, last: u32, flags: u32) -> Result<()> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        kbase::bail!(EINVAL, "unknown flag, or a range that ends before it begins");
    }
    let files = if flags & UNSHARE != 0 { ctx.unshare_files() } else { ctx.files.clone() };
    if flags & CLOEXEC != 0 {
        files.mark_range(first, last);
    } else {
        files.close_range(first, last);
    }
    Ok(())
}

/// Checks a structure that a newer program may have made longer: what is unknown here must be zero.
///
/// # Errors
/// EINVAL shorter than its first version; E2BIG bytes beyond are not zero; EFAULT.
pub(super) fn check_zero_tail(ctx: &Ctx<'_>, at: UserAddr, size: usize, known: usize) -> Result<()> {
    if size < known {
        kbase::bail!(EINVAL, "the structure is too short");
    }
    if size > 4096 {
        kbase::bail!(E2BIG, "the structure is longer than a page");
    }
    let mut tail = alloc::vec![0u8; size - known];
    ctx.user().load(at.offset(known as u64)?, &mut tail)?;
    if tail.iter().any(|&byte| byte != 0) {
        kbase::bail!(E2BIG, "the structure has fields that are unknown here");
    }
    Ok(())
}
