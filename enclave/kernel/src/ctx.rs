//! What a system call may touch.

use crate::fs::{FileTable, FsContext};
use crate::vm::AddressSpace;
use crate::{Kernel, Process, Thread};
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use kbase::UserSpace;
use platform::{Platform, UserRegisters};

/// What happens when the present system call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// RAX gets the result.
    Return,
    /// The registers are already what they must be (`rt_sigreturn`, `execve`).
    Keep,
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
    /// The registers of user code.
    pub(crate) registers: &'a RefCell<UserRegisters>,
    /// What happens after the system call.
    pub(crate) after: Cell<After>,
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
}
