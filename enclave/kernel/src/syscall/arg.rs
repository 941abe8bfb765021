//! Registers become arguments here, and nowhere else.
//!
//! An [`Arg`] is made from the 64 bits of a register exactly as Linux reads it: 32-bit types take the low half. It
//! also knows how to print itself for `--strace`.

use crate::Ctx;
use core::fmt::{self, Write};
use kbase::{Result, UserAddr, UserPtr};

/// An argument of a system call.
pub(crate) trait Arg: Sized {
    /// The value of a register.
    ///
    /// # Errors
    /// What the call answers to a value that cannot be of this type.
    fn from_arg(raw: u64) -> Result<Self>;

    /// Prints the value of a register for a trace.
    fn show(raw: u64, ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result;
}

/// The low half of a register.
const fn low(raw: u64) -> u32 {
    let [a, b, c, d, ..] = raw.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fd(pub(crate) u32);

impl Arg for Fd {
    fn from_arg(raw: u64) -> Result<Self> {
        // A negative one is in no table, which is found when it is looked for.
        Ok(Self(low(raw)))
    }

    fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        write!(into, "{}", low(raw).cast_signed())
    }
}

/// A descriptor that a path starts from, or AT_FDCWD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirFd {
    /// AT_FDCWD: the working directory.
    Cwd,
    /// A descriptor. Its validity matters only where the path is relative, so a negative one is kept until then.
    Fd(i32),
}

impl Arg for DirFd {
    fn from_arg(raw: u64) -> Result<Self> {
        match low(raw).cast_signed() {
            -100 => Ok(Self::Cwd),
            fd => Ok(Self::Fd(fd)),
        }
    }

    fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        match low(raw).cast_signed() {
            -100 => into.write_str("AT_FDCWD"),
            fd => write!(into, "{fd}"),
        }
    }
}

/// The address of a path or another NUL-terminated string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserStr(pub(crate) UserAddr);

impl Arg for UserStr {
    fn from_arg(raw: u64) -> Result<Self> {
        Ok(Self(UserAddr(raw)))
    }

    fn show(raw: u64, ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        match ctx.user().load_c_string(UserAddr(raw), 4096) {
            Ok(string) => write!(into, "\"{}\"", string.escape_ascii()),
            Err(_) => write!(into, "{raw:#x}"),
        }
    }
}

impl Arg for UserAddr {
    fn from_arg(raw: u64) -> Result<Self> {
        Ok(Self(raw))
    }

    fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        if raw == 0 { into.write_str("NULL") } else { write!(into, "{raw:#x}") }
    }
}

impl<T> Arg for UserPtr<T> {
    fn from_arg(raw: u64) -> Result<Self> {
        Ok(Self::new(UserAddr(raw)))
    }

    fn show(raw: u64, ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
        UserAddr::show(raw, ctx, into)
    }
}

/// Integer types: the conversion from a register, then how it is shown.
macro_rules! integers {
    ($($type:ty: $convert:expr, $format:literal;)*) => {
        $(impl Arg for $type {
            fn from_arg(raw: u64) -> Result<Self> {
                let convert: fn(u64) -> Self = $convert;
                Ok(convert(raw))
            }

            fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
                let convert: fn(u64) -> Self = $convert;
                write!(into, $format, convert(raw))
            }
        })*
    };
}

integers! {
    u64: |raw| raw, "{}";
    i64: u64::cast_signed, "{}";
    u32: low, "{:#x}";
    i32: |raw| low(raw).cast_signed(), "{}";
    // The enclave is 64-bit: nothing is lost.
    usize: |raw| usize::try_from(raw).unwrap_or(usize::MAX), "{}";
}

/// Makes `bitflags` types arguments: unknown bits are EINVAL.
macro_rules! flag_args {
    ($($type:ty: $bits:ty;)*) => {
        $(impl Arg for $type {
            fn from_arg(raw: u64) -> Result<Self> {
                let bits = <$bits>::from_arg(raw)?;
                Self::from_bits(bits).ok_or(Error::new(Errno::EINVAL, "unknown flag"))
            }

            fn show(raw: u64, _ctx: &Ctx<'_>, into: &mut dyn Write) -> fmt::Result {
                let flags = Self::from_bits_retain(<$bits>::from_arg(raw).unwrap_or_default());
                if flags.is_empty() {
                    return into.write_str("0");
                }
                bitflags::parser::to_writer(&flags, into)
            }
        })*
    };
}
pub(crate) use flag_args;

/// What a system call may return.
pub(crate) trait Value {
    /// The value of RAX.
    fn into_register(self) -> u64;
}

impl Value for () {
    fn into_register(self) -> u64 {
        0
    }
}

impl Value for u64 {
    fn into_register(self) -> u64 {
        self
    }
}

impl Value for u32 {
    fn into_register(self) -> u64 {
        self.into()
    }
}

impl Value for i32 {
    fn into_register(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}

impl Value for usize {
    fn into_register(self) -> u64 {
        self as u64
    }
}

impl Value for Fd {
    fn into_register(self) -> u64 {
        self.0.into()
    }
}

impl Value for UserAddr {
    fn into_register(self) -> u64 {
        self.0
    }
}
