//! Rules about the enclave as a whole: ECREATE, its measurement, and EINIT apart from the signature itself.

use sgx_arch::{Attributes, AttributesFlags, Miscselect, Secinfo, Secs, Sigstruct, measure};
use sha2::{Digest, Sha256};

/// ELRANGE: the linear addresses of an enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elrange {
    /// First address; a multiple of `size`.
    pub base: u64,
    /// Bytes; a power of two.
    pub size: u64,
}

impl Elrange {
    /// Whether an address is in ELRANGE.
    #[must_use]
    pub const fn contains(self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.size
    }

    /// First address after ELRANGE.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.base.saturating_add(self.size)
    }
}

/// What the machine offers, which ECREATE checks a SECS against.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// XCR0 bits that XFRM may have.
    pub xfrm: u64,
    /// Bytes of the XSAVE area of the XFRM in question.
    pub xsave_size: u64,
}

/// Why ECREATE refuses a SECS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// SIZE is not a power of two of at least two pages.
    #[error("SECS.SIZE is not a power of two of at least two pages")]
    Size,
    /// BASEADDR is not a multiple of SIZE, or the range is not canonical.
    #[error("SECS.BASEADDR is not a multiple of SECS.SIZE")]
    Base,
    /// A frame does not hold the XSAVE area, MISC and GPRSGX.
    #[error("SECS.SSAFRAMESIZE is too small for XFRM and MISCSELECT")]
    SsaFrameSize,
    /// MISCSELECT asks for more than EXINFO.
    #[error("SECS.MISCSELECT has bits that the machine does not support")]
    Miscselect,
    /// A reserved field or attribute is set.
    #[error("SECS has reserved bits set")]
    Reserved,
    /// ATTRIBUTES.INIT is set, or MODE64BIT is not.
    #[error("SECS.ATTRIBUTES must have MODE64BIT and not INIT")]
    Attributes,
    /// XFRM lacks x87 or SSE, or asks for more than the machine has, or for half of a feature.
    #[error("SECS.ATTRIBUTES.XFRM is not one that the machine supports")]
    Xfrm,
    /// CET or AEX-Notify is asked for.
    #[error("SECS asks for CET or AEX-Notify, which the machine does not support")]
    Unsupported,
}

/// ECREATE.
///
/// # Errors
/// [`CreateError`], which the processor would show as #GP.
pub fn ecreate(secs: &Secs, features: Features) -> Result<Elrange, CreateError> {
    if !secs.size.is_power_of_two() || secs.size < 8192 || secs.size > 1 << 46 {
        return Err(CreateError::Size);
    }
    if !secs.baseaddr.is_multiple_of(secs.size) || secs.baseaddr > (1 << 47) - secs.size {
        return Err(CreateError::Base);
    }
    if !Miscselect::EXINFO.contains(secs.miscselect) {
        return Err(CreateError::Miscselect);
    }
    let known = AttributesFlags::all().bits();
    if secs.attributes.flags.bits() & !known != 0
        || secs.reserved1 != [0; 15]
        || secs.reserved2 != [0; 32]
        || secs.reserved3 != [0; 32]
        || secs.reserved4 != [0; 3834]
    {
        return Err(CreateError::Reserved);
    }
    let flags = secs.attributes.flags;
    if flags.contains(AttributesFlags::INIT) || !flags.contains(AttributesFlags::MODE64BIT) {
        return Err(CreateError::Attributes);
    }
    if flags.intersects(AttributesFlags::CET | AttributesFlags::AEXNOTIFY)
        || secs.cet_attributes != 0
        || secs.cet_leg_bitmap_offset != 0
    {
        return Err(CreateError::Unsupported);
    }
    if !flags.contains(AttributesFlags::KSS) && (secs.configid != [0; 64] || secs.configsvn != 0) {
        return Err(CreateError::Reserved);
    }
    if !xfrm_is_whole(secs.attributes.xfrm) || secs.attributes.xfrm & !features.xfrm != 0 {
        return Err(CreateError::Xfrm);
    }
    let misc = if secs.miscselect.contains(Miscselect::EXINFO) { 16 } else { 0 };
    if u64::from(secs.ssaframesize) * 4096 < features.xsave_size + misc + sgx_arch::GPRSGX_FROM_END {
        return Err(CreateError::SsaFrameSize);
    }
    Ok(Elrange { base: secs.baseaddr, size: secs.size })
}

