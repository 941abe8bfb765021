//! Decodes text, function by function, and notes sites, padding and jump targets.

use std::collections::BTreeSet;
use std::ops::Range;

use erofs_format::SiteKind;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::elf::Elf;
use super::targets::AddressSet;

/// Bytes of neighbouring instructions that are remembered in front of a site and behind it.
const NEIGHBOURHOOD: usize = 24;

/// A stretch of text that is decoded from its start: a function, or what lies between two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) start: u64,
    pub(super) bytes: &'a [u8],
}

/// A `mov eax, imm` in front of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoadedNumber {
    /// Bytes of the mov.
    pub(super) len: u8,
    pub(super) imm: u32,
}

/// A site, and what is around it in its basic block.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) address: u64,
    pub(super) kind: SiteKind,
    pub(super) number: Option<LoadedNumber>,
    /// Lengths of the instructions in front that may be moved, nearest first.
    pub(super) before: Vec<u8>,
    /// Lengths of those behind, nearest first.
    pub(super) after: Vec<u8>,
    /// Whether decoding its chunk lost its way.
    pub(super) doubtful: bool,
}

/// What was found in the text swept so far.
pub(super) struct Sweep<'a> {
    elf: &'a Elf<'a>,
    pub(super) sites: Vec<Found>,
    /// Padding that nothing falls into; jumps into it are not excluded yet.
    pub(super) holes: Vec<Range<u64>>,
    /// Where control may come to.
    pub(super) targets: AddressSet,
    /// Addresses that code computes, which may be those of jump tables.
    pub(super) tables: BTreeSet<u64>,
    /// Whether decoding lost its way anywhere, so that some jumps may not have been seen.
    pub(super) incomplete: bool,
    /// Address behind an instruction that control does not leave downwards.
    dead_from: Option<u64>,
}

/// Cuts the text at the starts of functions and the ends of those that have one.
pub(super) fn chunks<'a>(elf: &Elf<'a>) -> Vec<Chunk<'a>> {
    let mut chunks = Vec::new();
    let mut ends = elf.functions.iter().map(|function| function.range.end).peekable();
    for region in &elf.regions {
        let mut cuts: Vec<u64> = elf.starts.range(region.start..region.end()).copied().collect();
        while let Some(end) = ends.next_if(|end| *end < region.end()) {
            if end > region.start {
                cuts.push(end);
            }
        }
        cuts.extend([region.start, region.end()]);
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|cut| usize::try_from(cut - region.start).unwrap_or(0));
            chunks.push(Chunk { start: pair[0], bytes: &region.bytes[from..to] });
        }
    }
    chunks
}

impl<'a> Sweep<'a> {
    pub(super) fn new(elf: &'a Elf<'a>) -> Self {
        let mut targets = AddressSet::new(elf.text_span());
        for start in &elf.starts {
            targets.insert(*start);
        }
        Self {
            elf,
            sites: Vec::new(),
            holes: Vec::new(),
            targets,
            tables: BTreeSet::new(),
            incomplete: false,
            dead_from: None,
        }
    }

