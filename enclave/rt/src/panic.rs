//! The end of the enclave, when something is wrong with the LibOS itself.

use crate::area;
use crate::ocall::Channel;
use core::fmt::{self, Write};
use edge_abi::ocall::Ocall;
use sgx_arch::{Exinfo, Gprsgx};

/// A line built without allocating.
pub(crate) struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; 512], len: 0 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            let Some(slot) = self.bytes.get_mut(self.len) else { return Ok(()) };
            *slot = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Says why in a debug enclave, and ends the enclave.
pub fn abort(reason: &str) -> ! {
    abort_with(format_args!("{reason}"))
}

/// As [`abort`], with a formatted reason.
pub fn abort_with(reason: fmt::Arguments<'_>) -> ! {
    if crate::runtime::debuggable() {
        let mut line = Line::new();
        let _ = write!(line, "the LibOS stops: {reason}");
        say(&line);
    }
    // SAFETY: nothing of this thread is used afterwards.
    unsafe { crate::entry::abort_exit() }
}

fn say(line: &Line) {
    if let Some(channel) = Channel::current()
        && channel.put(0, line.as_bytes()).is_ok()
    {
        let _ = channel.call(Ocall::Log, [1, line.as_bytes().len() as u64, 0, 0, 0, 0], 0);
    }
}

/// Leaves a description of a fault in kernel code in the buffer for the host, in a debug enclave. Called by the exception
/// handler, which cannot make OCALLs: the host prints the buffer when it sees the abort.
pub(crate) fn report_fault(registers: &Gprsgx, exinfo: &Exinfo) {
    let Some(channel) = Channel::current() else { return };
    let mut line = Line::new();
    if crate::runtime::debuggable() {
        let _ = write!(
            line,
            "the LibOS stops: exception {} at {:#x} (image+{:#x}), address {:#x}, error {:#x}, rsp {:#x}, thread {}",
            registers.exitinfo.vector(),
            registers.rip,
            registers.rip.wrapping_sub(edge_abi::layout::IMAGE_BASE),
            exinfo.maddr,
            exinfo.errcd,
            registers.rsp,
            area::get::<{ area::INDEX }>(),
        );
    }
    let _ = channel.put(0, &[0; 512]);
    let _ = channel.put(0, line.as_bytes());
}
