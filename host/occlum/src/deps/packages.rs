//! Data files of a program, as the package that it came with lists them.
//!
//! dpkg keeps a list of files for each package. What a program's own package, and those of the same source that
//! it depends on, put into library, data and configuration folders is what the program is likely to open.

use super::Finder;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const INFO: &str = "/var/lib/dpkg/info";
const STATUS: &str = "/var/lib/dpkg/status";

/// Where data of programs are.
const DATA: [&str; 6] = ["/etc/", "/usr/lib/", "/usr/libexec/", "/usr/share/", "/lib/", "/var/lib/"];
/// What no running program reads.
const USELESS: [&str; 18] = [
    "/usr/share/applications/",
    "/usr/share/bash-completion/",
    "/usr/share/bug/",
    "/usr/share/doc-base/",
    "/usr/share/doc/",
    "/usr/share/fish/",
    "/usr/share/icons/",
    "/usr/share/info/",
    "/usr/share/lintian/",
    "/usr/share/locale/",
    "/usr/share/man/",
    "/usr/share/menu/",
    "/usr/share/pixmaps/",
    "/usr/share/zsh/",
    "/etc/init.d/",
    "/etc/cron.",
    "/usr/lib/systemd/",
    "/lib/systemd/",
];
/// More files than this are left to `--with`.
const MOST_FILES: usize = 4000;

impl Finder<'_> {
    /// Adds the data of a program that was installed below a prefix of its own, such as /usr/local or /opt/x:
    /// folders there that are called like it.
    pub(super) fn add_prefix_data(&mut self, real: &Path) {
        let (Some(name), Some(bin)) = (real.file_name().and_then(|n| n.to_str()), real.parent()) else {
            return;
        };
        let Some(prefix) = bin.parent() else { return };
        let is_shared = [Path::new("/"), Path::new("/usr")].contains(&prefix);
        if is_shared || !(bin.ends_with("bin") || bin.ends_with("sbin")) {
            return;
        }
        for folder in ["etc", "lib", "libexec", "share"] {
            for entry in fs::read_dir(prefix.join(folder)).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(name) && entry.path().is_dir() {
                    self.add_whole(&entry.path());
                }
            }
        }
    }

    /// Adds the data files that came with the program at `real`.
    pub(super) fn add_package_data(&mut self, real: &Path) {
        let Some(package) = owner(real) else { return };
        let packages = companions(&package, &fs::read_to_string(STATUS).unwrap_or_default());
        let files: Vec<PathBuf> =
            packages.iter().flat_map(|p| list(p)).filter(|path| is_data(path)).collect();
        if files.len() > MOST_FILES {
            return;
        }
        for path in files {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let path_text = path.to_string_lossy();
            if metadata.is_dir() {
                // State is kept there: the folder must exist, what others put into it is not the program's.
                if path_text.starts_with("/var/lib/") {
                    self.guess(&path);
                }
            } else if path_text.contains("/lib") && !path_text.starts_with("/usr/share/") {
                self.add_plugin(&path);
            } else {
                self.guess(&path);
            }
        }
    }
}

fn is_data(path: &Path) -> bool {
    let text = path.to_string_lossy();
    DATA.iter().any(|start| text.starts_with(start))
        && !USELESS.iter().any(|start| text.starts_with(start))
        && !text.ends_with(".a")
}

/// The package that the file `real` came with. Packages may still name it by its path before /usr was merged.
fn owner(real: &Path) -> Option<String> {
    let real = real.to_str()?;
    let names = [real, real.strip_prefix("/usr").unwrap_or(real)];
    for entry in fs::read_dir(INFO).ok()?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "list") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if text.lines().any(|line| names.contains(&line)) {
            return Some(path.file_stem()?.to_str()?.to_owned());
        }
    }
    None
}

/// The files of a package, given as `name` or `name:architecture`.
fn list(package: &str) -> Vec<PathBuf> {
    let bare = package.split(':').next().unwrap_or(package);
    let text = [package.to_owned(), bare.to_owned(), format!("{bare}:amd64")]
        .iter()
        .find_map(|name| fs::read_to_string(format!("{INFO}/{name}.list")).ok());
    text.unwrap_or_default().lines().map(PathBuf::from).collect()
}

/// `package` and what it depends on, directly or not, that was built from the same source.
fn companions(package: &str, status: &str) -> Vec<String> {
    let bare = |name: &str| name.split([':', ' ', '(']).next().unwrap_or(name).to_owned();
    let mut known: HashMap<&str, (&str, Vec<String>)> = HashMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let Some(name) = field("Package") else { continue };
        let source = field("Source").and_then(|s| s.split(' ').next()).unwrap_or(name);
        let depends = field("Depends").unwrap_or_default().split([',', '|']).map(|d| bare(d.trim()));
        known.insert(name, (source, depends.collect()));
    }
    let mut found = vec![package.to_owned()];
    let mut ahead = vec![bare(package)];
    let Some((source, _)) = known.get(ahead[0].as_str()).cloned() else { return found };
    while let Some(name) = ahead.pop() {
        for dependency in known.get(name.as_str()).map(|(_, d)| d.as_slice()).unwrap_or_default() {
            let is_sibling = known.get(dependency.as_str()).is_some_and(|(s, _)| *s == source);
            if is_sibling && !found.iter().any(|f| bare(f) == *dependency) {
                found.push(dependency.clone());
                ahead.push(dependency.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_dependencies_of_the_same_source() {
        let status = "Package: srv\nSource: srv-src (1.0)\nDepends: libc6 (>= 2), srv-common (= 1) | x, srv-lib\n\n\
                      Package: srv-common\nSource: srv-src\nDepends: srv, srv-data\n\n\
                      Package: srv-data\nSource: srv-src\n\nPackage: srv-lib\n\nPackage: libc6\nSource: glibc\n";
        assert_eq!(companions("srv:amd64", status), ["srv:amd64", "srv-common", "srv-data"]);
        assert_eq!(companions("none", status), ["none"]);
    }

    #[test]
    fn documentation_is_not_data() {
        assert!(is_data(Path::new("/usr/share/vim/vim90/defaults.vim")));
        assert!(!is_data(Path::new("/usr/share/doc/vim/README")));
        assert!(!is_data(Path::new("/usr/bin/vim")));
    }

    #[test]
    fn a_program_of_this_machine_has_an_owner() {
        if Path::new(INFO).is_dir() {
            assert_eq!(owner(&Path::new("/bin/true").canonicalize().unwrap()).as_deref(), Some("coreutils"));
            assert_eq!(owner(Path::new("/no/such/program")), None);
        }
    }
}
