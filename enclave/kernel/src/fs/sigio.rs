//! Signals for files that become ready: O_ASYNC, F_SETOWN, F_SETSIG (`fcntl(2)`).
//!
//! An open file description that has an owner observes its own file. All files that Linux signals have this but terminals of the host.
//!
//! Sockets of the host do not wait for a thread of the enclave to sleep: the host watches one that has an owner at once
//! (`HostSocket::signal`), and enters the enclave for each edge. It can withhold signals and send spurious ones, which say that a
//! file may be ready, and none but SIGURG and those that the program chose with F_SETSIG, to none but the owner that it named.

use super::OpenFile;
use crate::{Ctx, Kernel, Process, signal};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kbase::event::Observer;
use kbase::sync::Mutex;
use kbase::{Result, bail};
use linux_abi::fs::OpenFlags;
use linux_abi::signal::{SigInfo, Signal, si};
use platform::Level;
use vfs::{FileType, Readiness};

/// POLLIN and POLLRDNORM.
const BAND_IN: u64 = 0x41;
/// POLLOUT, POLLWRNORM and POLLWRBAND.
const BAND_OUT: u64 = 0x304;

/// Who gets the signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalOwner {
    /// A thread.
    Thread(u32),
    /// A process.
    Process(u32),
    /// A process group.
    Group(u32),
}

/// What an open file description signals.
pub(crate) struct SignalDriven {
    kernel: Weak<Kernel>,
    /// What the owner wants to hear of.
    events: Readiness,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    owner: Option<SignalOwner>,
    /// Real and effective user of who named the owner.
    users: [u32; 2],
    /// Instead of SIGIO; then it says what happened.
    signal: Option<Signal>,
    fd: u32,
}

impl SignalDriven {
    pub(super) fn new(kernel: &Arc<Kernel>, open: &OpenFile) -> Arc<Self> {
        let mut events = Readiness::empty();
        if open.is_readable() {
            events |= Readiness::IN | Readiness::HUP;
        }
        if open.is_writable() {
            events |= Readiness::OUT | Readiness::ERR;
        }
        Arc::new(Self { kernel: Arc::downgrade(kernel), events, state: Mutex::default() })
    }

    /// F_GETOWN.
    pub(crate) fn owner(&self) -> Option<SignalOwner> {
        self.state.lock().owner
    }

    /// F_SETOWN.
    ///
    /// # Errors
    /// ESRCH there is no such owner.
    pub(crate) fn set_owner(&self, ctx: &Ctx<'_>, owner: Option<SignalOwner>) -> Result<()> {
        if owner.is_some_and(|owner| processes(ctx.kernel, owner).is_empty()) {
            bail!(ESRCH, "no such process or group");
        }
        let mut state = self.state.lock();
        state.owner = owner;
        let [real, effective, _] = ctx.process.credentials.users.get();
        state.users = [real, effective];
        Ok(())
    }

    /// F_GETSIG.
    pub(crate) fn signal(&self) -> Option<Signal> {
        self.state.lock().signal
    }

    /// F_SETSIG.
    pub(crate) fn set_signal(&self, signal: Option<Signal>) {
        self.state.lock().signal = signal;
    }

    /// Sends the signal for an event.
    fn send(&self, event: Readiness) {
        let is_in = event.intersects(Readiness::IN | Readiness::HUP);
        let (code, band) = if is_in { (si::POLL_IN, BAND_IN) } else { (si::POLL_OUT, BAND_OUT) };
        self.each(|state, send| {
            let chosen = state.signal.map(|signal| {
                let mut info = SigInfo::new(signal, code);
                [info.fields[0], info.fields[1]] = [band, state.fd.into()];
                send(signal, info)
            });
            // As Linux does where the queue is full.
            if !matches!(chosen, Some(Ok(()))) {
                let _ = send(Signal::SIGIO, SigInfo::new(Signal::SIGIO, si::KERNEL));
            }
        });
    }

    /// Sends SIGURG.
    pub(crate) fn send_urgent(&self) {
        self.each(|_, send| {
            let _ = send(Signal::SIGURG, SigInfo::new(Signal::SIGURG, si::KERNEL));
        });
    }