    /// Decodes a chunk. Chunks come by ascending address.
    pub(super) fn chunk(&mut self, chunk: &Chunk<'_>) {
        let (first_site, first_hole) = (self.sites.len(), self.holes.len());
        let mut decoder = Decoder::with_ip(64, chunk.bytes, chunk.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut doubtful = false;
        // Lengths of the movable instructions up to here, and the number that the last one loads into eax.
        let mut run: Vec<u8> = Vec::new();
        let mut number = None;
        // Whether the last site still collects what is behind it.
        let mut collecting = false;
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                doubtful = true;
                run.clear();
                number = None;
                collecting = false;
                self.dead_from = None;
                continue;
            }
            if self.padding(&instruction) {
                // What follows is reached by a jump, if at all.
                run.clear();
                number = None;
                continue;
            }
            self.note_targets(&instruction);
            // An instruction has at most 15 bytes.
            let len = u8::try_from(instruction.len()).unwrap_or(15);
            if let Some(kind) = site_kind(&instruction) {
                let before = nearest(&run);
                self.sites.push(Found {
                    address: instruction.ip(),
                    kind,
                    number,
                    before,
                    after: Vec::new(),
                    doubtful: false,
                });
                run.clear();
                number = None;
                collecting = true;
            } else if is_movable(&instruction) {
                run.push(len);
                number = loaded_number(&instruction);
                if let Some(site) = self.sites.last_mut().filter(|_| collecting) {
                    site.after.push(len);
                    collecting =
                        site.after.iter().map(|len| usize::from(*len)).sum::<usize>() < NEIGHBOURHOOD;
                }
            } else {
                run.clear();
                number = None;
                collecting = false;
            }
            self.dead_from = ends_flow(&instruction).then(|| instruction.next_ip());
        }
        if doubtful {
            self.incomplete = true;
            self.holes.truncate(first_hole);
            self.dead_from = None;
            for site in self.sites.iter_mut().skip(first_site) {
                site.doubtful = true;
            }
        }
    }

    /// Notes padding; says whether this instruction is some that is never executed.
    fn padding(&mut self, instruction: &Instruction) -> bool {
        let range = instruction.ip()..instruction.next_ip();
        let dead = self.dead_from == Some(range.start);
        let is_trap = instruction.code() == Code::Int3;
        if !(is_trap || dead && instruction.mnemonic() == Mnemonic::Nop) {
            return false;
        }
        match self.holes.last_mut().filter(|hole| hole.end == range.start) {
            Some(hole) => hole.end = range.end,
            None => self.holes.push(range.clone()),
        }
        if dead {
            self.dead_from = Some(range.end);
        }
        dead
    }

    fn note_targets(&mut self, instruction: &Instruction) {
        match instruction.flow_control() {
            FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::Call
            | FlowControl::XbeginXabortXend => self.targets.insert(instruction.near_branch_target()),
            _ => {}
        }
        if instruction.mnemonic() == Mnemonic::Endbr64 {
            self.targets.insert(instruction.ip());
        }
        if instruction.is_ip_rel_memory_operand() {
            let address = instruction.ip_rel_memory_address();
            self.targets.insert(address);
            if instruction.mnemonic() == Mnemonic::Lea {
                self.tables.insert(address);
            }
        }
        if self.elf.fixed {
            self.note_absolute(instruction);
        }
    }

    /// Where addresses are fixed, any number may be one.
    fn note_absolute(&mut self, instruction: &Instruction) {
        for operand in 0..instruction.op_count() {
            let value = match instruction.op_kind(operand) {
                OpKind::Immediate32 => u64::from(instruction.immediate32()),
                OpKind::Immediate64 => instruction.immediate64(),
                OpKind::Immediate32to64 => instruction.immediate32to64().cast_unsigned(),
                OpKind::Memory => instruction.memory_displacement64(),
                _ => continue,
            };
            self.targets.insert(value);
            self.tables.insert(value);
        }
    }
}

/// The last lengths of a run, nearest first.
fn nearest(run: &[u8]) -> Vec<u8> {
    let mut total = 0;
    let near = |len: &u8| {
        let enough = total >= NEIGHBOURHOOD;
        total += usize::from(*len);
        !enough
    };
    run.iter().rev().copied().take_while(near).collect()
}

fn site_kind(instruction: &Instruction) -> Option<SiteKind> {
    let kind = match instruction.code() {
        Code::Syscall => SiteKind::Syscall,
        Code::Cpuid => SiteKind::Cpuid,
        Code::Rdtsc => SiteKind::Rdtsc,
        Code::Rdtscp => SiteKind::Rdtscp,
        _ => return None,
    };
    // One with needless prefixes is longer, and not worth a case of its own.
    (instruction.len() == usize::from(kind.len())).then_some(kind)
}

/// Whether the instruction does the same at another address.
fn is_movable(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Next
        && !instruction.is_ip_rel_memory_operand()
        && !matches!(
            instruction.mnemonic(),
            Mnemonic::Endbr64
                | Mnemonic::Endbr32
                | Mnemonic::Syscall
                | Mnemonic::Cpuid
                | Mnemonic::Rdtsc
                | Mnemonic::Rdtscp
                | Mnemonic::Hlt
        )
}

fn loaded_number(instruction: &Instruction) -> Option<LoadedNumber> {
    match (instruction.code(), instruction.op0_register(), instruction.len()) {
        (Code::Mov_r32_imm32, Register::EAX, 5) => {
            Some(LoadedNumber { len: 5, imm: instruction.immediate32() })
        }
        (Code::Mov_rm64_imm32, Register::RAX, 7) => {
            let imm = u32::try_from(instruction.immediate32to64()).ok()?;
            Some(LoadedNumber { len: 7, imm })
        }
        _ => None,
    }
}

/// Whether control never goes on to the next instruction. A call may return, whatever its name says.
fn ends_flow(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    ) || matches!(instruction.mnemonic(), Mnemonic::Ud2 | Mnemonic::Hlt)
}
