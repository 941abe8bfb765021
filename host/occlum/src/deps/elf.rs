//! What a program says about itself: which machine it is for, who interprets it, what it needs.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use std::fmt;

/// The parts of an ELF file that decide what else is needed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Elf {
    /// PT_INTERP.
    pub(crate) interpreter: Option<String>,
    /// DT_NEEDED, in order.
    pub(crate) needed: Vec<String>,
    /// DT_RPATH, split at the colons.
    pub(crate) rpath: Vec<String>,
    /// DT_RUNPATH, split at the colons. Where it is given, RPATH counts for nothing.
    pub(crate) runpath: Vec<String>,
    /// Bytes of memory that the segments take.
    pub(crate) memory: u64,
    /// Address of a segment that is writable and executable at once.
    pub(crate) writable_code: Option<u64>,
    /// Whether it can be started and not only loaded as a library.
    pub(crate) is_program: bool,
}

/// Why a file is not an ELF file of this machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// It does not start with the magic number.
    NotElf,
    /// Its headers speak of more than there is.
    Truncated { needs: u64, has: u64 },
    /// It is for another machine.
    Foreign(String),
    /// It is an object file, a core dump, or the like.
    Kind(&'static str),
    /// Its headers contradict themselves.
    Malformed(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotElf => f.write_str("it is neither an ELF file nor a script"),
            Trouble::Truncated { needs, has } => {
                write!(
                    f,
                    "the ELF file is truncated: its headers describe {needs} bytes, and there are {has}"
                )
            }
            Trouble::Foreign(machine) => write!(f, "it is a program for {machine}, not for x86-64"),
            Trouble::Kind(kind) => write!(f, "it is {kind}, not a program"),
            Trouble::Malformed(what) => write!(f, "the ELF file is malformed: {what}"),
        }
    }
}

impl std::error::Error for Trouble {}

type Header = elf::FileHeader64<LE>;
type Segment = elf::ProgramHeader64<LE>;

/// Reads the headers of the ELF file `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Elf, Trouble> {
    check_ident(bytes)?;
    let has = bytes.len() as u64;
    let header = Header::parse(bytes).map_err(|_| Trouble::Truncated { needs: 64, has })?;
    let is_program = match header.e_type.get(LE) {
        elf::ET_EXEC | elf::ET_DYN => header.e_entry.get(LE) != 0,
        elf::ET_REL => return Err(Trouble::Kind("an object file")),
        elf::ET_CORE => return Err(Trouble::Kind("a core dump")),
        _ => return Err(Trouble::Malformed("its type is unknown")),
    };
    let (phoff, phnum) = (header.e_phoff.get(LE), u64::from(header.e_phnum.get(LE)));
    let needs = phoff.saturating_add(phnum * size_of::<Segment>() as u64);
    if needs > has {
        return Err(Trouble::Truncated { needs, has });
    }
    let segments =
        header.program_headers(LE, bytes).map_err(|_| Trouble::Malformed("its program headers are wrong"))?;

    let mut elf = Elf { is_program, ..Elf::default() };
    let mut needs = 0;
    for segment in segments {
        let end = segment.p_offset.get(LE).checked_add(segment.p_filesz.get(LE));
        let end = end.ok_or(Trouble::Malformed("a segment's size overflows"))?;
        match segment.p_type.get(LE) {
            elf::PT_LOAD => {
                needs = needs.max(end);
                let memory = segment.p_memsz.get(LE);
                if memory < segment.p_filesz.get(LE) {
                    return Err(Trouble::Malformed("a segment is larger in the file than in memory"));
                }
                elf.memory = elf.memory.saturating_add(memory.saturating_add(0xfff) & !0xfff);
                if is_writable_code(segment) {
                    elf.writable_code = Some(segment.p_vaddr.get(LE));
                }
            }
            elf::PT_INTERP => needs = needs.max(end),
            _ => {}
        }
    }
    if needs > has {
        return Err(Trouble::Truncated { needs, has });
    }
    if elf.memory == 0 {
        return Err(Trouble::Malformed("it has nothing to load"));
    }
    for segment in segments {
        if let Ok(Some(path)) = segment.interpreter(LE, bytes) {
            elf.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
        if let Ok(Some(entries)) = segment.dynamic(LE, bytes) {
            read_dynamic(&mut elf, entries, segments, bytes)?;
        }
    }
    Ok(elf)
}

