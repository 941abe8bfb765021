//! Who has which port on the loopback addresses of the enclave.
//!
//! A socket is here from when it is bound to a loopback address or to all addresses, by a program or by itself, until it is
//! closed. The rules of who may share a port are those of `ip(7)`, `ipv6(7)` and `socket(7)`. A port that the host has too
//! is bound there as well, and the host's rules come on top. Connections keep their port from those who bind to it, while they are
//! open and, if this side ended them, in TIME_WAIT ([`Remains`]).
//!
//! Lock order: a table is a leaf. No socket is kept alive, and so none is dropped, under it.

use super::InetSocket;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boot_config::network::Protocol;
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashMap;
use kbase::sync::Mutex;
use kbase::{Result, bail};
use linux_abi::time::NSEC_PER_SEC;

/// Ports that are given to who does not ask for one: those first that Linux does not give (net.ipv4.ip_local_port_range), so
/// that they are not the host's either.
const EPHEMERAL: [(u16, u16); 2] = [(61_000, u16::MAX), (32_768, 60_999)];

/// How long a connection is in TIME_WAIT (TCP_TIMEWAIT_LEN).
const TIME_WAIT_NS: u64 = 60 * NSEC_PER_SEC;

/// What somebody has of a port, and whether he shares it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) ip: IpAddr,
    /// Whether no address of version 6 means none of version 4 too.
    pub(super) is_v6only: bool,
    /// SO_REUSEADDR and SO_REUSEPORT.
    pub(super) reuses_address: bool,
    pub(super) reuses_port: bool,
}

/// How a socket has a port.
#[derive(Clone)]
pub(super) struct Binding {
    pub(super) socket: Weak<InetSocket>,
    /// What was so when it was bound.
    pub(super) claim: Claim,
    pub(super) listens: bool,
    /// The only one who may send to it.
    pub(super) peer: Option<SocketAddr>,
}

/// Connections at a port that no binding stands for: that were accepted there, or that ended not long ago. As many as have the
/// same claim are one.
struct Remains {
    claim: Claim,
    open: usize,
    /// When the last of those in TIME_WAIT is not any more.
    until_ns: u64,
}

impl Claim {
    /// Whether there is an address that both have.
    fn overlaps(&self, other: &Self) -> bool {
        let is_all = |six: &Self| six.ip.is_unspecified() && !six.is_v6only;
        match (self.ip, other.ip) {
            (IpAddr::V4(_), IpAddr::V6(_)) => is_all(other),
            (IpAddr::V6(_), IpAddr::V4(_)) => is_all(self),
            (a, b) => a == b || a.is_unspecified() || b.is_unspecified(),
        }
    }

    /// Whether only one may be. `one_listens`: nobody shares with a listener because of SO_REUSEADDR.
    fn excludes(&self, other: &Self, one_listens: bool) -> bool {
        let may_share = (self.reuses_port && other.reuses_port)
            || (self.reuses_address && other.reuses_address && !one_listens);
        !may_share && self.overlaps(other)
    }
}

impl Binding {
    fn excludes(&self, other: &Self, protocol: Protocol) -> bool {
        let one_listens = protocol == Protocol::Tcp && (self.listens || other.listens);
        self.claim.excludes(&other.claim, one_listens)
    }

    /// How well it fits something that comes from `source` for `ip`; 0: not at all.
    fn fit(&self, ip: IpAddr, source: Option<SocketAddr>) -> u32 {
        let address = match (self.claim.ip, ip) {
            (mine, ip) if mine == ip => 3,
            (IpAddr::V4(mine), IpAddr::V4(_)) if mine.is_unspecified() => 2,
            (IpAddr::V6(mine), IpAddr::V6(_)) if mine.is_unspecified() => 2,
            (IpAddr::V6(mine), IpAddr::V4(_)) if mine.is_unspecified() && !self.claim.is_v6only => 1,
            _ => return 0,
        };
        match self.peer {
            None => address,
            Some(peer) if Some(peer) == source => address + 4,
            Some(_) => 0,
        }
    }
}

