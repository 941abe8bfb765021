//! Requests to a pseudo-terminal (`ioctl_tty(2)`).

use super::slave::Slave;
use super::{Pty, control, end_of};
use crate::Ctx;
use crate::fs::OpenFile;
use alloc::sync::Arc;
use kbase::{Errno, Error, Result, UserAddr, UserPtr};
use linux_abi::fs::{OpenFlags, ioctl as request};
use linux_abi::signal::Signal;
use linux_abi::tty::{Winsize, control as index, ioctl as tty};
use platform::Level;
use vfs::Readiness;

/// Serves a request. `None`: it is not one for terminals, or `open` is none of ours.
pub(crate) fn ioctl(ctx: &Ctx<'_>, open: &OpenFile, cmd: u32, argument: UserAddr) -> Option<Result<u64>> {
    let (pty, is_master) = end_of(&**open.file())?;
    let call = Call { ctx, pty, is_master, argument };
    Some(match cmd {
        request::TCGETS => call.give(|| *pty.state.lock().line.termios()),
        request::TCSETS | request::TCSETSW | request::TCSETSF => call.set_termios(cmd == request::TCSETSF),
        request::TIOCGWINSZ => call.give(|| pty.state.lock().window),
        request::TIOCSWINSZ => call.set_window(),
        request::TIOCSCTTY => {
            call.own().and_then(|()| control::acquire(ctx, pty, argument.0 == 1)).map(|()| 0)
        }
        request::TIOCNOTTY => control::give_up(ctx, pty).map(|()| 0),
        request::TIOCGPGRP => call.related().and_then(|()| call.give(|| pty.state.lock().foreground)),
        request::TIOCSPGRP => {
            call.take::<i32>().and_then(|group| control::set_foreground(ctx, pty, group)).map(|()| 0)
        }
        request::TIOCGSID => call.session(),
        request::FIONREAD => call.give(|| call.readable()),
        tty::TIOCOUTQ => call.give(|| 0i32),
        tty::TCFLSH => call.flush(),
        tty::TCXONC => call.flow(),
        tty::TCSBRK | tty::TCSBRKP => call.change().map(|()| 0),
        tty::TIOCGETD => call.give(|| 0i32),
        tty::TIOCSETD => call.take::<i32>().and_then(|discipline| match discipline {
            0 => Ok(0),
            _ => Err(Error::new(Errno::EINVAL, "there is one line discipline")),
        }),
        _ if is_master => call.master(cmd),
        _ => return call.unknown(cmd),
    })
}

/// A request and what it is made to.
struct Call<'a> {
    ctx: &'a Ctx<'a>,
    pty: &'a Arc<Pty>,
    is_master: bool,
    argument: UserAddr,
}

