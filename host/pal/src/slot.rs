//! One slot per TCS: the memory through which a thread talks, and how it sleeps.

use crate::epoll::Epoll;
use crate::ocalls::INTERRUPT_SIGNAL;
use crate::park::Parker;
use crate::threads::{current_tid, signal_thread};
use edge_abi::layout;
use edge_abi::ocall::{BUFFER_LEN, EdgeFrame};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

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
    /// The slot number.
    index: u64,
    /// Address of the TCS.
    pub(crate) tcs: u64,
    /// The channel.
    pub(crate) channel: Channel,
    /// How its thread sleeps.
    pub(crate) parker: Parker,
    /// The instance in which it sleeps for sockets ([`crate::readiness`]), made when it is needed for the first time.
    pub(crate) epoll: OnceLock<Epoll>,
    /// The host thread that is in it, or 0.
    pub(crate) host_tid: AtomicI32,
    /// Whether the host thread is scheduled otherwise than all others.
    pub(crate) is_scheduled: AtomicBool,
    /// Whether it was interrupted and the enclave may not have seen it.
    is_interrupted: AtomicBool,
    /// Whether its thread is in an ECALL.
    is_entered: AtomicBool,
}

/// An ECALL on a slot.
pub(crate) struct Entered<'a>(&'a Slot);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.is_entered.store(false, Ordering::SeqCst);
        // What was for the thread that has ended is not for the next.
        self.0.is_interrupted.store(false, Ordering::SeqCst);
    }
}

impl Slot {
    /// 1 + the slot's place, so that 0 is nobody.
    pub(crate) fn number(&self) -> u32 {
        u32::try_from(self.index + 1).unwrap_or(0)
    }

    fn new(index: u64) -> io::Result<Self> {
        Ok(Self {
            index,
            tcs: layout::thread_slot(index) + layout::slot::TCS,
            channel: Channel::new()?,
            parker: Parker::new(),
            epoll: OnceLock::new(),
            host_tid: AtomicI32::new(0),
            is_scheduled: AtomicBool::new(false),
            is_interrupted: AtomicBool::new(false),
            is_entered: AtomicBool::new(false),
        })
    }

    /// Interrupts its thread, in user code or asleep.
    pub(crate) fn interrupt(&self) {
        // Before it can wake, so that it takes the news along.
        self.is_interrupted.store(true, Ordering::SeqCst);
        self.parker.unpark();
        self.signal();
    }

    /// Signals its thread again, if the enclave has not heard yet that it was interrupted. Returns whether that is so.
    pub(crate) fn interrupt_again(&self) -> bool {
        let is_due = self.is_interrupted.load(Ordering::SeqCst) && self.is_entered.load(Ordering::SeqCst);
        if is_due {
            self.signal();
        }
        is_due
    }

    fn signal(&self) {
        let tid = self.host_tid.load(Ordering::Acquire);
        if tid != 0 {
            signal_thread(tid, INTERRUPT_SIGNAL);
        }
    }

    /// An ECALL begins, and ends when the result is dropped.
    pub(crate) fn begin(&self) -> Entered<'_> {
        self.is_entered.store(true, Ordering::SeqCst);
        Entered(self)
    }

    /// Whether there was an interrupt since the last call.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed) && self.is_interrupted.swap(false, Ordering::SeqCst)
    }
}

/// The slots of an enclave: as many as it has TCSs, which become more when it adds some.
///
/// Lock order: `free` alone.
pub(crate) struct Slots {
    all: Vec<OnceLock<Slot>>,
    free: Mutex<Free>,
}

struct Free {
    /// Slots that exist.
    count: u64,
    /// Those that nobody has, the one to be taken next last.
    indices: Vec<u64>,
}

impl Slots {
    /// Room for `most` slots, none of which exists.
    pub(crate) fn new(most: u64) -> Self {
        let most = most.min(layout::MAX_THREADS);
        Self {
            all: (0..most).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Free { count: 0, indices: Vec::new() }),
        }
    }

    /// Makes slots until there are `count`.
    ///
    /// # Errors
    /// EINVAL there is no room for so many; ENOMEM, EMFILE.
    pub(crate) fn grow(&self, count: u64) -> io::Result<()> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while free.count < count {
            let index = free.count;
            let place = self.get_place(index).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
            let slot = Slot::new(index)?;
            place.get_or_init(|| slot);
            free.indices.insert(0, index);
            free.count += 1;
        }
        Ok(())
    }

    fn get_place(&self, index: u64) -> Option<&OnceLock<Slot>> {
        self.all.get(usize::try_from(index).ok()?)
    }

    /// How many there can be.
    pub(crate) fn len(&self) -> u64 {
        self.all.len() as u64
    }

    /// Slot `index`, if it exists.
    pub(crate) fn get(&self, index: u64) -> Option<&Slot> {
        self.get_place(index)?.get()
    }

    /// Takes a free slot for the calling thread.
    pub(crate) fn take(&self) -> Option<&Slot> {
        let index = self.free.lock().unwrap_or_else(PoisonError::into_inner).indices.pop()?;
        let slot = self.get(index)?;
        slot.host_tid.store(current_tid(), Ordering::Release);
        Some(slot)
    }

    /// Whether one can be taken now.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.lock().unwrap_or_else(PoisonError::into_inner).indices.is_empty()
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&self, slot: &Slot) {
        slot.host_tid.store(0, Ordering::Release);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).indices.push(slot.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_once_and_come_back() {
        let slots = Slots::new(2);
        assert!(slots.take().is_none());
        slots.grow(2).unwrap();
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert_ne!(first.tcs, second.tcs);
        assert!(slots.take().is_none());
        slots.give_back(first);
        assert_eq!(slots.take().unwrap().tcs, first.tcs);
        assert!(slots.grow(3).is_err());
    }
}
