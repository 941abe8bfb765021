//! Lays out, relocates, measures and signs an enclave.
#![forbid(unsafe_code)]
