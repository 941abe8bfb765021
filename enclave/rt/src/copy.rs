//! User memory, with a fix-up instead of a crash.
//!
//! The assembly between `occlum_access_start` and `occlum_access_end` is the only kernel code that may fault. It uses no
//! stack and keeps in RCX what is left to do, so the fix-up is the same for all of it: return RCX.

use core::arch::global_asm;
use edge_abi::layout::{USER_BASE, USER_END};
use platform::UserFault;

/// Set in the result of [`occlum_load_word`] and [`occlum_exchange_word`] when the access faulted.
const FAULTED: u64 = 1 << 63;

global_asm!(
    ".pushsection .text.occlum_access, \"ax\", @progbits",
    ".globl occlum_access_start",
    "occlum_access_start:",
    // Copies RDX bytes from RSI to RDI; returns the number of bytes left.
    ".globl occlum_copy_bytes",
    "occlum_copy_bytes:",
    "mov rcx, rdx",
    "rep movsb",
    "mov rax, rcx",
    "ret",
    // Fills RDX bytes at RDI with SIL; returns the number of bytes left.
    ".globl occlum_fill_bytes",
    "occlum_fill_bytes:",
    "mov rcx, rdx",
    "mov eax, esi",
    "rep stosb",
    "mov rax, rcx",
    "ret",
    ".globl occlum_load_word",
    "occlum_load_word:",
    "mov rcx, {faulted}",
    "mov eax, [rdi]",
    "ret",
    ".globl occlum_exchange_word",
    "occlum_exchange_word:",
    "mov rcx, {faulted}",
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "mov eax, eax",
    "ret",
    ".globl occlum_access_end",
    "occlum_access_end:",
    // Where a faulting access goes on.
    ".globl occlum_access_faulted",
    "occlum_access_faulted:",
    "mov rax, rcx",
    "ret",
    ".popsection",
    faulted = const FAULTED,
);

unsafe extern "C" {
    safe static occlum_access_start: u8;
    safe static occlum_access_end: u8;
    safe static occlum_access_faulted: u8;
    fn occlum_copy_bytes(to: u64, from: u64, len: u64) -> u64;
    fn occlum_fill_bytes(to: u64, byte: u64, len: u64) -> u64;
    fn occlum_load_word(from: u64) -> u64;
    fn occlum_exchange_word(at: u64, current: u64, new: u64) -> u64;
}

/// The instruction to go on with if kernel code at `rip` may fault.
pub(crate) fn fixup(rip: u64) -> Option<u64> {
    let may_fault = &raw const occlum_access_start as u64..&raw const occlum_access_end as u64;
    may_fault.contains(&rip).then_some(&raw const occlum_access_faulted as u64)
}

/// Checks that a range lies in user memory.
fn check(address: u64, len: usize) -> Result<(), UserFault> {
    let end = address.checked_add(len as u64);
    if address >= USER_BASE && end.is_some_and(|end| end <= USER_END) {
        Ok(())
    } else {
        Err(UserFault { done: 0, address })
    }
}

fn outcome(address: u64, len: usize, left: u64) -> Result<(), UserFault> {
    if left == 0 {
        return Ok(());
    }
    let done = len - left as usize;
    Err(UserFault { done, address: address + done as u64 })
}

/// Copies from user memory.
pub(crate) fn load(from: u64, into: &mut [u8]) -> Result<(), UserFault> {
    check(from, into.len())?;
    // SAFETY: the destination is exclusively ours; the source is user memory, whose faults are fixed up, and
    // whose races with user code can only give other bytes.
    let left = unsafe { occlum_copy_bytes(into.as_mut_ptr() as u64, from, into.len() as u64) };
    outcome(from, into.len(), left)
}

/// Copies to user memory.
pub(crate) fn store(into: u64, from: &[u8]) -> Result<(), UserFault> {
    check(into, from.len())?;
    // SAFETY: the destination is user memory, which no Rust object lives in; faults are fixed up.
    let left = unsafe { occlum_copy_bytes(into, from.as_ptr() as u64, from.len() as u64) };
    outcome(into, from.len(), left)
}

/// Fills user memory.
pub(crate) fn fill(into: u64, len: usize, byte: u8) -> Result<(), UserFault> {
    check(into, len)?;
    // SAFETY: as in `store`.
    let left = unsafe { occlum_fill_bytes(into, u64::from(byte), len as u64) };
    outcome(into, len, left)
}

fn check_word(address: u64) -> Result<(), UserFault> {
    if !address.is_multiple_of(4) {
        return Err(UserFault { done: 0, address });
    }
    check(address, 4)
}

/// Loads an aligned word of user memory.
pub(crate) fn load_u32(from: u64) -> Result<u32, UserFault> {
    check_word(from)?;
    // SAFETY: an aligned word of user memory; faults are fixed up.
    let result = unsafe { occlum_load_word(from) };
    if result & FAULTED != 0 { Err(UserFault { done: 0, address: from }) } else { Ok(result as u32) }
}

/// Compares and exchanges an aligned word of user memory; returns what was there.
pub(crate) fn compare_exchange_u32(at: u64, current: u32, new: u32) -> Result<u32, UserFault> {
    check_word(at)?;
    // SAFETY: as in `load_u32`.
    let result = unsafe { occlum_exchange_word(at, u64::from(current), u64::from(new)) };
    if result & FAULTED != 0 { Err(UserFault { done: 0, address: at }) } else { Ok(result as u32) }
}
