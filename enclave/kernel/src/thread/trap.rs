//! Exceptions of user code: page faults, instructions to emulate, and what becomes a signal.

use super::run::system_call;
use crate::Ctx;
use crate::signal;
use crate::stats::count;
use crate::vm::Fault;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use kbase::UserAddr;
use linux_abi::signal::{SigInfo, Signal, si};
use platform::{Level, Protection};

/// #DE
const DIVIDE: u8 = 0;
/// #DB
const DEBUG: u8 = 1;
/// #BP
const BREAKPOINT: u8 = 3;
/// #UD
const INVALID_OPCODE: u8 = 6;
/// #PF
const PAGE_FAULT: u8 = 14;
/// #MF
const X87: u8 = 16;
/// #AC
const ALIGNMENT: u8 = 17;
/// #XM
const SIMD: u8 = 19;

/// Same faults in a row, without a system call between them, that are borne before they count as unresolvable. Another thread
/// may take the page away each time.
const PATIENCE: u32 = 10_000;

/// Notices a fault that comes again and again although it was resolved.
#[derive(Default)]
pub(super) struct Repeated {
    last: (u64, u64),
    times: u32,
}

impl Repeated {
    /// Whether this fault came so often in a row that something is broken.
    fn is_hopeless(&mut self, rip: u64, address: u64) -> bool {
        if self.last == (rip, address) {
            self.times += 1;
        } else {
            *self = Self { last: (rip, address), times: 0 };
        }
        self.times > PATIENCE
    }
}

/// What a signal frame says of an exception.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExceptionRecord {
    /// Vector.
    pub(crate) trapno: u64,
    /// Error code.
    pub(crate) err: u64,
    /// Address of the page fault.
    pub(crate) cr2: u64,
}

/// Serves an exception.
pub(super) fn exception(ctx: &Ctx<'_>, vector: u8, error_code: u32, address: u64, repeated: &mut Repeated) {
    let rip = ctx.registers.borrow().rip;
    let record = ExceptionRecord { trapno: vector.into(), err: error_code.into(), cr2: 0 };
    if vector != PAGE_FAULT {
        *repeated = Repeated::default();
    }
    let (signal, code, place) = match vector {
        PAGE_FAULT => {
            page_fault(ctx, error_code, address, repeated);
            return;
        }
        INVALID_OPCODE if emulate(ctx, rip) => return,
        INVALID_OPCODE => (Signal::SIGILL, si::ILL_ILLOPN, rip),
        DIVIDE => (Signal::SIGFPE, si::FPE_INTDIV, rip),
        DEBUG => (Signal::SIGTRAP, si::TRAP_TRACE, rip),
        BREAKPOINT => (Signal::SIGTRAP, si::KERNEL, 0),
        X87 | SIMD => (Signal::SIGFPE, float_code(ctx, vector), rip),
        ALIGNMENT => (Signal::SIGBUS, si::BUS_ADRALN, 0),
        // #GP and what cannot come from user code: the address is not known.
        _ => (Signal::SIGSEGV, si::KERNEL, 0),
    };
    raise(ctx, SigInfo::fault(signal, code, ctx.space.original_pc(place)), record);
}

/// Hands a signal to who delivers it; the process may end by it.
fn raise(ctx: &Ctx<'_>, info: SigInfo, record: ExceptionRecord) {
    if let ControlFlow::Break(status) = signal::raise_fault(ctx, info, record) {
        ctx.process.end_with(status);
    }
}

