//! Signs an enclave, with a key at hand or with a signature made elsewhere.

use crate::key::RSA_BYTES;
use crate::{EnclaveImage, Error, PublicKey, Result, SignedEnclave, SigningKey};
use sgx_arch::{ErrorCode, Sigstruct};
use sgx_model::sigstruct::{quotients, verify};

/// What a signature is that does not verify.
const OTHER: &str = "it is of other data, or by another key";

impl<'a> EnclaveImage<'a> {
    /// Signs with `key`.
    ///
    /// # Errors
    /// [`Error::Crypto`] from [`SigningKey::sign`]; [`Error::Signature`] the result does not verify.
    pub fn sign(self, key: &SigningKey) -> Result<SignedEnclave<'a>> {
        let signature = key.sign(&self.sigstruct.signing_bytes())?;
        self.attach_signature(&key.public_key(), &signature)
    }

    /// Attaches a signature of [`EnclaveImage::sigstruct`]'s signing bytes, big-endian as tools and devices make it.
    ///
    /// # Errors
    /// [`Error::Signature`] it is not 384 bytes, or does not verify under `key`.
    pub fn attach_signature(self, key: &PublicKey, signature: &[u8]) -> Result<SignedEnclave<'a>> {
        let given: [u8; RSA_BYTES] =
            signature.try_into().map_err(|_| Error::Signature("it is not 384 bytes"))?;
        let mut signature = given;
        signature.reverse();
        let modulus = key.modulus();
        // Whatever a key signs is below its modulus.
        let (q1, q2) = quotients(&signature, &modulus).ok_or(Error::Signature("it is by another key"))?;
        let sigstruct = Sigstruct { modulus, exponent: 3, signature, q1, q2, ..self.sigstruct };
        check(&sigstruct).map_err(|error| match error {
            Error::Signature(OTHER) if key.made(&given) => Error::Signature("it is of other data"),
            Error::Signature(OTHER) => Error::Signature("it is by another key"),
            error => error,
        })?;
        Ok(SignedEnclave { image: self, sigstruct })
    }
}

/// EINIT's checks, in this crate's words.
pub(crate) fn check(sigstruct: &Sigstruct) -> Result<()> {
    verify(sigstruct).map_err(|code| match code {
        ErrorCode::InvalidSigStruct => Error::Signature("SIGSTRUCT is malformed"),
        _ => Error::Signature(OTHER),
    })
}
