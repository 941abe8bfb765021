//! Scheduling: what threads ask for, and what the host is told of it.
//!
//! The host schedules. A [`SchedAgent`] remembers the settings of a thread, answers for them, and asks the host to apply them to the
//! host thread, once there is one. The answers never depend on the host, except for the number of processors, which it gave
//! at start: a set of none of those is refused, whatever the host would say to it.

mod agent;
mod cpu_set;

pub(crate) use agent::{Policy, SchedAgent, Settings};
pub(crate) use cpu_set::CpuSet;
