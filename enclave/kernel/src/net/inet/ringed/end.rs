//! Closing: what is not sent yet is sent first, and no operation is left behind. Leaving the ring: the same, and the socket stays.

use super::{RingStream, Sending};
use core::sync::atomic::Ordering;
use linux_abi::net::option::{SOL_SOCKET, socket};

/// `struct linger`: on, with no time.
const RESET: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
/// How often the end of an operation is looked for before a descriptor is closed by a call.
const PATIENCE: u32 = 1000;

impl RingStream {
    /// The program closed it. Returns at once; what is not sent goes on being sent.
    pub(in crate::net::inet) fn close(&self) {
        self.sockets.streams.begin_close();
        self.state.lock().is_closed = true;
        let is_reset = self.aborts.load(Ordering::SeqCst);
        if is_reset || self.inbox.state().readable() > 0 {
            if !is_reset {
                // As on Linux, where who closes with data that it has not read resets the connection. The host does not know of them.
                let _ = self.platform.host_set_option(self.fd, SOL_SOCKET, socket::LINGER, &RESET);
                self.set_linger(true, 0);
            }
            self.outbox.clear();
            // Who makes a call finishes when it is done.
            let is_calling = self.state.lock().sending == Sending::Calling;
            if !is_calling {
                self.finish();
            }
            return;
        }
        self.outbox.state().writers = 0;
        self.pump();
        self.platform.ring_kick();
    }

    /// Closes the host's socket, if the program closed it and nothing is being sent.
    pub(super) fn finish_if_closed(&self) {
        if self.state.lock().is_closed {
            self.finish();
        }
    }

    fn finish(&self) {
        {
            let mut state = self.state.lock();
            if core::mem::replace(&mut state.is_gone, true) {
                return;
            }
        }
        // With SO_LINGER closing takes time, and it is not the kernel's thread of the ring that should wait, on which all depend. It does
        // if it has not looked at what was submitted: that must not find another socket of the same number.
        let is_by_call = self.lingers.load(Ordering::SeqCst)
            && !self.aborts.load(Ordering::SeqCst)
            && self.end_operations();
        self.sockets.streams.end_close(self.token);
        if is_by_call {
            self.platform.host_close_socket(self.fd);
        } else {
            self.platform.ring_close(self.fd);
        }
    }

    /// Leaves the ring: all is sent, and nothing is outstanding any more. What was received stays here. False: it does not, since a
    /// peer does not read what was sent, or all is over.
    pub(in crate::net::inet) fn leave(&self) -> bool {
        if !self.soon(|| self.unsent() == 0) {
            return false;
        }
        {
            let mut state = self.state.lock();
            if state.is_at_end || state.is_gone || state.sending != Sending::Idle {
                return false;
            }
            state.is_gone = true;
        }
        self.end_operations();
        let has_left = {
            let mut state = self.state.lock();
            let has_left = !state.is_receiving && !state.is_at_end;
            state.is_gone = has_left;
            has_left
        };
        if has_left {
            self.sockets.streams.remove(self.token);
        } else {
            self.want_more();
            self.pump();
            self.platform.ring_kick();
        }
        has_left
    }

    /// Ends what is outstanding. False: the host does not do so soon.
    fn end_operations(&self) -> bool {
        if self.platform.ring_cancel(self.fd).is_err() {
            return false;
        }
        self.platform.ring_kick();
        self.soon(|| !self.state.lock().is_receiving)
    }

    /// Waits until something is so, but not long.
    fn soon(&self, is_so: impl Fn() -> bool) -> bool {
        for _ in 0..PATIENCE {
            self.sockets.dispatch(&*self.platform);
            if is_so() {
                return true;
            }
            self.platform.yield_now();
        }
        false
    }
}
