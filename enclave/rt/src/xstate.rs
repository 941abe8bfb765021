//! The extended state of user code: the XSAVE area of the calling thread.
//!
//! The area holds at least xmm0-15 while kernel code runs; what else it holds says `XSTATE_SAVED`.

use crate::area;
use crate::entry::MXCSR;
use crate::user::ensure_xstate_saved;
use core::sync::atomic::{AtomicU64, Ordering};

/// Offset of the x87 control word.
const FCW: usize = 0;
/// Offset of MXCSR.
const MXCSR_AT: usize = 24;
/// Offset of XSTATE_BV, the first word of the header.
const XSTATE_BV: usize = 512;
/// Offset of the rest of the header: XCOMP_BV and reserved bytes, zero in the standard format.
const REST_OF_HEADER: usize = 520;
/// Bytes of it.
const REST_OF_HEADER_LEN: usize = 56;
/// Bits of MXCSR that every processor has.
const MXCSR_MASK: u32 = 0xffff;
/// The x87 control word of the ABI.
const INITIAL_FCW: u16 = 0x37f;

/// Bytes of the area that are in use.
static LEN: AtomicU64 = AtomicU64::new(576);

/// Bytes of a standard-format XSAVE area for the given features.
///
/// The offsets of x87, SSE and AVX are the same on every processor (SDM vol. 1 "Standard Format of Extended Region"); those of
/// the AVX-512 components differ between vendors, so with them there is room for the larger of the layouts.
fn bytes_for(features: u64) -> u64 {
    if features & 0xe0 != 0 {
        2688
    } else if features & 4 != 0 {
        832
    } else {
        576
    }
}

/// Records the features that are in use.
pub(crate) fn init(features: u64) {
    LEN.store(bytes_for(features), Ordering::Relaxed);
}

/// Bytes of the extended state.
pub(crate) fn len() -> u64 {
    LEN.load(Ordering::Relaxed)
}

/// The area as bytes.
fn with_area<T>(body: impl FnOnce(&mut [u8]) -> T) -> T {
    let start = area::get::<{ area::XSAVE }>() as *mut u8;
    // SAFETY: the area of this thread is longer than `len` (the builder and `slots` reserve four pages), and kernel
    // code, which runs now, is its only user.
    body(unsafe { core::slice::from_raw_parts_mut(start, len() as usize) })
}

fn put(area: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = area.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The area holds a whole state from now on.
fn mark_whole() {
    // SAFETY: XRSTOR of the area gives a valid state.
    unsafe { area::set::<{ area::XSTATE_SAVED }>(1) };
}

/// Sets the state that a new program finds.
pub(crate) fn reset() {
    with_area(|area| {
        area.fill(0);
        put(area, FCW, &INITIAL_FCW.to_le_bytes());
        put(area, MXCSR_AT, &MXCSR.to_le_bytes());
    });
    mark_whole();
}

/// Copies the state out.
pub(crate) fn save(into: &mut [u8]) {
    ensure_xstate_saved();
    with_area(|area| {
        for (to, from) in into.iter_mut().zip(area) {
            *to = *from;
        }
    });
}

/// Sets the state from bytes that may be a program's: what XRSTOR would refuse is cleared.
pub(crate) fn restore(from: &[u8], features: u64) {
    reset();
    with_area(|area| {
        for (to, from) in area.iter_mut().zip(from) {
            *to = *from;
        }
        sanitise(area, features);
    });
}

fn sanitise(area: &mut [u8], features: u64) {
    if let Some(bytes) = area.get(MXCSR_AT..).and_then(|rest| rest.first_chunk()) {
        let clean = u32::from_le_bytes(*bytes) & MXCSR_MASK;
        put(area, MXCSR_AT, &clean.to_le_bytes());
    }
    if let Some(bytes) = area.get(XSTATE_BV..).and_then(|rest| rest.first_chunk()) {
        let clean = u64::from_le_bytes(*bytes) & features;
        put(area, XSTATE_BV, &clean.to_le_bytes());
    }
    put(area, REST_OF_HEADER, &[0; REST_OF_HEADER_LEN]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_as_large_as_its_last_component() {
        assert_eq!(bytes_for(3), 576);
        assert_eq!(bytes_for(7), 832);
        assert_eq!(bytes_for(0xe7), 2688);
    }

    #[test]
    fn what_xrstor_refuses_is_cleared() {
        let mut area = [0xff; 832];
        sanitise(&mut area, 7);
        assert_eq!(area[24..28], 0xffffu32.to_le_bytes());
        assert_eq!(area[512..520], 7u64.to_le_bytes());
        assert_eq!(area[520..576], [0; 56]);
    }
}
