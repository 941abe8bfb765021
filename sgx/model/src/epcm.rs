//! The EPCM: what the processor knows about each page, and how the leaves change it.
//!
//! Every rule is a function from the state of a page to its next state. Who stores the states, and how two
//! threads that change one page are kept apart, is the machine's affair.

use crate::fault::{Fault, PageFaultCode};
use sgx_arch::{ErrorCode, PageType, Secinfo, SecinfoFlags};

/// The EPCM entry of one page, in ten bits.
///
/// Bits 5:0 are R, W, X, PENDING, MODIFIED and PR as SECINFO.FLAGS has them; bit 6 is VALID; bits 9:7 are the
/// page type. Bits 15:10 are always zero here: the machine keeps its own notes there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page(u16);

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or a read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// The right that the access needs.
    #[must_use]
    pub const fn right(self) -> SecinfoFlags {
        match self {
            Self::Read => SecinfoFlags::R,
            Self::Write => SecinfoFlags::W,
            Self::Execute => SecinfoFlags::X,
        }
    }
}

impl Page {
    /// Bits of the entry in use.
    pub const MASK: u16 = 0x3ff;
    /// No page.
    pub const INVALID: Self = Self(0);
    const STATE: u16 = 0x3f;
    const VALID: u16 = 1 << 6;
    const TYPE_SHIFT: u16 = 7;

    /// A valid page. Flags other than R, W, X, PENDING, MODIFIED and PR are ignored.
    #[must_use]
    pub const fn new(page_type: PageType, flags: SecinfoFlags) -> Self {
        let low = flags.bits().to_le_bytes()[0] as u16 & Self::STATE;
        Self(low | Self::VALID | (page_type as u16) << Self::TYPE_SHIFT)
    }

    /// The entry in the low bits of `bits`.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::MASK)
    }

    /// The entry as bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// EPCM.VALID.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// R, W, X, PENDING, MODIFIED and PR.
    #[must_use]
    pub const fn flags(self) -> SecinfoFlags {
        SecinfoFlags::from_bits_retain((self.0 & Self::STATE) as u64)
    }

    /// EPCM.PT; `None` for an invalid page.
    #[must_use]
    pub const fn page_type(self) -> Option<PageType> {
        if self.is_valid() {
            PageType::from_number(self.0.to_le_bytes()[1] << 1 | (self.0.to_le_bytes()[0] >> 7))
        } else {
            None
        }
    }

    /// Whether it is a valid page of a type, neither PENDING nor MODIFIED.
    #[must_use]
    pub fn is_settled(self, page_type: PageType) -> bool {
        self.page_type() == Some(page_type)
            && !self.flags().intersects(SecinfoFlags::PENDING | SecinfoFlags::MODIFIED)
    }

    /// What code of the enclave may do with the page now (SDM "Access-control Requirements"): nothing unless
    /// it is a settled PT_REG page. PR alone does not bar access.
    #[must_use]
    pub fn accessible(self) -> SecinfoFlags {
        if self.is_settled(PageType::Reg) { self.flags().permissions() } else { SecinfoFlags::empty() }
    }

    /// Checks an access by the enclave to `address`.
    ///
    /// # Errors
    /// #PF with the SGX bit.
    pub fn check(self, access: Access, address: u64) -> Result<(), Fault> {
        if self.accessible().contains(access.right()) {
            Ok(())
        } else {
            Err(Fault::page(address, PageFaultCode::epcm(access)))
        }
    }

    const fn with(self, set: SecinfoFlags, clear: SecinfoFlags) -> Self {
        let set = set.bits().to_le_bytes()[0] as u16 & Self::STATE;
        let clear = clear.bits().to_le_bytes()[0] as u16 & Self::STATE;
        Self(self.0 & !clear | set)
    }
}

/// Whether SECINFO has its reserved bits clear: all 56 bytes, and FLAGS 7:6 and 63:16.
fn reserved_clear(secinfo: &Secinfo) -> bool {
    let known = SecinfoFlags::RWX
        | SecinfoFlags::PENDING
        | SecinfoFlags::MODIFIED
        | SecinfoFlags::PR
        | SecinfoFlags::PAGE_TYPE;
    secinfo.reserved == [0; 56] && secinfo.flags.bits() & !known.bits() == 0
}

/// W without R is refused wherever rights are given.
fn write_only(flags: SecinfoFlags) -> bool {
    flags.contains(SecinfoFlags::W) && !flags.contains(SecinfoFlags::R)
}

