//! A host that is a closure: what fuzz targets put in the place of the enclave's border.
//!
//! No enclave is entered and nothing leaves one. A call of [`crate::Runtime`] that asks the host calls the closure of the
//! calling thread, with the same frame and buffer and the same checks of what comes back.

use crate::outside::Outside;
use crate::{net, readiness, uring};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use edge_abi::ecall::HostRange;
use edge_abi::ocall::{BUFFER_LEN, EdgeFrame};
use zerocopy::FromZeros;

/// A host: number and arguments of a call, and the buffer. Returns the result.
pub type Host = Box<dyn FnMut(u64, [u64; 6], Outside) -> u64>;

/// What a thread and its host have in common.
struct Shared {
    frame: Cell<EdgeFrame>,
    buffer: Vec<Cell<u64>>,
    host: RefCell<Option<Host>>,
}

std::thread_local! {
    static SHARED: Shared = Shared {
        frame: Cell::new(EdgeFrame::new_zeroed()),
        buffer: alloc::vec![Cell::new(0); BUFFER_LEN / 8],
        host: RefCell::new(None),
    };
}

/// Gives the calling thread a host from now on, and forgets what other hosts said.
pub fn install(host: Host) {
    net::forget();
    readiness::forget();
    uring::forget();
    SHARED.with(|shared| *shared.host.borrow_mut() = Some(host));
}

/// Where the frame and the buffer of the calling thread are.
pub(crate) fn place() -> (u64, HostRange) {
    SHARED.with(|shared| {
        let address = shared.buffer.as_ptr().expose_provenance() as u64;
        (shared.frame.as_ptr().expose_provenance() as u64, HostRange { address, len: BUFFER_LEN as u64 })
    })
}

/// Lets the host answer.
pub(crate) fn leave() {
    let (frame, buffer) = place();
    let frame = Outside::new(HostRange { address: frame, len: size_of::<EdgeFrame>() as u64 });
    let (Some(frame), Some(buffer)) = (frame, Outside::new(buffer)) else { return };
    let Some(call) = frame.read::<EdgeFrame>(0) else { return };
    let result = SHARED.with(|shared| {
        shared.host.borrow_mut().as_mut().map_or(u64::MAX, |host| host(call.number, call.args, buffer))
    });
    let _ = frame.write(offset_of!(EdgeFrame, result) as u64, &result);
}
