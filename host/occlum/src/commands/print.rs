//! `occlum print` and `occlum status`.

use crate::cache::hex;
use crate::cli::What;
use crate::enclave;
use crate::error::{Context, Result};
use crate::instance::{self, Instance, Status};
use crate::printer;
use serde_json::Value;

/// Prints a measurement or the configuration of the instance in the current folder.
pub(crate) fn print(what: What, json: bool) -> Result<()> {
    if what == What::Config {
        return print_config(json);
    }
    let instance = Instance::open_built()?;
    let bytes = instance.enclave_file()?;
    let signed = instance::parse_enclave(&bytes)?;
    let (name, value) = match what {
        What::Mrsigner => ("mrsigner", hex(&signed.mrsigner())),
        _ => ("mrenclave", hex(&signed.mrenclave())),
    };
    match json {
        true => printer::data(serde_json::json!({ name: value })),
        false => printer::data(value),
    }
    Ok(())
}

/// Prints what is measured of Occlum.json, defaults included. It is JSON either way, with `--json` on one line.
fn print_config(json: bool) -> Result<()> {
    let (instance, _) = Instance::open()?;
    let config = instance.config()?;
    for obsolete in &config.obsolete {
        printer::note(format_args!("`{}` has no effect: {}", obsolete.field, obsolete.why));
    }
    let boot = enclave::boot_config(&config, [0; 32], "occlum");
    let cannot = || "cannot print the configuration";
    let mut value = serde_json::to_value(&boot).machine(cannot)?;
    if let Value::Object(fields) = &mut value {
        // Known only once the image is packed; `print mrenclave` covers it.
        fields.remove("image_digest");
    }
    let text = match json {
        true => serde_json::to_string(&value),
        false => serde_json::to_string_pretty(&value),
    };
    printer::data(text.machine(cannot)?);
    Ok(())
}

/// Prints how far the instance in the current folder is.
pub(crate) fn status() -> Result<()> {
    let (_, status) = Instance::open()?;
    printer::data(match status {
        Status::Initialized => "initialized",
        Status::Built => "built",
    });
    Ok(())
}
