//! Signals from the system call to the handler and back, in one thread of a fake world.

use super::{deliver, raise_fault};
use crate::Ctx;
use crate::ctx::{After, InterruptedCall};
use crate::testing::{SCRATCH, World};
use crate::thread::ExceptionRecord;
use core::ops::ControlFlow;
use kbase::Errno;
use linux_abi::process::{Rlimit, resource};
use linux_abi::signal::{
    ActionFlags, SIG_IGN, SS_AUTODISARM, SS_DISABLE, SigAction, SigFrame, SigInfo, SigStack, Signal,
    SignalSet, si,
};
use linux_abi::time::{Itimerval, Timespec, Timeval};
use platform::{Clocks, UserRegisters};

const SIGACTION: u64 = 13;
const SIGPROCMASK: u64 = 14;
const SIGRETURN: u64 = 15;
const PAUSE: u64 = 34;
const NANOSLEEP: u64 = 35;
const ALARM: u64 = 37;
const SETITIMER: u64 = 38;
const KILL: u64 = 62;
const SIGPENDING: u64 = 127;
const SIGTIMEDWAIT: u64 = 128;
const SIGQUEUEINFO: u64 = 129;
const SIGSUSPEND: u64 = 130;
const SIGALTSTACK: u64 = 131;
const TKILL: u64 = 200;
const FUTEX: u64 = 202;
const RESTART_SYSCALL: u64 = 219;
const TIMER_CREATE: u64 = 222;
const TIMER_SETTIME: u64 = 223;
const TIMER_GETOVERRUN: u64 = 225;
const TIMER_DELETE: u64 = 226;
const SETRLIMIT: u64 = 160;

const HANDLER: u64 = 0x40_2000;
const RESTORER: u64 = 0x40_3000;
/// Address of the instruction that all calls of these tests are.
const SITE: u64 = 0x40_1000;
const STACK: u64 = SCRATCH + 0x8_0000;
/// Where arguments lie.
const DATA: u64 = SCRATCH + 0x100;
const MS: u64 = 1_000_000;

/// Makes a system call as the run loop does, and delivers signals.
fn serve(ctx: &Ctx<'_>, number: u64, arguments: &[u64]) -> ControlFlow<i32> {
    ctx.registers.borrow_mut().rip = SITE + 2;
    ctx.after.set(After::Return);
    match ctx.call(number, arguments) {
        _ if ctx.after.get() == After::Keep => {}
        Ok(value) => ctx.registers.borrow_mut().rax = value,
        Err(errno) if errno.is_restart() => ctx.interrupted.set(Some(InterruptedCall { number, errno })),
        Err(errno) => ctx.registers.borrow_mut().rax = errno.as_return(),
    }
    finish(ctx)
}

fn finish(ctx: &Ctx<'_>) -> ControlFlow<i32> {
    let flow = deliver(ctx);
    ctx.settle_without_handler();
    flow
}

fn registers(ctx: &Ctx<'_>) -> UserRegisters {
    *ctx.registers.borrow()
}

fn catch(ctx: &Ctx<'_>, signal: Signal, flags: ActionFlags, mask: u64) {
    let flags = (flags | ActionFlags::RESTORER).bits();
    let action = SigAction { handler: HANDLER, flags, restorer: RESTORER, mask: SignalSet(mask) };
    ctx.poke(DATA, action);
    ctx.call(SIGACTION, &[signal.number().into(), DATA, 0, 8]).unwrap();
}

fn ignore(ctx: &Ctx<'_>, signal: Signal) {
    ctx.poke(DATA, SigAction { handler: SIG_IGN, ..SigAction::default() });
    ctx.call(SIGACTION, &[signal.number().into(), DATA, 0, 8]).unwrap();
}

fn set_mask(ctx: &Ctx<'_>, mask: SignalSet) {
    ctx.poke(DATA, mask);
    assert_eq!(serve(ctx, SIGPROCMASK, &[2, DATA, 0, 8]), ControlFlow::Continue(()));
}

fn raise(ctx: &Ctx<'_>, signal: Signal) -> ControlFlow<i32> {
    serve(ctx, KILL, &[ctx.process.pid.into(), signal.number().into()])
}

