//! `occlum build`.

use crate::cache::{Cache, Hash, hex, parse_hash};
use crate::cli;
use crate::config::Config;
use crate::enclave;
use crate::error::{Context, Error, Result};
use crate::instance::{self, ENCLAVE, FINGERPRINT, IMAGE, Instance, Status, TO_SIGN};
use crate::key::KeyFile;
use crate::pack;
use crate::printer::{self, Progress};
use sgx_image::{EnclaveImage, SignedEnclave};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the image was packed from, and what it commits to.
const PACKED: &str = "build/.packed";
/// Time stamps of files are no finer than this.
const TICK: Duration = Duration::from_millis(50);

/// Packs, measures and signs the instance in the current folder, as far as anything changed.
pub(crate) fn build(args: &cli::Build) -> Result<()> {
    let (instance, _) = Instance::open()?;
    let config = instance.config()?;
    note_what_has_no_effect(args, &config);
    let folder = instance::image_folder(&config)?;
    let key = match &args.sign_out {
        Some(_) => None,
        None => Some(KeyFile::open(args.sign_key.as_deref())?),
    };

    let image_state = state_of_image(&folder)?;
    let inputs = state_of_all(&image_state, key.as_ref().map(KeyFile::fingerprint))?;
    if !args.force && args.sign_out.is_none() && is_current(&inputs) {
        let file = instance.enclave_file()?;
        return report(&instance::parse_enclave(&file)?, args.json, "nothing has changed");
    }
    // A build that fails leaves nothing that looks like the result of it.
    drop(fs::remove_file(FINGERPRINT));

    let packed = if args.force { None } else { packed_before(&image_state) };
    let image = packed.map_or_else(|| pack_image(&folder, &image_state), Ok)?;
    let boot = enclave::encode(&enclave::boot_config(&config, image, "occlum"))?;
    let unsigned = enclave::build(&config, &boot)?;
    let Some(key) = key else {
        return write_to_sign(&unsigned, image, args.sign_out.as_deref().unwrap_or(Path::new(TO_SIGN)));
    };
    let signed = unsigned.sign(&key.parse()?).machine(|| "cannot sign the enclave")?;
    finish(&instance, &signed, &inputs)?;
    printer::note("what programs write is kept in enclave memory: it is gone when the enclave ends");
    report(&signed, args.json, "built")
}

fn note_what_has_no_effect(args: &cli::Build, config: &Config) {
    if !config.obsolete.is_empty() {
        let fields: Vec<&str> = config.obsolete.iter().map(|o| o.field.as_str()).collect();
        let fields = fields.join(", ");
        printer::note(format_args!("without effect: {fields} (`occlum print config` says why)"));
    }
    let older =
        [("sgx-mode", &args.sgx_mode), ("enable-edmm", &args.enable_edmm), ("sign-tool", &args.sign_tool)];
    for (flag, _) in older.iter().filter(|(_, value)| value.is_some()) {
        printer::note(format_args!("`--{flag}` has no effect: one build runs on every machine"));
    }
}

/// What the image commits to that was packed when the folder was in the state `state`.
fn packed_before(state: &str) -> Option<Hash> {
    let text = fs::read_to_string(PACKED).ok().filter(|_| Path::new(IMAGE).exists())?;
    let (known, image) = text.trim_end().split_once('\n')?;
    if known == state { parse_hash(image) } else { None }
}

/// Packs `folder`, which was in the state `state`, and returns what the image commits to.
fn pack_image(folder: &Path, state: &str) -> Result<Hash> {
    drop(fs::remove_file(PACKED));
    let cannot = || format!("cannot write `{IMAGE}`");
    fs::create_dir_all("build/mount").user(cannot)?;
    let new = format!("{IMAGE}.new");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&new).user(cannot)?;
    let build_time = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let mut progress = Progress::start("packing");
    let cache = Cache::open().ok();
    let info = pack::folder(folder, build_time.unwrap_or(pack::BUILD_TIME), file, cache, &mut progress)?;
    fs::rename(&new, IMAGE).user(cannot)?;
    instance::write_atomically(
        Path::new(PACKED),
        format!("{state}\n{}\n", hex(&info.commitment)).as_bytes(),
    )?;
    Ok(info.commitment)
}

