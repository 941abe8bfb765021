//! System V semaphores (`semop(2)`): sets of counters that change together.

use super::Object;
use crate::Ctx;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::event::WaiterQueue;
use kbase::sync::Mutex;
use kbase::{Errno, Error, Result};
use linux_abi::ipc::{IPC_NOWAIT, SEM_UNDO, Sembuf};

/// Highest value (SEMVMX).
pub(crate) const MAX_VALUE: i32 = 32_767;
/// Most semaphores in a set (SEMMSL).
pub(crate) const MAX_IN_SET: u64 = 32_000;
/// Most operations of a call (SEMOPM).
pub(crate) const MAX_OPERATIONS: usize = 500;

/// A set of semaphores.
pub(crate) struct SemaphoreSet {
    state: Mutex<SetState>,
    /// Woken after every change.
    changed: WaiterQueue,
}

struct SetState {
    semaphores: Vec<Semaphore>,
    /// What ended processes give back, by process: an adjustment for each semaphore.
    undo: BTreeMap<u32, Vec<i32>>,
    operated_s: i64,
    changed_s: i64,
}

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    /// The process that changed it last.
    pid: u32,
    /// How many wait for it to grow.
    waiting_for_more: u32,
    /// How many wait for it to be 0.
    waiting_for_zero: u32,
}

/// What an attempt to operate came to.
enum Attempt {
    Done,
    /// It must wait for this semaphore; whether for it to be 0; whether it may not wait.
    Blocked {
        number: usize,
        for_zero: bool,
        may_wait: bool,
    },
}

impl SemaphoreSet {
    pub(crate) fn new(count: usize, now_s: i64) -> Self {
        Self {
            state: Mutex::new(SetState {
                semaphores: alloc::vec![Semaphore::default(); count],
                undo: BTreeMap::new(),
                operated_s: 0,
                changed_s: now_s,
            }),
            changed: WaiterQueue::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().semaphores.len()
    }

    /// Times of the last operation and the last change of the set.
    pub(crate) fn times_s(&self) -> (i64, i64) {
        let state = self.state.lock();
        (state.operated_s, state.changed_s)
    }

    pub(crate) fn touch(&self, now_s: i64) {
        self.state.lock().changed_s = now_s;
    }

    pub(crate) fn wake_all(&self) {
        self.changed.wake_all();
    }

    /// Values of all semaphores.
    pub(crate) fn values(&self) -> Vec<u16> {
        let state = self.state.lock();
        state.semaphores.iter().map(|one| u16::try_from(one.value).unwrap_or(u16::MAX)).collect()
    }

    /// Value, last process, and waiters (for more, for zero) of one semaphore.
    ///
    /// # Errors
    /// EINVAL there is none of that number.
    pub(crate) fn look(&self, number: i32) -> Result<(i32, u32, u32, u32)> {
        let state = self.state.lock();
        let one = usize::try_from(number).ok().and_then(|number| state.semaphores.get(number));
        let one = one.ok_or(Error::new(Errno::EINVAL, "no semaphore has the number"))?;
        Ok((one.value, one.pid, one.waiting_for_more, one.waiting_for_zero))
    }

    /// SETVAL. What is to be undone in it is forgotten.
    ///
    /// # Errors
    /// EINVAL no such semaphore; ERANGE not a value.
    pub(crate) fn set(&self, number: i32, value: i32, pid: u32, now_s: i64) -> Result<()> {
        if !(0..=MAX_VALUE).contains(&value) {
            kbase::bail!(ERANGE, "not a value of a semaphore");
        }
        {
            let mut state = self.state.lock();
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(one) = state.semaphores.get_mut(number) else {
                kbase::bail!(EINVAL, "no semaphore has the number");
            };
            one.value = value;
            one.pid = pid;
            state.changed_s = now_s;
            for adjustments in state.undo.values_mut() {
                if let Some(adjustment) = adjustments.get_mut(number) {
                    *adjustment = 0;
                }
            }
        }
        self.changed.wake_all();
        Ok(())
    }

    /// SETALL.
    ///
    /// # Errors
    /// ERANGE one is not a value.
    pub(crate) fn set_all(&self, values: &[u16], pid: u32, now_s: i64) -> Result<()> {
        if values.iter().any(|&value| i32::from(value) > MAX_VALUE) {
            kbase::bail!(ERANGE, "not a value of a semaphore");
        }
        {
            let mut state = self.state.lock();
            for (one, &value) in state.semaphores.iter_mut().zip(values) {
                one.value = value.into();
                one.pid = pid;
            }
            state.changed_s = now_s;
            state.undo.values_mut().for_each(|adjustments| adjustments.fill(0));
        }
        self.changed.wake_all();
        Ok(())
    }

    /// A process will have something to undo, were it nothing: its end counts as an operation.
    fn prepare_undo(&self, pid: u32) {
        let mut state = self.state.lock();
        let count = state.semaphores.len();
        state.undo.entry(pid).or_insert_with(|| alloc::vec![0; count]);
    }

    /// All operations, or none.
    fn attempt(&self, operations: &[Sembuf], pid: u32, now_s: i64) -> Result<Attempt> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut values: Vec<i32> = state.semaphores.iter().map(|one| one.value).collect();
        let count = values.len();
        let nothing = alloc::vec![0; count];
        let mut adjustments = state.undo.get(&pid).unwrap_or(&nothing).clone();
        let mut undoes = false;
        for operation in operations {
            let number = usize::from(operation.sem_num);
            let (Some(value), Some(adjustment)) = (values.get_mut(number), adjustments.get_mut(number))
            else {
                kbase::bail!(EFBIG, "no semaphore has the number");
            };
            let change = i32::from(operation.sem_op);
            let blocked = if change == 0 { *value != 0 } else { *value + change < 0 };
            if blocked {
                let may_wait = u32::from(operation.sem_flg) & IPC_NOWAIT == 0;
                return Ok(Attempt::Blocked { number, for_zero: change == 0, may_wait });
            }
            *value += change;
            if *value > MAX_VALUE {
                kbase::bail!(ERANGE, "the value would be too large");
            }
            if operation.sem_flg & SEM_UNDO != 0 && change != 0 {
                undoes = true;
                *adjustment -= change;
                if adjustment.abs() > MAX_VALUE + 1 {
                    kbase::bail!(ERANGE, "more to undo than can be");
                }
            }
        }
        for (one, &value) in state.semaphores.iter_mut().zip(&values) {
            one.value = value;
        }
        for operation in operations {
            if let Some(one) = state.semaphores.get_mut(usize::from(operation.sem_num)) {
                one.pid = pid;
            }
        }
        if undoes {
            state.undo.insert(pid, adjustments);
        }
        state.operated_s = now_s;
        Ok(Attempt::Done)
    }

