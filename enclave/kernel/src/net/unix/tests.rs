//! Programs with sockets of the Unix domain.