/// Resolves a page fault or makes a signal of it.
fn page_fault(ctx: &Ctx<'_>, error_code: u32, address: u64, repeated: &mut Repeated) {
    let access = if error_code & 1 << 4 != 0 {
        Protection::EXEC
    } else if error_code & 1 << 1 != 0 {
        Protection::WRITE
    } else {
        Protection::READ
    };
    let rip = ctx.registers.borrow().rip;
    let fault = match ctx.space.handle_fault(address, access) {
        Ok(()) if repeated.is_hopeless(rip, address) => {
            ctx.kernel.log(
                Level::Error,
                format_args!("page fault at {address:#x} (rip {rip:#x}) comes again and again"),
            );
            Fault::Protected
        }
        Ok(()) => {
            count(&ctx.kernel.statistics.page_faults);
            return;
        }
        Err(fault) => fault,
    };
    // Bit 2: the access came from user code.
    let record = ExceptionRecord { trapno: PAGE_FAULT.into(), err: u64::from(error_code | 4), cr2: address };
    let info = match fault {
        Fault::Unmapped => SigInfo::fault(Signal::SIGSEGV, si::SEGV_MAPERR, address),
        Fault::Protected => SigInfo::fault(Signal::SIGSEGV, si::SEGV_ACCERR, address),
        Fault::NoContent => SigInfo::fault(Signal::SIGBUS, si::BUS_ADRERR, address),
        Fault::OutOfMemory => {
            ctx.kernel.log(
                Level::Error,
                format_args!(
                    "process {} needs more memory than resource_limits.user_space_max_size; it is killed",
                    ctx.process.pid
                ),
            );
            SigInfo::new(Signal::SIGKILL, si::KERNEL)
        }
    };
    ctx.kernel.log(
        Level::Debug,
        format_args!("process {}: {fault:?} at {address:#x}, rip {rip:#x}, {access:?}", ctx.process.pid),
    );
    raise(ctx, info, record);
}

/// Emulates `syscall`, `cpuid`, `rdtsc` and `rdtscp`; false: the instruction is really invalid.
fn emulate(ctx: &Ctx<'_>, rip: u64) -> bool {
    let mut bytes = [0u8; 3];
    let mut len = 0;
    // The last two bytes of a mapping are an instruction too.
    for take in [3, 2] {
        if ctx.user().load(UserAddr(rip), bytes.get_mut(..take).unwrap_or_default()).is_ok() {
            len = take;
            break;
        }
    }
    match bytes.get(..len).unwrap_or_default() {
        [0x0f, 0x05, ..] => {
            count(&ctx.kernel.statistics.trapped_syscalls);
            {
                let mut registers = ctx.registers.borrow_mut();
                registers.rip = rip.wrapping_add(2);
                registers.rcx = registers.rip;
                registers.r11 = registers.rflags;
            }
            system_call(ctx);
        }
        [0x0f, 0xa2, ..] => {
            count(&ctx.kernel.statistics.trapped_cpuids);
            ctx.registers.borrow_mut().rip = rip.wrapping_add(2);
            emulate_cpuid(ctx);
        }
        [0x0f, 0x31, ..] => {
            emulate_rdtsc(ctx, rip.wrapping_add(2), false);
        }
        [0x0f, 0x01, 0xf9] => {
            emulate_rdtsc(ctx, rip.wrapping_add(3), true);
        }
        _ => return false,
    }
    true
}

/// The low half of a register.
const fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Answers `cpuid`; RIP is behind it.
pub(super) fn emulate_cpuid(ctx: &Ctx<'_>) {
    let mut registers = ctx.registers.borrow_mut();
    let result = ctx.platform().cpuid(low(registers.rax), low(registers.rcx));
    registers.rax = result.eax.into();
    registers.rbx = result.ebx.into();
    registers.rcx = result.ecx.into();
    registers.rdx = result.edx.into();
}

/// Answers `rdtsc` or `rdtscp` (on processor 0).
fn emulate_rdtsc(ctx: &Ctx<'_>, next: u64, with_processor: bool) {
    let mut registers = ctx.registers.borrow_mut();
    let tsc = ctx.platform().tsc();
    registers.rax = tsc & 0xffff_ffff;
    registers.rdx = tsc >> 32;
    if with_processor {
        registers.rcx = 0;
    }
    registers.rip = next;
}

/// The `si_code` of a floating-point exception, from the state that the processor left.
fn float_code(ctx: &Ctx<'_>, vector: u8) -> i32 {
    let mut state: Vec<u8> = alloc::vec![0; ctx.platform().xstate_len()];
    ctx.platform().xstate_save(&mut state);
    let word = |at: usize| match state.get(at..) {
        Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let (control, status, mxcsr) = (word(0), word(2), word(24));
    let raised = if vector == X87 { status & !control } else { mxcsr & !(mxcsr >> 7) };
    match raised {
        raised if raised & 0x01 != 0 => si::FPE_FLTINV,
        raised if raised & 0x04 != 0 => si::FPE_FLTDIV,
        raised if raised & 0x08 != 0 => si::FPE_FLTOVF,
        raised if raised & 0x12 != 0 => si::FPE_FLTUND,
        raised if raised & 0x20 != 0 => si::FPE_FLTRES,
        _ => si::USER,
    }
}
