//! `signalfd(2)`: signals as a file.
//!
//! What can be read are the pending signals of whoever reads or polls, not of whoever made the descriptor. The file learns
//! of new ones from the notifier of each process that has looked at it.

use super::pipe::anonymous_metadata;
use super::{FsShared, OpenFile};
use crate::kernel::Kernel;
use crate::{Process, Thread};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use kbase::event::Observer;
use kbase::sync::Mutex;
use kbase::{ByteSink, Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use linux_abi::signal::{SigInfo, SignalFdInfo, SignalSet};
use vfs::{Bands, File, FileType, Metadata, Readiness, ReadinessNotifier, Transfers};
use zerocopy::IntoBytes;

/// Signals as a file.
pub(crate) struct SignalFd {
    kernel: Weak<Kernel>,
    this: Weak<Self>,
    ino: u64,
    created_ns: i64,
    /// The signals that can be read.
    wanted: AtomicU64,
    /// The processes whose notifiers know of it.
    known_to: Mutex<Vec<u32>>,
    changed: ReadinessNotifier,
}

/// A new descriptor for `wanted`. `flags` is O_NONBLOCK or nothing.
pub(crate) fn signalfd(
    kernel: &Arc<Kernel>,
    shared: &Arc<FsShared>,
    wanted: SignalSet,
    flags: OpenFlags,
) -> Arc<OpenFile> {
    let file = Arc::new_cyclic(|this| SignalFd {
        kernel: Arc::downgrade(kernel),
        this: this.clone(),
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
        wanted: AtomicU64::new(readable(wanted).0),
        known_to: Mutex::default(),
        changed: ReadinessNotifier::new(),
    });
    OpenFile::new(shared, file, None, flags | OpenFlags::RDWR)
}

const fn readable(wanted: SignalSet) -> SignalSet {
    wanted.minus(SignalSet::UNBLOCKABLE)
}

impl SignalFd {
    /// The descriptor for signals that an open file is.
    ///
    /// # Errors
    /// EINVAL it is none.
    pub(crate) fn of(open: &OpenFile) -> Result<&Self> {
        let file = open.file().as_any().downcast_ref::<Self>();
        file.ok_or(Error::new(Errno::EINVAL, "not a signalfd"))
    }

    /// Other signals can be read from now on.
    pub(crate) fn set(&self, wanted: SignalSet) {
        self.wanted.store(readable(wanted).0, Ordering::SeqCst);
        self.changed.broadcast(&Readiness::IN);
    }

    fn wanted(&self) -> SignalSet {
        SignalSet(self.wanted.load(Ordering::SeqCst))
    }

    /// The calling thread with its process, which tells this file of new signals from now on.
    fn caller(&self) -> Option<(Arc<Process>, Arc<Thread>)> {
        let kernel = self.kernel.upgrade()?;
        let thread = kernel.processes.running(kernel.platform().current())?;
        let process = thread.process()?;
        let mut known_to = self.known_to.lock();
        if !known_to.contains(&process.pid) {
            known_to.push(process.pid);
            drop(known_to);
            process.signals.arrived.register(self.this.clone(), Readiness::IN);
        }
        Some((process, thread))
    }
}

impl Observer<Readiness> for SignalFd {
    fn on_event(&self, event: &Readiness) {
        self.changed.broadcast(event);
    }
}

impl File for SignalFd {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        if into.remaining() < size_of::<SignalFdInfo>() {
            kbase::bail!(EINVAL, "the buffer is shorter than a signal");
        }
        let Some((process, thread)) = self.caller() else {
            kbase::bail!(EAGAIN, "the caller has no signals");
        };
        let mut done = 0;
        while into.remaining() >= size_of::<SignalFdInfo>() {
            let Some((_, info)) = process.signals.take_quietly(&thread.signals, self.wanted()) else { break };
            done += into.put(described(&info).as_bytes())?;
        }
        if done == 0 {
            kbase::bail!(EAGAIN, "no signal is pending");
        }
        Ok(done)
    }

    fn can_transfer(&self) -> Transfers {
        Transfers { read: true, write: false }
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.ino, FileType::Anonymous, self.created_ns))
    }

    fn bands(&self) -> Bands {
        Bands::Plain
    }

    fn ready(&self) -> Readiness {
        let is_pending = self.caller().is_some_and(|(process, thread)| {
            let pending = process.signals.pending().union(thread.signals.pending());
            !pending.and(self.wanted()).is_empty()
        });
        if is_pending { Readiness::IN } else { Readiness::empty() }
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
        Some("anon_inode:[signalfd]".into())
    }
}

