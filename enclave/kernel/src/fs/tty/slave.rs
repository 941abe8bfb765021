//! The end of a terminal that programs have as their standard streams.

use super::{CHUNK, Pty, control};
use crate::Ctx;
use crate::fs::OpenFile;
use crate::fs::wait::{Source, wait_until};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kbase::{ByteSink, ByteSource, Errno, Error, Result};
use linux_abi::fs::OpenFlags;
use vfs::{File, Metadata, Readiness, ReadinessNotifier};

/// Nanoseconds of one step of VTIME.
const TENTH_NS: u64 = 100_000_000;

/// The slave of a terminal.
pub(crate) struct Slave {
    pty: Arc<Pty>,
    /// Attributes of what was opened: `/dev/tty` is not `/dev/pts/0`.
    alias: Option<Metadata>,
}

impl Slave {
    /// Opens the slave. Who leads a session without a terminal gets this one, unless O_NOCTTY says no.
    ///
    /// # Errors
    /// EIO it is locked, or its master is gone.
    pub(super) fn open(
        ctx: &Ctx<'_>,
        pty: &Arc<Pty>,
        flags: OpenFlags,
        alias: Option<Metadata>,
    ) -> Result<Arc<dyn File>> {
        {
            let mut state = pty.state.lock();
            if state.is_locked || !state.has_master {
                kbase::bail!(EIO, "the terminal is locked or gone");
            }
            state.slaves += 1;
            state.was_opened = true;
        }
        let slave = Arc::new(Self { pty: Arc::clone(pty), alias });
        if !flags.contains(OpenFlags::NOCTTY) {
            // Whether that succeeds does not matter to who opens it.
            let _ = control::acquire(ctx, pty, false);
        }
        Ok(slave)
    }

    pub(super) const fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let mut state = self.pty.state.lock();
        state.slaves = state.slaves.saturating_sub(1);
        let is_last = state.slaves == 0;
        drop(state);
        if is_last {
            self.pty.master_changed.broadcast(&Readiness::all());
        }
    }
}

impl File for Slave {
    /// Takes what is there; [`read`] is what waits and knows of job control.
    fn read(&self, into: &mut dyn ByteSink, _nonblocking: bool) -> Result<usize> {
        take(&self.pty, into)?.ok_or(Error::new(Errno::EAGAIN, "nothing was typed"))
    }

    fn write(&self, from: &mut dyn ByteSource, _nonblocking: bool) -> Result<usize> {
        let mut done = 0;
        let mut bounce = [0; CHUNK];
        while from.remaining() > 0 {
            if !self.pty.state.lock().has_master {
                kbase::bail!(EIO, "the terminal is gone");
            }
            let taken = match from.take(&mut bounce) {
                Err(_) if done > 0 => break,
                result => result?,
            };
            let written = self.pty.write_bytes(bounce.get(..taken).unwrap_or_default());
            done += written;
            if written < taken {
                from.give_back(taken - written);
                if done == 0 {
                    kbase::bail!(EAGAIN, "nobody reads what was written");
                }
                break;
            }
        }
        Ok(done)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.alias.unwrap_or_else(|| self.pty.metadata()))
    }

    fn ready(&self) -> Readiness {
        let state = self.pty.state.lock();
        if !state.has_master {
            return Readiness::IN | Readiness::OUT | Readiness::ERR | Readiness::HUP;
        }
        let needed = match state.line.minimum() {
            (min, 0) if !state.line.is_canonical() => min.max(1),
            _ => 1,
        };
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, state.line.readable() >= needed);
        ready.set(Readiness::OUT, state.line.output_room() > 0);
        ready
    }

    fn signals_events(&self) -> bool {
        true
    }

    fn notifier(&self) -> Option<&ReadinessNotifier> {
        Some(&self.pty.slave_changed)
    }

    fn is_terminal(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Moves what is there. `None`: nothing is.
fn take(pty: &Pty, into: &mut dyn ByteSink) -> Result<Option<usize>> {
    let taken: Option<Vec<u8>> = {
        let mut state = pty.state.lock();
        if !state.has_master {
            return Ok(Some(0));
        }
        state.line.take_input(into.remaining().min(CHUNK))
    };
    let Some(bytes) = taken else { return Ok(None) };
    let put = into.put(&bytes);
    let seen = *put.as_ref().unwrap_or(&0);
    pty.state.lock().line.untake_input(bytes.get(seen..).unwrap_or_default());
    pty.master_changed.broadcast(&Readiness::OUT);
    put.map(Some)
}

/// `read(2)` of a slave: lines, or bytes as VMIN and VTIME say.
///
/// # Errors
/// EIO a background process that may not be stopped reads; EAGAIN; ERESTARTSYS; EFAULT.
pub(crate) fn read(
    ctx: &Ctx<'_>,
    slave: &Slave,
    into: &mut dyn ByteSink,
    is_blocking: bool,
) -> Result<usize> {
    let pty = &slave.pty;
    control::before_read(ctx, pty)?;
    let wanted = into.remaining();
    if wanted == 0 {
        return Ok(0);
    }
    let is_canonical = pty.state.lock().line.is_canonical();
    let (min, time) = pty.state.lock().line.minimum();
    let time_ns = u64::from(time) * TENTH_NS;
    if is_canonical {
        if is_blocking {
            wait_for(ctx, pty, 1, None)?;
        }
        return take(pty, into)?.ok_or(Error::new(Errno::EAGAIN, "no line was typed"));
    }
    let now = || ctx.platform().monotonic_ns();
    if is_blocking {
        match (min, time_ns) {
            (0, 0) => {}
            (_, 0) => _ = wait_for(ctx, pty, min.min(wanted), None)?,
            (0, _) => _ = wait_for(ctx, pty, 1, Some(now().saturating_add(time_ns)))?,
            (_, _) => {
                // The time runs between two bytes, so it does not run before the first.
                let mut seen = wait_for(ctx, pty, 1, None)?;
                while seen > 0 && seen < min.min(wanted) {
                    let more = wait_for(ctx, pty, seen + 1, Some(now().saturating_add(time_ns)))?;
                    if more <= seen {
                        break;
                    }
                    seen = more;
                }
            }
        }
    }
    let mut done = 0;
    while into.remaining() > 0 {
        match take(pty, into) {
            Ok(Some(taken)) if taken > 0 => done += taken,
            Ok(Some(_)) => return Ok(done),
            Ok(None) => break,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    let is_polling = min == 0 && (time_ns == 0 || is_blocking);
    if done == 0 && !is_polling {
        kbase::bail!(EAGAIN, "nothing was typed");
    }
    Ok(done)
}

/// Waits until so many bytes can be read, the master is gone, or the time has come. Returns how many can be read.
fn wait_for(ctx: &Ctx<'_>, pty: &Pty, needed: usize, deadline_ns: Option<u64>) -> Result<usize> {
    let source = Source { notifier: &pty.slave_changed, events: Readiness::IN };
    wait_until(
        ctx,
        &[source],
        &mut [],
        deadline_ns,
        || None,
        |_| {
            let state = pty.state.lock();
            (state.line.readable() >= needed || !state.has_master).then_some(())
        },
    )?;
    Ok(pty.state.lock().line.readable())
}

/// The slave that an open file is.
pub(crate) fn slave_of(open: &OpenFile) -> Option<&Slave> {
    open.file().as_any().downcast_ref()
}
