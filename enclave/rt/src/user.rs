//! Switching to user code and back.
//!
//! [`run_user`] enters user code in a loop; [`syscall_entry`] (where rewritten system calls jump) and the exception handler
//! end up behind the place where it did.
//!
//! Nothing on the way from user code to the loop and back is a call or a return. Processors predict returns by a stack of the
//! calls before: so it is still that of the program when its own function, which made the system call, returns. Two wrong
//! predictions for each call of a C library cost as much as the rest of a short system call.
//!
//! # The two windows
//!
//! An interrupt that comes in kernel code is noted in `INTERRUPTED` and looked at before user code is entered again. Two
//! stretches of code run with `MODE` = 1 but are not user code, and the handler knows them by address:
//!
//! * `[user_window_start, user_window_end)`: `run_user` has looked at `INTERRUPTED` or is about to, and loads registers. The
//!   handler sends it to `user_abort`, which is in the window itself until it has set `MODE`: nothing is lost, because the
//!   registers are only read here.
//! * `[syscall_entry, syscall_entry_end)`: user code is on its way in. The handler notes the interrupt and lets it go on.

use crate::area;
use core::arch::{asm, naked_asm};
use core::cell::RefCell;
use core::mem::offset_of;
use core::ops::ControlFlow;
use platform::{Trap, UserRegisters};

const TRAP_SYSCALL: u64 = 0;
const TRAP_CPUID: u64 = 1;
/// RAX of `run_user` after an exception.
pub(crate) const TRAP_EXCEPTION: u64 = 2;
/// RAX of `run_user` after an interrupt.
pub(crate) const TRAP_INTERRUPT: u64 = 3;

/// Flags that user code may have set: the status flags, DF and the two that need no privilege (ID is left out).
const USER_FLAGS: u64 = 0xcd5;

/// The direction flag.
const DIRECTION_FLAG: u64 = 1 << 10;

/// Flags of a program that must not be set in kernel code: DF, TF and AC.
const UNWANTED_FLAGS: u64 = DIRECTION_FLAG | 1 << 8 | 1 << 18;

/// Offset of xmm0 in an XSAVE area.
const XMM: usize = 160;
/// Offset of XSTATE_BV in an XSAVE area.
const XSTATE_BV: usize = 512;

