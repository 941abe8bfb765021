//! Decodes text, function by function, and notes sites, padding and jump targets.

use std::collections::BTreeSet;
use std::ops::Range;

use erofs_format::SiteKind;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::elf::Elf;
use super::targets::AddressSet;

/// Bytes of neighbouring instructions that are remembered in front of a site and behind it.
const NEIGHBOURHOOD: usize = 24;

/// Larger stretches without a known start of a function in them are taken for many functions.
const LARGEST_FUNCTION: usize = 1 << 16;

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

/// An instruction beside a site that may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) len: u8,
    /// Whether it may fault.
    pub(super) touches_memory: bool,
}

/// A site, and what is around it in its basic block.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) address: u64,
    pub(super) kind: SiteKind,
    pub(super) number: Option<LoadedNumber>,
    /// The instructions in front that may be moved, nearest first.
    pub(super) before: Vec<Neighbour>,
    /// Those behind, nearest first.
    pub(super) after: Vec<Neighbour>,
    /// Whether decoding its chunk lost its way.
    pub(super) doubtful: bool,
    /// Whether its chunk is known to be one function.
    pub(super) in_function: bool,
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
        let in_function = self.elf.starts.contains(&chunk.start) && chunk.bytes.len() <= LARGEST_FUNCTION;
        let (first_site, first_hole) = (self.sites.len(), self.holes.len());
        let mut decoder = Decoder::with_ip(64, chunk.bytes, chunk.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut doubt = Doubt::new(chunk, in_function);
        let mut block = BasicBlock::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                doubt.lost(instruction.ip());
                block = BasicBlock::default();
                self.dead_from = None;
                continue;
            }
            let dead = self.dead_from == Some(instruction.ip());
            if self.padding(&instruction) {
                // What follows is reached by a jump, if at all.
                block = BasicBlock::default();
                continue;
            }
            if dead {
                doubt.boundary(instruction.ip());
            }
            self.note_targets(&instruction);
            if let Some(kind) = site_kind(&instruction) {
                self.sites.push(Found {
                    address: instruction.ip(),
                    kind,
                    number: block.number,
                    before: nearest(&block.run),
                    after: Vec::new(),
                    doubtful: false,
                    in_function,
                });
                block = BasicBlock { collecting: true, ..BasicBlock::default() };
            } else if is_movable(&instruction) {
                block.extend(&instruction, self.sites.last_mut());
            } else {
                block = BasicBlock::default();
            }
            self.dead_from = ends_flow(&instruction).then(|| instruction.next_ip());
        }
        let doubtful = doubt.ranges(chunk);
        if doubtful.is_empty() {
            return;
        }
        self.incomplete = true;
        self.dead_from = None;
        let new_holes = self.holes.split_off(first_hole);
        let sure = |hole: &Range<u64>| {
            !doubtful.iter().any(|range| hole.start < range.end && range.start < hole.end)
        };
        self.holes.extend(new_holes.into_iter().filter(sure));
        for site in self.sites.iter_mut().skip(first_site) {
            site.doubtful = doubtful.iter().any(|range| range.contains(&site.address));
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

/// The instructions of a basic block up to here, as far as they may be moved.
#[derive(Default)]
struct BasicBlock {
    run: Vec<Neighbour>,
    /// What the last one loads into eax.
    number: Option<LoadedNumber>,
    /// Whether the last site still collects what is behind it.
    collecting: bool,
}

impl BasicBlock {
    fn extend(&mut self, instruction: &Instruction, last_site: Option<&mut Found>) {
        let touches_memory = instruction.mnemonic() != Mnemonic::Lea
            && instruction.mnemonic() != Mnemonic::Nop
            && (0..instruction.op_count()).any(|at| instruction.op_kind(at) == OpKind::Memory)
            || instruction.is_stack_instruction()
            || instruction.is_string_instruction();
        // An instruction has at most 15 bytes.
        let neighbour = Neighbour { len: u8::try_from(instruction.len()).unwrap_or(15), touches_memory };
        self.run.push(neighbour);
        self.number = loaded_number(instruction);
        if let Some(site) = last_site.filter(|_| self.collecting) {
            site.after.push(neighbour);
            self.collecting = total_len(&site.after) < NEIGHBOURHOOD;
        }
    }
}

/// Where decoding met what is no instruction, and so may have been wrong before and after.
///
/// In a function all of it is in doubt. In a stretch of many functions it is what lies between the second
/// boundary before and the second behind, a boundary being where something starts after an end of control flow.
struct Doubt {
    whole: bool,
    /// The last two boundaries.
    last: [u64; 2],
    ranges: Vec<Range<u64>>,
    /// Boundaries still to come before the last range ends.
    open: u8,
}

impl Doubt {
    fn new(chunk: &Chunk<'_>, whole: bool) -> Self {
        Self { whole, last: [chunk.start; 2], ranges: Vec::new(), open: 0 }
    }

    fn boundary(&mut self, address: u64) {
        self.last = [self.last[1], address];
        if self.open > 0 {
            self.open -= 1;
            if let Some(range) = self.ranges.last_mut() {
                range.end = address;
            }
        }
    }

    fn lost(&mut self, address: u64) {
        if self.open == 0 {
            self.ranges.push(self.last[0]..address);
        }
        self.open = 2;
    }

    /// What is in doubt, once the whole chunk is decoded.
    fn ranges(mut self, chunk: &Chunk<'_>) -> Vec<Range<u64>> {
        let end = chunk.start + chunk.bytes.len() as u64;
        for range in &mut self.ranges {
            if self.whole {
                *range = chunk.start..end;
            }
        }
        if self.open > 0
            && let Some(range) = self.ranges.last_mut()
        {
            range.end = end;
        }
        self.ranges
    }
}

/// The last instructions of a run, nearest first.
fn nearest(run: &[Neighbour]) -> Vec<Neighbour> {
    let mut near: Vec<Neighbour> = Vec::new();
    for neighbour in run.iter().rev() {
        if total_len(&near) >= NEIGHBOURHOOD {
            break;
        }
        near.push(*neighbour);
    }
    near
}

fn total_len(neighbours: &[Neighbour]) -> usize {
    neighbours.iter().map(|neighbour| usize::from(neighbour.len)).sum()
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
