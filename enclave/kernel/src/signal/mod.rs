//! Signals.

use crate::Ctx;
use crate::thread::ExceptionRecord;
use core::ops::ControlFlow;
use linux_abi::process::status_killed;
use linux_abi::signal::SigInfo;

/// What a thread has of signals.
pub(crate) struct ThreadSignals {}

impl ThreadSignals {
    pub(crate) const fn new() -> Self {
        Self {}
    }
}

/// What a process has of signals.
pub(crate) struct ProcessSignals {}

impl ProcessSignals {
    pub(crate) const fn new() -> Self {
        Self {}
    }

    /// `execve`: caught signals get their default action.
    pub(crate) fn reset_for_exec(&self) {}
}

/// Whether a signal waits for the calling thread that would run a handler, stop or end it.
pub(crate) fn is_deliverable(_ctx: &Ctx<'_>) -> bool {
    false
}

/// Delivers what is pending, before user code runs again. `Break`: the process ends with this wait status.
pub(crate) fn deliver(_ctx: &Ctx<'_>) -> ControlFlow<i32> {
    ControlFlow::Continue(())
}

/// Makes a signal of an exception, which cannot be blocked or ignored. `Break`: the process ends with this wait status.
pub(crate) fn raise_fault(_ctx: &Ctx<'_>, info: SigInfo, _record: ExceptionRecord) -> ControlFlow<i32> {
    ControlFlow::Break(status_killed(info.signo, false))
}

/// An interrupt came or time passed: expires the timers of the process.
pub(crate) fn on_interrupt(_ctx: &Ctx<'_>) {}

/// A signal from outside, or -1: SIGTERM and the like.
pub(crate) fn send_from_outside(_process: &alloc::sync::Arc<crate::Process>, _signal: linux_abi::signal::Signal) {}