/// Leaves the bytes to be signed in `path`, and what `occlum sign` needs to go on.
fn write_to_sign(unsigned: &EnclaveImage<'_>, image: Hash, path: &Path) -> Result<()> {
    let bytes = unsigned.sigstruct().signing_bytes();
    fs::write(path, bytes).user(|| format!("cannot write `{}`", path.display()))?;
    drop(fs::remove_file(ENCLAVE));
    let note = format!("{}\n{}\n", hex(&image), hex(&Sha256::digest(bytes)));
    instance::write_atomically(Path::new(TO_SIGN), note.as_bytes())?;
    printer::say(&format!(
        "sign `{}` (RSASSA-PKCS1-v1_5 with SHA-256), then `occlum sign --attach SIGNATURE --public-key PEM`",
        path.display()
    ));
    printer::data(format_args!("mrenclave {}", hex(&unsigned.mrenclave())));
    Ok(())
}

/// Writes the signed enclave and notes that the instance is built from `inputs`.
pub(crate) fn finish(instance: &Instance, signed: &SignedEnclave<'_>, inputs: &str) -> Result<()> {
    instance::write_atomically(Path::new(ENCLAVE), &signed.to_bytes())?;
    drop(fs::remove_file(TO_SIGN));
    instance::write_atomically(Path::new(FINGERPRINT), inputs.as_bytes())?;
    instance.set_status(Status::Built)
}

/// Prints the measurements of `signed`.
pub(crate) fn report(signed: &SignedEnclave<'_>, json: bool, done: &str) -> Result<()> {
    let (mrenclave, mrsigner) = (hex(&signed.mrenclave()), hex(&signed.mrsigner()));
    if json {
        printer::data(serde_json::json!({
            "version": 1,
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "debuggable": signed.layout().debuggable != 0,
        }));
        return Ok(());
    }
    printer::say(done);
    printer::data(format_args!("mrenclave {mrenclave}\nmrsigner  {mrsigner}"));
    Ok(())
}

fn is_current(inputs: &str) -> bool {
    fs::read_to_string(FINGERPRINT).is_ok_and(|text| text == inputs)
        && Path::new(ENCLAVE).exists()
        && Path::new(IMAGE).exists()
}

/// The state of everything that a build depends on.
fn state_of_all(image_state: &str, key: Option<Hash>) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(image_state);
    hash.update(fs::read(instance::CONFIG).user(|| format!("cannot read `{}`", instance::CONFIG))?);
    hash.update(key.unwrap_or_default());
    Ok(hex(&hash.finalize()))
}

/// The state of the folder that is packed, without reading its files.
fn state_of_image(folder: &Path) -> Result<String> {
    if !folder.is_dir() {
        return Err(Error::user(format!("there is no folder `{}`", folder.display()))
            .hint("it holds the files of the image, at their paths in the enclave"));
    }
    let mut hash = Sha256::new();
    hash.update(enclave::tool_stamp());
    hash.update(std::env::var("SOURCE_DATE_EPOCH").unwrap_or_default());
    let mut newest = UNIX_EPOCH;
    let mut stack: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = stack.pop() {
        let cannot = || format!("cannot read `{}`", path.display());
        let metadata = path.symlink_metadata().user(cannot)?;
        newest = newest.max(metadata.modified().unwrap_or(UNIX_EPOCH));
        hash.update(path.as_os_str().as_bytes());
        hash.update([0]);
        let nanoseconds = metadata.mtime_nsec();
        for number in [metadata.mode().into(), metadata.ino(), metadata.len(), metadata.mtime() as u64] {
            hash.update(number.to_le_bytes());
        }
        hash.update(nanoseconds.to_le_bytes());
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).user(cannot)?;
            let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            names.sort();
            stack.extend(names);
        }
    }
    // A change in the same tick of the clock would not show: such a state is like no other.
    let now = SystemTime::now();
    if now.duration_since(newest).is_ok_and(|age| age < TICK) {
        hash.update(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes());
    }
    Ok(hex(&hash.finalize()))
}
