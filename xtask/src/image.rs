//! The instructions of the enclave image.
//!
//! An instruction that is illegal in an enclave is a fault on the first processor that meets it, and one that the software
//! machine may well let pass. So the whole image is disassembled and nothing is left to a test that happens to get there.

use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction, Mnemonic, Register};
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, Rela};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type File<'data> = ElfFile64<'data, Endianness>;

/// The module that may read the time stamp counter: it asks first whether that is legal.
const TSC: &str = "clock::";
/// A stripped image names nothing. Then these are the sites that the module accounts for: the functions of the vDSO call
/// nothing and have it inlined.
const TSC_SITES: usize = 5;

/// What linkers put between pieces of code: zeros and `int3`.
const PADDING: [u8; 2] = [0, 0xcc];

/// What a build of the command left.
pub(crate) struct Build {
    /// The image.
    pub(crate) image: PathBuf,
    /// The program that made it.
    pub(crate) script: PathBuf,
}

/// Builds the command, and with it the image.
///
/// # Errors
///
/// When the build fails, or cargo does not say where it put the image.
pub(crate) fn build() -> Result<Build> {
    let output = workspace::cargo()
        .args(["build", "--release", "--package", "occlum", "--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo build")?;
    ensure!(output.status.success(), "the command does not build");
    let messages: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let (package, image) = messages
        .iter()
        .filter(|message| message["reason"] == "build-script-executed")
        .filter_map(|message| {
            Some((&message["package_id"], Path::new(message["out_dir"].as_str()?).join("libos.elf")))
        })
        .find(|(_, file)| file.exists())
        .context("cargo names no build script that left a `libos.elf`")?;
    let script = messages
        .iter()
        .filter(|message| message["reason"] == "compiler-artifact" && message["package_id"] == *package)
        .find(|message| message["target"]["kind"][0] == "custom-build")
        .and_then(|message| message["filenames"][0].as_str())
        .context("cargo does not name the build script")?;
    Ok(Build { image, script: script.into() })
}

/// Runs the check on the image in `path`.
///
/// # Errors
///
/// When the file is not an ELF file, or does what an enclave may not.
pub(crate) fn run(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = File::parse(&*bytes).with_context(|| path.display().to_string())?;
    let report = inspect(&file)?;
    workspace::verdict("image", &report.offenders)?;
    println!(
        "image: {} instructions and {} relocations, all legal in an enclave ({})",
        report.instructions,
        report.relocations,
        path.display()
    );
    Ok(())
}

#[derive(Default)]
struct Report {
    instructions: usize,
    relocations: usize,
    offenders: Vec<String>,
}

fn inspect(file: &File<'_>) -> Result<Report> {
    let mut report = Report::default();
    check_code(file, &mut report)?;
    check_headers(file, &mut report)?;
    Ok(report)
}

fn check_code(file: &File<'_>, report: &mut Report) -> Result<()> {
    let names = Names::of(file);
    let mut tsc_sites = 0;
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        let code = section.data()?;
        let mut decoder = Decoder::with_ip(64, code, section.address(), DecoderOptions::NONE);
        for instruction in &mut decoder {
            report.instructions += 1;
            if instruction.mnemonic() == Mnemonic::Rdtsc {
                tsc_sites += 1;
            }
            if let Some(why) = offence(&instruction, &names, tsc_sites) {
                let at = instruction.ip();
                report.offenders.push(format!(
                    "{at:#x} in {}: {:?}: {why}",
                    names.at(at),
                    instruction.code()
                ));
            }
        }
    }
    ensure!(report.instructions > 0, "the file has no executable section");
    check_cover(file, report)
}