/// Returns from the handler that runs.
fn leave(ctx: &Ctx<'_>) -> ControlFlow<i32> {
    ctx.registers.borrow_mut().rsp += 8;
    serve(ctx, SIGRETURN, &[])
}

/// The frame of the handler that runs.
fn frame(ctx: &Ctx<'_>) -> SigFrame {
    ctx.peek(registers(ctx).rsp)
}

fn now(world: &World) -> u64 {
    world.platform.monotonic_ns()
}

/// Runs a test in a thread with a stack.
fn with_thread(body: impl FnOnce(&World, &Ctx<'_>)) {
    let world = World::new();
    world.with_ctx(|ctx| {
        *ctx.registers.borrow_mut() =
            UserRegisters { rsp: STACK, rbx: 77, rflags: 0x246, rip: SITE, ..UserRegisters::default() };
        body(&world, ctx);
    });
}

#[test]
fn a_handler_runs_and_returns_to_where_the_call_would_have() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::SIGINFO, 0);
        assert_eq!(raise(ctx, Signal::SIGUSR1), ControlFlow::Continue(()));
        let now = registers(ctx);
        assert_eq!((now.rip, now.rdi, now.rsp % 16), (HANDLER, 10, 8));
        let frame = frame(ctx);
        assert_eq!(frame.pretcode, RESTORER);
        assert_eq!((frame.info.signo, frame.info.code), (10, si::USER));
        assert_eq!(frame.info.fields[0], ctx.process.pid.into());
        assert_eq!((frame.uc.uc_mcontext.rip, frame.uc.uc_mcontext.rax), (SITE + 2, 0));
        assert!(ctx.thread.signals.mask().has(Signal::SIGUSR1));
        ctx.registers.borrow_mut().rbx = 1;
        assert_eq!(leave(ctx), ControlFlow::Continue(()));
        let now = registers(ctx);
        assert_eq!((now.rip, now.rsp, now.rbx, now.rax), (SITE + 2, STACK, 77, 0));
        assert!(ctx.thread.signals.mask().is_empty());
    });
}

#[test]
fn a_handler_is_not_interrupted_by_what_its_action_blocks() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), SignalSet::of(Signal::SIGUSR2).0);
        catch(ctx, Signal::SIGUSR2, ActionFlags::NODEFER, 0);
        let _ = raise(ctx, Signal::SIGUSR1);
        let first = registers(ctx).rsp;
        for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
            let _ = raise(ctx, signal);
            assert_eq!(registers(ctx).rsp, first);
        }
        // Both come as soon as the handler returns: the lower number is taken first, and the other interrupts it.
        let _ = leave(ctx);
        assert_eq!(registers(ctx).rdi, 10);
        let _ = leave(ctx);
        assert_eq!(registers(ctx).rdi, 12);
        assert!(!ctx.thread.signals.mask().has(Signal::SIGUSR2), "SA_NODEFER");
        let _ = raise(ctx, Signal::SIGUSR2);
        assert!(registers(ctx).rsp < first);
    });
}

#[test]
fn signals_that_are_not_caught_do_what_their_default_is() {
    with_thread(|_, ctx| {
        for signal in [Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGWINCH, Signal::SIGURG] {
            assert_eq!(raise(ctx, signal), ControlFlow::Continue(()));
            assert_eq!(registers(ctx).rip, SITE + 2);
        }
        assert_eq!(raise(ctx, Signal::SIGTERM), ControlFlow::Break(15));
        assert_eq!(raise(ctx, Signal::SIGABRT), ControlFlow::Break(6));
        ctx.process.limits.lock()[4].rlim_cur = u64::MAX;
        assert_eq!(raise(ctx, Signal::SIGABRT), ControlFlow::Break(0x86));
        assert_eq!(raise(ctx, Signal::new(40).unwrap()), ControlFlow::Break(40));
        ignore(ctx, Signal::SIGTERM);
        assert_eq!(raise(ctx, Signal::SIGTERM), ControlFlow::Continue(()));
        assert_eq!(raise(ctx, Signal::SIGKILL), ControlFlow::Break(9));
    });
}

