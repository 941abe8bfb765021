//! How processes end.

use super::Process;
use crate::thread::{Thread, WORK_EXIT};
use crate::{Ctx, Kernel};
use alloc::sync::Arc;
use kbase::UserAddr;

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
        ctx.thread.leave_memory(ctx);
        let (is_last, world) = {
            let mut state = ctx.process.state.lock();
            state.threads.retain(|thread| thread.tid != ctx.thread.tid);
            (state.threads.is_empty(), (state.space.clone(), state.files.clone()))
        };
        self.processes.remove_thread(ctx.thread.tid);
        if !is_last {
            return;
        }
        let (space, files) = world;
        // What is shared with another process (CLONE_VM, CLONE_FILES) has more owners than this process and this call.
        if Arc::strong_count(&files) <= OWNERS_AT_END {
            files.close_all();
        }
        if Arc::strong_count(&space) <= OWNERS_AT_END {
            space.clear();
        }
        {
            let mut state = ctx.process.state.lock();
            state.status.get_or_insert(0);
            state.has_ended = true;
        }
        ctx.process.ended.wake_all();
    }

    /// Waits until all threads of a process that was started from outside have ended, forgets it and returns its wait
    /// status.
    pub(crate) fn wait_for_end(&self, process: &Arc<Process>, thread: &Arc<Thread>) -> i32 {
        let waker = thread.waker();
        process.ended.add(&waker);
        let status = loop {
            {
                let state = process.state.lock();
                if state.has_ended {
                    break state.status.unwrap_or(0);
                }
            }
            self.platform().park(None);
        };
        process.ended.remove(&waker);
        self.processes.remove_process(process.pid);
        status
    }
}

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
