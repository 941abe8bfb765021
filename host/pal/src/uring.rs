//! The ring of operations on sockets: an `io_uring(7)` instance with a thread of the kernel (SQPOLL) that the enclave fills and
//! empties by itself ([`edge_abi::ring`]). Made here, and woken here when its thread sleeps; nothing else.
//!
//! It lives as long as the process: the kernel's thread writes into its memory until then.

use crate::files::checked;
use edge_abi::ring::{
    BUFFER_GROUP, CQ_ENTRIES, RECEIVE_BUFFERS, RECEIVE_LEN, SEND_BUFFERS, SEND_LEN, SQ_ENTRIES, WireBuffer,
    WireRing, WireSqe,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// How long the kernel's thread looks for submissions before it sleeps, in ms.
const IDLE_MS: u32 = 2;

/// The nice value of the kernel's thread. It always has something to do, if only to look. Where there are fewer processors
/// than threads with work it had better wait for these than they for it.
const NICE: i32 = 10;

const IORING_SETUP_SQPOLL: u32 = 1 << 1;
const IORING_SETUP_CQSIZE: u32 = 1 << 3;
const IORING_FEAT_SINGLE_MMAP: u32 = 1 << 0;
const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_REGISTER_EVENTFD: u32 = 4;
const IORING_REGISTER_PBUF_RING: u32 = 22;
const IORING_ENTER_SQ_WAKEUP: u32 = 1 << 1;

/// `struct io_sqring_offsets`.
#[derive(Default)]
#[repr(C)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_cqring_offsets`.
#[derive(Default)]
#[repr(C)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_uring_params`.
#[derive(Default)]
#[repr(C)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: SqOffsets,
    cq_off: CqOffsets,
}

/// `struct io_uring_buf_reg`.
#[repr(C)]
struct BufferRegistration {
    ring_addr: u64,
    ring_entries: u32,
    bgid: u16,
    flags: u16,
    resv: [u64; 3],
}

/// The ring.
pub(crate) struct Ring {
    ring: OwnedFd,
    /// It stays open for the enclave, which knows its number.
    _event: OwnedFd,
    wire: WireRing,
}

/// The ring of an enclave, once it was asked for.
#[derive(Default)]
pub(crate) struct Rings {
    /// `None`: it cannot be made.
    made: OnceLock<Option<Ring>>,
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Maps so many bytes, of a descriptor or of no file. They stay.
fn map(len: usize, file: Option<(&OwnedFd, i64)>) -> io::Result<u64> {
    let (flags, fd, offset) = match file {
        Some((fd, offset)) => (libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset),
        None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0),
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address as u64) }
}

fn register(ring: &OwnedFd, opcode: u32, argument: *const libc::c_void) -> io::Result<()> {
    // SAFETY: one argument of the kind that the operation has.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), opcode, argument, 1) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Ring {
    /// # Errors
    /// ENOSYS, EPERM the kernel has none, or none for us; EINVAL it is too old; ENOMEM, EMFILE.
    pub(crate) fn new() -> io::Result<Self> {
        let mut params = Params {
            flags: IORING_SETUP_SQPOLL | IORING_SETUP_CQSIZE,
            cq_entries: CQ_ENTRIES,
            sq_thread_idle: IDLE_MS,
            ..Params::default()
        };
        // SAFETY: parameters that the kernel reads and writes.
        let ring = owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, SQ_ENTRIES, &raw mut params) })?;
        let is_as_asked = (params.sq_entries, params.cq_entries) == (SQ_ENTRIES, CQ_ENTRIES);
        if !is_as_asked || params.features & IORING_FEAT_SINGLE_MMAP == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let (sq, cq) = (&params.sq_off, &params.cq_off);
        let array_end = sq.array as usize + SQ_ENTRIES as usize * size_of::<u32>();
        let completions_end = cq.cqes as usize + CQ_ENTRIES as usize * 16;
        let rings_len = array_end.max(completions_end);
        let rings = map(rings_len, Some((&ring, IORING_OFF_SQ_RING)))?;
        let submissions = map(SQ_ENTRIES as usize * size_of::<WireSqe>(), Some((&ring, IORING_OFF_SQES)))?;
        // Each place of the queue is always that of the submission of its number.
        for index in 0..SQ_ENTRIES {
            let at = rings + u64::from(sq.array) + u64::from(index) * size_of::<u32>() as u64;
            // SAFETY: inside the mapping, which nobody else uses yet.
            unsafe { (at as *mut u32).write_volatile(index) };
        }
        let provided = map(usize::from(RECEIVE_BUFFERS) * size_of::<WireBuffer>(), None)?;
        let registration = BufferRegistration {
            ring_addr: provided,
            ring_entries: RECEIVE_BUFFERS.into(),
            bgid: BUFFER_GROUP,
            flags: 0,
            resv: [0; 3],
        };
        register(&ring, IORING_REGISTER_PBUF_RING, (&raw const registration).cast())?;
        // SAFETY: no pointers are involved.
        let event = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())?;
        let event_fd = event.as_raw_fd();
        register(&ring, IORING_REGISTER_EVENTFD, (&raw const event_fd).cast())?;
        let wire = WireRing {
            rings,
            rings_len: rings_len as u64,
            submissions,
            provided,
            receive: map(usize::from(RECEIVE_BUFFERS) * RECEIVE_LEN as usize, None)?,
            send: map(usize::from(SEND_BUFFERS) * SEND_LEN as usize, None)?,
            sq_head: sq.head,
            sq_tail: sq.tail,
            sq_flags: sq.flags,
            cq_head: cq.head,
            cq_tail: cq.tail,
            cq_flags: cq.flags,
            completions: cq.cqes,
            event_fd: event_fd.cast_unsigned(),
        };
        Self::be_nice();
        Ok(Self { ring, _event: event, wire })
    }

    /// Lets other threads go before the kernel's thread. Where it cannot be found that is no harm.
    fn be_nice() {
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let tid = task.file_name().to_str().and_then(|tid| tid.parse().ok());
            if let (true, Some(tid)) = (name.starts_with("iou-sqp"), tid) {
                // SAFETY: no pointers are involved.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, NICE) };
            }
        }
    }

    fn wake(&self) -> Result<u64, i32> {
        let flags = IORING_ENTER_SQ_WAKEUP;
        let none = std::ptr::null::<libc::sigset_t>();
        // SAFETY: no memory is passed.
        checked(unsafe {
            libc::syscall(libc::SYS_io_uring_enter, self.ring.as_raw_fd(), 0, 0, flags, none, 0)
        })
    }
}

