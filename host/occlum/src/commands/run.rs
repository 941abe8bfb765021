//! `occlum run`.

use crate::cli;
use crate::error::{Error, Result};
use crate::instance::{self, IMAGE, Instance};
use crate::launch::{self, Launch};
use std::path::PathBuf;

/// Runs a program of the instance in the current folder; returns its exit status.
pub(crate) fn run(args: cli::Run) -> Result<u8> {
    let instance = Instance::open_built()?;
    let enclave = instance.enclave_file()?;
    launch::warn_if_unprotected(instance::parse_enclave(&enclave)?.layout().debuggable != 0);
    let program = PathBuf::from(&args.program[0]);
    if !program.is_absolute() {
        let shown = program.display();
        return Err(Error::user(format!("`{shown}` is not an absolute path"))
            .hint(format!("programs are named by their path in the image, such as `/bin/{shown}`")));
    }
    launch::run(Launch {
        enclave,
        image: IMAGE.into(),
        mounts: Vec::new(),
        program,
        arguments: args.program,
        cwd: "/".into(),
        show: args.show,
        memory_hint: "raise `resource_limits.user_space_max_size` in Occlum.json and build again",
        image_folder: instance.config().and_then(|config| instance::image_folder(&config)).ok(),
        before_start: Box::new(|| Ok(())),
    })
}
