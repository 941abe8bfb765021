//! `netdevice(7)`: the requests of `ioctl(2)` that tell of the host's interfaces, on sockets of any family. What they tell is
//! the host's word.

use alloc::vec::Vec;
use kbase::{Errno, Error, Result, UserAddr, UserPtr, UserSpace, bail};
use linux_abi::net::ioctl as request;
use linux_abi::net::{Ifconf, Ifreq, SockaddrIn, family};
use platform::{HostInterface, Platform};
use zerocopy::IntoBytes;

/// What `SIOCGIFTXQLEN` says of every interface.
const QUEUE_LEN: u32 = 1000;

/// Serves a request.
///
/// # Errors
/// ENOTTY it is none of these; ENODEV no such interface; EADDRNOTAVAIL it has no such address; EFAULT.
pub(crate) fn ioctl(
    platform: &dyn Platform,
    cmd: u32,
    argument: UserAddr,
    space: &dyn UserSpace,
) -> Result<u64> {
    match cmd {
        request::SIOCGIFCONF => return list(platform, UserPtr::new(argument), space),
        request::SIOCGIFNAME
        | request::SIOCGIFFLAGS
        | request::SIOCGIFADDR
        | request::SIOCGIFBRDADDR
        | request::SIOCGIFNETMASK
        | request::SIOCGIFMETRIC
        | request::SIOCGIFMTU
        | request::SIOCGIFHWADDR
        | request::SIOCGIFINDEX
        | request::SIOCGIFTXQLEN => {}
        request::SIOCGIFDSTADDR | request::SIOCGIFMAP => {}
        request::SIOCGIFPFLAGS => bail!(EINVAL, "interfaces have no such flags"),
        _ => bail!(ENOTTY, "no such ioctl for a socket"),
    }
    let at = UserPtr::<Ifreq>::new(argument);
    let mut wanted = at.read(space)?;
    let interfaces = platform.host_interfaces()?;
    let no_device = Error::new(Errno::ENODEV, "no such interface");
    if cmd == request::SIOCGIFNAME {
        let [a, b, c, d, ..] = wanted.value;
        let index = u32::from_le_bytes([a, b, c, d]);
        let link = interfaces.iter().find(|row| row.family == 0 && row.index == index).ok_or(no_device)?;
        wanted.name = link.name;
        at.write(space, &wanted)?;
        return Ok(0);
    }
    let is_wanted = |row: &&HostInterface| name(&row.name) == name(&wanted.name);
    let link = interfaces.iter().filter(|row| row.family == 0).find(is_wanted).ok_or(no_device)?;
    let address = interfaces.iter().filter(|row| row.family == family::INET).find(is_wanted);
    let no_address = Error::new(Errno::EADDRNOTAVAIL, "the interface has no address of this kind");
    let value: Vec<u8> = match cmd {
        request::SIOCGIFFLAGS => link.flags.to_le_bytes()[..2].to_vec(),
        request::SIOCGIFINDEX => link.index.to_le_bytes().to_vec(),
        request::SIOCGIFMTU => link.mtu.to_le_bytes().to_vec(),
        request::SIOCGIFMETRIC => 0u32.to_le_bytes().to_vec(),
        request::SIOCGIFTXQLEN => QUEUE_LEN.to_le_bytes().to_vec(),
        request::SIOCGIFHWADDR => {
            let kind = u16::try_from(link.prefix).unwrap_or_default();
            kind.to_le_bytes().into_iter().chain(link.address.into_iter().take(14)).collect()
        }
        request::SIOCGIFMAP => alloc::vec![0; wanted.value.len()],
        // The other end of an interface that is from one point to many is this one.
        request::SIOCGIFADDR | request::SIOCGIFDSTADDR => {
            v4(&address.ok_or(no_address)?.address).as_bytes().to_vec()
        }
        request::SIOCGIFBRDADDR => v4(&address.ok_or(no_address)?.broadcast).as_bytes().to_vec(),
        _ => {
            let prefix = address.ok_or(no_address)?.prefix;
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
            v4(&mask.to_be_bytes()).as_bytes().to_vec()
        }
    };
    for (to, from) in wanted.value.iter_mut().zip(value) {
        *to = from;
    }
    at.write(space, &wanted)?;
    Ok(0)
}

/// SIOCGIFCONF: the interfaces that have an IPv4 address.
fn list(platform: &dyn Platform, at: UserPtr<Ifconf>, space: &dyn UserSpace) -> Result<u64> {
    let mut wanted = at.read(space)?;
    let interfaces = platform.host_interfaces()?;
    let mut rows = Vec::new();
    for row in interfaces.iter().filter(|row| row.family == family::INET) {
        let mut request = Ifreq { name: row.name, ..Ifreq::default() };
        for (to, from) in request.value.iter_mut().zip(v4(&row.address).as_bytes()) {
            *to = *from;
        }
        rows.push(request);
    }
    if wanted.array != 0 {
        let room = usize::try_from(wanted.len).unwrap_or_default() / size_of::<Ifreq>();
        rows.truncate(room);
        for (index, row) in (0u64..).zip(&rows) {
            UserPtr::new(UserAddr(wanted.array)).index(index)?.write(space, row)?;
        }
    }
    wanted.len = u32::try_from(rows.len() * size_of::<Ifreq>()).unwrap_or_default();
    at.write(space, &wanted)?;
    Ok(0)
}

fn v4(address: &[u8]) -> SockaddrIn {
    let address = address.first_chunk().copied().unwrap_or_default();
    SockaddrIn { family: family::INET, address, ..SockaddrIn::default() }
}

/// A name without what follows its NUL.
pub(super) fn name(field: &[u8; 16]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}
