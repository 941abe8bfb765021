//! Terminals: `termios(3)` and the requests of `ioctl_tty(2)`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control characters of a [`Termios`].
pub const NCCS: usize = 19;

/// `struct termios` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct termios, see termios(3)")]
pub struct Termios {
    pub c_iflag: u32,
    pub c_oflag: u32,
    pub c_cflag: u32,
    pub c_lflag: u32,
    pub c_line: u8,
    pub c_cc: [u8; NCCS],
}
const _: () = assert!(size_of::<Termios>() == 36);

impl Termios {
    /// What a new terminal has.
    #[must_use]
    pub const fn initial() -> Self {
        let input = InputFlags::ICRNL.union(InputFlags::IXON);
        let output = OutputFlags::OPOST.union(OutputFlags::ONLCR);
        let local = LocalFlags::ISIG
            .union(LocalFlags::ICANON)
            .union(LocalFlags::ECHO)
            .union(LocalFlags::ECHOE)
            .union(LocalFlags::ECHOK)
            .union(LocalFlags::ECHOCTL)
            .union(LocalFlags::ECHOKE)
            .union(LocalFlags::IEXTEN);
        Self {
            c_iflag: input.bits(),
            c_oflag: output.bits(),
            // B38400, CS8, CREAD.
            c_cflag: 0o17 | 0o60 | 0o200,
            c_lflag: local.bits(),
            c_line: 0,
            c_cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        }
    }

    /// Control character `index`, one of [`control`].
    #[must_use]
    pub fn control(&self, index: usize) -> u8 {
        self.c_cc.get(index).copied().unwrap_or_default()
    }

    /// Whether a local flag is set.
    #[must_use]
    pub const fn local(&self, flag: LocalFlags) -> bool {
        self.c_lflag & flag.bits() != 0
    }

    /// Whether an input flag is set.
    #[must_use]
    pub const fn input(&self, flag: InputFlags) -> bool {
        self.c_iflag & flag.bits() != 0
    }

    /// Whether an output flag is set.
    #[must_use]
    pub const fn output(&self, flag: OutputFlags) -> bool {
        self.c_oflag & flag.bits() != 0
    }
}

/// Indices into [`Termios::c_cc`].
#[allow(missing_docs, reason = "each is the character of its name")]
pub mod control {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

bitflags! {
    /// `c_iflag`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InputFlags: u32 {
        /// ISTRIP.
        const ISTRIP = 0o40;
        /// INLCR.
        const INLCR = 0o100;
        /// IGNCR.
        const IGNCR = 0o200;
        /// ICRNL.
        const ICRNL = 0o400;
        /// IUCLC.
        const IUCLC = 0o1000;
        /// IXON.
        const IXON = 0o2000;
        /// IXANY.
        const IXANY = 0o4000;
        /// IMAXBEL.
        const IMAXBEL = 0o20000;
        /// IUTF8.
        const IUTF8 = 0o40000;
    }

    /// `c_oflag`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutputFlags: u32 {
        /// OPOST.
        const OPOST = 0o1;
        /// OLCUC.
        const OLCUC = 0o2;
        /// ONLCR.
        const ONLCR = 0o4;
        /// OCRNL.
        const OCRNL = 0o10;
        /// ONOCR.
        const ONOCR = 0o20;
        /// ONLRET.
        const ONLRET = 0o40;
        /// TABDLY when it is XTABS: tabs become spaces.
        const XTABS = 0o14000;
    }

    /// `c_lflag`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LocalFlags: u32 {
        /// ISIG.
        const ISIG = 0o1;
        /// ICANON.
        const ICANON = 0o2;
        /// ECHO.
        const ECHO = 0o10;
        /// ECHOE.
        const ECHOE = 0o20;
        /// ECHOK.
        const ECHOK = 0o40;
        /// ECHONL.
        const ECHONL = 0o100;
        /// NOFLSH.
        const NOFLSH = 0o200;
        /// TOSTOP.
        const TOSTOP = 0o400;
        /// ECHOCTL.
        const ECHOCTL = 0o1000;
        /// ECHOKE.
        const ECHOKE = 0o4000;
        /// IEXTEN.
        const IEXTEN = 0o100_000;
    }
}

/// `struct winsize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "fields of struct winsize, see ioctl_tty(2)")]
pub struct Winsize {
    pub ws_row: u16,
    pub ws_col: u16,
    pub ws_xpixel: u16,
    pub ws_ypixel: u16,
}

/// Requests of `ioctl_tty(2)` that only terminals have.
#[allow(missing_docs, reason = "each is the request of its name")]
pub mod ioctl {
    pub const TCSBRK: u32 = 0x5409;
    pub const TCXONC: u32 = 0x540a;
    pub const TCFLSH: u32 = 0x540b;
    pub const TIOCOUTQ: u32 = 0x5411;
    pub const TIOCPKT: u32 = 0x5420;
    pub const TIOCSETD: u32 = 0x5423;
    pub const TIOCGETD: u32 = 0x5424;
    pub const TCSBRKP: u32 = 0x5425;
    pub const TIOCGPTN: u32 = 0x8004_5430;
    pub const TIOCSPTLCK: u32 = 0x4004_5431;
    pub const TIOCSIG: u32 = 0x4004_5436;
    pub const TIOCGPKT: u32 = 0x8004_5438;
    pub const TIOCGPTLCK: u32 = 0x8004_5439;
    pub const TIOCGPTPEER: u32 = 0x5441;
    /// Arguments of TCFLSH.
    pub const TCIFLUSH: u64 = 0;
    pub const TCOFLUSH: u64 = 1;
    pub const TCIOFLUSH: u64 = 2;
    /// Arguments of TCXONC.
    pub const TCOOFF: u64 = 0;
    pub const TCOON: u64 = 1;
    pub const TCIOFF: u64 = 2;
    pub const TCION: u64 = 3;
}

/// Status bytes of packet mode (TIOCPKT).
#[allow(missing_docs, reason = "each is the status of its name")]
pub mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
}
