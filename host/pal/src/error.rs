//! What can go wrong on the host side.

use linux_abi::Errno;
use std::io;

/// A failure to load or run an enclave.
#[derive(Debug, thiserror::Error)]
pub enum PalError {
    /// The signed enclave file cannot be used.
    #[error("the enclave file is not usable")]
    EnclaveFile(#[source] sgx_image::Error),
    /// The machine refused a step of making the enclave.
    #[error("cannot {step} on {machine}")]
    Machine {
        /// What was tried.
        step: &'static str,
        /// Which machine.
        machine: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// A host resource is missing.
    #[error("cannot {step}")]
    Host {
        /// What was tried.
        step: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An ECALL failed.
    #[error("the enclave answered {errno} to {call}")]
    Ecall {
        /// Which call.
        call: &'static str,
        /// Its errno; `edge_abi::ecall` says what each means.
        errno: Errno,
    },
    /// The enclave stopped itself, or cannot be entered any more.
    #[error("the enclave stopped: {0}")]
    Lost(String),
}
