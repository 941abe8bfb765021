//! `clone(2)`: new threads, and new processes with a copy of the memory of their creator, or in it until they call
//! `execve`.

use super::{NewProcess, Origin, Process, Tables};
use crate::Ctx;
use crate::ipc::segment;
use crate::syscall::Fd;
use crate::thread::NewThread;
use crate::vm::AddressSpace;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::{Errno, Error, Result, UserPtr, bail};
use linux_abi::fs::OpenFlags;
use linux_abi::process::CloneFlags;
use linux_abi::signal::Signal;
use platform::Level;

/// What is to be created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloneRequest {
    pub(crate) flags: CloneFlags,
    /// The signal that the end of the child sends to its parent.
    pub(crate) exit_signal: Option<Signal>,
    /// The stack pointer of the child, or 0: the caller's.
    pub(crate) stack: u64,
    /// Where CLONE_PIDFD stores a descriptor of the child.
    pub(crate) pidfd: UserPtr<u32>,
    /// Where CLONE_PARENT_SETTID stores the number.
    pub(crate) parent_tid: UserPtr<u32>,
    /// Where CLONE_CHILD_SETTID stores it, and CLONE_CHILD_CLEARTID clears it.
    pub(crate) child_tid: UserPtr<u32>,
    /// What CLONE_SETTLS makes the thread pointer.
    pub(crate) tls: u64,
}

/// Flags that ask for namespaces.
pub(super) const NAMESPACES: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET);

/// Creates a thread or a process and returns its number.
///
/// # Errors
/// EINVAL flags that contradict each other; EPERM namespaces; EAGAIN too many threads; EFAULT; ENOMEM the memory
/// is too large to be copied.
pub(crate) fn clone(ctx: &Ctx<'_>, request: CloneRequest) -> Result<u32> {
    let flags = request.flags;
    let has = |flag| flags.contains(flag);
    if has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND)
        || has(CloneFlags::SIGHAND) && !has(CloneFlags::VM)
    {
        bail!(EINVAL, "CLONE_THREAD needs CLONE_SIGHAND, and that CLONE_VM");
    }
    if has(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND) || has(CloneFlags::FS | CloneFlags::NEWNS) {
        bail!(EINVAL, "flags that contradict each other");
    }
    if flags.intersects(NAMESPACES) {
        bail!(EPERM, "there are no namespaces");
    }
    if has(CloneFlags::PIDFD | CloneFlags::THREAD) || has(CloneFlags::PIDFD | CloneFlags::DETACHED) {
        bail!(EINVAL, "a pidfd is of a process");
    }
    let is_thread = has(CloneFlags::THREAD);
    let child = if is_thread { new_thread(ctx, &request) } else { new_process(ctx, &request) }?;
    let what = if is_thread { "thread" } else { "child" };
    ctx.kernel.log(Level::Debug, format_args!("process {} has {what} {child}", ctx.process.pid));
    Ok(child)
}

/// The child's first thread, which goes on behind the call with 0 as its result.
fn first_thread(ctx: &Ctx<'_>, request: &CloneRequest) -> NewThread {
    let mut registers = *ctx.registers.borrow();
    registers.rax = 0;
    if request.stack != 0 {
        registers.rsp = request.stack;
    }
    if request.flags.contains(CloneFlags::SETTLS) {
        registers.fs_base = request.tls;
    }
    let mut xstate = alloc::vec![0; ctx.platform().xstate_len()];
    ctx.platform().xstate_save(&mut xstate);
    let clears = request.flags.contains(CloneFlags::CHILD_CLEARTID);
    NewThread {
        registers,
        xstate: Some(xstate),
        name: *ctx.thread.name.lock(),
        signals: ctx
            .thread
            .signals
            .for_child(request.flags.contains(CloneFlags::VFORK) || !request.flags.contains(CloneFlags::VM)),
        sched: ctx.thread.sched.inherit(),
        clear_child_tid: if clears { request.child_tid.address().0 } else { 0 },
    }
}

/// Stores the number where both sides want it, before the child runs. As on Linux, nobody hears of a fault.
fn store_tid(ctx: &Ctx<'_>, request: &CloneRequest, child: &AddressSpace, tid: u32) {
    if request.flags.contains(CloneFlags::PARENT_SETTID) {
        let _ = request.parent_tid.write(ctx.user(), &tid);
    }
    if request.flags.contains(CloneFlags::CHILD_SETTID) {
        if child.id() == ctx.space.id() {
            let _ = request.child_tid.write(ctx.user(), &tid);
        } else {
            child.store_while_away(ctx.space, request.child_tid.address().0, &tid.to_le_bytes());
        }
    }
}

/// Makes the descriptor of the child that the caller asked for.
fn store_pidfd(ctx: &Ctx<'_>, request: &CloneRequest, child: &Arc<Process>) -> Result<Option<Fd>> {
    if !request.flags.contains(CloneFlags::PIDFD) {
        return Ok(None);
    }
    let open = crate::fs::pidfd(ctx.kernel.mounts.shared(), child.clone(), OpenFlags::empty());
    let fd = ctx.files.insert(open, true)?;
    let told = request.pidfd.write(ctx.user(), &fd.0);
    told.map(|()| Some(fd)).or_else(|error| ctx.files.close(fd).and(Err(error)))
}

/// Asks for a host thread.
fn start(ctx: &Ctx<'_>, tid: u32) -> Result<()> {
    ctx.platform().start_thread(tid).map_err(|_| {
        Error::new(Errno::EAGAIN, "the enclave has no free thread slot (resource_limits.max_num_of_threads)")
    })
}

