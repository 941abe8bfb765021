//! What an AEX means.
//!
//! [`handle`] runs at CSSA = 1 on the exception stack with the interrupted state in SSA frame 0. It takes no lock and
//! allocates nothing. It never lets a hardware exception of user code be anything but a return from `run_user`, and
//! never lets one of kernel code be anything but a fix-up or the end of the enclave.

use crate::{area, copy, user};
use core::arch::asm;
use core::mem::offset_of;
use edge_abi::ecall::EXIT_ABORT;
use edge_abi::layout::{PAGE_SIZE, SSA_FRAME_PAGES};
use platform::UserRegisters;
use sgx_arch::{EXINFO_FROM_END, Exinfo, ExitInfo, GPRSGX_FROM_END, Gprsgx, XSAVE_LEGACY};

const PAGE_FAULT: u8 = 14;
const GENERAL_PROTECTION: u8 = 13;
/// RFLAGS with nothing but the bit that is always set.
const CLEAN_FLAGS: u64 = 2;
const XSTATE_BV: u64 = 512;

/// Looks at SSA frame 0 and decides how the thread goes on after ERESUME.
pub(crate) extern "C" fn handle() {
    let frame = area::get::<{ area::SSA }>();
    let frame_end = frame + SSA_FRAME_PAGES * PAGE_SIZE;
    let gpr = (frame_end - GPRSGX_FROM_END) as *mut Gprsgx;
    // SAFETY: the SSA frame is enclave memory that the processor filled at the AEX; this handler alone touches
    // it until ERESUME.
    let mut registers = unsafe { gpr.read() };
    let in_user_mode = area::get::<{ area::MODE }>() != 0;
    let exit = registers.exitinfo;

    if in_user_mode && user::in_user_window(registers.rip) {
        // Not user code yet: turn back. The registers of the program were only read.
        registers.rip = user::user_abort_address();
        registers.rflags = CLEAN_FLAGS;
    } else if in_user_mode && user::in_syscall_window(registers.rip) {
        // On its way into the kernel: let it arrive.
        note_interrupt();
        return;
    } else if in_user_mode {
        let trap = if exit.valid() {
            // SAFETY: as for `gpr`.
            let exinfo = unsafe { ((frame_end - EXINFO_FROM_END) as *const Exinfo).read() };
            let vector = exit.vector();
            let has_details = matches!(vector, PAGE_FAULT | GENERAL_PROTECTION);
            // SAFETY: the trap words are read by `run_user` after `trap_return` only.
            unsafe { area::set::<{ area::TRAP_VECTOR }>(u64::from(vector)) };
            // SAFETY: as above.
            unsafe {
                area::set::<{ area::TRAP_ERROR }>(if has_details { u64::from(exinfo.errcd) } else { 0 })
            };
            // SAFETY: as above.
            unsafe { area::set::<{ area::TRAP_ADDRESS }>(if has_details { exinfo.maddr } else { 0 }) };
            user::TRAP_EXCEPTION
        } else {
            // SAFETY: this interrupt is being delivered.
            unsafe { area::set::<{ area::INTERRUPTED }>(0) };
            user::TRAP_INTERRUPT
        };
        leave_user(frame, &mut registers, trap);
    } else if !exit.valid() {
        note_interrupt();
        return;
    } else if let Some(landing) = copy::fixup(registers.rip) {
        registers.rip = landing;
    } else {
        // The LibOS itself is at fault. Nothing it holds can be trusted to be consistent.
        // SAFETY: the thread ends here.
        unsafe { area::set::<{ area::HANDLER_EXIT }>(EXIT_ABORT) };
        // SAFETY: as for `gpr`.
        let exinfo = unsafe { ((frame_end - EXINFO_FROM_END) as *const Exinfo).read() };
        crate::panic::report_fault(&registers, &exinfo);
        return;
    }
    // It is dealt with. The host may enter here again without another exit of this thread, as it does for an interrupt that
    // comes before ERESUME is through, and must not have the same exception seen twice.
    registers.exitinfo = ExitInfo::default();
    // SAFETY: as for the read above.
    unsafe { gpr.write(registers) };
}

fn note_interrupt() {
    // SAFETY: `enter_user` looks at the word before it enters user code.
    unsafe { area::set::<{ area::INTERRUPTED }>(1) };
}

/// Stores the user's state and makes ERESUME return from `enter_user`.
fn leave_user(frame: u64, ssa: &mut Gprsgx, trap: u64) {
    let stored = area::get::<{ area::REGISTERS }>() as *mut UserRegisters;
    let values = UserRegisters {
        rax: ssa.rax,
        rbx: ssa.rbx,
        rcx: ssa.rcx,
        rdx: ssa.rdx,
        rsi: ssa.rsi,
        rdi: ssa.rdi,
        rbp: ssa.rbp,
        rsp: ssa.rsp,
        r8: ssa.r8,
        r9: ssa.r9,
        r10: ssa.r10,
        r11: ssa.r11,
        r12: ssa.r12,
        r13: ssa.r13,
        r14: ssa.r14,
        r15: ssa.r15,
        rip: ssa.rip,
        rflags: ssa.rflags,
        fs_base: ssa.fsbase,
    };
    // SAFETY: REGISTERS is valid and exclusively ours while MODE is 1 (`enter_user`'s contract).
    unsafe { stored.write(values) };
    // SAFETY: both areas are at least as large as the extended state and lie in enclave memory; the XSAVE area
    // is this thread's, and kernel code does not run now.
    unsafe { copy_xstate(frame, area::get::<{ area::XSAVE }>(), user_xstate_len()) };
    // The kernel goes on with the initial extended state.
    // SAFETY: XSTATE_BV of the frame's XSAVE area; zero means that every component is initial.
    unsafe { ((frame + XSTATE_BV) as *mut u64).write(0) };
    // SAFETY: MXCSR is loaded even when XSTATE_BV is zero, so it must be the ABI's.
    unsafe { ((frame + 24) as *mut u32).write(crate::entry::MXCSR) };
    // SAFETY: the XSAVE area holds the whole state.
    unsafe { area::set::<{ area::XSTATE_SAVED }>(1) };
    // SAFETY: the thread is in the kernel from now on.
    unsafe { area::set::<{ area::MODE }>(0) };
    ssa.rax = trap;
    ssa.rip = user::trap_return as *const () as u64;
    ssa.rsp = area::get::<{ area::KERNEL_RSP }>();
    ssa.rflags = CLEAN_FLAGS;
}

/// Bytes of the user's extended state, as the runtime found out at start.
fn user_xstate_len() -> u64 {
    crate::xstate::len().max(XSAVE_LEGACY)
}

/// # Safety
/// `from` and `to` are valid for `len` bytes and do not overlap.
unsafe fn copy_xstate(from: u64, to: u64, len: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _, options(nostack, preserves_flags));
    }
}

const _: () = assert!(offset_of!(Gprsgx, rip) == 136);
