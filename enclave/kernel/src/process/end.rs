//! How processes end.

use super::Process;
use crate::ipc::segment;
use crate::thread::{Thread, WORK_EXIT};
use crate::{Ctx, Kernel, signal};
use alloc::sync::Arc;
use kbase::{Result, UserAddr, bail};
use linux_abi::signal::{Signal, SignalSet};
use platform::Level;

impl Process {
    /// Decides that the process ends with a wait status, unless that is decided already, and makes all its
    /// threads end.
    pub(crate) fn end_with(&self, status: i32) {
        let threads = {
            let mut state = self.state.lock();
            state.status.get_or_insert(status);
            state.threads.clone()
        };
        for thread in threads {
            thread.request(WORK_EXIT);
        }
    }
}

impl Kernel {
    /// The end of a thread: clears its word, leaves the process, and ends that with its last thread.
    pub(crate) fn end_thread(&self, ctx: &Ctx<'_>) {
        crate::futex::release_robust(ctx);
        ctx.thread.leave_memory(ctx);
        let (is_last, world) = {
            let mut state = ctx.process.state.lock();
            state.threads.retain(|thread| thread.tid() != ctx.thread.tid());
            (state.threads.is_empty(), (state.space.clone(), state.files.clone()))
        };
        self.processes.forget_thread(ctx.thread);
        signal::thread_ended(ctx);
        if !is_last {
            ctx.space.leave();
            ctx.process.ended.wake_all();
            return;
        }
        signal::process_ended(ctx.process);
        let (space, files) = world;
        // What is shared with another process (CLONE_VM, CLONE_FILES) has more owners than this process and this call.
        if Arc::strong_count(&files) <= OWNERS_AT_END {
            files.close_all();
        }
        segment::memory_ends(self, &space, ctx.process.pid);
        if Arc::strong_count(&space) <= OWNERS_AT_END {
            space.end();
        }
        space.leave();
        let status = {
            // A process that waits to be waited for keeps no memory.
            let empty = self.memory.new_space();
            let mut state = ctx.process.state.lock();
            state.space = empty;
            state.has_ended = true;
            *state.status.get_or_insert(0)
        };
        self.log_end(ctx.process, status);
        ctx.process.ended.wake_all();
        ctx.process.has_ended.broadcast(&vfs::Readiness::IN);
        crate::fs::tty::process_ended(self, ctx.process);
        self.ipc.process_ended(self, ctx.process);
        self.bequeath(ctx.process);
    }

    /// Waits until all threads of a process that was started from outside have ended, forgets it and returns its wait
    /// status.
    pub(crate) fn wait_for_end(&self, process: &Arc<Process>, thread: &Arc<Thread>) -> i32 {
        let waker = thread.waker();
        let status = loop {
            process.ended.enqueue(waker);
            {
                let state = process.state.lock();
                if state.has_ended {
                    break state.status.unwrap_or(0);
                }
            }
            self.park(thread, None);
        };
        process.ended.dequeue(waker);
        if process.parent() == 0 {
            self.processes.remove_process(process.pid);
        }
        status
    }
}

impl Kernel {
    /// Sends a signal from outside to process `pid`, or to all (-1).
    ///
    /// # Errors
    /// EINVAL no such signal, or a pid below -1 or 0; EPERM not a signal that is taken from outside; ESRCH no such process.
    pub fn kill(&self, pid: i32, signal: u32) -> Result<()> {
        let Some(signal) = Signal::new(signal.into()) else { bail!(EINVAL, "no such signal") };
        if !FROM_OUTSIDE.has(signal) {
            bail!(EPERM, "not a signal that is taken from outside");
        }
        let targets = match pid {
            -1 => self.processes.all(),
            pid => match u32::try_from(pid) {
                Ok(pid) if pid > 0 => self.processes.process(pid).into_iter().collect(),
                _ => bail!(EINVAL, "no such pid"),
            },
        };
        if targets.is_empty() {
            bail!(ESRCH, "no such process");
        }
        for process in targets {
            signal::send_from_outside(&process, signal);
        }
        Ok(())
    }
}

impl Kernel {
    fn log_end(&self, process: &Process, status: i32) {
        let level = if process.parent() == 0 { Level::Info } else { Level::Debug };
        let pid = process.pid;
        match status & 0x7f {
            0 => self.log(level, format_args!("process {pid} ends with {}", status >> 8 & 0xff)),
            signal => self.log(level, format_args!("process {pid} ends by signal {signal}")),
        }
    }
}

/// Signals that the host may send: what a terminal and an init system send.
const FROM_OUTSIDE: SignalSet = SignalSet::of(Signal::SIGKILL)
    .with(Signal::SIGTERM)
    .with(Signal::SIGINT)
    .with(Signal::SIGQUIT)
    .with(Signal::SIGHUP)
    .with(Signal::SIGTSTP)
    .with(Signal::SIGCONT)
    .with(Signal::SIGWINCH);

/// The process, the context of its last thread, and the function that counts.
const OWNERS_AT_END: usize = 3;

impl Thread {
    /// Clears the word that `set_tid_address(2)` named and wakes who waits for it.
    fn leave_memory(&self, ctx: &Ctx<'_>) {
        let address = self.clear_child_tid.swap(0, core::sync::atomic::Ordering::Relaxed);
        if address == 0 {
            return;
        }
        // A bad address is the program's problem, as on Linux.
        if ctx.user().store(UserAddr(address), &0u32.to_le_bytes()).is_ok() {
            crate::futex::wake(ctx, UserAddr(address), 1);
        }
    }
}