#[test]
fn the_terminal_does_not_stop_a_group_that_no_shell_looks_after() {
    with_thread(|_, ctx| {
        assert_eq!(raise(ctx, Signal::SIGTSTP), ControlFlow::Continue(()));
        assert!(!ctx.process.signals.is_stopped());
    });
}

#[test]
fn a_blocked_signal_is_pending_until_it_is_unblocked_or_ignored() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), 0);
        set_mask(ctx, SignalSet::of(Signal::SIGUSR1).with(Signal::SIGUSR2));
        let _ = raise(ctx, Signal::SIGUSR1);
        let _ = serve(ctx, TKILL, &[ctx.thread.tid().into(), 12]);
        assert_eq!(registers(ctx).rip, SITE + 2);
        ctx.call(SIGPENDING, &[DATA, 8]).unwrap();
        assert_eq!(ctx.peek::<u64>(DATA), SignalSet::of(Signal::SIGUSR1).with(Signal::SIGUSR2).0);
        ignore(ctx, Signal::SIGUSR2);
        ctx.call(SIGPENDING, &[DATA, 8]).unwrap();
        assert_eq!(ctx.peek::<u64>(DATA), SignalSet::of(Signal::SIGUSR1).0);
        set_mask(ctx, SignalSet::EMPTY);
        assert_eq!((registers(ctx).rip, registers(ctx).rdi), (HANDLER, 10));
    });
}

#[test]
fn a_signal_ends_pause_with_eintr() {
    with_thread(|world, ctx| {
        catch(ctx, Signal::SIGALRM, ActionFlags::RESTART, 0);
        assert_eq!(serve(ctx, ALARM, &[2]), ControlFlow::Continue(()));
        let before = now(world);
        let _ = serve(ctx, PAUSE, &[]);
        assert!(now(world) - before >= 2_000 * MS);
        assert_eq!(registers(ctx).rip, HANDLER);
        assert_eq!(frame(ctx).uc.uc_mcontext.rax, Errno::EINTR.as_return());
        assert_eq!(frame(ctx).uc.uc_mcontext.rip, SITE + 2);
    });
}

#[test]
fn a_call_is_made_again_if_the_handler_says_so() {
    for (flags, rip, rax) in
        [(ActionFlags::RESTART, SITE, FUTEX), (ActionFlags::empty(), SITE + 2, Errno::EINTR.as_return())]
    {
        with_thread(|_, ctx| {
            catch(ctx, Signal::SIGALRM, flags, 0);
            let _ = serve(ctx, ALARM, &[1]);
            let _ = serve(ctx, FUTEX, &[SCRATCH, 0, 0, 0]);
            let context = frame(ctx).uc.uc_mcontext;
            assert_eq!((context.rip, context.rax), (rip, rax));
        });
    }
}

#[test]
fn a_sleep_that_a_handler_interrupts_tells_what_is_left() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGALRM, ActionFlags::RESTART, 0);
        let _ = serve(ctx, ALARM, &[1]);
        ctx.poke(DATA, Timespec { tv_sec: 3, tv_nsec: 0 });
        let _ = serve(ctx, NANOSLEEP, &[DATA, DATA + 16]);
        assert_eq!(frame(ctx).uc.uc_mcontext.rax, Errno::EINTR.as_return());
        assert_eq!(ctx.peek::<Timespec>(DATA + 16), Timespec { tv_sec: 2, tv_nsec: 0 });
    });
}

#[test]
fn a_sleep_that_nothing_handles_goes_on_to_its_first_deadline() {
    with_thread(|world, ctx| {
        let start = now(world);
        ctx.poke(DATA, Timespec { tv_sec: 3, tv_nsec: 0 });
        // As if a signal had come that another thread took.
        super::set_mask(ctx, SignalSet::EMPTY);
        catch(ctx, Signal::SIGALRM, ActionFlags::empty(), 0);
        ctx.poke(DATA, Timespec { tv_sec: 3, tv_nsec: 0 });
        ctx.call(ALARM, &[1]).unwrap();
        assert_eq!(ctx.call(NANOSLEEP, &[DATA, 0]).unwrap_err(), Errno::ERESTART_RESTARTBLOCK);
        ignore(ctx, Signal::SIGALRM);
        ctx.interrupted.set(Some(InterruptedCall { number: NANOSLEEP, errno: Errno::ERESTART_RESTARTBLOCK }));
        ctx.registers.borrow_mut().rip = SITE + 2;
        let _ = finish(ctx);
        assert_eq!((registers(ctx).rip, registers(ctx).rax), (SITE, RESTART_SYSCALL));
        assert_eq!(ctx.call(RESTART_SYSCALL, &[]), Ok(0));
        assert_eq!(now(world) - start, 3_000 * MS);
    });
}

