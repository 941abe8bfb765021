//! Host threads under the LibOS threads.

/// A LibOS thread as the platform knows it: the slot it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadHandle(pub u32);

/// How a thread wants to be scheduled (`sched(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling<'a> {
    /// SCHED_*.
    pub policy: u32,
    /// Real-time priority, or 0.
    pub priority: u32,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// The processors that it may run on, as bits of words, counted among those that the host gives to the enclave; none: all
    /// of them.
    pub cpus: &'a [u64],
}

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

    /// Asks for a host thread to be scheduled otherwise, until it no longer runs this thread.
    ///
    /// # Errors
    /// What the host says; nothing depends on it.
    fn schedule(&self, thread: ThreadHandle, request: &Scheduling<'_>) -> crate::HostResult<()>;

    /// The processor that the calling thread runs on, as the host says, counted among those that it may run on. Any number.
    fn current_cpu(&self) -> u32;
}