    /// Has `tell` signal each process that the owner is, as far as it may be signalled.
    fn each(&self, tell: impl Fn(State, &dyn Fn(Signal, SigInfo) -> Result<()>)) {
        let state = *self.state.lock();
        let (Some(kernel), Some(owner)) = (self.kernel.upgrade(), state.owner) else { return };
        for process in processes(&kernel, owner) {
            if !may_signal(state.users, &process) {
                continue;
            }
            tell(state, &|number, info| match owner {
                SignalOwner::Thread(tid) => match kernel.processes.thread(tid) {
                    Some(thread) => signal::send_to_thread(&process, &thread, number, info),
                    None => Ok(()),
                },
                _ => signal::send_to_process(&process, number, info),
            });
        }
    }
}

impl Observer<Readiness> for SignalDriven {
    fn on_event(&self, event: &Readiness) {
        self.send(*event & self.events);
    }
}

/// The processes that an owner is.
fn processes(kernel: &Kernel, owner: SignalOwner) -> Vec<Arc<Process>> {
    let table = &kernel.processes;
    match owner {
        SignalOwner::Thread(tid) => {
            table.thread(tid).and_then(|thread| thread.process()).into_iter().collect()
        }
        SignalOwner::Process(pid) => table.process(pid).into_iter().collect(),
        SignalOwner::Group(group) => {
            let mut all = table.all();
            all.retain(|process| process.group.load(Ordering::Relaxed) == group);
            all
        }
    }
}

/// Whether who named the owner may signal it.
fn may_signal(users: [u32; 2], target: &Process) -> bool {
    let [real, _, saved] = target.credentials.users.get();
    users[1] == 0 || users.iter().any(|user| [real, saved].contains(user))
}

impl OpenFile {
    /// Switches O_ASYNC. With files that Linux does not signal either nothing happens.
    ///
    /// # Errors
    /// EOPNOTSUPP signals for what the host does not tell of.
    pub(crate) fn set_signal_driven(self: &Arc<Self>, ctx: &Ctx<'_>, fd: u32, is_on: bool) -> Result<()> {
        if is_on == self.flags().contains(OpenFlags::ASYNC) {
            return Ok(());
        }
        if self.is_signalled() {
            let driven = self.signal_driven(ctx.kernel);
            driven.state.lock().fd = fd;
            let observer: Weak<dyn Observer<Readiness>> = Arc::downgrade(&driven) as _;
            match self.file().notifier() {
                Some(notifier) if is_on => notifier.register(observer, driven.events),
                Some(notifier) => notifier.unregister(&observer),
                None => {}
            }
            self.note_signal_driven(is_on);
        } else if is_on && self.is_signalled_by_linux() {
            let text = "O_ASYNC for terminals of the host is not supported";
            ctx.kernel.log(Level::Warn, format_args!("process {}: {text}", ctx.process.pid));
            bail!(EOPNOTSUPP, "signals for what the host does not tell of");
        }
        Ok(())
    }

    /// Whether its file tells of what happens to it, and signals may be wanted of it.
    pub(crate) fn is_signalled(&self) -> bool {
        self.file().signals_events()
    }

    fn is_signalled_by_linux(&self) -> bool {
        let is_socket = || self.file().metadata().is_ok_and(|metadata| metadata.kind == FileType::Socket);
        self.is_signalled() || self.file().is_terminal() || is_socket()
    }

    /// FIOASYNC: as O_ASYNC, but refused where there are no signals.
    ///
    /// # Errors
    /// ENOTTY not for this kind of file; those of [`OpenFile::set_signal_driven`].
    pub(crate) fn set_fioasync(self: &Arc<Self>, ctx: &Ctx<'_>, fd: u32, is_on: bool) -> Result<()> {
        if !self.is_signalled_by_linux() && is_on != self.flags().contains(OpenFlags::ASYNC) {
            bail!(ENOTTY, "no signals for this kind of file");
        }
        self.set_signal_driven(ctx, fd, is_on)
    }
}
