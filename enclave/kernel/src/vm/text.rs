//! Rewriting: instructions that cannot run in an enclave become jumps into the LibOS.
//!
//! When a program maps a file to execute it, a [`Text`] is made: the bytes of the file that change ([`Patch`]),
//! and the stubs that the changed bytes jump to. Both are pure functions of the file, the address and the site
//! table, and a page gets its patches as it is committed, before it is executable, so no thread ever runs half a patch
//! and no lock is needed afterwards. A stub loads the number, the return address, and jumps through a slot at the start
//! of the stubs to the entry of the LibOS; it pushes nothing, since the red zone is the program's.
//!
//! Programs may see program counters (in signal frames, or by comparing, as musl's cancellation does), so
//! [`Text::original`] maps an address in a stub back, and [`Text::relocated`] is its inverse for addresses whose bytes
//! were overwritten.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use erofs_format::{Site, SiteKind, SiteTable, Tactic};
use kbase::sync::Mutex;
use kbase::{Result, SliceSink};
use linux_abi::mm::PAGE_SIZE;
use vfs::Regular;

/// Bytes before the first stub: the slots.
const SLOTS: u64 = 32;
/// Offset of the slot that holds the entry for system calls.
const SYSCALL_SLOT: u64 = 0;
/// Offset of the slot that holds the entry for `cpuid`.
const CPUID_SLOT: u64 = 8;
/// Number of `rt_sigreturn`: its sites stay as they are, because unwinders recognise their bytes.
const RT_SIGRETURN: u32 = 15;
/// Number of system calls that a scan takes for plausible.
const SCAN_NUMBERS: u32 = 0x400;
/// Bytes of text that are scanned at most.
const SCAN_LIMIT: u64 = 64 << 20;
/// Bytes read at a time.
const SCAN_CHUNK: usize = 64 << 10;
/// Longest pattern that a scan looks for.
const SCAN_OVERLAP: usize = 9;
/// Rewritings of one range of a file that are remembered while they are in use.
const KNOWN_TEXTS: usize = 8;

/// Bytes of the file that change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Patch {
    /// File offset.
    offset: u64,
    /// How many bytes, at most 5.
    len: u8,
    /// The bytes.
    bytes: [u8; 5],
}

/// An address in a stub and the address in the program that it stands for.
#[derive(Clone, Copy)]
struct Alias {
    /// Offset in the stubs.
    stub: u64,
    /// File offset in the program.
    offset: u64,
    /// Whether the bytes at `offset` are overwritten, so that execution must go on in the stub.
    is_moved: bool,
}

/// The rewriting of one executable mapping.
pub(crate) struct Text {
    /// Address less file offset, wrapping.
    bias: u64,
    /// Address of the stubs.
    base: u64,
    /// File offsets that are covered.
    range: Range<u64>,
    patches: Vec<Patch>,
    stubs: Vec<u8>,
    aliases: Vec<Alias>,
    /// Sites that became jumps.
    pub(crate) rewritten: u64,
}

/// The sites of a range of a file, with the bytes that must be moved.
pub(crate) struct Sites {
    table: SiteTable,
    /// The windows of displaced sites, by file offset of the site.
    windows: BTreeMap<u64, Vec<u8>>,
    /// Rewritings that are mapped somewhere, or whose pages are kept for whoever maps them next.
    texts: Mutex<Vec<Weak<Text>>>,
}

impl Sites {
    /// Reads what rewriting the sites in `range` needs to know of the file.
    ///
    /// # Errors
    /// EIO the file cannot be read.
    pub(crate) fn new(table: SiteTable, file: &dyn Regular, range: &Range<u64>) -> Result<Self> {
        let mut windows = BTreeMap::new();
        for site in table.in_range(range.clone()) {
            if let Tactic::Displace { len, .. } = site.tactic {
                let mut window = alloc::vec![0u8; len.into()];
                let read = file.read_at(site.extent().start, &mut SliceSink::new(&mut window))?;
                window.truncate(read);
                windows.insert(site.offset, window);
            }
        }
        Ok(Self { table, windows, texts: Mutex::default() })
    }

