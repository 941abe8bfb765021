//! `inotify(7)`: a queue of what happened to files that are watched.

use super::watches::{Watch, node_id};
use super::{FsShared, OpenFile, anonymous_metadata};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kbase::sync::Mutex;
use kbase::{ByteSink, Errno, Error, Result, UserAddr, UserPtr, UserSpace};
use linux_abi::fs::{OpenFlags, ioctl};
use linux_abi::inotify::{InotifyEvent, mask};
use vfs::{File, FileType, Metadata, Node, Readiness, ReadinessNotifier};

/// Most events that wait (`/proc/sys/fs/inotify/max_queued_events`).
const MAX_QUEUED: usize = 16_384;
/// Most watches of an instance (`max_user_watches`).
const MAX_WATCHES: usize = 65_536;

/// An instance.
pub(crate) struct Inotify {
    shared: Arc<FsShared>,
    ino: u64,
    created_ns: i64,
    state: Mutex<InotifyState>,
    changed: ReadinessNotifier,
}

#[derive(Default)]
struct InotifyState {
    events: VecDeque<QueuedEvent>,
    watches: BTreeMap<i32, Arc<Watch>>,
    last: i32,
}

#[derive(PartialEq, Eq)]
struct QueuedEvent {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl QueuedEvent {
    /// As `read(2)` gives it: the name is padded with NULs to whole event heads.
    fn to_bytes(&self) -> Vec<u8> {
        let head = size_of::<InotifyEvent>();
        let len = if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(head) };
        let event = InotifyEvent {
            wd: self.watch,
            mask: self.mask,
            cookie: self.cookie,
            len: u32::try_from(len).unwrap_or_default(),
        };
        let mut bytes = zerocopy::IntoBytes::as_bytes(&event).to_vec();
        bytes.extend_from_slice(&self.name);
        bytes.resize(head + len, 0);
        bytes
    }
}

/// A new instance. `flags` are O_NONBLOCK and O_CLOEXEC.
pub(crate) fn inotify(shared: &Arc<FsShared>, flags: OpenFlags) -> Arc<OpenFile> {
    let instance = Arc::new(Inotify {
        shared: Arc::clone(shared),
        ino: shared.next_id(),
        created_ns: shared.platform().realtime_ns().cast_signed(),
        state: Mutex::default(),
        changed: ReadinessNotifier::new(),
    });
    OpenFile::new(shared, Arc::new(Instance(instance)), None, flags)
}

/// The file of an instance. When it closes, its watches go.
pub(crate) struct Instance(Arc<Inotify>);

impl Instance {
    /// Watches a node, or changes how it is watched; `wanted` are IN_* bits.
    ///
    /// # Errors
    /// EEXIST it is watched and IN_MASK_CREATE; ENOSPC there are too many watches; EIO.
    pub(crate) fn watch(&self, node: &Node, wanted: u32) -> Result<i32> {
        let id = node_id(node).ok_or(Error::new(Errno::EIO, "the node has no number"))?;
        let instance = &self.0;
        let mut state = instance.state.lock();
        let kept = mask::ALL_EVENTS | mask::EXCL_UNLINK | mask::ONESHOT;
        if let Some(watch) = state.watches.values().find(|watch| watch.id == id) {
            if wanted & mask::MASK_CREATE != 0 {
                kbase::bail!(EEXIST, "the file is watched");
            }
            let old = if wanted & mask::MASK_ADD != 0 { watch.mask.load(Ordering::Relaxed) } else { 0 };
            watch.mask.store(old | (wanted & kept), Ordering::Relaxed);
            return Ok(watch.descriptor);
        }
        if state.watches.len() >= MAX_WATCHES {
            kbase::bail!(ENOSPC, "there are too many watches");
        }
        state.last = state.last.checked_add(1).unwrap_or(1);
        let watch = Arc::new(Watch {
            instance: Arc::downgrade(instance),
            descriptor: state.last,
            mask: AtomicU32::new(wanted & kept),
            id,
            _node: node.clone(),
        });
        state.watches.insert(watch.descriptor, Arc::clone(&watch));
        drop(state);
        instance.shared.watches.add(&watch);
        Ok(watch.descriptor)
    }

    /// Stops watching.
    ///
    /// # Errors
    /// EINVAL no such watch.
    pub(crate) fn unwatch(&self, descriptor: i32) -> Result<()> {
        let watch = self.0.state.lock().watches.get(&descriptor).cloned();
        self.0.drop_watch(&*watch.ok_or(Error::new(Errno::EINVAL, "no such watch"))?);
        Ok(())
    }
}

impl Inotify {
    /// Queues an event. One like the last is not queued again.
    pub(super) fn push(&self, watch: i32, mask: u32, cookie: u32, name: &[u8]) {
        {
            let mut state = self.state.lock();
            let mut event = QueuedEvent { watch, mask, cookie, name: name.to_vec() };
            if state.events.len() >= MAX_QUEUED {
                event = QueuedEvent { watch: -1, mask: mask::Q_OVERFLOW, cookie: 0, name: Vec::new() };
            }
            if state.events.back() == Some(&event) {
                return;
            }
            state.events.push_back(event);
        }
        self.changed.broadcast(&Readiness::IN);
    }

    /// Ends a watch, and says so.
    pub(super) fn drop_watch(&self, watch: &Watch) {
        if self.state.lock().watches.remove(&watch.descriptor).is_some() {
            self.shared.watches.remove(watch);
            self.push(watch.descriptor, mask::IGNORED, 0, b"");
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.0.state.lock().watches);
        for watch in watches.values() {
            self.0.shared.watches.remove(watch);
        }
    }
}

impl File for Instance {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        let mut done = 0;
        loop {
            let bytes = {
                let mut state = self.0.state.lock();
                let Some(event) = state.events.front() else { break };
                let bytes = event.to_bytes();
                if bytes.len() > into.remaining() {
                    if done == 0 {
                        kbase::bail!(EINVAL, "the buffer is shorter than the next event");
                    }
                    break;
                }
                state.events.pop_front();
                bytes
            };
            match into.put(&bytes) {
                Ok(put) => done += put,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if done == 0 {
            kbase::bail!(EAGAIN, "nothing happened");
        }
        Ok(done)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(anonymous_metadata(self.0.ino, FileType::Regular, self.0.created_ns))
    }

    fn ready(&self) -> Readiness {
        let is_empty = self.0.state.lock().events.is_empty();
        if is_empty { Readiness::empty() } else { Readiness::IN }
    }

    fn signals_events(&self) -> bool {
        true
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.0.changed)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if request != ioctl::FIONREAD {
            kbase::bail!(ENOTTY, "no such ioctl for inotify");
        }
        let len: usize = self.0.state.lock().events.iter().map(|event| event.to_bytes().len()).sum();
        UserPtr::<i32>::new(argument).write(space, &i32::try_from(len).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some("anon_inode:inotify".into())
    }
}
