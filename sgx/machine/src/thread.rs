//! What the machine keeps per host thread: the logical processor's state that software must hold somewhere.
//!
//! A thread that enters owns a block of 64 KiB, aligned to its size:
//!
//! | offset | what |
//! |---|---|
//! | 0 | [`ThreadBlock`] |
//! | 0x1000 | code: the landing pad that EENTER passes in RCX, and the tail of ERESUME |
//! | 0x2000 | guard |
//! | 0x3000 | alternate signal stack |
//!
//! A signal handler finds the block by masking RSP. It cannot use thread-local storage: while the enclave runs,
//! FS belongs to the program in it. All blocks lie in one arena, so a handler on another stack is told apart.

use crate::entry;
use crate::memory::{self, Mapping, PAGE};
use crate::tcs::ThreadControl;
use sgx_model::Elrange;
use std::cell::RefCell;
use std::io;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes and alignment of a block.
pub(crate) const BLOCK: usize = 64 << 10;
/// Most blocks, and so most host threads that can enter at the same time.
const BLOCKS: usize = 8192;
const CODE: usize = PAGE;
const STACK: usize = 3 * PAGE;
/// Offset of the ERESUME tail in the code page.
const TAIL: usize = 64;

/// First address of the arena, for the handler; 0 before there is one.
pub(crate) static ARENA_START: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the arena.
pub(crate) const ARENA_LEN: usize = BLOCKS * BLOCK;

/// State of one thread. Its own thread, the assembly in [`entry`] and its signal handlers use it; all of it is
/// atomic because handlers run between any two instructions.
#[repr(C, align(4096))]
pub(crate) struct ThreadBlock {
    /// 1 while the enclave runs, as far as the registers say. Where RIP is in the machine's own code, RIP decides.
    pub(crate) inside: AtomicU32,
    /// 1 when an interrupt came while the enclave did not run. ERESUME takes it.
    pub(crate) pending: AtomicU32,
    /// FS base of the host thread.
    pub(crate) host_fs: AtomicU64,
    /// GS base of the host thread; 0 when it has no use for GS.
    pub(crate) host_gs: AtomicU64,
    /// RSP that EEXIT and AEX go back to.
    pub(crate) host_rsp: AtomicU64,
    /// Where EEXIT lands: the RCX of EENTER.
    pub(crate) landing: AtomicU64,
    /// Last part of ERESUME.
    pub(crate) tail: AtomicU64,

    /// OENTRY of the TCS as a linear address.
    pub(crate) entry: AtomicU64,
    /// FS base for EENTER.
    pub(crate) fsbase: AtomicU64,
    /// GS base for EENTER.
    pub(crate) gsbase: AtomicU64,
    /// Address of the TCS.
    pub(crate) tcs_address: AtomicU64,
    /// The SSA frame that an AEX would use now (CSSA).
    pub(crate) cssa: AtomicU64,
    /// GPRSGX of the frame: where EENTER notes URSP and URBP, and what ERESUME restores.
    pub(crate) gprsgx: AtomicU64,
    /// XSAVE area that ERESUME restores.
    pub(crate) xsave: AtomicU64,
    /// What ERESUME restores of it.
    pub(crate) xfrm: AtomicU64,

    /// RFLAGS for the tail of ERESUME. The three slots are read by the code page, RIP-relative.
    pub(crate) slot_rflags: AtomicU64,
    /// RSP for the tail of ERESUME.
    pub(crate) slot_rsp: AtomicU64,
    /// RIP for the tail of ERESUME.
    pub(crate) slot_rip: AtomicU64,

    /// Vector of the last AEX, or [`NO_VECTOR`].
    pub(crate) exit_vector: AtomicU32,
    /// Its error code.
    pub(crate) exit_error: AtomicU32,
    /// Its address.
    pub(crate) exit_address: AtomicU64,

