//! Sleeping, waking and telling.
//!
//! * A [`Waiter`] puts its thread to sleep; its [`Waker`]s, which anybody may hold, end the sleep.
//! * A [`WaiterQueue`] holds wakers of threads that wait for one thing, in the order in which they came.
//! * A [`Notifier`] tells its [`Observer`]s of every [`Event`] that their [`EventFilter`] lets through. A waker is an observer,
//!   and so is a [`WaiterQueueObserver`], which wakes a whole queue.
//!
//! No condition lives here. Who waits enqueues (or registers) *before* it looks at its condition, and looks again after every
//! sleep; who changes the condition wakes (or broadcasts) *afterwards*. Then no wake is lost, and one for nothing does no harm.
//!
//! Nothing here blocks. Locks: a queue's or a notifier's own, innermost of all; none is held while an observer is told, or
//! while a thread is unparked.

#[cfg(all(test, loom))]
mod models;
mod notifier;
mod queue;
mod waiter;

pub use notifier::{AllEvents, Event, EventFilter, Notifier, Observer, WaiterQueueObserver};
pub use queue::WaiterQueue;
pub use waiter::{Rest, Unpark, Waiter, Waker};