    /// The rewriting of the file offsets `range`, mapped at `address`, with room for stubs at `base`. Programs are mapped at the same
    /// addresses again and again, and it is made once.
    pub(crate) fn text(&self, range: Range<u64>, address: u64, base: u64, entries: Entries) -> Arc<Text> {
        let bias = address.wrapping_sub(range.start);
        let is_same = |text: &Arc<Text>| (text.bias, text.base) == (bias, base) && text.range == range;
        let mut texts = self.texts.lock();
        if let Some(same) = texts.iter().filter_map(Weak::upgrade).find(is_same) {
            return same;
        }
        let new = Arc::new(Text::new(self, range, address, base, entries));
        texts.retain(|text| text.strong_count() > 0);
        if texts.len() == KNOWN_TEXTS {
            texts.remove(0);
        }
        texts.push(Arc::downgrade(&new));
        new
    }

    /// Whether there is nothing to rewrite.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

/// Where the stubs jump to.
#[derive(Clone, Copy)]
pub(crate) struct Entries {
    /// [`platform::UserCpu::syscall_entry`].
    pub(crate) syscall: u64,
    /// [`platform::UserCpu::cpuid_entry`].
    pub(crate) cpuid: u64,
}

/// Bytes of address space that the stubs of these sites need, a multiple of the page size; 0: nothing to rewrite.
pub(crate) fn stubs_len(sites: &Sites, range: &Range<u64>) -> u64 {
    let bytes: u64 = sites.table.in_range(range.clone()).iter().map(stub_len).sum();
    if bytes == 0 { 0 } else { (SLOTS + bytes).next_multiple_of(PAGE_SIZE) }
}

/// Most bytes that the stub of a site takes.
fn stub_len(site: &Site) -> u64 {
    let code = match site.tactic {
        Tactic::Trap => return 0,
        Tactic::MovImm32 { .. } => 18,
        Tactic::Cave { .. } => 13,
        Tactic::Displace { len, .. } => 13 + u64::from(len) + 5,
    };
    code.next_multiple_of(16)
}

/// Little-endian distance from `next`, the address after the operand, to `target`.
fn relative(next: u64, target: u64) -> Option<[u8; 4]> {
    let distance = target.wrapping_sub(next).cast_signed();
    i32::try_from(distance).ok().map(i32::to_le_bytes)
}

impl Text {
    /// Rewrites the file offsets `range` of a file that is mapped at `address`, with room for stubs at `base`.
    /// Sites that are out of reach or not wholly inside stay as they are, and trap.
    pub(crate) fn new(sites: &Sites, range: Range<u64>, address: u64, base: u64, entries: Entries) -> Self {
        let mut text = Self {
            bias: address.wrapping_sub(range.start),
            base,
            range: range.clone(),
            patches: Vec::new(),
            stubs: Vec::new(),
            aliases: Vec::new(),
            rewritten: 0,
        };
        text.stubs.extend_from_slice(&entries.syscall.to_le_bytes());
        text.stubs.extend_from_slice(&entries.cpuid.to_le_bytes());
        text.stubs.resize(SLOTS as usize, 0);
        for site in sites.table.in_range(range.clone()) {
            let hole = site.hole().unwrap_or(site.extent());
            let is_inside = |part: &Range<u64>| range.start <= part.start && part.end <= range.end;
            if !is_inside(&site.extent()) || !is_inside(&hole) {
                continue;
            }
            let rollback = (text.stubs.len(), text.patches.len(), text.aliases.len());
            if text.rewrite(site, sites).is_some() {
                text.rewritten += 1;
            } else {
                text.stubs.truncate(rollback.0);
                text.patches.truncate(rollback.1);
                text.aliases.truncate(rollback.2);
            }
        }
        text.patches.sort_unstable_by_key(|patch| patch.offset);
        text.aliases.sort_unstable_by_key(|alias| alias.stub);
        text
    }