/// Enters user code with the registers at RDI. Goes on at the address on top of the stack, as a function returns, with a trap
/// number in RAX and the registers of the caller as the C ABI says.
///
/// # Safety
/// Kernel code on a kernel stack; the registers are valid until it goes on and nothing else refers to them; their RFLAGS
/// hold only [`USER_FLAGS`].
#[unsafe(naked)]
unsafe extern "C" fn enter_user() {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov gs:[{kernel_rsp}], rsp",
        "mov gs:[{registers}], rdi",
        "rdfsbase rax",
        "mov rcx, [rdi + {fs_base}]",
        "cmp rax, rcx",
        "je 2f",
        "wrfsbase rcx",
        "2:",
        "mov rsi, gs:[{xsave}]",
        "cmp qword ptr gs:[{saved}], 0",
        "jne 3f",
        "movups xmm0, [rsi + {xmm}]",
        "movups xmm1, [rsi + {xmm} + 16]",
        "movups xmm2, [rsi + {xmm} + 32]",
        "movups xmm3, [rsi + {xmm} + 48]",
        "movups xmm4, [rsi + {xmm} + 64]",
        "movups xmm5, [rsi + {xmm} + 80]",
        "movups xmm6, [rsi + {xmm} + 96]",
        "movups xmm7, [rsi + {xmm} + 112]",
        "movups xmm8, [rsi + {xmm} + 128]",
        "movups xmm9, [rsi + {xmm} + 144]",
        "movups xmm10, [rsi + {xmm} + 160]",
        "movups xmm11, [rsi + {xmm} + 176]",
        "movups xmm12, [rsi + {xmm} + 192]",
        "movups xmm13, [rsi + {xmm} + 208]",
        "movups xmm14, [rsi + {xmm} + 224]",
        "movups xmm15, [rsi + {xmm} + 240]",
        "jmp 4f",
        "3:",
        "mov eax, gs:[{xfrm}]",
        "mov edx, gs:[{xfrm} + 4]",
        "xrstor64 [rsi]",
        "mov qword ptr gs:[{saved}], 0",
        "4:",
        "mov rax, [rdi + {rip}]",
        "mov gs:[{user_rip}], rax",
        "mov rax, [rdi + {rsp}]",
        "mov gs:[{user_rsp}], rax",
        "mov qword ptr gs:[{mode}], 1",
        ".globl occlum_user_window_start",
        "occlum_user_window_start:",
        "cmp qword ptr gs:[{interrupted}], 0",
        "jne occlum_user_abort",
        // `popfq` costs as much as all of the moves: it is left to programs that set DF. The flags of kernel code that are
        // not status flags are as the program's otherwise: clear.
        "mov eax, [rdi + {rflags}]",
        "test eax, {direction}",
        "jnz 7f",
        "mov ecx, eax",
        "shr ecx, 11",
        "mov ah, al",
        // OF is set if the lowest bit of CL, which is the OF to be, carries into the sign; SAHF sets the other five.
        "add cl, 0x7f",
        "sahf",
        "8:",
        "mov rax, [rdi + {rax}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "mov rsp, gs:[{user_rsp}]",
        "jmp qword ptr gs:[{user_rip}]",
        "7:",
        "lea rsp, [rdi + {rflags}]",
        "popfq",
        "jmp 8b",
        // Gives up: goes on behind `enter_user` with an interrupt. In the window as long as MODE is 1, because an interrupt may
        // come before the first instruction, and another before ERESUME has got to it.
        ".globl occlum_user_abort",
        "occlum_user_abort:",
        "mov qword ptr gs:[{mode}], 0",
        ".globl occlum_user_window_end",
        "occlum_user_window_end:",
        "mov qword ptr gs:[{interrupted}], 0",
        "mov eax, {interrupt}",
        "jmp {back}",
        rax = const offset_of!(UserRegisters, rax),
        rbx = const offset_of!(UserRegisters, rbx),
        rcx = const offset_of!(UserRegisters, rcx),
        rdx = const offset_of!(UserRegisters, rdx),
        rsi = const offset_of!(UserRegisters, rsi),
        rdi = const offset_of!(UserRegisters, rdi),
        rbp = const offset_of!(UserRegisters, rbp),
        rsp = const offset_of!(UserRegisters, rsp),
        r8 = const offset_of!(UserRegisters, r8),
        r9 = const offset_of!(UserRegisters, r9),
        r10 = const offset_of!(UserRegisters, r10),
        r11 = const offset_of!(UserRegisters, r11),
        r12 = const offset_of!(UserRegisters, r12),
        r13 = const offset_of!(UserRegisters, r13),
        r14 = const offset_of!(UserRegisters, r14),
        r15 = const offset_of!(UserRegisters, r15),
        rip = const offset_of!(UserRegisters, rip),
        rflags = const offset_of!(UserRegisters, rflags),
        fs_base = const offset_of!(UserRegisters, fs_base),
        mode = const area::MODE,
        registers = const area::REGISTERS,
        kernel_rsp = const area::KERNEL_RSP,
        user_rip = const area::USER_RIP,
        user_rsp = const area::USER_RSP,
        xsave = const area::XSAVE,
        saved = const area::XSTATE_SAVED,
        xfrm = const area::XFRM,
        interrupted = const area::INTERRUPTED,
        direction = const DIRECTION_FLAG,
        xmm = const XMM,
        interrupt = const TRAP_INTERRUPT,
        back = sym trap_return,
    )
}

/// Goes on behind `enter_user` with RAX. The exception handler resumes here after it stored the user's state.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn trap_return() {
    naked_asm!(
        "mov rsp, gs:[{kernel_rsp}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop rcx",
        "jmp rcx",
        kernel_rsp = const area::KERNEL_RSP,
    )
}

