//! The ENCLU leaves.
//!
//! Each site is `mov eax, LEAF` directly before `enclu`, with eleven bytes of `nop` after it: the software machine
//! replaces `enclu` and the padding by a jump to its own implementation. On a processor the padding is what it is.

use core::arch::asm;
use sgx_arch::Secinfo;

macro_rules! enclu {
    ($leaf:literal, $($operand:tt)*) => {
        asm!(
            // RBX is reserved by the compiler, so the first operand travels in R12.
            "xchg rbx, r12",
            concat!("mov eax, ", $leaf),
            "enclu",
            "nop", "nop", "nop", "nop", "nop", "nop", "nop", "nop", "nop", "nop", "nop",
            "xchg rbx, r12",
            $($operand)*
        )
    };
}

/// EACCEPT: accepts what the host did to a page (SDM "EACCEPT"). Returns the error code, 0 for success.
#[must_use]
pub fn eaccept(secinfo: &Secinfo, page: u64) -> u32 {
    let status: u64;
    // SAFETY: EACCEPT changes no memory but the EPCM; it fails rather than accepting what `secinfo` does not say.
    unsafe {
        enclu!(5, inout("r12") core::ptr::from_ref(secinfo) => _, in("rcx") page, lateout("rax") status, clobber_abi("C"));
    }
    status as u32
}

/// EACCEPTCOPY: accepts a page that the host added, with the content of another and more permissions (SDM "EACCEPTCOPY"). Returns
/// the error code, 0 for success.
#[must_use]
pub fn eacceptcopy(secinfo: &Secinfo, page: u64, source: &AlignedPage) -> u32 {
    let status: u64;
    // SAFETY: EACCEPTCOPY writes only to a page that is PENDING, which holds no object.
    unsafe {
        enclu!(7, inout("r12") core::ptr::from_ref(secinfo) => _, in("rcx") page, in("rdx") core::ptr::from_ref(source),
            lateout("rax") status, clobber_abi("C"));
    }
    status as u32
}

/// A page where EACCEPTCOPY takes it from.
#[repr(C, align(4096))]
pub struct AlignedPage(pub [u8; 4096]);

/// EMODPE: extends the permissions of a page (SDM "EMODPE").
pub fn emodpe(secinfo: &Secinfo, page: u64) {
    // SAFETY: the page is a committed user or heap page; extending its permissions breaks no Rust object.
    unsafe {
        enclu!(6, inout("r12") core::ptr::from_ref(secinfo) => _, in("rcx") page, lateout("rax") _, clobber_abi("C"));
    }
}
