//! Trusted runtime: enclave entry and exit, exceptions, user switch, OCALLs, heap.
#![cfg_attr(not(test), no_std)]
