//! Which host sockets are ready, without asking the host each time.
//!
//! A socket is watched from the first time that somebody waits for it. From then on the host tells of edges, which
//! [`HostSockets::dispatch`] takes and passes on to the notifiers of the sockets, and [`Pollee`] adds up what is known of one:
//! an edge says what it is ready for; a call that fails with EAGAIN, or that a stream answers in part, says what it is not ready
//! for any more. Where neither is known (a datagram was received: is there another?) the host is asked when somebody wants to
//! know, and not before. So a server that receives until nothing is left pays for receiving, sending, and one exit
//! whenever it has nothing more to do.
//!
//! What may be wrong, and does no harm: a socket that took much may be reported writable though the next byte would wait, and
//! one readable whose data another thread has received meanwhile.
//!
//! The host is not believed: a token that leads nowhere is dropped, events are cut to those of `poll(2)`, and what is said to be
//! ready and is not is found out by the call that tries.
//!
//! Lock order: [`HostSockets::watched`] alone; it is not held while a notifier tells.

use super::bounce::Bounces;
use super::host::HostSocket;
use super::streams::Streams;
use crate::Ctx;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hashbrown::HashMap;
use kbase::sync::Mutex;
use platform::{Park, Platform};
use vfs::Readiness;

/// The host sockets of a kernel that somebody waits for, or waited.
#[derive(Default)]
pub(crate) struct HostSockets {
    watched: Mutex<HashMap<u64, Weak<HostSocket>>>,
    /// How many are watched, so that who has none pays one load.
    count: AtomicUsize,
    next_token: AtomicU64,
    /// How often nobody asked the host since somebody did.
    unasked: AtomicU32,
    bounces: Bounces,
    /// Those whose data go through the ring of operations.
    pub(crate) streams: Streams,
}

/// How many times in a row somebody may be content with what is known to be ready.
const SELDOM: u32 = 8;
/// The same where the ring tells of most that happens: only new connections, and what is not a connection, have to be asked for.
const RARELY: u32 = 64;
/// How often somebody looks at what became of what is being sent, before it sleeps.
const SETTLES: u32 = 16;

impl HostSockets {
    /// Those of a kernel, which has a ring of operations if the host makes one and `uses_ring`.
    pub(crate) fn new(uses_ring: bool) -> Self {
        Self { streams: Streams::new(uses_ring), ..Self::default() }
    }

    /// Whether a thread that waits may wait for the host.
    pub(crate) fn are_watched(&self) -> bool {
        self.asks_host() || !self.streams.is_empty()
    }

    /// Whether the host may know of edges that it has not told.
    fn asks_host(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Writes how many operations of the ring there were, if there were any.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn report(&self, into: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let counts = self.streams.counts();
        counts
            .iter()
            .filter(|(_, value)| *value != 0)
            .try_for_each(|(name, value)| writeln!(into, "{name} {value}"))
    }

    pub(super) const fn bounces(&self) -> &Bounces {
        &self.bounces
    }

    /// Starts to watch a socket: the token for the host, which is not 0.
    pub(super) fn add(&self, socket: &Weak<HostSocket>) -> u64 {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed) + 1;
        let mut watched = self.watched.lock();
        watched.insert(token, socket.clone());
        self.count.store(watched.len(), Ordering::SeqCst);
        token
    }

    pub(super) fn remove(&self, token: u64) {
        let mut watched = self.watched.lock();
        let removed = watched.remove(&token);
        self.count.store(watched.len(), Ordering::SeqCst);
        drop(watched);
        drop(removed);
    }

    /// Passes on the edges that the host has told of, and what became of operations of the ring. Does not leave the enclave but
    /// to wake sleepers.
    pub(crate) fn dispatch(&self, platform: &dyn Platform) -> usize {
        let edges = platform.take_readiness(&mut |token, events| {
            let socket = self.watched.lock().get(&token).and_then(Weak::upgrade);
            if let Some(socket) = socket {
                socket.on_edge(Readiness::from_bits_truncate(events));
            }
        });
        edges.saturating_add(self.streams.dispatch(platform))
    }

    /// Sleeps until unparked or a time of CLOCK_MONOTONIC in nanoseconds: who waits for something else than sockets. While something
    /// is being sent, what becomes of it is passed on, so that what is queued behind it is sent.
    pub(crate) fn block(&self, platform: &dyn Platform, deadline_ns: Option<u64>) -> Park {
        if !self.streams.are_sending() || self.settles(platform) {
            return platform.park(deadline_ns);
        }
        let park = platform.park_ready(deadline_ns);
        self.dispatch(platform);
        park
    }

