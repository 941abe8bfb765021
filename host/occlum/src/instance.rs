//! An instance: a folder with an image, a configuration, and what is built from them.

use crate::config::{self, Config, MountKind};
use crate::error::{Context, Error, Result};
use sgx_image::SignedEnclave;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The instance in the current folder. All paths are relative to it.
pub(crate) struct Instance {
    _private: (),
}

/// How far an instance is, in the words of `.__occlum_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Initialized,
    Built,
}

/// How far the instance is.
pub(crate) const STATUS: &str = ".__occlum_status";
pub(crate) const CONFIG: &str = "Occlum.json";
/// The image file.
pub(crate) const IMAGE: &str = "build/mount/__ROOT";
/// The signed enclave file.
pub(crate) const ENCLAVE: &str = "build/lib/libocclum-libos.signed.so";
/// What the files in build/ were made from.
pub(crate) const FINGERPRINT: &str = "build/.fingerprint";
/// SHA-256 of the bytes that a `build --sign-out` wrote.
pub(crate) const TO_SIGN: &str = "build/.to_sign";

/// Folders of a new instance's image.
const IMAGE_FOLDERS: [&str; 13] =
    ["bin", "dev", "etc", "host", "lib", "lib64", "opt", "proc", "root", "sbin", "sys", "tmp", "usr/bin"];

impl Instance {
    /// Makes an instance of the folder `dir`.
    pub(crate) fn create(dir: &Path) -> Result<()> {
        let status = dir.join(STATUS);
        if status.exists() {
            return Err(Error::user(format!("`{}` is an Occlum instance already", dir.display())));
        }
        let folders = IMAGE_FOLDERS.map(|folder| format!("image/{folder}"));
        for folder in folders.iter().map(String::as_str).chain(["initfs", "build", "run"]) {
            let path = dir.join(folder);
            fs::create_dir_all(&path).user(|| format!("cannot create `{}`", path.display()))?;
        }
        write_new(&dir.join("image/etc/hosts"), b"127.0.0.1\tlocalhost\n")?;
        write_new(&dir.join("image/etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n")?;
        write_new(&dir.join("image/etc/group"), b"root:x:0:\n")?;
        write_new(&dir.join(CONFIG), config::TEMPLATE.as_bytes())?;
        set_status(dir, Status::Initialized)
    }

    /// The instance in the current folder.
    pub(crate) fn open() -> Result<(Self, Status)> {
        let text = match fs::read_to_string(STATUS) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(
                    Error::user("`.` is not an Occlum instance").hint("run `occlum init` there first")
                );
            }
            Err(e) => return Err(Error::user(format!("cannot read `{STATUS}`")).because(&e)),
        };
        let status = match text.trim() {
            "initialized" => Status::Initialized,
            _ => Status::Built,
        };
        Ok((Self { _private: () }, status))
    }

    /// The instance in the current folder, if it is built.
    pub(crate) fn open_built() -> Result<Self> {
        let (instance, _) = Self::open()?;
        if Path::new(ENCLAVE).exists() && Path::new(IMAGE).exists() {
            return Ok(instance);
        }
        let hint = match Path::new(TO_SIGN).exists() {
            true => "complete it with `occlum sign --attach SIGNATURE --public-key PEM`",
            false => "run `occlum build` first",
        };
        Err(Error::user("this instance is not built").hint(hint))
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> Result<Config> {
        config::load(Path::new(CONFIG))
    }

    /// Whether Occlum.json was changed after the enclave was built from it.
    pub(crate) fn is_older_than_its_configuration(&self) -> bool {
        let modified = |path: &str| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        modified(CONFIG).zip(modified(ENCLAVE)).is_some_and(|(config, enclave)| config > enclave)
    }

    /// Its signed enclave.
    pub(crate) fn enclave_file(&self) -> Result<Vec<u8>> {
        fs::read(ENCLAVE).user(|| format!("cannot read `{ENCLAVE}`"))
    }

    /// Notes how far it is.
    pub(crate) fn set_status(&self, status: Status) -> Result<()> {
        set_status(Path::new("."), status)
    }
}

/// The folder that is packed into the image.
pub(crate) fn image_folder(config: &Config) -> Result<PathBuf> {
    let root = config.mounts.iter().find(|mount| mount.target == "/");
    match root.map(|mount| &mount.kind) {
        Some(MountKind::Root { image, .. }) => Ok(image.into()),
        _ => Err(Error::user(format!("`{CONFIG}` mounts nothing at `/`"))
            .hint("add a `unionfs` with the image and a writable layer, as a new instance has it")),
    }
}

/// Reads an enclave file.
pub(crate) fn parse_enclave(bytes: &[u8]) -> Result<SignedEnclave<'_>> {
    SignedEnclave::from_bytes(bytes).map_err(|e| {
        Error::user(format!("`{ENCLAVE}` is damaged"))
            .because(&e)
            .hint("build it again with `occlum build --force`")
    })
}

fn set_status(dir: &Path, status: Status) -> Result<()> {
    let word = match status {
        Status::Initialized => "initialized",
        Status::Built => "built",
    };
    write_atomically(&dir.join(STATUS), format!("{word}\n").as_bytes())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::File::create_new(path).and_then(|mut file| file.write_all(bytes)) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result.user(|| format!("cannot write `{}`", path.display())),
    }
}

/// Replaces the file at `path`: whoever reads it sees the old or the new content.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let cannot = || format!("cannot write `{}`", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).user(cannot)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes).user(cannot)?;
    fs::rename(&new, path).user(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_instance_has_the_folders_and_files_that_older_ones_have() {
        let home = tempfile::tempdir().unwrap();
        Instance::create(home.path()).unwrap();
        for path in ["Occlum.json", "image/bin", "image/lib64", "image/etc/hosts", "initfs", "build", "run"] {
            assert!(home.path().join(path).exists(), "{path}");
        }
        assert_eq!(fs::read_to_string(home.path().join(STATUS)).unwrap(), "initialized\n");
        let e = Instance::create(home.path()).unwrap_err();
        assert!(e.to_string().ends_with("is an Occlum instance already"));
    }

    #[test]
    fn files_that_are_there_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(CONFIG), "{}").unwrap();
        Instance::create(home.path()).unwrap();
        assert_eq!(fs::read_to_string(home.path().join(CONFIG)).unwrap(), "{}");
    }
}