/// The tables of both protocols.
#[derive(Default)]
pub(super) struct Ports {
    tcp: Mutex<Table>,
    udp: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    ports: HashMap<u16, Vec<Binding>>,
    remains: HashMap<u16, Vec<Remains>>,
    /// Where the search for a free port goes on.
    next: usize,
}

impl Ports {
    const fn of(&self, protocol: Protocol) -> &Mutex<Table> {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }

    /// Gives a socket a port; 0: one that is free. Returns the port.
    ///
    /// # Errors
    /// EADDRINUSE somebody has it, or none is free.
    pub(super) fn bind(&self, protocol: Protocol, port: u16, binding: Binding, now_ns: u64) -> Result<u16> {
        let mut table = self.of(protocol).lock();
        let port = if port == 0 { table.free(&binding, now_ns)? } else { port };
        if table.remains_of(port, now_ns).iter().any(|other| other.claim.excludes(&binding.claim, false)) {
            bail!(EADDRINUSE, "connections have the port");
        }
        let there = table.ports.entry(port).or_default();
        if there.iter().any(|other| other.excludes(&binding, protocol)) {
            bail!(EADDRINUSE, "a program in the enclave has the port");
        }
        there.push(binding);
        Ok(port)
    }

    /// Takes a port away from a socket.
    pub(super) fn release(&self, protocol: Protocol, port: u16, socket: &Weak<InetSocket>) {
        let mut table = self.of(protocol).lock();
        if let Some(there) = table.ports.get_mut(&port) {
            there.retain(|binding| !binding.socket.ptr_eq(socket));
            if there.is_empty() {
                table.ports.remove(&port);
            }
        }
    }

    /// A connection is accepted at a port of TCP.
    pub(super) fn open(&self, port: u16, claim: Claim) {
        let mut table = self.tcp.lock();
        let there = table.remains.entry(port).or_default();
        match there.iter_mut().find(|remains| remains.claim == claim) {
            Some(remains) => remains.open = remains.open.saturating_add(1),
            None => there.push(Remains { claim, open: 1, until_ns: 0 }),
        }
    }

    /// A connection that was opened with this claim is none any more.
    pub(super) fn close(&self, port: u16, claim: Claim) {
        let mut table = self.tcp.lock();
        let Some(there) = table.remains.get_mut(&port) else { return };
        if let Some(remains) = there.iter_mut().find(|remains| remains.claim == claim) {
            remains.open = remains.open.saturating_sub(1);
        }
        there.retain(|remains| remains.open > 0 || remains.until_ns > 0);
        if there.is_empty() {
            table.remains.remove(&port);
        }
    }

    /// A connection at a port of TCP is in TIME_WAIT from now on.
    pub(super) fn wait(&self, port: u16, claim: Claim, now_ns: u64) {
        let until_ns = now_ns.saturating_add(TIME_WAIT_NS);
        let mut table = self.tcp.lock();
        table.remains_of(port, now_ns);
        let there = table.remains.entry(port).or_default();
        match there.iter_mut().find(|remains| remains.claim == claim) {
            Some(remains) => remains.until_ns = until_ns,
            None => there.push(Remains { claim, open: 0, until_ns }),
        }
    }

