//! Signals: numbers, sets, actions, `siginfo_t`, and the frame on the user stack.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Makes the constants and the names of the classic signals.
macro_rules! signals {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Signal {
            $(#[doc = concat!(stringify!($name), ".")]
            pub const $name: Self = Self($number);)*

            /// Its name, for the classic ones.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8,
    SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15,
    SIGSTKFLT = 16, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22,
    SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25, SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29,
    SIGPWR = 30, SIGSYS = 31,
}

/// What a signal does that is not caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process, with a core dump where that is possible.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues the process.
    Continue,
}

impl Signal {
    /// The signal of a number, if it is one.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number.to_le_bytes()[0])) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether each instance is queued (32 and up).
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// Its default action (`signal(7)`).
    #[must_use]
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Self::SIGCHLD | Self::SIGURG | Self::SIGWINCH => DefaultAction::Ignore,
            Self::SIGCONT => DefaultAction::Continue,
            Self::SIGSTOP | Self::SIGTSTP | Self::SIGTTIN | Self::SIGTTOU => DefaultAction::Stop,
            Self::SIGQUIT
            | Self::SIGILL
            | Self::SIGTRAP
            | Self::SIGABRT
            | Self::SIGBUS
            | Self::SIGFPE
            | Self::SIGSEGV
            | Self::SIGXCPU
            | Self::SIGXFSZ
            | Self::SIGSYS => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }
}

impl core::fmt::Debug for Signal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

/// A set of signals (the kernel's `sigset_t`, 64 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// SIGKILL and SIGSTOP, which cannot be blocked or caught.
    pub const UNBLOCKABLE: Self = Self::of(Signal::SIGKILL).with(Signal::SIGSTOP);
    /// Signals that an instruction causes, delivered first.
    pub const SYNCHRONOUS: Self = Self::of(Signal::SIGSEGV)
        .with(Signal::SIGBUS)
        .with(Signal::SIGILL)
        .with(Signal::SIGTRAP)
        .with(Signal::SIGFPE)
        .with(Signal::SIGSYS);
    /// The stop signals.
    pub const STOPS: Self =
        Self::of(Signal::SIGSTOP).with(Signal::SIGTSTP).with(Signal::SIGTTIN).with(Signal::SIGTTOU);

    /// One signal.
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        Self(1 << (signal.0 - 1))
    }

    /// The set and a signal.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without those of another.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it has a signal.
    #[must_use]
    pub const fn has(self, signal: Signal) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its lowest signal.
    #[must_use]
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Signal::new(self.0.trailing_zeros() as u64 + 1) }
    }
}

bitflags! {
    /// `sa_flags`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ActionFlags: u64 {
        /// SA_NOCLDSTOP.
        const NOCLDSTOP = 1;
        /// SA_NOCLDWAIT.
        const NOCLDWAIT = 2;
        /// SA_SIGINFO.
        const SIGINFO = 4;
        /// SA_RESTORER.
        const RESTORER = 0x0400_0000;
        /// SA_ONSTACK.
        const ONSTACK = 0x0800_0000;
        /// SA_RESTART.
        const RESTART = 0x1000_0000;
        /// SA_NODEFER.
        const NODEFER = 0x4000_0000;
        /// SA_RESETHAND.
        const RESETHAND = 0x8000_0000;
        const _ = !0;
    }
}

/// The kernel's `struct sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigAction {
    /// Address of the handler, or [`SIG_DFL`], [`SIG_IGN`].
    pub handler: u64,
    /// [`ActionFlags`].
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SignalSet,
}

/// The default action.
pub const SIG_DFL: u64 = 0;
/// Ignored.
pub const SIG_IGN: u64 = 1;

/// SIG_BLOCK.
pub const SIG_BLOCK: u32 = 0;
/// SIG_UNBLOCK.
pub const SIG_UNBLOCK: u32 = 1;
/// SIG_SETMASK.
pub const SIG_SETMASK: u32 = 2;

/// `stack_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigStack {
    /// Lowest address.
    pub ss_sp: u64,
    /// SS_ONSTACK, SS_DISABLE, SS_AUTODISARM.
    pub ss_flags: u32,
    /// Padding.
    pub pad: u32,
    /// Bytes.
    pub ss_size: u64,
}

