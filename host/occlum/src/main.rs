//! The `occlum` command: makes, runs and measures enclaves, and says what went wrong.
//!
//! One module per verb in [`commands`]; they stand on the configuration ([`config`]), the finder of what a
//! program needs ([`deps`]), the packer ([`pack`]), the signer ([`enclave`]) and the launcher ([`launch`]).
#![forbid(unsafe_code)]

mod cache;
mod cli;
mod commands;
mod config;
mod deps;
mod embedded;
mod enclave;
mod error;
mod inputs;
mod instance;
mod key;
mod launch;
mod pack;
mod printer;

use clap::Parser;
use cli::{Cli, Command};
use error::Result;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.kind() == clap::error::ErrorKind::InvalidSubcommand && cli::is_of_older_versions() => {
            let e = error::Error::user("this command of older versions is not there yet")
                .hint("`occlum --help` shows what is");
            printer::error(&e);
            return ExitCode::from(e.exit_status());
        }
        Err(e) => {
            // Help and version are data; everything else is the user's mistake.
            let is_help = !e.use_stderr();
            drop(e.print());
            return ExitCode::from(if is_help { 0 } else { 1 });
        }
    };
    match run(cli.command) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            printer::error(&e);
            ExitCode::from(e.exit_status())
        }
    }
}

fn run(command: Command) -> Result<u8> {
    match command {
        Command::New { dir } => commands::init::new(&dir)?,
        Command::Init => commands::init::init()?,
        Command::Build(args) => commands::build::build(&args)?,
        Command::Sign(args) => commands::sign::sign(&args)?,
        Command::Run(args) => return commands::run::run(args),
        Command::Try(args) => return commands::try_program::run(args),
        Command::Print { what, json } => commands::print::print(what, json)?,
        Command::Package(args) => commands::package::package(&args)?,
        Command::Status => commands::print::status()?,
    }
    Ok(0)
}
