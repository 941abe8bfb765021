//! Software SGX in the address space of the process.
