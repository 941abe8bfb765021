//! Thread slots that are added while the enclave runs (EDMM).
//!
//! A slot is built from accepted pages, written by the enclave itself, and its TCS page is turned into a TCS by
//! EMODT and EACCEPT at the end, so that the host never decides what is in a TCS.

use crate::area;
use crate::pages;
use crate::runtime::layout;
use core::sync::atomic::{AtomicU64, Ordering};
use edge_abi::layout::{PAGE_SIZE, SPARE_THREADS, SSA_FRAMES, ThreadArea, slot, thread_slot};
use platform::sync::Mutex;
use platform::{OutOfMemory, PageRange};
use sgx_arch::Tcs;

/// Slots that exist.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Slots that LibOS threads use or are about to use. Some stay free for ECALLs from outside.
static USED: AtomicU64 = AtomicU64::new(0);
/// Held while a slot is added.
static ADDING: Mutex<()> = Mutex::new(());

/// Records the slots that the builder made.
pub(crate) fn init(initial: u64) {
    COUNT.store(initial, Ordering::Relaxed);
}

/// Makes sure that there is a slot for one more LibOS thread, and returns how many slots there are then.
///
/// # Errors
/// [`OutOfMemory`] no slot can be added: the ceiling is reached, or memory is exhausted.
pub(crate) fn reserve() -> Result<u64, OutOfMemory> {
    let used = USED.fetch_add(1, Ordering::Relaxed) + 1;
    let outcome = grow(used + SPARE_THREADS);
    if outcome.is_err() {
        release();
    }
    outcome
}

/// Gives back what [`reserve`] took, when the LibOS thread has ended.
pub(crate) fn release() {
    USED.fetch_sub(1, Ordering::Relaxed);
}

fn grow(wanted: u64) -> Result<u64, OutOfMemory> {
    let have = COUNT.load(Ordering::Acquire);
    if have >= wanted {
        return Ok(have);
    }
    let _adding = ADDING.lock();
    let mut have = COUNT.load(Ordering::Acquire);
    while have < wanted {
        if have >= layout().max_threads {
            return Err(OutOfMemory);
        }
        add(have)?;
        have += 1;
        COUNT.store(have, Ordering::Release);
    }
    Ok(have)
}

/// Pages of a slot, as offset and number.
const PARTS: [(u64, u64); 4] = [
    (slot::TCS, slot::AREA / PAGE_SIZE),
    (slot::AREA, slot::AREA_PAGES),
    (slot::EXCEPTION_STACK, slot::EXCEPTION_STACK_PAGES),
    (slot::KERNEL_STACK, slot::KERNEL_STACK_PAGES),
];

fn add(index: u64) -> Result<(), OutOfMemory> {
    let base = thread_slot(index);
    for (done, &(offset, count)) in PARTS.iter().enumerate() {
        let start = base + offset;
        let range = PageRange::new(start, start + count * PAGE_SIZE).ok_or(OutOfMemory)?;
        if pages::add_private(range).is_err() {
            for &(offset, count) in PARTS.iter().take(done) {
                let start = base + offset;
                if let Some(range) = PageRange::new(start, start + count * PAGE_SIZE) {
                    pages::remove_private(range);
                }
            }
            return Err(OutOfMemory);
        }
    }
    let area_at = base + slot::AREA;
    let thread = ThreadArea {
        this: area_at,
        index,
        layout: area::get::<{ area::LAYOUT }>(),
        tcs: base + slot::TCS,
        ssa: base + slot::SSA,
        kernel_stack: base + slot::END,
        exception_stack: base + slot::EXCEPTION_STACK + slot::EXCEPTION_STACK_PAGES * PAGE_SIZE,
        xsave: area_at + slot::XSAVE_IN_AREA,
        state: [0; 64],
    };
    // SAFETY: the page was just accepted, is zero, and nobody else knows of it.
    unsafe { (area_at as *mut ThreadArea).write(thread) };
    let tcs = Tcs {
        ossa: base + slot::SSA,
        nssa: SSA_FRAMES as u32,
        oentry: ENTRY.load(Ordering::Relaxed),
        ofsbase: area_at,
        ogsbase: area_at,
        fslimit: 0xffff_ffff,
        gslimit: 0xffff_ffff,
        ..Tcs::default()
    };
    // SAFETY: as above.
    unsafe { ((base + slot::TCS) as *mut Tcs).write(tcs) };
    pages::make_tcs(base + slot::TCS)
}

/// Address of the image's entry point. A TCS cannot be read, so the image tells it.
static ENTRY: AtomicU64 = AtomicU64::new(0);

/// Records the entry point of the image.
pub(crate) fn set_entry(address: u64) {
    ENTRY.store(address, Ordering::Relaxed);
}
