//! `occlum package`.

use crate::cli;
use crate::error::{Context, Error, Result};
use crate::instance::{self, ENCLAVE, IMAGE, Instance, STATUS};
use crate::printer;
use std::path::PathBuf;
use std::process::Command;

/// Packs what `occlum run` needs into an archive whose top folder is called like the instance.
pub(crate) fn package(args: &cli::Package) -> Result<()> {
    let instance = Instance::open_built()?;
    let is_debuggable = instance::parse_enclave(&instance.enclave_file()?)?.layout().debuggable != 0;
    if is_debuggable && !args.debug {
        return Err(Error::user("this is a debug enclave: the host can look into it")
            .hint("set `metadata.debuggable` to false and build again, or say `occlum package --debug`"));
    }
    let folder = std::env::current_dir().user(|| "cannot tell the current folder")?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let archive = args.archive.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // The same files make the same archive: names in order, nobody's, and without a time.
    let flags = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf"];
    let status = Command::new("tar")
        .args(flags)
        .arg(&archive)
        .arg(format!("--transform=s,^,{name}/,"))
        .args([STATUS, ENCLAVE, IMAGE])
        .env("GZIP", "-n")
        .status()
        .user(|| "cannot start `tar`")?;
    if !status.success() {
        return Err(Error::user(format!("cannot write `{}`", archive.display())));
    }
    printer::data(archive.display());
    Ok(())
}