/// Where rewritten system calls jump: RAX = number, RCX = address to return to, everything else the program's.
///
/// # Safety
/// Only as the target of a jump from user code.
#[unsafe(naked)]
pub unsafe extern "C" fn syscall_entry() {
    naked_asm!(
        ".globl occlum_syscall_entry_start",
        "occlum_syscall_entry_start:",
        "mov gs:[{user_rsp}], rsp",
        "mov rsp, gs:[{registers}]",
        "mov [rsp + {rdx}], rdx",
        "mov [rsp + {rcx}], rcx",
        "mov [rsp + {rip}], rcx",
        // Nothing before `pushfq` may change the flags.
        "mov ecx, 0",
        "jmp 5f",
        // Where rewritten `cpuid` jumps: RDX (which it overwrites anyway) = address to return to.
        ".globl occlum_cpuid_entry",
        "occlum_cpuid_entry:",
        "mov gs:[{user_rsp}], rsp",
        "mov rsp, gs:[{registers}]",
        "mov [rsp + {rcx}], rcx",
        "mov [rsp + {rip}], rdx",
        "mov ecx, 1",
        "5:",
        "mov [rsp + {rax}], rax",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {r8}], r8",
        "mov [rsp + {r9}], r9",
        "mov [rsp + {r10}], r10",
        "mov [rsp + {r11}], r11",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r15}], r15",
        "mov r11, rsp",
        "lea rsp, [rsp + {rflags} + 8]",
        "pushfq",
        "mov rax, gs:[{user_rsp}]",
        "mov [r11 + {rsp}], rax",
        "rdfsbase rax",
        "mov [r11 + {fs_base}], rax",
        "mov rsi, gs:[{xsave}]",
        "movups [rsi + {xmm}], xmm0",
        "movups [rsi + {xmm} + 16], xmm1",
        "movups [rsi + {xmm} + 32], xmm2",
        "movups [rsi + {xmm} + 48], xmm3",
        "movups [rsi + {xmm} + 64], xmm4",
        "movups [rsi + {xmm} + 80], xmm5",
        "movups [rsi + {xmm} + 96], xmm6",
        "movups [rsi + {xmm} + 112], xmm7",
        "movups [rsi + {xmm} + 128], xmm8",
        "movups [rsi + {xmm} + 144], xmm9",
        "movups [rsi + {xmm} + 160], xmm10",
        "movups [rsi + {xmm} + 176], xmm11",
        "movups [rsi + {xmm} + 192], xmm12",
        "movups [rsi + {xmm} + 208], xmm13",
        "movups [rsi + {xmm} + 224], xmm14",
        "movups [rsi + {xmm} + 240], xmm15",
        "mov rax, rcx",
        "mov rsp, gs:[{kernel_rsp}]",
        // DF, and what would make kernel code fault: AC and TF.
        "test dword ptr [r11 + {rflags}], {unwanted}",
        "jz 6f",
        "push 2",
        "popfq",
        "6:",
        "mov qword ptr gs:[{mode}], 0",
        ".globl occlum_syscall_entry_end",
        "occlum_syscall_entry_end:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop rcx",
        "jmp rcx",
        rax = const offset_of!(UserRegisters, rax),
        rbx = const offset_of!(UserRegisters, rbx),
        rcx = const offset_of!(UserRegisters, rcx),
        rdx = const offset_of!(UserRegisters, rdx),
        rsi = const offset_of!(UserRegisters, rsi),
        rdi = const offset_of!(UserRegisters, rdi),
        rbp = const offset_of!(UserRegisters, rbp),
        rsp = const offset_of!(UserRegisters, rsp),
        r8 = const offset_of!(UserRegisters, r8),
        r9 = const offset_of!(UserRegisters, r9),
        r10 = const offset_of!(UserRegisters, r10),
        r11 = const offset_of!(UserRegisters, r11),
        r12 = const offset_of!(UserRegisters, r12),
        r13 = const offset_of!(UserRegisters, r13),
        r14 = const offset_of!(UserRegisters, r14),
        r15 = const offset_of!(UserRegisters, r15),
        rip = const offset_of!(UserRegisters, rip),
        rflags = const offset_of!(UserRegisters, rflags),
        fs_base = const offset_of!(UserRegisters, fs_base),
        mode = const area::MODE,
        registers = const area::REGISTERS,
        kernel_rsp = const area::KERNEL_RSP,
        user_rsp = const area::USER_RSP,
        xsave = const area::XSAVE,
        xmm = const XMM,
        unwanted = const UNWANTED_FLAGS,
    )
}