/// Bytes that are executable but in no section would not be looked at: there may be none but padding.
fn check_cover(file: &File<'_>, report: &mut Report) -> Result<()> {
    let (endian, data) = (file.endian(), file.data());
    let mut looked_at: Vec<(u64, u64)> = file
        .sections()
        .filter(|section| matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0))
        .map(|section| (section.address(), section.address().saturating_add(section.size())))
        .collect();
    looked_at.sort_unstable();
    for header in file.elf_header().program_headers(endian, data)? {
        if header.p_type(endian) != elf::PT_LOAD || header.p_flags(endian) & elf::PF_X == 0 {
            continue;
        }
        let Ok(bytes) = header.data(endian, data) else { bail!("a segment is not in the file") };
        for (at, &byte) in (header.p_vaddr(endian)..).zip(bytes) {
            let is_covered = looked_at.iter().any(|&(start, end)| (start..end).contains(&at));
            if !is_covered && !PADDING.contains(&byte) {
                report.offenders.push(format!("{at:#x}: executable, and in no section"));
                break;
            }
        }
    }
    Ok(())
}

/// Says what is wrong with an instruction, if anything is.
///
/// The rules are those of the SDM, volume 3D, "Illegal instructions" inside an enclave, and two of this project: FS belongs to
/// the user program, and nothing wider than xmm is saved on the way in.
fn offence(instruction: &Instruction, names: &Names, tsc_sites: usize) -> Option<&'static str> {
    use Mnemonic as M;
    if instruction.is_invalid() {
        return Some("not an instruction");
    }
    if instruction.segment_prefix() == Register::FS {
        return Some("FS belongs to the user program");
    }
    if instruction.code().encoding() != EncodingKind::Legacy {
        return Some("the state above xmm belongs to the user program");
    }
    match instruction.mnemonic() {
        M::Rdtsc => {
            let is_in_place = if names.is_empty() {
                tsc_sites <= TSC_SITES
            } else {
                names.at(instruction.ip()).contains(TSC)
            };
            return (!is_in_place).then_some("only rt::clock may read the time stamp counter");
        }
        M::Rdtscp | M::Rdpmc => return Some("illegal before SGX2"),
        M::Cpuid | M::Getsec | M::Vmcall | M::Vmfunc | M::Vmmcall | M::Encls | M::Enclv => {
            return Some("illegal in an enclave");
        }
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => return Some("illegal in an enclave"),
        M::Int | M::Int1 | M::Into | M::Syscall | M::Sysenter | M::Sysexit | M::Sysret => {
            return Some("a call of the kernel cannot leave an enclave");
        }
        M::In | M::Out | M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => {
            return Some("input and output are illegal in an enclave");
        }
        M::Lss | M::Lfs | M::Lgs | M::Retf | M::Iret | M::Iretd | M::Iretq => {
            return Some("far transfers and segment loads are illegal in an enclave");
        }
        _ => {}
    }
    if is_far(instruction.code()) || loads_segment(instruction) {
        return Some("far transfers and segment loads are illegal in an enclave");
    }
    (instruction.is_privileged() && instruction.flow_control() != FlowControl::Exception)
        .then_some("privileged")
}

fn is_far(code: Code) -> bool {
    matches!(
        code,
        Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
            | Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
    )
}

/// `mov` or `pop` to a segment register.
fn loads_segment(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop)
        && instruction.op0_register().is_segment_register()
}

fn check_headers(file: &File<'_>, report: &mut Report) -> Result<()> {
    let (endian, data) = (file.endian(), file.data());
    let mut relocations = Vec::new();
    for header in file.elf_header().program_headers(endian, data)? {
        match header.p_type(endian) {
            elf::PT_INTERP => report.offenders.push("the image asks for a dynamic linker".into()),
            elf::PT_TLS => report.offenders.push("the image has thread-local storage, which needs FS".into()),
            elf::PT_LOAD if header.p_flags(endian) & (elf::PF_W | elf::PF_X) == elf::PF_W | elf::PF_X => {
                report.offenders.push("a segment is both writable and executable".into());
            }
            elf::PT_DYNAMIC => {
                let entries = header.dynamic(endian, data)?.context("an empty dynamic segment")?;
                relocations = rela_table(file, entries, &mut report.offenders)?;
            }
            _ => {}
        }
    }
    report.relocations = relocations.len();
    for (offset, kind) in relocations {
        if kind != elf::R_X86_64_RELATIVE {
            report
                .offenders
                .push(format!("relocation of type {kind} at {offset:#x}: only RELATIVE ones can be applied"));
        }
    }
    Ok(())
}