    /// Counts one who waits in or out.
    fn count_waiter(&self, number: usize, for_zero: bool, comes: bool) {
        let mut state = self.state.lock();
        if let Some(one) = state.semaphores.get_mut(number) {
            let count = if for_zero { &mut one.waiting_for_zero } else { &mut one.waiting_for_more };
            *count = if comes { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    }

    /// Gives back what an ended process had (SEM_UNDO). A value stays between 0 and the highest.
    pub(super) fn undo(&self, pid: u32, now_s: i64) {
        {
            let mut state = self.state.lock();
            let Some(adjustments) = state.undo.remove(&pid) else { return };
            state.operated_s = now_s;
            for (one, adjustment) in state.semaphores.iter_mut().zip(adjustments) {
                if adjustment != 0 {
                    one.value = (one.value + adjustment).clamp(0, MAX_VALUE);
                    one.pid = pid;
                }
            }
        }
        self.changed.wake_all();
    }
}

/// `semop(2)`: makes all operations when all can be made, until a time of CLOCK_MONOTONIC in nanoseconds.
///
/// # Errors
/// EFBIG no such semaphore; ERANGE; EAGAIN it would wait, or the time is over; EIDRM the set was removed; EINTR.
pub(crate) fn operate(
    ctx: &Ctx<'_>,
    set: &Arc<Object<SemaphoreSet>>,
    operations: &[Sembuf],
    deadline_ns: Option<u64>,
) -> Result<()> {
    let pid = ctx.process.pid;
    if operations.iter().any(|operation| operation.sem_flg & SEM_UNDO != 0) {
        set.value.prepare_undo(pid);
    }
    let mut waits_for: Option<(usize, bool)> = None;
    let result = ctx.wait_until(&set.value.changed, deadline_ns, || {
        if let Some((number, for_zero)) = waits_for.take() {
            set.value.count_waiter(number, for_zero, false);
        }
        if let Err(error) = set.check_there() {
            return Some(Err(error));
        }
        match set.value.attempt(operations, pid, super::now_s(ctx.kernel)) {
            Ok(Attempt::Done) => Some(Ok(())),
            Ok(Attempt::Blocked { may_wait: false, .. }) => {
                Some(Err(Error::new(Errno::EAGAIN, "the operation would wait")))
            }
            Ok(Attempt::Blocked { number, for_zero, .. }) => {
                set.value.count_waiter(number, for_zero, true);
                waits_for = Some((number, for_zero));
                None
            }
            Err(error) => Some(Err(error)),
        }
    });
    if let Some((number, for_zero)) = waits_for {
        set.value.count_waiter(number, for_zero, false);
    }
    match result {
        Ok(done) => {
            done?;
            set.value.wake_all();
            Ok(())
        }
        Err(error) => Err(match error.errno() {
            Errno::ETIMEDOUT => Error::new(Errno::EAGAIN, "the time is over"),
            // Semaphore operations are not made again (signal(7)).
            _ => Error::new(Errno::EINTR, "a signal came"),
        }),
    }
}