unsafe extern "C" {
    safe static occlum_user_window_start: u8;
    safe static occlum_user_window_end: u8;
    safe static occlum_user_abort: u8;
    safe static occlum_syscall_entry_start: u8;
    safe static occlum_syscall_entry_end: u8;
    safe static occlum_cpuid_entry: u8;
}

/// Whether an address is in the window in which user code is being entered.
pub(crate) fn in_user_window(rip: u64) -> bool {
    (&raw const occlum_user_window_start as u64..&raw const occlum_user_window_end as u64).contains(&rip)
}

/// Where a thread in that window turns back.
pub(crate) fn user_abort_address() -> u64 {
    &raw const occlum_user_abort as u64
}

/// Whether an address is in the window in which user code enters the kernel.
pub(crate) fn in_syscall_window(rip: u64) -> bool {
    (&raw const occlum_syscall_entry_start as u64..&raw const occlum_syscall_entry_end as u64).contains(&rip)
}

/// Address of [`syscall_entry`].
pub(crate) fn syscall_entry_address() -> u64 {
    syscall_entry as *const () as u64
}

/// Address where rewritten `cpuid` instructions jump.
pub(crate) fn cpuid_entry_address() -> u64 {
    &raw const occlum_cpuid_entry as u64
}

/// [`platform::UserCpu::run_user`].
pub(crate) fn run_user(registers: &RefCell<UserRegisters>, kernel: &mut dyn FnMut(Trap) -> ControlFlow<()>) {
    loop {
        let trap = run_once(&mut registers.borrow_mut());
        if kernel(trap).is_break() {
            return;
        }
    }
}

/// Runs user code until it traps. Inlined, or its own return would be one too many for the prediction.
#[inline(always)]
fn run_once(registers: &mut UserRegisters) -> Trap {
    registers.rflags = registers.rflags & USER_FLAGS | 2;
    let trap: u64;
    // SAFETY: kernel code calls this on its kernel stack; the exclusive reference covers the time in user code. RSP is
    // aligned here as before a call, and the clobbers are those of one.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "push rax",
            "jmp {enter_user}",
            "2:",
            enter_user = sym enter_user,
            inout("rdi") &raw mut *registers => _,
            out("rax") trap,
            clobber_abi("C"),
        );
    }
    match trap {
        TRAP_SYSCALL => {
            // What the instruction leaves in R11; RCX was stored as the return address already.
            registers.r11 = registers.rflags;
            Trap::Syscall
        }
        TRAP_CPUID => Trap::Cpuid,
        TRAP_EXCEPTION => Trap::Exception {
            vector: area::get::<{ area::TRAP_VECTOR }>().to_le_bytes()[0],
            error_code: area::get::<{ area::TRAP_ERROR }>() as u32,
            address: area::get::<{ area::TRAP_ADDRESS }>(),
        },
        _ => Trap::Interrupt,
    }
}

/// Stores the user's extended state in the XSAVE area if it is still in the registers (all but xmm, which
/// [`syscall_entry`] stored).
pub(crate) fn ensure_xstate_saved() {
    if area::get::<{ area::XSTATE_SAVED }>() != 0 {
        return;
    }
    let xsave = area::get::<{ area::XSAVE }>();
    let features = area::get::<{ area::XFRM }>();
    // SSE is left out: its registers were stored at entry and hold kernel values now.
    let mask = features & !2;
    // SAFETY: the XSAVE area of this thread is 64-byte aligned and large enough for XFRM.
    unsafe {
        asm!("xsave64 [{}]", in(reg) xsave, in("eax") mask as u32, in("edx") (mask >> 32) as u32, options(nostack));
    }
    // SAFETY: XSTATE_BV is inside the XSAVE area.
    unsafe {
        asm!("or qword ptr [{} + {}], 2", in(reg) xsave, const XSTATE_BV, options(nostack));
    }
    // SAFETY: the area holds the whole state now.
    unsafe { area::set::<{ area::XSTATE_SAVED }>(1) };
}
