//! Addresses, as programs write them and as they are compared. An IPv4 address in an IPv6 one is the IPv4 address.

use crate::net::Address;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use kbase::{Result, bail};
use linux_abi::net::{SOCKADDR_IN6_SHORT, SockaddrIn, SockaddrIn6, family};
use zerocopy::{FromBytes, IntoBytes};

/// Where an address leads.
pub(super) const fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// The address that is meant: who connects to none means this machine.
pub(super) const fn meant(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// Where what is sent to a loopback address comes from, unless the sender says otherwise.
pub(super) const fn source_for(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// No address of a family.
pub(super) const fn any(of_family: u16) -> IpAddr {
    if of_family == family::INET {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

/// Reads an address for a socket of a family.
///
/// # Errors
/// EINVAL it is too short; EAFNOSUPPORT it is of another family.
pub(super) fn parse(of_family: u16, bytes: &[u8]) -> Result<SocketAddr> {
    if of_family == family::INET {
        let Ok((address, _)) = SockaddrIn::read_from_prefix(bytes) else {
            bail!(EINVAL, "the address is too short");
        };
        let ip = Ipv4Addr::from(address.address);
        // Linux takes no family for no address.
        if address.family != family::INET && !(address.family == family::UNSPEC && ip.is_unspecified()) {
            bail!(EAFNOSUPPORT, "an address of another family");
        }
        return Ok(SocketAddr::new(ip.into(), u16::from_be_bytes(address.port)));
    }
    if bytes.len() < SOCKADDR_IN6_SHORT {
        bail!(EINVAL, "the address is too short");
    }
    let mut whole = [0; size_of::<SockaddrIn6>()];
    whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let address = SockaddrIn6::read_from_bytes(&whole).unwrap_or_default();
    if address.family != family::INET6 {
        bail!(EAFNOSUPPORT, "an address of another family");
    }
    let ip = Ipv6Addr::from(address.address).to_canonical();
    Ok(SocketAddr::new(ip, u16::from_be_bytes(address.port)))
}

/// As [`parse`], where a datagram goes: a socket of version 6 takes an address of version 4.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_destination(of_family: u16, bytes: &[u8]) -> Result<SocketAddr> {
    if of_family == family::INET6 && family_of(bytes)? == family::INET {
        return parse(family::INET, bytes);
    }
    if of_family == family::INET && family_of(bytes)? == family::UNSPEC {
        let mut as_four = bytes.to_vec();
        as_four.iter_mut().zip(family::INET.to_le_bytes()).for_each(|(to, from)| *to = from);
        return parse(family::INET, &as_four);
    }
    parse(of_family, bytes)
}

/// The family that the bytes of an address name.
pub(super) fn family_of(bytes: &[u8]) -> Result<u16> {
    match bytes.first_chunk() {
        Some(bytes) => Ok(u16::from_le_bytes(*bytes)),
        None => bail!(EINVAL, "the address is too short"),
    }
}

/// Writes an address for a socket of a family.
pub(super) fn show(of_family: u16, address: SocketAddr) -> Address {
    let port = address.port().to_be_bytes();
    let bytes = match address.ip() {
        IpAddr::V4(ip) if of_family == family::INET => Address::new(
            SockaddrIn { family: of_family, port, address: ip.octets(), zero: [0; 8] }.as_bytes(),
        ),
        ip => {
            let ip = match ip {
                // Nothing is shown as nothing, not as nothing of version 4.
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED,
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let shown = SockaddrIn6 { family: of_family, port, flow: [0; 4], address: ip.octets(), scope: 0 };
            Address::new(shown.as_bytes())
        }
    };
    bytes.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_4_address_is_one_in_either_family() {
        let four: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let shown = show(family::INET6, four);
        assert_eq!(parse(family::INET6, shown.as_bytes()).unwrap(), four);
        assert_eq!(parse(family::INET, show(family::INET, four).as_bytes()).unwrap(), four);
        assert!(parse(family::INET, shown.as_bytes()).is_err());
        assert!(parse(family::INET6, &shown.as_bytes()[..23]).is_err());
        assert!(parse(family::INET6, &shown.as_bytes()[..24]).is_ok());
    }

    #[test]
    fn who_connects_to_no_address_means_this_machine() {
        for (given, means) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("127.1.2.3:1", "127.1.2.3:1")]
        {
            assert_eq!(meant(given.parse().unwrap()), means.parse().unwrap());
        }
    }
}