#[test]
fn sigsuspend_comes_back_to_the_old_mask() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), 0);
        let blocked = SignalSet::of(Signal::SIGUSR1).with(Signal::SIGHUP);
        set_mask(ctx, blocked);
        let _ = raise(ctx, Signal::SIGUSR1);
        ctx.poke(DATA, SignalSet::of(Signal::SIGINT));
        let _ = serve(ctx, SIGSUSPEND, &[DATA, 8]);
        assert_eq!(registers(ctx).rip, HANDLER);
        assert_eq!(frame(ctx).uc.uc_sigmask, blocked);
        assert_eq!(ctx.thread.signals.mask(), SignalSet::of(Signal::SIGINT).with(Signal::SIGUSR1));
        let _ = leave(ctx);
        assert_eq!(ctx.thread.signals.mask(), blocked);
        assert_eq!(registers(ctx).rax, Errno::EINTR.as_return());
    });
}

#[test]
fn a_signal_that_is_waited_for_is_taken_without_its_handler() {
    with_thread(|world, ctx| {
        let number = 40;
        let signal = Signal::new(number).unwrap();
        set_mask(ctx, SignalSet::of(signal));
        let mut info = SigInfo::sent(signal, si::QUEUE, 7, 8);
        info.fields[1] = 0x1234;
        ctx.poke(DATA, info);
        let _ = serve(ctx, SIGQUEUEINFO, &[ctx.process.pid.into(), number, DATA]);
        ctx.poke(DATA, SignalSet::of(signal));
        ctx.poke(DATA + 8, Timespec { tv_sec: 1, tv_nsec: 0 });
        assert_eq!(ctx.call(SIGTIMEDWAIT, &[DATA, DATA + 64, DATA + 8, 8]), Ok(number));
        assert_eq!(ctx.peek::<SigInfo>(DATA + 64).fields, info.fields);
        let before = now(world);
        assert_eq!(ctx.call(SIGTIMEDWAIT, &[DATA, 0, DATA + 8, 8]), Err(Errno::EAGAIN));
        assert_eq!(now(world) - before, 1_000 * MS);
    });
}

#[test]
fn other_processes_get_no_forged_details() {
    with_thread(|_, ctx| {
        ctx.poke(DATA, SigInfo::new(Signal::SIGUSR1, si::KERNEL));
        assert_eq!(ctx.call(SIGQUEUEINFO, &[9999, 10, DATA]), Err(Errno::EPERM));
        ctx.poke(DATA, SigInfo::new(Signal::SIGUSR1, si::QUEUE));
        assert_eq!(ctx.call(SIGQUEUEINFO, &[9999, 10, DATA]), Err(Errno::ESRCH));
    });
}

#[test]
fn who_is_not_there_gets_no_signal() {
    with_thread(|_, ctx| {
        assert_eq!(ctx.call(KILL, &[9999, 0]), Err(Errno::ESRCH));
        assert_eq!(ctx.call(KILL, &[ctx.process.pid.into(), 0]), Ok(0));
        assert_eq!(ctx.call(KILL, &[ctx.process.pid.into(), 65]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(TKILL, &[0, 1]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(TKILL, &[9999, 1]), Err(Errno::ESRCH));
    });
}

#[test]
fn a_fault_that_is_blocked_ends_the_process_and_one_that_is_caught_does_not() {
    let record = ExceptionRecord { trapno: 14, err: 6, cr2: 0xdead };
    let info = SigInfo::fault(Signal::SIGSEGV, si::SEGV_MAPERR, 0xdead);
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGSEGV, ActionFlags::SIGINFO, 0);
        assert_eq!(raise_fault(ctx, info, record), ControlFlow::Continue(()));
        let _ = finish(ctx);
        let frame = frame(ctx);
        assert_eq!((registers(ctx).rip, frame.info.fields[0]), (HANDLER, 0xdead));
        let context = frame.uc.uc_mcontext;
        assert_eq!((context.rip, context.trapno, context.err, context.cr2), (SITE, 14, 6, 0xdead));
        // In the handler the signal is blocked: the second fault is the end.
        let _ = raise_fault(ctx, info, record);
        assert_eq!(finish(ctx), ControlFlow::Break(11));
    });
    with_thread(|_, ctx| {
        ignore(ctx, Signal::SIGSEGV);
        let _ = raise_fault(ctx, info, record);
        assert_eq!(finish(ctx), ControlFlow::Break(11));
    });
}

