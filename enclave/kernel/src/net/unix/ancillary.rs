//! What goes along with data: descriptors (SCM_RIGHTS) and who sent it (SCM_CREDENTIALS).
//!
//! Files in flight are closed when nobody takes them. Dropping a socket may drop files that are in flight to it, among them
//! sockets, and so on: [`InFlight`] closes them one after the other, not within each other, however long the chain. Sockets that
//! are in flight to each other in a circle stay: [`LIMIT`] bounds how many files a kernel can lose so.
//!
//! Lock order: the files to close are a leaf.

use crate::Ctx;
use crate::fs::OpenFile;
use crate::net::local::Chain;
use crate::process::capability;
use crate::syscall::Fd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kbase::sync::Mutex;
use kbase::{Result, bail};
use linux_abi::net::control::{self, HEADER, SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS};
use linux_abi::net::option::{SOL_SOCKET, socket};
use linux_abi::net::{MessageFlags, Ucred};
use linux_abi::time::{Timespec, Timeval};
use zerocopy::{FromBytes, IntoBytes};

/// Most files in flight in a kernel.
const LIMIT: usize = 16 * 1024;
/// Who sent what nobody signed (`overflowuid`).
pub(super) const NOBODY: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };

/// The files of a kernel that are in flight.
#[derive(Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    to_close: Mutex<Vec<Arc<OpenFile>>>,
    is_closing: AtomicBool,
}

impl InFlight {
    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn add(self: &Arc<Self>, files: Vec<Arc<OpenFile>>) -> Result<Rights> {
        let added = files.len();
        let before = self.count.fetch_add(added, Ordering::Relaxed);
        let rights = Rights { files, of: Arc::clone(self) };
        if before.saturating_add(added) > LIMIT {
            bail!(ETOOMANYREFS, "too many files are in flight");
        }
        Ok(rights)
    }

    fn close(&self, files: Vec<Arc<OpenFile>>) {
        self.to_close.lock().extend(files);
        while !self.to_close.lock().is_empty() && !self.is_closing.swap(true, Ordering::SeqCst) {
            loop {
                let next = self.to_close.lock().pop();
                let Some(file) = next else { break };
                // May come back here, and then only adds to the list.
                drop(file);
            }
            self.is_closing.store(false, Ordering::SeqCst);
        }
    }
}

/// Files in flight.
pub(super) struct Rights {
    files: Vec<Arc<OpenFile>>,
    of: Arc<InFlight>,
}

impl Clone for Rights {
    fn clone(&self) -> Self {
        self.of.count.fetch_add(self.files.len(), Ordering::Relaxed);
        Self { files: self.files.clone(), of: Arc::clone(&self.of) }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        self.of.count.fetch_sub(self.files.len(), Ordering::Relaxed);
        self.of.close(core::mem::take(&mut self.files));
    }
}

/// What goes along with a message.
#[derive(Clone, Default)]
pub(super) struct Ancillary {
    rights: Option<Rights>,
    credentials: Option<Ucred>,
    /// CLOCK_REALTIME when it was sent, if that is known.
    pub(super) sent_ns: Option<u64>,
}

/// What a receiver wants to know.
pub(super) struct Wanted {
    /// Who sent what nobody signed, for who wants to know who sends.
    pub(super) credentials: Option<Ucred>,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS.
    pub(super) time: Option<u32>,
}