impl Rings {
    /// Where the ring is. It is made if it is not there; `tell` hears why it cannot be, once.
    ///
    /// # Errors
    /// ENOSYS there is none.
    pub(crate) fn open(&self, tell: impl FnOnce(&io::Error)) -> Result<WireRing, i32> {
        let made = self.made.get_or_init(|| Ring::new().inspect_err(tell).ok());
        made.as_ref().map(|ring| ring.wire).ok_or(libc::ENOSYS)
    }

    /// Wakes the kernel's thread.
    ///
    /// # Errors
    /// ENOSYS there is none.
    pub(crate) fn wake(&self) -> Result<u64, i32> {
        self.made.get().and_then(Option::as_ref).ok_or(libc::ENOSYS)?.wake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_abi::ring::{SQE_BUFFER_SELECT, WireCqe, op};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};
    use zerocopy::{FromBytes, IntoBytes};

    /// What the enclave does, in short.
    struct User {
        ring: Ring,
        submitted: u32,
        completed: u32,
    }

    impl User {
        fn field(&self, at: u32) -> &AtomicU32 {
            // SAFETY: a field of the mapping, which stays.
            unsafe { &*((self.ring.wire.rings + u64::from(at)) as *const AtomicU32) }
        }

        fn submit(&mut self, submission: WireSqe) {
            let wire = self.ring.wire;
            let at = (wire.submissions + u64::from(self.submitted % SQ_ENTRIES) * 64) as *mut [u8; 64];
            let bytes = <[u8; 64]>::read_from_bytes(submission.as_bytes()).unwrap();
            // SAFETY: inside the mapping; the kernel does not read it yet.
            unsafe { at.write_volatile(bytes) };
            self.submitted += 1;
            self.field(wire.sq_tail).store(self.submitted, Ordering::SeqCst);
            if self.field(wire.sq_flags).load(Ordering::SeqCst) & edge_abi::ring::SQ_NEED_WAKEUP != 0 {
                self.ring.wake().unwrap();
            }
        }

        fn completion(&mut self) -> WireCqe {
            let wire = self.ring.wire;
            let start = Instant::now();
            while self.field(wire.cq_tail).load(Ordering::SeqCst) == self.completed {
                assert!(start.elapsed() < Duration::from_secs(10), "an operation ends");
                std::thread::yield_now();
            }
            let at = wire.rings + u64::from(wire.completions) + u64::from(self.completed % CQ_ENTRIES) * 16;
            // SAFETY: inside the mapping; the kernel has written it.
            let bytes = unsafe { (at as *const [u8; 16]).read_volatile() };
            self.completed += 1;
            self.field(wire.cq_head).store(self.completed, Ordering::SeqCst);
            WireCqe::read_from_bytes(&bytes).unwrap()
        }
    }

    #[test]
    fn a_stream_is_received_from_and_sent_to_without_a_call() {
        let ring = match Ring::new() {
            Ok(ring) => ring,
            Err(error) => return println!("not tested: {error}"),
        };
        let mut user = User { ring, submitted: 0, completed: 0 };
        let wire = user.ring.wire;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inside = listener.accept().unwrap().0;
        // A buffer for the kernel: the third.
        let entry =
            WireBuffer { addr: wire.receive + 2 * u64::from(RECEIVE_LEN), len: RECEIVE_LEN, bid: 2, resv: 1 };
        // SAFETY: inside the mapping; the last two bytes are the tail.
        unsafe { (wire.provided as *mut [u8; 16]).write_volatile(entry.as_bytes().try_into().unwrap()) };
        let fd = inside.as_raw_fd();
        user.submit(WireSqe {
            opcode: op::RECV,
            flags: SQE_BUFFER_SELECT,
            fd,
            len: RECEIVE_LEN,
            user_data: 1,
            ..WireSqe::default()
        });
        std::thread::sleep(Duration::from_millis(20));
        outside.write_all(b"question").unwrap();
        let received = user.completion();
        assert_eq!((received.user_data, received.res, received.flags >> 16), (1, 8, 2));
        // SAFETY: inside the mapping; the kernel has written it.
        assert_eq!(&unsafe { (entry.addr as *const [u8; 8]).read_volatile() }, b"question");
        // SAFETY: inside the mapping; the kernel does not read it yet.
        unsafe { (wire.send as *mut [u8; 6]).write_volatile(*b"answer") };
        let send =
            WireSqe { opcode: op::SEND, fd, addr: wire.send, len: 6, user_data: 2, ..WireSqe::default() };
        user.submit(send);
        assert_eq!(user.completion(), WireCqe { user_data: 2, res: 6, flags: 0 });
        let mut answer = [0; 6];
        outside.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}
