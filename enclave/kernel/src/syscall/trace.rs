//! `--strace`, and the log level `trace`: a line for each system call, as `strace(1)` prints it.

use super::table;
use crate::Ctx;
use alloc::string::String;
use core::fmt::{self, Write};
use kbase::{Result, UserAddr};
use linux_abi::fs::{O_ACCMODE, OpenFlags};
use platform::Level;

/// Serves a call and prints it with its result. Strings are read before the call, which may unmap them.
#[cold]
pub(super) fn dispatch(ctx: &Ctx<'_>, number: u64, arguments: [u64; 6]) -> Result<u64> {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = match table::name(number) {
        Some(name) => line.write_str(name),
        None => write!(line, "syscall_{number:#x}"),
    };
    line.push('(');
    let _ = table::show_arguments(ctx, number, arguments, &mut line);
    line.push(')');
    let result = table::invoke(ctx, number, arguments);
    let _ = match &result {
        // Addresses in hexadecimal, small numbers in decimal, as strace does.
        Ok(value) if *value >= 0x1_0000 => write!(line, " = {value:#x}"),
        Ok(value) => write!(line, " = {}", value.cast_signed()),
        Err(error) => match error.errno() {
            errno if errno.is_restart() => line.write_str(" = ? (to be restarted after a signal)"),
            errno => write!(line, " = -1 {errno} ({})", error.note()),
        },
    };
    let tid = ctx.thread.tid();
    if ctx.platform().wants_strace() {
        ctx.platform().trace_line(format_args!("[pid {tid}] {line}"));
    } else {
        ctx.kernel.log(Level::Trace, format_args!("[pid {tid}] {line}"));
    }
    result
}

const WRITE: u64 = 1;
const OPEN: u64 = 2;
const PWRITE64: u64 = 18;
const MREMAP: u64 = 25;
const OPENAT: u64 = 257;
const FALLOCATE: u64 = 285;

/// Prints an argument whose type says too little about it; says whether it did.
pub(super) fn show(
    ctx: &Ctx<'_>,
    call: u64,
    argument: &str,
    raw: u64,
    all: &[u64; 6],
    into: &mut dyn Write,
) -> core::result::Result<bool, fmt::Error> {
    match (call, argument) {
        (OPEN | OPENAT, "flags") => show_open_flags(raw, into)?,
        (FALLOCATE, "mode") => return Ok(false),
        // Types and the bits above them are the caller's, not to be cut.
        (_, "mode") => write!(into, "{:#o}", raw & 0xffff_ffff)?,
        (WRITE | PWRITE64, "buffer") => return show_text(ctx, raw, all[2], into),
        (MREMAP, "old" | "new") | (_, "address" | "start" | "end" | "stack" | "tls" | "head") => match raw {
            0 => into.write_str("NULL")?,
            _ => write!(into, "{raw:#x}")?,
        },
        _ => return Ok(false),
    }
    Ok(true)
}

fn show_open_flags(raw: u64, into: &mut dyn Write) -> fmt::Result {
    let bits = u32::try_from(raw & 0xffff_ffff).unwrap_or_default();
    into.write_str(match bits & O_ACCMODE {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    })?;
    let mut known = O_ACCMODE;
    for (name, flag) in OpenFlags::from_bits_retain(bits & !O_ACCMODE).iter_names() {
        write!(into, "|O_{name}")?;
        known |= flag.bits();
    }
    match bits & !known {
        0 => Ok(()),
        rest => write!(into, "|{rest:#x}"),
    }
}

/// The start of what is written.
fn show_text(
    ctx: &Ctx<'_>,
    address: u64,
    len: u64,
    into: &mut dyn Write,
) -> core::result::Result<bool, fmt::Error> {
    let mut start = [0; 32];
    let shown = usize::try_from(len).unwrap_or(usize::MAX).min(start.len());
    let Some(part) = start.get_mut(..shown) else { return Ok(false) };
    if ctx.user().load(UserAddr(address), part).is_err() {
        return Ok(false);
    }
    let more = if len > shown as u64 { "..." } else { "" };
    write!(into, "\"{}\"{more}", part.escape_ascii())?;
    Ok(true)
}
