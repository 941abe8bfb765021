//! EENTER, EEXIT, ERESUME and the asynchronous exit point, in assembly.
//!
//! All of it lies between two labels, so that a signal handler can tell by RIP that the thread was in here, and
//! where (see [`Window`]). Host callee-saved registers and the address of the [`EnclaveRun`] are on the host
//! stack, at [`ThreadBlock::host_rsp`].
//!
//! Writing a segment base costs more than all the rest of EENTER or EEXIT. So GS is only written where it differs, and
//! a host thread that has no use for it (its base was 0, as everywhere but in an emulator of Windows) does not get it
//! back: it then keeps what the enclave wants to find next time.

use crate::thread::ThreadBlock;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use sgx_arch::Gprsgx;
use sgx_device::EnclaveRun;

/// What [`enter`] came back with.
pub(crate) mod kind {
    /// The enclave executed EEXIT.
    pub(crate) const EEXIT: u32 = 0;
    /// An AEX happened.
    pub(crate) const AEX: u32 = 1;
    /// ERESUME found an interrupt pending and restored nothing.
    pub(crate) const INTERRUPTED: u32 = 2;
    /// ERESUME found an SSA frame that it cannot restore.
    pub(crate) const FAILED: u32 = 3;
}

global_asm!(
    ".pushsection .text.sgx_machine, \"ax\", @progbits",
    ".balign 64",
    ".hidden sgx_machine_begin, sgx_machine_enter, sgx_machine_eenter_jump, sgx_machine_resume_window",
    ".hidden sgx_machine_resume_end, sgx_machine_interrupted, sgx_machine_failed, sgx_machine_exit",
    ".hidden sgx_machine_aep, sgx_machine_end",
    ".globl sgx_machine_begin, sgx_machine_enter, sgx_machine_eenter_jump, sgx_machine_resume_window",
    ".globl sgx_machine_resume_end, sgx_machine_interrupted, sgx_machine_failed, sgx_machine_exit",
    ".globl sgx_machine_aep, sgx_machine_end",
    "sgx_machine_begin:",
    // extern "C" fn enter(block: rdi, run: rsi) -> kind
    "sgx_machine_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "mov r11, rdi",
    "mov [r11 + {HOST_RSP}], rsp",
    "mov r10, [r11 + {GPRSGX}]",
    "cmp dword ptr [rsi + {RUN_LEAF}], 3",
    "je sgx_machine_resume_window",
    // EENTER.
    "mov [r10 + {URSP}], rsp",
    "mov [r10 + {URBP}], rbp",
    "mov rax, [r11 + {FSBASE}]",
    "wrfsbase rax",
    "mov rax, [r11 + {GSBASE}]",
    "rdgsbase rdx",
    "cmp rax, rdx",
    "je 3f",
    "wrgsbase rax",
    "3:",
    "mov rdi, [rsi + {RUN_RDI}]",
    "mov rdx, [rsi + {RUN_RDX}]",
    "mov r8, [rsi + {RUN_R8}]",
    "mov r9, [rsi + {RUN_R9}]",
    "mov rsi, [rsi + {RUN_RSI}]",
    "mov rax, [r11 + {CSSA}]",
    "mov rbx, [r11 + {TCS}]",
    "mov rcx, [r11 + {LANDING}]",
    "mov r10, [r11 + {ENTRY}]",
    "mov dword ptr [r11 + {INSIDE}], 1",
    "sgx_machine_eenter_jump:",
    "jmp r10",
    // ERESUME. An interrupt up to the jump to the tail starts over at `interrupted`; a fault in here (the frame
    // is the enclave's to write) goes to `failed`.
    "sgx_machine_resume_window:",
    "cmp dword ptr [r11 + {PENDING}], 0",
    "jne sgx_machine_interrupted",
    "mov rcx, [r11 + {XSAVE}]",
    "mov eax, [r11 + {XFRM}]",
    "mov edx, [r11 + {XFRM} + 4]",
    "xrstor64 [rcx]",
    "mov rax, [r10 + {SSA_FSBASE}]",
    "wrfsbase rax",
    "mov rax, [r10 + {SSA_GSBASE}]",
    "rdgsbase rdx",
    "cmp rax, rdx",
    "je 3f",
    "wrgsbase rax",
    "3:",
    // CF PF AF ZF SF DF OF AC ID; TF only takes effect in debug enclaves under a debugger, and not here.
    "mov eax, [r10 + {RFLAGS}]",
    "and eax, 0x240cd5",
    "or eax, 0x202",
    "mov [r11 + {SLOT_RFLAGS}], rax",
    "mov rax, [r10 + {RSP}]",
    "mov [r11 + {SLOT_RSP}], rax",
    "mov rax, [r10 + {RIP}]",
    "mov [r11 + {SLOT_RIP}], rax",
    "push qword ptr [r11 + {TAIL}]",
    "mov rax, [r10 + {RAX}]",
    "mov rcx, [r10 + {RCX}]",
    "mov rdx, [r10 + {RDX}]",
    "mov rbx, [r10 + {RBX}]",
    "mov rbp, [r10 + {RBP}]",
    "mov rsi, [r10 + {RSI}]",
    "mov rdi, [r10 + {RDI}]",
    "mov r8, [r10 + {R8}]",
    "mov r9, [r10 + {R9}]",
    "mov r11, [r10 + {R11}]",
    "mov r12, [r10 + {R12}]",
    "mov r13, [r10 + {R13}]",
    "mov r14, [r10 + {R14}]",
    "mov r15, [r10 + {R15}]",
    "mov r10, [r10 + {R10}]",
    "ret",
    "sgx_machine_resume_end:",
    // Both with RSP = host_rsp and the host's FS and GS.
    "sgx_machine_interrupted:",
    "mov eax, {INTERRUPTED}",
    "jmp 2f",
    "sgx_machine_failed:",
    "mov eax, {FAILED}",
    "jmp 2f",
    // From the landing pad, after EEXIT: RCX = block, FS and GS and RSP are the enclave's.
    "sgx_machine_exit:",
    "mov rax, [rcx + {HOST_FS}]",
    "wrfsbase rax",
    "mov rax, [rcx + {HOST_GS}]",
    "test rax, rax",
    "jz 3f",
    "wrgsbase rax",
    "3:",
    "mov dword ptr [rcx + {INSIDE}], 0",
    "mov rsp, [rcx + {HOST_RSP}]",
    "mov rax, [rsp]",
    "mov [rax + {RUN_RDI}], rdi",
    "mov [rax + {RUN_RSI}], rsi",
    "mov [rax + {RUN_RDX}], rdx",
    "mov [rax + {RUN_R8}], r8",
    "mov [rax + {RUN_R9}], r9",
    "cld",
    "xor eax, eax",
    "jmp 2f",
    // The AEP: the signal handler has set RSP, FS and GS.
    "sgx_machine_aep:",
    "mov eax, {AEX}",
    "2:",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    "sgx_machine_end:",
    ".popsection",
    HOST_RSP = const offset_of!(ThreadBlock, host_rsp),
    HOST_FS = const offset_of!(ThreadBlock, host_fs),
    HOST_GS = const offset_of!(ThreadBlock, host_gs),
    INSIDE = const offset_of!(ThreadBlock, inside),
    PENDING = const offset_of!(ThreadBlock, pending),
    GPRSGX = const offset_of!(ThreadBlock, gprsgx),
    XSAVE = const offset_of!(ThreadBlock, xsave),
    XFRM = const offset_of!(ThreadBlock, xfrm),
    FSBASE = const offset_of!(ThreadBlock, fsbase),
    GSBASE = const offset_of!(ThreadBlock, gsbase),
    CSSA = const offset_of!(ThreadBlock, cssa),
    TCS = const offset_of!(ThreadBlock, tcs_address),
    LANDING = const offset_of!(ThreadBlock, landing),
    ENTRY = const offset_of!(ThreadBlock, entry),
    TAIL = const offset_of!(ThreadBlock, tail),
    SLOT_RFLAGS = const offset_of!(ThreadBlock, slot_rflags),
    SLOT_RSP = const offset_of!(ThreadBlock, slot_rsp),
    SLOT_RIP = const offset_of!(ThreadBlock, slot_rip),
    RUN_LEAF = const offset_of!(EnclaveRun, leaf),
    RUN_RDI = const offset_of!(EnclaveRun, rdi),
    RUN_RSI = const offset_of!(EnclaveRun, rsi),
    RUN_RDX = const offset_of!(EnclaveRun, rdx),
    RUN_R8 = const offset_of!(EnclaveRun, r8),
    RUN_R9 = const offset_of!(EnclaveRun, r9),
    URSP = const offset_of!(Gprsgx, ursp),
    URBP = const offset_of!(Gprsgx, urbp),
    SSA_FSBASE = const offset_of!(Gprsgx, fsbase),
    SSA_GSBASE = const offset_of!(Gprsgx, gsbase),
    RFLAGS = const offset_of!(Gprsgx, rflags),
    RIP = const offset_of!(Gprsgx, rip),
    RAX = const offset_of!(Gprsgx, rax),
    RCX = const offset_of!(Gprsgx, rcx),
    RDX = const offset_of!(Gprsgx, rdx),
    RBX = const offset_of!(Gprsgx, rbx),
    RSP = const offset_of!(Gprsgx, rsp),
    RBP = const offset_of!(Gprsgx, rbp),
    RSI = const offset_of!(Gprsgx, rsi),
    RDI = const offset_of!(Gprsgx, rdi),
    R8 = const offset_of!(Gprsgx, r8),
    R9 = const offset_of!(Gprsgx, r9),
    R10 = const offset_of!(Gprsgx, r10),
    R11 = const offset_of!(Gprsgx, r11),
    R12 = const offset_of!(Gprsgx, r12),
    R13 = const offset_of!(Gprsgx, r13),
    R14 = const offset_of!(Gprsgx, r14),
    R15 = const offset_of!(Gprsgx, r15),
    AEX = const kind::AEX,
    INTERRUPTED = const kind::INTERRUPTED,
    FAILED = const kind::FAILED,
);

