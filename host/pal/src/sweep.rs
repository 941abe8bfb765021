//! Interrupts that were missed, and a helper thread that looks for them.
//!
//! The signal that interrupts a thread ends what the thread does: its time in the enclave, or a system call that blocks. If it
//! comes a moment earlier, in front of EENTER or of the system call, it ends nothing. A slot keeps that it was interrupted until
//! the enclave hears of it, so a little after an interrupt the helper signals again whoever has not heard, ever more rarely,
//! until all have. While nobody is interrupted it sleeps.

use crate::threads::spawn_helper;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread::{Thread, park, sleep};
use std::time::Duration;

/// From an interrupt to the first look, and the longest time from one look to the next.
const FIRST: Duration = Duration::from_millis(4);
const LAST: Duration = Duration::from_millis(64);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Everybody has heard.
    Nothing,
    /// Somebody was signalled again.
    Somebody,
    /// There is no enclave any more.
    TheEnd,
}

/// Has somebody look after each interrupt.
pub(crate) struct Sweeper {
    state: Arc<State>,
    started: Once,
}

#[derive(Default)]
struct State {
    is_due: AtomicBool,
    helper: OnceLock<Thread>,
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), started: Once::new() }
    }

    /// There was an interrupt: `look` is called soon. It is the same in all calls.
    pub(crate) fn note(&self, look: impl Fn() -> Found + Send + 'static) {
        // The helper is awake if it is due already.
        if self.state.is_due.swap(true, Ordering::SeqCst) {
            return;
        }
        self.started.call_once(|| {
            let state = Arc::clone(&self.state);
            // Without the helper a missed interrupt is missed: the enclave sees a host that is late.
            let _ = spawn_helper("occlum-sweeper", move || state.run(&look));
        });
        if let Some(helper) = self.state.helper.get() {
            helper.unpark();
        }
    }
}

impl State {
    fn run(&self, look: &dyn Fn() -> Found) {
        self.helper.get_or_init(std::thread::current);
        let mut pause = FIRST;
        loop {
            while !self.is_due.load(Ordering::SeqCst) {
                park();
                pause = FIRST;
            }
            sleep(pause);
            // Before the look, so that who is interrupted after it makes another due.
            self.is_due.store(false, Ordering::SeqCst);
            match look() {
                Found::Nothing => {}
                Found::Somebody => {
                    pause = (pause * 2).min(LAST);
                    self.is_due.store(true, Ordering::SeqCst);
                }
                Found::TheEnd => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn somebody_looks_until_nothing_is_left_and_again_after_the_next_interrupt() {
        let sweeper = Sweeper::new();
        let (send, looks) = mpsc::channel();
        let mut left = 3;
        let (answer, answers) = mpsc::channel();
        let answers = std::sync::Mutex::new(answers);
        let look = move || {
            send.send(()).unwrap();
            answers.lock().unwrap().recv().unwrap_or(Found::TheEnd)
        };
        sweeper.note(look);
        while left > 0 {
            answer.send(Found::Somebody).unwrap();
            looks.recv().unwrap();
            left -= 1;
        }
        answer.send(Found::Nothing).unwrap();
        looks.recv().unwrap();
        sweeper.note(|| unreachable!("the first stays"));
        answer.send(Found::TheEnd).unwrap();
        looks.recv().unwrap();
        assert!(looks.recv().is_err(), "the helper has ended");
    }
}
