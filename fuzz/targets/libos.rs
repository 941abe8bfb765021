//! The LibOS image: what the builder lays out, or refuses.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(image) = sgx_image::Image::parse(data) {
        assert!(image.entry() < image.span());
        for run in image.runs() {
            std::hint::black_box(run);
        }
    }
});
