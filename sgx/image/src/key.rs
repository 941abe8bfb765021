//! RSA-3072 keys with exponent 3, the only ones that SIGSTRUCT takes.

use crate::{Error, Result};
use rsa::BoxedUint;
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;

/// Bytes of a modulus or a signature.
pub const RSA_BYTES: usize = 384;
const RSA_BITS: usize = 8 * RSA_BYTES;
const EXPONENT: u64 = 3;

/// The author's private key.
pub struct SigningKey(rsa::PrivateKey);

/// The author's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(rsa::PublicKey);

impl SigningKey {
    /// Makes a key from the operating system's random numbers. Takes seconds.
    ///
    /// # Errors
    /// [`Error::Crypto`] there are no random numbers.
    pub fn generate() -> Result<Self> {
        rsa::PrivateKey::new_with_exp(&mut getrandom::SysRng, RSA_BITS, BoxedUint::from(EXPONENT))
            .map(Self)
            .map_err(|_| Error::Crypto("no key could be generated"))
    }

    /// Reads a PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`) key, as `openssl genrsa -3 3072` writes.
    ///
    /// # Errors
    /// [`Error::Key`] it is neither, or not RSA-3072 with exponent 3.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let key = rsa::PrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| rsa::PrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| Error::Key("it is not an RSA private key in PEM"))?;
        check(&key)?;
        Ok(Self(key))
    }

    /// Writes the key as PKCS#8. The caller keeps it from others' eyes.
    ///
    /// # Errors
    /// [`Error::Key`] it cannot be encoded.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| Error::Key("it cannot be encoded"))?;
        Ok(pem.as_str().to_owned())
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.to_public_key())
    }

    /// Signs as RSASSA-PKCS1-v1_5 with SHA-256. The result is big-endian, as everywhere but in SIGSTRUCT.
    ///
    /// # Errors
    /// [`Error::Crypto`] there are no random numbers for blinding, or the arithmetic failed its check.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; RSA_BYTES]> {
        let signature = self.0.pkcs1v15_sign::<Sha256>(message);
        signature.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Crypto("signing failed"))
    }
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public_key()).finish()
    }
}

impl PublicKey {
    /// Reads an SPKI (`PUBLIC KEY`) or PKCS#1 (`RSA PUBLIC KEY`) key.
    ///
    /// # Errors
    /// [`Error::Key`] it is neither, or not RSA-3072 with exponent 3.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let key = rsa::PublicKey::from_public_key_pem(pem)
            .or_else(|_| rsa::PublicKey::from_pkcs1_pem(pem))
            .map_err(|_| Error::Key("it is not an RSA public key in PEM"))?;
        check(&key)?;
        Ok(Self(key))
    }

    /// Writes the key as SPKI.
    ///
    /// # Errors
    /// [`Error::Key`] it cannot be encoded.
    pub fn to_pem(&self) -> Result<String> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| Error::Key("it cannot be encoded"))
    }

    /// SIGSTRUCT.MODULUS: little-endian.
    #[must_use]
    pub fn modulus(&self) -> [u8; RSA_BYTES] {
        let mut modulus = [0; RSA_BYTES];
        for (target, byte) in modulus.iter_mut().zip(self.0.n().to_le_bytes().iter()) {
            *target = *byte;
        }
        modulus
    }

    /// Whether the private half of this key made `signature` (big-endian), of whatever data: raising it to the
    /// public exponent gives the padding of PKCS#1 v1.5 only then.
    #[must_use]
    pub fn made(&self, signature: &[u8; RSA_BYTES]) -> bool {
        const PADDING: [u8; 10] = [0x00, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let Ok(number) = BoxedUint::from_be_slice(signature, self.0.n().bits_precision()) else {
            return false;
        };
        rsa::hazmat::rsa_encrypt(&self.0, &number)
            .is_ok_and(|block| block.to_be_bytes().starts_with(&PADDING))
    }

    /// MRSIGNER of the enclaves that this author signs.
    #[must_use]
    pub fn mrsigner(&self) -> [u8; 32] {
        sgx_model::sigstruct::mrsigner(&self.modulus())
    }
}

fn check(key: &impl PublicKeyParts) -> Result<()> {
    if key.n().bit_width_vartime() as usize != RSA_BITS {
        return Err(Error::Key("SGX wants RSA with 3072 bits"));
    }
    if *key.e() != BoxedUint::from(EXPONENT) {
        return Err(Error::Key("SGX wants the public exponent 3 (`openssl genrsa -3 3072`)"));
    }
    Ok(())
}
