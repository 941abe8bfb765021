//! `occlum new` and `occlum init`.

use crate::error::{Context, Result};
use crate::instance::Instance;
use crate::printer;
use std::path::Path;

/// Makes the folder `dir` and an instance in it.
pub(crate) fn new(dir: &Path) -> Result<()> {
    std::fs::create_dir(dir).user(|| format!("cannot create `{}`", dir.display()))?;
    create(dir)
}

/// Makes an instance in the current folder.
pub(crate) fn init() -> Result<()> {
    create(Path::new("."))
}

fn create(dir: &Path) -> Result<()> {
    Instance::create(dir)?;
    printer::say(&format!("`{}` is an Occlum instance: fill image/, then `occlum build`", dir.display()));
    Ok(())
}
