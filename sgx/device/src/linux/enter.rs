//! Entering through `__vdso_sgx_enter_enclave`.
//!
//! The vDSO executes ENCLU and turns exceptions in the enclave into returns. What it does not do is to return on
//! an interrupt: it resumes by itself. So the handler of signal 64, if it finds the thread about to ERESUME, moves it
//! past that instruction; the vDSO then takes it for an EEXIT, and [`enter`] knows better by a flag of the thread, which is set
//! there and nowhere else: an interrupt on the way in or out changes nothing about an EEXIT.
//! Enclave state is not affected: an ERESUME that was not executed has consumed nothing.

use super::vdso::Vdso;
use crate::{EnclaveRun, Exit, Leaf};
use core::arch::naked_asm;
use core::mem::{MaybeUninit, offset_of};
use libc::{c_int, siginfo_t, ucontext_t};
use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::OnceLock;

/// The signal that interrupts enclave code.
const INTERRUPT: c_int = 64;
const ENCLU: [u8; 3] = [0x0f, 0x01, 0xd7];
const EEXIT: u32 = 4;

/// `struct sgx_enclave_run`.
#[repr(C)]
struct SgxEnclaveRun {
    tcs: u64,
    function: u32,
    exception_vector: u16,
    exception_error_code: u16,
    exception_addr: u64,
    user_handler: u64,
    user_data: u64,
    reserved: [u8; 216],
}

const _: () = assert!(size_of::<SgxEnclaveRun>() == 256);

thread_local! {
    /// An interrupt came since the thread last looked.
    static INTERRUPTED: Cell<bool> = const { Cell::new(false) };
    /// The vDSO was moved past an ERESUME: what it says of an EEXIT is an interrupt.
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

static VDSO: OnceLock<Vdso> = OnceLock::new();

/// `__vdso_sgx_enter_enclave` of this kernel.
pub(super) fn function() -> Option<usize> {
    let vdso = VDSO.get().copied().or_else(|| {
        let found = Vdso::of_this_process()?;
        Some(*VDSO.get_or_init(|| found))
    })?;
    vdso.find("__vdso_sgx_enter_enclave")
}

/// Calls `function` as `__vdso_sgx_enter_enclave` with the registers of `run`, and puts RDI, RSI, RDX, R8 and R9
/// back as they are after it. The enclave and an AEX leave the callee-saved registers and DF as they like.
#[unsafe(naked)]
unsafe extern "C" fn call(function: usize, run: *mut EnclaveRun, state: *mut SgxEnclaveRun) -> c_int {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rsi",
        // The seventh argument is on the stack, which is aligned to 16 bytes at the call.
        "sub rsp, 16",
        "and rsp, -16",
        "mov [rsp], rdx",
        "mov rax, rdi",
        "mov r10, rsi",
        "mov rdi, [r10 + {RDI}]",
        "mov rsi, [r10 + {RSI}]",
        "mov rdx, [r10 + {RDX}]",
        "mov ecx, [r10 + {LEAF}]",
        "mov r8, [r10 + {R8}]",
        "mov r9, [r10 + {R9}]",
        "call rax",
        "cld",
        "mov r10, [rbp - 48]",
        "mov [r10 + {RDI}], rdi",
        "mov [r10 + {RSI}], rsi",
        "mov [r10 + {RDX}], rdx",
        "mov [r10 + {R8}], r8",
        "mov [r10 + {R9}], r9",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        RDI = const offset_of!(EnclaveRun, rdi),
        RSI = const offset_of!(EnclaveRun, rsi),
        RDX = const offset_of!(EnclaveRun, rdx),
        R8 = const offset_of!(EnclaveRun, r8),
        R9 = const offset_of!(EnclaveRun, r9),
        LEAF = const offset_of!(EnclaveRun, leaf),
    )
}

/// EENTER or ERESUME until EEXIT, an exception or an interrupt.
///
/// # Safety
/// `function` is `__vdso_sgx_enter_enclave`.
pub(super) unsafe fn enter(function: usize, run: &mut EnclaveRun) -> Exit {
    match run.leaf {
        // The enclave looks at what is pending after it was entered.
        Leaf::Eenter => INTERRUPTED.set(false),
        Leaf::Eresume => {
            if INTERRUPTED.take() {
                return Exit::Interrupt;
            }
        }
    }
    let mut state = SgxEnclaveRun {
        tcs: run.tcs,
        function: 0,
        exception_vector: 0,
        exception_error_code: 0,
        exception_addr: 0,
        user_handler: 0,
        user_data: 0,
        reserved: [0; 216],
    };
    let before = *run;
    // SAFETY: the caller's promise; both structures live over the call.
    let result = unsafe { call(function, run, &raw mut state) };
    let exit = if result != 0 {
        Exit::Failed
    } else if state.function == EEXIT {
        if SKIPPED.take() {
            INTERRUPTED.set(false);
            Exit::Interrupt
        } else {
            Exit::Eexit
        }
    } else if state.function == Leaf::Eresume as u32 {
        Exit::Exception {
            vector: state.exception_vector.to_le_bytes()[0],
            error_code: state.exception_error_code,
            address: state.exception_addr,
        }
    } else {
        Exit::Failed
    };
    if exit != Exit::Eexit {
        // Only EEXIT gives registers.
        *run = before;
    }
    exit
}

