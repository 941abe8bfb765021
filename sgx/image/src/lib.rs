//! Lays out, relocates, measures and signs an enclave. Bytes in, bytes out: no file is touched here.
//!
//! ```text
//! build(libos ELF, options) -> EnclaveImage --sign or attach_signature--> SignedEnclave <--to/from_bytes--> file
//! ```
//!
//! * [`elf`](Image): the LibOS as relocated pages.
//! * [`build`]: the pages of the whole enclave in the order of EADD, its measurement and its unsigned SIGSTRUCT.
//! * [`SigningKey`], [`PublicKey`]: RSA-3072 keys with exponent 3, here or in a device that signs detached.
//! * [`SignedEnclave`]: the file that a loader maps and adds page by page.
//!
//! The same input gives the same bytes, on any machine and from any path: MRENCLAVE can be rebuilt by whoever
//! wants to check it.
#![forbid(unsafe_code)]

mod build;
mod chunk;
mod elf;
mod error;
mod file;
mod key;
mod sign;

pub use build::{BuildOptions, EnclaveImage, Kss, build};
pub use chunk::{Chunk, Content};
pub use elf::{Image, Run};
pub use error::{Error, Result};
pub use file::SignedEnclave;
pub use key::{PublicKey, RSA_BYTES, SigningKey};
