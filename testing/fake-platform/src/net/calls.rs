//! The calls on the network in memory.

use super::*;
use platform::HostFiles;

impl HostNet for FakePlatform {
    fn host_socket(&self, family: u16, kind: u32, _protocol: u32) -> HostResult<HostFd> {
        Ok(self.net(|net| net.add(Socket { kind, family, ..Socket::default() })))
    }

    fn host_bind(&self, fd: HostFd, address: &HostAddress) -> HostResult<()> {
        self.net(|net| {
            let kind = net.get(fd)?.kind;
            if net.bound_to(address, kind).is_some() {
                return fail(Errno::EADDRINUSE);
            }
            let local = if port(address) == 0 {
                let family = net.get(fd)?.family;
                net.free_address(family)
            } else {
                *address
            };
            net.get(fd)?.local = local;
            Ok(())
        })
    }

    fn host_listen(&self, fd: HostFd, _backlog: u32) -> HostResult<()> {
        self.net(|net| {
            let socket = net.get(fd)?;
            if socket.kind != kind::STREAM {
                return fail(Errno::EOPNOTSUPP);
            }
            socket.pending.get_or_insert_default();
            Ok(())
        })
    }

    fn host_accept(&self, fd: HostFd) -> HostResult<(HostFd, HostAddress)> {
        self.net(|net| {
            let pending = net.get(fd)?.pending.as_mut().ok_or(HostError(Errno::EINVAL))?;
            let new = HostFd(pending.pop_front().ok_or(HostError(Errno::EAGAIN))?);
            let peer = net.get(new)?.peer;
            Ok((new, net.name(peer)))
        })
    }

    fn host_connect(&self, fd: HostFd, address: &HostAddress) -> HostResult<()> {
        self.net(|net| {
            let is_slow = net.is_slow;
            let socket = net.get(fd)?;
            let (kind, family) = (socket.kind, socket.family);
            if kind == kind::DGRAM {
                socket.peer = *address;
                return Ok(());
            }
            if std::mem::take(&mut socket.is_connecting) {
                return socket.error.take().map_or(Ok(()), fail);
            }
            if socket.other.is_some() {
                return fail(Errno::EISCONN);
            }
            socket.is_connecting = is_slow;
            let listener = net.bound_to(address, kind);
            let Some(listener) = listener.filter(|fd| net.sockets[fd].pending.is_some()) else {
                if net.is_slow {
                    net.get(fd)?.error = Some(Errno::ECONNREFUSED);
                    net.edge(fd.0);
                    return fail(Errno::EINPROGRESS);
                }
                return fail(Errno::ECONNREFUSED);
            };
            let local = net.free_address(family);
            let accepted =
                Socket { kind, family, local: *address, peer: local, other: Some(fd.0), ..Socket::default() };
            let accepted = net.add(accepted);
            let socket = net.get(fd)?;
            (socket.local, socket.peer, socket.other) = (local, *address, Some(accepted.0));
            net.get(HostFd(listener))?.pending.get_or_insert_default().push_back(accepted.0);
            net.edge(listener);
            net.edge(fd.0);
            if net.is_slow { fail(Errno::EINPROGRESS) } else { Ok(()) }
        })
    }

    fn host_connect_at(&self, _dir: HostFd, name: &[u8], kind: u32) -> HostResult<HostFd> {
        self.net(|net| {
            let Some(waiting) = net.files.get_mut(name) else { return fail(Errno::ECONNREFUSED) };
            if waiting.len() >= CHANNEL {
                return fail(Errno::EAGAIN);
            }
            let [here, there] = [net.next_fd + 1, net.next_fd + 2];
            waiting.push_back(there);
            for other in [there, here] {
                let peer = HostAddress::new(&family::UNIX.to_le_bytes()).unwrap_or_default();
                net.add(Socket { kind, family: family::UNIX, peer, other: Some(other), ..Socket::default() });
            }
            Ok(HostFd(here))
        })
    }

    fn host_socket_name(&self, fd: HostFd, of_peer: bool) -> HostResult<HostAddress> {
        self.net(|net| {
            let socket = net.get(fd)?;
            if of_peer && socket.peer.is_none() {
                return fail(Errno::ENOTCONN);
            }
            let address = if of_peer { socket.peer } else { socket.local };
            Ok(net.name(address))
        })
    }

    fn host_send(&self, fd: HostFd, data: &[u8], _flags: u32) -> HostResult<usize> {
        self.net(|net| net.send(fd, &HostAddress::NONE, data))
    }

    fn host_send_file(&self, fd: HostFd, file: HostFd, offset: u64, len: usize) -> HostResult<usize> {
        self.net(|net| {
            if net.refuses_files {
                return fail(Errno::EINVAL);
            }
            net.files_sent += 1;
            Ok(())
        })?;
        let mut data = vec![0; len.min(WINDOW)];
        let read = self.host_read_at(file, offset, &mut data)?;
        if read == 0 { Ok(0) } else { self.host_send(fd, &data[..read], 0) }
    }

    fn host_receive(&self, fd: HostFd, flags: u32, into: &mut [u8]) -> HostResult<usize> {
        let received = self.net(|net| net.receive(fd, into.len(), flags))?;
        into[..received.data.len()].copy_from_slice(&received.data);
        Ok(received.len)
    }