/// XFRM as XCR0 could be (SDM vol. 1 "Enabling the XSAVE Feature Set"): x87 and SSE; AVX-512 whole and with AVX.
fn xfrm_is_whole(xfrm: u64) -> bool {
    let avx512 = xfrm & 0xe0;
    xfrm & 3 == 3 && (avx512 == 0 || avx512 == 0xe0 && xfrm & 4 != 0)
}

/// MRENCLAVE in the making.
#[derive(Clone)]
pub struct Measurement(Sha256);

impl Measurement {
    /// ECREATE.
    #[must_use]
    pub fn ecreate(secs: &Secs) -> Self {
        let mut hash = Sha256::new();
        hash.update(measure::ecreate(secs.ssaframesize, secs.size));
        Self(hash)
    }

    /// EADD of the page at `offset`.
    pub fn eadd(&mut self, offset: u64, secinfo: &Secinfo) {
        self.0.update(measure::eadd(offset, secinfo));
    }

    /// EEXTEND of a whole page.
    pub fn eextend(&mut self, offset: u64, page: &[u8; 4096]) {
        let mut at = offset;
        for chunk in page.chunks_exact(measure::EEXTEND_BYTES) {
            self.0.update(measure::eextend(at));
            self.0.update(chunk);
            at = at.wrapping_add(measure::EEXTEND_BYTES as u64);
        }
    }

    /// MRENCLAVE.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// Why EINIT refuses an enclave whose SIGSTRUCT is well signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// SGX_INVALID_MEASUREMENT.
    #[error("the enclave is not the one that was signed: MRENCLAVE differs from SIGSTRUCT.ENCLAVEHASH")]
    Measurement,
    /// SGX_INVALID_ATTRIBUTE: DEBUG.
    #[error("SIGSTRUCT and SECS do not agree on whether the enclave is a debug enclave")]
    Debug,
    /// SGX_INVALID_ATTRIBUTE: XFRM.
    #[error("SECS.ATTRIBUTES.XFRM is not what SIGSTRUCT asks for")]
    Xfrm,
    /// SGX_INVALID_ATTRIBUTE: the other attributes.
    #[error("SECS.ATTRIBUTES is not what SIGSTRUCT asks for")]
    Attributes,
    /// SGX_INVALID_ATTRIBUTE: MISCSELECT.
    #[error("SECS.MISCSELECT is not what SIGSTRUCT asks for")]
    Miscselect,
    /// SGX_INVALID_ATTRIBUTE: CET_ATTRIBUTES.
    #[error("SECS.CET_ATTRIBUTES is not what SIGSTRUCT asks for")]
    CetAttributes,
    /// SGX_INVALID_SIG_STRUCT: KSS fields without ATTRIBUTES.KSS, or ATTRIBUTES.INIT set.
    #[error("SIGSTRUCT has fields set that the enclave's attributes do not allow")]
    Fields,
    /// SGX_INVALID_ATTRIBUTE: an attribute that only Intel's enclaves have.
    #[error("the EINITTOKEN key is not for this enclave")]
    Privileged,
}

/// EINIT, after the signature was verified: whether the enclave is the one that the author describes.
///
/// # Errors
/// [`InitError`].
pub fn einit(secs: &Secs, mrenclave: &[u8; 32], sigstruct: &Sigstruct) -> Result<(), InitError> {
    let kss = secs.attributes.flags.contains(AttributesFlags::KSS);
    if sigstruct.attributes.flags.contains(AttributesFlags::INIT)
        || !kss && (sigstruct.isvfamilyid != [0; 16] || sigstruct.isvextprodid != [0; 16])
    {
        return Err(InitError::Fields);
    }
    if sigstruct.enclavehash != *mrenclave {
        return Err(InitError::Measurement);
    }
    let differs = differing(secs.attributes, sigstruct.attributes, sigstruct.attributemask);
    if differs.flags.contains(AttributesFlags::DEBUG) {
        return Err(InitError::Debug);
    }
    if !differs.flags.is_empty() {
        return Err(InitError::Attributes);
    }
    if differs.xfrm != 0 {
        return Err(InitError::Xfrm);
    }
    if secs.miscselect & sigstruct.miscmask != sigstruct.miscselect & sigstruct.miscmask {
        return Err(InitError::Miscselect);
    }
    if (secs.cet_attributes ^ sigstruct.cet_attributes) & sigstruct.cet_attributes_mask != 0 {
        return Err(InitError::CetAttributes);
    }
    if secs.attributes.flags.contains(AttributesFlags::EINITTOKEN_KEY) {
        return Err(InitError::Privileged);
    }
    Ok(())
}

