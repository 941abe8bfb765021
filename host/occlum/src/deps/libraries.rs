//! How a dynamic linker finds libraries.

use super::elf::{self, Elf};
use super::ldcache::LdCache;
use std::path::{Path, PathBuf};

/// Folders of glibc's linker, with Debian's multiarch ones first.
const GLIBC_FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Folders of musl's linker where /etc/ld-musl-x86_64.path does not say others.
const MUSL_FOLDERS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
/// Which of them the linker takes depends on the processor, so all come along.
const HWCAPS: [&str; 4] = ["glibc-hwcaps/x86-64-v4", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2", ""];

/// A dynamic linker.
pub(super) struct Loader {
    is_musl: bool,
    folders: Vec<PathBuf>,
}

/// Something whose libraries are looked for.
pub(super) struct Needy {
    /// Path by which it was found.
    pub(super) path: PathBuf,
    /// DT_NEEDED.
    pub(super) needed: Vec<String>,
    /// RPATH of it and of what loaded it; empty where RUNPATH replaces them.
    pub(super) rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
    has_runpath: bool,
}

/// A library that was found.
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) elf: Elf,
}

impl Needy {
    /// `inherited` is the RPATH of whatever loads it.
    pub(super) fn new(path: &Path, real: &Path, elf: &Elf, inherited: &[PathBuf]) -> Self {
        let origin = real.parent().unwrap_or(Path::new("/"));
        let expand = |paths: &[String]| paths.iter().map(|p| expand(p, origin)).collect::<Vec<_>>();
        let mut rpath = if elf.runpath.is_empty() { expand(&elf.rpath) } else { Vec::new() };
        rpath.extend_from_slice(inherited);
        Self {
            path: path.to_owned(),
            needed: elf.needed.clone(),
            rpath,
            runpath: expand(&elf.runpath),
            has_runpath: !elf.runpath.is_empty(),
        }
    }
}

/// `path` with the tokens that ld.so(8) knows replaced.
fn expand(path: &str, origin: &Path) -> PathBuf {
    let mut out = path.to_owned();
    let tokens = [("ORIGIN", origin.to_string_lossy().into_owned()), ("LIB", "lib/x86_64-linux-gnu".into())];
    for (token, value) in tokens.iter().chain([&("PLATFORM", "x86_64".to_owned())]) {
        out = out.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
    }
    PathBuf::from(out)
}

impl Loader {
    /// The linker that is called `interpreter`; none for a static program.
    pub(super) fn of(interpreter: Option<&str>) -> Option<Self> {
        let interpreter = interpreter?;
        let name = Path::new(interpreter).file_name()?.to_string_lossy();
        Some(if name.starts_with("ld-musl") { Self::musl() } else { Self::glibc() })
    }

    /// glibc's.
    pub(super) fn glibc() -> Self {
        Self { is_musl: false, folders: GLIBC_FOLDERS.iter().map(PathBuf::from).collect() }
    }

    fn musl() -> Self {
        let listed = std::fs::read_to_string("/etc/ld-musl-x86_64.path").unwrap_or_default();
        let mut folders: Vec<PathBuf> =
            listed.split([':', '\n']).filter(|p| !p.is_empty()).map(PathBuf::from).collect();
        if folders.is_empty() {
            folders = MUSL_FOLDERS.iter().map(PathBuf::from).collect();
        }
        Self { is_musl: true, folders }
    }

    /// Whether `name` means the linker itself, which is always there.
    pub(super) fn is_itself(&self, name: &str) -> bool {
        if self.is_musl { name.starts_with("libc.") } else { name.starts_with("ld-linux-x86-64") }
    }

    /// The files that `name` may mean to this linker when `needy` asks for it: one, or one for each level of
    /// the processor.
    pub(super) fn search(&self, name: &str, needy: &Needy, cache: &LdCache) -> Vec<Library> {
        if name.contains('/') {
            return Vec::from_iter(library(Path::new(name)));
        }
        let rpath: &[PathBuf] = if needy.has_runpath && !self.is_musl { &[] } else { &needy.rpath };
        for folder in rpath.iter().chain(&needy.runpath) {
            let found = self.in_folder(folder, name);
            if !found.is_empty() {
                return found;
            }
        }
        if !self.is_musl {
            let found: Vec<Library> = cache.find(name).iter().filter_map(|p| library(Path::new(p))).collect();
            if !found.is_empty() {
                return found;
            }
        }
        let found = self.folders.iter().map(|folder| self.in_folder(folder, name)).find(|f| !f.is_empty());
        found.unwrap_or_default()
    }

    fn in_folder(&self, folder: &Path, name: &str) -> Vec<Library> {
        let levels = if self.is_musl { &HWCAPS[3..] } else { &HWCAPS[..] };
        levels.iter().filter_map(|level| library(&folder.join(level).join(name))).collect()
    }
}

/// The library at `path`, if it is one that this machine's programs can load.
fn library(path: &Path) -> Option<Library> {
    let elf = elf::read(&std::fs::read(path).ok()?).ok()?;
    Some(Library { path: path.components().collect(), elf })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needy(rpath: &[&str], runpath: &[&str], inherited: &[PathBuf]) -> Needy {
        let own = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
        let elf = Elf { rpath: own(rpath), runpath: own(runpath), ..Elf::default() };
        Needy::new(Path::new("/opt/x/bin/x"), Path::new("/opt/x/bin/x"), &elf, inherited)
    }

    #[test]
    fn origin_means_the_folder_of_the_file_that_asks() {
        assert_eq!(needy(&["$ORIGIN/../lib"], &[], &[]).rpath, [PathBuf::from("/opt/x/bin/../lib")]);
        assert_eq!(
            needy(&[], &["${ORIGIN}/a", "/b"], &[]).runpath,
            [PathBuf::from("/opt/x/bin/a"), PathBuf::from("/b")]
        );
    }

    #[test]
    fn runpath_takes_the_place_of_rpath_but_what_loaded_it_keeps_its_own() {
        let inherited = [PathBuf::from("/inherited")];
        assert_eq!(
            needy(&["/own"], &[], &inherited).rpath,
            [PathBuf::from("/own"), PathBuf::from("/inherited")]
        );
        assert_eq!(needy(&["/own"], &["/run"], &inherited).rpath, inherited);
    }

    #[test]
    fn libc_is_found_through_the_cache_and_through_the_folders() {
        let cache = LdCache::parse(&std::fs::read("/etc/ld.so.cache").unwrap());
        let loader = Loader::of(Some("/lib64/ld-linux-x86-64.so.2")).unwrap();
        for cache in [cache, LdCache::default()] {
            let found = loader.search("libc.so.6", &needy(&["/nowhere"], &[], &[]), &cache);
            assert!(found[0].path.ends_with("libc.so.6"));
        }
        assert!(loader.search("libnothing.so.9", &needy(&[], &[], &[]), &LdCache::default()).is_empty());
    }
}
