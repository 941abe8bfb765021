//! SGX architectural structures, flags and numbers, as Intel's SDM vol. 3D lays them out.
//!
//! Plain data only: `#[repr(C)]` structures that convert to and from bytes without copying rules of their own,
//! with every size and offset checked at compile time. What the instructions *do* with them is in `sgx-model`.
//! Section titles are cited rather than numbers, because chapters were renumbered between editions.
//!
//! Flags keep unknown bits: whoever executes an instruction must see the reserved bits that were given to it.
//! Structures whose size allows it have the alignment the instructions ask for.
//!
//! * [`Secs`], [`Attributes`], [`Miscselect`]: an enclave.
//! * [`Tcs`], [`Gprsgx`], [`Exinfo`]: its threads.
//! * [`Secinfo`], [`PageType`]: its pages.
//! * [`Sigstruct`]: its author.
//! * [`Report`], [`Targetinfo`], [`Keyrequest`]: its identity.
//! * [`Encls`], [`Enclu`], [`ErrorCode`]: leaves and what they answer.
//! * [`measure`]: the records that MRENCLAVE hashes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod key;
mod leaf;
pub mod measure;
mod report;
mod secinfo;
mod secs;
mod sigstruct;
mod ssa;
mod tcs;

pub use key::{KeyName, Keypolicy, Keyrequest};
pub use leaf::{Encls, Enclu, ErrorCode};
pub use report::{Report, ReportBody, Targetinfo};
pub use secinfo::{PageType, Secinfo, SecinfoFlags};
pub use secs::{Attributes, AttributesFlags, Miscselect, Secs};
pub use sigstruct::{SIGNED_PART, SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, Sigstruct};
pub use ssa::{EXINFO_FROM_END, Exinfo, ExitInfo, ExitType, GPRSGX_FROM_END, Gprsgx, XSAVE_LEGACY};
pub use tcs::{Tcs, TcsFlags};

/// Bytes in an EPC page.
pub const PAGE_SIZE: usize = 4096;
