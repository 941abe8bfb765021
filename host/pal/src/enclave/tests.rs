use super::*;
use crate::park::FOREVER;
use sgx_arch::Secinfo;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SLEEPER: u64 = 1;
/// From here on, threads end at once.
const SHORT: u64 = 100;

/// The host threads that short threads ran on.
static RAN_ON: Mutex<Vec<std::thread::ThreadId>> = Mutex::new(Vec::new());

/// An enclave that does this when it is entered.
struct Fake<F>(F);

/// Its first thread sleeps for ever in an OCALL, and its other threads find that the LibOS is broken.
fn stopping(run: &mut EnclaveRun) -> Exit {
    // SAFETY: the frame of the slot that `Shared::enter` passes, or left there.
    let frame = unsafe { &mut *(run.rsi as *mut edge_abi::ocall::EdgeFrame) };
    if run.rdi == ENTER_OCALL_RETURN || frame.args[0] == SLEEPER {
        frame.number = Ocall::Park as u64;
        frame.args = [FOREVER, 0, 0, 0, 0, 0];
        run.rdi = EXIT_OCALL;
    } else if frame.args[0] >= SHORT {
        RAN_ON.lock().unwrap().push(std::thread::current().id());
        frame.result = 0;
        run.rdi = EXIT_DONE;
    } else {
        run.rdi = EXIT_ABORT;
    }
    Exit::Eexit
}

impl<F: Fn(&mut EnclaveRun) -> Exit + Send + Sync> SgxEnclave for Fake<F> {
    fn enter(&self, run: &mut EnclaveRun) -> Exit {
        (self.0)(run)
    }