    /// Whether all that is being sent is sent soon, and nothing comes of it.
    fn settles(&self, platform: &dyn Platform) -> bool {
        // A host that goes on telling is left.
        for _ in 0..SETTLES {
            if self.streams.settle(platform) == 0 {
                break;
            }
        }
        !self.streams.are_sending()
    }

    /// Has the host tell what it knows, and passes that on: one exit. To be called by who says what is ready without having
    /// slept. Returns whether there is anything to ask about.
    pub(crate) fn fetch(&self, platform: &dyn Platform) -> bool {
        let told = self.dispatch(platform);
        if !self.asks_host() {
            return told > 0;
        }
        platform.park_ready(Some(0));
        self.dispatch(platform);
        true
    }

    /// Passes on what the host has told, and asks it every [`SELDOM`] times: for who finds something ready every time, so
    /// that it hears of the others too.
    pub(crate) fn fetch_sometimes(&self, platform: &dyn Platform) {
        if !self.are_watched() {
            return;
        }
        let seldom = if self.streams.is_empty() { SELDOM } else { RARELY };
        if self.dispatch(platform) == 0 && self.unasked.fetch_add(1, Ordering::Relaxed) >= seldom {
            self.unasked.store(0, Ordering::Relaxed);
            self.fetch(platform);
        }
    }
}

/// Sleeps until the thread is woken, a host socket becomes ready, or a time of CLOCK_MONOTONIC in nanoseconds. Every wait for
/// files sleeps here, or in [`rest`].
pub(crate) fn sleep(ctx: &Ctx<'_>, deadline_ns: Option<u64>) {
    let deadline_ns = ctx.kernel.host_sockets.streams.limit(ctx.platform(), deadline_ns);
    if ctx.kernel.host_sockets.are_watched() {
        rest(ctx, || ctx.platform().park_ready(deadline_ns));
    } else {
        ctx.sleep(deadline_ns);
    }
}

/// Sleeps in `block`, which edges of host sockets end, unless some have come already; `None`: it did not sleep.
pub(crate) fn rest<T>(ctx: &Ctx<'_>, block: impl FnOnce() -> T) -> Option<T> {
    let sockets = &ctx.kernel.host_sockets;
    if sockets.dispatch(ctx.platform()) > 0 || sockets.streams.settle(ctx.platform()) > 0 {
        return None;
    }
    sockets.unasked.store(0, Ordering::Relaxed);
    let value = ctx.rest(block);
    sockets.dispatch(ctx.platform());
    value
}

/// Bits of [`Pollee::word`]: what the socket is ready for, whether that has to be asked, and a count of edges above.
const READY: u64 = 0xffff;
const UNSURE: u64 = 1 << 16;
const EDGE: u64 = 1 << 17;

/// What is known of the readiness of one watched socket.
pub(super) struct Pollee {
    word: AtomicU64,
}

/// What was known before a call, to be told what the call found out.
#[derive(Clone, Copy)]
pub(super) struct Before(u64);

impl Pollee {
    pub(super) const fn new() -> Self {
        Self { word: AtomicU64::new(UNSURE) }
    }

    /// An edge: what the socket is ready for. Returns whether that is news: the first edge, which comes because the host
    /// began to watch, is none when all of it is known already.
    ///
    /// Edges may come in another order than the host saw them, when several threads pass them on. So one only adds to what is
    /// known: what it does not have may have come since.
    pub(super) fn edge(&self, ready: Readiness) -> bool {
        let ready = u64::from(ready.bits());
        let update = |word: u64| {
            let confirmed = if word & READY & !ready == 0 { UNSURE } else { 0 };
            Some((word & !confirmed).wrapping_add(EDGE) | ready)
        };
        // The closure always gives a value.
        let result = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        let (Ok(before) | Err(before)) = result;
        before >= EDGE || before & UNSURE != 0 || before & ready != ready
    }

    /// The host begins to watch anew: the next edge is the first.
    pub(super) fn renew(&self) {
        self.word.fetch_and(READY | UNSURE, Ordering::SeqCst);
    }

    /// To be called before a call on the socket is made.
    pub(super) fn before(&self) -> Before {
        Before(self.word.load(Ordering::SeqCst))
    }

