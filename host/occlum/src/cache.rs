//! What was packed and signed before, by content, so that a second `try` starts as fast as `run`.
//!
//! ```text
//! $XDG_CACHE_HOME/occlum/v1/
//!     images/HASH   image files, by what they commit to
//!     signed/HASH   signed enclaves, by all that went into them
//!     index/HASH    by request: which image it led to, and the state of every file that went into it
//!     sites/HASH    rewriting sites, by the content of the program
//!     lock          held while old entries are removed
//! ```
//!
//! An entry appears by an atomic rename and never changes. Its time of modification is when it was last used;
//! the oldest go first when there is too much. The files are the user's own and are trusted as such: the
//! enclave verifies image and measurement again.

use crate::config::size;
use crate::error::{Context, Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes with the format of the entries.
const VERSION: &str = "v1";
const DEFAULT_LIMIT: u64 = 4 << 30;
const KINDS: [&str; 4] = ["images", "signed", "index", "sites"];

/// What to do where the cache cannot be.
const ELSEWHERE: &str = "set XDG_CACHE_HOME to a folder that you may write to";

/// The cache of one user.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    home: PathBuf,
    limit: u64,
}

/// Names an entry.
pub(crate) type Hash = [u8; 32];

impl Cache {
    /// Opens the cache of this user, limited to OCCLUM_CACHE_LIMIT.
    pub(crate) fn open() -> Result<Self> {
        let limit = match std::env::var("OCCLUM_CACHE_LIMIT") {
            Ok(text) => size::parse(&text)
                .map_err(|why| Error::user(format!("OCCLUM_CACHE_LIMIT: {why}")).hint(size::HINT))?,
            Err(_) => DEFAULT_LIMIT,
        };
        let home = folder("XDG_CACHE_HOME", ".cache")?;
        Self::at(&home.join("occlum").join(VERSION), limit)
    }

    /// Opens the cache in the folder `home`.
    pub(crate) fn at(home: &Path, limit: u64) -> Result<Self> {
        for kind in KINDS {
            let folder = home.join(kind);
            fs::create_dir_all(&folder)
                .user(|| format!("cannot create `{}`", folder.display()))
                .map_err(|e| e.hint(ELSEWHERE))?;
        }
        Ok(Self { home: home.to_owned(), limit })
    }

    fn path(&self, kind: &str, hash: &Hash) -> PathBuf {
        self.home.join(kind).join(hex(hash))
    }

    fn read(&self, kind: &str, hash: &Hash) -> Option<Vec<u8>> {
        let path = self.path(kind, hash);
        let bytes = fs::read(&path).ok()?;
        touch(&path);
        Some(bytes)
    }

    /// Keeps `bytes` if that works; whoever asks for them next can do without.
    fn keep(&self, kind: &str, hash: &Hash, bytes: &[u8]) {
        let written = self.temporary().and_then(|(path, mut file)| {
            file.write_all(bytes)?;
            fs::rename(path, self.path(kind, hash))
        });
        drop(written);
    }

    /// A new file in the cache, to be renamed or removed.
    fn temporary(&self) -> io::Result<(PathBuf, File)> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.home.join(format!("new.{}.{number}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok((path, file))
    }

    /// The image that commits to `hash`.
    pub(crate) fn image(&self, hash: &Hash) -> Option<PathBuf> {
        let path = self.path("images", hash);
        touch(&path).then_some(path)
    }

    /// Writes an image with `write`, which says what it commits to, and keeps it.
    pub(crate) fn add_image<T>(
        &self,
        write: impl FnOnce(File) -> Result<(Hash, T)>,
    ) -> Result<(PathBuf, Hash, T)> {
        let cannot = || format!("cannot write to `{}`", self.home.display());
        let (new, file) = self.temporary().user(cannot).map_err(|e| e.hint(ELSEWHERE))?;
        let written = write(file).inspect_err(|_| drop(fs::remove_file(&new)))?;
        let path = self.path("images", &written.0);
        fs::rename(&new, &path).machine(cannot)?;
        Ok((path, written.0, written.1))
    }

    /// The signed enclave of `hash`.
    pub(crate) fn signed(&self, hash: &Hash) -> Option<Vec<u8>> {
        self.read("signed", hash)
    }

    /// Keeps a signed enclave.
    pub(crate) fn keep_signed(&self, hash: &Hash, enclave: &[u8]) {
        self.keep("signed", hash, enclave);
    }

    /// The index entry of the request `hash`.
    pub(crate) fn index(&self, hash: &Hash) -> Option<Vec<u8>> {
        self.read("index", hash)
    }

    /// Keeps an index entry.
    pub(crate) fn keep_index(&self, hash: &Hash, entry: &[u8]) {
        self.keep("index", hash, entry);
    }

    /// Forgets an index entry.
    pub(crate) fn forget_index(&self, hash: &Hash) {
        // If it cannot be removed, it is found wrong again next time.
        drop(fs::remove_file(self.path("index", hash)));
    }

    /// The encoded rewriting sites of the program `hash`.
    pub(crate) fn sites(&self, hash: &Hash) -> Option<Vec<u8>> {
        self.read("sites", hash)
    }

    /// Keeps rewriting sites.
    pub(crate) fn keep_sites(&self, hash: &Hash, sites: &[u8]) {
        self.keep("sites", hash, sites);
    }

    /// Removes what was used least recently until the rest is within the limit. `kept` stays. Another process
    /// that does the same at this time is left to it.
    pub(crate) fn evict(&self, kept: &[&Path]) {
        let Ok(lock) = File::create(self.home.join("lock")) else { return };
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let mut entries = Vec::new();
        for folder in KINDS.iter().map(|kind| self.home.join(kind)).chain([self.home.clone()]) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                let is_new_file = entry.file_name().to_string_lossy().starts_with("new.");
                if metadata.is_file() && (is_new_file || !entry.path().ends_with("lock")) {
                    let used = metadata.modified().unwrap_or(UNIX_EPOCH);
                    entries.push((used, metadata.len(), entry.path(), is_new_file));
                }
            }
        }
        // What a killed process left behind.
        let hour_ago =
            SystemTime::now().checked_sub(std::time::Duration::from_secs(3600)).unwrap_or(UNIX_EPOCH);
        entries.retain(|(used, _, path, is_new)| {
            if *is_new && *used < hour_ago {
                drop(fs::remove_file(path));
            }
            !is_new
        });
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, len, ..)| len).sum();
        for (_, len, path, _) in &entries {
            if total <= self.limit {
                break;
            }
            if !kept.contains(&path.as_path()) && fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }
}

