//! Assembly of the border: EENTER, EEXIT, OCALL and the exception entry.
//!
//! At EENTER the processor sets RAX = CSSA, RBX = TCS, RCX = where EEXIT shall go, FS and GS from the TCS;
//! every other register is the host's. Nothing of it is trusted: flags, MXCSR and the x87 control word are reset
//! before Rust code runs, and the stack is switched before anything is pushed.
//!
//! At EEXIT every register that the protocol does not use is cleared, vector registers included.

use crate::area;
use core::arch::naked_asm;
use edge_abi::ecall::{ENTER_OCALL_RETURN, EXIT_DONE, EXIT_OCALL, EXIT_RESUME};

/// The MXCSR of the ABI: all exceptions masked.
pub(crate) static MXCSR: u32 = 0x1f80;

/// An XSAVE area that says "initial state": XRSTOR from it scrubs every component.
#[repr(C, align(64))]
pub(crate) struct InitialXstate([u8; 576]);

pub(crate) static INITIAL_XSTATE: InitialXstate = {
    let mut area = [0; 576];
    // FCW and MXCSR, in case a component is asked for whose bit is set elsewhere.
    area[0] = 0x7f;
    area[1] = 0x03;
    area[24] = 0x80;
    area[25] = 0x1f;
    InitialXstate(area)
};

/// Where the enclave's entry point jumps, with R11 = the ECALL dispatcher `extern "C" fn(number, frame)`.
///
/// # Safety
/// Only as the target of EENTER.
#[unsafe(naked)]
pub unsafe extern "C" fn enter() {
    naked_asm!(
        "cld",
        "test rax, rax",
        "jnz 50f",
        // CSSA = 0: a new ECALL, or the return from an OCALL.
        "mov r10, gs:[{ocall_rsp}]",
        "test r10, r10",
        "jnz 20f",
        "cmp rdi, {ocall_return}",
        "je 30f",
        "mov gs:[{host_rsp}], rsp",
        "mov gs:[{host_rbp}], rbp",
        "mov gs:[{host_return}], rcx",
        "mov rsp, gs:[{kernel_stack}]",
        "push 2",
        "popfq",
        "ldmxcsr [rip + {mxcsr}]",
        "fninit",
        "xor ebp, ebp",
        "call r11",
        "mov edi, {exit_done}",
        "jmp {leave}",
        // The return from an OCALL: only when one is under way and the host says that it is one.
        "20:",
        "cmp rdi, {ocall_return}",
        "jne 30f",
        "mov gs:[{host_rsp}], rsp",
        "mov gs:[{host_rbp}], rbp",
        "mov gs:[{host_return}], rcx",
        "mov rsp, r10",
        "mov qword ptr gs:[{ocall_rsp}], 0",
        // RDX: an interrupt came while the thread was outside.
        "test rdx, rdx",
        "jz 25f",
        "mov qword ptr gs:[{interrupted}], 1",
        "25:",
        "push 2",
        "popfq",
        "ldmxcsr [rip + {mxcsr}]",
        "fninit",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        // The host broke the protocol: leave as it came.
        "30:",
        "mov rbx, rcx",
        "mov edi, {exit_done}",
        "mov eax, 4",
        "enclu",
        // CSSA > 0: an exception or an interrupt of what runs at CSSA - 1.
        "50:",
        "cmp rax, 1",
        "ja 60f",
        "mov gs:[{handler_host_rsp}], rsp",
        "mov gs:[{handler_host_rbp}], rbp",
        "mov gs:[{handler_return}], rcx",
        "mov qword ptr gs:[{handler_exit}], {exit_resume}",
        "mov rsp, gs:[{exception_stack}]",
        "push 2",
        "popfq",
        "ldmxcsr [rip + {mxcsr}]",
        "xor ebp, ebp",
        "call {handler}",
        "mov rdi, gs:[{handler_exit}]",
        "mov rsp, gs:[{handler_host_rsp}]",
        "mov rbp, gs:[{handler_host_rbp}]",
        "mov rbx, gs:[{handler_return}]",
        "xorps xmm0, xmm0",
        "xorps xmm1, xmm1",
        "xorps xmm2, xmm2",
        "xorps xmm3, xmm3",
        "xorps xmm4, xmm4",
        "xorps xmm5, xmm5",
        "xorps xmm6, xmm6",
        "xorps xmm7, xmm7",
        "xorps xmm8, xmm8",
        "xorps xmm9, xmm9",
        "xorps xmm10, xmm10",
        "xorps xmm11, xmm11",
        "xorps xmm12, xmm12",
        "xorps xmm13, xmm13",
        "xorps xmm14, xmm14",
        "xorps xmm15, xmm15",
        "jmp {scrub_and_exit}",
        // CSSA > 1: an interrupt of the exception handler itself. Note it and let the handler go on.
        "60:",
        "mov qword ptr gs:[{interrupted}], 1",
        "mov rbx, rcx",
        "mov edi, {exit_resume}",
        "mov eax, 4",
        "enclu",
        ocall_rsp = const area::OCALL_RSP,
        host_rsp = const area::HOST_RSP,
        host_rbp = const area::HOST_RBP,
        host_return = const area::HOST_RETURN,
        kernel_stack = const area::KERNEL_STACK,
        exception_stack = const area::EXCEPTION_STACK,
        handler_host_rsp = const area::HANDLER_HOST_RSP,
        handler_host_rbp = const area::HANDLER_HOST_RBP,
        handler_return = const area::HANDLER_RETURN,
        handler_exit = const area::HANDLER_EXIT,
        interrupted = const area::INTERRUPTED,
        ocall_return = const ENTER_OCALL_RETURN,
        exit_done = const EXIT_DONE,
        exit_resume = const EXIT_RESUME,
        mxcsr = sym MXCSR,
        leave = sym leave,
        scrub_and_exit = sym scrub_and_exit,
        handler = sym crate::exception::handle,
    )
}