/// What the first page of a program tells, if its program headers are there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outline {
    /// Bytes of memory that the segments take.
    pub(crate) memory: u64,
    /// Address of a segment that is writable and executable at once.
    pub(crate) writable_code: Option<u64>,
}

/// Reads the first page of a program.
pub(crate) fn outline(head: &[u8]) -> Option<Outline> {
    check_ident(head).ok()?;
    let header = Header::parse(head).ok()?;
    let mut outline = Outline::default();
    for segment in header.program_headers(LE, head).ok()?.iter().filter(|s| s.p_type.get(LE) == elf::PT_LOAD)
    {
        outline.memory = outline.memory.saturating_add(segment.p_memsz.get(LE));
        if is_writable_code(segment) {
            outline.writable_code = Some(segment.p_vaddr.get(LE));
        }
    }
    Some(outline)
}

fn is_writable_code(segment: &Segment) -> bool {
    const BOTH: u32 = elf::PF_W | elf::PF_X;
    segment.p_flags.get(LE) & BOTH == BOTH
}

fn check_ident(bytes: &[u8]) -> Result<(), Trouble> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Trouble::NotElf);
    }
    let has = bytes.len() as u64;
    let Some(ident) = bytes.get(..20) else { return Err(Trouble::Truncated { needs: 64, has }) };
    if ident[5] == elf::ELFDATA2MSB {
        let machine = u16::from_be_bytes([ident[18], ident[19]]);
        return Err(Trouble::Foreign(machine_name(machine, true)));
    }
    let machine = u16::from_le_bytes([ident[18], ident[19]]);
    if machine == elf::EM_X86_64 && ident[4] == elf::ELFCLASS32 {
        return Err(Trouble::Foreign("the x32 ABI".into()));
    }
    if machine != elf::EM_X86_64 {
        return Err(Trouble::Foreign(machine_name(machine, false)));
    }
    Ok(())
}

fn machine_name(machine: u16, is_big_endian: bool) -> String {
    let name = match machine {
        elf::EM_386 => "32-bit x86",
        elf::EM_AARCH64 => "AArch64",
        elf::EM_ARM => "32-bit Arm",
        elf::EM_RISCV => "RISC-V",
        elf::EM_PPC64 => "POWER",
        elf::EM_S390 => "z/Architecture",
        elf::EM_MIPS => "MIPS",
        elf::EM_LOONGARCH => "LoongArch",
        other if is_big_endian => return format!("the big-endian machine number {other}"),
        other => return format!("machine number {other}"),
    };
    name.to_owned()
}

fn read_dynamic(
    elf: &mut Elf,
    entries: &[elf::Dyn64<LE>],
    segments: &[Segment],
    bytes: &[u8],
) -> Result<(), Trouble> {
    let value = |tag| entries.iter().find(|e| e.tag(LE) == tag).map(|e| e.val(LE));
    let Some(table) = value(elf::DT_STRTAB).and_then(|address| at_address(segments, bytes, address)) else {
        return Ok(());
    };
    let string = |offset: u64| -> Result<String, Trouble> {
        let rest = usize::try_from(offset).ok().and_then(|offset| table.get(offset..));
        let name = rest.and_then(|rest| rest.split(|b| *b == 0).next());
        let name = name.ok_or(Trouble::Malformed("a name lies outside of the string table"))?;
        Ok(String::from_utf8_lossy(name).into_owned())
    };
    let paths = |list: String| list.split(':').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    for entry in entries.iter().take_while(|e| e.tag(LE) != elf::DT_NULL) {
        match entry.tag(LE) {
            elf::DT_NEEDED => elf.needed.push(string(entry.val(LE))?),
            elf::DT_RPATH => elf.rpath = paths(string(entry.val(LE))?),
            elf::DT_RUNPATH => elf.runpath = paths(string(entry.val(LE))?),
            _ => {}
        }
    }
    Ok(())
}