/// Installs the handler of signal 64, once per process.
///
/// # Errors
/// As `sigaction(2)`.
pub(super) fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    // SAFETY: all-zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_interrupt as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    if unsafe { libc::sigaction(INTERRUPT, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let _ = INSTALLED.set(());
    Ok(())
}

extern "C" fn on_interrupt(_: c_int, _: *const siginfo_t, context: *mut ucontext_t) {
    // The AEX gave FS back to the host before the kernel got here, so thread-local storage is there.
    let _ = INTERRUPTED.try_with(|interrupted| interrupted.set(true));
    // SAFETY: the kernel passes a valid ucontext, which it reads again only after this returns.
    let context = unsafe { &mut *context };
    if skip_eresume(&mut context.uc_mcontext.gregs) {
        let _ = SKIPPED.try_with(|skipped| skipped.set(true));
    }
}

/// Moves a thread that is about to execute ERESUME in the vDSO past it. Returns whether it was.
fn skip_eresume(registers: &mut [i64; 23]) -> bool {
    const RAX: usize = libc::REG_RAX.unsigned_abs() as usize;
    const RIP: usize = libc::REG_RIP.unsigned_abs() as usize;
    let Some(vdso) = VDSO.get() else { return false };
    let rip = registers[RIP].cast_unsigned();
    let is_next = registers[RAX] == Leaf::Eresume as i64 && vdso.code_at(rip) == Some(ENCLU);
    if is_next {
        registers[RIP] = registers[RIP].wrapping_add(3);
    }
    is_next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in for the vDSO: checks the arguments, answers in registers and state, ruins what an enclave may.
    #[unsafe(naked)]
    unsafe extern "C" fn fake_vdso() {
        naked_asm!(
            "mov r10, [rsp + 8]", // state
            "mov dword ptr [r10 + 8], ecx",
            "cmp ecx, 3",
            "je 2f",
            "mov dword ptr [r10 + 8], 4",
            "2:",
            "mov word ptr [r10 + 12], 14",
            "mov word ptr [r10 + 14], 6",
            "mov qword ptr [r10 + 16], 0x5000",
            "add rdi, 1",
            "add rsi, 1",
            "add rdx, 1",
            "add r8, 1",
            "add r9, 1",
            "mov r12, -1",
            "mov r13, -1",
            "mov r14, -1",
            "mov r15, -1",
            "std",
            "xor eax, eax",
            "ret",
        )
    }

    fn run(leaf: Leaf) -> EnclaveRun {
        EnclaveRun { tcs: 0x1000, leaf, rdi: 1, rsi: 2, rdx: 3, r8: 4, r9: 5 }
    }

    #[test]
    fn eexit_gives_the_registers_and_the_rest_survives() {
        let mut run = run(Leaf::Eenter);
        // SAFETY: the stand-in keeps the vDSO's contract.
        let exit = unsafe { enter(fake_vdso as *const () as usize, &mut run) };
        assert_eq!(exit, Exit::Eexit);
        assert_eq!((run.rdi, run.rsi, run.rdx, run.r8, run.r9), (2, 3, 4, 5, 6));
        assert_eq!(vec![7_u8; 100].clone(), [7; 100]);
    }

    #[test]
    fn an_exception_is_told_and_changes_no_register() {
        let mut run = run(Leaf::Eresume);
        // SAFETY: as above.
        let exit = unsafe { enter(fake_vdso as *const () as usize, &mut run) };
        assert_eq!(exit, Exit::Exception { vector: 14, error_code: 6, address: 0x5000 });
        assert_eq!(run.rdi, 1);
    }

    #[test]
    fn an_interrupt_before_eresume_is_not_lost() {
        install_handler().unwrap();
        // SAFETY: takes numbers only.
        unsafe { libc::raise(INTERRUPT) };
        let mut run = run(Leaf::Eresume);
        // SAFETY: as above.
        let mut exit = || unsafe { enter(fake_vdso as *const () as usize, &mut run) };
        assert_eq!(exit(), Exit::Interrupt);
        assert!(matches!(exit(), Exit::Exception { .. }));
    }
    /// As [`fake_vdso`] for EENTER, but an interrupt comes on the way.
    #[unsafe(naked)]
    unsafe extern "C" fn interrupted_vdso() {
        naked_asm!(
            "push rbx",
            "mov rbx, [rsp + 16]", // state
            "call {interrupt}",
            "mov dword ptr [rbx + 8], 4",
            "pop rbx",
            "xor eax, eax",
            "ret",
            interrupt = sym interrupt,
        )
    }

    extern "C" fn interrupt() {
        // SAFETY: takes numbers only.
        unsafe { libc::raise(INTERRUPT) };
    }

    #[test]
    fn an_interrupt_on_the_way_in_or_out_leaves_an_eexit_one() {
        install_handler().unwrap();
        let mut run = run(Leaf::Eenter);
        // SAFETY: the stand-in keeps the vDSO's contract.
        assert_eq!(unsafe { enter(interrupted_vdso as *const () as usize, &mut run) }, Exit::Eexit);
        run.leaf = Leaf::Eresume;
        // SAFETY: as above.
        assert_eq!(unsafe { enter(fake_vdso as *const () as usize, &mut run) }, Exit::Interrupt);
    }
}
