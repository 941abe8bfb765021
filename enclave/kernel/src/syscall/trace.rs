//! `--strace`: a line for each system call, as `strace(1)` prints it.

use super::table;
use crate::Ctx;
use alloc::string::String;
use core::fmt::Write;
use kbase::Result;

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
    ctx.platform().trace_line(format_args!("[pid {}] {line}", ctx.thread.tid()));
    result
}
