//! Pseudo-terminals: `/dev/ptmx`, `/dev/pts`, and being the controlling terminal of a session (`pty(7)`, `tty_ioctl(4)`).
//!
//! A [`Pty`] has two ends. What is written to the master is typed: it goes through the [`line::Line`] to who reads the slave; what
//! is written to the slave goes through it to who reads the master. A session has at most one controlling terminal, and a
//! terminal knows its session: so a process finds its own by the number of its session.
//!
//! Locks: the state of a terminal is the last one. Nobody is told and no signal is sent while it is held.

mod control;
pub(super) mod devpts;
mod ioctl;
mod line;
mod slave;
#[cfg(test)]
mod tests;

pub(in crate::fs) use control::open_controlling;
pub(crate) use control::{before_write, process_ended, terminal_of};
pub(crate) use ioctl::ioctl;
pub(crate) use slave::{Slave, read, slave_of};

use crate::{Ctx, Kernel};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use control::signal_group;
use core::any::Any;
use kbase::sync::Mutex;
use kbase::{ByteSink, ByteSource, Result};
use line::Line;
use linux_abi::fs::make_dev;
use linux_abi::signal::Signal;
use linux_abi::tty::Winsize;
use vfs::{File, FileType, Metadata, Readiness, ReadinessNotifier};

/// Most terminals (`/proc/sys/kernel/pty/max`).
const MAX: u32 = 4096;
/// Bytes that cross an end at once.
const CHUNK: usize = 4096;
/// Major device number of slaves.
const MAJOR: u32 = 136;
/// The group `tty`.
const TTY_GROUP: u32 = 5;

/// All terminals that have a master, by number.
#[derive(Default)]
pub(crate) struct Terminals {
    all: Mutex<BTreeMap<u32, Weak<Pty>>>,
}

impl Terminals {
    /// The terminal of a number.
    fn get(&self, number: u32) -> Option<Arc<Pty>> {
        self.all.lock().get(&number)?.upgrade()
    }

    /// All terminals.
    fn list(&self) -> Vec<Arc<Pty>> {
        self.all.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// A new terminal.
    ///
    /// # Errors
    /// ENOSPC there are as many as there can be.
    fn create(&self, ctx: &Ctx<'_>) -> Result<Arc<Pty>> {
        let mut all = self.all.lock();
        all.retain(|_, pty| pty.strong_count() > 0);
        let Some(number) = (0..MAX).find(|number| !all.contains_key(number)) else {
            kbase::bail!(ENOSPC, "there are too many terminals");
        };
        let pty = Arc::new(Pty {
            number,
            kernel: Arc::downgrade(ctx.kernel),
            master_changed: ReadinessNotifier::new(),
            slave_changed: ReadinessNotifier::new(),
            state: Mutex::new(PtyState {
                line: Line::new(),
                window: Winsize::default(),
                is_locked: true,
                has_master: true,
                slaves: 0,
                was_opened: false,
                tells_status: false,
                session: 0,
                foreground: 0,
                mode: 0o620,
                uid: ctx.process.credentials.users.effective(),
                gid: TTY_GROUP,
                created_ns: ctx.platform().realtime_ns().cast_signed(),
            }),
        });
        all.insert(number, Arc::downgrade(&pty));
        Ok(pty)
    }
}

/// A pseudo-terminal.
pub(crate) struct Pty {
    number: u32,
    kernel: Weak<Kernel>,
    state: Mutex<PtyState>,
    /// Tells those who wait at the master.
    master_changed: ReadinessNotifier,
    /// Tells those who wait at the slave.
    slave_changed: ReadinessNotifier,
}

struct PtyState {
    line: Line,
    window: Winsize,
    /// Whether the slave cannot be opened (yet): `unlockpt(3)`.
    is_locked: bool,
    has_master: bool,
    slaves: u32,
    /// Whether a slave was ever opened: only then is its absence a hang-up.
    was_opened: bool,
    /// Packet mode (TIOCPKT).
    tells_status: bool,
    /// The session that it controls; 0: none.
    session: u32,
    /// The process group in the foreground; 0: none.
    foreground: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    created_ns: i64,
}

impl PtyState {
    const fn is_hung_up(&self) -> bool {
        self.was_opened && self.slaves == 0
    }
}

impl Pty {
    /// Attributes of the slave.
    fn metadata(&self) -> Metadata {
        let state = self.state.lock();
        Metadata {
            ino: u64::from(self.number) + 3,
            kind: FileType::CharDevice,
            mode: state.mode,
            uid: state.uid,
            gid: state.gid,
            rdev: make_dev(MAJOR, self.number),
            blksize: 1024,
            ..super::anonymous_metadata(0, FileType::CharDevice, state.created_ns)
        }
    }

    /// Bytes are typed. Returns how many were; 0: there is no room.
    fn type_bytes(&self, bytes: &[u8]) -> usize {
        let mut signals: Vec<Signal> = Vec::new();
        let (taken, group, is_readable, is_visible) = {
            let mut state = self.state.lock();
            let mut taken = 0;
            state.line.begin_typing();
            for &byte in bytes {
                if state.line.input_room() == 0 {
                    break;
                }
                signals.extend(state.line.type_byte(byte));
                taken += 1;
            }
            let is_visible = state.line.visible() > 0 || state.line.has_status();
            (taken, state.foreground, state.line.readable() > 0, is_visible)
        };
        if is_visible {
            self.master_changed.broadcast(&Readiness::IN);
        }
        // What was typed may have started or flushed the output.
        self.slave_changed.broadcast(&if is_readable { Readiness::all() } else { Readiness::OUT });
        for signal in signals {
            self.signal(group, signal);
        }
        taken
    }

