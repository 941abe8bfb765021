//! SGX architectural structures and leaf numbers (Intel SDM vol. 3D).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