/// EADD: the entry of a page added before EINIT. A TCS loses its rights in the EPCM.
///
/// # Errors
/// #GP the SECINFO is malformed, or of a type that EADD does not take. #PF the page is there already.
pub fn eadd(secinfo: &Secinfo, address: u64, page: Page) -> Result<Page, Fault> {
    let flags = secinfo.flags;
    let state = SecinfoFlags::PENDING | SecinfoFlags::MODIFIED | SecinfoFlags::PR;
    if !reserved_clear(secinfo) || flags.intersects(state) {
        return Err(Fault::GeneralProtection);
    }
    let new = match flags.page_type() {
        Some(PageType::Reg) if !write_only(flags) => Page::new(PageType::Reg, flags.permissions()),
        Some(PageType::Tcs) => Page::new(PageType::Tcs, SecinfoFlags::empty()),
        _ => return Err(Fault::GeneralProtection),
    };
    if page.is_valid() { Err(Fault::page(address, PageFaultCode::epcm(Access::Write))) } else { Ok(new) }
}

/// EAUG: a page added after EINIT is zero, RW, PT_REG and PENDING.
///
/// # Errors
/// #PF the page is there already.
pub fn eaug(address: u64, page: Page) -> Result<Page, Fault> {
    if page.is_valid() {
        return Err(Fault::page(address, PageFaultCode::epcm(Access::Write)));
    }
    Ok(Page::new(PageType::Reg, SecinfoFlags::RW | SecinfoFlags::PENDING))
}

/// EMODPR: takes rights away and asks for EACCEPT.
///
/// # Errors
/// PAGE_NOT_MODIFIABLE the page is PENDING or MODIFIED; PG_INVLD it is not a valid PT_REG page, or the
/// rights are W without R.
pub fn emodpr(permissions: SecinfoFlags, page: Page) -> Result<Page, ErrorCode> {
    if page.page_type() != Some(PageType::Reg) || write_only(permissions) {
        return Err(ErrorCode::PgInvld);
    }
    if !page.is_settled(PageType::Reg) {
        return Err(ErrorCode::PageNotModifiable);
    }
    Ok(page.with(SecinfoFlags::PR, SecinfoFlags::RWX.difference(permissions)))
}

/// EMODT: turns a PT_REG page into PT_TCS, or a PT_REG or PT_TCS page into PT_TRIM; without rights, MODIFIED.
///
/// # Errors
/// PAGE_NOT_MODIFIABLE the page is PENDING or MODIFIED; PG_INVLD it has another type, or the new type is
/// neither of the two.
pub fn emodt(page_type: PageType, page: Page) -> Result<Page, ErrorCode> {
    let from = match (page.page_type(), page_type) {
        (Some(from @ PageType::Reg), PageType::Tcs | PageType::Trim) => from,
        (Some(from @ PageType::Tcs), PageType::Trim) => from,
        _ => return Err(ErrorCode::PgInvld),
    };
    if !page.is_settled(from) {
        return Err(ErrorCode::PageNotModifiable);
    }
    Ok(Page::new(page_type, SecinfoFlags::MODIFIED))
}

/// EREMOVE, as the driver allows it for a running enclave: only of an accepted PT_TRIM page.
///
/// # Errors
/// PAGE_NOT_MODIFIABLE otherwise.
pub fn eremove(page: Page) -> Result<Page, ErrorCode> {
    if page.is_settled(PageType::Trim) { Ok(Page::INVALID) } else { Err(ErrorCode::PageNotModifiable) }
}

/// What a user leaf says in RAX and ZF when it does not fault.
pub type Answer<T> = Result<T, ErrorCode>;

/// The page that holds a SECINFO operand: a settled PT_REG page with R.
///
/// # Errors
/// #PF otherwise.
pub fn secinfo_operand(address: u64, page: Page) -> Result<(), Fault> {
    page.check(Access::Read, address)
}