    /// The call found the socket not ready for `events`. An edge that came meanwhile knows better.
    pub(super) fn is_not(&self, before: Before, events: Readiness) {
        self.replace(before, before.0 & !u64::from(events.bits()));
    }

    /// A stream gave less than was wanted: there is no more, but an end or an error would be. Where there is urgent data,
    /// what comes before it is given alone.
    pub(super) fn is_drained(&self, before: Before) {
        let ends = Readiness::RDHUP | Readiness::HUP | Readiness::ERR;
        if before.0 & u64::from(Readiness::PRI.bits()) != 0 {
            self.is_unsure(before);
        } else if before.0 & u64::from(ends.bits()) == 0 {
            self.is_not(before, Readiness::IN);
        }
    }

    /// The call changed something: what is known is to be asked again.
    pub(super) fn is_unsure(&self, before: Before) {
        self.replace(before, before.0 | UNSURE);
    }

    /// The host was asked.
    pub(super) fn is(&self, before: Before, ready: Readiness) {
        self.replace(before, (before.0 & !(READY | UNSURE)) | u64::from(ready.bits()));
    }

    fn replace(&self, before: Before, word: u64) {
        if word != before.0
            && self.word.compare_exchange(before.0, word, Ordering::SeqCst, Ordering::SeqCst).is_err()
        {
            // Somebody else called, or an edge came. Asking is always right.
            self.word.fetch_or(UNSURE, Ordering::SeqCst);
        }
    }

    /// What the socket is ready for; `None`: the host has to be asked.
    pub(super) fn ready(&self) -> Option<Readiness> {
        let word = self.word.load(Ordering::SeqCst);
        let bits = u16::try_from(word & READY).unwrap_or_default();
        (word & UNSURE == 0).then_some(Readiness::from_bits_truncate(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Readiness = Readiness::IN.union(Readiness::OUT);

    #[test]
    fn what_a_call_found_out_counts_until_the_next_edge() {
        let pollee = Pollee::new();
        assert_eq!(pollee.ready(), None);
        assert!(pollee.edge(BOTH));
        let before = pollee.before();
        pollee.is_not(before, Readiness::IN);
        assert_eq!(pollee.ready(), Some(Readiness::OUT));
        pollee.edge(BOTH);
        assert_eq!(pollee.ready(), Some(BOTH));
    }

    #[test]
    fn the_first_edge_is_no_news_to_who_has_asked() {
        let pollee = Pollee::new();
        let before = pollee.before();
        pollee.is(before, BOTH);
        assert!(!pollee.edge(Readiness::OUT));
        assert!(pollee.edge(Readiness::OUT));
        let pollee = Pollee::new();
        pollee.is(pollee.before(), Readiness::OUT);
        assert!(pollee.edge(BOTH));
    }

    #[test]
    fn edges_that_overtake_each_other_lose_nothing() {
        let pollee = Pollee::new();
        pollee.edge(BOTH);
        pollee.edge(Readiness::OUT);
        assert_eq!(pollee.ready(), Some(BOTH));
        pollee.is_unsure(pollee.before());
        pollee.edge(Readiness::OUT);
        assert_eq!(pollee.ready(), None, "whether it is readable has to be asked");
        pollee.edge(BOTH);
        assert_eq!(pollee.ready(), Some(BOTH));
    }

    #[test]
    fn a_short_answer_before_urgent_data_says_nothing() {
        let pollee = Pollee::new();
        pollee.edge(BOTH);
        pollee.is_drained(pollee.before());
        assert_eq!(pollee.ready(), Some(Readiness::OUT));
        pollee.edge(BOTH | Readiness::PRI);
        pollee.is_drained(pollee.before());
        assert_eq!(pollee.ready(), None);
        pollee.is(pollee.before(), BOTH | Readiness::RDHUP);
        pollee.is_drained(pollee.before());
        assert_eq!(pollee.ready(), Some(BOTH | Readiness::RDHUP));
    }

    #[test]
    fn an_edge_during_a_call_is_not_lost() {
        let pollee = Pollee::new();
        pollee.edge(BOTH);
        let before = pollee.before();
        pollee.edge(BOTH);
        pollee.is_not(before, Readiness::IN);
        assert_eq!(pollee.ready(), None, "the host is asked");
        let before = pollee.before();
        pollee.is(before, BOTH);
        assert_eq!(pollee.ready(), Some(BOTH));
    }
}
