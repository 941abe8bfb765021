//! Running user code.

use core::cell::RefCell;
use core::ops::ControlFlow;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The general registers of a user thread.
///
/// The trusted runtime's assembly addresses the fields by their offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UserRegisters {
    /// RAX: system call number, then its result.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RCX: clobbered by a system call (return address).
    pub rcx: u64,
    /// RDX: third argument.
    pub rdx: u64,
    /// RSI: second argument.
    pub rsi: u64,
    /// RDI: first argument.
    pub rdi: u64,
    /// RBP.
    pub rbp: u64,
    /// RSP.
    pub rsp: u64,
    /// R8: fifth argument.
    pub r8: u64,
    /// R9: sixth argument.
    pub r9: u64,
    /// R10: fourth argument.
    pub r10: u64,
    /// R11: clobbered by a system call (flags).
    pub r11: u64,
    /// R12.
    pub r12: u64,
    /// R13.
    pub r13: u64,
    /// R14.
    pub r14: u64,
    /// R15.
    pub r15: u64,
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Base of FS, the thread pointer.
    pub fs_base: u64,
}

/// Why user code stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A rewritten system call: the number is in RAX, RIP is the address after the call.
    Syscall,
    /// A rewritten `cpuid`: leaf in EAX, subleaf in ECX; RIP is the address after it.
    Cpuid,
    /// A hardware exception; RIP is what the processor says for that vector (the faulting instruction for
    /// faults, the next one for #BP).
    Exception {
        /// SDM vol. 3A table 6-1: 0 #DE, 3 #BP, 6 #UD (also a `syscall` instruction that was not rewritten), 13 #GP,
        /// 14 #PF, 16 #MF, 17 #AC, 19 #XM.
        vector: u8,
        /// Error code of #PF, #GP and #AC: bit 0 protection, bit 1 write, bit 4 instruction fetch.
        error_code: u32,
        /// Address of a #PF.
        address: u64,
    },
    /// Somebody called [`crate::Threads::interrupt`], or the host kicked the thread for reasons of its own.
    Interrupt,
}

/// The four registers that `cpuid` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// Functions of the LibOS that programs call themselves, through the vDSO. They follow the C calling convention, run on the
/// program's stack as if they were its own code, and return 0, or a negative number when the program must make the
/// system call instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VdsoFunctions {
    /// Address of `int (clockid_t, struct timespec *)`.
    pub clock_gettime: u64,
    /// Address of `int (struct timeval *, struct timezone *)`.
    pub gettimeofday: u64,
}

/// The calling thread as a processor for user code.
pub trait UserCpu {
    /// Runs user code from `registers` until it traps, stores what the registers are then, lets `kernel` serve the trap, and so
    /// on until that breaks. `registers` is borrowed only while user code runs.
    ///
    /// The extended state (x87, SSE, AVX …) stays with the thread and is preserved over system calls and
    /// over everything the kernel does meanwhile.
    fn run_user(&self, registers: &RefCell<UserRegisters>, kernel: &mut dyn FnMut(Trap) -> ControlFlow<()>);

    /// Resets the extended state to what a new program finds (`execve`).
    fn xstate_reset(&self);

    /// Bytes of an extended-state image (a standard-format XSAVE area).
    fn xstate_len(&self) -> usize;

    /// The extended features of it (XFRM, a mask of XCR0 bits).
    fn xstate_features(&self) -> u64;

    /// Copies the extended state of the calling thread's user code out, for a signal frame.
    ///
    /// `into` is at least [`UserCpu::xstate_len`] bytes.
    fn xstate_save(&self, into: &mut [u8]);

    /// Sets the extended state from an image, which may come from user memory: bits that the processor would
    /// refuse (features that are off, reserved bits of MXCSR and the header) are cleared first.
    fn xstate_restore(&self, from: &[u8]);

    /// Address that a rewritten system call jumps to, with RCX = the address to return to and RAX = the number.
    fn syscall_entry(&self) -> u64;

    /// Address that a rewritten `cpuid` jumps to, with RDX = the address to return to, and EAX and ECX as `cpuid`
    /// takes them.
    fn cpuid_entry(&self) -> u64;

    /// What a vDSO can be made of; `None` when time cannot be told without the kernel.
    fn vdso(&self) -> Option<VdsoFunctions> {
        None
    }

    /// What `cpuid` answers in the enclave.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult;

    /// Whether user code may execute `rdtsc`.
    fn has_rdtsc(&self) -> bool;

    /// The time stamp counter, for emulating `rdtsc`.
    fn tsc(&self) -> u64;
}