/// Offset and type of each relocation that the dynamic section names.
fn rela_table(
    file: &File<'_>,
    entries: &[elf::Dyn64<Endianness>],
    offenders: &mut Vec<String>,
) -> Result<Vec<(u64, u32)>> {
    let endian = file.endian();
    let tags: BTreeMap<i64, u64> =
        entries.iter().map(|entry| (entry.d_tag(endian), entry.d_val(endian))).collect();
    let tag = |name: i64| tags.get(&name).copied();
    for name in [elf::DT_NEEDED, elf::DT_REL, elf::DT_RELR, elf::DT_JMPREL, elf::DT_TEXTREL] {
        if tag(name).is_some() {
            offenders
                .push(format!("the dynamic section has an entry {name}, which the builder does not apply"));
        }
    }
    let (Some(address), Some(size)) = (tag(elf::DT_RELA), tag(elf::DT_RELASZ)) else { return Ok(Vec::new()) };
    let table = bytes_at(file, address, size).context("the table of relocations is not in a segment")?;
    let Ok(entries) = object::slice_from_all_bytes::<elf::Rela64<Endianness>>(table) else {
        bail!("the table of relocations ends in the middle of one");
    };
    Ok(entries.iter().map(|entry| (entry.r_offset(endian), entry.r_type(endian, false))).collect())
}

fn bytes_at<'data>(file: &File<'data>, address: u64, size: u64) -> Option<&'data [u8]> {
    let (endian, data) = (file.endian(), file.data());
    let headers = file.elf_header().program_headers(endian, data).ok()?;
    headers
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD)
        .find_map(|header| header.data_range(endian, data, address, size).ok().flatten())
}

/// Symbols by address.
struct Names(BTreeMap<u64, String>);

impl Names {
    fn of(file: &File<'_>) -> Self {
        let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        Self(functions.map(|symbol| (symbol.address(), plain(symbol.name().unwrap_or_default()))).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn at(&self, address: u64) -> &str {
        self.0.range(..=address).next_back().map_or("a stripped function", |(_, name)| name)
    }
}

/// Makes a mangled name readable enough to search for: `_ZN..5clock3tsc17h..E` to `clock::tsc`.
fn plain(mangled: &str) -> String {
    let Some(mut rest) = mangled.strip_prefix("_ZN") else { return mangled.to_owned() };
    let mut parts = Vec::new();
    while let Some(end) = rest.find(|character: char| !character.is_ascii_digit()).filter(|&end| end > 0) {
        let Some(part) = rest[..end].parse().ok().and_then(|length: usize| rest[end..].get(..length)) else {
            break;
        };
        rest = &rest[end + part.len()..];
        parts.push(part);
    }
    parts.pop();
    parts.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_on(code: &[u8]) -> Option<&'static str> {
        let instruction = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).decode();
        offence(&instruction, &Names(BTreeMap::new()), 1)
    }