#[test]
fn a_frame_that_cannot_be_stored_is_the_end() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), 0);
        ctx.registers.borrow_mut().rsp = 0x1_1000;
        assert_eq!(raise(ctx, Signal::SIGUSR1), ControlFlow::Break(11));
    });
}

#[test]
fn an_overflown_stack_is_handled_on_the_alternate_one() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGSEGV, ActionFlags::ONSTACK, 0);
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), 0);
        let stack = SigStack { ss_sp: SCRATCH + 0x1_0000, ss_flags: SS_AUTODISARM, pad: 0, ss_size: 0x4000 };
        ctx.poke(DATA, stack);
        let _ = serve(ctx, SIGALTSTACK, &[DATA, 0]);
        ctx.registers.borrow_mut().rsp = 0x1_1000;
        // The frame of SIGUSR1 cannot be stored, so SIGSEGV comes, and that one's can.
        assert_eq!(raise(ctx, Signal::SIGUSR1), ControlFlow::Continue(()));
        let now = registers(ctx);
        assert_eq!((now.rip, now.rdi), (HANDLER, 11));
        assert!((SCRATCH + 0x1_0000..SCRATCH + 0x1_4000).contains(&now.rsp));
        let _ = ctx.call(SIGALTSTACK, &[0, DATA]);
        assert_eq!(ctx.peek::<SigStack>(DATA).ss_flags, SS_DISABLE);
        let _ = leave(ctx);
        let _ = ctx.call(SIGALTSTACK, &[0, DATA]);
        assert_eq!(ctx.peek::<SigStack>(DATA), stack);
    });
}

#[test]
fn a_frame_that_lies_gives_no_privileges_and_no_mask_of_kill() {
    with_thread(|_, ctx| {
        catch(ctx, Signal::SIGUSR1, ActionFlags::empty(), 0);
        let _ = raise(ctx, Signal::SIGUSR1);
        let at = registers(ctx).rsp;
        let mut forged = frame(ctx);
        forged.uc.uc_mcontext.eflags = u64::MAX;
        forged.uc.uc_sigmask = SignalSet(u64::MAX);
        forged.uc.uc_mcontext.fpstate = 0;
        ctx.poke(at, forged);
        assert_eq!(leave(ctx), ControlFlow::Continue(()));
        assert_eq!(registers(ctx).rflags & 0x3000, 0, "IOPL");
        assert!(!ctx.thread.signals.mask().has(Signal::SIGKILL));
    });
    with_thread(|_, ctx| {
        ctx.registers.borrow_mut().rsp = 0x1_1000;
        assert_eq!(serve(ctx, SIGRETURN, &[]), ControlFlow::Break(11));
    });
}

#[test]
fn a_periodic_timer_keeps_its_beat() {
    with_thread(|world, ctx| {
        catch(ctx, Signal::SIGALRM, ActionFlags::empty(), 0);
        let ms = |ms: i64| Timeval { tv_sec: 0, tv_usec: ms * 1000 };
        let start = now(world);
        ctx.poke(DATA, Itimerval { it_interval: ms(10), it_value: ms(5) });
        let _ = serve(ctx, SETITIMER, &[0, DATA, 0]);
        for round in 0..3 {
            let _ = serve(ctx, PAUSE, &[]);
            assert_eq!(now(world) - start, (5 + 10 * round) * MS);
            let _ = leave(ctx);
        }
        ctx.poke(DATA, Itimerval::default());
        let _ = serve(ctx, SETITIMER, &[0, DATA, DATA + 64]);
        assert_eq!(ctx.peek::<Itimerval>(DATA + 64).it_interval, ms(10));
        assert_eq!(ctx.call(SETITIMER, &[3, DATA, 0]), Err(Errno::EINVAL));
    });
}

