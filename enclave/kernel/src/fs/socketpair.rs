//! `socketpair(2)`: two connected stream sockets that never leave the enclave. Each direction is a pipe.

use super::pipe::{PipeEnd, anonymous_metadata};
use super::{FsShared, OpenFile};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Errno, Error, Result, UserAddr, UserPtr, UserSpace};
use linux_abi::fs::{OpenFlags, ioctl};
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// One of two connected stream sockets.
pub(crate) struct StreamSocket {
    ino: u64,
    created_ns: i64,
    changed: Arc<ReadinessNotifier>,
    /// Gone after the direction was shut down.
    ends: Mutex<Ends>,
}

struct Ends {
    reader: Option<Arc<PipeEnd>>,
    writer: Option<Arc<PipeEnd>>,
}

/// Two sockets that are connected. `flags` is O_NONBLOCK or nothing.
pub(crate) fn socketpair(shared: &Arc<FsShared>, flags: OpenFlags) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let changed: Arc<ReadinessNotifier> = Arc::default();
    let (reader, peer_writer) = PipeEnd::pair(shared, &changed);
    let (peer_reader, writer) = PipeEnd::pair(shared, &changed);
    let open = |reader, writer| {
        let socket = StreamSocket {
            ino: shared.next_id(),
            created_ns: shared.platform().realtime_ns().cast_signed(),
            changed: Arc::clone(&changed),
            ends: Mutex::new(Ends { reader: Some(reader), writer: Some(writer) }),
        };
        OpenFile::new(shared, Arc::new(socket), None, flags | OpenFlags::RDWR)
    };
    (open(reader, writer), open(peer_reader, peer_writer))
}

impl StreamSocket {
    /// The socket that an open file is.
    ///
    /// # Errors
    /// ENOTSOCK it is none.
    pub(crate) fn of(open: &OpenFile) -> Result<&Self> {
        let socket = open.file().as_any().downcast_ref::<Self>();
        socket.ok_or(Error::new(Errno::ENOTSOCK, "not a socket"))
    }

    /// `shutdown(2)`.
    pub(crate) fn shut_down(&self, reading: bool, writing: bool) {
        let gone = {
            let mut ends = self.ends.lock();
            let reader = if reading { ends.reader.take() } else { None };
            let writer = if writing { ends.writer.take() } else { None };
            (reader, writer)
        };
        // Dropping an end wakes who waits.
        drop(gone);
        self.changed.broadcast(&Readiness::all());
    }

    fn reader(&self) -> Option<Arc<PipeEnd>> {
        self.ends.lock().reader.clone()
    }

    fn writer(&self) -> Option<Arc<PipeEnd>> {
        self.ends.lock().writer.clone()
    }
}

impl File for StreamSocket {
    fn read(&self, into: &mut dyn ByteSink, nonblocking: bool) -> Result<usize> {
        match self.reader() {
            Some(reader) => reader.read(into, nonblocking),
            None => Ok(0),
        }
    }

    fn write(&self, from: &mut dyn ByteSource, nonblocking: bool) -> Result<usize> {
        match self.writer() {
            Some(writer) => writer.write(from, nonblocking),
            None => Err(Error::new(Errno::EPIPE, "the socket was shut down for writing")),
        }
    }

    fn metadata(&self) -> Result<Metadata> {
        let metadata = anonymous_metadata(self.ino, FileType::Socket, self.created_ns);
        Ok(Metadata { mode: 0o777, ..metadata })
    }

    fn ready(&self) -> Readiness {
        let (reader, writer) = (self.reader(), self.writer());
        let is_at_end = reader.as_ref().is_none_or(|reader| !reader.has_peer());
        let is_deaf = writer.as_ref().is_none_or(|writer| !writer.has_peer());
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, is_at_end || reader.is_some_and(|reader| reader.readable() > 0));
        ready.set(Readiness::RDHUP, is_at_end);
        ready.set(Readiness::HUP, is_at_end && is_deaf);
        let has_room = writer.is_some_and(|writer| writer.ready().contains(Readiness::OUT));
        ready.set(Readiness::OUT, is_deaf || has_room);
        ready
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.changed)
    }

    fn ioctl(&self, request: u32, argument: UserAddr, space: &dyn UserSpace) -> Result<u64> {
        if request != ioctl::FIONREAD {
            kbase::bail!(ENOTTY, "no such ioctl for a socket");
        }
        let len = self.reader().map_or(0, |reader| reader.readable());
        UserPtr::<i32>::new(argument).write(space, &i32::try_from(len).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn display_name(&self) -> Option<String> {
        Some(alloc::format!("socket:[{}]", self.ino))
    }
}