const _: () = assert!(kind::EEXIT == 0);

#[expect(improper_ctypes, reason = "the assembly only uses integer fields, at offsets it is told")]
unsafe extern "C" {
    #[link_name = "sgx_machine_enter"]
    fn sgx_machine_enter(block: *const ThreadBlock, run: *mut EnclaveRun) -> u32;
    static sgx_machine_begin: u8;
    static sgx_machine_eenter_jump: u8;
    static sgx_machine_resume_window: u8;
    static sgx_machine_resume_end: u8;
    static sgx_machine_interrupted: u8;
    static sgx_machine_failed: u8;
    static sgx_machine_exit: u8;
    static sgx_machine_aep: u8;
    static sgx_machine_end: u8;
}

macro_rules! address {
    ($label:ident) => {
        (&raw const $label).addr() as u64
    };
}

/// Where in this module's code an instruction pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Not in it.
    Elsewhere,
    /// At the jump into the enclave: EENTER is done but for RIP, whose value is in R10.
    EenterJump,
    /// In ERESUME before it commits.
    Resume,
    /// Elsewhere in it: the host side.
    Host,
}

/// Classifies an instruction pointer.
pub(crate) fn window(rip: u64) -> Window {
    if !(address!(sgx_machine_begin)..address!(sgx_machine_end)).contains(&rip) {
        Window::Elsewhere
    } else if rip == address!(sgx_machine_eenter_jump) {
        Window::EenterJump
    } else if (address!(sgx_machine_resume_window)..address!(sgx_machine_resume_end)).contains(&rip) {
        Window::Resume
    } else {
        Window::Host
    }
}

