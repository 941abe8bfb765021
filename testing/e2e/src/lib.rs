//! End-to-end tests: real programs through the occlum command, compared with native.
#![forbid(unsafe_code)]
