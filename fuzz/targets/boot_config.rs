//! The measured configuration.
#![no_main]

use boot_config::BootConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = BootConfig::decode(data) {
        let blob = config.encode().expect("what was decoded can be encoded");
        assert_eq!(BootConfig::decode(&blob), Ok(config));
    }
});