    /// What an enclave may not execute, one of each class.
    const ILLEGAL: &[(&str, &[u8])] = &[
        ("cpuid", &[0x0f, 0xa2]),
        ("getsec", &[0x0f, 0x37]),
        ("vmcall", &[0x0f, 0x01, 0xc1]),
        ("vmfunc", &[0x0f, 0x01, 0xd4]),
        ("encls", &[0x0f, 0x01, 0xcf]),
        ("enclv", &[0x0f, 0x01, 0xc0]),
        ("syscall", &[0x0f, 0x05]),
        ("sysret", &[0x0f, 0x07]),
        ("sysenter", &[0x0f, 0x34]),
        ("sysexit", &[0x0f, 0x35]),
        ("int 0x80", &[0xcd, 0x80]),
        ("int 3 in two bytes", &[0xcd, 0x03]),
        ("int1", &[0xf1]),
        ("in al, dx", &[0xec]),
        ("in eax, 0x70", &[0xe5, 0x70]),
        ("out dx, al", &[0xee]),
        ("out 0x80, al", &[0xe6, 0x80]),
        ("insb", &[0x6c]),
        ("rep insd", &[0xf3, 0x6d]),
        ("outsb", &[0x6e]),
        ("rep outsw", &[0xf3, 0x66, 0x6f]),
        ("hlt", &[0xf4]),
        ("cli", &[0xfa]),
        ("wrmsr", &[0x0f, 0x30]),
        ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
        ("mov dr7, rax", &[0x0f, 0x23, 0xf8]),
        ("invlpg", &[0x0f, 0x01, 0x38]),
        ("swapgs", &[0x0f, 0x01, 0xf8]),
        ("rdtscp", &[0x0f, 0x01, 0xf9]),
        ("rdpmc", &[0x0f, 0x33]),
        ("sgdt", &[0x0f, 0x01, 0x00]),
        ("sidt", &[0x0f, 0x01, 0x08]),
        ("sldt", &[0x0f, 0x00, 0xc0]),
        ("str", &[0x0f, 0x00, 0xc8]),
        ("smsw", &[0x0f, 0x01, 0xe0]),
        ("lgdt", &[0x0f, 0x01, 0x10]),
        ("retf", &[0xcb]),
        ("retf 8", &[0xca, 8, 0]),
        ("iretq", &[0x48, 0xcf]),
        ("iretd", &[0xcf]),
        ("far jmp", &[0xff, 0x28]),
        ("far jmp, 64 bits", &[0x48, 0xff, 0x28]),
        ("far call", &[0xff, 0x18]),
        ("far call, 64 bits", &[0x48, 0xff, 0x18]),
        ("mov ds, eax", &[0x8e, 0xd8]),
        ("mov ss, eax", &[0x8e, 0xd0]),
        ("pop fs", &[0x0f, 0xa1]),
        ("pop gs", &[0x0f, 0xa9]),
        ("lss", &[0x0f, 0xb2, 0x00]),
        ("lfs", &[0x0f, 0xb4, 0x00]),
        ("lgs", &[0x0f, 0xb5, 0x00]),
        ("mov rax, fs:0", &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
        ("mov fs:[rdi], eax", &[0x64, 0x89, 0x07]),
        ("jmp fs:[rax]", &[0x64, 0xff, 0x20]),
        ("vzeroupper, VEX", &[0xc5, 0xf8, 0x77]),
        ("vmovaps ymm0, ymm1, VEX", &[0xc5, 0xfc, 0x28, 0xc1]),
        ("vmovaps zmm0, zmm1, EVEX", &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1]),
        ("no instruction", &[0x06]),
    ];

