//! `mmap(2)`, `munmap(2)`, `mprotect(2)`, `mremap(2)`, `brk(2)`, `madvise(2)`, `msync(2)`, `mincore(2)`, `mlock(2)`.

use super::arg::Arg;
use super::{Fd, flag_args};
use crate::Ctx;
use crate::fs::MemoryFile;
use crate::vm::{MapRequest, MappedFile, Place, Role};
use alloc::sync::Arc;
use core::fmt::{self, Write};
use kbase::{Errno, Error, Result, UserAddr, bail};
use linux_abi::mm::{LockAllFlags, MAP_SHARED_VALIDATE, MapFlags, PAGE_SIZE, Prot, RemapFlags, SyncFlags};
use platform::Protection;

flag_args! {
    RemapFlags: u32;
    SyncFlags: u32;
    LockAllFlags: u32;
}

/// Makes flags arguments whose unknown bits are ignored.
macro_rules! lenient_flag_args {
    ($($type:ty),*) => {
        $(impl Arg for $type {
            fn from_arg(raw: u64) -> Result<Self> {
                Ok(Self::from_bits_retain(u32::from_arg(raw)?))
            }

            fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
                let flags = Self::from_bits_retain(u32::from_arg(raw).unwrap_or_default());
                if flags.is_empty() { into.write_str("0") } else { bitflags::parser::to_writer(&flags, into) }
            }
        })*
    };
}

lenient_flag_args!(Prot, MapFlags);

/// What a program may do with a mapping.
fn protection(prot: Prot) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, prot.contains(Prot::READ));
    protection.set(Protection::WRITE, prot.contains(Prot::WRITE));
    protection.set(Protection::EXEC, prot.contains(Prot::EXEC));
    protection
}

/// Where a mapping is to go.
fn place(address: u64, flags: MapFlags) -> Place {
    if flags.contains(MapFlags::FIXED_NOREPLACE) {
        Place::FixedNoReplace(address)
    } else if flags.contains(MapFlags::FIXED) {
        Place::Fixed(address)
    } else if address != 0 {
        Place::Hint(address)
    } else if flags.contains(MapFlags::LOW_2GIB) {
        Place::Low
    } else {
        Place::Any
    }
}

/// `mmap(2)`. The file is one descriptor number, which only counts without MAP_ANONYMOUS.
pub(super) fn mmap(
    ctx: &Ctx<'_>,
    address: u64,
    len: u64,
    prot: Prot,
    flags: MapFlags,
    fd: i32,
    offset: u64,
) -> Result<u64> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        bail!(EINVAL, "the offset is not page-aligned");
    }
    let kind = flags.bits() & MAP_SHARED_VALIDATE;
    let is_shared = kind & MapFlags::SHARED.bits() != 0;
    if flags.contains(MapFlags::HUGETLB) {
        bail!(ENOMEM, "there are no huge pages");
    }
    let protection = protection(prot);
    let mut request =
        MapRequest { is_shared, protection, ..MapRequest::reservation(place(address, flags), len) };
    if flags.contains(MapFlags::GROWSDOWN) {
        request.role = Role::Stack;
    }
    let mappable = if flags.contains(MapFlags::ANONYMOUS) {
        None
    } else {
        let fd = u32::try_from(fd).map_err(|_| Error::new(Errno::EBADF, "the descriptor is negative"))?;
        ctx.files.get_file(Fd(fd))?;
        Some(Fd(fd))
    };
    // In the order in which Linux looks at them.
    if len == 0 {
        bail!(EINVAL, "no bytes");
    }
    if len > ADDRESSES {
        bail!(ENOMEM, "longer than the address space");
    }
    if flags.contains(MapFlags::FIXED) && !address.is_multiple_of(PAGE_SIZE) {
        bail!(EINVAL, "the address is not page-aligned");
    }
    if mappable.is_some() && offset.checked_add(len).is_none_or(|end| end > i64::MAX.cast_unsigned()) {
        bail!(EOVERFLOW, "beyond the end of any file");
    }
    match kind {
        0 => bail!(EINVAL, "neither MAP_SHARED nor MAP_PRIVATE"),
        MAP_SHARED_VALIDATE if mappable.is_none() => bail!(EINVAL, "MAP_SHARED_VALIDATE is for files"),
        _ => {}
    }
    if let Some(fd) = mappable {
        let mappable = ctx.files.mappable(fd, protection.contains(Protection::EXEC))?;
        if !mappable.readable || (is_shared && protection.contains(Protection::WRITE) && !mappable.writable) {
            bail!(EACCES, "the descriptor does not allow it");
        }
        let sealed = mappable.file.as_any().downcast_ref::<MemoryFile>();
        let is_sealed = is_shared && sealed.is_some_and(MemoryFile::refuses_writable_mappings);
        if is_sealed && protection.contains(Protection::WRITE) {
            bail!(EPERM, "the content is sealed");
        }
        request.may_write = !is_shared || (mappable.writable && !is_sealed);
        let file = sealed.map_or_else(|| Arc::clone(&mappable.file), |sealed| Arc::clone(sealed.content()));
        request.file = Some((Arc::new(MappedFile { file, path: mappable.path }), offset));
    }
    let start = ctx.space.map(request)?;
    let range = start..start.saturating_add(len).next_multiple_of(PAGE_SIZE);
    let is_writable = protection.contains(Protection::WRITE);
    if flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK) && !protection.is_empty() {
        let access = if is_writable { Protection::WRITE } else { Protection::READ };
        // It is only advice: what cannot be populated faults later.
        let _ = ctx.space.populate(&range, access);
    } else if flags.contains(MapFlags::STACK) && is_writable {
        // That of a child that is about to be started (posix_spawn(3)): a small one is committed with its first page anyway.
        ctx.space.expect_stores(&range);
    }
    Ok(start)
}