/// EACCEPT of the page at `address`, after the operands were found aligned and in ELRANGE.
///
/// The caller checks the content of a PT_TCS page that is accepted ([`crate::tcs::check_new`]).
///
/// # Errors
/// #GP the SECINFO is malformed or asks for a combination that cannot be accepted; #PF the page is not there or
/// of a type that is never accepted. In the answer: PAGE_ATTRIBUTES_MISMATCH the page is not what the
/// SECINFO says.
pub fn eaccept(secinfo: &Secinfo, address: u64, page: Page) -> Result<Answer<Page>, Fault> {
    use SecinfoFlags as F;
    if !reserved_clear(secinfo) {
        return Err(Fault::GeneralProtection);
    }
    let flags = secinfo.flags;
    let legal = match flags.page_type() {
        Some(PageType::Reg) => flags.intersects(F::PR | F::PENDING) && !flags.contains(F::MODIFIED),
        Some(PageType::Tcs | PageType::Trim) => {
            !flags.intersects(F::PR | F::PENDING) && flags.contains(F::MODIFIED)
        }
        _ => false,
    };
    if !legal {
        return Err(Fault::GeneralProtection);
    }
    if !matches!(page.page_type(), Some(PageType::Reg | PageType::Tcs | PageType::Trim)) {
        return Err(Fault::page(address, PageFaultCode::epcm(Access::Write)));
    }
    let compared = F::RWX | F::PENDING | F::MODIFIED;
    if page.flags() & compared != flags & compared || page.page_type() != flags.page_type() {
        return Ok(Err(ErrorCode::PageAttributesMismatch));
    }
    Ok(Ok(page.with(F::empty(), F::PENDING | F::MODIFIED | F::PR)))
}

/// EMODPE of the page at `address`: gives rights.
///
/// # Errors
/// #GP the SECINFO is malformed, or the page would be W without R; #PF the page is not a settled PT_REG page.
pub fn emodpe(secinfo: &Secinfo, address: u64, page: Page) -> Result<Page, Fault> {
    if !reserved_clear(secinfo) {
        return Err(Fault::GeneralProtection);
    }
    if !page.is_settled(PageType::Reg) {
        return Err(Fault::page(address, PageFaultCode::epcm(Access::Write)));
    }
    let new = page.with(secinfo.flags.permissions(), SecinfoFlags::empty());
    if write_only(new.flags()) { Err(Fault::GeneralProtection) } else { Ok(new) }
}

