//! Interrupts at a time: one helper thread, started when first needed.

use crate::park::{FOREVER, monotonic_ns};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Deadlines by slot.
type Deadlines = BTreeMap<u64, u64>;

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
            deadlines.insert(slot, deadline_ns);
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
        let due: Vec<u64> = held.iter().filter(|&(_, &at)| at <= now).map(|(&slot, _)| slot).collect();
        for slot in &due {
            held.remove(slot);
        }
        if !due.is_empty() {
            drop(held);
            due.into_iter().for_each(fire);
            held = deadlines.lock().unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        held = match held.values().min() {
            Some(&next) => {
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
    fn a_deadline_fires_once_and_a_cancelled_one_never() {
        let timer = Timer::new();
        let (send, receive) = mpsc::channel();
        let other = send.clone();
        timer.set(1, monotonic_ns() + 1_000_000_000_000, move |slot| send.send(slot).unwrap());
        timer.set(1, FOREVER, |_| ());
        timer.set(2, 1, move |slot| other.send(slot).unwrap());
        assert_eq!(receive.recv(), Ok(2));
        assert!(receive.try_recv().is_err());
    }
}
