//! `/proc/net`: the sockets of all processes, as `netstat(8)`, `ss(8)` and `lsof(8)` read them, and the interfaces.
//!
//! What is told of the host's sockets and interfaces is the host's word. Traffic is not counted.

use super::system::Make;
use super::{Shared, Text, put};
use crate::Kernel;
use crate::net::inet::InetSocket;
use crate::net::inet::listing::Row;
use crate::net::unix::UnixSocket;
use crate::syscall::Fd;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};
use kbase::Result;
use linux_abi::net::family;
use vfs::File;

/// The files, by name.
pub(super) const FILES: &[(&str, Make)] = &[
    ("dev", interfaces),
    ("if_inet6", addresses),
    ("route", routes),
    ("tcp", |kernel, _, text| sockets(kernel, text, true, false)),
    ("tcp6", |kernel, _, text| sockets(kernel, text, true, true)),
    ("udp", |kernel, _, text| sockets(kernel, text, false, false)),
    ("udp6", |kernel, _, text| sockets(kernel, text, false, true)),
    ("unix", unix),
];

/// Bytes of a line of IPv4 and of a route, without its end: Linux fills them up with blanks.
const TCP_LINE: usize = 149;
const UDP_LINE: usize = 127;
const ROUTE_LINE: usize = 127;

/// Looks at each file that a process has open, with the user of the process.
fn each_open(kernel: &Kernel, mut look: impl FnMut(&dyn File, u32)) {
    for process in kernel.processes.all() {
        let (_, files, _) = process.world();
        for number in files.numbers(0, usize::MAX) {
            if let Ok(open) = files.get(Fd(number)) {
                look(&**open.file(), process.credentials.uid());
            }
        }
    }
}

/// Adds a line that is filled up to a length.
fn filled(text: &mut Text, line: &str, len: usize) {
    put!(text, "{line:<len$}\n");
}

/// An address as Linux prints it: words in the order of the machine.
fn shown(address: SocketAddr, is_v6: bool) -> String {
    let mut text = String::new();
    let octets = match address.ip() {
        IpAddr::V4(ip) if is_v6 && ip.is_unspecified() => [0; 16],
        IpAddr::V4(ip) if is_v6 => ip.to_ipv6_mapped().octets(),
        IpAddr::V4(ip) => {
            put!(text, "{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), address.port());
            return text;
        }
        IpAddr::V6(ip) => ip.octets(),
    };
    for word in octets.as_chunks::<4>().0 {
        put!(text, "{:08X}", u32::from_le_bytes(*word));
    }
    put!(text, ":{:04X}", address.port());
    text
}

fn sockets(kernel: &Kernel, text: &mut Text, is_stream: bool, is_v6: bool) -> Result<()> {
    let mut rows: BTreeMap<u64, (Row, u32)> = BTreeMap::new();
    each_open(kernel, |file, uid| {
        let row = file.as_any().downcast_ref::<InetSocket>().and_then(InetSocket::row);
        if let Some(row) = row.filter(|row| (row.is_stream, row.is_v6) == (is_stream, is_v6)) {
            rows.entry(row.ino).or_insert((row, uid));
        }
    });
    let len = match (is_stream, is_v6) {
        (_, true) => 0,
        (true, false) => TCP_LINE,
        (false, false) => UDP_LINE,
    };
    let behind = if is_stream { "" } else { " ref pointer drops" };
    let head = match (is_stream, is_v6) {
        (true, false) => {
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
        }
        (false, false) => {
            "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
        }
        (_, true) => {
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
        }
    };
    filled(text, &alloc::format!("{head}{behind}"), len);
    let blank = if is_stream { 4 } else { 5 };
    for (index, (row, uid)) in rows.into_values().enumerate() {
        let nowhere = SocketAddr::new(if is_v6 { [0u16; 8].into() } else { [0u8; 4].into() }, 0);
        let mut line = String::new();
        put!(line, "{index:blank$}: {} ", shown(row.local, is_v6));
        put!(line, "{} {:02X} ", shown(row.peer.unwrap_or(nowhere), is_v6), row.state);
        put!(line, "00000000:{:08X} 00:00000000 00000000 {uid:5}        0 {} ", row.waiting, row.ino);
        let pointer = "0000000000000000";
        if is_stream {
            put!(line, "1 {pointer} 100 0 0 10 0");
        } else {
            put!(line, "2 {pointer} 0");
        }
        filled(text, &line, len);
    }
    Ok(())
}

fn unix(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let mut lines: BTreeMap<u64, String> = BTreeMap::new();
    each_open(kernel, |file, _| {
        let Some(socket) = file.as_any().downcast_ref::<UnixSocket>() else { return };
        let row = socket.row();
        let mut line = String::new();
        let (flags, state) = match (row.listens, row.is_connected) {
            (true, _) => (0x1_0000, 1),
            (false, true) => (0, 3),
            (false, false) => (0, 1),
        };
        put!(line, "0000000000000000: 00000002 00000000 {flags:08X} {:04X} {state:02X} ", row.kind);
        put!(line, "{:5}", row.ino);
        if !row.name.is_empty() {
            let is_path = row.name.first() != Some(&0);
            let name = row.name.strip_suffix(&[0]).filter(|_| is_path).unwrap_or(&row.name);
            let shown: String =
                name.iter().map(|&byte| if byte == 0 { '@' } else { char::from(byte) }).collect();
            put!(line, " {shown}");
        }
        lines.insert(row.ino, line);
    });
    text.bytes(b"Num       RefCount Protocol Flags    Type St Inode Path\n");
    lines.values().for_each(|line| put!(text, "{line}\n"));
    Ok(())
}

/// A name without what follows its NUL, as text.
fn name(field: &[u8; 16]) -> String {
    String::from_utf8_lossy(field.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

fn interfaces(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    text.bytes(b"Inter-|   Receive                                                |  Transmit\n");
    text.bytes(b" face |bytes    packets errs drop fifo frame compressed multicast|");
    text.bytes(b"bytes    packets errs drop fifo colls carrier compressed\n");
    for row in kernel.platform().host_interfaces()?.iter().filter(|row| row.family == 0) {
        put!(
            text,
            "{:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9}",
            name(&row.name),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0
        );
        put!(text, " {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}\n", 0, 0, 0, 0, 0, 0, 0, 0);
    }
    Ok(())
}

fn addresses(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    for row in kernel.platform().host_interfaces()?.iter().filter(|row| row.family == family::INET6) {
        let ip = core::net::Ipv6Addr::from(row.address);
        let scope = match ip {
            _ if ip.is_loopback() => 0x10,
            _ if ip.is_unicast_link_local() => 0x20,
            _ => 0,
        };
        row.address.iter().for_each(|byte| put!(text, "{byte:02x}"));
        // IFA_F_PERMANENT.
        put!(text, " {:02x} {:02x} {scope:02x} 80 {:>8}\n", row.index, row.prefix, name(&row.name));
    }
    Ok(())
}

/// Routes are the host's business, and none is told.
fn routes(_: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    filled(text, head, ROUTE_LINE);
    Ok(())
}