impl Ancillary {
    /// What a program sends along.
    ///
    /// # Errors
    /// EINVAL a message that makes no sense, or too many descriptors; EBADF; EPERM somebody else's numbers; ETOOMANYREFS.
    pub(super) fn of_program(ctx: &Ctx<'_>, in_flight: &Arc<InFlight>, chain: &[u8]) -> Result<Self> {
        let mut ancillary = Self::default();
        for message in control::messages(chain) {
            let Ok(message) = message else { bail!(EINVAL, "the chain of control messages is broken") };
            if message.level != SOL_SOCKET {
                continue;
            }
            match message.kind {
                SCM_RIGHTS => {
                    let mut files = Vec::new();
                    for fd in message.data.as_chunks::<4>().0 {
                        files.push(ctx.files.get(Fd(u32::from_le_bytes(*fd)))?);
                    }
                    if files.len() > SCM_MAX_FD || ancillary.rights.is_some() {
                        bail!(EINVAL, "too many descriptors at once");
                    }
                    if !files.is_empty() {
                        ancillary.rights = Some(in_flight.add(files)?);
                    }
                }
                SCM_CREDENTIALS => {
                    let Ok(claim) = Ucred::read_from_bytes(message.data) else {
                        bail!(EINVAL, "credentials of another length");
                    };
                    check_claim(ctx, claim)?;
                    ancillary.credentials = Some(claim);
                }
                _ => bail!(EINVAL, "this control message cannot be sent"),
            }
        }
        Ok(ancillary)
    }

    /// Adds who sends, unless the sender said so, if the receiver wants to know.
    pub(super) fn sign(&mut self, ctx: &Ctx<'_>, is_wanted: bool) {
        if is_wanted && self.credentials.is_none() {
            let credentials = &ctx.process.credentials;
            let ([uid, ..], [gid, ..]) = (credentials.users.get(), credentials.groups.get());
            self.credentials = Some(Ucred { pid: ctx.process.pid, uid, gid });
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rights.is_none() && self.credentials.is_none()
    }

    /// Gives the receiver its descriptors and says so in control messages of at most `room` bytes. What does not fit is closed,
    /// and told with MSG_CTRUNC.
    pub(super) fn deliver(
        self,
        ctx: &Ctx<'_>,
        wanted: &Wanted,
        room: Option<usize>,
        flags: MessageFlags,
    ) -> (Vec<u8>, MessageFlags) {
        let mut chain = Chain::new(room.unwrap_or(0));
        if let (Some(kind), Some(_)) = (wanted.time, room) {
            let sent_ns = self.sent_ns.unwrap_or_else(|| ctx.platform().realtime_ns());
            if kind == socket::TIMESTAMP {
                chain.add(SOL_SOCKET, kind, Timeval::from_ns(sent_ns).as_bytes());
            } else {
                chain.add(SOL_SOCKET, kind, Timespec::from_ns(sent_ns).as_bytes());
            }
        }
        if let (Some(others), Some(_)) = (wanted.credentials, room) {
            let credentials = self.credentials.unwrap_or(others);
            chain.add(SOL_SOCKET, SCM_CREDENTIALS, credentials.as_bytes());
        }
        if let Some(rights) = self.rights {
            let mut numbers = Vec::new();
            let close_on_exec = flags.contains(MessageFlags::CMSG_CLOEXEC);
            let most = chain.left().saturating_sub(HEADER) / size_of::<u32>();
            for file in rights.files.iter().take(most) {
                let Ok(fd) = ctx.files.insert(Arc::clone(file), close_on_exec) else { break };
                numbers.extend_from_slice(&fd.0.to_le_bytes());
            }
            if numbers.len() / size_of::<u32>() < rights.files.len() {
                chain.cut();
            }
            if !numbers.is_empty() {
                chain.add(SOL_SOCKET, SCM_RIGHTS, &numbers);
            }
        }
        chain.finish()
    }
}

/// Fails unless the numbers are the caller's, or it may say what it wants.
fn check_claim(ctx: &Ctx<'_>, claim: Ucred) -> Result<()> {
    let credentials = &ctx.process.credentials;
    let may_say_any = credentials.is_capable(capability::SETUID);
    let is_right = (claim.pid == ctx.process.pid || credentials.is_capable(capability::SYS_ADMIN))
        && (credentials.users.get().contains(&claim.uid) || may_say_any)
        && (credentials.groups.get().contains(&claim.gid) || may_say_any);
    if !is_right {
        bail!(EPERM, "the credentials of somebody else");
    }
    Ok(())
}
