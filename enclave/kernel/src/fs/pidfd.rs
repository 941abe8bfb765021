//! `pidfd_open(2)`: a process as a file, which can be read from (as far as `poll` is concerned) once the process has ended.

use super::pipe::anonymous_metadata;
use super::{FsShared, OpenFile};
use crate::Process;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kbase::{Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier, Transfers};

/// A process as a file. It keeps the process's number from meaning another process to whoever has it.
pub(crate) struct PidFd {
    process: Arc<Process>,
    ino: u64,
    created_ns: i64,
}

/// A new descriptor for a process. `flags` is O_NONBLOCK or nothing.
pub(crate) fn pidfd(shared: &Arc<FsShared>, process: Arc<Process>, flags: OpenFlags) -> Arc<OpenFile> {
    let file = Arc::new(PidFd {
        process,
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
    });
    OpenFile::new(shared, file, None, flags | OpenFlags::RDWR)
}

impl PidFd {
    /// The process of an open file.
    ///
    /// # Errors
    /// EBADF it stands for none.
    pub(crate) fn process(open: &OpenFile) -> Result<&Arc<Process>> {
        match open.file().as_any().downcast_ref::<Self>() {
            Some(file) => Ok(&file.process),
            None => Err(Error::new(Errno::EBADF, "not a pidfd")),
        }
    }
}

impl File for PidFd {
    fn can_transfer(&self) -> Transfers {
        Transfers { read: false, write: false }
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Regular, self.created_ns))
    }

    fn ready(&self) -> Readiness {
        let state = self.process.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, state.has_ended);
        ready.set(Readiness::HUP, state.was_waited_for);
        ready
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.process.has_ended)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[pidfd]".into())
    }
}