fn new_thread(ctx: &Ctx<'_>, request: &CloneRequest) -> Result<u32> {
    let kernel = ctx.kernel;
    ctx.space.expect_threads();
    let max = kernel.config().limits.max_threads;
    let tables = tables(ctx, request.flags);
    let files = tables.0.clone();
    let thread = kernel.processes.add_thread(
        kernel.platform(),
        max,
        ctx.process,
        first_thread(ctx, request),
        tables,
    )?;
    if request.flags.contains(CloneFlags::FILES) {
        files.users().join();
    }
    store_tid(ctx, request, ctx.space, thread.tid());
    if let Err(error) = start(ctx, thread.tid()) {
        files.give_up();
        let mut state = ctx.process.state.lock();
        state.threads.retain(|other| other.tid() != thread.tid());
        state.tables.remove(&thread.tid());
        drop(state);
        kernel.processes.remove_thread(thread.tid());
        return Err(error);
    }
    Ok(thread.tid())
}

/// The caller's own tables, or copies.
fn tables(ctx: &Ctx<'_>, flags: CloneFlags) -> Tables {
    let files =
        if flags.contains(CloneFlags::FILES) { ctx.files.clone() } else { Arc::new(ctx.files.fork()) };
    let fs = if flags.contains(CloneFlags::FS) { ctx.fs.clone() } else { Arc::new(ctx.fs.fork()) };
    (files, fs)
}

fn new_process(ctx: &Ctx<'_>, request: &CloneRequest) -> Result<u32> {
    let kernel = ctx.kernel;
    let flags = request.flags;
    let (files, fs) = tables(ctx, flags);
    let shares_memory = flags.contains(CloneFlags::VM);
    let space = if shares_memory {
        if !flags.contains(CloneFlags::VFORK) {
            ctx.space.expect_threads();
        }
        ctx.space.clone()
    } else {
        let copy = ctx.space.fork()?;
        segment::forked(ctx);
        copy
    };
    let new = NewProcess {
        world: (space.clone(), files, fs),
        thread: first_thread(ctx, request),
        program: ctx.process.program.lock().clone(),
        origin: Origin::Clone {
            creator: ctx.process.clone(),
            is_sibling: flags.contains(CloneFlags::PARENT),
            exit_signal: request.exit_signal.map_or(0, |signal| signal.number().into()),
            borrows_memory: shares_memory,
        },
    };
    let child = kernel.processes.add(kernel.platform(), kernel.config().limits.max_threads, new)?;
    if shares_memory {
        space.users().join();
    }
    if flags.contains(CloneFlags::FILES) {
        ctx.files.users().join();
    }
    if flags.contains(CloneFlags::CLEAR_SIGHAND) {
        child.signals.reset_for_exec();
    }
    let started = store_pidfd(ctx, request, &child).and_then(|pidfd| {
        store_tid(ctx, request, &space, child.pid);
        start(ctx, child.pid).inspect_err(|_| {
            if let Some(fd) = pidfd {
                let _ = ctx.files.close(fd);
            }
        })
    });
    if let Err(error) = started {
        kernel.processes.remove_thread(child.pid);
        kernel.processes.remove_process(child.pid);
        space.users().leave();
        child.world().1.give_up();
        return Err(error);
    }
    if !shares_memory && ctx.space.prefer(&space) {
        // The child runs first: it has everything to itself until it sleeps, ends or runs another program, and most do soon.
        ctx.outside(|| ());
    }
    drop(space);
    if flags.contains(CloneFlags::VFORK) {
        ctx.wait_for_release(&child);
    }
    Ok(child.pid)
}

impl Ctx<'_> {
    /// Waits until a child that borrows the memory has called `execve` or ended. Signals wait meanwhile, as on Linux.
    fn wait_for_release(&self, child: &Arc<Process>) {
        let waker = self.thread.waker();
        while !self.thread.has_work(crate::thread::WORK_EXIT) {
            child.ended.enqueue(waker);
            {
                let state = child.state.lock();
                if state.has_ended || !state.borrows_memory {
                    break;
                }
            }
            self.sleep(None);
        }
        child.ended.dequeue(waker);
    }

    /// Ends all other threads of the process, for `execve`.
    ///
    /// # Errors
    /// EAGAIN the process ends meanwhile.
    pub(crate) fn end_other_threads(&self) -> Result<()> {
        let waker = self.thread.waker();
        let result = loop {
            self.process.ended.enqueue(waker);
            let others: Vec<_> = self
                .process
                .threads()
                .into_iter()
                .filter(|thread| thread.tid() != self.thread.tid())
                .collect();
            if self.thread.has_work(crate::thread::WORK_EXIT) {
                break Err(Error::new(Errno::EAGAIN, "the process ends"));
            }
            if others.is_empty() {
                break Ok(());
            }
            for thread in others.iter().filter(|thread| !thread.has_work(crate::thread::WORK_EXIT)) {
                thread.request(crate::thread::WORK_EXIT);
            }
            self.sleep(None);
        };
        self.process.ended.dequeue(waker);
        result
    }
}

impl Process {
    /// `execve`: the process has other memory from now on, which is its own; it has given up what it had.
    pub(super) fn replace_memory(&self, space: Arc<AddressSpace>) {
        let old = {
            let mut state = self.state.lock();
            state.borrows_memory = false;
            core::mem::replace(&mut state.space, space)
        };
        drop(old);
        self.ended.wake_all();
    }

    /// The signal that its end sends to its parent.
    pub(super) fn exit_signal(&self) -> Option<Signal> {
        Signal::new(self.exit_signal.load(Ordering::Relaxed).into())
    }
}