/// EACCEPTCOPY from `source` to `page`. On success the machine copies the content before it stores the entry.
///
/// # Errors
/// #GP the SECINFO is malformed, W without R, or not PT_REG; #PF the source is not a settled, readable PT_REG
/// page. In the answer: PAGE_ATTRIBUTES_MISMATCH the destination is not fresh from EAUG.
pub fn eacceptcopy(
    secinfo: &Secinfo,
    source_address: u64,
    source: Page,
    page: Page,
) -> Result<Answer<Page>, Fault> {
    let flags = secinfo.flags;
    if !reserved_clear(secinfo) || write_only(flags) || flags.page_type() != Some(PageType::Reg) {
        return Err(Fault::GeneralProtection);
    }
    source.check(Access::Read, source_address)?;
    if page.with(SecinfoFlags::empty(), SecinfoFlags::PR)
        != Page::new(PageType::Reg, SecinfoFlags::RW | SecinfoFlags::PENDING)
    {
        return Ok(Err(ErrorCode::PageAttributesMismatch));
    }
    Ok(Ok(page.with(flags.permissions(), SecinfoFlags::PENDING)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecinfoFlags as F;

    const AT: u64 = 0x7000;

    fn fresh() -> Page {
        eaug(AT, Page::INVALID).unwrap()
    }

    fn secinfo(page_type: PageType, flags: F) -> Secinfo {
        let mut info = Secinfo::new(page_type, F::empty());
        info.flags |= flags;
        info
    }

    fn settled() -> Page {
        Page::new(PageType::Reg, F::RW)
    }

    #[test]
    fn an_entry_round_trips_every_type_and_flag() {
        for number in 0..=6 {
            let page_type = PageType::from_number(number).unwrap();
            for flags in 0..=0x3f {
                let flags = F::from_bits_retain(flags);
                let page = Page::new(page_type, flags);
                assert_eq!(page.page_type(), Some(page_type));
                assert_eq!(page.flags(), flags);
                assert_eq!(Page::from_bits(page.bits() | 0xfc00), page);
            }
        }
        assert_eq!(Page::INVALID.page_type(), None);
    }

    #[test]
    fn only_settled_regular_pages_are_accessible() {
        assert_eq!(settled().accessible(), F::RW);
        assert_eq!(fresh().accessible(), F::empty());
        assert_eq!(Page::new(PageType::Tcs, F::RW).accessible(), F::empty());
        assert_eq!(Page::new(PageType::Reg, F::RW | F::MODIFIED).accessible(), F::empty());
        assert_eq!(Page::new(PageType::Reg, F::R | F::PR).accessible(), F::R);
        assert_eq!(Page::INVALID.accessible(), F::empty());
    }

    #[test]
    fn an_access_against_the_epcm_is_a_page_fault_with_the_sgx_bit() {
        let page = Page::new(PageType::Reg, F::R);
        assert_eq!(page.check(Access::Read, AT), Ok(()));
        let Err(Fault::Page { address, code }) = page.check(Access::Write, AT) else { panic!("no fault") };
        assert_eq!((address, code.bits()), (AT, 0x8007));
        let Err(Fault::Page { code, .. }) = page.check(Access::Execute, AT) else { panic!("no fault") };
        assert_eq!(code.bits(), 0x8015);
    }

    #[test]
    fn eadd_takes_regular_pages_and_tcs_only() {
        assert_eq!(eadd(&Secinfo::reg(F::RX), AT, Page::INVALID), Ok(Page::new(PageType::Reg, F::RX)));
        let tcs = eadd(&secinfo(PageType::Tcs, F::RW), AT, Page::INVALID).unwrap();
        assert_eq!(tcs.flags(), F::empty());
        for bad in [PageType::Secs, PageType::Va, PageType::Trim] {
            assert_eq!(eadd(&secinfo(bad, F::R), AT, Page::INVALID), Err(Fault::GeneralProtection));
        }
        assert_eq!(eadd(&Secinfo::reg(F::W), AT, Page::INVALID), Err(Fault::GeneralProtection));
        assert_eq!(
            eadd(&secinfo(PageType::Reg, F::RW | F::PENDING), AT, Page::INVALID),
            Err(Fault::GeneralProtection)
        );
        assert!(matches!(eadd(&Secinfo::reg(F::RW), AT, settled()), Err(Fault::Page { .. })));
    }

    #[test]
    fn eaccept_takes_exactly_the_page_it_describes() {
        let accept = |flags| eaccept(&secinfo(PageType::Reg, flags), AT, fresh());
        assert_eq!(accept(F::RW | F::PENDING), Ok(Ok(settled())));
        assert_eq!(accept(F::R | F::PENDING), Ok(Err(ErrorCode::PageAttributesMismatch)));
        assert_eq!(accept(F::RWX | F::PENDING), Ok(Err(ErrorCode::PageAttributesMismatch)));
        assert_eq!(accept(F::RW), Err(Fault::GeneralProtection));
        assert_eq!(accept(F::RW | F::PENDING | F::MODIFIED), Err(Fault::GeneralProtection));
        assert_eq!(accept(F::RW | F::PR), Ok(Err(ErrorCode::PageAttributesMismatch)));
    }

    #[test]
    fn eaccept_twice_is_a_mismatch() {
        let info = secinfo(PageType::Reg, F::RW | F::PENDING);
        assert_eq!(eaccept(&info, AT, settled()), Ok(Err(ErrorCode::PageAttributesMismatch)));
    }

    #[test]
    fn eaccept_refuses_reserved_bits_types_and_missing_pages() {
        let mut info = secinfo(PageType::Reg, F::RW | F::PENDING);
        assert!(matches!(eaccept(&info, AT, Page::INVALID), Err(Fault::Page { address: AT, .. })));
        assert!(matches!(eaccept(&info, AT, Page::new(PageType::Va, F::RW)), Err(Fault::Page { .. })));
        info.flags |= F::from_bits_retain(1 << 6);
        assert_eq!(eaccept(&info, AT, fresh()), Err(Fault::GeneralProtection));
        let mut info = secinfo(PageType::Reg, F::RW | F::PENDING);
        info.reserved[55] = 1;
        assert_eq!(eaccept(&info, AT, fresh()), Err(Fault::GeneralProtection));
        let info = secinfo(PageType::Va, F::MODIFIED);
        assert_eq!(eaccept(&info, AT, fresh()), Err(Fault::GeneralProtection));
    }

    #[test]
    fn a_restricted_page_is_accepted_with_its_new_rights() {
        let page = emodpr(F::R, settled()).unwrap();
        assert_eq!(page.flags(), F::R | F::PR);
        assert_eq!(page.accessible(), F::R);
        let info = secinfo(PageType::Reg, F::R | F::PR);
        assert_eq!(eaccept(&info, AT, page), Ok(Ok(Page::new(PageType::Reg, F::R))));
        let info = secinfo(PageType::Reg, F::RW | F::PR);
        assert_eq!(eaccept(&info, AT, page), Ok(Err(ErrorCode::PageAttributesMismatch)));
    }

    #[test]
    fn emodpr_never_gives_rights_and_needs_a_settled_page() {
        let page = emodpr(F::RWX, Page::new(PageType::Reg, F::R)).unwrap();
        assert_eq!(page.flags(), F::R | F::PR);
        assert_eq!(emodpr(F::R, fresh()), Err(ErrorCode::PageNotModifiable));
        assert_eq!(emodpr(F::W, settled()), Err(ErrorCode::PgInvld));
        assert_eq!(emodpr(F::R, Page::INVALID), Err(ErrorCode::PgInvld));
        assert_eq!(emodpr(F::R, Page::new(PageType::Tcs, F::empty())), Err(ErrorCode::PgInvld));
    }

    #[test]
    fn a_page_is_trimmed_accepted_and_removed_in_that_order() {
        assert_eq!(eremove(settled()), Err(ErrorCode::PageNotModifiable));
        let page = emodt(PageType::Trim, settled()).unwrap();
        assert_eq!(page.accessible(), F::empty());
        assert_eq!(eremove(page), Err(ErrorCode::PageNotModifiable));
        let page = eaccept(&secinfo(PageType::Trim, F::MODIFIED), AT, page).unwrap().unwrap();
        assert_eq!(page.accessible(), F::empty());
        assert_eq!(eremove(page), Ok(Page::INVALID));
        assert_eq!(emodt(PageType::Trim, page), Err(ErrorCode::PgInvld));
    }

    #[test]
    fn emodt_makes_tcs_of_regular_pages_and_trims_both() {
        let tcs = emodt(PageType::Tcs, settled()).unwrap();
        assert_eq!(tcs.flags(), F::MODIFIED);
        assert_eq!(emodt(PageType::Trim, tcs), Err(ErrorCode::PageNotModifiable));
        let tcs = eaccept(&secinfo(PageType::Tcs, F::MODIFIED), AT, tcs).unwrap().unwrap();
        assert!(tcs.is_settled(PageType::Tcs));
        assert_eq!(emodt(PageType::Tcs, tcs), Err(ErrorCode::PgInvld));
        assert!(emodt(PageType::Trim, tcs).is_ok());
        assert_eq!(emodt(PageType::Reg, settled()), Err(ErrorCode::PgInvld));
        assert_eq!(emodt(PageType::Trim, fresh()), Err(ErrorCode::PageNotModifiable));
    }

    #[test]
    fn emodpe_only_adds_rights() {
        let page = emodpe(&secinfo(PageType::Reg, F::X), AT, settled()).unwrap();
        assert_eq!(page.flags(), F::RWX);
        let page = emodpe(&secinfo(PageType::Reg, F::empty()), AT, settled()).unwrap();
        assert_eq!(page, settled());
        assert!(matches!(emodpe(&Secinfo::reg(F::X), AT, fresh()), Err(Fault::Page { .. })));
        assert!(matches!(emodpe(&Secinfo::reg(F::X), AT, Page::INVALID), Err(Fault::Page { .. })));
        let execute_only = Page::new(PageType::Reg, F::X);
        assert_eq!(emodpe(&Secinfo::reg(F::W), AT, execute_only), Err(Fault::GeneralProtection));
        let mut info = Secinfo::reg(F::X);
        info.reserved[0] = 1;
        assert_eq!(emodpe(&info, AT, settled()), Err(Fault::GeneralProtection));
    }

    #[test]
    fn eacceptcopy_copies_readable_pages_onto_fresh_ones() {
        let copy = |info: &Secinfo, source, page| eacceptcopy(info, 0x1000, source, page);
        let rx = Secinfo::reg(F::RX);
        assert_eq!(copy(&rx, settled(), fresh()), Ok(Ok(Page::new(PageType::Reg, F::RWX))));
        assert_eq!(copy(&rx, settled(), settled()), Ok(Err(ErrorCode::PageAttributesMismatch)));
        assert_eq!(copy(&rx, settled(), Page::INVALID), Ok(Err(ErrorCode::PageAttributesMismatch)));
        let unreadable = Page::new(PageType::Reg, F::X);
        assert!(matches!(copy(&rx, unreadable, fresh()), Err(Fault::Page { address: 0x1000, .. })));
        assert!(matches!(copy(&rx, fresh(), fresh()), Err(Fault::Page { address: 0x1000, .. })));
        assert_eq!(copy(&Secinfo::reg(F::W), settled(), fresh()), Err(Fault::GeneralProtection));
        assert_eq!(copy(&Secinfo::tcs(), settled(), fresh()), Err(Fault::GeneralProtection));
    }
}
