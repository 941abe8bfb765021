//! `eventfd(2)`: a counter as a file.

use super::pipe::anonymous_metadata;
use super::{FsShared, OpenFile};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Result};
use linux_abi::fs::OpenFlags;
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier};

/// The largest value of the counter.
const MAX: u64 = u64::MAX - 1;

struct EventFd {
    ino: u64,
    created_ns: i64,
    is_semaphore: bool,
    count: Mutex<u64>,
    changed: ReadinessNotifier,
}

/// A new counter. `flags` is O_NONBLOCK or nothing.
pub(crate) fn eventfd(
    shared: &Arc<FsShared>,
    initial: u32,
    is_semaphore: bool,
    flags: OpenFlags,
) -> Arc<OpenFile> {
    let file = Arc::new(EventFd {
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
        is_semaphore,
        count: Mutex::new(initial.into()),
        changed: ReadinessNotifier::new(),
    });
    OpenFile::new(shared, file, None, flags | OpenFlags::RDWR)
}

impl File for EventFd {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        if into.remaining() < 8 {
            kbase::bail!(EINVAL, "the buffer is shorter than a counter");
        }
        let value = {
            let mut count = self.count.lock();
            match *count {
                0 => kbase::bail!(EAGAIN, "the counter is zero"),
                _ if self.is_semaphore => {
                    *count -= 1;
                    1
                }
                value => {
                    *count = 0;
                    value
                }
            }
        };
        self.changed.broadcast(&Readiness::OUT);
        // What cannot be told is lost, as on Linux.
        match into.put(&value.to_le_bytes())? {
            8 => Ok(8),
            _ => kbase::bail!(EFAULT, "not all of the counter can be stored"),
        }
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        if from.remaining() != 8 {
            kbase::bail!(EINVAL, "the buffer is not a counter");
        }
        let mut bytes = [0; 8];
        from.take(&mut bytes)?;
        let value = u64::from_le_bytes(bytes);
        if value == u64::MAX {
            kbase::bail!(EINVAL, "the value is too large");
        }
        let mut count = self.count.lock();
        let Some(sum) = count.checked_add(value).filter(|&sum| sum <= MAX) else {
            drop(count);
            // The caller tries again.
            from.give_back(bytes.len());
            kbase::bail!(EAGAIN, "the counter would overflow");
        };
        *count = sum;
        drop(count);
        self.changed.broadcast(&Readiness::IN);
        Ok(8)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Anonymous, self.created_ns))
    }

    fn bands(&self) -> Bands {
        Bands::Plain
    }

    fn ready(&self) -> Readiness {
        let count = *self.count.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, count > 0);
        ready.set(Readiness::OUT, count < MAX);
        ready
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.changed)
    }

    fn seek(&self, _offset: i64, _whence: u32) -> Result<u64> {
        // Linux takes any place for the beginning.
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:[eventfd]".into())
    }
}