/// The file's bytes from `address` to the end of its segment.
fn at_address<'a>(segments: &[Segment], bytes: &'a [u8], address: u64) -> Option<&'a [u8]> {
    segments.iter().filter(|s| s.p_type.get(LE) == elf::PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr.get(LE))?;
        let len = segment.p_filesz.get(LE).checked_sub(within).filter(|len| *len > 0)?;
        let start = usize::try_from(segment.p_offset.get(LE).checked_add(within)?).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(path: &str) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_dynamic_program_names_its_interpreter_and_libraries() {
        let elf = read(&bytes("/bin/true")).unwrap();
        assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(elf.needed, ["libc.so.6"]);
        assert!(elf.is_program && elf.memory > 0 && elf.writable_code.is_none());
    }

    #[test]
    fn the_first_page_tells_how_much_memory_a_program_takes() {
        let whole = bytes("/bin/true");
        let outline = outline(&whole[..4096]).unwrap();
        assert!(outline.memory > 0 && outline.memory <= read(&whole).unwrap().memory);
        assert_eq!(outline.writable_code, None);
        assert_eq!(super::outline(b"#!/bin/sh"), None);
    }

    #[test]
    fn the_test_binary_itself_can_be_read() {
        assert!(
            read(&std::fs::read("/proc/self/exe").unwrap()).unwrap().needed.contains(&"libc.so.6".into())
        );
    }

    #[test]
    fn any_cut_of_a_program_is_truncated_and_never_a_panic() {
        let whole = bytes("/bin/true");
        for cut in [5, 19, 20, 63, 64, 100, 1000, whole.len() / 2] {
            assert!(matches!(read(&whole[..cut]), Err(Trouble::Truncated { .. })), "{cut}");
        }
        assert_eq!(read(b""), Err(Trouble::NotElf));
        assert_eq!(read(b"\x7fEL"), Err(Trouble::NotElf));
    }

    #[test]
    fn headers_with_any_byte_flipped_never_panic() {
        let whole = bytes("/bin/true");
        for at in 0..1024 {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            let _ = read(&broken);
        }
    }

    #[test]
    fn foreign_machines_are_named() {
        let mut program = bytes("/bin/true");
        program[18..20].copy_from_slice(&elf::EM_AARCH64.to_le_bytes());
        let e = read(&program).unwrap_err();
        assert_eq!(e.to_string(), "it is a program for AArch64, not for x86-64");
        program[5] = elf::ELFDATA2MSB;
        program[18..20].copy_from_slice(&elf::EM_S390.to_be_bytes());
        assert_eq!(read(&program), Err(Trouble::Foreign("z/Architecture".into())));
        let mut program = bytes("/bin/true");
        program[4] = elf::ELFCLASS32;
        assert_eq!(read(&program), Err(Trouble::Foreign("the x32 ABI".into())));
    }

    #[test]
    fn writable_code_and_object_files_are_found_out() {
        let mut program = bytes("/bin/true");
        let header = Header::parse(&*program).unwrap();
        let phoff = header.e_phoff.get(LE) as usize;
        let segments = header.program_headers(LE, &*program).unwrap();
        let load = segments.iter().position(|s| s.p_type.get(LE) == elf::PT_LOAD).unwrap();
        program[phoff + load * size_of::<Segment>() + 4] |= 7;
        assert!(read(&program).unwrap().writable_code.is_some());
        program[16..18].copy_from_slice(&elf::ET_REL.to_le_bytes());
        assert_eq!(read(&program), Err(Trouble::Kind("an object file")));
    }
}