/// Bytes of the addresses of a program on Linux.
const ADDRESSES: u64 = 1 << 47;

/// `munmap(2)`.
pub(super) fn munmap(ctx: &Ctx<'_>, start: u64, len: u64) -> Result<()> {
    ctx.space.unmap(start, len)
}

/// `mprotect(2)`.
pub(super) fn mprotect(ctx: &Ctx<'_>, start: u64, len: u64, prot: Prot) -> Result<()> {
    /// PROT_READ, PROT_WRITE, PROT_EXEC, PROT_SEM.
    const KNOWN: u32 = 0xf;
    if prot.intersects(Prot::GROWSDOWN | Prot::GROWSUP) {
        bail!(EINVAL, "PROT_GROWSDOWN is not supported");
    }
    if !start.is_multiple_of(PAGE_SIZE) {
        bail!(EINVAL, "the address is not page-aligned");
    }
    if len == 0 {
        return Ok(());
    }
    if start.checked_add(len).is_none_or(|end| end.checked_next_multiple_of(PAGE_SIZE).is_none()) {
        bail!(ENOMEM, "beyond the end of addresses");
    }
    if prot.bits() & !KNOWN != 0 {
        bail!(EINVAL, "unknown protection");
    }
    ctx.space.protect(start, len, protection(prot))
}

/// `brk(2)`: answers the end of the heap, moved or not.
pub(super) fn brk(ctx: &Ctx<'_>, end: u64) -> Result<u64> {
    Ok(ctx.space.move_heap_end(end))
}

/// `mremap(2)`.
pub(super) fn mremap(
    ctx: &Ctx<'_>,
    old: u64,
    old_len: u64,
    new_len: u64,
    flags: RemapFlags,
    new: u64,
) -> Result<u64> {
    ctx.space.remap(old, old_len, new_len, flags, new)
}

/// `madvise(2)`.
pub(super) fn madvise(ctx: &Ctx<'_>, start: u64, len: u64, advice: i32) -> Result<()> {
    ctx.space.advise(start, len, advice)
}

/// `msync(2)`.
pub(super) fn msync(ctx: &Ctx<'_>, start: u64, len: u64, flags: SyncFlags) -> Result<()> {
    if flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC) {
        bail!(EINVAL, "MS_ASYNC and MS_SYNC exclude each other");
    }
    if !start.is_multiple_of(PAGE_SIZE) {
        bail!(EINVAL, "the address is not page-aligned");
    }
    // Rounded up past the end of numbers it is nothing on Linux too.
    if len.checked_next_multiple_of(PAGE_SIZE).is_none() {
        return Ok(());
    }
    if !ctx.space.is_mapped(start, len) {
        bail!(ENOMEM, "not all of it is mapped");
    }
    ctx.space.synchronise(&(start..start.saturating_add(len)));
    Ok(())
}

/// `mincore(2)`.
pub(super) fn mincore(ctx: &Ctx<'_>, start: u64, len: u64, into: UserAddr) -> Result<()> {
    let pages = ctx.space.residency(start, len)?;
    if pages.is_empty() && into.0 < ADDRESSES {
        return Ok(());
    }
    ctx.user().store(into, &pages)
}

/// `mlock(2)`: enclave memory is never swapped by the LibOS, so there is nothing to do.
pub(super) fn mlock(ctx: &Ctx<'_>, start: u64, len: u64) -> Result<()> {
    let first = start - start % PAGE_SIZE;
    if len > 0 && !ctx.space.is_mapped(first, len.saturating_add(start % PAGE_SIZE)) {
        bail!(ENOMEM, "not all of it is mapped");
    }
    Ok(())
}

/// `mlock2(2)`.
pub(super) fn mlock2(ctx: &Ctx<'_>, start: u64, len: u64, flags: u32) -> Result<()> {
    if flags & !1 != 0 {
        bail!(EINVAL, "unknown flag");
    }
    mlock(ctx, start, len)
}

/// `munlock(2)`.
pub(super) fn munlock(ctx: &Ctx<'_>, start: u64, len: u64) -> Result<()> {
    mlock(ctx, start, len)
}

/// `mlockall(2)`.
pub(super) fn mlockall(_ctx: &Ctx<'_>, flags: LockAllFlags) -> Result<()> {
    if flags.is_empty() || flags == LockAllFlags::ONFAULT {
        bail!(EINVAL, "neither MCL_CURRENT nor MCL_FUTURE");
    }
    Ok(())
}

/// `munlockall(2)`.
pub(super) fn munlockall(_ctx: &Ctx<'_>) -> Result<()> {
    Ok(())
}
