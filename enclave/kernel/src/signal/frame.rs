//! The frame that a handler finds on its stack: `struct rt_sigframe` and the extended state, byte for byte as Linux lays
//! them out on x86-64 (arch/x86/kernel/signal_64.c), since unwinders, debuggers and garbage collectors read it.
//!
//! From high to low addresses: the red zone of the interrupted code (128 bytes), the extended state (64-byte
//! aligned, ended by FP_XSTATE_MAGIC2), [`SigFrame`]. The functions here are pure: values in, values out.

use super::state::{is_inside, is_on_stack};
use crate::thread::ExceptionRecord;
use alloc::vec::Vec;
use linux_abi::signal::{
    ActionFlags, FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPX_SW_OFFSET, FpxSwBytes, SS_DISABLE, SigAction,
    SigContext, SigFrame, SigInfo, SigStack, SignalSet, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS,
    UContext,
};
use platform::UserRegisters;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
/// Bytes of FP_XSTATE_MAGIC2.
const MAGIC2_LEN: usize = 4;
/// Offset of XSTATE_BV.
const XSTATE_BV: usize = 512;
/// Bytes of the legacy area and the header: the smallest XSAVE area.
const XSAVE_MIN: usize = 576;
/// Bytes of the legacy area (FXSAVE).
pub(super) const FXSAVE_LEN: usize = 512;
/// XSTATE_BV of x87 and SSE.
const X87_SSE: u64 = 3;
/// User code segment.
const USER_CS: u16 = 0x33;
/// User data segment.
const USER_SS: u16 = 0x2b;
/// RFLAGS that `rt_sigreturn` takes from a frame: CF, PF, AF, ZF, SF, DF, OF. Linux also takes TF, RF and AC.
const RESTORED_FLAGS: u64 = 0xcd5;
/// RFLAGS that are cleared when a handler starts: DF, RF, TF.
const HANDLER_CLEARS: u64 = 0x400 | 0x1_0000 | 0x100;

/// What a frame is made of.
pub(super) struct Interrupted<'a> {
    /// The registers to come back to.
    pub(super) registers: &'a UserRegisters,
    /// The mask to come back to.
    pub(super) mask: SignalSet,
    /// The alternate stack.
    pub(super) stack: SigStack,
    /// The last exception.
    pub(super) exception: ExceptionRecord,
    /// The extended state, a standard-format XSAVE area.
    pub(super) xstate: &'a mut [u8],
    /// The features in it.
    pub(super) features: u64,
}

/// A frame that is ready to be stored.
pub(super) struct Frame {
    /// Where it lies; the stack pointer of the handler.
    pub(super) address: u64,
    /// What lies there.
    pub(super) frame: SigFrame,
    /// Where the extended state lies.
    pub(super) fpstate: u64,
    /// The extended state and FP_XSTATE_MAGIC2.
    pub(super) xstate: Vec<u8>,
}

/// Makes the frame; `None`: it would leave the alternate stack, or there is no memory for it.
pub(super) fn build(from: Interrupted<'_>, info: &SigInfo, action: &SigAction) -> Option<Frame> {
    let flags = ActionFlags::from_bits_retain(action.flags);
    let registers = from.registers;
    let stack = &from.stack;
    let is_enabled = stack.ss_size != 0;
    let was_on_stack = is_enabled && is_on_stack(stack, registers.rsp);
    let enters = flags.contains(ActionFlags::ONSTACK) && is_enabled && !was_on_stack;
    let top =
        if enters { stack.ss_sp.checked_add(stack.ss_size)? } else { registers.rsp.checked_sub(RED_ZONE)? };
    let xstate_len = from.xstate.len();
    let fpstate = top.checked_sub((xstate_len + MAGIC2_LEN) as u64)? & !63;
    let address = (fpstate.checked_sub(size_of::<SigFrame>() as u64)? & !15).checked_sub(8)?;
    if (enters || was_on_stack) && !is_inside(stack, address) {
        return None;
    }
    let mut xstate = Vec::new();
    xstate.try_reserve_exact(xstate_len + MAGIC2_LEN).ok()?;
    xstate.extend_from_slice(from.xstate);
    mark(&mut xstate, from.features)?;
    let uc = UContext {
        uc_flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        uc_link: 0,
        uc_stack: *stack,
        uc_mcontext: context(registers, from.mask, from.exception, fpstate),
        uc_sigmask: from.mask,
    };
    let frame = SigFrame { pretcode: action.restorer, uc, info: *info };
    Some(Frame { address, frame, fpstate, xstate })
}

