//! Trapping system calls of enclave code: `syscall` does not exist in an enclave.
//!
//! System call user dispatch does it with nothing to switch at each transition: what lies above ELRANGE may call
//! the host, all else traps. Neither new threads nor children inherit it. Where the kernel lacks it (before Linux
//! 5.11), a seccomp filter on the instruction pointer does the same, but stays with the thread and its children for
//! good; a child that runs a program at an address below the end of ELRANGE would then fail.

use std::io;

const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;
/// End of the addresses that user space has without asking for more.
const USER_END: u64 = 1 << 47;

/// Makes every system call of the calling thread from below `elrange_end` a SIGSYS.
///
/// # Errors
/// ENOSYS the kernel has neither of the two mechanisms.
pub(crate) fn trap_below(elrange_end: u64) -> io::Result<()> {
    match user_dispatch(elrange_end) {
        // EINVAL: an unknown option of prctl.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => seccomp(elrange_end).map_err(|_| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "software SGX needs system call user dispatch (Linux 5.11) or seccomp; the kernel allows neither",
            )
        }),
        done => done,
    }
}

fn user_dispatch(elrange_end: u64) -> io::Result<()> {
    let no_selector: libc::c_ulong = 0;
    let length = USER_END.saturating_sub(elrange_end);
    // SAFETY: without a selector, no pointer is passed.
    let done = unsafe {
        libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, elrange_end, length, no_selector)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The seccomp program: SIGSYS where the instruction pointer is below `elrange_end`.
fn program(elrange_end: u64) -> [libc::sock_filter; 7] {
    /// Offsets of the halves of `seccomp_data.instruction_pointer`.
    const LOW: u32 = 8;
    const HIGH: u32 = 12;
    let [high, low] =
        [elrange_end >> 32, elrange_end & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
    let load = |k| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k };
    let jump = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let ret = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    const JGT: u16 = 0x25;
    const JEQ: u16 = 0x15;
    const JGE: u16 = 0x35;
    [
        load(HIGH),
        jump(JGT, high, 4, 0),
        jump(JEQ, high, 0, 2),
        load(LOW),
        jump(JGE, low, 1, 0),
        ret(libc::SECCOMP_RET_TRAP),
        ret(libc::SECCOMP_RET_ALLOW),
    ]
}

fn seccomp(elrange_end: u64) -> io::Result<()> {
    // One filter for each thread is enough; a second one would only cost time.
    thread_local!(static FILTERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if FILTERED.get() {
        return Ok(());
    }
    let mut program = program(elrange_end);
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `filter` describes `program`, which the kernel copies.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    FILTERED.set(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of an instruction pointer.
    fn run(program: &[libc::sock_filter], instruction_pointer: u64) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let mut branch = |taken: bool| at += usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                0x20 => {
                    accumulator =
                        u32::try_from(instruction_pointer >> ((step.k - 8) * 8) & 0xffff_ffff).unwrap();
                }
                0x06 => return step.k,
                0x15 => branch(accumulator == step.k),
                0x25 => branch(accumulator > step.k),
                0x35 => branch(accumulator >= step.k),
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_traps_below_the_end_of_elrange_only() {
        for end in [1 << 36, (1 << 36) + 0x1234_5000, 1 << 30, 1 << 32] {
            let program = program(end);
            for below in [0, 0x1000, end / 2, end - 1] {
                assert_eq!(run(&program, below), libc::SECCOMP_RET_TRAP, "{below:#x} {end:#x}");
            }
            for above in [end, end + 1, 1 << 46, (1 << 47) - 1] {
                assert_eq!(run(&program, above), libc::SECCOMP_RET_ALLOW, "{above:#x} {end:#x}");
            }
        }
    }

    #[test]
    fn the_kernel_takes_the_filter() {
        // A thread of its own: there is no way back.
        std::thread::spawn(|| {
            seccomp(1 << 36).unwrap();
            seccomp(1 << 36).unwrap();
            // SAFETY: takes nothing, cannot fail.
            assert!(unsafe { libc::getppid() } >= 0);
        })
        .join()
        .unwrap();
    }
}
