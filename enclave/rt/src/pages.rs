//! Pages of user memory and of the heap, by EDMM.
//!
//! A page is added by the host when the enclave touches it (EAUG) and belongs to the enclave once it was
//! accepted (EACCEPT); until then nothing can be read from or written to it, so the host cannot slip content in.

use crate::{ocall, sgx};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use edge_abi::ocall::Ocall;
use platform::{OutOfMemory, PAGE_SIZE, PageRange, Protection};
use sgx_arch::{PageType, Secinfo, SecinfoFlags};

/// Whether telling the machine what will be touched saves faults.
pub(crate) static MAP_HINT: AtomicBool = AtomicBool::new(false);
/// Committed bytes of user memory.
static COMMITTED: AtomicU64 = AtomicU64::new(0);
/// The most that may be committed.
pub(crate) static LIMIT: AtomicU64 = AtomicU64::new(0);

fn flags(protection: Protection) -> SecinfoFlags {
    let mut flags = SecinfoFlags::empty();
    flags.set(SecinfoFlags::R, protection.contains(Protection::READ));
    flags.set(SecinfoFlags::W, protection.contains(Protection::WRITE));
    flags.set(SecinfoFlags::X, protection.contains(Protection::EXEC));
    flags
}

fn addresses(range: PageRange) -> impl Iterator<Item = u64> {
    (range.start()..range.end()).step_by(PAGE_SIZE as usize)
}

/// Adds zeroed, readable and writable pages.
fn add(range: PageRange) -> Result<(), OutOfMemory> {
    let pending = Secinfo::reg(SecinfoFlags::RW | SecinfoFlags::PENDING);
    for page in addresses(range) {
        if sgx::eaccept(&pending, page) != 0 {
            if let Some(done) = PageRange::new(range.start(), page) {
                trim(done);
            }
            return Err(OutOfMemory);
        }
    }
    hint(range);
    Ok(())
}

/// Tells a machine that likes to know that pages will be touched now. The mapping allows everything already, so what is
/// allowed does not change; an access that comes before the hint takes effect costs a fault.
fn hint(range: PageRange) {
    if MAP_HINT.load(Ordering::Relaxed) {
        map(range, SecinfoFlags::RWX);
    }
}

/// Changes what the mapping allows, which the host decides and which only ever takes rights away from what the enclave allows.
pub(crate) fn map(range: PageRange, permissions: SecinfoFlags) {
    let _ = ocall::call(Ocall::MapPermissions, [range.start(), range.len(), permissions.bits(), 0, 0, 0], 0);
}

/// Takes pages out of the enclave.
fn trim(range: PageRange) {
    if range.is_empty() {
        return;
    }
    let args = [range.start(), range.len(), PageType::Trim as u64, 0, 0, 0];
    if ocall::call(Ocall::ModifyTypes, args, 0).is_err() {
        crate::panic::abort("the host did not trim pages");
    }
    let trimmed = Secinfo::new(PageType::Trim, SecinfoFlags::MODIFIED);
    for page in addresses(range) {
        if sgx::eaccept(&trimmed, page) != 0 {
            crate::panic::abort("the host did not trim a page");
        }
    }
    // Pages that the host does not take out stay unusable to everybody; their next EACCEPT fails.
    let _ = ocall::call(Ocall::RemovePages, [range.start(), range.len(), 0, 0, 0, 0], 0);
}

/// Adds pages of the LibOS itself.
pub(crate) fn add_private(range: PageRange) -> Result<(), OutOfMemory> {
    add(range)
}

/// Takes pages that [`add_private`] added out again.
pub(crate) fn remove_private(range: PageRange) {
    trim(range);
}

