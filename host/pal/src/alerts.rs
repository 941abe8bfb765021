//! Sockets of which the enclave wants to hear at once, though none of its threads sleeps: the owner of one gets signals.
//!
//! A helper thread, started when the first is watched, sleeps in an epoll instance of theirs. For each look that brings something it
//! enters the enclave. Such a socket is in no other instance ([`crate::readiness`]), so all who wait for it hear through the helper.

use crate::epoll::{Epoll, NO_EVENTS};
use crate::park::FOREVER;
use crate::threads::spawn_helper;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The instance, once there is one.
#[derive(Default)]
pub(crate) struct Alerts {
    epoll: OnceLock<Arc<Epoll>>,
    starting: Mutex<()>,
}

impl Alerts {
    /// The instance, if the helper was started.
    pub(crate) fn epoll(&self) -> Option<&Epoll> {
        self.epoll.get().map(|epoll| &**epoll)
    }

    /// Starts the helper, unless it was. It calls `tell` with the data and bits of events, until that says false.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM, EAGAIN.
    pub(crate) fn start(
        &self,
        mut tell: impl FnMut(&[(u64, u32)]) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoll.get().is_some() {
            return Ok(());
        }
        let epoll = Arc::new(Epoll::new()?);
        let its = Arc::clone(&epoll);
        spawn_helper("occlum-alerts", move || {
            let mut batch = NO_EVENTS;
            loop {
                let events: Vec<_> = its.wait(&mut batch, FOREVER).collect();
                if !events.is_empty() && !tell(&events) {
                    return;
                }
            }
        })?;
        self.epoll.get_or_init(|| epoll);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;

    #[test]
    fn somebody_tells_of_each_edge_until_nobody_wants_to_hear() {
        let alerts = Alerts::default();
        let (send, told) = mpsc::channel();
        alerts.start(move |events| send.send(events.to_vec()).is_ok()).unwrap();
        alerts.start(|_| unreachable!("the first stays")).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let events = libc::EPOLLIN | libc::EPOLLET;
        alerts.epoll().unwrap().add(reader.as_raw_fd(), events, 5).unwrap();
        for _ in 0..3 {
            writer.write_all(b"x").unwrap();
            assert_eq!(told.recv().unwrap(), [(5, libc::EPOLLIN.cast_unsigned())]);
        }
    }
}