    fn host_send_message(&self, fd: HostFd, message: &HostMessage<'_>) -> HostResult<usize> {
        self.net(|net| net.send(fd, &message.to, message.data))
    }

    fn host_receive_message(
        &self,
        fd: HostFd,
        wanted: usize,
        _control: usize,
        flags: u32,
    ) -> HostResult<HostReceived> {
        self.net(|net| {
            let received = net.receive(fd, wanted, flags)?;
            let from = if received.from.is_none() { received.from } else { net.name(received.from) };
            Ok(HostReceived { from, ..received })
        })
    }

    fn host_send_messages(&self, fd: HostFd, messages: &[HostMessage<'_>]) -> HostResult<HostSent> {
        // As many as the channel takes.
        let mut count = 0;
        for message in messages.iter().take(CHANNEL) {
            match self.host_send_message(fd, message) {
                Ok(_) => count += 1,
                Err(error) if count == 0 => return Err(error),
                Err(error) => return Ok(HostSent { count, error: Some(error.0) }),
            }
        }
        Ok(HostSent { count, error: None })
    }

    fn host_receive_messages(&self, fd: HostFd, wanted: &[HostWanted], flags: u32) -> HostResult<HostBatch> {
        let asked = wanted.len().min(CHANNEL);
        let mut messages = Vec::new();
        for wanted in &wanted[..asked] {
            match self.host_receive_message(fd, wanted.data, wanted.control, flags) {
                Ok(message) => messages.push(message),
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(HostBatch { asked, messages })
    }

    fn host_get_option(&self, fd: HostFd, level: u32, option: u32, value: &mut [u8]) -> HostResult<usize> {
        self.net(|net| {
            let socket = net.get(fd)?;
            let stored = if (level, option) == (SOL_SOCKET, socket::ERROR) {
                socket.error.take().map_or(0, |errno| u32::from(errno.number())).to_le_bytes().to_vec()
            } else {
                socket.options.get(&(level, option)).cloned().unwrap_or_else(|| vec![0; 4])
            };
            let len = stored.len().min(value.len());
            value[..len].copy_from_slice(&stored[..len]);
            Ok(len)
        })
    }

    fn host_set_option(&self, fd: HostFd, level: u32, option: u32, value: &[u8]) -> HostResult<()> {
        self.net(|net| {
            net.get(fd)?.options.insert((level, option), value.to_vec());
            Ok(())
        })
    }

    fn host_shutdown(&self, fd: HostFd, how: u32) -> HostResult<()> {
        self.net(|net| {
            let socket = net.get(fd)?;
            if socket.peer.is_none() {
                return fail(Errno::ENOTCONN);
            }
            socket.is_read_shut |= how != shut::WR;
            socket.is_write_shut |= how != shut::RD;
            let other = socket.other.filter(|_| how != shut::RD);
            net.end(other);
            Ok(())
        })
    }

    fn host_close_socket(&self, fd: HostFd) {
        self.net(|net| {
            let Some(socket) = net.sockets.remove(&fd.0) else { return };
            net.end(socket.other);
            for pending in socket.pending.into_iter().flatten() {
                net.sockets.remove(&pending);
            }
        });
    }

    fn host_interfaces(&self) -> HostResult<Vec<HostInterface>> {
        let name = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let link =
            HostInterface { name, index: 1, flags: 0x49, prefix: 772, mtu: 65536, ..Default::default() };
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[127, 0, 0, 1]);
        Ok(vec![link, HostInterface { family: family::INET, address, prefix: 8, ..link }])
    }
}

impl HostReadiness for FakePlatform {
    fn watch(&self, fd: HostFd, token: u64, waiter: Option<ThreadHandle>) -> HostResult<PollEvents> {
        self.net(|net| {
            let socket = net.get(fd)?;
            let is_watched = socket.token == Some(token);
            (socket.token, socket.waiter) = (Some(token), waiter.filter(|_| !is_watched));
            net.pending.retain(|edge| edge.0 != token);
            net.edge(fd.0);
            Ok(net.ready(fd.0).unwrap_or_default())
        })
    }

    fn watch_at_once(&self, fd: HostFd, token: u64) -> HostResult<PollEvents> {
        self.net(|net| {
            let socket = net.get(fd)?;
            (socket.token, socket.is_at_once) = (Some(token), true);
            net.pending.retain(|edge| edge.0 != token);
            net.edge(fd.0);
            Ok(net.ready(fd.0).unwrap_or_default())
        })
    }

    fn unwatch(&self, fd: HostFd) {
        self.net(|net| {
            if let Ok(socket) = net.get(fd) {
                socket.token = None;
            }
        });
    }

    fn take_readiness(&self, each: &mut dyn FnMut(u64, PollEvents)) -> usize {
        let (edges, lie) = {
            let mut net = lock(&self.net);
            (std::mem::take(&mut net.edges), net.lie)
        };
        for &(token, events) in &edges {
            match lie {
                Some(Lie::StrangeTokens) => each(!token, u16::MAX),
                _ => each(token, events),
            }
        }
        edges.len()
    }

    fn park_ready(&self, deadline_ns: Option<u64>) -> Park {
        let me = ThreadHandle(CURRENT.with(Cell::get));
        self.sleep_for_net(deadline_ns, |net| {
            net.fetch(me) || (deadline_ns != Some(0) && net.has_operations_done())
        })
    }
}
