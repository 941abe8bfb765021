//! `occlum run`.

use crate::cli;
use crate::deps;
use crate::error::{Error, Result};
use crate::instance::{self, IMAGE, Instance};
use crate::launch::{self, Launch};
use crate::printer;
use std::path::PathBuf;

const MEMORY_HINT: &str = "raise `resource_limits.user_space_max_size` in Occlum.json and build again";

/// Runs a program of the instance in the current folder; returns its exit status.
pub(crate) fn run(args: cli::Run) -> Result<u8> {
    let instance = Instance::open_built()?;
    let enclave = instance.enclave_file()?;
    let layout = *instance::parse_enclave(&enclave)?.layout();
    launch::warn_if_unprotected(layout.debuggable != 0);
    if instance.is_older_than_its_configuration() {
        printer::note("Occlum.json changed since the last `occlum build`: this runs what was built then");
    }
    let program = PathBuf::from(&args.program[0]);
    if !program.is_absolute() {
        let shown = program.display();
        return Err(Error::user(format!("`{shown}` is not an absolute path"))
            .hint(format!("programs are named by their path in the image, such as `/bin/{shown}`")));
    }
    let image_folder = instance.config().and_then(|config| instance::image_folder(&config)).ok();
    if let Some(folder) = &image_folder {
        deps::image::check_outline(folder, &program, layout.user_limit, MEMORY_HINT)?;
    }
    launch::run(Launch {
        enclave,
        image: IMAGE.into(),
        mounts: Vec::new(),
        program,
        arguments: args.program,
        cwd: "/".into(),
        show: args.show,
        memory_hint: MEMORY_HINT,
        image_folder,
        before_start: Box::new(|| Ok(())),
    })
}
