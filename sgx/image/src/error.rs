//! What can go wrong, in words for the person who builds or signs.

/// Errors of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The ELF file is not one that can become an enclave.
    #[error("the LibOS image cannot be loaded: {0}")]
    Elf(&'static str),
    /// The ELF file needs a dynamic linker.
    #[error("the LibOS image needs relocation {} at {address:#x}, which only a dynamic linker can do", relocation_name(*kind))]
    Relocation {
        /// `R_X86_64_*`.
        kind: u32,
        /// Address as linked.
        address: u64,
    },
    /// A build option is out of range.
    #[error("{0}")]
    Option(&'static str),
    /// A file is not an enclave file.
    #[error("not a valid enclave file: {0}")]
    File(&'static str),
    /// A key is not an SGX signing key.
    #[error("not a usable signing key: {0}")]
    Key(&'static str),
    /// The operating system gave no random numbers, or the arithmetic failed.
    #[error("the key operation failed: {0}")]
    Crypto(&'static str),
    /// A signature is not that of the enclave under the key.
    #[error("the signature does not verify under the key: {0}")]
    Signature(&'static str),
    /// The pages are not those that were signed.
    #[error("the enclave's pages do not have the measurement that was signed")]
    Measurement,
}

/// Result with [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// Name of a dynamic relocation (psABI "Relocation Types").
fn relocation_name(kind: u32) -> String {
    use object::elf;
    let name = match kind {
        elf::R_X86_64_NONE => "NONE",
        elf::R_X86_64_64 => "64",
        elf::R_X86_64_PC32 => "PC32",
        elf::R_X86_64_COPY => "COPY",
        elf::R_X86_64_GLOB_DAT => "GLOB_DAT",
        elf::R_X86_64_JUMP_SLOT => "JUMP_SLOT",
        elf::R_X86_64_DTPMOD64 => "DTPMOD64",
        elf::R_X86_64_DTPOFF64 => "DTPOFF64",
        elf::R_X86_64_TPOFF64 => "TPOFF64",
        elf::R_X86_64_TLSDESC => "TLSDESC",
        elf::R_X86_64_IRELATIVE => "IRELATIVE",
        _ => return format!("type {kind}"),
    };
    format!("R_X86_64_{name}")
}
