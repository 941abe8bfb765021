//! Data files that programs and libraries open by name.

use super::{Finder, Kind};
use std::path::{Path, PathBuf};

/// Files that any program may ask for, mostly through its C library.
const ALWAYS: [&str; 17] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/mime.types",
    "/etc/ld.so.cache",
    "/etc/ld-musl-x86_64.path",
    // Programs that bring their own TLS, such as those written in Go, look here.
    "/etc/ssl/certs/ca-certificates.crt",
];

/// Name services and unwinder that glibc loads when it first needs them.
const GLIBC_PLUGINS: [&str; 4] =
    ["libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2", "libgcc_s.so.1"];

/// The character sets that programs convert from and to when nobody thinks of it.
const CHARACTER_SETS: [&str; 7] = [
    "gconv-modules",
    "gconv-modules.cache",
    "UTF-16.so",
    "UTF-32.so",
    "UTF-7.so",
    "ISO8859-1.so",
    "ISO8859-15.so",
];

/// Larger than this and the archive of all locales stays out.
const MAX_LOCALE_ARCHIVE: u64 = 16 << 20;

/// What comes with a library: the start of its file name, files, and folders with all they hold.
const DATA: [(&str, &[&str], &[&str]); 8] = [
    (
        "libcrypto.so",
        &["/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf", "/usr/lib/ssl/certs", "/usr/lib/ssl/cert.pem"],
        &["/etc/ssl/certs", "/usr/lib/x86_64-linux-gnu/ossl-modules", "/usr/lib/ossl-modules"],
    ),
    ("libgnutls.so", &["/etc/gnutls/config"], &["/etc/ssl/certs"]),
    ("libtinfo.so", &[], &["/etc/terminfo", "/lib/terminfo"]),
    ("libreadline.so", &["/etc/inputrc"], &[]),
    ("libmagic.so", &["/etc/magic", "/usr/share/misc/magic", "/usr/share/misc/magic.mgc"], &[]),
    ("libtcl8.6.so", &[], &["/usr/share/tcltk/tcl8.6"]),
    ("libfontconfig.so", &[], &["/etc/fonts", "/usr/share/fontconfig"]),
    ("libkrb5.so", &["/etc/krb5.conf"], &[]),
];

impl Finder<'_> {
    /// Adds what the files that are there are likely to ask for. All of it is optional.
    pub(super) fn add_guesses(&mut self) {
        for path in ALWAYS {
            self.guess(Path::new(path));
        }
        for folder in self.request.folders.iter().filter(|folder| folder.is_dir()) {
            // The folder alone: what is in it is nobody's business.
            let _ = self.tree.add(folder);
        }
        if self.has_file("libc.so.6") {
            self.add_glibc_data();
        }
        for (library, files, folders) in DATA {
            if !self.has_file(library) {
                continue;
            }
            for file in files {
                self.guess(Path::new(file));
            }
            for folder in folders {
                self.add_whole(Path::new(folder));
            }
        }
        if self.has_file("libtinfo.so") {
            self.add_terminal();
        }
        if let Some(zone) = self.request.time_zone.as_deref() {
            let zone = zone.trim_start_matches(':');
            self.guess(&Path::new("/usr/share/zoneinfo").join(zone.trim_start_matches('/')));
        }
    }

    /// Adds what is at `path`, if it is there and may be read.
    pub(super) fn guess(&mut self, path: &Path) {
        if rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok() {
            // A socket, say: the program can do without it.
            let _ = self.tree.add(path);
        }
    }

    fn has_file(&self, start: &str) -> bool {
        self.tree.items().any(|(path, item)| {
            let name = path.file_name().unwrap_or_default();
            !matches!(item.kind, Kind::Directory { .. })
                && name.as_encoded_bytes().starts_with(start.as_bytes())
        })
    }

    fn add_glibc_data(&mut self) {
        let plugins: Vec<PathBuf> =
            GLIBC_PLUGINS.iter().flat_map(|name| self.cache.find(name)).map(PathBuf::from).collect();
        for plugin in plugins {
            self.add_plugin(&plugin);
        }
        // system(3) and popen(3).
        self.add_plugin(Path::new("/bin/sh"));
        let _ = self.tree.add_folder(Path::new("/usr/lib/locale/C.utf8"), &|_| false);
        let archive = Path::new("/usr/lib/locale/locale-archive");
        if archive.metadata().is_ok_and(|m| m.len() <= MAX_LOCALE_ARCHIVE) {
            self.guess(archive);
        }
        self.guess(Path::new("/usr/share/locale/locale.alias"));
        for locale in self.request.locales.iter().filter(|l| !l.is_empty() && !l.contains('/')) {
            let normal = locale.replace("UTF-8", "utf8");
            let _ = self.tree.add_folder(&Path::new("/usr/lib/locale").join(normal), &|_| false);
        }
        for folder in ["/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib64/gconv", "/usr/lib/gconv"] {
            if self.has_file("iconv") {
                self.add_whole(Path::new(folder));
            }
            for name in CHARACTER_SETS {
                self.guess(&Path::new(folder).join(name));
            }
        }
    }

    fn add_terminal(&mut self) {
        let terminal = self.request.terminal.as_deref().unwrap_or("xterm");
        let Some(first) = terminal.chars().next().filter(|_| !terminal.contains('/')) else { return };
        self.guess(&Path::new("/usr/share/terminfo").join(first.to_string()).join(terminal));
    }
}