/// Says in the extended state what it holds, and ends it.
fn mark(xstate: &mut Vec<u8>, features: u64) -> Option<()> {
    let len = u32::try_from(xstate.len()).ok()?;
    let marks = FpxSwBytes {
        magic1: FP_XSTATE_MAGIC1,
        extended_size: len.checked_add(MAGIC2_LEN as u32)?,
        xfeatures: features,
        xstate_size: len,
        padding: [0; 7],
    };
    xstate.get_mut(FPX_SW_OFFSET..FXSAVE_LEN)?.copy_from_slice(marks.as_bytes());
    // Old programs change the legacy area without a thought for XSTATE_BV, so Linux sets its bits.
    let present = xstate.get_mut(XSTATE_BV..XSTATE_BV + 8)?;
    let bits = u64::from_le_bytes(present.try_into().ok()?) | X87_SSE;
    present.copy_from_slice(&bits.to_le_bytes());
    xstate.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    Some(())
}

fn context(
    registers: &UserRegisters,
    mask: SignalSet,
    exception: ExceptionRecord,
    fpstate: u64,
) -> SigContext {
    let r = registers;
    SigContext {
        r8_to_r15: [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15],
        rdi: r.rdi,
        rsi: r.rsi,
        rbp: r.rbp,
        rbx: r.rbx,
        rdx: r.rdx,
        rax: r.rax,
        rcx: r.rcx,
        rsp: r.rsp,
        rip: r.rip,
        eflags: r.rflags,
        cs: USER_CS,
        gs: 0,
        fs: 0,
        ss: USER_SS,
        err: exception.err,
        trapno: exception.trapno,
        oldmask: mask.0,
        cr2: exception.cr2,
        fpstate,
        reserved1: [0; 8],
    }
}

/// The registers that a handler starts with.
pub(super) fn enter(registers: &mut UserRegisters, frame: &Frame, handler: u64) {
    registers.rdi = u64::from(frame.frame.info.signo.unsigned_abs());
    registers.rsi = frame.address.wrapping_add(core::mem::offset_of!(SigFrame, info) as u64);
    registers.rdx = frame.address.wrapping_add(core::mem::offset_of!(SigFrame, uc) as u64);
    registers.rax = 0;
    registers.rsp = frame.address;
    registers.rip = handler;
    registers.rflags &= !HANDLER_CLEARS;
}

/// The registers that `rt_sigreturn(2)` restores.
pub(super) fn leave(registers: &mut UserRegisters, context: &SigContext) {
    let [r8, r9, r10, r11, r12, r13, r14, r15] = context.r8_to_r15;
    *registers = UserRegisters {
        rax: context.rax,
        rbx: context.rbx,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        rbp: context.rbp,
        rsp: context.rsp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: context.rip,
        rflags: registers.rflags & !RESTORED_FLAGS | context.eflags & RESTORED_FLAGS,
        fs_base: registers.fs_base,
    };
}

/// How many bytes of extended state to load for `rt_sigreturn(2)`, when `legacy` is the legacy area of the frame: that
/// of the XSAVE area with FP_XSTATE_MAGIC2 behind it, if it says that it is one of at most `len` bytes.
pub(super) fn extended_len(legacy: &[u8], len: usize) -> Option<usize> {
    let marks = FpxSwBytes::read_from_bytes(legacy.get(FPX_SW_OFFSET..FXSAVE_LEN)?).ok()?;
    let size = usize::try_from(marks.xstate_size).ok()?;
    let is_sane = marks.magic1 == FP_XSTATE_MAGIC1
        && (XSAVE_MIN..=len).contains(&size)
        && marks.xstate_size <= marks.extended_size;
    is_sane.then_some(size + MAGIC2_LEN)
}

