//! The kernel heap: talc over the heap region, which grows by EACCEPT.

use crate::pages;
use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use edge_abi::layout::HEAP_BASE;
use platform::PageRange;
use platform::sync::persist;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// Bytes that the heap grows by at least.
const GROWTH: u64 = 1 << 20;

/// End of the heap's committed part.
static END: AtomicU64 = AtomicU64::new(HEAP_BASE);
/// Where it must end.
pub(crate) static LIMIT: AtomicU64 = AtomicU64::new(HEAP_BASE);

/// The lock of the heap, whose operations are short, and never leave the enclave except to grow.
pub struct RawSpin(AtomicBool);

// SAFETY: `lock` returns only after it changed the flag from false to true, `unlock` changes it back: mutual exclusion.
unsafe impl talc::lock_api::RawMutex for RawSpin {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "lock_api asks for the initial value as a constant"
    )]
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = talc::lock_api::GuardSend;

    fn lock(&self) {
        if !self.try_lock() {
            persist(|| self.try_lock().then_some(()));
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Grows the heap when talc runs out.
#[derive(Debug)]
pub struct Grow {
    end: Option<core::ptr::NonNull<u8>>,
}

// SAFETY: the pointer is to heap pages that belong to the allocator alone.
unsafe impl Send for Grow {}

// SAFETY: `acquire` touches nothing but the pages that it just accepted, and does not allocate.
unsafe impl Source for Grow {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let start = END.load(Ordering::Relaxed);
        let wanted = (layout.size() as u64).checked_add(layout.align() as u64 + 4096).ok_or(())?;
        let wanted = wanted.max(GROWTH).checked_next_multiple_of(4096).ok_or(())?;
        let end = start.checked_add(wanted).filter(|&end| end <= LIMIT.load(Ordering::Relaxed)).ok_or(())?;
        let range = PageRange::new(start, end).ok_or(())?;
        pages::add_private(range).map_err(|_| ())?;
        END.store(end, Ordering::Relaxed);
        let new_end = end as *mut u8;
        let heap_end = match talc.source.end {
            // SAFETY: the pages up to `new_end` directly follow the heap, are mapped and unused.
            Some(heap_end) => Some(unsafe { talc.extend(heap_end, new_end) }),
            // SAFETY: the pages are mapped and unused.
            None => unsafe { talc.claim(start as *mut u8, wanted as usize) },
        };
        talc.source.end = heap_end;
        heap_end.map(|_| ()).ok_or(())
    }
}

/// The allocator for the image's `#[global_allocator]`.
pub type Heap = talc::TalcLock<RawSpin, Grow>;

/// The heap, empty; it grows at the first allocation.
#[must_use]
pub const fn new() -> Heap {
    talc::TalcLock::new(Grow { end: None })
}

/// Bytes that the heap has committed.
pub(crate) fn committed() -> u64 {
    END.load(Ordering::Relaxed) - HEAP_BASE
}
