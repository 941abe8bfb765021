//! Files without a path: `pipe(2)`, `eventfd(2)`, `memfd_create(2)`.

use super::{Fd, UserStr};
use crate::Ctx;
use crate::fs::{self, OpenFile};
use alloc::sync::Arc;
use kbase::{Errno, Error, Result, UserPtr};
use linux_abi::fs::{OpenFlags, seal};
use vfs::{Dentry, Node, NodeFile};

/// `pipe(2)`.
pub(super) fn pipe(ctx: &Ctx<'_>, into: UserPtr<[u32; 2]>) -> Result<()> {
    pipe2(ctx, into, 0)
}

/// `pipe2(2)`. With O_DIRECT writes are packets.
pub(super) fn pipe2(ctx: &Ctx<'_>, into: UserPtr<[u32; 2]>, flags: u32) -> Result<()> {
    let flags = flags_of(flags, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT)?;
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    insert_pair(ctx, fs::pipe(ctx.kernel.mounts.shared(), flags), close_on_exec, into)
}

/// Gives two files descriptors and tells them to the program: both, or none.
///
/// # Errors
/// EMFILE; EFAULT.
pub(super) fn insert_pair(
    ctx: &Ctx<'_>,
    (first, second): (Arc<OpenFile>, Arc<OpenFile>),
    close_on_exec: bool,
    into: UserPtr<[u32; 2]>,
) -> Result<()> {
    let first = ctx.files.insert(first, close_on_exec)?;
    let result = ctx.files.insert(second, close_on_exec).and_then(|second| {
        let told = into.write(ctx.user(), &[first.0, second.0]);
        told.or_else(|error| ctx.files.close(second).and(Err(error)))
    });
    result.or_else(|error| ctx.files.close(first).and(Err(error)))
}

/// `eventfd(2)`.
pub(super) fn eventfd(ctx: &Ctx<'_>, initial: u32) -> Result<Fd> {
    eventfd2(ctx, initial, 0)
}

/// `eventfd2(2)`.
pub(super) fn eventfd2(ctx: &Ctx<'_>, initial: u32, flags: u32) -> Result<Fd> {
    const SEMAPHORE: u32 = 1;
    let is_semaphore = flags & SEMAPHORE != 0;
    let flags = flags_of(flags & !SEMAPHORE, OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)?;
    let open = fs::eventfd(ctx.kernel.mounts.shared(), initial, is_semaphore, flags);
    ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC))
}

/// `memfd_create(2)`.
pub(super) fn memfd_create(ctx: &Ctx<'_>, name: UserStr, flags: u32) -> Result<Fd> {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 16;
    if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 {
        kbase::bail!(EINVAL, "unknown flag");
    }
    let name = ctx.user().load_c_string(name.0, 249).map_err(|error| match error.errno() {
        Errno::ENAMETOOLONG => Error::new(Errno::EINVAL, "the name is too long"),
        _ => error,
    })?;
    let mode = if flags & NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let seals = match flags & (NOEXEC_SEAL | ALLOW_SEALING) {
        0 => seal::SEAL,
        ALLOW_SEALING => 0,
        _ => seal::EXEC,
    };
    let file = ctx.kernel.mounts.unnamed().unnamed_file(mode);
    let node = Node::Regular(fs::MemoryFile::new(file, seals));
    let mut shown = b"/memfd:".to_vec();
    shown.extend_from_slice(&name);
    shown.extend_from_slice(b" (deleted)");
    let dentry = Dentry::anonymous(node.clone(), None, &shown);
    let flags_of_file = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let shared = ctx.kernel.mounts.shared();
    let open = OpenFile::new(shared, NodeFile::new(node), Some(dentry), flags_of_file);
    ctx.files.insert(open, flags & CLOEXEC != 0)
}

/// The flags of a call, of which it knows `known`.
///
/// # Errors
/// EINVAL.
pub(super) fn flags_of(raw: u32, known: OpenFlags) -> Result<OpenFlags> {
    match OpenFlags::from_bits(raw) {
        Some(flags) if known.contains(flags) => Ok(flags),
        _ => Err(Error::new(Errno::EINVAL, "unknown flag")),
    }
}
