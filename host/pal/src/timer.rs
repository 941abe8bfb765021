//! Interrupts at a time: one helper thread, started when first needed.
//!
//! An interrupt that comes as its thread is about to enter, or before the enclave's own clock has reached the deadline, is lost on
//! the enclave. So a slot is interrupted again, ever more rarely, until the enclave sets another deadline or
//! cancels this one, which it does when it has seen that the time has come.

use crate::park::{FOREVER, monotonic_ns};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// First and longest distance between interrupts for one deadline.
const FIRST_RETRY_NS: u64 = 500_000;
const LAST_RETRY_NS: u64 = 64_000_000;

/// When a slot is interrupted.
#[derive(Clone, Copy)]
struct Deadline {
    at_ns: u64,
    retry_ns: u64,
}

/// Deadlines by slot.
type Deadlines = BTreeMap<u64, Deadline>;

/// Calls a function for a slot when its deadline has come.
pub(crate) struct Timer {
    shared: Arc<(Mutex<Deadlines>, Condvar)>,
    started: std::sync::Once,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new((Mutex::new(Deadlines::new()), Condvar::new())),
            started: std::sync::Once::new(),
        }
    }

    /// Sets, replaces or (with `FOREVER`) cancels the deadline of a slot.
    pub(crate) fn set(&self, slot: u64, deadline_ns: u64, fire: impl Fn(u64) + Send + 'static) {
        let (deadlines, changed) = &*self.shared;
        let mut deadlines = deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline_ns == FOREVER {
            deadlines.remove(&slot);
        } else {
            deadlines.insert(slot, Deadline { at_ns: deadline_ns, retry_ns: FIRST_RETRY_NS });
        }
        drop(deadlines);
        changed.notify_one();
        self.started.call_once(|| {
            let shared = Arc::clone(&self.shared);
            // Without the helper timers do not fire: the enclave sees a host that is infinitely late.
            let _ = crate::threads::spawn_helper("occlum-timer", move || run(&shared, &fire));
        });
    }
}

fn run(shared: &(Mutex<Deadlines>, Condvar), fire: &dyn Fn(u64)) {
    let (deadlines, changed) = shared;
    let mut held = deadlines.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = monotonic_ns();
        let mut due = Vec::new();
        for (&slot, deadline) in held.iter_mut().filter(|(_, deadline)| deadline.at_ns <= now) {
            due.push(slot);
            deadline.at_ns = now.saturating_add(deadline.retry_ns);
            deadline.retry_ns = (deadline.retry_ns * 2).min(LAST_RETRY_NS);
        }
        if !due.is_empty() {
            drop(held);
            due.into_iter().for_each(fire);
            held = deadlines.lock().unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        held = match held.values().map(|deadline| deadline.at_ns).min() {
            Some(next) => {
                changed
                    .wait_timeout(held, Duration::from_nanos(next - now))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => changed.wait(held).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_deadline_fires_until_it_is_cancelled_and_a_cancelled_one_never() {
        let timer = Timer::new();
        let (send, receive) = mpsc::channel();
        let other = send.clone();
        timer.set(1, monotonic_ns() + 1_000_000_000_000, move |slot| send.send(slot).unwrap());
        timer.set(1, FOREVER, |_| ());
        timer.set(2, 1, move |slot| other.send(slot).unwrap());
        assert_eq!(receive.recv(), Ok(2));
        assert_eq!(receive.recv(), Ok(2));
        timer.set(2, FOREVER, |_| ());
        // One may be on its way.
        let rest: Vec<_> = receive.recv_timeout(Duration::from_millis(50)).into_iter().collect();
        assert!(rest.iter().all(|&slot| slot == 2));
        assert!(receive.recv_timeout(Duration::from_millis(200)).is_err());
    }
}
