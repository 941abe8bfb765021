//! Several datagrams in one exit: `sendmmsg(2)` and `recvmmsg(2)`.

use super::datagram::Road;
use super::host::{HostSocket, Wait};
use super::{InetSocket, io};
use crate::Ctx;
use crate::fs::wait;
use crate::net::{Batches, Parcel, Received};
use alloc::vec::Vec;
use kbase::{Errno, Error, Result, SliceSource};
use linux_abi::net::MessageFlags;
use platform::{HostBatch, HostMessage, HostWanted};
use vfs::Readiness;

impl HostSocket {
    /// Sends datagrams, and returns how many went before one did not.
    ///
    /// # Errors
    /// Of the first: as [`Self::send_message`].
    fn send_several(&self, parcels: &[Parcel], flags: MessageFlags, wait: Wait<'_>) -> Result<usize> {
        let flags = io::sendable(flags)?.bits();
        let mut messages = Vec::with_capacity(parcels.len());
        for Parcel { to, control, data } in parcels {
            let to = io::check_control(control).and_then(|()| self.address_of_program(to));
            match to {
                Ok(to) => messages.push(HostMessage { to, control, data, flags }),
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        let mut done = 0usize;
        while let Some(rest) = messages.get(done..).filter(|rest| !rest.is_empty()) {
            let before = self.pollee.before();
            let error = match self.platform.host_send_messages(self.fd, rest) {
                Ok(sent) => {
                    done = done.saturating_add(sent.count);
                    sent.error
                }
                Err(error) => Some(error.0),
            };
            let result = match error {
                None => continue,
                Some(Errno::EAGAIN) => {
                    self.pollee.is_not(before, Readiness::OUT);
                    wait(Readiness::OUT)
                }
                Some(errno) => Err(Error::new(errno, "the host could not send")),
            };
            match result {
                Err(_) if done > 0 => break,
                result => result?,
            }
        }
        Ok(done)
    }

    /// Receives the datagrams that are there: one at least.
    ///
    /// # Errors
    /// EAGAIN there is none; as [`Self::receive_message`].
    fn receive_several(&self, wanted: &[HostWanted], flags: MessageFlags) -> Result<HostBatch> {
        let flags = io::receivable(flags);
        let before = self.pollee.before();
        let result = self.platform.host_receive_messages(self.fd, wanted, flags.bits());
        match &result {
            Ok(batch) if batch.messages.len() == batch.asked => self.pollee.is_unsure(before),
            Ok(_) => self.pollee.is_not(before, Readiness::IN),
            Err(error) if error.0 == Errno::EAGAIN => self.pollee.is_not(before, Readiness::IN),
            Err(_) => {}
        }
        let mut batch = result?;
        for message in &mut batch.messages {
            message.from = self.address_of_host(message.from).unwrap_or_default();
        }
        Ok(batch)
    }
}

impl InetSocket {
    /// How many of the first datagrams go through the host.
    fn for_host(&self, parcels: &[Parcel]) -> usize {
        if self.has_part() {
            return 0;
        }
        let goes = |parcel: &&Parcel| {
            let destination = self.destination(&parcel.to);
            let road = destination.and_then(|to| Ok((to, self.road(to, &parcel.control)?)));
            // An address that means the peer is not one for the host.
            road.is_ok_and(|(to, road)| matches!(road, Road::Host) && to.is_peer == parcel.to.is_empty())
        };
        parcels.iter().take_while(goes).count()
    }

    /// Sends the first datagrams, which go one way. Returns how many those are, and how many of them were sent.
    fn send_run(&self, parcels: &[Parcel], flags: MessageFlags, wait: Wait<'_>) -> Result<(usize, usize)> {
        if self.is_hosts() {
            return Ok((parcels.len(), self.attach()?.send_several(parcels, flags, wait)?));
        }
        let run = parcels.get(..self.for_host(parcels)).unwrap_or_default();
        if run.len() < 2 {
            let Some(Parcel { to, control, data }) = parcels.first() else { return Ok((0, 0)) };
            self.send_one(&mut SliceSource::new(data), (to, control), flags, wait)?;
            return Ok((1, 1));
        }
        self.tell_error()?;
        let peer = self.datagram.peer().filter(|_| run.iter().any(|parcel| parcel.to.is_empty()));
        Ok((run.len(), self.host_towards(peer)?.send_several(run, flags, wait)?))
    }
}

impl Batches for InetSocket {
    fn send_several(
        &self,
        ctx: &Ctx<'_>,
        parcels: &[Parcel],
        flags: MessageFlags,
        is_blocking: bool,
    ) -> Result<usize> {
        let wait = &mut self.wait_of(ctx, is_blocking);
        let mut done = 0usize;
        while let Some(rest) = parcels.get(done..).filter(|rest| !rest.is_empty()) {
            match self.send_run(rest, flags, wait) {
                Ok((run, sent)) => {
                    done = done.saturating_add(sent);
                    if sent < run {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn receive_several(
        &self,
        ctx: &Ctx<'_>,
        wanted: &[HostWanted],
        flags: MessageFlags,
        is_blocking: bool,
    ) -> Result<Vec<(Received, Vec<u8>)>> {
        let batch = loop {
            let host = if self.is_hosts() { Some(self.attach()?) } else { self.host_that_receives() };
            let Some(host) = host.filter(|_| self.is_hosts() || !self.has_own_to_tell()) else {
                return Ok(Vec::new());
            };
            let result = if is_blocking && !host.may_be(Readiness::IN) {
                Err(Error::new(Errno::EAGAIN, "no datagram is there"))
            } else {
                host.receive_several(wanted, flags)
            };
            match result {
                Err(error) if error.errno() == Errno::EAGAIN && is_blocking => {
                    wait::wait_for(ctx, self, Readiness::IN)?;
                }
                result => break result?,
            }
        };
        let taken = batch.messages.into_iter().map(|message| {
            let flags = MessageFlags::from_bits_truncate(message.flags);
            let received = Received { len: message.len, from: message.from, control: message.control, flags };
            (received, message.data)
        });
        Ok(taken.collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::Ctx;
    use crate::testing::{SCRATCH, World};
    use kbase::Errno;
    use linux_abi::net::{Mmsghdr, Msghdr, SockaddrIn, family, kind};
    use platform::{HostAddress, HostFd, HostNet};
    use zerocopy::IntoBytes;

    const SOCKET: u64 = 41;
    const BIND: u64 = 49;
    const RECVMMSG: u64 = 299;
    const SENDMMSG: u64 = 307;
    const ADDRESS: u64 = SCRATCH;
    const PARTS: u64 = SCRATCH + 0x1000;
    const VECTOR: u64 = SCRATCH + 0x2000;
    const DATA: u64 = SCRATCH + 0x1_0000;
    const COUNT: u64 = 20;

    fn address(port: u16) -> SockaddrIn {
        SockaddrIn { family: family::INET, port: port.to_be_bytes(), address: [127, 0, 0, 1], zero: [0; 8] }
    }

    /// A vector of messages to or from an address, each of a buffer of its own.
    fn vector(ctx: &Ctx<'_>, len: impl Fn(u64) -> u64) {
        for index in 0..COUNT {
            ctx.poke(PARTS + index * 16, [DATA + index * 256, len(index)]);
            let (name, iov) = (ADDRESS, PARTS + index * 16);
            let header = Msghdr { name, name_len: 16, iov, iov_len: 1, ..Msghdr::default() };
            ctx.poke(VECTOR + index * 64, Mmsghdr { header, ..Mmsghdr::default() });
        }
    }

    fn len(ctx: &Ctx<'_>, index: u64) -> u32 {
        ctx.peek::<Mmsghdr>(VECTOR + index * 64).len
    }

    /// A socket of the enclave that the host knows, and one outside, with the ports 80 and 90.
    fn pair(world: &World, ctx: &Ctx<'_>) -> (u64, HostFd) {
        let inside = ctx.call(SOCKET, &[family::INET.into(), kind::DGRAM.into(), 0]).unwrap();
        ctx.poke(ADDRESS, SockaddrIn { address: [0; 4], ..address(80) });
        ctx.call(BIND, &[inside, ADDRESS, 16]).unwrap();
        let outside = world.platform.host_socket(family::INET, kind::DGRAM, 0).unwrap();
        world.platform.host_bind(outside, &HostAddress::new(address(90).as_bytes()).unwrap()).unwrap();
        ctx.poke(ADDRESS, address(90));
        (inside, outside)
    }

    #[test]
    fn all_messages_go_however_few_cross_the_border_at_once() {
        let world = World::new();
        world.with_ctx(|ctx| {
            let (inside, outside) = pair(&world, ctx);
            vector(ctx, |index| index);
            assert_eq!(ctx.call(SENDMMSG, &[inside, VECTOR, COUNT, 0]), Ok(COUNT));
            let mut data = [0; 256];
            for index in 0..COUNT {
                let got = world.platform.host_receive(outside, 0, &mut data).unwrap();
                assert_eq!((got as u64, u64::from(len(ctx, index))), (index, index));
            }
        });
    }

    #[test]
    fn what_is_for_the_enclave_stays_there_in_its_order() {
        let world = World::new();
        world.with_ctx(|ctx| {
            let (inside, outside) = pair(&world, ctx);
            vector(ctx, |index| index + 1);
            // Every third is for the socket itself.
            ctx.poke(ADDRESS + 16, address(80));
            for index in (0..COUNT).step_by(3) {
                let mut message: Mmsghdr = ctx.peek(VECTOR + index * 64);
                message.header.name = ADDRESS + 16;
                ctx.poke(VECTOR + index * 64, message);
            }
            assert_eq!(ctx.call(SENDMMSG, &[inside, VECTOR, COUNT, 0]), Ok(COUNT));
            let mut data = [0; 256];
            for index in (0..COUNT).filter(|index| index % 3 != 0) {
                let got = world.platform.host_receive(outside, 0, &mut data).unwrap();
                assert_eq!(got as u64, index + 1);
            }
            // And it receives what came both ways.
            let to = HostAddress::new(address(80).as_bytes()).unwrap();
            for byte in 0..10 {
                let message = platform::HostMessage { to, control: &[], data: &[byte; 100], flags: 0 };
                world.platform.host_send_message(outside, &message).unwrap();
            }
            vector(ctx, |_| 256);
            assert_eq!(ctx.call(RECVMMSG, &[inside, VECTOR, 17, 0, 0]), Ok(17));
            let mut lengths: Vec<u32> = (0..17).map(|index| len(ctx, index)).collect();
            lengths.sort_unstable();
            assert_eq!(lengths[..7], [1, 4, 7, 10, 13, 16, 19]);
            assert_eq!(lengths[7..], [100; 10]);
        });
    }

    #[test]
    fn the_first_message_that_fails_ends_the_call_or_is_its_error() {
        let world = World::new();
        world.with_ctx(|ctx| {
            let (inside, outside) = pair(&world, ctx);
            vector(ctx, |_| 8);
            let mut message: Mmsghdr = ctx.peek(VECTOR + 11 * 64);
            message.header.name_len = 3;
            ctx.poke(VECTOR + 11 * 64, message);
            assert_eq!(ctx.call(SENDMMSG, &[inside, VECTOR, COUNT, 0]), Ok(11));
            assert_eq!(ctx.call(SENDMMSG, &[inside, VECTOR + 11 * 64, 5, 0]), Err(Errno::EINVAL));
            let to = HostAddress::new(address(80).as_bytes()).unwrap();
            for _ in 0..4 {
                let message = platform::HostMessage { to, control: &[], data: &[1; 9], flags: 0 };
                world.platform.host_send_message(outside, &message).unwrap();
            }
            vector(ctx, |_| 256);
            ctx.poke(PARTS + 2 * 16, [8u64, 100]);
            assert_eq!(ctx.call(RECVMMSG, &[inside, VECTOR, COUNT, 0, 0]), Ok(2));
            const DONTWAIT: u64 = 0x40;
            assert_eq!(ctx.call(RECVMMSG, &[inside, VECTOR, COUNT, DONTWAIT, 0]), Err(Errno::EAGAIN));
        });
    }
}
