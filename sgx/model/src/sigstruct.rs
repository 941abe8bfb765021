//! EINIT's checks of a SIGSTRUCT by itself: its form and its signature (SDM "EINIT").
//!
//! Whether it fits an enclave (MRENCLAVE, ATTRIBUTES, MISCSELECT) is for EINIT to compare. Everything here is
//! public, so nothing needs constant time.

use crypto_bigint::{NonZero, U3072, U6144};
use sgx_arch::{ErrorCode, SIGSTRUCT_HEADER, SIGSTRUCT_HEADER2, Sigstruct};
use sha2::{Digest, Sha256};

/// SIGSTRUCT.VENDOR of Intel.
const VENDOR_INTEL: u32 = 0x8086;
/// Bytes of an RSA-3072 number.
const RSA_BYTES: usize = 384;
/// DER of the DigestInfo that precedes a SHA-256 hash (RFC 8017 section 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// Verifies the form of a SIGSTRUCT, then its signature under the key that it carries.
///
/// # Errors
/// [`ErrorCode::InvalidSigStruct`] a constant, a reserved field, Q1 or Q2 is not as it must be;
/// [`ErrorCode::InvalidSignature`] the signature does not match.
pub fn verify(sigstruct: &Sigstruct) -> Result<(), ErrorCode> {
    let formed = sigstruct.header == SIGSTRUCT_HEADER
        && matches!(sigstruct.vendor, 0 | VENDOR_INTEL)
        && sigstruct.header2 == SIGSTRUCT_HEADER2
        && sigstruct.exponent == 3
        && sigstruct.reserved1.iter().all(|&byte| byte == 0)
        && sigstruct.reserved2 == [0; 2]
        && sigstruct.reserved3 == [0; 16]
        && sigstruct.reserved4 == [0; 12];
    if !formed {
        return Err(ErrorCode::InvalidSigStruct);
    }
    let message = cube(sigstruct).ok_or(ErrorCode::InvalidSigStruct)?;
    if message == padded(&Sha256::digest(sigstruct.signing_bytes()).into()) {
        Ok(())
    } else {
        Err(ErrorCode::InvalidSignature)
    }
}

/// MRSIGNER of the author whose SIGSTRUCT.MODULUS this is.
#[must_use]
pub fn mrsigner(modulus: &[u8; RSA_BYTES]) -> [u8; 32] {
    Sha256::digest(modulus).into()
}

/// Q1 and Q2 of a signature, all little-endian as in SIGSTRUCT, or `None` when the modulus is not a 3072-bit
/// number or the signature is not below it.
#[must_use]
pub fn quotients(
    signature: &[u8; RSA_BYTES],
    modulus: &[u8; RSA_BYTES],
) -> Option<([u8; RSA_BYTES], [u8; RSA_BYTES])> {
    let (signature, modulus) = (U3072::from_le_slice(signature), U3072::from_le_slice(modulus));
    if modulus.bit_width_vartime() != U3072::BITS || signature >= modulus {
        return None;
    }
    let divisor = NonZero::new(modulus).into_option()?;
    let square: U6144 = signature.concatenating_square();
    let (q1, rest) = square.div_rem_vartime(&divisor);
    let product: U6144 = signature.concatenating_mul(&rest);
    let (q2, _) = product.div_rem_vartime(&divisor);
    Some((low(&q1), low(&q2)))
}

/// `signature³ mod modulus`, big-endian, by the quotients that SIGSTRUCT carries: two multiplications and no
/// division. `None` when a quotient is not the quotient.
fn cube(sigstruct: &Sigstruct) -> Option<[u8; RSA_BYTES]> {
    let modulus = U3072::from_le_slice(&sigstruct.modulus);
    let signature = U3072::from_le_slice(&sigstruct.signature);
    if signature >= modulus {
        return None;
    }
    let rest = remainder(&signature, &signature, &sigstruct.q1, &modulus)?;
    let message = remainder(&signature, &rest, &sigstruct.q2, &modulus)?;
    let mut bytes = low(&message.resize());
    bytes.reverse();
    Some(bytes)
}