fn differing(one: Attributes, other: Attributes, mask: Attributes) -> Attributes {
    let flags = (one.flags.bits() ^ other.flags.bits()) & mask.flags.bits();
    Attributes { flags: AttributesFlags::from_bits_retain(flags), xfrm: (one.xfrm ^ other.xfrm) & mask.xfrm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    const FEATURES: Features = Features { xfrm: 0xe7, xsave_size: 2432 };

    fn secs() -> Secs {
        Secs {
            size: 1 << 36,
            ssaframesize: 4,
            miscselect: Miscselect::EXINFO,
            attributes: Attributes { flags: AttributesFlags::MODE64BIT, xfrm: 7 },
            ..Secs::default()
        }
    }

    fn with_flags(flags: AttributesFlags) -> Secs {
        Secs { attributes: Attributes { flags, xfrm: 7 }, ..secs() }
    }

    fn with_xfrm(xfrm: u64) -> Secs {
        Secs { attributes: Attributes { flags: AttributesFlags::MODE64BIT, xfrm }, ..secs() }
    }

    #[test]
    fn ecreate_says_what_is_wrong_with_a_secs() {
        use AttributesFlags as A;
        assert_eq!(ecreate(&secs(), FEATURES), Ok(Elrange { base: 0, size: 1 << 36 }));
        let mut reserved = secs();
        reserved.reserved4[3833] = 1;
        for (bad, why) in [
            (Secs { size: (1 << 36) + 4096, ..secs() }, CreateError::Size),
            (Secs { size: 4096, ..secs() }, CreateError::Size),
            (Secs { size: 0, ..secs() }, CreateError::Size),
            (Secs { baseaddr: 4096, ..secs() }, CreateError::Base),
            (Secs { baseaddr: u64::MAX << 36, ..secs() }, CreateError::Base),
            (Secs { ssaframesize: 0, ..secs() }, CreateError::SsaFrameSize),
            (Secs { miscselect: Miscselect::CPINFO, ..secs() }, CreateError::Miscselect),
            (Secs { configsvn: 1, ..secs() }, CreateError::Reserved),
            (Secs { cet_attributes: 1, ..secs() }, CreateError::Unsupported),
            (reserved, CreateError::Reserved),
            (with_flags(A::MODE64BIT | A::INIT), CreateError::Attributes),
            (with_flags(A::empty()), CreateError::Attributes),
            (with_flags(A::MODE64BIT | A::CET), CreateError::Unsupported),
            (with_flags(A::MODE64BIT | A::from_bits_retain(8)), CreateError::Reserved),
            (with_xfrm(1), CreateError::Xfrm),
            (with_xfrm(0x47), CreateError::Xfrm),
            (with_xfrm(0xe3), CreateError::Xfrm),
            (with_xfrm(0x6_0007), CreateError::Xfrm),
        ] {
            assert_eq!(ecreate(&bad, FEATURES), Err(why));
        }
        assert!(ecreate(&with_xfrm(0xe7), FEATURES).is_ok());
        assert!(ecreate(&with_flags(A::MODE64BIT | A::DEBUG | A::KSS), FEATURES).is_ok());
    }

    #[test]
    fn a_frame_must_hold_the_xsave_area_exinfo_and_the_registers() {
        let tight = Features { xfrm: 7, xsave_size: 4096 - 184 - 16 };
        let secs = Secs { ssaframesize: 1, ..secs() };
        assert!(ecreate(&secs, tight).is_ok());
        let over = Features { xsave_size: tight.xsave_size + 1, ..tight };
        assert_eq!(ecreate(&secs, over), Err(CreateError::SsaFrameSize));
        assert!(ecreate(&Secs { miscselect: Miscselect::empty(), ..secs }, over).is_ok());
    }

    #[test]
    fn the_measurement_covers_order_place_rights_and_content() {
        use sgx_arch::SecinfoFlags as F;
        let measure = |pages: &[(u64, F, u8)]| {
            let mut measurement = Measurement::ecreate(&secs());
            for (offset, flags, byte) in pages {
                measurement.eadd(*offset, &Secinfo::reg(*flags));
                measurement.eextend(*offset, &[*byte; 4096]);
            }
            measurement.finish()
        };
        let base = measure(&[(0x1000, F::RW, 0), (0x2000, F::RX, 1)]);
        assert_eq!(base, measure(&[(0x1000, F::RW, 0), (0x2000, F::RX, 1)]));
        for other in [
            measure(&[(0x2000, F::RX, 1), (0x1000, F::RW, 0)]),
            measure(&[(0x1000, F::RW, 0), (0x3000, F::RX, 1)]),
            measure(&[(0x1000, F::R, 0), (0x2000, F::RX, 1)]),
            measure(&[(0x1000, F::RW, 0), (0x2000, F::RX, 2)]),
        ] {
            assert_ne!(base, other);
        }
    }

    fn signed() -> Sigstruct {
        Sigstruct {
            enclavehash: [7; 32],
            attributes: secs().attributes,
            attributemask: Attributes { flags: AttributesFlags::from_bits_retain(!1), xfrm: !0 },
            miscselect: Miscselect::EXINFO,
            miscmask: Miscselect::from_bits_retain(!0),
            ..Sigstruct::new_zeroed()
        }
    }

    #[test]
    fn einit_says_which_check_failed() {
        use AttributesFlags as A;
        assert_eq!(einit(&secs(), &[7; 32], &signed()), Ok(()));
        assert_eq!(einit(&secs(), &[8; 32], &signed()), Err(InitError::Measurement));
        let debug = with_flags(A::MODE64BIT | A::DEBUG);
        assert_eq!(einit(&debug, &[7; 32], &signed()), Err(InitError::Debug));
        let provision = with_flags(A::MODE64BIT | A::PROVISIONKEY);
        assert_eq!(einit(&provision, &[7; 32], &signed()), Err(InitError::Attributes));
        assert_eq!(einit(&with_xfrm(3), &[7; 32], &signed()), Err(InitError::Xfrm));
        let misc = Secs { miscselect: Miscselect::empty(), ..secs() };
        assert_eq!(einit(&misc, &[7; 32], &signed()), Err(InitError::Miscselect));
        let family = Sigstruct { isvfamilyid: [1; 16], ..signed() };
        assert_eq!(einit(&secs(), &[7; 32], &family), Err(InitError::Fields));
        let product = Sigstruct { isvextprodid: [1; 16], ..signed() };
        assert_eq!(einit(&secs(), &[7; 32], &product), Err(InitError::Fields));
        let mut initialized = signed();
        initialized.attributes.flags |= A::INIT;
        assert_eq!(einit(&secs(), &[7; 32], &initialized), Err(InitError::Fields));
        let cet = Sigstruct { cet_attributes: 1, cet_attributes_mask: 1, ..signed() };
        assert_eq!(einit(&secs(), &[7; 32], &cet), Err(InitError::CetAttributes));
        let launch = A::MODE64BIT | A::EINITTOKEN_KEY;
        let attributes = Attributes { flags: launch, xfrm: 7 };
        let launcher = Sigstruct { attributes, ..signed() };
        assert_eq!(einit(&with_flags(launch), &[7; 32], &launcher), Err(InitError::Privileged));
    }

    #[test]
    fn what_the_masks_leave_out_may_differ() {
        use AttributesFlags as A;
        let mask = A::from_bits_retain(!(A::DEBUG | A::INIT).bits());
        let loose = Sigstruct { attributemask: Attributes { flags: mask, xfrm: 3 }, ..signed() };
        let mut secs = with_flags(A::MODE64BIT | A::DEBUG);
        secs.attributes.xfrm = 3;
        assert_eq!(einit(&secs, &[7; 32], &loose), Ok(()));
    }
}
