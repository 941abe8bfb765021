//! Occlum.json.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "modules of the command, seen from outside of it"
)]

#[path = "../../host/occlum/src/config/mod.rs"]
mod config;
#[path = "../../host/occlum/src/error.rs"]
mod error;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        match config::parse("Occlum.json", text) {
            Ok(config) => drop(format!("{config:?}")),
            Err(error) => drop(format!("{error:?}")),
        }
    }
});
