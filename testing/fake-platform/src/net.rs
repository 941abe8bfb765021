//! A network in memory: TCP and UDP between sockets of one platform, and a host that lies when a test wants it to.

mod calls;

use crate::ring::Ring;
use crate::{CURRENT, FakePlatform, lock};
use linux_abi::Errno;
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::net::{MessageFlags, family, kind, shut};
use platform::{
    HostAddress, HostBatch, HostError, HostFd, HostInterface, HostMessage, HostNet, HostReadiness,
    HostReceived, HostResult, HostSent, HostWanted, Park, PollEvents, ThreadHandle,
};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const POLLIN: u16 = 1;
pub(crate) const POLLOUT: u16 = 4;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 0x10;
const POLLRDHUP: u16 = 0x2000;
/// Bytes that a stream takes before somebody reads them.
const WINDOW: usize = 256 * 1024;

/// Messages that cross the border at once.
const CHANNEL: usize = 8;

/// What the host says though it is not so. All of it passes the checks of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Every socket is ready for everything.
    AlwaysReady,
    /// Edges come with tokens that nobody gave.
    StrangeTokens,
    /// Addresses have a family that nobody knows, or are cut.
    StrangeAddresses,
    /// Every call fails with an errno that the Linux call does not have.
    StrangeErrors,
}

/// A socket.
#[derive(Default)]
struct Socket {
    kind: u32,
    family: u16,
    local: HostAddress,
    peer: HostAddress,
    /// The other end of a stream.
    other: Option<i32>,
    /// Connections that nobody has accepted, when it listens.
    pending: Option<VecDeque<i32>>,
    /// What came: datagrams, or parts of a stream.
    inbox: VecDeque<(HostAddress, Vec<u8>)>,
    is_at_end: bool,
    /// A connection under way, which the next `connect` finds done.
    is_connecting: bool,
    is_read_shut: bool,
    is_write_shut: bool,
    error: Option<Errno>,
    token: Option<u64>,
    /// Who alone waits for it.
    waiter: Option<ThreadHandle>,
    /// Whether its edges can be taken at once.
    is_at_once: bool,
    options: BTreeMap<(u32, u32), Vec<u8>>,
}

impl Socket {
    fn ready(&self) -> u16 {
        if let Some(pending) = &self.pending {
            return if pending.is_empty() { 0 } else { POLLIN };
        }
        let mut ready = 0;
        if !self.inbox.is_empty() || self.is_at_end || self.is_read_shut {
            ready |= POLLIN;
        }
        if self.is_at_end {
            ready |= POLLRDHUP;
        }
        if self.error.is_some() {
            ready |= POLLERR;
        }
        if self.kind == kind::STREAM && self.other.is_none() && !self.is_at_end {
            return ready | POLLHUP | POLLOUT;
        }
        ready | POLLOUT
    }
}

/// The network.
#[derive(Default)]
pub(crate) struct Net {
    sockets: BTreeMap<i32, Socket>,
    next_fd: i32,
    next_port: u16,
    /// Edges that no thread has fetched, with the thread that they are for.
    pending: Vec<(u64, u16, Option<ThreadHandle>)>,
    /// Edges that the enclave can take.
    edges: Vec<(u64, u16)>,
    lie: Option<Lie>,
    /// Socket files by their names, with the connections that nobody has taken.
    files: BTreeMap<Vec<u8>, VecDeque<i32>>,
    /// Whether a connection is made later than `connect` returns.
    is_slow: bool,
    /// Calls that sent of files.
    files_sent: usize,
    /// Whether it cannot send of files.
    refuses_files: bool,
    pub(crate) ring: Ring,
}

fn fail<T>(errno: Errno) -> HostResult<T> {
    Err(HostError(errno))
}

