//! What processes and threads have of signals.
//!
//! Lock order: [`ProcessSignals::shared`], then the queue of one thread, or the timers. None is held while anybody is woken.

use super::queue::{Queue, Taken};
use crate::thread::ExceptionRecord;
use crate::time::{Restart, Timers};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kbase::sync::{Mutex, MutexGuard};
use kbase::{Result, bail};
use linux_abi::signal::{
    ActionFlags, DefaultAction, MINSIGSTKSZ, SIG_DFL, SIG_IGN, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK,
    SigAction, SigInfo, SigStack, Signal, SignalSet,
};
use vfs::ReadinessNotifier;

/// Flags of an action that are remembered; others are dropped, so that a program can tell what is supported.
const KNOWN_FLAGS: u64 = 0xdc00_0807;

/// What a thread has of signals.
///
/// Others read `mask` and `awaited` and add to the queue; everything else is the thread's own.
pub(crate) struct ThreadSignals {
    /// Blocked signals. Only the thread itself stores it.
    mask: AtomicU64,
    /// Blocked signals that it waits for with `sigtimedwait(2)`.
    awaited: AtomicU64,
    /// The set of `queue`, readable without the lock.
    pending: AtomicU64,
    queue: Mutex<Queue>,
    own: Mutex<Own>,
}

/// What only the thread itself touches.
pub(super) struct Own {
    /// The alternate stack.
    pub(super) stack: SigStack,
    /// The mask to come back to when a call that changed it for its duration (`sigsuspend`, `ppoll`) is over.
    pub(super) saved_mask: Option<SignalSet>,
    /// The last exception, which every frame shows as Linux does.
    pub(super) exception: ExceptionRecord,
    /// What `restart_syscall(2)` does.
    pub(super) restart: Option<Restart>,
}

/// No alternate stack.
const NO_STACK: SigStack = SigStack { ss_sp: 0, ss_flags: SS_DISABLE, pad: 0, ss_size: 0 };

impl ThreadSignals {
    /// Of the first thread of a program.
    pub(crate) const fn new() -> Self {
        Self::with(SignalSet::EMPTY, NO_STACK)
    }

    const fn with(mask: SignalSet, stack: SigStack) -> Self {
        let exception = ExceptionRecord { trapno: 0, err: 0, cr2: 0 };
        Self {
            mask: AtomicU64::new(mask.0),
            awaited: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            queue: Mutex::new(Queue::new()),
            own: Mutex::new(Own { stack, saved_mask: None, exception, restart: None }),
        }
    }

    /// Of a thread or process that this one creates: the same mask, nothing pending, and the alternate stack unless the
    /// two run in the same memory at the same time (CLONE_VM without CLONE_VFORK).
    pub(crate) fn for_child(&self, keeps_stack: bool) -> Self {
        Self::with(self.mask(), if keeps_stack { self.own().stack } else { NO_STACK })
    }

    /// `execve(2)`: the alternate stack is gone; mask and pending signals stay.
    pub(crate) fn reset_for_exec(&self) {
        let mut own = self.own();
        own.stack = NO_STACK;
        own.restart = None;
    }