/// Makes an image for the processor, `len` bytes long, of what `rt_sigreturn(2)` found in a frame: an XSAVE area if
/// FP_XSTATE_MAGIC2 ends it, else the legacy area alone.
pub(super) fn image(mut loaded: Vec<u8>, len: usize) -> Vec<u8> {
    let extended = extended_len(&loaded, len).filter(|&extended| {
        loaded.get(extended - MAGIC2_LEN..extended) == Some(&FP_XSTATE_MAGIC2.to_le_bytes()[..])
    });
    let features = match extended {
        Some(extended) => {
            loaded.truncate(extended - MAGIC2_LEN);
            let marks = loaded
                .get(FPX_SW_OFFSET..FXSAVE_LEN)
                .and_then(|marks| FpxSwBytes::read_from_bytes(marks).ok());
            let present = loaded.get(XSTATE_BV..XSTATE_BV + 8).and_then(|bytes| bytes.try_into().ok());
            present.map_or(0, u64::from_le_bytes) & marks.map_or(0, |marks| marks.xfeatures)
        }
        None => {
            loaded.truncate(FXSAVE_LEN);
            X87_SSE
        }
    };
    loaded.resize(len, 0);
    if let Some(present) = loaded.get_mut(XSTATE_BV..XSTATE_BV + 8) {
        present.copy_from_slice(&features.to_le_bytes());
    }
    // XCOMP_BV and the reserved bytes of the header: a standard-format area has none.
    if let Some(reserved) = loaded.get_mut(XSTATE_BV + 8..XSAVE_MIN) {
        reserved.fill(0);
    }
    loaded
}

