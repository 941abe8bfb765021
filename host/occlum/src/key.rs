//! The author's signing key.

use crate::cache;
use crate::error::{Context, Error, Result};
use crate::printer;
use sgx_image::SigningKey;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A key that is read, but not yet understood: that takes longer.
pub(crate) struct KeyFile {
    path: PathBuf,
    pem: String,
}

impl KeyFile {
    /// Reads the key at `path`, or this user's own, which is made when it is first needed.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        match path {
            Some(path) => Self::read(path),
            None => Self::of_user(&cache::folder("XDG_CONFIG_HOME", ".config")?.join("occlum")),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let pem =
            fs::read_to_string(path).user(|| format!("cannot read the signing key `{}`", path.display()))?;
        Ok(Self { path: path.to_owned(), pem })
    }

    fn of_user(folder: &Path) -> Result<Self> {
        let path = folder.join("signing-key.pem");
        if path.exists() {
            return Self::read(&path);
        }
        printer::note(format_args!("making a signing key for you: `{}` (this happens once)", path.display()));
        let pem =
            SigningKey::generate().and_then(|key| key.to_pem()).machine(|| "cannot make a signing key")?;
        let cannot = || format!("cannot write `{}`", path.display());
        fs::create_dir_all(folder).user(cannot)?;
        let new = folder.join(format!("signing-key.pem.{}", std::process::id()));
        let mut file: File =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).user(cannot)?;
        file.write_all(pem.as_bytes()).user(cannot)?;
        file.sync_all().user(cannot)?;
        // Of two processes that do this at once, the first one's key stays.
        let linked = fs::hard_link(&new, &path);
        drop(fs::remove_file(&new));
        match linked {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e).user(cannot)?,
            _ => Self::read(&path),
        }
    }

    /// Tells this key from others.
    pub(crate) fn fingerprint(&self) -> cache::Hash {
        Sha256::digest(&self.pem).into()
    }

    /// The key.
    pub(crate) fn parse(&self) -> Result<SigningKey> {
        SigningKey::from_pem(&self.pem).map_err(|e| {
            Error::user(format!("cannot sign with `{}`", self.path.display()))
                .because(&e)
                .hint("make one with `openssl genrsa -3 -out key.pem 3072`")
        })
    }
}
