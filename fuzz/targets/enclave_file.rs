//! Signed enclave files: what a loader adds page by page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sgx_image::SignedEnclave;

fuzz_target!(|data: &[u8]| {
    if let Ok(enclave) = SignedEnclave::from_bytes(data) {
        for chunk in enclave.chunks().iter().take(64) {
            std::hint::black_box(chunk.pages().take(16).count());
        }
        std::hint::black_box(enclave.secs(7));
    }
});
