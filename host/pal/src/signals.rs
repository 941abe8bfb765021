//! Signals of the host for the program in the enclave.
//!
//! SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGWINCH are blocked everywhere and waited for by one helper thread, which
//! passes them on with the Kill ECALL. SIGPIPE is ignored: the LibOS raises its own.

use crate::threads::{empty_set, spawn_helper};
use std::io;

const FORWARDED: [libc::c_int; 5] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGWINCH];

/// Starts forwarding; call it before other threads are made. `pass_on` says whether the signal found a program.
pub(crate) fn forward(pass_on: impl Fn(i32) -> bool + Send + 'static) -> io::Result<()> {
    // SAFETY: setting a disposition to "ignore" runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let mut set = empty_set();
    for signal in FORWARDED {
        // SAFETY: a valid set and signal number.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    spawn_helper("occlum-signals", move || {
        loop {
            let mut signal = 0;
            // SAFETY: valid set and result.
            if unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {
                continue;
            }
            if !pass_on(signal) && signal != libc::SIGWINCH {
                die_of(signal);
            }
        }
    })
}

/// Ends this process as the signal would.
fn die_of(signal: i32) {
    let mut set = empty_set();
    // SAFETY: a valid set and signal number.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: the default disposition runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: no pointers are involved.
    unsafe { libc::raise(signal) };
}