    /// The TCS that runs or ran last.
    pub(crate) tcs: AtomicPtr<ThreadControl>,
    /// The enclave of `tcs`.
    pub(crate) core: AtomicPtr<crate::enclave::Core>,
    /// Its number: pointers are used again, numbers are not.
    pub(crate) core_id: AtomicU64,

    /// Address and RIP of the last page fault that the machine answered by a retry, and how often in a row.
    pub(crate) retry_address: AtomicU64,
    /// See `retry_address`.
    pub(crate) retry_rip: AtomicU64,
    /// See `retry_address`.
    pub(crate) retries: AtomicU32,
}

const _: () = assert!(size_of::<ThreadBlock>() == PAGE);

/// [`ThreadBlock::exit_vector`] of an interrupt.
pub(crate) const NO_VECTOR: u32 = u32::MAX;

impl ThreadBlock {
    /// Start of the block as a number.
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Whether an instruction pointer is in the landing pad.
    pub(crate) fn in_landing(&self, rip: u64) -> bool {
        let landing = self.landing.load(Ordering::Relaxed);
        (landing..landing + TAIL as u64).contains(&rip)
    }

    /// Whether an instruction pointer is in the tail of ERESUME.
    pub(crate) fn in_tail(&self, rip: u64) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        (tail..tail + TAIL as u64).contains(&rip)
    }
}

/// The arena and which blocks are free.
struct Arena {
    mapping: Mapping,
    start: usize,
    free: Mutex<Free>,
}

struct Free {
    used: usize,
    returned: Vec<usize>,
}

static ARENA: OnceLock<Arena> = OnceLock::new();

fn arena() -> io::Result<&'static Arena> {
    if let Some(arena) = ARENA.get() {
        return Ok(arena);
    }
    let mapping = Mapping::new(ARENA_LEN + BLOCK, libc::PROT_NONE)?;
    let start = mapping.address().next_multiple_of(BLOCK);
    let arena = ARENA.get_or_init(|| Arena {
        mapping,
        start,
        free: Mutex::new(Free { used: 0, returned: Vec::new() }),
    });
    ARENA_START.store(arena.start, Ordering::Release);
    Ok(arena)
}

/// A block, owned by the thread that took it.
struct OwnedBlock(usize);

impl OwnedBlock {
    fn take() -> io::Result<Self> {
        let arena = arena()?;
        let mut free = arena.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = free.returned.pop() {
            return Ok(Self(address));
        }
        if free.used == BLOCKS {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too many threads for software SGX"));
        }
        let address = arena.start + free.used * BLOCK;
        debug_assert!(address + BLOCK <= arena.mapping.address() + arena.mapping.len());
        memory::protect(address, PAGE, libc::PROT_READ | libc::PROT_WRITE)?;
        memory::protect(address + STACK, BLOCK - STACK, libc::PROT_READ | libc::PROT_WRITE)?;
        write_code(address)?;
        free.used += 1;
        Ok(Self(address))
    }

    fn block(&self) -> &'static ThreadBlock {
        let block = ptr::with_exposed_provenance::<ThreadBlock>(self.0);
        // SAFETY: blocks are never unmapped, are zero at first (valid for atomics), and all fields are atomic.
        unsafe { &*block }
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        let off = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the thread ends outside the enclave and not in a handler; without the stack, a later signal
        // takes the thread's own stack, which the handler recognizes.
        unsafe { libc::sigaltstack(&raw const off, ptr::null_mut()) };
        if let Some(arena) = ARENA.get() {
            arena.free.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.0);
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<OwnedBlock>> = const { RefCell::new(None) };
}

/// The block of the calling thread, if it was prepared.
pub(crate) fn current() -> Option<&'static ThreadBlock> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.as_ref().map(OwnedBlock::block)).ok()?
}