/// Where ERESUME continues when an interrupt is pending.
pub(crate) fn interrupted_address() -> u64 {
    address!(sgx_machine_interrupted)
}

/// Where ERESUME continues when the frame cannot be restored.
pub(crate) fn failed_address() -> u64 {
    address!(sgx_machine_failed)
}

/// Where the landing pad continues.
pub(crate) fn exit_address() -> u64 {
    address!(sgx_machine_exit)
}

/// The asynchronous exit point.
pub(crate) fn aep_address() -> u64 {
    address!(sgx_machine_aep)
}

/// Enters as `run.leaf` says and returns a [`kind`].
///
/// # Safety
/// `block` is the calling thread's, filled in for the leaf, on an enclave that outlives the call; the frame in
/// `gprsgx` and `xsave` is mapped; signal handlers are installed.
pub(crate) unsafe fn enter(block: &ThreadBlock, run: &mut EnclaveRun) -> u32 {
    // SAFETY: the caller's promise. Enclave code may do anything a program in this process may do: that it
    // breaks nothing of the host is what software SGX cannot enforce, and trusts.
    unsafe { sgx_machine_enter(block, run) }
}

/// FS base.
pub(crate) fn read_fs_base() -> u64 {
    let base;
    // SAFETY: `prepare_thread` checked that the kernel allows the instruction; it only reads.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// GS base.
pub(crate) fn read_gs_base() -> u64 {
    let base;
    // SAFETY: as for FS.
    unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}
