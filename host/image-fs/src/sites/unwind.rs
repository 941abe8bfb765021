//! Functions as the unwind tables tell them (`.eh_frame_hdr` and `.eh_frame`, Linux Standard Base 10.6).
//!
//! Two facts are taken from here: where functions start and end, and whether one has landing pads, which are
//! jump targets that no instruction shows. What cannot be read counts as having them.

use std::collections::HashMap;
use std::ops::Range;

use super::elf::Elf;

/// A function with unwind information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) range: Range<u64>,
    /// Whether the unwinder may enter it in the middle.
    pub(super) has_landing_pads: bool,
}

/// Pointer encodings: `DW_EH_PE_*`.
const UDATA4: u8 = 0x03;
const PCREL_SDATA4: u8 = 0x1b;
const DATAREL_SDATA4: u8 = 0x3b;
const OMIT: u8 = 0xff;

/// A reader of consecutive fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    /// LEB128, signed or not, whose value does not matter or is small.
    fn leb128(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// An encoded pointer, as far as it is zero or not.
    fn pointer(&mut self, encoding: u8) -> Option<bool> {
        match encoding & 0x0f {
            0x02 | 0x0a => Some(self.take::<2>()? != [0; 2]),
            0x03 | 0x0b => Some(self.take::<4>()? != [0; 4]),
            0x00 | 0x04 | 0x0c => Some(self.take::<8>()? != [0; 8]),
            _ => None,
        }
    }
}

/// What a CIE says of its FDEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Common {
    /// Whether FDEs start with two 4-byte pc-relative fields.
    plain: bool,
    has_data: bool,
    /// Whether its functions are signal trampolines. Their ranges start a byte early, since unwinders look for
    /// the byte before a return address, and nothing "returns" behind the byte before a trampoline.
    is_signal: bool,
    /// Encoding of the pointer to the table of landing pads.
    lsda: Option<u8>,
}

/// All functions that the table at `header` lists, by start; none if its form is unusual.
pub(super) fn functions(elf: &Elf<'_>, header: u64) -> Vec<Function> {
    listed(elf, header).unwrap_or_default()
}

fn listed(elf: &Elf<'_>, header: u64) -> Option<Vec<Function>> {
    let mut fields = Fields(elf.content(header)?);
    if fields.take()? != [1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4] {
        return None;
    }
    fields.i32()?;
    let count = fields.u32()?;
    let mut commons = HashMap::new();
    let mut functions: Vec<Function> = Vec::new();
    let mut entries = Vec::new();
    for _ in 0..count {
        let start = header.wrapping_add_signed(fields.i32()?.into());
        let entry = header.wrapping_add_signed(fields.i32()?.into());
        entries.push((start, entry));
    }
    entries.sort_unstable();
    for (at, (start, entry)) in entries.iter().enumerate() {
        // Where the entry cannot be read, the function lasts to the next one.
        let next = entries.get(at + 1).map_or(*start, |(next, _)| *next);
        let described = describe(elf, *entry, &mut commons);
        let Described { len, has_landing_pads, is_signal } =
            described.unwrap_or(Described { len: next - start, has_landing_pads: true, is_signal: false });
        let (start, end) = (start + u64::from(is_signal), start.saturating_add(len));
        if elf.region(start).is_none_or(|region| end > region.end()) || end <= start {
            continue;
        }
        if let Some(last) = functions.last_mut() {
            last.range.end = last.range.end.min(start);
        }
        functions.push(Function { range: start..end, has_landing_pads });
    }
    Some(functions)
}

/// What an FDE says of its function.
struct Described {
    len: u64,
    has_landing_pads: bool,
    is_signal: bool,
}

fn describe(elf: &Elf<'_>, entry: u64, commons: &mut HashMap<u64, Option<Common>>) -> Option<Described> {
    let mut fields = Fields(elf.content(entry)?);
    let len = fields.u32()?;
    if len == 0 || len == u32::MAX {
        return None;
    }
    fields = Fields(fields.0.get(..usize::try_from(len).ok()?)?);
    let common = entry.wrapping_add(4).wrapping_sub(u64::from(fields.u32()?));
    let common = (*commons.entry(common).or_insert_with(|| read_common(elf, common)))?;
    if !common.plain {
        return None;
    }
    fields.i32()?;
    let mut described =
        Described { len: fields.u32()?.into(), has_landing_pads: false, is_signal: common.is_signal };
    if let Some(encoding) = common.lsda.filter(|encoding| *encoding != OMIT)
        && common.has_data
        && fields.leb128()? != 0
    {
        described.has_landing_pads = fields.pointer(encoding)?;
    }
    Some(described)
}

fn read_common(elf: &Elf<'_>, address: u64) -> Option<Common> {
    let mut fields = Fields(elf.content(address)?);
    fields.u32()?;
    if fields.u32()? != 0 {
        return None;
    }
    let version = fields.u8()?;
    let augmentation = fields.string()?;
    fields.leb128()?;
    fields.leb128()?;
    if version == 1 {
        fields.u8()?;
    } else {
        fields.leb128()?;
    }
    let mut common = Common::default();
    let Some(letters) = augmentation.strip_prefix(b"z") else {
        return augmentation.is_empty().then_some(common);
    };
    common.has_data = true;
    fields.leb128()?;
    for letter in letters {
        match letter {
            b'L' => common.lsda = Some(fields.u8()?),
            b'P' => {
                let encoding = fields.u8()?;
                fields.pointer(encoding)?;
            }
            b'R' => common.plain = fields.u8()? == PCREL_SDATA4,
            b'S' => common.is_signal = true,
            b'B' => {}
            _ => return None,
        }
    }
    Some(common)
}