/// Gives the calling thread a block and makes its stack the alternate signal stack.
///
/// # Errors
/// ENOMEM.
pub(crate) fn prepare(elrange: Elrange) -> io::Result<()> {
    if current().is_none() {
        let owned = OwnedBlock::take()?;
        CURRENT.with(|current| current.replace(Some(owned)));
    }
    let block = current().ok_or(io::ErrorKind::OutOfMemory)?;
    block.host_fs.store(entry::read_fs_base(), Ordering::Relaxed);
    // What an enclave left behind in this thread, or in the one that made it, is not the host's.
    let gs = entry::read_gs_base();
    block.host_gs.store(if elrange.contains(gs) { 0 } else { gs }, Ordering::Relaxed);
    block.landing.store((block.address() + CODE) as u64, Ordering::Relaxed);
    block.tail.store((block.address() + CODE + TAIL) as u64, Ordering::Relaxed);
    block.inside.store(0, Ordering::Relaxed);
    block.pending.store(0, Ordering::Relaxed);
    block.core_id.store(0, Ordering::Relaxed);
    let stack = libc::stack_t {
        ss_sp: ptr::with_exposed_provenance_mut(block.address() + STACK),
        ss_flags: 0,
        ss_size: BLOCK - STACK,
    };
    // SAFETY: the range is mapped for as long as the process lives and nothing else uses it.
    if unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes the code page of a block.
///
/// The landing pad has to find the block with no register to rely on, and the tail of ERESUME must load the last
/// three registers with no other left and without touching the enclave's stack: both get code of their own per
/// thread, which addresses the block by an immediate and RIP-relative.
fn write_code(block: usize) -> io::Result<()> {
    let mut code = [0xcc; 2 * TAIL];
    let mut at = 0;
    let mut emit = |bytes: &[u8], at: &mut usize| {
        if let Some(place) = code.get_mut(*at..*at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        *at += bytes.len();
    };
    // Landing pad: mov rcx, BLOCK; jmp [rip]; .quad exit
    emit(&[0x48, 0xb9], &mut at);
    emit(&(block as u64).to_le_bytes(), &mut at);
    emit(&[0xff, 0x25, 0, 0, 0, 0], &mut at);
    emit(&entry::exit_address().to_le_bytes(), &mut at);

    // Tail. `field(at, trailing, offset)` is the displacement to a field of the block from the end of an
    // instruction whose displacement is at `at` with `trailing` bytes after it.
    let field = |at: usize, trailing: usize, offset: usize| {
        let next = CODE + at + 4 + trailing;
        // Both are below 0x2000.
        i32::try_from(offset).unwrap_or(0).wrapping_sub(i32::try_from(next).unwrap_or(0)).to_le_bytes()
    };
    at = TAIL;
    // mov dword [rip + inside], 1
    emit(&[0xc7, 0x05], &mut at);
    emit(&field(at, 4, offset_of!(ThreadBlock, inside)), &mut at);
    emit(&1_u32.to_le_bytes(), &mut at);
    // lea rsp, [rip + slot_rflags]; popfq
    emit(&[0x48, 0x8d, 0x25], &mut at);
    emit(&field(at, 0, offset_of!(ThreadBlock, slot_rflags)), &mut at);
    emit(&[0x9d], &mut at);
    // mov rsp, [rip + slot_rsp]
    emit(&[0x48, 0x8b, 0x25], &mut at);
    emit(&field(at, 0, offset_of!(ThreadBlock, slot_rsp)), &mut at);
    // jmp [rip + slot_rip]
    emit(&[0xff, 0x25], &mut at);
    emit(&field(at, 0, offset_of!(ThreadBlock, slot_rip)), &mut at);

    memory::protect(block + CODE, PAGE, libc::PROT_READ | libc::PROT_WRITE)?;
    let page = ptr::with_exposed_provenance_mut::<u8>(block + CODE);
    // SAFETY: the page is this block's own, just made writable, and no thread runs in it yet.
    unsafe { ptr::copy_nonoverlapping(code.as_ptr(), page, code.len()) };
    memory::protect(block + CODE, PAGE, libc::PROT_READ | libc::PROT_EXEC)
}