    pub(super) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock()
    }

    /// The blocked signals.
    pub(crate) fn mask(&self) -> SignalSet {
        SignalSet(self.mask.load(Ordering::SeqCst))
    }

    /// Stores the mask; who calls it looks for signals that became deliverable.
    pub(super) fn store_mask(&self, mask: SignalSet) {
        self.mask.store(mask.minus(SignalSet::UNBLOCKABLE).0, Ordering::SeqCst);
    }

    pub(super) fn set_awaited(&self, signals: SignalSet) {
        self.awaited.store(signals.0, Ordering::SeqCst);
    }

    /// Whether it would take `signal` now.
    pub(super) fn wants(&self, signal: Signal) -> bool {
        !self.mask().has(signal) || SignalSet(self.awaited.load(Ordering::SeqCst)).has(signal)
    }

    /// Its own pending signals.
    pub(crate) fn pending(&self) -> SignalSet {
        SignalSet(self.pending.load(Ordering::SeqCst))
    }

    /// Changes its queue.
    pub(super) fn with_queue<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        let value = change(&mut queue);
        self.pending.store(queue.set().0, Ordering::SeqCst);
        value
    }

    /// Remembers what `restart_syscall(2)` is to do.
    pub(crate) fn set_restart(&self, restart: Restart) {
        self.own().restart = Some(restart);
    }

    /// Takes what `restart_syscall(2)` is to do.
    pub(crate) fn take_restart(&self) -> Option<Restart> {
        self.own().restart.take()
    }

    /// The alternate stack as `sigaltstack(2)` shows it to code whose stack pointer is `rsp`.
    pub(crate) fn stack(&self, rsp: u64) -> SigStack {
        let stack = self.own().stack;
        let state = if stack.ss_size == 0 {
            SS_DISABLE
        } else if is_on_stack(&stack, rsp) {
            SS_ONSTACK
        } else {
            0
        };
        SigStack { ss_flags: state | stack.ss_flags & SS_AUTODISARM, pad: 0, ..stack }
    }

    /// Sets the alternate stack (`sigaltstack(2)`).
    ///
    /// # Errors
    /// EPERM the thread runs on it; EINVAL flags; ENOMEM smaller than MINSIGSTKSZ.
    pub(crate) fn set_stack(&self, new: &SigStack, rsp: u64) -> Result<()> {
        let mut own = self.own();
        if is_on_stack(&own.stack, rsp) {
            bail!(EPERM, "the alternate stack is in use");
        }
        match new.ss_flags & !SS_AUTODISARM {
            SS_DISABLE => own.stack = SigStack { ss_flags: new.ss_flags, ..NO_STACK },
            0 | SS_ONSTACK if new.ss_size < MINSIGSTKSZ => bail!(ENOMEM, "smaller than MINSIGSTKSZ"),
            0 | SS_ONSTACK => own.stack = SigStack { pad: 0, ..*new },
            _ => bail!(EINVAL, "ss_flags"),
        }
        Ok(())
    }
}

/// Whether code with this stack pointer runs on the stack. One that disarms itself is never in use.
pub(super) const fn is_on_stack(stack: &SigStack, rsp: u64) -> bool {
    stack.ss_flags & SS_AUTODISARM == 0 && is_inside(stack, rsp)
}

/// Whether a stack pointer lies in the stack.
pub(super) const fn is_inside(stack: &SigStack, rsp: u64) -> bool {
    rsp > stack.ss_sp && rsp.wrapping_sub(stack.ss_sp) <= stack.ss_size
}

/// What a process has of signals.
pub(crate) struct ProcessSignals {
    /// The set of the shared queue, readable without the lock.
    pending: AtomicU64,
    /// A stop signal took effect and no SIGCONT came.
    pub(super) is_stopped: AtomicBool,
    pub(crate) timers: Timers,
    /// Tells of every signal that is queued, for the process or one of its threads.
    pub(crate) arrived: ReadinessNotifier,
    shared: Mutex<Shared>,
}

/// Under the lock of [`ProcessSignals`].
pub(super) struct Shared {
    /// Signals sent to the process.
    pub(super) queue: Queue,
    /// By signal number less one.
    actions: [SigAction; 64],
}

/// The default action.
const DEFAULT: SigAction = SigAction { handler: SIG_DFL, flags: 0, restorer: 0, mask: SignalSet::EMPTY };

impl Shared {
    pub(super) fn action(&self, signal: Signal) -> SigAction {
        self.actions.get(index(signal)).copied().unwrap_or(DEFAULT)
    }

    pub(super) fn set_action(&mut self, signal: Signal, action: SigAction) {
        if let Some(place) = self.actions.get_mut(index(signal)) {
            *place = action;
        }
    }

    /// Whether the signal would do nothing if it were delivered.
    pub(super) fn ignores(&self, signal: Signal) -> bool {
        match self.action(signal).handler {
            SIG_IGN => true,
            SIG_DFL => matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue),
            _ => false,
        }
    }
}

/// Place of a signal in a table.
fn index(signal: Signal) -> usize {
    usize::from(signal.number()).saturating_sub(1)
}

impl ProcessSignals {
    /// Of a program that is started from outside: everything has its default action.
    pub(crate) const fn new() -> Self {
        Self::with([DEFAULT; 64])
    }

    const fn with(actions: [SigAction; 64]) -> Self {
        Self {
            pending: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            timers: Timers::new(),
            arrived: ReadinessNotifier::new(),
            shared: Mutex::new(Shared { queue: Queue::new(), actions }),
        }
    }

    /// Of a forked child: the same actions, nothing pending.
    pub(crate) fn fork(&self) -> Self {
        Self::with(self.shared.lock().actions)
    }