/// `a · b - quotient · modulus`, if that is a remainder of division by `modulus`.
fn remainder(a: &U3072, b: &U3072, quotient: &[u8; RSA_BYTES], modulus: &U3072) -> Option<U3072> {
    let product: U6144 = a.concatenating_mul(b);
    let multiple: U6144 = U3072::from_le_slice(quotient).concatenating_mul(modulus);
    if multiple > product {
        return None;
    }
    let rest = product.wrapping_sub(&multiple);
    if rest >= modulus.resize() {
        return None;
    }
    Some(rest.resize())
}

/// The low 3072 bits, little-endian.
fn low(number: &U6144) -> [u8; RSA_BYTES] {
    let mut bytes = [0; RSA_BYTES];
    bytes.copy_from_slice(&number.to_le_bytes().as_slice()[..RSA_BYTES]);
    bytes
}

/// EMSA-PKCS1-v1_5 of a SHA-256 hash (RFC 8017 section 9.2).
fn padded(hash: &[u8; 32]) -> [u8; RSA_BYTES] {
    const HASH: usize = RSA_BYTES - 32;
    const INFO: usize = HASH - SHA256_DIGEST_INFO.len();
    let mut message = [0xff; RSA_BYTES];
    message[0] = 0;
    message[1] = 1;
    message[INFO - 1] = 0;
    message[INFO..HASH].copy_from_slice(&SHA256_DIGEST_INFO);
    message[HASH..].copy_from_slice(hash);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u32) -> [u8; RSA_BYTES] {
        let mut bytes = [0; RSA_BYTES];
        bytes[..4].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    #[test]
    fn the_cube_is_found_without_division_when_the_quotients_are_right() {
        // 12³ = 1728; modulus 35: 144 = 4·35 + 4; 12·4 = 48 = 1·35 + 13.
        let mut sigstruct = Sigstruct {
            modulus: number(35),
            signature: number(12),
            q1: number(4),
            q2: number(1),
            ..Sigstruct::default()
        };
        let mut message = number(13);
        message.reverse();
        assert_eq!(cube(&sigstruct), Some(message));
        for (q1, q2) in [(3, 1), (5, 1), (4, 0), (4, 2)] {
            sigstruct.q1 = number(q1);
            sigstruct.q2 = number(q2);
            assert_eq!(cube(&sigstruct), None);
        }
        sigstruct.signature = number(35);
        assert_eq!(cube(&sigstruct), None);
    }

    #[test]
    fn quotients_are_those_that_verification_accepts() {
        let mut modulus = [0xa5; RSA_BYTES];
        modulus[0] |= 1;
        let mut signature = [0x5a; RSA_BYTES];
        for byte in 0..=255 {
            signature[17] = byte;
            let (q1, q2) = quotients(&signature, &modulus).unwrap();
            assert!(cube(&Sigstruct { modulus, signature, q1, q2, ..Sigstruct::default() }).is_some());
        }
        assert_eq!(quotients(&modulus, &modulus), None);
        assert_eq!(quotients(&number(1), &number(35)), None);
        assert_eq!(quotients(&number(1), &[0; RSA_BYTES]), None);
    }

    #[test]
    fn form_is_checked_before_the_signature() {
        let good = Sigstruct {
            header: SIGSTRUCT_HEADER,
            header2: SIGSTRUCT_HEADER2,
            exponent: 3,
            modulus: [0xff; RSA_BYTES],
            ..Sigstruct::default()
        };
        assert_eq!(verify(&good), Err(ErrorCode::InvalidSignature));
        let broken: [fn(&mut Sigstruct); 8] = [
            |s| s.header[0] ^= 1,
            |s| s.header2[12] ^= 1,
            |s| s.vendor = 1,
            |s| s.exponent = 65537,
            |s| s.reserved1[83] = 1,
            |s| s.reserved2[1] = 1,
            |s| s.reserved3[15] = 1,
            |s| s.reserved4[11] = 1,
        ];
        for damage in broken {
            let mut bad = good;
            damage(&mut bad);
            assert_eq!(verify(&bad), Err(ErrorCode::InvalidSigStruct));
        }
    }
}