/// Port of an internet address.
fn port(address: &HostAddress) -> u16 {
    match address.as_bytes() {
        [_, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { next_fd: 1000, next_port: 40_000, ..Self::default() }
    }

    /// What a socket is ready for; `None`: there is no such socket.
    pub(crate) fn ready(&self, fd: i32) -> Option<u16> {
        let socket = self.sockets.get(&fd)?;
        Some(if self.lie == Some(Lie::AlwaysReady) { POLLIN | POLLOUT } else { socket.ready() })
    }

    fn get(&mut self, fd: HostFd) -> HostResult<&mut Socket> {
        if self.lie == Some(Lie::StrangeErrors) {
            return fail(Errno::ENOTDIR);
        }
        self.sockets.get_mut(&fd.0).ok_or(HostError(Errno::EBADF))
    }

    fn add(&mut self, socket: Socket) -> HostFd {
        self.next_fd += 1;
        self.sockets.insert(self.next_fd, socket);
        HostFd(self.next_fd)
    }

    fn free_address(&mut self, of: u16) -> HostAddress {
        self.next_port += 1;
        let [high, low] = self.next_port.to_be_bytes();
        let [first, second] = of.to_le_bytes();
        let mut bytes = vec![first, second, high, low, 127, 0, 0, 1];
        bytes.resize(if of == family::INET { 16 } else { 28 }, 0);
        HostAddress::new(&bytes).unwrap_or_default()
    }

    /// Reports what a socket is ready for, if somebody watches it.
    fn edge(&mut self, fd: i32) {
        let Some(socket) = self.sockets.get(&fd) else { return };
        let Some(token) = socket.token else { return };
        let ready = socket.ready();
        if socket.is_at_once {
            self.edges.push((token, ready));
        } else {
            self.pending.push((token, ready, socket.waiter));
        }
    }

    /// Fetches the edges that are for a thread or for any. Returns whether there is anything to take.
    fn fetch(&mut self, me: ThreadHandle) -> bool {
        let is_for_me =
            |edge: &mut (u64, u16, Option<ThreadHandle>)| edge.2.is_none_or(|waiter| waiter == me);
        let fetched = self.pending.extract_if(.., is_for_me).map(|(token, events, _)| (token, events));
        self.edges.extend(fetched);
        !self.edges.is_empty()
    }

    fn bound_to(&self, address: &HostAddress, kind: u32) -> Option<i32> {
        let wanted = |socket: &Socket| socket.kind == kind && port(&socket.local) == port(address);
        let is_peerless = |socket: &Socket| socket.other.is_none();
        let found = self.sockets.iter().find(|(_, socket)| wanted(socket) && is_peerless(socket));
        found.filter(|_| port(address) != 0).map(|(&fd, _)| fd)
    }

    fn send(&mut self, fd: HostFd, to: &HostAddress, data: &[u8]) -> HostResult<usize> {
        let socket = self.get(fd)?;
        if socket.is_write_shut {
            return fail(Errno::EPIPE);
        }
        let (local, peer) = (socket.local, socket.peer);
        if socket.kind == kind::STREAM {
            let Some(other) = socket.other else {
                return fail(if socket.is_at_end { Errno::EPIPE } else { Errno::ENOTCONN });
            };
            let Some(target) = self.sockets.get_mut(&other) else { return fail(Errno::EPIPE) };
            let held: usize = target.inbox.iter().map(|(_, part)| part.len()).sum();
            let taken = data.len().min(WINDOW.saturating_sub(held));
            if taken == 0 && !data.is_empty() {
                return fail(Errno::EAGAIN);
            }
            target.inbox.push_back((HostAddress::NONE, data[..taken].to_vec()));
            self.edge(other);
            return Ok(taken);
        }
        let to = if to.is_none() { peer } else { *to };
        if to.is_none() {
            return fail(Errno::EDESTADDRREQ);
        }
        let from = if local.is_none() {
            let family = socket.family;
            let free = self.free_address(family);
            self.get(fd)?.local = free;
            free
        } else {
            local
        };
        match self.bound_to(&to, kind::DGRAM) {
            Some(other) => {
                if let Some(target) = self.sockets.get_mut(&other) {
                    target.inbox.push_back((from, data.to_vec()));
                }
                self.edge(other);
            }
            None => self.get(fd)?.error = (!peer.is_none()).then_some(Errno::ECONNREFUSED),
        }
        Ok(data.len())
    }

    pub(crate) fn send_now(&mut self, fd: HostFd, data: &[u8]) -> HostResult<usize> {
        self.send(fd, &HostAddress::NONE, data)
    }

    /// Whether a stream takes more, or says why not.
    pub(crate) fn has_room(&self, fd: i32) -> bool {
        let other = self.sockets.get(&fd).and_then(|socket| self.sockets.get(&socket.other?));
        other.is_none_or(|other| other.inbox.iter().map(|(_, part)| part.len()).sum::<usize>() < WINDOW)
    }

    pub(crate) fn receive(&mut self, fd: HostFd, wanted: usize, flags: u32) -> HostResult<HostReceived> {
        let flags = MessageFlags::from_bits_truncate(flags);
        let is_peek = flags.contains(MessageFlags::PEEK);
        let socket = self.get(fd)?;
        if let Some(error) = socket.error.take() {
            return fail(error);
        }
        if socket.kind == kind::STREAM && socket.peer.is_none() {
            return fail(Errno::ENOTCONN);
        }
        let Some((from, part)) = socket.inbox.front_mut() else {
            let is_end = socket.is_at_end || socket.is_read_shut;
            return if is_end { Ok(HostReceived::default()) } else { fail(Errno::EAGAIN) };
        };
        let len = part.len().min(wanted);
        let mut received =
            HostReceived { from: *from, data: part[..len].to_vec(), len, ..Default::default() };
        if socket.kind == kind::DGRAM {
            if part.len() > len {
                received.flags |= MessageFlags::TRUNC.bits();
            }
            if flags.contains(MessageFlags::TRUNC) {
                received.len = part.len();
            }
        }
        if !is_peek {
            part.drain(..len);
            if part.is_empty() || socket.kind == kind::DGRAM {
                socket.inbox.pop_front();
            }
            let other = socket.other;
            if let Some(other) = other {
                self.edge(other);
            }
        }
        Ok(received)
    }

    fn end(&mut self, other: Option<i32>) {
        let Some(other) = other else { return };
        if let Some(socket) = self.sockets.get_mut(&other) {
            socket.is_at_end = true;
        }
        self.edge(other);
    }

    fn name(&self, address: HostAddress) -> HostAddress {
        match self.lie {
            Some(Lie::StrangeAddresses) => HostAddress::new(&[77, 0, 1]).unwrap_or_default(),
            _ => address,
        }
    }
}

impl FakePlatform {
    /// Makes the host lie from now on, or stop.
    pub fn lie(&self, lie: Option<Lie>) {
        lock(&self.net).lie = lie;
    }

    /// Makes connections take time: `connect` says EINPROGRESS.
    pub fn slow_connections(&self) {
        lock(&self.net).is_slow = true;
    }

    /// Has somebody listen at a new socket file, which connections find by its last name.
    pub fn listen_at(&self, path: &str) {
        lock(&self.files).add_socket(path.as_bytes());
        let name = path.rsplit('/').next().unwrap_or_default();
        lock(&self.net).files.entry(name.as_bytes().to_vec()).or_default();
    }

    /// The host's end of the next connection to a socket file.
    #[must_use]
    pub fn accept_at(&self, name: &str) -> Option<HostFd> {
        lock(&self.net).files.get_mut(name.as_bytes())?.pop_front().map(HostFd)
    }

    /// Sockets that are open on the host.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        lock(&self.net).sockets.len()
    }

    /// How many calls sent bytes of a file of the host, by the host alone.
    #[must_use]
    pub fn files_sent(&self) -> usize {
        lock(&self.net).files_sent
    }

    /// From now on files are none that `sendfile` of the host takes.
    pub fn refuse_to_send_files(&self) {
        lock(&self.net).refuses_files = true;
    }

    /// The open socket of the host that was made last.
    ///
    /// # Panics
    /// None is open.
    #[must_use]
    pub fn last_socket(&self) -> HostFd {
        HostFd(*lock(&self.net).sockets.keys().next_back().expect("a socket is open"))
    }

    /// Runs a call on the network and wakes who sleeps for it.
    pub(crate) fn net<T>(&self, act: impl FnOnce(&mut Net) -> T) -> T {
        let value = act(&mut lock(&self.net));
        let _sleepers = lock(&self.sleepers);
        self.woken.notify_all();
        value
    }

    /// Sleeps until `is_done`, a token comes, or the clock was moved to the deadline. Returns whether it was the deadline.
    pub(crate) fn sleep_for_net(&self, deadline_ns: Option<u64>, is_done: impl Fn(&mut Net) -> bool) -> Park {
        let me = CURRENT.with(Cell::get);
        let mut sleepers = lock(&self.sleepers);
        let mut naps = 0;
        loop {
            if sleepers.tokens.remove(&me) || is_done(&mut lock(&self.net)) {
                return Park::Woken;
            }
            // A real moment for other threads, then the clock jumps.
            if let Some(deadline) = deadline_ns
                && (deadline == 0 || naps > 0)
            {
                self.now_ns.fetch_max(deadline, Ordering::SeqCst);
                return Park::TimedOut;
            }
            let patience = Duration::from_millis(if deadline_ns.is_some() { 50 } else { 10_000 });
            let (guard, timeout) =
                self.woken.wait_timeout(sleepers, patience).unwrap_or_else(PoisonError::into_inner);
            sleepers = guard;
            naps += u32::from(timeout.timed_out());
            assert!(naps == 0 || deadline_ns.is_some(), "thread {me} waits for the network for ever");
        }
    }
}
