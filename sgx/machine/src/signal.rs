//! Signals: how the host tells the machine of exceptions and interrupts in the enclave.
//!
//! The kernel delivers on the thread's alternate stack, with every signal blocked until the handler returns:
//! a fault of the handler itself therefore ends the process rather than coming back here. The naked entry finds
//! the [`ThreadBlock`], gives Rust the host's FS, and puts into FS and GS what the Rust part decides.
//!
//! Threads that enter enclaves must not have other signal handlers run on them: those would run with the FS of
//! the enclave. Block such signals there, and take them in another thread.

use crate::aex::{self, Cause};
use crate::entry::{self, Window};
use crate::leaf;
use crate::thread::{ARENA_LEN, ARENA_START, BLOCK, ThreadBlock};
use core::arch::naked_asm;
use core::mem::offset_of;
use libc::{c_int, siginfo_t, ucontext_t};
use sgx_model::epcm::Access;
use sgx_model::fault::{PageFaultCode, vector};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The signal that interrupts enclave code.
pub(crate) const INTERRUPT: c_int = 64;
/// Exceptions, and the signal of a system call that was filtered.
const EXCEPTIONS: [c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
/// How often in a row the same access may be told to try again before it counts as a fault.
const MOST_RETRIES: u32 = 16;

/// Actions that were installed before ours, for faults of the host itself.
static PREVIOUS: [OnceLock<libc::sigaction>; EXCEPTIONS.len()] =
    [const { OnceLock::new() }; EXCEPTIONS.len()];
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs the handlers, once per process.
///
/// # Errors
/// As `sigaction(2)`.
pub(crate) fn install() -> io::Result<()> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    for (signal, previous) in EXCEPTIONS.iter().zip(&PREVIOUS) {
        let old = install_one(*signal)?;
        let _ = previous.set(old);
    }
    install_one(INTERRUPT)?;
    *installed = true;
    Ok(())
}

fn install_one(signal: c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all-zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler_entry as *const () as usize;
    // No SA_RESTART: an interrupt must end a blocking call of the host thread. The mask makes SA_NODEFER moot.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `sa_mask` is a valid place for a signal set.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both point to sigaction structures, and the handler has the signature that SA_SIGINFO asks for.
    if unsafe { libc::sigaction(signal, &raw const action, old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel wrote it, and it was zero before.
    Ok(unsafe { old.assume_init() })
}

/// FS and GS base of the interrupted code; what is in here when [`on_signal`] returns is loaded again.
#[repr(C)]
pub(crate) struct Bases {
    pub(crate) fs: u64,
    pub(crate) gs: u64,
}

impl Bases {
    /// Those of the host, as EEXIT and an AEX leave them (see [`entry`] on GS).
    pub(crate) fn become_host(&mut self, block: &ThreadBlock) {
        self.fs = block.host_fs.load(Ordering::Relaxed);
        let gs = block.host_gs.load(Ordering::Relaxed);
        if gs != 0 {
            self.gs = gs;
        }
    }
}

/// What the kernel calls: RDI = signal, RSI = siginfo, RDX = ucontext, RSP on the alternate stack.
///
/// Nothing needs to be preserved: the kernel restores every register from the ucontext.
#[unsafe(naked)]
unsafe extern "C" fn handler_entry(signal: c_int, info: *const siginfo_t, context: *mut ucontext_t) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rbx, rsp",
        "and rbx, -{BLOCK}",
        "mov rax, rbx",
        "sub rax, [rip + {ARENA_START}]",
        "cmp rax, {ARENA_LEN}",
        "jae 2f",
        // A thread of ours.
        "rdfsbase r12",
        "rdgsbase r13",
        "mov rax, [rbx + {HOST_FS}]",
        "cmp rax, r12",
        "je 3f",
        "wrfsbase rax",
        "3:",
        // The program in the enclave may have set AC, which the kernel leaves on.
        "and rsp, -16",
        "pushfq",
        "and qword ptr [rsp], ~0x40000",
        "popfq",
        "sub rsp, 16",
        "mov [rsp], r12",
        "mov [rsp + 8], r13",
        "mov rcx, rbx",
        "mov r8, rsp",
        "call {on_signal}",
        "mov rax, [rsp]",
        "rdfsbase rcx",
        "cmp rax, rcx",
        "je 4f",
        "wrfsbase rax",
        "4:",
        "mov rax, [rsp + 8]",
        "cmp rax, r13",
        "je 5f",
        "wrgsbase rax",
        "5:",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        // Another thread, with its own FS. An interrupt that reaches it has no meaning.
        "2:",
        "and rsp, -16",
        "call {on_foreign_signal}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        BLOCK = const BLOCK,
        ARENA_START = sym ARENA_START,
        ARENA_LEN = const ARENA_LEN,
        HOST_FS = const offset_of!(ThreadBlock, host_fs),
        on_signal = sym on_signal,
        on_foreign_signal = sym on_foreign_signal,
    )
}

