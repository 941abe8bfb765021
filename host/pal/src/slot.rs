//! One slot per TCS: the memory through which a thread talks, and how it sleeps.

use crate::park::Parker;
use edge_abi::ocall::{BUFFER_LEN, EdgeFrame};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The frame and the buffer of a slot, in one mapping that is never unmapped while the enclave lives.
pub(crate) struct Channel {
    memory: NonNull<u8>,
}

// SAFETY: the memory is reached through raw pointers only, by the host thread that holds the slot.
unsafe impl Send for Channel {}
// SAFETY: as above; the enclave thread and its host thread take turns.
unsafe impl Sync for Channel {}

/// The buffer starts a page after the frame.
const BUFFER_OFFSET: usize = 4096;

impl Channel {
    fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice (above ELRANGE).
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BUFFER_OFFSET + BUFFER_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).map(|memory| Self { memory }).ok_or_else(io::Error::last_os_error)
    }

    /// Address of the frame.
    pub(crate) fn frame_address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// Copies the frame out.
    pub(crate) fn frame(&self) -> EdgeFrame {
        // SAFETY: the mapping starts with an EdgeFrame; the enclave does not run on this thread now.
        unsafe { self.memory.cast::<EdgeFrame>().as_ptr().read_volatile() }
    }

    /// Writes the frame.
    pub(crate) fn set_frame(&self, args: [u64; 6]) {
        let frame = EdgeFrame {
            number: 0,
            args,
            result: linux_abi::Errno::EIO.as_return(),
            buffer: self.buffer_pointer() as u64,
            buffer_len: BUFFER_LEN as u64,
        };
        // SAFETY: as in `frame`.
        unsafe { self.memory.cast::<EdgeFrame>().as_ptr().write_volatile(frame) };
    }

    /// Sets the result field.
    pub(crate) fn set_result(&self, result: u64) {
        // SAFETY: the field lies inside the mapping.
        let field = unsafe { self.memory.as_ptr().add(std::mem::offset_of!(EdgeFrame, result)) };
        // SAFETY: aligned, and the enclave does not run on this thread now.
        unsafe { field.cast::<u64>().write_volatile(result) };
    }

    fn buffer_pointer(&self) -> *mut u8 {
        // SAFETY: inside the mapping.
        unsafe { self.memory.as_ptr().add(BUFFER_OFFSET) }
    }

    /// The buffer, while the host serves an OCALL of the thread.
    #[allow(clippy::mut_from_ref, reason = "the slot's host thread is the only user, see `Channel`")]
    pub(crate) fn buffer(&self) -> &mut [u8] {
        // SAFETY: the enclave thread is outside, so nobody else touches the buffer until the next entry.
        unsafe { std::slice::from_raw_parts_mut(self.buffer_pointer(), BUFFER_LEN) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BUFFER_OFFSET + BUFFER_LEN) };
    }
}

/// What the host keeps for a TCS.
pub(crate) struct Slot {
    /// Address of the TCS.
    pub(crate) tcs: u64,
    /// The channel.
    pub(crate) channel: Channel,
    /// How its thread sleeps.
    pub(crate) parker: Parker,
    /// The host thread that is in it, or 0.
    pub(crate) host_tid: AtomicI32,
    taken: AtomicBool,
}

impl Slot {
    pub(crate) fn new(tcs: u64) -> io::Result<Self> {
        Ok(Self {
            tcs,
            channel: Channel::new()?,
            parker: Parker::new()?,
            host_tid: AtomicI32::new(0),
            taken: AtomicBool::new(false),
        })
    }

    /// Takes the slot if it is free.
    pub(crate) fn try_take(&self) -> bool {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives it back.
    pub(crate) fn release(&self) {
        self.host_tid.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }
}
