//! The calls of `socket(2)` on host sockets and on netlink.

use super::netlink::RouteSocket;
use super::{HostSocket, no_wait};
use crate::Ctx;
use crate::fs::wait;
use crate::net::{Address, Incoming, Outgoing, Received, Socket};
use alloc::sync::Arc;
use kbase::{Errno, Result};
use linux_abi::net::MessageFlags;
use vfs::{File, Readiness};
use zerocopy::IntoBytes;

/// The wait of a call.
fn wait_of<'c>(ctx: &'c Ctx<'c>, is_blocking: bool) -> impl FnMut(&HostSocket, Readiness) -> Result<()> + 'c {
    move |socket, events| {
        if is_blocking { wait::wait_for(ctx, socket, events) } else { no_wait(socket, events) }
    }
}

impl Socket for HostSocket {
    fn bind(&self, _ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        Self::bind(self, address)
    }

    fn listen(&self, _ctx: &Ctx<'_>, backlog: u32) -> Result<()> {
        Self::listen(self, backlog)
    }

    fn accept(&self, ctx: &Ctx<'_>, is_blocking: bool) -> Result<(Arc<dyn File>, Address)> {
        // A connection is not taken from the host to be dropped.
        ctx.files.want_room()?;
        let (new, peer) = Self::accept(self, ctx.kernel.mounts.shared(), &mut wait_of(ctx, is_blocking))?;
        Ok((new, peer))
    }

    fn connect(&self, ctx: &Ctx<'_>, address: &[u8], is_blocking: bool) -> Result<()> {
        Self::connect(self, address, &mut wait_of(ctx, is_blocking))
    }

    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        let wait = &mut wait_of(ctx, message.is_blocking);
        self.send_message(message.data, message.to, message.control, message.flags, wait)
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        let wait = &mut wait_of(ctx, wanted.is_blocking);
        match wanted.control_room {
            Some(room) => self.receive_message(wanted.data, room, wanted.flags, wait),
            None => {
                let len = self.receive_plain(wanted.data, wanted.flags, wait)?;
                Ok(Received { len, ..Received::default() })
            }
        }
    }

    fn name(&self, of_peer: bool) -> Result<Address> {
        Self::name(self, of_peer)
    }

    fn shutdown(&self, how: u32) -> Result<()> {
        Self::shutdown(self, how)
    }

    fn get_option(&self, level: u32, option: u32, value: &mut [u8]) -> Result<usize> {
        Self::get_option(self, level, option, value)
    }

    fn set_option(&self, level: u32, option: u32, value: &[u8]) -> Result<()> {
        Self::set_option(self, level, option, value)
    }
}

impl Socket for RouteSocket {
    fn bind(&self, ctx: &Ctx<'_>, address: &[u8]) -> Result<()> {
        Self::bind(self, address, ctx.process.pid)
    }

    /// There is nobody to connect to but the kernel.
    fn connect(&self, _ctx: &Ctx<'_>, _address: &[u8], _is_blocking: bool) -> Result<()> {
        Ok(())
    }

    fn send(&self, ctx: &Ctx<'_>, message: Outgoing<'_>) -> Result<usize> {
        Self::send(self, message.data, ctx.process.pid)
    }

    fn receive(&self, ctx: &Ctx<'_>, wanted: Incoming<'_>) -> Result<Received> {
        loop {
            match Self::receive(self, wanted.data, wanted.flags) {
                Err(error) if wanted.is_blocking && error.errno() == Errno::EAGAIN => {
                    wait::wait_for(ctx, self, Readiness::IN)?;
                }
                Err(error) => return Err(error),
                Ok((len, is_cut)) => {
                    let flags = if is_cut { MessageFlags::TRUNC } else { MessageFlags::empty() };
                    return Ok(Received {
                        len,
                        from: Socket::name(self, true)?,
                        flags,
                        ..Received::default()
                    });
                }
            }
        }
    }

    fn name(&self, of_peer: bool) -> Result<Address> {
        Ok(Address::new(Self::name(self, of_peer).as_bytes()).unwrap_or_default())
    }

    /// Buffer sizes, and what reports that never come are to say.
    fn set_option(&self, _level: u32, _option: u32, _value: &[u8]) -> Result<()> {
        Ok(())
    }
}
