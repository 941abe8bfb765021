//! Host threads that never run enclave code block every signal.

use std::io;

/// Starts a helper thread with all signals blocked, so that none meant for an enclave thread lands on it.
pub(crate) fn spawn_helper(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let old = block_all();
    let result = std::thread::Builder::new().name(name.to_owned()).spawn(body).map(|_| ());
    restore(&old);
    result
}

/// Starts a thread that will run enclave code. It inherits the signal mask of its maker, which blocks what
/// [`crate::signals`] waits for.
pub(crate) fn spawn_enclave_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(|_| ())
}

fn block_all() -> libc::sigset_t {
    let mut all = empty_set();
    let mut old = empty_set();
    // SAFETY: a valid set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut old) };
    old
}

fn restore(set: &libc::sigset_t) {
    // SAFETY: a valid set that `pthread_sigmask` filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
}

/// An empty signal set.
pub(crate) fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is written by the call.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    unsafe { set.assume_init() }
}

/// The host's id of the calling thread.
pub(crate) fn current_tid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// Sends a signal to a thread of this process. A thread that is gone is not an error.
pub(crate) fn signal_thread(tid: i32, signal: i32) {
    let process = std::process::id();
    // SAFETY: no pointers are involved.
    unsafe { libc::syscall(libc::SYS_tgkill, process, tid, signal) };
}