    /// `execve(2)` and CLONE_CLEAR_SIGHAND: caught signals get their default action, ignored ones stay ignored. Timers of
    /// `timer_create(2)` are gone; interval timers stay.
    pub(crate) fn reset_for_exec(&self) {
        self.timers.reset_for_exec();
        for action in &mut self.shared.lock().actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..DEFAULT };
        }
    }

    /// Whether a stop signal took effect and no SIGCONT came.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Signals sent to the process that no thread took yet.
    pub(crate) fn pending(&self) -> SignalSet {
        SignalSet(self.pending.load(Ordering::SeqCst))
    }

    /// Whether SIGCHLD is ignored or its action has SA_NOCLDWAIT, so that children leave no zombies; and whether it has
    /// SA_NOCLDSTOP.
    pub(crate) fn child_policy(&self) -> (bool, bool) {
        let action = self.action(Signal::SIGCHLD);
        let flags = ActionFlags::from_bits_retain(action.flags);
        let reaps = action.handler == SIG_IGN || flags.contains(ActionFlags::NOCLDWAIT);
        (reaps, flags.contains(ActionFlags::NOCLDSTOP))
    }

    /// What a signal does.
    pub(crate) fn action(&self, signal: Signal) -> SigAction {
        self.shared.lock().action(signal)
    }

    /// The signals that the program asked to ignore, and those that it has handlers for.
    pub(crate) fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let shared = self.shared.lock();
        let mut sets = (SignalSet::default(), SignalSet::default());
        for signal in (1..=64).filter_map(Signal::new) {
            match shared.action(signal).handler {
                SIG_DFL => {}
                SIG_IGN => sets.0 = sets.0.with(signal),
                _ => sets.1 = sets.1.with(signal),
            }
        }
        sets
    }

    /// Sets what a signal does and returns what it did (`sigaction(2)`); the second value says whether instances that
    /// are pending must be forgotten.
    ///
    /// # Errors
    /// EINVAL SIGKILL or SIGSTOP.
    pub(super) fn set_action(&self, signal: Signal, new: &SigAction) -> Result<(SigAction, bool)> {
        if SignalSet::UNBLOCKABLE.has(signal) {
            bail!(EINVAL, "SIGKILL and SIGSTOP cannot be caught or ignored");
        }
        let new = SigAction {
            flags: new.flags & KNOWN_FLAGS,
            mask: new.mask.minus(SignalSet::UNBLOCKABLE),
            ..*new
        };
        let mut shared = self.shared.lock();
        let old = shared.action(signal);
        shared.set_action(signal, new);
        Ok((old, shared.ignores(signal)))
    }

    /// Changes what is under the lock.
    pub(super) fn with_shared<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.shared.lock();
        let value = change(&mut shared);
        self.pending.store(shared.queue.set().0, Ordering::SeqCst);
        value
    }

    /// Takes the next signal of `wanted`, those of the thread before those of the process.
    pub(crate) fn take_quietly(
        &self,
        thread: &ThreadSignals,
        wanted: SignalSet,
    ) -> Option<(Signal, SigInfo)> {
        self.with_shared(|shared| self.take_next(shared, thread, wanted))
    }

    /// Takes the next signal of `wanted` to act on it, a fault first: with its action, which SA_RESETHAND resets.
    pub(super) fn take(
        &self,
        thread: &ThreadSignals,
        wanted: SignalSet,
    ) -> Option<(Signal, SigInfo, SigAction)> {
        self.with_shared(|shared| {
            let fault = match wanted.has(Signal::SIGKILL) {
                true => None,
                false => thread.with_queue(|queue| queue.take_fault(wanted)),
            };
            let (signal, info) = match fault {
                Some(Taken { signal, info, .. }) => (signal, info),
                None => self.take_next(shared, thread, wanted)?,
            };
            let action = shared.action(signal);
            let is_caught = !matches!(action.handler, SIG_DFL | SIG_IGN);
            if is_caught && ActionFlags::from_bits_retain(action.flags).contains(ActionFlags::RESETHAND) {
                shared.set_action(signal, SigAction { handler: SIG_DFL, ..action });
            }
            Some((signal, info, action))
        })
    }

    fn take_next(
        &self,
        shared: &mut Shared,
        thread: &ThreadSignals,
        wanted: SignalSet,
    ) -> Option<(Signal, SigInfo)> {
        loop {
            let Taken { signal, mut info, timer } = take(shared, thread, wanted)?;
            let Some(timer) = timer else { return Some((signal, info)) };
            // That of a timer that was deleted or set anew meanwhile is dropped.
            if let Some(overrun) = self.timers.deliver(timer) {
                if let Some(first) = info.fields.first_mut() {
                    *first |= u64::from(overrun) << 32;
                }
                return Some((signal, info));
            }
        }
    }
}