    /// Makes stub and patches of a site; `None`: it cannot be rewritten.
    fn rewrite(&mut self, site: &Site, sites: &Sites) -> Option<()> {
        let slot = match site.kind {
            SiteKind::Syscall => SYSCALL_SLOT,
            SiteKind::Cpuid => CPUID_SLOT,
            SiteKind::Rdtsc | SiteKind::Rdtscp => return None,
        };
        let after = site.offset + u64::from(site.kind.len());
        let stub = self.stubs.len() as u64;
        match site.tactic {
            Tactic::Trap => return None,
            Tactic::MovImm32 { back, imm } => {
                if site.kind == SiteKind::Syscall && imm == RT_SIGRETURN {
                    return None;
                }
                let start = site.offset.checked_sub(back.into())?;
                self.alias(stub, start, false);
                self.stubs.push(0xb8);
                self.stubs.extend_from_slice(&imm.to_le_bytes());
                self.alias(self.stubs.len() as u64, site.offset, false);
                self.emit_entry(site.kind, slot, self.bias.wrapping_add(after))?;
                self.jump_to_stub(start, stub)?;
            }
            Tactic::Cave { hole } => {
                self.alias(stub, site.offset, false);
                self.emit_entry(site.kind, slot, self.bias.wrapping_add(after))?;
                let at = site.offset.checked_add_signed(hole.into())?;
                self.jump_to_stub(at, stub)?;
                let short = i8::try_from(i64::from(hole) - 2).ok()?;
                let bytes = [0xeb, short.to_le_bytes()[0], 0, 0, 0];
                self.patches.push(Patch { offset: site.offset, len: 2, bytes });
            }
            Tactic::Displace { before, len } => {
                let start = site.offset.checked_sub(before.into())?;
                let window = sites.windows.get(&site.offset).filter(|window| window.len() == len.into())?;
                let (head, rest) = window.split_at_checked(before.into())?;
                let tail = rest.get(site.kind.len().into()..)?;
                self.alias(stub, start, false);
                self.stubs.extend_from_slice(head);
                let overwritten = start + 5;
                self.alias(self.stubs.len() as u64, site.offset, site.offset < overwritten);
                // The entry is 13 bytes; it returns to the tail behind it.
                let tail_at = self.stubs.len() as u64 + 13;
                self.emit_entry(site.kind, slot, self.base.wrapping_add(tail_at))?;
                self.alias(tail_at, after, after < overwritten);
                self.stubs.extend_from_slice(tail);
                self.emit_jump(self.bias.wrapping_add(start + u64::from(len)))?;
                self.jump_to_stub(start, stub)?;
            }
        }
        let end = self.stubs.len().next_multiple_of(16);
        self.stubs.resize(end, 0xcc);
        Some(())
    }

    fn alias(&mut self, stub: u64, offset: u64, is_moved: bool) {
        self.aliases.push(Alias { stub, offset, is_moved });
    }

    /// `lea rcx, [return]` (for `cpuid`: rdx) and `jmp [slot]`.
    fn emit_entry(&mut self, kind: SiteKind, slot: u64, return_to: u64) -> Option<()> {
        let modrm = if kind == SiteKind::Syscall { 0x0d } else { 0x15 };
        let at = self.base.wrapping_add(self.stubs.len() as u64);
        self.stubs.extend_from_slice(&[0x48, 0x8d, modrm]);
        self.stubs.extend_from_slice(&relative(at.wrapping_add(7), return_to)?);
        self.stubs.extend_from_slice(&[0xff, 0x25]);
        self.stubs.extend_from_slice(&relative(at.wrapping_add(13), self.base.wrapping_add(slot))?);
        Some(())
    }

    /// `jmp rel32` at the end of the stubs.
    fn emit_jump(&mut self, target: u64) -> Option<()> {
        let at = self.base.wrapping_add(self.stubs.len() as u64);
        self.stubs.push(0xe9);
        self.stubs.extend_from_slice(&relative(at.wrapping_add(5), target)?);
        Some(())
    }

    /// Overwrites five bytes at a file offset with `jmp rel32` to a stub.
    fn jump_to_stub(&mut self, offset: u64, stub: u64) -> Option<()> {
        let next = self.bias.wrapping_add(offset).wrapping_add(5);
        let [a, b, c, d] = relative(next, self.base.wrapping_add(stub))?;
        self.patches.push(Patch { offset, len: 5, bytes: [0xe9, a, b, c, d] });
        Some(())
    }

    /// Whether another rewriting gives the same bytes at the same addresses.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
            || (self.bias == other.bias
                && self.base == other.base
                && self.range == other.range
                && self.stubs == other.stubs
                && self.patches == other.patches)
    }

    /// Whether the page of the file that starts at `offset` changes.
    pub(crate) fn touches(&self, offset: u64) -> bool {
        self.patches_of(offset).next().is_some()
    }

    /// Changes the content of the page of the file that starts at `offset`.
    pub(crate) fn apply(&self, offset: u64, page: &mut [u8]) {
        for patch in self.patches_of(offset) {
            for (at, &byte) in (patch.offset..).zip(patch.bytes.iter().take(patch.len.into())) {
                let place = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(place) = place.and_then(|place| page.get_mut(place)) {
                    *place = byte;
                }
            }
        }
    }

