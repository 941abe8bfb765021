//! The life of a thread: user code runs, traps, is served, and runs again.

use super::trap::Repeated;
use super::{WORK_BARRIER, WORK_EXIT, WORK_SIGNAL, WORK_WORLD, WORK_YIELD};
use crate::ctx::{After, Ctx, InterruptedCall};
use crate::stats::count;
use crate::time::Sampler;
use crate::{Kernel, signal, syscall};
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use kbase::{Result, bail};
use platform::Trap;

impl Kernel {
    /// Runs thread `tid` on the calling host thread until it ends. The result is the wait status of its process if
    /// it is the first thread of one, else 0.
    ///
    /// # Errors
    /// ESRCH no such thread, or it runs already.
    pub fn run_thread(self: &Arc<Self>, tid: u32) -> Result<i32> {
        let Some(thread) = self.processes.thread(tid) else { bail!(ESRCH, "no such thread") };
        if thread.is_running.swap(true, Ordering::SeqCst) {
            bail!(ESRCH, "the thread runs already");
        }
        let Some(process) = thread.process() else { bail!(ESRCH, "the process has ended") };
        thread.attach();
        let (registers, xstate) = core::mem::take(&mut *thread.start.lock());
        let registers = RefCell::new(registers);
        match xstate {
            Some(image) => self.platform().xstate_restore(&image),
            None => self.platform().xstate_reset(),
        }
        let mut sampler = Sampler::new(tid);
        loop {
            let space = process.world().0;
            let (files, fs) = process.tables(&thread);
            self.enter(&space, &thread);
            let ctx = Ctx {
                kernel: self,
                process: &process,
                thread: &thread,
                space: &space,
                files: &files,
                fs: &fs,
                registers: &registers,
                after: Cell::new(After::Return),
                interrupted: Cell::new(None),
            };
            run_world(&ctx, &mut sampler);
            if thread.has_work(WORK_EXIT) {
                self.end_thread(&ctx);
                break;
            }
            space.leave();
            thread.clear_work(WORK_WORLD);
        }
        // The host asks only for the status of what it started itself.
        let is_first = tid == process.pid && process.is_outsiders;
        let status = if is_first { self.wait_for_end(&process, &thread) } else { 0 };
        thread.detach();
        Ok(status)
    }
}

/// Runs user code until the thread ends or its world changes.
fn run_world(ctx: &Ctx<'_>, sampler: &mut Sampler) {
    if do_all_work(ctx).is_break() {
        return;
    }
    let mut repeated = Repeated::default();
    ctx.platform().run_user(ctx.registers, &mut |trap| {
        if trap == Trap::Syscall {
            // It may have mapped the same place anew.
            repeated = Repeated::default();
            if sampler.is_due() {
                ctx.time_sample(sampler, || system_call(ctx));
            } else {
                system_call(ctx);
            }
        } else {
            ctx.time(|| serve_rare(ctx, trap, &mut repeated));
        }
        match ctx.thread.work.load(Ordering::SeqCst) {
            0 => ControlFlow::Continue(()),
            _ => ctx.time(|| do_all_work(ctx)),
        }
    });
}

/// Serves a trap that is not a system call, whose way is to be short.
#[inline(never)]
fn serve_rare(ctx: &Ctx<'_>, trap: Trap, repeated: &mut Repeated) {
    match trap {
        Trap::Syscall => {}
        Trap::Cpuid => {
            count(&ctx.kernel.statistics.rewritten_cpuids);
            super::trap::emulate_cpuid(ctx);
        }
        Trap::Exception { vector, error_code, address } => {
            super::trap::exception(ctx, vector, error_code, address, repeated);
        }
        Trap::Interrupt => {
            count(&ctx.kernel.statistics.interrupts);
            signal::on_interrupt(ctx);
        }
    }
}

/// Does what others asked for until they ask for no more: more may come while it is done, as a thread that makes room for
/// another sleeps.
#[inline(never)]
fn do_all_work(ctx: &Ctx<'_>) -> ControlFlow<()> {
    while ctx.thread.work.load(Ordering::SeqCst) != 0 {
        if !do_work(ctx) {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

/// Does what others asked for; false: leave the loop.
fn do_work(ctx: &Ctx<'_>) -> bool {
    if ctx.thread.has_work(WORK_SIGNAL) && !ctx.thread.has_work(WORK_EXIT) {
        if let ControlFlow::Break(status) = signal::deliver(ctx) {
            ctx.process.end_with(status);
        }
        ctx.settle_without_handler();
    }
    if ctx.thread.has_work(WORK_BARRIER) {
        ctx.thread_cpu_ns();
        ctx.thread.clear_work(WORK_BARRIER);
    }
    if ctx.thread.has_work(WORK_YIELD) {
        ctx.thread.clear_work(WORK_YIELD);
        if ctx.space.give_way() {
            ctx.outside(|| ());
        }
    }
    !ctx.thread.has_work(WORK_EXIT | WORK_WORLD)
}

/// Serves a system call. RIP is behind it.
pub(super) fn system_call(ctx: &Ctx<'_>) {
    let (number, arguments, rip) = {
        let registers = ctx.registers.borrow();
        let r = &*registers;
        (r.rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9], r.rip)
    };
    ctx.space.note_call(number, &arguments, rip);
    ctx.after.set(After::Return);
    let result = syscall::dispatch(ctx, number, arguments);
    if ctx.after.get() == After::Keep {
        return;
    }
    match result {
        Ok(value) => ctx.registers.borrow_mut().rax = value,
        Err(error) => {
            let errno = error.errno();
            if errno.is_restart() {
                ctx.interrupted.set(Some(InterruptedCall { number, errno }));
                // Makes sure that somebody decides, even if the signal is gone.
                ctx.thread.add_work(WORK_SIGNAL);
            } else {
                ctx.registers.borrow_mut().rax = errno.as_return();
            }
        }
    }
}