#[test]
fn an_alarm_says_what_was_left_of_the_last_one() {
    with_thread(|world, ctx| {
        assert_eq!(ctx.call(ALARM, &[10]), Ok(0));
        world.platform.advance(3_200 * MS);
        assert_eq!(ctx.call(ALARM, &[0]), Ok(7));
        assert_eq!(ctx.call(ALARM, &[0]), Ok(0));
    });
}

#[test]
fn a_created_timer_sends_its_value_and_counts_what_it_missed() {
    with_thread(|world, ctx| {
        let number = 42u64;
        let value = 0xabcd_u64;
        let mut event = [0u64; 8];
        (event[0], event[1]) = (value, number);
        ctx.poke(DATA, event);
        assert_eq!(ctx.call(TIMER_CREATE, &[1, DATA, DATA + 64]), Ok(0));
        let id: u64 = ctx.peek::<u32>(DATA + 64).into();
        let ms = |ms: i64| Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        ctx.poke(DATA, [ms(10), ms(10)]);
        ctx.call(TIMER_SETTIME, &[id, 0, DATA, 0]).unwrap();
        set_mask(ctx, SignalSet::of(Signal::new(number).unwrap()));
        world.platform.advance(35 * MS);
        super::on_interrupt(ctx);
        ctx.poke(DATA, SignalSet::of(Signal::new(number).unwrap()));
        assert_eq!(ctx.call(SIGTIMEDWAIT, &[DATA, DATA + 64, 0, 8]), Ok(number));
        let info = ctx.peek::<SigInfo>(DATA + 64);
        assert_eq!((info.code, info.fields[1]), (si::TIMER, value));
        assert_eq!(ctx.call(TIMER_GETOVERRUN, &[id]), Ok(2));
    });
}

/// A timer on CLOCK_MONOTONIC that sends `number`.
fn create_timer(ctx: &Ctx<'_>, number: u64) -> Result<u64, Errno> {
    let mut event = [0u64; 8];
    event[1] = number;
    ctx.poke(DATA, event);
    ctx.call(TIMER_CREATE, &[1, DATA, DATA + 64])?;
    Ok(ctx.peek::<u32>(DATA + 64).into())
}

fn set_timer(ctx: &Ctx<'_>, id: u64, first_ms: u64) {
    let first = Timespec::from_ns(first_ms * MS);
    ctx.poke(DATA, [Timespec::default(), first]);
    ctx.call(TIMER_SETTIME, &[id, 0, DATA, 0]).unwrap();
}

/// The next signal of a set that is pending.
fn take(ctx: &Ctx<'_>, signals: SignalSet) -> Result<u64, Errno> {
    ctx.poke(DATA, signals);
    ctx.poke(DATA + 8, Timespec::default());
    ctx.call(SIGTIMEDWAIT, &[DATA, 0, DATA + 8, 8])
}

#[test]
fn the_signal_of_a_timer_that_was_set_anew_or_deleted_is_dropped() {
    with_thread(|world, ctx| {
        let signals = SignalSet::of(Signal::new(42).unwrap());
        set_mask(ctx, signals);
        let id = create_timer(ctx, 42).unwrap();
        let expire = || {
            set_timer(ctx, id, 1);
            world.platform.advance(2 * MS);
            super::on_interrupt(ctx);
            assert_eq!(super::pending(ctx), signals);
        };
        expire();
        assert_eq!(take(ctx, signals), Ok(42));
        expire();
        set_timer(ctx, id, 0);
        assert_eq!(take(ctx, signals), Err(Errno::EAGAIN));
        expire();
        expire();
        assert_eq!(take(ctx, signals), Ok(42));
        assert_eq!(take(ctx, signals), Err(Errno::EAGAIN), "a timer has one signal");
        expire();
        ctx.call(TIMER_DELETE, &[id]).unwrap();
        assert_eq!(take(ctx, signals), Err(Errno::EAGAIN));
    });
}

