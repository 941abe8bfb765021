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

    #[test]
    fn what_is_illegal_in_an_enclave_is_caught() {
        let illegal: &[(&str, &[u8])] = &[
            ("cpuid", &[0x0f, 0xa2]),
            ("syscall", &[0x0f, 0x05]),
            ("sysenter", &[0x0f, 0x34]),
            ("int 0x80", &[0xcd, 0x80]),
            ("in", &[0xec]),
            ("outsb", &[0x6e]),
            ("hlt", &[0xf4]),
            ("getsec", &[0x0f, 0x37]),
            ("rdtscp", &[0x0f, 0x01, 0xf9]),
            ("rdpmc", &[0x0f, 0x33]),
            ("sgdt", &[0x0f, 0x01, 0x00]),
            ("str", &[0x0f, 0x00, 0xc8]),
            ("retf", &[0xcb]),
            ("iretq", &[0x48, 0xcf]),
            ("far jmp", &[0xff, 0x28]),
            ("far call", &[0xff, 0x18]),
            ("mov ds, eax", &[0x8e, 0xd8]),
            ("pop fs", &[0x0f, 0xa1]),
            ("lgs", &[0x0f, 0xb5, 0x00]),
            ("mov rax, fs:0", &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]),
            ("vzeroupper", &[0xc5, 0xf8, 0x77]),
            ("invlpg", &[0x0f, 0x01, 0x38]),
        ];
        for (name, code) in illegal {
            assert!(verdict_on(code).is_some(), "{name} passes");
        }
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
