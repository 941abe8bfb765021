//! The `occlum` command.
#![forbid(unsafe_code)]

mod config;
mod error;
mod printer;

fn main() {}
