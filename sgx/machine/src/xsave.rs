//! What the processor's XSAVE can do.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Features that an enclave can be given: x87, SSE, AVX, AVX-512. AMX and protection keys stay with the host.
pub(crate) const OFFERED: u64 = 0xe7;

/// XCR0, or 0 where the kernel has not enabled XSAVE.
pub(crate) fn xcr0() -> u64 {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that XGETBV is enabled; it only reads.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The XFRM bits that enclaves may use on this processor.
pub(crate) fn offered() -> u64 {
    xcr0() & OFFERED
}

/// Bytes of the XSAVE area, in the standard format, that holds the features in `xfrm`.
pub(crate) fn area_size(xfrm: u64) -> u64 {
    let mut size = sgx_arch::XSAVE_LEGACY;
    for feature in 2..63 {
        if xfrm & 1 << feature != 0 {
            let leaf = __cpuid_count(0xd, feature);
            size = size.max(u64::from(leaf.ebx) + u64::from(leaf.eax));
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_grows_with_the_features() {
        assert_eq!(area_size(3), 576);
        if offered() & 4 != 0 {
            assert_eq!(area_size(7), 576 + 256);
        }
        assert!(area_size(offered()) >= area_size(7 & offered()));
    }
}
