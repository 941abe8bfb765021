//! Asynchronous enclave exit: from a signal frame into the SSA.

use crate::enclave::Core;
use crate::entry;
use crate::signal::{Bases, register};
use crate::thread::{NO_VECTOR, ThreadBlock};
use libc::ucontext_t;
use sgx_arch::{EXINFO_FROM_END, Exinfo, ExitInfo, GPRSGX_FROM_END, Gprsgx, Miscselect};
use sgx_model::fault::{Fault, exitinfo, vector};
use std::ptr;
use std::sync::atomic::Ordering;

/// Offsets in the XSAVE area of a signal frame (kernel `struct _fpx_sw_bytes`, SDM vol. 1 "XSAVE Area").
mod xsave {
    pub(super) const MXCSR: usize = 24;
    pub(super) const SOFTWARE: usize = 464;
    pub(super) const SOFTWARE_END: usize = 512;
    pub(super) const MAGIC1: usize = 464;
    pub(super) const SIZE: usize = 480;
    pub(super) const XSTATE_BV: usize = 512;
    pub(super) const HEADER_END: usize = 576;
    pub(super) const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
    pub(super) const MXCSR_DEFAULT: u32 = 0x1f80;
}

/// Why an AEX happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// An interrupt of the host.
    Interrupt,
    /// An exception.
    Exception {
        /// Vector.
        vector: u8,
        /// Error code.
        error_code: u32,
        /// Linear address of a #PF.
        address: u64,
    },
}

impl Cause {
    /// An exception without an error code.
    pub(crate) const fn exception(vector: u8) -> Self {
        Self::Exception { vector, error_code: 0, address: 0 }
    }

    /// #PF.
    pub(crate) const fn page_fault(address: u64, error_code: u32) -> Self {
        Self::Exception { vector: vector::PAGE_FAULT, error_code, address }
    }

    /// The fault of a leaf.
    pub(crate) const fn of(fault: Fault) -> Self {
        match fault {
            Fault::GeneralProtection => Self::exception(vector::GENERAL_PROTECTION),
            Fault::Page { address, code } => Self::page_fault(address, code.bits()),
        }
    }
}

/// Performs an AEX: saves the state in `context` to SSA\[CSSA\], clears it, and lets the handler return to the AEP.
pub(crate) fn deliver(
    core: &Core,
    context: &mut ucontext_t,
    bases: &mut Bases,
    block: &ThreadBlock,
    cause: Cause,
) {
    // SAFETY: `enter` set it, and no ThreadControl is freed before its enclave.
    let Some(tcs) = (unsafe { block.tcs.load(Ordering::Relaxed).as_ref() }) else {
        fatal("software SGX: an exception in the enclave without a TCS\n");
    };
    let cssa = block.cssa.load(Ordering::Relaxed);
    let frame = core.frame_address(tcs, cssa);
    if !core.frame_is_writable(frame) {
        // The processor shuts down here: the state has nowhere to go.
        fatal("software SGX: the SSA frame of a running thread is gone\n");
    }
    save_xsave(core, context, frame);
    save_registers(core, context, bases, block, frame, cause);
    // CSSA is at most NSSA - 1, as EENTER checked.
    tcs.cssa.store(u32::try_from(cssa).unwrap_or(0) + 1, Ordering::Relaxed);

    let (number, error_code, address) = match cause {
        Cause::Interrupt => (NO_VECTOR, 0, 0),
        Cause::Exception { vector, error_code, address } => (u32::from(vector), error_code, address & !0xfff),
    };
    block.exit_vector.store(number, Ordering::Relaxed);
    block.exit_error.store(error_code, Ordering::Relaxed);
    block.exit_address.store(address, Ordering::Relaxed);
    leave(context, bases, block, entry::aep_address());
}

/// Makes the handler return to `target` in [`entry`], as the host: its RSP, FS and GS, nothing of the enclave in
/// any register.
pub(crate) fn leave(context: &mut ucontext_t, bases: &mut Bases, block: &ThreadBlock, target: u64) {
    for index in [
        libc::REG_RAX,
        libc::REG_RBX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_RBP,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ] {
        *register(context, index) = 0;
    }
    *register(context, libc::REG_RSP) = block.host_rsp.load(Ordering::Relaxed).cast_signed();
    *register(context, libc::REG_RIP) = target.cast_signed();
    *register(context, libc::REG_EFL) = 0x202;
    bases.become_host(block);
    block.inside.store(0, Ordering::Relaxed);
    // sigreturn gives components that XSTATE_BV leaves out their initial state. What no enclave can have, such as
    // protection keys, is the host's and stays.
    let area = context.uc_mcontext.fpregs.cast::<u8>();
    if extended(area) {
        let kept = read::<u64>(area, xsave::XSTATE_BV) & !crate::xsave::OFFERED;
        write(area, xsave::XSTATE_BV, kept);
        write(area, xsave::MXCSR, xsave::MXCSR_DEFAULT);
    }
}

