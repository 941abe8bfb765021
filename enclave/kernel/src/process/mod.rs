//! Processes: what the threads of a program share.
//!
//! Lock order: the table, then a process, then what it owns.

use crate::Thread;
use crate::fs::{FileTable, FsContext};
use crate::vm::AddressSpace;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::sync::Mutex;

/// A process.
pub struct Process {
    /// Its number, which is also that of its first thread.
    pub(crate) pid: u32,
    pub(crate) state: Mutex<ProcessState>,
}

/// What changes in a process.
pub(crate) struct ProcessState {
    /// Number of its parent; 0 for those started from outside.
    pub(crate) parent: u32,
    /// Its memory; `execve` of a process that shares it replaces it.
    pub(crate) space: Arc<AddressSpace>,
    /// Its descriptors.
    pub(crate) files: Arc<FileTable>,
    /// Working directory, root and umask.
    pub(crate) fs: Arc<FsContext>,
    /// Its threads that have not ended.
    pub(crate) threads: Vec<Arc<Thread>>,
}

/// All processes and threads by number.
pub(crate) struct ProcessTable {
    state: Mutex<TableState>,
}

struct TableState {
    next: u32,
    processes: BTreeMap<u32, Arc<Process>>,
    threads: BTreeMap<u32, Arc<Thread>>,
}

impl ProcessTable {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(TableState {
                next: 1,
                processes: BTreeMap::new(),
                threads: BTreeMap::new(),
            }),
        }
    }

    /// The process of a number.
    pub(crate) fn process(&self, pid: u32) -> Option<Arc<Process>> {
        self.state.lock().processes.get(&pid).cloned()
    }
}