impl Call<'_> {
    fn give<T: zerocopy::IntoBytes + zerocopy::FromBytes + zerocopy::Immutable>(
        &self,
        value: impl FnOnce() -> T,
    ) -> Result<u64> {
        let value = value();
        UserPtr::new(self.argument).write(self.ctx.user(), &value).map(|()| 0)
    }

    fn take<T: zerocopy::IntoBytes + zerocopy::FromBytes + zerocopy::Immutable>(&self) -> Result<T> {
        UserPtr::new(self.argument).read(self.ctx.user())
    }

    /// Fails for a master, which controls nothing.
    fn own(&self) -> Result<()> {
        if self.is_master {
            kbase::bail!(ENOTTY, "the master is nobody's controlling terminal");
        }
        Ok(())
    }

    /// Fails for a slave that is not the caller's controlling terminal.
    fn related(&self) -> Result<()> {
        if !self.is_master && !control::is_own(self.ctx, self.pty) {
            kbase::bail!(ENOTTY, "not the controlling terminal");
        }
        Ok(())
    }

    /// Before a change: background processes are stopped. The master is not in the session.
    fn change(&self) -> Result<()> {
        if self.is_master { Ok(()) } else { control::before_change(self.ctx, self.pty) }
    }

    fn set_termios(&self, flushes: bool) -> Result<u64> {
        self.change()?;
        let new = self.take()?;
        {
            let mut state = self.pty.state.lock();
            if flushes {
                state.line.flush_input();
            }
            state.line.set_termios(new);
        }
        self.pty.slave_changed.broadcast(&Readiness::all());
        self.pty.master_changed.broadcast(&Readiness::OUT);
        Ok(0)
    }

    fn set_window(&self) -> Result<u64> {
        let new: Winsize = self.take()?;
        let (is_new, group) = {
            let mut state = self.pty.state.lock();
            (core::mem::replace(&mut state.window, new) != new, state.foreground)
        };
        if is_new {
            self.pty.signal(group, Signal::SIGWINCH);
        }
        Ok(0)
    }

    fn session(&self) -> Result<u64> {
        self.related()?;
        let session = self.pty.state.lock().session;
        if session == 0 {
            kbase::bail!(ENOTTY, "the terminal is no session's");
        }
        self.give(|| session)
    }

    /// Bytes that can be read at this end.
    fn readable(&self) -> i32 {
        let state = self.pty.state.lock();
        let count = if self.is_master { state.line.visible() } else { state.line.readable() };
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    fn flush(&self) -> Result<u64> {
        self.change()?;
        {
            let mut state = self.pty.state.lock();
            // What goes in at one end comes out at the other.
            let (input, output) = match self.argument.0 {
                tty::TCIFLUSH => (true, false),
                tty::TCOFLUSH => (false, true),
                tty::TCIOFLUSH => (true, true),
                _ => kbase::bail!(EINVAL, "unknown queue"),
            };
            let (input, output) = if self.is_master { (output, input) } else { (input, output) };
            if input {
                state.line.flush_input();
            }
            if output {
                state.line.flush_output();
            }
        }
        self.pty.slave_changed.broadcast(&Readiness::OUT);
        self.pty.master_changed.broadcast(&Readiness::all());
        Ok(0)
    }

    fn flow(&self) -> Result<u64> {
        self.change()?;
        let character = match self.argument.0 {
            tty::TCOOFF => {
                self.pty.state.lock().line.stop();
                None
            }
            tty::TCOON => {
                self.pty.state.lock().line.start();
                None
            }
            tty::TCIOFF => Some(index::VSTOP),
            tty::TCION => Some(index::VSTART),
            _ => kbase::bail!(EINVAL, "unknown action"),
        };
        if let Some(index) = character {
            let byte = self.pty.state.lock().line.termios().control(index);
            if byte != 0 {
                self.pty.write_bytes(&[byte]);
            }
        }
        self.pty.slave_changed.broadcast(&Readiness::OUT);
        self.pty.master_changed.broadcast(&Readiness::all());
        Ok(0)
    }

    /// What only a master has.
    fn master(&self, cmd: u32) -> Result<u64> {
        match cmd {
            tty::TIOCGPTN => self.give(|| self.pty.number),
            tty::TIOCSPTLCK => {
                let locks: i32 = self.take()?;
                self.pty.state.lock().is_locked = locks != 0;
                Ok(0)
            }
            tty::TIOCGPTLCK => self.give(|| i32::from(self.pty.state.lock().is_locked)),
            tty::TIOCPKT => {
                let on: i32 = self.take()?;
                let mut state = self.pty.state.lock();
                if on != 0 && !state.tells_status {
                    state.line.take_status();
                }
                state.tells_status = on != 0;
                Ok(0)
            }
            tty::TIOCGPKT => self.give(|| i32::from(self.pty.state.lock().tells_status)),
            tty::TIOCSIG => {
                let signal = Signal::new(self.argument.0)
                    .filter(|signal| [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP].contains(signal));
                let Some(signal) = signal else { kbase::bail!(EINVAL, "not a signal of the keyboard") };
                let group = self.pty.state.lock().foreground;
                self.pty.signal(group, signal);
                Ok(0)
            }
            tty::TIOCGPTPEER => self.open_peer(),
            _ => self.unknown(cmd).unwrap_or(Ok(0)),
        }
    }

    /// TIOCGPTPEER: a descriptor of the slave, wherever `/dev/pts` is mounted.
    fn open_peer(&self) -> Result<u64> {
        let flags = OpenFlags::from_bits_truncate(u32::try_from(self.argument.0).unwrap_or_default());
        let file = Slave::open(self.ctx, self.pty, flags, None)?;
        let path = alloc::format!("/dev/pts/{}", self.pty.number);
        let dentry = self.ctx.kernel.mounts.namespace().look_up(path.as_bytes()).ok();
        let open = OpenFile::new(self.ctx.kernel.mounts.shared(), file, dentry, flags);
        let fd = self.ctx.files.insert(open, flags.contains(OpenFlags::CLOEXEC))?;
        Ok(fd.0.into())
    }

    /// A request that terminals of Linux may have and these have not.
    fn unknown(&self, cmd: u32) -> Option<Result<u64>> {
        if cmd >> 8 & 0xff != u32::from(b'T') {
            return None;
        }
        self.ctx.kernel.log(Level::Debug, format_args!("ioctl {cmd:#x} of a terminal is not implemented"));
        Some(Err(Error::new(Errno::ENOTTY, "no such request for a pseudo-terminal")))
    }
}
