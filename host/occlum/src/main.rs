//! The `occlum` command.
fn main() {}