    fn patches_of(&self, offset: u64) -> impl Iterator<Item = &Patch> {
        let first = self.patches.partition_point(|patch| patch.offset + u64::from(patch.len) <= offset);
        let end = offset.saturating_add(PAGE_SIZE);
        self.patches.iter().skip(first).take_while(move |patch| patch.offset < end)
    }

    /// Copies a page of the stubs.
    pub(crate) fn copy_stubs(&self, offset: u64, page: &mut [u8]) {
        let from =
            usize::try_from(offset).ok().and_then(|offset| self.stubs.get(offset..)).unwrap_or_default();
        for (to, &from) in page.iter_mut().zip(from) {
            *to = from;
        }
    }

    /// What an address in the stubs stands for in the program. An address between two known ones stands for
    /// the lower: a stub changes nothing that running it again would not.
    pub(crate) fn original(&self, rip: u64) -> Option<u64> {
        let stub = rip.wrapping_sub(self.base);
        if stub < SLOTS || stub >= self.stubs.len() as u64 {
            return None;
        }
        let after = self.aliases.partition_point(|alias| alias.stub <= stub);
        let alias = self.aliases.get(after.checked_sub(1)?)?;
        Some(self.bias.wrapping_add(alias.offset))
    }

    /// Where execution goes on when it shall go on at `rip`: in a stub if the bytes there were overwritten.
    pub(crate) fn relocated(&self, rip: u64) -> Option<u64> {
        let offset = rip.wrapping_sub(self.bias);
        if !self.range.contains(&offset) {
            return None;
        }
        let alias = self.aliases.iter().find(|alias| alias.is_moved && alias.offset == offset)?;
        Some(self.base.wrapping_add(alias.stub))
    }
}

/// Finds sites in a file without a table: only the form that can be told without a disassembler, a `mov eax` (or
/// `mov rax`) of a plausible number directly before a `syscall`.
///
/// # Errors
/// EIO the file cannot be read.
pub(crate) fn scan(file: &dyn Regular, range: &Range<u64>) -> Result<SiteTable> {
    let mut sites = Vec::new();
    let end = range.end.min(range.start.saturating_add(SCAN_LIMIT));
    let mut buffer = alloc::vec![0u8; SCAN_CHUNK];
    let mut at = range.start;
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(SCAN_CHUNK).min(SCAN_CHUNK);
        let chunk = buffer.get_mut(..len).unwrap_or_default();
        let read = file.read_at(at, &mut SliceSink::new(chunk))?;
        let bytes = chunk.get(..read).unwrap_or_default();
        scan_bytes(bytes, at, &mut sites);
        // The next chunk begins early enough to hold a pattern that this one cuts.
        let step = if read < len { break } else { len.saturating_sub(SCAN_OVERLAP - 1).max(1) };
        if at + len as u64 >= end {
            break;
        }
        at += step as u64;
    }
    sites.sort_unstable_by_key(|site: &Site| site.offset);
    sites.dedup();
    Ok(SiteTable::new(sites))
}

/// Finds sites in bytes that begin at file offset `base`.
fn scan_bytes(bytes: &[u8], base: u64, sites: &mut Vec<Site>) {
    for (at, pair) in bytes.windows(2).enumerate() {
        if pair != [0x0f, 0x05] {
            continue;
        }
        let before = bytes.get(..at).unwrap_or_default();
        let Some((rest, imm)) = before.split_last_chunk::<4>() else { continue };
        let imm = u32::from_le_bytes(*imm);
        if imm >= SCAN_NUMBERS || imm == RT_SIGRETURN {
            continue;
        }
        let back = if rest.ends_with(&[0xb8]) {
            5
        } else if rest.ends_with(&[0x48, 0xc7, 0xc0]) {
            7
        } else {
            continue;
        };
        // `41 b8 imm32` is a mov to R8D.
        if back == 5 && rest.ends_with(&[0x41, 0xb8]) {
            continue;
        }
        // The only instruction that can hold all of the pattern as its operand is a mov of eight bytes: a program that
        // makes code writes it so.
        if back == 5 && matches!(rest, [.., 0x48 | 0x49, 0xb8..=0xbf, 0xb8]) {
            continue;
        }
        sites.push(Site {
            offset: base + at as u64,
            kind: SiteKind::Syscall,
            tactic: Tactic::MovImm32 { back, imm },
        });
    }
}

#[cfg(test)]
mod tests;
