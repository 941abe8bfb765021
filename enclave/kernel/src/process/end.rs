//! How processes end.

use super::Process;
use crate::ipc::segment;
use crate::thread::{Thread, WORK_EXIT};
use crate::vm::AddressSpace;
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

    /// Gives memory up, and what is attached with it; true: no other process has it, and it is empty.
    pub(super) fn give_up_memory(&self, kernel: &Kernel, space: &AddressSpace) -> bool {
        let is_last = space.users().leave();
        if is_last {
            segment::memory_ends(kernel, space, self.pid);
            space.end();
        }
        is_last
    }
}

impl Kernel {
    /// The end of a thread: clears its word, leaves the process, and ends that with its last thread.
    pub(crate) fn end_thread(&self, ctx: &Ctx<'_>) {
        crate::futex::release_robust(ctx);
        ctx.thread.leave_memory(ctx);
        // Not those of `ctx`: it may have got others just now. Given up before the thread is gone, so that who waits for that
        // (`execve`) finds the table its own.
        let (files, fs) = ctx.process.tables(ctx.thread);
        let ends_files = files.users().leave();
        let (is_last, space) = {
            let mut state = ctx.process.state.lock();
            let state = &mut *state;
            state.threads.retain(|thread| thread.tid() != ctx.thread.tid());
            state.tables.remove(&ctx.thread.tid());
            if let Some(first) = state.threads.first()
                && let Some(tables) = state.tables.get(&first.tid())
            {
                (state.files, state.fs) = tables.clone();
            }
            (state.threads.is_empty(), state.space.clone())
        };
        drop(fs);
        self.processes.forget_thread(ctx.thread);
        signal::thread_ended(ctx);
        if !is_last {
            if ends_files {
                files.close_all();
            }
            ctx.space.leave();
            ctx.process.ended.wake_all();
            return;
        }
        signal::process_ended(ctx.process);
        if ends_files {
            files.close_all();
        }
        ctx.process.give_up_memory(self, &space);
        ctx.space.leave();
        self.end_process(ctx.process);
    }

    /// The end of a process that has given up what it had: others hear of it.
    fn end_process(&self, process: &Arc<Process>) {
        let status = {
            let mut state = process.state.lock();
            // A process that waits to be waited for keeps nothing alive: a descriptor that others still have may be of this process.
            (state.space, state.files) = self.nothing.clone();
            *state.status.get_or_insert(0)
        };
        self.log_end(process, status);
        let bequest = self.processes.bequeath(process);
        process.ended.wake_all();
        process.has_ended.broadcast(&vfs::Readiness::IN);
        crate::fs::tty::process_ended(self, process);
        self.ipc.process_ended(self, process);
        self.tell(bequest, process);
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
        self.processes.remove_process(process.pid);
        self.settle_streams(thread);
        status
    }

    /// Waits until the host has what programs sent before they closed, but not for ever: when it hears that a program has ended,
    /// it may take the enclave away.
    fn settle_streams(&self, thread: &Thread) {
        let sockets = &self.host_sockets;
        let platform = &**self.platform();
        let until = platform.monotonic_ns().saturating_add(SETTLE_NS);
        sockets.dispatch(platform);
        while sockets.streams.are_closing() && platform.monotonic_ns() < until {
            self.park(thread, sockets.streams.limit(platform, Some(until)));
            sockets.dispatch(platform);
        }
    }
}

/// How long the end of a program waits for what it sent, in nanoseconds.
const SETTLE_NS: u64 = 10_000_000_000;

impl Kernel {
    /// Takes the edges that the host has told of, and passes them on.
    pub fn take_readiness(&self) {
        self.host_sockets.dispatch(&**self.platform());
    }

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
        let level = if process.is_outsiders { Level::Info } else { Level::Debug };
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
