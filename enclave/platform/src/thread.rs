//! Host threads under the LibOS threads.

/// A LibOS thread as the platform knows it: the slot it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadHandle(pub u32);

/// How a [`Threads::park`] ended. A park may end at any time without a reason, so callers check their condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// [`Threads::unpark`] or [`Threads::interrupt`] was called, or the host woke it for nothing.
    Woken,
    /// The deadline passed.
    TimedOut,
}

/// Parking, waking and interrupting threads.
pub trait Threads {
    /// The calling thread.
    fn current(&self) -> ThreadHandle;

    /// Sleeps until the calling thread is unparked. An unpark that came before makes it return at once (one
    /// token is kept).
    ///
    /// `deadline_ns` is a time of [`crate::Clocks::monotonic_ns`].
    fn park(&self, deadline_ns: Option<u64>) -> Park;

    /// Wakes a parked thread, or lets its next park return at once.
    fn unpark(&self, thread: ThreadHandle);

    /// Makes a thread that runs user code return from `run_user` with [`crate::Trap::Interrupt`] soon, and one that is
    /// blocked in the host return. Whoever calls it has stored why beforehand.
    fn interrupt(&self, thread: ThreadHandle);

    /// Asks for an [`Threads::interrupt`] and an unpark of `thread` at a time of [`crate::Clocks::monotonic_ns`], replacing
    /// an earlier request; `None` cancels it. The host may be late, and repeats it until the next call: an interrupt can come
    /// while nobody sees it.
    fn interrupt_at(&self, thread: ThreadHandle, deadline_ns: Option<u64>);

    /// Asks for a host thread to run LibOS thread `tid` with the RunThread ECALL.
    ///
    /// # Errors
    /// EAGAIN no thread slot is free.
    fn start_thread(&self, tid: u32) -> crate::HostResult<()>;

    /// Gives up the processor.
    fn yield_now(&self);
}
