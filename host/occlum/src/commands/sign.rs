//! `occlum sign`.

use crate::cache::{Hash, hex, parse_hash};
use crate::cli;
use crate::commands::build;
use crate::enclave;
use crate::error::{Context, Error, Result};
use crate::instance::{Instance, TO_SIGN};
use sgx_image::PublicKey;
use sha2::{Digest, Sha256};
use std::fs;

/// Attaches a signature that was made elsewhere.
pub(crate) fn sign(args: &cli::Sign) -> Result<()> {
    let (instance, _) = Instance::open()?;
    let (image, digest) = read_note()?;
    let config = instance.config()?;
    let boot = enclave::encode(&enclave::boot_config(&config, image, "occlum"))?;
    let unsigned = enclave::build(&config, &boot)?;
    if hex(&Sha256::digest(unsigned.sigstruct().signing_bytes())) != digest {
        return Err(Error::user("Occlum.json or occlum itself changed since `occlum build --sign-out`")
            .hint("build again with `--sign-out`, and sign what it writes"));
    }
    let key = fs::read_to_string(&args.public_key)
        .user(|| format!("cannot read `{}`", args.public_key.display()))?;
    let key = PublicKey::from_pem(&key)
        .user(|| format!("cannot use the public key `{}`", args.public_key.display()))?;
    let signature = fs::read(&args.attach).user(|| format!("cannot read `{}`", args.attach.display()))?;
    let signed = unsigned.attach_signature(&key, &signature).map_err(|e| {
        Error::user(format!("the signature `{}` does not fit", args.attach.display())).because(&e).hint(
            "sign exactly the bytes that `build --sign-out` wrote, with the private half of this key: \
             `openssl dgst -sha256 -sign key.pem -out SIGNATURE FILE`",
        )
    })?;
    build::finish(&instance, &signed, "signed elsewhere")?;
    build::report(&signed, args.json, "signed")
}

/// What `build --sign-out` noted: what the image commits to, and the hash of the bytes to be signed.
fn read_note() -> Result<(Hash, String)> {
    let text = fs::read_to_string(TO_SIGN).map_err(|_| {
        Error::user("there is nothing to sign").hint("run `occlum build --sign-out FILE` first")
    })?;
    let mut lines = text.lines();
    let image = lines.next().and_then(parse_hash);
    match (image, lines.next()) {
        (Some(image), Some(digest)) => Ok((image, digest.to_owned())),
        _ => {
            Err(Error::user(format!("`{TO_SIGN}` is damaged"))
                .hint("run `occlum build --sign-out FILE` again"))
        }
    }
}