    /// Changes how a socket has a port, unless somebody is in the way then.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(super) fn change(
        &self,
        protocol: Protocol,
        port: u16,
        socket: &Weak<InetSocket>,
        change: impl FnOnce(&mut Binding),
    ) -> Result<()> {
        let mut table = self.of(protocol).lock();
        let there = table.ports.get_mut(&port).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(at) = there.iter().position(|binding| binding.socket.ptr_eq(socket)) else { return Ok(()) };
        let Some(binding) = there.get_mut(at) else { return Ok(()) };
        let mut changed = binding.clone();
        change(&mut changed);
        let becomes_listener = changed.listens && !binding.listens;
        let is_mine = |other: &Binding| other.socket.ptr_eq(socket);
        let listeners = there.iter().filter(|other| other.listens && !is_mine(other));
        if becomes_listener && listeners.into_iter().any(|other| other.excludes(&changed, protocol)) {
            bail!(EADDRINUSE, "somebody listens at the port");
        }
        if let Some(binding) = there.get_mut(at) {
            *binding = changed;
        }
        Ok(())
    }

    /// The socket that listens at an address. Several that share it take turns.
    pub(super) fn listener(&self, to: SocketAddr, turn: usize) -> Option<Arc<InetSocket>> {
        self.find(
            Protocol::Tcp,
            to,
            turn,
            |binding| if binding.listens { binding.fit(to.ip(), None) } else { 0 },
        )
    }

    /// The socket that takes a datagram. Of several that share the address, it is the one that was bound last, or, with
    /// SO_REUSEPORT, always the same for a sender.
    pub(super) fn receiver(&self, to: SocketAddr, from: SocketAddr) -> Option<Arc<InetSocket>> {
        self.find(Protocol::Udp, to, from.port().into(), |binding| binding.fit(to.ip(), Some(from)))
    }

    fn find(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        turn: usize,
        fit: impl Fn(&Binding) -> u32,
    ) -> Option<Arc<InetSocket>> {
        let found = {
            let table = self.of(protocol).lock();
            let there = table.ports.get(&to.port())?;
            let best = there.iter().map(&fit).max().filter(|&best| best > 0)?;
            let mut fitting = there.iter().filter(|binding| fit(binding) == best);
            let last = fitting.clone().next_back()?;
            let sharing = if last.claim.reuses_port { fitting.clone().count() } else { 1 };
            let chosen = if sharing > 1 { fitting.nth(turn % sharing)? } else { last };
            chosen.socket.clone()
        };
        found.upgrade()
    }
}

impl Table {
    /// The connections that keep a port. Those that were in TIME_WAIT long enough are forgotten.
    fn remains_of(&mut self, port: u16, now_ns: u64) -> &[Remains] {
        if let Some(there) = self.remains.get_mut(&port) {
            there.retain(|remains| remains.open > 0 || remains.until_ns > now_ns);
            if there.is_empty() {
                self.remains.remove(&port);
            }
        }
        self.remains.get(&port).map(Vec::as_slice).unwrap_or_default()
    }