    /// Bytes are written by a program. Returns how many were; 0: there is no room.
    fn write_bytes(&self, bytes: &[u8]) -> usize {
        let taken = {
            let mut state = self.state.lock();
            let mut taken = 0;
            for &byte in bytes {
                if state.line.output_room() == 0 {
                    break;
                }
                state.line.write(byte);
                taken += 1;
            }
            taken
        };
        if taken > 0 {
            self.master_changed.broadcast(&Readiness::IN);
        }
        taken
    }

    /// Sends a signal to a process group, if there is one.
    fn signal(&self, group: u32, signal: Signal) {
        if group != 0
            && let Some(kernel) = self.kernel.upgrade()
        {
            signal_group(&kernel, group, signal);
        }
    }

    /// The session of the terminal ends, or the terminal does.
    fn disassociate(&self) {
        let (session, foreground) = {
            let mut state = self.state.lock();
            (core::mem::take(&mut state.session), core::mem::take(&mut state.foreground))
        };
        if session == 0 {
            return;
        }
        let Some(kernel) = self.kernel.upgrade() else { return };
        if let Some(leader) = kernel.processes.process(session) {
            control::send(&leader, Signal::SIGHUP);
            control::send(&leader, Signal::SIGCONT);
        }
        if foreground != 0 {
            signal_group(&kernel, foreground, Signal::SIGHUP);
            signal_group(&kernel, foreground, Signal::SIGCONT);
        }
    }
}

/// Opens `/dev/ptmx`: a new terminal.
///
/// # Errors
/// ENOSPC there are too many.
pub(super) fn open_master(ctx: &Ctx<'_>, metadata: &Metadata) -> Result<Arc<dyn File>> {
    let pty = ctx.kernel.mounts.shared().terminals.create(ctx)?;
    Ok(Arc::new(Master { pty, metadata: *metadata }))
}

/// The terminal that an open file is an end of, and whether it is the master.
fn end_of(file: &dyn File) -> Option<(&Arc<Pty>, bool)> {
    let any = file.as_any();
    let master = any.downcast_ref::<Master>().map(|master| (&master.pty, true));
    master.or_else(|| any.downcast_ref::<Slave>().map(|slave| (slave.pty(), false)))
}

/// The end of who plays the person at the terminal.
struct Master {
    pty: Arc<Pty>,
    metadata: Metadata,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.pty.state.lock().has_master = false;
        if let Some(kernel) = self.pty.kernel.upgrade() {
            let mut all = kernel.mounts.shared().terminals.all.lock();
            all.remove(&self.pty.number);
        }
        self.pty.slave_changed.broadcast(&Readiness::all());
        self.pty.disassociate();
    }
}

impl File for Master {
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        let wanted = into.remaining().min(CHUNK);
        if wanted == 0 {
            return Ok(0);
        }
        let (bytes, prefix) = {
            let mut state = self.pty.state.lock();
            let status = if state.tells_status { state.line.take_status() } else { 0 };
            let prefix = state.tells_status.then_some(status);
            let room = wanted - usize::from(prefix.is_some());
            let bytes = if status == 0 { state.line.take_output(room) } else { Vec::new() };
            if bytes.is_empty() && status == 0 {
                if state.is_hung_up() {
                    kbase::bail!(EIO, "nobody has the other end");
                }
                kbase::bail!(EAGAIN, "nothing was written");
            }
            (bytes, prefix)
        };
        let put = match prefix {
            Some(prefix) => into.put(&[prefix]).and_then(|_| Ok(1 + into.put(&bytes)?)),
            None => into.put(&bytes),
        };
        let taken = *put.as_ref().unwrap_or(&0);
        let seen = taken.saturating_sub(prefix.is_some().into());
        self.pty.state.lock().line.untake_output(bytes.get(seen..).unwrap_or_default());
        self.pty.slave_changed.broadcast(&Readiness::OUT);
        put
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        let mut done = 0;
        let mut bounce = [0; CHUNK];
        while from.remaining() > 0 {
            let is_hung_up = self.pty.state.lock().is_hung_up();
            let taken = match from.take(&mut bounce) {
                Err(_) if done > 0 => break,
                result => result?,
            };
            if is_hung_up {
                // As on Linux, that nobody has the other end is no error of who types.
                done += taken;
                continue;
            }
            let typed = self.pty.type_bytes(bounce.get(..taken).unwrap_or_default());
            done += typed;
            if typed < taken {
                from.give_back(taken - typed);
                if done == 0 {
                    kbase::bail!(EAGAIN, "too much is typed ahead");
                }
                break;
            }
        }
        Ok(done)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.metadata)
    }

    fn ready(&self) -> Readiness {
        let state = self.pty.state.lock();
        let has_status = state.tells_status && state.line.has_status();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, state.line.visible() > 0 || has_status);
        ready.set(Readiness::PRI, has_status);
        ready.set(Readiness::OUT, state.line.input_room() > 0);
        ready.set(Readiness::HUP, state.is_hung_up());
        ready
    }

    fn signals_events(&self) -> bool {
        true
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.pty.master_changed)
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
