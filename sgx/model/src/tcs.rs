//! Rules about the TCS: what EADD and EACCEPT take, and when EENTER and ERESUME may use it.

use crate::Elrange;
use crate::fault::Fault;
use sgx_arch::{Tcs, TcsFlags};

/// Checks the content of a page that becomes a TCS (SDM EADD, EACCEPT).
///
/// # Errors
/// #GP a reserved field is set, DBGOPTIN is set, the processor's own fields are not zero, an offset is not
/// page-aligned or leads out of ELRANGE, or a segment limit is not one less than a multiple of the page size.
pub fn check_new(tcs: &Tcs, elrange: Elrange) -> Result<(), Fault> {
    let aligned = |offset: u64| offset.is_multiple_of(4096);
    let fine = tcs.state == 0
        && tcs.cssa == 0
        && tcs.aep == 0
        && tcs.prevssp == 0
        && tcs.reserved == [0; 4008]
        && tcs.flags.bits() & !TcsFlags::AEXNOTIFY.bits() == 0
        && aligned(tcs.ossa)
        && aligned(tcs.ofsbase)
        && aligned(tcs.ogsbase)
        && tcs.fslimit & 0xfff == 0xfff
        && tcs.gslimit & 0xfff == 0xfff
        && [tcs.ossa, tcs.oentry, tcs.ofsbase, tcs.ogsbase].iter().all(|offset| *offset < elrange.size);
    if fine { Ok(()) } else { Err(Fault::GeneralProtection) }
}

/// Index of the SSA frame that an AEX after EENTER will use: CSSA.
///
/// # Errors
/// #GP all frames are in use.
pub fn eenter_frame(cssa: u32, nssa: u32) -> Result<u32, Fault> {
    if cssa < nssa { Ok(cssa) } else { Err(Fault::GeneralProtection) }
}

/// Index of the SSA frame that ERESUME restores: CSSA - 1.
///
/// # Errors
/// #GP no frame is in use.
pub fn eresume_frame(cssa: u32) -> Result<u32, Fault> {
    cssa.checked_sub(1).ok_or(Fault::GeneralProtection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elrange() -> Elrange {
        Elrange { base: 0, size: 1 << 20 }
    }

    fn tcs() -> Tcs {
        Tcs { ossa: 0x1000, nssa: 3, oentry: 0x123, fslimit: 0xfff, gslimit: 0xffff_ffff, ..Tcs::default() }
    }

    #[test]
    fn a_clean_tcs_is_taken() {
        assert_eq!(check_new(&tcs(), elrange()), Ok(()));
        assert_eq!(check_new(&Tcs { flags: TcsFlags::AEXNOTIFY, ..tcs() }, elrange()), Ok(()));
    }

    #[test]
    fn anything_that_is_the_processors_own_or_out_of_line_is_refused() {
        let mut reserved = tcs();
        reserved.reserved[4007] = 1;
        for bad in [
            reserved,
            Tcs { state: 1, ..tcs() },
            Tcs { cssa: 1, ..tcs() },
            Tcs { aep: 1, ..tcs() },
            Tcs { flags: TcsFlags::DBGOPTIN, ..tcs() },
            Tcs { flags: TcsFlags::from_bits_retain(4), ..tcs() },
            Tcs { ossa: 0x1001, ..tcs() },
            Tcs { ossa: 1 << 20, ..tcs() },
            Tcs { oentry: 1 << 20, ..tcs() },
            Tcs { ofsbase: 8, ..tcs() },
            Tcs { ogsbase: 8, ..tcs() },
            Tcs { fslimit: 0, ..tcs() },
            Tcs { gslimit: 0x1000, ..tcs() },
        ] {
            assert_eq!(check_new(&bad, elrange()), Err(Fault::GeneralProtection), "{bad:?}");
        }
    }

    #[test]
    fn frames_are_used_from_the_first_to_the_last_and_back() {
        assert_eq!(eenter_frame(0, 2), Ok(0));
        assert_eq!(eenter_frame(1, 2), Ok(1));
        assert_eq!(eenter_frame(2, 2), Err(Fault::GeneralProtection));
        assert_eq!(eresume_frame(0), Err(Fault::GeneralProtection));
        assert_eq!(eresume_frame(2), Ok(1));
    }
}
