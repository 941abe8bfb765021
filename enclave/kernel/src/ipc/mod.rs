//! Communication between processes by named objects of the kernel: System V semaphores, message queues and shared memory
//! (`svipc(7)`), and POSIX message queues (`mq_overview(7)`).
//!
//! Nothing here leaves the enclave. Lock order: a [`table::Table`], then an object of it; nobody is woken under a lock.

pub(crate) mod message;
pub(crate) mod posix;
pub(crate) mod segment;
pub(crate) mod semaphore;
mod table;

pub(crate) use table::Object;

use crate::{Kernel, Process};
use message::MessageQueue;
use posix::PosixQueues;
use segment::Segment;
use semaphore::SemaphoreSet;
use table::Table;

/// Most objects of one kind (SEMMNI, MSGMNI).
pub(crate) const MAX_OBJECTS: usize = 32_000;

/// All objects.
pub(crate) struct Ipc {
    pub(crate) semaphores: Table<SemaphoreSet>,
    pub(crate) messages: Table<MessageQueue>,
    pub(crate) posix: PosixQueues,
    pub(crate) segments: Table<Segment>,
}

impl Ipc {
    pub(crate) fn new() -> Self {
        Self {
            semaphores: Table::new(MAX_OBJECTS),
            messages: Table::new(MAX_OBJECTS),
            posix: PosixQueues::default(),
            segments: Table::new(segment::MAX_SEGMENTS),
        }
    }

    /// A process has ended: what it did to semaphores with SEM_UNDO is undone.
    pub(crate) fn process_ended(&self, kernel: &Kernel, process: &Process) {
        segment::sweep(kernel);
        self.undo_semaphores(kernel, process);
    }

    /// Undoes what the process did to semaphores with SEM_UNDO.
    pub(crate) fn undo_semaphores(&self, kernel: &Kernel, process: &Process) {
        for set in self.semaphores.list() {
            set.value.undo(process.pid, now_s(kernel));
        }
    }
}

/// Seconds of CLOCK_REALTIME.
pub(crate) fn now_s(kernel: &Kernel) -> i64 {
    (kernel.platform().realtime_ns() / 1_000_000_000).cast_signed()
}
