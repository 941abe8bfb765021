//! `network`: which loopback ports are shared with the host.

use super::reader::{Findings, Object};
use boot_config::network::{Network, Ports};
use std::ops::RangeInclusive;

const HINT: &str = "write `tcp/8080`, `udp/5000-5010`, `tcp` or `udp` for all ports of one, or `all`";

/// Reads the object.
pub(super) fn read(mut object: Object<'_>, findings: &Findings) -> Network {
    let mut ports = |field| {
        let mut ports = Ports::default();
        for (text, span) in object.strings(field).unwrap_or_default() {
            match parse(&text) {
                Some((tcp, udp)) => {
                    ports.tcp.extend(tcp);
                    ports.udp.extend(udp);
                }
                None => {
                    let message = format!("`network.{field}`: `{text}` names no ports");
                    findings.mistake(&span, message, Some(HINT.to_owned()));
                }
            }
        }
        ports
    };
    let network = Network { publish: ports("publish"), host_loopback: ports("host_loopback") };
    object.finish();
    network
}

type Range = Option<RangeInclusive<u16>>;

/// The ranges of TCP and of UDP that a text names.
fn parse(text: &str) -> Option<(Range, Range)> {
    const ALL: RangeInclusive<u16> = 0..=u16::MAX;
    let (protocol, ports) = match text.split_once('/') {
        None if text == "all" => return Some((Some(ALL), Some(ALL))),
        None => (text, ALL),
        Some((protocol, ports)) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let number =
                |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            let range = number(first)?..=number(last)?;
            if range.is_empty() || *range.start() == 0 {
                return None;
            }
            (protocol, range)
        }
    };
    match protocol {
        "tcp" => Some((Some(ports), None)),
        "udp" => Some((None, Some(ports))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range_or_all() {
        assert_eq!(parse("tcp/80"), Some((Some(80..=80), None)));
        assert_eq!(parse("udp/5000-5010"), Some((None, Some(5000..=5010))));
        assert_eq!(parse("tcp"), Some((Some(0..=65535), None)));
        assert_eq!(parse("all"), Some((Some(0..=65535), Some(0..=65535))));
        for wrong in
            ["", "80", "tcp/", "tcp/0", "tcp/65536", "tcp/9-8", "tcp/+9", "sctp/1", "tcp/1/2", "tcp/1-"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
