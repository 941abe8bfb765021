//! Gives each site the safest tactic that is certain to be right.

use std::ops::Range;

use erofs_format::{Site, SiteKind, SiteTable, Tactic};

use super::AnalyseOptions;
use super::elf::Elf;
use super::sweep::{Found, Neighbour, Sweep};
use super::targets::AddressSet;

/// Bytes of `jmp rel32`.
const JUMP: u64 = 5;
/// Bytes of `jmp rel8`.
const SHORT_JUMP: u64 = 2;
/// `mov eax, 15` and `mov rax, 15`: the number of rt_sigreturn. Unwinders and debuggers know restorers by these
/// bytes, so they stay, whatever else decoding may have made of them.
const RESTORERS: [&[u8]; 2] = [&[0xb8, 15, 0, 0, 0], &[0x48, 0xc7, 0xc0, 15, 0, 0, 0]];
/// Above this a number is no system call's, so what loads it may be data taken for code.
const MAX_SYSCALL: u32 = 1024;

/// Tactics for all sites of a file.
pub(super) struct Chooser<'a> {
    elf: &'a Elf<'a>,
    sites: Vec<(&'a Found, Option<Tactic>)>,
}

impl<'a> Chooser<'a> {
    /// Decides what can be decided without knowing all jump targets.
    pub(super) fn easy(elf: &'a Elf<'a>, sweep: &'a Sweep<'a>, options: AnalyseOptions) -> Self {
        let decide = |site: &Found| {
            let tsc = matches!(site.kind, SiteKind::Rdtsc | SiteKind::Rdtscp);
            if tsc && !options.patch_tsc {
                return Some(Tactic::Trap);
            }
            if is_restorer(elf, site) {
                return Some(Tactic::Trap);
            }
            if let Some(number) = site.number {
                let syscall = site.kind == SiteKind::Syscall;
                let certain = !site.doubtful && elf.has_sections;
                if certain || syscall && number.imm < MAX_SYSCALL {
                    return Some(Tactic::MovImm32 { back: number.len, imm: number.imm });
                }
            }
            (site.doubtful || !elf.has_sections).then_some(Tactic::Trap)
        };
        Self { elf, sites: sweep.sites.iter().map(|site| (site, decide(site))).collect() }
    }

    /// Decides everything.
    pub(super) fn full(elf: &'a Elf<'a>, sweep: &'a Sweep<'a>, options: AnalyseOptions) -> Self {
        let mut chooser = Self::easy(elf, sweep, options);
        let is_tsc = |kind| matches!(kind, SiteKind::Rdtsc | SiteKind::Rdtscp);
        let mut holes = Holes::new(&sweep.holes, &sweep.targets);
        // The scarce padding goes to what matters most.
        for tsc in [false, true] {
            for (site, tactic) in &mut chooser.sites {
                if tactic.is_none() && is_tsc(site.kind) == tsc {
                    *tactic = holes.take(elf, site, &sweep.targets);
                }
            }
        }
        for at in 0..chooser.sites.len() {
            if chooser.sites[at].1.is_none() {
                chooser.sites[at].1 = chooser.displace(at, sweep);
            }
        }
        chooser
    }

    /// Whether every site has a tactic.
    pub(super) fn is_complete(&self) -> bool {
        self.sites.iter().all(|(_, tactic)| tactic.is_some())
    }

    pub(super) fn table(&self) -> SiteTable {
        SiteTable::new(
            self.sites
                .iter()
                .filter_map(|(site, tactic)| self.site(site, tactic.unwrap_or(Tactic::Trap)))
                .collect(),
        )
    }

    fn site(&self, found: &Found, tactic: Tactic) -> Option<Site> {
        let region = self.elf.region(found.address)?;
        Some(Site { offset: region.offset + (found.address - region.start), kind: found.kind, tactic })
    }

    /// Addresses that the site at `at` uses as far as decided.
    fn extent(&self, at: usize) -> Option<Range<u64>> {
        let (found, tactic) = self.sites.get(at)?;
        // The extent does not depend on where the offset counts from.
        Some(
            Site { offset: found.address, kind: found.kind, tactic: tactic.unwrap_or(Tactic::Trap) }.extent(),
        )
    }