    fn add_pages(&self, _: &[u8], _: u64, _: &Secinfo, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn init(&self, _: &sgx_arch::Sigstruct) -> io::Result<()> {
        Ok(())
    }
    fn restrict_permissions(&self, _: u64, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn modify_types(&self, _: u64, _: u64, _: u8) -> io::Result<()> {
        Ok(())
    }
    fn remove_pages(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn map_permissions(&self, _: u64, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn prepare_thread(&self) -> io::Result<()> {
        Ok(())
    }
}

fn shared(threads: u64, enter: impl Fn(&mut EnclaveRun) -> Exit + Send + Sync + 'static) -> Arc<Shared> {
    let slots = Slots::new(threads);
    slots.grow(threads).unwrap();
    Arc::new(Shared {
        enclave: Box::new(Fake(enter)),
        log: Box::new(|_, _| ()),
        timer: Timer::new(),
        pool: Pool::default(),
        readiness: Readiness::default(),
        rings: Rings::default(),
        slots,
        sweeper: Sweeper::new(),
        counts: Vec::new(),
        image: Mapping { address: std::ptr::null_mut(), len: 0 },
        lost: OnceLock::new(),
    })
}

#[test]
fn host_threads_are_kept_for_the_threads_that_follow() {
    const ROUNDS: usize = 50;
    let shared = shared(8, stopping);
    for round in 0..ROUNDS {
        shared.pool.start(&shared, SHORT + round as u64).unwrap();
        let start = Instant::now();
        while RAN_ON.lock().unwrap().len() <= round {
            assert!(start.elapsed() < Duration::from_secs(10), "thread {round} does not run");
            std::thread::yield_now();
        }
        // It parks a moment after its thread has ended.
        std::thread::sleep(Duration::from_millis(2));
    }
    let ran_on = RAN_ON.lock().unwrap();
    let distinct: std::collections::HashSet<_> = ran_on.iter().collect();
    assert_eq!(ran_on.len(), ROUNDS);
    // One, and another where it was slow to park.
    assert!(distinct.len() < ROUNDS / 5, "{} host threads for {ROUNDS} that ran one by one", distinct.len());
}

#[test]
fn a_thread_for_which_no_slot_is_free_runs_when_one_is() {
    let (send, runs) = std::sync::mpsc::channel();
    let shared = shared(1, move |run: &mut EnclaveRun| {
        send.send(()).unwrap();
        run.rdi = EXIT_DONE;
        Exit::Eexit
    });
    let held = shared.with_slot(|_| {
        shared.pool.start(&shared, SHORT).unwrap();
        let start = Instant::now();
        while !shared.pool.has_due() {
            assert!(start.elapsed() < Duration::from_secs(10), "it finds a slot");
            std::thread::yield_now();
        }
        Ok(())
    });
    assert!(held.is_ok());
    assert_eq!(runs.recv_timeout(Duration::from_secs(10)), Ok(()), "it runs");
}

#[test]
fn a_thread_that_sleeps_learns_that_the_enclave_stopped() {
    let shared = shared(2, stopping);
    ignore_interrupts();
    let sleeper = Arc::clone(&shared);
    let sleeper = std::thread::spawn(move || sleeper.ecall("RunThread", Ecall::RunThread, [SLEEPER, 0]));
    std::thread::sleep(Duration::from_millis(20));
    assert!(matches!(shared.ecall("RunThread", Ecall::RunThread, [2, 0]), Err(PalError::Lost(_))));
    let start = Instant::now();
    while !sleeper.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(10), "it sleeps on");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(sleeper.join().unwrap(), Err(PalError::Lost(_))));
}

/// Has the signal that interrupts do nothing but end system calls.
fn ignore_interrupts() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all-zero is a valid sigaction, which has no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the handler does nothing.
    unsafe { libc::sigaction(ocalls::INTERRUPT_SIGNAL, &raw const action, std::ptr::null_mut()) };
}

#[test]
fn who_missed_an_interrupt_is_interrupted_again() {
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
    ignore_interrupts();
    let enclave = |run: &mut EnclaveRun| {
        if run.leaf == Leaf::Eresume {
            run.rdi = EXIT_DONE;
            return Exit::Eexit;
        }
        if run.rdi == 0 {
            run.rdi = EXIT_RESUME;
            return Exit::Eexit;
        }
        // It comes as the thread is about to enter, and is gone when the thread has.
        let shared = SHARED.get().unwrap();
        for index in 0..shared.slots.len() {
            shared.interrupt(index);
        }
        // SAFETY: no descriptors are passed.
        while unsafe { libc::poll(std::ptr::null_mut(), 0, -1) } == 0 {}
        Exit::Interrupt
    };
    let shared = SHARED.get_or_init(|| shared(1, enclave));
    let result = shared.ecall("RunThread", Ecall::RunThread, [SHORT, 0]);
    assert!(!matches!(result, Err(PalError::Lost(_))));
}

#[test]
fn an_interrupt_of_who_looks_at_one_is_looked_at_afterwards() {
    static ENTRIES: Mutex<Vec<(Leaf, u64)>> = Mutex::new(Vec::new());
    let enclave = |run: &mut EnclaveRun| {
        let mut entries = ENTRIES.lock().unwrap();
        entries.push((run.leaf, run.rdi));
        match entries.len() {
            1..=3 => Exit::Interrupt,
            4 | 5 => {
                run.rdi = EXIT_RESUME;
                Exit::Eexit
            }
            _ => {
                run.rdi = EXIT_DONE;
                Exit::Eexit
            }
        }
    };
    let shared = shared(1, enclave);
    let result = shared.ecall("RunThread", Ecall::RunThread, [SHORT, 0]);
    assert!(!matches!(result, Err(PalError::Lost(_))));
    let look = (Leaf::Eenter, 0);
    let resumed = |rdi| (Leaf::Eresume, rdi);
    let first = (Leaf::Eenter, Ecall::RunThread as u64);
    let expected = [first, look, resumed(0), resumed(0), look, resumed(0)];
    assert_eq!(*ENTRIES.lock().unwrap(), expected);
}

#[test]
fn a_wait_status_becomes_what_a_shell_shows() {
    assert_eq!(WaitStatus(0x2a00).shell_code(), 42);
    assert_eq!(WaitStatus(9).shell_code(), 137);
    assert_eq!(WaitStatus(0x80 | 11).shell_code(), 139);
}
