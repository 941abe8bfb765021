//! `/proc/cpuinfo`, from what `cpuid` answers in the enclave.

use super::{Shared, Text, put};
use crate::Kernel;
use alloc::string::String;
use alloc::vec::Vec;
use kbase::Result;
use platform::{CpuidResult, UserCpu};

/// Flags of leaf 1 EDX, by bit; empty names are not shown.
const LEAF1_EDX: [&str; 32] = [
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca",
    "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht",
    "tm", "ia64", "pbe",
];

/// Flags of leaf 1 ECX.
const LEAF1_ECX: [&str; 32] = [
    "pni",
    "pclmulqdq",
    "dtes64",
    "monitor",
    "ds_cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "ssse3",
    "cid",
    "sdbg",
    "fma",
    "cx16",
    "xtpr",
    "pdcm",
    "",
    "pcid",
    "dca",
    "sse4_1",
    "sse4_2",
    "x2apic",
    "movbe",
    "popcnt",
    "tsc_deadline_timer",
    "aes",
    "xsave",
    "",
    "avx",
    "f16c",
    "rdrand",
    "hypervisor",
];

/// Flags of leaf 7 EBX.
const LEAF7_EBX: [&str; 32] = [
    "fsgsbase",
    "tsc_adjust",
    "sgx",
    "bmi1",
    "hle",
    "avx2",
    "",
    "smep",
    "bmi2",
    "erms",
    "invpcid",
    "rtm",
    "cqm",
    "",
    "mpx",
    "rdt_a",
    "avx512f",
    "avx512dq",
    "rdseed",
    "adx",
    "smap",
    "avx512ifma",
    "",
    "clflushopt",
    "clwb",
    "intel_pt",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "sha_ni",
    "avx512bw",
    "avx512vl",
];

/// Flags of leaf 7 ECX.
const LEAF7_ECX: [&str; 32] = [
    "",
    "avx512vbmi",
    "umip",
    "pku",
    "ospke",
    "waitpkg",
    "avx512_vbmi2",
    "",
    "gfni",
    "vaes",
    "vpclmulqdq",
    "avx512_vnni",
    "avx512_bitalg",
    "tme",
    "avx512_vpopcntdq",
    "",
    "la57",
    "",
    "",
    "",
    "",
    "",
    "rdpid",
    "",
    "",
    "cldemote",
    "",
    "movdiri",
    "movdir64b",
    "enqcmd",
    "sgx_lc",
    "",
];

/// Flags of leaf 0x80000001 EDX that leaf 1 does not have.
const EXTENDED_EDX: [(u32, &str); 5] =
    [(11, "syscall"), (20, "nx"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm")];

/// Flags of leaf 0x80000001 ECX.
const EXTENDED_ECX: [(u32, &str); 5] =
    [(0, "lahf_lm"), (5, "abm"), (6, "sse4a"), (7, "misalignsse"), (8, "3dnowprefetch")];

fn flags(cpu: &dyn UserCpu) -> Vec<&'static str> {
    let (one, seven) = (cpu.cpuid(1, 0), cpu.cpuid(7, 0));
    let extended = cpu.cpuid(0x8000_0001, 0);
    let has = |register: u32, bit: u32| register & (1 << bit) != 0;
    let mut flags = Vec::new();
    let tables =
        [(one.edx, &LEAF1_EDX), (one.ecx, &LEAF1_ECX), (seven.ebx, &LEAF7_EBX), (seven.ecx, &LEAF7_ECX)];
    for (register, names) in tables {
        let found = (0u32..).zip(names.iter()).filter(|&(bit, name)| has(register, bit) && !name.is_empty());
        flags.extend(found.map(|(_, name)| *name));
    }
    for (register, names) in [(extended.edx, &EXTENDED_EDX), (extended.ecx, &EXTENDED_ECX)] {
        flags.extend(names.iter().filter(|&&(bit, _)| has(register, bit)).map(|&(_, name)| name));
    }
    flags
}

/// The characters in registers, in order.
fn characters(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim().into()
}

fn brand(cpu: &dyn UserCpu) -> String {
    let parts = (0x8000_0002..=0x8000_0004).map(|leaf| cpu.cpuid(leaf, 0));
    let registers: Vec<u32> =
        parts.flat_map(|CpuidResult { eax, ebx, ecx, edx }| [eax, ebx, ecx, edx]).collect();
    characters(&registers)
}

pub(super) fn cpuinfo(kernel: &Kernel, _: &Shared, text: &mut Text) -> Result<()> {
    let platform = kernel.platform();
    let cpu: &dyn UserCpu = &**platform;
    let zero = cpu.cpuid(0, 0);
    let one = cpu.cpuid(1, 0);
    let family = (one.eax >> 8) & 0xf;
    let family = if family == 0xf { family + ((one.eax >> 20) & 0xff) } else { family };
    let model = ((one.eax >> 4) & 0xf) | ((one.eax >> 12) & 0xf0);
    let cpus = platform.host_facts().cpus.max(1);
    let (vendor, brand, flags) = (characters(&[zero.ebx, zero.edx, zero.ecx]), brand(cpu), flags(cpu));
    for number in 0..cpus {
        put!(text, "processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: {family}\n");
        put!(text, "model\t\t: {model}\nmodel name\t: {brand}\nstepping\t: {}\n", one.eax & 0xf);
        put!(text, "cpu MHz\t\t: 2000.000\ncache size\t: 1024 KB\nphysical id\t: 0\n");
        put!(text, "siblings\t: {cpus}\ncore id\t\t: {number}\ncpu cores\t: {cpus}\n");
        put!(text, "apicid\t\t: {number}\nfpu\t\t: yes\nfpu_exception\t: yes\n");
        put!(text, "cpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {}\n", zero.eax, flags.join(" "));
        put!(text, "bogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n");
        put!(text, "address sizes\t: 46 bits physical, 48 bits virtual\n\n");
    }
    Ok(())
}
