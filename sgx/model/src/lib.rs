//! SGX instruction rules as pure functions.
#![forbid(unsafe_code)]

pub mod sigstruct;