unsafe extern "C" fn on_foreign_signal(signal: c_int, info: *const siginfo_t, _: *mut ucontext_t) {
    if signal != INTERRUPT {
        // SAFETY: the kernel passes a valid siginfo.
        host_fault(signal, unsafe { &*info });
    }
}

/// Gives a fault of the host back to whom it belonged before the machine came, by trying again under the
/// action that was installed then, or by raising it where nothing would come again by itself.
fn host_fault(signal: c_int, info: &siginfo_t) {
    let previous =
        EXCEPTIONS.iter().position(|known| *known == signal).and_then(|at| PREVIOUS.get(at)?.get());
    if let Some(action) = previous {
        // SAFETY: the action was in force before.
        unsafe { libc::sigaction(signal, action, ptr::null_mut()) };
    } else {
        // SAFETY: the default action is always a valid one.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let comes_again =
        info.si_code > 0 && matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL);
    if !comes_again {
        // SAFETY: no pointers.
        unsafe { libc::raise(signal) };
    }
}

/// Register `index` (`REG_…`) of a signal frame.
pub(crate) fn register(context: &mut ucontext_t, index: c_int) -> &mut i64 {
    let index = usize::try_from(index).unwrap_or(0);
    &mut context.uc_mcontext.gregs[index]
}

fn get(context: &mut ucontext_t, index: c_int) -> u64 {
    register(context, index).cast_unsigned()
}

fn set(context: &mut ucontext_t, index: c_int, value: u64) {
    *register(context, index) = value.cast_signed();
}

/// Where the thread was when the signal came.
enum Place {
    /// In the enclave. RIP and the other registers are the enclave's.
    Enclave,
    /// In ERESUME, before it restored anything for good.
    Resume,
    /// In the host.
    Host,
}

/// Finds out where the thread was. What an interrupt cut short is completed in the frame, so that the enclave's
/// state is whole: EENTER at its jump, and the tail of ERESUME.
fn locate(context: &mut ucontext_t, block: &ThreadBlock) -> Place {
    let rip = get(context, libc::REG_RIP);
    let inside = block.inside.load(Ordering::Relaxed) != 0;
    match entry::window(rip) {
        Window::EenterJump if inside => {
            let target = get(context, libc::REG_R10);
            set(context, libc::REG_RIP, target);
            Place::Enclave
        }
        Window::Resume => Place::Resume,
        Window::EenterJump | Window::Host => Place::Host,
        Window::Elsewhere if block.in_landing(rip) => Place::Host,
        Window::Elsewhere if block.in_tail(rip) => {
            set(context, libc::REG_EFL, block.slot_rflags.load(Ordering::Relaxed));
            set(context, libc::REG_RSP, block.slot_rsp.load(Ordering::Relaxed));
            set(context, libc::REG_RIP, block.slot_rip.load(Ordering::Relaxed));
            block.inside.store(1, Ordering::Relaxed);
            Place::Enclave
        }
        Window::Elsewhere if inside => Place::Enclave,
        Window::Elsewhere => Place::Host,
    }
}