/// SS_ONSTACK.
pub const SS_ONSTACK: u32 = 1;
/// SS_DISABLE.
pub const SS_DISABLE: u32 = 2;
/// SS_AUTODISARM.
pub const SS_AUTODISARM: u32 = 0x8000_0000;
/// MINSIGSTKSZ of the kernel interface.
pub const MINSIGSTKSZ: u64 = 2048;

/// `siginfo_t`: 128 bytes, of which the union begins at 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigInfo {
    /// `si_signo`.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Padding.
    pub pad: i32,
    /// The union, by words: for SI_USER and SIGCHLD word 0 is pid and uid; for faults it is `si_addr`; for
    /// SIGCHLD word 1 is the status, words 2 and 3 the times; for SI_QUEUE word 1 is the value.
    pub fields: [u64; 14],
}

const _: () = assert!(size_of::<SigInfo>() == 128);

impl SigInfo {
    /// A `siginfo_t` with an empty union.
    #[must_use]
    pub const fn new(signal: Signal, code: i32) -> Self {
        Self { signo: signal.0 as i32, errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// Sent by a process (`kill(2)`: [`si::USER`], `tkill(2)`: [`si::TKILL`]).
    #[must_use]
    pub const fn sent(signal: Signal, code: i32, pid: u32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = pid as u64 | (uid as u64) << 32;
        info
    }

    /// Caused by an instruction.
    #[must_use]
    pub const fn fault(signal: Signal, code: i32, address: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = address;
        info
    }

    /// A child changed its state.
    #[must_use]
    pub const fn child(code: i32, pid: u32, uid: u32, status: i32) -> Self {
        let mut info = Self::sent(Signal::SIGCHLD, code, pid, uid);
        info.fields[1] = status.cast_unsigned() as u64;
        info
    }
}

/// `struct signalfd_siginfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalFdInfo {
    /// Number.
    pub signo: u32,
    /// Unused.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Sender.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// SIGIO: descriptor.
    pub fd: i32,
    /// Timers: number.
    pub tid: u32,
    /// SIGIO: events.
    pub band: u32,
    /// Timers: overrun.
    pub overrun: u32,
    /// Faults: unused.
    pub trapno: u32,
    /// SIGCHLD: exit status or signal.
    pub status: i32,
    /// Value.
    pub int: i32,
    /// Value.
    pub ptr: u64,
    /// SIGCHLD: ticks of user time.
    pub utime: u64,
    /// SIGCHLD: ticks of system time.
    pub stime: u64,
    /// Faults: address.
    pub addr: u64,
    /// Faults: how exact the address is.
    pub addr_lsb: u16,
    /// Padding.
    pub pad2: u16,
    /// SIGSYS: number.
    pub syscall: i32,
    /// SIGSYS: where.
    pub call_addr: u64,
    /// SIGSYS: architecture.
    pub arch: u32,
    /// Padding.
    pub pad: [u8; 28],
}

const _: () = assert!(size_of::<SignalFdInfo>() == 128);

/// `si_code`.
pub mod si {
    /// SI_USER.
    pub const USER: i32 = 0;
    /// SI_KERNEL.
    pub const KERNEL: i32 = 0x80;
    /// SI_QUEUE.
    pub const QUEUE: i32 = -1;
    /// SI_TIMER.
    pub const TIMER: i32 = -2;
    /// SI_MESGQ.
    pub const MESGQ: i32 = -3;
    /// POLL_IN.
    pub const POLL_IN: i32 = 1;
    /// POLL_OUT.
    pub const POLL_OUT: i32 = 2;
    /// SI_TKILL.
    pub const TKILL: i32 = -6;
    /// SEGV_MAPERR.
    pub const SEGV_MAPERR: i32 = 1;
    /// SEGV_ACCERR.
    pub const SEGV_ACCERR: i32 = 2;
    /// BUS_ADRALN.
    pub const BUS_ADRALN: i32 = 1;
    /// BUS_ADRERR.
    pub const BUS_ADRERR: i32 = 2;
    /// FPE_INTDIV.
    pub const FPE_INTDIV: i32 = 1;
    /// FPE_FLTDIV.
    pub const FPE_FLTDIV: i32 = 3;
    /// FPE_FLTOVF.
    pub const FPE_FLTOVF: i32 = 4;
    /// FPE_FLTUND.
    pub const FPE_FLTUND: i32 = 5;
    /// FPE_FLTRES.
    pub const FPE_FLTRES: i32 = 6;
    /// FPE_FLTINV.
    pub const FPE_FLTINV: i32 = 7;
    /// ILL_ILLOPN.
    pub const ILL_ILLOPN: i32 = 2;
    /// TRAP_BRKPT.
    pub const TRAP_BRKPT: i32 = 1;
    /// TRAP_TRACE.
    pub const TRAP_TRACE: i32 = 2;
    /// CLD_EXITED.
    pub const CLD_EXITED: i32 = 1;
    /// CLD_KILLED.
    pub const CLD_KILLED: i32 = 2;
    /// CLD_DUMPED.
    pub const CLD_DUMPED: i32 = 3;
    /// CLD_STOPPED.
    pub const CLD_STOPPED: i32 = 5;
    /// CLD_CONTINUED.
    pub const CLD_CONTINUED: i32 = 6;
}

/// `struct sigcontext` of x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigContext {
    /// R8 to R15.
    pub r8_to_r15: [u64; 8],
    /// RDI.
    pub rdi: u64,
    /// RSI.
    pub rsi: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// RDX.
    pub rdx: u64,
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RSP.
    pub rsp: u64,
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub eflags: u64,
    /// CS, 0x33 for 64-bit code.
    pub cs: u16,
    /// GS.
    pub gs: u16,
    /// FS.
    pub fs: u16,
    /// SS, 0x2b.
    pub ss: u16,
    /// Error code of the exception.
    pub err: u64,
    /// Vector of the exception.
    pub trapno: u64,
    /// Low word of the mask.
    pub oldmask: u64,
    /// Address of a page fault.
    pub cr2: u64,
    /// Address of the extended state, or 0.
    pub fpstate: u64,
    /// Reserved.
    pub reserved1: [u64; 8],
}