    fn free(&mut self, binding: &Binding, now_ns: u64) -> Result<u16> {
        let len = |&(first, last): &(u16, u16)| usize::from(last - first) + 1;
        let all: usize = EPHEMERAL.iter().map(len).sum();
        // The later ports are for when many of the first are used.
        let first = len(&EPHEMERAL[0]);
        let start = self.next % if self.ports.len() < first / 2 { first } else { all };
        for step in 0..all {
            let mut index = (start + step) % all;
            let mut found = None;
            for range in &EPHEMERAL {
                match u16::try_from(index) {
                    Ok(offset) if index < len(range) => {
                        found = range.0.checked_add(offset);
                        break;
                    }
                    _ => index -= len(range),
                }
            }
            let Some(port) = found else { break };
            let claim = &binding.claim;
            let has_binding = |there: &Vec<Binding>| there.iter().any(|other| other.claim.overlaps(claim));
            if !self.ports.get(&port).is_some_and(has_binding)
                && !self.remains_of(port, now_ns).iter().any(|other| other.claim.overlaps(claim))
            {
                self.next = start + step + 1;
                return Ok(port);
            }
        }
        bail!(EADDRINUSE, "all ports are used")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kbase::Errno;

    fn claim(ip: &str) -> Claim {
        let ip = ip.parse().unwrap();
        Claim { ip, is_v6only: false, reuses_address: false, reuses_port: false }
    }

    fn bound(claim: Claim) -> Binding {
        Binding { socket: Weak::new(), claim, listens: false, peer: None }
    }

    fn binding(ip: &str) -> Binding {
        bound(claim(ip))
    }

    fn both(a: Binding, b: Binding, protocol: Protocol) -> bool {
        let ports = Ports::default();
        ports.bind(protocol, 80, a, 0).unwrap();
        let result = ports.bind(protocol, 80, b, 0);
        if let Err(error) = &result {
            assert_eq!(error.errno(), Errno::EADDRINUSE);
        }
        result.is_ok()
    }

    #[test]
    fn one_address_has_one_socket_and_no_address_means_all() {
        let tcp = Protocol::Tcp;
        assert!(!both(binding("127.0.0.1"), binding("127.0.0.1"), tcp));
        assert!(both(binding("127.0.0.1"), binding("127.0.0.2"), tcp));
        assert!(!both(binding("0.0.0.0"), binding("127.0.0.2"), tcp));
        assert!(!both(binding("::"), binding("127.0.0.1"), tcp));
        assert!(!both(binding("127.0.0.1"), binding("::"), tcp));
        assert!(both(binding("127.0.0.1"), binding("::1"), tcp));
        assert!(both(binding("0.0.0.0"), binding("::1"), tcp));
        let only = bound(Claim { is_v6only: true, ..claim("::") });
        assert!(both(only.clone(), binding("0.0.0.0"), tcp));
        assert!(!both(only, binding("::1"), tcp));
    }

    #[test]
    fn who_may_share_a_port_depends_on_both_and_on_who_listens() {
        let reusing = || bound(Claim { reuses_address: true, ..claim("127.0.0.1") });
        let sharing = || bound(Claim { reuses_port: true, ..claim("127.0.0.1") });
        assert!(both(reusing(), reusing(), Protocol::Tcp));
        assert!(both(reusing(), reusing(), Protocol::Udp));
        assert!(!both(reusing(), binding("127.0.0.1"), Protocol::Udp));
        assert!(!both(Binding { listens: true, ..reusing() }, reusing(), Protocol::Tcp));
        assert!(both(Binding { listens: true, ..sharing() }, sharing(), Protocol::Tcp));
        assert!(!both(reusing(), sharing(), Protocol::Tcp));
    }

    #[test]
    fn ports_are_given_until_there_are_no_more() {
        let ports = Ports::default();
        let mut given: Vec<u16> = Vec::new();
        while let Ok(port) = ports.bind(Protocol::Udp, 0, binding("127.0.0.1"), 0) {
            given.push(port);
        }
        assert_eq!(given.len(), 4536 + 28_232);
        assert!(given[..2000].iter().all(|&port| port >= 61_000));
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 4536 + 28_232);
        assert!(ports.bind(Protocol::Udp, 0, binding("::1"), 0).is_ok(), "another address has others");
    }

    #[test]
    fn connections_keep_their_port_while_they_are_open_and_a_minute_longer() {
        let (ports, mine) = (Ports::default(), claim("127.0.0.1"));
        let is_free = |claim: Claim, now| {
            ports.tcp.lock().remains_of(80, now).iter().all(|there| !there.claim.excludes(&claim, false))
        };
        ports.open(80, mine);
        ports.open(80, mine);
        ports.close(80, mine);
        assert!(!is_free(mine, 0) && !is_free(claim("0.0.0.0"), 0) && is_free(claim("127.0.0.2"), 0));
        ports.wait(80, mine, 5);
        ports.close(80, mine);
        assert!(!is_free(mine, TIME_WAIT_NS + 4));
        let reusing = Claim { reuses_address: true, ..mine };
        assert!(!is_free(reusing, 5), "both have to allow it");
        ports.wait(80, reusing, 9);
        assert!(!is_free(mine, TIME_WAIT_NS + 8) && is_free(reusing, TIME_WAIT_NS + 8));
        assert!(is_free(mine, TIME_WAIT_NS + 9));
        assert!(ports.tcp.lock().remains.is_empty());
    }

    #[test]
    fn the_best_fit_is_the_most_exact_one() {
        let source: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let four: IpAddr = "127.0.0.1".parse().unwrap();
        let fit = |ip: &str| binding(ip).fit(four, Some(source));
        assert!(fit("127.0.0.1") > fit("0.0.0.0"));
        assert!(fit("0.0.0.0") > fit("::"));
        assert_eq!(fit("::1"), 0);
        let of = |peer: &str| Binding { peer: Some(peer.parse().unwrap()), ..binding("0.0.0.0") };
        assert!(of("127.0.0.1:9").fit(four, Some(source)) > fit("127.0.0.1"));
        assert_eq!(of("127.0.0.1:8").fit(four, Some(source)), 0);
    }
}
