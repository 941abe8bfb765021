//! Where things are in ELRANGE.
//!
//! The builder fixes every address before measuring, so that all of it is covered by MRENCLAVE: the image,
//! one [`EnclaveLayout`] followed by the boot configuration, and per thread a TCS, its SSA frames, a
//! [`ThreadArea`] and the stacks.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Base of ELRANGE. Zero, so that programs linked at fixed low addresses load where they must.
pub const ELRANGE_BASE: u64 = 0;
/// Size of ELRANGE in bytes (a power of two, as ECREATE requires).
pub const ELRANGE_SIZE: u64 = 1 << 36;
/// Lowest address that is mapped: Debian's `vm.mmap_min_addr`.
pub const USER_BASE: u64 = 0x1_0000;
/// First address above what user programs may use.
pub const USER_END: u64 = 0xE_0000_0000;
/// Where the LibOS image is linked to run.
pub const IMAGE_BASE: u64 = USER_END;
/// Thread slots start here; the image and the configuration must end below.
pub const THREADS_BASE: u64 = 0xE_1000_0000;
/// Distance between two thread slots in bytes.
pub const THREAD_STRIDE: u64 = 0x10_0000;
/// The heap region: pages are added to it on demand.
pub const HEAP_BASE: u64 = 0xE_8000_0000;
/// End of the heap region.
pub const HEAP_END: u64 = ELRANGE_SIZE;
/// Most thread slots that fit between [`THREADS_BASE`] and [`HEAP_BASE`].
pub const MAX_THREADS: u64 = (HEAP_BASE - THREADS_BASE) / THREAD_STRIDE;
/// Of these, the slots that threads of programs leave free, for ECALLs such as Kill.
pub const SPARE_THREADS: u64 = 2;

/// Pages of one State Save Area frame (SECS.SSAFRAMESIZE).
pub const SSA_FRAME_PAGES: u64 = 4;
/// SSA frames of a thread (TCS.NSSA): user code, the exception handler, an interrupt of the handler.
pub const SSA_FRAMES: u64 = 3;

/// Offsets in a thread slot, in bytes.
pub mod slot {
    use super::{PAGE_SIZE, SSA_FRAME_PAGES, SSA_FRAMES};

    /// The Thread Control Structure.
    pub const TCS: u64 = 0;
    /// The SSA frames.
    pub const SSA: u64 = PAGE_SIZE;
    /// The [`super::ThreadArea`] and the XSAVE area that follows it.
    pub const AREA: u64 = SSA + SSA_FRAMES * SSA_FRAME_PAGES * PAGE_SIZE;
    /// Pages of the thread area: the structure itself, then the XSAVE area of the user program.
    pub const AREA_PAGES: u64 = 5;
    /// Offset of the XSAVE area from the start of the thread area.
    pub const XSAVE_IN_AREA: u64 = PAGE_SIZE;
    /// The stack of the exception handler (grows down from its end). A guard page lies below it.
    pub const EXCEPTION_STACK: u64 = AREA + (AREA_PAGES + 1) * PAGE_SIZE;
    /// Pages of the exception stack.
    pub const EXCEPTION_STACK_PAGES: u64 = 4;
    /// The kernel stack (grows down from its end). A guard page lies below it.
    pub const KERNEL_STACK: u64 = EXCEPTION_STACK + (EXCEPTION_STACK_PAGES + 1) * PAGE_SIZE;
    /// Pages of the kernel stack.
    pub const KERNEL_STACK_PAGES: u64 = 64;
    /// End of what a slot uses.
    pub const END: u64 = KERNEL_STACK + KERNEL_STACK_PAGES * PAGE_SIZE;
    const _: () = assert!(END <= super::THREAD_STRIDE);
}

/// Address of thread slot `index`.
#[must_use]
pub const fn thread_slot(index: u64) -> u64 {
    THREADS_BASE + index * THREAD_STRIDE
}

/// The first thing in the measured configuration pages; [`ThreadArea::layout`] points to it.
///
/// All addresses are linear addresses in ELRANGE, all sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EnclaveLayout {
    /// [`crate::EDGE_VERSION`] of the builder.
    pub version: u32,
    /// 1 if SECS.ATTRIBUTES.DEBUG is meant to be set: only then does the enclave log.
    pub debuggable: u32,
    /// Start of ELRANGE.
    pub elrange_base: u64,
    /// Size of ELRANGE.
    pub elrange_size: u64,
    /// Start of the LibOS image.
    pub image_base: u64,
    /// End of the LibOS image.
    pub image_end: u64,
    /// Start of the memory of user programs.
    pub user_base: u64,
    /// End of the memory of user programs.
    pub user_end: u64,
    /// Most bytes of user memory that may be committed at once.
    pub user_limit: u64,
    /// Start of the heap region.
    pub heap_base: u64,
    /// Most bytes of heap.
    pub heap_limit: u64,
    /// Thread slots that exist when the enclave starts.
    pub initial_threads: u64,
    /// Most thread slots.
    pub max_threads: u64,
    /// Address of the boot configuration (postcard).
    pub config: u64,
    /// Bytes of the boot configuration.
    pub config_len: u64,
}

/// What GS points to while the LibOS runs (TCS.OGSBASE): the state of one enclave thread.
///
/// The builder writes the fields up to [`ThreadArea::xsave`]; the rest starts as zero and belongs to the
/// trusted runtime's assembly, which addresses the fields by the offsets of this structure. The runtime
/// alone touches it after EINIT.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ThreadArea {
    /// Linear address of this structure.
    pub this: u64,
    /// The slot number.
    pub index: u64,
    /// Address of the [`EnclaveLayout`].
    pub layout: u64,
    /// Address of this thread's TCS.
    pub tcs: u64,
    /// Address of the first SSA frame.
    pub ssa: u64,
    /// Top of the kernel stack.
    pub kernel_stack: u64,
    /// Top of the exception stack.
    pub exception_stack: u64,
    /// Address of the XSAVE area of the user program (64-byte aligned).
    pub xsave: u64,
    /// Runtime state, starting with zero.
    pub state: [u64; 64],
}

const _: () = assert!(size_of::<ThreadArea>() <= 4096);
const _: () = assert!(offset_of!(ThreadArea, state) == 64);

const _: () = {
    assert!(IMAGE_BASE < THREADS_BASE);
    assert!(THREADS_BASE + MAX_THREADS * THREAD_STRIDE <= HEAP_BASE);
    assert!(HEAP_BASE < HEAP_END);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_slot_are_page_aligned() {
        for part in [slot::SSA, slot::AREA, slot::EXCEPTION_STACK, slot::KERNEL_STACK, slot::END] {
            assert_eq!(part % PAGE_SIZE, 0);
        }
    }
}