    #[test]
    fn what_is_illegal_in_an_enclave_is_caught() {
        for (name, code) in ILLEGAL {
            assert!(verdict_on(code).is_some(), "{name} passes");
            let instruction = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).decode();
            assert_eq!(instruction.is_invalid(), *name == "no instruction", "{name}");
            assert_eq!(instruction.len(), code.len(), "{name}");
        }
    }

    /// An image with two segments, code and data, and a dynamic section at the start of the data.
    struct Planted {
        code: Vec<u8>,
        /// Bytes of it that are in no section.
        hidden: u64,
        data_flags: u32,
        /// (type, offset in the data, bytes)
        more_headers: Vec<(u32, u64, u64)>,
        dynamic: Vec<(i64, u64)>,
        /// What follows the dynamic section, at [`RELA`].
        rela: Vec<[u64; 3]>,
    }

    const CODE_AT: u64 = 0x1000;
    const DATA_AT: u64 = 0x2000;
    const RELA: u64 = DATA_AT + 0x100;

    impl Planted {
        fn new() -> Self {
            Self {
                // ret
                code: vec![0xc3],
                hidden: 0,
                data_flags: elf::PF_R | elf::PF_W,
                more_headers: Vec::new(),
                dynamic: vec![
                    (elf::DT_RELA, RELA),
                    (elf::DT_RELASZ, 24),
                    (elf::DT_RELAENT, 24),
                    (elf::DT_NULL, 0),
                ],
                rela: vec![[DATA_AT + 0x800, elf::R_X86_64_RELATIVE.into(), CODE_AT]],
            }
        }

        fn bytes(&self) -> Vec<u8> {
            let mut file = vec![0; 0x4000];
            let put = |file: &mut Vec<u8>, at: u64, bytes: &[u8]| {
                let at = usize::try_from(at).unwrap();
                file[at..at + bytes.len()].copy_from_slice(bytes);
            };
            let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
            let names = b"\0.text\0.shstrtab\0";
            let code_len = self.code.len() as u64;
            let mut headers = vec![
                (elf::PT_LOAD, elf::PF_R | elf::PF_X, CODE_AT, code_len),
                (elf::PT_LOAD, self.data_flags, DATA_AT, 0x1000),
                (elf::PT_DYNAMIC, elf::PF_R, DATA_AT, 16 * self.dynamic.len() as u64),
            ];
            headers.extend(
                self.more_headers.iter().map(|&(kind, at, len)| (kind, elf::PF_R, DATA_AT + at, len)),
            );

            put(&mut file, 0, b"\x7fELF\x02\x01\x01");
            put(&mut file, 16, &[3, 0, 62, 0, 1, 0, 0, 0]);
            put(&mut file, 24, &words(&[CODE_AT, 64, 0x3000]));
            let count = u8::try_from(headers.len()).unwrap();
            put(&mut file, 52, &[64, 0, 56, 0, count, 0, 64, 0, 3, 0, 2, 0]);
            for (index, &(kind, flags, at, len)) in headers.iter().enumerate() {
                let kind_and_flags = u64::from(kind) | u64::from(flags) << 32;
                let header = words(&[kind_and_flags, at, at, at, len, len, 0x1000]);
                put(&mut file, 64 + 56 * index as u64, &header);
            }
            put(&mut file, CODE_AT, &self.code);
            for (index, &(tag, value)) in self.dynamic.iter().enumerate() {
                put(&mut file, DATA_AT + 16 * index as u64, &words(&[tag.cast_unsigned(), value]));
            }
            for (index, entry) in self.rela.iter().enumerate() {
                put(&mut file, RELA + 24 * index as u64, &words(entry));
            }
            put(&mut file, 0x3800, names);
            let executable = u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR);
            let text = [1 | 1 << 32, executable, CODE_AT, CODE_AT, code_len - self.hidden, 0, 1, 0];
            put(&mut file, 0x3040, &words(&text));
            let strings = [7 | 3 << 32, 0, 0, 0x3800, names.len() as u64, 0, 1, 0];
            put(&mut file, 0x3080, &words(&strings));
            file
        }

        /// What the check of the file says, line by line.
        fn offenders(&self) -> Vec<String> {
            let bytes = self.bytes();
            inspect(&File::parse(&*bytes).unwrap()).unwrap().offenders
        }
    }

    #[test]
    fn an_image_with_an_illegal_instruction_in_its_middle_does_not_pass() {
        assert_eq!(Planted::new().offenders(), [""; 0], "an image without one does");
        for (name, code) in ILLEGAL {
            // nop; CODE; ret
            let planted = Planted { code: [&[0x90], *code, &[0xc3]].concat(), ..Planted::new() };
            let offenders = planted.offenders();
            assert!(!offenders.is_empty(), "{name} passes");
            assert!(offenders[0].starts_with("0x1001 in "), "{name}: {offenders:?}");
        }
        let rdtsc = |count| Planted { code: [0x0f, 0x31].repeat(count), ..Planted::new() };
        assert_eq!(rdtsc(TSC_SITES).offenders(), [""; 0]);
        assert_eq!(rdtsc(TSC_SITES + 2).offenders().len(), 2);
    }

    #[test]
    fn code_that_is_in_no_section_does_not_hide_from_the_check() {
        let hiding = |code: &[u8], hidden| Planted { code: code.to_vec(), hidden, ..Planted::new() };
        assert_eq!(hiding(&[0xc3, 0xcc, 0, 0xcc], 3).offenders(), [""; 0], "padding");
        let found = hiding(&[0xc3, 0xcc, 0x0f, 0x05], 3).offenders();
        assert_eq!(found, ["0x1002: executable, and in no section"]);
    }

    #[test]
    fn an_image_that_needs_more_than_relative_relocations_does_not_pass() {
        for kind in [1, elf::R_X86_64_COPY, elf::R_X86_64_GLOB_DAT, elf::R_X86_64_JUMP_SLOT, 18, 37] {
            let mut planted = Planted::new();
            planted.rela[0][1] = kind.into();
            assert_eq!(
                planted.offenders(),
                [format!("relocation of type {kind} at 0x2800: only RELATIVE ones can be applied")]
            );
        }
        for tag in [elf::DT_NEEDED, elf::DT_REL, elf::DT_RELR, elf::DT_JMPREL, elf::DT_TEXTREL] {
            let mut planted = Planted::new();
            planted.dynamic.insert(0, (tag, 0));
            assert_eq!(planted.offenders().len(), 1, "{tag}");
        }
        let mut none = Planted::new();
        none.dynamic = vec![(elf::DT_NULL, 0)];
        assert_eq!(none.offenders(), [""; 0], "or none");
    }

    #[test]
    fn an_image_with_other_headers_than_those_of_an_enclave_does_not_pass() {
        let with = |kind| Planted { more_headers: vec![(kind, 0x400, 8)], ..Planted::new() }.offenders();
        assert_eq!(with(elf::PT_INTERP), ["the image asks for a dynamic linker"]);
        assert_eq!(with(elf::PT_TLS), ["the image has thread-local storage, which needs FS"]);
        let data_flags = elf::PF_R | elf::PF_W | elf::PF_X;
        let offenders = Planted { data_flags, ..Planted::new() }.offenders();
        assert!(offenders.iter().any(|line| line == "a segment is both writable and executable"));
    }

    #[test]
    fn what_an_enclave_needs_passes() {
        let legal: &[(&str, &[u8])] = &[
            ("enclu", &[0x0f, 0x01, 0xd7]),
            ("ud2", &[0x0f, 0x0b]),
            ("int3, the linker's padding", &[0xcc]),
            ("wrfsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
            ("mov rax, gs:0", &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
            ("movaps xmm0, xmm1", &[0x0f, 0x28, 0xc1]),
            ("rep movsb", &[0xf3, 0xa4]),
            ("xsave64", &[0x48, 0x0f, 0xae, 0x20]),
            ("rdrand eax", &[0x0f, 0xc7, 0xf0]),
            ("mov eax, ds", &[0x8c, 0xd8]),
        ];
        for (name, code) in legal {
            assert_eq!(verdict_on(code), None, "{name}");
        }
    }

    #[test]
    fn the_time_stamp_counter_is_read_in_one_place() {
        let rdtsc = Decoder::with_ip(64, &[0x0f, 0x31], 0x1000, DecoderOptions::NONE).decode();
        let stripped = Names(BTreeMap::new());
        assert!(offence(&rdtsc, &stripped, TSC_SITES).is_none());
        assert!(offence(&rdtsc, &stripped, TSC_SITES + 1).is_some());
        let named = |name: &str| Names(BTreeMap::from([(0x1000, plain(name))]));
        assert!(offence(&rdtsc, &named("_ZN9occlum_rt5clock3tsc17h0123456789abcdefE"), 1).is_none());
        assert!(offence(&rdtsc, &named("_ZN9occlum_rt5other3now17h0123456789abcdefE"), 1).is_some());
    }

    #[test]
    fn an_ordinary_program_does_not_pass() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = File::parse(&*own).unwrap();
        let report = inspect(&file).unwrap();
        assert!(report.offenders.iter().any(|offender| offender.contains("dynamic linker")));
        assert!(report.offenders.iter().any(|offender| offender.contains("FS belongs")));
    }
}
