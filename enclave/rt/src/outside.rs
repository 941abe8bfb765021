//! Host memory.
//!
//! A [`Outside`] range was checked to lie wholly outside ELRANGE. The host may change it at any instant or take it
//! away, so it is only copied, once, and never referenced. A page that is gone faults in kernel code and ends the
//! enclave: a loss of service, which the host can always cause.

use core::arch::asm;
use edge_abi::ecall::HostRange;
use edge_abi::layout::{ELRANGE_BASE, ELRANGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The highest address of user space on x86-64 with four-level paging, exclusive.
const ADDRESS_END: u64 = 1 << 47;

/// A range of host memory.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    address: u64,
    len: u64,
}

impl Outside {
    /// The range, if it lies wholly outside ELRANGE.
    #[must_use]
    pub fn new(range: HostRange) -> Option<Self> {
        let end = range.address.checked_add(range.len)?;
        // ELRANGE starts at 0, so outside is above it.
        const { assert!(ELRANGE_BASE == 0) };
        (range.address >= ELRANGE_SIZE && end <= ADDRESS_END)
            .then_some(Self { address: range.address, len: range.len })
    }

    /// Bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether it has no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Copies bytes in; false if the part is not inside the range.
    #[must_use]
    pub fn load(self, offset: u64, into: &mut [u8]) -> bool {
        let len = into.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY:
        // 1. The destination is an exclusive slice in the enclave.
        // 2. The source lies outside the enclave (invariant), where no Rust object of ours lives.
        // 3. The host may race; assembly, not the compiler, reads each byte once.
        unsafe { move_bytes(self.address + offset, into.as_mut_ptr() as u64, len) };
        true
    }

    /// Copies bytes out; false if the part is not inside the range.
    #[must_use]
    pub fn store(self, offset: u64, from: &[u8]) -> bool {
        let len = from.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: as in `load`, in the other direction.
        unsafe { move_bytes(from.as_ptr() as u64, self.address + offset, len) };
        true
    }

    /// Loads an aligned word in one access.
    #[must_use]
    pub fn load_word(self, offset: u64) -> Option<u64> {
        let address = self.word(offset)?;
        let value;
        // SAFETY: eight bytes outside of the enclave (see `word`); assembly reads them once.
        unsafe {
            asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags))
        };
        Some(value)
    }

    /// Stores an aligned word in one access; false if it is not inside the range.
    #[must_use]
    pub fn store_word(self, offset: u64, value: u64) -> bool {
        let Some(address) = self.word(offset) else { return false };
        // SAFETY: eight bytes outside of the enclave (see `word`), where no Rust object of ours lives.
        unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
        true
    }

    /// Loads an aligned value of 32 bits in one access.
    #[must_use]
    pub fn load_half(self, offset: u64) -> Option<u32> {
        let address = self.aligned(offset, 4)?;
        let value;
        // SAFETY: four bytes outside of the enclave (see `aligned`); assembly reads them once.
        unsafe {
            asm!("mov {:e}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags))
        };
        Some(value)
    }

    /// Stores an aligned value of 32 bits in one access; false if it is not inside the range.
    #[must_use]
    pub fn store_half(self, offset: u64, value: u32) -> bool {
        let Some(address) = self.aligned(offset, 4) else { return false };
        // SAFETY: four bytes outside of the enclave (see `aligned`), where no Rust object of ours lives.
        unsafe { asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
        true
    }

    /// Address of an aligned word inside the range.
    fn word(self, offset: u64) -> Option<u64> {
        self.aligned(offset, 8)
    }

    /// Address of so many aligned bytes inside the range.
    fn aligned(self, offset: u64, len: u64) -> Option<u64> {
        let address = self.address.checked_add(offset)?;
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        (is_inside && address.is_multiple_of(len)).then_some(address)
    }

    /// Copies a value in.
    #[must_use]
    pub fn read<T: FromBytes + IntoBytes>(self, offset: u64) -> Option<T> {
        let mut value = T::new_zeroed();
        self.load(offset, value.as_mut_bytes()).then_some(value)
    }

    /// Copies a value out.
    #[must_use]
    pub fn write<T: IntoBytes + Immutable>(self, offset: u64, value: &T) -> bool {
        self.store(offset, value.as_bytes())
    }
}

/// # Safety
/// Both ranges are mapped, and the enclave part is valid for the access.
unsafe fn move_bytes(from: u64, to: u64, len: u64) {
    // SAFETY: the caller's contract; DF is clear in kernel code.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_touches_elrange_is_refused() {
        assert!(Outside::new(HostRange { address: 0x1000, len: 8 }).is_none());
        assert!(Outside::new(HostRange { address: ELRANGE_SIZE - 8, len: 16 }).is_none());
        assert!(Outside::new(HostRange { address: u64::MAX - 4, len: 8 }).is_none());
        assert!(Outside::new(HostRange { address: ELRANGE_SIZE, len: 8 }).is_some());
    }

    #[test]
    fn copies_stay_inside_the_range() {
        let host = [1u8, 2, 3, 4];
        let range = Outside::new(HostRange { address: host.as_ptr() as u64, len: 4 }).unwrap();
        let mut into = [0; 2];
        assert!(range.load(2, &mut into));
        assert_eq!(into, [3, 4]);
        assert!(!range.load(3, &mut into));
        assert!(!range.load(u64::MAX, &mut into));
    }

    #[test]
    fn a_word_is_aligned_and_inside() {
        let host = [1u64, 2];
        let range = Outside::new(HostRange { address: host.as_ptr() as u64, len: 16 }).unwrap();
        assert_eq!(range.load_word(8), Some(2));
        assert_eq!(range.load_word(4), None);
        assert_eq!(range.load_word(16), None);
        assert!(!range.store_word(16, 0));
        assert_eq!((range.load_half(4), range.load_half(12)), (Some(0), Some(0)));
        assert_eq!((range.load_half(2), range.load_half(16)), (None, None));
        assert!(range.store_half(12, 7) && !range.store_half(16, 7));
        assert_eq!(range.load_word(8), Some(2 | 7 << 32));
    }
}
