//! What a system call may touch.

use crate::fs::{FileTable, FsContext};
use crate::vm::AddressSpace;
use crate::{Kernel, Process, Thread};
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use kbase::{Errno, UserSpace};
use platform::{Platform, UserRegisters};

/// What happens when the present system call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// RAX gets the result.
    Return,
    /// The registers are already what they must be (`rt_sigreturn`, `execve`).
    Keep,
}

/// Number of `restart_syscall(2)`.
const RESTART_SYSCALL: u64 = 219;

/// A system call that a signal interrupted and that did nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterruptedCall {
    /// Its number.
    pub(crate) number: u64,
    /// ERESTARTSYS and its like: when it is made again.
    pub(crate) errno: Errno,
}

/// The world of one thread while it is in the kernel. Made when the thread starts to run and again
/// whenever it gets other memory or other tables, so a system call takes no reference counts.
pub struct Ctx<'a> {
    /// The kernel.
    pub(crate) kernel: &'a Arc<Kernel>,
    /// The calling process.
    pub(crate) process: &'a Arc<Process>,
    /// The calling thread.
    pub(crate) thread: &'a Arc<Thread>,
    /// The memory of the calling process.
    pub(crate) space: &'a Arc<AddressSpace>,
    /// The descriptors of the calling process.
    pub(crate) files: &'a Arc<FileTable>,
    /// Working directory, root and umask of the calling process.
    pub(crate) fs: &'a Arc<FsContext>,
    /// The registers of user code. RIP is behind the system call while one is served.
    pub(crate) registers: &'a RefCell<UserRegisters>,
    /// What happens after the system call.
    pub(crate) after: Cell<After>,
    /// The system call that waits for the decision between EINTR and being made again.
    pub(crate) interrupted: Cell<Option<InterruptedCall>>,
}

impl Ctx<'_> {
    /// The memory of the calling process.
    #[must_use]
    pub fn user(&self) -> &dyn UserSpace {
        &**self.space
    }

    /// What is below the kernel.
    #[must_use]
    pub fn platform(&self) -> &dyn Platform {
        &**self.kernel.platform()
    }

    /// Decides about an interrupted system call because a handler is about to run: to be called before the frame is
    /// made, with whether the handler has SA_RESTART.
    pub(crate) fn settle_for_handler(&self, has_sa_restart: bool) {
        let Some(call) = self.interrupted.take() else { return };
        let again = match call.errno {
            Errno::ERESTARTNOINTR => true,
            Errno::ERESTARTSYS => has_sa_restart,
            _ => false,
        };
        if again {
            self.make_again(call);
        } else {
            self.registers.borrow_mut().rax = Errno::EINTR.as_return();
        }
    }

    /// Decides about an interrupted system call because no handler runs: it is made again.
    pub(crate) fn settle_without_handler(&self) {
        if let Some(call) = self.interrupted.take() {
            self.make_again(call);
        }
    }

    /// Puts RIP back on the instruction.
    fn make_again(&self, call: InterruptedCall) {
        let mut registers = self.registers.borrow_mut();
        registers.rax =
            if call.errno == Errno::ERESTART_RESTARTBLOCK { RESTART_SYSCALL } else { call.number };
        registers.rip = self.space.resume_address(registers.rip.wrapping_sub(2));
    }
}
