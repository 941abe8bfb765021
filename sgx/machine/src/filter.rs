//! Trapping system calls of enclave code: `syscall` does not exist in an enclave.

use std::io;

const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;
/// End of the addresses that user space has without asking for more.
const USER_END: u64 = 1 << 47;

/// Makes every system call of the calling thread from below `elrange_end` a SIGSYS.
///
/// System call user dispatch does it with nothing to switch at each transition: what lies above ELRANGE may call
/// the host, all else traps. Neither new threads nor children inherit it.
///
/// # Errors
/// ENOSYS neither that (Linux 5.11) nor seccomp is there.
pub(crate) fn trap_below(elrange_end: u64) -> io::Result<()> {
    let no_selector: libc::c_ulong = 0;
    let length = USER_END.saturating_sub(elrange_end);
    // SAFETY: without a selector, no pointer is passed.
    let done = unsafe {
        libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, elrange_end, length, no_selector)
    };
    if done == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the kernel has no system call user dispatch (Linux 5.11)",
    ))
}
