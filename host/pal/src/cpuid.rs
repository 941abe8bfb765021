//! The CPUID table that the enclave answers from.
//!
//! `cpuid` is illegal in an enclave, so the host measures it once. Features whose state is not in XFRM, or that an enclave
//! cannot use, are taken out, so that programs do not try them.

use core::arch::x86_64::__cpuid_count;
use edge_abi::ecall::CpuidEntry;

/// Leaves that have subleaves, and how many of them are looked at.
const SUBLEAVES: [(u32, u32); 6] = [(0x4, 8), (0x7, 3), (0xb, 4), (0xd, 10), (0x1f, 4), (0x8000_001d, 8)];
const HIGHEST_BASIC: u32 = 0x1f;
const HIGHEST_EXTENDED: u32 = 0x8000_0021;

/// Measures the table for enclaves with these extended features.
pub(crate) fn table(xfrm: u64) -> Vec<CpuidEntry> {
    let mut rows = Vec::new();
    let basic = __cpuid_count(0, 0).eax.min(HIGHEST_BASIC);
    let extended = __cpuid_count(0x8000_0000, 0).eax.min(HIGHEST_EXTENDED);
    for leaf in (0..=basic).chain(0x8000_0000..=extended) {
        let count = SUBLEAVES.iter().find(|&&(with, _)| with == leaf).map(|&(_, count)| count);
        for subleaf in 0..count.unwrap_or(1) {
            let raw = __cpuid_count(leaf, subleaf);
            let mut row = CpuidEntry {
                leaf,
                // A leaf without subleaves answers whatever ECX is.
                subleaf: if count.is_some() { subleaf } else { u32::MAX },
                eax: raw.eax,
                ebx: raw.ebx,
                ecx: raw.ecx,
                edx: raw.edx,
            };
            adjust(&mut row, xfrm);
            rows.push(row);
        }
    }
    rows
}

fn adjust(row: &mut CpuidEntry, xfrm: u64) {
    const PKU_OSPKE_SHSTK: u32 = 1 << 3 | 1 << 4 | 1 << 7;
    const AMX_IBT: u32 = 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25;
    const SGX: u32 = 1 << 2;
    match (row.leaf, row.subleaf) {
        (0x7, 0) => {
            row.ebx &= !SGX;
            row.ecx &= !PKU_OSPKE_SHSTK;
            row.edx &= !AMX_IBT;
        }
        (0xd, 0) => {
            row.eax &= xfrm as u32;
            row.edx &= (xfrm >> 32) as u32;
        }
        // XSAVES and its supervisor components need ring 0.
        (0xd, 1) => {
            row.eax &= !(1 << 3);
            row.ecx = 0;
            row.edx = 0;
        }
        (0xd, component) if xfrm & 1u64.checked_shl(component).unwrap_or(0) == 0 => {
            (row.eax, row.ebx, row.ecx, row.edx) = (0, 0, 0, 0);
        }
        (0x12, _) => (row.eax, row.ebx, row.ecx, row.edx) = (0, 0, 0, 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_outside_xfrm_are_hidden() {
        let rows = table(0xe7);
        let row = |leaf, subleaf| rows.iter().find(|row| row.leaf == leaf && row.subleaf == subleaf).unwrap();
        assert_eq!(row(0x7, 0).ecx & (1 << 3), 0);
        assert_eq!(u64::from(row(0xd, 0).eax) & !0xe7, 0);
        assert_eq!(row(0, u32::MAX).ebx, __cpuid_count(0, 0).ebx);
    }
}
