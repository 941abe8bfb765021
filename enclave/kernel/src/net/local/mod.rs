//! What sockets between the programs of one enclave are made of, whatever their family. Nothing here leaves the enclave, but to wake
//! a thread that sleeps.
//!
//! * [`channel`]: one direction of a connection.
//! * [`packets`]: a queue of messages.
//! * [`backlog`]: connections that nobody accepted yet.
//! * [`chain`]: control messages for who receives.

pub(crate) mod backlog;
pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod packets;

pub(crate) use backlog::Backlog;
pub(crate) use chain::Chain;
pub(crate) use channel::{Channel, Queue};
pub(crate) use packets::{Limit, Packet, Packets, put_whole};