/// The alternate stack after a handler was entered: one that disarms itself is off until `rt_sigreturn(2)`.
pub(super) fn disarmed(stack: SigStack) -> SigStack {
    if stack.ss_flags & linux_abi::signal::SS_AUTODISARM == 0 {
        return stack;
    }
    SigStack { ss_sp: 0, ss_flags: SS_DISABLE, pad: 0, ss_size: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use linux_abi::signal::{SS_AUTODISARM, Signal, si};

    const XSTATE_LEN: usize = 832;

    fn registers() -> UserRegisters {
        UserRegisters {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rbp: 7,
            rsp: 0x7fff_0123,
            r8: 8,
            r9: 9,
            r10: 10,
            r11: 11,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
            rip: 0x40_1000,
            rflags: 0x246 | 0x400,
            fs_base: 0x1234,
        }
    }

    fn make(stack: SigStack, flags: ActionFlags, rsp: u64) -> Option<Frame> {
        let registers = UserRegisters { rsp, ..registers() };
        let mut xstate = vec![0u8; XSTATE_LEN];
        xstate[160] = 0xaa;
        let from = Interrupted {
            registers: &registers,
            mask: SignalSet(0x55),
            stack,
            exception: ExceptionRecord { trapno: 14, err: 6, cr2: 0xdead },
            xstate: &mut xstate,
            features: 7,
        };
        let action =
            SigAction { handler: 0x5000, flags: flags.bits(), restorer: 0x6000, mask: SignalSet::EMPTY };
        build(from, &SigInfo::fault(Signal::SIGSEGV, si::SEGV_MAPERR, 0xdead), &action)
    }

    const OFF: SigStack = SigStack { ss_sp: 0, ss_flags: SS_DISABLE, pad: 0, ss_size: 0 };

    /// The numbers are what a C program with glibc's <ucontext.h> and <signal.h> prints on x86-64 Linux. glibc's
    /// ucontext_t has the kernel's as its head, then room for the legacy area.
    #[test]
    fn the_layout_is_that_of_linux() {
        assert_eq!(offset_of!(UContext, uc_stack), 16);
        assert_eq!(offset_of!(UContext, uc_mcontext), 40);
        assert_eq!(offset_of!(UContext, uc_sigmask), 296);
        assert_eq!(offset_of!(SigContext, rip), 16 * 8);
        assert_eq!(offset_of!(SigContext, eflags), 17 * 8);
        assert_eq!(offset_of!(SigContext, cs), 18 * 8);
        assert_eq!(offset_of!(SigContext, cr2), 22 * 8);
        assert_eq!(offset_of!(SigContext, fpstate), 184);
        assert_eq!(offset_of!(SigFrame, uc), 8);
        assert_eq!(offset_of!(SigFrame, info), 312);
        assert_eq!(size_of::<SigFrame>(), 440);
    }

    #[test]
    fn a_frame_lies_below_the_red_zone_and_is_aligned_as_after_a_call() {
        let frame = make(OFF, ActionFlags::SIGINFO, 0x7fff_0123).unwrap();
        assert_eq!(frame.address % 16, 8);
        assert_eq!(frame.fpstate % 64, 0);
        let end = frame.fpstate + frame.xstate.len() as u64;
        assert!(end <= 0x7fff_0123 - 128 && end > 0x7fff_0123 - 128 - 64);
        assert!(frame.address + 440 <= frame.fpstate && frame.address + 440 + 24 > frame.fpstate);
    }

    #[test]
    fn a_frame_says_everything_about_the_interrupted_code() {
        let frame = make(OFF, ActionFlags::SIGINFO, 0x7fff_0123).unwrap();
        let uc = &frame.frame.uc;
        assert_eq!(frame.frame.pretcode, 0x6000);
        assert_eq!((uc.uc_flags, uc.uc_sigmask.0), (7, 0x55));
        let c = &uc.uc_mcontext;
        assert_eq!(c.r8_to_r15, [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!((c.rdi, c.rsi, c.rbp, c.rbx, c.rdx, c.rax, c.rcx), (6, 5, 7, 2, 4, 1, 3));
        assert_eq!((c.rsp, c.rip, c.eflags), (0x7fff_0123, 0x40_1000, 0x646));
        assert_eq!((c.cs, c.gs, c.fs, c.ss), (0x33, 0, 0, 0x2b));
        assert_eq!((c.err, c.trapno, c.oldmask, c.cr2, c.fpstate), (6, 14, 0x55, 0xdead, frame.fpstate));
        assert_eq!(frame.frame.info.fields[0], 0xdead);
    }

    #[test]
    fn the_extended_state_carries_its_marks() {
        let frame = make(OFF, ActionFlags::SIGINFO, 0x7fff_0123).unwrap();
        let word = |at: usize| u32::from_le_bytes(frame.xstate[at..at + 4].try_into().unwrap());
        assert_eq!(word(464), 0x4650_5853);
        assert_eq!(word(468), 836);
        assert_eq!((word(472), word(476)), (7, 0));
        assert_eq!(word(480), 832);
        assert_eq!(word(512), 3);
        assert_eq!(word(832), 0x4650_5845);
        assert_eq!(frame.xstate[160], 0xaa);
    }

    #[test]
    fn a_handler_starts_with_its_arguments_and_without_the_direction_flag() {
        let frame = make(OFF, ActionFlags::SIGINFO, 0x7fff_0123).unwrap();
        let mut now = registers();
        enter(&mut now, &frame, 0x5000);
        assert_eq!((now.rdi, now.rsi, now.rdx, now.rax), (11, frame.address + 312, frame.address + 8, 0));
        assert_eq!((now.rsp, now.rip, now.rflags), (frame.address, 0x5000, 0x246));
        assert_eq!((now.rbx, now.fs_base), (2, 0x1234));
    }

    #[test]
    fn leaving_gives_the_registers_back_but_no_privileged_flag() {
        let frame = make(OFF, ActionFlags::SIGINFO, 0x7fff_0123).unwrap();
        let mut now = UserRegisters { rflags: 0x202, fs_base: 0x1234, ..UserRegisters::default() };
        let mut context = frame.frame.uc.uc_mcontext;
        context.eflags |= 0x3000 | 0x100 | 1 << 17;
        leave(&mut now, &context);
        assert_eq!(now, UserRegisters { rsp: 0x7fff_0123, rflags: 0x646, ..registers() });
    }

    #[test]
    fn the_alternate_stack_is_used_when_asked_for_and_not_nested() {
        let stack = SigStack { ss_sp: 0x1_0000, ss_flags: 0, pad: 0, ss_size: 0x2000 };
        let frame = make(stack, ActionFlags::ONSTACK, 0x7fff_0000).unwrap();
        assert!(frame.fpstate + (XSTATE_LEN + 4) as u64 <= 0x1_2000 && frame.fpstate > 0x1_1c00);
        assert_eq!(frame.frame.uc.uc_stack, stack);
        assert!(make(stack, ActionFlags::empty(), 0x7fff_0000).unwrap().address > 0x7ffe_0000);
        // Already on it: below the stack pointer.
        let nested = make(stack, ActionFlags::ONSTACK, 0x1_1800).unwrap();
        assert!(nested.fpstate < 0x1_1800 - 128);
    }

    #[test]
    fn a_frame_that_would_leave_the_alternate_stack_is_refused() {
        let stack = SigStack { ss_sp: 0x1_0000, ss_flags: 0, pad: 0, ss_size: 0x800 };
        assert!(make(stack, ActionFlags::ONSTACK, 0x1_0400).is_none());
        let tiny = SigStack { ss_size: 0x400, ..stack };
        assert!(make(tiny, ActionFlags::ONSTACK, 0x7fff_0000).is_none());
        assert!(make(OFF, ActionFlags::empty(), 64).is_none());
    }

    #[test]
    fn an_image_from_a_frame_is_what_was_saved() {
        let frame = make(OFF, ActionFlags::empty(), 0x7fff_0123).unwrap();
        assert_eq!(extended_len(&frame.xstate, XSTATE_LEN), Some(XSTATE_LEN + 4));
        let image = image(frame.xstate, XSTATE_LEN);
        assert_eq!((image.len(), image[160], image[512]), (XSTATE_LEN, 0xaa, 3));
    }

    #[test]
    fn a_frame_without_its_end_mark_counts_as_the_legacy_area() {
        let mut xstate = make(OFF, ActionFlags::empty(), 0x7fff_0123).unwrap().xstate;
        xstate[832] = 0;
        xstate[600] = 9;
        xstate[520] = 9;
        let image = image(xstate, XSTATE_LEN);
        assert_eq!(
            (image.len(), image[160], image[512], image[520], image[600]),
            (XSTATE_LEN, 0xaa, 3, 0, 0)
        );
    }

    #[test]
    fn absurd_sizes_in_a_frame_are_not_believed() {
        let mut xstate = make(OFF, ActionFlags::empty(), 0x7fff_0123).unwrap().xstate;
        for size in [0u32, 575, 833, u32::MAX] {
            xstate[480..484].copy_from_slice(&size.to_le_bytes());
            assert_eq!(extended_len(&xstate, XSTATE_LEN), None, "{size}");
        }
        assert_eq!(extended_len(&[0; 100], XSTATE_LEN), None);
    }

    #[test]
    fn a_disarming_stack_is_off_in_the_handler() {
        let stack = SigStack { ss_sp: 0x1_0000, ss_flags: SS_AUTODISARM, pad: 0, ss_size: 0x2000 };
        assert_eq!(disarmed(stack), OFF);
        assert_eq!(disarmed(SigStack { ss_flags: 0, ..stack }).ss_sp, 0x1_0000);
    }
}