const _: () = assert!(size_of::<SigContext>() == 256);

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UContext {
    /// [`UC_FP_XSTATE`] and others.
    pub uc_flags: u64,
    /// Unused by the kernel.
    pub uc_link: u64,
    /// The alternate stack.
    pub uc_stack: SigStack,
    /// The registers.
    pub uc_mcontext: SigContext,
    /// The mask to restore.
    pub uc_sigmask: SignalSet,
}

/// `struct rt_sigframe`: what lies on the stack when a handler starts, lowest address first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigFrame {
    /// Return address: the restorer.
    pub pretcode: u64,
    /// Third argument of the handler.
    pub uc: UContext,
    /// Second argument of the handler.
    pub info: SigInfo,
}

const _: () = assert!(size_of::<SigFrame>() == 8 + 304 + 128);

/// The frame has an extended state.
pub const UC_FP_XSTATE: u64 = 1;
/// SS is saved.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// SS is restored strictly.
pub const UC_STRICT_RESTORE_SS: u64 = 4;

/// Offset of [`FpxSwBytes`] in the extended state.
pub const FPX_SW_OFFSET: usize = 464;
/// `magic1` of [`FpxSwBytes`].
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// The word after the extended state.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

/// `struct _fpx_sw_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FpxSwBytes {
    /// [`FP_XSTATE_MAGIC1`].
    pub magic1: u32,
    /// Bytes of the extended state and [`FP_XSTATE_MAGIC2`].
    pub extended_size: u32,
    /// Features in it.
    pub xfeatures: u64,
    /// Bytes of the extended state.
    pub xstate_size: u32,
    /// Reserved.
    pub padding: [u32; 7],
}

const _: () = assert!(size_of::<FpxSwBytes>() == 48);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_is_put_in() {
        let set = SignalSet::of(Signal::SIGHUP).with(Signal::new(64).unwrap());
        assert!(set.has(Signal::SIGHUP) && set.has(Signal::new(64).unwrap()) && !set.has(Signal::SIGINT));
        assert_eq!(set.first(), Some(Signal::SIGHUP));
        assert_eq!(set.minus(SignalSet::of(Signal::SIGHUP)).first().map(Signal::number), Some(64));
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
    }
}
