//! `docs/sockets.md` lists every option that has a name here, with what becomes of it.

use super::rule;
use crate::Ctx;
use crate::testing::{SCRATCH, World};
use kbase::Errno;
use linux_abi::net::option::SOL_SOCKET;
use linux_abi::net::{family, kind, protocol};
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = include_str!("../../../../../../docs/sockets.md");
const NAMES: &str = include_str!("../../../../../../base/linux-abi/src/net/option.rs");

const CLOSE: u64 = 3;
const SOCKET: u64 = 41;
const SETSOCKOPT: u64 = 54;
const GETSOCKOPT: u64 = 55;

/// Level and name.
type Option = (&'static str, &'static str);

const LEVELS: [(&str, &str, u32); 5] = [
    ("socket", "SOL_SOCKET", SOL_SOCKET),
    ("ip", "IPPROTO_IP", protocol::IP),
    ("ipv6", "IPPROTO_IPV6", protocol::IPV6),
    ("tcp", "IPPROTO_TCP", protocol::TCP),
    ("udp", "IPPROTO_UDP", protocol::UDP),
];

/// The options that have names, with their numbers.
fn named() -> BTreeMap<Option, (u32, u32)> {
    let mut all = BTreeMap::new();
    let mut level = None;
    for line in NAMES.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            level = LEVELS.iter().find(|(name, ..)| module.trim_end_matches(" {") == *name);
        }
        let constant = line.strip_prefix("    pub const ").and_then(|line| line.split_once(": u32 = "));
        if let (Some((name, number)), Some(&(_, shown, level))) = (constant, level) {
            all.insert((shown, name), (level, number.trim_end_matches(';').parse().unwrap()));
        }
    }
    all
}

/// The options in the rows of the table that comes behind a line of the document.
fn documented(behind: &str) -> BTreeSet<Option> {
    let (_, section) = DOCUMENT.split_once(behind).unwrap_or_else(|| panic!("no table `{behind}`"));
    let mut all = BTreeSet::new();
    for line in section.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').collect();
        let Some((_, level, _)) =
            LEVELS.iter().find(|(_, level, _)| cells[1].trim().trim_matches('`') == *level)
        else {
            continue;
        };
        all.extend(cells[2].split('`').skip(1).step_by(2).map(|name| (*level, name)));
    }
    all
}

#[track_caller]
fn check(behind: &str, found: impl Fn(u32, u32) -> bool) -> BTreeSet<Option> {
    let named = named();
    let expected: BTreeSet<Option> =
        named.iter().filter(|(_, (level, number))| found(*level, *number)).map(|(&name, _)| name).collect();
    let documented = documented(behind);
    let missing: Vec<_> = expected.difference(&documented).collect();
    let wrong: Vec<_> = documented.difference(&expected).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "{behind}: not there: {missing:?}; wrong: {wrong:?}");
    documented
}

const REFUSALS: [Result<u64, Errno>; 2] = [Err(Errno::ENOPROTOOPT), Err(Errno::EOPNOTSUPP)];

/// Whether a socket has an option to get.
fn gets(ctx: &Ctx<'_>, fd: u64, (level, option): (u32, u32)) -> bool {
    ctx.poke(SCRATCH, 64u32);
    !REFUSALS.contains(&ctx.call(GETSOCKOPT, &[fd, level.into(), option.into(), SCRATCH + 64, SCRATCH]))
}

/// Whether a socket has an option to set.
fn sets(ctx: &Ctx<'_>, fd: u64, (level, option): (u32, u32)) -> bool {
    ctx.poke(SCRATCH + 64, [1u64; 8]);
    !REFUSALS.contains(&ctx.call(SETSOCKOPT, &[fd, level.into(), option.into(), SCRATCH + 64, 64]))
}

#[test]
fn the_document_says_of_every_option_what_becomes_of_it() {
    let kinds = [family::INET, family::INET6].map(|of| [(of, kind::STREAM), (of, kind::DGRAM)]);
    let is_kept = |level, option| kinds.as_flattened().iter().any(|&its| rule(its, level, option).is_some());
    let passes = |level, option| edge_abi::net::passes(level, option).is_some();
    let mut listed = check("| level | options that pass to the host |", passes);
    listed.extend(check("| level | options that are kept |", is_kept));
    // What is neither and not refused is answered without asking the host.
    let world = World::new();
    world.with_ctx(|ctx| {
        let is_answered = |level, option| {
            !is_kept(level, option)
                && !passes(level, option)
                && kinds.as_flattened().iter().any(|&(of, of_kind)| {
                    let fd = ctx.call(SOCKET, &[of.into(), of_kind.into(), 0]).unwrap();
                    let is_known = gets(ctx, fd, (level, option));
                    let is_hosts = world.platform.open_sockets() > 0;
                    ctx.call(CLOSE, &[fd]).unwrap();
                    is_known && !is_hosts
                })
        };
        listed.extend(check("| level | options that the kernel answers |", is_answered));
    });
    let named = named();
    check("| level | options that are refused |", |level, option| {
        let name = named.iter().find(|(_, number)| **number == (level, option)).map(|(&name, _)| name);
        name.is_some_and(|name| !listed.contains(&name))
    });
}

#[test]
fn the_document_lists_the_options_of_the_unix_domain() {
    World::new().with_ctx(|ctx| {
        let fd = ctx.call(SOCKET, &[family::UNIX.into(), kind::STREAM.into(), 0]).unwrap();
        check("| level | options of the Unix domain |", |level, option| {
            gets(ctx, fd, (level, option)) || sets(ctx, fd, (level, option))
        });
    });
}