#[test]
fn timers_count_as_signals_of_the_user() {
    with_thread(|_, ctx| {
        ctx.poke(DATA, Rlimit { rlim_cur: 2, rlim_max: 10 });
        ctx.call(SETRLIMIT, &[resource::SIGPENDING as u64, DATA]).unwrap();
        let first = create_timer(ctx, 42).unwrap();
        create_timer(ctx, 42).unwrap();
        assert_eq!(create_timer(ctx, 42), Err(Errno::EAGAIN));
        assert_eq!(create_timer(ctx, 99), Err(Errno::EAGAIN), "before the signal is looked at");
        ctx.call(TIMER_DELETE, &[first]).unwrap();
        assert_eq!(create_timer(ctx, 99), Err(Errno::EINVAL));
        ctx.poke(DATA, [0u64; 8]);
        assert_eq!(ctx.call(TIMER_CREATE, &[1, 0, 8]), Err(Errno::EFAULT));
        create_timer(ctx, 42).unwrap();
        set_mask(ctx, SignalSet(!0));
        ctx.poke(DATA, SigInfo::new(Signal::new(42).unwrap(), si::QUEUE));
        let pid = ctx.process.pid.into();
        assert_eq!(ctx.call(SIGQUEUEINFO, &[pid, 42, DATA]), Err(Errno::EAGAIN));
    });
}

#[test]
fn what_is_ignored_but_blocked_comes_to_who_waits_for_it() {
    with_thread(|_, ctx| {
        let signals = SignalSet::of(Signal::SIGCHLD);
        set_mask(ctx, signals);
        ctx.thread.signals.set_awaited(signals);
        let info = SigInfo::new(Signal::SIGCHLD, si::USER);
        super::send_to_process(ctx.process, Signal::SIGCHLD, info).unwrap();
        assert_eq!(take(ctx, signals), Ok(17));
        ctx.thread.signals.set_awaited(signals);
        super::send_to_thread(ctx.process, ctx.thread, Signal::SIGCHLD, info).unwrap();
        assert_eq!(take(ctx, signals), Ok(17));
        set_mask(ctx, SignalSet::EMPTY);
        super::send_to_process(ctx.process, Signal::SIGCHLD, info).unwrap();
        assert_eq!(take(ctx, signals), Err(Errno::EAGAIN));
    });
}

#[test]
fn a_timer_that_is_put_off_again_and_again_is_one_request_to_the_host() {
    with_thread(|world, ctx| {
        catch(ctx, Signal::SIGALRM, ActionFlags::empty(), 0);
        let requests = || world.platform.alarm_requests();
        let set = |ms: u64| {
            ctx.poke(DATA, Itimerval { it_value: Timeval::from_ns(ms * MS), ..Itimerval::default() });
            let _ = serve(ctx, SETITIMER, &[0, DATA, 0]);
        };
        let nap = |ms: u64| {
            ctx.poke(DATA, Timespec::from_ns(ms * MS));
            let _ = serve(ctx, NANOSLEEP, &[DATA, 0]);
        };
        for _ in 0..20 {
            set(50);
            nap(1);
        }
        assert_eq!(requests(), 1);
        set(0);
        set(30);
        assert_eq!(requests(), 1, "the host is asked for that time already");
        set(5);
        assert_eq!(requests(), 2, "an earlier time");
        let start = now(world);
        let _ = serve(ctx, PAUSE, &[]);
        assert_eq!((registers(ctx).rip, now(world) - start), (HANDLER, 5 * MS));
        assert_eq!(requests(), 3, "it has come");
        let _ = leave(ctx);
        set(5);
        set(20);
        let start = now(world);
        let _ = serve(ctx, PAUSE, &[]);
        assert_eq!((registers(ctx).rip, now(world) - start), (HANDLER, 20 * MS));
        let _ = leave(ctx);
        set(5);
        set(0);
        let before = requests();
        nap(10);
        assert_eq!(requests(), before + 1, "nothing is asked for any more");
        nap(10);
        assert_eq!(requests(), before + 1);
    });
}
