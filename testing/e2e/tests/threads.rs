//! Threads, processes and signals: programs of several languages, and stress-ng.
#![forbid(unsafe_code)]

use e2e::{Case, Linked, Run, Toolchain, folder, installed};
use std::ffi::OsString;

const BOTH: [(Toolchain, Linked); 2] =
    [(Toolchain::Glibc, Linked::Dynamic), (Toolchain::Musl, Linked::Static)];

/// Compiles a C program with both C libraries; each must do the same natively and in an enclave.
fn same(name: &str) {
    for (toolchain, linked) in BOTH {
        let folder = folder();
        if let Some(program) = toolchain.compile(name, linked, folder.path()) {
            Case::new(program).same();
        }
    }
}

#[test]
fn barriers_locks_and_cancellation_work_with_both_libraries() {
    same("locks");
}

#[test]
fn a_process_keeps_its_identity_and_its_descriptor_tells_of_its_end() {
    same("identity");
}

#[test]
fn busy_threads_are_signalled_and_end_with_their_process() {
    same("busy");
}

/// An interrupt that comes while a thread is outside the enclave is seen when it comes back, and not some repetitions later.
#[test]
fn timers_reach_a_program_that_is_mostly_outside() {
    same("alarms");
}

/// Whatever the host's signal meets (user code, the kernel, the exception handler, a system call of the host, a helper), the
/// program does not notice.
#[test]
fn interrupts_from_outside_change_nothing() {
    let folder = folder();
    let Some(pepper) = Toolchain::Glibc.compile("pepper", Linked::Dynamic, folder.path()) else { return };
    for name in ["storm", "signals", "threads", "pipes", "counters", "registers", "busy", "peppered"] {
        let Some(program) = Toolchain::Glibc.compile(name, Linked::Dynamic, folder.path()) else { return };
        Case::new(&program).run_by(&pepper).same();
    }
}

/// Twenty-five calls a round. What is left does not grow with the rounds: pages, and the first of each kind.
#[test]
fn what_programs_tell_each_other_is_no_matter_for_the_host() {
    const ROUNDS: u64 = 5000;
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("exits", Linked::Dynamic, folder.path()) else { return };
    let exits = |rounds: u64| {
        let run = Case::new(&program).args([rounds.to_string()]).flags(["--stats"]).enclave();
        assert_eq!(run.text(), format!("{rounds} rounds, 0 went wrong\n"), "{}", run.errors());
        run.exits()
    };
    let (few, many) = (exits(1), exits(ROUNDS));
    // How often the host is asked for the time depends on how long it takes and on how often it runs something else meanwhile.
    let is_time = |name: &str| ["Clock", "ThreadCpu"].contains(&name);
    let sum = |exits: &[(String, u64)], of_time: bool| {
        exits.iter().filter(|(name, _)| is_time(name) == of_time).map(|(_, count)| count).sum::<u64>()
    };
    assert!(sum(&many, false) < sum(&few, false) + ROUNDS / 20, "{few:?}\n{many:?}");
    assert!(sum(&many, true) < sum(&few, true) + ROUNDS / 2, "{few:?}\n{many:?}");
}

/// Threads that compute are asked to make room for a program at their address once per time slice, and not as fast as somebody can
/// ask, which leaves them no time to answer.
#[test]
fn who_computes_is_asked_for_its_place_now_and_then() {
    const ROUNDS: u64 = 100;
    let folder = folder();
    let Some(program) = Toolchain::Glibc.compile("crowded", Linked::Static, folder.path()) else { return };
    let case = Case::new(&program).args([program.as_os_str(), ROUNDS.to_string().as_ref()]);
    case.clone().succeeds();
    let exits = case.flags(["--stats"]).enclave().exits();
    let asked = exits.iter().find(|(name, _)| name == "Interrupt").map_or(0, |&(_, count)| count);
    assert!(asked < ROUNDS * 50, "{exits:?}");
}

#[test]
fn cplusplus_threads_and_tasks_work() {
    let folder = folder();
    if let Some(program) = e2e::cplusplus("tasks", folder.path()) {
        Case::new(program).succeeds();
    }
}

#[test]
fn rust_threads_and_channels_work() {
    let folder = folder();
    let program = e2e::rust("channels", folder.path());
    Case::new(program).succeeds();
}

#[test]
fn python_threads_pools_and_signals_work() {
    const PYTHON: &str = "/usr/bin/python3";
    let script = "
import concurrent.futures, os, queue, signal, threading, time
work, done = queue.Queue(), queue.Queue()
def worker():
    while (item := work.get()) is not None:
        done.put(item * item)
threads = [threading.Thread(target=worker) for _ in range(16)]
for thread in threads: thread.start()
for n in range(2000): work.put(n)
for thread in threads: work.put(None)
for thread in threads: thread.join()
print(sum(done.get() for _ in range(2000)))
barrier, local, lock = threading.Barrier(8), threading.local(), threading.RLock()
seen = []
def meet(n):
    local.n = n
    barrier.wait()
    with lock, lock: seen.append(local.n)
with concurrent.futures.ThreadPoolExecutor(8) as pool: list(pool.map(meet, range(8)))
print(sorted(seen))
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    futures = [pool.submit(pow, n, 3) for n in range(500)]
    print(sum(future.result() for future in concurrent.futures.as_completed(futures)))
    failure = pool.submit(lambda: 1 // 0)
    print(type(failure.exception()).__name__)
got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 0.01)
while len(got) < 2: pass
print(got)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
print(signal.sigpending(), signal.sigwait([signal.SIGUSR2]))
event = threading.Event()
threading.Timer(0.01, event.set).start()
print(event.wait(20))
";
    if installed(PYTHON, "python3") {
        Case::new(PYTHON).args(["-c", script]).succeeds();
    }
}

const STRESS: &str = "/usr/bin/stress-ng";

/// Stressors of threads, processes, signals and time, two instances of each for a second.
const STRESSORS: [&str; 31] = [
    "cpu",
    "futex",
    "switch",
    "pthread",
    "pipe",
    "sem",
    "signal",
    "sigq",
    "sigsegv",
    "timer",
    "yield",
    "mutex",
    "vfork",
    "sigpending",
    "sigsuspend",
    "sigchld",
    "sigpipe",
    "sigrt",
    "sigfd",
    "alarm",
    "nanosleep",
    "itimer",
    "clone",
    "wait",
    "affinity",
    "membarrier",
    "zombie",
    "schedpolicy",
    "context",
    "resched",
    "clock",
];

/// Those that refuse to run as root.
const UNPRIVILEGED: [&str; 2] = ["exec", "spawn"];

fn stress(case: Case, stressor: &str) -> Run {
    let run = case.args(["--temp-path", "/tmp", "-t", "1", &format!("--{stressor}"), "2"]).enclave();
    let said = run.text() + &run.errors();
    assert_eq!(run.status, 0, "{stressor}: {said}");
    assert!(said.contains("successful run completed"), "{stressor}: {said}");
    run
}

#[test]
fn stressors_of_threads_and_signals_succeed() {
    if installed(STRESS, "stress-ng") {
        for stressor in STRESSORS {
            stress(Case::new(STRESS), stressor);
        }
    }
}

#[test]
fn stressors_of_programs_succeed() {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if installed(STRESS, "stress-ng") && installed(SETPRIV, "util-linux") {
        for stressor in UNPRIVILEGED {
            let case = Case::new(SETPRIV).flags(["--with", STRESS].map(OsString::from));
            stress(case.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", STRESS]), stressor);
        }
    }
}