unsafe extern "C" fn on_signal(
    signal: c_int,
    info: *const siginfo_t,
    context: *mut ucontext_t,
    block: *const ThreadBlock,
    bases: *mut Bases,
) {
    // SAFETY: the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: the kernel passes a valid ucontext, which it reads again only after this returns.
    let context = unsafe { &mut *context };
    // SAFETY: the entry found it in the arena, where the alternate stack says that a prepared block is.
    let block = unsafe { &*block };
    // SAFETY: the entry passes a place on its stack.
    let bases = unsafe { &mut *bases };
    match locate(context, block) {
        Place::Host if signal == INTERRUPT => block.pending.store(1, Ordering::Relaxed),
        Place::Host => host_fault(signal, info),
        Place::Resume if signal == INTERRUPT => {
            block.pending.store(1, Ordering::Relaxed);
            aex::leave(context, bases, block, entry::interrupted_address());
        }
        Place::Resume => aex::leave(context, bases, block, entry::failed_address()),
        Place::Enclave => in_enclave(signal, info, context, block, bases),
    }
}

fn in_enclave(
    signal: c_int,
    info: &siginfo_t,
    context: &mut ucontext_t,
    block: &ThreadBlock,
    bases: &mut Bases,
) {
    // SAFETY: `core` was set by `enter`, which holds a reference to the enclave for as long as it runs.
    let Some(core) = (unsafe { block.core.load(Ordering::Relaxed).as_ref() }) else {
        return host_fault(signal, info);
    };
    if signal != INTERRUPT && info.si_code <= 0 {
        // Not an exception: somebody sent the signal to the process.
        return host_fault(signal, info);
    }
    let number = u8::try_from(get(context, libc::REG_TRAPNO)).unwrap_or(u8::MAX);
    let error_code = u32::try_from(get(context, libc::REG_ERR) & 0xffff_ffff).unwrap_or(0);
    let cause = match signal {
        INTERRUPT => Cause::Interrupt,
        libc::SIGSYS => {
            // `syscall` and `int 0x80` are two bytes long; neither exists in an enclave.
            let rip = get(context, libc::REG_RIP).wrapping_sub(2);
            set(context, libc::REG_RIP, rip);
            Cause::exception(vector::INVALID_OPCODE)
        }
        libc::SIGILL => match leaf::trapped(core, context, bases, block) {
            leaf::Trapped::NotEnclu => Cause::exception(vector::INVALID_OPCODE),
            leaf::Trapped::Done => return,
            leaf::Trapped::Fault(fault) => Cause::of(fault),
        },
        libc::SIGSEGV | libc::SIGBUS if number == vector::PAGE_FAULT => {
            let address = get(context, libc::REG_CR2);
            let rip = get(context, libc::REG_RIP);
            match core.page_fault(address, error_code) {
                None if !stuck(block, address, rip) => return,
                None => Cause::page_fault(address, error_code),
                Some(code) => Cause::page_fault(address, code),
            }
        }
        _ => Cause::Exception { vector: number, error_code, address: 0 },
    };
    aex::deliver(core, context, bases, block, cause);
}

/// Whether the same access comes again and again although the machine believes that it is allowed, as one
/// against a protection key would.
fn stuck(block: &ThreadBlock, address: u64, rip: u64) -> bool {
    let same = block.retry_address.load(Ordering::Relaxed) == address
        && block.retry_rip.load(Ordering::Relaxed) == rip;
    let count = if same { block.retries.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
    block.retry_address.store(address, Ordering::Relaxed);
    block.retry_rip.store(rip, Ordering::Relaxed);
    block.retries.store(count, Ordering::Relaxed);
    count > MOST_RETRIES
}

/// The access of a host page fault.
pub(crate) const fn access(error_code: u32) -> Access {
    PageFaultCode::access_of(error_code)
}
