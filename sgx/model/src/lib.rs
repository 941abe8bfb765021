//! SGX instruction rules as pure functions.
//!
//! What Intel's SDM vol. 3D writes as "Operation" of each leaf is here a function from state to state, or to
//! the fault or error code that the leaf raises, in the order of the SDM's checks. Nothing here touches memory,
//! signals or the host: `sgx-machine` performs what these functions decide.
//!
//! * [`epcm`]: pages, and the leaves that change them.
//! * [`tcs`]: threads and their frames.
//! * [`secs`]: the enclave: ECREATE, measurement, EINIT.
//! * [`sigstruct`]: EINIT's checks of a SIGSTRUCT by itself.
//! * [`keys`]: EGETKEY and EREPORT.
//! * [`fault`]: what goes wrong, and what the enclave is told of it.
#![forbid(unsafe_code)]

pub mod epcm;
pub mod fault;
pub mod keys;
pub mod secs;
pub mod sigstruct;
pub mod tcs;

pub use secs::Elrange;