/// Whether the kernel's frame has an XSAVE area.
fn extended(area: *const u8) -> bool {
    !area.is_null() && read::<u32>(area, xsave::MAGIC1) == xsave::FP_XSTATE_MAGIC1
}

fn read<T: Copy>(area: *const u8, offset: usize) -> T {
    // SAFETY: callers pass offsets within the XSAVE area of a signal frame or an SSA frame that was checked to be
    // mapped, and integers, for which any bytes do.
    unsafe { area.wrapping_byte_add(offset).cast::<T>().read_unaligned() }
}

fn write<T: Copy>(area: *mut u8, offset: usize, value: T) {
    // SAFETY: as for `read`; both areas are writable.
    unsafe { area.wrapping_byte_add(offset).cast::<T>().write_unaligned(value) };
}

fn save_xsave(core: &Core, context: &ucontext_t, frame: *mut u8) {
    let source = context.uc_mcontext.fpregs.cast::<u8>();
    if !extended(source) {
        fatal("software SGX: a signal frame without an XSAVE area\n");
    }
    let size = usize::try_from(read::<u32>(source, xsave::SIZE)).unwrap_or(0).min(core.xsave_size());
    // SAFETY: the kernel's area has at least `size` bytes and so has the frame, by the check of ECREATE; the
    // frame was checked to be writable; the two do not overlap, since one is in ELRANGE and the other is not.
    unsafe { ptr::copy_nonoverlapping(source, frame, size) };
    for offset in (xsave::SOFTWARE..xsave::SOFTWARE_END).step_by(8) {
        write(frame, offset, 0_u64);
    }
    let present = read::<u64>(frame, xsave::XSTATE_BV) & core.xfrm();
    write(frame, xsave::XSTATE_BV, present);
    for offset in (xsave::XSTATE_BV + 8..xsave::HEADER_END).step_by(8) {
        write(frame, offset, 0_u64);
    }
}

fn save_registers(
    core: &Core,
    context: &mut ucontext_t,
    bases: &Bases,
    block: &ThreadBlock,
    frame: *mut u8,
    cause: Cause,
) {
    let end = core.frame_size();
    let distance = |from_end: u64| end - usize::try_from(from_end).unwrap_or(end);
    let old = read::<Gprsgx>(frame, distance(GPRSGX_FROM_END));
    let mut get = |index| register(context, index).cast_unsigned();
    let info = match cause {
        Cause::Interrupt => ExitInfo::default(),
        Cause::Exception { vector, .. } => exitinfo(vector, core.miscselect()),
    };
    let registers = Gprsgx {
        rax: get(libc::REG_RAX),
        rcx: get(libc::REG_RCX),
        rdx: get(libc::REG_RDX),
        rbx: get(libc::REG_RBX),
        rsp: get(libc::REG_RSP),
        rbp: get(libc::REG_RBP),
        rsi: get(libc::REG_RSI),
        rdi: get(libc::REG_RDI),
        r8: get(libc::REG_R8),
        r9: get(libc::REG_R9),
        r10: get(libc::REG_R10),
        r11: get(libc::REG_R11),
        r12: get(libc::REG_R12),
        r13: get(libc::REG_R13),
        r14: get(libc::REG_R14),
        r15: get(libc::REG_R15),
        rflags: get(libc::REG_EFL),
        rip: get(libc::REG_RIP),
        ursp: block.host_rsp.load(Ordering::Relaxed),
        urbp: old.urbp,
        exitinfo: info,
        reserved: [0; 3],
        aexnotify: old.aexnotify,
        fsbase: bases.fs,
        gsbase: bases.gs,
    };
    write(frame, distance(GPRSGX_FROM_END), registers);
    if let Cause::Exception { vector, error_code, address } = cause
        && matches!(vector, vector::PAGE_FAULT | vector::GENERAL_PROTECTION | vector::STACK)
        && core.miscselect().contains(Miscselect::EXINFO)
    {
        let maddr = if vector == vector::PAGE_FAULT { address } else { 0 };
        write(frame, distance(EXINFO_FROM_END), Exinfo { maddr, errcd: error_code, reserved: 0 });
    }
}

/// Ends the process from a signal handler.
fn fatal(message: &str) -> ! {
    // SAFETY: the message is a valid buffer. Nothing can be done where the write fails.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    std::process::abort()
}
