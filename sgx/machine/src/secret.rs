//! The secret that makes a machine: what fuses are to a processor.
//!
//! A file of 32 random bytes, `$XDG_STATE_HOME/occlum/software-sgx.key` or `~/.local/state/…`, made once for each
//! user (`~` is `$HOME`, or what the user database says). Whoever has it can derive every key of this machine; whoever loses it cannot unseal anymore. So it is
//! never made anew over one that is there.

use std::ffi::{CStr, OsStr};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;

const FILE: &str = "occlum/software-sgx.key";
const SIZE: usize = 32;

/// Where the secret of this user is.
fn path() -> io::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME").or_else(home_of_user)?.join(".local/state")))
        .map(|base| base.join(FILE))
        .ok_or_else(|| {
            io::Error::new(
                ErrorKind::NotFound,
                "software SGX keeps its secret in $XDG_STATE_HOME or $HOME: set HOME to a folder of yours, by its absolute path",
            )
        })
}

/// Home folder of the effective user, from the user database.
fn home_of_user() -> Option<PathBuf> {
    // SAFETY: always possible.
    let user = unsafe { libc::geteuid() };
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut buffer = vec![0; 16 << 10];
    let mut found = ptr::null_mut();
    // SAFETY: all of them are valid for the call, and the buffer has the length that is given.
    let failed = unsafe {
        libc::getpwuid_r(user, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if failed != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so it filled in the entry.
    let home = unsafe { entry.assume_init() }.pw_dir;
    // SAFETY: `pw_dir` is a C string in the buffer.
    let home = unsafe { CStr::from_ptr(home) };
    Some(PathBuf::from(OsStr::from_bytes(home.to_bytes()))).filter(|path| path.is_absolute())
}

/// Reads the secret of this user, or makes it the first time.
///
/// # Errors
/// The file cannot be read or made, or has another size; the message names it.
pub(crate) fn load() -> io::Result<[u8; SIZE]> {
    let path = path()?;
    load_from(&path).map_err(|error| {
        io::Error::new(error.kind(), format!("the secret of software SGX, {}: {error}", path.display()))
    })
}

fn load_from(path: &Path) -> io::Result<[u8; SIZE]> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
        found => return parse(&found?),
    }
    parse(&fs::read(path)?)
}

fn parse(bytes: &[u8]) -> io::Result<[u8; SIZE]> {
    bytes.try_into().map_err(|_| {
        io::Error::new(ErrorKind::InvalidData, format!("it has {} bytes instead of {SIZE}", bytes.len()))
    })
}

/// Makes the file, whole or not at all. If another process is faster, its secret stays.
fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(format!(".software-sgx.key.{}", std::process::id()));
    let result = write_new(&temporary).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    });
    // Nothing is lost if it stays.
    let _ = fs::remove_file(&temporary);
    result
}

fn write_new(path: &Path) -> io::Result<()> {
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&random()?)?;
    file.sync_all()
}

fn random() -> io::Result<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    // SAFETY: the buffer has SIZE bytes. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), SIZE, 0) };
    if usize::try_from(got) == Ok(SIZE) { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sgx-machine-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn the_secret_is_made_once_and_for_the_owner_only() {
        let folder = folder("once");
        let path = folder.join("deep").join(FILE);
        let secret = load_from(&path).unwrap();
        assert_ne!(secret, [0; SIZE]);
        assert_eq!(load_from(&path).unwrap(), secret);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn threads_that_race_agree_on_one_secret() {
        let folder = folder("race");
        let path = folder.join(FILE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [5; SIZE]).unwrap();
        // As if it came between the look and the making.
        create(&path).unwrap();
        assert_eq!(load_from(&path).unwrap(), [5; SIZE]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_user_database_knows_a_home() {
        assert!(home_of_user().is_some_and(|home| home.is_absolute()));
    }

    #[test]
    fn a_damaged_secret_is_an_error_and_stays() {
        let folder = folder("damaged");
        let path = folder.join(FILE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [5; SIZE - 1]).unwrap();
        let error = load_from(&path).unwrap_err();
        assert!(error.to_string().contains("31 bytes"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), [5; SIZE - 1]);
        fs::remove_dir_all(folder).unwrap();
    }
}
