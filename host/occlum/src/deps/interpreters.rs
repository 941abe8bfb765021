//! Programs that read much besides themselves: interpreters and shells.

use super::{Finder, which};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What people expect a shell to find.
const EVERYDAY: [&str; 66] = [
    "[",
    "awk",
    "base64",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cmp",
    "comm",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "fold",
    "grep",
    "gzip",
    "head",
    "hostname",
    "id",
    "install",
    "join",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mktemp",
    "mv",
    "nproc",
    "od",
    "paste",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "uniq",
    "wc",
];
const EVERYDAY_TOO: [&str; 3] = ["whoami", "xargs", "yes"];

/// Folders of interpreters by the start of their name.
const FOLDERS: [(&str, &[&str]); 7] = [
    (
        "perl",
        &[
            "/etc/perl",
            "/usr/local/lib/x86_64-linux-gnu/perl",
            "/usr/local/share/perl",
            "/usr/lib/x86_64-linux-gnu/perl-base",
            "/usr/lib/x86_64-linux-gnu/perl",
            "/usr/lib/x86_64-linux-gnu/perl5",
            "/usr/share/perl",
        ],
    ),
    // Apart: thousands of files that only packaging tools need are below it on a development machine.
    ("perl", &["/usr/share/perl5", "/usr/lib64/perl5"]),
    (
        "ruby",
        &[
            "/usr/lib/ruby",
            "/usr/lib/x86_64-linux-gnu/ruby",
            "/var/lib/gems",
            "/usr/share/rubygems-integration",
        ],
    ),
    ("lua", &["/usr/share/lua", "/usr/lib/x86_64-linux-gnu/lua", "/usr/local/share/lua"]),
    ("php", &["/etc/php", "/usr/lib/php", "/usr/share/php"]),
    ("git", &["/usr/lib/git-core", "/usr/libexec/git-core", "/usr/share/git-core"]),
    ("vim", &["/etc/vim", "/usr/share/vim"]),
];

/// Programs, by the start of their name, that people let start others.
const SPAWNERS: [&str; 14] = [
    "python", "perl", "ruby", "lua", "php", "node", "tclsh", "make", "git", "vim", "gawk", "mawk", "find",
    "parallel",
];

/// A script that is longer is not searched for names of programs.
const MAX_SCRIPT: u64 = 1 << 20;