/// A `siginfo_t` as a read shows it.
fn described(info: &SigInfo) -> SignalFdInfo {
    use linux_abi::signal::{Signal, si};
    let [first, second, ..] = info.fields;
    let low = |word: u64| (word & 0xffff_ffff) as u32;
    let high = |word: u64| (word >> 32) as u32;
    let mut shown = SignalFdInfo {
        signo: info.signo.cast_unsigned(),
        errno: info.errno,
        code: info.code,
        ..SignalFdInfo::default()
    };
    let signal = u64::try_from(info.signo).ok().and_then(Signal::new);
    let is_kernels = info.code > si::USER && info.code < si::KERNEL;
    match signal {
        Some(Signal::SIGCHLD) if is_kernels => {
            (shown.pid, shown.uid, shown.status) = (low(first), high(first), low(second).cast_signed());
            [shown.utime, shown.stime] = [info.fields[2], info.fields[3]];
        }
        Some(signal) if is_kernels && SignalSet::SYNCHRONOUS.has(signal) => shown.addr = first,
        _ if info.code == si::TIMER => {
            (shown.tid, shown.overrun) = (low(first), high(first));
            (shown.ptr, shown.int) = (second, low(second).cast_signed());
        }
        _ => {
            (shown.pid, shown.uid) = (low(first), high(first));
            if info.code < si::USER {
                (shown.ptr, shown.int) = (second, low(second).cast_signed());
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;
    use linux_abi::signal::{Signal, SignalSet};

    const SIGNALFD4: u64 = 289;
    const READ: u64 = 0;
    const NONBLOCK: u64 = 0o4000;

    #[test]
    fn a_blocked_signal_is_read_once_and_polled_until_then() {
        World::new().with_ctx(|ctx| {
            let usr1 = SignalSet::of(Signal::SIGUSR1);
            ctx.poke(SCRATCH, usr1.0);
            ctx.call(14, &[0, SCRATCH, 0, 8]).unwrap();
            let fd = ctx.call(SIGNALFD4, &[u64::MAX, SCRATCH, 8, NONBLOCK]).unwrap();
            let read = |len| ctx.call(READ, &[fd, SCRATCH + 64, len]);
            assert_eq!(read(128), Err(Errno::EAGAIN));
            assert_eq!(read(127), Err(Errno::EINVAL));
            let poll = || {
                ctx.poke(SCRATCH + 32, fd | 1 << 32);
                ctx.call(7, &[SCRATCH + 32, 1, 0])
            };
            assert_eq!(poll(), Ok(0));
            ctx.call(62, &[ctx.process.pid.into(), 10]).unwrap();
            assert_eq!(poll(), Ok(1));
            assert_eq!(read(300), Ok(128));
            assert_eq!(ctx.peek::<u32>(SCRATCH + 64), 10);
            assert_eq!(ctx.peek::<u32>(SCRATCH + 64 + 12), ctx.process.pid);
            assert_eq!(read(128), Err(Errno::EAGAIN));
        });
    }

    #[test]
    fn the_set_of_a_descriptor_can_be_changed_and_kill_is_never_in_it() {
        World::new().with_ctx(|ctx| {
            ctx.poke(SCRATCH, !0u64);
            ctx.call(14, &[0, SCRATCH, 0, 8]).unwrap();
            ctx.poke(SCRATCH, SignalSet::UNBLOCKABLE.0);
            let fd = ctx.call(SIGNALFD4, &[u64::MAX, SCRATCH, 8, NONBLOCK]).unwrap();
            ctx.call(62, &[ctx.process.pid.into(), 12]).unwrap();
            assert_eq!(ctx.call(READ, &[fd, SCRATCH + 64, 128]), Err(Errno::EAGAIN));
            ctx.poke(SCRATCH, !0u64);
            assert_eq!(ctx.call(SIGNALFD4, &[fd, SCRATCH, 8, 0]), Ok(fd));
            assert_eq!(ctx.call(READ, &[fd, SCRATCH + 64, 128]), Ok(128));
            assert_eq!(ctx.call(SIGNALFD4, &[0, SCRATCH, 8, 0]), Err(Errno::EINVAL));
            assert_eq!(ctx.call(SIGNALFD4, &[99, SCRATCH, 8, 0]), Err(Errno::EBADF));
        });
    }
}
