//! The per-thread state behind GS.
//!
//! [`ThreadArea::state`] is an array of words that assembly addresses as `gs:[offset]`; the constants here are those
//! offsets. Only the thread itself touches its area, in kernel code or in the exception handler, and the
//! handler only at moments when the interrupted code tolerates it (see the comments of [`crate::entry`]).

use core::arch::asm;
use core::mem::offset_of;
use edge_abi::layout::ThreadArea;

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $index:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: usize = offset_of!(ThreadArea, state) + 8 * $index;)+
    };
}

/// Address of the area itself.
pub const THIS: usize = offset_of!(ThreadArea, this);
/// The slot number.
pub const INDEX: usize = offset_of!(ThreadArea, index);
/// Address of the layout.
pub const LAYOUT: usize = offset_of!(ThreadArea, layout);
/// Address of the first SSA frame.
pub const SSA: usize = offset_of!(ThreadArea, ssa);
/// Top of the kernel stack.
pub const KERNEL_STACK: usize = offset_of!(ThreadArea, kernel_stack);
/// Top of the exception stack.
pub const EXCEPTION_STACK: usize = offset_of!(ThreadArea, exception_stack);
/// Address of the XSAVE area of the user program.
pub const XSAVE: usize = offset_of!(ThreadArea, xsave);

words! {
    /// The host's RSP, to leave with.
    HOST_RSP = 0;
    /// The host's RBP, to leave with.
    HOST_RBP = 1;
    /// Where EEXIT goes.
    HOST_RETURN = 2;
    /// Address of the edge frame (checked: outside ELRANGE).
    FRAME = 3;
    /// Address of the buffer beside it (checked).
    BUFFER = 4;
    /// Bytes of the buffer.
    BUFFER_LEN = 5;
    /// Kernel RSP of an OCALL under way, or 0.
    OCALL_RSP = 6;
    /// Kernel RSP at `run_user`.
    KERNEL_RSP = 7;
    /// 1 while user code runs (or is being entered), 0 in the kernel.
    MODE = 8;
    /// Address of the `UserRegisters` of `run_user`.
    REGISTERS = 9;
    /// 1 if the whole user xstate is in the XSAVE area; 0 if only xmm0-15 are and the rest is in the registers.
    XSTATE_SAVED = 10;
    /// Vector of the exception that ended user code.
    TRAP_VECTOR = 11;
    /// Its error code.
    TRAP_ERROR = 12;
    /// Its address.
    TRAP_ADDRESS = 13;
    /// Scratch of the user switch: RIP to go to.
    USER_RIP = 14;
    /// Scratch of the user switch: RSP.
    USER_RSP = 15;
    /// 1 if an interrupt came that the kernel has not seen.
    INTERRUPTED = 16;
    /// Mask of extended features (XFRM).
    XFRM = 17;
    /// The host's RSP of the exception handler.
    HANDLER_HOST_RSP = 18;
    /// The host's RBP of the exception handler.
    HANDLER_HOST_RBP = 19;
    /// Where the exception handler leaves to.
    HANDLER_RETURN = 20;
    /// What the exception handler leaves with in RDI.
    HANDLER_EXIT = 21;
    /// 1 while an ECALL runs on this thread.
    BUSY = 22;
}

/// Reads a word of the calling thread's area.
#[inline(always)]
#[must_use]
pub fn get<const OFFSET: usize>() -> u64 {
    let value;
    // SAFETY: GS points to the ThreadArea of this thread while the LibOS runs, and OFFSET is inside it.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) value, const OFFSET, options(nostack, readonly, preserves_flags));
    }
    value
}

/// Writes a word of the calling thread's area.
///
/// # Safety
/// The word must be one whose value no assembly path relies on being something else at this point.
#[inline(always)]
pub unsafe fn set<const OFFSET: usize>(value: u64) {
    // SAFETY: as in `get`; the caller vouches for the meaning.
    unsafe {
        asm!("mov gs:[{}], {}", const OFFSET, in(reg) value, options(nostack, preserves_flags));
    }
}