    /// A window around a site. Best is one whose instructions cannot fault, since a fault in a stub has to be
    /// told as one in the program; then the shortest; then the one with least behind the site, so that the place
    /// where the program goes on stays what it is.
    fn displace(&self, at: usize, sweep: &Sweep<'_>) -> Option<Tactic> {
        let (site, _) = self.sites.get(at)?;
        match self.elf.function(site.address) {
            Some(function) if function.has_landing_pads => return None,
            // Written by hand, or without a name; then a jump may come from anywhere.
            None if self.elf.is_unwindable() || sweep.incomplete && !site.in_function => return None,
            _ => {}
        }
        let free_from =
            at.checked_sub(1).and_then(|previous| self.extent(previous)).map_or(0, |used| used.end);
        let free_to = self.extent(at + 1).map_or(u64::MAX, |used| used.start);
        let site_len = u64::from(site.kind.len());
        let mut best: Option<Window> = None;
        for (before, before_memory) in sums(&site.before) {
            for (after, after_memory) in sums(&site.after) {
                let touches_memory = before_memory || after_memory;
                let window = Window { touches_memory, len: before + site_len + after, after, before };
                if window.len < JUMP || best.is_some_and(|best| best <= window) {
                    continue;
                }
                let start = site.address.saturating_sub(before);
                let end = start + window.len;
                let is_free = start >= free_from && end <= free_to;
                if is_free && sweep.targets.first_in(start + 1..end).is_none() {
                    best = Some(window);
                }
            }
        }
        let best = best?;
        Some(Tactic::Displace { before: u8::try_from(best.before).ok()?, len: u8::try_from(best.len).ok()? })
    }
}

/// Instructions to move, better ones being less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    touches_memory: bool,
    len: u64,
    after: u64,
    before: u64,
}

/// For the first none, one, two, ... neighbours: their bytes, and whether any touches memory.
fn sums(neighbours: &[Neighbour]) -> impl Iterator<Item = (u64, bool)> {
    let sums = neighbours.iter().scan((0, false), |(len, memory), neighbour| {
        *len += u64::from(neighbour.len);
        *memory |= neighbour.touches_memory;
        Some((*len, *memory))
    });
    std::iter::once((0, false)).chain(sums)
}

fn is_restorer(elf: &Elf<'_>, site: &Found) -> bool {
    site.kind == SiteKind::Syscall
        && RESTORERS.iter().any(|mov| {
            let before = site.address.checked_sub(mov.len() as u64).and_then(|start| elf.content(start));
            before.is_some_and(|bytes| bytes.starts_with(mov))
        })
}

/// Padding, cut into pieces of a `jmp rel32` each, by address.
struct Holes {
    free: Vec<u64>,
}

impl Holes {
    fn new(padding: &[Range<u64>], targets: &AddressSet) -> Self {
        let mut free = Vec::new();
        for hole in padding {
            // From the first byte on that something may jump to, it is executed.
            let end = targets.first_in(hole.clone()).unwrap_or(hole.end);
            let mut start = hole.start;
            while start + JUMP <= end {
                free.push(start);
                start += JUMP;
            }
        }
        Self { free }
    }

    /// Takes the lowest piece that a `jmp rel8` at the site reaches; with sites by ascending address that leaves
    /// most for the others.
    fn take(&mut self, elf: &Elf<'_>, site: &Found, targets: &AddressSet) -> Option<Tactic> {
        let end = site.address + u64::from(site.kind.len());
        if targets.first_in(site.address + 1..end).is_some() {
            return None;
        }
        let from = site.address + SHORT_JUMP;
        let at = self.free.partition_point(|hole| *hole + 128 < from);
        let hole = self.free.get(at).copied().filter(|hole| *hole <= from + 127)?;
        let region = elf.region(site.address)?;
        if !region.contains(hole) || hole + JUMP > region.end() {
            return None;
        }
        self.free.remove(at);
        let distance = i64::try_from(hole).ok()? - i64::try_from(site.address).ok()?;
        Some(Tactic::Cave { hole: i32::try_from(distance).ok()? })
    }
}