/// Marks an entry as used now; says whether it is there.
fn touch(path: &Path) -> bool {
    match File::open(path) {
        // A cache on a read-only file system works too, as long as nothing is missing.
        Ok(file) => file.set_modified(SystemTime::now()).is_ok() || path.exists(),
        Err(_) => false,
    }
}

/// The folder that `variable` names, or `fallback` in the home folder (XDG Base Directory Specification: a
/// relative path is ignored).
pub(crate) fn folder(variable: &str, fallback: &str) -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").or_else(home_of_user);
    absolute(variable).or_else(|| Some(home()?.join(fallback))).ok_or_else(|| {
        Error::user(format!("neither {variable} nor HOME is set"))
            .hint("set HOME to a folder of yours, by its absolute path")
    })
}

/// The home folder that /etc/passwd names.
fn home_of_user() -> Option<PathBuf> {
    let user = rustix::process::getuid().as_raw().to_string();
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&user))?;
    line.split(':').nth(5).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash that `text` is the hexadecimal form of.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 64 {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path(), limit).unwrap();
        (home, cache)
    }

    fn used(path: &Path, seconds_ago: u64) {
        let time = SystemTime::now() - std::time::Duration::from_secs(seconds_ago);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn add(cache: &Cache, name: u8, len: usize) -> PathBuf {
        let write = |mut file: File| {
            file.write_all(&vec![0; len]).unwrap();
            Ok(([name; 32], ()))
        };
        cache.add_image(write).unwrap().0
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let (_home, cache) = cache(2500);
        let paths: Vec<PathBuf> = (1..=3).map(|name| add(&cache, name, 1000)).collect();
        for (path, age) in paths.iter().zip([30, 20, 10]) {
            used(path, age);
        }
        assert!(cache.image(&[1; 32]).is_some());
        cache.evict(&[]);
        assert_eq!(paths.iter().map(|p| p.exists()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn what_is_in_use_stays_even_if_it_is_too_large() {
        let (_home, cache) = cache(10);
        let path = add(&cache, 1, 1000);
        cache.keep_signed(&[2; 32], &[0; 100]);
        cache.evict(&[&path]);
        assert!(path.exists() && cache.signed(&[2; 32]).is_none());
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let (home, cache) = cache(0);
        let failed = cache.add_image(|_| -> Result<(Hash, ())> { Err(Error::user("no")) });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        let left = fs::read_dir(home.path()).unwrap().flatten();
        assert!(left.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("new.")));
    }

    #[test]
    fn new_files_of_other_processes_stay_until_they_are_old() {
        let (home, cache) = cache(0);
        let (young, old) = (home.path().join("new.1.0"), home.path().join("new.2.0"));
        fs::write(&young, "x").unwrap();
        fs::write(&old, "x").unwrap();
        used(&old, 7200);
        cache.evict(&[]);
        assert!(young.exists() && !old.exists());
    }

    #[test]
    fn entries_read_back_and_missing_ones_do_not() {
        let (_home, cache) = cache(DEFAULT_LIMIT);
        cache.keep_sites(&[7; 32], b"sites");
        assert_eq!(cache.sites(&[7; 32]).as_deref(), Some(&b"sites"[..]));
        assert_eq!(cache.sites(&[8; 32]), None);
        assert_eq!(cache.image(&[7; 32]), None);
    }

    #[test]
    fn a_hash_reads_back_from_its_hexadecimal_form() {
        let hash: Hash = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(parse_hash(&hex(&hash)), Some(hash));
        assert_eq!(parse_hash("zz"), None);
        assert_eq!(parse_hash(&"é".repeat(32)), None);
    }
}