/// Turns a readable and writable page that holds a TCS into one (EMODT, EACCEPT).
///
/// # Errors
/// [`OutOfMemory`] the host did not do its part.
pub(crate) fn make_tcs(page: u64) -> Result<(), OutOfMemory> {
    ocall::call(Ocall::ModifyTypes, [page, PAGE_SIZE, PageType::Tcs as u64, 0, 0, 0], 0)
        .map_err(|_| OutOfMemory)?;
    let modified = Secinfo::new(PageType::Tcs, SecinfoFlags::MODIFIED);
    if sgx::eaccept(&modified, page) == 0 { Ok(()) } else { Err(OutOfMemory) }
}

/// [`platform::UserPages::commit`].
pub(crate) fn commit(range: PageRange, protection: Protection) -> Result<(), OutOfMemory> {
    if range.is_empty() {
        return Ok(());
    }
    let limit = LIMIT.load(Ordering::Relaxed);
    let reserved = COMMITTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(range.len()).filter(|&sum| sum <= limit)
    });
    if reserved.is_err() {
        return Err(OutOfMemory);
    }
    if add(range).is_err() {
        COMMITTED.fetch_sub(range.len(), Ordering::Relaxed);
        return Err(OutOfMemory);
    }
    protect(range, Protection::READ | Protection::WRITE, protection);
    Ok(())
}

/// [`platform::Platform::commit_copy_at_once`].
pub(crate) fn commit_copy(
    address: u64,
    content: &[&[u8; 4096]],
    protection: Protection,
) -> Result<(), OutOfMemory> {
    let len = (content.len() as u64).checked_mul(PAGE_SIZE).ok_or(OutOfMemory)?;
    let end = address.checked_add(len).ok_or(OutOfMemory)?;
    let range = PageRange::new(address, end).ok_or(OutOfMemory)?;
    let limit = LIMIT.load(Ordering::Relaxed);
    let reserved = COMMITTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(len).filter(|&sum| sum <= limit)
    });
    if reserved.is_err() {
        return Err(OutOfMemory);
    }
    // A page that the host adds is readable and writable whatever else it gets.
    let there = protection | Protection::READ | Protection::WRITE;
    let secinfo = Secinfo::reg(flags(there));
    let mut source = Box::new(sgx::AlignedPage([0; 4096]));
    for (page, bytes) in addresses(range).zip(content) {
        source.0.copy_from_slice(*bytes);
        if sgx::eacceptcopy(&secinfo, page, &source) != 0 {
            if let Some(done) = PageRange::new(range.start(), page) {
                trim(done);
            }
            COMMITTED.fetch_sub(len, Ordering::Relaxed);
            return Err(OutOfMemory);
        }
    }
    protect(range, there, protection);
    hint(range);
    Ok(())
}

/// [`platform::UserPages::protect`].
pub(crate) fn protect(range: PageRange, from: Protection, to: Protection) {
    if range.is_empty() || from == to {
        return;
    }
    if !to.contains(from) {
        // Take away first, so that no page is ever writable and executable on the way.
        let kept = flags(from & to);
        let args = [range.start(), range.len(), kept.bits(), 0, 0, 0];
        if ocall::call(Ocall::RestrictPermissions, args, 0).is_err() {
            crate::panic::abort("the host did not restrict pages");
        }
        let restricted = Secinfo::reg(kept | SecinfoFlags::PR);
        for page in addresses(range) {
            if sgx::eaccept(&restricted, page) != 0 {
                crate::panic::abort("the host did not restrict a page");
            }
        }
    }
    if !from.contains(to) {
        let extended = Secinfo::reg(flags(to));
        for page in addresses(range) {
            sgx::emodpe(&extended, page);
        }
        hint(range);
    }
}

/// [`platform::UserPages::decommit`].
pub(crate) fn decommit(range: PageRange) {
    if range.is_empty() {
        return;
    }
    trim(range);
    COMMITTED.fetch_sub(range.len(), Ordering::Relaxed);
}

/// Committed bytes of user memory.
pub(crate) fn committed() -> u64 {
    COMMITTED.load(Ordering::Relaxed)
}