fn take(shared: &mut Shared, thread: &ThreadSignals, wanted: SignalSet) -> Option<Taken> {
    // A process that is killed ends whatever else its thread has to do.
    let kill = shared.queue.take(wanted.and(SignalSet::of(Signal::SIGKILL)));
    kill.or_else(|| thread.with_queue(|queue| queue.take(wanted))).or_else(|| shared.queue.take(wanted))
}

#[cfg(test)]
mod tests {
    use super::super::queue::Quota;
    use super::*;
    use crate::time::TimerSetting;
    use kbase::Errno;

    fn raise(thread: &ThreadSignals) {
        let info = SigInfo::new(Signal::SIGUSR1, 0);
        thread.with_queue(|queue| queue.push(Signal::SIGUSR1, info, &Quota::for_tests(9))).unwrap();
    }

    #[test]
    fn exec_resets_handlers_but_not_what_is_ignored() {
        let signals = ProcessSignals::new();
        let caught = SigAction { handler: 0x1000, flags: 4, restorer: 0x2000, mask: SignalSet(1) };
        signals.set_action(Signal::SIGUSR1, &caught).unwrap();
        signals.set_action(Signal::SIGUSR2, &SigAction { handler: SIG_IGN, ..caught }).unwrap();
        signals.reset_for_exec();
        assert_eq!(signals.action(Signal::SIGUSR1), DEFAULT);
        assert_eq!(signals.action(Signal::SIGUSR2).handler, SIG_IGN);
    }

    #[test]
    fn kill_and_stop_have_no_action_and_no_mask() {
        let signals = ProcessSignals::new();
        let error = signals.set_action(Signal::SIGKILL, &DEFAULT).unwrap_err();
        assert_eq!(error.errno(), Errno::EINVAL);
        let thread = ThreadSignals::new();
        thread.store_mask(SignalSet(!0));
        assert!(!thread.mask().has(Signal::SIGKILL) && !thread.mask().has(Signal::SIGSTOP));
        assert!(thread.mask().has(Signal::SIGTERM));
    }

    #[test]
    fn the_alternate_stack_reports_where_the_thread_runs() {
        let thread = ThreadSignals::new();
        assert_eq!(thread.stack(0x5000).ss_flags, SS_DISABLE);
        let stack = SigStack { ss_sp: 0x1_0000, ss_flags: 0, pad: 0, ss_size: 0x4000 };
        thread.set_stack(&stack, 0x5000).unwrap();
        assert_eq!(thread.stack(0x5000).ss_flags, 0);
        assert_eq!(thread.stack(0x1_2000).ss_flags, SS_ONSTACK);
        assert_eq!(thread.set_stack(&stack, 0x1_2000).unwrap_err().errno(), Errno::EPERM);
        let small = SigStack { ss_size: 2047, ..stack };
        assert_eq!(thread.set_stack(&small, 0).unwrap_err().errno(), Errno::ENOMEM);
        let odd = SigStack { ss_flags: 8, ..stack };
        assert_eq!(thread.set_stack(&odd, 0).unwrap_err().errno(), Errno::EINVAL);
        let disarming = SigStack { ss_flags: SS_AUTODISARM, ..stack };
        thread.set_stack(&disarming, 0).unwrap();
        assert_eq!(thread.stack(0x1_2000).ss_flags, SS_AUTODISARM);
    }

    #[test]
    fn reset_hand_takes_effect_when_the_signal_is_taken() {
        let signals = ProcessSignals::new();
        let thread = ThreadSignals::new();
        let once = SigAction { handler: 0x1000, flags: ActionFlags::RESETHAND.bits(), ..DEFAULT };
        signals.set_action(Signal::SIGUSR1, &once).unwrap();
        let setting = TimerSetting { id: 0, number: 0 };
        let info = SigInfo::new(Signal::SIGUSR2, 0);
        thread.with_queue(|queue| queue.push_timer(Signal::SIGUSR2, info, setting));
        assert!(signals.take(&thread, SignalSet::of(Signal::SIGUSR2)).is_none(), "there is no such timer");
        raise(&thread);
        let (_, _, action) = signals.take(&thread, SignalSet(!0)).unwrap();
        assert_eq!(action.handler, 0x1000);
        assert_eq!(signals.action(Signal::SIGUSR1).handler, SIG_DFL);
        assert!(thread.pending().is_empty());
    }
}
