//! Random bytes from RDRAND.

use core::arch::asm;

/// A random word, after at most ten tries as the SDM recommends (vol. 1 "RDRAND").
fn rdrand() -> Option<u64> {
    for _ in 0..10 {
        let value: u64;
        let ok: u8;
        // SAFETY: RDRAND only writes its register and the flags.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
        if ok != 0 {
            return Some(value);
        }
    }
    None
}

/// Fills `into`. A processor whose generator fails ten times in a row is broken, and weak keys are worse than an
/// end: the enclave stops.
pub fn fill(into: &mut [u8]) {
    for chunk in into.chunks_mut(8) {
        let Some(word) = rdrand() else { crate::panic::abort("the random number generator failed") };
        let bytes = word.to_le_bytes();
        for (to, from) in chunk.iter_mut().zip(bytes) {
            *to = from;
        }
    }
}