impl Finder<'_> {
    /// Adds the folders of the program at `path` if it is known as an interpreter.
    pub(super) fn add_interpreter_folders(&mut self, path: &Path, real: &Path, is_main: bool) {
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name_of(real);
        if let Some(version) = python_version(&name) {
            self.add_python(path, real, version);
        }
        for (start, folders) in FOLDERS {
            if name.starts_with(start) {
                folders.iter().for_each(|folder| self.add_whole(Path::new(folder)));
            }
        }
        if is_compiler(&name) {
            self.add_compiler();
        }
        if name == "java" {
            self.add_java(real);
        }
        let starts_others =
            is_main && matches!(name.as_str(), "env" | "xargs" | "nice" | "time" | "timeout" | "nohup");
        if is_shell(&name) || starts_others || SPAWNERS.iter().any(|start| name.starts_with(start)) {
            self.add_everyday_programs();
        }
        if is_main && (is_shell(&name) || starts_others) {
            self.depends_on_arguments = true;
            self.add_programs_of_arguments();
        }
    }

    /// sys.prefix and what is below it, as Python's `getpath` finds it: the folder above the program that has
    /// `lib/pythonX.Y/os.py`; in a virtual environment, also the one that pyvenv.cfg names as home.
    fn add_python(&mut self, path: &Path, real: &Path, version: &str) {
        let library = format!("lib/python{version}");
        let major = version.split('.').next().unwrap_or(version);
        // Compiled into a static archive and its build recipe, these are not for running programs.
        let skip = |path: &Path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            name.starts_with(b"config-") || name.ends_with(b".a") || path.ends_with(format!("{library}/test"))
        };
        let mut starts = vec![path.to_owned(), real.to_owned()];
        for start in [path, real] {
            let Some(folder) = start.parent().and_then(Path::parent) else { continue };
            let Ok(text) = std::fs::read_to_string(folder.join("pyvenv.cfg")) else { continue };
            let _ = self.tree.add(&folder.join("pyvenv.cfg"));
            self.add_folder(&folder.join(&library), &skip);
            let home = text.lines().find_map(|line| line.strip_prefix("home")?.trim().strip_prefix('='));
            starts.extend(home.map(|home| Path::new(home.trim()).join("python")));
        }
        for start in starts {
            let prefix =
                start.ancestors().skip(1).find(|prefix| prefix.join(&library).join("os.py").exists());
            let Some(prefix) = prefix else { continue };
            self.add_folder(&prefix.join(&library), &skip);
            self.add_folder(&prefix.join(format!("lib/python{major}")), &skip);
            self.add_folder(&Path::new("/usr/local").join(&library), &skip);
        }
        self.add_whole(&Path::new("/etc").join(format!("python{version}")));
    }

    /// The Java home is the folder above `bin`; its lib/jvm.cfg and lib/modules are opened by name, and its
    /// configuration may be links into /etc.
    fn add_java(&mut self, real: &Path) {
        let Some(home) = real.parent().and_then(Path::parent) else { return };
        let skip = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            ["src.zip", "man", "demo", "jmods", "ct.sym", "docs"].iter().any(|n| name == OsStr::new(n))
        };
        self.add_folder(home, &skip);
        for entry in std::fs::read_dir("/etc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_bytes().starts_with(b"java-") && entry.path().is_dir() {
                self.add_whole(&entry.path());
            }
        }
    }

    /// A compiler starts an assembler and a linker, and reads headers, start files and libraries.
    fn add_compiler(&mut self) {
        for program in ["as", "ld"] {
            self.add_named(OsStr::new(program));
        }
        for folder in ["/usr/lib/gcc", "/usr/libexec/gcc", "/usr/include"] {
            self.add_whole(Path::new(folder));
        }
        let folder = Path::new("/usr/lib/x86_64-linux-gnu");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = name.to_string_lossy().split(['.', '-', '_']).next().unwrap_or_default().to_owned();
            let is_base =
                ["libc", "libm", "libmvec", "libpthread", "libdl", "librt", "libutil"].contains(&&*stem);
            if name.as_bytes().ends_with(b".o") || is_base {
                self.guess(&entry.path());
            }
        }
    }

    fn add_everyday_programs(&mut self) {
        for name in EVERYDAY.iter().chain(&EVERYDAY_TOO) {
            self.add_named(OsStr::new(name));
        }
    }

    /// Adds the program `name` from PATH, if there is one that can be run.
    fn add_named(&mut self, name: &OsStr) {
        if let Ok(path) = which(name, self.request.path.as_deref(), &self.request.cwd) {
            let _ = self.add_program(&path, false);
        }
    }

    /// A shell starts other programs: those that its script or its `-c` text names come along.
    fn add_programs_of_arguments(&mut self) {
        for argument in self.request.arguments.clone() {
            let file = self.request.cwd.join(&argument);
            if file.is_file() {
                self.add_programs_named_in(&file);
            } else {
                self.add_programs_in_text(argument.as_bytes());
            }
        }
    }

    /// Adds the programs that words of the script at `path` name, if it is a text.
    pub(super) fn add_programs_named_in(&mut self, path: &Path) {
        if path.metadata().is_ok_and(|m| m.len() <= MAX_SCRIPT)
            && let Ok(text) = std::fs::read(path)
        {
            if text.starts_with(b"#!") && !first_line_names_shell(&text) {
                return;
            }
            self.add_programs_in_text(&text);
        }
    }

    fn add_programs_in_text(&mut self, text: &[u8]) {
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"_-+./".contains(b);
        let mut words: Vec<&[u8]> = text.split(|b| !is_part(b)).filter(|w| is_program_name(w)).collect();
        words.sort_unstable();
        words.dedup();
        for word in words {
            // An absolute path speaks for itself; anything else is looked up.
            let named = Path::new(OsStr::from_bytes(word));
            if named.is_absolute() || !word.contains(&b'/') {
                self.add_named(named.as_os_str());
            }
        }
    }
}

fn is_program_name(word: &[u8]) -> bool {
    word.len() > 1 && word.len() < 256 && word[0] != b'-' && word[0] != b'.'
}

fn first_line_names_shell(text: &[u8]) -> bool {
    let line = String::from_utf8_lossy(text.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
    line.split(['/', ' ', '!']).any(is_shell)
}

fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh" | "fish" | "rbash")
}

/// Whether `name` is a GNU compiler driver, such as "x86_64-linux-gnu-gcc-12".
fn is_compiler(name: &str) -> bool {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    let bare = bare.strip_prefix("x86_64-linux-gnu-").unwrap_or(bare);
    matches!(bare, "gcc" | "g++" | "cpp" | "cc" | "c++")
}

/// "3.11" of "python3.11".
fn python_version(name: &str) -> Option<&str> {
    let version = name.strip_prefix("python")?;
    let (major, minor) = version.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (digits(major) && digits(minor)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_python_names_carry_a_version() {
        assert_eq!(python_version("python3.11"), Some("3.11"));
        assert_eq!(python_version("python3"), None);
        assert_eq!(python_version("python3.11-config"), None);
        assert_eq!(python_version("pythonx.y"), None);
    }

    #[test]
    fn compilers_are_told_with_and_without_version() {
        assert!(is_compiler("gcc") && is_compiler("x86_64-linux-gnu-g++-12"));
        assert!(!is_compiler("gccgo") && !is_compiler("12"));
    }

    #[test]
    fn shells_are_told_by_the_first_line() {
        assert!(first_line_names_shell(b"#!/bin/sh -e\n"));
        assert!(first_line_names_shell(b"#!/usr/bin/env bash\n"));
        assert!(!first_line_names_shell(b"#!/usr/bin/python3\n# sh\n"));
    }
}
