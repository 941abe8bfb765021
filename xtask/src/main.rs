//! Checks that CI runs, and CI runs nothing else: `cargo xtask ci`.
//!
//! Each check is also a command of its own, prints what it found and fails with a list of offenders.
#![forbid(unsafe_code)]

mod ci;
mod image;
mod layers;
mod licences;
mod models;
mod reproducible;
mod sleeps;
mod unsafety;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [--fast]     everything below, formatting, clippy, tests; --fast leaves the tests of whole programs out
  image [FILE]    no instruction in the enclave image that is illegal in an enclave (builds the image if no FILE is given)
  layers          no crate imports what its level of trust may not see
  licences        no dependency from elsewhere than crates.io or under a licence that deny.toml does not allow
  models          no wake-up is lost in any interleaving of a few threads
  reproducible    the enclave image is the same bytes when it is built in another folder
  sleeps          nothing in the kernel sleeps except through a waiter
  unsafe          no unsafe code outside the crates that may have it, and no more of it than the budget
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["ci"] => ci::run(ci::Extent::Full),
        ["ci", "--fast"] => ci::run(ci::Extent::Fast),
        ["image"] => image::build().and_then(|build| image::run(&build.image)),
        ["image", file] => image::run(file.as_ref()),
        ["layers"] => layers::run(),
        ["licences"] => licences::run(),
        ["models"] => models::run(),
        ["reproducible"] => image::build().and_then(|build| reproducible::run(&build)),
        ["sleeps"] => sleeps::run(),
        ["unsafe"] => unsafety::run(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