/// Leaves the enclave from the kernel stack with RDI as it is.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!(
        // Scrub the extended state.
        "mov eax, gs:[{xfrm}]",
        "mov edx, gs:[{xfrm} + 4]",
        "xrstor64 [rip + {initial}]",
        "mov rsp, gs:[{host_rsp}]",
        "mov rbp, gs:[{host_rbp}]",
        "mov rbx, gs:[{host_return}]",
        "jmp {scrub_and_exit}",
        xfrm = const area::XFRM,
        initial = sym INITIAL_XSTATE,
        host_rsp = const area::HOST_RSP,
        host_rbp = const area::HOST_RBP,
        host_return = const area::HOST_RETURN,
        scrub_and_exit = sym scrub_and_exit,
    )
}

/// EEXIT to RBX with RDI; RSP and RBP are the host's already.
#[unsafe(naked)]
unsafe extern "C" fn scrub_and_exit() {
    naked_asm!(
        "xor edx, edx",
        "xor esi, esi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "cld",
        "mov eax, 4",
        "enclu",
    )
}

/// Leaves the enclave for the OCALL that the frame holds and returns when the host is back.
///
/// # Safety
/// The user xstate must have been saved ([`crate::user::ensure_xstate_saved`]) and the frame filled.
#[cfg_attr(fuzzing, allow(dead_code, reason = "a closure is the host"))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn ocall_exit() {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov gs:[{ocall_rsp}], rsp",
        "mov edi, {exit_ocall}",
        "jmp {leave}",
        ocall_rsp = const area::OCALL_RSP,
        exit_ocall = const EXIT_OCALL,
        leave = sym leave,
    )
}

/// Leaves the enclave for good: the host must not enter this thread again.
///
/// # Safety
/// Always sound; nothing of this thread runs afterwards. The frame may hold a message.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn abort_exit() -> ! {
    naked_asm!(
        "mov edi, {exit_abort}",
        "jmp {leave}",
        exit_abort = const edge_abi::ecall::EXIT_ABORT,
        leave = sym leave,
    )
}
